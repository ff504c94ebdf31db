//! Bodies that were announced and haven't come: the paper's `missing` set, its graft timers, and the
//! pulls under way.

use std::time::Duration;

use super::deadlines::Timer;
use super::io::Output;
use super::key::{Key, newest_in};
use super::message::{Announce, HOPS_UNKNOWN, Message};
use super::neighbours::{PeerSet, Slot};
use super::plumtree::Plumtree;
use crate::model::time::Time;
use crate::model::{NodeId, PartId, TrackId};

/// Most missing bodies remembered; the least urgent are forgotten first, and come back with a digest.
pub const MISSING_MAX: usize = 4_096;

/// A pull is held for this long at most while other bytes flow from the same peer.
const PULL_HELD_MAX: Duration = Duration::from_secs(3);

/// While pulls go unanswered, no more than this many are under way.
const PULLS_IN_NEED: usize = 4;

/// Patience is doubled at most this often: 250 ms become 4 s.
const BACKOFF_MAX: u8 = 4;

/// A body that takes longer than this from its first byte to its last comes over a slow link: half a part's time.
const SLOW: Duration = Duration::from_millis(100);

/// The slowest rate a timer reckons with, in bytes/s: a slower link's timers fire early, at the cost
/// of a duplicate that is refused at its header.
const RATE_MIN: u64 = 32 << 10;

/// A missing body.
#[derive(Debug, Clone)]
pub(super) struct Missing {
    pub(super) length: u32,
    /// Who announced it.
    pub(super) holders: PeerSet,
    /// Who was asked in vain since it was last announced by them.
    tried: PeerSet,
    /// Who asked us for it while we were asking: they get it as it comes in.
    pub(super) waiters: PeerSet,
    /// Who had it first, when we should have heard of it had the announcement not been batched, and
    /// whether that was a body rather than a promise.
    pub(super) first: Option<(Slot, Time)>,
    /// Who announced it over the fewest links (the paper's `r`).
    pub(super) nearest: Option<(Slot, u8)>,
    /// When it is grafted; while a pull is under way, when that is given up.
    due: Time,
    /// Who was asked, and when.
    pub(super) pull: Option<(Slot, Time)>,
    /// An eager copy was expected. If none comes, the tree doesn't reach this node.
    awaited: bool,
}

/// How late eager copies come after the first announcement: mean and deviation as RFC 6298 reckons
/// the round trip.
#[derive(Debug, Clone, Default)]
pub(super) struct Lag {
    mean_us: u64,
    deviation_us: u64,
    samples: u32,
}

impl Lag {
    pub(super) fn add(&mut self, lag: Duration) {
        let us = u64::try_from(lag.as_micros()).unwrap_or(u64::MAX).min(10_000_000);
        if self.samples == 0 {
            (self.mean_us, self.deviation_us) = (us, us / 2);
        } else {
            self.deviation_us = (3 * self.deviation_us + self.mean_us.abs_diff(us)) / 4;
            self.mean_us = (7 * self.mean_us + us) / 8;
        }
        self.samples = self.samples.saturating_add(1);
    }

    /// Mean + 4 deviations, once there are enough samples to believe it.
    fn bound(&self) -> Option<Duration> {
        (self.samples >= 4).then(|| Duration::from_micros(self.mean_us + 4 * self.deviation_us))
    }
}

