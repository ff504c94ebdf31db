//! One stream's publication: the task that runs its packager, from its first claim to its ENDLIST.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::task::Poll;

use tokio::sync::mpsc;

use super::meter::Meter;
use super::{Desk, Eviction, Fed, Packaging};
use crate::clock;
use damson_core::model::{AccessUnit, Clocks, Feed, InputTrack, Message};
use damson_core::model::{Epoch, Rendition, StreamName};
use damson_core::packager::{Input, Notice, Output};

/// What the desk tells a publication. Sent under the board's lock, so that none is lost at its end.
pub(super) enum Control {
    /// A new tenure begins, and the one before in its place is over.
    Tenure(Feed, Tenure),
    /// Another ingest has claimed this epoch.
    Superseded(Epoch),
    /// The node drains.
    End,
}

/// A claim, as its publication sees it. Its inputs end when the claim is dropped.
pub(super) struct Tenure {
    rendition: Option<Rendition>,
    number: u64,
    inputs: mpsc::Receiver<Fed>,
    attached: bool,
    meter: Meter,
}

impl Tenure {
    pub(super) fn new(rendition: Option<Rendition>, number: u64, inputs: mpsc::Receiver<Fed>) -> Self {
        Tenure { rendition, number, inputs, attached: false, meter: Meter::default() }
    }
}

pub(super) struct Publication {
    desk: Desk,
    stream: StreamName,
    control: mpsc::UnboundedReceiver<Control>,
    /// There is one from the first attachment to the end of the life.
    packager: Option<Box<dyn Packaging>>,
    /// One a rendition.
    tenures: BTreeMap<Feed, Tenure>,
    /// Who is asked first for the next frame.
    turn: Feed,
    /// The newest epoch that was claimed here.
    epoch: Option<Epoch>,
    alarm: clock::Alarm,
}

enum Event {
    Control(Option<Control>),
    Timeout,
    /// `None`: the claim was dropped.
    Fed(Feed, Option<Fed>),
}

impl Publication {
    pub(super) fn new(desk: Desk, stream: StreamName, control: mpsc::UnboundedReceiver<Control>) -> Self {
        Publication {
            desk,
            stream,
            control,
            packager: None,
            tenures: BTreeMap::new(),
            turn: Feed(0),
            epoch: None,
            alarm: clock::Alarm::default(),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            match self.event().await {
                Event::Control(Some(Control::Tenure(feed, tenure))) => {
                    self.detach(feed).await;
                    self.tenures.insert(feed, tenure);
                }
                Event::Control(Some(Control::Superseded(epoch))) => self.superseded(epoch),
                Event::Control(Some(Control::End)) => {
                    for feed in self.tenures.keys().copied().collect::<Vec<_>>() {
                        self.detach(feed).await;
                    }
                    self.input(Input::End);
                    self.packager = None;
                }
                // The board holds the other end for as long as this task is on it.
                Event::Control(None) => break,
                Event::Timeout => self.input(Input::Timeout),
                Event::Fed(feed, Some(fed)) => self.fed(feed, fed).await,
                Event::Fed(feed, None) => self.detach(feed).await,
            }
            // A packager that waits for nothing has no life to end: its publisher never sent what could begin one.
            let waits = self.packager.as_ref().is_some_and(|packager| packager.poll_timeout().is_some());
            let idle = !waits && self.tenures.is_empty();
            if idle && self.desk.forget(&self.stream, &self.control) {
                break;
            }
        }
        tracing::info!(stream = %self.stream, "the publication is over");
        self.desk.0.publisher.ended(&self.stream);
    }

    async fn event(&mut self) -> Event {
        let timeout = self.packager.as_ref().and_then(|packager| packager.poll_timeout());
        // Timers before frames: they are rare, and a full queue mustn't starve them.
        tokio::select! {
            biased;
            control = self.control.recv() => Event::Control(control),
            () = self.alarm.until(timeout) => Event::Timeout,
            (feed, fed) = next(&mut self.tenures, &mut self.turn) => Event::Fed(feed, fed),
        }
    }

    /// Ends a tenure, after what it has already been fed.
    async fn detach(&mut self, feed: Feed) {
        let Some(tenure) = self.tenures.get_mut(&feed) else {
            return;
        };
        tenure.inputs.close();
        let mut left = Vec::new();
        while let Ok(fed) = tenure.inputs.try_recv() {
            left.push(fed);
        }
        for fed in left {
            self.fed(feed, fed).await;
        }
        if self.tenures.remove(&feed).is_some_and(|tenure| tenure.attached) {
            self.input(Input::Detached(feed));
        }
    }

    async fn fed(&mut self, feed: Feed, fed: Fed) {
        // It was refused, and has more on its way.
        let Some(tenure) = self.tenures.get_mut(&feed) else { return };
        let (attached, rendition, number) = (tenure.attached, tenure.rendition.clone(), tenure.number);
        let limit = self.desk.0.settings.bit_rate_max;
        match fed {
            Fed::Input(Input::Unit(unit))
                if attached && tenure.meter.overflows(limit, clock::now(), unit.data.len()) =>
            {
                tracing::warn!(stream = %self.stream, limit, "a push sends more than it may");
                self.tenures.remove(&feed);
                self.input(Input::Detached(feed));
                self.desk.evict_tenure(&self.stream, number, Eviction::BitRate(limit));
            }
            Fed::Attach(clock, announced) if !attached => {
                let epoch = self.tenure_epoch().await;
                if let Some(tenure) = self.tenures.get_mut(&feed) {
                    tenure.attached = true;
                }
                self.input(Input::Attached { feed, rendition, epoch, clock, announced });
            }
            Fed::Input(input) if attached => self.input(of_feed(feed, input)),
            // A second attachment, or frames before the first: our own drivers don't.
            Fed::Attach(..) | Fed::Input(_) => tracing::error!(stream = %self.stream, "fed out of turn"),
        }
    }

