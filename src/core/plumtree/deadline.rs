//! A deadline that may be set or not.

use crate::model::time::Time;

/// A deadline, if one is set.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Deadline(Option<Time>);

impl Deadline {
    /// Sets the deadline, unless an earlier one is set.
    pub(super) fn hasten(&mut self, at: Time) {
        self.0 = Some(self.0.map_or(at, |old| old.min(at)));
    }

    pub(super) fn cancel(&mut self) {
        self.0 = None;
    }

    /// Returns whether the deadline has passed, and clears it then.
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
