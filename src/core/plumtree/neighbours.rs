//! The neighbours, as a table and as sets, and the measurements of their links.

use std::time::Duration;

use crate::model::NodeId;
use crate::model::time::Time;

/// The most neighbours: an active view has 5 to 10. More are treated as strangers.
pub const NEIGHBOURS_MAX: usize = 64;

/// A body that takes longer than this from its first byte to its last comes over a slow link: half a part's time.
const SLOW: Duration = Duration::from_millis(100);

/// A body may stand still for this long before another holder is asked: two parts' time, and above any round trip on one
/// continent.
pub(super) const STALL: Duration = Duration::from_millis(400);

/// The slowest rate that timers assume, in bytes/s. A slower link's timers fire early, at the cost of a duplicate that is
/// refused at its header.
const RATE_MIN: u64 = 32 << 10;

/// The index of a neighbour in the table: below [`NEIGHBOURS_MAX`].
pub(super) type Slot = u8;

/// A set of neighbours, as bits by slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct PeerSet(u64);

impl PeerSet {
    pub(super) fn one(slot: Slot) -> Self {
        PeerSet(1 << slot)
    }

    /// Adds a neighbour. Returns whether it is new.
    pub(super) fn insert(&mut self, slot: Slot) -> bool {
        let new = !self.contains(slot);
        self.0 |= 1 << slot;
        new
    }

    /// Takes a neighbour out. Returns whether it was in.
    pub(super) fn remove(&mut self, slot: Slot) -> bool {
        let old = self.contains(slot);
        self.0 &= !(1 << slot);
        old
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

    /// Returns the slots in order.
    pub(super) fn iter(self) -> impl Iterator<Item = Slot> {
        let mut bits = self.0;
        std::iter::from_fn(move || {
            let slot = u8::try_from(bits.trailing_zeros()).ok().filter(|slot| *slot < 64)?;
            bits &= bits - 1;
            Some(slot)
        })
    }
}

/// The measurements of the link to a neighbour.
#[derive(Debug, Clone)]
struct Neighbour {
    id: NodeId,
    /// Smoothed round trip in microseconds; 0 while unknown.
    rtt_us: u32,
    /// Measured rate of bodies from it, in bytes/s; 0 while unknown.
    rate: u64,
    /// The time of the last byte of a body from it.
    bytes_at: Time,
}

/// The neighbours by slot. A slot is used again after its neighbour is gone.
#[derive(Debug, Clone, Default)]
pub(super) struct Neighbours(Vec<Option<Neighbour>>);

impl Neighbours {
    /// Adds a neighbour; `None` if it is one already, or the table is full.
    pub(super) fn add(&mut self, id: NodeId) -> Option<Slot> {
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
        self.0[at] = Some(Neighbour { id, rtt_us: 0, rate: 0, bytes_at: Time::ZERO });
        u8::try_from(at).ok()
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        if let Some(neighbour) = self.0.get_mut(usize::from(slot)) {
            *neighbour = None;
        }
    }

    /// Returns a neighbour's slot.
    pub(super) fn slot(&self, id: NodeId) -> Option<Slot> {
        self.iter().find(|(_, of)| *of == id).map(|(slot, _)| slot)
    }

    pub(super) fn id(&self, slot: Slot) -> Option<NodeId> {
        self.get(slot).map(|neighbour| neighbour.id)
    }

    /// Returns the neighbours in order of their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, NodeId)> {
        (0..).zip(&self.0).filter_map(|(slot, neighbour)| Some((slot, neighbour.as_ref()?.id)))
    }

    pub(super) fn all(&self) -> PeerSet {
        self.iter().fold(PeerSet::default(), |all, (slot, _)| all.union(PeerSet::one(slot)))
    }

    /// Takes the estimate of the link itself.
    pub(super) fn estimate(&mut self, id: NodeId, rtt_us: u32, rate: u64) {
        if let Some(neighbour) = self.slot(id).and_then(|slot| self.get_mut(slot)) {
            (neighbour.rtt_us, neighbour.rate) = (rtt_us, rate);
        }
    }

    /// Notes that bytes of a body have come from a neighbour.
    pub(super) fn moved(&mut self, now: Time, slot: Slot) {
        if let Some(neighbour) = self.get_mut(slot) {
            neighbour.bytes_at = now;
        }
    }

