//! FLV tag bodies, as RTMP carries them, to codec headers and access units (pure).
//!
//! Adobe, "Video File Format Specification" 10.1, annex E.4; "Enhanced RTMP" v2 for the fourcc forms.
//!
//! ```text
//! VIDEODATA  frame type:4 codec:4=7 | packet type:8  composition time:s24 | avcC, or length-prefixed NAL units
//! AUDIODATA  format:4=10 rate:2 size:1 type:1 | packet type:8 | AudioSpecificConfig, or a raw_data_block
//! ```
//!
//! What Enhanced RTMP has instead is in `enhanced`; `pictures` and `aac` make access units of messages.

mod aac;
mod enhanced;
mod pictures;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use self::aac::AacMessages;
use self::pictures::Pictures;
use super::amf0::Value;
use crate::codec::avc::Avc;
use crate::codec::codec::{Codec as Headers, CodecError};
use crate::codec::hevc::Hevc;
use crate::codec::{ac3, id3};
use crate::model::time::Timescale;
use crate::model::{AccessUnit, Announced, CodecConfig, InputClock, InputTrack, Scheme, TimedMessage};
use crate::packager::Input;
pub use enhanced::capabilities;

/// The clock of FLV timestamps: milliseconds, modulo 2^32 (E.4.1: `Timestamp` and `TimestampExtended`).
pub const CLOCK: InputClock = InputClock { scale: Timescale::MILLIS, wrap_bits: 32 };
/// The video track without a TrackId, or with 0.
pub const VIDEO: InputTrack = InputTrack(0);
/// The audio track without a TrackId, or with 0.
pub const AUDIO: InputTrack = InputTrack(1);

/// Packet types, which are the same in FLV and in Enhanced RTMP.
const SEQUENCE_START: u8 = 0;
const CODED_FRAMES: u8 = 1;
/// Coded frames whose composition time is 0 (Enhanced RTMP).
const CODED_FRAMES_X: u8 = 3;

/// The reason why a tag can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlvError {
    /// A byte of the tag is wrong or missing.
    #[error("byte {at} of the {} tag: {what}", kind.name())]
    Malformed {
        /// The tag's kind.
        kind: TagKind,
        /// Offset in the tag's body, in bytes.
        at: usize,
        /// A description of the fault.
        what: String,
    },
    /// The tag's codec is not supported.
    #[error("{codec} {} isn't supported over RTMP; set the encoder to {}", kind.name(), kind.advice())]
    Codec {
        /// The tag's kind.
        kind: TagKind,
        /// The codec's name, or its fourcc.
        codec: String,
    },
    /// The tag's sequence header can't be used.
    #[error("the {} sequence header can't be used: {error}{hint}", kind.name())]
    Header {
        /// The tag's kind.
        kind: TagKind,
        /// The fault found in it.
        error: CodecError,
        /// What the encoder does, if that can be told.
        hint: &'static str,
    },
}

/// Something that encoders do and shouldn't, and that is put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum FlvNotice {
    /// Start codes stand where lengths should be.
    #[error("pictures come with start codes (Annex B): lengths are put in their place")]
    StartCodes,
    /// A NAL unit has the length 0.
    #[error("NAL units of no bytes come: they are left out")]
    EmptyUnits,
    /// A picture comes in several messages.
    #[error("the slices of a picture come in messages of their own: a picture is whole when the next one comes")]
    Slices,
    /// A message can't be read to its end.
    #[error("{0}: the rest of the message is left out")]
    Damaged(&'static str),
    /// AAC has ADTS headers.
    #[error("AAC comes in ADTS: its headers are taken off")]
    Adts,
}

/// The supported codecs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    Avc,
    Hevc,
    Av1,
    Aac,
    Opus,
    /// AC-3 and E-AC-3.
    Ac3,
}

/// The two kinds of tags that carry media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagKind {
    /// Tag type 8.
    Audio,
    /// Tag type 9.
    Video,
}

impl TagKind {
    fn name(self) -> &'static str {
        match self {
            TagKind::Audio => "audio",
            TagKind::Video => "video",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            TagKind::Audio => "AAC, Opus, AC-3 or E-AC-3",
            TagKind::Video => "H.264, H.265 or AV1",
        }
    }
}

