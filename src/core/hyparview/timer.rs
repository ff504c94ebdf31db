//! The named deadlines of an overlay. Arming again or cancelling is an assignment.

use crate::model::time::Time;

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

impl Timer {
    const ALL: [Timer; 7] =
        [Timer::Bootstrap, Timer::Refill, Timer::Seek, Timer::Shuffle, Timer::Rotate, Timer::Audit, Timer::Optimise];
}

/// One deadline each.
#[derive(Debug, Clone, Default)]
pub(super) struct Timers([Option<Time>; Timer::ALL.len()]);

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Option<Time>) {
        self.0[timer as usize] = at;
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.0[timer as usize].is_some()
    }

    /// Arms the timer, unless it is armed for an earlier time.
    pub(super) fn hasten(&mut self, timer: Timer, at: Time) {
        let slot = &mut self.0[timer as usize];
        *slot = Some(slot.map_or(at, |old| old.min(at)));
    }

    pub(super) fn next(&self) -> Option<Time> {
        self.0.iter().flatten().min().copied()
    }

    /// Takes one deadline that has passed.
    pub(super) fn expire(&mut self, now: Time) -> Option<Timer> {
        let timer = Timer::ALL.into_iter().find(|t| self.0[*t as usize].is_some_and(|at| at <= now))?;
        self.set(timer, None);
        Some(timer)
    }
}
