//! The checkers of every run. Each names the invariant that is broken, and the node.
//!
//! | invariant | checked |
//! |---|---|
//! | each node delivers a part once, byte for byte | at each delivery, by the ledger |
//! | each queue and set is within its bound | [`Net::bound_fault`], now and then |
//! | active views are mutual, no node is isolated, the overlay is connected | [`Net::overlay_faults`], when quiet |
//! | no part of the window is missing, nor waited for | [`Net::window_faults`], when quiet |

use std::collections::BTreeSet;
use std::time::Duration;

use damson_core::plumtree::{ANNOUNCE_MAX, HELD_MAX, MISSING_MAX, NEIGHBOURS_MAX, TRANSFERS_MAX};

use super::Net;
use crate::check::Message;
use crate::node::Node;

/// The number of faults of one kind that are listed. The others are counted.
const TOLD: usize = 3;

impl<N: Node> Net<N> {
    /// Returns the first bound that is broken. The core's own check panics.
    pub fn bound_fault(&self) -> Option<String> {
        self.alive().find_map(|at| {
            let node = self.node(at)?;
            node.check_invariants();
            let glance = node.glance();
            let sizes = glance.sizes?;
            let broken = sizes.held > HELD_MAX
                || sizes.missing > MISSING_MAX
                || sizes.transfers > TRANSFERS_MAX
                || sizes.announcements > ANNOUNCE_MAX
                || glance.active.len() > NEIGHBOURS_MAX;
            broken.then(|| format!("node {at} is out of bounds: {sizes:?}, {} neighbours", glance.active.len()))
        })
    }

    /// Returns the faults of a quiet overlay: active views that aren't mutual, isolated nodes, islands. Runs for two
    /// seconds, since a link that is being made or unmade may look one-sided for a round trip.
    pub fn overlay_faults(&mut self) -> Vec<String> {
        let before: BTreeSet<(u32, u32)> = self.one_sided().into_iter().collect();
        self.run(Duration::from_secs(2));
        let one_sided = self.one_sided().into_iter().filter(|link| before.contains(link));
        let mut faults = told(
            one_sided.map(|(at, other)| format!("node {other} is a neighbour of node {at}, and not the other way")),
        );
        let alone = self.alive().count() == 1;
        let isolated = self.alive().filter(|at| !alone && self.node(*at).is_some_and(|n| n.glance().active.is_empty()));
        faults.extend(told(isolated.map(|at| format!("node {at} has no neighbour"))));
        let islands = self.islands();
        if islands.len() > 1 {
            faults.push(format!("{} islands of sizes {:?}", islands.len(), &islands[..islands.len().min(20)]));
        }
        faults
    }

    /// Returns the faults of a quiet broadcast: parts that `window` takes and a live node lacks or still waits for. A part
    /// that no live node has was lost with its publisher.
    pub fn window_faults(&self, window: impl Fn(&Message) -> bool) -> Vec<String> {
        let alive: Vec<u32> = self.alive().collect();
        let mut lacking = Vec::new();
        for message in self.ledger().messages().iter().filter(|message| window(message)) {
            let (have, lack): (Vec<u32>, Vec<u32>) =
                alive.iter().partition(|node| message.delivered_after(**node).is_some());
            if let (Some(_), Some(node)) = (have.first(), lack.first()) {
                let others = lack.len() - 1;
                lacking.push(format!("node {node} and {others} others lack {:?}", message.header.id));
            }
        }
        let waiting = alive.iter().filter_map(|at| {
            let sizes = self.node(*at)?.glance().sizes?;
            let waits = sizes.missing + sizes.transfers > 0;
            waits.then(|| format!("node {at} still waits for something: {sizes:?}"))
        });
        let mut faults = told(lacking);
        faults.extend(told(waiting));
        faults
    }
}

