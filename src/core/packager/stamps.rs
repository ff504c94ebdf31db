//! Lone timestamps that are off: they are put between their neighbours, and are no jump.
//!
//! A unit whose timestamp runs further from the one before than the time in which it came is held until the next unit of its
//! track: if that goes on with the units before, the held one's timestamp was wrong; if it goes on with the held one,
//! the clock has moved. All other units pass at once.

use std::collections::BTreeMap;
use std::time::Duration;

use super::diagnostic::Diagnostic;
use super::unit::InputUnit;
use crate::model::time::{Time, Timescale};
use crate::model::{InputTrack, PushId};

/// Timestamps may run ahead of arrival, or go back, by this or by two steps: what encoders jitter. A guess.
const JITTER_MAX: Duration = Duration::from_millis(50);
/// A unit isn't held for longer, whether the next one has come or not.
const HOLD_MAX: Duration = Duration::from_millis(500);
/// The usual step follows each step by this share.
const STEP_SHARE: i64 = 8;

/// Watches the timestamps of all tracks.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    tracks: BTreeMap<InputTrack, TrackStamps>,
}

#[derive(Debug, Default)]
struct TrackStamps {
    /// The timestamp of the newest unit that has passed, and when that came.
    last: Option<(i64, Time)>,
    /// The usual step between two units, in ticks.
    step: i64,
    held: Option<InputUnit>,
}

impl TrackStamps {
    /// Returns whether a timestamp may be wrong.
    fn is_suspicious(&self, unit: &InputUnit, scale: Timescale) -> bool {
        let Some((last, came)) = self.last else { return false };
        let ticks = |duration: Duration| i64::try_from(scale.ticks(duration)).unwrap_or(i64::MAX / 2);
        let slack = ticks(JITTER_MAX).max(self.step.saturating_mul(2));
        let step = unit.dts.saturating_sub(last);
        step < -slack || step > ticks(unit.now.since(came) * 5 / 4).saturating_add(slack)
    }

    fn pass(&mut self, unit: &InputUnit) {
        if let Some((last, _)) = self.last {
            let step = unit.dts.saturating_sub(last);
            if self.step == 0 {
                self.step = step.max(0);
            } else if (0..self.step.saturating_mul(4)).contains(&step) {
                self.step += (step - self.step) / STEP_SHARE;
            }
        }
        self.last = Some((unit.dts, unit.now));
    }

    /// Decides about the held unit by the one that follows it. Returns it, and by how many ticks it was moved.
    fn decide(&mut self, next: &InputUnit) -> Option<(InputUnit, u64)> {
        let (mut held, (last, _)) = (self.held.take()?, self.last?);
        let off = |from: i64, steps: i64| next.dts.abs_diff(from.saturating_add(self.step.saturating_mul(steps)));
        let mut by = 0;
        if off(last, 2) <= off(held.dts, 1) {
            let between = last.saturating_add((next.dts.saturating_sub(last) / 2).max(1));
            by = held.dts.abs_diff(between);
            held.dts = between;
        }
        self.pass(&held);
        Some((held, by))
    }
}

impl Stamps {
    /// Takes a unit. Returns those that pass, in order, and what was repaired.
    pub(super) fn take(&mut self, unit: InputUnit, scale: Timescale) -> (Vec<InputUnit>, Option<Diagnostic>) {
        let track = self.tracks.entry(unit.track).or_default();
        let (mut passed, mut notice) = (Vec::new(), None);
        if let Some((held, by)) = track.decide(&unit) {
            notice = (by > 0).then(|| Diagnostic::Outlier { track: held.track, by: scale.duration(by) });
            passed.push(held);
        }
        if track.is_suspicious(&unit, scale) {
            track.held = Some(unit);
        } else {
            track.pass(&unit);
            passed.push(unit);
        }
        (passed, notice)
    }

    /// Returns when the next unit is held for too long.
    pub(super) fn due(&self) -> Option<Time> {
        self.tracks.values().filter_map(|track| track.held.as_ref()).map(|unit| unit.now + HOLD_MAX).min()
    }

    /// Returns the units that were held for too long, as they came.
    pub(super) fn overdue(&mut self, now: Time) -> Vec<InputUnit> {
        let overdue = |track: &mut TrackStamps| {
            let unit = track.held.take_if(|unit| unit.now + HOLD_MAX <= now)?;
            track.pass(&unit);
            Some(unit)
        };
        self.tracks.values_mut().filter_map(overdue).collect()
    }

    /// Forgets the tracks of a push. Returns the units that were held: the last of all can't tell that the clock has moved.
    pub(super) fn forget(&mut self, push: PushId) -> Vec<InputUnit> {
        let forgotten = self.tracks.extract_if(.., |track, _| track.push() == push);
        let placed = |unit: InputUnit, last: i64, step: i64| InputUnit { dts: last.saturating_add(step), ..unit };
        let held =
            |track: TrackStamps| track.held.zip(track.last).map(|(unit, (last, _))| placed(unit, last, track.step));
        forgotten.filter_map(|(_, track)| held(track)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packager::publishers::tests::track_unit;

    const TRACK: InputTrack = InputTrack(0);

    /// Sends frames of 40 ms that come in time, with these timestamps; returns those that pass, and what was repaired.
    fn passed(stamps: &[i64]) -> (Vec<i64>, usize) {
        let (mut all, mut notices, mut track) = (Vec::new(), 0, Stamps::default());
        for (n, &dts) in (0..).zip(stamps) {
            let unit = InputUnit { now: Time::from_millis(n * 40), ..track_unit(TRACK, dts, n == 0) };
            let (units, notice) = track.take(unit, Timescale::MILLIS);
            all.extend(units.iter().map(|unit| unit.dts));
            notices += usize::from(notice.is_some());
        }
        (all, notices)
    }

    #[test]
    fn a_lone_timestamp_is_put_between_its_neighbours() {
        for off in [300, 36_000_000, -300, -36_000_000] {
            assert_eq!(passed(&[0, 40, 80, 120 + off, 160, 200]), (vec![0, 40, 80, 120, 160, 200], 1), "{off}");
        }
        // Each other one.
        assert_eq!(passed(&[0, 40, 9_080, 120, 9_160, 200]), (vec![0, 40, 80, 120, 160, 200], 2));
    }

    #[test]
    fn a_clock_that_moves_is_left_alone() {
        assert_eq!(passed(&[0, 40, 5_080, 5_120, 5_160]), (vec![0, 40, 5_080, 5_120, 5_160], 0));
        assert_eq!(passed(&[5_000, 5_040, 80, 120, 160]), (vec![5_000, 5_040, 80, 120, 160], 0));
        assert_eq!(passed(&[0, 40, 83, 110, 110, 165, 200]), (vec![0, 40, 83, 110, 110, 165, 200], 0), "jitter");
    }

    #[test]
    fn a_unit_is_not_held_for_long() {
        let mut stamps = Stamps::default();
        stamps.take(track_unit(TRACK, 0, true), Timescale::MILLIS);
        let held = InputUnit { now: Time::from_millis(40), ..track_unit(TRACK, 9_000, false) };
        assert!(stamps.take(held, Timescale::MILLIS).0.is_empty());
        assert_eq!((stamps.due(), stamps.overdue(Time::from_millis(539)).len()), (Some(Time::from_millis(540)), 0));
        assert_eq!(stamps.overdue(Time::from_millis(540))[0].dts, 9_000);
        assert!(stamps.due().is_none() && stamps.forget(PushId(0)).is_empty());
    }
}
