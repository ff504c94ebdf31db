//! What the requests of one stream have in common: its tracks, the order in which they are fed, and its claims.
//!
//! A session lives while one of its requests is open, and some time after the last: encoders that send a segment a
//! request pause between them. One that was evicted stays for as long, so that the segments that still come don't take
//! back what another has taken over.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep_until;

use super::path::Object;
use super::playout::{Item, LaneId, Pushed};
use super::tracks::{Key, Kind, Segments, State, Track};
use crate::clock;
use crate::ingest::desk::{Claim, Desk, Eviction, PublishRequest};
use crate::media::bmff::{self, Reader};
use crate::media::timeline::unwrap;
use crate::media::ts::Demuxer;
use crate::media::{AccessUnit, CodecConfig, InputClock, Message};
use crate::observe;
use crate::units::Time;

/// Senders whose key is known to be right, of a session.
const SENDERS_MAX: usize = 8;
/// How long a media segment waits for its init segment, which may have been sent just before it.
pub(super) const INIT_WAIT: Duration = Duration::from_secs(1);
/// For so long nothing may come before the claims are given back: the packager has numbered gaps by then.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// Objects whose headers are kept: as many as there may be tracks, each by two names.
const OBJECTS_MAX: usize = 64;

/// Why a session takes nothing more.
pub(super) type Over = Eviction;

/// What of the settings is a session's.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub grace: Duration,
    pub linger: Duration,
    pub tracks_max: usize,
}

/// See the module.
pub(super) struct Session {
    pub(super) request: PublishRequest,
    desk: Desk,
    /// One request is all of it.
    pub(super) whole: bool,
    grace: Duration,
    idle: Duration,
    tracks_max: usize,
    state: Mutex<State>,
    /// For the task.
    wake: Notify,
    /// For requests that wait for room.
    room: Notify,
    /// For those that wait for their init segment.
    init: Notify,
    counters: observe::Ingest,
}

/// A request of a session.
pub(super) struct Open(pub(super) Arc<Session>);

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.open -= 1;
        state.heard = clock::now();
        drop(state);
        self.0.wake.notify_one();
    }
}

impl Session {
    pub(super) fn new(
        request: PublishRequest,
        desk: Desk,
        whole: bool,
        bounds: Bounds,
        counters: observe::Ingest,
    ) -> Arc<Self> {
        let state = State { claims: vec![request.rendition.clone()], ..State::default() };
        let Bounds { grace, linger, tracks_max } = bounds;
        let grace = if whole { Duration::ZERO } else { grace };
        let idle = linger.min(IDLE_MAX);
        let (wake, room, init) = (Notify::new(), Notify::new(), Notify::new());
        let state = state.into();
        Arc::new(Session { request, desk, whole, grace, idle, tracks_max, state, wake, room, init, counters })
    }

    /// A request more; `None` if the session has come to its end meanwhile.
    pub(super) fn open(self: &Arc<Self>) -> Option<Open> {
        let mut state = self.state();
        if state.closed {
            return None;
        }
        state.open += 1;
        state.heard = clock::now();
        Some(Open(Arc::clone(self)))
    }

    pub(super) fn over(&self) -> Option<Over> {
        self.state().over
    }

    /// Whether somebody's key was right before.
    pub(super) fn knows(&self, sender: &(IpAddr, blake3::Hash)) -> bool {
        self.state().senders.contains(sender)
    }

    pub(super) fn learn(&self, sender: (IpAddr, blake3::Hash)) {
        let mut state = self.state();
        if !state.senders.contains(&sender) {
            if state.senders.len() == SENDERS_MAX {
                state.senders.remove(0);
            }
            state.senders.push(sender);
        }
    }

    pub(super) fn remote(&self) -> Option<SocketAddr> {
        self.request.remote
    }

