//! The named deadlines of a [`Plumtree`](super::plumtree::Plumtree). Arming and cancelling are assignments.

use crate::model::time::Time;

/// What can be due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// Batched announcements leave.
    Announce = 0,
    /// A missing body is grafted, or a GRAFT is given up.
    Graft = 1,
    /// A body under way is looked at: does it move?
    Stall = 2,
    /// The neighbours get a digest.
    Digest = 3,
}

impl Timer {
    pub(super) const ALL: [Timer; 4] = [Timer::Announce, Timer::Graft, Timer::Stall, Timer::Digest];
}

/// One deadline a [`Timer`].
#[derive(Debug, Clone, Default)]
pub(super) struct Timers([Option<Time>; 4]);

impl Timers {
    /// Sets the deadline, unless an earlier one stands.
    pub(super) fn arm(&mut self, timer: Timer, at: Time) {
        let slot = &mut self.0[timer as usize];
        *slot = Some(slot.map_or(at, |old| old.min(at)));
    }

    /// Takes the deadline away.
    pub(super) fn cancel(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    /// Takes the deadline away if it has passed.
    pub(super) fn expired(&mut self, timer: Timer, now: Time) -> bool {
        let slot = &mut self.0[timer as usize];
        let due = slot.is_some_and(|at| at <= now);
        if due {
            *slot = None;
        }
        due
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Time> {
        self.0.iter().flatten().min().copied()
    }
}
