//! The bodies that are coming in: their pieces, their sources, and the neighbours that they go on to.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::deadline::Deadline;
use super::io::{PIECE_LEN_MAX, Sending, Serve};
use super::key::{Key, newest_in};
use super::message::{Announce, hops_of};
use super::neighbours::{Neighbours, PeerSet, STALL, Slot};
use crate::model::time::Time;
use crate::model::{PartHeader, Trace, TrackId};

/// The most bodies coming in at a time.
pub const TRANSFERS_MAX: usize = 256;

/// The most bytes of bodies coming in, by their headers' lengths. A single body may have more.
pub const TRANSFER_BYTES_MAX: u64 = 64 << 20;

/// A torn body waits this many stalls for another sender.
const ORPHAN_STALLS: u32 = 12;

/// A body may stand still for this many stalls while its peer sends other bodies.
const SHARED_STALLS: u32 = 4;

/// Pieces are joined beyond this many more than needed: a peer that sends single bytes gains nothing.
const PIECES_SLACK: usize = 64;

/// The sender of a body.
#[derive(Debug, Clone, Copy)]
struct Source {
    slot: Slot,
    /// The offset of its next byte.
    at: u32,
    /// The arrival of its last byte.
    moved: Time,
}

/// A body that is coming in.
#[derive(Debug, Clone)]
pub(super) struct Transfer {
    pub(super) header: PartHeader,
    pub(super) trace: Trace,
    /// The arrival of its first byte.
    pub(super) received: Time,
    /// `None` after it was torn.
    source: Option<Source>,
    pieces: Vec<Bytes>,
    got: u32,
    /// Neighbours that it goes on to, piece by piece.
    pub(super) to: PeerSet,
    /// Neighbours that get it once it is whole: where cut-through is off.
    pub(super) then: PeerSet,
    /// Neighbours that have said that they have it.
    pub(super) holders: PeerSet,
    /// Neighbours that know that it is coming in here.
    pub(super) told: PeerSet,
}

/// The source and progress of a body that is coming in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Coming {
    /// The neighbour that sends it.
    pub(super) slot: Slot,
    /// The arrival of its first byte.
    pub(super) received: Time,
    /// The number of links that it passed.
    pub(super) hops: u8,
}

/// The verdict on a head.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// A body begins.
    Begin,
    /// A torn one goes on.
    Resume,
    /// The body is here, or comes from another neighbour; `same`: with the same hash or header.
    Duplicate { same: bool },
    /// The window has let go of it, or another publisher has taken its segment over.
    Stale,
    /// It is absurd; `conflict`: it contradicts what is known of the body.
    Wrong { conflict: bool },
    /// Too many bodies are coming in.
    Full,
}

/// The verdict on a piece.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// It belongs to no transfer: its body was refused, and the refusal is under way.
    Ignored,
    /// Its bytes were here already.
    Known,
    /// These bytes are new, and go on to these neighbours.
    New { bytes: Bytes, to: PeerSet, last: bool },
    /// It is longer than a piece may be, or than the header says.
    Wrong,
}

/// The part of a neighbour that is gone in a transfer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) key: Key,
    /// The body went to it.
    pub(super) sending: bool,
    /// The body came from it.
    pub(super) receiving: bool,
}

/// The transfers that stand still.
#[derive(Debug, Default)]
pub(super) struct Stalled {
    /// Bodies that other neighbours have, and the neighbours that should send them.
    pub(super) stuck: Vec<(Key, Slot)>,
    /// Torn bodies without a new sender.
    pub(super) orphans: Vec<Key>,
    /// The time of the next look.
    pub(super) next: Option<Time>,
}

impl Transfer {
    /// Begins a body. It goes on to `to` piece by piece, and to `then` once it is whole.
    pub(super) fn new(
        now: Time,
        slot: Slot,
        header: PartHeader,
        trace: Trace,
        holders: PeerSet,
        to: PeerSet,
        then: PeerSet,
    ) -> Self {
        Transfer {
            header,
            trace,
            received: now,
            source: Some(Source { slot, at: 0, moved: now }),
            pieces: Vec::new(),
            got: 0,
            to,
            then,
            holders,
            told: PeerSet::default(),
        }
    }

    /// Returns the neighbour that sends it.
    pub(super) fn source(&self) -> Option<Slot> {
        self.source.map(|source| source.slot)
    }

    pub(super) fn got(&self) -> u32 {
        self.got
    }

