//! The bodies that this node holds: delivered, and still within the window.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::io::{PIECE_LEN_MAX, Sending, Serve};
use super::key::{Key, newest_in};
use super::message::{Announce, DIGEST_HOLES_MAX, Position, TrackDigest, hops_of};
use super::neighbours::{PeerSet, Slot};
use super::transfers::Transfer;
use crate::model::time::Time;
use crate::model::wire::Reader;
use crate::model::{Epoch, Msn, PartHeader, Trace, TrackId};

/// The most bodies held. A window of 38 s with 8 tracks of 5 parts/s has 1,520.
pub const HELD_MAX: usize = 16_384;

/// The most epochs whose first segment is remembered: more publishers than take turns within a window.
const EPOCHS_MAX: usize = 16;

/// A body younger than this may be on its way to the neighbour already, so a digest doesn't have it announced anew.
const GRACE: Duration = Duration::from_millis(500);

/// A held body.
#[derive(Debug, Clone)]
pub(super) struct HeldBody {
    pub(super) header: PartHeader,
    body: Bytes,
    /// Its trace as on the wire: a third of the memory.
    trace: Box<[u8]>,
    /// The number of links that it passed.
    hops: u8,
    received: Time,
    /// Neighbours that have it, or know that it is here.
    pub(super) known: PeerSet,
    /// Neighbours that it was sent to.
    pub(super) sent: PeerSet,
}

impl HeldBody {
    pub(super) fn new(header: PartHeader, body: Bytes, trace: &Trace, received: Time) -> Self {
        let mut encoded = BytesMut::new();
        trace.encode(&mut encoded);
        let (trace, hops, nobody) = (encoded[..].into(), hops_of(trace), PeerSet::default());
        HeldBody { header, body, trace, hops, received, known: nobody, sent: nobody }
    }

    /// Makes the held body of a whole transfer, which goes on to `to` from here.
    pub(super) fn of(transfer: &Transfer, body: Bytes, to: PeerSet) -> Self {
        let known = transfer.holders.union(transfer.told).union(transfer.to).minus(to);
        let held = HeldBody::new(transfer.header, body, &transfer.trace, transfer.received);
        HeldBody { known, sent: transfer.to, ..held }
    }

    fn trace(&self) -> Trace {
        Trace::decode(&mut Reader::new(Bytes::copy_from_slice(&self.trace))).unwrap_or_default()
    }

    /// Returns whether this node published it.
    pub(super) fn is_own(&self) -> bool {
        self.hops == 0
    }

    /// Returns its announcement.
    pub(super) fn announce(&self, now: Time) -> Announce {
        Announce::of(now, &self.header, self.hops, self.received)
    }

    /// Returns what a neighbour (`slot`) or a stranger gets from `offset` on.
    pub(super) fn serve(&mut self, slot: Option<Slot>, offset: u32) -> Serve {
        if offset > 0 && offset >= self.header.length {
            return Serve::NotHere;
        }
        if let Some(slot) = slot {
            self.known.insert(slot);
            self.sent.insert(slot);
        }
        let length = self.body.len();
        let piece = |at: usize| self.body.slice(at..length.min(at + PIECE_LEN_MAX));
        let pieces = (offset as usize..length).step_by(PIECE_LEN_MAX).map(piece).collect();
        Serve::Send(Sending { header: self.header, trace: self.trace(), received: self.received, pieces, again: false })
    }
}

/// The held bodies, and the bounds of what else this node wants.
#[derive(Debug, Clone, Default)]
pub(super) struct Store {
    /// Boxed, so that a search for a key doesn't pass over whole headers.
    held: BTreeMap<Key, Box<HeldBody>>,
    bytes: u64,
    /// The oldest segment wanted of each track.
    oldest_wanted: BTreeMap<TrackId, Msn>,
    /// The first segment of each epoch, as far as delivered bodies tell: at most [`EPOCHS_MAX`].
    starts: BTreeMap<Epoch, Msn>,
    /// The digest, until the held bodies change.
    digest: Option<Vec<TrackDigest>>,
}

