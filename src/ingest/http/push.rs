//! The state that the requests of one push share: its [tracks](Tracks), the requests that wait for them, and its sessions.
//!
//! A push exists while one of its requests is open, and for some time after the last: encoders that send each segment in a
//! request pause between them. An evicted push exists for as long, so that the segments that still come don't take the
//! stream back.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use damson_core::demux::bmff::{self, BmffReader};
use damson_core::demux::cmaf_ingest::body::{Body, Refused, needs_init};
use damson_core::demux::cmaf_ingest::jitter_buffer::{Item, Pushed, QueueId};
use damson_core::demux::cmaf_ingest::path::Object;
use damson_core::demux::cmaf_ingest::tracks::{BodyOutput, Tracks};
use damson_core::model::StreamName;
use damson_core::model::time::Time;
use damson_core::packager::Input;
use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::settings::Settings;
use crate::ingest::publish_request::{Eviction, PublishRequest};
use crate::ingest::publish_session::{PublishSession, eviction_of};
use crate::ingest::registry::PublishRegistry;
use crate::{clock, observe};

/// The most senders of a push whose key is known to be right.
const SENDERS_MAX: NonZeroUsize = NonZeroUsize::new(8).expect("8 isn't zero");
/// The time for which a media segment waits for its init segment, which may have been sent just before it.
pub(crate) const INIT_WAIT: Duration = Duration::from_secs(1);
/// The longest silence before the sessions are dropped: the packager has numbered gaps by then.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// A push, made of one request or several.
pub(crate) struct HttpPush {
    request: PublishRequest,
    registry: PublishRegistry,
    /// The push is one request.
    whole: bool,
    grace: Duration,
    idle: Duration,
    state: Mutex<State>,
    /// Wakes the task.
    wake: Notify,
    /// Wakes requests that wait for room.
    room: Notify,
    /// Wakes requests that wait for their init segment.
    init: Notify,
    counters: observe::Ingest,
}

/// The state that the requests share.
struct State {
    tracks: Tracks,
    senders: LruCache<(IpAddr, blake3::Hash), ()>,
    /// The number of open requests.
    open: usize,
    /// The time at which a request last began or ended.
    heard: Time,
    over: Option<Eviction>,
    closed: bool,
}

/// An open request of a push.
pub(crate) struct OpenRequest(pub(crate) Arc<HttpPush>);

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.open -= 1;
        state.heard = clock::now();
        drop(state);
        self.0.wake.notify_one();
    }
}

impl HttpPush {
    /// Makes a push, and returns its first request.
    pub(crate) fn begin(
        request: PublishRequest,
        registry: PublishRegistry,
        whole: bool,
        settings: &Settings,
        counters: observe::Ingest,
    ) -> OpenRequest {
        let tracks = Tracks::new(request.rendition.clone(), settings.tracks_max);
        let state = State {
            tracks,
            senders: LruCache::new(SENDERS_MAX),
            open: 1,
            heard: clock::now(),
            over: None,
            closed: false,
        };
        OpenRequest(Arc::new(HttpPush {
            request,
            registry,
            whole,
            grace: if whole { Duration::ZERO } else { settings.grace },
            idle: settings.linger.min(IDLE_MAX),
            state: Mutex::new(state),
            wake: Notify::new(),
            room: Notify::new(),
            init: Notify::new(),
            counters,
        }))
    }

