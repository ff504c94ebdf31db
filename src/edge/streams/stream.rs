//! A stream: its window, its DVR, their rendered documents, and the requests that wait for more.
//!
//! Each stream has one lock. It is held for a lookup, an insertion or a rendering, but never over an await.

use std::sync::Arc;
use std::time::Duration;

use damson_core::dvr::SegmentKey;
use damson_core::manifest::HttpError;
use damson_core::manifest::listed::Listed;
use damson_core::model::limits::APPEAR_MAX;
use damson_core::model::time::{Time, UnixTime};
use damson_core::model::{LifeId, Msn, StreamName, TrackId};
use damson_core::swarm::{self, Entry};
use damson_core::window::held_requests::{HeldRequests, Token, WaitFor, Wake};
use damson_core::window::{Input, Lookup, Output, Segment, Window, held_requests};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::archives::gone;
use super::dvr::StreamDvr;
use super::latency::ListedParts;
use super::shared::{StreamsShared, closing, too_many};
use super::summary::{Summaries, WindowSummary};
use crate::clock;
use crate::dvr::archive_writer::Task;
use crate::edge::documents::Documents;
use crate::edge::headers::MediaHeads;
use crate::edge::limits::Visitor;
use crate::edge::request_times::RequestTimes;

/// The time for which documents of a new stream wait for a listing of what was before its window.
const LISTING_WAIT: Duration = Duration::from_secs(2);
/// The timeout of a listing from another node.
const LISTING_MAX: Duration = Duration::from_secs(8);

/// A stream that the node holds.
#[derive(Debug)]
pub struct Stream {
    name: StreamName,
    shared: Arc<StreamsShared>,
    state: Mutex<StreamState>,
    times: Arc<RequestTimes>,
    summaries: Summaries,
}

/// The state of a stream, behind its lock.
#[derive(Debug)]
pub(crate) struct StreamState {
    window: Window,
    dvr: StreamDvr,
    documents: Documents,
    heads: MediaHeads,
    /// When the newest listing or record was taken in, as wallclock and as monotonic time.
    published_at: UnixTime,
    published: Time,
    listed: ListedParts,
    entry: Option<Entry>,
    /// When the stream goes, once the directory has dropped it. The rest is served until then.
    gone_at: Option<Time>,
    /// The deadline that the timers have. It may be sooner than necessary, but never later.
    armed: Option<Time>,
    waiters: HeldRequests<oneshot::Sender<Wake>>,
}

impl Stream {
    pub(crate) fn new(name: StreamName, shared: Arc<StreamsShared>) -> Self {
        let state = StreamState {
            window: Window::new(name.clone()),
            dvr: StreamDvr::new(name.clone()),
            documents: Documents::default(),
            heads: MediaHeads::default(),
            published_at: UnixTime::default(),
            published: Time::ZERO,
            listed: ListedParts::default(),
            entry: None,
            gone_at: None,
            armed: None,
            waiters: HeldRequests::default(),
        };
        let times = RequestTimes::new(Arc::clone(shared.metrics()));
        Stream { name, shared, state: Mutex::new(state), times, summaries: Summaries::default() }
    }

    /// Returns its name.
    pub fn name(&self) -> &StreamName {
        &self.name
    }

    /// Returns the timings of its requests.
    pub(crate) fn times(&self) -> &Arc<RequestTimes> {
        &self.times
    }

