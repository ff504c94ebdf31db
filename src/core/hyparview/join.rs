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

/// What becomes of a FORWARDJOIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Walk {
    /// It ends: the new node is to be a neighbour.
    Place,
    /// It goes on with this TTL; where `remember`, the new node is to be in the passive view.
    Forward { ttl: u8, remember: bool },
}

impl Walk {
    pub(super) fn of(ttl: u8, neighbors: usize, config: &Config) -> Self {
        // "if timeToLive == 0 || #activeView == 1 then addNodeActiveView(newNode)"
        match ttl.min(config.arwl).checked_sub(1) {
            Some(next) if neighbors != 1 => {
                // "if timeToLive == PRWL then addNodePassiveView(newNode)"
                Walk::Forward { ttl: next, remember: next + 1 == config.prwl }
            }
            _ => Walk::Place,
        }
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

    #[test]
    fn a_new_node_is_remembered_halfway_and_placed_at_the_end() {
        let config = Config::default();
        let walk = |ttl| Walk::of(ttl, 5, &config);
        assert_eq!(walk(u8::MAX), Walk::Forward { ttl: 5, remember: false }, "nobody makes it walk longer");
        assert_eq!(walk(3), Walk::Forward { ttl: 2, remember: true });
        assert_eq!(walk(1), Walk::Forward { ttl: 0, remember: false });
        assert_eq!(walk(0), Walk::Place);
        assert_eq!(Walk::of(6, 1, &config), Walk::Place, "there is no other way than back");
    }
}
