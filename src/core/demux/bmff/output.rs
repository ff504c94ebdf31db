//! The reader's outputs: tracks, headers, samples, metadata, and what is missing.

use std::sync::Arc;

use super::movie::Movie;
use super::unit::Unit;
use crate::model::time::UnixTime;
use crate::model::{CodecConfig, TimedMessage};

/// The encoder's wallclock at a moment of a track (`prft`, 14496-12, 8.16.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reference {
    /// track_ID.
    pub track: u32,
    /// A media time, in ticks of the track.
    pub media_time: u64,
    /// When that was.
    pub wall: UnixTime,
}

/// What a [`BmffReader`](super::reader::BmffReader) puts out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// The file's tracks; again if it has others from here on. The same ones once more are not said.
    Movie(Arc<Movie>),
    /// A track's headers: before its first sample, and when they are others.
    Config {
        /// track_ID.
        track: u32,
        /// The headers.
        config: CodecConfig,
    },
    /// A sample of a track whose headers were said.
    Unit(Unit),
    /// The encoder's clock, of a track of the file.
    Reference(Reference),
    /// Timed metadata. What stands before a fragment comes behind the first of its samples.
    Message {
        /// track_ID: with whose samples it came, which are none of [`Output::Unit`] if it is an event message track.
        track: u32,
        /// A decode time of that track where it stands, on [`CLOCK`](super::unit::CLOCK).
        at: u64,
        /// The message, on [`CLOCK`](super::unit::CLOCK), of no track in particular.
        message: TimedMessage,
    },
    /// An event message that isn't carried, and nothing else is missing.
    Ignored {
        /// The reason, for the log.
        why: String,
    },
    /// The segment that begins here is the last (brand `lmsg`).
    Last,
    /// A sample that can't be used.
    Dropped {
        /// track_ID.
        track: u32,
        /// The reason, for the log.
        why: &'static str,
    },
    /// Samples that a fragment announced didn't come.
    Missing {
        /// Their number.
        samples: usize,
    },
}
