//! From an input's wrapped timestamps to media time, and from media time to the wallclock.
//!
//! Media time is continuous over a life, and 0 is the life's `availabilityStartTime`: a discontinuity
//! begins at the wallclock's distance from it, and never before the end of what was numbered. A
//! segment's `tfdt` therefore says where it belongs in DASH without a presentationTimeOffset of its own.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::InputClock;
use crate::model::time::{Timescale, UnixTime};

/// Timestamps that go back by no more than this are encoders' slips and are nudged forward; by more, a
/// jump. A guess: several frames, and below what lip sync would show.
pub const BACKWARD_MAX: Duration = Duration::from_millis(200);
/// Sample counting follows its timestamps within this. RTMP's milliseconds round by 0.5 ms and encoders
/// add a few; 45 ms is what ITU-R BT.1359 calls detectable.
pub const AUDIO_DRIFT_MAX: Duration = Duration::from_millis(45);
/// PROGRAM-DATE-TIME follows the encoder's clock by at most this a segment (DESIGN, edge rules).
pub const STEP_MAX: Duration = Duration::from_millis(50);
/// A picture is shown at most this much after it is decoded, as far as PROGRAM-DATE-TIME goes by it: H.264 reorders
/// 16 frames at most, which at 24 fps are 0.67 s.
pub(crate) const REORDER_MAX: Duration = Duration::from_secs(1);
/// How many segments' smallest delays a step of PROGRAM-DATE-TIME rests on, so that jitter and bursts
/// don't move it.
const ANCHOR_SEGMENTS: usize = 8;

/// The value congruent to `raw` modulo 2^`clock.wrap_bits` that lies nearest to `near`.
pub(crate) fn unwrap(raw: u64, clock: InputClock, near: Option<i64>) -> i64 {
    if !(1..=62).contains(&clock.wrap_bits) {
        return i64::try_from(raw).unwrap_or(i64::MAX) >> 2;
    }
    let modulus = 1i64 << clock.wrap_bits;
    let raw = (raw & (modulus as u64 - 1)) as i64;
    let Some(near) = near else { return raw };
    let ahead = raw.wrapping_sub(near).rem_euclid(modulus);
    let step = if ahead > modulus / 2 { ahead - modulus } else { ahead };
    near.saturating_add(step)
}

/// `ticks` of `from` in `to`, to the nearest.
pub(crate) fn rescale(ticks: i64, from: Timescale, to: Timescale) -> i64 {
    let (from, to) = (i128::from(from.hz()), i128::from(to.hz()));
    let ticks = (i128::from(ticks) * to + from / 2).div_euclid(from);
    i64::try_from(ticks).unwrap_or(if ticks < 0 { i64::MIN } else { i64::MAX })
}

/// The time between two readings of the input clock; negative spans are zero.
pub(crate) fn span(from: i64, to: i64, clock: InputClock) -> Duration {
    clock.scale.duration(u64::try_from(to.saturating_sub(from)).unwrap_or(0))
}

/// How a unit's decode time was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Placed {
    /// As its timestamp says (or its sample count, within [`AUDIO_DRIFT_MAX`]).
    Exact,
    /// Its timestamp didn't go forward: this many ticks were added.
    Nudged(u64),
    /// The sample count had drifted from the timestamps by this many ticks, and starts again from them.
    Reanchored(i64),
}

/// One track's way from input timestamps to decode times, for a period.
#[derive(Clone, Debug)]
pub(crate) struct TrackClock {
    input: InputClock,
    scale: Timescale,
    /// Added to a rescaled timestamp.
    offset: i64,
    /// Audio counts samples; video takes every timestamp as it is, and never derives one.
    counting: Option<Counting>,
    last: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Counting {
    rate: u32,
    anchor: u64,
    /// Samples of the units since then, at `rate`.
    samples: u64,
}

impl TrackClock {
    /// Maps `base`, a reading of the input clock, to `start` after the life's start.
    pub(crate) fn new(input: InputClock, scale: Timescale, base: i64, start: Duration) -> Self {
        let start = i64::try_from(scale.ticks(start)).unwrap_or(i64::MAX / 2);
        let offset = start.saturating_sub(rescale(base, input.scale, scale));
        TrackClock { input, scale, offset, counting: None, last: None }
    }

    /// Counts samples of `rate` instead of taking each timestamp.
    pub(crate) fn counting(mut self, rate: u32) -> Self {
        self.counting = Some(Counting { rate: rate.max(1), anchor: 0, samples: 0 });
        self
    }

