//! The bodies that this node has, those that come in, and those that it misses; and what they say together.

use bytes::Bytes;

use super::config::Config;
use super::counters::Sizes;
use super::io::Serve;
use super::key::Key;
use super::message::{Announce, IHAVE_IDS_MAX, TrackDigest};
use super::neighbours::{Neighbours, PeerSet, Slot};
use super::pulls::{Choice, Dropped, Links, Missing, Offer, Pulls};
use super::store::{HeldBody, Store};
use super::transfers::{Coming, Ended, Head, Piece, Stalled, Torn, Transfer, Transfers};
use crate::model::part_header::BODY_LEN_MAX;
use crate::model::time::Time;
use crate::model::{Msn, PartHeader, Trace, TrackId};

/// Where a body is that a neighbour has.
#[derive(Debug)]
pub(super) enum Place {
    Held,
    Coming(Coming),
    /// Not here, or torn. The neighbours that said they have it.
    Away(PeerSet),
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
    /// Whether a body is one that this node may still want.
    pub(super) fn wants(&self, key: &Key) -> bool {
        self.store.wants(key)
    }

    pub(super) fn is_held(&self, key: &Key) -> bool {
        self.store.get(key).is_some()
    }

    pub(super) fn is_coming(&self, key: &Key) -> bool {
        self.transfers.get(key).is_some()
    }

    pub(super) fn none_comes(&self) -> bool {
        self.transfers.len() == 0
    }

    pub(super) fn none_is_missing(&self) -> bool {
        self.pulls.len() == 0
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
        self.store.get(key).map(HeldBody::hops).or_else(coming).unwrap_or(u8::MAX)
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
            held.tell(slot);
            offer.push((*key, held.header().length));
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
        self.store.get(key).is_some_and(|held| !held.is_known_to(all))
    }

    /// Returns what a neighbour is told of a held body, if it doesn't know.
    pub(super) fn tell(&mut self, now: Time, key: &Key, slot: Slot) -> Option<Announce> {
        let held = self.store.get_mut(key)?;
        held.tell(slot).then(|| held.announce(now))
    }

