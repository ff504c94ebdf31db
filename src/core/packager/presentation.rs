//! One presentation: its record and its tracks, from period to period.

use std::collections::VecDeque;
use std::time::Duration;

use super::audio_fill::{self, AudioFill};
use super::cutter::Cutter;
use super::diagnostic::{Diagnostic, Unusable};
use super::io::Output;
use super::metadata::Waiting;
use super::opening::Opening;
use super::periods::{Periods, Sent};
use super::publishers::{Publisher, Publishers, Source};
use super::renditions::PresentationView;
use super::start_numbers::StartNumbers;
use super::step::{Lost, Step, TrackEnd};
use super::timeline::{HOLE_MAX, TRACKS_APART_MAX, UnitTiming};
use super::track::TrackMuxer;
use super::tracks::{carry, cut_parts, expected, further, have_grown, leader, list, places};
use super::unit::{InputUnit, PeriodStart, SegmentStart, Stamp};
use crate::codec::codec::Codec;
use crate::model::time::{Timescale, UnixTime};
use crate::model::{Epoch, InputClock, InputTrack, Msn, PushId, Record, Rendition, Resume};

/// Sound that lags this far behind the pictures is taken from another push, before the cutter's patience ends or silence begins.
const SOUND_SILENT_MAX: Duration = Duration::from_millis(400);

/// The outcome for a keyframe that would lead.
#[derive(Debug)]
pub(super) enum Lead {
    Begun(SegmentStart, Vec<Output>),
    /// Sound has a cut of its own to come before it.
    Later,
    /// Its time is numbered already, or another clock's: only a new period has room for it.
    Elsewhere,
}

/// A stream from when its first publisher begins until it has been away for long.
#[derive(Debug)]
pub(super) struct Presentation {
    record: Record,
    epoch: Epoch,
    wall: UnixTime,
    period: PeriodStart,
    periods: Periods,
    cutter: Cutter,
    audio_fill: AudioFill,
    tracks: Vec<TrackMuxer>,
    /// The end of all numbered parts, decoded and shown.
    end: Duration,
    /// The planned length of parts; unknown for a presentation that was taken over, until its publisher has come.
    part: Option<Duration>,
}

impl Presentation {
    /// Goes on with a presentation that another ingest, or this one before a restart, has begun.
    pub(super) fn resume(resume: Resume) -> Presentation {
        let Resume { record, newest_msn, discontinuity, ends } = resume;
        let next_msn = newest_msn.max(record.first_msn).saturating_add(1);
        let cutter = Cutter::new(&record, next_msn, false);
        let mut resumed = Presentation::new(record, cutter, discontinuity, None);
        for track in resumed.record.tracks.clone() {
            let end = ends.iter().find(|(id, _)| *id == track.id).map_or(0, |&(_, end)| end);
            resumed.append(TrackMuxer::resume(track, end, &resumed.record), None);
        }
        let began = resumed.record.periods.last().map(|period| period.start);
        resumed.end = resumed.tracks.iter().map(TrackMuxer::numbered).chain(began).max().unwrap_or_default();
        resumed
    }

    /// Begins a presentation.
    pub(super) fn begin(opening: Opening, discontinuity: u32) -> (Presentation, Diagnostic) {
        let Opening { record, plan, irregular, longest_gop, tracks } = opening;
        let first_msn = record.first_msn;
        let mut cutter = Cutter::new(&record, first_msn, irregular);
        cutter.expect_keyframes(longest_gop);
        let mut begun = Presentation::new(record, cutter, discontinuity, Some(plan.part));
        for (input, muxer) in tracks {
            begun.append(muxer, Some(input));
        }
        begun.record.tracks = list(&begun.tracks);
        (begun, Diagnostic::PresentationBegan { first_msn, plan })
    }

    fn new(record: Record, cutter: Cutter, discontinuity: u32, part: Option<Duration>) -> Self {
        let clock = InputClock { scale: Timescale::MILLIS, wrap_bits: 32 };
        Presentation {
            epoch: record.epoch,
            wall: record.availability_start,
            period: PeriodStart { clock, base: 0, start: Duration::ZERO },
            periods: Periods::new(&record, discontinuity),
            cutter,
            audio_fill: AudioFill::default(),
            tracks: Vec::new(),
            end: Duration::ZERO,
            part,
            record,
        }
    }

    fn append(&mut self, muxer: TrackMuxer, input: Option<InputTrack>) {
        self.cutter.append(muxer.track(), muxer.frame(), input);
        self.tracks.push(muxer);
    }