    /// The decode time that a timestamp stands for, counting and order apart.
    pub(crate) fn ticks(&self, dts: i64) -> u64 {
        u64::try_from(rescale(dts, self.input.scale, self.scale).saturating_add(self.offset)).unwrap_or(0)
    }

    /// Whether a unit has been placed.
    pub(crate) fn begun(&self) -> bool {
        self.last.is_some()
    }

    /// How far a unit at `dts` would lie behind the last one.
    pub(crate) fn behind(&self, dts: i64) -> Duration {
        self.last.map_or(Duration::ZERO, |last| self.scale.duration(last.saturating_sub(self.ticks(dts))))
    }

    /// How far a unit at `dts` would lie ahead of the last one.
    pub(crate) fn ahead(&self, dts: i64) -> Duration {
        self.last.map_or(Duration::ZERO, |last| self.scale.duration(self.ticks(dts).saturating_sub(last)))
    }

    /// Places the next unit, of so many samples if they are counted: always after the last one.
    pub(crate) fn place(&mut self, dts: i64, samples: u32) -> (u64, Placed) {
        let (stamped, samples) = (self.ticks(dts), u64::from(samples));
        let (ticks, placed) = match (self.last, &mut self.counting) {
            (None, counting) => {
                if let Some(counting) = counting {
                    (counting.anchor, counting.samples) = (stamped, samples);
                }
                (stamped, Placed::Exact)
            }
            (Some(last), None) if stamped > last => (stamped, Placed::Exact),
            (Some(last), None) => (last + 1, Placed::Nudged(last + 1 - stamped)),
            (Some(last), Some(counting)) => {
                let ticks = u128::from(counting.samples) * u128::from(self.scale.hz()) / u128::from(counting.rate);
                let counted = counting.anchor.saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX));
                let drift = i64::try_from(i128::from(stamped) - i128::from(counted)).unwrap_or(i64::MAX);
                if self.scale.duration(drift.unsigned_abs()) <= AUDIO_DRIFT_MAX && counted > last {
                    counting.samples += samples;
                    (counted, Placed::Exact)
                } else {
                    let ticks = stamped.max(last + 1);
                    (counting.anchor, counting.samples) = (ticks, samples);
                    (ticks, Placed::Reanchored(drift))
                }
            }
        };
        self.last = Some(ticks);
        (ticks, placed)
    }
}

/// Where media time stands on the wallclock: PROGRAM-DATE-TIME = availabilityStartTime + media time + shift.
///
/// A picture was taken before it arrived, and its time is its presentation time: the anchor is the earliest that no
/// picture contradicts. B-frames' references arrive first and tell it; by decode times it would be late by what the
/// encoder reorders.
#[derive(Clone, Debug)]
pub(crate) struct Anchor {
    start: UnixTime,
    /// In microseconds.
    shift: i64,
    /// The smallest delay of any unit of the segment under way, in microseconds.
    smallest: Option<i64>,
    /// The same of the segments before.
    window: VecDeque<i64>,
}

impl Anchor {
    pub(crate) fn new(start: UnixTime) -> Self {
        Anchor { start, shift: 0, smallest: None, window: VecDeque::new() }
    }

    /// The present shift, in microseconds.
    pub(crate) fn shift(&self) -> i64 {
        self.shift
    }

    /// The wallclock of a media time under `shift`.
    pub(crate) fn wall(&self, media: Duration, shift: i64) -> UnixTime {
        let media = i64::try_from(media.as_micros()).unwrap_or(i64::MAX);
        UnixTime::from_micros(self.start.as_micros().saturating_add_signed(media.saturating_add(shift)))
    }

    /// The media time of a wallclock reading, zero before the start.
    pub(crate) fn media(&self, wall: UnixTime) -> Duration {
        let since = i64::try_from(wall.since(self.start).as_micros()).unwrap_or(i64::MAX);
        Duration::from_micros(u64::try_from(since.saturating_sub(self.shift)).unwrap_or(0))
    }

    /// A unit that is shown at `media` arrived at `wall`.
    pub(crate) fn observe(&mut self, wall: UnixTime, media: Duration) {
        let micros = |n: u128| i128::try_from(n).unwrap_or(i128::MAX);
        let late = i128::from(wall.as_micros()) - i128::from(self.start.as_micros()) - micros(media.as_micros());
        let late = i64::try_from(late).unwrap_or(if late < 0 { i64::MIN / 2 } else { i64::MAX / 2 });
        self.smallest = Some(self.smallest.map_or(late, |least| least.min(late)));
    }