    /// Returns what is told of a body that begins or has come, and those who neither get it from here nor have it.
    pub(super) fn tell_all(&mut self, now: Time, key: &Key, all: PeerSet) -> Option<(Announce, PeerSet)> {
        if let Some(transfer) = self.transfers.get_mut(key) {
            return Some((transfer.announce(now), transfer.tell_all(all)));
        }
        let held = self.store.get_mut(key)?;
        Some((held.announce(now), held.tell_all(all)))
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
            held.tell(slot);
            announces.push(Announce::bare(key.id(), held.header().length));
        }
        Some(announces)
    }

    /// A neighbour has said that it has a body; returns where it is here.
    pub(super) fn held_by(&mut self, key: &Key, slot: Slot) -> Place {
        if let Some(held) = self.store.get_mut(key) {
            held.tell(slot);
            return Place::Held;
        }
        let Some(transfer) = self.transfers.get_mut(key) else { return Place::Away(PeerSet::default()) };
        transfer.holders.insert(slot);
        match transfer.source() {
            Some(slot) => Place::Coming(Coming { slot, received: transfer.received, hops: transfer.hops() }),
            None => Place::Away(transfer.holders),
        }
    }

    /// A body that isn't here is announced: returns whether it is due now, or `None` if it wasn't missing.
    pub(super) fn announced(&mut self, now: Time, key: &Key, offer: &Offer, neighbours: &Neighbours) -> Option<bool> {
        self.pulls.announced(now, key, offer, neighbours)
    }

    /// Remembers a missing body; returns what is given up for it.
    pub(super) fn miss(&mut self, key: Key, missing: Missing) -> Option<(Key, Missing)> {
        self.pulls.insert(key, missing)
    }

    /// A body begins, goes on or is published: it is missing no longer.
    pub(super) fn found(&mut self, key: &Key) -> Option<Missing> {
        self.pulls.found(key)
    }

    /// Gives up late pulls; returns what is to be asked for, and when to look again.
    pub(super) fn due(&mut self, now: Time, neighbours: &Neighbours, config: &Config) -> (Vec<Key>, Time) {
        self.pulls.due(now, neighbours, config)
    }

    /// Whether a pull has ended, so that another may begin. Answers once.
    pub(super) fn take_freed(&mut self) -> bool {
        self.pulls.take_freed()
    }

    /// Returns who is asked for a missing body.
    pub(super) fn choose(
        &mut self,
        now: Time,
        key: &Key,
        links: Links,
        neighbours: &Neighbours,
        config: &Config,
    ) -> Choice {
        let newest = self.newest(key.track).max(self.pulls.newest(key.track));
        let newest = newest.is_none_or(|newest| newest <= *key);
        self.pulls.choose(now, key, newest, links, neighbours, config)
    }

    /// A neighbour hasn't got a body that it was, or might have been, asked for.
    pub(super) fn drop_holder(&mut self, now: Time, key: &Key, slot: Slot) -> Dropped {
        self.pulls.drop_holder(now, key, slot)
    }

    /// A neighbour says that it hasn't got a body.
    pub(super) fn not_held_by(&mut self, now: Time, key: &Key, slot: Slot) -> Dropped {
        if let Some(transfer) = self.transfers.get_mut(key) {
            transfer.holders.remove(slot);
        }
        self.pulls.drop_holder(now, key, slot)
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
            held.tell(slot);
            return Head::Duplicate { same: held.header().hash == header.hash };
        }
        self.transfers.head(&key, slot, header, offset)
    }

    /// A body begins; `pulled`: its sender was asked for it.
    pub(super) fn begin(&mut self, key: Key, transfer: Transfer, pulled: bool) {
        self.pulls.began(pulled);
        self.transfers.begin(key, transfer);
    }

    /// A torn body goes on.
    pub(super) fn resume(&mut self, now: Time, key: &Key, slot: Slot, offset: u32, holders: PeerSet) {
        if let Some(transfer) = self.transfers.get_mut(key) {
            transfer.resume(now, slot, offset, holders);
        }
    }

    /// A body that comes in goes on to these neighbours.
    pub(super) fn forward(&mut self, key: &Key, to: PeerSet) {
        if let Some(transfer) = self.transfers.get_mut(key) {
            transfer.to = to;
        }
    }

    /// Takes the next bytes of a body.
    pub(super) fn piece(&mut self, now: Time, slot: Slot, key: &Key, bytes: Bytes) -> Piece {
        self.transfers.piece(now, slot, key, bytes)
    }

    /// Takes a body out that comes in: it is whole, or nobody wants it any more.
    pub(super) fn take(&mut self, key: &Key) -> Option<Transfer> {
        self.transfers.take(key)
    }

    /// Keeps a whole body. Returns whether other bodies may be unwanted now.
    pub(super) fn keep(&mut self, key: Key, held: HeldBody, bytes_max: u64) -> bool {
        self.store.insert(key, held, bytes_max)
    }

    /// The window has let go of everything of `track` below `before`.
    pub(super) fn forget(&mut self, track: TrackId, before: Msn) {
        self.store.forget(track, before);
    }

    /// Takes out what the store doesn't want any more.
    pub(super) fn take_unwanted(&mut self) -> (Vec<Transfer>, Vec<(Key, Missing)>) {
        let wants = |key: &Key| self.store.wants(key);
        (self.transfers.take_unwanted(wants), self.pulls.take_unwanted(wants))
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
            Some(transfer) => transfer.stop(slot),
            None => self.store.get_mut(key).is_some_and(|held| held.stop(slot)),
        }
    }

    /// A neighbour has refused a body, or the link has dropped it; returns whether it is to be announced anew.
    pub(super) fn stopped(&mut self, key: &Key, slot: Slot) -> bool {
        if let Some(transfer) = self.transfers.get_mut(key) {
            transfer.stop(slot);
            transfer.told.remove(slot);
            return false;
        }
        self.store.get_mut(key).map(|held| held.forget(slot)).is_some()
    }

    /// Whether a body comes from this neighbour.
    pub(super) fn comes_from(&self, key: &Key, slot: Slot) -> bool {
        self.transfers.get(key).is_some_and(|transfer| transfer.source() == Some(slot))
    }

    /// A transfer has ended early; `keep`: somebody else may go on with it.
    pub(super) fn tear(&mut self, key: &Key, slot: Slot, keep: bool) -> Option<Torn> {
        self.transfers.tear(key, slot, keep)
    }

    /// Returns the transfers that stand still.
    pub(super) fn stalled(&self, now: Time, neighbours: &Neighbours, config: &Config) -> Stalled {
        self.transfers.stalled(now, config.stall, neighbours, |key| self.pulls.contains(key))
    }

    /// A neighbour is gone. Returns the transfers from and to it.
    pub(super) fn transfers_without(&mut self, slot: Slot) -> Vec<Ended> {
        self.store.without(slot);
        self.transfers.without(slot)
    }

    /// A neighbour is gone. Returns what nobody else has; `parent`: nothing is waited for any more.
    pub(super) fn pulls_without(&mut self, now: Time, slot: Slot, parent: bool) -> Vec<(Key, Missing)> {
        self.pulls.without(now, slot, parent)
    }
}
