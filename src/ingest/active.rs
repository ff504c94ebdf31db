//! The active pushes, by stream and by rendition.
//!
//! This module connects sessions and publications, which don't know each other: a session holds one end of a queue of
//! inputs, and the publication of its stream holds the other.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use damson_core::model::{Announced, Epoch, InputClock, PushId, Rendition, StreamName};
use damson_core::packager::Input;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tracing::field::display;

use super::publish_request::{Eviction, PublishRequest, Refused};
use super::settings::{Settings, Takeover};

/// The most streams of a node at a time, including those that wait for their publisher to return.
pub(super) const STREAMS_MAX: usize = 4_096;
/// The most inputs in the queue of a push: about a second of video and audio.
const QUEUE_LEN: usize = 64;

/// A command to a publication. It is sent under the lock, so none is lost when the publication ends.
pub(super) enum PublicationCommand {
    /// A push begins; the former push of that id is over.
    Begin(PushId, Pushed),
    /// Another ingest node has claimed this epoch.
    Superseded(Epoch),
    /// The node drains.
    End,
}

/// A push, as its publication sees it. Its inputs end when its session is dropped.
pub(super) struct Pushed {
    pub(super) rendition: Option<Rendition>,
    pub(super) session: u64,
    pub(super) inputs: mpsc::Receiver<PushInput>,
}

/// A message of a session to its publication.
#[derive(Debug)]
pub(super) enum PushInput {
    Attach(InputClock, Announced),
    Media(Input),
}

/// A push, as its session sees it.
pub(super) struct Place {
    pub(super) session: u64,
    pub(super) inputs: mpsc::Sender<PushInput>,
    pub(super) evicted: oneshot::Receiver<Eviction>,
}

/// The active pushes, and the rule by which a push becomes active.
pub(super) struct Active {
    takeover: Takeover,
    pushes_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    draining: bool,
    streams: BTreeMap<StreamName, Stream>,
    /// The number of sessions so far.
    sessions: u64,
}

struct Stream {
    commands: mpsc::UnboundedSender<PublicationCommand>,
    /// The newest session of each rendition.
    holders: BTreeMap<Option<Rendition>, Holder>,
}

struct Holder {
    session: u64,
    push: PushId,
    remote: Option<SocketAddr>,
    evict: oneshot::Sender<Eviction>,
}

impl Stream {
    fn evict_all(&mut self, eviction: Eviction) {
        for holder in std::mem::take(&mut self.holders).into_values() {
            // The connection may be closed already.
            let _ = holder.evict.send(eviction);
        }
    }
}

impl Active {
    pub(super) fn new(settings: &Settings) -> Self {
        Active { takeover: settings.takeover, pushes_max: settings.pushes_max, state: Mutex::default() }
    }

    /// Makes an authorised push active, and evicts the push that it takes over. `start` starts the publication of a
    /// stream that has none.
    pub(super) fn begin(
        &self,
        request: &PublishRequest,
        start: impl FnOnce(mpsc::UnboundedReceiver<PublicationCommand>),
    ) -> Result<Place, Refused> {
        let PublishRequest { stream, rendition, remote, .. } = request;
        let mut state = self.state.lock();
        let push = self.push_of(&state, request)?;
        state.sessions += 1;
        let session = state.sessions;
        let held = state.streams.entry(stream.clone()).or_insert_with(|| {
            let (commands, receiver) = mpsc::unbounded_channel();
            start(receiver);
            Stream { commands, holders: BTreeMap::new() }
        });
        let (evict, evicted) = oneshot::channel();
        let (inputs, receiver) = mpsc::channel(QUEUE_LEN);
        if let Some(old) = held.holders.insert(rendition.clone(), Holder { session, push, remote: *remote, evict }) {
            let _ = old.evict.send(Eviction::TakenOver);
        }
        // The task outlives its entry here, which the lock protects.
        let pushed = Pushed { rendition: rendition.clone(), session, inputs: receiver };
        let _ = held.commands.send(PublicationCommand::Begin(push, pushed));
        Ok(Place { session, inputs, evicted })
    }

    /// Returns the id that a push would have, or why it is refused.
    fn push_of(&self, state: &State, request: &PublishRequest) -> Result<PushId, Refused> {
        if state.draining {
            return Err(Refused::Draining);
        }
        let PublishRequest { stream, rendition, remote, .. } = request;
        let held = state.streams.get(stream);
        let holders = || held.iter().flat_map(|held| held.holders.values());
        let name = rendition.as_ref().map(display);
        // Another address neither takes a push over nor adds a rendition.
        if let Some(holder) = holders().find(|holder| !self.may_take_over(holder.remote, *remote)) {
            tracing::warn!(%stream, rendition = name, ?remote, holder = ?holder.remote, "publisher refused: the stream is busy");
            return Err(Refused::Busy(stream.clone()));
        }
        if let Some(holder) = held.and_then(|held| held.holders.get(rendition)) {
            tracing::info!(%stream, rendition = name, ?remote, from = ?holder.remote, "a new connection takes the stream over");
            return Ok(holder.push);
        }
        let pushes: usize = state.streams.values().map(|held| held.holders.len()).sum();
        if pushes >= self.pushes_max || (held.is_none() && state.streams.len() == STREAMS_MAX) {
            return Err(Refused::Full);
        }
        let is_free = |push: &PushId| holders().all(|holder| holder.push != *push);
        (0..PushId::COUNT_MAX).map(PushId).find(is_free).ok_or_else(|| Refused::Renditions(stream.clone()))
    }

