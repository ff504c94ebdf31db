//! Tags of Enhanced RTMP ("Enhanced RTMP" v2, "Enhanced Audio", "Enhanced Video").
//!
//! ```text
//! ExVideo    1 frame type:3 packet type:4 | [ModEx] | fourcc:32 | [composition time:s24] | record, or a frame
//! ExAudio    format:4=9 packet type:4     | [ModEx] | fourcc:32 | the same
//! ModEx      size - 1:8 [size - 1:16 if that was 255] | data | type:4 packet type:4
//! Multitrack layout:4 packet type:4 | [fourcc:32] | ([fourcc:32] track:8 [size:24] the same)...
//! ```

use super::{AUDIO, CODED_FRAMES, CODED_FRAMES_X, Codec, FlvError, Reader, SEQUENCE_START, TagKind, Tags, VIDEO};
use crate::demux::amf0::Value;
use crate::model::{AccessUnit, InputTrack};
use crate::packager::Input;

/// VideoPacketType and AudioPacketType, beside those of [`super`].
const SEQUENCE_END: u8 = 2;
/// Metadata: for video, colours, which the codec's headers have, too; for audio, the order of the channels.
const METADATA: u8 = 4;
const MPEG2_TS_SEQUENCE_START: u8 = 5;
const VIDEO_MULTITRACK: u8 = 6;
const AUDIO_MULTITRACK: u8 = 5;
const MOD_EX: u8 = 7;
/// VideoFrameType of a command, which carries no frame.
const COMMAND: u8 = 5;
/// AvMultitrackType.
const MANY_TRACKS: u8 = 1;
const MANY_TRACKS_MANY_CODECS: u8 = 2;
/// The FourCCs of the supported codecs.
const VIDEO_CODECS: [&str; 3] = ["avc1", "hvc1", "av01"];
const AUDIO_CODECS: [&str; 4] = ["mp4a", "Opus", "ac-3", "ec-3"];

/// Returns the server's properties for its answer to `connect` ("Enhancing NetConnection connect Command").
pub fn capabilities() -> Vec<(String, Value)> {
    // FourCcInfoMask.CanForward; CapsExMask: Multitrack, and ModEx, which is parsed.
    let (forward, extended) = (Value::Number(4.0), Value::Number(6.0));
    let video = Value::object(VIDEO_CODECS.map(|codec| (codec, forward.clone())));
    let audio = Value::object(AUDIO_CODECS.map(|codec| (codec, forward.clone())));
    let list = VIDEO_CODECS.iter().chain(&AUDIO_CODECS).map(|&codec| codec.into()).collect();
    let properties = [
        ("fourCcList", Value::Array(list)),
        ("videoFourCcInfoMap", video),
        ("audioFourCcInfoMap", audio),
        ("capsEx", extended),
    ];
    properties.map(|(key, value)| (key.to_owned(), value)).into()
}

impl Tags {
    /// Reads a whole tag from its second byte on: "the bitstream MUST be processed completely".
    pub(super) fn enhanced(
        &mut self,
        r: &mut Reader<'_>,
        first: u8,
        unit: AccessUnit,
        out: &mut Vec<Input>,
    ) -> Result<(), FlvError> {
        let (video, mut packet) = (r.kind == TagKind::Video, first & 0xf);
        while packet == MOD_EX {
            packet = r.mod_ex()?;
        }
        if video && first >> 4 & 7 == COMMAND && packet != METADATA {
            return Ok(());
        }
        let mut layout = None;
        if packet == if video { VIDEO_MULTITRACK } else { AUDIO_MULTITRACK } {
            let both = r.u8("AvMultitrackType")?;
            (layout, packet) = (Some(both >> 4), both & 0xf);
            if both >> 4 > MANY_TRACKS_MANY_CODECS {
                return Err(r.invalid(both >> 4, "AvMultitrackType"));
            }
        }
        let many = matches!(layout, Some(MANY_TRACKS | MANY_TRACKS_MANY_CODECS));
        let shared = if layout == Some(MANY_TRACKS_MANY_CODECS) { None } else { Some(r.codec()?) };
        loop {
            let codec = shared.map_or_else(|| r.codec(), Ok)?;
            let id = if layout.is_some() { r.u8("TrackId")? } else { 0 };
            let track = self.track(r, id)?;
            let len = match many {
                true => r.array("the size of a track").map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]) as usize)?,
                false => r.end - r.at,
            };
            let mut own = r.part(len, "a track")?;
            // Frames of codecs that reorder have an SI24 before them; CodedFramesX leaves it out.
            let ordered = packet != CODED_FRAMES || !matches!(codec, Codec::Avc | Codec::Hevc);
            let composition_offset = if ordered { 0 } else { own.i24("CompositionTime")? };
            match packet {
                SEQUENCE_START | CODED_FRAMES | SEQUENCE_END | METADATA => {}
                CODED_FRAMES_X if video => {}
                MPEG2_TS_SEQUENCE_START if video => {
                    return Err(own.unsupported("MPEG-2 TS (by its sequence start)".to_owned()));
                }
                _ => return Err(r.malformed(0, format!("packet type {packet} is unknown"))),
            }
            let unit = AccessUnit { track, composition_offset, ..unit.clone() };
            self.coded(&own, codec, packet, unit, out)?;
            if r.is_empty() {
                return Ok(());
            }
        }
    }

    fn track(&mut self, r: &Reader<'_>, id: u8) -> Result<InputTrack, FlvError> {
        if id == 0 {
            return Ok(if r.kind == TagKind::Video { VIDEO } else { AUDIO });
        }
        let known = self.further.iter().position(|further| *further == (r.kind, id));
        let place = known.unwrap_or(self.further.len());
        let max = self.tracks_max;
        let track = u8::try_from(place + 2).ok().filter(|&track| track < max).ok_or_else(|| {
            r.malformed(r.at - 1, format!("track {id} is beyond the limit of {max} tracks of a push"))
        })?;
        if known.is_none() {
            self.further.push((r.kind, id));
        }
        Ok(InputTrack(track))
    }
}

impl Reader<'_> {
    /// Skips a tag's modifier, and returns the packet type behind it. The only modifier is TimestampOffsetNano, which
    /// is less than the clock's millisecond.
    fn mod_ex(&mut self) -> Result<u8, FlvError> {
        let mut len = usize::from(self.u8("modExDataSize")?) + 1;
        if len == 256 {
            len = usize::from(u16::from_be_bytes(self.array("modExDataSize")?)) + 1;
        }
        self.part(len, "modExData")?;
        Ok(self.u8("ModExType")? & 0xf)
    }

    fn codec(&mut self) -> Result<Codec, FlvError> {
        let fourcc = self.array("FourCC")?;
        Ok(match (self.kind, &fourcc) {
            (TagKind::Video, b"avc1") => Codec::Avc,
            (TagKind::Video, b"hvc1") => Codec::Hevc,
            (TagKind::Video, b"av01") => Codec::Av1,
            (TagKind::Audio, b"mp4a") => Codec::Aac,
            (TagKind::Audio, b"Opus") => Codec::Opus,
            (TagKind::Audio, b"ac-3" | b"ec-3") => Codec::Ac3,
            _ => return Err(self.unsupported(fourcc_name(fourcc))),
        })
    }
}

fn fourcc_name(fourcc: [u8; 4]) -> String {
    let name = match &fourcc {
        b"vvc1" => "H.266",
        b"vp08" => "VP8",
        b"vp09" => "VP9",
        b"fLaC" => "FLAC",
        b".mp3" => "MP3",
        other => return format!("\"{}\"", other.escape_ascii()),
    };
    name.to_owned()
}
