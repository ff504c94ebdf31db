//! All streams that the node holds, fed by the mesh, asked by requests.
//!
//! One lock a stream, held for a lookup, an insertion or a rendering, never over an await. Requests
//! never create streams: only the mesh does, so that asking for what isn't there costs no memory.

mod accounts;
mod past;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, broadcast, oneshot};

use super::byte_cache::ByteCache;
use super::documents::Documents;
use super::feed::Listed as FedPart;
use super::headers::Heads;
use super::limits::Visitor;
use super::sealed::Seals;
use super::timing::{Pace, Requests};
use crate::clock;
use crate::dvr::{Fetcher, Keeper};
use crate::edge::api::trace::Sums;
use crate::observe::{Exporter, Metrics};
use damson_core::dvr::{ArchiveIndex, SegmentKey};
use damson_core::manifest::HttpError;
use damson_core::manifest::date_ranges::RemovedRanges;
use damson_core::manifest::listed::Listed;
use damson_core::model::latency::RecentLatencies;
use damson_core::model::limits::APPEAR_MAX;
use damson_core::model::time::{Time, UnixTime};
use damson_core::model::{Epoch, LifeId, Msn, PartHeader, Record, StreamName, Trace, TrackId};
use damson_core::swarm::Entry;
use damson_core::window::held_requests;
use damson_core::window::held_requests::{HeldRequests, Token, WaitFor, Wake};
use damson_core::window::{Input, Output};
use damson_core::window::{Segment, Window};

/// Most streams held; what the mesh tells of more is dropped, and logged.
pub const STREAMS_MAX: usize = 16_384;

/// Most requests held in all; the next one is answered 503.
pub const WAITERS_MAX: usize = 100_000;

/// Bytes of segments that are kept after they have left their windows, least recently asked for first
/// out. rfc8216bis 6.2.2 wants each fetchable for as long as the playlist is; this holds 10 streams of
/// 3 Mb/s for 17 s more than the window's own 8 s.
pub const DELISTED_BYTES_MAX: u64 = 64 << 20;

/// Bytes of segments that were fetched from other nodes, least recently asked for first out.
pub const FETCHED_BYTES_MAX: u64 = 64 << 20;

/// The streams of the node.
#[derive(Debug)]
pub struct Store {
    streams: RwLock<BTreeMap<StreamName, Arc<Stream>>>,
    seals: Seals,
    shared: Arc<Shared>,
}

/// What the streams have in common.
#[derive(Debug)]
struct Shared {
    timers: Mutex<Timers>,
    sooner: Notify,
    waiting: AtomicUsize,
    closing: AtomicBool,
    delisted: Mutex<ByteCache<SegmentKey, Arc<Segment>>>,
    fetched: Mutex<ByteCache<SegmentKey, Arc<Segment>>>,
    fetcher: Option<Arc<Fetcher>>,
    keeper: Option<Arc<Keeper>>,
    exporter: Option<Exporter>,
    metrics: Arc<Metrics>,
}

/// When each stream wants to be told the time. An entry may be sooner than what the stream waits for by
/// now, never later.
#[derive(Debug, Default)]
struct Timers {
    queue: BTreeSet<(Time, StreamName)>,
    armed: BTreeMap<StreamName, Time>,
}

/// One stream.
#[derive(Debug)]
pub struct Stream {
    name: StreamName,
    shared: Arc<Shared>,
    state: Mutex<State>,
    /// Of a stream that somebody watches.
    requests: OnceLock<Mutex<Requests>>,
    pace: Pace,
    /// What its accounts came to when somebody asked.
    sums: Mutex<Sums>,
}

