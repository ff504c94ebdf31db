//! One life of a stream: its record, its tracks, its periods.

use std::collections::VecDeque;
use std::time::Duration;

use super::cutter::{Lost, Segmenter};
use super::diagnostic::{Notice, Unusable};
use super::io::Output;
use super::metadata::{Carried, Waiting};
use super::packager::{HOLE_MAX, Publisher, Settings, Source, TRACKS_MAX};
use super::plan::{Gops, Parts, Plan, frame_duration, frame_rate_milli};
use super::preroll::{Aligned, Raw};
use super::publishers::{Pushes, Sources};
use super::start_numbers::Floor;
use super::timeline::{Anchor, Placed, TrackClock, rescale};
use super::track::{Lane, Segment, Sink, Unit};
use super::track_names::{is_for, is_plain, name_for, names};
use crate::codec::codec::Codec;
use crate::model::time::{Timescale, UnixTime};
use crate::model::{Announced, Feed, InputClock, InputTrack, Resume};
use crate::model::{Epoch, LifeId, Msn, Period, Record, Rendition, Schemes, StreamName, Track, TrackId};

/// What a frame is taken to last where nothing says so: 25 fps.
const FRAME_RATE_UNKNOWN: u32 = 25_000;
/// A frame is never planned to last longer than a second, so that segments can be cut within TARGETDURATION.
const FRAME_RATE_MIN: u32 = 1_000;
/// BANDWIDTH is published anew when it has grown by more than a tenth.
const RATE_STEP: u64 = 10;
/// The least time from which a bit rate is told before the first segment is complete.
const RATE_SPAN_MIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Life {
    pub record: Record,
    pub segmenter: Segmenter,
    /// Where all that is numbered ends, decoded and shown.
    end: Duration,
    pub discontinuity: u32,
    /// What parts are meant to last; a life that was taken over is asked for it when its publisher is there.
    part: Option<Duration>,
    pub clock: InputClock,
    /// The reading of the input clock with which the period began, and when that was.
    base: i64,
    started: Duration,
    pub carried: Carried,
}

impl Life {
    /// Goes on with a life that another ingest, or this one before a restart, has begun.
    pub(crate) fn resume(resume: Resume) -> Life {
        let Resume { record, newest_msn, discontinuity, ends } = resume;
        let lanes = record.tracks.iter().map(|track| {
            let frame = match track.kind {
                crate::model::TrackKind::Video(v) if v.frame_rate_milli > 0 => frame_duration(v.frame_rate_milli),
                crate::model::TrackKind::Video(_) => frame_duration(FRAME_RATE_UNKNOWN),
                crate::model::TrackKind::Audio(_) => track.timescale.duration(usual_samples(&track.codec)),
            };
            let mut lane = Lane::new(track.clone(), None, track.timescale.ticks(frame), &record);
            lane.end = ends.iter().find(|(id, _)| *id == track.id).map_or(0, |&(_, end)| end);
            lane
        });
        let lanes: Vec<Lane> = lanes.collect();
        let end = lanes.iter().map(|lane| lane.media(lane.end)).max().unwrap_or_default();
        let began = record.periods.last().map_or(Duration::ZERO, |period| period.start);
        let anchor = Anchor::new(record.availability_start);
        let sink = Sink {
            out: VecDeque::new(),
            epoch: record.epoch,
            anchor,
            wall: record.availability_start,
            irregular: false,
        };
        let next_msn = newest_msn.max(record.first_msn).saturating_add(1);
        let segmenter = Segmenter::new(&record, lanes, sink, next_msn);
        let (clock, started) = (InputClock { scale: Timescale::MILLIS, wrap_bits: 32 }, Duration::ZERO);
        let carried = Carried::default();
        Life { record, segmenter, end: end.max(began), discontinuity, part: None, clock, base: 0, started, carried }
    }

