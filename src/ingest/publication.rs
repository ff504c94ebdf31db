//! One stream's publication: the task that runs its packager, from the first push to the ENDLIST.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::task::Poll;

use damson_core::model::time::Time;
use damson_core::model::{AccessUnit, Clocks, Epoch, InputTrack, PushId, Resume, StreamName, TimedMessage};
use damson_core::packager::{Diagnostic, Input, Output, Packager, Unusable};
use tokio::sync::mpsc;
use tracing::Level;

use super::active::{Active, PublicationCommand, PushInput, Pushed};
use super::bit_rate::BitRate;
use super::publish_request::{Eviction, PartSink};
use super::settings::Settings;
use crate::clock;

/// Cuts a stream's access units into parts: the packager, or in tests a recorder.
pub trait Packaging: Send {
    /// Does what [`Packager::handle`] does.
    fn handle(&mut self, clocks: Clocks, input: Input);
    /// Does what [`Packager::poll_output`] does.
    fn poll_output(&mut self) -> Option<Output>;
    /// Does what [`Packager::poll_timeout`] does.
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

/// Makes a stream's packager, which resumes from what the swarm holds.
pub type NewPackaging = Arc<dyn Fn(&StreamName, Option<Resume>) -> Box<dyn Packaging> + Send + Sync>;

/// The state that the publications of a node share.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) active: Arc<Active>,
    pub(super) sink: Arc<dyn PartSink>,
    pub(super) packaging: NewPackaging,
}

/// A push of the stream, or of a rendition of it.
struct Push {
    from: Pushed,
    attached: bool,
    bit_rate: BitRate,
}

/// What may come with every frame of a track, and is logged for operators once: the reason why a unit can't be published, or
/// a timestamp that is off.
type Warned = (InputTrack, Option<Unusable>);

pub(super) struct Publication {
    stream: StreamName,
    commands: mpsc::UnboundedReceiver<PublicationCommand>,
    shared: Arc<Shared>,
    /// Exists from the first attachment to the end of the presentation.
    packager: Option<Box<dyn Packaging>>,
    /// One push for each rendition.
    pushes: BTreeMap<PushId, Push>,
    /// What was logged of the units of pushes: why they can't be published, or that a timestamp was off.
    warned: BTreeSet<Warned>,
    /// The push that is polled first for the next input.
    turn: PushId,
    /// The newest epoch that was claimed here.
    epoch: Option<Epoch>,
    alarm: clock::Alarm,
}

