//! The contact cache: nodes met over time, beyond the two views. Not in the paper.
//!
//! With 35 addresses in its views, a node has no live one with probability 0.9^35 = 2.5 % when 90 % of all nodes
//! die at once. The cache keeps what the passive view lets go of: addresses are cheap to keep, and nobody
//! is asked while the views do.

use std::net::{Ipv4Addr, SocketAddr};

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus as Rng;

use crate::model::{NodeId, Peer};

/// A bounded set of nodes, asked in turn.
#[derive(Debug, Clone, Default)]
pub(super) struct ContactCache {
    /// Apart from the others, since 16 bytes do for each.
    v4: Vec<(NodeId, Ipv4Addr, u16)>,
    v6: Vec<Peer>,
    turn: usize,
    /// How many may still be asked in this pass.
    left: usize,
}

impl ContactCache {
    pub(super) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = Peer> {
        let v4 = self.v4.iter().map(|(id, ip, port)| Peer { id: *id, addr: SocketAddr::from((*ip, *port)) });
        v4.chain(self.v6.iter().copied())
    }

    /// Notes a node; in a full cache it takes the place of any other.
    pub(super) fn note(&mut self, rng: &mut Rng, peer: Peer, max: usize) {
        self.remove(peer.id);
        if self.len() >= max {
            let Some(gone) = max.checked_sub(1).and_then(|_| self.iter().nth(rng.random_range(0..self.len()))) else {
                return;
            };
            self.remove(gone.id);
        }
        match peer.addr {
            SocketAddr::V4(addr) => self.v4.push((peer.id, *addr.ip(), addr.port())),
            SocketAddr::V6(_) => self.v6.push(peer),
        }
    }

    pub(super) fn remove(&mut self, id: NodeId) {
        if let Some(at) = self.v4.iter().position(|known| known.0 == id) {
            self.v4.swap_remove(at);
        } else if let Some(at) = self.v6.iter().position(|known| known.id == id) {
            self.v6.swap_remove(at);
        }
    }

    /// All may be asked once more.
    pub(super) fn open(&mut self) {
        self.left = self.len();
    }

    /// Whether a pass has begun, and not ended: most of whom was known besides are dead.
    pub(super) fn is_under_way(&self) -> bool {
        self.left > 0 && self.left < self.len()
    }

    /// The next one to be asked that `want` takes, while a pass lasts.
    pub(super) fn next(&mut self, want: impl Fn(NodeId) -> bool) -> Option<Peer> {
        while self.left > 0 && self.len() > 0 {
            self.left -= 1;
            self.turn = (self.turn + 1) % self.len();
            let peer = self.iter().nth(self.turn);
            if let Some(peer) = peer.filter(|peer| want(peer.id)) {
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
        let peer = |n: u64| {
            let ip: std::net::IpAddr =
                if n.is_multiple_of(2) { [10, 0, 0, 1].into() } else { [0u16, 0, 0, 0, 0, 0, 0, 1].into() };
            Peer { id: NodeId(n), addr: SocketAddr::new(ip, 1_000 + n as u16) }
        };
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
