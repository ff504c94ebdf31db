//! The reader's outputs: tracks, headers, samples, metadata, and what is missing.

use std::sync::Arc;

use super::movie::Movie;
use crate::model::time::UnixTime;
use crate::model::{AccessUnit, CodecConfig, TimedMessage};

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
    /// A sample of a track whose headers came before.
    Unit {
        /// track_ID.
        track: u32,
        /// The sample, on [`CLOCK`](super::place::CLOCK), of no track in particular.
        unit: AccessUnit,
    },
    /// The encoder's wallclock when it made a sample of the file (`prft`, 14496-12, 8.16.5).
    Reference(UnixTime),
    /// Timed metadata. What stands before a fragment comes behind the first of its samples.
    Message {
        /// track_ID: with whose samples it came, which are none of [`Output::Unit`] if it is an event message track.
        track: u32,
        /// A decode time of that track where it stands, on [`CLOCK`](super::place::CLOCK).
        at: u64,
        /// The message, on [`CLOCK`](super::place::CLOCK), of no track in particular.
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
