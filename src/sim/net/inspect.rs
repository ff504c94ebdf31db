//! What can be seen of a [`Net`], and what is checked of it.

use std::collections::BTreeMap;

use super::settings::Traffic;
use super::{Net, START_US};
use crate::check::Ledger;
use crate::latency::mix;
use crate::node::{Glance, Node, index, peer};

impl<N: Node> Net<N> {
    /// How many nodes there are, dead ones included.
    pub fn len(&self) -> u32 {
        u32::try_from(self.slots.len()).expect("fewer than 2^24 nodes")
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The nodes that live.
    pub fn alive(&self) -> impl Iterator<Item = u32> {
        (0u32..).zip(&self.slots).filter(|(_, slot)| slot.node.is_some()).map(|(at, _)| at)
    }

    /// A node's core.
    pub fn node(&self, at: u32) -> Option<&N> {
        self.slots.get(at as usize)?.node.as_ref()
    }

    /// Who had what.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What went over the links.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Virtual time, in microseconds.
    pub fn now_us(&self) -> u64 {
        self.now
    }

    /// A hash of all that has happened: equal for equal seeds.
    pub fn trace_hash(&self) -> u64 {
        self.trace_hash
    }

    /// How many events there have been.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// A number from the seed, for the scenario's own choices.
    pub fn random(&mut self) -> u64 {
        self.dice = mix(self.dice);
        self.dice
    }

    /// How long a frame takes between two nodes, in microseconds.
    pub fn delay_us(&self, a: u32, b: u32) -> u64 {
        self.delay(a, b)
    }

    /// Panics with the seed and the command that repeats the run.
    pub fn fail(&self, what: &str) -> ! {
        let Net { seed, now, .. } = self;
        panic!(
            "seed {seed}, {:.3} s: {what}\nrepeat: {}",
            (now - START_US) as f64 / 1e6,
            self.settings.repeat.replace("{seed}", &seed.to_string())
        );
    }

    // --- checks ---

    /// Everybody's view of the swarm, by index; `None` for the dead.
    pub fn glances(&self) -> Vec<Option<Glance>> {
        self.slots.iter().map(|slot| slot.node.as_ref().map(Node::glance)).collect()
    }

    /// Fails where [`Net::overlay_faults`] finds something.
    pub fn check_overlay(&mut self) {
        let faults = self.overlay_faults();
        if !faults.is_empty() {
            self.fail(&faults.join("\n"));
        }
    }

    /// Links of the overlay that only one end knows; or whose other end is dead.
    pub fn one_sided(&self) -> Vec<(u32, u32)> {
        let glances = self.glances();
        let mut links = Vec::new();
        for (at, glance) in (0u32..).zip(&glances) {
            let Some(glance) = glance else { continue };
            for other in glance.active.iter().filter_map(|id| index(*id)) {
                let there = glances.get(other as usize).and_then(Option::as_ref);
                if !there.is_some_and(|there| there.active.contains(&peer(at).id)) {
                    links.push((at, other));
                }
            }
        }
        links
    }

    /// The sizes of the overlay's components, largest first. Links count from both ends or either.
    pub fn islands(&self) -> Vec<usize> {
        let glances = self.glances();
        let mut root: Vec<u32> = (0..self.len()).collect();
        fn find(root: &mut [u32], mut at: u32) -> u32 {
            while root[at as usize] != at {
                root[at as usize] = root[root[at as usize] as usize];
                at = root[at as usize];
            }
            at
        }
        for (at, glance) in (0u32..).zip(&glances) {
            for other in glance.iter().flat_map(|glance| &glance.active).filter_map(|id| index(*id)) {
                if glances.get(other as usize).is_some_and(Option::is_some) {
                    let (a, b) = (find(&mut root, at), find(&mut root, other));
                    root[a as usize] = b;
                }
            }
        }
        let mut sizes: BTreeMap<u32, usize> = BTreeMap::new();
        for at in self.alive() {
            *sizes.entry(find(&mut root, at)).or_default() += 1;
        }
        let mut sizes: Vec<usize> = sizes.into_values().collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        sizes
    }

    /// All who live have these parts.
    pub fn check_delivered(&self, parts: impl IntoIterator<Item = usize>) {
        for part in parts {
            let message = &self.ledger.messages()[part];
            if let Some(lacking) = self.alive().find(|node| message.delivered_after(*node).is_none()) {
                self.fail(&format!("node {lacking} lacks part {part}, {:?}", message.header.id));
            }
        }
    }

    /// Fails where [`Net::bound_fault`] finds something.
    pub fn check_bounds(&self) {
        if let Some(fault) = self.bound_fault() {
            self.fail(&fault);
        }
    }
}
