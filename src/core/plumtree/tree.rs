//! The tree: the eager links, the parent, and better links.

use std::collections::BTreeMap;
use std::time::Duration;

use super::config::{Config, Optimise};
use super::neighbours::{Neighbours, PeerSet, Slot};
use super::pulls::{HolderLinks, Missing, Offer};
use super::transfers::Coming;
use crate::model::time::Time;

/// A neighbour that refused a GRAFT for want of upload is asked last for this long.
const FULL_FOR: Duration = Duration::from_secs(10);

/// A refused neighbour that asks again after this insists. An earlier GRAFT may have crossed the refusal.
const INSISTS_AFTER: Duration = Duration::from_millis(500);

/// A child is told this often at most that there are too many children.
const SHED_EVERY: Duration = Duration::from_secs(20);

/// The longest that a size-aware timer waits for the eager copy, transfer times left out. A live part that isn't there
/// after PART-HOLD-BACK, three parts' time, is a gap, and the pull needs the rest of it.
const GRAFT_MARGIN_MAX: Duration = Duration::from_millis(250);

/// The delay of eager copies after the first announcement: mean and deviation as RFC 6298 has them for
/// the round trip.
#[derive(Debug, Clone, Default)]
struct Lag {
    mean_us: u64,
    deviation_us: u64,
    samples: u32,
}

impl Lag {
    fn add(&mut self, lag: Duration) {
        let us = u64::try_from(lag.as_micros()).unwrap_or(u64::MAX).min(10_000_000);
        if self.samples == 0 {
            (self.mean_us, self.deviation_us) = (us, us / 2);
        } else {
            self.deviation_us = (3 * self.deviation_us + self.mean_us.abs_diff(us)) / 4;
            self.mean_us = (7 * self.mean_us + us) / 8;
        }
        self.samples = self.samples.saturating_add(1);
    }

    /// Returns the mean + 4 deviations, once there are enough samples to believe it.
    fn bound(&self) -> Option<Duration> {
        (self.samples >= 4).then(|| Duration::from_micros(self.mean_us + 4 * self.deviation_us))
    }
}

/// The rate of this stream in bytes/s, for the upload budget.
#[derive(Debug, Clone, Default)]
struct Inflow {
    since: Option<Time>,
    bytes: u64,
    rate: u64,
}

impl Inflow {
    const WINDOW: Duration = Duration::from_secs(2);

    /// Returns bytes/s; 0 before the first measurement, and after some windows without a body.
    fn rate(&self, now: Time) -> u64 {
        if self.since.is_some_and(|since| now.since(since) < 4 * Self::WINDOW) { self.rate } else { 0 }
    }

    fn add(&mut self, now: Time, bytes: u64) {
        let since = *self.since.get_or_insert(now);
        self.bytes += bytes;
        let elapsed = now.since(since);
        if elapsed >= Self::WINDOW {
            let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
            let rate = self.bytes.saturating_mul(1_000_000) / micros.max(1);
            self.rate = if self.rate == 0 { rate } else { self.rate / 2 + rate / 2 };
            (self.since, self.bytes) = (Some(now), 0);
        }
    }
}

/// The tree, as this node sees it.
#[derive(Debug, Clone, Default)]
pub(super) struct Tree {
    /// The paper's eagerPushPeers; all other neighbours are in its lazyPushPeers.
    eager: PeerSet,
    /// The neighbour that feeds us: the first copy of a body came from it, over an eager link.
    parent: Option<Slot>,
    /// Neighbours that were asked to feed us and have neither sent a body nor refused since.
    grafted: PeerSet,
    /// A lazy neighbour that was earlier than the parent, and how often in a row.
    candidate: Option<(Slot, u8)>,
    /// The times of the last PRUNE to each neighbour.
    pruned_at: BTreeMap<Slot, Time>,
    /// Neighbours that answered a GRAFT with a PRUNE. Until these times they are asked last.
    full_until: BTreeMap<Slot, Time>,
    lag: Lag,
    inflow: Inflow,
    /// The eager links that [`Tree::changed`] saw last.
    told: Option<PeerSet>,
}

impl Tree {
    /// Makes a new neighbour's link eager, as in the paper.
    pub(super) fn add(&mut self, slot: Slot) {
        self.eager.insert(slot);
    }

    /// Forgets a neighbour. Returns whether it was the parent.
    pub(super) fn without(&mut self, slot: Slot) -> bool {
        let parent = self.is_parent(slot);
        self.make_lazy(slot);
        self.pruned_at.remove(&slot);
        self.full_until.remove(&slot);
        self.candidate.take_if(|(candidate, _)| *candidate == slot);
        self.told = None;
        parent
    }

    pub(super) fn eager(&self) -> PeerSet {
        self.eager
    }

    pub(super) fn parent(&self) -> Option<Slot> {
        self.parent
    }

    pub(super) fn is_parent(&self, slot: Slot) -> bool {
        self.parent == Some(slot)
    }

