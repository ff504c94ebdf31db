//! Program-specific information (2.4.4): the PAT and PMTs.

use super::output::{PROGRAMS_MAX, STREAMS_MAX};
use crate::codec::opus::CHANNELS_MAX;

/// The length of a section's header, and of its checksum, in bytes.
const HEADER_LEN: usize = 8;
const CRC_LEN: usize = 4;

/// Returns the table_id_extension and the content of a section in force.
fn content(section: &[u8], table_id: u8) -> Option<(u16, &[u8])> {
    let content = section.get(HEADER_LEN..section.len().checked_sub(CRC_LEN)?)?;
    // section_syntax_indicator; current_next_indicator. A section that isn't in force yet will be repeated.
    let in_force = section[0] == table_id && section[1] & 0x80 != 0 && section[5] & 1 == 1;
    in_force.then(|| (u16::from_be_bytes([section[3], section[4]]), content))
}

/// Returns the programs of a PAT (2.4.4.3) in its order: number, and PID of the PMT. Only its first section is read,
/// which has room for 253.
pub(super) fn programs(section: &[u8]) -> Option<Vec<(u16, u16)>> {
    let (_, content) = content(section, 0)?;
    if section[6] != 0 {
        return None;
    }
    let entries = content.as_chunks::<4>().0.iter();
    let entries = entries.map(|e| (u16::from_be_bytes([e[0], e[1]]), u16::from_be_bytes([e[2] & 0x1f, e[3]])));
    // Program 0 is the network information.
    Some(entries.filter(|(number, _)| *number != 0).take(PROGRAMS_MAX).collect())
}

/// The kind of an elementary stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum StreamKind {
    /// H.264, Annex B.
    Avc,
    /// H.265, Annex B.
    Hevc,
    /// AAC, ADTS.
    Aac,
    /// AC-3 or E-AC-3.
    Ac3,
    /// Opus, with this number of channels.
    Opus(u8),
    /// ID3 tags in PES packets (Apple, "Timed Metadata for HTTP Live Streaming").
    Id3,
    /// Splice information (SCTE 35).
    Splices,
    /// Something else: a description, and what to send instead.
    Other(&'static str),
}

impl StreamKind {
    /// Returns the reason why a stream isn't published.
    pub(super) fn refused(self) -> &'static str {
        match self {
            StreamKind::Avc | StreamKind::Hevc => "a second video track; only one is published",
            StreamKind::Aac | StreamKind::Ac3 | StreamKind::Opus(_) => "an audio track beyond the limit of tracks",
            StreamKind::Id3 | StreamKind::Splices => "a further stream of timed metadata; only one is published",
            StreamKind::Other(what) => what,
        }
    }

    /// Returns the kind by stream_type (table 2-34; ATSC A/53-3, SCTE 35) and descriptors.
    fn of(stream_type: u8, descriptors: &[u8]) -> StreamKind {
        StreamKind::Other(match stream_type {
            0x1b => return StreamKind::Avc,
            0x24 => return StreamKind::Hevc,
            0x0f => return StreamKind::Aac,
            0x81 | 0x87 => return StreamKind::Ac3,
            0x01 | 0x02 => "MPEG-1/2 video; set the encoder to H.264 or H.265",
            0x03 | 0x04 => "MPEG audio (MP1, MP2, MP3); set the encoder to AAC, Opus, AC-3 or E-AC-3",
            0x10 => "MPEG-4 part 2 video; set the encoder to H.264 or H.265",
            0x11 => "AAC in LATM; set the encoder to AAC in ADTS (ffmpeg: without -mpegts_flags latm)",
            0x33 => "H.266; set the encoder to H.264 or H.265",
            0x15 if is_id3(descriptors) => return StreamKind::Id3,
            0x15 => "metadata other than ID3",
            0x86 => return StreamKind::Splices,
            0x06 => return private(descriptors),
            _ => "neither H.264 or H.265 video nor AAC (ADTS), AC-3, E-AC-3 or Opus audio",
        })
    }
}

