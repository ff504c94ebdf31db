//! What all archives of a node share: the queue to the disk, the budget of bytes, and what a former run has left.
//!
//! Nothing here waits for the disk but the writer's own thread. While that can't write, segments queue in memory; what
//! doesn't fit there any more is lost, and its stream's archive is cut ([`ArchiveIndex::cut`]). A full disk is a smaller
//! budget: it shrinks until a segment fits again, and grows back while all goes well. Live viewers are served from
//! their windows all the while.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use damson_core::dvr::{ArchiveIndex, SegmentKey, Stock};
use damson_core::model::time::{Time, UnixTime};
use damson_core::model::{LifeId, Msn, Period, Record, StreamName, TrackId};
use damson_core::window::Segment;
use parking_lot::{Condvar, Mutex};
use tokio::sync::Semaphore;

use super::disk::{Chore, Disk, FoundArchive};
use super::settings::Settings;
use crate::clock;
use crate::observe::Metrics;

/// Bytes of segments that wait to be written: 10 streams of 3 Mb/s for 17 s, 1 for 3 minutes.
const QUEUE_BYTES_MAX: u64 = if cfg!(test) { 1 << 20 } else { 64 << 20 };
/// Files that wait to be removed. More are left, and found again when the node starts.
const CHORES_MAX: usize = 100_000;
/// How long a disk that refuses is left alone.
const RETRY: Duration = Duration::from_secs(1);
/// A disk that fails is a warning no more often.
const WARN_INTERVAL: Duration = Duration::from_secs(60);
/// After so many segments a disk that was full has room again: a full one takes 16 in the place of those let go of.
const SMOOTHLY: u32 = 64;
/// Most segments that are read at a time.
const READS_MAX: usize = 8;

/// Keeps the archives of a node.
#[derive(Debug)]
pub struct ArchiveWriter {
    settings: Settings,
    disk: Option<Disk>,
    state: Mutex<WriterState>,
    work: Condvar,
    reads: Semaphore,
    /// There is a [`Task`].
    has_tasks: AtomicBool,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct WriterState {
    saves: VecDeque<Save>,
    /// Bytes of `saves`.
    queued: u64,
    chores: VecDeque<Chore>,
    lost: VecDeque<SegmentKey>,
    stocks: BTreeMap<StreamName, Stock>,
    /// Archives whose streams haven't shown up yet.
    found: BTreeMap<StreamName, FoundArchive>,
    /// Bytes of all archives, as far as the disk has room for them.
    budget: u64,
    /// Segments written since the disk was full.
    smoothly: u32,
    warned: Option<Time>,
    /// A warning was given, and nobody has told yet that all is well again.
    is_warning: bool,
    closing: bool,
}

#[derive(Debug, Clone)]
struct Save {
    key: SegmentKey,
    segment: Arc<Segment>,
    period: Option<Period>,
}

/// What a stream's archive has to do for the sake of all.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// This segment is lost.
    Cut(SegmentKey),
    /// List one row less.
    Delist(StreamName),
    /// Let go of the oldest row.
    Drop(StreamName),
}

impl Task {
    /// Returns the stream whose archive has to do it.
    pub(crate) fn stream(&self) -> &StreamName {
        match self {
            Task::Cut(key) => &key.stream,
            Task::Delist(name) | Task::Drop(name) => name,
        }
    }
}

impl ArchiveWriter {
    /// Reads what a former run has left in the folder of the settings, if they name one, which takes a while (7,400 segments:
    /// 64 ms, run), and starts to keep.
    ///
    /// # Errors
    /// The folder can't be made or read, or another node has it.
    pub fn start(settings: Settings, metrics: Arc<Metrics>) -> io::Result<Arc<Self>> {
        let disk = settings.disk.as_ref().map(|(dir, _)| Disk::open(dir)).transpose()?;
        Self::start_on(disk, settings, metrics)
    }

    pub(crate) fn start_on(disk: Option<Disk>, settings: Settings, metrics: Arc<Metrics>) -> io::Result<Arc<Self>> {
        let found = disk.as_ref().map(Disk::recover).transpose()?.unwrap_or_default();
        let stocks = found.iter().map(|(name, found)| (name.clone(), found.stock())).collect();
        let state = WriterState { budget: settings.bytes_max(), found, stocks, ..WriterState::default() };
        let writer = Arc::new(ArchiveWriter {
            settings,
            disk,
            state: Mutex::new(state),
            work: Condvar::new(),
            reads: Semaphore::new(READS_MAX),
            has_tasks: AtomicBool::new(true),
            metrics,
        });
        if writer.disk.is_some() {
            let writer = Arc::clone(&writer);
            std::thread::Builder::new().name("dvr".to_owned()).spawn(move || writer.run())?;
        }
        Ok(writer)
    }