    pub(super) fn hops(&self) -> u8 {
        hops_of(&self.trace)
    }

    /// Returns its announcement.
    pub(super) fn announce(&self, now: Time) -> Announce {
        Announce::of(now, &self.header, self.hops(), self.received)
    }

    /// Returns the neighbours to tell of it, and notes that they know: those that neither get it from here nor have it.
    pub(super) fn tell_all(&mut self, all: PeerSet) -> PeerSet {
        let news = all.minus(self.to).minus(self.holders).minus(self.told);
        self.told = self.told.union(news);
        news
    }

    fn head(&mut self, slot: Slot, header: &PartHeader, offset: u32) -> Head {
        let same = self.header == *header;
        match self.source {
            Some(source) if source.slot != slot || !same => {
                self.holders.insert(slot);
                Head::Duplicate { same }
            }
            _ if !same || offset > self.got => Head::Wrong { conflict: !same },
            _ => Head::Resume,
        }
    }

    /// Returns what a neighbour gets from `offset` on. Departure: a late one gets the pieces that are here.
    pub(super) fn serve(&mut self, slot: Slot, offset: u32, cut_through: bool) -> Serve {
        if self.source() == Some(slot) || offset > self.got {
            return Serve::NotHere;
        }
        if !cut_through {
            self.then.insert(slot);
            return Serve::Wait;
        }
        self.told.insert(slot);
        let again = self.to.contains(slot);
        self.to.insert(slot);
        let (mut skip, mut pieces) = (offset as usize, Vec::new());
        for piece in &self.pieces {
            if skip >= piece.len() {
                skip -= piece.len();
            } else {
                pieces.push(piece.slice(skip..));
                skip = 0;
            }
        }
        let (header, trace, received) = (self.header, self.trace.clone(), self.received);
        Serve::Send(Sending { header, trace, received, pieces, again })
    }

    /// Takes the next bytes of its source.
    fn add(&mut self, now: Time, bytes: Bytes) -> Piece {
        let Some(source) = &mut self.source else { return Piece::Ignored };
        let length = match u32::try_from(bytes.len()) {
            Ok(length) if bytes.len() <= PIECE_LEN_MAX && length <= self.header.length - source.at => length,
            _ => return Piece::Wrong,
        };
        let known = (self.got - source.at).min(length);
        source.at += length;
        source.moved = now;
        if known == length {
            return Piece::Known;
        }
        let new = bytes.slice(known as usize..);
        self.got += length - known;
        self.pieces.push(new.clone());
        self.thin();
        Piece::New { bytes: new, to: self.to, last: self.got == self.header.length }
    }

    /// Joins the last pieces while there are too many, the smaller ones first, so that each byte is copied
    /// a few times at most.
    fn thin(&mut self) {
        while self.pieces.len() > 2 * (self.got as usize / PIECE_LEN_MAX) + PIECES_SLACK {
            let [.., a, b] = self.pieces.as_slice() else { return };
            if a.len() > 2 * b.len() || a.len() + b.len() > PIECE_LEN_MAX {
                return;
            }
            let mut joined = BytesMut::with_capacity(a.len() + b.len());
            joined.extend_from_slice(a);
            joined.extend_from_slice(b);
            self.pieces.truncate(self.pieces.len() - 2);
            self.pieces.push(joined.freeze());
        }
    }

    /// Returns the bytes so far, in one piece.
    pub(super) fn whole(&self) -> Bytes {
        match self.pieces.as_slice() {
            [one] => one.clone(),
            pieces => {
                let mut whole = BytesMut::with_capacity(self.got as usize);
                for piece in pieces {
                    whole.extend_from_slice(piece);
                }
                whole.freeze()
            }
        }
    }
}

/// The bodies that are coming in.
#[derive(Debug, Clone, Default)]
pub(super) struct Transfers {
    coming: BTreeMap<Key, Transfer>,
    /// The time of the next look for those that stand still.
    due: Deadline,
}

