//! The packager's inputs and outputs.

use bytes::Bytes;

use super::diagnostic::{Diagnostic, Refusal};
use crate::model::{
    AccessUnit, Announced, CodecConfig, Epoch, InputClock, InputTrack, PartHeader, PushId, Record, Rendition,
    TimedMessage,
};

/// What a [`Packager`](super::packager::Packager) wants done.
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
        push: PushId,
        /// Why.
        why: Refusal,
    },
    /// Something to log and count.
    Diagnostic(Diagnostic),
}

/// What can happen to a [`Packager`](super::packager::Packager).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// [`Packager::poll_timeout`](super::packager::Packager::poll_timeout) has passed.
    Timeout,
    /// A publisher is there, the first or the next; `epoch` is its tenure.
    Attached {
        /// Its place. Whoever has it is [detached](Input::Detached) first.
        push: PushId,
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
    Message(TimedMessage),
    /// The publisher is gone: it closed, its connection broke, or another takes over.
    Detached(PushId),
    /// The stream ends for good: the node drains.
    End,
}
