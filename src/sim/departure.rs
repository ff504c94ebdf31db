//! The departures from the papers by name, each with the switch back to the paper's rule.

use std::time::Duration;

use damson_core::plumtree::Optimise;
use damson_core::{hyparview as overlay, plumtree as broadcast};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// A rule of ours that isn't the papers'. Its purpose is documented at its settings, in HyParView's
/// [`Config`](overlay::Config) and Plumtree's [`Config`](broadcast::Config).
#[derive(Debug, Clone, Copy)]
pub struct Departure {
    name: &'static str,
    paper: Paper,
}

/// Puts the paper's rule in the place of ours.
#[derive(Debug, Clone, Copy)]
enum Paper {
    Overlay(fn(&mut overlay::Config)),
    Broadcast(fn(&mut broadcast::Config)),
}

impl Departure {
    /// All departures: those of the overlay, then those of the broadcast.
    pub const ALL: [Departure; 21] = [
        // A young node shuffles after a second, then ever more rarely.
        Departure::overlay("young-shuffle", |config| config.shuffle_first = config.shuffle_interval),
        // Several passive peers are asked at once, and a dial into nothing holds up no other.
        Departure::overlay("parallel-refill", |config| {
            (config.refill_width, config.refill_width_max) = (1, 1);
            (config.refill_hedge, config.contacts_max) = (None, 0);
        }),
        // A node that was dropped, and has enough neighbours, waits before it asks around.
        Departure::overlay("calm-refill", |config| config.refill_calm = Duration::ZERO),
        // A passive peer survives some failed dials.
        Departure::overlay("patience", |config| config.fails_max = 0),
        // With too few neighbours the bootstrap addresses are asked again.
        Departure::overlay("rebootstrap", |config| config.active_min = 0),
        // A link is exchanged now and then, and when a failed peer may be back.
        Departure::overlay("rotation", |config| config.rotate_interval = None),
        // In a storm JOINs evict neighbours only at a pace, and are referred to others.
        Departure::overlay("admission", |config| config.admit_interval = None),
        // Links that the tree runs over are the last to be exchanged.
        Departure::overlay("tree-links", |config| config.spare_tree_links = false),
        // After X-BOT: some links are exchanged for nearer ones.
        Departure::overlay("nearness", |config| config.optimise_interval = None),
        // New links start lazy, and what is missing is grafted at once.
        Departure::broadcast("lazy-start", |config| config.lazy_start = false),
        // A node that grafts a live part announces it at once.
        Departure::broadcast("promise", |config| config.promise = false),
        // All that is held is announced to a new neighbour.
        Departure::broadcast("window-offer", |config| config.offer_window = false),
        // A GRAFT that can't be served is answered.
        Departure::broadcast("not-here", |config| config.not_here = false),
        // A second copy is refused at its header.
        Departure::broadcast("early-refusal", |config| config.refuse_duplicates = false),
        // Bodies are forwarded piece by piece.
        Departure::broadcast("cut-through", |config| config.cut_through = false),
        // A node that begins to receive a large body tells the others.
        Departure::broadcast("receiving", |config| config.receiving_above = u32::MAX),
        // A torn transfer goes on at its offset.
        Departure::broadcast("resume", |config| config.resume = false),
        // Graft timers know size, rate and progress.
        Departure::broadcast("size-aware-timers", |config| config.size_aware_timers = false),
        // The tree is optimised on measured time rather than hops.
        Departure::broadcast("time-rule", |config| config.optimise = Optimise::Hops { threshold: 3 }),
        // Eager children are capped by the upload.
        Departure::broadcast("upload-budget", |config| config.upload = None),
        // Neighbours compare what they hold.
        Departure::broadcast("digests", |config| config.digest_interval = None),
    ];

    const fn overlay(name: &'static str, paper: fn(&mut overlay::Config)) -> Self {
        Departure { name, paper: Paper::Overlay(paper) }
    }

    const fn broadcast(name: &'static str, paper: fn(&mut broadcast::Config)) -> Self {
        Departure { name, paper: Paper::Broadcast(paper) }
    }

    /// Returns the name in a scenario and on a command line.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Returns the departure of this name.
    pub fn parse(name: &str) -> Option<Departure> {
        Departure::ALL.into_iter().find(|departure| departure.name == name)
    }

    /// Puts the paper's rule in its place.
    pub fn switch_back(self, overlay: &mut overlay::Config, broadcast: &mut broadcast::Config) {
        match self.paper {
            Paper::Overlay(paper) => paper(overlay),
            Paper::Broadcast(paper) => paper(broadcast),
        }
    }
}

impl<'de> Deserialize<'de> for Departure {
    fn deserialize<D: Deserializer<'de>>(name: D) -> Result<Self, D::Error> {
        let name = String::deserialize(name)?;
        Departure::parse(&name).ok_or_else(|| D::Error::custom(format!("there is no departure {name:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_switch_changes_something_and_all_together_are_the_papers_rules() {
        let ours = || {
            let broadcast = broadcast::Config { upload: Some(1), ..broadcast::Config::default() };
            (overlay::Config::default(), broadcast)
        };
        let (mut overlay, mut broadcast) = ours();
        for departure in Departure::ALL {
            let (mut one, mut other) = ours();
            departure.switch_back(&mut one, &mut other);
            assert_ne!((one, other), ours(), "{}", departure.name());
            departure.switch_back(&mut overlay, &mut broadcast);
        }
        assert_eq!(overlay, overlay::Config::paper());
        // Timeouts and batching are choices that the paper leaves open.
        let paper = broadcast::Config::paper();
        let broadcast::Config { graft_timeout_1, graft_timeout_2, ihave_delay, .. } = paper;
        assert_eq!(broadcast::Config { graft_timeout_1, graft_timeout_2, ihave_delay, ..broadcast }, paper);
    }
}
