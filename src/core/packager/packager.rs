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
//! linger ends the life. Of several pushes, what becomes of one while others are there is in
//! `join`; the life is away only when all are.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::diagnostic::{Notice, Refusal, Unusable};
use super::io::{Input, Output};
use super::metadata::Waiting;
use super::preroll::{Gathered, Raw, TRACKS_APART_MAX};
use super::presentation::Life;
use super::publishers as feeds;
use super::publishers::{Beginning, Push, Pushes, Sources, in_order};
use super::renditions::Joining;
use super::start_numbers::Floor;
use super::timeline::{BACKWARD_MAX, unwrap};
use super::track::UNIT_LEN_MAX;
use crate::codec::codec::Codec;
use crate::model::id::is_language;
use crate::model::time::Time;
use crate::model::{AccessUnit, Announced, Clocks, CodecConfig, Feed, InputClock, InputTrack, Resume};
use crate::model::{Epoch, Rendition, StreamName};

/// Most input tracks of all pushes of a stream.
pub const INPUTS_MAX: usize = 48;
/// Most tracks of a life, those included whose push is gone: 16 renditions, and sound in 8 languages.
pub const TRACKS_MAX: usize = 24;
/// The longest language tag, in bytes (RFC 5646, 4.4.1).
const LANGUAGE_LEN_MAX: usize = 35;
/// A timestamp may run ahead of the last one by this much whatever the wallclock says.
const FORWARD_MAX: Duration = Duration::from_secs(1);
/// And by this much if as much time has really passed: frames were lost on the way, and no clock jumped.
pub(crate) const HOLE_MAX: Duration = Duration::from_secs(10);
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
    /// [`Record::latency`](crate::model::Record::latency); less than three parts is three parts.
    pub latency: Duration,
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
            latency: Duration::ZERO,
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
        self.latency = self.latency.min(crate::model::Record::LATENCY_MAX);
        self.linger = self.linger.min(Duration::from_secs(3_600));
        self.measure = self.measure.min(Duration::from_secs(10));
        self
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Publisher {
    pub epoch: Epoch,
    pub clock: InputClock,
    pub announced: Announced,
}

