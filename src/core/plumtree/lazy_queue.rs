//! The paper's lazyQueues as one: the bodies to announce.

use std::collections::VecDeque;

use super::deadline::Deadline;
use super::key::Key;
use crate::model::time::Time;

/// The most bodies whose announcement waits. The oldest are left to the digests.
pub const ANNOUNCE_MAX: usize = 1_024;

/// The bodies whose announcement waits, oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct LazyQueue {
    keys: VecDeque<Key>,
    due: Deadline,
}

impl LazyQueue {
    /// Appends a body, to announce by `due`. Returns whether the oldest one had to go for it.
    pub(super) fn push(&mut self, key: Key, due: Time) -> bool {
        self.due.hasten(due);
        self.keys.push_back(key);
        self.keys.len() > ANNOUNCE_MAX && self.keys.pop_front().is_some()
    }

    /// Takes all bodies out, once they are due.
    pub(super) fn take_due(&mut self, now: Time) -> VecDeque<Key> {
        if self.due.expired(now) { std::mem::take(&mut self.keys) } else { VecDeque::new() }
    }

    pub(super) fn next_due(&self) -> Option<Time> {
        self.due.at()
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Msn, TrackId};

    #[test]
    fn a_full_queue_lets_go_of_the_oldest_and_goes_when_the_first_is_due() {
        let mut queue = LazyQueue::default();
        let at = Time::from_millis;
        let mut push = |n: usize, due| queue.push(Key::start_of(TrackId(0), n as Msn), at(due));
        assert!(!push(0, 20) && !push(1, 10));
        let full = (2..ANNOUNCE_MAX + 2).filter(|n| push(*n, 30)).count();
        assert_eq!((full, queue.len()), (2, ANNOUNCE_MAX));
        assert!(queue.take_due(at(9)).is_empty());
        assert_eq!(queue.take_due(at(10)).front().map(|key| key.msn), Some(2));
        assert_eq!((queue.len(), queue.next_due()), (0, None));
    }
}
