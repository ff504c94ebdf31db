//! Access units to CMAF: timeline, segmenter, boxes. One [`Packager`] a published stream, at its ingest.
//!
//! Nothing downstream numbers, times or cuts anything again.
//!
//! ```text
//!  Unit --> timeline --> segmenter --> lane (one a track) --> cmaf --> Part
//!            unwrap,      where         which units make       boxes
//!            jumps        segments end  a part
//! ```
//!
//! The caller's contract is the crate's: after every [`Packager::handle`] it drains
//! [`Packager::poll_output`] until `None`, then calls again with the next input, or with
//! [`Input::Timeout`] when [`Packager::poll_timeout`] has passed.
//!
//! A publisher's first units are *gathered* until all tracks are there and the GOPs are measured; what
//! was gathered is published then, and nothing of it is lost. Afterwards a part leaves with the unit that
//! would have crossed its end. The order of a life's tracks is frozen when it is first published: a track that
//! a push brings later is ignored, with a [`Notice`], until the next life; that of a push which comes later is
//! appended.
//!
//! # Renditions
//!
//! Several pushes ([`Feed`]s) make one life: a ladder of pictures, and sound in several languages. They share one
//! timeline, that of their timestamps. The first push with pictures leads: it is measured, and its keyframes cut. Every
//! other one has to show a keyframe of its own at the same time, else it is [`Refused`](Output::Refused). One that comes
//! later, or returns, joins at the start of a segment; one that is gone numbers gaps, in step with the others. Sound
//! without a language is taken from one push, and from another when that stops.
//!
//! - [`avc`], [`hevc`], [`av1`], [`aac`], [`opus`], [`ac3`], [`codec`]: the codecs' own headers.
//! - [`message`], [`id3`], [`scte35`]: timed metadata.
//! - [`ts`], [`bmff`]: MPEG transport streams and ISO BMFF files to access units.
//! - [`timeline`]: wrapped input timestamps to media time, media time to the wallclock.
//! - [`Plan`]: what a life freezes: segment length, TARGETDURATION, PART-TARGET.
//! - `segmenter` and `lane`: the cutting rules.
//! - [`cmaf`]: the boxes.
//! - [`packager`]: lives, epochs, periods, silence, and the record; `join`: one of several pushes comes and goes.

pub mod aac;
pub mod ac3;
pub mod av1;
pub mod avc;
pub mod bmff;
pub mod cmaf;
pub mod codec;
mod entry;
mod feeds;
mod floor;
mod gather;
pub mod header;
pub mod hevc;
pub mod id3;
mod join;
mod lane;
mod life;
pub mod message;
mod names;
pub mod notice;
pub mod opus;
pub mod packager;
mod periods;
mod plan;
pub mod scte35;
mod segmenter;
pub mod timeline;
pub mod ts;

#[cfg(test)]
pub(crate) mod tests;

pub use lane::UNIT_LEN_MAX;
pub use message::{Event, MESSAGE_LEN_MAX, Message};
pub use notice::{Notice, Refusal, Unusable};
pub use packager::{Packager, Settings};
pub use plan::{PART_SHARE_MIN, Plan};

use bytes::Bytes;

use crate::live::{Epoch, Msn, PartHeader, Record, Rendition, TrackId};
use crate::units::{Time, Timescale, UnixTime};

/// One of the pushes that make a stream at a time, below [`Feed::COUNT_MAX`]: a rendition's connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Feed(pub u8);

impl Feed {
    /// Pushes of a stream at a time.
    pub const COUNT_MAX: u8 = 16;
}

/// A publisher's track, by the order in which it is seen: FLV video 0, FLV audio 1; multitrack inputs go on from 2.
/// The upper four bits are its [`Feed`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InputTrack(pub u8);

impl InputTrack {
    /// The track of this number, below 16, of a push.
    pub const fn of(feed: Feed, track: InputTrack) -> InputTrack {
        InputTrack(feed.0 << 4 | track.0 & 15)
    }

    /// Whose it is.
    pub const fn feed(self) -> Feed {
        Feed(self.0 >> 4)
    }
}

/// The clock of an input's timestamps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InputClock {
    /// Ticks a second.
    pub scale: Timescale,
    /// Timestamps are modulo 2^this: 32 for RTMP and FLV, 33 for MPEG-TS, 62 for ISO BMFF.
    pub wrap_bits: u32,
}

impl InputClock {
    /// Whether all tracks are stamped from one clock for certain: a program has one system time clock (ISO 13818-1,
    /// 2.4.2.1), a file one presentation. Of RTMP's tracks some run on clocks of their own.
    pub fn is_common(self) -> bool {
        self.wrap_bits >= 33
    }

    /// Ticks, which may be before 0, as its timestamps show them.
    pub(crate) fn wrapped(self, ticks: i64) -> u64 {
        ticks.cast_unsigned() & (u64::MAX >> (64 - self.wrap_bits.clamp(1, 64)))
    }
}

