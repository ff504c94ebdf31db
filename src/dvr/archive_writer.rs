//! The archives of a node as a whole: the queue to the disk, the budget of bytes, and the files of a former run.
//!
//! Only the writer's own thread waits for the disk. While the disk refuses, segments queue in memory. A segment for which the
//! queue has no room is lost, and its stream's archive is cut ([`ArchiveIndex::cut`]). A full disk lowers the budget until a
//! segment fits again; the budget grows back while writing succeeds. Live players are served from the windows all the while.

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

/// The most bytes of segments that wait to be written: 10 streams of 3 Mb/s for 17 s, or 1 for 3 minutes.
const QUEUE_BYTES_MAX: u64 = if cfg!(test) { 1 << 20 } else { 64 << 20 };
/// The most small files and removals that wait. What exceeds it stays on disk, and is found when the node starts again.
const CHORES_MAX: usize = 100_000;
/// The time after which a disk that refused is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// The least time between two warnings that the disk fails.
const WARN_INTERVAL: Duration = Duration::from_secs(60);
/// After this many segments in a row, a disk that was full has room again: a full one takes 16 in the place of those removed.
const SMOOTHLY: u32 = 64;
/// The most segments that are read at once.
const READS_MAX: usize = 8;

/// Writes and bounds the archives of a node.
#[derive(Debug)]
pub struct ArchiveWriter {
    settings: Settings,
    disk: Option<Disk>,
    state: Mutex<WriterState>,
    work: Condvar,
    reads: Semaphore,
    /// Tells that there may be a [`Task`].
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
    /// The archives of a former run whose streams aren't published yet.
    found: BTreeMap<StreamName, FoundArchive>,
    /// The most bytes of all archives, lowered while the disk is full.
    budget: u64,
    /// The segments written since the disk was full.
    smoothly: u32,
    warned: Option<Time>,
    /// The last warning hasn't been followed by a success.
    is_warning: bool,
    closing: bool,
}

#[derive(Debug, Clone)]
struct Save {
    key: SegmentKey,
    segment: Arc<Segment>,
    period: Option<Period>,
}

/// A change that a stream's archive has to make, because of a loss or of the common budget.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Cut the archive: this segment is lost.
    Cut(SegmentKey),
    /// Delist the oldest row.
    Delist(StreamName),
    /// Remove the oldest row.
    Drop(StreamName),
}

impl Task {
    /// Returns the stream of the archive.
    pub(crate) fn stream(&self) -> &StreamName {
        match self {
            Task::Cut(key) => &key.stream,
            Task::Delist(name) | Task::Drop(name) => name,
        }
    }
}

impl ArchiveWriter {
    /// Opens the folder of the settings, if they name one, reads the archives of a former run (7,400 segments take 64 ms), and
    /// starts the thread that writes.
    ///
    /// # Errors
    /// The folder can't be made or read, or another node uses it.
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

    /// Returns the settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Writes the queue, and ends.
    pub fn close(&self) {
        self.state.lock().closing = true;
        self.work.notify_all();
    }

    /// Opens the archive of a life: that of a former run if it is the same life, otherwise an empty one. Another life's files are
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
        // The segments come in as if they were new, so that rows are delisted again, for as long as before.
        listing.entries.sort_by_key(|(track, entry)| (entry.msn, *track));
        archive.refill(listing);
        archive.resume(listed_from);
        tracing::info!(stream = %record.stream, segments, "DVR: continues the archive on disk");
        archive
    }

    /// Queues a segment to be written.
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
        // A segment that is written later would make the folder again.
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

    /// Takes the new sizes of a stream's archive.
    pub(crate) fn stock(&self, stream: &StreamName, stock: Stock) {
        let mut state = self.state.lock();
        state.stocks.insert(stream.clone(), stock);
        self.metrics.dvr.kept.set(state.kept());
        if state.victim().is_some() || !state.found.is_empty() {
            self.has_tasks.store(true, Ordering::Release);
        }
    }

    /// Returns the next change that an archive has to make. The caller then reports its sizes by [`stock`](Self::stock).
    pub(crate) fn task(&self) -> Option<Task> {
        if !self.has_tasks.load(Ordering::Acquire) {
            return None;
        }
        let mut state = self.state.lock();
        if let Some(key) = state.lost.pop_front() {
            return Some(Task::Cut(key));
        }
        // A stream that hasn't come back: this run has listed none of its segments.
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
        // An archive without its stream goes as a whole.
        let name = name.clone();
        drop(state);
        self.remove_life(&name, found.life);
        self.task()
    }

    /// Reads a segment that isn't in memory.
    ///
    /// # Errors
    /// The segment can't be read, or is damaged.
    pub(crate) async fn load(self: &Arc<Self>, key: SegmentKey) -> io::Result<Arc<Segment>> {
        if let Some(save) = self.state.lock().saves.iter().find(|save| save.key == key) {
            return Ok(Arc::clone(&save.segment));
        }
        // The semaphore is never closed.
        let _permit = self.reads.acquire().await.map_err(io::Error::other)?;
        let writer = Arc::clone(self);
        let read = move || match &writer.disk {
            Some(disk) => disk.load(&key).map(Arc::new).inspect_err(|error| {
                writer.metrics.dvr.failures.inc();
                // At debug, since a client may ask for it again and again; it is counted, too.
                tracing::debug!(stream = %key.stream, msn = key.msn, %error, "DVR: can't read a segment");
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
                        // It waits for room, or for a while.
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
        // The segment, or its life, may have been removed while it was written.
        if state.saves.front().is_some_and(|front| Arc::ptr_eq(&front.segment, &save.segment)) {
            state.saves.pop_front();
            state.queued -= save.segment.length();
        }
        if std::mem::take(&mut state.is_warning) {
            tracing::info!("DVR: the disk accepts segments again");
        }
        // While the disk is nearly full, the budget grows by less than is written; once the disk has room again, by more.
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
            let SegmentKey { stream, msn, .. } = &save.key;
            tracing::warn!(%stream, msn, %error, "DVR: can't write a segment; free disk space, or lower --dvr-disk");
        }
        let is_full = matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::WriteZero
        );
        // The budget shrinks once, and then waits until that room is made.
        if is_full && state.kept() <= state.budget && state.chores.is_empty() {
            state.budget = state.budget.min(state.kept()).saturating_sub(save.segment.length() * 4);
            self.has_tasks.store(true, Ordering::Release);
        }
    }

    fn do_chore(&self, disk: &Disk, chore: Chore) {
        match disk.run(&chore) {
            // The file was never written.
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

    /// Returns the archive that has to shrink, if all together exceed the budget.
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