    /// Locks the state. Dropping the guard wakes the requests that a change satisfies.
    pub(crate) fn lock(&self) -> Guard<'_> {
        Guard { stream: self, state: self.state.lock() }
    }

    /// Passes an input to the window.
    pub(crate) fn take_in(&self, input: Input) {
        let now = clock::now();
        let mut guard = self.lock();
        let state = &mut *guard;
        if !matches!(input, Input::Timeout) {
            state.gone_at = None;
        }
        state.window.handle(now, input);
        state.dvr.keep(&mut state.window, self.shared.archives());
        state.publish(now, &self.name, &self.shared);
    }

    /// Does what is due: the timer has fired.
    pub(crate) fn tick(&self, now: Time) {
        let mut state = self.lock();
        state.armed = None;
        state.waiters.handle(now, held_requests::Input::Timeout);
        drop(state);
        self.take_in(Input::Timeout);
    }

    /// Takes in the directory's entry.
    pub(crate) fn announce(&self, entry: Entry) {
        self.lock().entry = Some(entry);
    }

    /// Takes in that the directory has dropped the stream. The window is served for the duration of one more playlist,
    /// so that viewers see the end, and an archive for its depth. Returns true if the stream is gone at once.
    pub(crate) fn expire(&self) -> bool {
        let mut state = self.lock();
        state.entry = None;
        let rest = state.window.record().map_or(Duration::ZERO, |r| r.playlist_duration());
        let rest = rest.max(state.dvr.archive().map_or(Duration::ZERO, |archive| archive.depth()));
        state.gone_at = Some(clock::now() + rest);
        state.waiters.handle(clock::now(), held_requests::Input::Reset);
        rest.is_zero()
    }

    /// Returns true once the rest was served for long enough.
    pub(crate) fn is_gone(&self, now: Time) -> bool {
        self.lock().gone_at.is_some_and(|at| at <= now)
    }

    /// Wakes all held requests, and removes the archive.
    pub(crate) fn remove(&self) {
        let mut state = self.lock();
        state.waiters.handle(clock::now(), held_requests::Input::Reset);
        state.dvr.remove(self.shared.archives().writer());
    }

    /// Answers all held requests, since the node shuts down.
    pub(crate) fn close(&self) {
        self.lock().waiters.handle(clock::now(), held_requests::Input::Close);
    }

    /// Calls `ask` until it returns an answer or an error. Between two calls the request is held until what `ask` waits
    /// for is there, or it was held for as long as `ask` allows.
    pub(crate) async fn resolve<T>(
        self: &Arc<Self>,
        requester: Requester<'_>,
        mut ask: impl FnMut(&mut StreamState) -> Result<Step<T>, HttpError>,
    ) -> Result<T, HttpError> {
        loop {
            let (mut hold, _held) = {
                let mut state = self.lock();
                match ask(&mut state)? {
                    Step::Answer(answer) => return Ok(answer),
                    Step::Wait(..) if state.gone_at.is_some() => {
                        return Err(HttpError::new(404, "stream: it has ended"));
                    }
                    Step::Wait(place, longest) => {
                        let held = requester.visitor.map(Visitor::hold).transpose()?;
                        (state.hold(self, place, requester.at + longest)?, held)
                    }
                }
            };
            match hold.woken().await {
                Wake::Look => {}
                Wake::TimedOut => {
                    return Err(HttpError::new(503, "stream: not available in time; retry"));
                }
                Wake::Closing => return Err(closing()),
            }
        }
    }

    /// Returns the summary of a track, or of all tracks.
    pub(crate) fn summary(&self, track: Option<TrackId>) -> Arc<[WindowSummary]> {
        let now = clock::now();
        self.summaries.get(now, track, || {
            let breakdowns: Vec<_> = self.lock().listed.of(now, track).cloned().collect();
            WindowSummary::all(now, &breakdowns, &self.times)
        })
    }

    /// Returns a segment that has left the window, if memory has it.
    pub(crate) fn delisted(&self, life: LifeId, track: TrackId, msn: Msn) -> Option<Arc<Segment>> {
        self.shared.archives().in_memory(&self.key(life, track, msn))
    }

    /// Reads an archived segment that isn't in memory, from the disk or from another node.
    pub(crate) async fn archived(&self, life: LifeId, track: TrackId, msn: Msn) -> Result<Arc<Segment>, HttpError> {
        let key = self.key(life, track, msn);
        let whereabouts = self.lock().dvr.whereabouts(&key).ok_or_else(gone)?;
        self.shared.archives().read(key, whereabouts).await
    }

    /// Reads a segment for another node, from this node alone.
    pub(crate) async fn given(&self, key: SegmentKey) -> Option<Arc<Segment>> {
        {
            let state = self.lock();
            state.window.record().filter(|record| record.life == key.life)?;
            if let Some(Lookup::Ready(segment)) = state.window.track(key.track).map(|track| track.segment(key.msn)) {
                return Some(Arc::new(segment.clone()));
            }
            if let Some(segment) = self.shared.archives().in_memory(&key) {
                return Some(segment);
            }
            state.dvr.whereabouts(&key).filter(|at| at.is_here)?;
        }
        self.shared.archives().load(key).await
    }

    /// Takes in which other nodes archive what of it.
    pub(crate) fn kept_elsewhere(self: &Arc<Self>, keepers: Vec<swarm::Keeper>) {
        {
            let mut guard = self.lock();
            let state = &mut *guard;
            state.dvr.kept_elsewhere(keepers, &mut state.window, self.shared.archives());
        }
        self.catch_up();
    }

    /// Does a task of the archives' writer.
    pub(crate) fn tend(&self, task: &Task) {
        self.lock().dvr.tend(task, self.shared.archives());
    }

    /// Asks another node for what was before this node's window, if anything is missing.
    pub(crate) fn catch_up(self: &Arc<Self>) {
        let Some(fetcher) = self.shared.archives().fetcher() else { return };
        let Some((keeper, life)) = self.lock().dvr.ask(clock::now()) else { return };
        let stream = Arc::clone(self);
        tokio::spawn(async move {
            let listing = fetcher.listing(keeper, stream.name.clone(), life);
            tokio::pin!(listing);
            let mut answer = tokio::time::timeout(LISTING_WAIT, &mut listing).await;
            if answer.is_err() {
                // Requests see the window alone, and more when the listing comes.
                stream.lock().stop_waiting();
                answer = tokio::time::timeout(LISTING_MAX, listing).await;
            }
            let listing = match answer {
                Ok(answer) => answer.map_err(|refusal| refusal.to_string()),
                Err(_) => Err("no answer in time".to_owned()),
            };
            if let Err(error) = &listing {
                tracing::warn!(stream = %stream.name, node = %keeper.id, error, "DVR: the node sent no listing");
            }
            {
                let mut guard = stream.lock();
                let state = &mut *guard;
                let told = state.dvr.join(life, listing.ok(), &state.window, stream.shared.archives());
                if let Some((from, count)) = told {
                    tracing::info!(stream = %stream.name, node = %keeper.id, from, count, "DVR: the node's archive is listed, too");
                }
                state.stop_waiting();
            }
            // If something is still missing, another node is next.
            stream.catch_up();
        });
    }

    fn key(&self, life: LifeId, track: TrackId, msn: Msn) -> SegmentKey {
        SegmentKey { stream: self.name.clone(), life, track, msn }
    }
}

