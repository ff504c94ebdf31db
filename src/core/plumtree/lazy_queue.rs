//! The paper's lazyQueues, as one: bodies that some neighbours are to be told of.

use std::collections::VecDeque;

use super::key::Key;

/// Most bodies whose announcement waits; the oldest are left to the digests.
pub const ANNOUNCE_MAX: usize = 1_024;

/// The bodies whose announcement waits, oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct LazyQueue(VecDeque<Key>);

impl LazyQueue {
    /// Appends a body. Returns whether the queue was full and the oldest one went.
    pub(super) fn push(&mut self, key: Key) -> bool {
        self.0.push_back(key);
        self.0.len() > ANNOUNCE_MAX && self.0.pop_front().is_some()
    }

    /// Takes everything out.
    pub(super) fn take(&mut self) -> VecDeque<Key> {
        std::mem::take(&mut self.0)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Msn, TrackId};

    #[test]
    fn a_full_queue_lets_go_of_the_oldest() {
        let mut queue = LazyQueue::default();
        let full: Vec<bool> = (0..ANNOUNCE_MAX + 2).map(|n| queue.push(Key::start_of(TrackId(0), n as Msn))).collect();
        assert_eq!(full.iter().filter(|full| **full).count(), 2);
        assert_eq!(queue.len(), ANNOUNCE_MAX);
        assert_eq!(queue.take().front().map(|key| key.msn), Some(2));
        assert_eq!(queue.len(), 0);
    }
}
