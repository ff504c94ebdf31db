//! Bodies that were announced and aren't here: the paper's `missing` set, its graft timers, and the pulls under way.

use std::collections::BTreeMap;
use std::time::Duration;

use super::config::Config;
use super::deadline::Deadline;
use super::key::{Key, newest_in};
use super::neighbours::{Neighbours, PeerSet, STALL, Slot};
use crate::model::TrackId;
use crate::model::time::Time;

/// The most missing bodies remembered. The least urgent is forgotten first, and comes back with a digest.
pub const MISSING_MAX: usize = 4_096;

/// The most bodies pulled from one neighbour at a time: with 50 ms of round trip a window of 300 parts comes from one
/// neighbour in half a second.
const PER_PEER_MAX: usize = 32;

/// The most bytes pulled from one neighbour at a time, one body excepted. A guess.
const BYTES_PER_PEER_MAX: u64 = 8 << 20;

/// A pull waits for this long at most while other bytes flow from the same peer.
const PULL_HELD_MAX: Duration = Duration::from_secs(3);

/// While pulls go unanswered, at most this many are under way.
const PULLS_IN_NEED: usize = 4;

/// The patience of pulls doubles this often at most: 250 ms become 4 s.
const BACKOFF_MAX: u8 = 4;

/// An announcement of a body that isn't here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    pub(super) slot: Slot,
    /// The body's length.
    pub(super) length: u32,
    /// When this announcement would have come in, had it not been batched, and how many links the body passed on its way
    /// to `slot`. `None` if `slot` has yet to receive the body, or has had it for long.
    pub(super) had: Option<(Time, u8)>,
    /// The neighbour has refused to feed us, or feeds slowly: it is asked last.
    pub(super) poor: bool,
    /// It comes from the parent, which would have sent the body rather than announced it.
    pub(super) unsent: bool,
}

/// A missing body.
#[derive(Debug, Clone, Default)]
pub(super) struct Missing {
    pub(super) length: u32,
    /// Neighbours that announced it.
    pub(super) holders: PeerSet,
    /// Neighbours that were asked in vain since their last announcement.
    tried: PeerSet,
    /// Neighbours that asked us for it while we were asking: they get it as it comes in.
    pub(super) waiters: PeerSet,
    /// The neighbour that would have it here first, and the time of its announcement, had that not been batched.
    pub(super) earliest: Option<(Slot, Time)>,
    /// The neighbour that announced it over the fewest links, and their number (the paper's `r`).
    pub(super) nearest: Option<(Slot, u8)>,
    /// The time of the graft; during a pull, the time at which the pull is given up.
    due: Time,
    /// The neighbour that was asked, and when.
    pull: Option<(Slot, Time)>,
    /// An eager copy is expected. If none comes, the tree doesn't reach this node.
    awaited: bool,
}

impl Missing {
    /// Makes the entry of a body that is announced for the first time, and grafted at `due`.
    pub(super) fn new(offer: &Offer, holders: PeerSet, due: Time, awaited: bool) -> Self {
        Missing {
            length: offer.length,
            holders: holders.union(PeerSet::one(offer.slot)),
            earliest: offer.had.map(|(at, _)| (offer.slot, at)),
            nearest: offer.had.map(|(_, hops)| (offer.slot, hops)),
            due,
            awaited,
            ..Missing::default()
        }
    }

    /// Makes the entry of a body that was under way. It is grafted at once, elsewhere than at `failed` first.
    pub(super) fn again(now: Time, length: u32, holders: PeerSet, failed: Slot) -> Self {
        Missing { length, holders, tried: PeerSet::one(failed), due: now, ..Missing::default() }
    }

    /// Returns whether this neighbour was asked for it.
    pub(super) fn is_asked_of(&self, slot: Slot) -> bool {
        self.pull.is_some_and(|(asked, _)| asked == slot)
    }