    /// Takes a publisher, whose epoch numbers the parts from now on.
    pub(super) fn attach(&mut self, epoch: Epoch) {
        self.epoch = self.epoch.max(epoch);
        self.cutter.release(|_| true);
        self.tracks.iter_mut().for_each(TrackMuxer::stop);
    }

    /// Sets the wallclock.
    pub(super) fn set_wall(&mut self, wall: UnixTime) {
        self.wall = wall;
    }

    /// Returns TARGETDURATION and what segments aim at.
    pub(super) fn durations(&self) -> (Duration, Duration) {
        (self.record.target(), self.record.segment_duration)
    }

    pub(super) fn next_msn(&self) -> Msn {
        self.cutter.next_msn()
    }

    /// Returns a segment that a push may begin with.
    pub(super) fn segment(&self, msn: Msn) -> Option<SegmentStart> {
        self.cutter.segment(msn)
    }

    /// Returns the segment that a track is in.
    pub(super) fn msn(&self, track: usize) -> Msn {
        self.cutter.msn(track)
    }

    /// Returns the track that an input track feeds.
    pub(super) fn track_of(&self, input: InputTrack) -> Option<usize> {
        self.cutter.track_of(input)
    }

    /// Returns the facts that joining pushes need.
    pub(super) fn view(&self) -> PresentationView {
        let (newest, frame) = self.cutter.lead();
        let (period, next_msn) = (self.period, self.next_msn());
        let fed_video = self.fed().any(|muxer| muxer.is_video());
        PresentationView { period, newest, frame, next_msn, fed: self.is_fed(), fed_video }
    }

    /// Returns whether any track is fed.
    pub(super) fn is_fed(&self) -> bool {
        self.fed().next().is_some()
    }

    /// Returns whether a track is fed by another push.
    pub(super) fn is_fed_beside(&self, push: PushId) -> bool {
        (0..self.tracks.len()).any(|i| self.cutter.input(i).is_some_and(|input| input.push() != push))
    }

    fn is_fed_at(&self, track: usize) -> bool {
        self.cutter.input(track).is_some()
    }

    fn fed(&self) -> impl Iterator<Item = &TrackMuxer> {
        self.tracks.iter().enumerate().filter(|(i, _)| self.is_fed_at(*i)).map(|(_, muxer)| muxer)
    }

    /// Returns the place of a push's track: the first of its name that is free.
    pub(super) fn place_of(&self, codec: &Codec, rendition: Option<&Rendition>) -> Option<usize> {
        places(&self.tracks, codec, rendition).find(|&track| !self.is_fed_at(track))
    }

    /// Takes the place of a push's track, or appends one. Returns it.
    fn claim(&mut self, input: InputTrack, source: &Source, rendition: Option<&Rendition>) -> Option<usize> {
        if let Some(free) = self.place_of(&source.codec, rendition) {
            self.cutter.feed(free, Some(input));
            return Some(free);
        }
        self.append(further(&self.tracks, source, rendition, &self.record)?, Some(input));
        self.track_of(input)
    }

    /// Gives places to the tracks that begin with the leading push; those of other pushes, and pictures, lose theirs until they
    /// join. Returns the tracks for which there is no place.
    pub(super) fn settle(&mut self, lead: PushId, publishers: &Publishers, units: &[InputUnit]) -> Vec<InputTrack> {
        let mut ignored = Vec::new();
        for (track, source) in publishers.sources() {
            let comes = units.iter().any(|unit| unit.track == track);
            if !comes && (track.push() != lead || source.codec.is_video()) {
                self.cutter.release(|input| input == track);
            } else if comes && self.track_of(track).is_none() {
                let place = self.claim(track, source, publishers.rendition(track.push()));
                ignored.extend(place.is_none().then_some(track));
            }
        }
        ignored
    }

    /// Returns the number of tracks that a publisher will send.
    pub(super) fn expected(&self, publisher: &Publisher) -> usize {
        expected(&self.tracks, publisher.announced, publisher.rendition.as_ref())
    }

