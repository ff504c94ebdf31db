//! Bodies that were announced and haven't come: the paper's `missing` set, its graft timers, and the
//! pulls under way.

use std::collections::BTreeMap;
use std::time::Duration;

use super::config::Config;
use super::deadline::Deadline;
use super::key::{Key, newest_in};
use super::neighbours::{Neighbours, PeerSet, STALL, Slot};
use crate::model::TrackId;
use crate::model::time::Time;

/// Most missing bodies remembered; the least urgent are forgotten first, and come back with a digest.
pub const MISSING_MAX: usize = 4_096;

/// The most bodies pulled from one neighbour at a time: with 50 ms of round trip a window of 300 parts comes from one
/// neighbour in half a second.
const PER_PEER_MAX: usize = 32;

/// The most bytes pulled from one neighbour at a time, one body excepted. A guess.
const BYTES_PER_PEER_MAX: u64 = 8 << 20;

/// A pull is held for this long at most while other bytes flow from the same peer.
const PULL_HELD_MAX: Duration = Duration::from_secs(3);

/// While pulls go unanswered, no more than this many are under way.
const PULLS_IN_NEED: usize = 4;

/// Patience is doubled at most this often: 250 ms become 4 s.
const BACKOFF_MAX: u8 = 4;

/// An announcement of a body that isn't here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    pub(super) slot: Slot,
    /// The body's length.
    pub(super) length: u32,
    /// When we should have heard that `slot` has it, had the announcement not been batched, and over how many links
    /// it came there; `None` of a body that `slot` has yet to receive, or has had for long.
    pub(super) had: Option<(Time, u8)>,
    /// The neighbour has refused to feed us, or does so slowly: it is the last to be asked.
    pub(super) poor: bool,
    /// The parent itself says that it doesn't send it.
    pub(super) unsent: bool,
}

/// A missing body.
#[derive(Debug, Clone, Default)]
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
    pull: Option<(Slot, Time)>,
    /// An eager copy was expected. If none comes, the tree doesn't reach this node.
    awaited: bool,
}

impl Missing {
    /// A body that is announced for the first time, and grafted at `due`.
    pub(super) fn new(offer: &Offer, holders: PeerSet, due: Time, awaited: bool) -> Self {
        Missing {
            length: offer.length,
            holders: holders.union(PeerSet::one(offer.slot)),
            first: offer.had.map(|(at, _)| (offer.slot, at)),
            nearest: offer.had.map(|(_, hops)| (offer.slot, hops)),
            due,
            awaited,
            ..Missing::default()
        }
    }

    /// A body that was under way: it is asked for at once, elsewhere first.
    pub(super) fn again(now: Time, length: u32, holders: PeerSet, failed: Slot) -> Self {
        Missing { length, holders, tried: PeerSet::one(failed), due: now, ..Missing::default() }
    }

    /// Whether it was asked of this neighbour.
    pub(super) fn is_asked_of(&self, slot: Slot) -> bool {
        self.pull.is_some_and(|(asked, _)| asked == slot)
    }

    /// It is announced again; returns whether it is due now.
    fn announced(&mut self, now: Time, offer: &Offer, neighbours: &Neighbours) -> bool {
        let untold = self.holders.minus(self.tried).is_empty();
        // Departure: nor is an eager copy waited for that the parent itself says it won't send.
        let due = self.pull.is_none() && (untold || offer.unsent || !(self.awaited || offer.poor));
        if due {
            self.due = now;
        }
        self.holders.insert(offer.slot);
        self.tried.remove(offer.slot);
        if let Some((at, hops)) = offer.had {
            let whole = |slot: Slot, at: Time| at + neighbours.slow_tail(slot, self.length);
            if self.first.is_none_or(|(other, earliest)| whole(offer.slot, at) < whole(other, earliest)) {
                self.first = Some((offer.slot, at));
            }
            if self.nearest.is_none_or(|(_, fewest)| hops < fewest) {
                self.nearest = Some((offer.slot, hops));
            }
        }
        due
    }
}

/// What is asked of one neighbour and not begun.
#[derive(Debug, Clone, Default)]
struct UnderWay {
    bodies: u16,
    bytes: u64,
}

/// Which links are what, where a holder is chosen.
#[derive(Debug, Clone, Copy)]
pub(super) struct HolderLinks<'a> {
    /// The paper's eagerPushPeers.
    pub(super) eager: PeerSet,
    /// Neighbours that refused to feed us lately.
    pub(super) full: PeerSet,
    /// What was measured of them.
    pub(super) neighbours: &'a Neighbours,
}

/// A pull that begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pull {
    pub(super) slot: Slot,
    /// It is the part that an eager link would bring.
    pub(super) live: bool,
    /// Nobody was asked before.
    pub(super) first: bool,
    pub(super) length: u32,
    pub(super) holders: PeerSet,
}

