//! The archives of the streams: fed by the windows, bounded by the keeper, read for requests. What isn't kept here, other
//! nodes are asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Shared, State, Store, Stream};
use crate::clock;
use crate::dvr::Keeper;
use crate::mesh::Answer;
use damson_core::dvr::fetch_queue::Outcome;
use damson_core::dvr::query::Query;
use damson_core::dvr::{ArchiveIndex, SegmentKey, Stock, TrackIndex, merge, segment_file};
use damson_core::manifest::HttpError;
use damson_core::model::Peer;
use damson_core::model::time::Time;
use damson_core::model::{LifeId, Msn, NodeId, Record, StreamName, TrackId};
use damson_core::swarm;
use damson_core::swarm::Kept;
use damson_core::window::Lookup;
use damson_core::window::Segment;
use damson_core::window::held_requests;

/// How long documents wait for what was before this node's window, when it has just come.
const LISTING_WAIT: Duration = Duration::from_secs(2);
/// How long a keeper may take to list what it has.
const LISTING_MAX: Duration = Duration::from_secs(8);
/// A keeper that was asked, and left something missing, is asked again after this.
const LISTING_RETRY: Duration = Duration::from_secs(30);
/// How often at most.
const LISTINGS_MAX: u8 = 3;
/// How long what other nodes kept stays listed when the last of them is gone: it may be back soon.
const KEEPERS_GONE: Duration = Duration::from_secs(60);

/// What other nodes keep of a stream.
#[derive(Debug, Default)]
pub(super) struct Others {
    keepers: Vec<swarm::Keeper>,
    /// When the last of them was gone.
    gone_at: Option<Time>,
    /// Who was asked for a listing, when, and how often.
    asked: BTreeMap<NodeId, (Time, u8)>,
    is_asking: bool,
    /// Documents wait for the first listing.
    is_awaited: bool,
}

impl Others {
    fn of(&self, life: LifeId) -> impl Iterator<Item = &swarm::Keeper> {
        self.keepers.iter().filter(move |keeper| keeper.kept.life == life)
    }

    /// Since when the oldest of them lists.
    fn listed_from(&self, life: LifeId) -> Option<Msn> {
        self.of(life).map(|keeper| keeper.kept.listed_from).min()
    }

    /// Who is to be asked next for a listing that an archive lacks, if anybody.
    fn to_ask(&self, now: Time, life: LifeId, archive: &ArchiveIndex) -> Option<Peer> {
        if self.is_asking {
            return None;
        }
        let may = |id: NodeId| {
            let asked = self.asked.get(&id);
            asked.is_none_or(|(at, times)| *times < LISTINGS_MAX && now.since(*at) >= LISTING_RETRY)
        };
        let first = self.of(life).filter(|k| may(k.node.id)).min_by_key(|k| (k.kept.listed_from, k.node.id))?;
        archive.lacks(first.kept.listed_from).then_some(first.node)
    }
}

impl Store {
    /// Who keeps what of a stream's past, beside this node.
    pub fn kept(&self, name: &StreamName, keepers: Vec<swarm::Keeper>) {
        // The directory tells of a stream first; of one that is gone nothing is wanted.
        let Some(stream) = self.get(name.as_str()) else { return };
        {
            let mut guard = stream.lock();
            let state = &mut *guard;
            let others = &mut state.others;
            others.asked.retain(|id, _| keepers.iter().any(|keeper| keeper.node.id == *id));
            others.gone_at = if keepers.is_empty() { others.gone_at.or(Some(clock::now())) } else { None };
            others.keepers = keepers;
            self.shared.keep(name, state);
            if let Some(archive) = &mut state.archive
                && let Some(from) = state.others.listed_from(archive.life())
            {
                archive.follow(from);
            }
        }
        stream.catch_up();
    }

