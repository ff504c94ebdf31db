//! A stream whose publishers come and go.

mod joining;

use std::collections::VecDeque;
use std::time::Duration;

use super::align::{Aligned, align};
use super::diagnostic::{Diagnostic, Refusal, Unusable};
use super::io::{Input, Output};
use super::metadata::Metadata;
use super::opening;
use super::preroll::Preroll;
use super::presentation::Presentation;
use super::publishers::{Configured, Publisher, Publishers};
use super::renditions::{Joiner, Renditions};
use super::settings::Settings;
use super::silence::{Due, Silence};
use super::stamps::Stamps;
use super::start_numbers::StartNumbers;
use super::timeline::UnitTiming;
use super::unit::InputUnit;
use crate::codec::codec::Codec;
use crate::model::time::Time;
use crate::model::{AccessUnit, Clocks, CodecConfig, InputTrack, PushId, Resume, StreamName, TimedMessage};

/// The shortest period: a publisher that jumps at every frame must not flood the swarm with records.
const PERIOD_MIN: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Away,
    Gathering,
    Live,
}

/// One published stream, from access units to parts.
#[derive(Debug)]
pub struct Packager {
    stream: StreamName,
    settings: Settings,
    phase: Phase,
    publishers: Publishers,
    stamps: Stamps,
    preroll: Preroll,
    renditions: Renditions,
    metadata: Metadata,
    silence: Silence,
    presentation: Option<Presentation>,
    /// The numbers with which the next presentation begins.
    start: StartNumbers,
    period_began: Option<Time>,
    now: Time,
    outputs: VecDeque<Output>,
}

impl Packager {
    /// Makes the packager of a stream without a publisher; `resume` is what the swarm holds of the stream.
    pub fn new(stream: StreamName, settings: Settings, resume: Option<Resume>) -> Self {
        let settings = settings.clamped();
        let (mut presentation, mut start) = (None, StartNumbers::default());
        if let Some(resume) = resume {
            match resume.record.ended {
                Some(ended) => {
                    let last_msn = resume.newest_msn.max(ended);
                    start = StartNumbers::after(&resume.record, last_msn, resume.discontinuity);
                }
                None => presentation = Some(Presentation::resume(resume)),
            }
        }
        Packager {
            stream,
            settings,
            phase: Phase::Away,
            publishers: Publishers::default(),
            stamps: Stamps::default(),
            preroll: Preroll::new(settings),
            renditions: Renditions::default(),
            metadata: Metadata::default(),
            silence: Silence::default(),
            presentation,
            start,
            period_began: None,
            now: Time::ZERO,
            outputs: VecDeque::new(),
        }
    }

    /// Takes an input; drain [`poll_output`](Packager::poll_output) afterwards.
    pub fn handle(&mut self, clocks: Clocks, input: Input) {
        self.now = self.now.max(clocks.now);
        if let Some(presentation) = &mut self.presentation {
            presentation.set_wall(clocks.wall);
        }
        self.run_timers(clocks);
        match input {
            Input::Timeout => {}
            Input::Attached { push, rendition, epoch, clock, announced } => {
                self.detach(clocks, push);
                self.attach(push, Publisher { rendition, epoch, clock, announced });
            }
            Input::Language { track, language } => self.publishers.language(track, language),
            Input::Config { track, config } => self.configure(track, &config),
            Input::Unit(unit) => self.unit(clocks, unit),
            Input::Message(message) => self.message(message),
            Input::Detached(push) => self.detach(clocks, push),
            Input::End => {
                self.detach_all(clocks);
                self.end();
            }
        }
        // A period that has just begun may have been silent for a long time.
        self.run_timers(clocks);
        if self.phase == Phase::Live {
            self.carry();
        }
        if let Some(presentation) = &mut self.presentation {
            self.outputs.extend(presentation.publish_rates());
        }
    }