    /// Begins the next period with the preroll's units. [`carry`](Presentation::carry) and [`feed`](Presentation::feed) publish
    /// it.
    pub(super) fn begin_period(
        &mut self,
        clock: InputClock,
        publishers: &Publishers,
        units: &[InputUnit],
        base: i64,
        fresh: bool,
    ) -> Vec<Output> {
        let origin = units.iter().map(|unit| unit.origin(base, clock.scale)).min().unwrap_or_default();
        // "a discontinuity begins at the wallclock's distance from the start, and never before the end of
        // what was numbered": on a whole millisecond, which every timescale of video can say.
        let start = if fresh { Duration::ZERO } else { self.end.max(self.cutter.media_at(origin)) };
        let start = Duration::from_millis(u64::try_from(start.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX));
        self.period = PeriodStart { clock, base, start };
        let first_of = |input: Option<InputTrack>| units.iter().find(|unit| Some(unit.track) == input);
        let mut begins = Vec::new();
        for (i, muxer) in self.tracks.iter_mut().enumerate() {
            let input = self.cutter.input(i);
            let first = first_of(input);
            muxer.stop();
            if let Some(source) = input.and_then(|input| publishers.source(input)) {
                muxer.follow(&self.period, source, first);
                self.cutter.set_frame(i, muxer.frame());
            }
            let ticks = |first: &InputUnit| muxer.ticks(first.dts.saturating_add(first.shifted));
            begins.push(first.and_then(|first| Some((ticks(first)?, first.keyframe))));
        }
        self.cut_parts();
        // The first segment begins with its earliest unit, whichever track's: no track's is too long then.
        let timed = self.tracks.iter().zip(&begins);
        let first = timed.filter_map(|(muxer, begin)| begin.map(|(ticks, _)| muxer.media(ticks))).min();
        // In ticks of 44,100 Hz it lies a fraction before the start, and so before other tracks' ends.
        let first = first.unwrap_or(start).max(self.end);
        let forced = begins.iter().flatten().any(|(_, keyframe)| !keyframe);
        let shown = self.first_shown(units).unwrap_or(first);
        for (muxer, begin) in self.tracks.iter_mut().zip(&begins) {
            muxer.restart(begin.map_or(muxer.track().timescale.ticks(first), |(ticks, _)| ticks));
        }
        let (msn, sent) = (self.next_msn(), self.sent());
        self.periods.begin(msn, start, &sent, fresh);
        let mut out = vec![self.publish()];
        let discontinuity = self.periods.discontinuity();
        if !fresh {
            out.push(Output::Diagnostic(Diagnostic::PeriodBegan { first_msn: msn, discontinuity }));
        }
        self.cutter.begin(first, shown, discontinuity, forced);
        let inputs: Vec<_> = (0..self.tracks.len()).map(|track| self.cutter.input(track)).collect();
        self.audio_fill.begin(&inputs, units, clock, first);
        out
    }

    fn cut_parts(&mut self) {
        let tick = self.period.clock.scale.duration(1);
        self.part = cut_parts(&mut self.tracks, tick, self.record.part_target, self.part);
    }

    /// Returns the presentation time of the lead's first picture.
    fn first_shown(&self, units: &[InputUnit]) -> Option<Duration> {
        let timed = |(_, muxer): &(usize, &TrackMuxer)| muxer.is_video() && muxer.ticks(0).is_some();
        let (i, muxer) = self.tracks.iter().enumerate().find(timed)?;
        let unit = units.iter().find(|unit| Some(unit.track) == self.cutter.input(i))?;
        Some(muxer.media(muxer.ticks(unit.shown().saturating_add(unit.shifted))?))
    }

    /// Makes parts of all units so far, and ends the segment under way.
    pub(super) fn flush(&mut self) -> Vec<Output> {
        let mut out = self.cut(true);
        let ends: Vec<TrackEnd> = self.tracks.iter().map(TrackMuxer::ends).collect();
        if let Some((steps, shown)) = self.cutter.flush(&ends) {
            self.run(steps, &mut out);
            let numbered = self.tracks.iter().map(TrackMuxer::numbered).max().unwrap_or_default();
            self.end = self.end.max(shown).max(numbered);
        }
        out
    }

    /// Numbers a segment in which nothing came.
    pub(super) fn gap(&mut self) -> Vec<Output> {
        let (msn, mut out) = (self.next_msn(), Vec::new());
        if self.record.epoch != self.epoch {
            out.push(self.publish());
        }
        let ended = self.tracks.iter().map(TrackMuxer::numbered).min().unwrap_or(self.end);
        let (steps, end) = self.cutter.gap(self.end, ended, self.periods.discontinuity());
        self.run(steps, &mut out);
        self.end = end;
        out.push(Output::Diagnostic(Diagnostic::GapSegment { msn }));
        out
    }

