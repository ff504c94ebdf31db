//! A stream whose publishers come and go.

use std::collections::VecDeque;
use std::time::Duration;

use super::align::{Aligned, align};
use super::diagnostic::{Diagnostic, Refusal, Unusable};
use super::io::{Input, Output};
use super::metadata::Metadata;
use super::opening;
use super::preroll::Preroll;
use super::presentation::{Lead, Presentation};
use super::publishers::{Configured, Publisher, Publishers};
use super::renditions::{Join, Joiner, Renditions};
use super::settings::Settings;
use super::silence::{Due, Silence};
use super::start_numbers::StartNumbers;
use super::timeline::{TRACKS_APART_MAX, UnitTiming};
use super::unit::{InputUnit, SegmentStart, micros};
use crate::codec::codec::Codec;
use crate::model::time::Time;
use crate::model::{AccessUnit, Clocks, CodecConfig, InputTrack, Msn, PushId, Resume, StreamName, TimedMessage};

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

    /// Leaves a track out until its push returns.
    fn ignore(&mut self, track: InputTrack, why: Refusal) {
        self.publishers.ignore(track);
        self.renditions.forget_track(track);
        self.diagnose(Diagnostic::TrackIgnored { track, why });
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
        let (input, push) = (unit.track, unit.track.push());
        if self.publishers.get(push).is_none() {
            return;
        }
        let unit = match self.publishers.unit(clocks, unit) {
            Ok(unit) => unit,
            Err(why) => return self.unusable(input, 1, why),
        };
        if self.publishers.source(input).is_some_and(|source| source.ignored) {
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

    /// Takes the first unit of a track that comes, or comes back, after the others of its push.
    fn late_unit(&mut self, clocks: Clocks, unit: InputUnit) {
        let Some(presentation) = &self.presentation else { return };
        let (track, view, joiner) = (unit.track, presentation.view(), Joiner::Track(unit.track));
        let off = view.period.micros(unit.dts).saturating_sub(micros(view.newest));
        let apart = |off: i64| Duration::from_micros(u64::try_from(off).unwrap_or(0));
        let (behind, ahead) = (apart(off.saturating_neg()), apart(off));
        if behind.max(ahead) > TRACKS_APART_MAX {
            // It has a clock of its own, and is put beside the others by its arrival.
            self.diagnose(Diagnostic::Jump { track, behind, ahead });
            self.interrupt(false);
            return self.preroll.push(unit);
        }
        self.diagnose(Diagnostic::TrackLate { track });
        self.renditions.join(joiner, view.next_msn);
        self.wait_for_place(clocks, joiner, unit);
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
                    self.interrupt(false);
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

    /// Takes a unit of what waits for a place.
    fn wait_for_place(&mut self, clocks: Clocks, joiner: Joiner, unit: InputUnit) {
        let (push, dts, now) = (unit.track.push(), unit.dts, unit.now);
        self.wait(unit);
        self.join(joiner);
        // Units from the preroll say nothing about how far the others are.
        let Some(presentation) = self.presentation.as_ref().filter(|_| now == clocks.now) else { return };
        if let Some(why) = self.renditions.apart(push, clocks.now, dts, &presentation.view()) {
            self.refuse(push, why);
        }
    }

    /// Returns the track by which a joiner is aligned, and whether that has pictures.
    fn guide(&self, joiner: Joiner) -> Option<(InputTrack, bool)> {
        match joiner {
            Joiner::Push(push) => self.publishers.guide(push),
            Joiner::Track(track) => Some((track, self.publishers.is_video(track))),
        }
    }

    /// Keeps a unit for later.
    fn wait(&mut self, unit: InputUnit) {
        let Some((presentation, joiner)) = self.presentation.as_ref().zip(self.renditions.joiner_of(unit.track)) else {
            return;
        };
        let guide = self.guide(joiner).map(|(track, _)| track);
        self.renditions.wait(unit, guide, |msn| presentation.segment(msn), &presentation.view());
    }

    /// Lets a push or a track join if the start of a segment is there, and its units for it.
    fn join(&mut self, joiner: Joiner) {
        let Some(guide) = self.guide(joiner).filter(|_| self.renditions.waits(joiner)) else { return };
        let Some(presentation) = &mut self.presentation else { return };
        let view = presentation.view();
        if !view.fed {
            return self.anew(true);
        }
        if guide.1 && !view.fed_video {
            return self.lead(joiner, guide.0);
        }
        let Some(source) = self.publishers.source(guide.0) else { return };
        let place = presentation.place_of(&source.codec, self.publishers.rendition(joiner.push()));
        let at = place.map(|track| presentation.msn(track));
        match self.renditions.look(joiner, guide, at, |msn| presentation.segment(msn), &view) {
            Join::Wait => {}
            Join::NotCut => presentation.break_for(place, &source.codec),
            Join::Misaligned(why) => self.turn_down(joiner, why),
            Join::Begin { segment, from, shifted } => self.take_place(joiner, guide.0, &segment, from, shifted),
        }
        self.reserve();
    }

    /// Lets pictures that come to sound alone begin a segment with their first keyframe: sound cuts where it likes.
    fn lead(&mut self, joiner: Joiner, guide: InputTrack) {
        let keyframe = self.renditions.keyframe(joiner, guide);
        let Some(((from, keyframe), presentation)) = keyframe.zip(self.presentation.as_mut()) else { return };
        let Some(source) = self.publishers.source(guide) else { return };
        let place = presentation.place_of(&source.codec, self.publishers.rendition(joiner.push()));
        presentation.break_for(place, &source.codec);
        match presentation.lead_with(keyframe, place.is_none()) {
            Lead::Later => {}
            Lead::Elsewhere => self.anew(true),
            Lead::Begun(segment, out) => {
                self.outputs.extend(out);
                self.take_place(joiner, guide, &segment, from, 0);
                self.reserve();
            }
        }
    }

    /// Lets a push or a track take its places with a segment, with which its unit at `from` begins.
    fn take_place(&mut self, joiner: Joiner, guide: InputTrack, segment: &SegmentStart, from: usize, shifted: i64) {
        let Some(presentation) = &mut self.presentation else { return };
        let (mut units, jumped) = self.renditions.take(joiner, from, &presentation.view());
        let dropped = Diagnostic::dropped(jumped.iter().map(|unit| unit.track), Unusable::Jumped);
        self.outputs.extend(dropped.map(Output::Diagnostic));
        for unit in units.iter_mut().filter(|unit| unit.track == guide) {
            unit.shifted = shifted;
        }
        let (placed, out) = presentation.join_push(&self.publishers, guide, &units, segment);
        self.outputs.extend(out);
        if !placed {
            return self.turn_down(joiner, Refusal::NoPlace);
        }
        for unit in units {
            match (self.track_of(unit.track), &mut self.presentation) {
                (Some(track), Some(presentation)) => self.outputs.extend(presentation.put(track, unit)),
                _ => self.spare_unit(unit),
            }
        }
        self.cut();
        self.in_step();
    }

    /// Tells a push that it can't be a part of the presentation; a track of a push that is one is ignored.
    fn turn_down(&mut self, joiner: Joiner, why: Refusal) {
        match joiner {
            Joiner::Push(push) => self.refuse(push, why),
            Joiner::Track(track) => self.ignore(track, why),
        }
    }

    fn cut(&mut self) {
        if let Some(presentation) = &mut self.presentation {
            self.outputs.extend(presentation.cut(false));
        }
    }

    /// Keeps the segments with which a push may still join.
    fn reserve(&mut self) {
        let keep = self.renditions.targets().map(|(_, target)| target).min();
        let place = |(joiner, target): (Joiner, Msn)| {
            let source = self.publishers.source(self.guide(joiner)?.0)?;
            let rendition = self.publishers.rendition(joiner.push());
            Some((self.presentation.as_ref()?.place_of(&source.codec, rendition)?, target))
        };
        let places: Vec<(usize, Msn)> = self.renditions.targets().filter_map(place).collect();
        if let Some(presentation) = &mut self.presentation {
            presentation.reserve(keep, &places);
        }
    }

    /// Detaches the pushes that fell out of alignment.
    fn in_step(&mut self) {
        while let Some(lost) = self.presentation.as_mut().and_then(Presentation::poll_lost) {
            if self.publishers.get(lost.push).is_none() || self.renditions.is_joining(lost.push) {
                continue;
            }
            match lost.misaligned {
                Some(micros) => self.refuse(lost.push, Refusal::Misaligned { micros }),
                None => drop(self.step_out(lost.push)),
            }
        }
    }

    /// Makes one of several live pushes join anew. Returns whether it is one of several.
    fn step_out(&mut self, push: PushId) -> bool {
        let Some(presentation) = self.presentation.as_mut().filter(|own| own.is_fed_beside(push)) else { return false };
        presentation.release(push);
        self.renditions.join(Joiner::Push(push), presentation.next_msn());
        self.outputs.extend(presentation.cut(false));
        self.diagnose(Diagnostic::Left { push });
        self.take_sound();
        true
    }

    /// Detaches one of several pushes.
    fn leave(&mut self, push: PushId) {
        let was = self.presentation.as_mut().is_some_and(|presentation| presentation.release(push));
        self.publishers.detach(push);
        self.renditions.forget(push);
        self.preroll.forget_push(push);
        self.cut();
        self.reserve();
        if was {
            self.diagnose(Diagnostic::Left { push });
            self.take_sound();
        }
        if !self.presentation.as_ref().is_some_and(Presentation::is_fed) {
            // No push is live any more: the waiting pushes begin again.
            self.anew(true);
        }
        self.in_step();
    }

    /// Refuses a push that can't be a part of the presentation, and detaches it.
    fn refuse(&mut self, push: PushId, why: Refusal) {
        self.diagnose(Diagnostic::Refused { push, why });
        self.outputs.push_back(Output::Refused { push, why });
        if self.publishers.get(push).is_some() {
            self.leave(push);
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
