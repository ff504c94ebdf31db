//! The directory: which streams there are, of which life and epoch, and where their ingests can be dialled.
//!
//! A map that every node holds whole. The newest entry of a stream, by (epoch, refresh), wins; its owner refreshes
//! it, and one that isn't refreshed dies. What is newer is forwarded to all neighbours but the sender.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{BufMut, BytesMut};

use super::Entry;
use crate::model::Peer;
use crate::model::time::Time;
use crate::model::wire;
use crate::model::wire::{Fault, Reader, WireError};
use crate::model::{Epoch, LifeId, NodeId, StreamName};

/// Most announcements in one frame: 128 bytes each, so some 16 KB.
pub const ANNOUNCEMENTS_MAX: usize = 128;

/// An entry on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The entry, as its owner made it.
    pub entry: Entry,
    /// The owner's checksum over it, passed on as it is and checked by everybody, so that a bit that
    /// flips in one node's memory isn't gossiped to all (Amazon S3, July 2008).
    pub checksum: u64,
    /// How long ago the owner refreshed it, as far as the sender knows, in milliseconds. A dead entry that two
    /// nodes keep telling each other grows older all the same.
    pub age_ms: u32,
}

impl Announcement {
    /// The shortest one on the wire, in bytes.
    pub const WIRE_LEN_MIN: usize = 3 + 8 + 12 + 4 + Peer::WIRE_LEN_MIN + 8 + 4;

    /// Appends the announcement.
    pub fn encode(&self, out: &mut BytesMut) {
        put_entry(out, &self.entry);
        out.put_u64(self.checksum);
        out.put_u32(self.age_ms);
    }

    /// Reads an announcement. Its checksum is checked by [`Directory::merge`], which counts a bad one.
    pub fn decode(r: &mut Reader) -> Result<Self, WireError> {
        let stream = r.text(StreamName::LEN_MAX, "stream")?;
        let stream = StreamName::parse(&stream).map_err(|_| r.fault("stream", Fault::Invalid))?;
        let entry = Entry {
            stream,
            life: LifeId(r.u64("life")?),
            epoch: Epoch { counter: r.u32("epoch counter")?, node: NodeId(r.u64("epoch node")?) },
            refresh: r.u32("refresh")?,
            ingest: Peer::decode(r)?,
        };
        Ok(Announcement { entry, checksum: r.u64("checksum")?, age_ms: r.u32("age")? })
    }
}

fn put_entry(out: &mut BytesMut, entry: &Entry) {
    wire::put_text(out, entry.stream.as_str());
    out.put_u64(entry.life.0);
    out.put_u32(entry.epoch.counter);
    out.put_u64(entry.epoch.node.0);
    out.put_u32(entry.refresh);
    entry.ingest.encode(out);
}

/// The first eight bytes of BLAKE3 over the entry as it is on the wire.
pub fn checksum(entry: &Entry) -> u64 {
    let mut out = BytesMut::new();
    put_entry(&mut out, entry);
    let hash = blake3::hash(&out);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_be_bytes(first)
}

/// What an announcement changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A new stream, or another life or epoch of a known one. To be passed on.
    Moved,
    /// A sign of life. To be passed on.
    Refreshed,
    /// Nothing: as old as what is held, or older, or dead.
    Old,
    /// Nothing: the checksum is wrong, or the ingest isn't the epoch's node. Not to be passed on.
    Corrupt,
    /// Nothing: the directory is full.
    Full,
}

#[derive(Debug, Clone)]
struct Held {
    entry: Entry,
    checksum: u64,
    refreshed: Time,
}

/// The map.
#[derive(Debug)]
pub struct Directory {
    entries: BTreeMap<StreamName, Held>,
    dead_after: Duration,
    entries_max: usize,
    /// Announcements refused for their checksum or their claim.
    pub corrupt: u64,
    /// Announcements refused since the directory was full.
    pub full: u64,
}

impl Directory {
    /// An empty one; an entry dies `dead_after` its last refresh.
    pub fn new(dead_after: Duration, entries_max: usize) -> Self {
        Directory { entries: BTreeMap::new(), dead_after, entries_max, corrupt: 0, full: 0 }
    }

    /// The entry of a stream.
    pub fn get(&self, stream: &StreamName) -> Option<&Entry> {
        self.entries.get(stream).map(|held| &held.entry)
    }

    /// All entries, by name.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().map(|held| &held.entry)
    }

    /// Takes an announcement.
    pub fn merge(&mut self, now: Time, announcement: &Announcement) -> Change {
        let Announcement { entry, checksum: sum, age_ms } = announcement;
        if checksum(entry) != *sum || entry.epoch.node != entry.ingest.id {
            self.corrupt += 1;
            return Change::Corrupt;
        }
        let age = Duration::from_millis(u64::from(*age_ms));
        if age >= self.dead_after {
            return Change::Old;
        }
        let held = Held { entry: entry.clone(), checksum: *sum, refreshed: now - age };
        let full = self.entries.len() >= self.entries_max;
        match self.entries.get_mut(&entry.stream) {
            Some(old) if (entry.epoch, entry.refresh) <= (old.entry.epoch, old.entry.refresh) => Change::Old,
            Some(old) => {
                let same = (old.entry.epoch, old.entry.life) == (entry.epoch, entry.life);
                *old = held;
                if same { Change::Refreshed } else { Change::Moved }
            }
            None if full => {
                self.full += 1;
                Change::Full
            }
            None => {
                self.entries.insert(entry.stream.clone(), held);
                Change::Moved
            }
        }
    }

    /// What is held of a stream, to be told to others.
    pub fn announce(&self, now: Time, stream: &StreamName) -> Option<Announcement> {
        self.entries.get(stream).map(|held| held.announce(now))
    }

    /// All that is held, to be told to a new neighbour.
    pub fn announce_all(&self, now: Time) -> Vec<Announcement> {
        self.entries.values().map(|held| held.announce(now)).collect()
    }

    /// Removes and returns the streams that are dead.
    pub fn expire(&mut self, now: Time) -> Vec<StreamName> {
        let dead = |held: &Held| held.refreshed + self.dead_after <= now;
        let names: Vec<_> = self.entries.values().filter(|held| dead(held)).map(|h| h.entry.stream.clone()).collect();
        for name in &names {
            self.entries.remove(name);
        }
        names
    }

    /// When the next entry dies if it isn't refreshed.
    pub fn next_expiry(&self) -> Option<Time> {
        self.entries.values().map(|held| held.refreshed + self.dead_after).min()
    }
}

impl Held {
    fn announce(&self, now: Time) -> Announcement {
        let age_ms = u32::try_from(now.since(self.refreshed).as_millis()).unwrap_or(u32::MAX);
        Announcement { entry: self.entry.clone(), checksum: self.checksum, age_ms }
    }
}
