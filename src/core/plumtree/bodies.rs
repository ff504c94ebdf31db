//! The bodies that this node has, those that come in, and those that it misses; and what they say together.

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

/// Where a body is that a neighbour has.
#[derive(Debug)]
pub(super) enum Place {
    Held,
    Coming(Coming),
    /// Not here, or torn. The neighbours that said they have it.
    Away(PeerSet),
}

/// What follows for the links and the counters from a change to the bodies.
#[derive(Debug, PartialEq)]
pub(super) enum Effect {
    /// The links to these neighbours change what they do about the body.
    Link(PeerSet, BodyAction),
    /// Departure: these neighbours are told that it isn't here; `lost`: nor is it going to be.
    NotHere { to: PeerSet, id: PartId, lost: bool },
    /// A transfer that has ended early is counted.
    Torn,
    /// A missing body is forgotten for want of room.
    Full,
    /// It was published here though others have it.
    Conflict,
    /// Nobody is known to have it: the digests will tell.
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

    /// Whether a body is to be asked for, or a pull given up. Answers once.
    pub(super) fn is_pull_due(&mut self, now: Time) -> bool {
        self.pulls.is_due(now)
    }

    /// Whether a body is one that this node may still want.
    pub(super) fn wants(&self, key: &Key) -> bool {
        self.store.wants(key)
    }

    pub(super) fn is_held(&self, key: &Key) -> bool {
        self.store.get(key).is_some()
    }

    /// Returns how much is remembered, announcements left out.
    pub(super) fn sizes(&self) -> Sizes {
        Sizes {
            held: self.store.len(),
            held_bytes: self.store.bytes(),
            transfers: self.transfers.len(),
            missing: self.pulls.len(),
            announcements: 0,
        }
    }

    /// Returns how many links a body passed; the most there can be if it isn't here.
    pub(super) fn hops(&self, key: &Key) -> u8 {
        let coming = || self.transfers.get(key).map(Transfer::hops);
        self.store.get(key).map(|held| held.hops).or_else(coming).unwrap_or(u8::MAX)
    }

    /// Returns how much of a body has come in.
    pub(super) fn got(&self, key: &Key) -> u32 {
        self.transfers.get(key).map_or(0, Transfer::got)
    }

    /// Returns the newest body of a track that is here or comes in.
    fn newest(&self, track: TrackId) -> Option<Key> {
        self.store.newest(track).max(self.transfers.newest(track))
    }

    /// Whether a body is newer than all of its track that are here or come in.
    pub(super) fn is_newer(&self, key: &Key) -> bool {
        self.newest(key.track).is_none_or(|newest| *key > newest)
    }

    /// Returns the announcements of all that is here or comes in, the most urgent first, for a new neighbour.
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

    /// Whether some of these neighbours don't know of a held body.
    pub(super) fn is_news(&self, key: &Key, all: PeerSet) -> bool {
        self.store.get(key).is_some_and(|held| !all.minus(held.known).is_empty())
    }

    /// Returns what a neighbour is told of a held body, if it doesn't know.
    pub(super) fn tell(&mut self, now: Time, key: &Key, slot: Slot) -> Option<Announce> {
        let held = self.store.get_mut(key)?;
        held.known.insert(slot).then(|| held.announce(now))
    }

    /// Returns what is told of a body that begins or has come, and those who neither get it from here nor have it.
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

    /// Returns what a neighbour lacks by its digest and is here; `None` if it has the same.
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

    /// A neighbour has said that it has a body; returns where it is here.
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

    /// A body that isn't here is announced; returns whether it is missing already.
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

    /// A body that was under way is missing again.
    fn miss_again(&mut self, now: Time, key: Key, length: u32, holders: PeerSet, failed: Slot) -> Vec<Effect> {
        if holders.is_empty() {
            return vec![Effect::Compare];
        }
        self.miss(key, Missing::again(now, length, holders, failed))
    }

    fn lost(&self, key: &Key, missing: &Missing) -> Effect {
        Effect::NotHere { to: missing.waiters, id: key.id(), lost: self.transfers.get(key).is_none() }
    }

    /// A body begins or goes on: it is missing no longer.
    pub(super) fn found(&mut self, key: &Key) -> Option<Missing> {
        self.pulls.found(key)
    }

    /// Gives up late pulls; returns what is to be asked for.
    pub(super) fn due(&mut self, now: Time, neighbours: &Neighbours, config: &Config) -> Vec<Key> {
        self.pulls.due(now, neighbours, config)
    }

    /// Whether a pull has ended, so that another may begin. Answers once.
    pub(super) fn take_freed(&mut self) -> bool {
        self.pulls.take_freed()
    }

    /// Returns who is asked for a missing body, if anybody is now.
    pub(super) fn choose(&mut self, now: Time, key: &Key, links: HolderLinks, config: &Config) -> Option<Pull> {
        let newest = self.newest(key.track).max(self.pulls.newest(key.track));
        self.pulls.choose(now, key, newest.is_none_or(|newest| newest <= *key), links, config)
    }

    /// A neighbour hasn't got a body that it was, or might have been, asked for.
    pub(super) fn drop_holder(&mut self, now: Time, key: &Key, slot: Slot) -> Option<Effect> {
        let lost = self.pulls.drop_holder(now, key, slot)?;
        Some(self.lost(key, &lost))
    }

    /// A neighbour says that it hasn't got a body.
    pub(super) fn not_held_by(&mut self, now: Time, key: &Key, slot: Slot) -> Option<Effect> {
        if let Some(transfer) = self.transfers.get_mut(key) {
            transfer.holders.remove(slot);
        }
        self.drop_holder(now, key, slot)
    }

    /// Returns what a head means that a neighbour has sent.
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