impl Plumtree {
    /// Paper: "upon event Receive(IHAVE, mID, round, sender): if mID not in receivedMsgs: if no timer
    /// for mID: setup Timer(mID, timeout_1); missing <- missing + {(mID, sender, round)}".
    pub(super) fn on_announce(&mut self, now: Time, slot: Slot, announce: &Announce) {
        let key = Key::from(announce.id);
        if !self.store.wants(&key) {
            return;
        }
        if announce.hops != HOPS_UNKNOWN {
            self.note_runner_up(key, slot, announce.hops);
        }
        if let Some(held) = self.store.get_mut(&key) {
            held.known.insert(slot);
            return;
        }
        let mut holders = PeerSet::one(slot);
        if let Some(assembly) = self.assemblies.get_mut(&key) {
            assembly.holders.insert(slot);
            if let Some(source) = assembly.source {
                if announce.hops != HOPS_UNKNOWN {
                    self.leave_slow_parent(now, &key, source.slot, slot, announce);
                }
                return;
            }
            holders = assembly.holders;
        }
        let first =
            (announce.hops != HOPS_UNKNOWN).then(|| (slot, now - Duration::from_micros(u64::from(announce.age_us))));
        let nearest = (announce.hops != HOPS_UNKNOWN).then_some((slot, announce.hops));
        let poor = self.is_poor(now, slot, announce.length);
        if let Some(missing) = self.missing.get_mut(&key) {
            if missing.holders.minus(missing.tried).is_empty() && missing.pull.is_none() {
                missing.due = now;
                self.timers.arm(Timer::Graft, now);
            }
            // Departure: nor is an eager copy waited for that the parent itself says it won't send.
            let says_so = self.parent == Some(slot) && self.config.lazy_start;
            if missing.pull.is_none() && (says_so || !(missing.awaited || poor)) {
                missing.due = now;
                self.timers.arm(Timer::Graft, now);
            }
            missing.holders.insert(slot);
            missing.tried.remove(slot);
            let tail = |slot: Slot| slow_tail(missing.length, self.peers.get(slot).map_or(0, |peer| peer.rate));
            if let Some((_, at)) = first
                && missing.first.is_none_or(|(other, earliest)| at + tail(slot) < earliest + tail(other))
            {
                missing.first = first;
            }
            if let Some((_, hops)) = nearest
                && missing.nearest.is_none_or(|(_, fewest)| hops < fewest)
            {
                missing.nearest = nearest;
            }
            return;
        }
        let awaited = self.comes_by_itself(now, slot, &key);
        let due = match (awaited, poor) {
            (true, _) => now + self.graft_after(announce.length),
            // Somebody better may be about to announce it.
            (false, true) => now + self.config.graft_margin_min,
            (false, false) => now,
        };
        let missing = Missing {
            length: announce.length,
            holders,
            tried: PeerSet::default(),
            waiters: PeerSet::default(),
            first,
            nearest,
            due,
            pull: None,
            awaited,
        };
        self.miss(key, missing);
    }

    /// Whether a neighbour is the last to be asked: it has refused to feed us, or does so slowly.
    fn is_poor(&self, now: Time, slot: Slot, length: u32) -> bool {
        self.peers.get(slot).is_some_and(|peer| peer.full_until > now || !slow_tail(length, peer.rate).is_zero())
    }

    /// Whether an eager copy may be expected. Departure: what is older than the newest held part, or
    /// announced while nobody feeds this node, or by the parent itself (which then doesn't send it), is
    /// grafted without waiting for the timer.
    fn comes_by_itself(&self, now: Time, slot: Slot, key: &Key) -> bool {
        if !self.config.lazy_start {
            return true;
        }
        if self.parent == Some(slot) {
            return false;
        }
        let newest = self.store.newest(key.track).max(newest_in(&self.assemblies, key.track));
        (self.parent.is_some() || now < self.expecting_until) && newest.is_none_or(|newest| *key > newest)
    }

    /// The paper's timeout_1, or ours: the measured lag of the tree + length / rate.
    fn graft_after(&self, length: u32) -> Duration {
        if !self.config.size_aware_timers {
            return self.config.graft_timeout_1;
        }
        if self.parent.is_none() {
            return self.config.graft_margin_min;
        }
        let rate = self.parent.and_then(|slot| self.peers.get(slot)).map_or(0, |peer| peer.rate);
        let margin = match self.lag.bound() {
            Some(bound) => bound.min(self.config.graft_margin_max).max(self.config.graft_margin_min),
            None => self.config.graft_timeout_1,
        };
        margin + transfer_time(u64::from(length), rate)
    }

    /// Remembers a missing body.
    pub(super) fn miss(&mut self, key: Key, missing: Missing) {
        self.timers.arm(Timer::Graft, missing.due);
        self.missing.insert(key, missing);
        if self.missing.len() > MISSING_MAX {
            self.stats.bounds_hit += 1;
            if let Some(last) = self.missing.keys().max_by_key(|key| key.urgency()).copied() {
                self.give_up(&last);
            }
        }
    }

    /// A body that was under way is missing again: it is asked for at once, elsewhere first.
    pub(super) fn miss_again(&mut self, now: Time, key: Key, length: u32, holders: PeerSet, failed: Slot) {
        if holders.is_empty() {
            // Somebody has it: the digests will tell.
            self.timers.arm(Timer::Digest, now);
            return;
        }
        let missing = Missing {
            length,
            holders,
            tried: PeerSet::one(failed),
            waiters: PeerSet::default(),
            first: None,
            nearest: None,
            due: now,
            pull: None,
            awaited: false,
        };
        self.miss(key, missing);
    }

    /// Forgets a missing body; those who waited for it here are told.
    pub(super) fn give_up(&mut self, key: &Key) {
        let Some(missing) = self.missing.remove(key) else { return };
        self.release_pull(&missing);
        if !self.assemblies.contains_key(key) {
            self.stats.lost += 1;
        }
        for slot in missing.waiters.iter() {
            self.send_not_here(slot, key.id());
        }
    }

