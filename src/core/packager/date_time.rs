//! PROGRAM-DATE-TIME: media time on the wallclock.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::limits::push_bounded;
use crate::model::time::UnixTime;

/// The largest step of PROGRAM-DATE-TIME from segment to segment (docs/architecture.md, Media and time).
const STEP_MAX: Duration = Duration::from_millis(50);
/// A step of PROGRAM-DATE-TIME is decided by the smallest delays of this many segments, so that jitter and bursts don't move
/// it.
const ANCHOR_SEGMENTS: usize = 8;

/// Returns the wallclock of a media time: `start` is availabilityStartTime, `shift` is in microseconds.
pub(super) fn wallclock(start: UnixTime, media: Duration, shift: i64) -> UnixTime {
    let media = i64::try_from(media.as_micros()).unwrap_or(i64::MAX);
    UnixTime::from_micros(start.as_micros().saturating_add_signed(media.saturating_add(shift)))
}

/// Maps media time to the wallclock: PROGRAM-DATE-TIME = availabilityStartTime + media time + shift.
///
/// A picture was taken before it arrived, and its time is its presentation time: the anchor is the earliest that no
/// picture contradicts. The references of B-frames arrive first and set it; decode times would make it late by the encoder's
/// reordering.
#[derive(Clone, Debug)]
pub(super) struct Anchor {
    start: UnixTime,
    /// The shift, in microseconds.
    shift: i64,
    /// The smallest delay of any unit of the segment under way, in microseconds.
    smallest: Option<i64>,
    /// The smallest delays of the segments before, in microseconds.
    window: VecDeque<i64>,
}

impl Anchor {
    pub(super) fn new(start: UnixTime) -> Self {
        Anchor { start, shift: 0, smallest: None, window: VecDeque::new() }
    }

    /// Returns the present shift, in microseconds.
    pub(super) fn shift(&self) -> i64 {
        self.shift
    }

    /// Returns the media time of a wallclock reading, zero before the start.
    pub(super) fn media(&self, wall: UnixTime) -> Duration {
        let since = i64::try_from(wall.since(self.start).as_micros()).unwrap_or(i64::MAX);
        Duration::from_micros(u64::try_from(since.saturating_sub(self.shift)).unwrap_or(0))
    }

    /// Notes that a unit which is shown at `media` arrived at `wall`.
    pub(super) fn observe(&mut self, wall: UnixTime, media: Duration) {
        let micros = |n: u128| i128::try_from(n).unwrap_or(i128::MAX);
        let late = i128::from(wall.as_micros()) - i128::from(self.start.as_micros()) - micros(media.as_micros());
        let late = i64::try_from(late).unwrap_or(if late < 0 { i64::MIN / 2 } else { i64::MAX / 2 });
        self.smallest = Some(self.smallest.map_or(late, |least| least.min(late)));
    }

    /// Ends a segment of `duration`: moves the shift towards the smallest delay of the last segments,
    /// by at most [`STEP_MAX`] and less than the segment, so that PROGRAM-DATE-TIME always goes forward.
    /// Returns the step in microseconds, mostly 0.
    pub(super) fn segment_ended(&mut self, duration: Duration) -> i64 {
        if let Some(late) = self.smallest.take() {
            push_bounded(&mut self.window, late, ANCHOR_SEGMENTS);
        }
        let most = i64::try_from(STEP_MAX.min(duration / 2).as_micros()).unwrap_or(0);
        let Some(&late) = self.window.iter().min().filter(|_| self.window.len() == ANCHOR_SEGMENTS) else { return 0 };
        let off = late - self.shift;
        // Offsets below a step move nothing, so that an encoder whose clock is right keeps its anchor.
        let step = if off.abs() <= STEP_MAX.as_micros() as i64 { 0 } else { off.clamp(-most, most) };
        self.shift += step;
        step
    }

    /// Starts again after a discontinuity, before which delays say nothing about those after it.
    pub(super) fn restart(&mut self) {
        self.window.clear();
        self.smallest = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_anchor_follows_drift_in_small_steps_and_not_jitter() {
        let start = UnixTime::from_micros(1_000_000_000);
        let mut anchor = Anchor::new(start);
        let segment = Duration::from_secs(2);
        for n in 0..40u32 {
            // Some units have 0.4 s of jitter, others none.
            for late in [0, 400, 250] {
                let media = segment * n;
                anchor.observe(start + media + Duration::from_millis(late), media);
            }
            assert_eq!(anchor.segment_ended(segment), 0);
        }
        for n in 40..80u32 {
            let media = segment * n;
            anchor.observe(start + media + Duration::from_millis(300), media);
            assert!(anchor.segment_ended(segment).abs() <= 50_000);
        }
        assert!((250_000..=300_000).contains(&anchor.shift()), "{}", anchor.shift());
    }

    #[test]
    fn a_wallclock_reading_is_a_media_time_and_back() {
        let start = UnixTime::from_micros(1_000_000_000);
        let anchor = Anchor::new(start);
        let media = Duration::from_millis(2_500);
        assert_eq!(anchor.media(wallclock(start, media, anchor.shift())), media);
        assert_eq!(anchor.media(UnixTime::from_micros(5)), Duration::ZERO);
        assert_eq!(wallclock(start, media, -500_000).as_micros(), 1_002_000_000);
    }
}
