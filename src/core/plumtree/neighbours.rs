//! The neighbours: the paper's eagerPushPeers and lazyPushPeers, as one table with a flag.

use crate::model::NodeId;
use crate::model::time::Time;

/// Most neighbours. More are treated as strangers: an active view has 5 to 10.
pub const NEIGHBOURS_MAX: usize = 64;

/// A neighbour's place in the table: below [`NEIGHBOURS_MAX`].
pub(super) type Slot = u8;

/// A set of neighbours, as bits by slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct PeerSet(u64);

impl PeerSet {
    pub(super) fn one(slot: Slot) -> Self {
        PeerSet(1 << slot)
    }

    pub(super) fn insert(&mut self, slot: Slot) {
        self.0 |= 1 << slot;
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        self.0 &= !(1 << slot);
    }

    pub(super) fn contains(self, slot: Slot) -> bool {
        self.0 & 1 << slot != 0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(super) fn union(self, other: PeerSet) -> PeerSet {
        PeerSet(self.0 | other.0)
    }

    pub(super) fn minus(self, other: PeerSet) -> PeerSet {
        PeerSet(self.0 & !other.0)
    }

    /// The slots in order.
    pub(super) fn iter(self) -> impl Iterator<Item = Slot> {
        let mut bits = self.0;
        std::iter::from_fn(move || {
            let slot = u8::try_from(bits.trailing_zeros()).ok().filter(|slot| *slot < 64)?;
            bits &= bits - 1;
            Some(slot)
        })
    }
}

/// What is known of one neighbour.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) id: NodeId,
    /// In the paper's eagerPushPeers; otherwise in its lazyPushPeers.
    pub(super) eager: bool,
    /// Its digest was ours when it came, since our last one.
    pub(super) agrees: bool,
    /// Bodies asked of it and not begun.
    pub(super) pulls: u16,
    /// Their length.
    pub(super) pull_bytes: u64,
    /// Smoothed round trip in microseconds; 0 while unknown.
    pub(super) rtt_us: u32,
    /// Measured rate of bodies from it, in bytes/s; 0 while unknown.
    pub(super) rate: u64,
    /// When a byte of a body last came from it.
    pub(super) bytes_at: Time,
    /// When it was last sent a PRUNE.
    pub(super) pruned_at: Option<Time>,
    /// It answered a GRAFT with a PRUNE: until then it is asked last.
    pub(super) full_until: Time,
}

/// The neighbours by slot. A slot is used again after its neighbour is gone.
#[derive(Debug, Clone, Default)]
pub(super) struct Peers(Vec<Option<Peer>>);

impl Peers {
    /// Adds a neighbour; `None` if it is one already, or the table is full.
    pub(super) fn add(&mut self, id: NodeId, eager: bool) -> Option<Slot> {
        if self.slot(id).is_some() {
            return None;
        }
        let at = match self.0.iter().position(Option::is_none) {
            Some(free) => free,
            None if self.0.len() < NEIGHBOURS_MAX => {
                self.0.push(None);
                self.0.len() - 1
            }
            None => return None,
        };
        self.0[at] = Some(Peer {
            id,
            eager,
            agrees: false,
            pulls: 0,
            pull_bytes: 0,
            rtt_us: 0,
            rate: 0,
            bytes_at: Time::ZERO,
            pruned_at: None,
            full_until: Time::ZERO,
        });
        u8::try_from(at).ok()
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        if let Some(peer) = self.0.get_mut(usize::from(slot)) {
            *peer = None;
        }
    }

    pub(super) fn slot(&self, id: NodeId) -> Option<Slot> {
        let at = self.0.iter().position(|peer| peer.as_ref().is_some_and(|peer| peer.id == id))?;
        u8::try_from(at).ok()
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Peer> {
        self.0.get(usize::from(slot))?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Peer> {
        self.0.get_mut(usize::from(slot))?.as_mut()
    }

    /// Everybody.
    pub(super) fn all(&self) -> PeerSet {
        self.set(|_| true)
    }

    /// The paper's eagerPushPeers.
    pub(super) fn eager(&self) -> PeerSet {
        self.set(|peer| peer.eager)
    }

    /// Those for whom `test` holds.
    pub(super) fn set(&self, test: impl Fn(&Peer) -> bool) -> PeerSet {
        let mut set = PeerSet::default();
        for (slot, peer) in (0u8..).zip(&self.0) {
            if peer.as_ref().is_some_and(&test) {
                set.insert(slot);
            }
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_iterate_in_order_and_to_the_last_slot() {
        let mut set = PeerSet::one(63);
        set.insert(0);
        set.insert(7);
        set.insert(9);
        set.remove(9);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 7, 63]);
        assert_eq!(set.minus(PeerSet::one(0)).len(), 2);
    }

    #[test]
    fn the_table_is_bounded_and_reuses_slots() {
        let mut peers = Peers::default();
        for n in 0..NEIGHBOURS_MAX as u64 {
            assert!(peers.add(NodeId(n), false).is_some());
        }
        assert_eq!(peers.add(NodeId(1_000), false), None);
        assert_eq!(peers.add(NodeId(5), false), None);
        peers.remove(7);
        assert_eq!(peers.add(NodeId(1_000), true), Some(7));
        assert_eq!(peers.eager(), PeerSet::one(7));
    }
}