impl Publication {
    pub(super) fn new(
        stream: StreamName,
        commands: mpsc::UnboundedReceiver<PublicationCommand>,
        shared: Arc<Shared>,
    ) -> Self {
        Publication {
            stream,
            commands,
            shared,
            packager: None,
            pushes: BTreeMap::new(),
            warned: BTreeSet::new(),
            turn: PushId(0),
            epoch: None,
            alarm: clock::Alarm::default(),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let timeout = self.packager.as_ref().and_then(|packager| packager.poll_timeout());
            // Timers come before inputs: they are rare, and a full queue must not starve them.
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command).await,
                    // The other end is held for as long as the stream is active.
                    None => break,
                },
                () = self.alarm.until(timeout) => self.input(Input::Timeout),
                (push, input) = next(&mut self.pushes, &mut self.turn) => match input {
                    Some(input) => self.push_input(push, input).await,
                    None => self.detach(push).await,
                },
            }
            // A packager without a deadline has no presentation: its publisher sent no media.
            let waits = self.packager.as_ref().is_some_and(|packager| packager.poll_timeout().is_some());
            let idle = !waits && self.pushes.is_empty();
            if idle && self.shared.active.forget(&self.stream, &self.commands) {
                break;
            }
        }
        tracing::debug!(stream = %self.stream, "the publication is over");
        self.shared.sink.ended(&self.stream);
    }

    async fn command(&mut self, command: PublicationCommand) {
        match command {
            PublicationCommand::Begin(push, pushed) => {
                self.detach(push).await;
                self.warned.retain(|(track, _)| track.push() != push);
                self.pushes.insert(push, Push { from: pushed, attached: false, bit_rate: BitRate::default() });
            }
            PublicationCommand::Superseded(epoch) => self.superseded(epoch),
            PublicationCommand::End => {
                for push in self.pushes.keys().copied().collect::<Vec<_>>() {
                    self.detach(push).await;
                }
                self.input(Input::End);
                self.packager = None;
            }
        }
    }

    /// Ends a push, after the inputs that it has already sent.
    async fn detach(&mut self, id: PushId) {
        let Some(Push { from, .. }) = self.pushes.get_mut(&id) else {
            return;
        };
        from.inputs.close();
        let left: Vec<_> = std::iter::from_fn(|| from.inputs.try_recv().ok()).collect();
        for input in left {
            self.push_input(id, input).await;
        }
        if self.pushes.remove(&id).is_some_and(|push| push.attached) {
            self.input(Input::Detached(id));
        }
    }

    async fn push_input(&mut self, id: PushId, input: PushInput) {
        // A push that was refused may still have inputs in its queue.
        let Some(push) = self.pushes.get_mut(&id) else { return };
        let limit = self.shared.settings.bit_rate_max;
        match input {
            PushInput::Media(Input::Unit(unit))
                if push.attached && push.bit_rate.overflows(limit, clock::now(), unit.data.len()) =>
            {
                let (session, over) = (push.from.session, Eviction::BitRate(limit));
                tracing::warn!(stream = %self.stream, "publisher evicted: {over}");
                self.pushes.remove(&id);
                self.input(Input::Detached(id));
                self.shared.active.evict(&self.stream, session, over);
            }
            PushInput::Attach(clock, announced) if !push.attached => {
                push.attached = true;
                let rendition = push.from.rendition.clone();
                let epoch = self.epoch_of(id).await;
                self.input(Input::Attached { push: id, rendition, epoch, clock, announced });
            }
            PushInput::Media(input) if push.attached => self.input(of_push(id, input)),
            // Our own servers attach once, and before they send media.
            PushInput::Attach(..) | PushInput::Media(_) => tracing::error!(stream = %self.stream, "input out of order"),
        }
    }

    /// Returns the epoch of a push that attaches: that of the other pushes, or a higher one than any known, for which the
    /// packager resumes from the newest.
    async fn epoch_of(&mut self, id: PushId) -> Epoch {
        // With other pushes attached, this ingest numbers the stream already.
        let others = self.packager.is_some() && self.pushes.iter().any(|(other, push)| *other != id && push.attached);
        if let Some(epoch) = self.epoch.filter(|_| others) {
            return epoch;
        }
        let resume = self.shared.sink.resume(&self.stream).await;
        let known = resume.as_ref().map(|resume| resume.record.epoch);
        // The swarm returns our own newest record; a newer one is that of another ingest node, and replaces our state.
        if self.packager.is_none() || known > self.epoch {
            self.packager = Some((self.shared.packaging)(&self.stream, resume));
        }
        let newest = known.max(self.epoch).map_or(0, |epoch| epoch.counter);
        // Below 2^32 until the year 2106.
        let seconds = u32::try_from(clock::wall().as_secs()).unwrap_or(u32::MAX);
        let epoch = Epoch { counter: newest.saturating_add(1).max(seconds), node: self.shared.settings.node };
        self.epoch = Some(epoch);
        epoch
    }

    fn superseded(&mut self, epoch: Epoch) {
        if Some(epoch) > self.epoch && self.packager.is_some() {
            tracing::warn!(stream = %self.stream, ?epoch, "another ingest node has taken the stream over");
            self.packager = None;
            self.pushes.clear();
            self.shared.active.evict_all(&self.stream, Eviction::Superseded);
        }
    }

    /// Runs the packager, and hands its output on.
    fn input(&mut self, input: Input) {
        let Publication { stream, shared, packager: Some(packager), pushes, warned, .. } = self else {
            return;
        };
        packager.handle(Clocks { now: clock::now(), wall: clock::wall() }, input);
        let mut ended = false;
        while let Some(output) = packager.poll_output() {
            match output {
                Output::Record(record) => {
                    ended |= record.ended.is_some();
                    shared.sink.record(record);
                }
                Output::Part { header, body } => shared.sink.part(stream, header, body),
                Output::Refused { push: id, why } => {
                    if let Some(push) = pushes.remove(&id) {
                        shared.active.evict(stream, push.from.session, Eviction::Refused(why));
                    }
                }
                Output::Diagnostic(diagnostic) => {
                    log(stream, &diagnostic, level(&diagnostic, warned));
                    shared.sink.diagnostic(stream, &diagnostic);
                }
            }
        }
        // A push after the ENDLIST begins a new presentation: a new packager, which resumes from this one's record. A push
        // that was silent for the linger is still attached, and begins one in this packager, with its next units.
        if ended && !self.pushes.values().any(|push| push.attached) {
            self.packager = None;
        }
    }
}