    /// Returns when bytes of a body last came from a neighbour.
    pub(super) fn bytes_at(&self, slot: Slot) -> Time {
        self.get(slot).map_or(Time::ZERO, |neighbour| neighbour.bytes_at)
    }

    /// Measures the rate by the time of a body from its first byte to its last.
    pub(super) fn measure(&mut self, slot: Slot, length: u32, took: Duration) {
        let Ok(took @ 1..) = u64::try_from(took.as_micros()) else { return };
        let rate = u64::from(length) * 1_000_000 / took;
        if let Some(neighbour) = self.get_mut(slot) {
            // The mean of the time that a byte takes, not of the rate: a slow body counts for what it costs.
            let old = u128::from(neighbour.rate);
            let mean = 4 * old * u128::from(rate) / (3 * u128::from(rate) + old).max(1);
            neighbour.rate = if old == 0 { rate } else { u64::try_from(mean).unwrap_or(u64::MAX) };
        }
    }

    /// Returns the smoothed round trip in microseconds; 0 while unknown.
    pub(super) fn rtt_us(&self, slot: Slot) -> u32 {
        self.get(slot).map_or(0, |neighbour| neighbour.rtt_us)
    }

    /// Returns how long `length` bytes take from a neighbour; zero while the rate is unknown.
    pub(super) fn transfer_time(&self, slot: Slot, length: u64) -> Duration {
        match self.get(slot).map_or(0, |neighbour| neighbour.rate) {
            0 => Duration::ZERO,
            rate => Duration::from_micros(length.saturating_mul(1_000_000) / rate.max(RATE_MIN)),
        }
    }

    /// Returns how long a body takes from its first byte to its last over a slow link; zero for a quick one, whose times
    /// change with each body.
    pub(super) fn slow_tail(&self, slot: Slot, length: u32) -> Duration {
        let tail = self.transfer_time(slot, u64::from(length));
        if tail > SLOW { tail } else { Duration::ZERO }
    }

    fn get(&self, slot: Slot) -> Option<&Neighbour> {
        self.0.get(usize::from(slot))?.as_ref()
    }

    fn get_mut(&mut self, slot: Slot) -> Option<&mut Neighbour> {
        self.0.get_mut(usize::from(slot))?.as_mut()
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
        let mut neighbours = Neighbours::default();
        for n in 0..NEIGHBOURS_MAX as u64 {
            assert!(neighbours.add(NodeId(n)).is_some());
        }
        assert_eq!(neighbours.add(NodeId(1_000)), None);
        assert_eq!(neighbours.add(NodeId(5)), None);
        neighbours.remove(7);
        assert_eq!(neighbours.all().len(), NEIGHBOURS_MAX - 1);
        assert_eq!(neighbours.add(NodeId(1_000)), Some(7));
        assert_eq!((neighbours.slot(NodeId(1_000)), neighbours.id(7)), (Some(7), Some(NodeId(1_000))));
        assert_eq!(neighbours.rtt_us(7), 0, "nothing is known of the one before");
    }

    #[test]
    fn a_slow_body_counts_for_what_it_costs_and_a_quick_tail_for_nothing() {
        let mut neighbours = Neighbours::default();
        let slot = neighbours.add(NodeId(1)).expect("room");
        assert_eq!(neighbours.slow_tail(slot, u32::MAX), Duration::ZERO, "nothing was measured");
        neighbours.measure(slot, 100_000, Duration::from_millis(100));
        assert_eq!(neighbours.transfer_time(slot, 50_000), Duration::from_millis(50));
        assert_eq!(neighbours.slow_tail(slot, 50_000), Duration::ZERO);
        // Four times the time for one body in four makes each byte take 7/4 of the time.
        neighbours.measure(slot, 100_000, Duration::from_millis(400));
        let whole = neighbours.slow_tail(slot, 100_000);
        assert!((174..=176).contains(&whole.as_millis()), "{whole:?}");
        neighbours.measure(slot, 100_000, Duration::ZERO);
        assert_eq!(neighbours.slow_tail(slot, 100_000), whole, "no time, no rate");
        neighbours.estimate(NodeId(1), 40_000, 1);
        assert_eq!(neighbours.transfer_time(slot, RATE_MIN), Duration::from_secs(1), "no timer reckons with less");
    }
}