    /// What this node keeps, for others to know.
    pub fn kept_here(&self) -> Vec<Kept> {
        let kept = |stream: &Arc<Stream>| {
            let state = stream.lock();
            let archive = state.archive.as_ref().filter(|archive| archive.keeps())?;
            let from = archive.oldest_here()?;
            let listed_from = archive.listed_from().max(from);
            Some(Kept { stream: stream.name.clone(), life: archive.life(), from, listed_from, depth: archive.depth() })
        };
        self.streams().iter().filter_map(kept).collect()
    }

    /// What another node asks.
    pub async fn asked(&self, question: bytes::Bytes) -> Answer {
        let Ok(Some(question)) = Query::decode(question) else { return Answer::NotHere };
        match question {
            Query::Listing { stream, life, from, before } => {
                let Some(stream) = self.get(stream.as_str()) else { return Answer::NotHere };
                let state = stream.lock();
                let archive = state.archive.as_ref().filter(|a| a.keeps() && a.life() == life);
                archive.map_or(Answer::NotHere, |archive| {
                    Answer::Here(vec![merge::listing(archive, from, before).encode()])
                })
            }
            Query::Segment(key) => {
                let Some(stream) = self.get(key.stream.as_str()) else { return Answer::NotHere };
                stream.given(key).await.map_or(Answer::NotHere, |segment| {
                    let bodies = segment.parts().map(|part| part.body.clone()).filter(|body| !body.is_empty());
                    Answer::Here(std::iter::once(segment_file::head(&segment, None)).chain(bodies).collect())
                })
            }
        }
    }

    /// Does what the keeper asks of the streams' archives.
    pub(crate) fn tend(&self) {
        use crate::dvr::archive_writer::Task;
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
            self.shared.settle(name, archive);
        }
    }
}

impl Shared {
    /// Keeps what is whole in the archive, and in memory what has left the window.
    pub(super) fn keep(&self, name: &StreamName, state: &mut State) {
        let Some(record) = state.window.record().cloned() else { return };
        let evicted: Vec<_> = state.window.take_evicted().into_iter().filter(|(_, s)| s.is_complete()).collect();
        for (track, segment) in &evicted {
            if let Some(track) = state.window.track(*track) {
                state.removed.take(&record, track, segment);
            }
        }
        let key = |track, msn| SegmentKey { stream: name.clone(), life: record.life, track, msn };
        state.open_archive(&record, self.keeper.as_ref());
        if let State { archive: Some(archive), window, .. } = state {
            let mut grown = false;
            let mut take = |archive: &mut ArchiveIndex, track, segment: &Segment| {
                if archive.take(track, segment) {
                    grown = true;
                    if let Some(keeper) = &self.keeper {
                        let period = archive.period(segment.msn);
                        keeper.save(key(track, segment.msn), Arc::new(segment.clone()), period);
                    }
                }
            };
            evicted.iter().for_each(|(track, segment)| take(archive, *track, segment));
            for track in window.tracks() {
                let newest = archive.track(track.id()).and_then(TrackIndex::newest).map(|newest| newest.msn);
                track.whole_after(newest).for_each(|segment| take(archive, track.id(), segment));
            }
            archive.advance(window);
            if grown {
                self.settle(name, archive);
            }
        }
        for (track, segment) in evicted.into_iter().filter(|(_, s)| !s.has_loss()) {
            let bytes = segment.length();
            self.delisted().put(key(track, segment.msn), Arc::new(segment), bytes);
        }
    }

    /// Removes what an archive has let go of, and tells the keeper what it has.
    fn settle(&self, name: &StreamName, archive: &mut ArchiveIndex) {
        let removed = archive.take_removed();
        let Some(keeper) = &self.keeper else { return };
        for (track, msn) in removed {
            let key = SegmentKey { stream: name.clone(), life: archive.life(), track, msn };
            self.delisted().remove(&key);
            keeper.remove(key);
        }
        keeper.stock(name, archive.stock());
    }
}

