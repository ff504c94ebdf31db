//! FLV tag bodies, as RTMP carries them, to codec headers and access units (pure).
//!
//! Adobe, "Video File Format Specification" 10.1, annex E.4; "Enhanced RTMP" v2 for the fourcc forms.
//!
//! ```text
//! VIDEODATA  frame type:4 codec:4=7 | packet type:8  composition time:s24 | avcC, or length-prefixed NAL units
//! ExVideo    1 frame type:3 packet type:4 | fourcc:32 | [composition time:s24] | the same
//! AUDIODATA  format:4=10 rate:2 size:1 type:1 | packet type:8 | AudioSpecificConfig, or a raw_data_block
//! ExAudio    format:4=9 packet type:4 | fourcc:32 | the same
//! ```

use std::fmt;

use bytes::Bytes;

use super::amf0::Value;
use crate::media::{AccessUnit, Announced, CodecConfig, InputClock, InputTrack};
use crate::units::Timescale;

/// Milliseconds, modulo 2^32 (E.4.1: `Timestamp` and `TimestampExtended`).
pub const CLOCK: InputClock = InputClock { scale: Timescale::MILLIS, wrap_bits: 32 };
/// FLV's one video track.
pub const VIDEO: InputTrack = InputTrack(0);
/// FLV's one audio track.
pub const AUDIO: InputTrack = InputTrack(1);

/// What a tag holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Media {
    /// A sequence header.
    Config {
        /// Whose.
        track: InputTrack,
        /// The headers.
        config: CodecConfig,
    },
    /// A coded frame.
    Unit(AccessUnit),
}

/// Why a tag can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlvError {
    /// The tag ends too early.
    #[error("byte {at} of the {kind} tag: it ends inside {what}")]
    Truncated {
        /// Audio or video.
        kind: Kind,
        /// Offset in the tag's body, in bytes.
        at: usize,
        /// The field that was being read.
        what: &'static str,
    },
    /// A value that the field can't have.
    #[error("byte {at} of the {kind} tag: {value} is no {what}")]
    Invalid {
        /// Audio or video.
        kind: Kind,
        /// Offset in the tag's body, in bytes.
        at: usize,
        /// The value.
        value: u8,
        /// The field.
        what: &'static str,
    },
    /// A codec that isn't carried.
    #[error("{codec} {kind} isn't supported over RTMP: set the encoder to {}", kind.advice())]
    Codec {
        /// Audio or video.
        kind: Kind,
        /// Its name, or its fourcc.
        codec: String,
    },
}

/// The two kinds of tags that carry media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Tag type 8.
    Audio,
    /// Tag type 9.
    Video,
}

impl Kind {
    fn advice(self) -> &'static str {
        match self {
            Kind::Audio => "AAC",
            Kind::Video => "H.264",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Audio => "audio",
            Kind::Video => "video",
        })
    }
}

/// Reads a VIDEODATA body. `None` for what carries no frame: an empty body, the end of the sequence, a
/// seek command, metadata.
pub fn video(body: &Bytes, timestamp: u32) -> Result<Option<Media>, FlvError> {
    let Some(&first) = body.first() else {
        return Ok(None); // some encoders send one in place of silence
    };
    let mut r = Reader { body, at: 1, kind: Kind::Video };
    let enhanced = first & 0x80 != 0;
    let frame_type = (first >> 4) & if enhanced { 0x7 } else { 0xf };
    // Table E.4.3.1: 5 is "video info/command frame", which has no frame.
    if frame_type == 5 {
        return Ok(None);
    }
    let packet = if enhanced {
        let packet = first & 0xf;
        r.known_packet(packet)?;
        match &r.fourcc()? {
            b"avc1" => packet,
            other => return Err(r.unsupported(fourcc_name(*other))),
        }
    } else {
        match first & 0xf {
            7 => {
                // AVCPacketType: 0 sequence header, 1 NALU, 2 end of sequence: the numbers of Enhanced RTMP's.
                let packet = r.u8("AVCPacketType")?;
                if packet > 2 {
                    return Err(r.invalid(packet, "AVCPacketType"));
                }
                packet
            }
            codec => return Err(r.unsupported(video_codec_name(codec))),
        }
    };
    // E.4.3.2: an SI24 before the data of every AVC packet; Enhanced RTMP has it with CodedFrames only.
    let composition_offset = if !enhanced || packet == 1 { r.i24("CompositionTime")? } else { 0 };
    let data = r.rest();
    Ok(match packet {
        0 if data.is_empty() => return Err(r.truncated("AVCDecoderConfigurationRecord")),
        0 => Some(Media::Config { track: VIDEO, config: CodecConfig::Avc(data) }),
        1 | 3 if !data.is_empty() => Some(Media::Unit(AccessUnit {
            track: VIDEO,
            dts: u64::from(timestamp),
            composition_offset,
            keyframe: frame_type == 1,
            data,
        })),
        _ => None,
    })
}