    /// A reader that knows the init segment that a media segment of this name belongs to, and what their track is called.
    /// It may be on its way by another connection.
    pub(super) async fn reader_for(&self, object: &Object, limits: bmff::Limits) -> (Reader, String) {
        let known = async {
            loop {
                let mut came = std::pin::pin!(self.init.notified());
                came.as_mut().enable();
                if let Some(known) = self.state().init_for(object, false) {
                    return known;
                }
                came.await;
            }
        };
        let unknown = || (Reader::new(limits), object.track(false));
        let known = tokio::time::timeout(INIT_WAIT, known).await.ok();
        known.or_else(|| self.state().init_for(object, true)).unwrap_or_else(unknown)
    }

    /// An object was, or began with, an init segment.
    pub(super) fn keep_init(&self, object: &Object, reader: &Reader) {
        let mut state = self.state();
        if state.inits.len() < OBJECTS_MAX || state.inits.contains_key(object) {
            state.inits.insert(object.clone(), reader.again());
        }
        drop(state);
        self.init.notify_waiters();
    }

    /// The demuxer of a transport stream that comes in segments.
    pub(super) fn take_demuxer(&self, track: &str) -> Segments {
        let kept = self.state().demuxers.remove(track);
        kept.unwrap_or_else(|| Segments { demuxer: Box::new(Demuxer::new(None)), announced: None })
    }

    pub(super) fn keep_demuxer(&self, track: String, segments: Segments) {
        let mut state = self.state();
        if state.demuxers.len() < OBJECTS_MAX {
            state.demuxers.insert(track, segments);
        }
    }

    /// The lane of a track; `None` if there is no place for it, which is said once.
    ///
    /// # Errors
    /// More tracks than there may be.
    pub(super) fn lane(&self, key: &Key, kind: &Kind) -> Result<Option<LaneId>, usize> {
        let mut state = self.state();
        if let Some(track) = state.tracks.iter().find(|track| track.key == *key && track.kind.video == kind.video) {
            return Ok(track.place.map(|_| track.lane));
        }
        if state.tracks.len() >= self.tracks_max {
            return Err(self.tracks_max);
        }
        let place = state.place(self.request.rendition.as_ref(), key, kind);
        if place.is_none() {
            let (stream, track) = (&self.request.stream, &key.0);
            let why =
                "no place for this track: sound beside other sound needs a language, and a rendition has one of a kind";
            tracing::warn!(%stream, track, language = kind.language, "HTTP: {why}");
        }
        let lane = state.playout.open();
        if place.is_none() {
            state.playout.close(lane);
        }
        let (key, kind) = (key.clone(), kind.clone());
        state.tracks.push(Track { key, kind, lane, place, damaged: false, step: 0, ended: false, config: None });
        Ok(place.map(|_| lane))
    }

    /// A lane's language, before its headers.
    pub(super) fn language(&self, lane: LaneId, language: String) {
        if let Some(track) = self.state().tracks.get_mut(lane.0) {
            track.kind.language = Some(language);
        }
    }

    /// Headers of what follows in a lane.
    pub(super) async fn config(&self, lane: LaneId, config: CodecConfig) -> Result<(), Over> {
        self.feed(lane, |_| Some(Item::Config(config.clone()))).await.map(drop)
    }

    /// A unit, on its input's clock.
    pub(super) async fn unit(&self, lane: LaneId, clock: InputClock, unit: AccessUnit) -> Result<(), Over> {
        let pushed = self
            .feed(lane, |state| {
                let dts = unwrap(unit.dts, clock, state.playout.newest(Some(lane)));
                let last = state.playout.last(lane);
                let track = state.tracks.get_mut(lane.0)?;
                let step = last.map_or(0, |last| dts.saturating_sub(last));
                if track.damaged && step > 0 {
                    // What was missing has been sent again, or what comes needs nothing of it.
                    if track.kind.video && !unit.keyframe && step > track.step * 2 {
                        return None;
                    }
                    track.damaged = false;
                }
                if step > 0 {
                    track.step = step;
                }
                Some(Item::Unit(dts, unit.clone()))
            })
            .await?;
        match pushed {
            Some(Pushed::Repeated) => _ = self.counters.http_units_repeated.inc(),
            None => _ = self.counters.http_units_dropped.inc(),
            Some(_) => {}
        }
        Ok(())
    }