/// A track of a push.
#[derive(Debug)]
pub(crate) struct Source {
    pub codec: Codec,
    /// Its place in the life; none before the life begins, or if the life has none.
    pub lane: Option<usize>,
    /// Where the input has told it.
    pub language: Option<String>,
    /// The timestamp of its newest unit, unwrapped.
    pub last: Option<i64>,
    /// Its newest units, where it is sound that another push feeds.
    pub spare: VecDeque<Raw>,
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
    pub(crate) settings: Settings,
    phase: Phase,
    pub(crate) pushes: Pushes,
    /// Attachments so far.
    attached: u64,
    pub(crate) sources: Sources,
    /// Of tracks whose headers may be still to come.
    languages: BTreeMap<InputTrack, String>,
    pub(crate) gathered: Gathered,
    /// Timed metadata that no life has taken yet.
    pub(crate) messages: VecDeque<Waiting>,
    pub(crate) life: Option<Life>,
    /// Where the next life begins.
    floor: Floor,
    /// When the last unit came, or a publisher that resumes a life.
    heard: Time,
    /// Gap segments numbered since.
    gaps: u32,
    period_began: Option<Time>,
    pub(crate) now: Time,
    pub(crate) out: VecDeque<Output>,
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
            pushes: Pushes::new(),
            attached: 0,
            sources: Sources::new(),
            languages: BTreeMap::new(),
            gathered: Gathered::default(),
            messages: VecDeque::new(),
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
            Input::Attached { feed, rendition, epoch, clock, announced } => {
                self.detach(clocks, feed);
                self.attach(feed, rendition, Publisher { epoch, clock, announced });
            }
            Input::Language { track, language } => {
                if language.len() <= LANGUAGE_LEN_MAX && is_language(&language) {
                    self.languages.insert(track, language);
                }
            }
            Input::Config { track, config } => self.configure(track, &config),
            Input::Unit(unit) => self.unit(clocks, unit),
            Input::Message(message) => self.message(message),
            Input::Detached(feed) => self.detach(clocks, feed),
            Input::End => {
                self.detach_all(clocks);
                self.end_life();
            }
        }
        // What was just published may have been silent for long.
        self.run_timers(clocks);
        if let Some(life) = &mut self.life {
            if self.phase == Phase::Live {
                life.announce(&mut self.messages);
            }
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

    pub(crate) fn notice(&mut self, notice: Notice) {
        self.collect();
        self.out.push_back(Output::Notice(notice));
    }

    /// Moves what the life has put out behind what is here already.
    pub(crate) fn collect(&mut self) {
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
                self.anew(false);
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

    fn attach(&mut self, feed: Feed, rendition: Option<Rendition>, publisher: Publisher) {
        let other = self.pushes.values().any(|push| push.publisher.clock != publisher.clock);
        if other || feed.0 >= Feed::COUNT_MAX {
            return self.refuse(feed, Refusal::NoPlace);
        }
        if self.pushes.is_empty() {
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
        self.attached += 1;
        let joining = self.joins();
        self.pushes.insert(feed, Push { order: self.attached, rendition, publisher, joining });
    }

    /// For a push that comes now: whether it has to join others.
    fn joins(&self) -> Option<Joining> {
        let life = self.life.as_ref().filter(|_| self.phase == Phase::Live)?;
        Some(Joining::new(life.segmenter.next_msn))
    }

    fn configure(&mut self, track: InputTrack, config: &CodecConfig) {
        let Some(push) = self.pushes.get(&track.feed()) else { return };
        let (rendition, waits) = (push.rendition.clone(), push.joining.is_some());
        let codec = match Codec::parse(config) {
            Ok(codec) => codec,
            Err(error) => return self.notice(Notice::BadConfig { track, error }),
        };
        // A language has no pictures: a life of them alone would have no track.
        if codec.is_video() && self.pushes.get(&track.feed()).is_some_and(Push::is_language) {
            return self.notice(Notice::TrackIgnored { track });
        }
        let full = self.sources.len() >= INPUTS_MAX;
        match self.sources.get_mut(&track) {
            // "Compare parameter sets byte by byte before calling them changed" (DESIGN; SRS #4695).
            Some(source) if source.codec == codec => {}
            Some(source) if source.codec.is_video() != codec.is_video() => self.notice(Notice::TrackIgnored { track }),
            Some(source) => {
                let video = codec.is_video();
                source.codec = codec;
                let published = source.lane.is_some() && self.phase == Phase::Live && !waits;
                self.notice(Notice::ConfigChanged { track });
                if published && !self.step_out(track.feed()) {
                    self.interrupt(video);
                }
                let units = self.gathered.forget(track);
                if units > 0 {
                    self.notice(Notice::Unusable { track, units, why: Unusable::ConfigGone });
                }
            }
            None if full => self.notice(Notice::TrackIgnored { track }),
            None => {
                let claims = !waits && self.life.is_some();
                let life = self.life.as_mut().filter(|_| claims);
                let lane = life.and_then(|life| life.claim(track, &codec, rendition.as_ref()));
                let language = self.languages.get(&track).cloned();
                self.sources.insert(track, Source { codec, lane, language, last: None, spare: VecDeque::new() });
                if claims && lane.is_none() && rendition.is_none() {
                    self.notice(Notice::TrackIgnored { track });
                }
            }
        }
    }

    fn unit(&mut self, clocks: Clocks, unit: AccessUnit) {
        let track = unit.track;
        let Some(push) = self.pushes.get(&track.feed()) else { return };
        let (clock, waits, plain) = (push.publisher.clock, push.joining.is_some(), push.rendition.is_none());
        let newest = self.sources.values().filter_map(|source| source.last).max();
        let Some(source) = self.sources.get_mut(&track) else {
            return self.notice(Notice::Unusable { track, units: 1, why: Unusable::NoConfig });
        };
        if unit.data.is_empty() || unit.data.len() > UNIT_LEN_MAX {
            let why = if unit.data.is_empty() { Unusable::Empty } else { Unusable::TooLong };
            return self.notice(Notice::Unusable { track, units: 1, why });
        }
        let (data, keyframe) = source.codec.sample(unit.data, unit.keyframe);
        if data.is_empty() {
            return self.notice(Notice::Unusable { track, units: 1, why: Unusable::Empty });
        }
        let dts = unwrap(unit.dts, clock, source.last.or(newest));
        source.last = Some(dts);
        let (lane, video) = (source.lane, source.codec.is_video());
        let raw = Raw {
            track,
            dts,
            shifted: 0,
            composition_offset: unit.composition_offset,
            keyframe: keyframe || !video,
            data,
            arrived: clocks.wall,
            now: clocks.now,
        };
        if waits {
            return self.wait_for_place(clocks, raw);
        }
        self.heard = clocks.now.max(Time::from_micros(1));
        self.gaps = 0;
        if self.life.is_some() && lane.is_none() && plain {
            return; // TrackIgnored has been said
        }
        match (self.phase, lane) {
            (Phase::Live, Some(lane)) => self.live_unit(lane, raw),
            (Phase::Live, None) if !video => self.spare_unit(raw),
            (Phase::Live, None) => {}
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
        if !jumps {
            life.feed(lane, raw);
            return self.in_step();
        }
        self.notice(Notice::Jump { track: raw.track, behind, ahead });
        if self.step_out(raw.track.feed()) {
            self.queue(raw);
        } else {
            self.interrupt(false);
            self.gathered.push(raw);
        }
    }

    /// What came is published, and the next unit begins a new period.
    pub(crate) fn interrupt(&mut self, need_keyframe: bool) {
        if let Some(life) = self.life.as_mut().filter(|_| self.phase == Phase::Live) {
            life.flush();
            self.phase = Phase::Gathering;
            self.gathered = Gathered::new(need_keyframe);
        }
    }

    /// The same, and all that wait for a place begin together.
    pub(crate) fn anew(&mut self, need_keyframe: bool) {
        self.interrupt(need_keyframe);
        let waiting: Vec<Feed> = in_order(&self.pushes);
        for feed in waiting {
            let Some(push) = self.pushes.get_mut(&feed) else { continue };
            let Some(joining) = push.joining.take() else { continue };
            for raw in joining.into_units() {
                self.gathered.push(raw);
            }
        }
    }

    /// Begins the life or the next period if enough has been gathered; says whether it did.
    fn try_begin(&mut self, clocks: Clocks) -> bool {
        if self.phase != Phase::Gathering || self.gathered.since().is_none() {
            return false;
        }
        let Some(lead) = feeds::lead(&self.pushes, &self.sources, &self.gathered) else { return false };
        let Some(push) = self.pushes.get(&lead) else { return false };
        let (publisher, rendition) = (&push.publisher, push.rendition.as_ref());
        let of = (lead, rendition.is_some());
        let ready = match &self.life {
            None => self.gathered.life_ready(of, &self.sources, publisher, &self.settings, clocks.now),
            Some(life) => {
                let spaced = self.period_began.is_none_or(|began| clocks.now >= began + PERIOD_MIN);
                let expected = life.expected(&publisher.announced, rendition);
                let spaced = spaced || self.gathered.full();
                let (sources, settings) = (&self.sources, &self.settings);
                spaced && self.gathered.period_ready(of, sources, expected, publisher, settings, clocks.now)
            }
        };
        if ready {
            self.begin(clocks, lead);
        }
        ready
    }

    fn begin(&mut self, clocks: Clocks, lead: Feed) {
        self.collect();
        let fresh = self.life.is_none();
        let gathered = std::mem::take(&mut self.gathered);
        let begins = feeds::align(gathered, lead, &self.pushes, &self.sources, &mut self.out);
        let Some((Beginning { units, others }, push)) = begins.zip(self.pushes.get(&lead)) else {
            self.gathered = Gathered::new(true);
            return;
        };
        let publisher = push.publisher;
        if fresh {
            // "the first MSN of a life is the Unix time in whole seconds" (DESIGN, invariant 2).
            let now = u32::try_from(clocks.wall.as_secs()).unwrap_or(u32::MAX);
            self.floor.msn = self.floor.msn.max(now);
            let leads = (lead, &self.pushes);
            let life = Life::begin(&self.stream, &self.settings, leads, &mut self.sources, &units, self.floor);
            self.life = Some(life);
        }
        if let Some(life) = &mut self.life {
            life.segmenter.sink.wall = clocks.wall;
            // Those that begin with the lead have their places; the others give theirs back until they join.
            for (&track, source) in &mut self.sources {
                let comes = units.raw.iter().any(|raw| raw.track == track);
                let rendition = self.pushes.get(&track.feed()).and_then(|push| push.rendition.as_ref());
                let first = rendition.is_some() || track.feed() != lead;
                if !fresh && comes && source.lane.is_none() && (first || !life.is_fed(false)) {
                    source.lane = life.claim_or_append(track, &source.codec, rendition);
                } else if !comes && track.feed() != lead {
                    life.give_back(track);
                    source.lane = None;
                }
            }
            let target = life.segmenter.next_msn;
            for (&feed, push) in &mut self.pushes {
                let comes = units.raw.iter().any(|raw| raw.track.feed() == feed);
                push.joining = (feed != lead && !comes).then(|| Joining::new(target));
            }
            life.segmenter.keep = Some(target);
            life.begin_period(&publisher, &self.sources, units, &mut self.messages, fresh);
            self.phase = Phase::Live;
            self.period_began = Some(clocks.now);
            self.gaps = 0;
        }
        self.collect();
        for raw in others.into_values().flatten() {
            if self.pushes.get(&raw.track.feed()).is_some_and(|push| push.joining.is_some()) {
                self.wait_for_place(clocks, raw);
            }
        }
        self.keep_for_joining();
        self.in_step();
    }

    fn detach(&mut self, clocks: Clocks, feed: Feed) {
        if !self.pushes.contains_key(&feed) {
            return;
        }
        self.languages.retain(|track, _| track.feed() != feed);
        if self.pushes.len() > 1 {
            self.leave(feed);
        } else {
            self.detach_all(clocks);
        }
    }

    fn detach_all(&mut self, clocks: Clocks) {
        let gathers = self.phase == Phase::Gathering && self.gathered.since().is_some();
        let lead = feeds::lead(&self.pushes, &self.sources, &self.gathered).filter(|_| gathers);
        if let Some(lead) = lead {
            self.begin(clocks, lead);
        }
        self.interrupt(false);
        self.pushes.clear();
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
        self.messages.clear();
        for source in self.sources.values_mut() {
            source.lane = None;
        }
    }
}