/// The most tracks of a push ([`InputTrack`]).
pub const TRACKS_MAX: u8 = 16;

/// Reads the tags of one push.
#[derive(Debug, Default)]
pub struct Tags {
    tracks_max: u8,
    /// The kind and TrackId of each further track of a kind, in the order of [`InputTrack`] from 2 on.
    further: Vec<(TagKind, u8)>,
    /// The tracks of H.264 and H.265.
    pictures: BTreeMap<InputTrack, Pictures>,
    /// The tracks of AAC.
    aac: BTreeMap<InputTrack, AacMessages>,
    /// The headers of AC-3 tracks, which only their frames carry.
    ac3: BTreeMap<InputTrack, ac3::Headers>,
    /// What has been told, each once.
    told: BTreeSet<FlvNotice>,
    notices: VecDeque<FlvNotice>,
}

impl Tags {
    /// Returns a reader for a push of at most `tracks_max` tracks. A push always has room for two, and never for more
    /// than [`TRACKS_MAX`].
    pub fn new(tracks_max: u8) -> Self {
        Tags { tracks_max: tracks_max.min(TRACKS_MAX), ..Tags::default() }
    }

    /// Returns the next thing that this push does and shouldn't; each comes once.
    pub fn poll_notice(&mut self) -> Option<FlvNotice> {
        self.notices.pop_front()
    }

    /// Puts out what is held, since nothing more comes.
    pub fn end(&mut self, out: &mut Vec<Input>) {
        self.pictures.values_mut().for_each(|pictures| pictures.end(out));
    }

    /// Reads a VIDEODATA body. Adds nothing to `out` for a body without a frame: an empty body, the end of the
    /// sequence, a seek command, metadata.
    pub fn video(&mut self, body: &Bytes, timestamp: u32, out: &mut Vec<Input>) -> Result<(), FlvError> {
        let Some(&first) = body.first() else {
            return Ok(()); // some encoders send one in place of silence
        };
        let mut r = Reader::new(body, TagKind::Video);
        let unit = AccessUnit {
            track: VIDEO,
            dts: u64::from(timestamp),
            composition_offset: 0,
            keyframe: first >> 4 & 7 == 1,
            data: Bytes::new(),
        };
        if first & 0x80 != 0 {
            return self.enhanced(&mut r, first, unit, out);
        }
        // Table E.4.3.1: 5 is "video info/command frame", which has no frame.
        if first >> 4 == 5 {
            return Ok(());
        }
        let codec = match first & 0xf {
            7 => Codec::Avc,
            // The unofficial id of H.265, which Chinese CDNs and their encoders use with H.265's own record and NAL
            // units.
            12 => Codec::Hevc,
            other => return Err(r.unsupported(codec_name(TagKind::Video, other))),
        };
        // AVCPacketType: 0 sequence header, 1 NALU, 2 end of sequence: the numbers of Enhanced RTMP's.
        let packet = r.u8("AVCPacketType")?;
        if packet > 2 {
            return Err(r.invalid(packet, "AVCPacketType"));
        }
        // E.4.3.2: an SI24 before the data of every AVC packet.
        let composition_offset = r.i24("CompositionTime")?;
        self.coded(&r, codec, packet, AccessUnit { composition_offset, ..unit }, out)
    }

    /// Reads an AUDIODATA body. Adds nothing to `out` for a body without a frame.
    pub fn audio(&mut self, body: &Bytes, timestamp: u32, out: &mut Vec<Input>) -> Result<(), FlvError> {
        self.pictures.values_mut().for_each(|pictures| pictures.end_before(timestamp, out));
        let Some(&first) = body.first() else {
            return Ok(());
        };
        let mut r = Reader::new(body, TagKind::Audio);
        let dts = u64::from(timestamp);
        let unit = AccessUnit { track: AUDIO, dts, composition_offset: 0, keyframe: true, data: Bytes::new() };
        match first >> 4 {
            10 => {
                let packet = r.u8("AACPacketType")?;
                if packet > 1 {
                    return Err(r.invalid(packet, "AACPacketType"));
                }
                self.coded(&r, Codec::Aac, packet, unit, out)
            }
            // Enhanced RTMP: SoundFormat.ExHeader.
            9 => self.enhanced(&mut r, first, unit, out),
            codec => Err(r.unsupported(codec_name(TagKind::Audio, codec))),
        }
    }

