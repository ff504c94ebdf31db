//! One track as the cutter sees it: where its units cross into the next segment, and where it cuts if it leads.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::time::Timescale;
use crate::model::{InputTrack, Msn, Track, TrackId};
use crate::packager::unit::{REORDER_MAX, SegmentStart, TrackUnit};

/// A track's unit may begin a segment this much before the cut, and at most half a unit: otherwise the segment would become
/// too long.
const BEFORE_CUT_MAX: Duration = Duration::from_millis(50);
/// Decode times are off by this: RTMP has milliseconds.
const ROUNDING: Duration = Duration::from_millis(2);

/// One track's units whose segment isn't decided yet.
#[derive(Debug)]
pub(super) struct Queue {
    pub id: TrackId,
    pub video: bool,
    pub scale: Timescale,
    /// The length of a unit, in ticks: exact for audio, the usual one for video.
    pub frame: u64,
    /// The input track that feeds it.
    pub input: Option<InputTrack>,
    /// A push may join it at this segment's start, which isn't numbered as a gap until then.
    pub reserved: Option<Msn>,
    /// The segment it is in; 0 before its first one.
    pub msn: Msn,
    pub waiting: VecDeque<TrackUnit>,
    /// The newest unit that came, whether placed or waiting.
    pub newest: Duration,
    /// The longest from when a unit is decoded to when it is shown.
    pub reorder: Duration,
    /// When the newest keyframe of the period that was placed is shown.
    pub keyframe: Option<Duration>,
    /// Its segment begins no earlier.
    pub begun: Duration,
}

/// The start of a segment, as the leader's unit decides it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cut {
    pub start: Duration,
    /// It begins without a keyframe.
    pub forced: bool,
    /// It begins with the unit, a keyframe.
    pub keyed: bool,
}

/// The lengths by which the leader decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Lengths {
    /// The length aimed at.
    pub aim: Duration,
    pub longest: Duration,
    /// After a keyframe, the next one is expected by then.
    pub interval: Duration,
}

impl Queue {
    /// Makes the queue of a track, whose units last `frame` ticks.
    pub(super) fn new(track: &Track, frame: u64, input: Option<InputTrack>) -> Queue {
        Queue {
            id: track.id,
            video: track.is_video(),
            scale: track.timescale,
            frame,
            input,
            reserved: None,
            msn: 0,
            waiting: VecDeque::new(),
            newest: Duration::ZERO,
            reorder: Duration::ZERO,
            keyframe: None,
            begun: Duration::ZERO,
        }
    }

    pub(super) fn is_fed(&self) -> bool {
        self.input.is_some()
    }

    pub(super) fn media(&self, ticks: u64) -> Duration {
        self.scale.duration(ticks)
    }

    pub(super) fn frame(&self) -> Duration {
        self.media(self.frame)
    }

    /// Returns when a unit is shown, an absurd composition offset apart.
    pub(super) fn shown(&self, unit: &TrackUnit) -> Duration {
        self.media(unit.shown()).min(self.media(unit.dts) + REORDER_MAX)
    }

    /// Returns whether its segment would last longer than `longest` with a unit.
    pub(super) fn overflows(&self, unit: &TrackUnit, longest: Duration) -> bool {
        self.media(unit.dts).saturating_sub(self.begun) + self.frame() > longest
    }

    /// Returns whether a unit belongs behind the start of `next`, or else its segment would last longer than `longest`.
    pub(super) fn crosses(&self, unit: &TrackUnit, next: &SegmentStart, longest: Duration) -> bool {
        let (at, half) = (self.media(unit.dts), (self.frame() / 2).min(BEFORE_CUT_MAX));
        self.overflows(unit, longest)
            || match self.video && next.keyed {
                // Each is cut at its own keyframe.
                true => unit.keyframe && self.shown(unit) + half >= next.shown,
                false => at + half >= next.start,
            }
    }

    /// Returns the age of a segment at which it is cut at the latest, one frame before it gets too long
    /// (docs/architecture.md, Media and time).
    pub(super) fn latest_cut(&self, longest: Duration) -> Duration {
        longest.saturating_sub(self.frame() + ROUNDING).max(self.frame())
    }

    /// No cut of the segment under way comes before this, where the track leads.
    pub(super) fn earliest_cut(&self, current: &SegmentStart, lengths: Lengths) -> Duration {
        let half = self.frame() / 2;
        if !self.video {
            return current.ideal + lengths.aim.saturating_sub(half);
        }
        if current.forced {
            return current.start;
        }
        // A keyframe behind which pictures come that are shown before it is decoded earlier than others are.
        let shown = (current.shown + lengths.aim).saturating_sub(half + self.reorder);
        let full = (current.start + lengths.aim.saturating_sub(half)).min(shown);
        let latest = self.latest_cut(lengths.longest);
        // The interval that ends with the next keyframe may turn out to be the longest.
        full.min(current.start + latest.saturating_sub(lengths.interval).min(latest / 2))
    }

    /// Returns where a segment begins with the leader's unit, if one does. `spare`: an early cut is possible.
    pub(super) fn cut(&self, unit: &TrackUnit, current: &SegmentStart, lengths: Lengths, spare: bool) -> Option<Cut> {
        let (at, frame, shown) = (self.media(unit.dts), self.frame(), self.shown(unit));
        let latest = self.latest_cut(lengths.longest);
        // The track may have begun it a little before the cut.
        let begun = if self.msn == current.msn { current.start.min(self.begun) } else { current.start };
        let age = at.saturating_sub(begun);
        // From keyframe to keyframe as they are shown, a GOP is a whole number of frames: an open one is decoded in less
        // after a closed one.
        let full = match self.video {
            true => !current.forced && shown + frame / 2 >= current.shown + lengths.aim,
            false => at >= self.earliest_cut(current, lengths),
        };
        // Sound may have begun the segment: the leader's first keyframe is where it begins, too.
        let next_in_time = self.keyframe.is_none_or(|before| {
            let interval = shown.saturating_sub(before).max(lengths.interval);
            age + interval <= latest
        });
        let last = self.video && spare && (current.forced || !next_in_time);
        let may_begin = at > current.start && (unit.keyframe || !self.video);
        match () {
            // A hole: no unit is there to cut at. The caller comes again for the next one.
            () if age > latest + frame + ROUNDING => {
                let forced = self.video && !unit.keyframe;
                Some(Cut { start: current.start.max(begun + latest), forced, keyed: false })
            }
            () if may_begin && (full || last) => Some(Cut { start: at, forced: false, keyed: self.video }),
            () if age >= latest && at > current.start => Some(Cut { start: at, forced: self.video, keyed: false }),
            () => None,
        }
    }
}
