//! Announcements that all nodes pass on: under the owner's checksum, and with their age.
//!
//! Every node holds the newest announcement of each key. The owner repeats it, and one that isn't repeated dies. A node
//! passes what is newer on to all neighbours but the sender.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use bytes::{BufMut, BytesMut};

use crate::model::StreamName;
use crate::model::time::Time;
use crate::model::wire::{Fault, Reader, WireError};

/// An announcement that isn't repeated for this long is dead: three refreshes of the directory.
pub(super) const DEAD_AFTER: Duration = Duration::from_secs(15);

/// A statement of one node about itself that can be announced.
pub trait Announceable: Clone {
    /// Identifies what the statement is about: a newer statement replaces an older one.
    type Key: Clone + Ord;

    /// The shortest one on the wire, in bytes.
    const WIRE_LEN_MIN: usize;

    /// Appends it.
    fn encode(&self, out: &mut BytesMut);

    /// Reads one.
    ///
    /// # Errors
    /// The bytes aren't one.
    fn decode(r: &mut Reader) -> Result<Self, WireError>;

    /// Returns what it is about.
    fn key(&self) -> Self::Key;

    /// Returns whether it is newer than another one of the same key.
    fn is_newer(&self, other: &Self) -> bool;

    /// Returns whether its owner may say so.
    fn is_plausible(&self) -> bool;
}

/// An announcement on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement<T> {
    /// The owner's statement.
    pub what: T,
    /// The owner's checksum over it. Nodes pass it on as it is, and each checks it, so that a bit that
    /// flips in one node's memory doesn't spread to all (Amazon S3, July 2008).
    pub checksum: u64,
    /// How long ago the owner said so, as far as the sender knows, in milliseconds. A dead entry that two
    /// nodes keep telling each other grows older all the same.
    pub age_ms: u32,
}

impl<T: Announceable> Announcement<T> {
    /// The shortest one on the wire, in bytes.
    pub const WIRE_LEN_MIN: usize = T::WIRE_LEN_MIN + 8 + 4;

    /// Makes the owner's announcement, which is new.
    pub fn new(what: T) -> Self {
        Announcement { checksum: checksum(&what), what, age_ms: 0 }
    }

    /// Returns whether the checksum is right.
    pub(super) fn is_intact(&self) -> bool {
        self.checksum == checksum(&self.what)
    }

    /// Appends the announcement.
    pub fn encode(&self, out: &mut BytesMut) {
        self.what.encode(out);
        out.put_u64(self.checksum);
        out.put_u32(self.age_ms);
    }

    /// Reads an announcement, without a look at its checksum.
    ///
    /// # Errors
    /// The bytes aren't one.
    pub fn decode(r: &mut Reader) -> Result<Self, WireError> {
        Ok(Announcement { what: T::decode(r)?, checksum: r.u64("checksum")?, age_ms: r.u32("age")? })
    }
}

/// The first eight bytes of BLAKE3 over `what` as it is on the wire.
fn checksum(what: &impl Announceable) -> u64 {
    let mut out = BytesMut::new();
    what.encode(&mut out);
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(&out).as_bytes()[..8]);
    u64::from_be_bytes(first)
}

/// Reads the name that every announcement begins with.
pub(super) fn decode_stream(r: &mut Reader) -> Result<StreamName, WireError> {
    let stream = r.text(StreamName::LEN_MAX, "stream")?;
    StreamName::parse(&stream).map_err(|_| r.fault("stream", Fault::Invalid))
}

/// An announcement that this node has taken.
#[derive(Debug)]
struct Held<T> {
    what: T,
    checksum: u64,
    /// The time of the owner's statement.
    refreshed: Time,
}

/// The change that an announcement made.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change<T> {
    /// Nothing: it isn't passed on.
    Refused,
    /// Nothing was known of its key.
    New,
    /// It replaces this one.
    Newer(T),
}

/// The announcements of one kind that are alive.
#[derive(Debug)]
pub(super) struct Announcements<T: Announceable> {
    held: BTreeMap<T::Key, Held<T>>,
    max: usize,
}

impl<T: Announceable> Announcements<T> {
    /// Makes an empty map of at most `max` announcements.
    pub(super) fn new(max: usize) -> Self {
        Announcements { held: BTreeMap::new(), max }
    }

    pub(super) fn get(&self, key: &T::Key) -> Option<&T> {
        self.held.get(key).map(|held| &held.what)
    }

    /// Returns what is known of the keys from `first` to `last`.
    pub(super) fn range(&self, first: T::Key, last: T::Key) -> impl Iterator<Item = &T> {
        self.held.range(first..=last).map(|(_, held)| &held.what)
    }

