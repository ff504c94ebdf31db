//! A table of named deadlines, one for each name at most.

use std::collections::BTreeMap;

use crate::model::time::Time;

/// The deadlines of a core, by name.
#[derive(Debug, Clone)]
pub(super) struct Deadlines<T>(BTreeMap<T, Time>);

impl<T: Copy + Ord> Deadlines<T> {
    pub(super) const fn new() -> Self {
        Deadlines(BTreeMap::new())
    }

    /// Sets the deadline, whatever it was before.
    pub(super) fn set(&mut self, name: T, at: Time) {
        self.0.insert(name, at);
    }

    /// Sets the deadline, unless an earlier one stands.
    pub(super) fn hasten(&mut self, name: T, at: Time) {
        self.0.entry(name).and_modify(|old| *old = at.min(*old)).or_insert(at);
    }

    pub(super) fn cancel(&mut self, name: T) {
        self.0.remove(&name);
    }

    pub(super) fn is_set(&self, name: T) -> bool {
        self.0.contains_key(&name)
    }

    /// Returns the earliest deadline.
    pub(super) fn next(&self) -> Option<Time> {
        self.0.values().min().copied()
    }

    /// Takes one deadline that has passed: the first in the order of names, not of time.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<T> {
        let (name, _) = self.0.iter().find(|(_, at)| **at <= now)?;
        let name = *name;
        self.cancel(name);
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_moved_hastened_cancelled_and_due_once() {
        let (soon, later) = (Time::from_millis(1), Time::from_millis(2));
        let mut deadlines = Deadlines::new();
        deadlines.set('b', soon);
        deadlines.set('b', later);
        assert_eq!(deadlines.next(), Some(later), "the last word counts");
        deadlines.hasten('b', soon);
        deadlines.hasten('b', later);
        deadlines.hasten('a', later);
        deadlines.set('c', soon);
        deadlines.cancel('c');
        assert!(!deadlines.is_set('c'));
        assert_eq!((deadlines.next(), deadlines.pop_due(Time::ZERO)), (Some(soon), None));
        assert_eq!(deadlines.pop_due(later), Some('a'), "the order of names, though b was due before");
        assert_eq!(deadlines.pop_due(later), Some('b'));
        assert_eq!((deadlines.pop_due(later), deadlines.next()), (None, None));
    }
}