impl Transfers {
    pub(super) fn get(&self, key: &Key) -> Option<&Transfer> {
        self.coming.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut Transfer> {
        self.coming.get_mut(key)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&Key, &mut Transfer)> {
        self.coming.iter_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.coming.len()
    }

    pub(super) fn newest(&self, track: TrackId) -> Option<Key> {
        newest_in(&self.coming, track)
    }

    /// Judges the head of a body that the window has room for.
    pub(super) fn head(&mut self, key: &Key, slot: Slot, header: &PartHeader, offset: u32) -> Head {
        if let Some(transfer) = self.coming.get_mut(key) {
            return transfer.head(slot, header, offset);
        }
        let under_way: u64 = self.coming.values().map(|transfer| u64::from(transfer.header.length)).sum();
        let over = under_way > 0 && under_way + u64::from(header.length) > TRANSFER_BYTES_MAX;
        match offset {
            _ if over || self.coming.len() >= TRANSFERS_MAX => Head::Full,
            0 => Head::Begin,
            _ => Head::Wrong { conflict: false },
        }
    }

    pub(super) fn begin(&mut self, key: Key, transfer: Transfer) {
        self.watch(transfer.received + STALL);
        self.coming.insert(key, transfer);
    }

    /// Goes on with a torn body at `offset`, from a neighbour; `holders` have it, too.
    pub(super) fn resume(&mut self, now: Time, key: &Key, slot: Slot, offset: u32, holders: PeerSet) {
        let Some(transfer) = self.coming.get_mut(key) else { return };
        transfer.holders = transfer.holders.union(holders);
        transfer.holders.insert(slot);
        transfer.source = Some(Source { slot, at: offset, moved: now });
        self.watch(now + STALL);
    }

    /// Looks at the transfers by this time.
    pub(super) fn watch(&mut self, at: Time) {
        self.due.hasten(at);
    }

    pub(super) fn next_due(&self) -> Option<Time> {
        self.due.at()
    }

    /// Takes the next bytes of a body.
    pub(super) fn piece(&mut self, now: Time, slot: Slot, key: &Key, bytes: Bytes) -> Piece {
        match self.coming.get_mut(key).filter(|transfer| transfer.source() == Some(slot)) {
            Some(transfer) => transfer.add(now, bytes),
            None => Piece::Ignored,
        }
    }

    /// Takes out a transfer that is complete.
    pub(super) fn complete(&mut self, key: &Key) -> Option<Transfer> {
        let transfer = self.take(key)?;
        if self.coming.is_empty() {
            self.due.cancel();
        }
        Some(transfer)
    }

    /// Takes out a transfer that this node no longer wants.
    pub(super) fn take(&mut self, key: &Key) -> Option<Transfer> {
        self.coming.remove(key)
    }

    /// Takes out the transfers that this node no longer wants.
    pub(super) fn take_unwanted(&mut self, wants: impl Fn(&Key) -> bool) -> Vec<Transfer> {
        self.coming.extract_if(.., |key, _| !wants(key)).map(|(_, transfer)| transfer).collect()
    }

    /// Notes that the transfer from a neighbour has ended early.
    pub(super) fn tear(&mut self, now: Time, key: &Key, slot: Slot) -> Option<&Transfer> {
        let transfer = self.coming.get_mut(key)?;
        self.due.hasten(now + STALL);
        transfer.source = None;
        transfer.holders.remove(slot);
        Some(transfer)
    }

    /// Forgets a neighbour. Returns the transfers from and to it.
    pub(super) fn without(&mut self, slot: Slot) -> Vec<Ended> {
        let ended = self.coming.iter_mut().map(|(key, transfer)| {
            let sending = transfer.to.remove(slot);
            for set in [&mut transfer.then, &mut transfer.told, &mut transfer.holders] {
                set.remove(slot);
            }
            Ended { key: *key, sending, receiving: transfer.source() == Some(slot) }
        });
        ended.filter(|ended| ended.sending || ended.receiving).collect()
    }

    /// Returns the transfers that stand still, once a look is due.
    pub(super) fn stalled(&mut self, now: Time, neighbours: &Neighbours) -> Stalled {
        let mut stalled = Stalled::default();
        if !self.due.expired(now) {
            return stalled;
        }
        for (key, transfer) in &self.coming {
            let due = match transfer.source {
                Some(source) => {
                    let due = (neighbours.bytes_at(source.slot) + STALL).min(source.moved + STALL * SHARED_STALLS);
                    due.max(source.moved + STALL)
                }
                None => transfer.received + STALL * ORPHAN_STALLS,
            };
            let next = if due <= now { now + STALL } else { due };
            stalled.next = Some(stalled.next.map_or(next, |old| old.min(next)));
            match transfer.source() {
                _ if due > now => {}
                Some(slot) if !transfer.holders.minus(PeerSet::one(slot)).is_empty() => {
                    stalled.stuck.push((*key, slot));
                }
                None => stalled.orphans.push(*key),
                _ => {}
            }
        }
        stalled
    }
}