/// A codec's own headers, as the input carries them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CodecConfig {
    /// AVCDecoderConfigurationRecord (ISO 14496-15, 5.3.3.1).
    Avc(Bytes),
    /// HEVCDecoderConfigurationRecord (ISO 14496-15, 8.3.2.1).
    Hevc(Bytes),
    /// AV1CodecConfigurationRecord (AV1-ISOBMFF, 2.3.3).
    Av1(Bytes),
    /// AudioSpecificConfig (ISO 14496-3, 1.6.2.1).
    Aac(Bytes),
    /// Identification header, `OpusHead` (RFC 7845, 5.1).
    Opus(Bytes),
    /// The content of a `dac3` (ETSI TS 102 366, F.4): what [`ac3::Headers`] makes.
    Ac3(Bytes),
    /// The content of a `dec3` (F.6): the same.
    Eac3(Bytes),
}

impl CodecConfig {
    /// What it consists of.
    pub(crate) fn as_bytes(&self) -> &Bytes {
        match self {
            CodecConfig::Avc(bytes) | CodecConfig::Hevc(bytes) | CodecConfig::Av1(bytes) | CodecConfig::Aac(bytes) => {
                bytes
            }
            CodecConfig::Opus(bytes) | CodecConfig::Ac3(bytes) | CodecConfig::Eac3(bytes) => bytes,
        }
    }
}

/// One coded frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessUnit {
    /// Its track.
    pub track: InputTrack,
    /// Decode timestamp in ticks of the input clock, wrapped as the input wraps it.
    pub dts: u64,
    /// Presentation minus decode time, in ticks of the input clock.
    pub composition_offset: i32,
    /// A random access point, as the input says; of H.265 and AV1 the unit itself is asked.
    pub keyframe: bool,
    /// H.264, H.265: NAL units, each behind a 4-byte (or the record's) length. AV1: a temporal unit's OBUs (5.2). AAC: one
    /// raw_data_block. Opus: a packet. AC-3, E-AC-3: a syncframe, with those of its dependent substreams.
    pub data: Bytes,
}

/// What can happen to a [`Packager`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// [`Packager::poll_timeout`] has passed.
    Timeout,
    /// A publisher is there, the first or the next; `epoch` is its tenure.
    Attached {
        /// Its place. Whoever has it is [detached](Input::Detached) first.
        feed: Feed,
        /// What it is a rendition of the stream as; `None` for the stream as such.
        rendition: Option<Rendition>,
        /// Higher than any before; if another push is there, that one's.
        epoch: Epoch,
        /// The clock of its timestamps.
        clock: InputClock,
        /// What it says of its tracks (RTMP onMetaData): how long to wait for audio or video that is
        /// announced and hasn't come. `None` if it says nothing.
        announced: Announced,
    },
    /// A track's language (BCP 47), where the input tells it: before the track's headers.
    Language {
        /// Whose.
        track: InputTrack,
        /// The tag.
        language: String,
    },
    /// A track's headers, before its first access unit; again whenever they are repeated or changed.
    Config {
        /// Whose.
        track: InputTrack,
        /// The headers.
        config: CodecConfig,
    },
    /// A coded frame.
    Unit(AccessUnit),
    /// Timed metadata.
    Message(Message),
    /// The publisher is gone: it closed, its connection broke, or another takes over.
    Detached(Feed),
    /// The stream ends for good: the node drains.
    End,
}

/// Which tracks a publisher has announced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Announced {
    /// Video will come (`Some(true)`), won't (`Some(false)`), or nothing is said.
    pub video: Option<bool>,
    /// The same of audio.
    pub audio: Option<bool>,
}

/// What a [`Packager`] wants done.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// The record is new or changed. Always before the first part that needs it.
    Record(Record),
    /// A part is complete.
    Part {
        /// Its header.
        header: PartHeader,
        /// `prft` `emsg`* `moof` `mdat`: one CMAF chunk. Empty where the header says gap.
        body: Bytes,
    },
    /// A push can't be a part of this life: it is detached, and to be told why.
    Refused {
        /// Which.
        feed: Feed,
        /// Why.
        why: Refusal,
    },
    /// Something to log and count.
    Notice(Notice),
}

/// Where a publisher that comes to this node goes on, if the swarm already holds a life of the stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resume {
    /// The newest record.
    pub record: Record,
    /// The newest segment known of any track, complete or not.
    pub newest_msn: Msn,
    /// The highest discontinuity sequence number seen.
    pub discontinuity: u32,
    /// For each track, where its newest part ends, in ticks.
    pub ends: Vec<(TrackId, u64)>,
}

/// Both clocks at one moment: cores take `now` for deadlines and `wall` for what players see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clocks {
    /// Monotonic.
    pub now: Time,
    /// Unix time.
    pub wall: UnixTime,
}
