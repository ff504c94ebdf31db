//! What the requests of one push have in common: its [tracks](Tracks), whoever waits for them, and its sessions.
//!
//! A push lives while one of its requests is open, and some time after the last: encoders that send a segment a
//! request pause between them. One that was evicted stays for as long, so that the segments that still come don't take
//! back what another has taken over.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use damson_core::demux::bmff;
use damson_core::demux::bmff::BmffReader;
use damson_core::demux::cmaf_ingest::body::{Body, Refused, needs_init};
use damson_core::demux::cmaf_ingest::jitter_buffer::{Item, Pushed, QueueId};
use damson_core::demux::cmaf_ingest::path::Object;
use damson_core::demux::cmaf_ingest::tracks::{BodyOutput, Tracks};
use damson_core::model::StreamName;
use damson_core::model::time::Time;
use tokio::sync::Notify;

use crate::ingest::publish_request::{Eviction, PublishRequest};
use crate::ingest::publish_session::{Gone, PublishSession};
use crate::ingest::registry::PublishRegistry;
use crate::{clock, observe};

/// Senders whose key is known to be right, of a push.
const SENDERS_MAX: usize = 8;
/// How long a media segment waits for its init segment, which may have been sent just before it.
pub(crate) const INIT_WAIT: Duration = Duration::from_secs(1);
/// For so long nothing may come before the sessions are given back: the packager has numbered gaps by then.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// What of the settings is a push's.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub grace: Duration,
    pub linger: Duration,
    pub tracks_max: usize,
}

/// See the module.
pub(crate) struct HttpPush {
    request: PublishRequest,
    registry: PublishRegistry,
    /// One request is all of it.
    whole: bool,
    grace: Duration,
    idle: Duration,
    state: Mutex<State>,
    /// For the task.
    wake: Notify,
    /// For requests that wait for room.
    room: Notify,
    /// For those that wait for their init segment.
    init: Notify,
    counters: observe::Ingest,
}

/// What requests have left for one another.
struct State {
    tracks: Tracks,
    senders: Vec<(IpAddr, blake3::Hash)>,
    open: usize,
    heard: Time,
    over: Option<Eviction>,
    closed: bool,
}

/// A request of a push.
pub(crate) struct OpenRequest(pub(crate) Arc<HttpPush>);

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.open -= 1;
        state.heard = clock::now();
        drop(state);
        self.0.wake.notify_one();
    }
}

impl HttpPush {
    pub(crate) fn new(
        request: PublishRequest,
        registry: PublishRegistry,
        whole: bool,
        bounds: Bounds,
        counters: observe::Ingest,
    ) -> Arc<Self> {
        let Bounds { grace, linger, tracks_max } = bounds;
        let tracks = Tracks::new(request.rendition.clone(), tracks_max);
        let (senders, heard) = (Vec::new(), clock::now());
        let state = State { tracks, senders, open: 0, heard, over: None, closed: false };
        let grace = if whole { Duration::ZERO } else { grace };
        let idle = linger.min(IDLE_MAX);
        let (wake, room, init) = (Notify::new(), Notify::new(), Notify::new());
        let state = state.into();
        Arc::new(HttpPush { request, registry, whole, grace, idle, state, wake, room, init, counters })
    }

    /// Opens one more request; `None` if the push has come to its end meanwhile.
    pub(crate) fn open(self: &Arc<Self>) -> Option<OpenRequest> {
        let mut state = self.state();
        if state.closed {
            return None;
        }
        state.open += 1;
        state.heard = clock::now();
        Some(OpenRequest(Arc::clone(self)))
    }

    pub(crate) fn over(&self) -> Option<Eviction> {
        self.state().over
    }

    /// Whether somebody's key was right before.
    pub(crate) fn knows(&self, sender: &(IpAddr, blake3::Hash)) -> bool {
        self.state().senders.contains(sender)
    }

    pub(crate) fn learn(&self, sender: (IpAddr, blake3::Hash)) {
        let mut state = self.state();
        if !state.senders.contains(&sender) {
            if state.senders.len() == SENDERS_MAX {
                state.senders.remove(0);
            }
            state.senders.push(sender);
        }
    }

    pub(crate) fn stream(&self) -> &StreamName {
        &self.request.stream
    }