    /// Returns the neighbours that are fed from here.
    pub(super) fn children(&self) -> PeerSet {
        self.parent.map_or(self.eager, |parent| self.eager.minus(PeerSet::one(parent)))
    }

    /// Returns whether a neighbour has refused to feed us lately.
    pub(super) fn is_full(&self, now: Time, slot: Slot) -> bool {
        self.full_until.get(&slot).is_some_and(|until| *until > now)
    }

    /// Returns the states of the links, for the choice of a holder.
    pub(super) fn links<'a>(&self, now: Time, neighbours: &'a Neighbours) -> HolderLinks<'a> {
        let mut full = PeerSet::default();
        for slot in self.full_until.keys().filter(|slot| self.is_full(now, **slot)) {
            full.insert(*slot);
        }
        HolderLinks { eager: self.eager, full, neighbours }
    }

    /// Returns whether the set of eager links has changed since the last call.
    pub(super) fn changed(&mut self) -> bool {
        self.told.replace(self.eager) != Some(self.eager)
    }

    /// Returns the rate of this stream in bytes/s; 0 while it isn't known.
    pub(super) fn inflow(&self, now: Time) -> u64 {
        self.inflow.rate(now)
    }

    /// Counts a whole body.
    pub(super) fn add_inflow(&mut self, now: Time, bytes: u64) {
        self.inflow.add(now, bytes);
    }

    fn make_lazy(&mut self, slot: Slot) {
        self.eager.remove(slot);
        self.grafted.remove(slot);
        self.parent.take_if(|parent| *parent == slot);
    }

    /// Notes that a neighbour is asked to feed us.
    pub(super) fn graft(&mut self, slot: Slot) {
        self.eager.insert(slot);
        self.grafted.insert(slot);
    }

    /// Notes that a body begins. Paper: "eagerPushPeers + {sender}; lazyPushPeers - {sender}". Departure: not if it was
    /// `pulled`, since a hole in the window is filled beside the tree.
    pub(super) fn began(&mut self, slot: Slot, pulled: bool) {
        self.grafted.remove(slot);
        if !pulled {
            self.eager.insert(slot);
        }
        self.went_on(slot);
    }

    /// Notes that a neighbour sends a body, or goes on with it.
    pub(super) fn went_on(&mut self, slot: Slot) {
        if self.eager.contains(slot) {
            self.parent = Some(slot);
        }
    }

    /// Returns the neighbours that get a body from `source`: the eager ones that don't hold it, and those that asked for it.
    /// The link to a holder leaves the tree, unless it feeds us or is about to.
    pub(super) fn targets(&mut self, source: Slot, holders: PeerSet, waiters: PeerSet) -> PeerSet {
        let to = self.eager.minus(holders).union(waiters).minus(PeerSet::one(source));
        let mut stay = self.grafted.union(to);
        stay.insert(source);
        if let Some(parent) = self.parent {
            stay.insert(parent);
        }
        self.eager = self.eager.minus(self.eager.minus(stay));
        to
    }

    /// Notes that a child gets a body from another node: that is its parent, and not this node.
    pub(super) fn fed_elsewhere(&mut self, slot: Slot) {
        if !self.is_parent(slot) && !self.grafted.contains(slot) {
            self.eager.remove(slot);
        }
    }

    /// Returns whether an eager copy of the newest body may be expected. Departure: not while this node has no parent, nor
    /// if the parent itself announces the body (then it doesn't send it).
    pub(super) fn expects(&self, announcer: Slot) -> bool {
        !self.is_parent(announcer) && self.parent.is_some()
    }

    /// Returns the paper's timeout_1. Departure: the measured lag of the tree + length / rate.
    pub(super) fn timeout_1(&self, length: u32, neighbours: &Neighbours, config: &Config) -> Duration {
        if !config.size_aware_timers {
            return config.graft_timeout_1;
        }
        let Some(parent) = self.parent else { return config.graft_margin_min };
        let margin = match self.lag.bound() {
            Some(bound) => bound.min(GRAFT_MARGIN_MAX).max(config.graft_margin_min),
            None => config.graft_timeout_1,
        };
        margin + neighbours.transfer_time(parent, u64::from(length))
    }

    /// Handles a GRAFT. Returns whether the neighbour is a child now. Departure: children are capped.
    pub(super) fn grafted_by(&mut self, now: Time, slot: Slot, upload: Option<u64>) -> bool {
        let full = self.has_no_room(now, slot, upload);
        if full {
            self.pruned_at.insert(slot, now);
            self.eager.remove(slot);
        } else {
            self.eager.insert(slot);
        }
        !full
    }

    /// Departure: the number of children is capped to what half of the upload budget feeds, so that a slow node is a leaf.
    /// A neighbour that insists has found no better parent: for it, all of the budget counts.
    fn has_no_room(&self, now: Time, asking: Slot, upload: Option<u64>) -> bool {
        let refused = self.pruned_at.get(&asking).map(|at| now.since(*at));
        let again = refused.is_some_and(|since| since >= INSISTS_AFTER && since < FULL_FOR);
        let Some(budget) = self.children_max(upload) else { return false };
        let most = if again { budget.max(1) } else { budget / 2 };
        self.children().minus(PeerSet::one(asking)).len() >= most
    }

    /// Returns how many children the upload budget feeds, once this stream's rate is known.
    fn children_max(&self, upload: Option<u64>) -> Option<usize> {
        let children = upload?.checked_div(self.inflow.rate)?;
        Some(usize::try_from(children).unwrap_or(usize::MAX))
    }

    /// Departure: returns a child beyond the cap that hasn't been told so lately. It is sent elsewhere.
    pub(super) fn shed(&mut self, now: Time, upload: Option<u64>) -> Option<Slot> {
        let budget = self.children_max(upload)?;
        let children = self.children();
        if children.len() <= budget / 2 {
            return None;
        }
        let slot = children.iter().find(|slot| !self.was_pruned(now, *slot, SHED_EVERY))?;
        self.pruned_at.insert(slot, now);
        self.eager.remove(slot);
        Some(slot)
    }

    fn was_pruned(&self, now: Time, slot: Slot, lately: Duration) -> bool {
        self.pruned_at.get(&slot).is_some_and(|at| now.since(*at) < lately)
    }

    /// Handles a PRUNE; `full`: it may be for want of upload.
    pub(super) fn pruned_by(&mut self, now: Time, slot: Slot, full: bool) {
        self.make_lazy(slot);
        if full {
            self.full_until.insert(slot, now + FULL_FOR);
        }
    }

    /// Notes that a neighbour gets a PRUNE.
    pub(super) fn prune(&mut self, now: Time, slot: Slot) {
        self.pruned_at.insert(slot, now);
        self.make_lazy(slot);
    }

    /// Paper, "Optimization": on the first copy of a message, a lazy neighbour that announced it over
    /// fewer links takes the sender's place. Returns it. Departure: by measured time.
    pub(super) fn came(
        &mut self,
        coming: Coming,
        missing: &Missing,
        neighbours: &Neighbours,
        config: &Config,
    ) -> Option<Slot> {
        let Coming { slot, received: now, hops } = coming;
        if let Some((_, first)) = missing.earliest {
            self.lag.add(now.since(first));
        }
        let better = match config.optimise {
            Optimise::Off => None,
            // Paper: "if exists (id, node, r) in missing with id = mID, r < round and round - r >=
            // threshold". Our `hops` counts the last link, too.
            Optimise::Hops { threshold } => missing
                .nearest
                .filter(|(_, r)| hops.saturating_sub(1).saturating_sub(*r) >= threshold)
                .map(|(node, _)| node),
            Optimise::Time { margin, samples } => {
                let tail = |slot: Slot| neighbours.slow_tail(slot, missing.length);
                let whole = now + tail(slot);
                let earlier = missing.earliest.filter(|(node, at)| whole.since(*at + tail(*node)) >= margin);
                let before = |slot| self.candidate.filter(|(candidate, _)| *candidate == slot);
                self.candidate =
                    earlier.map(|(slot, _)| (slot, before(slot).map_or(0, |(_, count)| count).saturating_add(1)));
                self.candidate.filter(|(_, count)| *count >= samples).map(|(slot, _)| slot)
            }
        };
        self.exchange(now, slot, better.filter(|better| *better != slot)?)
    }

    /// Departure: a body comes slowly, and another neighbour has it as well. One that is likely to have brought it
    /// whole by then becomes the parent, before this one makes all bodies late. Not one below us in the tree: its
    /// copy has passed more links than ours, and begun later.
    pub(super) fn too_slow(
        &mut self,
        now: Time,
        coming: Coming,
        offer: &Offer,
        neighbours: &Neighbours,
        config: &Config,
    ) -> Option<Slot> {
        let Optimise::Time { margin, .. } = config.optimise else { return None };
        let Coming { slot, received, hops } = coming;
        let (had, hops_there) = offer.had.filter(|_| self.is_parent(slot))?;
        let link = Duration::from_micros(u64::from(neighbours.rtt_us(offer.slot)) / 2);
        if hops_there > hops && had - link >= received {
            return None;
        }
        let tail = |slot: Slot| neighbours.slow_tail(slot, offer.length);
        let (here, there) = (tail(slot), tail(offer.slot));
        if here.is_zero() || had + there + margin > received + here {
            return None;
        }
        self.exchange(now, slot, offer.slot)
    }

    /// Paper: "trigger Send(GRAFT, node, null, myself); trigger Send(PRUNE, sender, myself)".
    fn exchange(&mut self, now: Time, slot: Slot, better: Slot) -> Option<Slot> {
        if self.is_full(now, better) {
            return None;
        }
        self.graft(better);
        self.prune(now, slot);
        self.candidate = None;
        self.parent = Some(better);
        Some(better)
    }
}