/// What is held of a stream, behind its lock.
#[derive(Debug)]
pub(crate) struct State {
    window: Window,
    /// Where there is a keeper, here or elsewhere, of the life that the window is of.
    archive: Option<ArchiveIndex>,
    others: past::Others,
    /// Of the archives of former lives, so that a version is never met twice.
    archives_before: u64,
    /// Which revision of the record the archive has seen.
    archive_knows: Option<(Epoch, u32)>,
    documents: Documents,
    removed: RemovedRanges,
    /// When the newest listing or record was taken in.
    published_at: UnixTime,
    published: Time,
    heads: Heads,
    accounts: RecentLatencies,
    /// Parts as they are listed, for live traces.
    feed: broadcast::Sender<Arc<FedPart>>,
    entry: Option<Entry>,
    /// The directory has forgotten it: the rest is served until then.
    gone_at: Option<Time>,
    waiters: HeldRequests<oneshot::Sender<Wake>>,
}

impl Store {
    /// An empty store, that keeps no more than the windows.
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Store::with(metrics, None, None, None)
    }

    /// A store, what keeps archives for it, what fetches from other nodes, and what is told of the accounts of parts.
    pub fn with(
        metrics: Arc<Metrics>,
        keeper: Option<Arc<Keeper>>,
        fetcher: Option<Arc<Fetcher>>,
        exporter: Option<Exporter>,
    ) -> Arc<Self> {
        let memory = keeper.as_ref().map_or(DELISTED_BYTES_MAX, |keeper| {
            let settings = keeper.settings();
            // Without a disk, the archives themselves are bounded by it: this never lets go of what they keep.
            settings.memory + if settings.disk.is_none() { DELISTED_BYTES_MAX } else { 0 }
        });
        let shared = Shared {
            timers: Mutex::default(),
            sooner: Notify::new(),
            waiting: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            delisted: Mutex::new(ByteCache::new(memory)),
            fetched: Mutex::new(ByteCache::new(FETCHED_BYTES_MAX)),
            fetcher,
            keeper,
            exporter,
            metrics,
        };
        Arc::new(Store { streams: RwLock::default(), seals: Seals::default(), shared: Arc::new(shared) })
    }

    /// The record of a stream, new or newer.
    pub fn record(&self, record: Record) {
        if let Some(stream) = self.stream_for(&record.stream) {
            stream.window_input(Input::Record(record));
            stream.catch_up();
            self.tend();
        }
    }

    /// A part was delivered: whole, checked, for the first time.
    pub fn part(&self, stream: &StreamName, header: PartHeader, body: Bytes, trace: Trace, received: Time) {
        let Some(stream) = self.stream_for(stream) else { return };
        self.shared.metrics.part_delivered(&header);
        stream.window_input(Input::Part { header, body, trace, received });
        self.tend();
    }

    /// The directory has a stream, or a newer entry of it.
    pub fn announced(&self, entry: Entry) {
        if let Some(stream) = self.stream_for(&entry.stream.clone()) {
            stream.lock().entry = Some(entry);
        }
    }

    /// The directory has forgotten a stream. What is held of it is served for one more playlist, so
    /// that its viewers see the end; an archive for as long as it reaches back.
    pub fn expired(&self, name: &StreamName) {
        let Some(stream) = self.get(name.as_str()) else { return };
        let mut state = stream.lock();
        state.entry = None;
        let rest = state.window.record().map_or(Duration::ZERO, |r| r.playlist_duration());
        let depth = state.archive.as_ref().map(ArchiveIndex::depth);
        let rest = rest.max(depth.unwrap_or_default());
        state.gone_at = Some(clock::now() + rest);
        state.waiters.handle(clock::now(), held_requests::Input::Reset);
        drop(state);
        if rest.is_zero() {
            self.remove(name);
        }
    }

    /// A stream by name.
    pub fn get(&self, name: &str) -> Option<Arc<Stream>> {
        self.streams.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// All streams, by name.
    pub fn streams(&self) -> Vec<Arc<Stream>> {
        self.streams.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The segments that lie in files.
    pub(crate) fn seals(&self) -> &Seals {
        &self.seals
    }

    /// Bytes of segments that lie in files, to be sent from there.
    pub fn sealed_bytes(&self) -> u64 {
        self.seals.bytes()
    }

    /// How many requests are held.
    pub fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// Answers all who wait, and lets nobody wait any more.
    pub fn close(&self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        if let Some(keeper) = &self.shared.keeper {
            keeper.close();
        }
        for stream in self.streams() {
            stream.lock().waiters.handle(clock::now(), held_requests::Input::Close);
        }
    }

    /// Tells the streams the time, for ever: run it beside the server.
    pub async fn drive(&self) {
        loop {
            let next = self.shared.timers().queue.first().map(|(at, _)| *at);
            let sooner = self.shared.sooner.notified();
            match next {
                None => sooner.await,
                Some(at) => {
                    let due = tokio::time::sleep_until(clock::instant(at).into());
                    tokio::select! { () = due => self.timeout(), () = sooner => {} }
                }
            }
        }
    }

    fn timeout(&self) {
        let now = clock::now();
        loop {
            let name = {
                let mut timers = self.shared.timers();
                let Some((at, _)) = timers.queue.first().filter(|(at, _)| *at <= now) else { return };
                debug_assert!(*at <= now);
                let Some((_, name)) = timers.queue.pop_first() else { return };
                timers.armed.remove(&name);
                name
            };
            let Some(stream) = self.get(name.as_str()) else { continue };
            if stream.lock().gone_at.is_some_and(|at| at <= now) {
                self.remove(&name);
                continue;
            }
            stream.lock().waiters.handle(now, held_requests::Input::Timeout);
            stream.window_input(Input::Timeout);
            self.tend();
        }
    }

    fn remove(&self, name: &StreamName) {
        let gone = self.streams.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        if let Some(stream) = gone {
            let mut state = stream.lock();
            state.waiters.handle(clock::now(), held_requests::Input::Reset);
            if let (Some(archive), Some(keeper)) = (state.archive.take(), &self.shared.keeper) {
                keeper.remove_life(name, archive.life());
            }
        }
    }

    fn stream_for(&self, name: &StreamName) -> Option<Arc<Stream>> {
        if let Some(stream) = self.get(name.as_str()) {
            return Some(stream);
        }
        let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
        if streams.len() >= STREAMS_MAX {
            tracing::warn!(stream = %name, "{STREAMS_MAX} streams are held already; this one is not");
            return None;
        }
        let new = || Arc::new(Stream::new(name.clone(), Arc::clone(&self.shared)));
        Some(Arc::clone(streams.entry(name.clone()).or_insert_with(new)))
    }
}

impl Shared {
    fn timers(&self) -> MutexGuard<'_, Timers> {
        self.timers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn delisted(&self) -> MutexGuard<'_, ByteCache<SegmentKey, Arc<Segment>>> {
        self.delisted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fetched(&self) -> MutexGuard<'_, ByteCache<SegmentKey, Arc<Segment>>> {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arm(&self, name: &StreamName, at: Time) {
        let mut timers = self.timers();
        let armed = timers.armed.get(name).copied();
        if armed.is_some_and(|armed| armed <= at) {
            return;
        }
        if let Some(armed) = armed {
            timers.queue.remove(&(armed, name.clone()));
        }
        timers.armed.insert(name.clone(), at);
        timers.queue.insert((at, name.clone()));
        let first = timers.queue.first().is_some_and(|(first, _)| *first == at);
        drop(timers);
        if first {
            self.sooner.notify_one();
        }
    }
}

