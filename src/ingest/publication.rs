//! One stream's publication: the task that runs its packager, from its first push to its ENDLIST.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::task::Poll;

use damson_core::model::time::Time;
use damson_core::model::{AccessUnit, Clocks, Epoch, InputTrack, PushId, Resume, StreamName, TimedMessage};
use damson_core::packager::{Diagnostic, Input, Output, Packager};
use tokio::sync::mpsc;

use super::active::{Active, PublicationCommand, PushInput, Pushed};
use super::bit_rate::BitRate;
use super::publish_request::{Eviction, PartSink};
use super::settings::Settings;
use crate::clock;

/// What cuts a stream's access units into parts: the packager, and in tests a recorder.
pub trait Packaging: Send {
    /// As the packager's.
    fn handle(&mut self, clocks: Clocks, input: Input);
    /// As the packager's.
    fn poll_output(&mut self) -> Option<Output>;
    /// As the packager's.
    fn poll_timeout(&self) -> Option<Time>;
}

impl Packaging for Packager {
    fn handle(&mut self, clocks: Clocks, input: Input) {
        Packager::handle(self, clocks, input);
    }

    fn poll_output(&mut self) -> Option<Output> {
        Packager::poll_output(self)
    }

    fn poll_timeout(&self) -> Option<Time> {
        Packager::poll_timeout(self)
    }
}

/// Makes a stream's packager, to go on where the swarm is.
pub type NewPackaging = Arc<dyn Fn(&StreamName, Option<Resume>) -> Box<dyn Packaging> + Send + Sync>;

/// A push that feeds the stream.
struct Push {
    from: Pushed,
    attached: bool,
    bit_rate: BitRate,
}

impl Push {
    fn new(from: Pushed) -> Self {
        Push { from, attached: false, bit_rate: BitRate::default() }
    }
}

pub(super) struct Publication {
    stream: StreamName,
    control: mpsc::UnboundedReceiver<PublicationCommand>,
    active: Arc<Active>,
    sink: Arc<dyn PartSink>,
    packaging: NewPackaging,
    settings: Settings,
    /// There is one from the first attachment to the end of the life.
    packager: Option<Box<dyn Packaging>>,
    /// One a rendition.
    pushes: BTreeMap<PushId, Push>,
    /// Who is asked first for the next frame.
    turn: PushId,
    /// The newest epoch that was claimed here.
    epoch: Option<Epoch>,
    alarm: clock::Alarm,
}

enum Event {
    Control(Option<PublicationCommand>),
    Timeout,
    /// `None`: the session was dropped.
    Fed(PushId, Option<PushInput>),
}

impl Publication {
    pub(super) fn new(
        stream: StreamName,
        control: mpsc::UnboundedReceiver<PublicationCommand>,
        active: Arc<Active>,
        sink: Arc<dyn PartSink>,
        packaging: NewPackaging,
        settings: Settings,
    ) -> Self {
        Publication {
            stream,
            control,
            active,
            sink,
            packaging,
            settings,
            packager: None,
            pushes: BTreeMap::new(),
            turn: PushId(0),
            epoch: None,
            alarm: clock::Alarm::default(),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            match self.event().await {
                Event::Control(Some(PublicationCommand::Begin(feed, pushed))) => {
                    self.detach(feed).await;
                    self.pushes.insert(feed, Push::new(pushed));
                }
                Event::Control(Some(PublicationCommand::Superseded(epoch))) => self.superseded(epoch),
                Event::Control(Some(PublicationCommand::End)) => {
                    for feed in self.pushes.keys().copied().collect::<Vec<_>>() {
                        self.detach(feed).await;
                    }
                    self.input(Input::End);
                    self.packager = None;
                }
                // The other end is held for as long as the stream is active.
                Event::Control(None) => break,
                Event::Timeout => self.input(Input::Timeout),
                Event::Fed(feed, Some(fed)) => self.fed(feed, fed).await,
                Event::Fed(feed, None) => self.detach(feed).await,
            }
            // A packager that waits for nothing has no life to end: its publisher never sent what could begin one.
            let waits = self.packager.as_ref().is_some_and(|packager| packager.poll_timeout().is_some());
            let idle = !waits && self.pushes.is_empty();
            if idle && self.active.forget(&self.stream, &self.control) {
                break;
            }
        }
        tracing::info!(stream = %self.stream, "the publication is over");
        self.sink.ended(&self.stream);
    }

