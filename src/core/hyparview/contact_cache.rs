//! The contact cache: nodes met over time, beyond the two views. Not in the paper.
//!
//! When 90 % of all nodes die at once, none of a node's 35 views' members lives with probability 0.9^35 = 2.5 %. The
//! cache keeps the nodes that the passive view lets go of. None of them is asked while the views suffice.

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus as Rng;

use crate::model::{NodeId, Peer};

/// A bounded set of nodes, asked in turn.
#[derive(Debug, Clone, Default)]
pub(super) struct ContactCache {
    peers: Vec<Peer>,
    turn: usize,
    /// The number of nodes that may still be asked in this pass.
    left: usize,
}

impl ContactCache {
    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Peer> {
        self.peers.iter().copied()
    }

    /// Notes a node. In a full cache it takes the place of another at random.
    pub(super) fn note(&mut self, rng: &mut Rng, peer: Peer, max: usize) {
        self.remove(peer.id);
        if max > 0 && self.len() >= max {
            self.peers.swap_remove(rng.random_range(0..self.len()));
        }
        if self.len() < max {
            self.peers.push(peer);
        }
    }

    pub(super) fn remove(&mut self, id: NodeId) {
        if let Some(at) = self.peers.iter().position(|known| known.id == id) {
            self.peers.swap_remove(at);
        }
    }

    /// Lets each node be asked once more.
    pub(super) fn open(&mut self) {
        self.left = self.len();
    }

    /// Returns whether a pass has begun, and not ended.
    pub(super) fn is_under_way(&self) -> bool {
        self.left > 0 && self.left < self.len()
    }

    /// Returns the next node to be asked that `want` takes, while a pass lasts.
    pub(super) fn next(&mut self, want: impl Fn(NodeId) -> bool) -> Option<Peer> {
        while self.left > 0 && self.len() > 0 {
            self.left -= 1;
            self.turn = (self.turn + 1) % self.len();
            let peer = self.peers[self.turn];
            if want(peer.id) {
                return Some(peer);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn the_cache_is_bounded_and_asked_once_a_pass() {
        let mut rng = Rng::seed_from_u64(1);
        let mut cache = ContactCache::default();
        let peer = |n: u64| Peer { id: NodeId(n), addr: ([10, 0, 0, 1], 1_000 + n as u16).into() };
        cache.note(&mut rng, peer(0), 0);
        assert_eq!(cache.len(), 0, "none are kept");
        for n in 0..20 {
            cache.note(&mut rng, peer(n), 8);
        }
        cache.note(&mut rng, peer(19), 8);
        assert_eq!(cache.len(), 8);
        assert!(cache.iter().all(|known| known == peer(known.id.0)));
        assert_eq!(cache.next(|_| true), None, "no pass has begun");
        cache.open();
        let mut asked: Vec<NodeId> =
            std::iter::from_fn(|| cache.next(|id| id != NodeId(19))).map(|peer| peer.id).collect();
        asked.sort_unstable();
        asked.dedup();
        assert_eq!(asked.len(), 7, "each once, but the one that isn't wanted");
        assert!(!cache.is_under_way());
    }
}
