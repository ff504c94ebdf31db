//! Keeping the passive view fresh: SHUFFLE and SHUFFLEREPLY (paper, 4.4).

use super::config::Config;
use super::hyparview::HyParView;
use super::message::{Message, NODES_MAX};
use super::views::Passive;
use crate::model::NodeId;
use crate::model::Peer;

impl HyParView {
    pub(super) fn shuffle(&mut self) {
        let Some(target) = self.active.pick(&mut self.rng, |_| true).map(|m| m.peer) else { return };
        // "the identifier of the node itself, ka nodes from its active view, kp nodes from its passive view"
        let mut nodes = Vec::with_capacity(self.config.shuffle_active + self.config.shuffle_passive);
        let Config { shuffle_active: ka, shuffle_passive: kp, .. } = self.config;
        self.active.sample(&mut self.rng, ka, |m| m.peer.id != target.id, &mut nodes);
        self.passive.sample(&mut self.rng, kp, |m| m.fails == 0, &mut nodes);
        nodes.truncate(NODES_MAX);
        self.shuffled = nodes.iter().map(|n| n.id).collect();
        self.counters.shuffles += 1;
        self.send(target, Message::Shuffle { origin: self.me, ttl: self.config.shuffle_ttl, nodes });
    }

    pub(super) fn on_shuffle(&mut self, from: Peer, origin: Peer, ttl: u8, nodes: Vec<Peer>) {
        if !self.active.contains(from.id) {
            return self.disown(from);
        }
        if origin.id == self.me.id || self.is_static() {
            return;
        }
        // A node may not know the address that others see it at; its neighbour does.
        let origin = if origin.id == from.id { from } else { origin };
        // "first decreases its TTL. If the TTL is greater than zero and the number of nodes in q's active view is
        // greater than 1, the node will select a random node from its active view, different from the
        // one it has received this shuffle message from, and simply forwards the SHUFFLE"
        let ttl = ttl.min(self.config.shuffle_ttl).saturating_sub(1);
        if ttl > 0 && self.active.len() > 1 {
            let next = self.active.pick(&mut self.rng, |m| m.peer.id != from.id && m.peer.id != origin.id);
            if let Some(next) = next.map(|m| m.peer) {
                return self.send(next, Message::Shuffle { origin, ttl, nodes });
            }
        }
        // "accepts the shuffle and sends back ... a list of nodes selected at random from q's passive
        // view with a number of elements equal to the number of nodes received"
        let mut reply = Vec::new();
        self.passive.sample(&mut self.rng, nodes.len(), |m| m.fails == 0 && m.peer.id != origin.id, &mut reply);
        let mut sent = reply.iter().map(|n| n.id).collect();
        if !reply.is_empty() {
            self.send(origin, Message::ShuffleReply { nodes: reply });
        }
        self.integrate(nodes, &mut sent);
        self.integrate(vec![origin], &mut sent);
    }

    /// "integrates the elements it received into its passive view"
    pub(super) fn integrate(&mut self, nodes: Vec<Peer>, sent: &mut Vec<NodeId>) {
        for node in nodes {
            self.add_passive(Passive::new(node), sent);
        }
    }
}