    /// Reads the rest of a tag: a sequence header or a frame.
    fn coded(
        &mut self,
        r: &Reader<'_>,
        codec: Codec,
        packet: u8,
        unit: AccessUnit,
        out: &mut Vec<Input>,
    ) -> Result<(), FlvError> {
        let unit = AccessUnit { data: r.rest(), ..unit };
        match packet {
            // ffmpeg sends an empty header where it has none yet: of AAC from a transport stream, of AV1 by libaom.
            _ if unit.data.is_empty() => Ok(()),
            SEQUENCE_START => {
                let hint = if r.kind == TagKind::Video { hint(codec, &unit.data) } else { "" };
                self.header(codec, unit, out).map_err(|error| FlvError::Header { kind: r.kind, error, hint })
            }
            CODED_FRAMES | CODED_FRAMES_X => self.frame(r, codec, unit, out),
            _ => Ok(()),
        }
    }

    fn header(&mut self, codec: Codec, unit: AccessUnit, out: &mut Vec<Input>) -> Result<(), CodecError> {
        let track = unit.track;
        let config = match codec {
            Codec::Avc | Codec::Hevc => return self.pictures(codec, track, out).header(&unit, out),
            Codec::Aac => return self.aac.entry(track).or_default().header(unit, out),
            Codec::Ac3 => return Ok(()),
            Codec::Av1 => CodecConfig::Av1(unit.data),
            Codec::Opus => CodecConfig::Opus(unit.data),
        };
        Headers::parse(&config)?;
        out.push(Input::Config { track, config });
        Ok(())
    }

    fn frame(&mut self, r: &Reader<'_>, codec: Codec, unit: AccessUnit, out: &mut Vec<Input>) -> Result<(), FlvError> {
        let track = unit.track;
        let notice = match codec {
            Codec::Avc | Codec::Hevc => self.pictures(codec, track, out).message(unit, out),
            Codec::Aac => self.aac.entry(track).or_default().message(unit, out),
            Codec::Ac3 => {
                let headers = self.ac3.entry(track).or_default();
                match headers.of(&unit.data) {
                    Ok(config) => out.extend(config.map(|config| Input::Config { track, config })),
                    // One damaged frame is no reason to end the push.
                    Err(_) if headers.is_known() => return Ok(()),
                    Err(error) => return Err(r.malformed(r.at, format!("AC-3 frame: {error}"))),
                }
                out.push(Input::Unit(unit));
                None
            }
            Codec::Av1 | Codec::Opus => {
                out.push(Input::Unit(unit));
                None
            }
        };
        self.notices.extend(notice.filter(|&notice| self.told.insert(notice)));
        Ok(())
    }

    /// Returns the state of a track of H.264 or H.265, which begins anew when the codec changes.
    fn pictures(&mut self, codec: Codec, track: InputTrack, out: &mut Vec<Input>) -> &mut Pictures {
        let is_hevc = codec == Codec::Hevc;
        let pictures = self.pictures.entry(track).or_insert_with(|| Pictures::new(is_hevc));
        if pictures.is_hevc() != is_hevc {
            pictures.end(out);
            *pictures = Pictures::new(is_hevc);
        }
        pictures
    }
}

/// Returns what an encoder has done whose sequence header can't be read, if it is the record of another codec.
fn hint(codec: Codec, record: &Bytes) -> &'static str {
    match codec {
        Codec::Avc if Hevc::parse(record).is_ok() => {
            "; it looks like H.265: set the encoder to H.264, or use one that sends H.265 by Enhanced RTMP (hvc1)"
        }
        Codec::Hevc if Avc::parse(record).is_ok() => "; it looks like H.264: set the encoder to send it as such (avc1)",
        _ => "",
    }
}

/// Returns which tracks onMetaData (E.5) announces. An encoder that describes one kind of track and doesn't mention the
/// other sends only that kind: ffmpeg, OBS and GStreamer list exactly what they send.
pub fn announced(metadata: &Value) -> Announced {
    let says = |keys: [&str; 3], flag: &str| match metadata.property(flag) {
        Some(Value::Boolean(has)) => Some(*has),
        _ => keys.iter().any(|key| metadata.property(key).is_some_and(is_set)).then_some(true),
    };
    let video = says(["videocodecid", "width", "videodatarate"], "hasVideo");
    let audio = says(["audiocodecid", "audiosamplerate", "audiodatarate"], "hasAudio");
    Announced {
        video: video.or(audio.filter(|has| *has).map(|_| false)),
        audio: audio.or(video.filter(|has| *has).map(|_| false)),
    }
}