    /// A segment of `duration` ended: moves the shift towards the smallest delay of the last segments,
    /// by at most [`STEP_MAX`] and less than the segment, so that PROGRAM-DATE-TIME always goes forward.
    /// Returns the step in microseconds, mostly 0.
    pub(crate) fn segment_ended(&mut self, duration: Duration) -> i64 {
        if let Some(late) = self.smallest.take() {
            if self.window.len() == ANCHOR_SEGMENTS {
                self.window.pop_front();
            }
            self.window.push_back(late);
        }
        let most = i64::try_from(STEP_MAX.min(duration / 2).as_micros()).unwrap_or(0);
        let Some(&late) = self.window.iter().min().filter(|_| self.window.len() == ANCHOR_SEGMENTS) else { return 0 };
        let off = late - self.shift;
        // Below a step nothing moves: an encoder in step with the wallclock keeps one anchor for good.
        let step = if off.abs() <= STEP_MAX.as_micros() as i64 { 0 } else { off.clamp(-most, most) };
        self.shift += step;
        step
    }

    /// A discontinuity: earlier delays say nothing of what follows.
    pub(crate) fn restart(&mut self) {
        self.window.clear();
        self.smallest = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTMP: InputClock = InputClock { scale: Timescale::MILLIS, wrap_bits: 32 };

    #[test]
    fn timestamps_unwrap_to_the_nearest() {
        let check = |raw: u64, bits: u32, near: Option<i64>, expect: i64| {
            let clock = InputClock { scale: Timescale::MILLIS, wrap_bits: bits };
            assert_eq!(unwrap(raw, clock, near), expect, "{raw} near {near:?}");
            assert_eq!(clock.wrapped(expect), raw & ((1 << bits) - 1), "{expect}");
        };
        check(5, 32, None, 5);
        check(5, 32, Some((1 << 32) - 10), (1 << 32) + 5);
        check((1 << 32) - 10, 32, Some(5), -10);
        check(7, 33, Some(3 << 33), (3 << 33) + 7);
        check(u64::MAX, 32, Some(0), -1);
        check(1, 24, Some((1 << 24) - 1), (1 << 24) + 1);
    }

    #[test]
    fn video_takes_every_timestamp_as_it_is() {
        let mut clock = TrackClock::new(RTMP, Timescale::MPEG, 1_000, Duration::from_secs(1));
        assert_eq!(clock.place(1_000, 0), (90_000, Placed::Exact));
        assert_eq!(clock.place(1_033, 0), (92_970, Placed::Exact));
        assert_eq!(clock.place(1_033, 0), (92_971, Placed::Nudged(1)));
        assert_eq!(clock.place(1_020, 0), (92_972, Placed::Nudged(1_172)));
        assert_eq!(clock.place(1_067, 0), (96_030, Placed::Exact));
    }

    #[test]
    fn audio_counts_samples_over_rounded_timestamps() {
        let scale = Timescale::new(48_000).expect("not zero");
        let mut clock = TrackClock::new(RTMP, scale, 0, Duration::ZERO).counting(48_000);
        for n in 0..10_000u64 {
            let rounded = i64::try_from(n * 1_024 / 48).expect("small");
            assert_eq!(clock.place(rounded, 1_024), (n * 1_024, Placed::Exact));
        }
        let (ticks, placed) = clock.place(10_000 * 1_024 / 48 + 100, 1_024);
        assert!(matches!(placed, Placed::Reanchored(drift) if (4_700..=4_800).contains(&drift)), "{placed:?}");
        assert!(ticks > 10_000 * 1_024 + 4_700);
    }

    #[test]
    fn units_of_several_lengths_are_counted_each_by_its_own() {
        let scale = Timescale::new(48_000).expect("not zero");
        let mut clock = TrackClock::new(RTMP, scale, 0, Duration::ZERO).counting(48_000);
        let mut at = 0;
        for n in 0..1_000u32 {
            let samples = if n % 3 == 0 { 120 } else { 960 };
            assert_eq!(clock.place(i64::try_from(at / 48).expect("small"), samples), (at, Placed::Exact));
            at += u64::from(samples);
        }
    }

    #[test]
    fn the_anchor_follows_drift_in_small_steps_and_not_jitter() {
        let start = UnixTime::from_micros(1_000_000_000);
        let mut anchor = Anchor::new(start);
        let segment = Duration::from_secs(2);
        for n in 0..40u32 {
            // 0.4 s of jitter on some units, none on others.
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
}