    /// Begins a life with what was gathered: settles its tracks and what it freezes.
    pub(crate) fn begin(
        stream: &StreamName,
        settings: &Settings,
        (lead, pushes): (Feed, &Pushes),
        sources: &mut Sources,
        units: &Aligned,
        floor: Floor,
    ) -> Life {
        let publisher = pushes[&lead].publisher;
        let (clock, first_msn) = (publisher.clock, floor.msn);
        let epoch = floor.epoch.map_or(publisher.epoch, |floor| floor.max(publisher.epoch));
        let of = |track: InputTrack| units.raw.iter().filter(move |raw| raw.track == track);
        let names = names(lead, pushes, sources, units);
        let inputs: Vec<InputTrack> = names.iter().map(|(track, ..)| *track).collect();
        let stamps = |track| of(track).map(|raw| raw.dts).collect::<Vec<_>>();
        let rates: Vec<u32> = inputs
            .iter()
            .map(|&track| frame_rate_milli(&stamps(track), clock, sources[&track].codec.frame_rate_milli()))
            .map(|rate| rate.unwrap_or(FRAME_RATE_UNKNOWN).max(FRAME_RATE_MIN))
            .collect();
        let video = inputs.first().copied().filter(|track| sources[track].codec.is_video());
        let mut lasts = inputs.iter().zip(&rates).map(|(track, &rate)| {
            let codec = &sources[track].codec;
            let unit = of(*track).next().map(|raw| &raw.data[..]);
            (codec.is_video(), audio_unit(codec, unit).unwrap_or_else(|| frame_duration(rate)))
        });
        let frame = lasts.next().map_or(frame_duration(FRAME_RATE_UNKNOWN), |(_, frame)| frame);
        let audio = lasts.filter(|&(video, _)| !video).map(|(_, unit)| unit).collect();
        let gops = video.map(|track| Gops::measure(of(track), clock));
        let measured = gops.as_ref().map_or(settings.segment_aim, |gops| gops.segment(settings.segment_aim, frame));
        let segment = settings.segment.unwrap_or(measured);
        // A set length is published before its GOPs are known, and is believed until a cut has to be forced.
        let irregular = settings.segment.is_none() && gops.is_some_and(|gops| !gops.regular(frame));
        let parts = Parts::new(frame, clock.scale.duration(1), audio);
        let plan = Plan::new(segment, settings.part, parts);
        let start = units.raw.iter().map(|raw| raw.origin(units.base, clock.scale)).min().unwrap_or_default();
        let start = UnixTime::from_micros(start.as_millis() * 1_000);
        let mut record = Record {
            stream: stream.clone(),
            life: LifeId(floor.life.max(start.as_micros())),
            epoch,
            revision: floor.revision,
            first_msn,
            target_duration: plan.target_duration,
            part_target: plan.part_target,
            latency: settings.latency.max(plan.part_target * 3),
            segment_duration: plan.segment,
            messages: Schemes::default(),
            availability_start: start,
            tracks: Vec::new(),
            periods: Vec::new(),
            ended: None,
        };
        let mut lanes = Vec::new();
        for (n, ((input, name, language), &rate)) in names.into_iter().zip(&rates).enumerate() {
            let Some(source) = sources.get_mut(&input) else { continue };
            source.lane = Some(n);
            let timescale = source.codec.timescale();
            let unit = of(input).next().map(|raw| &raw.data[..]);
            let (bandwidth, frame) =
                (rate_of(of(input), clock.scale), lane_frame(&source.codec, unit, timescale, rate));
            let track = Track {
                id: TrackId(u8::try_from(n).expect("TRACKS_MAX tracks at most")),
                name,
                timescale,
                codec: source.codec.name(),
                language,
                bandwidth,
                average_bandwidth: bandwidth,
                kind: source.codec.kind(rate),
                inits: Vec::new(),
            };
            let mut lane = Lane::new(track, None, frame, &record);
            lane.configure(source.codec.clone(), rate);
            lane.input = Some(input);
            lanes.push(lane);
        }
        record.tracks = lanes.iter().map(|lane| lane.track.clone()).collect();
        let (out, anchor) = (VecDeque::new(), Anchor::new(start));
        let sink = Sink { out, epoch, anchor, wall: start, irregular };
        let segmenter = Segmenter::new(&record, lanes, sink, first_msn);
        let (end, discontinuity) = (Duration::ZERO, floor.discontinuity);
        let (part, started) = (Some(plan.part), Duration::ZERO);
        let carried = Carried::default();
        let mut life = Life { record, segmenter, end, discontinuity, part, clock, base: units.base, started, carried };
        life.segmenter.sink.notice(Notice::LifeBegan { first_msn, plan });
        let ignored = |(track, source): &(&InputTrack, &Source)| source.lane.is_none() && track.feed() == lead;
        for (&track, _) in sources.iter().filter(ignored) {
            life.segmenter.sink.notice(Notice::TrackIgnored { track });
        }
        life
    }

