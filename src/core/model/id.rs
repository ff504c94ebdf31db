//! Identifiers as types: streams, swarms, nodes, presentations, epochs, tracks, segments and parts.

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use derive_more::{Debug, Display};

use super::wire::{Fault, Reader, WireError};

/// The name of a stream: 1-64 of `A-Za-z0-9_-`, and none of [`RESERVED`](StreamName::RESERVED).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Display, Debug)]
#[debug("{_0:?}")]
pub struct StreamName(Arc<str>);

/// Says why a text is no stream name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, or longer than 64 bytes.
    #[error("a stream name has 1 to 64 characters, this one has {0}")]
    Length(usize),
    /// A character outside `A-Za-z0-9_-`.
    #[error("a stream name is made of A-Z, a-z, 0-9, '_' and '-'; this one has {0:?} at byte {1}")]
    Character(char, usize),
    /// It is a path of the edge.
    #[error("{0:?} is a path of the edge itself and can't name a stream")]
    Reserved(String),
}

impl StreamName {
    /// The longest name, in bytes.
    pub const LEN_MAX: usize = 64;
    /// Paths of the edge, which can't name a stream.
    pub const RESERVED: [&'static str; 6] = ["api", "metrics", "healthz", "readyz", "time", "player"];

    /// Parses a name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        Self::check(text)?;
        Ok(StreamName(text.into()))
    }

    /// Checks that `text` is a name, without an allocation.
    pub fn check(text: &str) -> Result<(), NameError> {
        if text.is_empty() || text.len() > Self::LEN_MAX {
            return Err(NameError::Length(text.chars().count()));
        }
        if let Some((at, c)) = text.char_indices().find(|(_, c)| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-')))
        {
            return Err(NameError::Character(c, at));
        }
        if Self::RESERVED.contains(&text) {
            return Err(NameError::Reserved(text.to_owned()));
        }
        Ok(())
    }

    /// Reads a name behind its `u16` length.
    pub fn decode(r: &mut Reader) -> Result<Self, WireError> {
        let text = r.text(Self::LEN_MAX, "stream")?;
        StreamName::parse(&text).map_err(|_| r.fault("stream", Fault::Invalid))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Names the rendition of a stream that a push carries: `live/{stream}/{rendition}`. It has the same characters as a stream's name.
///
/// A rendition of pictures names its video track; sound that comes with it is the stream's own, which all renditions
/// share. `audio_` and a language (BCP 47) is sound alone, in that language: `audio_de`, `audio_pt-BR`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Display, Debug)]
pub struct Rendition(StreamName);

/// Says why a text names no rendition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenditionError {
    /// It isn't made like a stream's name.
    #[error("rendition: {0}")]
    Name(#[from] NameError),
    /// The tracks of a push without a rendition have this name.
    #[error("rendition: {0:?} is what the tracks of a push without a rendition are called")]
    Plain(String),
    /// `audio_` stands before something that is no language tag.
    #[error("rendition: {0:?} is no language (BCP 47): audio_de, audio_pt-BR")]
    Language(String),
}

impl Rendition {
    /// The beginning of the name of sound in one language.
    pub const LANGUAGE: &'static str = "audio_";

    /// Parses a name.
    pub fn parse(text: &str) -> Result<Self, RenditionError> {
        let name = StreamName::parse(text)?;
        let plain = ["video", "audio"].into_iter().filter_map(|kind| text.strip_prefix(kind));
        if plain.into_iter().any(|rest| rest.bytes().all(|b| b.is_ascii_digit())) {
            return Err(RenditionError::Plain(text.to_owned()));
        }
        match text.strip_prefix(Self::LANGUAGE) {
            Some(tag) if !is_language(tag) => Err(RenditionError::Language(tag.to_owned())),
            _ => Ok(Rendition(name)),
        }
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns the language of sound in one language.
    pub fn language(&self) -> Option<&str> {
        self.as_str().strip_prefix(Self::LANGUAGE)
    }
}

/// Returns whether `tag` has the form of a language tag (RFC 5646, 2.1): a language of 2-8 letters, then subtags of 1-8
/// letters and digits. Whether the tag is registered is the publisher's business.
pub(crate) fn is_language(tag: &str) -> bool {
    let mut subtags = tag.split('-');
    let letters = |text: &str| (2..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphabetic());
    let subtag = |text: &str| (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
    subtags.next().is_some_and(letters) && subtags.all(subtag)
}

// Maps by name can be looked up with a path's text, whose order is the same.
impl std::borrow::Borrow<str> for StreamName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Identifies a swarm on the wire: the first eight bytes of BLAKE3 of the stream's name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SwarmId(pub u64);

impl SwarmId {
    /// The swarm of all nodes.
    pub const DIRECTORY: SwarmId = SwarmId(0);

    /// Returns the swarm of the nodes that carry `stream`.
    pub fn of(stream: &StreamName) -> Self {
        SwarmId(first_u64(stream.as_str().as_bytes()).max(1))
    }
}

impl fmt::Debug for SwarmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::DIRECTORY { f.write_str("directory") } else { write!(f, "{:016x}", self.0) }
    }
}

/// Identifies a node: the first eight bytes of BLAKE3 of its public key (its certificate's SubjectPublicKeyInfo).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Display, Debug)]
#[display("{_0:016x}")]
#[debug("{_0:x}")]
pub struct NodeId(pub u64);

impl NodeId {
    /// Returns the node that holds the key of this SubjectPublicKeyInfo (DER).
    pub fn of_public_key(spki_der: &[u8]) -> Self {
        NodeId(first_u64(spki_der))
    }
}

/// Holds a node's name as traces carry it: its first 23 characters, in ASCII.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[debug("{:?}", self.as_str())]
pub struct NodeName {
    len: u8,
    bytes: [u8; NodeName::LEN_MAX],
}

impl NodeName {
    /// The longest name, in bytes.
    pub const LEN_MAX: usize = 23;

    /// Returns as much of `name` as fits. Characters that aren't graphic ASCII, or would end a quoted string, become `_`.
    pub fn of(name: &str) -> Self {
        let mut out = NodeName::default();
        for (into, c) in out.bytes.iter_mut().zip(name.chars()) {
            let fits = c.is_ascii_graphic() && c != '"' && c != '\\';
            *into = if fits { u8::try_from(c).unwrap_or(b'_') } else { b'_' };
            out.len += 1;
        }
        out
    }

    /// Returns the name; empty if the node has none.
    pub fn as_str(&self) -> &str {
        self.bytes.get(..usize::from(self.len)).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or("")
    }
}

/// Returns the first eight bytes of BLAKE3 of `bytes`.
fn first_u64(bytes: &[u8]) -> u64 {
    blake3::hash(bytes).as_bytes().first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

/// Identifies a presentation of a stream, from its first part to its ENDLIST: the Unix time of its start in microseconds, or
/// one more than the id of the presentation before it, if that is higher.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LifeId(pub u64);

/// Identifies the time in which one node ingests a stream. The higher epoch wins: first by its counter, then by its node.
///
/// The counter is one more than the highest known, and at least the Unix time in seconds, so that an ingest node that has
/// lost all state still claims a higher one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Epoch {
    /// The counter; it goes up with each takeover or return.
    pub counter: u32,
    /// The ingest node.
    pub node: NodeId,
}

impl Epoch {
    /// Appends the epoch.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u32(self.counter);
        out.put_u64(self.node.0);
    }

    /// Reads an epoch.
    pub fn decode(r: &mut Reader) -> Result<Self, WireError> {
        Ok(Epoch { counter: r.u32("epoch counter")?, node: NodeId(r.u64("epoch node")?) })
    }
}

/// Identifies a track by its place in the record. [`TrackId::RECORD`] is the record itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TrackId(pub u8);

impl TrackId {
    /// The record, which is no track. It travels as a message whose `msn` is its revision.
    pub const RECORD: TrackId = TrackId(255);
    /// Track ids are below this.
    pub const COUNT_MAX: u8 = 64;
}

/// Media sequence number of a segment (rfc8216bis 3.5). Below 2^32: it starts at a Unix time in
/// seconds, and segments last longer than a second.
pub type Msn = u32;

/// Identifies a Plumtree message: one part of one segment of one track, as one epoch numbered it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PartId {
    /// The epoch that numbered the part.
    pub epoch: Epoch,
    /// The track, or the record.
    pub track: TrackId,
    /// The segment.
    pub msn: Msn,
    /// The part of the segment, from 0.
    pub part: u16,
}

impl PartId {
    /// An id's length on the wire, in bytes.
    pub const WIRE_LEN: usize = 4 + 8 + 1 + 4 + 2;