impl Stream {
    /// A segment of the past that isn't in memory: from the disk, or from another node.
    pub(crate) async fn archived(&self, life: LifeId, track: TrackId, msn: Msn) -> Result<Arc<Segment>, HttpError> {
        let gone = || HttpError::new(404, "request: it has left the window, or is too far ahead");
        let key = SegmentKey { stream: self.name.clone(), life, track, msn };
        let (is_listed, is_here, keepers) = {
            let state = self.lock();
            let archive = state.archive.as_ref().filter(|archive| archive.life() == life).ok_or_else(gone)?;
            let entry = archive.entry(track, msn);
            // What is unknown here is only asked for where it is older than all that is known.
            let may_be = entry.map_or(archive.oldest().is_none_or(|oldest| msn < oldest), |entry| !entry.lost);
            if !may_be || archive.track(track).is_none() {
                return Err(gone());
            }
            let is_listed = entry.is_some() && msn >= archive.listed_from();
            let keepers = state.others.of(life).filter(|keeper| keeper.kept.from <= msn).map(|keeper| keeper.node);
            (is_listed, entry.is_some_and(|entry| entry.here), keepers.collect::<Vec<_>>())
        };
        if is_here
            && let Some(keeper) = &self.shared.keeper
            && let Ok(segment) = keeper.load(key.clone()).await
        {
            let bytes = segment.length();
            self.shared.delisted().put(key, Arc::clone(&segment), bytes);
            return Ok(segment);
        }
        let unreachable = || HttpError::new(503, "stream: no node that keeps this part of the past answers; ask again");
        let fetcher = self.shared.fetcher.as_ref().filter(|_| !keepers.is_empty());
        let Some(fetcher) = fetcher else {
            // Listed, and its keepers may be back soon; else it is past what anybody keeps.
            return Err(if is_listed && !is_here { unreachable() } else { gone() });
        };
        match fetcher.fetch(key.clone(), keepers).await {
            Outcome::Here(segment) => {
                let bytes = segment.length();
                self.shared.fetched().put(key, Arc::clone(&segment), bytes);
                Ok(segment)
            }
            Outcome::Nobody => Err(gone()),
            Outcome::Unreachable => Err(unreachable()),
            Outcome::Full => Err(HttpError::new(503, "edge: too much of the past is asked for at once; ask again")),
        }
    }

    /// A segment for another node: only what is here.
    async fn given(&self, key: SegmentKey) -> Option<Arc<Segment>> {
        {
            let state = self.lock();
            state.window.record().filter(|record| record.life == key.life)?;
            if let Some(Lookup::Ready(segment)) = state.window.track(key.track).map(|track| track.segment(key.msn)) {
                return Some(Arc::new(segment.clone()));
            }
            if let Some(segment) = self.delisted(key.life, key.track, key.msn) {
                return Some(segment);
            }
            let entry = state.archive.as_ref().filter(|a| a.life() == key.life)?.entry(key.track, key.msn)?;
            if !entry.here || entry.lost {
                return None;
            }
        }
        self.shared.keeper.as_ref()?.load(key).await.ok()
    }