/// Returns descriptors (2.6): tags and contents.
fn descriptors(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let [tag, len, tail @ ..] = rest else { return None };
        let (content, next) = tail.split_at(usize::from(*len).min(tail.len()));
        rest = next;
        Some((*tag, content))
    })
}

/// Returns whether a metadata_descriptor (2.6.60) announces ID3 tags: metadata_format 0xff, and its identifier.
fn is_id3(bytes: &[u8]) -> bool {
    descriptors(bytes).any(|(tag, content)| {
        let format = if content.starts_with(&[0xff, 0xff]) { content.get(6..) } else { content.get(2..) };
        tag == 0x26 && format.is_some_and(|format| format.starts_with(b"\xffID3 "))
    })
}

/// Returns the kind of private data by its descriptors (2.6; EN 300 468, 6.1).
fn private(bytes: &[u8]) -> StreamKind {
    for (tag, content) in descriptors(bytes) {
        return StreamKind::Other(match (tag, content.first_chunk::<4>()) {
            (0x05, Some(b"Opus")) => return opus(bytes),
            (0x05, Some(b"AC-3" | b"EAC3")) | (0x6a | 0x7a, _) => return StreamKind::Ac3,
            (0x05, Some(b"AV01")) => "AV1 in MPEG-TS; push AV1 by Enhanced RTMP",
            (0x56, _) => "teletext",
            (0x59, _) => "DVB subtitles",
            _ => continue,
        });
    }
    StreamKind::Other("private data")
}

/// Returns Opus with its number of channels, from an extension descriptor (0x7f, 0x80).
fn opus(bytes: &[u8]) -> StreamKind {
    let code = descriptors(bytes).find_map(|(tag, content)| match (tag, content) {
        (0x7f, [0x80, code, ..]) => Some(*code),
        _ => None,
    });
    match code {
        Some(channels @ 1..=CHANNELS_MAX) => StreamKind::Opus(channels),
        _ => StreamKind::Other("Opus of an unusual layout; set the encoder to mono, stereo, or 5.1"),
    }
}

/// One elementary stream of a PMT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PmtStream {
    pub(super) pid: u16,
    pub(super) stream_type: u8,
    pub(super) kind: StreamKind,
    /// The language in ISO 639-2, where the PMT gives it.
    pub(super) language: Option<[u8; 3]>,
}

/// The part of a PMT (2.4.4.8) that the demuxer needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Pmt {
    pub(super) streams: Vec<PmtStream>,
}

impl Pmt {
    /// Reads a PMT. Returns the program's number with it.
    pub(super) fn parse(section: &[u8]) -> Option<(u16, Pmt)> {
        let (number, content) = content(section, 2)?;
        let length = |bytes: &[u8], at: usize| {
            Some(usize::from(u16::from_be_bytes([bytes.get(at)? & 0xf, *bytes.get(at + 1)?])))
        };
        let mut rest = content.get(4 + length(content, 2)?..)?;
        let mut streams = Vec::new();
        while rest.len() >= 5 && streams.len() < STREAMS_MAX {
            let end = 5 + length(rest, 3)?;
            let pid = u16::from_be_bytes([rest[1] & 0x1f, rest[2]]);
            let described = rest.get(5..end)?;
            let kind = StreamKind::of(rest[0], described);
            let language = descriptors(described).find(|(tag, _)| *tag == 0x0a).and_then(|(_, content)| {
                content.first_chunk::<3>().copied() // of several, the first
            });
            streams.push(PmtStream { pid, stream_type: rest[0], kind, language });
            rest = &rest[end..];
        }
        Some((number, Pmt { streams }))
    }

    /// Returns whether any of the streams can be published.
    pub(super) fn is_playable(&self) -> bool {
        let plays = |kind| !matches!(kind, StreamKind::Id3 | StreamKind::Splices | StreamKind::Other(_));
        self.streams.iter().any(|stream| plays(stream.kind))
    }
}