    pub(super) fn release_pull(&mut self, missing: &Missing) {
        if let Some((slot, _)) = missing.pull
            && let Some(peer) = self.peers.get_mut(slot)
        {
            peer.pulls = peer.pulls.saturating_sub(1);
            peer.pull_bytes = peer.pull_bytes.saturating_sub(u64::from(missing.length));
        }
    }

    /// A body begins: it is missing no longer.
    pub(super) fn found(&mut self, key: &Key) -> Option<Missing> {
        let missing = self.missing.remove(key)?;
        self.release_pull(&missing);
        if self.missing.is_empty() {
            self.timers.cancel(Timer::Graft);
        }
        if missing.pull.is_some() {
            self.pull_freed = true;
        }
        Some(missing)
    }

    /// Departure: NOT-HERE, the next holder is asked at once.
    pub(super) fn on_not_here(&mut self, now: Time, slot: Slot, id: PartId) {
        self.stats.not_here_received += 1;
        let key = Key::from(id);
        if let Some(assembly) = self.assemblies.get_mut(&key) {
            assembly.holders.remove(slot);
        }
        self.drop_holder(now, key, slot);
    }

    pub(super) fn drop_holder(&mut self, now: Time, key: Key, slot: Slot) {
        let Some(missing) = self.missing.get_mut(&key) else { return };
        missing.holders.remove(slot);
        missing.tried.remove(slot);
        if missing.first.is_some_and(|(first, _)| first == slot) {
            missing.first = None;
        }
        if missing.nearest.is_some_and(|(nearest, _)| nearest == slot) {
            missing.nearest = None;
        }
        if missing.pull.is_some_and(|(asked, _)| asked == slot) {
            missing.pull = None;
            missing.due = now;
            self.timers.arm(Timer::Graft, now);
            let length = u64::from(missing.length);
            if let Some(peer) = self.peers.get_mut(slot) {
                peer.pulls = peer.pulls.saturating_sub(1);
                peer.pull_bytes = peer.pull_bytes.saturating_sub(length);
            }
        }
        if self.missing.get(&key).is_some_and(|missing| missing.holders.is_empty()) {
            self.give_up(&key);
        }
    }

    /// A neighbour is gone; `parent`: it was the one that fed us, and nothing is waited for any more.
    pub(super) fn missing_without(&mut self, now: Time, slot: Slot, parent: bool) {
        let keys: Vec<Key> = self.missing.keys().copied().collect();
        for key in keys {
            self.drop_holder(now, key, slot);
            if let Some(missing) = self.missing.get_mut(&key) {
                missing.waiters.remove(slot);
                if parent && missing.pull.is_none() && self.config.lazy_start {
                    missing.due = now;
                }
            }
        }
        self.timers.arm(Timer::Graft, now);
    }

    /// Paper: "upon event Timer(mID): send GRAFT to the first announcer in missing, setup
    /// Timer(mID, timeout_2)". Due pulls are begun, late ones given up.
    pub(super) fn on_graft_timer(&mut self, now: Time) {
        let mut due: Vec<Key> = Vec::new();
        let mut next = Time::MAX;
        let mut late: Vec<(Key, Slot)> = Vec::new();
        for (key, missing) in &mut self.missing {
            if let Some((slot, asked)) = missing.pull
                && missing.due <= now
            {
                // Departure: the timer is held while bytes flow.
                let moved = self.peers.get(slot).map_or(Time::ZERO, |peer| peer.bytes_at);
                let until = (moved + self.config.stall).min(asked + PULL_HELD_MAX);
                if self.config.size_aware_timers && until > now {
                    missing.due = until;
                } else {
                    late.push((*key, slot));
                }
            }
            if missing.due > now {
                next = next.min(missing.due);
            } else if missing.pull.is_none() {
                due.push(*key);
            }
        }
        if !late.is_empty() {
            self.give_way(now);
        }
        for (key, slot) in late {
            if let Some(missing) = self.missing.get_mut(&key) {
                let length = u64::from(missing.length);
                missing.pull = None;
                missing.tried.insert(slot);
                if let Some(peer) = self.peers.get_mut(slot) {
                    peer.pulls = peer.pulls.saturating_sub(1);
                    peer.pull_bytes = peer.pull_bytes.saturating_sub(length);
                }
                due.push(key);
            }
        }
        due.sort_by_key(|key| key.urgency());
        for key in due {
            next = next.min(self.pull(now, key));
        }
        if next < Time::MAX {
            self.timers.arm(Timer::Graft, next);
        }
    }