/// The time of a request, and its visitor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Requester<'a> {
    pub(crate) at: Time,
    /// The visitor whose places for held requests it takes; a response under way takes none.
    pub(crate) visitor: Option<&'a Visitor>,
}

/// The result of a look at the state.
#[derive(Debug)]
pub(crate) enum Step<T> {
    Answer(T),
    /// Wait for this, for at most this long since the request.
    Wait(WaitFor, Duration),
}

impl<T> Step<T> {
    /// Waits for the stream to appear.
    pub(crate) fn appear(place: WaitFor) -> Self {
        Step::Wait(place, APPEAR_MAX)
    }
}

impl StreamState {
    /// Returns the window.
    pub(crate) fn window(&self) -> &Window {
        &self.window
    }

    /// Returns the directory's entry.
    pub(crate) fn entry(&self) -> Option<&Entry> {
        self.entry.as_ref()
    }

    /// Returns the DVR.
    pub(crate) fn dvr(&self) -> &StreamDvr {
        &self.dvr
    }

    /// Returns the newest parts, and their latency.
    pub(crate) fn listed(&self) -> &ListedParts {
        &self.listed
    }

    /// Returns when the newest listing or record was taken in, as wallclock and as monotonic time.
    pub(crate) fn published(&self) -> (UnixTime, Time) {
        (self.published_at, self.published)
    }

    /// Returns what is listed, and the documents that are rendered from it.
    pub(crate) fn rendered(&mut self) -> (Listed<'_>, &mut Documents) {
        self.documents.refresh(self.window.version() + self.dvr.version(), self.published_at);
        (self.dvr.listed(&self.window), &mut self.documents)
    }

    /// Returns the window, and the rendered heads of its parts and segments.
    pub(crate) fn headed(&mut self) -> (&Window, &mut MediaHeads) {
        (&self.window, &mut self.heads)
    }

    /// Takes a place among the held requests until `deadline`.
    fn hold(&mut self, stream: &Arc<Stream>, wait_for: WaitFor, deadline: Time) -> Result<Hold, HttpError> {
        let place = stream.shared.hold()?;
        let (sender, receiver) = oneshot::channel();
        let token = self.waiters.wait(wait_for, deadline, sender).ok_or_else(too_many)?;
        Ok(Hold { stream: Arc::clone(stream), token, receiver, is_woken: false, _place: place })
    }

    /// Wakes documents that wait for a listing.
    fn stop_waiting(&mut self) {
        if self.dvr.stop_waiting() {
            self.waiters.handle(clock::now(), held_requests::Input::Reset);
        }
    }

    /// Wakes the requests that the window's outputs satisfy.
    fn publish(&mut self, now: Time, name: &StreamName, shared: &StreamsShared) {
        let (mut listed, mut changed) = (false, false);
        while let Some(output) = self.window.poll_output() {
            match output {
                Output::RecordChanged => {
                    changed = true;
                    self.waiters.handle(now, held_requests::Input::Record);
                }
                Output::Restarted => {
                    self.listed.clear();
                    self.waiters.handle(now, held_requests::Input::Reset);
                }
                Output::Listed { track, msn, part, gap } => {
                    listed = true;
                    if gap {
                        shared.metrics().gap_listed();
                    } else if let Some(Lookup::Ready(part)) =
                        self.window.track(track).map(|track| track.part(msn, part))
                        && let Some(breakdown) = self.listed.push(part)
                    {
                        shared.part_listed(name, &breakdown);
                    }
                    self.waiters.handle(now, held_requests::Input::Listed(track, msn, part));
                }
            }
        }
        if !listed && !changed {
            return;
        }
        (self.published_at, self.published) = (clock::wall(), now);
        if self.window.is_started() {
            self.waiters.handle(now, held_requests::Input::Started);
        }
        for track in self.window.tracks() {
            if let Some(whole) = track.next().and_then(|(msn, _)| msn.checked_sub(1)) {
                self.waiters.handle(now, held_requests::Input::Completed(track.id(), whole));
            }
        }
        // After the end nothing more comes that could wake a request.
        if self.window.record().is_some_and(|r| r.ended.is_some()) {
            self.waiters.handle(now, held_requests::Input::Reset);
        }
    }
}

