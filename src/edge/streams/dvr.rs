//! The DVR of a stream: the archives, here and at other nodes, of the segments that have left its window.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use damson_core::dvr::{ArchiveIndex, Listing, SegmentKey, TrackIndex, merge};
use damson_core::manifest::date_ranges::RemovedRanges;
use damson_core::manifest::listed::Listed;
use damson_core::model::time::Time;
use damson_core::model::{Epoch, LifeId, Msn, NodeId, Peer, Record, StreamName, TrackId};
use damson_core::swarm::{self, Kept};
use damson_core::window::{Segment, Window};

use super::archives::{Archives, Whereabouts};
use crate::clock;
use crate::dvr::ArchiveWriter;
use crate::dvr::archive_writer::Task;

/// The time until a node is asked again whose listing left something missing.
const LISTING_RETRY: Duration = Duration::from_secs(30);
/// Most requests for a listing to one node.
const LISTINGS_MAX: u8 = 3;
/// The time for which segments stay listed after the last node that archives them has gone: it may be back soon.
const KEEPERS_GONE: Duration = Duration::from_secs(60);

/// The other nodes that archive a stream.
#[derive(Debug, Default)]
struct Others {
    keepers: Vec<swarm::Keeper>,
    /// The time at which the last of them left.
    gone_at: Option<Time>,
    /// The nodes that were asked for a listing, when, and how often.
    asked: BTreeMap<NodeId, (Time, u8)>,
    is_asking: bool,
    /// Documents wait for the first listing.
    is_awaited: bool,
}

impl Others {
    fn of(&self, life: LifeId) -> impl Iterator<Item = &swarm::Keeper> {
        self.keepers.iter().filter(move |keeper| keeper.kept.life == life)
    }

    /// Takes in the nodes that archive the stream now.
    fn set(&mut self, now: Time, keepers: Vec<swarm::Keeper>) {
        self.asked.retain(|id, _| keepers.iter().any(|keeper| keeper.node.id == *id));
        self.gone_at = if keepers.is_empty() { self.gone_at.or(Some(now)) } else { None };
        self.keepers = keepers;
    }

    /// Chooses a node to ask for a listing that the archive lacks, and notes that it is asked.
    fn ask(&mut self, now: Time, life: LifeId, archive: &ArchiveIndex) -> Option<Peer> {
        if self.is_asking {
            return None;
        }
        let may = |id: NodeId| {
            let asked = self.asked.get(&id);
            asked.is_none_or(|(at, times)| *times < LISTINGS_MAX && now.since(*at) >= LISTING_RETRY)
        };
        let first = self.of(life).filter(|k| may(k.node.id)).min_by_key(|k| (k.kept.listed_from, k.node.id))?;
        let keeper = archive.lacks(first.kept.listed_from).then_some(first.node)?;
        (self.is_asking, self.is_awaited) = (true, self.asked.is_empty());
        let (at, times) = self.asked.entry(keeper.id).or_insert((now, 0));
        (*at, *times) = (now, *times + 1);
        Some(keeper)
    }
}

/// The DVR of a stream.
#[derive(Debug)]
pub(crate) struct StreamDvr {
    name: StreamName,
    /// The index of the window's life, if any node archives it.
    archive: Option<ArchiveIndex>,
    others: Others,
    /// Added to the archive's version, so that no version comes twice in the stream's life.
    versions_before: u64,
    /// The revision of the record that the archive knows.
    knows: Option<(Epoch, u32)>,
    removed: RemovedRanges,
}

impl StreamDvr {
    pub(crate) fn new(name: StreamName) -> Self {
        let (others, removed) = (Others::default(), RemovedRanges::default());
        StreamDvr { name, archive: None, others, versions_before: 0, knows: None, removed }
    }

    /// Returns the index of the archive.
    pub(crate) fn archive(&self) -> Option<&ArchiveIndex> {
        self.archive.as_ref()
    }