    /// Returns whether a push from `other` may take over one from `holder`.
    pub(super) fn may_take_over(&self, holder: Option<SocketAddr>, other: Option<SocketAddr>) -> bool {
        // A dual-stack socket shows an IPv4 address as IPv6.
        let ip = |remote: Option<SocketAddr>| remote.map(|remote| remote.ip().to_canonical());
        self.takeover == Takeover::Any || ip(holder) == ip(other)
    }

    /// Frees a session's place, unless another session has it by now.
    pub(super) fn release(&self, stream: &StreamName, session: u64) -> Option<oneshot::Sender<Eviction>> {
        let mut state = self.state.lock();
        let held = state.streams.get_mut(stream)?;
        let mut own = held.holders.extract_if(.., |_, holder| holder.session == session);
        own.next().map(|(_, holder)| holder.evict)
    }

    /// Ends a session for this reason, and frees its place.
    pub(super) fn evict(&self, stream: &StreamName, session: u64, eviction: Eviction) {
        if let Some(evict) = self.release(stream, session) {
            let _ = evict.send(eviction);
        }
    }

    /// Ends all sessions of a stream for this reason.
    pub(super) fn evict_all(&self, stream: &StreamName, eviction: Eviction) {
        if let Some(held) = self.state.lock().streams.get_mut(stream) {
            held.evict_all(eviction);
        }
    }

    /// Forgets a stream whose publication is idle. Returns false if commands wait for the publication.
    pub(super) fn forget(&self, stream: &StreamName, commands: &mpsc::UnboundedReceiver<PublicationCommand>) -> bool {
        let mut state = self.state.lock();
        let idle = commands.is_empty();
        if idle {
            state.streams.remove(stream);
        }
        idle
    }

    pub(super) fn superseded(&self, stream: &StreamName, epoch: Epoch) {
        if let Some(held) = self.state.lock().streams.get(stream) {
            let _ = held.commands.send(PublicationCommand::Superseded(epoch));
        }
    }

    pub(super) fn streams(&self) -> Vec<StreamName> {
        self.state.lock().streams.keys().cloned().collect()
    }

    /// Evicts all sessions and ends all publications. Pushes are refused from now on.
    pub(super) fn drain(&self) {
        let mut state = self.state.lock();
        state.draining = true;
        for held in state.streams.values_mut() {
            held.evict_all(Eviction::Draining);
            let _ = held.commands.send(PublicationCommand::End);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use damson_core::model::NodeId;

    fn active() -> Active {
        Active::new(&Settings { node: NodeId(1), takeover: Takeover::SameAddress, bit_rate_max: 1, pushes_max: 2 })
    }

    fn request(rendition: &str) -> PublishRequest {
        let rendition = Some(Rendition::parse(rendition).expect("a name"));
        let stream = StreamName::parse("cam1").expect("a name");
        PublishRequest { rendition, ..PublishRequest::new(stream, None, "test") }
    }

    #[test]
    fn a_session_frees_its_own_place_alone() {
        let active = active();
        let mut commands = None;
        let first = active.begin(&request("a"), |receiver| commands = Some(receiver)).expect("free");
        let mut second = active.begin(&request("a"), |_| panic!("it is there")).expect("taken over");
        let stream = request("a").stream;
        assert_eq!(first.evicted.blocking_recv(), Ok(Eviction::TakenOver));
        assert!(active.release(&stream, first.session).is_none(), "another has it");
        assert!(second.evicted.try_recv().is_err(), "and keeps it");
        active.evict(&stream, second.session, Eviction::Superseded);
        assert_eq!(second.evicted.blocking_recv(), Ok(Eviction::Superseded));
        let places = std::iter::from_fn(|| commands.as_mut()?.try_recv().ok());
        assert!(places.into_iter().all(|told| matches!(told, PublicationCommand::Begin(PushId(0), _))));
    }

    #[test]
    fn a_stream_is_forgotten_once_all_was_heard() {
        let active = active();
        let mut commands = None;
        let _place = active.begin(&request("a"), |receiver| commands = Some(receiver)).expect("free");
        let (stream, mut commands) = (request("a").stream, commands.expect("started"));
        assert!(!active.forget(&stream, &commands), "its push isn't known yet");
        assert!(commands.try_recv().is_ok());
        assert!(active.forget(&stream, &commands));
        assert!(active.streams().is_empty());
    }

    #[test]
    fn what_drains_takes_nothing_more() {
        let active = active();
        let mut commands = None;
        let place = active.begin(&request("a"), |receiver| commands = Some(receiver)).expect("free");
        active.drain();
        assert_eq!(place.evicted.blocking_recv(), Ok(Eviction::Draining));
        assert_eq!(active.begin(&request("b"), |_| ()).err(), Some(Refused::Draining));
        let mut told = std::iter::from_fn(|| commands.as_mut()?.try_recv().ok());
        assert!(matches!(
            (told.next(), told.next()),
            (Some(PublicationCommand::Begin(..)), Some(PublicationCommand::End))
        ));
    }
}