    pub(crate) fn remote(&self) -> Option<SocketAddr> {
        self.request.remote
    }

    /// A request's body, which begins so; what it is a segment of may be on its way by another connection.
    pub(crate) async fn body(&self, object: Option<&Object>, first: &[u8], limits: bmff::Limits) -> Body {
        let known = match object {
            Some(object) if needs_init(first) => self.known(object).await,
            _ => None,
        };
        Body::new(object.cloned(), first, known, limits, &mut self.state().tracks)
    }

    /// A reader that knows the init segment that a media segment of this name belongs to, and what their track is called.
    async fn known(&self, object: &Object) -> Option<(BmffReader, String)> {
        let known = async {
            loop {
                let mut came = std::pin::pin!(self.init.notified());
                came.as_mut().enable();
                if let Some(known) = self.state().tracks.init_for(object, false) {
                    return known;
                }
                came.await;
            }
        };
        let known = tokio::time::timeout(INIT_WAIT, known).await.ok();
        known.or_else(|| self.state().tracks.init_for(object, true))
    }

    /// What has come of a body.
    pub(crate) fn poll(&self, body: &mut Body) -> Result<Option<BodyOutput>, Refused> {
        body.poll(&mut self.state().tracks)
    }

    /// Takes it, and waits while there is no room for it.
    pub(crate) async fn take(&self, mut came: BodyOutput) -> Result<(), Eviction> {
        self.tell(&came);
        let mut room = std::pin::pin!(self.room.notified());
        loop {
            room.as_mut().enable();
            {
                let mut state = self.state();
                if let Some(over) = state.over {
                    return Err(over);
                }
                match state.tracks.take(clock::now(), came) {
                    Ok(taken) => {
                        let (lost, notes) = state.tracks.report();
                        drop(state);
                        self.counters.http_units_dropped.inc_by(lost);
                        for note in notes {
                            self.tell(&BodyOutput::Note(note));
                        }
                        match taken {
                            Pushed::Taken | Pushed::Jumped | Pushed::Apart => {}
                            Pushed::Repeated => _ = self.counters.http_units_repeated.inc(),
                            Pushed::Useless => _ = self.counters.http_units_dropped.inc(),
                        }
                        self.wake.notify_one();
                        return Ok(());
                    }
                    Err(full) => came = full,
                }
            }
            room.as_mut().await;
            room.set(self.room.notified());
        }
    }