/// Returns the properties of onTextData as an ID3 tag, with a text for each of them; `None` if there are none.
pub fn text(said: &Value, timestamp: u32) -> Option<TimedMessage> {
    let value = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Boolean(boolean) => Some(boolean.to_string()),
        Value::Object(_) | Value::Array(_) | Value::Null => None,
    };
    let texts: Vec<(&str, String)> = match said {
        Value::Object(properties) => {
            properties.iter().filter_map(|(name, said)| Some((name.as_str(), value(said)?))).collect()
        }
        said => value(said).map(|text| ("text", text)).into_iter().collect(),
    };
    (!texts.is_empty()).then(|| TimedMessage {
        track: VIDEO,
        scheme: Scheme::Id3,
        pts: Some(timestamp.into()),
        duration: None,
        data: id3::texts(texts.iter().map(|(name, text)| (*name, text.as_str()))),
    })
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Number(number) => *number != 0.0,
        Value::String(text) => !text.is_empty(),
        _ => false,
    }
}

struct Reader<'a> {
    body: &'a Bytes,
    at: usize,
    /// The end of this track's share of the body.
    end: usize,
    kind: TagKind,
}

impl<'a> Reader<'a> {
    /// Returns a reader that stands behind the body's first byte.
    fn new(body: &'a Bytes, kind: TagKind) -> Self {
        Reader { body, at: 1, end: body.len(), kind }
    }

    fn malformed(&self, at: usize, what: String) -> FlvError {
        FlvError::Malformed { kind: self.kind, at, what }
    }

    fn truncated(&self, what: &'static str) -> FlvError {
        self.malformed(self.end, format!("the tag ends inside {what}"))
    }

    /// Returns the error for a last byte whose value isn't allowed.
    fn invalid(&self, value: u8, what: &'static str) -> FlvError {
        self.malformed(self.at - 1, format!("{what} {value} is unknown"))
    }

    fn unsupported(&self, codec: String) -> FlvError {
        FlvError::Codec { kind: self.kind, codec }
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], FlvError> {
        let Some(bytes) = self.body[self.at..self.end].first_chunk::<N>() else {
            return Err(self.truncated(what));
        };
        self.at += N;
        Ok(*bytes)
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, FlvError> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    fn i24(&mut self, what: &'static str) -> Result<i32, FlvError> {
        let [a, b, c] = self.array(what)?;
        Ok(i32::from_be_bytes([a, b, c, 0]) >> 8) // the shift keeps the sign
    }

    /// Takes the next `len` bytes as a reader of their own.
    fn part(&mut self, len: usize, what: &'static str) -> Result<Reader<'a>, FlvError> {
        if self.end - self.at < len {
            return Err(self.truncated(what));
        }
        let at = self.at;
        self.at += len;
        Ok(Reader { body: self.body, at, end: self.at, kind: self.kind })
    }

    fn is_empty(&self) -> bool {
        self.at == self.end
    }

    fn rest(&self) -> Bytes {
        self.body.slice(self.at..self.end)
    }
}

/// Returns the name of a codec by CodecID (table E.4.3.1, and a number without a specification) or SoundFormat (table
/// E.4.2.1).
fn codec_name(kind: TagKind, id: u8) -> String {
    let name = match (kind, id) {
        (TagKind::Video, 2) => "Sorenson H.263",
        (TagKind::Video, 3 | 6) => "Screen",
        (TagKind::Video, 4 | 5) => "On2 VP6",
        (TagKind::Video, 13) => "AV1 (with the unofficial codec id 13)",
        (TagKind::Audio, 0 | 3) => "PCM",
        (TagKind::Audio, 1) => "ADPCM",
        (TagKind::Audio, 2 | 14) => "MP3",
        (TagKind::Audio, 4..=6) => "Nellymoser",
        (TagKind::Audio, 7 | 8) => "G.711",
        (TagKind::Audio, 11) => "Speex",
        _ => return format!("codec id {id}"),
    };
    name.to_owned()
}
