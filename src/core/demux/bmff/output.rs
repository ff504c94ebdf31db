//! The reader's outputs: tracks, headers, samples, metadata, and what is missing.

use std::sync::Arc;

use super::movie::Movie;
use crate::model::time::UnixTime;
use crate::model::{AccessUnit, CodecConfig, TimedMessage};

/// An output of a [`BmffReader`](super::reader::BmffReader).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// The file's tracks, and again when they change.
    Movie(Arc<Movie>),
    /// A track's headers, before its first sample and when they change.
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
    /// Timed metadata. A message before a fragment comes behind the fragment's first sample.
    Message {
        /// track_ID of the samples that the message came with. The samples of an event message track are messages only.
        track: u32,
        /// The decode time of those samples, on [`CLOCK`](super::place::CLOCK).
        at: u64,
        /// The message, on [`CLOCK`](super::place::CLOCK), of no track in particular.
        message: TimedMessage,
    },
    /// An event message was dropped; the media are complete.
    Ignored {
        /// The reason, for the log.
        why: String,
    },
    /// The segment that begins here is the last (brand `lmsg`).
    Last,
    /// A sample was dropped.
    Dropped {
        /// track_ID.
        track: u32,
        /// The reason, for the log.
        why: &'static str,
    },
    /// Samples that a fragment announced are missing.
    Missing {
        /// The number of missing samples.
        samples: usize,
    },
}