    /// Ends the presentation. Returns where the next one begins, too.
    pub(super) fn end(mut self) -> (Vec<Output>, StartNumbers) {
        let mut out = self.flush();
        let last_msn = self.next_msn().saturating_sub(1);
        self.record.ended = Some(last_msn);
        out.push(self.publish());
        out.push(Output::Diagnostic(Diagnostic::PresentationEnded { last_msn }));
        (out, StartNumbers::after(&self.record, last_msn, self.periods.discontinuity()))
    }

    /// Returns the record's next revision.
    fn publish(&mut self) -> Output {
        self.record.epoch = self.epoch;
        self.record.revision = self.record.revision.saturating_add(1);
        self.record.tracks = list(&self.tracks);
        self.record.periods = self.periods.list().to_vec();
        Output::Record(self.record.clone())
    }

    /// Publishes the measured bit rates where a peak has grown notably.
    pub(super) fn publish_rates(&mut self) -> Option<Output> {
        have_grown(&self.tracks, &self.record.tracks).then(|| self.publish())
    }

    /// Returns the media time of a message; `None`: none of its push's tracks is timed.
    pub(super) fn media_of(&self, message: &Waiting) -> Option<Duration> {
        let of_push = |i: usize| self.cutter.input(i).is_some_and(|input| input.push() == message.push);
        let mut timed = self.tracks.iter().enumerate().filter(|(i, _)| of_push(*i));
        timed.find_map(|(_, muxer)| muxer.ticks(message.pts).map(|ticks| muxer.media(ticks)))
    }

    /// Puts timed metadata into the next part of each track that carries it: of all pictures, or of all sound where there are
    /// none.
    pub(super) fn carry(&mut self, messages: Vec<(Waiting, Duration)>) -> Option<Output> {
        let mut new = false;
        for (message, media) in messages {
            new |= !self.record.messages.contains(message.scheme);
            self.record.messages = self.record.messages.with(message.scheme);
            // The next part of a track that isn't fed may be an hour away.
            carry(&mut self.tracks, &message, media, |track| self.cutter.input(track).is_some());
        }
        new.then(|| self.publish())
    }

    /// Returns whether a unit of the period under way goes on with its track.
    pub(super) fn timing(&self, track: usize, unit: &InputUnit) -> UnitTiming {
        let (newest, due) = (self.cutter.newest(), self.cutter.media_at(unit.arrived));
        self.tracks[track].timing(unit.dts, newest, due)
    }

    /// Takes a unit of the period under way, or of what a period begins with.
    pub(super) fn feed(&mut self, track: usize, unit: InputUnit) -> Vec<Output> {
        let mut out = self.put(track, unit);
        out.extend(self.audio_fill.fill(&mut self.tracks, &mut self.cutter, self.wall));
        out.append(&mut self.cut(false));
        out
    }

    /// Takes one of several units, after which [`cut`](Presentation::cut) is called.
    pub(super) fn put(&mut self, track: usize, unit: InputUnit) -> Vec<Output> {
        let newest = self.cutter.newest().max(self.period.start);
        let muxer = &mut self.tracks[track];
        if muxer.ticks(unit.dts).is_some_and(|ticks| muxer.media(ticks) > newest + HOLE_MAX) {
            // All tracks would be filled with gaps up to this unit.
            let (track, why) = (unit.track, Unusable::Jumped);
            return vec![Output::Diagnostic(Diagnostic::Unusable { track, units: 1, why })];
        }
        let mut out = Vec::new();
        if !muxer.is_video()
            && let Some(ticks) = muxer.ticks(unit.dts)
        {
            let (at, missing, id) = (muxer.media(ticks), muxer.missing(unit.dts), muxer.track().id);
            let behind = self.cutter.newest_of(track).saturating_sub(at);
            self.audio_fill.heard(track, at, self.cutter.newest());
            if missing < 0 {
                return vec![Output::Diagnostic(Diagnostic::Late { track: id, behind })];
            }
            let silent = self.audio_fill.returned(track);
            let units = missing.unsigned_abs();
            out.extend(audio_fill::be_silent(
                &mut self.tracks[track],
                (track, &mut self.cutter),
                units,
                !silent,
                self.wall,
            ));
        }
        let Some((unit, notice)) = self.tracks[track].time(unit, &self.period) else { return out };
        self.cutter.place(track, unit);
        out.extend(notice.map(Output::Diagnostic));
        out
    }

    /// Cuts and publishes what may be; `all`: all that has come, before the segment under way ends.
    pub(super) fn cut(&mut self, all: bool) -> Vec<Output> {
        let mut out = Vec::new();
        loop {
            let steps = self.cutter.advance(all);
            let cut = matches!(steps.last(), Some(Step::Began(_)));
            self.run(steps, &mut out);
            if !cut {
                break;
            }
        }
        if !all {
            let steps = self.cutter.stalled();
            self.run(steps, &mut out);
        }
        out
    }

