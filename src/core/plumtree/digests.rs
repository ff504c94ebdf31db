//! The rounds of window digests. Each second, and after a torn transfer, a node compares what it holds with some
//! neighbours, so that no lost IHAVE loses a part. Not in the paper.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::deadline::Deadline;
use super::neighbours::{PeerSet, Slot};
use crate::model::time::Time;

/// After this many rounds without news the rounds are 8 intervals apart.
const IDLE_ROUNDS_MAX: u8 = 3;

/// A round reaches this many neighbours, the parent first and the others in turn. Any of them can fill a hole; with all 5
/// digests were half of all control messages (measured).
const FANOUT: usize = 2;

/// The rounds of digests.
#[derive(Debug, Clone)]
pub(super) struct Digests {
    rng: SmallRng,
    /// The neighbour whose turn it is.
    turn: u8,
    /// The number of rounds since the last change.
    idle_rounds: u8,
    /// Neighbours whose last digest equalled ours, since our last round.
    agree: PeerSet,
    due: Deadline,
}

impl Digests {
    pub(super) fn new(seed: u64) -> Self {
        Digests {
            rng: SmallRng::seed_from_u64(seed),
            turn: 0,
            idle_rounds: 0,
            agree: PeerSet::default(),
            due: Deadline::default(),
        }
    }

    /// Returns to the usual pace, after a change.
    pub(super) fn news(&mut self) {
        self.idle_rounds = 0;
    }

    /// Makes the next round due an interval from now at the latest. The first one is spread over the interval, so that nodes
    /// that start together don't talk together.
    pub(super) fn arm(&mut self, now: Time, interval: Option<Duration>) {
        let Some(interval) = interval else { return };
        if self.due.at().is_none() {
            let micros = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX).max(1);
            let first = self.rng.random_range(micros / 2..micros + 1);
            self.hasten(now + Duration::from_micros(first));
        } else if self.idle_rounds == 0 {
            self.hasten(now + interval);
        }
    }

    /// Makes a round due at this time at the latest.
    pub(super) fn hasten(&mut self, at: Time) {
        self.due.hasten(at);
    }

    pub(super) fn next_due(&self) -> Option<Time> {
        self.due.at()
    }

    /// Returns once whether a round is due.
    pub(super) fn is_due(&mut self, now: Time) -> bool {
        self.due.expired(now)
    }

    /// Begins a round. Returns the neighbours that get a digest: any of them may hold what this node lacks. Without
    /// neighbours no round follows.
    pub(super) fn round(
        &mut self,
        now: Time,
        all: PeerSet,
        parent: Option<Slot>,
        interval: Option<Duration>,
    ) -> Vec<Slot> {
        let Some(interval) = interval else { return Vec::new() };
        if all.is_empty() {
            return Vec::new();
        }
        // A neighbour that has shown that it has the same needn't be asked, and counts as asked.
        let agree = std::mem::take(&mut self.agree);
        let mut others: Vec<Slot> = all.minus(agree).iter().collect();
        // The parent, and the others in turn.
        let turn = usize::from(self.turn) % others.len().max(1);
        others.rotate_left(turn);
        others.sort_by_key(|slot| Some(*slot) != parent);
        others.truncate(FANOUT.saturating_sub(agree.len()));
        self.turn = self.turn.wrapping_add(1);
        self.hasten(now + interval * (1 << self.idle_rounds.min(IDLE_ROUNDS_MAX)));
        self.idle_rounds = self.idle_rounds.saturating_add(1);
        others
    }

    /// Notes that a neighbour has what this node has.
    pub(super) fn agrees(&mut self, slot: Slot) {
        self.agree.insert(slot);
    }

    /// Forgets a neighbour.
    pub(super) fn without(&mut self, slot: Slot) {
        self.agree.remove(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);
    const NOW: Time = Time::from_millis(5_000);

    fn set(slots: impl IntoIterator<Item = Slot>) -> PeerSet {
        slots.into_iter().fold(PeerSet::default(), |set, slot| set.union(PeerSet::one(slot)))
    }

    fn round(digests: &mut Digests) -> Vec<Slot> {
        digests.round(NOW, set(0..4), Some(2), Some(Duration::from_secs(1)))
    }

    #[test]
    fn the_parent_is_asked_and_the_others_in_turn() {
        let mut digests = Digests::new(1);
        let rounds: Vec<Vec<Slot>> = (0..5).map(|_| round(&mut digests)).collect();
        assert_eq!(rounds, [[2, 0], [2, 1], [2, 3], [2, 3], [2, 0]]);
    }

    #[test]
    fn who_agrees_counts_as_asked_until_the_next_round() {
        let mut digests = Digests::new(1);
        digests.agrees(2);
        digests.agrees(3);
        digests.without(3);
        assert_eq!(round(&mut digests), [0]);
        assert_eq!(round(&mut digests).len(), 2);
        digests.agrees(0);
        digests.agrees(1);
        assert!(round(&mut digests).is_empty());
    }

    #[test]
    fn idle_digests_grow_rarer_and_news_makes_them_frequent() {
        let mut digests = Digests::new(1);
        digests.arm(NOW, Some(INTERVAL));
        let first = digests.next_due().expect("the first");
        assert!((NOW + INTERVAL / 2..=NOW + INTERVAL).contains(&first));
        let wait = |digests: &mut Digests| {
            assert!(digests.is_due(NOW + INTERVAL * 8) && !digests.is_due(Time::MAX));
            round(digests);
            digests.arm(NOW, Some(INTERVAL));
            digests.next_due().map(|due| due.since(NOW).as_secs())
        };
        let waits: Vec<_> = (0..5).filter_map(|_| wait(&mut digests)).collect();
        assert_eq!(waits, [1, 2, 4, 8, 8]);
        digests.news();
        digests.arm(NOW, Some(INTERVAL));
        assert_eq!(digests.next_due(), Some(NOW + INTERVAL));
        // With nobody there the rounds end, and a new neighbour starts them anew.
        assert!(digests.is_due(NOW + INTERVAL));
        assert!(digests.round(NOW, PeerSet::default(), None, Some(Duration::from_secs(1))).is_empty());
        assert_eq!(digests.next_due(), None);
        digests.arm(NOW, Some(INTERVAL));
        assert!(digests.next_due().is_some());
    }
}