    /// A publisher is there: what is numbered from now on is of its epoch.
    pub(crate) fn attach(&mut self, epoch: Epoch) {
        self.segmenter.sink.epoch = self.segmenter.sink.epoch.max(epoch);
        for lane in &mut self.segmenter.lanes {
            lane.input = None;
            lane.clock = None;
        }
    }

    /// The place in the life of a push's track: the first of its name that is free.
    pub(crate) fn place_of(&self, codec: &Codec, rendition: Option<&Rendition>) -> Option<usize> {
        let free = |lane: &Lane| !lane.is_fed() && lane.track.is_video() == codec.is_video();
        self.segmenter.lanes.iter().position(|lane| free(lane) && is_for(&lane.track.name, codec, rendition))
    }

    /// Takes that place.
    pub(crate) fn claim(&mut self, input: InputTrack, codec: &Codec, rendition: Option<&Rendition>) -> Option<usize> {
        let free = self.place_of(codec, rendition)?;
        self.segmenter.lanes[free].input = Some(input);
        Some(free)
    }

    /// The same, or a track that is appended, of a push that comes to a life which others have begun.
    pub(crate) fn claim_or_append(
        &mut self,
        input: InputTrack,
        codec: &Codec,
        rendition: Option<&Rendition>,
    ) -> Option<usize> {
        if let Some(free) = self.claim(input, codec, rendition) {
            return Some(free);
        }
        let lanes = &self.segmenter.lanes;
        let known = |lane: &Lane| match rendition {
            Some(_) => is_for(&lane.track.name, codec, rendition),
            // A push without a rendition settles its tracks when it first comes.
            None => is_plain(&lane.track.name),
        };
        let (name, language) = name_for(codec, rendition)?;
        let taken = lanes.iter().any(|lane| known(lane) || lane.track.name == name);
        let id = u8::try_from(lanes.len()).ok().filter(|&id| usize::from(id) < TRACKS_MAX && !taken)?;
        let rate = codec
            .frame_rate_milli()
            .or(lanes.first().map(frame_rate))
            .unwrap_or(FRAME_RATE_UNKNOWN)
            .max(FRAME_RATE_MIN);
        let timescale = codec.timescale();
        let track = Track {
            id: TrackId(id),
            name,
            timescale,
            codec: codec.name(),
            language,
            bandwidth: 0,
            average_bandwidth: 0,
            kind: codec.kind(rate),
            inits: Vec::new(),
        };
        let mut lane = Lane::new(track, None, lane_frame(codec, None, timescale, rate), &self.record);
        lane.configure(codec.clone(), rate);
        lane.input = Some(input);
        self.segmenter.lanes.push(lane);
        Some(usize::from(id))
    }

    /// How many of its tracks the publisher will send.
    pub(crate) fn expected(&self, announced: &Announced, rendition: Option<&Rendition>) -> usize {
        let comes = |lane: &&Lane| match lane.track.is_video() {
            true => announced.video != Some(false),
            false => announced.audio != Some(false),
        };
        let own = |lane: &&Lane| match rendition {
            None => is_plain(&lane.track.name),
            Some(name) => lane.track.name == name.as_str(),
        };
        self.segmenter.lanes.iter().filter(own).filter(comes).count()
    }