/// Returns at which level a diagnostic is logged. What may come with every frame is for developers; the first of units
/// that can't be published, for each track and reason, is for operators, and the first timestamp of a track that is off.
fn level(diagnostic: &Diagnostic, warned: &mut BTreeSet<Warned>) -> Level {
    match diagnostic {
        Diagnostic::ShortPart { .. }
        | Diagnostic::Nudged { .. }
        | Diagnostic::Late { .. }
        | Diagnostic::GapSegment { .. }
        | Diagnostic::DateTimeStep { .. } => Level::DEBUG,
        Diagnostic::Unusable { track, why, .. } if !warned.insert((*track, Some(*why))) => Level::DEBUG,
        Diagnostic::Outlier { track, .. } if !warned.insert((*track, None)) => Level::DEBUG,
        Diagnostic::PresentationBegan { .. }
        | Diagnostic::PeriodBegan { .. }
        | Diagnostic::PresentationEnded { .. }
        | Diagnostic::TrackLate { .. }
        | Diagnostic::Joined { .. } => Level::INFO,
        _ => Level::WARN,
    }
}

fn log(stream: &StreamName, diagnostic: &Diagnostic, level: Level) {
    match level {
        Level::DEBUG => tracing::debug!(%stream, "{diagnostic}"),
        Level::INFO => tracing::info!(%stream, "{diagnostic}"),
        _ => tracing::warn!(%stream, "{diagnostic}"),
    }
}

/// Returns the next input of any push, in turns; `None` if its session was dropped.
async fn next(pushes: &mut BTreeMap<PushId, Push>, turn: &mut PushId) -> (PushId, Option<PushInput>) {
    std::future::poll_fn(|cx| {
        let mut poll = |range: (Bound<PushId>, Bound<PushId>)| {
            pushes.range_mut(range).find_map(|(&id, push)| match push.from.inputs.poll_recv(cx) {
                Poll::Ready(input) => Some((id, input)),
                Poll::Pending => None,
            })
        };
        let from = poll((Bound::Included(*turn), Bound::Unbounded));
        let polled = from.or_else(|| poll((Bound::Unbounded, Bound::Excluded(*turn))));
        let Some((id, input)) = polled else { return Poll::Pending };
        *turn = PushId(id.0 + 1);
        Poll::Ready((id, input))
    })
    .await
}

/// Returns an input of a push with the track ids that the push has in its stream.
fn of_push(id: PushId, input: Input) -> Input {
    let own = |track| InputTrack::of(id, track);
    match input {
        Input::Unit(unit) => Input::Unit(AccessUnit { track: own(unit.track), ..unit }),
        Input::Language { track, language } => Input::Language { track: own(track), language },
        Input::Config { track, config } => Input::Config { track: own(track), config },
        Input::Message(message) => Input::Message(TimedMessage { track: own(message.track), ..message }),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_may_come_with_every_frame_is_warned_of_once() {
        let mut warned = BTreeSet::new();
        let mut check = |track: u8, why, expect| {
            let diagnostic = Diagnostic::Unusable { track: InputTrack(track), units: 1, why };
            assert_eq!(level(&diagnostic, &mut warned), expect, "{diagnostic}");
        };
        check(0, Unusable::NoConfig, Level::WARN);
        check(0, Unusable::NoConfig, Level::DEBUG);
        check(1, Unusable::NoConfig, Level::WARN);
        check(0, Unusable::TooLong, Level::WARN);
        assert_eq!(level(&Diagnostic::Silence, &mut warned), Level::WARN);
        let off = Diagnostic::Outlier { track: InputTrack(0), by: Duration::from_millis(300) };
        assert_eq!([level(&off, &mut warned), level(&off, &mut warned)], [Level::WARN, Level::DEBUG]);
    }
}