/// Reads an AUDIODATA body. `None` for what carries no frame.
pub fn audio(body: &Bytes, timestamp: u32) -> Result<Option<Media>, FlvError> {
    let Some(&first) = body.first() else {
        return Ok(None);
    };
    let mut r = Reader { body, at: 1, kind: Kind::Audio };
    let packet = match first >> 4 {
        10 => {
            let packet = r.u8("AACPacketType")?;
            if packet > 1 {
                return Err(r.invalid(packet, "AACPacketType"));
            }
            packet
        }
        // Enhanced RTMP: SoundFormat.ExHeader.
        9 => {
            let packet = first & 0xf;
            r.known_packet(packet)?;
            match &r.fourcc()? {
                b"mp4a" => packet,
                other => return Err(r.unsupported(fourcc_name(*other))),
            }
        }
        codec => return Err(r.unsupported(audio_codec_name(codec))),
    };
    let data = r.rest();
    Ok(match packet {
        0 if data.is_empty() => return Err(r.truncated("AudioSpecificConfig")),
        0 => Some(Media::Config { track: AUDIO, config: CodecConfig::Aac(data) }),
        1 if !data.is_empty() => Some(Media::Unit(AccessUnit {
            track: AUDIO,
            dts: u64::from(timestamp),
            composition_offset: 0,
            keyframe: true,
            data,
        })),
        _ => None,
    })
}

/// What onMetaData (E.5) says of the tracks. An encoder that describes one kind and doesn't mention the
/// other sends that one alone: ffmpeg, OBS and GStreamer list exactly what they send.
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
    kind: Kind,
}

impl Reader<'_> {
    fn truncated(&self, what: &'static str) -> FlvError {
        FlvError::Truncated { kind: self.kind, at: self.body.len(), what }
    }

    fn invalid(&self, value: u8, what: &'static str) -> FlvError {
        FlvError::Invalid { kind: self.kind, at: self.at - 1, value, what }
    }

    fn unsupported(&self, codec: String) -> FlvError {
        FlvError::Codec { kind: self.kind, codec }
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], FlvError> {
        let Some(bytes) = self.body.get(self.at..self.at + N) else {
            return Err(self.truncated(what));
        };
        self.at += N;
        let mut out = [0; N];
        out.copy_from_slice(bytes);
        Ok(out)
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, FlvError> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    fn i24(&mut self, what: &'static str) -> Result<i32, FlvError> {
        let [a, b, c] = self.array(what)?;
        Ok(i32::from_be_bytes([a, b, c, 0]) >> 8) // the shift keeps the sign
    }

    fn fourcc(&mut self) -> Result<[u8; 4], FlvError> {
        self.array("FourCC")
    }

    /// Enhanced RTMP's packet types up to CodedFramesX and Metadata; the rest would be misread.
    fn known_packet(&self, packet: u8) -> Result<(), FlvError> {
        let multitrack = if self.kind == Kind::Video { 6 } else { 5 };
        match packet {
            0..=4 => Ok(()),
            packet if packet == multitrack => Err(self.unsupported("multitrack".to_owned())),
            packet => Err(FlvError::Invalid { kind: self.kind, at: 0, value: packet, what: "known packet type" }),
        }
    }

    fn rest(&self) -> Bytes {
        self.body.slice(self.at..)
    }
}

fn fourcc_name(fourcc: [u8; 4]) -> String {
    let name = match &fourcc {
        b"hvc1" => "H.265",
        b"vvc1" => "H.266",
        b"av01" => "AV1",
        b"vp08" => "VP8",
        b"vp09" => "VP9",
        b"Opus" => "Opus",
        b"fLaC" => "FLAC",
        b"ac-3" => "AC-3",
        b"ec-3" => "E-AC-3",
        b".mp3" => "MP3",
        other => return format!("\"{}\"", other.escape_ascii()),
    };
    name.to_owned()
}

/// Table E.4.3.1, CodecID, and the numbers that encoders use without a specification.
fn video_codec_name(codec: u8) -> String {
    let name = match codec {
        2 => "Sorenson H.263",
        3 | 6 => "Screen",
        4 | 5 => "On2 VP6",
        12 => "H.265 (with the unofficial codec id 12)",
        13 => "AV1 (with the unofficial codec id 13)",
        other => return format!("codec id {other}"),
    };
    name.to_owned()
}