    /// Begins the next period with what was gathered, and publishes it.
    pub(crate) fn begin_period(
        &mut self,
        publisher: &Publisher,
        sources: &Sources,
        units: Aligned,
        messages: &mut VecDeque<Waiting>,
        fresh: bool,
    ) {
        (self.clock, self.base) = (publisher.clock, units.base);
        let origin =
            units.raw.iter().map(|raw| raw.origin(units.base, publisher.clock.scale)).min().unwrap_or_default();
        // "a discontinuity begins at the wallclock's distance from the start, and never before the end of
        // what was numbered": on a whole millisecond, which every timescale of video can say.
        let start = if fresh { Duration::ZERO } else { self.end.max(self.segmenter.sink.anchor.media(origin)) };
        let start = Duration::from_millis(u64::try_from(start.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX));
        if !fresh {
            self.discontinuity = self.discontinuity.saturating_add(1);
        }
        self.started = start;
        self.segmenter.sink.anchor.restart();
        let mut begins = Vec::with_capacity(self.segmenter.lanes.len());
        for lane in &mut self.segmenter.lanes {
            let source = lane.input.and_then(|input| sources.get(&input));
            let first = units.raw.iter().find(|raw| Some(raw.track) == lane.input);
            lane.clock = source.map(|source| lane_clock(lane, source, first, units.base, publisher.clock, start));
            let clock = lane.clock.as_ref().zip(first);
            begins.push(
                clock.map(|(clock, first)| (clock.ticks(first.dts.saturating_add(first.shifted)), first.keyframe)),
            );
        }
        self.cut_parts(publisher.clock);
        // The first segment begins with its earliest unit, whichever track's: no track's is too long then.
        let lanes = || self.segmenter.lanes.iter().zip(&begins);
        let first = lanes().filter_map(|(lane, begin)| begin.map(|(ticks, _)| lane.media(ticks))).min();
        // In ticks of 44,100 Hz it lies a fraction before the start, and so before other tracks' ends.
        let first = first.unwrap_or(start).max(self.end);
        let forced = begins.iter().flatten().next().is_some_and(|(_, keyframe)| !keyframe);
        let shown = self.first_shown(&units).unwrap_or(first);
        let msn = self.segmenter.next_msn;
        for (lane, begin) in self.segmenter.lanes.iter_mut().zip(&begins) {
            let end = begin.map_or(lane.scale().ticks(first), |(ticks, _)| ticks);
            lane.restart(msn, first, end);
        }
        let tracks = self.sent();
        self.record.periods.push(Period { tracks, ..Period::new(msn, self.discontinuity, start) });
        self.forget_periods();
        self.publish();
        if !fresh {
            self.segmenter.sink.notice(Notice::PeriodBegan { first_msn: msn, discontinuity: self.discontinuity });
        }
        self.segmenter.begin(first, shown, self.discontinuity, forced);
        self.announce(messages);
        for mut raw in units.raw {
            let lane = sources.get(&raw.track).and_then(|source| source.lane);
            raw.dts = raw.dts.saturating_add(raw.shifted);
            if let Some(lane) = lane {
                self.feed(lane, raw);
            }
        }
    }

    /// The first track's parts are whole frames, and the audio beside it is cut at the same times.
    fn cut_parts(&mut self, clock: InputClock) {
        let lanes = &mut self.segmenter.lanes;
        let Some((leader, others)) = lanes.split_first() else { return };
        let frame = if leader.track.is_video() { frame_duration(frame_rate(leader)) } else { leader.frame_duration() };
        let audio = others.iter().filter(|lane| !lane.track.is_video()).map(Lane::frame_duration);
        let parts = Parts::new(frame, clock.scale.duration(1), audio.collect());
        let target = self.record.part_target;
        let meant = *self.part.get_or_insert_with(|| parts.meant(target));
        for (i, lane) in lanes.iter_mut().enumerate() {
            match i == 0 || lane.track.is_video() {
                true => lane.cut_parts(parts.longest(meant).min(target), None),
                false => lane.cut_parts(target, Some(meant)),
            }
        }
    }

