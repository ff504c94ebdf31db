//! The bodies of a stream: those that this node holds, those that come in, and those that it misses.

use bytes::Bytes;

use super::config::Config;
use super::counters::Sizes;
use super::io::{BodyAction, Serve};
use super::key::Key;
use super::message::{Announce, IHAVE_IDS_MAX, TrackDigest};
use super::neighbours::{Neighbours, PeerSet, Slot};
use super::pulls::{HolderLinks, Missing, Offer, Pull, Pulls};
use super::store::{HeldBody, Store};
use super::transfers::{Coming, Head, Piece, Transfer, Transfers};
use crate::model::part_header::BODY_LEN_MAX;
use crate::model::time::Time;
use crate::model::{Msn, PartHeader, PartId, Trace, TrackId};

/// The state here of a body that a neighbour has.
#[derive(Debug)]
pub(super) enum Place {
    Held,
    Coming(Coming),
    /// Not here, or torn. The neighbours that have said that they have it.
    Away(PeerSet),
}

/// The consequences of a change to the bodies, for the links and the counters.
#[derive(Debug, PartialEq)]
pub(super) enum Effect {
    /// The links to these neighbours change what they do about the body.
    Link(PeerSet, BodyAction),
    /// Departure: these neighbours learn that it isn't here; `lost`: and won't be.
    NotHere { to: PeerSet, id: PartId, lost: bool },
    /// A transfer has ended early.
    Torn,
    /// A missing body was forgotten for want of room.
    Full,
    /// It was published here, though others have it.
    Conflict,
    /// No neighbour is known to have it: digests will tell.
    Compare,
}

/// The bodies of one stream.
#[derive(Debug, Clone, Default)]
pub(super) struct Bodies {
    /// The paper's receivedMsgs, with the messages.
    store: Store,
    transfers: Transfers,
    /// The paper's missing set.
    pulls: Pulls,
}

impl Bodies {
    pub(super) fn next_due(&self) -> Option<Time> {
        self.pulls.next_due().into_iter().chain(self.transfers.next_due()).min()
    }

    /// Returns once whether a graft is due, or a pull is late.
    pub(super) fn is_pull_due(&mut self, now: Time) -> bool {
        self.pulls.is_due(now)
    }

    /// Returns whether this node may still want a body.
    pub(super) fn wants(&self, key: &Key) -> bool {
        self.store.wants(key)
    }

    pub(super) fn is_held(&self, key: &Key) -> bool {
        self.store.get(key).is_some()
    }

    /// Returns how much is remembered, without announcements.
    pub(super) fn sizes(&self) -> Sizes {
        Sizes {
            held: self.store.len(),
            held_bytes: self.store.bytes(),
            transfers: self.transfers.len(),
            missing: self.pulls.len(),
            announcements: 0,
        }
    }

    /// Returns how much of a body has come in.
    pub(super) fn got(&self, key: &Key) -> u32 {
        self.transfers.get(key).map_or(0, Transfer::got)
    }

    /// Returns the newest body of a track that is here or comes in.
    fn newest(&self, track: TrackId) -> Option<Key> {
        self.store.newest(track).max(self.transfers.newest(track))
    }

    /// Returns whether a body is newer than all of its track that are here or come in.
    pub(super) fn is_newer(&self, key: &Key) -> bool {
        self.newest(key.track).is_none_or(|newest| *key > newest)
    }

    /// Returns the announcements of all bodies that are here or come in, the most urgent first, for a new neighbour.
    pub(super) fn offer(&mut self, slot: Slot) -> Vec<Announce> {
        let mut offer: Vec<(Key, u32)> = Vec::new();
        for (key, held) in self.store.iter_mut() {
            held.known.insert(slot);
            offer.push((*key, held.header.length));
        }
        for (key, transfer) in self.transfers.iter_mut() {
            transfer.told.insert(slot);
            offer.push((*key, transfer.header.length));
        }
        offer.sort_by_key(|(key, _)| key.urgency());
        offer.into_iter().map(|(key, length)| Announce::bare(key.id(), length)).collect()
    }

    /// Returns whether some of these neighbours don't know of a held body.
    pub(super) fn is_news(&self, key: &Key, all: PeerSet) -> bool {
        self.store.get(key).is_some_and(|held| !all.minus(held.known).is_empty())
    }

    /// Returns the announcement of a held body for a neighbour, if it doesn't know of it.
    pub(super) fn tell(&mut self, now: Time, key: &Key, slot: Slot) -> Option<Announce> {
        let held = self.store.get_mut(key)?;
        held.known.insert(slot).then(|| held.announce(now))
    }

