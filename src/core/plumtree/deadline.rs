//! A deadline that may stand or not.

use crate::model::time::Time;

/// When something is due, if it is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Deadline(Option<Time>);

impl Deadline {
    /// Sets the deadline, unless an earlier one stands.
    pub(super) fn hasten(&mut self, at: Time) {
        self.0 = Some(self.0.map_or(at, |old| old.min(at)));
    }

    pub(super) fn cancel(&mut self) {
        self.0 = None;
    }

    /// Takes the deadline away if it has passed, and returns whether it had.
    pub(super) fn expired(&mut self, now: Time) -> bool {
        self.0.take_if(|at| *at <= now).is_some()
    }

    pub(super) fn at(self) -> Option<Time> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_hastened_never_put_off_and_expires_once() {
        let at = Time::from_millis;
        let mut deadline = Deadline::default();
        assert!(!deadline.expired(Time::MAX));
        deadline.hasten(at(20));
        deadline.hasten(at(30));
        assert_eq!(deadline.at(), Some(at(20)));
        assert!(!deadline.expired(at(19)));
        assert!(deadline.expired(at(20)) && !deadline.expired(at(20)));
        deadline.hasten(at(30));
        deadline.cancel();
        assert_eq!(deadline.at(), None);
    }
}