    async fn event(&mut self) -> Event {
        let timeout = self.packager.as_ref().and_then(|packager| packager.poll_timeout());
        // Timers before frames: they are rare, and a full queue mustn't starve them.
        tokio::select! {
            biased;
            control = self.control.recv() => Event::Control(control),
            () = self.alarm.until(timeout) => Event::Timeout,
            (feed, fed) = next(&mut self.pushes, &mut self.turn) => Event::Fed(feed, fed),
        }
    }

    /// Ends a push, after what it has already fed.
    async fn detach(&mut self, feed: PushId) {
        let Some(Push { from, .. }) = self.pushes.get_mut(&feed) else {
            return;
        };
        from.inputs.close();
        let left: Vec<_> = std::iter::from_fn(|| from.inputs.try_recv().ok()).collect();
        for fed in left {
            self.fed(feed, fed).await;
        }
        if self.pushes.remove(&feed).is_some_and(|push| push.attached) {
            self.input(Input::Detached(feed));
        }
    }

    async fn fed(&mut self, feed: PushId, fed: PushInput) {
        // It was refused, and has more on its way.
        let Some(push) = self.pushes.get_mut(&feed) else { return };
        let limit = self.settings.bit_rate_max;
        match fed {
            PushInput::Media(Input::Unit(unit))
                if push.attached && push.bit_rate.overflows(limit, clock::now(), unit.data.len()) =>
            {
                tracing::warn!(stream = %self.stream, limit, "a push sends more than it may");
                let session = push.from.session;
                self.pushes.remove(&feed);
                self.input(Input::Detached(feed));
                self.active.evict(&self.stream, session, Eviction::BitRate(limit));
            }
            PushInput::Attach(clock, announced) if !push.attached => {
                let rendition = push.from.rendition.clone();
                let epoch = self.push_epoch().await;
                if let Some(push) = self.pushes.get_mut(&feed) {
                    push.attached = true;
                }
                self.input(Input::Attached { push: feed, rendition, epoch, clock, announced });
            }
            PushInput::Media(input) if push.attached => self.input(of_feed(feed, input)),
            // A second attachment, or frames before the first: our own drivers don't.
            PushInput::Attach(..) | PushInput::Media(_) => tracing::error!(stream = %self.stream, "fed out of turn"),
        }
    }

    /// The epoch of a push that comes: that of the others who are there, for whom this ingest numbers already.
    async fn push_epoch(&mut self) -> Epoch {
        let others = self.packager.is_some() && self.pushes.values().any(|push| push.attached);
        match self.epoch.filter(|_| others) {
            Some(epoch) => epoch,
            None => self.claim_epoch().await,
        }
    }

    /// A higher epoch than any known, and a packager that goes on from the newest.
    async fn claim_epoch(&mut self) -> Epoch {
        let resume = self.sink.resume(&self.stream).await;
        let known = resume.as_ref().map(|resume| resume.record.epoch);
        // Our own newest record comes back from the swarm; another ingest's replaces what we were about.
        if self.packager.is_none() || known > self.epoch {
            self.packager = Some((self.packaging)(&self.stream, resume));
        }
        let newest = known.max(self.epoch).map_or(0, |epoch| epoch.counter);
        // Below 2^32 until the year 2106.
        let seconds = u32::try_from(clock::wall().as_secs()).unwrap_or(u32::MAX);
        let epoch = Epoch { counter: newest.saturating_add(1).max(seconds), node: self.settings.node };
        self.epoch = Some(epoch);
        epoch
    }