/// Returns the first few faults, and the number of the others.
fn told(faults: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut faults: Vec<String> = faults.into_iter().collect();
    if faults.len() > TOLD {
        let more = faults.len() - TOLD;
        faults.truncate(TOLD);
        faults.push(format!("... and {more} more like this"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use bytes::Bytes;

    use super::super::settings::Settings;
    use super::*;
    use crate::node::{Glance, stream_name};
    use crate::scenario::part;
    use damson_core::model::time::Time;
    use damson_core::model::{Epoch, Hop, NodeId, NodeName, Trace};
    use damson_core::plumtree::Sizes;
    use damson_core::swarm::{Input, Output};

    /// A node that shows what it is told to, and does no more.
    struct Puppet {
        glance: Glance,
        outputs: VecDeque<Output<()>>,
    }

    impl Node for Puppet {
        type Frame = ();

        fn handle(&mut self, _now: Time, _input: Input<()>) {}

        fn poll_output(&mut self) -> Option<Output<()>> {
            self.outputs.pop_front()
        }

        fn poll_timeout(&self) -> Option<Time> {
            None
        }

        fn glance(&self) -> Glance {
            self.glance.clone()
        }
    }

    const SIZES: Sizes = Sizes { held: 0, held_bytes: 0, transfers: 0, missing: 0, announcements: 0 };

    /// Nodes with these neighbours.
    fn puppets(neighbours: &[&[u32]]) -> Net<Puppet> {
        let mut net = Net::new(Settings::default(), 5);
        for active in neighbours {
            let active = active.iter().map(|at| Net::<Puppet>::peer(*at).id).collect();
            let glance = Glance { active, sizes: Some(SIZES), ..Glance::default() };
            net.add(Puppet { glance, outputs: VecDeque::new() });
        }
        net
    }

    #[test]
    fn one_sided_links_isolated_nodes_and_islands_are_found() {
        let check = |neighbours: &[&[u32]], expect: &[&str]| {
            assert_eq!(puppets(neighbours).overlay_faults(), expect);
        };
        check(&[&[1], &[0]], &[]);
        check(&[&[1, 2], &[0, 2], &[0]], &["node 2 is a neighbour of node 1, and not the other way"]);
        check(&[&[1], &[0], &[3], &[2]], &["2 islands of sizes [2, 2]"]);
        check(&[&[1], &[0], &[]], &["node 2 has no neighbour", "2 islands of sizes [2, 1]"]);
        check(&[&[]], &[]);
    }

    #[test]
    fn broken_bounds_are_found() {
        let mut net = puppets(&[&[1], &[0]]);
        assert_eq!(net.bound_fault(), None);
        let broken = [
            Sizes { held: HELD_MAX + 1, ..SIZES },
            Sizes { missing: MISSING_MAX + 1, ..SIZES },
            Sizes { transfers: TRANSFERS_MAX + 1, ..SIZES },
            Sizes { announcements: ANNOUNCE_MAX + 1, ..SIZES },
        ];
        for sizes in broken {
            net.with_node(1, |puppet, _| puppet.glance.sizes = Some(sizes));
            assert!(net.bound_fault().is_some_and(|fault| fault.starts_with("node 1 is out of bounds")), "{sizes:?}");
        }
    }

    fn deliver(net: &mut Net<Puppet>, at: u32, n: u32, body: Option<&'static [u8]>) {
        let (header, whole) = part(Epoch { counter: 1, node: NodeId(1) }, 0, n, 100);
        let body = body.map_or(whole, Bytes::from_static);
        let trace = Trace { hops: vec![Hop::by(NodeId(1), NodeName::default())], ..Trace::default() };
        let output = Output::Deliver { stream: stream_name(), header, body, trace, received: Time::ZERO };
        net.with_node(at, |puppet, _| puppet.outputs.push_back(output));
    }

    fn published() -> Net<Puppet> {
        let mut net = puppets(&[&[1], &[0]]);
        let (header, body) = part(Epoch { counter: 1, node: NodeId(1) }, 0, 0, 100);
        net.publish(0, header, body);
        net
    }

    #[test]
    fn missing_parts_and_those_who_wait_for_them_are_found() {
        let mut net = published();
        assert_eq!(net.window_faults(|_| true), Vec::<String>::new(), "lost with its publisher");
        deliver(&mut net, 0, 0, None);
        assert!(net.window_faults(|_| true)[0].starts_with("node 1 and 0 others lack"));
        assert_eq!(net.window_faults(|_| false), Vec::<String>::new(), "below the window");
        deliver(&mut net, 1, 0, None);
        assert_eq!(net.window_faults(|_| true), Vec::<String>::new());
        net.with_node(1, |puppet, _| puppet.glance.sizes = Some(Sizes { missing: 1, ..SIZES }));
        assert!(net.window_faults(|_| true)[0].starts_with("node 1 still waits"));
    }

    #[test]
    #[should_panic(expected = "node 1 delivered")]
    fn a_second_delivery_ends_the_run() {
        let mut net = published();
        deliver(&mut net, 1, 0, None);
        deliver(&mut net, 1, 0, None);
    }

    #[test]
    #[should_panic(expected = "which nobody published")]
    fn a_part_that_nobody_published_ends_the_run() {
        deliver(&mut published(), 1, 1, None);
    }

    #[test]
    #[should_panic(expected = "repeat: DAMSON_SIM_SEED=5 cargo nextest run")]
    fn other_bytes_end_the_run_and_the_seed_is_told() {
        deliver(&mut published(), 1, 0, Some(b"other bytes"));
    }
}