    /// Returns the announcement of a body, and the neighbours that neither get it from here nor have it.
    pub(super) fn tell_all(&mut self, now: Time, key: &Key, all: PeerSet) -> Option<(Announce, PeerSet)> {
        if let Some(transfer) = self.transfers.get_mut(key) {
            return Some((transfer.announce(now), transfer.tell_all(all)));
        }
        let held = self.store.get_mut(key)?;
        let news = all.minus(held.known);
        held.known = held.known.union(all);
        Some((held.announce(now), news))
    }

    pub(super) fn digest(&mut self) -> Vec<TrackDigest> {
        self.store.digest().to_vec()
    }

    /// Returns the announcements of what a neighbour lacks by its digest; `None` if it has the same as this node.
    pub(super) fn lacking(&mut self, now: Time, slot: Slot, tracks: &[TrackDigest]) -> Option<Vec<Announce>> {
        if self.store.digest() == tracks {
            return None;
        }
        let lacking = self.store.lacking(now, tracks).into_iter().take(IHAVE_IDS_MAX);
        let mut announces = Vec::new();
        for key in lacking {
            let Some(held) = self.store.get_mut(&key) else { continue };
            held.known.insert(slot);
            announces.push(Announce::bare(key.id(), held.header.length));
        }
        Some(announces)
    }

    /// Notes that a neighbour has a body. Returns the state of the body here.
    pub(super) fn held_by(&mut self, key: &Key, slot: Slot) -> Place {
        if let Some(held) = self.store.get_mut(key) {
            held.known.insert(slot);
            return Place::Held;
        }
        let Some(transfer) = self.transfers.get_mut(key) else { return Place::Away(PeerSet::default()) };
        transfer.holders.insert(slot);
        match transfer.source() {
            Some(slot) => Place::Coming(Coming { slot, received: transfer.received, hops: transfer.hops() }),
            None => Place::Away(transfer.holders),
        }
    }

    /// Notes an announcement of a body that isn't here. Returns whether it is missing already.
    pub(super) fn announced(&mut self, now: Time, key: &Key, offer: &Offer, neighbours: &Neighbours) -> bool {
        self.pulls.announced(now, key, offer, neighbours)
    }

    /// Remembers a missing body.
    pub(super) fn miss(&mut self, key: Key, missing: Missing) -> Vec<Effect> {
        match self.pulls.insert(key, missing) {
            Some((key, lost)) => vec![Effect::Full, self.lost(&key, &lost)],
            None => Vec::new(),
        }
    }

    /// Makes a body missing again that was under way.
    fn miss_again(&mut self, now: Time, key: Key, length: u32, holders: PeerSet, failed: Slot) -> Vec<Effect> {
        if holders.is_empty() {
            return vec![Effect::Compare];
        }
        self.miss(key, Missing::again(now, length, holders, failed))
    }

    fn lost(&self, key: &Key, missing: &Missing) -> Effect {
        Effect::NotHere { to: missing.waiters, id: key.id(), lost: self.transfers.get(key).is_none() }
    }

    /// Takes a body that begins or goes on out of the missing ones.
    pub(super) fn found(&mut self, key: &Key) -> Option<Missing> {
        self.pulls.found(key)
    }

    /// Gives late pulls up. Returns the bodies to graft.
    pub(super) fn due(&mut self, now: Time, neighbours: &Neighbours, config: &Config) -> Vec<Key> {
        self.pulls.due(now, neighbours, config)
    }

    /// Returns once whether a pull has ended, so that another may begin.
    pub(super) fn take_freed(&mut self) -> bool {
        self.pulls.take_freed()
    }

    /// Chooses the neighbour to ask for a missing body, if one may be asked now.
    pub(super) fn choose(&mut self, now: Time, key: &Key, links: HolderLinks, config: &Config) -> Option<Pull> {
        let newest = self.newest(key.track).max(self.pulls.newest(key.track));
        self.pulls.choose(now, key, newest.is_none_or(|newest| newest <= *key), links, config)
    }

    /// Notes that a neighbour hasn't got a missing body.
    pub(super) fn drop_holder(&mut self, now: Time, key: &Key, slot: Slot) -> Option<Effect> {
        let lost = self.pulls.drop_holder(now, key, slot)?;
        Some(self.lost(key, &lost))
    }