    /// Opens one more request; `None` if the push has ended meanwhile.
    pub(crate) fn open(self: &Arc<Self>) -> Option<OpenRequest> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        state.open += 1;
        state.heard = clock::now();
        Some(OpenRequest(Arc::clone(self)))
    }

    pub(crate) fn over(&self) -> Option<Eviction> {
        self.state.lock().over
    }

    /// Returns whether this sender's key was right before.
    pub(crate) fn knows(&self, sender: &(IpAddr, blake3::Hash)) -> bool {
        self.state.lock().senders.contains(sender)
    }

    pub(crate) fn learn(&self, sender: (IpAddr, blake3::Hash)) {
        self.state.lock().senders.put(sender, ());
    }

    pub(crate) fn stream(&self) -> &StreamName {
        &self.request.stream
    }

    pub(crate) fn remote(&self) -> Option<SocketAddr> {
        self.request.remote
    }

    /// Returns a request's body, given its first bytes; its init segment may still be on another connection.
    pub(crate) async fn body(&self, object: Option<&Object>, first: &[u8], limits: bmff::Limits) -> Body {
        let known = match object {
            Some(object) if needs_init(first) => self.known(object).await,
            _ => None,
        };
        Body::new(object.cloned(), first, known, limits, &mut self.state.lock().tracks)
    }

    /// Returns a reader that knows the init segment of a media segment with this name, and their track's name.
    async fn known(&self, object: &Object) -> Option<(BmffReader, String)> {
        let known = async {
            loop {
                let mut init = std::pin::pin!(self.init.notified());
                init.as_mut().enable();
                if let Some(known) = self.state.lock().tracks.init_for(object, false) {
                    return known;
                }
                init.await;
            }
        };
        let known = tokio::time::timeout(INIT_WAIT, known).await.ok();
        known.or_else(|| self.state.lock().tracks.init_for(object, true))
    }

    /// Returns the next event of a body.
    pub(crate) fn poll(&self, body: &mut Body) -> Result<Option<BodyOutput>, Refused> {
        body.poll(&mut self.state.lock().tracks)
    }

    /// Takes an event of a body, and waits while there is no room for it.
    pub(crate) async fn take(&self, mut event: BodyOutput) -> Result<(), Eviction> {
        self.log(&event);
        let mut room = std::pin::pin!(self.room.notified());
        loop {
            room.as_mut().enable();
            match self.try_take(event)? {
                None => return Ok(()),
                Some(full) => event = full,
            }
            room.as_mut().await;
            room.set(self.room.notified());
        }
    }

    /// Takes an event of a body, or returns it if there is no room for it.
    fn try_take(&self, event: BodyOutput) -> Result<Option<BodyOutput>, Eviction> {
        let mut state = self.state.lock();
        if let Some(over) = state.over {
            return Err(over);
        }
        let taken = match state.tracks.take(clock::now(), event) {
            Ok(taken) => taken,
            Err(full) => return Ok(Some(full)),
        };
        let (lost, notes) = state.tracks.report();
        drop(state);
        self.counters.http_units_dropped.inc_by(lost);
        notes.into_iter().for_each(|note| self.log(&BodyOutput::Note(note)));
        match taken {
            Pushed::Taken | Pushed::Jumped | Pushed::Apart => {}
            Pushed::Repeated => _ = self.counters.http_units_repeated.inc(),
            Pushed::Useless => _ = self.counters.http_units_dropped.inc(),
        }
        self.wake.notify_one();
        Ok(None)
    }

    fn log(&self, event: &BodyOutput) {
        let stream = &self.request.stream;
        match event {
            BodyOutput::Init => self.init.notify_waiters(),
            BodyOutput::Reference(wall) => {
                self.counters.http_references.inc();
                let late = clock::wall().since(*wall);
                tracing::trace!(%stream, ?late, "HTTP: time since the encoder's clock (prft)");
            }
            BodyOutput::Dropped(track, why) => tracing::debug!(%stream, track, "HTTP: frame dropped: {why}"),
            BodyOutput::Ignored(why) => tracing::debug!(%stream, "HTTP: message ignored: {why}"),
            BodyOutput::Note(note) => tracing::warn!(%stream, "HTTP: {note}"),
            BodyOutput::Config(..)
            | BodyOutput::Unit(..)
            | BodyOutput::Message(..)
            | BodyOutput::Damaged(_)
            | BodyOutput::Ended(_) => {}
        }
    }

    /// Sends media to the sessions until the push ends, and then calls `forget`.
    pub(crate) async fn run(self: Arc<Self>, first: PublishSession, forget: impl Fn(&Arc<HttpPush>)) {
        let mut sessions = vec![TrackSession::Open { session: first, attached: false }];
        let (mut sent, mut alarm) = (clock::now(), clock::Alarm::default());
        loop {
            let (batch, due) = self.due();
            self.room.notify_waiters();
            if !batch.is_empty() {
                for (queue, item) in batch {
                    if let Err(over) = self.hand_on(&mut sessions, queue, item).await {
                        sessions.clear();
                        self.set_over(over);
                        break;
                    }
                }
                sent = clock::now();
                continue;
            }
            let Some(mut at) = self.deadline(due) else { break };
            if sessions.iter().any(|session| matches!(session, TrackSession::Open { .. })) {
                let idle = sent + self.idle;
                if idle <= clock::now() {
                    sessions.clear();
                    continue;
                }
                at = at.min(idle);
            }
            let first = match sessions.first_mut() {
                Some(TrackSession::Open { session, .. }) => Some(session),
                _ => None,
            };
            tokio::select! {
                biased;
                eviction = eviction_of(first) => {
                    sessions.clear();
                    self.set_over(eviction);
                }
                () = self.wake.notified() => {}
                () = alarm.until(Some(at)) => {}
            }
        }
        forget(&self);
        tracing::info!(stream = %self.request.stream, "HTTP: push ended");
    }

    fn set_over(&self, over: Eviction) {
        tracing::info!(stream = %self.request.stream, "HTTP: push evicted: {over}");
        self.state.lock().over.get_or_insert(over);
        self.room.notify_waiters();
    }

    /// Returns the items that are due, and the time at which the next one is.
    fn due(&self) -> (Vec<(QueueId, Item)>, Option<Time>) {
        let mut state = self.state.lock();
        if state.over.is_some() {
            return (Vec::new(), None);
        }
        let now = clock::now();
        let batch = std::iter::from_fn(|| state.tracks.pop(now)).collect();
        (batch, state.tracks.due(now))
    }

    /// Returns the time of the next look at the push, or `None` if it has ended.
    fn deadline(&self, due: Option<Time>) -> Option<Time> {
        let mut state = self.state.lock();
        let is_over = state.over.is_some();
        if state.open > 0 || (due.is_some() && !is_over) {
            return Some(due.filter(|_| !is_over).unwrap_or(Time::MAX));
        }
        let at_once = state.tracks.have_ended() && !is_over || state.over == Some(Eviction::Draining);
        let end = if at_once { state.heard } else { state.heard + self.grace };
        if end > clock::now() {
            return Some(end);
        }
        state.closed = true;
        None
    }

    /// Sends an item to the session of its track.
    async fn hand_on(&self, sessions: &mut Vec<TrackSession>, queue: QueueId, item: Item) -> Result<(), Eviction> {
        let is_message = matches!(item, Item::Message(..));
        let Some((index, inputs)) = self.state.lock().tracks.inputs(queue, item) else { return Ok(()) };
        sessions.resize_with(sessions.len().max(index + 1), TrackSession::default);
        let track = &mut sessions[index];
        if is_message && !matches!(track, TrackSession::Open { attached: true, .. }) {
            // A message doesn't begin a session: its units are over, or haven't begun.
            self.counters.http_units_dropped.inc();
            return Ok(());
        }
        if matches!(track, TrackSession::Idle) {
            *track = self.begin_session(index)?;
        }
        match self.send(track, index, inputs).await {
            Err(eviction) if index > 0 => {
                // The other tracks go on.
                tracing::warn!(stream = %self.request.stream, "HTTP: track evicted: {eviction}");
                *track = TrackSession::Refused;
                Ok(())
            }
            sent => sent,
        }
    }

    fn begin_session(&self, index: usize) -> Result<TrackSession, Eviction> {
        let rendition = self.state.lock().tracks.rendition(index).cloned();
        match self.registry.publish_authorized(PublishRequest { rendition, ..self.request.clone() }) {
            Ok(session) => Ok(TrackSession::Open { session, attached: false }),
            Err(refused) => {
                tracing::warn!(stream = %self.request.stream, "HTTP: publisher refused: {refused}");
                if index == 0 { Err(Eviction::TakenOver) } else { Ok(TrackSession::Refused) }
            }
        }
    }

    async fn send(&self, track: &mut TrackSession, index: usize, inputs: Vec<Input>) -> Result<(), Eviction> {
        let TrackSession::Open { session, attached } = track else { return Ok(()) };
        if !std::mem::replace(attached, true) {
            let (announced, headers) = self.state.lock().tracks.beginning(index, self.whole);
            session.attach(bmff::CLOCK, announced).await?;
            for input in headers {
                session.input(input).await?;
            }
        }
        for input in inputs {
            session.input(input).await?;
        }
        Ok(())
    }
}

/// The session of a track.
#[derive(Default)]
enum TrackSession {
    /// There is no session, since no media comes.
    #[default]
    Idle,
    Open {
        session: PublishSession,
        attached: bool,
    },
    /// The session was refused or evicted, and won't begin again.
    Refused,
}
