//! Lives, epochs, periods and silence: what becomes of a stream whose publisher comes and goes.
//!
//! ```text
//!          Attached                 tracks there, GOPs measured
//!   Away -----------> Gathering ------------------------------> Live
//!    ^                 |   ^                                     | |
//!    |    Detached     |   |  silence, jump, headers changed     | |
//!    +-----------------+   +-------------------------------------+ |
//!    +-------------------------------------------------------------+
//!          Detached: all that came is published first
//! ```
//!
//! While a life isn't `Live` and nothing is gathered, gap segments are numbered in real time, and the
//! linger ends the life.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::codec::Codec;
use super::gather::{Gathered, Raw, TRACKS_APART_MAX};
use super::lane::UNIT_LEN_MAX;
use super::life::{Floor, Life};
use super::timeline::{BACKWARD_MAX, unwrap};
use super::{
    AccessUnit, Announced, Clocks, CodecConfig, Input, InputClock, InputTrack, Notice, Output, Resume, Unusable,
};
use crate::live::{Epoch, StreamName};
use crate::units::Time;

/// Most input tracks of a publisher.
pub const INPUTS_MAX: usize = 16;
/// A timestamp may run ahead of the last one by this much whatever the wallclock says.
const FORWARD_MAX: Duration = Duration::from_secs(1);
/// And by this much if as much time has really passed: frames were lost on the way, and no clock jumped.
const HOLE_MAX: Duration = Duration::from_secs(10);
/// Periods are no shorter: a publisher that jumps at every frame must not flood the swarm with records.
const PERIOD_MIN: Duration = Duration::from_secs(1);

/// What can be set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// What segments aim at, where GOPs are measured: 2-10 s.
    pub segment_aim: Duration,
    /// The length of segments, without measuring: 2-10 s.
    pub segment: Option<Duration>,
    /// What parts reach: 0.1-1 s.
    pub part: Duration,
    /// How long a life outlasts its publisher.
    pub linger: Duration,
    /// How long to wait for a kind of track of which nothing is said.
    pub track_wait: Duration,
    /// How long to wait for one that is announced.
    pub announced_wait: Duration,
    /// How long GOPs are measured before the first publication.
    pub measure: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        // DESIGN's media rules; the waits are guesses, below the measure that goes on meanwhile.
        Settings {
            segment_aim: Duration::from_secs(2),
            segment: None,
            part: Duration::from_millis(200),
            linger: Duration::from_secs(30),
            track_wait: Duration::from_secs(1),
            announced_wait: Duration::from_secs(3),
            measure: Duration::from_secs(4),
        }
    }
}

impl Settings {
    /// The same with every value inside its range.
    pub fn clamped(mut self) -> Self {
        let (shortest, longest) = (Duration::from_secs(2), Duration::from_secs(10));
        self.segment_aim = self.segment_aim.clamp(shortest, longest);
        self.segment = self.segment.map(|segment| segment.clamp(shortest, longest));
        self.part = self.part.clamp(Duration::from_millis(100), Duration::from_secs(1));
        self.linger = self.linger.min(Duration::from_secs(3_600));
        self.measure = self.measure.min(Duration::from_secs(10));
        self
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Publisher {
    pub epoch: Epoch,
    pub clock: InputClock,
    pub announced: Announced,
}

/// A track of the publisher.
#[derive(Debug)]
pub(super) struct Source {
    pub codec: Codec,
    /// Its place in the life; none before the life begins, or if the life has none.
    pub lane: Option<usize>,
    /// The timestamp of its newest unit, unwrapped.
    last: Option<i64>,
}

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
    publisher: Option<Publisher>,
    sources: BTreeMap<InputTrack, Source>,
    gathered: Gathered,
    life: Option<Life>,
    /// Where the next life begins.
    floor: Floor,
    /// When the last unit came, or a publisher that resumes a life.
    heard: Time,
    /// Gap segments numbered since.
    gaps: u32,
    period_began: Option<Time>,
    now: Time,
    out: VecDeque<Output>,
}

impl Packager {
    /// A stream that nobody publishes yet; `resume` says where the swarm holds it to be.
    pub fn new(stream: StreamName, settings: Settings, resume: Option<Resume>) -> Self {
        let (mut life, mut floor) = (None, Floor::default());
        if let Some(resume) = resume {
            match resume.record.ended {
                Some(ended) => {
                    floor = Floor::after(&resume.record, resume.newest_msn.max(ended), resume.discontinuity);
                }
                None => life = Some(Life::resume(resume)),
            }
        }
        Packager {
            stream,
            settings: settings.clamped(),
            phase: Phase::Away,
            publisher: None,
            sources: BTreeMap::new(),
            gathered: Gathered::default(),
            life,
            floor,
            heard: Time::ZERO,
            gaps: 0,
            period_began: None,
            now: Time::ZERO,
            out: VecDeque::new(),
        }
    }