/// Table E.4.2.1, SoundFormat.
fn audio_codec_name(codec: u8) -> String {
    let name = match codec {
        0 | 3 => "PCM",
        1 => "ADPCM",
        2 | 14 => "MP3",
        4..=6 => "Nellymoser",
        7 | 8 => "G.711",
        11 => "Speex",
        other => return format!("sound format {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unit(track: InputTrack, composition_offset: i32, keyframe: bool, data: &'static [u8]) -> Media {
        let data = Bytes::from_static(data);
        Media::Unit(AccessUnit { track, dts: u64::from(u32::MAX), composition_offset, keyframe, data })
    }

    fn check_video(body: &'static [u8], expect: Result<Option<Media>, &str>) {
        let got = video(&Bytes::from_static(body), u32::MAX).map_err(|e| e.to_string());
        assert_eq!(got, expect.map_err(str::to_owned), "{body:02x?}");
    }

    fn check_audio(body: &'static [u8], expect: Result<Option<Media>, &str>) {
        let got = audio(&Bytes::from_static(body), u32::MAX).map_err(|e| e.to_string());
        assert_eq!(got, expect.map_err(str::to_owned), "{body:02x?}");
    }

    #[test]
    fn video_tags() {
        let config = |data| Media::Config { track: VIDEO, config: CodecConfig::Avc(Bytes::from_static(data)) };
        check_video(&[], Ok(None));
        check_video(&[0x17, 0, 0, 0, 0, 1, 100], Ok(Some(config(&[1, 100]))));
        check_video(&[0x17, 1, 0, 0, 80, 7, 8], Ok(Some(unit(VIDEO, 80, true, &[7, 8]))));
        check_video(&[0x27, 1, 0xff, 0xff, 0xfe, 7], Ok(Some(unit(VIDEO, -2, false, &[7]))));
        check_video(&[0x27, 1, 0x80, 0, 0, 7], Ok(Some(unit(VIDEO, -(1 << 23), false, &[7]))));
        check_video(&[0x17, 2, 0, 0, 0], Ok(None));
        check_video(&[0x57, 0], Ok(None));
        check_video(&[0x17], Err("byte 1 of the video tag: it ends inside AVCPacketType"));
        check_video(&[0x17, 1, 0], Err("byte 3 of the video tag: it ends inside CompositionTime"));
        check_video(&[0x17, 0, 0, 0, 0], Err("byte 5 of the video tag: it ends inside AVCDecoderConfigurationRecord"));
        check_video(&[0x17, 3, 0, 0, 0], Err("byte 1 of the video tag: 3 is no AVCPacketType"));
        check_video(&[0x24, 0], Err("On2 VP6 video isn't supported over RTMP: set the encoder to H.264"));
    }

    #[test]
    fn enhanced_video_tags() {
        let config = |data| Media::Config { track: VIDEO, config: CodecConfig::Avc(Bytes::from_static(data)) };
        check_video(b"\x90avc1\x01", Ok(Some(config(&[1]))));
        check_video(b"\x91avc1\x00\x00\x05x", Ok(Some(unit(VIDEO, 5, true, b"x"))));
        check_video(b"\xa3avc1x", Ok(Some(unit(VIDEO, 0, false, b"x"))));
        check_video(b"\x92avc1", Ok(None));
        check_video(b"\x90hvc1\x01", Err("H.265 video isn't supported over RTMP: set the encoder to H.264"));
        check_video(
            b"\x90a\xff\"1\x01",
            Err("\"a\\xff\\\"1\" video isn't supported over RTMP: set the encoder to H.264"),
        );
        check_video(b"\x96\x10av01", Err("multitrack video isn't supported over RTMP: set the encoder to H.264"));
        check_video(b"\x90av", Err("byte 3 of the video tag: it ends inside FourCC"));
    }

    #[test]
    fn audio_tags() {
        let config = |data| Media::Config { track: AUDIO, config: CodecConfig::Aac(Bytes::from_static(data)) };
        check_audio(&[], Ok(None));
        check_audio(&[0xaf, 0, 0x12, 0x10], Ok(Some(config(&[0x12, 0x10]))));
        check_audio(&[0xaf, 1, 1, 2], Ok(Some(unit(AUDIO, 0, true, &[1, 2]))));
        check_audio(&[0xaf, 1], Ok(None));
        check_audio(&[0xaf], Err("byte 1 of the audio tag: it ends inside AACPacketType"));
        check_audio(&[0xaf, 0], Err("byte 2 of the audio tag: it ends inside AudioSpecificConfig"));
        check_audio(&[0x2f, 0], Err("MP3 audio isn't supported over RTMP: set the encoder to AAC"));
        check_audio(b"\x90mp4a\x12", Ok(Some(config(b"\x12"))));
        check_audio(b"\x91mp4ax", Ok(Some(unit(AUDIO, 0, true, b"x"))));
        check_audio(b"\x90Opus", Err("Opus audio isn't supported over RTMP: set the encoder to AAC"));
    }

    #[test]
    fn metadata_says_what_will_come() {
        let check = |metadata: &[(&str, Value)], video, audio| {
            let object = Value::Object(metadata.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect());
            assert_eq!(announced(&object), Announced { video, audio }, "{metadata:?}");
        };
        let seven = || Value::Number(7.0);
        check(&[("videocodecid", seven()), ("audiocodecid", seven())], Some(true), Some(true));
        check(&[("videocodecid", "avc1".into())], Some(true), Some(false));
        check(&[("audiocodecid", seven()), ("stereo", Value::Boolean(true))], Some(false), Some(true));
        check(&[("width", seven()), ("hasAudio", Value::Boolean(true))], Some(true), Some(true));
        check(&[("videocodecid", Value::Number(0.0))], None, None);
        check(&[("encoder", "x".into())], None, None);
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(body in prop::collection::vec(any::<u8>(), 0..32), timestamp: u32) {
            let body = Bytes::from(body);
            let _ = (video(&body, timestamp), audio(&body, timestamp));
        }
    }
}
