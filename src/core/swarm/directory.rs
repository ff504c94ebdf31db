//! The directory: which streams there are, of which life and epoch, and where their ingests can be dialled.
//!
//! A map that every node holds whole. The newest entry of a stream, by (epoch, refresh), wins; its owner refreshes
//! it, and one that isn't refreshed dies. What is newer is forwarded to all neighbours but the sender.

use std::collections::BTreeMap;
use std::time::Duration;

use super::announcement::{Announcement, Held};
use super::entry::Entry;
use crate::model::StreamName;
use crate::model::time::Time;

/// What an announcement changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// A new stream, or another life or epoch of a known one.
    Moved,
    /// A sign of life.
    Refreshed,
    /// Nothing. It isn't passed on.
    Refused,
}

/// What some announcements changed.
#[derive(Debug, Default, PartialEq)]
pub(super) struct News {
    /// What is to be passed on.
    pub(super) told: Vec<Announcement<Entry>>,
    /// The entries of streams that are new, or have another life or epoch.
    pub(super) moved: Vec<Entry>,
}

/// The map.
#[derive(Debug)]
pub(super) struct Directory {
    entries: BTreeMap<StreamName, Held<Entry>>,
    dead_after: Duration,
    entries_max: usize,
    bad: u64,
    full: u64,
}

impl Directory {
    /// Makes an empty one; an entry dies `dead_after` its last refresh.
    pub(super) fn new(dead_after: Duration, entries_max: usize) -> Self {
        Directory { entries: BTreeMap::new(), dead_after, entries_max, bad: 0, full: 0 }
    }

    /// Returns the entry of a stream.
    pub(super) fn get(&self, stream: &StreamName) -> Option<&Entry> {
        self.entries.get(stream).map(|held| &held.what)
    }

