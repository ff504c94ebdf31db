//! A table of named deadlines. Arming and cancelling are assignments.

use std::marker::PhantomData;

use crate::model::time::Time;

/// One deadline for each of the `N` variants of `T`, which count up from 0.
#[derive(Debug, Clone)]
pub(super) struct Deadlines<T, const N: usize>([Option<Time>; N], PhantomData<T>);

impl<T, const N: usize> Default for Deadlines<T, N> {
    fn default() -> Self {
        Deadlines([None; N], PhantomData)
    }
}

impl<T: Into<usize>, const N: usize> Deadlines<T, N> {
    /// Sets the deadline, or takes it away.
    pub(super) fn set(&mut self, timer: T, at: Option<Time>) {
        self.0[timer.into()] = at;
    }

    /// Sets the deadline, unless an earlier one stands.
    pub(super) fn hasten(&mut self, timer: T, at: Time) {
        let deadline = &mut self.0[timer.into()];
        *deadline = Some(deadline.map_or(at, |old| old.min(at)));
    }

    /// Takes the deadline away if it has passed, and returns whether it had.
    pub(super) fn expired(&mut self, timer: T, now: Time) -> bool {
        self.0[timer.into()].take_if(|at| *at <= now).is_some()
    }

    /// Returns the earliest deadline.
    pub(super) fn next(&self) -> Option<Time> {
        self.0.iter().flatten().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_hastened_never_put_off_and_expires_once() {
        let mut deadlines = Deadlines::<usize, 2>::default();
        assert_eq!(deadlines.next(), None);
        deadlines.hasten(0, Time::from_millis(20));
        deadlines.hasten(0, Time::from_millis(30));
        deadlines.hasten(1, Time::from_millis(25));
        assert_eq!(deadlines.next(), Some(Time::from_millis(20)));
        assert!(!deadlines.expired(0, Time::from_millis(19)));
        assert!(deadlines.expired(0, Time::from_millis(20)));
        assert!(!deadlines.expired(0, Time::from_millis(20)));
        deadlines.set(1, None);
        assert_eq!(deadlines.next(), None);
    }
}
