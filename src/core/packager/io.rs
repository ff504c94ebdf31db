//! The packager's inputs and outputs.

use bytes::Bytes;

use super::diagnostic::{Diagnostic, Refusal};
use crate::model::{
    AccessUnit, Announced, CodecConfig, Epoch, InputClock, InputTrack, PartHeader, PushId, Record, Rendition,
    TimedMessage,
};

/// An output of a [`Packager`](super::packager::Packager), which its caller carries out.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// The record is new or changed. It comes before the first part that needs it.
    Record(Record),
    /// A part is complete.
    Part {
        /// The part's header.
        header: PartHeader,
        /// `prft` `emsg`* `moof` `mdat`: one CMAF chunk. Empty where the header says gap.
        body: Bytes,
    },
    /// A push can't be a part of this presentation. It is detached; the caller tells its publisher why.
    Refused {
        /// The push.
        push: PushId,
        /// The reason.
        why: Refusal,
    },
    /// A diagnostic to log and count.
    Diagnostic(Diagnostic),
}

/// An event for a [`Packager`](super::packager::Packager).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// [`Packager::poll_timeout`](super::packager::Packager::poll_timeout) has passed.
    Timeout,
    /// A publisher has come.
    Attached {
        /// The id of the push. A push that has this id already is [detached](Input::Detached) first.
        push: PushId,
        /// The rendition that it carries; `None` if it carries the whole stream.
        rendition: Option<Rendition>,
        /// The epoch of its parts: higher than any before, or that of the pushes that are attached.
        epoch: Epoch,
        /// The clock of its timestamps.
        clock: InputClock,
        /// The tracks that it announces (RTMP onMetaData), which decide how long the packager waits for them.
        announced: Announced,
    },
    /// A track's language (BCP 47), if the input has it. It comes before the track's headers.
    Language {
        /// The input's track.
        track: InputTrack,
        /// The tag.
        language: String,
    },
    /// A track's headers, before its first access unit; again whenever they are repeated or changed.
    Config {
        /// The input's track.
        track: InputTrack,
        /// The headers.
        config: CodecConfig,
    },
    /// A coded frame.
    Unit(AccessUnit),
    /// Timed metadata.
    Message(TimedMessage),
    /// The publisher has left: it closed the connection, the connection broke, or another publisher takes over.
    Detached(PushId),
    /// The stream ends for good, because the node drains.
    End,
}