    /// Returns its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Writes what is queued, and ends.
    pub fn close(&self) {
        self.state.lock().closing = true;
        self.work.notify_all();
    }

    /// Opens the archive of a life that is new here: what a former run has left of it, or an empty one. Another life's is
    /// removed.
    pub(crate) fn open(&self, record: &Record) -> ArchiveIndex {
        let mut archive = ArchiveIndex::new(record, self.settings.depth);
        let found = self.state.lock().found.remove(&record.stream);
        let Some(FoundArchive { life, mut listing }) = found else { return archive };
        if life != record.life {
            self.remove_life(&record.stream, life);
            return archive;
        }
        let (listed_from, segments) = (listing.listed_from, listing.entries.len());
        // As if its segments came anew: what was delisted is delisted, and for as long.
        listing.entries.sort_by_key(|(track, entry)| (entry.msn, *track));
        archive.refill(listing);
        archive.resume(listed_from);
        tracing::info!(stream = %record.stream, segments, "DVR: goes on with what is on disk");
        archive
    }

    /// Queues a segment for the disk.
    pub(crate) fn save(&self, key: SegmentKey, segment: Arc<Segment>, period: Option<Period>) {
        if self.disk.is_none() {
            return;
        }
        let mut state = self.state.lock();
        state.queued += segment.length();
        state.saves.push_back(Save { key, segment, period });
        while state.queued > QUEUE_BYTES_MAX {
            let Some(save) = state.saves.pop_front() else { break };
            state.queued -= save.segment.length();
            state.lost.push_back(save.key);
            self.metrics.dvr.lost.inc();
            self.has_tasks.store(true, Ordering::Release);
        }
        drop(state);
        self.work.notify_one();
    }

    pub(crate) fn save_init(&self, stream: &StreamName, life: LifeId, init: (TrackId, u16, Bytes)) {
        self.chore(Chore::init(stream, life, init));
    }

    pub(crate) fn save_cut(&self, stream: &StreamName, life: LifeId, msn: Msn) {
        self.chore(Chore::cut(stream, life, msn));
    }

    pub(crate) fn remove(&self, key: SegmentKey) {
        self.chore(Chore::remove(&key));
    }

    pub(crate) fn remove_life(&self, stream: &StreamName, life: LifeId) {
        self.chore(Chore::remove_life(stream, life));
        let mut state = self.state.lock();
        state.stocks.remove(stream);
        // What waits to be written would make the folder anew.
        state.saves.retain(|save| (&save.key.stream, save.key.life) != (stream, life));
        state.queued = state.saves.iter().map(|save| save.segment.length()).sum();
    }

    fn chore(&self, chore: Chore) {
        if self.disk.is_none() {
            return;
        }
        let mut state = self.state.lock();
        if state.chores.len() < CHORES_MAX {
            state.chores.push_back(chore);
        }
        drop(state);
        self.work.notify_one();
    }

    /// Takes in what a stream's archive has now.
    pub(crate) fn stock(&self, stream: &StreamName, stock: Stock) {
        let mut state = self.state.lock();
        state.stocks.insert(stream.clone(), stock);
        self.metrics.dvr.kept.set(state.kept());
        if state.victim().is_some() || !state.found.is_empty() {
            self.has_tasks.store(true, Ordering::Release);
        }
    }

    /// Returns the next thing to do. Once it is done, [`stock`](Self::stock) has to be told.
    pub(crate) fn task(&self) -> Option<Task> {
        if !self.has_tasks.load(Ordering::Acquire) {
            return None;
        }
        let mut state = self.state.lock();
        if let Some(key) = state.lost.pop_front() {
            return Some(Task::Cut(key));
        }
        // Streams that never came back: nobody was shown them by this run.
        let old = UnixTime::from_micros(0) + clock::wall().since(UnixTime::default() + self.settings.depth * 2);
        let gone = |(_, found): &(&StreamName, &FoundArchive)| {
            found.listing.entries.iter().map(|(_, e)| e.program_date_time).max().is_none_or(|newest| newest < old)
        };
        let gone = state.found.iter().find(gone).map(|(name, _)| name.clone());
        let victim = gone.clone().map(Task::Drop).or_else(|| state.victim());
        let Some(Task::Delist(name) | Task::Drop(name)) = &victim else {
            self.has_tasks.store(false, Ordering::Release);
            return None;
        };
        let Some(found) = state.found.remove(name) else { return victim };
        // Of what is unclaimed, all goes at once.
        let name = name.clone();
        drop(state);
        self.remove_life(&name, found.life);
        self.task()
    }