    /// Handles a NOT-HERE.
    pub(super) fn not_held_by(&mut self, now: Time, key: &Key, slot: Slot) -> Option<Effect> {
        if let Some(transfer) = self.transfers.get_mut(key) {
            transfer.holders.remove(slot);
        }
        self.drop_holder(now, key, slot)
    }

    /// Judges a head that a neighbour has sent.
    pub(super) fn head(&mut self, slot: Slot, header: &PartHeader, trace: &Trace, offset: u32) -> Head {
        let key = Key::from(header.id);
        let absurd = header.length > BODY_LEN_MAX || trace.hops.len() > Trace::HOPS_MAX;
        if absurd || (offset > 0 && offset >= header.length) {
            return Head::Wrong { conflict: false };
        }
        if !self.store.wants(&key) {
            return Head::Stale;
        }
        if let Some(held) = self.store.get_mut(&key) {
            held.known.insert(slot);
            return Head::Duplicate { same: held.header.hash == header.hash };
        }
        self.transfers.head(&key, slot, header, offset)
    }

    /// Begins a body; `pulled`: its sender was asked for it.
    pub(super) fn begin(&mut self, key: Key, transfer: Transfer, pulled: bool) {
        self.pulls.began(pulled);
        self.transfers.begin(key, transfer);
    }

    /// Goes on with a torn body.
    pub(super) fn resume(&mut self, now: Time, key: &Key, slot: Slot, offset: u32) {
        let holders = self.found(key).map(|missing| missing.holders).unwrap_or_default();
        self.transfers.resume(now, key, slot, offset, holders);
    }

    /// Takes the next bytes of a body.
    pub(super) fn piece(&mut self, now: Time, slot: Slot, key: &Key, bytes: Bytes) -> Piece {
        self.transfers.piece(now, slot, key, bytes)
    }

    /// Takes out a transfer that is complete.
    pub(super) fn complete(&mut self, key: &Key) -> Option<Transfer> {
        self.transfers.complete(key)
    }

    /// Drops a complete body that doesn't match its header. The neighbours that got its pieces find out themselves. Any of
    /// its senders may be to blame; the last one is asked last.
    pub(super) fn spoiled(&mut self, now: Time, transfer: &Transfer) -> Vec<Effect> {
        let (key, failed) = (Key::from(transfer.header.id), transfer.source().unwrap_or_default());
        let mut effects = abort_children(transfer);
        let holders = transfer.holders.minus(PeerSet::one(failed));
        effects.extend(self.miss_again(now, key, transfer.header.length, holders, failed));
        effects
    }

    /// Drops transfers and pulls of a body that this node publishes itself.
    pub(super) fn supersede(&mut self, key: &Key) -> Vec<Effect> {
        let mut effects = self.transfers.take(key).as_ref().map(drop_transfer).unwrap_or_default();
        if let Some(missing) = self.found(key) {
            effects.extend([Effect::Conflict, Effect::NotHere { to: missing.waiters, id: key.id(), lost: false }]);
        }
        effects
    }

    /// Holds a whole body, and drops what it makes obsolete.
    pub(super) fn keep(&mut self, key: Key, held: HeldBody, bytes_max: u64) -> Vec<Effect> {
        if self.store.insert(key, held, bytes_max) { self.drop_unwanted() } else { Vec::new() }
    }

    /// Forgets everything of `track` below `before`, as the window does.
    pub(super) fn forget(&mut self, track: TrackId, before: Msn) -> Vec<Effect> {
        self.store.forget(track, before);
        self.drop_unwanted()
    }

    /// Drops what is under way and the store no longer wants.
    fn drop_unwanted(&mut self) -> Vec<Effect> {
        let wants = |key: &Key| self.store.wants(key);
        let transfers = self.transfers.take_unwanted(wants);
        let missing = self.pulls.take_unwanted(wants);
        let transfers = transfers.iter().flat_map(drop_transfer);
        transfers.chain(missing.iter().map(|(key, missing)| self.lost(key, missing))).collect()
    }

    /// Returns what a neighbour, or a stranger, gets of a body from `offset` on.
    pub(super) fn serve(&mut self, key: &Key, slot: Option<Slot>, offset: u32, config: &Config) -> Serve {
        if let Some(held) = self.store.get_mut(key) {
            return held.serve(slot, offset);
        }
        let Some(slot) = slot else { return Serve::NotHere };
        match self.transfers.get_mut(key) {
            Some(transfer) => transfer.serve(slot, offset, config.cut_through),
            None if config.promise && self.pulls.wait(key, slot) => Serve::Wait,
            None => Serve::NotHere,
        }
    }