    fn run(&mut self, steps: Vec<Step>, out: &mut Vec<Output>) {
        let (epoch, wall) = (self.epoch, self.wall);
        for step in steps {
            match step {
                Step::Place { track, unit, segment, irregular } => {
                    match self.tracks[track].push(unit, &Stamp { segment, epoch, wall, irregular }) {
                        Ok(parts) => out.extend(parts),
                        Err(late) => {
                            self.cutter.late();
                            out.push(Output::Diagnostic(late));
                        }
                    }
                }
                Step::Close { track, at, next, segment, irregular } => {
                    out.extend(self.tracks[track].close(at, next, &Stamp { segment, epoch, wall, irregular }));
                }
                Step::Began(segment) => self.begun(&segment, out),
                Step::Tell(notice) => out.push(Output::Diagnostic(notice)),
            }
        }
    }

    /// Begins a segment, and a period if the tracks or their times need one.
    fn begun(&mut self, segment: &SegmentStart, out: &mut Vec<Output>) {
        let (before, sent) = (self.periods.discontinuity(), self.sent());
        if !self.periods.segment(segment, &sent) {
            return;
        }
        out.push(self.publish());
        if segment.discontinuity != before {
            let (first_msn, discontinuity) = (segment.msn, segment.discontinuity);
            out.push(Output::Diagnostic(Diagnostic::PeriodBegan { first_msn, discontinuity }));
        }
    }

    fn sent(&self) -> Vec<Sent> {
        let of = |(i, muxer): (usize, &TrackMuxer)| Sent {
            id: muxer.track().id,
            video: muxer.is_video(),
            fed: self.is_fed_at(i),
        };
        self.tracks.iter().enumerate().map(of).collect()
    }

    /// Returns the next push that isn't aligned: its track isn't fed any more.
    pub(super) fn poll_lost(&mut self) -> Option<Lost> {
        let lost = self.cutter.poll_lost()?;
        if self.cutter.input(lost.track).is_none() {
            self.tracks[lost.track].stop();
        }
        Some(lost)
    }

    /// Makes the next segment begin with a discontinuity if a track goes on with other headers then.
    pub(super) fn break_for(&mut self, place: Option<usize>, codec: &Codec) {
        // "EXT-X-DISCONTINUITY SHOULD be present if there is a change in encoding parameters" (rfc8216bis
        // 4.4.4.3); and then on every rendition, whose discontinuity sequence numbers have to match (6.2.4).
        let before = place.and_then(|track| self.tracks[track].codec());
        if before.is_some_and(|before| before != codec) {
            self.cutter.break_next();
        }
    }

    /// Keeps segments from `keep` on, and the places of tracks that pushes are about to join with a segment.
    pub(super) fn reserve(&mut self, keep: Option<Msn>, places: &[(usize, Msn)]) {
        self.cutter.reserve(keep, places);
    }

    /// Begins a segment with a keyframe of pictures that come to sound alone; `fresh`: their track is new.
    pub(super) fn lead_with(&mut self, keyframe: &InputUnit, fresh: bool) -> Lead {
        let media = |ticks: i64| Duration::from_micros(u64::try_from(self.period.micros(ticks)).unwrap_or(0));
        let (at, shown, newest) = (media(keyframe.dts), media(keyframe.shown()), self.cutter.newest());
        let begun =
            self.cutter.segment(self.next_msn().saturating_sub(1)).map_or(Duration::ZERO, |segment| segment.start);
        // What a track has numbered up to the segment's start can't be numbered again.
        let earliest = if fresh { newest.saturating_sub(TRACKS_APART_MAX) } else { begun };
        if at < earliest || at > newest + TRACKS_APART_MAX {
            return Lead::Elsewhere;
        }
        let Some((segment, steps)) = self.cutter.cut_at(at, shown) else { return Lead::Later };
        let mut out = Vec::new();
        self.run(steps, &mut out);
        Lead::Begun(segment, out)
    }