    /// A message that came with units decoded at `at`, or with the newest; on its input's clock. Without a lane it goes beside the
    /// pictures.
    pub(super) fn message(&self, lane: Option<LaneId>, clock: InputClock, at: Option<u64>, message: Message) {
        let mut state = self.state();
        let newest = state.playout.newest(lane);
        let at = at.map(|at| unwrap(at, clock, newest)).or(newest);
        let pts = message.pts.map(|pts| unwrap(pts, clock, at)).or(at);
        let Some(pts) = pts else {
            return tracing::debug!(stream = %self.request.stream, "HTTP: a message of no time isn't taken");
        };
        state.playout.message(lane, clock::now(), at.unwrap_or(pts), pts, message);
        drop(state);
        self.wake.notify_one();
    }

    /// Something of a lane's track is missing before what comes next.
    pub(super) fn damaged(&self, lane: LaneId) {
        if let Some(track) = self.state().tracks.get_mut(lane.0) {
            track.damaged = true;
        }
        self.counters.http_units_dropped.inc();
    }

    /// A track's last segment has come.
    pub(super) fn ended(&self, lane: LaneId) {
        let mut state = self.state();
        state.playout.close(lane);
        if let Some(track) = state.tracks.get_mut(lane.0) {
            track.ended = true;
        }
    }