/// The missing bodies, and what is asked of whom.
#[derive(Debug, Clone, Default)]
pub(super) struct Pulls {
    /// The paper's missing set.
    missing: BTreeMap<Key, Missing>,
    /// By neighbour, where there is anything.
    under_way: BTreeMap<Slot, UnderWay>,
    /// How often the patience was doubled, and until when it isn't again.
    backoff: u8,
    backoff_until: Time,
    /// A pull has ended: another may begin.
    freed: bool,
    /// When a missing body is grafted, or a GRAFT given up.
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

    /// Whether a body is to be asked for, or a pull given up. Answers once.
    pub(super) fn is_due(&mut self, now: Time) -> bool {
        self.due.expired(now)
    }

    /// A body that isn't here is announced; returns whether it is missing already.
    pub(super) fn announced(&mut self, now: Time, key: &Key, offer: &Offer, neighbours: &Neighbours) -> bool {
        let Some(missing) = self.missing.get_mut(key) else { return false };
        if missing.announced(now, offer, neighbours) {
            self.due.hasten(now);
        }
        true
    }

    /// Remembers a missing body; returns what is given up for it.
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

    /// Forgets what isn't wanted.
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

    /// A body begins or goes on: it is missing no longer.
    pub(super) fn found(&mut self, key: &Key) -> Option<Missing> {
        let missing = self.give_up(key)?;
        self.freed |= missing.pull.is_some();
        if self.missing.is_empty() {
            self.due.cancel();
        }
        Some(missing)
    }

    /// A body has begun; `pulled`: it was asked for.
    pub(super) fn began(&mut self, pulled: bool) {
        self.backoff = if pulled { 0 } else { self.backoff.saturating_sub(1) };
    }

    /// Whether a pull has ended, so that another may begin. Answers once.
    pub(super) fn take_freed(&mut self) -> bool {
        std::mem::take(&mut self.freed) && !self.missing.is_empty()
    }

    /// A neighbour asks for what is asked of another; returns whether it may wait for it here.
    pub(super) fn wait(&mut self, key: &Key, slot: Slot) -> bool {
        let asked = |missing: &&mut Missing| missing.pull.is_some() && !missing.is_asked_of(slot);
        let missing = self.missing.get_mut(key).filter(asked);
        missing.map(|missing| missing.waiters.insert(slot)).is_some()
    }

    /// A neighbour hasn't got a body. Returns what is given up since nobody else has it.
    pub(super) fn drop_holder(&mut self, now: Time, key: &Key, slot: Slot) -> Option<Missing> {
        let missing = self.missing.get_mut(key)?;
        missing.holders.remove(slot);
        missing.tried.remove(slot);
        missing.first.take_if(|(first, _)| *first == slot);
        missing.nearest.take_if(|(nearest, _)| *nearest == slot);
        let (length, nobody) = (missing.length, missing.holders.is_empty());
        if missing.pull.take_if(|(asked, _)| *asked == slot).is_some() {
            missing.due = now;
            self.due.hasten(now);
            self.release_pull(slot, length);
        }
        if nobody { self.give_up(key) } else { None }
    }

    /// A neighbour is gone; `parent`: it was the one that fed us, and nothing is waited for any more. Returns what
    /// nobody else has.
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

    /// Paper: "upon event Timer(mID): ... setup Timer(mID, timeout_2)". Gives up late pulls; returns what is to be
    /// asked for, the most urgent first.
    pub(super) fn due(&mut self, now: Time, neighbours: &Neighbours, config: &Config) -> Vec<Key> {
        let (mut due, mut late) = (Vec::new(), Vec::new());
        for (key, missing) in &mut self.missing {
            if let Some((slot, asked)) = missing.pull.filter(|_| missing.due <= now) {
                // Departure: the timer is held while bytes flow.
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
            self.give_way(now, config);
        }
        for (slot, length) in late {
            self.release_pull(slot, length);
        }
        due.sort_by_key(|key| key.urgency());
        due
    }

    /// Departure: pulls go unanswered. Perhaps it is this node's own link that is full, and to ask somebody else for
    /// the same again would fill it further: as RFC 6298 does, the patience is doubled until an answer comes in time.
    fn give_way(&mut self, now: Time, config: &Config) {
        if config.size_aware_timers && now >= self.backoff_until {
            self.backoff = (self.backoff + 1).min(BACKOFF_MAX);
            self.backoff_until = now + config.graft_timeout_2 * (1 << self.backoff);
        }
    }

    /// Paper: "send GRAFT to the first announcer in missing". Departure: to the best. `newest`: nothing newer of the
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
        let first = missing.tried.is_empty();
        if untried.is_empty() {
            // All were asked in vain: once more, after a breath.
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
        // Where all are busy the next body that begins frees one.
        let slot = untried.iter().filter(has_room).min_by_key(|slot| {
            // What is live joins the tree: one parent for all tracks. What is not is spread.
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
        Some(Pull { slot, live, first, length, holders: missing.holders })
    }
}