    /// Takes an announcement.
    pub(super) fn take(&mut self, now: Time, announcement: &Announcement<T>) -> Change<T> {
        let Announcement { what, checksum, age_ms } = announcement;
        let age = Duration::from_millis(u64::from(*age_ms));
        if !announcement.is_intact() || !what.is_plausible() || age >= DEAD_AFTER {
            return Change::Refused;
        }
        let full = self.held.len() >= self.max;
        let held = Held { what: what.clone(), checksum: *checksum, refreshed: now - age };
        match self.held.entry(what.key()) {
            Entry::Occupied(mut old) if what.is_newer(&old.get().what) => Change::Newer(old.insert(held).what),
            Entry::Vacant(free) if !full => {
                free.insert(held);
                Change::New
            }
            _ => Change::Refused,
        }
    }

    pub(super) fn remove(&mut self, key: &T::Key) {
        self.held.remove(key);
    }

    /// Returns all announcements as they are passed on at `now`, for a new neighbour.
    pub(super) fn announce_all(&self, now: Time) -> Vec<Announcement<T>> {
        let announce = |held: &Held<T>| {
            let age_ms = u32::try_from(now.since(held.refreshed).as_millis()).unwrap_or(u32::MAX);
            Announcement { what: held.what.clone(), checksum: held.checksum, age_ms }
        };
        self.held.values().map(announce).collect()
    }

    /// Removes the dead; returns their keys.
    pub(super) fn expire(&mut self, now: Time) -> Vec<T::Key> {
        self.held.extract_if(.., |_, held| held.refreshed + DEAD_AFTER <= now).map(|(key, _)| key).collect()
    }

    /// Returns when the next one dies unless it is refreshed.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.held.values().map(|held| held.refreshed + DEAD_AFTER).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Time = Time::from_millis(100_000);

    /// A name and a version; odd ones are not plausible.
    #[derive(Debug, Clone, PartialEq)]
    struct Number(u32, u32);

    impl Announceable for Number {
        type Key = u32;

        const WIRE_LEN_MIN: usize = 8;

        fn encode(&self, out: &mut BytesMut) {
            out.put_u32(self.0);
            out.put_u32(self.1);
        }

        fn decode(r: &mut Reader) -> Result<Self, WireError> {
            Ok(Number(r.u32("name")?, r.u32("version")?))
        }

        fn key(&self) -> u32 {
            self.0
        }

        fn is_newer(&self, other: &Self) -> bool {
            self.1 > other.1
        }

        fn is_plausible(&self) -> bool {
            self.1.is_multiple_of(2)
        }
    }

    #[test]
    fn an_announcement_survives_the_wire_and_shows_a_flipped_bit() {
        let announcement = Announcement { age_ms: 10, ..Announcement::new(Number(7, 2)) };
        let mut out = BytesMut::new();
        announcement.encode(&mut out);
        assert_eq!(out.len(), Announcement::<Number>::WIRE_LEN_MIN);
        out[3] ^= 1;
        let flipped = Announcement::<Number>::decode(&mut Reader::new(out.clone().freeze())).expect("it is whole");
        assert!(!flipped.is_intact());
        assert_eq!(Announcements::new(9).take(T, &flipped), Change::Refused);
        out[3] ^= 1;
        assert_eq!(Announcement::decode(&mut Reader::new(out.freeze())), Ok(announcement.clone()));
        assert!(announcement.is_intact());
    }

    #[test]
    fn the_newest_wins_and_what_is_old_forged_dead_or_too_much_is_refused() {
        let mut held = Announcements::new(2);
        let mut take =
            |name, version, age_ms| held.take(T, &Announcement { age_ms, ..Announcement::new(Number(name, version)) });
        assert_eq!(take(1, 4, 0), Change::New);
        assert_eq!((take(1, 4, 0), take(1, 2, 0)), (Change::Refused, Change::Refused));
        assert_eq!(take(1, 6, 0), Change::Newer(Number(1, 4)));
        assert_eq!((take(1, 7, 0), take(2, 2, 15_000)), (Change::Refused, Change::Refused));
        assert_eq!((take(2, 2, 14_999), take(3, 2, 0)), (Change::New, Change::Refused));
        assert_eq!((held.get(&1), held.held.len()), (Some(&Number(1, 6)), 2));
        held.remove(&1);
        assert_eq!(held.range(0, 9).collect::<Vec<_>>(), [&Number(2, 2)]);
    }

    #[test]
    fn what_is_held_grows_older_and_dies() {
        let mut held = Announcements::new(2);
        let old = Announcement { age_ms: 5_000, ..Announcement::new(Number(1, 2)) };
        held.take(T, &old);
        held.take(T, &Announcement::new(Number(2, 2)));
        let ages: Vec<_> = held.announce_all(T + Duration::from_secs(2)).iter().map(|told| told.age_ms).collect();
        assert_eq!(ages, [7_000, 2_000]);
        let dies = T + Duration::from_secs(10);
        assert_eq!(held.poll_timeout(), Some(dies));
        assert!(held.expire(dies - Duration::from_millis(1)).is_empty());
        assert_eq!(held.expire(dies), [1]);
        assert_eq!(held.held.len(), 1);
    }
}
