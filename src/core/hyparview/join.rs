//! Joining: JOIN and FORWARDJOIN (paper, 4.2).

use std::time::Duration;

use super::config::Config;

/// Owns whether a contact is needed, and when the bootstrap addresses are asked for one again.
#[derive(Debug, Clone)]
pub(super) struct Bootstrap {
    every: Duration,
    /// A contact has answered our JOIN, or is our neighbour.
    anchored: bool,
}

impl Bootstrap {
    pub(super) fn new(config: &Config) -> Self {
        Bootstrap { every: config.bootstrap_first, anchored: false }
    }

    /// Returns the time until the addresses are asked, if they are to be.
    ///
    /// Departure: until a contact has answered, this may be an island that began with a lost JOIN.
    pub(super) fn due(&mut self, neighbors: usize, config: &Config) -> Option<Duration> {
        if neighbors >= config.active_min && (self.anchored || config.active_min == 0) {
            self.every = config.bootstrap_first;
            return None;
        }
        Some(self.every)
    }

    /// Notes that they were asked: the time to the next question doubles.
    pub(super) fn asked(&mut self, config: &Config) {
        self.every = (self.every * 2).min(config.bootstrap_max);
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
        let mut bootstrap = Bootstrap::new(&config);
        assert_eq!(bootstrap.due(5, &config), Some(config.bootstrap_first), "it may be an island");
        (0..2).for_each(|_| bootstrap.asked(&config));
        assert_eq!(bootstrap.due(0, &config), Some(config.bootstrap_first * 4));
        (0..20).for_each(|_| bootstrap.asked(&config));
        assert_eq!(bootstrap.due(0, &config), Some(config.bootstrap_max));
        bootstrap.anchor();
        assert_eq!(bootstrap.due(2, &config), Some(config.bootstrap_max));
        assert_eq!(bootstrap.due(3, &config), None);
        assert_eq!(bootstrap.due(2, &config), Some(config.bootstrap_first), "it starts anew");
        assert_eq!(
            Bootstrap::new(&Config::paper()).due(0, &Config::paper()),
            None,
            "the paper asks at the start alone"
        );
    }
}