    /// A body begins; `pulled`: its sender was asked for it.
    pub(super) fn begin(&mut self, key: Key, transfer: Transfer, pulled: bool) {
        self.pulls.began(pulled);
        self.transfers.begin(key, transfer);
    }

    /// A torn body goes on.
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

    /// A complete body isn't what its header says. Those who got its pieces find out themselves; who of its senders
    /// is to blame can't be told apart, the last is asked last.
    pub(super) fn spoiled(&mut self, now: Time, transfer: &Transfer) -> Vec<Effect> {
        let (key, failed) = (Key::from(transfer.header.id), transfer.source().unwrap_or_default());
        let mut actions = abort_children(transfer);
        let holders = transfer.holders.minus(PeerSet::one(failed));
        actions.extend(self.miss_again(now, key, transfer.header.length, holders, failed));
        actions
    }

    /// A body is published here that others may have as well.
    pub(super) fn supersede(&mut self, key: &Key) -> Vec<Effect> {
        let mut actions = self.transfers.take(key).as_ref().map(drop_transfer).unwrap_or_default();
        if let Some(missing) = self.found(key) {
            actions.extend([Effect::Conflict, Effect::NotHere { to: missing.waiters, id: key.id(), lost: false }]);
        }
        actions
    }

    /// Keeps a whole body, and drops what it makes obsolete.
    pub(super) fn keep(&mut self, key: Key, held: HeldBody, bytes_max: u64) -> Vec<Effect> {
        if self.store.insert(key, held, bytes_max) { self.drop_unwanted() } else { Vec::new() }
    }

    /// The window has let go of everything of `track` below `before`.
    pub(super) fn forget(&mut self, track: TrackId, before: Msn) -> Vec<Effect> {
        self.store.forget(track, before);
        self.drop_unwanted()
    }

    /// The store wants less than before: what is under way is dropped accordingly.
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

    /// A neighbour gets a body from somebody else; returns whether it is being sent it from here.
    pub(super) fn stop(&mut self, key: &Key, slot: Slot) -> bool {
        match self.transfers.get_mut(key) {
            Some(transfer) => transfer.to.remove(slot),
            None => self.store.get_mut(key).is_some_and(|held| held.sent.remove(slot)),
        }
    }

    /// A neighbour has refused a body, or the link has dropped it; returns whether it is to be announced anew.
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

    /// A sender has given a body up, before its head or after.
    pub(super) fn torn(&mut self, now: Time, key: Key, slot: Slot, config: &Config) -> Vec<Effect> {
        if self.transfers.get(&key).is_some_and(|transfer| transfer.source() == Some(slot)) {
            return self.tear(now, key, slot, config);
        }
        self.drop_holder(now, &key, slot).into_iter().collect()
    }

    /// A transfer has ended early. Departure: it goes on at its offset, elsewhere.
    pub(super) fn tear(&mut self, now: Time, key: Key, slot: Slot, config: &Config) -> Vec<Effect> {
        let Some(transfer) = self.transfers.tear(now, &key, slot) else { return Vec::new() };
        let (length, holders) = (transfer.header.length, transfer.holders);
        let mut actions = vec![Effect::Torn];
        if !config.resume {
            actions.extend(self.transfers.take(&key).iter().flat_map(abort_children));
        }
        actions.extend(self.miss_again(now, key, length, holders, slot));
        actions
    }

    /// Bodies that stand still are asked for elsewhere; torn ones that nobody goes on with are dropped.
    pub(super) fn on_stall_timer(&mut self, now: Time, neighbours: &Neighbours, config: &Config) -> Vec<Effect> {
        let mut stalled = self.transfers.stalled(now, neighbours);
        stalled.orphans.retain(|key| !self.pulls.contains(key));
        let mut actions = Vec::new();
        for (key, slot) in stalled.stuck {
            actions.push(Effect::Link(PeerSet::one(slot), BodyAction::Refuse(key.id())));
            actions.extend(self.tear(now, key, slot, config));
        }
        for key in stalled.orphans {
            actions.extend(self.transfers.take(&key).iter().flat_map(drop_transfer));
        }
        if let Some(next) = stalled.next.filter(|_| self.transfers.len() > 0) {
            self.transfers.watch(next);
        }
        actions
    }

    /// A neighbour is gone, and its transfers both ways with it; `parent`: it was the one that fed us, and nothing is
    /// waited for any more.
    pub(super) fn without(&mut self, now: Time, slot: Slot, parent: bool, config: &Config) -> Vec<Effect> {
        let mut actions = Vec::new();
        self.store.without(slot);
        for ended in self.transfers.without(slot) {
            let id = ended.key.id();
            // The link may outlive the neighbourhood: other swarms use it.
            if ended.sending {
                actions.push(Effect::Link(PeerSet::one(slot), BodyAction::Abort(id)));
            }
            if ended.receiving {
                actions.push(Effect::Link(PeerSet::one(slot), BodyAction::Refuse(id)));
                actions.extend(self.tear(now, ended.key, slot, config));
            }
        }
        for (key, missing) in self.pulls.without(now, slot, parent && config.lazy_start) {
            actions.push(self.lost(&key, &missing));
        }
        actions
    }
}

/// Nobody wants a body any more that was coming in.
fn drop_transfer(transfer: &Transfer) -> Vec<Effect> {
    let id = transfer.header.id;
    let refuse = transfer.source().map(|from| Effect::Link(PeerSet::one(from), BodyAction::Refuse(id)));
    refuse.into_iter().chain(abort_children(transfer)).collect()
}

/// A body that was coming in can't be finished.
fn abort_children(transfer: &Transfer) -> Vec<Effect> {
    let id = transfer.header.id;
    vec![Effect::Link(transfer.to, BodyAction::Abort(id)), Effect::NotHere { to: transfer.then, id, lost: false }]
}
