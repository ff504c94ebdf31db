//! Decode times of a track from an input's timestamps.
//!
//! Media time is continuous over a presentation, and 0 is its `availabilityStartTime`: a discontinuity
//! begins at the wallclock's distance from it, and never before the end of what was numbered. A
//! segment's `tfdt` therefore says where it belongs in DASH without a presentationTimeOffset of its own.

use std::time::Duration;

use super::unit::PeriodStart;
use crate::model::InputClock;
use crate::model::input_clock::rescale;
use crate::model::time::Timescale;

/// Timestamps that go back by no more than this are moved forward; more is a jump. A guess: several frames, and too little to
/// be seen in lip sync.
pub(super) const BACKWARD_MAX: Duration = Duration::from_millis(200);
/// The distance that a timestamp may run ahead of the last one, whatever the wallclock says.
const FORWARD_MAX: Duration = Duration::from_secs(1);
/// The same if as much time has passed on the wallclock: then frames were lost, and no clock jumped.
pub(super) const HOLE_MAX: Duration = Duration::from_secs(10);
/// Tracks whose first timestamps lie further apart than this run on clocks of their own, and are aligned by their arrival.
pub(super) const TRACKS_APART_MAX: Duration = Duration::from_secs(2);
/// The largest drift between counted samples and timestamps. RTMP's milliseconds round by 0.5 ms and encoders
/// add a few; 45 ms is what ITU-R BT.1359 calls detectable.
pub(super) const AUDIO_DRIFT_MAX: Duration = Duration::from_millis(45);
/// Sound is missing where its timestamps run ahead of its samples by this much at once: two units of AAC at 48 kHz, and more
/// than encoders' timestamps jitter. A guess.
const AUDIO_HOLE_MIN: Duration = Duration::from_millis(40);
/// The origin of a unit's decode time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Placed {
    /// The timestamp (or the sample count, within [`AUDIO_DRIFT_MAX`]).
    Exact,
    /// The timestamp didn't go forward: this many ticks were added.
    Nudged(u64),
    /// The sample count had drifted from the timestamps by this many ticks, and starts again from them.
    Reanchored(i64),
}

/// The verdict on whether a unit continues its track.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum UnitTiming {
    InStep,
    /// The timestamp lies too far behind or ahead of the last one.
    Jump {
        behind: Duration,
        ahead: Duration,
    },
    /// The track isn't timed in this period.
    Unknown,
}

/// Turns one track's input timestamps into decode times, for a period.
#[derive(Clone, Debug)]
pub(super) struct TrackClock {
    input: InputClock,
    scale: Timescale,
    /// The ticks that are added to a rescaled timestamp.
    offset: i64,
    /// Audio counts samples; video takes every timestamp as it is, and never derives one.
    counting: Option<Counting>,
    last: Option<u64>,
    /// The last unit is silence that was filled in: where the last one before was.
    silent: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Counting {
    rate: u32,
    anchor: u64,
    /// Samples of the units since then, at `rate`.
    samples: u64,
    /// How far the last unit's timestamp was ahead of its count, in ticks.
    drift: i64,
}

impl Counting {
    /// Returns where the counted units end.
    fn end(&self, scale: Timescale) -> u64 {
        let ticks = u128::from(self.samples) * u128::from(scale.hz()) / u128::from(self.rate);
        self.anchor.saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX))
    }
}

impl TrackClock {
    /// Maps the period's base to its start. Samples of `rate` are counted instead of taking each timestamp, unless it is 0.
    pub(super) fn new(period: &PeriodStart, scale: Timescale, rate: u32) -> Self {
        let PeriodStart { clock: input, base, start } = *period;
        let start = i64::try_from(scale.ticks(start)).unwrap_or(i64::MAX / 2);
        let offset = start.saturating_sub(rescale(base, input.scale, scale));
        let counting = (rate > 0).then_some(Counting { rate, anchor: 0, samples: 0, drift: 0 });
        TrackClock { input, scale, offset, counting, last: None, silent: None }
    }

    /// Returns the decode time that a timestamp stands for, counting and order apart.
    pub(super) fn ticks(&self, dts: i64) -> u64 {
        u64::try_from(rescale(dts, self.input.scale, self.scale).saturating_add(self.offset)).unwrap_or(0)
    }