    /// Takes an input; drain [`poll_output`](Packager::poll_output) afterwards.
    pub fn handle(&mut self, clocks: Clocks, input: Input) {
        self.now = self.now.max(clocks.now);
        if let Some(life) = &mut self.life {
            life.segmenter.sink.wall = clocks.wall;
        }
        self.run_timers(clocks);
        match input {
            Input::Timeout => {}
            Input::Attached { epoch, clock, announced } => {
                self.detach(clocks);
                self.attach(Publisher { epoch, clock, announced });
            }
            Input::Config { track, config } => self.configure(track, &config),
            Input::Unit(unit) => self.unit(clocks, unit),
            Input::Detached => self.detach(clocks),
            Input::End => {
                self.detach(clocks);
                self.end_life();
            }
        }
        // What was just published may have been silent for long.
        self.run_timers(clocks);
        if let Some(life) = &mut self.life {
            life.publish_rates();
        }
        self.collect();
    }

    /// The next thing to be done, oldest first.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When to call with [`Input::Timeout`] if nothing else comes before.
    pub fn poll_timeout(&self) -> Option<Time> {
        match (self.phase, &self.life) {
            (Phase::Live, Some(life)) => Some(self.heard + life.record.target()),
            (Phase::Gathering, _) if self.gathered.since().is_some() => {
                let spaced = self.period_began.map(|began| began + PERIOD_MIN).filter(|&at| at > self.now);
                self.gathered.next_check(&self.settings, self.now).into_iter().chain(spaced).min()
            }
            (_, Some(life)) if self.may_number() => Some(self.next_gap(life).min(self.heard + self.settings.linger)),
            _ => None,
        }
    }

    /// Whether this node has published the life at all, or a publisher has come to resume it.
    fn may_number(&self) -> bool {
        self.heard > Time::ZERO
    }

    fn next_gap(&self, life: &Life) -> Time {
        self.heard + life.record.target() + life.record.segment_duration * self.gaps
    }

    fn notice(&mut self, notice: Notice) {
        self.collect();
        self.out.push_back(Output::Notice(notice));
    }

    /// Moves what the life has put out behind what is here already.
    fn collect(&mut self) {
        if let Some(life) = &mut self.life {
            self.out.append(&mut life.segmenter.sink.out);
        }
    }

    fn run_timers(&mut self, clocks: Clocks) {
        loop {
            let due = self.poll_timeout_due(clocks.now);
            let Some(life) = self.life.as_mut().filter(|_| due) else {
                // What was gathered may be published now, and its publisher have been silent since.
                if self.try_begin(clocks) {
                    continue;
                }
                break;
            };
            if self.phase == Phase::Live {
                // "Publisher gone: after 1xTD of silence the ingest numbers GAP segments" (DESIGN, media rules).
                self.notice(Notice::Silence);
                self.interrupt(false);
                continue;
            }
            let (linger, gap) = (self.heard + self.settings.linger, self.heard + life.record.target());
            let gap = gap + life.record.segment_duration * self.gaps;
            if linger <= gap {
                self.end_life();
                break;
            }
            let msn = life.gap();
            self.gaps += 1;
            self.notice(Notice::GapSegment { msn });
        }
    }