    /// Appends the id.
    pub fn encode(&self, out: &mut BytesMut) {
        self.epoch.encode(out);
        out.put_u8(self.track.0);
        out.put_u32(self.msn);
        out.put_u16(self.part);
    }

    /// Reads an id; a track that is neither below [`TrackId::COUNT_MAX`] nor the record is refused.
    pub fn decode(r: &mut Reader) -> Result<Self, WireError> {
        let epoch = Epoch::decode(r)?;
        let track = TrackId(r.u8("track")?);
        if track.0 >= TrackId::COUNT_MAX && track != TrackId::RECORD {
            return Err(r.fault("track", Fault::Invalid));
        }
        Ok(PartId { epoch, track, msn: r.u32("msn")?, part: r.u16("part")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_not_validated_later() {
        let check = |text: &str, ok: bool| assert_eq!(StreamName::parse(text).is_ok(), ok, "{text:?}");
        check("cam1", true);
        check("A-b_9", true);
        check(&"x".repeat(64), true);
        check(&"x".repeat(65), false);
        check("", false);
        check("a/b", false);
        check("..", false);
        check("é", false);
        check("api", false);
        check("apis", true);
    }

    #[test]
    fn renditions_name_tracks_and_languages() {
        let check = |text: &str, language: Option<&str>| {
            let parsed = Rendition::parse(text).expect(text);
            assert_eq!((parsed.as_str(), parsed.language()), (text, language));
        };
        check("720p", None);
        check("audiophile", None);
        check("video_4k", None);
        check("audio_de", Some("de"));
        check("audio_zh-Hans-CN", Some("zh-Hans-CN"));
        for wrong in ["", "a/b", "api", "video", "audio", "video1", "audio_", "audio_1", "audio_d", "audio_de_CH"] {
            assert!(Rendition::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_node_name_is_cut_and_quotes_nothing() {
        let check = |name: &str, text: &str| assert_eq!(NodeName::of(name).as_str(), text);
        check("edge1", "edge1");
        check("", "");
        check("a\"b\\c\nd \u{e9}", "a_b_c_d__");
        check(&"x".repeat(64), &"x".repeat(NodeName::LEN_MAX));
    }

    #[test]
    fn ids_survive_the_wire() {
        let id = PartId {
            epoch: Epoch { counter: 7, node: NodeId(u64::MAX) },
            track: TrackId::RECORD,
            msn: u32::MAX,
            part: 9,
        };
        let mut out = BytesMut::new();
        id.encode(&mut out);
        assert_eq!(out.len(), PartId::WIRE_LEN);
        assert_eq!(PartId::decode(&mut Reader::new(out.freeze())), Ok(id));
    }
}