    /// Notes another announcement. Returns whether a graft is due now.
    fn announced(&mut self, now: Time, offer: &Offer, neighbours: &Neighbours) -> bool {
        let all_tried = self.holders.minus(self.tried).is_empty();
        // Departure: an eager copy isn't waited for if the parent itself says that it won't send one.
        let due = self.pull.is_none() && (all_tried || offer.unsent || !(self.awaited || offer.poor));
        if due {
            self.due = now;
        }
        self.holders.insert(offer.slot);
        self.tried.remove(offer.slot);
        if let Some((at, hops)) = offer.had {
            let whole = |slot: Slot, at: Time| at + neighbours.slow_tail(slot, self.length);
            if self.earliest.is_none_or(|(other, earliest)| whole(offer.slot, at) < whole(other, earliest)) {
                self.earliest = Some((offer.slot, at));
            }
            if self.nearest.is_none_or(|(_, fewest)| hops < fewest) {
                self.nearest = Some((offer.slot, hops));
            }
        }
        due
    }
}

/// The pulls from one neighbour that haven't begun.
#[derive(Debug, Clone, Default)]
struct UnderWay {
    bodies: u16,
    bytes: u64,
}

/// The states of the links, for the choice of a holder.
#[derive(Debug, Clone, Copy)]
pub(super) struct HolderLinks<'a> {
    /// The paper's eagerPushPeers.
    pub(super) eager: PeerSet,
    /// Neighbours that refused to feed us lately.
    pub(super) full: PeerSet,
    /// The measurements of the links.
    pub(super) neighbours: &'a Neighbours,
}

/// A pull to begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pull {
    pub(super) slot: Slot,
    /// An eager link would bring this part.
    pub(super) live: bool,
    /// No neighbour was asked before.
    pub(super) is_first: bool,
    pub(super) length: u32,
    pub(super) holders: PeerSet,
}

/// The missing bodies, and the pulls under way.
#[derive(Debug, Clone, Default)]
pub(super) struct Pulls {
    /// The paper's missing set.
    missing: BTreeMap<Key, Missing>,
    /// By neighbour; only those with pulls.
    under_way: BTreeMap<Slot, UnderWay>,
    /// How often the patience has doubled, and until when it doesn't double again.
    backoff: u8,
    backoff_until: Time,
    /// A pull has ended, so another may begin.
    freed: bool,
    /// The time to graft a missing body, or to give a pull up.
    due: Deadline,
}

impl Pulls {
    pub(super) fn contains(&self, key: &Key) -> bool {
        self.missing.contains_key(key)
    }

    pub(super) fn len(&self) -> usize {
        self.missing.len()
    }

    pub(super) fn newest(&self, track: TrackId) -> Option<Key> {
        newest_in(&self.missing, track)
    }

    pub(super) fn next_due(&self) -> Option<Time> {
        self.due.at()
    }

    /// Returns once whether a graft is due, or a pull is late.
    pub(super) fn is_due(&mut self, now: Time) -> bool {
        self.due.expired(now)
    }

    /// Notes an announcement. Returns whether the body is missing already.
    pub(super) fn announced(&mut self, now: Time, key: &Key, offer: &Offer, neighbours: &Neighbours) -> bool {
        let Some(missing) = self.missing.get_mut(key) else { return false };
        if missing.announced(now, offer, neighbours) {
            self.due.hasten(now);
        }
        true
    }

    /// Remembers a missing body. Returns the one that is forgotten for it, if any.
    pub(super) fn insert(&mut self, key: Key, missing: Missing) -> Option<(Key, Missing)> {
        self.due.hasten(missing.due);
        self.missing.insert(key, missing);
        if self.missing.len() <= MISSING_MAX {
            return None;
        }
        let last = self.missing.keys().max_by_key(|key| key.urgency()).copied()?;
        self.give_up(&last).map(|lost| (last, lost))
    }

    /// Forgets a missing body.
    fn give_up(&mut self, key: &Key) -> Option<Missing> {
        let missing = self.missing.remove(key)?;
        self.release(&missing);
        Some(missing)
    }