    /// All that came becomes parts, and the segment under way ends.
    pub(crate) fn flush(&mut self) {
        while let Some(cut) = self.segmenter.go_on_to_the_end() {
            self.begun(cut);
        }
        if let Some(end) = self.segmenter.flush() {
            self.end = self.end.max(end);
        }
    }

    /// Numbers a segment in which nothing came.
    pub(crate) fn gap(&mut self) -> Msn {
        let msn = self.segmenter.next_msn;
        if self.record.epoch != self.segmenter.sink.epoch {
            self.publish();
        }
        self.end = self.segmenter.gap(self.end, self.discontinuity);
        msn
    }

    /// Ends the life; where the next one begins.
    pub(crate) fn end(&mut self) -> Floor {
        self.flush();
        let last_msn = self.segmenter.next_msn.saturating_sub(1);
        self.record.ended = Some(last_msn);
        self.publish();
        self.segmenter.sink.notice(Notice::LifeEnded { last_msn });
        Floor::after(&self.record, last_msn, self.discontinuity)
    }

    /// Puts out the record's next revision.
    pub(crate) fn publish(&mut self) {
        self.record.epoch = self.segmenter.sink.epoch;
        self.record.revision = self.record.revision.saturating_add(1);
        self.record.tracks = self.segmenter.lanes.iter().map(|lane| lane.track.clone()).collect();
        self.segmenter.sink.out.push_back(Output::Record(self.record.clone()));
    }

    /// Publishes the measured bit rates where a peak has grown notably.
    pub(crate) fn publish_rates(&mut self) {
        let grown = |(said, lane): (&Track, &Lane)| {
            let (said, found) = (u64::from(said.bandwidth), u64::from(lane.track.bandwidth));
            found > said + said / RATE_STEP
        };
        if self.record.tracks.iter().zip(&self.segmenter.lanes).any(grown) {
            self.publish();
        }
    }

    /// A unit of the period under way.
    pub(crate) fn feed(&mut self, lane: usize, raw: Raw) {
        self.put(lane, raw);
        self.go_on();
    }

    /// The same of one of several, after which [`go_on`](Life::go_on) is called.
    pub(crate) fn put(&mut self, lane: usize, raw: Raw) {
        let newest = self.segmenter.newest().max(self.started);
        let own = &mut self.segmenter.lanes[lane];
        if own.clock.as_ref().is_some_and(|clock| own.media(clock.ticks(raw.dts)) > newest + HOLE_MAX) {
            // All tracks would be filled with gaps up to there.
            let notice = Notice::Unusable { track: raw.track, units: 1, why: Unusable::Jumped };
            return self.segmenter.sink.notice(notice);
        }
        let Lane { clock, track, codec, .. } = own;
        let (Some(clock), scale) = (clock.as_mut(), track.timescale) else { return };
        let samples = codec.as_ref().and_then(|codec| codec.samples(Some(&raw.data)));
        let (dts, placed) = clock.place(raw.dts, samples.unwrap_or(0));
        let spell = |ticks: u64| scale.duration(ticks);
        match placed {
            Placed::Exact => {}
            Placed::Nudged(by) => self.segmenter.sink.notice(Notice::Nudged { track: raw.track, by: spell(by) }),
            Placed::Reanchored(by) => {
                let by = spell(by.unsigned_abs());
                self.segmenter.sink.notice(Notice::Reanchored { track: raw.track, by });
            }
        }
        let offset = rescale(raw.composition_offset.into(), self.clock.scale, scale);
        let composition_offset = i32::try_from(offset).unwrap_or(0);
        let unit = Unit { dts, composition_offset, keyframe: raw.keyframe, data: raw.data, arrived: raw.arrived };
        self.segmenter.place(lane, unit);
    }

    /// Cuts and publishes what may be, and says at each cut whose segments begin there.
    pub(crate) fn go_on(&mut self) {
        while let Some(cut) = self.segmenter.go_on() {
            self.begun(cut);
        }
    }