    /// Returns all entries, by name.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().map(|held| &held.what)
    }

    /// Returns how many announcements were refused: for their checksum or their claim, and since the directory was
    /// full.
    pub(super) fn refused(&self) -> (u64, u64) {
        (self.bad, self.full)
    }

    /// Takes announcements.
    pub(super) fn merge(&mut self, now: Time, announcements: Vec<Announcement<Entry>>) -> News {
        let (mut told, mut moved) = (Vec::new(), Vec::new());
        for announcement in announcements {
            let stream = announcement.what.stream.clone();
            let change = self.take(now, announcement);
            if change != Change::Refused {
                told.extend(self.entries.get(&stream).map(|held| held.announce(now)));
            }
            if change == Change::Moved {
                moved.push(stream);
            }
        }
        News { told, moved: moved.iter().filter_map(|stream| self.get(stream).cloned()).collect() }
    }

    fn take(&mut self, now: Time, announcement: Announcement<Entry>) -> Change {
        let entry = &announcement.what;
        if !announcement.is_intact() || entry.epoch.node != entry.ingest.id {
            self.bad += 1;
            return Change::Refused;
        }
        if announcement.age() >= self.dead_after {
            return Change::Refused;
        }
        let full = self.entries.len() >= self.entries_max;
        match self.entries.get_mut(&entry.stream) {
            Some(Held { what: old, .. }) if (entry.epoch, entry.refresh) <= (old.epoch, old.refresh) => Change::Refused,
            Some(old) => {
                let same = (old.what.epoch, old.what.life) == (entry.epoch, entry.life);
                *old = Held::new(now, announcement);
                if same { Change::Refreshed } else { Change::Moved }
            }
            None if full => {
                self.full += 1;
                Change::Refused
            }
            None => {
                self.entries.insert(entry.stream.clone(), Held::new(now, announcement));
                Change::Moved
            }
        }
    }

    /// Returns all that is held, to be told to a new neighbour.
    pub(super) fn announce_all(&self, now: Time) -> Vec<Announcement<Entry>> {
        self.entries.values().map(|held| held.announce(now)).collect()
    }

    /// Removes and returns the streams that are dead.
    pub(super) fn expire(&mut self, now: Time) -> Vec<StreamName> {
        let dead = |_: &StreamName, held: &mut Held<Entry>| held.dies_at(self.dead_after) <= now;
        self.entries.extract_if(.., dead).map(|(stream, _)| stream).collect()
    }

    /// Returns when the next entry dies if it isn't refreshed.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.entries.values().map(|held| held.dies_at(self.dead_after)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Peer;
    use crate::model::{Epoch, LifeId, NodeId};

    const T: Time = Time::from_millis(100_000);

    fn entry(stream: &str, counter: u32, refresh: u32) -> Entry {
        Entry {
            stream: StreamName::parse(stream).expect("a name"),
            life: LifeId(1),
            epoch: Epoch { counter, node: NodeId(7) },
            refresh,
            ingest: Peer { id: NodeId(7), addr: ([127, 0, 0, 1], 4_900).into() },
        }
    }

    fn directory() -> Directory {
        Directory::new(Duration::from_secs(15), 2)
    }

    /// Merges announcements of these entries; returns how many are passed on, and how many moved.
    fn merge(directory: &mut Directory, now: Time, entries: &[Entry]) -> (usize, usize) {
        let news = directory.merge(now, entries.iter().cloned().map(Announcement::new).collect());
        (news.told.len(), news.moved.len())
    }

    #[test]
    fn the_newest_entry_by_epoch_and_refresh_wins() {
        let mut directory = directory();
        assert_eq!(merge(&mut directory, T, &[entry("a", 1, 5)]), (1, 1));
        assert_eq!(merge(&mut directory, T, &[entry("a", 1, 5), entry("a", 1, 4)]), (0, 0));
        assert_eq!(merge(&mut directory, T, &[entry("a", 1, 6)]), (1, 0), "a refresh moves nothing");
        let reborn = Entry { life: LifeId(2), ..entry("a", 1, 7) };
        assert_eq!(merge(&mut directory, T, &[reborn]), (1, 1), "another life");
        assert_eq!(merge(&mut directory, T, &[entry("a", 2, 0)]), (1, 1), "another epoch");
        assert_eq!(directory.get(&entry("a", 0, 0).stream), Some(&entry("a", 2, 0)));
    }

    #[test]
    fn a_stream_that_moves_twice_at_once_is_shown_as_it_is_in_the_end() {
        let news = directory().merge(T, vec![Announcement::new(entry("a", 1, 1)), Announcement::new(entry("a", 2, 1))]);
        assert_eq!(news.moved, [entry("a", 2, 1), entry("a", 2, 1)]);
    }

    #[test]
    fn what_is_corrupt_forged_dead_or_too_much_is_refused() {
        let mut directory = directory();
        let torn = Announcement { what: entry("a", 1, 2), ..Announcement::new(entry("a", 1, 1)) };
        assert_eq!(directory.merge(T, vec![torn]), News::default());
        let forged = Entry { epoch: Epoch { counter: 1, node: NodeId(8) }, ..entry("a", 1, 1) };
        assert_eq!(merge(&mut directory, T, &[forged]), (0, 0));
        assert_eq!(directory.refused(), (2, 0));
        let dead = Announcement { age_ms: 15_000, ..Announcement::new(entry("a", 1, 1)) };
        assert_eq!(directory.merge(T, vec![dead]), News::default());
        assert_eq!(merge(&mut directory, T, &[entry("a", 1, 1), entry("b", 1, 1), entry("c", 1, 1)]), (2, 2));
        assert_eq!(directory.refused(), (2, 1));
    }

    #[test]
    fn an_entry_dies_and_is_told_with_its_age() {
        let mut directory = directory();
        let old = Announcement { age_ms: 5_000, ..Announcement::new(entry("a", 1, 1)) };
        directory.merge(T, vec![old, Announcement::new(entry("b", 1, 1))]);
        let ages: Vec<_> = directory.announce_all(T + Duration::from_secs(2)).iter().map(|told| told.age_ms).collect();
        assert_eq!(ages, [7_000, 2_000]);
        let dies = T + Duration::from_secs(10);
        assert_eq!(directory.poll_timeout(), Some(dies));
        assert_eq!(directory.expire(dies - Duration::from_millis(1)), []);
        assert_eq!(directory.expire(dies), [entry("a", 0, 0).stream]);
        assert_eq!(directory.entries().count(), 1);
    }
}