    /// Takes out the bodies that this node no longer wants.
    pub(super) fn take_unwanted(&mut self, wants: impl Fn(&Key) -> bool) -> Vec<(Key, Missing)> {
        let unwanted: Vec<(Key, Missing)> = self.missing.extract_if(.., |key, _| !wants(key)).collect();
        unwanted.iter().for_each(|(_, missing)| self.release(missing));
        unwanted
    }

    fn release(&mut self, missing: &Missing) {
        if let Some((slot, _)) = missing.pull {
            self.release_pull(slot, missing.length);
        }
    }

    fn release_pull(&mut self, slot: Slot, length: u32) {
        let Some(under_way) = self.under_way.get_mut(&slot) else { return };
        under_way.bodies = under_way.bodies.saturating_sub(1);
        under_way.bytes = under_way.bytes.saturating_sub(length.into());
        if under_way.bodies == 0 {
            self.under_way.remove(&slot);
        }
    }

    /// Takes out a body that begins or goes on.
    pub(super) fn found(&mut self, key: &Key) -> Option<Missing> {
        let missing = self.give_up(key)?;
        self.freed |= missing.pull.is_some();
        if self.missing.is_empty() {
            self.due.cancel();
        }
        Some(missing)
    }

    /// Notes that a body has begun; `pulled`: after a GRAFT.
    pub(super) fn began(&mut self, pulled: bool) {
        self.backoff = if pulled { 0 } else { self.backoff.saturating_sub(1) };
    }

    /// Returns once whether a pull has ended, so that another may begin.
    pub(super) fn take_freed(&mut self) -> bool {
        std::mem::take(&mut self.freed) && !self.missing.is_empty()
    }

    /// Handles a GRAFT for a missing body. Returns whether the neighbour may wait: the body is asked of another one.
    pub(super) fn wait(&mut self, key: &Key, slot: Slot) -> bool {
        let asked = |missing: &&mut Missing| missing.pull.is_some() && !missing.is_asked_of(slot);
        let missing = self.missing.get_mut(key).filter(asked);
        missing.map(|missing| missing.waiters.insert(slot)).is_some()
    }

    /// Notes that a neighbour hasn't got a body. Returns the entry if no other neighbour has it: it is given up.
    pub(super) fn drop_holder(&mut self, now: Time, key: &Key, slot: Slot) -> Option<Missing> {
        let missing = self.missing.get_mut(key)?;
        missing.holders.remove(slot);
        missing.tried.remove(slot);
        missing.earliest.take_if(|(earliest, _)| *earliest == slot);
        missing.nearest.take_if(|(nearest, _)| *nearest == slot);
        let (length, nobody) = (missing.length, missing.holders.is_empty());
        if missing.pull.take_if(|(asked, _)| *asked == slot).is_some() {
            missing.due = now;
            self.due.hasten(now);
            self.release_pull(slot, length);
        }
        if nobody { self.give_up(key) } else { None }
    }

    /// Forgets a neighbour; `parent`: it fed us, so no eager copy is waited for any more. Returns the bodies that no other
    /// neighbour has.
    pub(super) fn without(&mut self, now: Time, slot: Slot, parent: bool) -> Vec<(Key, Missing)> {
        let keys: Vec<Key> = self.missing.keys().copied().collect();
        let mut lost = Vec::new();
        for key in keys {
            lost.extend(self.drop_holder(now, &key, slot).map(|missing| (key, missing)));
            if let Some(missing) = self.missing.get_mut(&key) {
                missing.waiters.remove(slot);
                if parent && missing.pull.is_none() {
                    missing.due = now;
                }
            }
        }
        self.due.hasten(now);
        lost
    }