    /// Returns a number that changes with everything that the archive lists.
    pub(crate) fn version(&self) -> u64 {
        self.versions_before + self.archive.as_ref().map_or(0, ArchiveIndex::version)
    }

    /// Returns everything that is listed: the archive, and then the window.
    pub(crate) fn listed<'a>(&'a self, window: &'a Window) -> Listed<'a> {
        let listed = Listed::new(window, self.archive.as_ref());
        Listed { archives_before: self.versions_before, removed: Some(&self.removed), ..listed }
    }

    /// Returns true while documents would lack, for a moment, what every other edge lists.
    pub(crate) fn is_awaited(&self) -> bool {
        self.others.is_awaited
    }

    /// Stops holding documents; returns whether they were held.
    pub(crate) fn stop_waiting(&mut self) -> bool {
        std::mem::take(&mut self.others.is_awaited)
    }

    /// Returns what this node archives, to announce it.
    pub(crate) fn kept_here(&self) -> Option<Kept> {
        let archive = self.archive.as_ref().filter(|archive| archive.keeps())?;
        let from = archive.oldest_here()?;
        let listed_from = archive.listed_from().max(from);
        Some(Kept { stream: self.name.clone(), life: archive.life(), from, listed_from, depth: archive.depth() })
    }

    /// Takes in which other nodes archive what.
    pub(crate) fn kept_elsewhere(&mut self, keepers: Vec<swarm::Keeper>, window: &mut Window, archives: &Archives) {
        self.others.set(clock::now(), keepers);
        self.keep(window, archives);
        if let Some(archive) = &mut self.archive
            && let Some(from) = self.others.of(archive.life()).map(|keeper| keeper.kept.listed_from).min()
        {
            archive.follow(from);
        }
    }

    /// Archives whole segments, and keeps those in memory that have left the window.
    pub(crate) fn keep(&mut self, window: &mut Window, archives: &Archives) {
        let Some(record) = window.record().cloned() else { return };
        let evicted: Vec<_> = window.take_evicted().into_iter().filter(|(_, s)| s.is_complete()).collect();
        for (track, segment) in &evicted {
            if let Some(track) = window.track(*track) {
                self.removed.take(&record, track, segment);
            }
        }
        self.open_archive(&record, archives.writer());
        self.fill(window, &evicted, archives);
        for (track, segment) in evicted.into_iter().filter(|(_, s)| !s.has_loss()) {
            let key = SegmentKey { stream: self.name.clone(), life: record.life, track, msn: segment.msn };
            archives.delist(key, Arc::new(segment));
        }
    }

    /// Puts segments that have left the window, and whole ones in it, into the archive.
    fn fill(&mut self, window: &Window, evicted: &[(TrackId, Segment)], archives: &Archives) {
        let StreamDvr { archive: Some(archive), name, .. } = self else { return };
        let mut has_grown = false;
        let mut take = |archive: &mut ArchiveIndex, track, segment: &Segment| {
            if archive.take(track, segment) {
                has_grown = true;
                if let Some(writer) = archives.writer() {
                    let key = SegmentKey { stream: name.clone(), life: archive.life(), track, msn: segment.msn };
                    writer.save(key, Arc::new(segment.clone()), archive.period(segment.msn));
                }
            }
        };
        evicted.iter().for_each(|(track, segment)| take(archive, *track, segment));
        for track in window.tracks() {
            let newest = archive.track(track.id()).and_then(TrackIndex::newest).map(|newest| newest.msn);
            track.whole_after(newest).for_each(|segment| take(archive, track.id(), segment));
        }
        archive.advance(window);
        if has_grown {
            archives.settle(name, archive);
        }
    }

