//! Views of a [`Net`] from outside, and its checks.

use std::collections::{BTreeMap, BTreeSet};

use super::settings::Traffic;
use super::{Net, START_US};
use crate::check::Ledger;
use crate::latency::mix;
use crate::node::{Glance, Node, index};

impl<N: Node> Net<N> {
    /// Returns the number of nodes, dead ones included.
    pub fn len(&self) -> u32 {
        u32::try_from(self.slots.len()).expect("fewer than 2^24 nodes")
    }

    /// Returns whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Returns the nodes that live.
    pub fn alive(&self) -> impl Iterator<Item = u32> {
        (0u32..).zip(&self.slots).filter(|(_, slot)| slot.node.is_some()).map(|(at, _)| at)
    }

    /// Returns a node's core, if the node lives.
    pub fn node(&self, at: u32) -> Option<&N> {
        self.slots.get(at as usize)?.node.as_ref()
    }

    /// Returns the parts published and delivered.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Returns the traffic over the links so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Returns the virtual time, in microseconds.
    pub fn now_us(&self) -> u64 {
        self.now
    }

    /// Returns a hash of all events so far: equal for equal seeds.
    pub fn trace_hash(&self) -> u64 {
        self.trace_hash
    }

    /// Returns the number of events so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Returns the next random number of the seed, for the scenario's own choices.
    pub fn random(&mut self) -> u64 {
        self.dice = mix(self.dice);
        self.dice
    }

    /// Returns the delay of a frame between two nodes, in microseconds.
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

    /// Returns each node's view of the swarm, by index; `None` for the dead.
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

    /// Returns the links of the overlay, each end's by itself.
    pub(crate) fn overlay_links(&self) -> Vec<(u32, u32)> {
        let of = |(at, glance): (u32, Option<Glance>)| {
            let active = glance.map(|glance| glance.active).unwrap_or_default();
            active.into_iter().filter_map(index).map(move |other| (at, other))
        };
        (0..).zip(self.glances()).flat_map(of).collect()
    }

    /// Returns the links of the overlay that only one end knows, or whose other end is dead.
    pub fn one_sided(&self) -> Vec<(u32, u32)> {
        let links = self.overlay_links();
        let both: BTreeSet<_> = links.iter().copied().collect();
        links.into_iter().filter(|(at, other)| !both.contains(&(*other, *at))).collect()
    }

    /// Returns the sizes of the overlay's components, largest first. A link counts though only one end knows it.
    pub fn islands(&self) -> Vec<usize> {
        self.components(self.overlay_links())
    }

    /// Returns the sizes of the components that these links make of the nodes that live, largest first.
    pub fn components(&self, links: impl IntoIterator<Item = (u32, u32)>) -> Vec<usize> {
        fn find(root: &mut [u32], mut at: u32) -> u32 {
            while root[at as usize] != at {
                root[at as usize] = root[root[at as usize] as usize];
                at = root[at as usize];
            }
            at
        }
        let mut root: Vec<u32> = (0..self.len()).collect();
        for (at, other) in links {
            if self.node(other).is_some() {
                let (a, b) = (find(&mut root, at), find(&mut root, other));
                root[a as usize] = b;
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

    /// Fails where a node that lives lacks one of these parts.
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