    /// Notes that a neighbour gets a body from another node. Returns whether it was being sent from here.
    pub(super) fn stop(&mut self, key: &Key, slot: Slot) -> bool {
        match self.transfers.get_mut(key) {
            Some(transfer) => transfer.to.remove(slot),
            None => self.store.get_mut(key).is_some_and(|held| held.sent.remove(slot)),
        }
    }

    /// Notes that a neighbour has refused a body, or the link has dropped it. Returns whether to announce it anew.
    pub(super) fn stopped(&mut self, key: &Key, slot: Slot) -> bool {
        if let Some(transfer) = self.transfers.get_mut(key) {
            transfer.to.remove(slot);
            transfer.told.remove(slot);
            return false;
        }
        let Some(held) = self.store.get_mut(key) else { return false };
        held.sent.remove(slot);
        held.known.remove(slot);
        true
    }

    /// Handles a body that its sender has given up, before its head or after.
    pub(super) fn torn(&mut self, now: Time, key: Key, slot: Slot, config: &Config) -> Vec<Effect> {
        if self.transfers.get(&key).is_some_and(|transfer| transfer.source() == Some(slot)) {
            return self.tear(now, key, slot, config);
        }
        self.drop_holder(now, &key, slot).into_iter().collect()
    }

    /// Ends a transfer early. Departure: it goes on elsewhere, at its offset.
    pub(super) fn tear(&mut self, now: Time, key: Key, slot: Slot, config: &Config) -> Vec<Effect> {
        let Some(transfer) = self.transfers.tear(now, &key, slot) else { return Vec::new() };
        let (length, holders) = (transfer.header.length, transfer.holders);
        let mut effects = vec![Effect::Torn];
        if !config.resume {
            effects.extend(self.transfers.take(&key).iter().flat_map(abort_children));
        }
        effects.extend(self.miss_again(now, key, length, holders, slot));
        effects
    }

    /// Asks elsewhere for bodies that stand still, and drops torn ones that no neighbour goes on with.
    pub(super) fn on_stall_timer(&mut self, now: Time, neighbours: &Neighbours, config: &Config) -> Vec<Effect> {
        let mut stalled = self.transfers.stalled(now, neighbours);
        stalled.orphans.retain(|key| !self.pulls.contains(key));
        let mut effects = Vec::new();
        for (key, slot) in stalled.stuck {
            effects.push(Effect::Link(PeerSet::one(slot), BodyAction::Refuse(key.id())));
            effects.extend(self.tear(now, key, slot, config));
        }
        for key in stalled.orphans {
            effects.extend(self.transfers.take(&key).iter().flat_map(drop_transfer));
        }
        if let Some(next) = stalled.next.filter(|_| self.transfers.len() > 0) {
            self.transfers.watch(next);
        }
        effects
    }

    /// Forgets a neighbour, and ends its transfers both ways; `parent`: it fed us, so no eager copy is waited for any
    /// more.
    pub(super) fn without(&mut self, now: Time, slot: Slot, parent: bool, config: &Config) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.store.without(slot);
        for ended in self.transfers.without(slot) {
            let id = ended.key.id();
            // The link may stay up: other swarms use it.
            if ended.sending {
                effects.push(Effect::Link(PeerSet::one(slot), BodyAction::Abort(id)));
            }
            if ended.receiving {
                effects.push(Effect::Link(PeerSet::one(slot), BodyAction::Refuse(id)));
                effects.extend(self.tear(now, ended.key, slot, config));
            }
        }
        for (key, missing) in self.pulls.without(now, slot, parent && config.lazy_start) {
            effects.push(self.lost(&key, &missing));
        }
        effects
    }
}

/// Ends a transfer that this node no longer wants.
fn drop_transfer(transfer: &Transfer) -> Vec<Effect> {
    let id = transfer.header.id;
    let refuse = transfer.source().map(|from| Effect::Link(PeerSet::one(from), BodyAction::Refuse(id)));
    refuse.into_iter().chain(abort_children(transfer)).collect()
}

/// Ends the transfers to the neighbours that were getting a body as it came in.
fn abort_children(transfer: &Transfer) -> Vec<Effect> {
    let id = transfer.header.id;
    vec![Effect::Link(transfer.to, BodyAction::Abort(id)), Effect::NotHere { to: transfer.then, id, lost: false }]
}