/// The lock on a stream's state. Dropping it wakes requests, and arms the stream's timer.
pub(crate) struct Guard<'a> {
    stream: &'a Stream,
    state: MutexGuard<'a, StreamState>,
}

impl std::ops::Deref for Guard<'_> {
    type Target = StreamState;
    fn deref(&self) -> &StreamState {
        &self.state
    }
}

impl std::ops::DerefMut for Guard<'_> {
    fn deref_mut(&mut self) -> &mut StreamState {
        &mut self.state
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        while let Some((sender, wake)) = self.state.waiters.poll_output() {
            // An error says that the request is gone.
            let _ = sender.send(wake);
        }
        let deadlines = [self.state.window.poll_timeout(), self.state.waiters.poll_timeout(), self.state.gone_at];
        let armed = self.state.armed;
        let at = deadlines.into_iter().flatten().min().filter(|at| armed.is_none_or(|armed| *at < armed));
        if let Some(at) = at {
            self.stream.shared.timers().arm(&self.stream.name, armed, at);
            self.state.armed = Some(at);
        }
    }
}

/// A place among the held requests; dropping it gives the place back.
struct Hold {
    stream: Arc<Stream>,
    token: Token,
    receiver: oneshot::Receiver<Wake>,
    is_woken: bool,
    _place: OwnedSemaphorePermit,
}

impl Hold {
    async fn woken(&mut self) -> Wake {
        // The sender is dropped unsent only together with its stream.
        let wake = (&mut self.receiver).await.unwrap_or(Wake::Look);
        self.is_woken = true;
        wake
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.is_woken {
            self.stream.lock().waiters.handle(Time::ZERO, held_requests::Input::Cancel(self.token));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::limits::{Addresses, Limits};
    use crate::observe::Metrics;
    use damson_core::testing::synthetic::{self, FIRST_MSN, VIDEO};

    #[tokio::test]
    async fn a_request_is_held_until_it_can_be_answered_or_the_node_goes_down() {
        let record = synthetic::record("cam1");
        let shared = Arc::new(StreamsShared::new(Arc::new(Metrics::default()), None, None, None));
        let stream = Arc::new(Stream::new(record.stream.clone(), Arc::clone(&shared)));
        stream.take_in(Input::Record(record.clone()));
        let limits = Limits { held_of_address: 1, ..Limits::default() };
        let visitor = Arc::new(Addresses::default()).admit([192, 0, 2, 1].into(), &limits).expect("room");
        let requester = Requester { at: clock::now(), visitor: Some(&visitor) };
        let ask = |state: &mut StreamState| match state.window().track(VIDEO).map(|track| track.part(FIRST_MSN, 0)) {
            Some(Lookup::Ready(part)) => Ok(Step::Answer(part.body.len())),
            _ => Ok(Step::appear(WaitFor::Part(VIDEO, FIRST_MSN, 0))),
        };
        let publish = async {
            assert_eq!(shared.waiting(), 1);
            let (header, body, trace) = synthetic::part(&record, VIDEO, FIRST_MSN, 0, 100);
            stream.take_in(Input::Part { header, body, trace, received: clock::now() });
        };
        let (first, second, ()) = tokio::join!(stream.resolve(requester, ask), stream.resolve(requester, ask), publish);
        assert_eq!((first, second.map_err(|fault| fault.status)), (Ok(100), Err(503)), "the address has one place");
        assert_eq!(shared.waiting(), 0);
        let never = |_: &mut StreamState| Ok(Step::<()>::appear(WaitFor::Segment(VIDEO, FIRST_MSN)));
        let (held, ()) = tokio::join!(stream.resolve(requester, never), async { stream.close() });
        assert_eq!(held, Err(closing()));
        assert!(stream.expire() == record.playlist_duration().is_zero() && !stream.is_gone(clock::now()));
        let ended = stream.resolve(requester, never).await;
        assert_eq!(ended, Err(HttpError::new(404, "stream: it has ended")), "nobody waits for what is forgotten");
    }
}
