//! The window digest: each second, and after a drop, a node compares what it holds with some neighbours,
//! so that no lost IHAVE loses a part. Not in the paper.

use std::time::Duration;

use super::deadlines::Timer;
use super::io::Output;
use super::message::{Announce, HOPS_UNKNOWN, IHAVE_IDS_MAX, Message, TrackDigest};
use super::neighbours::Slot;
use super::plumtree::{Plumtree, announce_of};
use crate::model::time::Time;

/// A body younger than this may well be on its way to the neighbour: it isn't announced anew.
const GRACE: Duration = Duration::from_millis(500);

/// After this many rounds without news digests are at their rarest: each 8 intervals.
const IDLE_ROUNDS_MAX: u8 = 3;

impl Plumtree {
    /// The next round is due an interval from now, unless it is due already. The first one is spread
    /// over the interval, so that nodes that start together don't talk together.
    pub(super) fn arm_digest(&mut self, now: Time) {
        let Some(interval) = self.config.digest_interval else { return };
        if self.digest_armed && self.idle_rounds > 0 {
            return;
        }
        let at = if self.digest_armed {
            now + interval
        } else {
            let micros = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX).max(1);
            now + Duration::from_micros(self.random(micros / 2..micros + 1))
        };
        self.digest_armed = true;
        self.timers.arm(Timer::Digest, at);
    }

    /// Ours goes to a few neighbours: any of them that holds what we lack can fill it in.
    pub(super) fn on_digest_timer(&mut self, now: Time) {
        let Some(interval) = self.config.digest_interval else { return };
        let all = self.peers.all();
        if all.is_empty() {
            self.digest_armed = false;
            return;
        }
        // Whoever has shown that it has the same needn't be asked, and counts as one who was.
        let mut left = self.config.digest_fanout;
        let mut others = Vec::new();
        for slot in all.iter() {
            let agrees = self.peers.get_mut(slot).is_some_and(|peer| std::mem::take(&mut peer.agrees));
            if agrees {
                left = left.saturating_sub(1);
            } else {
                others.push(slot);
            }
        }
        // The parent, and the others in turn.
        let turn = usize::from(self.digest_turn) % others.len().max(1);
        others.rotate_left(turn);
        others.sort_by_key(|slot| Some(*slot) != self.parent);
        self.digest_turn = self.digest_turn.wrapping_add(1);
        if left > 0 && !others.is_empty() {
            let tracks = self.store.digest().to_vec();
            for slot in others.into_iter().take(left) {
                let Some(to) = self.peers.get(slot).map(|peer| peer.id) else { continue };
                self.stats.digests_sent += 1;
                self.outputs.push_back(Output::Send { to, message: Message::Digest(tracks.clone()) });
            }
        }
        self.timers.arm(Timer::Digest, now + interval * (1 << self.idle_rounds.min(IDLE_ROUNDS_MAX)));
        self.idle_rounds = self.idle_rounds.saturating_add(1);
    }

    /// What the neighbour lacks and is here is announced to it.
    pub(super) fn on_digest(&mut self, now: Time, slot: Slot, tracks: &[TrackDigest]) {
        if self.store.digest() == tracks {
            if let Some(peer) = self.peers.get_mut(slot) {
                peer.agrees = true;
            }
            return;
        }
        let mut lacking: Vec<Announce> = Vec::new();
        let mut keys = Vec::new();
        for (key, held) in self.store.iter() {
            let digest = tracks.iter().find(|digest| digest.track == key.track);
            if now.since(held.received) >= GRACE && digest.is_none_or(|digest| digest.wants(&key.id())) {
                keys.push(*key);
            }
        }
        keys.sort_by_key(|key| key.urgency());
        for key in keys.into_iter().take(IHAVE_IDS_MAX) {
            if let Some(held) = self.store.get_mut(&key) {
                held.known.insert(slot);
                // When it was had first says nothing here about who is the better parent.
                let announce = announce_of(now, &key, &held.header, held.hops, held.received);
                lacking.push(Announce { hops: HOPS_UNKNOWN, age_us: 0, ..announce });
            }
        }
        self.send_ihaves(slot, &lacking);
    }
}