    /// Returns whether a unit at `dts` goes on with the track. `newest` is how far the period has come, `due` the media time of
    /// the wallclock at which the unit came.
    pub(super) fn timing(&self, dts: i64, newest: Duration, due: Duration) -> UnitTiming {
        let ticks = self.ticks(dts);
        let (media, apart) =
            (self.scale.duration(ticks), |from: u64, to: u64| self.scale.duration(to.saturating_sub(from)));
        // The track's first unit of the period lies beside the others', or has a clock of its own.
        let last = self.last.unwrap_or(ticks);
        let (behind, ahead) = (apart(ticks, self.silent.unwrap_or(last)), apart(last, ticks));
        let jumps = match self.last {
            None => media.abs_diff(newest) > TRACKS_APART_MAX,
            Some(_) => {
                let early = media > due + FORWARD_MAX;
                behind > BACKWARD_MAX || (ahead > FORWARD_MAX && early) || ahead > HOLE_MAX
            }
        };
        if jumps { UnitTiming::Jump { behind, ahead } } else { UnitTiming::InStep }
    }

    /// Places the next unit, always after the last one. `samples` is its number of samples, if they are counted.
    pub(super) fn place(&mut self, dts: i64, samples: u32) -> (u64, Placed) {
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
                let counted = counting.end(self.scale);
                let drift = i64::try_from(i128::from(stamped) - i128::from(counted)).unwrap_or(i64::MAX);
                if self.scale.duration(drift.unsigned_abs()) <= AUDIO_DRIFT_MAX && counted > last {
                    counting.samples += samples;
                    counting.drift = drift;
                    (counted, Placed::Exact)
                } else {
                    let ticks = stamped.max(last + 1);
                    (counting.anchor, counting.samples, counting.drift) = (ticks, samples, 0);
                    (ticks, Placed::Reanchored(drift))
                }
            }
        };
        (self.last, self.silent) = (Some(ticks), None);
        (ticks, placed)
    }

    /// Returns by how many units of `samples` the track has to be silent before a unit at `dts`; a negative number if silence
    /// has taken its place already.
    pub(super) fn missing(&self, dts: i64, samples: u32) -> i64 {
        let Some((counting, _)) = self.counting.as_ref().zip(self.last) else { return 0 };
        let off = |a: u64, b: u64| i64::try_from(i128::from(a) - i128::from(b)).unwrap_or(0);
        let drift = off(self.ticks(dts), counting.end(self.scale));
        let unit = off(self.scale.ticks(Duration::from_secs(samples.into())) / u64::from(counting.rate), 0).max(1);
        let longer = |ticks: i64, than: Duration| self.scale.duration(u64::try_from(ticks).unwrap_or(0)) > than;
        let hole = longer(drift, AUDIO_DRIFT_MAX) || longer(drift.saturating_sub(counting.drift), AUDIO_HOLE_MIN);
        if self.silent.is_none() && !hole {
            return 0;
        }
        (drift + unit / 2).div_euclid(unit)
    }

    /// Places a unit of silence behind the last one, or at `begin` if none has come.
    pub(super) fn silence(&mut self, samples: u32, begin: u64) -> Option<u64> {
        let counting = self.counting.as_mut()?;
        if self.last.is_none() {
            (counting.anchor, counting.samples) = (begin, 0);
        }
        let at = counting.end(self.scale);
        counting.samples += u64::from(samples);
        self.silent = self.silent.or(self.last).or(Some(begin));
        self.last = Some(at);
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTMP: InputClock = InputClock { scale: Timescale::MILLIS, wrap_bits: 32 };

    fn period(base: i64, start: Duration) -> PeriodStart {
        PeriodStart { clock: RTMP, base, start }
    }

    #[test]
    fn video_takes_every_timestamp_as_it_is() {
        let mut clock = TrackClock::new(&period(1_000, Duration::from_secs(1)), Timescale::MPEG, 0);
        assert_eq!(clock.place(1_000, 0), (90_000, Placed::Exact));
        assert_eq!(clock.place(1_033, 0), (92_970, Placed::Exact));
        assert_eq!(clock.place(1_033, 0), (92_971, Placed::Nudged(1)));
        assert_eq!(clock.place(1_020, 0), (92_972, Placed::Nudged(1_172)));
        assert_eq!(clock.place(1_067, 0), (96_030, Placed::Exact));
    }

    #[test]
    fn audio_counts_samples_over_rounded_timestamps() {
        let scale = Timescale::new(48_000).expect("not zero");
        let mut clock = TrackClock::new(&period(0, Duration::ZERO), scale, 48_000);
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
        let mut clock = TrackClock::new(&period(0, Duration::ZERO), scale, 48_000);
        let mut at = 0;
        for n in 0..1_000u32 {
            let samples = if n % 3 == 0 { 120 } else { 960 };
            assert_eq!(clock.place(i64::try_from(at / 48).expect("small"), samples), (at, Placed::Exact));
            at += u64::from(samples);
        }
    }
}