    /// Returns where a segment may be that isn't in memory; `None` if no node can have it.
    pub(crate) fn whereabouts(&self, key: &SegmentKey) -> Option<Whereabouts> {
        let archive = self.archive.as_ref().filter(|archive| archive.life() == key.life)?;
        let entry = archive.entry(key.track, key.msn);
        // Other nodes are asked for an unknown segment only if it is older than all known ones.
        let may_be = entry.map_or(archive.oldest().is_none_or(|oldest| key.msn < oldest), |entry| !entry.lost);
        if !may_be || archive.track(key.track).is_none() {
            return None;
        }
        let keepers = self.others.of(key.life).filter(|keeper| keeper.kept.from <= key.msn);
        Some(Whereabouts {
            is_listed: entry.is_some() && key.msn >= archive.listed_from(),
            is_here: entry.is_some_and(|entry| entry.here),
            keepers: keepers.map(|keeper| keeper.node).collect(),
        })
    }

    /// Chooses a node to ask for what the archive lacks, and returns it with the life.
    pub(crate) fn ask(&mut self, now: Time) -> Option<(Peer, LifeId)> {
        let archive = self.archive.as_ref()?;
        let keeper = self.others.ask(now, archive.life(), archive)?;
        Some((keeper, archive.life()))
    }

    /// Takes in the listing of another node, or that it sent none. Returns its first MSN and its length, if it is still
    /// of use.
    pub(crate) fn join(
        &mut self,
        life: LifeId,
        listing: Option<Listing>,
        window: &Window,
        archives: &Archives,
    ) -> Option<(Msn, usize)> {
        self.others.is_asking = false;
        let archive = self.archive.as_mut().filter(|archive| archive.life() == life)?;
        let listing = listing?;
        let told = (listing.listed_from, listing.entries.len());
        let next = window.tracks().iter().filter_map(|track| track.next()).map(|(msn, _)| msn).max();
        merge::join(archive, listing, next.unwrap_or(Msn::MAX));
        archive.advance(window);
        archives.settle(&self.name, archive);
        Some(told)
    }

    /// Does a task of the writer, which bounds the archives of all streams.
    pub(crate) fn tend(&mut self, task: &Task, archives: &Archives) {
        let (Some(archive), Some(writer)) = (&mut self.archive, archives.writer()) else { return };
        match task {
            Task::Cut(key) if key.life == archive.life() => archive.cut(key.msn),
            Task::Cut(_) => {}
            Task::Delist(_) => drop(archive.delist_oldest()),
            Task::Drop(_) => drop(archive.drop_oldest()),
        }
        if matches!(task, Task::Cut(_) | Task::Delist(_)) {
            writer.save_cut(&self.name, archive.life(), archive.listed_from());
        }
        archives.settle(&self.name, archive);
    }

    /// Opens an archive of the record's life if this node or another one has one, closes that of another life, and
    /// tells the archive the record.
    fn open_archive(&mut self, record: &Record, writer: Option<&Arc<ArchiveWriter>>) {
        let is_over = self.others.gone_at.is_some_and(|at| clock::now().since(at) >= KEEPERS_GONE);
        if is_over {
            self.others.gone_at = None;
            match &mut self.archive {
                Some(archive) if archive.keeps() => archive.follow(Msn::MAX),
                other => self.versions_before += other.take().map_or(0, |old| old.version() + 1),
            }
        }
        if self.archive.as_ref().is_none_or(|archive| archive.life() != record.life) {
            let depth = self.others.of(record.life).map(|others| others.kept.depth).max();
            let archive = match (writer, depth) {
                (Some(writer), _) => writer.open(record),
                (None, Some(depth)) => ArchiveIndex::afar(record, depth),
                (None, None) => return self.remove(writer),
            };
            self.remove(writer);
            self.archive = Some(archive);
            self.knows = None;
        }
        let revision = (record.epoch, record.revision);
        if self.knows.replace(revision) == Some(revision) {
            return;
        }
        let Some(archive) = &mut self.archive else { return };
        for init in archive.record(record) {
            if let Some(writer) = writer {
                writer.save_init(&record.stream, record.life, init);
            }
        }
    }