    /// Whether a timer of the life has passed; gathering has its own checks.
    fn poll_timeout_due(&self, now: Time) -> bool {
        let gathering = self.phase == Phase::Gathering && self.gathered.since().is_some();
        !gathering && self.poll_timeout().is_some_and(|at| at <= now)
    }

    fn attach(&mut self, publisher: Publisher) {
        self.publisher = Some(publisher);
        self.sources.clear();
        self.gathered = Gathered::new(true);
        self.phase = Phase::Gathering;
        if let Some(life) = &mut self.life {
            life.attach(publisher.epoch);
            if self.heard == Time::ZERO {
                self.heard = self.now;
            }
        }
    }

    fn configure(&mut self, track: InputTrack, config: &CodecConfig) {
        if self.publisher.is_none() {
            return;
        }
        let codec = match Codec::parse(config) {
            Ok(codec) => codec,
            Err(error) => return self.notice(Notice::BadConfig { track, error }),
        };
        let full = self.sources.len() >= INPUTS_MAX;
        match self.sources.get_mut(&track) {
            // "Compare parameter sets byte by byte before calling them changed" (DESIGN; SRS #4695).
            Some(source) if source.codec == codec => {}
            Some(source) if source.codec.is_video() != codec.is_video() => self.notice(Notice::TrackIgnored { track }),
            Some(source) => {
                let video = codec.is_video();
                source.codec = codec;
                let published = source.lane.is_some() && self.phase == Phase::Live;
                self.notice(Notice::ConfigChanged { track });
                if published {
                    self.interrupt(video);
                }
                let units = self.gathered.forget(track);
                if units > 0 {
                    self.notice(Notice::Unusable { track, units, why: Unusable::ConfigGone });
                }
            }
            None if full => self.notice(Notice::TrackIgnored { track }),
            None => {
                let lane = self.life.as_mut().map(|life| life.claim(track, &codec));
                self.sources.insert(track, Source { codec, lane: lane.flatten(), last: None });
                if lane == Some(None) {
                    self.notice(Notice::TrackIgnored { track });
                }
            }
        }
    }

    fn unit(&mut self, clocks: Clocks, unit: AccessUnit) {
        let Some(publisher) = self.publisher else { return };
        let newest = self.sources.values().filter_map(|source| source.last).max();
        let track = unit.track;
        let Some(source) = self.sources.get_mut(&track) else {
            return self.notice(Notice::Unusable { track, units: 1, why: Unusable::NoConfig });
        };
        if unit.data.is_empty() || unit.data.len() > UNIT_LEN_MAX {
            let why = if unit.data.is_empty() { Unusable::Empty } else { Unusable::TooLong };
            return self.notice(Notice::Unusable { track, units: 1, why });
        }
        self.heard = clocks.now.max(Time::from_micros(1));
        self.gaps = 0;
        let dts = unwrap(unit.dts, publisher.clock, source.last.or(newest));
        source.last = Some(dts);
        let lane = source.lane;
        if self.life.is_some() && lane.is_none() {
            return; // TrackIgnored has been said
        }
        let raw = Raw {
            track,
            dts,
            shifted: 0,
            composition_offset: unit.composition_offset,
            keyframe: unit.keyframe || !source.codec.is_video(),
            data: unit.data,
            arrived: clocks.wall,
            now: clocks.now,
        };
        match (self.phase, lane) {
            (Phase::Live, Some(lane)) => self.live_unit(lane, raw),
            _ => self.gathered.push(raw),
        }
        self.try_begin(clocks);
    }

