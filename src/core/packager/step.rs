//! What the cutter decides, and what it has to know for it.

use std::time::Duration;

use super::diagnostic::Diagnostic;
use super::unit::{SegmentStart, TrackUnit};
use crate::model::PushId;

/// What is to be done with a track's units, in this order.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Step {
    /// The unit belongs to this segment.
    Place {
        track: usize,
        unit: TrackUnit,
        segment: SegmentStart,
        irregular: bool,
    },
    /// The segment ends at `at`; `next` is the decode time of the unit that begins the next one, where it is known.
    Close {
        track: usize,
        at: Duration,
        next: Option<u64>,
        segment: SegmentStart,
        irregular: bool,
    },
    /// A segment begins. It is the last step, so that this is told before anything of the segment is.
    Began(SegmentStart),
    Tell(Diagnostic),
}

/// A rendition that is out of step with the one that leads, and isn't fed any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Lost {
    pub track: usize,
    pub push: PushId,
    /// How far behind those of the leader its keyframes lie (microseconds; before: negative); `None`: it lags too far, and
    /// may go on at a later segment's start.
    pub misaligned: Option<i64>,
}

/// Where a track's units end.
#[derive(Clone, Copy, Debug)]
pub(super) struct TrackEnd {
    /// Decoded; and shown, too.
    pub decoded: Duration,
    pub shown: Duration,
    /// Its last unit isn't numbered yet.
    pub ragged: bool,
}