    /// The next rendition that is out of step: its lane, and how far if its keyframes are.
    pub(crate) fn poll_lost(&mut self) -> Option<(usize, Option<i64>)> {
        Some(match self.segmenter.poll_lost()? {
            Lost::Misaligned { lane, micros } => (lane, Some(micros)),
            Lost::Stalled { lane } => (lane, None),
        })
    }

    /// When the first picture of the lead is shown.
    fn first_shown(&self, units: &Aligned) -> Option<Duration> {
        let lane = self.segmenter.lanes.iter().find(|lane| lane.track.is_video() && lane.clock.is_some())?;
        let raw = units.raw.iter().find(|raw| Some(raw.track) == lane.input)?;
        let ticks = lane.clock.as_ref()?.ticks(raw.shown().saturating_add(raw.shifted));
        Some(lane.media(ticks))
    }

    /// A track begins, or goes on, with a segment that others have begun: `first` is its first unit.
    pub(crate) fn join(&mut self, lane: usize, source: &Source, first: &Raw, segment: Segment) {
        let (base, clock, started) = (self.base, self.clock, self.started);
        let fresh = self.segmenter.lanes[lane].msn == 0;
        if !fresh {
            // With the headers it had, before others are its own that no record has yet.
            self.segmenter.lanes[lane].waiting.clear();
            self.segmenter.catch_up(lane, segment.msn);
        }
        let own = &mut self.segmenter.lanes[lane];
        let way = lane_clock(own, source, Some(first), base, clock, started);
        if fresh {
            let end = way.ticks(first.dts).min(own.scale().ticks(segment.start) + own.frame);
            own.restart(segment.msn, segment.start, end);
        }
        (own.clock, own.input) = (Some(way), Some(first.track));
        own.newest = own.newest.max(segment.start);
        let id = own.track.id;
        self.cut_parts(clock);
        self.include(id, &segment);
        self.publish();
        self.segmenter.sink.notice(Notice::Joined { track: id, first_msn: segment.msn });
    }

    /// A push is gone: what came of it is published, and its tracks number gaps. Says whether it had any.
    pub(crate) fn release(&mut self, feed: Feed) -> bool {
        let mut any = false;
        for lane in self.segmenter.lanes.iter_mut().filter(|lane| lane.input.is_some_and(|i| i.feed() == feed)) {
            (lane.input, any) = (None, true);
        }
        any
    }

    /// A track's place is free again.
    pub(crate) fn give_back(&mut self, track: InputTrack) {
        for lane in self.segmenter.lanes.iter_mut().filter(|lane| lane.input == Some(track)) {
            lane.input = None;
        }
    }

    /// Whether any track is fed; with `video`, whether pictures are.
    pub(crate) fn is_fed(&self, video: bool) -> bool {
        self.segmenter.lanes.iter().any(|lane| lane.is_fed() && (!video || lane.track.is_video()))
    }

    /// The media time of a reading of the input clock, in microseconds.
    pub(crate) fn micros(&self, ticks: i64) -> i64 {
        let scale = Timescale::new(1_000_000).unwrap_or(Timescale::MILLIS);
        let started = i64::try_from(self.started.as_micros()).unwrap_or(i64::MAX);
        rescale(ticks.saturating_sub(self.base), self.clock.scale, scale).saturating_add(started)
    }

    /// How far the track that leads has come: others may be ahead of it.
    pub(crate) fn newest(&self) -> Duration {
        self.segmenter.lanes.get(self.segmenter.leader()).map_or(Duration::ZERO, |lane| lane.newest)
    }

    /// What a picture of the track that leads lasts.
    pub(crate) fn frame(&self) -> Duration {
        self.segmenter.lanes.get(self.segmenter.leader()).map_or(Duration::ZERO, Lane::frame_duration)
    }

    /// The sound that all renditions share, by its place.
    pub(crate) fn shared_sound(&self) -> Option<usize> {
        self.segmenter.lanes.iter().position(|lane| lane.track.name == "audio")
    }

