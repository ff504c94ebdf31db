//! When the window digest goes round, and to whom: each second, and after a drop, a node compares what it holds
//! with some neighbours, so that no lost IHAVE loses a part. Not in the paper.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use super::neighbours::{PeerSet, Slot};
use crate::model::time::Time;

/// After this many rounds without news digests are at their rarest: each 8 intervals.
const IDLE_ROUNDS_MAX: u8 = 3;

/// The rounds of digests.
#[derive(Debug, Clone, Default)]
pub(super) struct Digests {
    /// Whether digests go round at all.
    armed: bool,
    /// Whose turn it is to get one.
    turn: u8,
    /// How many rounds ago anything changed.
    idle_rounds: u8,
    /// Neighbours whose digest was ours when it came, since our last one.
    agree: PeerSet,
}

impl Digests {
    /// Something has changed: digests go round at their usual pace again.
    pub(super) fn news(&mut self) {
        self.idle_rounds = 0;
    }

    /// Returns when the next round is due: an interval from now, and `None` where it is due by itself. The first
    /// one is spread over the interval, so that nodes that start together don't talk together.
    pub(super) fn arm(&mut self, now: Time, interval: Duration, rng: &mut SmallRng) -> Option<Time> {
        if self.armed {
            return (self.idle_rounds == 0).then_some(now + interval);
        }
        self.armed = true;
        let micros = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX).max(1);
        Some(now + Duration::from_micros(rng.random_range(micros / 2..micros + 1)))
    }

    /// Begins a round. Returns who gets a digest: any of them that holds what we lack can fill it in. `None`: there
    /// is nobody, and no round follows.
    pub(super) fn round(&mut self, all: PeerSet, parent: Option<Slot>, fanout: usize) -> Option<Vec<Slot>> {
        if all.is_empty() {
            self.armed = false;
            return None;
        }
        // Whoever has shown that it has the same needn't be asked, and counts as one who was.
        let agree = std::mem::take(&mut self.agree);
        let mut others: Vec<Slot> = all.minus(agree).iter().collect();
        // The parent, and the others in turn.
        let turn = usize::from(self.turn) % others.len().max(1);
        others.rotate_left(turn);
        others.sort_by_key(|slot| Some(*slot) != parent);
        others.truncate(fanout.saturating_sub(agree.len()));
        self.turn = self.turn.wrapping_add(1);
        Some(others)
    }

    /// Ends a round; returns when the next one is due.
    pub(super) fn next(&mut self, now: Time, interval: Duration) -> Time {
        let next = now + interval * (1 << self.idle_rounds.min(IDLE_ROUNDS_MAX));
        self.idle_rounds = self.idle_rounds.saturating_add(1);
        next
    }

    /// A neighbour has what we have.
    pub(super) fn agrees(&mut self, slot: Slot) {
        self.agree.insert(slot);
    }

    /// A neighbour is gone.
    pub(super) fn without(&mut self, slot: Slot) {
        self.agree.remove(slot);
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);

    fn set(slots: impl IntoIterator<Item = Slot>) -> PeerSet {
        slots.into_iter().fold(PeerSet::default(), |set, slot| set.union(PeerSet::one(slot)))
    }

    #[test]
    fn the_parent_is_asked_and_the_others_in_turn() {
        let mut digests = Digests::default();
        let mut round = || digests.round(set(0..4), Some(2), 2);
        assert_eq!(round(), Some(vec![2, 0]));
        assert_eq!(round(), Some(vec![2, 1]));
        assert_eq!(round(), Some(vec![2, 3]));
        assert_eq!(round(), Some(vec![2, 3]));
        assert_eq!(round(), Some(vec![2, 0]));
    }

    #[test]
    fn who_agrees_counts_as_asked_until_the_next_round() {
        let mut digests = Digests::default();
        digests.agrees(2);
        digests.agrees(3);
        digests.without(3);
        assert_eq!(digests.round(set(0..4), Some(2), 2), Some(vec![0]));
        assert_eq!(digests.round(set(0..4), Some(2), 2).map(|to| to.len()), Some(2));
        digests.agrees(0);
        digests.agrees(1);
        assert_eq!(digests.round(set(0..4), Some(2), 2), Some(vec![]));
    }

    #[test]
    fn idle_digests_grow_rarer_and_news_makes_them_frequent() {
        let (mut digests, mut rng) = (Digests::default(), SmallRng::seed_from_u64(1));
        let now = Time::from_millis(5_000);
        let first = digests.arm(now, INTERVAL, &mut rng).expect("the first");
        assert!((now + INTERVAL / 2..=now + INTERVAL).contains(&first));
        assert_eq!(digests.arm(now, INTERVAL, &mut rng), Some(now + INTERVAL));
        let waits: Vec<u64> = (0..5).map(|_| digests.next(now, INTERVAL).since(now).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 8]);
        assert_eq!(digests.arm(now, INTERVAL, &mut rng), None);
        digests.news();
        assert_eq!(digests.arm(now, INTERVAL, &mut rng), Some(now + INTERVAL));
        // With nobody there the rounds end, and a new neighbour starts them anew.
        assert_eq!(digests.round(PeerSet::default(), None, 2), None);
        assert!(digests.arm(now, INTERVAL, &mut rng).is_some_and(|at| at <= now + INTERVAL));
    }
}