    fn superseded(&mut self, epoch: Epoch) {
        if Some(epoch) > self.epoch && self.packager.is_some() {
            tracing::warn!(stream = %self.stream, ?epoch, "another ingest has claimed the stream");
            self.packager = None;
            self.pushes.clear();
            self.active.evict_all(&self.stream, Eviction::Superseded);
        }
    }

    /// Runs the packager, and hands its output on.
    fn input(&mut self, input: Input) {
        let Some(packager) = &mut self.packager else {
            return;
        };
        packager.handle(Clocks { now: clock::now(), wall: clock::wall() }, input);
        let (mut ended, mut refused) = (false, Vec::new());
        while let Some(output) = packager.poll_output() {
            match output {
                Output::Record(record) => {
                    ended |= record.ended.is_some();
                    self.sink.record(record);
                }
                Output::Part { header, body } => self.sink.part(&self.stream, header, body),
                Output::Refused { push: feed, why } => refused.push((feed, why)),
                Output::Diagnostic(diagnostic) => {
                    log(&self.stream, &diagnostic);
                    self.sink.diagnostic(&self.stream, &diagnostic);
                }
            }
        }
        for (feed, why) in refused {
            if let Some(push) = self.pushes.remove(&feed) {
                self.active.evict(&self.stream, push.from.session, Eviction::Refused(why));
            }
        }
        // A push after the ENDLIST is a new life: a new packager, resumed from this one's record.
        if ended {
            self.packager = None;
            for push in self.pushes.values_mut() {
                push.attached = false;
            }
        }
    }
}

/// What can come with every frame is for those who look for it.
fn log(stream: &StreamName, diagnostic: &Diagnostic) {
    match diagnostic {
        Diagnostic::ShortPart { .. }
        | Diagnostic::Nudged { .. }
        | Diagnostic::Late { .. }
        | Diagnostic::GapSegment { .. }
        | Diagnostic::DateTimeStep { .. } => tracing::debug!(%stream, "{diagnostic}"),
        Diagnostic::PresentationBegan { .. }
        | Diagnostic::PeriodBegan { .. }
        | Diagnostic::PresentationEnded { .. }
        | Diagnostic::Joined { .. } => {
            tracing::info!(%stream, "{diagnostic}");
        }
        _ => tracing::warn!(%stream, "{diagnostic}"),
    }
}

/// The next frame of anyone, in turns.
async fn next(pushes: &mut BTreeMap<PushId, Push>, turn: &mut PushId) -> (PushId, Option<PushInput>) {
    std::future::poll_fn(|cx| {
        let mut ask = |feeds: (Bound<PushId>, Bound<PushId>)| {
            pushes.range_mut(feeds).find_map(|(&feed, push)| match push.from.inputs.poll_recv(cx) {
                Poll::Ready(fed) => Some((feed, fed)),
                Poll::Pending => None,
            })
        };
        let from = ask((Bound::Included(*turn), Bound::Unbounded));
        let fed = from.or_else(|| ask((Bound::Unbounded, Bound::Excluded(*turn))));
        let Some((feed, fed)) = fed else { return Poll::Pending };
        *turn = PushId(feed.0 + 1);
        Poll::Ready((feed, fed))
    })
    .await
}

/// A push's tracks, told apart from the other pushes'.
fn of_feed(feed: PushId, input: Input) -> Input {
    let own = |track| InputTrack::of(feed, track);
    match input {
        Input::Unit(unit) => Input::Unit(AccessUnit { track: own(unit.track), ..unit }),
        Input::Language { track, language } => Input::Language { track: own(track), language },
        Input::Config { track, config } => Input::Config { track: own(track), config },
        Input::Message(message) => Input::Message(TimedMessage { track: own(message.track), ..message }),
        other => other,
    }
}