    /// Reads a segment that isn't in memory any more, or isn't counted there.
    ///
    /// # Errors
    /// It can't be read, or is damaged.
    pub(crate) async fn load(self: &Arc<Self>, key: SegmentKey) -> io::Result<Arc<Segment>> {
        if let Some(save) = self.state.lock().saves.iter().find(|save| save.key == key) {
            return Ok(Arc::clone(&save.segment));
        }
        // Never closed.
        let _permit = self.reads.acquire().await.map_err(io::Error::other)?;
        let writer = Arc::clone(self);
        let read = move || match &writer.disk {
            Some(disk) => disk.load(&key).map(Arc::new).inspect_err(|error| {
                writer.metrics.dvr.failures.inc();
                // Counted; and said no louder, since anybody may ask again and again.
                tracing::debug!(stream = %key.stream, msn = key.msn, %error, "DVR: a segment can't be read");
            }),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        self.metrics.dvr.reads.inc();
        tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
    }

    /// Runs the thread that writes.
    fn run(&self) {
        let Some(disk) = &self.disk else { return };
        let mut state = self.state.lock();
        loop {
            if let Some(chore) = state.chores.pop_front() {
                drop(state);
                self.do_chore(disk, chore);
                state = self.state.lock();
            } else if let Some(save) = state.saves.front().cloned() {
                drop(state);
                let saved = disk.save(&save.key, &save.segment, save.period);
                state = self.state.lock();
                match saved {
                    Ok(()) => self.saved(&mut state, &save),
                    Err(_) if state.closing => return,
                    Err(error) => {
                        self.failed(&mut state, &save, &error);
                        // Until room is made, or for a while.
                        self.work.wait_for(&mut state, RETRY);
                    }
                }
            } else if state.closing {
                return;
            } else {
                self.work.wait(&mut state);
            }
        }
    }

    fn saved(&self, state: &mut WriterState, save: &Save) {
        // It may have been given up, or its life, while it was written.
        if state.saves.front().is_some_and(|front| Arc::ptr_eq(&front.segment, &save.segment)) {
            state.saves.pop_front();
            state.queued -= save.segment.length();
        }
        if std::mem::take(&mut state.is_warning) {
            tracing::info!("DVR: the disk takes segments again");
        }
        // By a fraction of what comes while the disk is about full; by more than what comes once it isn't any more.
        state.smoothly = state.smoothly.saturating_add(1);
        let more = if state.smoothly > SMOOTHLY { save.segment.length() * 2 } else { save.segment.length() / 4 };
        state.budget = (state.budget + more).min(self.settings.bytes_max());
    }

    fn failed(&self, state: &mut WriterState, save: &Save, error: &io::Error) {
        self.metrics.dvr.failures.inc();
        state.smoothly = 0;
        let now = clock::now();
        if state.warned.is_none_or(|at| now.since(at) >= WARN_INTERVAL) {
            (state.warned, state.is_warning) = (Some(now), true);
            tracing::warn!(stream = %save.key.stream, msn = save.key.msn, %error, "DVR: the disk doesn't take a segment");
        }
        let is_full = matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::WriteZero
        );
        // No more before what is to go already is gone.
        if is_full && state.kept() <= state.budget && state.chores.is_empty() {
            state.budget = state.budget.min(state.kept()).saturating_sub(save.segment.length() * 4);
            self.has_tasks.store(true, Ordering::Release);
        }
    }

    fn do_chore(&self, disk: &Disk, chore: Chore) {
        match disk.run(&chore) {
            // Never written, then.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                self.metrics.dvr.failures.inc();
                let (Chore::Write(path, _) | Chore::Remove(path)) = &chore;
                tracing::debug!(path = %path.display(), %error, "DVR: can't write or remove a file");
            }
            Ok(()) => {}
        }
    }

    /// Whether all that is to be written or removed is.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.saves.is_empty() && state.chores.is_empty()
    }
}

impl WriterState {
    fn kept(&self) -> u64 {
        self.stocks.values().map(|stock| stock.kept).sum()
    }

    /// Returns whose turn it is, if all together have too much.
    fn victim(&self) -> Option<Task> {
        let oldest = |of: fn(&Stock) -> Option<UnixTime>| {
            let dated = self.stocks.iter().filter_map(|(name, stock)| Some((of(stock)?, name)));
            dated.min().map(|(_, name)| name.clone())
        };
        if self.stocks.values().map(|stock| stock.listed).sum::<u64>() > self.budget / 2 {
            return oldest(|stock| stock.oldest_listed).map(Task::Delist);
        }
        if self.kept() > self.budget {
            return oldest(|stock| stock.oldest_kept).map(Task::Drop);
        }
        None
    }
}