    /// Begins a track, or goes on with it, at a segment that others have begun: `first` is its first unit.
    fn join(&mut self, track: usize, source: &Source, first: &InputUnit, segment: &SegmentStart) -> Vec<Output> {
        let mut out = Vec::new();
        let (fresh, steps) = self.cutter.join(track, first.track, segment);
        // The end still has the old headers: no record has the new ones yet.
        self.run(steps, &mut out);
        let muxer = &mut self.tracks[track];
        muxer.follow(&self.period, source, Some(first));
        self.cutter.set_frame(track, muxer.frame());
        if fresh {
            let latest = muxer.track().timescale.ticks(segment.start) + muxer.frame();
            muxer.restart(muxer.ticks(first.dts).map_or(latest, |ticks| ticks.min(latest)));
            self.cutter.begun_at(track, muxer.numbered());
        }
        let id = muxer.track().id;
        let begins = muxer.ticks(first.shown()).map_or(segment.start, |ticks| muxer.media(ticks));
        if fresh && leader(&self.tracks) == Some(track) {
            // Planned for sound alone.
            self.part = None;
        }
        self.cut_parts();
        self.periods.include(id, segment, begins, self.cutter.next_msn());
        out.push(self.publish());
        out.push(Output::Diagnostic(Diagnostic::Joined { track: id, first_msn: segment.msn }));
        out
    }

    /// Gives a push its places from `segment` on, with which the first of its `units` begin. `guide` is the track by which it is
    /// aligned. Returns whether that has a place, too.
    pub(super) fn join_push(
        &mut self,
        publishers: &Publishers,
        guide: InputTrack,
        units: &[InputUnit],
        segment: &SegmentStart,
    ) -> (bool, Vec<Output>) {
        let (push, mut out) = (guide.push(), Vec::new());
        for (input, source) in publishers.sources_of(push) {
            // One push feeds the sound that all share; the first push with sound brings the track.
            let shared = input != guide && !source.codec.is_video();
            if shared && self.shared_sound().is_some() {
                continue;
            }
            let Some(first) = units.iter().find(|unit| unit.track == input) else { continue };
            match self.claim(input, source, publishers.rendition(push)) {
                Some(track) => out.append(&mut self.join(track, source, first, segment)),
                None if input == guide => return (false, out),
                None => {}
            }
        }
        (true, out)
    }

    /// Detaches a push: its units so far are published, and its tracks have gaps from then on. Returns whether it had tracks.
    pub(super) fn release(&mut self, push: PushId) -> bool {
        self.cutter.release(|input| input.push() == push)
    }

    /// Returns the place of the sound that all renditions share.
    fn shared_sound(&self) -> Option<usize> {
        self.tracks.iter().position(|muxer| muxer.track().name == "audio")
    }

    /// Returns whether a push's sound is the one that all renditions share, which another push may feed.
    pub(super) fn shares_sound(&self, input: InputTrack, rendition: Option<&Rendition>) -> bool {
        let shared = self.shared_sound().map(|sound| self.cutter.input(sound));
        shared.is_some_and(|fed| rendition.is_some() || fed.is_some_and(|fed| fed.push() != input.push()))
    }

    /// Returns the place of that sound, and its codec, if it isn't fed or stays behind.
    pub(super) fn silent_sound(&self) -> Option<(usize, Option<&Codec>)> {
        let track = self.shared_sound()?;
        let heard = self.audio_fill.newest(track).unwrap_or_else(|| self.cutter.newest_of(track));
        let lags = heard + SOUND_SILENT_MAX < self.cutter.newest();
        (lags || self.cutter.input(track).is_none()).then(|| (track, self.tracks[track].codec()))
    }

    /// Feeds the shared sound from another push: with those of its newest units that are still to come, if there are any.
    pub(super) fn take_sound(
        &mut self,
        track: usize,
        source: &Source,
        units: &VecDeque<InputUnit>,
    ) -> Option<Vec<Output>> {
        let muxer = &mut self.tracks[track];
        let end = self.cutter.waiting_end(track).unwrap_or(muxer.ends().decoded);
        let half = muxer.frame_duration() / 2;
        let micros = |unit: &InputUnit| muxer.untimed(&self.period, unit.dts);
        let first = units.iter().find(|unit| micros(unit) + half >= end)?;
        let mut out = Vec::new();
        let configured = muxer.codec() != Some(&source.codec);
        muxer.follow(&self.period, source, Some(first));
        self.cutter.set_frame(track, muxer.frame());
        self.cutter.feed(track, Some(first.track));
        if configured {
            out.push(self.publish());
        }
        for unit in units.iter().filter(|unit| unit.dts >= first.dts) {
            out.append(&mut self.put(track, unit.clone()));
        }
        out.append(&mut self.cut(false));
        Some(out)
    }
}

#[cfg(test)]
mod tests;