    /// A unit in the middle of a period.
    fn live_unit(&mut self, lane: usize, raw: Raw) {
        let Some(life) = &mut self.life else { return };
        let Some(clock) = life.segmenter.lanes[lane].clock.as_ref() else {
            // A track of the life that this publisher hadn't sent before.
            self.interrupt(false);
            return self.gathered.push(raw);
        };
        let media = life.segmenter.lanes[lane].media(clock.ticks(raw.dts));
        let jumps = match clock.begun() {
            // The track's first unit of the period: it lies beside the others', or has a clock of its own.
            false => media.abs_diff(life.segmenter.newest()) > TRACKS_APART_MAX,
            true => {
                let ahead = clock.ahead(raw.dts);
                let early = media > life.segmenter.sink.anchor.media(raw.arrived) + FORWARD_MAX;
                clock.behind(raw.dts) > BACKWARD_MAX || (ahead > FORWARD_MAX && early) || ahead > HOLE_MAX
            }
        };
        let (behind, ahead) = (clock.behind(raw.dts), clock.ahead(raw.dts));
        if jumps {
            self.notice(Notice::Jump { track: raw.track, behind, ahead });
            self.interrupt(false);
            self.gathered.push(raw);
        } else {
            life.feed(lane, raw);
        }
    }

    /// What came is published, and the next unit begins a new period.
    fn interrupt(&mut self, need_keyframe: bool) {
        if let Some(life) = self.life.as_mut().filter(|_| self.phase == Phase::Live) {
            life.flush();
            self.phase = Phase::Gathering;
            self.gathered = Gathered::new(need_keyframe);
        }
    }

    /// Begins the life or the next period if enough has been gathered; says whether it did.
    fn try_begin(&mut self, clocks: Clocks) -> bool {
        let Some(publisher) = self.publisher.filter(|_| self.phase == Phase::Gathering) else { return false };
        if self.gathered.since().is_none() {
            return false;
        }
        let ready = match &self.life {
            None => self.gathered.life_ready(&self.sources, &publisher, &self.settings, clocks.now),
            Some(life) => {
                let spaced = self.period_began.is_none_or(|began| clocks.now >= began + PERIOD_MIN);
                let expected = life.expected(&publisher.announced);
                let spaced = spaced || self.gathered.full();
                spaced && self.gathered.period_ready(&self.sources, expected, &publisher, &self.settings, clocks.now)
            }
        };
        if ready {
            self.begin(clocks, publisher);
        }
        ready
    }

    fn begin(&mut self, clocks: Clocks, publisher: Publisher) {
        self.collect();
        let fresh = self.life.is_none();
        let mut units = std::mem::take(&mut self.gathered).into_units(publisher.clock, &self.sources, &mut self.out);
        units.raw.retain(|raw| self.sources.contains_key(&raw.track));
        if units.raw.is_empty() {
            self.gathered = Gathered::new(true);
            return;
        }
        if fresh {
            // "the first MSN of a life is the Unix time in whole seconds" (DESIGN, invariant 2).
            let now = u32::try_from(clocks.wall.as_secs()).unwrap_or(u32::MAX);
            self.floor.msn = self.floor.msn.max(now);
            let life = Life::begin(&self.stream, &self.settings, &publisher, &mut self.sources, &units, self.floor);
            self.life = Some(life);
        }
        if let Some(life) = &mut self.life {
            life.segmenter.sink.wall = clocks.wall;
            life.begin_period(&publisher, &self.sources, units, fresh);
            self.phase = Phase::Live;
            self.period_began = Some(clocks.now);
            self.gaps = 0;
        }
        self.collect();
    }

    fn detach(&mut self, clocks: Clocks) {
        if let Some(publisher) = self.publisher {
            if self.phase == Phase::Gathering && self.gathered.since().is_some() {
                self.begin(clocks, publisher);
            }
            self.interrupt(false);
        }
        self.publisher = None;
        self.phase = Phase::Away;
        self.sources.clear();
        self.gathered = Gathered::default();
    }

    fn end_life(&mut self) {
        self.collect();
        let Some(mut life) = self.life.take() else { return };
        self.floor = life.end();
        self.out.append(&mut life.segmenter.sink.out);
        self.gathered = Gathered::new(true);
        for source in self.sources.values_mut() {
            source.lane = None;
        }
    }
}