    /// Puts an item into a lane once there is room; none if `item` makes none.
    async fn feed(
        &self,
        lane: LaneId,
        mut item: impl FnMut(&mut State) -> Option<Item>,
    ) -> Result<Option<Pushed>, Over> {
        let mut room = std::pin::pin!(self.room.notified());
        loop {
            room.as_mut().enable();
            {
                let mut state = self.state();
                if let Some(over) = state.over {
                    return Err(over);
                }
                if state.playout.has_room(lane) {
                    let item = item(&mut state);
                    if let Some(track) = state.tracks.get_mut(lane.0).filter(|_| item.is_some()) {
                        track.ended = false;
                    }
                    let pushed = item.map(|item| state.playout.push(lane, clock::now(), item));
                    drop(state);
                    self.wake.notify_one();
                    return Ok(pushed);
                }
            }
            room.as_mut().await;
            room.set(self.room.notified());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Feeds the claims until the session is over, and has it forgotten then.
    pub(super) async fn run(self: Arc<Self>, first: Claim, forget: impl Fn(&Arc<Session>)) {
        let mut claims: Vec<Feeding> = vec![Feeding::Claimed(first)];
        let mut fed = clock::now();
        loop {
            let (batch, due) = self.due();
            self.room.notify_waiters();
            if !batch.is_empty() {
                for (lane, item) in batch {
                    if let Err(over) = self.hand_on(&mut claims, lane, item).await {
                        claims.clear();
                        self.set_over(over);
                        break;
                    }
                }
                fed = clock::now();
                continue;
            }
            let Ends::At(mut at) = self.ends(due) else { break };
            if claims.iter().any(Feeding::is_claimed) {
                let idle = fed + self.idle;
                if idle <= clock::now() {
                    claims.clear();
                    continue;
                }
                at = Some(at.unwrap_or(idle).min(idle));
            }
            let evicted = async {
                match claims.first_mut() {
                    Some(Feeding::Claimed(claim) | Feeding::Attached(claim)) => claim.evicted().await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                eviction = evicted => {
                    claims.clear();
                    self.set_over(eviction);
                }
                () = self.wake.notified() => {}
                () = until(at) => {}
            }
        }
        forget(&self);
        let stream = &self.request.stream;
        tracing::info!(%stream, "HTTP: the push has ended");
    }

    fn set_over(&self, over: Over) {
        tracing::info!(stream = %self.request.stream, "HTTP: {over}");
        self.state().over.get_or_insert(over);
        self.room.notify_waiters();
    }

    /// What is due, and when the next is.
    fn due(&self) -> (Vec<(LaneId, Item)>, Option<Time>) {
        let mut state = self.state();
        let now = clock::now();
        let mut batch = Vec::new();
        if state.over.is_some() {
            return (batch, None);
        }
        while let Some(popped) = state.playout.pop(now) {
            batch.push(popped);
        }
        (batch, state.playout.due(now))
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
        let said = !state.tracks.is_empty() && state.tracks.iter().all(|track| track.ended || track.place.is_none());
        let now = said && !over || state.over == Some(Eviction::Draining);
        let end = if now { state.heard } else { state.heard + self.grace };
        if end > clock::now() {
            return Ends::At(Some(end));
        }
        state.closed = true;
        Ends::Now
    }

    /// Hands an item to its claim.
    async fn hand_on(&self, claims: &mut Vec<Feeding>, lane: LaneId, item: Item) -> Result<(), Over> {
        let (index, input, language, announced, rendition, configs) = {
            let mut state = self.state();
            let Some(track) = state.tracks.get_mut(lane.0) else { return Ok(()) };
            let Some((index, input)) = track.place else { return Ok(()) };
            if let Item::Config(config) = &item {
                track.config = Some(config.clone());
            }
            let language = track.kind.language.clone();
            let rendition = state.claims.get(index).cloned().flatten();
            // A rendition says it by its name.
            let language = language.filter(|_| rendition.is_none());
            (index, input, language, state.announced(index, self.whole), rendition, state.configs(index))
        };
        claims.resize_with(claims.len().max(index + 1), Feeding::default);
        let feeding = &mut claims[index];
        if matches!(item, Item::Message(..)) && !matches!(feeding, Feeding::Attached(_)) {
            // The units that it came with are over, and it begins nothing.
            return Ok(());
        }
        if matches!(feeding, Feeding::Idle) {
            *feeding = match self.desk.claim_authorized(PublishRequest { rendition, ..self.request.clone() }) {
                Ok(claim) => Feeding::Claimed(claim),
                Err(refused) => {
                    tracing::warn!(stream = %self.request.stream, "HTTP: refused: {refused}");
                    Feeding::Refused
                }
            };
            if index == 0 && matches!(feeding, Feeding::Refused) {
                return Err(Eviction::TakenOver);
            }
        }
        let begins = matches!(feeding, Feeding::Claimed(_));
        *feeding = match std::mem::take(feeding) {
            Feeding::Claimed(claim) => Feeding::Attached(claim),
            other => other,
        };
        let Feeding::Attached(claim) = feeding else { return Ok(()) };
        let fed = async {
            if begins {
                claim.attach(bmff::CLOCK, announced).await?;
                for (input, language, config) in configs {
                    if let Some(language) = language {
                        claim.language(input, language).await?;
                    }
                    claim.config(input, config).await?;
                }
            }
            match item {
                Item::Config(config) => {
                    if let Some(language) = language {
                        claim.language(input, language).await?;
                    }
                    claim.config(input, config).await
                }
                Item::Unit(dts, unit) => claim.unit(AccessUnit { track: input, dts: wrapped(dts), ..unit }).await,
                Item::Message(pts, message) => {
                    claim.message(Message { track: input, pts: Some(wrapped(pts)), ..message }).await
                }
            }
        };
        if fed.await.is_ok() {
            return Ok(());
        }
        let eviction = claim.evicted().await;
        if index == 0 {
            return Err(eviction);
        }
        // One of several: the others go on.
        tracing::warn!(stream = %self.request.stream, "HTTP: a track isn't taken any more: {eviction}");
        *feeding = Feeding::Refused;
        Ok(())
    }
}

/// Ticks as [`bmff::CLOCK`] has them.
fn wrapped(ticks: i64) -> u64 {
    ticks.cast_unsigned() & ((1 << bmff::CLOCK.wrap_bits) - 1)
}

enum Ends {
    Now,
    At(Option<Time>),
}

async fn until(time: Option<Time>) {
    match time {
        Some(time) => sleep_until(clock::instant(time).into()).await,
        None => std::future::pending().await,
    }
}

/// A claim on its way.
#[derive(Default)]
enum Feeding {
    /// There is none, for nothing is fed.
    #[default]
    Idle,
    /// There is one, and it knows nothing yet.
    Claimed(Claim),
    Attached(Claim),
    /// There won't be one.
    Refused,
}

impl Feeding {
    fn is_claimed(&self) -> bool {
        matches!(self, Feeding::Claimed(_) | Feeding::Attached(_))
    }
}