    /// Paper: "upon event Timer(mID): ... setup Timer(mID, timeout_2)". Gives late pulls up. Returns the bodies to graft,
    /// the most urgent first.
    pub(super) fn due(&mut self, now: Time, neighbours: &Neighbours, config: &Config) -> Vec<Key> {
        let (mut due, mut late) = (Vec::new(), Vec::new());
        for (key, missing) in &mut self.missing {
            if let Some((slot, asked)) = missing.pull.filter(|_| missing.due <= now) {
                // Departure: the timer waits while bytes flow.
                let until = (neighbours.bytes_at(slot) + STALL).min(asked + PULL_HELD_MAX);
                if config.size_aware_timers && until > now {
                    missing.due = until;
                } else {
                    missing.pull = None;
                    missing.tried.insert(slot);
                    late.push((slot, missing.length));
                }
            }
            if missing.due > now {
                self.due.hasten(missing.due);
            } else if missing.pull.is_none() {
                due.push(*key);
            }
        }
        if !late.is_empty() {
            self.back_off(now, config);
        }
        for (slot, length) in late {
            self.release_pull(slot, length);
        }
        due.sort_by_key(|key| key.urgency());
        due
    }

    /// Departure: pulls go unanswered. Perhaps this node's own link is full, and another pull of the same body would fill
    /// it further. As in RFC 6298, the patience doubles until an answer comes in time.
    fn back_off(&mut self, now: Time, config: &Config) {
        if config.size_aware_timers && now >= self.backoff_until {
            self.backoff = (self.backoff + 1).min(BACKOFF_MAX);
            self.backoff_until = now + config.graft_timeout_2 * (1 << self.backoff);
        }
    }

    /// Paper: "send GRAFT to the first announcer in missing". Departure: to the best one. `newest`: no newer part of the
    /// track is known.
    pub(super) fn choose(
        &mut self,
        now: Time,
        key: &Key,
        newest: bool,
        links: HolderLinks,
        config: &Config,
    ) -> Option<Pull> {
        let neighbours = links.neighbours;
        let under_way: usize = self.under_way.values().map(|pulls| usize::from(pulls.bodies)).sum();
        if self.backoff > 0 && under_way >= PULLS_IN_NEED {
            return None;
        }
        let missing = self.missing.get_mut(key)?;
        let live = newest || missing.awaited;
        let mut untried = missing.holders.minus(missing.tried);
        let is_first = missing.tried.is_empty();
        if untried.is_empty() {
            // All were asked in vain. They are asked again, after a pause.
            missing.tried = PeerSet::default();
            untried = missing.holders;
            if missing.holders.len() > 1 || config.size_aware_timers {
                missing.due = now + config.graft_timeout_2;
                self.due.hasten(missing.due);
                return None;
            }
        }
        let length = missing.length;
        let pulls = |slot: Slot| self.under_way.get(&slot).map_or((0, 0), |pulls| (pulls.bodies, pulls.bytes));
        let has_room = |slot: &Slot| {
            let (bodies, bytes) = pulls(*slot);
            usize::from(bodies) < PER_PEER_MAX && (bodies == 0 || bytes + u64::from(length) <= BYTES_PER_PEER_MAX)
        };
        // If all are busy, the next body that begins frees one.
        let slot = untried.iter().filter(has_room).min_by_key(|slot| {
            // A live part joins the tree, with one parent for all tracks. Pulls of other parts are spread.
            let apart = live && !links.eager.contains(*slot);
            let slow = !neighbours.slow_tail(*slot, length).is_zero();
            let poor = slow || (live && links.full.contains(*slot));
            (poor, apart, pulls(*slot).0, neighbours.rtt_us(*slot), *slot)
        })?;
        let under_way = self.under_way.entry(slot).or_default();
        under_way.bodies += 1;
        under_way.bytes += u64::from(length);
        let patience = if config.size_aware_timers {
            let round_trips = Duration::from_micros(2 * u64::from(neighbours.rtt_us(slot)));
            let transfers = neighbours.transfer_time(slot, under_way.bytes);
            (config.graft_timeout_2 + round_trips + transfers) * (1 << self.backoff)
        } else {
            config.graft_timeout_2
        };
        missing.pull = Some((slot, now));
        missing.due = now + patience;
        self.due.hasten(missing.due);
        Some(Pull { slot, live, is_first, length, holders: missing.holders })
    }
}
