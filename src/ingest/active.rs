//! The pushes that are active at this moment, by stream and by rendition.
//!
//! Sessions and publications meet here, and neither knows the other: a session has one end of a queue of inputs, the
//! publication of its stream the other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use damson_core::model::{Announced, Epoch, InputClock, PushId, Rendition, StreamName};
use damson_core::packager::Input;
use tokio::sync::{mpsc, oneshot};
use tracing::field::display;

use super::publish_request::{Eviction, PublishRequest, Refused};
use super::settings::{Settings, Takeover};

/// Streams at one node at a time, those included that wait for their publishers' return.
pub const STREAMS_MAX: usize = 4_096;
/// Inputs that wait for a stream's publication task: about a second of video and audio.
const QUEUE_LEN: usize = 64;

/// What a publication is told. Sent under the lock, so that none is lost at its end.
pub(super) enum PublicationCommand {
    /// A push begins, and the one before in its place is over.
    Begin(PushId, Pushed),
    /// Another ingest has claimed this epoch.
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

/// What a session feeds its publication.
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

/// The pushes that are active, and who may become so.
pub(super) struct Active {
    takeover: Takeover,
    pushes_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    draining: bool,
    streams: BTreeMap<StreamName, Stream>,
    /// Sessions so far.
    sessions: u64,
}

struct Stream {
    control: mpsc::UnboundedSender<PublicationCommand>,
    /// The newest session of each rendition.
    holders: BTreeMap<Option<Rendition>, Holder>,
}

struct Holder {
    session: u64,
    feed: PushId,
    remote: Option<SocketAddr>,
    evict: oneshot::Sender<Eviction>,
}

impl Stream {
    /// Returns a place for one more push.
    fn free_feed(&self) -> Option<PushId> {
        let taken = |feed: PushId| self.holders.values().any(|holder| holder.feed == feed);
        (0..PushId::COUNT_MAX).map(PushId).find(|&feed| !taken(feed))
    }

    fn evict_all(&mut self, eviction: Eviction) {
        for holder in std::mem::take(&mut self.holders).into_values() {
            // Its connection may be gone already.
            let _ = holder.evict.send(eviction);
        }
    }
}

impl Active {
    pub(super) fn new(settings: &Settings) -> Self {
        Active { takeover: settings.takeover, pushes_max: settings.pushes_max, state: Mutex::default() }
    }

    /// Gives an authorised push its place. A push that is still there is evicted, if this one may take over. `start`
    /// starts the publication of a stream that has none.
    pub(super) fn begin(
        &self,
        request: &PublishRequest,
        start: impl FnOnce(mpsc::UnboundedReceiver<PublicationCommand>),
    ) -> Result<Place, Refused> {
        let PublishRequest { stream, rendition, remote, .. } = request;
        let mut state = self.lock();
        let feed = self.feed_of(&state, request)?;
        state.sessions += 1;
        let session = state.sessions;
        let held = state.streams.entry(stream.clone()).or_insert_with(|| {
            let (control, receiver) = mpsc::unbounded_channel();
            start(receiver);
            Stream { control, holders: BTreeMap::new() }
        });
        let (evict, evicted) = oneshot::channel();
        let (inputs, receiver) = mpsc::channel(QUEUE_LEN);
        if let Some(old) = held.holders.insert(rendition.clone(), Holder { session, feed, remote: *remote, evict }) {
            let _ = old.evict.send(Eviction::TakenOver);
        }
        // The task outlives its entry here, on which we hold the lock.
        let pushed = Pushed { rendition: rendition.clone(), session, inputs: receiver };
        let _ = held.control.send(PublicationCommand::Begin(feed, pushed));
        Ok(Place { session, inputs, evicted })
    }

    /// Returns the place that a push would have, or why it has none.
    fn feed_of(&self, state: &State, request: &PublishRequest) -> Result<PushId, Refused> {
        if state.draining {
            return Err(Refused::Draining);
        }
        let PublishRequest { stream, rendition, remote, .. } = request;
        let held = state.streams.get(stream);
        if held.is_none() && state.streams.len() == STREAMS_MAX {
            tracing::warn!(%stream, ?remote, max = STREAMS_MAX, "refused: too many streams");
            return Err(Refused::Full);
        }
        let name = rendition.as_ref().map(display);
        if let Some(holder) = held.and_then(|held| held.holders.get(rendition)) {
            if !self.may_take_over(holder.remote, *remote) {
                tracing::info!(%stream, rendition = name, ?remote, holder = ?holder.remote, "refused: the stream is busy");
                return Err(Refused::Busy(stream.clone()));
            }
            tracing::info!(%stream, rendition = name, ?remote, from = ?holder.remote, "takes the stream over");
            return Ok(holder.feed);
        }
        // The address rule is the stream's: nobody else adds renditions to it.
        let mut holders = held.iter().flat_map(|held| held.holders.values());
        if holders.any(|holder| !self.may_take_over(holder.remote, *remote)) {
            tracing::info!(%stream, rendition = name, ?remote, "refused: another address pushes the stream");
            return Err(Refused::Busy(stream.clone()));
        }
        let pushes: usize = state.streams.values().map(|held| held.holders.len()).sum();
        if pushes >= self.pushes_max {
            tracing::warn!(%stream, rendition = name, ?remote, max = pushes, "refused: too many pushes");
            return Err(Refused::Full);
        }
        held.map_or(Some(PushId(0)), Stream::free_feed).ok_or_else(|| Refused::Renditions(stream.clone()))
    }

