//! Joining: JOIN and FORWARDJOIN (paper, 4.2).

use std::time::Duration;

use super::config::Config;

/// The bootstrap addresses are asked again after this, doubling up to [`AGAIN_MAX`]. Guess.
const AGAIN_FIRST: Duration = Duration::from_millis(500);

/// A cluster whose seeds were away is one again within this time.
const AGAIN_MAX: Duration = Duration::from_secs(10);

/// Owns whether a contact is needed, and when the bootstrap addresses are asked for one again.
#[derive(Debug, Clone)]
pub(super) struct Bootstrap {
    every: Duration,
    /// A contact has answered our JOIN, or is our neighbour.
    anchored: bool,
}

impl Bootstrap {
    pub(super) const fn new() -> Self {
        Bootstrap { every: AGAIN_FIRST, anchored: false }
    }

    /// Returns the time until the addresses are asked, if they are to be.
    ///
    /// Departure: until a contact has answered, this may be an island that began with a lost JOIN.
    pub(super) fn due(&mut self, neighbors: usize, config: &Config) -> Option<Duration> {
        if neighbors >= config.active_min && (self.anchored || config.active_min == 0) {
            self.every = AGAIN_FIRST;
            return None;
        }
        Some(self.every)
    }

    /// Notes that they were asked: the time to the next question doubles.
    pub(super) fn asked(&mut self) {
        self.every = (self.every * 2).min(AGAIN_MAX);
    }

    /// Notes that a contact has answered.
    pub(super) fn anchor(&mut self) {
        self.anchored = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bootstrap_addresses_are_asked_until_a_contact_answers_and_neighbours_are_enough() {
        let config = Config::default();
        let mut bootstrap = Bootstrap::new();
        assert_eq!(bootstrap.due(5, &config), Some(AGAIN_FIRST), "it may be an island");
        (0..2).for_each(|_| bootstrap.asked());
        assert_eq!(bootstrap.due(0, &config), Some(AGAIN_FIRST * 4));
        (0..20).for_each(|_| bootstrap.asked());
        assert_eq!(bootstrap.due(0, &config), Some(AGAIN_MAX));
        bootstrap.anchor();
        assert_eq!(bootstrap.due(2, &config), Some(AGAIN_MAX));
        assert_eq!(bootstrap.due(3, &config), None);
        assert_eq!(bootstrap.due(2, &config), Some(AGAIN_FIRST), "it starts anew");
        assert_eq!(Bootstrap::new().due(0, &Config::paper()), None, "the paper asks at the start alone");
    }
}
