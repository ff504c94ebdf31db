//! The cutter's decisions, and the facts about tracks that it needs.

use std::time::Duration;

use super::diagnostic::Diagnostic;
use super::unit::{SegmentStart, TrackUnit};
use crate::model::PushId;

/// A decision about a track's units. Steps are carried out in order.
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
    /// A segment begins. It is the last step of a batch, so that the record changes before the segment's units are placed.
    Began(SegmentStart),
    Tell(Diagnostic),
}

/// A rendition that isn't aligned with the leading one, and isn't fed any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Lost {
    pub track: usize,
    pub push: PushId,
    /// The distance of its keyframes behind the leader's, in microseconds (negative: before them); `None`: it lags too far, and
    /// may continue at the start of a later segment.
    pub misaligned: Option<i64>,
}

/// The end of a track's units.
#[derive(Clone, Copy, Debug)]
pub(super) struct TrackEnd {
    /// The end of the last unit by decode time, and by presentation time.
    pub decoded: Duration,
    pub shown: Duration,
    /// The last unit isn't in a part yet.
    pub ragged: bool,
}
