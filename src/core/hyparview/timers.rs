//! The deadlines of an overlay.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus as Rng;

use crate::model::time::Time;

/// The purpose of a deadline. Those that are due together are handled in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Ask the bootstrap addresses again.
    Bootstrap,
    /// A request is due for its hedge or has gone without an answer, or a passive peer may be asked again.
    Refill,
    /// Send a SHUFFLE.
    Shuffle,
    /// Exchange a link.
    Rotate,
    /// Look for a nearer neighbour.
    Optimise,
}

/// A table of deadlines, at most one of each purpose.
#[derive(Debug, Clone, Default)]
pub(super) struct Timers(BTreeMap<Timer, Time>);

impl Timers {
    /// Sets the deadline, whatever it was before.
    pub(super) fn set(&mut self, timer: Timer, at: Time) {
        self.0.insert(timer, at);
    }

    pub(super) fn cancel(&mut self, timer: Timer) {
        self.0.remove(&timer);
    }

    /// Arms a timer about this interval ahead, unless it is armed for an earlier time.
    pub(super) fn hasten_about(&mut self, rng: &mut Rng, now: Time, timer: Timer, interval: Duration) {
        let at = now + around(rng, interval);
        self.0.entry(timer).and_modify(|old| *old = at.min(*old)).or_insert(at);
    }

    /// Arms a timer that isn't armed, about this interval ahead.
    pub(super) fn arm(&mut self, rng: &mut Rng, now: Time, timer: Timer, interval: Option<Duration>) {
        if let Some(interval) = interval {
            self.0.entry(timer).or_insert_with(|| now + around(rng, interval));
        }
    }

    /// Returns the earliest deadline.
    pub(super) fn next(&self) -> Option<Time> {
        self.0.values().min().copied()
    }

    /// Takes one deadline that has passed: the first in the order of purposes, not of time.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<Timer> {
        let timer = *self.0.iter().find(|(_, at)| **at <= now)?.0;
        self.cancel(timer);
        Some(timer)
    }
}

/// Returns the interval, give or take a quarter, lest the nodes act in step.
fn around(rng: &mut Rng, interval: Duration) -> Duration {
    interval * rng.random_range(75..=125) / 100
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_deadline_is_moved_hastened_cancelled_and_due_once() {
        let (rng, soon, later) = (&mut Rng::seed_from_u64(1), Time::from_millis(1), Time::from_millis(20));
        let mut timers = Timers::default();
        timers.set(Timer::Shuffle, soon);
        timers.set(Timer::Shuffle, later);
        assert_eq!(timers.next(), Some(later), "the last word counts");
        timers.hasten_about(rng, later, Timer::Shuffle, Duration::from_secs(1));
        assert_eq!(timers.next(), Some(later), "it isn't put off");
        timers.hasten_about(rng, Time::ZERO, Timer::Shuffle, Duration::from_millis(4));
        assert!(timers.next().is_some_and(|at| (3..=5).contains(&at.since(Time::ZERO).as_millis())));
        timers.set(Timer::Refill, later);
        timers.set(Timer::Rotate, soon);
        timers.cancel(Timer::Rotate);
        assert_eq!(timers.pop_due(Time::ZERO), None);
        assert_eq!(
            timers.pop_due(later),
            Some(Timer::Refill),
            "the order of purposes, though the other was due before"
        );
        assert_eq!(timers.pop_due(later), Some(Timer::Shuffle));
        assert_eq!((timers.pop_due(later), timers.next()), (None, None));
    }

    #[test]
    fn timers_are_armed_once_and_not_in_step() {
        let (rng, interval) = (&mut Rng::seed_from_u64(1), Duration::from_secs(100));
        let mut at = Vec::new();
        for _ in 0..50 {
            let mut timers = Timers::default();
            timers.arm(rng, Time::ZERO, Timer::Optimise, None);
            assert_eq!(timers.next(), None);
            timers.arm(rng, Time::ZERO, Timer::Optimise, Some(interval));
            let first = timers.next();
            timers.arm(rng, Time::from_millis(1), Timer::Optimise, Some(interval));
            assert_eq!(timers.next(), first);
            at.extend(first.map(|at| at.since(Time::ZERO).as_secs()));
        }
        at.sort_unstable();
        assert!(at[0] >= 75 && at[49] <= 125 && at[49] - at[0] > 30, "{at:?}");
    }
}