    /// Asks a keeper for what was before this node's window, if anything is missing.
    pub(super) fn catch_up(self: &Arc<Self>) {
        let Some(fetcher) = self.shared.fetcher.clone() else { return };
        let mut guard = self.lock();
        let State { archive: Some(archive), others, .. } = &mut *guard else { return };
        let (now, life) = (clock::now(), archive.life());
        let Some(keeper) = others.to_ask(now, life, archive) else { return };
        let is_first = others.asked.is_empty();
        let times = others.asked.get(&keeper.id).map_or(0, |(_, times)| *times);
        others.asked.insert(keeper.id, (now, times + 1));
        (others.is_asking, others.is_awaited) = (true, is_first);
        drop(guard);
        let stream = Arc::clone(self);
        tokio::spawn(async move {
            let listing = fetcher.listing(keeper, stream.name.clone(), life);
            tokio::pin!(listing);
            let mut answer = tokio::time::timeout(LISTING_WAIT, &mut listing).await;
            if answer.is_err() {
                // They are shown the window alone, and more when it comes.
                stream.lock().others_heard(clock::now());
                answer = tokio::time::timeout(LISTING_MAX, listing).await;
            }
            {
                let mut guard = stream.lock();
                let state = &mut *guard;
                state.others.is_asking = false;
                match (answer, &mut state.archive) {
                    (Ok(Ok(listing)), Some(archive)) if archive.life() == life => {
                        let (from, count) = (listing.listed_from, listing.entries.len());
                        let next =
                            state.window.tracks().iter().filter_map(|track| track.next()).map(|(msn, _)| msn).max();
                        merge::join(archive, listing, next.unwrap_or(Msn::MAX));
                        archive.advance(&state.window);
                        stream.shared.settle(&stream.name, archive);
                        tracing::info!(stream = %stream.name, keeper = %keeper.id, from, count, "DVR: lists what another node keeps");
                    }
                    (Ok(Err(refusal)), _) => {
                        tracing::warn!(stream = %stream.name, keeper = %keeper.id, %refusal, "DVR: the keeper doesn't list what it has");
                    }
                    (Err(_), _) => {
                        tracing::warn!(stream = %stream.name, keeper = %keeper.id, "DVR: the keeper doesn't answer")
                    }
                    (Ok(Ok(_)), _) => {}
                }
                state.others_heard(clock::now());
            }
            // Of the next, if that one hadn't all of it.
            stream.catch_up();
        });
    }
}

impl State {
    /// What is kept of the life before its window.
    pub(crate) fn archive(&self) -> Option<&ArchiveIndex> {
        self.archive.as_ref()
    }

    /// Whether documents would lack, for a moment, what every other edge lists.
    pub(crate) fn is_catching_up(&self) -> bool {
        self.others.is_awaited
    }

    fn others_heard(&mut self, now: Time) {
        if std::mem::take(&mut self.others.is_awaited) {
            self.waiters.handle(now, held_requests::Input::Reset);
        }
    }

    /// Sees to it that there is an archive of this life, and that it knows the record; or that there is none, where nobody
    /// keeps anything.
    fn open_archive(&mut self, record: &Record, keeper: Option<&Arc<Keeper>>) {
        let is_over = self.others.gone_at.is_some_and(|at| clock::now().since(at) >= KEEPERS_GONE);
        if is_over {
            self.others.gone_at = None;
            match &mut self.archive {
                Some(archive) if archive.keeps() => archive.follow(Msn::MAX),
                other => self.archives_before += other.take().map_or(0, |old| old.version() + 1),
            }
        }
        if self.archive.as_ref().is_none_or(|archive| archive.life() != record.life) {
            let depth = self.others.of(record.life).map(|others| others.kept.depth).max();
            let archive = match (keeper, depth) {
                (Some(keeper), _) => keeper.open(record),
                (None, Some(depth)) => ArchiveIndex::afar(record, depth),
                (None, None) => return self.forget_life(record, keeper),
            };
            self.forget_life(record, keeper);
            self.archive = Some(archive);
            self.archive_knows = None;
        }
        let revision = (record.epoch, record.revision);
        if self.archive_knows.replace(revision) == Some(revision) {
            return;
        }
        let Some(archive) = &mut self.archive else { return };
        for init in archive.record(record) {
            if let Some(keeper) = keeper {
                keeper.save_init(&record.stream, record.life, init);
            }
        }
    }

    /// Lets go of a former life's archive.
    fn forget_life(&mut self, record: &Record, keeper: Option<&Arc<Keeper>>) {
        let Some(old) = self.archive.take() else { return };
        self.archives_before += old.version() + 1;
        self.others.asked.clear();
        if let Some(keeper) = keeper {
            keeper.remove_life(&record.stream, old.life());
        }
    }
}