    /// Returns the next output, oldest first.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when [`Input::Timeout`] is due, unless another input comes before.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.stamps.due().into_iter().chain(self.timeout()).min()
    }

    fn timeout(&self) -> Option<Time> {
        if self.is_gathering() {
            let spaced = self.period_began.map(|began| began + PERIOD_MIN).filter(|&at| at > self.now);
            let due = self.due().map(|(at, _)| at);
            return self.preroll.next_check(self.now).into_iter().chain(spaced).chain(due).min();
        }
        self.due().map(|(at, _)| at)
    }

    /// Returns whether units wait in the preroll, which has its own checks.
    fn is_gathering(&self) -> bool {
        self.phase == Phase::Gathering && self.preroll.since().is_some()
    }

    fn due(&self) -> Option<(Time, Due)> {
        let (target, segment) = self.presentation.as_ref()?.durations();
        match self.phase {
            Phase::Live => self.silence.live(target),
            // A keyframe may come in a moment, and its period begins no earlier than the gap ends.
            _ if self.is_gathering() => self.silence.away(target + target / 2, segment, Duration::MAX),
            _ => self.silence.away(target, segment, self.settings.linger),
        }
    }

    fn diagnose(&mut self, diagnostic: Diagnostic) {
        self.outputs.push_back(Output::Diagnostic(diagnostic));
    }

    fn unusable(&mut self, track: InputTrack, units: usize, why: Unusable) {
        self.diagnose(Diagnostic::Unusable { track, units, why });
    }

    fn run_timers(&mut self, clocks: Clocks) {
        for unit in self.stamps.overdue(clocks.now) {
            self.stamped_unit(clocks, unit);
        }
        loop {
            // The preroll may be published now, and its publisher may have been silent since.
            if self.try_begin(clocks) {
                continue;
            }
            let due = self.due().filter(|&(at, _)| at <= clocks.now);
            let Some((presentation, (_, due))) = self.presentation.as_mut().zip(due) else { break };
            match due {
                Due::Silent => {
                    self.diagnose(Diagnostic::Silence);
                    self.anew(true);
                }
                Due::Gap => {
                    self.outputs.extend(presentation.gap());
                    self.silence.numbered();
                }
                Due::Ended => return self.end(),
            }
        }
    }

    fn attach(&mut self, push: PushId, publisher: Publisher) {
        let (first, epoch) = (self.publishers.count() == 0, publisher.epoch);
        if let Err(why) = self.publishers.attach(push, publisher) {
            return self.refuse(push, why);
        }
        if first {
            self.preroll.restart(true);
            self.phase = Phase::Gathering;
        }
        let Some(presentation) = &mut self.presentation else { return };
        if first {
            presentation.attach(epoch);
            self.silence.attached(self.now);
        } else if self.phase == Phase::Live {
            self.renditions.join(Joiner::Push(push), presentation.next_msn());
        }
    }

    fn configure(&mut self, track: InputTrack, config: &CodecConfig) {
        let waits = self.renditions.is_joining(track.push());
        match self.publishers.configure(track, config) {
            Configured::Unchanged => {}
            Configured::Bad(error) => self.diagnose(Diagnostic::BadConfig { track, error }),
            Configured::Ignored => self.diagnose(Diagnostic::TrackIgnored { track, why: Refusal::NoPlace }),
            Configured::New => {}
            Configured::Changed => {
                let published = self.phase == Phase::Live && !waits && self.track_of(track).is_some();
                self.diagnose(Diagnostic::ConfigChanged { track });
                if published && !self.step_out(track.push()) {
                    self.interrupt(self.publishers.is_video(track));
                }
                let units = self.preroll.forget_track(track);
                if units > 0 {
                    self.unusable(track, units, Unusable::ConfigGone);
                }
            }
        }
    }

    fn track_of(&self, input: InputTrack) -> Option<usize> {
        self.presentation.as_ref()?.track_of(input)
    }

    fn message(&mut self, message: TimedMessage) {
        let track = message.track;
        let Some(publisher) = self.publishers.get(track.push()) else { return };
        let newest = self.publishers.newest(track.push());
        if let Err(why) = self.metadata.add(message, publisher.clock, newest) {
            self.unusable(track, 1, why);
        }
    }

    /// Puts timed metadata that waits into the next parts.
    fn carry(&mut self) {
        let Some(presentation) = &mut self.presentation else { return };
        let messages = self.metadata.take(|message| presentation.media_of(message));
        self.outputs.extend(presentation.carry(messages));
    }

    fn unit(&mut self, clocks: Clocks, unit: AccessUnit) {
        let input = unit.track;
        let Some(scale) = self.publishers.get(input.push()).map(|publisher| publisher.clock.scale) else { return };
        let unit = match self.publishers.unit(clocks, unit) {
            Ok(unit) => unit,
            Err(why) => return self.unusable(input, 1, why),
        };
        let (units, notice) = self.stamps.take(unit, scale);
        self.outputs.extend(notice.map(Output::Diagnostic));
        for unit in units {
            self.stamped_unit(clocks, unit);
        }
    }

    /// Takes a unit whose timestamp is believed.
    fn stamped_unit(&mut self, clocks: Clocks, mut unit: InputUnit) {
        let input = unit.track;
        self.publishers.lower(std::slice::from_mut(&mut unit), false);
        // A unit that was held may be of a push that was refused meanwhile.
        if self.publishers.source(input).is_none_or(|source| source.ignored) {
            return;
        }
        if let Some(joiner) = self.renditions.joiner_of(input) {
            return self.wait_for_place(clocks, joiner, unit);
        }
        let live = self.phase == Phase::Live;
        self.silence.heard(clocks.now, live || self.presentation.is_none());
        match self.track_of(input) {
            _ if !live => self.preroll.push(unit),
            Some(track) => self.live_unit(track, unit),
            None if self.shares_sound(input) => self.spare_unit(unit),
            None => self.late_unit(clocks, unit),
        }
        self.try_begin(clocks);
    }

    /// Returns whether a track is the sound that all renditions share.
    fn shares_sound(&self, input: InputTrack) -> bool {
        let rendition = self.publishers.rendition(input.push());
        let shares = |presentation: &Presentation| presentation.shares_sound(input, rendition);
        !self.publishers.is_video(input) && self.presentation.as_ref().is_some_and(shares)
    }

    /// Takes a unit in the middle of a period.
    fn live_unit(&mut self, track: usize, unit: InputUnit) {
        let Some(presentation) = &mut self.presentation else { return };
        match presentation.timing(track, &unit) {
            UnitTiming::InStep => {
                self.outputs.extend(presentation.feed(track, unit));
                self.in_step();
            }
            UnitTiming::Jump { behind, ahead } => {
                self.diagnose(Diagnostic::Jump { track: unit.track, behind, ahead });
                if self.step_out(unit.track.push()) {
                    self.wait(unit);
                } else {
                    self.interrupt(true);
                    self.preroll.push(unit);
                }
            }
            // A track that this publisher hadn't sent before.
            UnitTiming::Unknown => {
                self.interrupt(false);
                self.preroll.push(unit);
            }
        }
    }

    /// Publishes all units so far; the next unit begins a new period.
    fn interrupt(&mut self, need_keyframe: bool) {
        if let Some(presentation) = self.presentation.as_mut().filter(|_| self.phase == Phase::Live) {
            self.outputs.extend(presentation.flush());
            self.phase = Phase::Gathering;
            self.preroll.restart(need_keyframe);
            for unit in self.renditions.drain_tracks() {
                self.preroll.push(unit);
            }
        }
    }

    /// Interrupts, and lets all pushes that wait for a place begin together.
    fn anew(&mut self, need_keyframe: bool) {
        self.interrupt(need_keyframe);
        for unit in self.renditions.drain(self.publishers.in_order()) {
            self.preroll.push(unit);
        }
    }

    /// Begins the presentation or the next period if the preroll suffices. Returns whether it did.
    fn try_begin(&mut self, clocks: Clocks) -> bool {
        if !self.is_gathering() {
            return false;
        }
        let lead = self.publishers.lead(|track| self.preroll.has(track));
        let Some((lead, publisher)) = lead.and_then(|lead| Some((lead, self.publishers.get(lead)?))) else {
            return false;
        };
        let publishers = &self.publishers;
        let ready = match &self.presentation {
            None => self.preroll.presentation_ready(lead, publishers, clocks.now),
            Some(presentation) => {
                let spaced = self.period_began.is_none_or(|began| clocks.now >= began + PERIOD_MIN);
                let (expected, (target, _)) = (presentation.expected(publisher), presentation.durations());
                (spaced || self.preroll.is_full())
                    && self.preroll.period_ready(lead, publishers, expected, target, clocks.now)
            }
        };
        if ready {
            self.begin(clocks, lead);
        }
        ready
    }

    fn begin(&mut self, clocks: Clocks, lead: PushId) {
        self.publishers.lower(self.preroll.units_mut(), true);
        let (aligned, dropped) = align(&mut self.preroll, lead, &self.publishers);
        self.outputs.extend(dropped.into_iter().map(Output::Diagnostic));
        let Some(aligned) = aligned else {
            self.preroll.restart(true);
            return;
        };
        let fresh = self.presentation.is_none();
        if fresh {
            self.begin_presentation(clocks, lead, &aligned);
        }
        let Some((presentation, publisher)) = self.presentation.as_mut().zip(self.publishers.get(lead)) else { return };
        presentation.set_wall(clocks.wall);
        let Aligned { units, base, others } = aligned;
        let ignored = presentation.settle(lead, &self.publishers, &units);
        let comes = |push: PushId| push == lead || units.iter().any(|unit| unit.track.push() == push);
        let target = presentation.next_msn();
        self.renditions.begin_period(target, self.publishers.in_order().into_iter().filter(|&push| !comes(push)));
        let clock = publisher.clock;
        self.outputs.extend(presentation.begin_period(clock, &self.publishers, &units, base, fresh));
        for track in ignored {
            self.ignore(track, Refusal::NoPlace);
        }
        self.carry();
        for mut unit in units {
            let track = self.track_of(unit.track);
            let Some((presentation, track)) = self.presentation.as_mut().zip(track) else { continue };
            unit.dts = unit.dts.saturating_add(unit.shifted);
            self.outputs.extend(presentation.feed(track, unit));
        }
        self.phase = Phase::Live;
        self.period_began = Some(clocks.now);
        self.silence.begun();
        for unit in others.into_values().flatten() {
            if let Some(joiner) = self.renditions.joiner_of(unit.track) {
                self.wait_for_place(clocks, joiner, unit);
            }
        }
        self.reserve();
        self.in_step();
    }

    fn begin_presentation(&mut self, clocks: Clocks, lead: PushId, aligned: &Aligned) {
        // The first MSN of a presentation is the Unix time in whole seconds (docs/architecture.md, Invariants).
        let now = u32::try_from(clocks.wall.as_secs()).unwrap_or(u32::MAX);
        self.start.msn = self.start.msn.max(now);
        let opening = opening::open(&self.stream, &self.settings, lead, &self.publishers, aligned, self.start);
        let Some(opening) = opening else { return };
        let (presentation, notice) = Presentation::begin(opening, self.start.discontinuity);
        self.diagnose(notice);
        self.presentation = Some(presentation);
    }

    fn detach(&mut self, clocks: Clocks, push: PushId) {
        for unit in self.stamps.forget(push) {
            self.stamped_unit(clocks, unit);
        }
        if self.publishers.get(push).is_none() {
            return;
        }
        if self.publishers.count() > 1 {
            self.leave(push);
        } else {
            self.detach_all(clocks);
        }
    }

    fn detach_all(&mut self, clocks: Clocks) {
        for unit in self.publishers.in_order().into_iter().flat_map(|push| self.stamps.forget(push)).collect::<Vec<_>>()
        {
            self.stamped_unit(clocks, unit);
        }
        let lead = self.publishers.lead(|track| self.preroll.has(track)).filter(|_| self.is_gathering());
        if let Some(lead) = lead {
            self.begin(clocks, lead);
        }
        self.interrupt(false);
        self.phase = Phase::Away;
        self.publishers = Publishers::default();
        self.renditions = Renditions::default();
        self.preroll.restart(false);
    }

    fn end(&mut self) {
        let Some(presentation) = self.presentation.take() else { return };
        let (out, start) = presentation.end();
        self.outputs.extend(out);
        self.start = start;
        self.preroll.restart(true);
        self.metadata = Metadata::default();
    }

    fn cut(&mut self) {
        if let Some(presentation) = &mut self.presentation {
            self.outputs.extend(presentation.cut(false));
        }
    }

    /// Takes a unit of sound that another push sends at present.
    fn spare_unit(&mut self, unit: InputUnit) {
        let view = self.presentation.as_ref().map(Presentation::view);
        if view.is_some_and(|view| self.renditions.spare(unit, &view)) {
            self.take_sound();
        }
    }

    /// Feeds the shared sound from another push if the present one has stopped.
    fn take_sound(&mut self) {
        let Some(presentation) = &mut self.presentation else { return };
        let Some((track, before)) = presentation.silent_sound() else { return };
        let same = |codec: &Codec| before.is_none_or(|before| before == codec);
        let fits = |input| self.publishers.source(input).is_some_and(|source| same(&source.codec));
        let Some(units) = self.renditions.next_sound(fits) else { return };
        let source = units.front().and_then(|unit| self.publishers.source(unit.track));
        match source.and_then(|source| presentation.take_sound(track, source, &units)) {
            Some(out) => self.outputs.extend(out),
            None => self.renditions.put_back(units),
        }
    }
}