    fn tell(&self, came: &BodyOutput) {
        let stream = &self.request.stream;
        match came {
            BodyOutput::Init => self.init.notify_waiters(),
            BodyOutput::Reference(wall) => {
                self.counters.http_references.inc();
                let late = clock::wall().since(*wall);
                tracing::trace!(%stream, ?late, "HTTP: behind its encoder's clock");
            }
            BodyOutput::Dropped(track, why) => tracing::debug!(%stream, track, "HTTP: a frame isn't taken: {why}"),
            BodyOutput::Ignored(why) => tracing::debug!(%stream, "HTTP: a message isn't taken: {why}"),
            BodyOutput::Note(note) => tracing::warn!(%stream, "HTTP: {note}"),
            BodyOutput::Config(..)
            | BodyOutput::Unit(..)
            | BodyOutput::Message(..)
            | BodyOutput::Damaged(_)
            | BodyOutput::Ended(_) => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Feeds the sessions until the push is over, and has it forgotten then.
    pub(crate) async fn run(self: Arc<Self>, first: PublishSession, forget: impl Fn(&Arc<HttpPush>)) {
        let mut sessions: Vec<Feeding> = vec![Feeding::Begun(first)];
        let (mut fed, mut alarm) = (clock::now(), clock::Alarm::default());
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
                fed = clock::now();
                continue;
            }
            let Ends::At(mut at) = self.ends(due) else { break };
            if sessions.iter().any(Feeding::is_begun) {
                let idle = fed + self.idle;
                if idle <= clock::now() {
                    sessions.clear();
                    continue;
                }
                at = Some(at.unwrap_or(idle).min(idle));
            }
            let evicted = async {
                match sessions.first_mut() {
                    Some(Feeding::Begun(session) | Feeding::Attached(session)) => session.evicted().await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                eviction = evicted => {
                    sessions.clear();
                    self.set_over(eviction);
                }
                () = self.wake.notified() => {}
                () = alarm.until(at) => {}
            }
        }
        forget(&self);
        let stream = &self.request.stream;
        tracing::info!(%stream, "HTTP: the push has ended");
    }

    fn set_over(&self, over: Eviction) {
        tracing::info!(stream = %self.request.stream, "HTTP: {over}");
        self.state().over.get_or_insert(over);
        self.room.notify_waiters();
    }

    /// What is due, and when the next is.
    fn due(&self) -> (Vec<(QueueId, Item)>, Option<Time>) {
        let mut state = self.state();
        let now = clock::now();
        let mut batch = Vec::new();
        if state.over.is_some() {
            return (batch, None);
        }
        while let Some(popped) = state.tracks.pop(now) {
            batch.push(popped);
        }
        (batch, state.tracks.due(now))
    }

    /// When to look again, or whether it's the end.
    fn ends(&self, due: Option<Time>) -> Ends {
        let mut state = self.state();
        let over = state.over.is_some();
        if let Some(due) = due.filter(|_| !over) {
            return Ends::At(Some(due));
        }
        if state.open > 0 {
            return Ends::At(None);
        }
        let now = state.tracks.have_ended() && !over || state.over == Some(Eviction::Draining);
        let end = if now { state.heard } else { state.heard + self.grace };
        if end > clock::now() {
            return Ends::At(Some(end));
        }
        state.closed = true;
        Ends::Now
    }

    /// Hands an item to its session.
    async fn hand_on(&self, sessions: &mut Vec<Feeding>, queue: QueueId, item: Item) -> Result<(), Eviction> {
        let is_message = matches!(item, Item::Message(..));
        let Some((index, inputs)) = self.state().tracks.inputs(queue, item) else { return Ok(()) };
        sessions.resize_with(sessions.len().max(index + 1), Feeding::default);
        let feeding = &mut sessions[index];
        if is_message && !matches!(feeding, Feeding::Attached(_)) {
            // The units that it came with are over, or haven't begun, and it begins nothing.
            self.counters.http_units_dropped.inc();
            return Ok(());
        }
        if matches!(feeding, Feeding::Idle) {
            let rendition = self.state().tracks.rendition(index).cloned();
            *feeding = match self.registry.publish_authorized(PublishRequest { rendition, ..self.request.clone() }) {
                Ok(session) => Feeding::Begun(session),
                Err(refused) => {
                    tracing::warn!(stream = %self.request.stream, "HTTP: refused: {refused}");
                    Feeding::Refused
                }
            };
            if index == 0 && matches!(feeding, Feeding::Refused) {
                return Err(Eviction::TakenOver);
            }
        }
        let begins = matches!(feeding, Feeding::Begun(_));
        *feeding = match std::mem::take(feeding) {
            Feeding::Begun(session) => Feeding::Attached(session),
            other => other,
        };
        let Feeding::Attached(session) = feeding else { return Ok(()) };
        let fed = async {
            if begins {
                let (announced, headers) = self.state().tracks.beginning(index, self.whole);
                session.attach(bmff::CLOCK, announced).await?;
                for input in headers {
                    session.input(input).await?;
                }
            }
            for input in inputs {
                session.input(input).await?;
            }
            Ok::<_, Gone>(())
        };
        if fed.await.is_ok() {
            return Ok(());
        }
        let eviction = session.evicted().await;
        if index == 0 {
            return Err(eviction);
        }
        // One of several: the others go on.
        tracing::warn!(stream = %self.request.stream, "HTTP: a track isn't taken any more: {eviction}");
        *feeding = Feeding::Refused;
        Ok(())
    }
}

enum Ends {
    Now,
    At(Option<Time>),
}

/// A session on its way.
#[derive(Default)]
enum Feeding {
    /// There is none, for nothing is fed.
    #[default]
    Idle,
    /// There is one, and it knows nothing yet.
    Begun(PublishSession),
    Attached(PublishSession),
    /// There won't be one.
    Refused,
}

impl Feeding {
    fn is_begun(&self) -> bool {
        matches!(self, Feeding::Begun(_) | Feeding::Attached(_))
    }
}