    /// The epoch of a push that comes: that of the others who are there, for whom this ingest numbers already.
    async fn tenure_epoch(&mut self) -> Epoch {
        let others = self.packager.is_some() && self.tenures.values().any(|tenure| tenure.attached);
        match self.epoch.filter(|_| others) {
            Some(epoch) => epoch,
            None => self.claim_epoch().await,
        }
    }

    /// A higher epoch than any known, and a packager that goes on from the newest.
    async fn claim_epoch(&mut self) -> Epoch {
        let resume = self.desk.0.publisher.resume(&self.stream).await;
        let known = resume.as_ref().map(|resume| resume.record.epoch);
        // Our own newest record comes back from the swarm; another ingest's replaces what we were about.
        if self.packager.is_none() || known > self.epoch {
            self.packager = Some((self.desk.0.packaging)(&self.stream, resume));
        }
        let newest = known.max(self.epoch).map_or(0, |epoch| epoch.counter);
        // Below 2^32 until the year 2106.
        let seconds = u32::try_from(clock::wall().as_secs()).unwrap_or(u32::MAX);
        let epoch = Epoch { counter: newest.saturating_add(1).max(seconds), node: self.desk.0.settings.node };
        self.epoch = Some(epoch);
        epoch
    }

    fn superseded(&mut self, epoch: Epoch) {
        if Some(epoch) > self.epoch && self.packager.is_some() {
            tracing::warn!(stream = %self.stream, ?epoch, "another ingest has claimed the stream");
            self.packager = None;
            self.tenures.clear();
            self.desk.evict(&self.stream, Eviction::Superseded);
        }
    }

    /// Runs the packager, and hands its output on.
    fn input(&mut self, input: Input) {
        let Some(packager) = &mut self.packager else {
            return;
        };
        let publisher = &self.desk.0.publisher;
        packager.handle(Clocks { now: clock::now(), wall: clock::wall() }, input);
        let (mut ended, mut refused) = (false, Vec::new());
        while let Some(output) = packager.poll_output() {
            match output {
                Output::Record(record) => {
                    ended |= record.ended.is_some();
                    publisher.record(record);
                }
                Output::Part { header, body } => publisher.part(&self.stream, header, body),
                Output::Refused { feed, why } => refused.push((feed, why)),
                Output::Notice(notice) => {
                    log(&self.stream, &notice);
                    publisher.notice(&self.stream, &notice);
                }
            }
        }
        for (feed, why) in refused {
            if let Some(tenure) = self.tenures.remove(&feed) {
                self.desk.evict_tenure(&self.stream, tenure.number, Eviction::Refused(why));
            }
        }
        // A push after the ENDLIST is a new life: a new packager, resumed from this one's record.
        if ended {
            self.packager = None;
            for tenure in self.tenures.values_mut() {
                tenure.attached = false;
            }
        }
    }
}

/// What can come with every frame is for those who look for it.
fn log(stream: &StreamName, notice: &Notice) {
    match notice {
        Notice::ShortPart { .. }
        | Notice::Nudged { .. }
        | Notice::Late { .. }
        | Notice::GapSegment { .. }
        | Notice::DateTimeStep { .. } => tracing::debug!(%stream, "{notice}"),
        Notice::LifeBegan { .. } | Notice::PeriodBegan { .. } | Notice::LifeEnded { .. } | Notice::Joined { .. } => {
            tracing::info!(%stream, "{notice}");
        }
        _ => tracing::warn!(%stream, "{notice}"),
    }
}

/// The next frame of anyone, in turns.
async fn next(tenures: &mut BTreeMap<Feed, Tenure>, turn: &mut Feed) -> (Feed, Option<Fed>) {
    std::future::poll_fn(|cx| {
        let mut ask = |feeds: (Bound<Feed>, Bound<Feed>)| {
            tenures.range_mut(feeds).find_map(|(&feed, tenure)| match tenure.inputs.poll_recv(cx) {
                Poll::Ready(fed) => Some((feed, fed)),
                Poll::Pending => None,
            })
        };
        let from = ask((Bound::Included(*turn), Bound::Unbounded));
        let fed = from.or_else(|| ask((Bound::Unbounded, Bound::Excluded(*turn))));
        let Some((feed, fed)) = fed else { return Poll::Pending };
        *turn = Feed(feed.0 + 1);
        Poll::Ready((feed, fed))
    })
    .await
}

/// A push's tracks, told apart from the other pushes'.
fn of_feed(feed: Feed, input: Input) -> Input {
    let own = |track| InputTrack::of(feed, track);
    match input {
        Input::Unit(unit) => Input::Unit(AccessUnit { track: own(unit.track), ..unit }),
        Input::Language { track, language } => Input::Language { track: own(track), language },
        Input::Config { track, config } => Input::Config { track: own(track), config },
        Input::Message(message) => Input::Message(Message { track: own(message.track), ..message }),
        other => other,
    }
}