    /// Tells whether a push from `other` may do what one from `holder` does.
    pub(super) fn may_take_over(&self, holder: Option<SocketAddr>, other: Option<SocketAddr>) -> bool {
        // An IPv4 address is the same one when a dual-stack socket shows it as IPv6.
        let ip = |remote: Option<SocketAddr>| remote.map(|remote| remote.ip().to_canonical());
        self.takeover == Takeover::Any || ip(holder) == ip(other)
    }

    /// Frees a session's place, unless another has it by now.
    pub(super) fn release(&self, stream: &StreamName, session: u64) -> Option<oneshot::Sender<Eviction>> {
        let mut state = self.lock();
        let held = state.streams.get_mut(stream)?;
        let mut own = held.holders.extract_if(.., |_, holder| holder.session == session);
        own.next().map(|(_, holder)| holder.evict)
    }

    /// Tells a session why it is over, and frees its place.
    pub(super) fn evict(&self, stream: &StreamName, session: u64, eviction: Eviction) {
        if let Some(evict) = self.release(stream, session) {
            let _ = evict.send(eviction);
        }
    }

    /// Does the same with all sessions of a stream.
    pub(super) fn evict_all(&self, stream: &StreamName, eviction: Eviction) {
        if let Some(held) = self.lock().streams.get_mut(stream) {
            held.evict_all(eviction);
        }
    }

    /// Forgets a stream whose publication has nothing left to do; false if it has been told something meanwhile.
    pub(super) fn forget(&self, stream: &StreamName, control: &mpsc::UnboundedReceiver<PublicationCommand>) -> bool {
        let mut state = self.lock();
        let idle = control.is_empty();
        if idle {
            state.streams.remove(stream);
        }
        idle
    }

    pub(super) fn superseded(&self, stream: &StreamName, epoch: Epoch) {
        if let Some(held) = self.lock().streams.get(stream) {
            let _ = held.control.send(PublicationCommand::Superseded(epoch));
        }
    }

    pub(super) fn streams(&self) -> Vec<StreamName> {
        self.lock().streams.keys().cloned().collect()
    }

    /// Evicts all sessions, and has all publications end. Pushes are refused from now on.
    pub(super) fn drain(&self) {
        let mut state = self.lock();
        state.draining = true;
        for held in state.streams.values_mut() {
            held.evict_all(Eviction::Draining);
            let _ = held.control.send(PublicationCommand::End);
        }
    }

    /// The state stays usable after a panic elsewhere: each change of it is whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        PublishRequest {
            stream: StreamName::parse("cam1").expect("a name"),
            rendition: Some(Rendition::parse(rendition).expect("a name")),
            app: "live".to_owned(),
            query: None,
            remote: None,
            protocol: "test",
        }
    }

    #[test]
    fn a_session_frees_its_own_place_alone() {
        let active = active();
        let mut control = None;
        let first = active.begin(&request("a"), |receiver| control = Some(receiver)).expect("free");
        let mut second = active.begin(&request("a"), |_| panic!("it is there")).expect("taken over");
        let stream = request("a").stream;
        assert_eq!(first.evicted.blocking_recv(), Ok(Eviction::TakenOver));
        assert!(active.release(&stream, first.session).is_none(), "another has it");
        assert!(second.evicted.try_recv().is_err(), "and keeps it");
        active.evict(&stream, second.session, Eviction::Superseded);
        assert_eq!(second.evicted.blocking_recv(), Ok(Eviction::Superseded));
        let places = std::iter::from_fn(|| control.as_mut()?.try_recv().ok());
        assert!(places.into_iter().all(|told| matches!(told, PublicationCommand::Begin(PushId(0), _))));
    }

    #[test]
    fn a_stream_is_forgotten_once_all_was_heard() {
        let active = active();
        let mut control = None;
        let _place = active.begin(&request("a"), |receiver| control = Some(receiver)).expect("free");
        let (stream, mut control) = (request("a").stream, control.expect("started"));
        assert!(!active.forget(&stream, &control), "its push isn't known yet");
        assert!(control.try_recv().is_ok());
        assert!(active.forget(&stream, &control));
        assert!(active.streams().is_empty());
    }

    #[test]
    fn what_drains_takes_nothing_more() {
        let active = active();
        let mut control = None;
        let place = active.begin(&request("a"), |receiver| control = Some(receiver)).expect("free");
        active.drain();
        assert_eq!(place.evicted.blocking_recv(), Ok(Eviction::Draining));
        assert_eq!(active.begin(&request("b"), |_| ()).err(), Some(Refused::Draining));
        let mut told = std::iter::from_fn(|| control.as_mut()?.try_recv().ok());
        assert!(matches!(
            (told.next(), told.next()),
            (Some(PublicationCommand::Begin(..)), Some(PublicationCommand::End))
        ));
    }
}