impl Store {
    pub(super) fn get(&self, key: &Key) -> Option<&HeldBody> {
        self.held.get(key).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut HeldBody> {
        self.held.get_mut(key).map(Box::as_mut)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&Key, &mut HeldBody)> {
        self.held.iter_mut().map(|(key, held)| (key, held.as_mut()))
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn newest(&self, track: TrackId) -> Option<Key> {
        newest_in(&self.held, track)
    }

    /// Returns whether this node may still want a body: its segment hasn't left the window, and no publisher of a higher
    /// epoch has taken its segment over. Departure: "the highest epoch wins".
    ///
    /// What a former publisher numbered *before* the takeover stays in the window, and is wanted.
    pub(super) fn wants(&self, key: &Key) -> bool {
        if key.track == TrackId::RECORD {
            // Of the record only the newest revision is kept.
            return self
                .newest(TrackId::RECORD)
                .is_none_or(|held| (key.epoch, key.position()) >= (held.epoch, held.position()));
        }
        self.oldest_wanted.get(&key.track).is_none_or(|oldest| key.msn >= *oldest)
            && !self.starts.iter().any(|(epoch, start)| *epoch > key.epoch && *start <= key.msn)
    }

    /// Keeps a body, and drops what it makes obsolete. Returns whether bodies outside the store may be obsolete, too.
    pub(super) fn insert(&mut self, key: Key, held: HeldBody, bytes_max: u64) -> bool {
        self.extend_digest(&key);
        let mut obsolete = false;
        if key.track == TrackId::RECORD {
            if let Some(old) = self.newest(TrackId::RECORD) {
                self.remove(&old);
                obsolete = true;
            }
        } else {
            obsolete = self.learn_start(key.epoch, key.msn);
        }
        self.bytes += held.body.len() as u64;
        self.held.insert(key, Box::new(held));
        while self.held.len() > HELD_MAX || (self.bytes > bytes_max && self.held.len() > 1) {
            // The window should have let go of it long ago.
            let Some(oldest) = self.oldest(key.track) else { break };
            self.forget(oldest.track, oldest.msn.saturating_add(1));
            // `forget` doesn't reach a segment of the highest number.
            self.remove(&oldest);
            obsolete = true;
        }
        obsolete
    }

    /// Returns the body that makes room for one of `track`: the oldest of the track, or of all for a record (there is one).
    fn oldest(&self, track: TrackId) -> Option<Key> {
        if track == TrackId::RECORD {
            return self
                .held
                .keys()
                .filter(|key| key.track != TrackId::RECORD)
                .min_by_key(|key| key.position())
                .copied();
        }
        self.held.range(Key::start_of(track, 0)..=Key::last_of(track)).next().map(|(key, _)| *key)
    }

    /// Handles the usual case: the next part of a track only moves the digest's newest part.
    fn extend_digest(&mut self, key: &Key) {
        let last = self
            .newest(key.track)
            .and_then(|newest| self.held.get(&newest).map(|held| (newest, held.header.flags.last)));
        let digest = self.digest.as_mut().and_then(|tracks| tracks.iter_mut().find(|digest| digest.track == key.track));
        match (last, digest) {
            (Some((newest, last)), Some(digest))
                if newest.epoch == key.epoch
                    && key.track != TrackId::RECORD
                    && key.position() == next(newest.position(), last) =>
            {
                digest.newest = Some((key.epoch, key.position()));
            }
            _ => self.digest = None,
        }
    }

    fn learn_start(&mut self, epoch: Epoch, msn: Msn) -> bool {
        if self.starts.get(&epoch).is_some_and(|start| *start <= msn) {
            return false;
        }
        self.starts.insert(epoch, msn);
        if self.starts.len() > EPOCHS_MAX {
            self.starts.pop_first();
        }
        let dead: Vec<Key> =
            self.held.keys().filter(|key| key.track != TrackId::RECORD && !self.wants(key)).copied().collect();
        for key in &dead {
            self.remove(key);
        }
        self.starts.len() > 1
    }

    fn remove(&mut self, key: &Key) {
        if let Some(held) = self.held.remove(key) {
            self.bytes -= held.body.len() as u64;
            self.digest = None;
        }
    }

    /// Drops everything of `track` below `before`, for good.
    pub(super) fn forget(&mut self, track: TrackId, before: Msn) {
        if track == TrackId::RECORD || track.0 >= TrackId::COUNT_MAX {
            return;
        }
        if self.oldest_wanted.get(&track).is_some_and(|oldest| *oldest >= before) {
            return;
        }
        self.oldest_wanted.insert(track, before);
        let whole = |digest: &TrackDigest| digest.track == track && digest.holes.is_empty();
        let digest = self.digest.take_if(|digests| digests.iter().any(whole));
        let dead: Vec<Key> =
            self.held.range(Key::start_of(track, 0)..Key::start_of(track, before)).map(|(key, _)| *key).collect();
        for key in &dead {
            self.remove(key);
        }
        // A track without holes that begins at its oldest wanted segment looks the same afterwards.
        let first = self.held.range(Key::start_of(track, before)..).next().map(|(key, _)| *key);
        self.digest =
            digest.filter(|_| first.is_some_and(|first| (first.track, first.position()) == (track, (before, 0))));
    }

    /// Forgets a neighbour: another one may get its slot.
    pub(super) fn without(&mut self, slot: Slot) {
        for held in self.held.values_mut() {
            held.known.remove(slot);
            held.sent.remove(slot);
        }
    }

    /// Returns the held bodies that the sender of a digest lacks, the most urgent first.
    pub(super) fn lacking(&self, now: Time, tracks: &[TrackDigest]) -> Vec<Key> {
        let lacks = |key: &Key, held: &HeldBody| {
            let digest = tracks.iter().find(|digest| digest.track == key.track);
            now.since(held.received) >= GRACE && digest.is_none_or(|digest| digest.wants(&key.id()))
        };
        let mut keys: Vec<Key> = self.held.iter().filter(|(key, held)| lacks(key, held)).map(|(key, _)| *key).collect();
        keys.sort_by_key(|key| key.urgency());
        keys
    }

    /// Returns what is held, and the holes in it.
    pub(super) fn digest(&mut self) -> &[TrackDigest] {
        if self.digest.is_none() {
            self.digest = Some(self.make_digest());
        }
        self.digest.as_deref().unwrap_or_default()
    }

    fn make_digest(&self) -> Vec<TrackDigest> {
        let mut tracks: Vec<TrackDigest> = Vec::new();
        // The position that should come next.
        let mut expected: Position = (0, 0);
        for (key, held) in &self.held {
            let position = key.position();
            if tracks.last().is_none_or(|last| last.track != key.track) {
                tracks.push(TrackDigest { track: key.track, newest: None, holes: Vec::new() });
                expected = (self.oldest_wanted.get(&key.track).copied().unwrap_or(0), 0);
            }
            let Some(track) = tracks.last_mut() else { continue };
            track.newest = Some((key.epoch, position));
            if key.track == TrackId::RECORD {
                continue;
            }
            if position > expected {
                if track.holes.len() < DIGEST_HOLES_MAX {
                    track.holes.push((expected, position));
                } else if let Some(last) = track.holes.last_mut() {
                    last.1 = position;
                }
            }
            expected = next(position, held.header.flags.last);
        }
        for (track, oldest) in &self.oldest_wanted {
            if !tracks.iter().any(|digest| digest.track == *track) {
                let holes = vec![((*oldest, 0), (Msn::MAX, u16::MAX))];
                tracks.push(TrackDigest { track: *track, newest: None, holes });
            }
        }
        tracks
    }
}

/// Returns the position after a part.
fn next((msn, part): Position, last: bool) -> Position {
    if last { (msn.saturating_add(1), 0) } else { (msn, part.saturating_add(1)) }
}