impl Stream {
    fn new(name: StreamName, shared: Arc<Shared>) -> Self {
        let state = State {
            window: Window::new(name.clone()),
            archive: None,
            others: past::Others::default(),
            archives_before: 0,
            archive_knows: None,
            documents: Documents::default(),
            removed: RemovedRanges::default(),
            published_at: UnixTime::default(),
            published: Time::ZERO,
            heads: Heads::default(),
            accounts: RecentLatencies::default(),
            feed: broadcast::Sender::new(super::feed::BEHIND_MAX),
            entry: None,
            gone_at: None,
            waiters: HeldRequests::default(),
        };
        Stream {
            name,
            shared,
            state: Mutex::new(state),
            requests: OnceLock::new(),
            pace: Pace::default(),
            sums: Mutex::default(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &StreamName {
        &self.name
    }

    /// A whole segment that has left the window, if it is in memory.
    pub(crate) fn delisted(&self, life: LifeId, track: TrackId, msn: Msn) -> Option<Arc<Segment>> {
        let key = SegmentKey { stream: self.name.clone(), life, track, msn };
        let kept = self.shared.delisted().get(&key).cloned();
        kept.or_else(|| self.shared.fetched().get(&key).cloned())
    }

    /// The state, until the guard is dropped, which wakes whom the changes satisfy.
    pub(crate) fn lock(&self) -> Guard<'_> {
        // A panic under the lock is a bug of ours in one stream; the others go on.
        Guard { stream: self, state: self.state.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    fn window_input(&self, input: Input) {
        let now = clock::now();
        let mut guard = self.lock();
        let state = &mut *guard;
        if !matches!(input, Input::Timeout) {
            state.gone_at = None;
        }
        state.window.handle(now, input);
        self.shared.keep(&self.name, state);
        state.publish(now, &self.name, &self.shared);
    }

    /// Asks until there is an answer, a fault, or no more time: what `ask` says to wait for is waited
    /// for, at most until its hold since it was asked is over.
    pub(crate) async fn resolve<T>(
        self: &Arc<Self>,
        asked: Asked<'_>,
        mut ask: impl FnMut(&mut State) -> Result<Step<T>, HttpError>,
    ) -> Result<T, HttpError> {
        loop {
            let hold = {
                let mut state = self.lock();
                match ask(&mut state)? {
                    Step::Answer(answer) => return Ok(answer),
                    Step::Wait(..) if state.gone_at.is_some() => {
                        return Err(HttpError::new(404, "stream: it has ended"));
                    }
                    Step::Wait(place, longest) => {
                        let too_many =
                            || HttpError::new(503, "edge: too many requests of this address are held already");
                        let held = asked.visitor.hold().ok_or_else(too_many)?;
                        (state.wait_until(self, place, asked.at + longest)?, held)
                    }
                }
            };
            let (hold, _held) = hold;
            match hold.await {
                Wake::Look => {}
                Wake::TimedOut => {
                    return Err(HttpError::new(503, "stream: what is asked for hasn't come in time; ask again"));
                }
                Wake::Closing => return Err(HttpError::new(503, "edge: going down; ask another")),
            }
        }
    }
}

/// Who asks, and since when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) at: Time,
    pub(crate) visitor: &'a Visitor,
}

/// What a request finds.
#[derive(Debug)]
pub(crate) enum Step<T> {
    /// What it asked for.
    Answer(T),
    /// Not there yet: wait at this place, so long in all.
    Wait(WaitFor, Duration),
}

impl<T> Step<T> {
    /// Wait for the stream itself.
    pub(crate) fn appear(place: WaitFor) -> Self {
        Step::Wait(place, APPEAR_MAX)
    }
}

impl State {
    /// What is held.
    pub(crate) fn window(&self) -> &Window {
        &self.window
    }

    /// The directory's entry.
    pub(crate) fn entry(&self) -> Option<&Entry> {
        self.entry.as_ref()
    }

    /// What is listed, and the documents rendered from it.
    pub(crate) fn rendered(&mut self) -> (Listed<'_>, &mut Documents) {
        let archived = self.archive.as_ref().map_or(0, ArchiveIndex::version);
        self.documents.refresh(self.window.version() + self.archives_before + archived, self.published_at);
        (Listed::new(&self.window, self.archive.as_ref()).after(&self.removed), &mut self.documents)
    }

    /// The window, and the heads rendered of what is in it.
    pub(crate) fn headed(&mut self) -> (&Window, &mut Heads) {
        (&self.window, &mut self.heads)
    }

    /// A place among the waiters, for `longest` from now.
    pub(crate) fn wait(&mut self, stream: &Arc<Stream>, place: WaitFor, longest: Duration) -> Result<Hold, HttpError> {
        self.wait_until(stream, place, clock::now() + longest)
    }

    fn wait_until(&mut self, stream: &Arc<Stream>, place: WaitFor, deadline: Time) -> Result<Hold, HttpError> {
        let shared = &stream.shared;
        if shared.closing.load(Ordering::SeqCst) {
            return Err(HttpError::new(503, "edge: going down; ask another"));
        }
        let full = || HttpError::new(503, "edge: too many requests are held already");
        if shared.waiting.load(Ordering::Relaxed) >= WAITERS_MAX {
            return Err(full());
        }
        let (sender, receiver) = oneshot::channel();
        let token = self.waiters.wait(place, deadline, sender).ok_or_else(full)?;
        shared.waiting.fetch_add(1, Ordering::Relaxed);
        Ok(Hold { stream: Arc::clone(stream), token, receiver, woken: false })
    }

    /// Tells the waiters what the window has told.
    fn publish(&mut self, now: Time, name: &StreamName, shared: &Shared) {
        let (mut listed, mut changed) = (false, false);
        while let Some(output) = self.window.poll_output() {
            match output {
                Output::RecordChanged => {
                    changed = true;
                    self.waiters.handle(now, held_requests::Input::Record);
                }
                Output::Restarted => {
                    self.accounts.clear();
                    self.waiters.handle(now, held_requests::Input::Reset);
                }
                Output::Listed { track, msn, part, gap } => {
                    listed = true;
                    if gap {
                        shared.metrics.gap_listed();
                    } else {
                        self.account(name, (track, msn, part), shared);
                    }
                    self.waiters.handle(now, held_requests::Input::Listed(track, msn, part));
                }
            }
        }
        if listed || changed {
            (self.published_at, self.published) = (clock::wall(), now);
            if self.window.is_started() {
                self.waiters.handle(now, held_requests::Input::Started);
            }
            for track in self.window.tracks() {
                if let Some(whole) = track.next().and_then(|(msn, _)| msn.checked_sub(1)) {
                    self.waiters.handle(now, held_requests::Input::Completed(track.id(), whole));
                }
            }
        }
        // At the end nothing more comes that would wake who waits for it.
        if (listed || changed) && self.window.record().is_some_and(|r| r.ended.is_some()) {
            self.waiters.handle(now, held_requests::Input::Reset);
        }
    }
}

/// The lock on a stream's state. Dropping it wakes who is to be woken, and arms the stream's timer.
pub(crate) struct Guard<'a> {
    stream: &'a Stream,
    state: MutexGuard<'a, State>,
}

impl std::ops::Deref for Guard<'_> {
    type Target = State;
    fn deref(&self) -> &State {
        &self.state
    }
}

impl std::ops::DerefMut for Guard<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        while let Some((sender, wake)) = self.state.waiters.poll_output() {
            // An error says that the request is gone already.
            let _ = sender.send(wake);
        }
        let deadlines = [self.state.window.poll_timeout(), self.state.waiters.poll_timeout(), self.state.gone_at];
        if let Some(at) = deadlines.into_iter().flatten().min() {
            self.stream.shared.arm(&self.stream.name, at);
        }
    }
}

/// A place among the waiters; given up when dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    stream: Arc<Stream>,
    token: Token,
    receiver: oneshot::Receiver<Wake>,
    woken: bool,
}

impl Hold {
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        Pin::new(&mut self.receiver).poll(cx).map(|wake| {
            self.woken = true;
            // The sender is dropped unsent only together with its stream.
            wake.unwrap_or(Wake::Look)
        })
    }
}

impl Future for Hold {
    type Output = Wake;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Wake> {
        Hold::poll(&mut self, cx)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.stream.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        if !self.woken {
            self.stream.lock().waiters.handle(Time::ZERO, held_requests::Input::Cancel(self.token));
        }
    }
}