    /// Feeds the shared sound from another push: with those of its newest units that are still to come. Says whether
    /// there were any.
    pub(crate) fn adopt(&mut self, lane: usize, source: &Source, units: &VecDeque<Raw>) -> bool {
        let (base, clock, started) = (self.base, self.clock, self.started);
        let own = &mut self.segmenter.lanes[lane];
        let (end, half) = (own.decode_end(), own.frame_duration() / 2);
        let end = own.waiting.back().map_or(end, |unit| own.media(unit.dts + own.frame));
        let way = TrackClock::new(clock, own.scale(), base, started);
        let Some(first) = units.iter().find(|raw| own.media(way.ticks(raw.dts)) + half >= end) else { return false };
        let from = first.dts;
        let configured = own.codec.as_ref() != Some(&source.codec);
        own.clock = Some(lane_clock(own, source, Some(first), base, clock, started));
        own.input = Some(first.track);
        if configured {
            self.publish();
        }
        for raw in units.iter().filter(|raw| raw.dts >= from) {
            self.put(lane, raw.clone());
        }
        self.go_on();
        true
    }
}

/// A track's way to media time for a period that begins with the unit at `base`, at `start`; and its codec,
/// if that has changed.
fn lane_clock(
    lane: &mut Lane,
    source: &Source,
    first: Option<&Raw>,
    base: i64,
    input: InputClock,
    start: Duration,
) -> TrackClock {
    if lane.codec.as_ref() != Some(&source.codec) {
        let rate = source.codec.frame_rate_milli().unwrap_or_else(|| frame_rate(lane)).max(FRAME_RATE_MIN);
        let unit = first.map(|raw| &raw.data[..]);
        lane.frame = lane_frame(&source.codec, unit, lane.scale(), rate);
        lane.configure(source.codec.clone(), rate);
    }
    let base = base.saturating_add(first.map_or(0, |raw| raw.shifted));
    let clock = TrackClock::new(input, lane.scale(), base, start);
    match source.codec.sample_rate() {
        0 => clock,
        rate => clock.counting(rate),
    }
}

/// What a unit of an audio codec lasts: this one, or any.
fn audio_unit(codec: &Codec, unit: Option<&[u8]>) -> Option<Duration> {
    let samples = codec.samples(unit)?;
    Some(Duration::from_secs_f64(f64::from(samples) / f64::from(codec.sample_rate().max(1))))
}

/// The samples of a unit, of a codec whose headers weren't seen.
fn usual_samples(name: &str) -> u64 {
    match name {
        "opus" => crate::codec::opus::SAMPLES_USUAL.into(),
        "ac-3" | "ec-3" => crate::codec::ac3::SAMPLES.into(),
        _ => 1_024,
    }
}

/// The same in ticks of its track, or what a video frame lasts.
fn lane_frame(codec: &Codec, unit: Option<&[u8]>, scale: Timescale, rate_milli: u32) -> u64 {
    scale.ticks(audio_unit(codec, unit).unwrap_or_else(|| frame_duration(rate_milli)))
}

fn frame_rate(lane: &Lane) -> u32 {
    match lane.track.kind {
        crate::model::TrackKind::Video(video) if video.frame_rate_milli > 0 => video.frame_rate_milli,
        _ => FRAME_RATE_UNKNOWN,
    }
}

/// The bit rate of what was gathered; 0 where that is too little.
fn rate_of<'a>(units: impl Iterator<Item = &'a Raw> + Clone, scale: Timescale) -> u32 {
    let stamps = units.clone().map(|raw| raw.dts);
    let (Some(first), Some(last)) = (stamps.clone().min(), stamps.max()) else { return 0 };
    let span = scale.duration(u64::try_from(last.saturating_sub(first)).unwrap_or(0));
    if span < RATE_SPAN_MIN {
        return 0;
    }
    let bytes: usize = units.map(|raw| raw.data.len()).sum();
    u32::try_from(bytes as u128 * 8_000_000 / span.as_micros()).unwrap_or(u32::MAX)
}
