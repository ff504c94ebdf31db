//! The archives of the streams: fed by the windows, bounded by the keeper, read for requests.

use std::sync::Arc;

use super::{Shared, State, Store, Stream};
use crate::edge::dvr::disk::Key;
use crate::edge::dvr::keeper::Task;
use crate::edge::dvr::{Archive, Entry, Keeper, Shelf, Stock};
use crate::live::{LifeId, Msn, Record, Segment, StreamName, TrackId};

impl Store {
    /// Does what the keeper asks of the streams' archives.
    pub(in crate::edge) fn tend(&self) {
        let Some(keeper) = &self.shared.keeper else { return };
        while let Some(task) = keeper.task() {
            let name = match &task {
                Task::Cut(key) => &key.stream,
                Task::Delist(name) | Task::Drop(name) => name,
            };
            let Some(stream) = self.get(name.as_str()) else {
                keeper.stock(name, Stock::default());
                continue;
            };
            let mut guard = stream.lock();
            let Some(archive) = &mut guard.archive else { continue };
            match &task {
                Task::Cut(key) if key.life == archive.life() => archive.cut(key.msn),
                Task::Cut(_) => {}
                Task::Delist(_) => drop(archive.delist_oldest()),
                Task::Drop(_) => drop(archive.drop_oldest()),
            }
            if matches!(task, Task::Cut(_) | Task::Delist(_)) {
                keeper.save_cut(name, archive.life(), archive.listed_from());
            }
            self.shared.settle(name, archive, keeper);
        }
    }
}

impl Shared {
    /// Keeps what is whole in the archive, and in memory what has left the window.
    pub(super) fn keep(&self, name: &StreamName, state: &mut State) {
        let Some(record) = state.window.record().cloned() else { return };
        let evicted: Vec<_> = state.window.take_evicted().into_iter().filter(|(_, s)| s.is_complete()).collect();
        let key = |track, msn| Key { stream: name.clone(), life: record.life, track, msn };
        if let Some(keeper) = &self.keeper {
            state.open_archive(&record, keeper);
            let State { archive: Some(archive), window, .. } = state else { return };
            let mut grown = false;
            let mut take = |archive: &mut Archive, track, segment: &Segment| {
                if archive.take(track, segment) {
                    let period = archive.period(segment.msn);
                    keeper.save(key(track, segment.msn), Arc::new(segment.clone()), period);
                    grown = true;
                }
            };
            evicted.iter().for_each(|(track, segment)| take(archive, *track, segment));
            for track in window.tracks() {
                let newest = archive.shelf(track.id()).and_then(Shelf::newest).map(|newest| newest.msn);
                track.whole_after(newest).for_each(|segment| take(archive, track.id(), segment));
            }
            archive.advance(window);
            if grown {
                self.settle(name, archive, keeper);
            }
        }
        for (track, segment) in evicted.into_iter().filter(|(_, s)| !s.has_loss()) {
            let bytes = segment.length();
            self.delisted().put(key(track, segment.msn), Arc::new(segment), bytes);
        }
    }

    /// Removes what an archive has let go of, and tells the keeper what it has.
    fn settle(&self, name: &StreamName, archive: &mut Archive, keeper: &Keeper) {
        for (track, msn) in archive.take_removed() {
            let key = Key { stream: name.clone(), life: archive.life(), track, msn };
            self.delisted().remove(&key);
            keeper.remove(key);
        }
        keeper.stock(name, archive.stock());
    }
}

impl Stream {
    /// A segment of the archive that isn't in memory; `None` if there is none.
    pub(in crate::edge) async fn archived(&self, life: LifeId, track: TrackId, msn: Msn) -> Option<Arc<Segment>> {
        let keeper = self.shared.keeper.as_ref()?;
        let key = Key { stream: self.name.clone(), life, track, msn };
        let is_kept = |archive: &Archive| {
            archive.life() == life && archive.entry(track, msn).is_some_and(|entry: &Entry| !entry.lost)
        };
        if !self.lock().archive.as_ref().is_some_and(is_kept) {
            return None;
        }
        let segment = keeper.load(key.clone()).await.ok()?;
        let bytes = segment.length();
        self.shared.delisted().put(key, Arc::clone(&segment), bytes);
        Some(segment)
    }
}

impl State {
    /// What is kept of the life before its window.
    pub(in crate::edge) fn archive(&self) -> Option<&Archive> {
        self.archive.as_ref()
    }

    /// Sees to it that there is an archive of this life, and that it knows the record.
    fn open_archive(&mut self, record: &Record, keeper: &Keeper) {
        if self.archive.as_ref().is_none_or(|archive| archive.life() != record.life) {
            let archive = keeper.open(record);
            if let Some(old) = self.archive.replace(archive) {
                self.archives_before += old.version() + 1;
                keeper.remove_life(&record.stream, old.life());
            }
            self.archive_knows = None;
        }
        let revision = (record.epoch, record.revision);
        if self.archive_knows.replace(revision) == Some(revision) {
            return;
        }
        let Some(archive) = &mut self.archive else { return };
        for init in archive.record(record) {
            keeper.save_init(&record.stream, record.life, init);
        }
    }
}
