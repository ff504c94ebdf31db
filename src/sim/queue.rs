//! The events to come, by time.

use std::collections::BTreeMap;

/// Events by time; those of one time in the order in which they were added.
#[derive(Debug, Clone)]
pub(super) struct Queue<E> {
    /// By time in microseconds and number.
    events: BTreeMap<(u64, u64), E>,
    added: u64,
}

impl<E> Queue<E> {
    pub(super) fn new() -> Self {
        Queue { events: BTreeMap::new(), added: 0 }
    }

    /// Adds an event at `at` microseconds.
    pub(super) fn add(&mut self, at: u64, event: E) {
        self.added += 1;
        self.events.insert((at, self.added), event);
    }

    /// Takes the next event, if it is due by `end`.
    pub(super) fn pop(&mut self, end: u64) -> Option<(u64, E)> {
        let next = self.events.first_entry()?;
        let (at, _) = *next.key();
        (at <= end).then(|| (at, next.remove()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_those_of_one_time_in_order() {
        let mut queue = Queue::new();
        for (at, event) in [(20, 'c'), (10, 'a'), (20, 'd'), (10, 'b')] {
            queue.add(at, event);
        }
        assert_eq!(queue.pop(9), None, "what is due later stays");
        assert_eq!((queue.pop(15), queue.pop(15), queue.pop(15)), (Some((10, 'a')), Some((10, 'b')), None));
        queue.add(12, 'e');
        let rest: String = std::iter::from_fn(|| queue.pop(u64::MAX)).map(|(_, event)| event).collect();
        assert_eq!(rest, "ecd");
    }
}
