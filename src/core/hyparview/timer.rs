//! What the deadlines of an overlay are for.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus as Rng;

use super::deadlines::Deadlines;
use crate::model::time::Time;

/// What a deadline is for. Those that are due together are handled in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Ask the bootstrap addresses again.
    Bootstrap,
    /// A request is due for its hedge or has gone without an answer, or a passive peer may be asked again.
    Refill,
    /// Look for a node with a free slot.
    Seek,
    /// Send a SHUFFLE.
    Shuffle,
    /// Exchange a link.
    Rotate,
    /// Ask a neighbour whether it is one.
    Audit,
    /// Look for a nearer neighbour.
    Optimise,
}

impl Deadlines<Timer> {
    /// Arms a timer about this interval ahead, unless it is armed for an earlier time.
    pub(super) fn hasten_about(&mut self, rng: &mut Rng, now: Time, timer: Timer, interval: Duration) {
        self.hasten(timer, now + around(rng, interval));
    }

    /// Arms a timer that isn't armed, about this interval ahead.
    pub(super) fn arm(&mut self, rng: &mut Rng, now: Time, timer: Timer, interval: Option<Duration>) {
        if let Some(interval) = interval
            && !self.is_set(timer)
        {
            self.set(timer, now + around(rng, interval));
        }
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
    fn timers_are_armed_once_and_not_in_step() {
        let (rng, interval) = (&mut Rng::seed_from_u64(1), Duration::from_secs(100));
        let mut at = Vec::new();
        for _ in 0..50 {
            let mut deadlines = Deadlines::new();
            deadlines.arm(rng, Time::ZERO, Timer::Audit, None);
            assert!(!deadlines.is_set(Timer::Audit));
            deadlines.arm(rng, Time::ZERO, Timer::Audit, Some(interval));
            let first = deadlines.next();
            deadlines.arm(rng, Time::from_millis(1), Timer::Audit, Some(interval));
            assert_eq!(deadlines.next(), first);
            at.extend(first.map(|at| at.since(Time::ZERO).as_secs()));
        }
        at.sort_unstable();
        assert!(at[0] >= 75 && at[49] <= 125 && at[49] - at[0] > 30, "{at:?}");
    }
}