    /// Asks the best holder; returns when to look again.
    fn pull(&mut self, now: Time, key: Key) -> Time {
        let newest = self.is_live_edge(&key);
        let pulls: usize =
            self.peers.all().iter().filter_map(|slot| self.peers.get(slot)).map(|peer| usize::from(peer.pulls)).sum();
        if self.backoff > 0 && pulls >= PULLS_IN_NEED {
            return Time::MAX;
        }
        let Some(missing) = self.missing.get_mut(&key) else { return Time::MAX };
        let live = newest || missing.awaited;
        let length = u64::from(missing.length);
        let mut untried = missing.holders.minus(missing.tried);
        let first_time = missing.tried.is_empty();
        if untried.is_empty() {
            // All were asked in vain: once more, after a breath.
            missing.tried = PeerSet::default();
            untried = missing.holders;
            if missing.holders.len() > 1 || self.config.size_aware_timers {
                missing.due = now + self.config.graft_timeout_2;
                return missing.due;
            }
        }
        let config = &self.config;
        let best = untried
            .iter()
            .filter_map(|slot| self.peers.get(slot).map(|peer| (slot, peer)))
            .filter(|(_, peer)| {
                usize::from(peer.pulls) < config.pulls_per_peer_max
                    && (peer.pulls == 0 || peer.pull_bytes + length <= config.pull_bytes_per_peer_max)
            })
            .min_by_key(|(slot, peer)| {
                // What is live joins the tree: one parent for all tracks. What is not is spread.
                let apart = live && !peer.eager;
                let slow = !slow_tail(missing.length, peer.rate).is_zero();
                (slow || (live && peer.full_until > now), apart, peer.pulls, peer.rtt_us, *slot)
            })
            .map(|(slot, _)| slot);
        // All are busy: the next body that begins frees one.
        let Some(slot) = best else { return Time::MAX };
        let join = live || !self.config.lazy_start;
        let offset = match self.assemblies.get(&key) {
            Some(assembly) if self.config.resume => assembly.got,
            _ => 0,
        };
        let Some(peer) = self.peers.get_mut(slot) else { return Time::MAX };
        peer.pulls += 1;
        peer.pull_bytes += length;
        let patience = if self.config.size_aware_timers {
            let round_trips = Duration::from_micros(2 * u64::from(peer.rtt_us));
            (self.config.graft_timeout_2 + round_trips + transfer_time(peer.pull_bytes, peer.rate))
                * (1 << self.backoff)
        } else {
            self.config.graft_timeout_2
        };
        if join {
            peer.eager = true;
            self.grafted.insert(slot);
        }
        let to = peer.id;
        missing.pull = Some((slot, now));
        missing.due = now + patience;
        let (due, waiting, length) = (missing.due, missing.holders, missing.length);
        self.send_graft(to, Some(key.id()), offset, join);
        if live && first_time && self.config.promise && self.parent.is_none() {
            self.promise(key, length, waiting);
        }
        due
    }

    /// Departure: pulls go unanswered. Perhaps it is this node's own link that is full, and to ask somebody else for
    /// the same again would fill it further: as RFC 6298 does, the patience is doubled until an answer comes in time.
    fn give_way(&mut self, now: Time) {
        if self.config.size_aware_timers && now >= self.backoff_until {
            self.backoff = (self.backoff + 1).min(BACKOFF_MAX);
            self.backoff_until = now + self.config.graft_timeout_2 * (1 << self.backoff);
        }
    }

    /// Departure: while nobody feeds us, others learn at once that we are about to have it, and may
    /// ask in turn: the grafts go up as the announcements come down, and the body then comes at one
    /// link delay a hop.
    fn promise(&mut self, key: Key, length: u32, holders: PeerSet) {
        let announce = Announce { id: key.id(), length, hops: HOPS_UNKNOWN, age_us: 0 };
        for slot in self.peers.all().minus(holders).iter() {
            self.send_receiving(slot, announce);
        }
    }

    /// Whether nothing newer of the track is known: the part that an eager link would bring.
    fn is_live_edge(&self, key: &Key) -> bool {
        let newest = |track: TrackId| {
            self.store.newest(track).max(newest_in(&self.assemblies, track)).max(newest_in(&self.missing, track))
        };
        newest(key.track).is_none_or(|newest| newest <= *key)
    }

    pub(super) fn send_graft(&mut self, to: NodeId, id: Option<PartId>, offset: u32, join: bool) {
        self.stats.grafts_sent += 1;
        self.outputs.push_back(Output::Send { to, message: Message::Graft { id, offset, join } });
    }
}

/// How long a body's tail takes over a link, where that is long. What is quick isn't counted: on a busy link
/// it changes with each body.
pub(super) fn slow_tail(length: u32, rate: u64) -> Duration {
    let tail = transfer_time(u64::from(length), rate);
    if tail > SLOW { tail } else { Duration::ZERO }
}

/// `length` bytes at `rate` bytes/s; nothing while the rate is unknown.
fn transfer_time(length: u64, rate: u64) -> Duration {
    if rate == 0 {
        return Duration::ZERO;
    }
    Duration::from_micros(length.saturating_mul(1_000_000) / rate.max(RATE_MIN))
}