    /// Removes the archive: its life is over, or the stream is gone.
    pub(crate) fn remove(&mut self, writer: Option<&Arc<ArchiveWriter>>) {
        let Some(old) = self.archive.take() else { return };
        self.versions_before += old.version() + 1;
        self.others.asked.clear();
        if let Some(writer) = writer {
            writer.remove_life(&self.name, old.life());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use damson_core::model::limits::JOIN_SETTLE;
    use damson_core::testing::synthetic::{self, AUDIO, FIRST_MSN, Feed, VIDEO};

    /// Makes the entry of a node that archives a stream's life.
    fn keeper(node: u64, record: &Record, from: Msn) -> swarm::Keeper {
        let kept = Kept {
            stream: record.stream.clone(),
            life: record.life,
            from,
            listed_from: from,
            depth: Duration::from_secs(3_600),
        };
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 4900));
        swarm::Keeper { node: Peer { id: NodeId(node), addr }, kept, stamp: 1 }
    }

    #[test]
    fn who_lists_most_is_asked_first_and_none_again_at_once() {
        let mut feed = Feed::new(synthetic::record("cam1"));
        let (mut dvr, archives) = (StreamDvr::new(feed.record.stream.clone()), Archives::new(None, None));
        feed.run(10, 12, 0).pass(JOIN_SETTLE);
        let (record, now) = (feed.record.clone(), Time::from_millis(1_000));
        dvr.keep(&mut feed.window, &archives);
        assert!(dvr.archive().is_none() && dvr.ask(now).is_none(), "nobody keeps anything");
        let keepers = vec![keeper(3, &record, FIRST_MSN + 5), keeper(2, &record, FIRST_MSN)];
        dvr.kept_elsewhere(keepers, &mut feed.window, &archives);
        let ask = |dvr: &mut StreamDvr, now| dvr.ask(now).map(|(node, _)| node.id.0);
        assert_eq!([ask(&mut dvr, now), ask(&mut dvr, now)], [Some(2), None], "one at a time");
        assert!(dvr.is_awaited() && dvr.stop_waiting() && !dvr.stop_waiting());
        assert_eq!(dvr.join(record.life, None, &feed.window, &archives), None);
        assert_eq!([ask(&mut dvr, now), ask(&mut dvr, now)], [Some(3), None]);
        assert!(!dvr.is_awaited(), "documents wait for the first answer alone");
        dvr.join(record.life, None, &feed.window, &archives);
        assert_eq!([ask(&mut dvr, now), ask(&mut dvr, now + LISTING_RETRY)], [None, Some(2)]);
    }

    #[test]
    fn what_is_older_than_all_that_is_known_is_looked_for_elsewhere() {
        let mut feed = Feed::new(synthetic::record("cam1"));
        let (mut dvr, archives) = (StreamDvr::new(feed.record.stream.clone()), Archives::new(None, None));
        feed.run(10, 12, 0).pass(JOIN_SETTLE);
        let record = feed.record.clone();
        let keepers = vec![keeper(2, &record, FIRST_MSN)];
        dvr.kept_elsewhere(keepers, &mut feed.window, &archives);
        let of = |life, track, msn| SegmentKey { stream: record.stream.clone(), life, track, msn };
        let found = dvr.whereabouts(&of(record.life, VIDEO, FIRST_MSN + 3)).expect("with the keeper");
        assert_eq!((found.is_here, found.is_listed, found.keepers.len()), (false, false, 1));
        assert!(dvr.whereabouts(&of(record.life, AUDIO, FIRST_MSN + 30)).is_none(), "it is yet to come");
        assert!(dvr.whereabouts(&of(record.life, TrackId(9), FIRST_MSN)).is_none(), "no such track");
        assert!(dvr.whereabouts(&of(LifeId(record.life.0 + 1), VIDEO, FIRST_MSN)).is_none(), "another life");
    }
}
