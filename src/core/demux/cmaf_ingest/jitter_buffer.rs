//! From requests that bring a stream in bursts and by track to one sequence of units in the order and at the pace of
//! their timestamps (pure).
//!
//! ```text
//!  queue (one a track)  |=====|     |== <- a request brings a segment at once
//!  queue                 |===|          another one somewhat later
//!                          ^ origin: this decode time is due now
//! ```
//!
//! A unit is handed on when it is due. The first one sets what is due, once each track has come; one that comes late
//! moves it, so that what was late once is waited for from then on: latency is as much as the requests' own pauses, and
//! no more. What nobody needs any more of that is given back slowly. A sender that is faster than time, a file, fills its
//! queue, and is held up by it.
//!
//! What has come already is told by its decode time, and dropped: redundant encoders send the same ("A receiving entity
//! can ignore fragments that it has already received", DASH-IF Live Media Ingest 1.2, 6.8). A time that is further off
//! than that is a jump: an encoder has begun anew.
//!
//! Tracks whose times lie so far apart that one would never be due have clocks of their own, as the packager has it of other inputs:
//! the one that comes later is put beside the others by its arrival.
//!
//! Messages have no pace of their own: each goes on right behind the unit that it came with. What has a track of its own,
//! in requests of its own, comes before or after the units of its time: it waits until some are near, and joins them. Being early
//! is no harm, and a splice has to be. What finds none is lost, and counted.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::time::{Time, Timescale};
use crate::model::{AccessUnit, CodecConfig, MESSAGE_LEN_MAX, TimedMessage};

/// The scale of all tracks' times.
pub const SCALE: Timescale = Timescale::MPEG;
/// What a track's queue holds at most, from its oldest to its newest unit: a long segment, and the start of the next.
const AHEAD_MAX: Duration = Duration::from_secs(15);
/// And what all of them hold, in bytes of memory: that, at 25 Mb/s.
const HELD_MAX: usize = 48 << 20;
/// How long it is waited at the start for tracks that were announced and don't come, and by a message for the leader.
const START_MAX: Duration = Duration::from_secs(3);
/// By how much the others wait for a track that comes late. Behind that, the packager goes on without it.
const LATE_MAX: Duration = Duration::from_secs(3);
/// Tracks that lie further apart than what a queue holds run on clocks of their own, and are put side by side. Once others are played, one
/// that begins may be behind by so much: what its encoder had to keep until it got through. A guess.
const BEHIND_MAX: Duration = Duration::from_secs(60);
/// A step forward beyond this is a jump, not a hole.
const FORWARD_MAX: Duration = Duration::from_secs(10);
/// What lies behind a track's newest unit by no more than this, or than one and a half of its bursts, has come already: an
/// encoder sends again what was cut off.
const RESENT_MAX: Duration = Duration::from_secs(2);
/// The same of what lies behind where that unit's encoder must be by now by no more than this, or than three bursts:
/// another encoder is as far, give or take a segment. A guess.
const REDUNDANT_MAX: Duration = Duration::from_secs(6);
/// What comes within so long is one burst, which counts up to this.
const BURST: Duration = Duration::from_secs(1);
const BURST_MAX: Duration = Duration::from_secs(10);
/// How often what all units have come too early by is given back, how much of it stays, and how much goes at once: less
/// than a viewer's buffer.
const RETURN_EACH: Duration = Duration::from_secs(10);
const RETURN_KEEPS: Duration = Duration::from_millis(150);
const RETURN_STEP: Duration = Duration::from_millis(250);
/// Messages that are remembered, so that what is sent again isn't taken again: a tag a frame, of a long segment.
const KNOWN_MAX: usize = 1_024;
/// Messages among the units of a track, in bytes of memory; what is beyond is lost. A tag of 1 KiB a frame, at 60 frames a second.
const LANE_MESSAGES_LEN_MAX: usize = 1 << 20;
/// The same of those that wait for units of their time, of which the oldest are lost. A guess.
const ASIDE_LEN_MAX: usize = 4 * MESSAGE_LEN_MAX;
/// How long they wait: then what is ahead has been played, and what is near by then is of another time.
const ASIDE_MAX: Duration = AHEAD_MAX.saturating_add(FORWARD_MAX);

/// A track's place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LaneId(pub usize);

/// What goes through a track's queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// Headers of what follows.
    Config(CodecConfig),
    /// A frame at its decode time, in ticks of [`SCALE`], unwrapped.
    Unit(i64, AccessUnit),
    /// Timed metadata at its presentation time, likewise.
    Message(i64, TimedMessage),
}

/// What became of an item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pushed {
    /// It was taken.
    Taken,
    /// It had come already.
    Repeated,
    /// It was taken, and lies elsewhere than the one before.
    Jumped,
    /// It was taken, and lies so far off the other tracks that its track is put beside them by its arrival.
    Apart,
}

#[derive(Debug)]
struct Queued {
    item: Item,
    /// Goes up with each jump.
    stretch: u64,
    came: Time,
}

#[derive(Debug, Default)]
struct Lane {
    queue: VecDeque<Queued>,
    /// What messages take of it.
    messages_len: usize,
    /// By how much its clock is ahead of what is played; all times in here are without that.
    shift: i64,
    /// The newest unit's.
    last: Option<i64>,
    /// The shortest step between two of them.
    step: i64,
    stretch: u64,
    /// The unit that was handed on last.
    played: Option<i64>,
    /// When that came.
    came: Time,
    /// How late the newest unit came.
    late: Duration,
    /// How the burst that it is of began, and the longest that was.
    begun: Option<(Time, i64)>,
    burst: Duration,
    closed: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Playout {
    lanes: Vec<Lane>,
    held: usize,
    /// When which decode time is due, in the stretch that is played.
    origin: Option<(Time, i64)>,
    stretch: u64,
    /// The track with whose units messages go that are of none.
    leader: Option<LaneId>,
    /// By how much units have come too early at least since then; `None` if one was late, or a queue full.
    early: Option<Duration>,
    early_since: Time,
    /// Messages that wait for units of their time.
    aside: VecDeque<Aside>,
    aside_len: usize,
    known: VecDeque<blake3::Hash>,
    /// Messages that were taken, and go nowhere.
    lost: u64,
}

/// A message without its place.
#[derive(Debug)]
struct Aside {
    /// Where it belongs; `None`: with the [leader](Playout::lead), or with the first track that is near if that one doesn't come.
    lane: Option<LaneId>,
    /// The decode time that it came with.
    at: i64,
    came: Time,
    item: Item,
}

impl Lane {
    fn units(&self) -> impl DoubleEndedIterator<Item = (i64, u64, Time)> {
        self.queue.iter().filter_map(|queued| match &queued.item {
            Item::Unit(dts, _) => Some((*dts, queued.stretch, queued.came)),
            Item::Config(_) | Item::Message(..) => None,
        })
    }

    /// Headers behind its newest unit.
    fn unused(&mut self) -> Option<&mut Item> {
        let behind = self.queue.iter_mut().rev().map(|queued| &mut queued.item);
        behind.take_while(|item| !matches!(item, Item::Unit(..))).find(|item| matches!(item, Item::Config(_)))
    }

    /// The newest unit's decode time, by its own clock.
    fn last(&self) -> Option<i64> {
        self.last.map(|last| last.saturating_add(self.shift))
    }

    /// Whether units of about that time, by their own clock, came last.
    fn is_near(&self, at: i64) -> bool {
        self.last().is_some_and(|last| apart(at, last) <= FORWARD_MAX)
    }

    /// Behind which item a message goes: the last unit that is decoded by then, and the messages there. A unit of its stretch is
    /// always before it.
    fn place(&self, at: i64) -> usize {
        let of_stretch = |queued: &Queued| match &queued.item {
            Item::Unit(dts, _) if queued.stretch == self.stretch => Some(*dts),
            _ => None,
        };
        let decoded = |queued: &Queued| of_stretch(queued).is_some_and(|dts| dts <= at);
        let first = || self.queue.iter().position(|queued| of_stretch(queued).is_some());
        let Some(unit) = self.queue.iter().rposition(decoded).or_else(first) else { return self.queue.len() };
        let is_message = |queued: &&Queued| matches!(queued.item, Item::Message(..));
        unit + 1 + self.queue.range(unit + 1..).take_while(is_message).count()
    }

    /// Whether a unit of that time has come already. If it is behind the newest and hasn't, an encoder has begun anew.
    fn has_had(&self, dts: i64, now: Time) -> bool {
        let Some(behind) = self.last.filter(|&last| dts <= last).map(|last| span(dts, last)) else { return false };
        let resent = RESENT_MAX.max(self.burst * 3 / 2);
        let redundant = REDUNDANT_MAX.max(self.burst * 3);
        behind <= resent || behind + now.since(self.came) <= redundant
    }

    /// How much comes at once.
    fn measure(&mut self, now: Time, dts: i64) {
        match self.begun {
            Some((begun, first)) if now.since(begun) < BURST && first <= dts => {
                self.burst = self.burst.max(span(first, dts)).min(BURST_MAX);
            }
            _ => self.begun = Some((now, dts)),
        }
    }
}

fn apart(a: i64, b: i64) -> Duration {
    span(a, b).max(span(b, a))
}

fn span(from: i64, to: i64) -> Duration {
    SCALE.duration(u64::try_from(to.saturating_sub(from)).unwrap_or(0))
}

/// What an item takes of memory.
fn len(item: &Item) -> usize {
    let data = match item {
        Item::Config(config) => config.as_bytes(),
        Item::Unit(_, unit) => &unit.data,
        Item::Message(_, message) => &message.data,
    };
    size_of::<Queued>() + data.len()
}

impl Playout {
    /// A track more. What is played begins once all of them have come.
    pub fn open(&mut self) -> LaneId {
        self.lanes.push(Lane::default());
        LaneId(self.lanes.len() - 1)
    }

    /// With this track's units messages go that are of none.
    pub fn lead(&mut self, lane: LaneId) {
        self.leader = Some(lane);
    }

    /// Nothing more comes of a track for now; it isn't waited for.
    pub fn close(&mut self, lane: LaneId) {
        self.lanes[lane.0].closed = true;
    }

    /// A track's newest decode time, or if it has none, anyone's.
    pub fn newest(&self, lane: Option<LaneId>) -> Option<i64> {
        lane.and_then(|lane| self.last(lane)).or_else(|| self.lanes.iter().filter_map(Lane::last).max())
    }

    /// A track's own newest decode time.
    pub fn last(&self, lane: LaneId) -> Option<i64> {
        self.lanes[lane.0].last()
    }

    /// Whether a track's queue can take more at the moment.
    pub fn has_room(&mut self, lane: LaneId) -> bool {
        let mut units = self.lanes[lane.0].units();
        let (first, last) = (units.next(), units.next_back());
        let ahead = first.zip(last).is_some_and(|((first, ..), (last, ..))| span(first, last) >= AHEAD_MAX);
        let full = ahead || self.held >= HELD_MAX;
        if full {
            // It is the sender who waits.
            self.early = None;
        }
        !full
    }

    /// Takes an item that has come.
    pub fn push(&mut self, id: LaneId, now: Time, item: Item) -> Pushed {
        let mut pushed = Pushed::Taken;
        // From where to where it jumps.
        let mut jump = None;
        let item = match item {
            Item::Unit(raw, unit) => {
                let lane = &self.lanes[id.0];
                let (last, dts) = (lane.last(), raw.saturating_sub(lane.shift));
                if lane.has_had(dts, now) {
                    return self.fill(id, now, dts, unit);
                }
                pushed = self.arrive(id, now, raw);
                jump = last.filter(|_| pushed != Pushed::Taken).map(|last| (last, raw));
                Item::Unit(raw.saturating_sub(self.lanes[id.0].shift), unit)
            }
            other => other,
        };
        self.held += len(&item);
        let lane = &mut self.lanes[id.0];
        lane.closed = false;
        let stretch = lane.stretch;
        // Headers that no unit stands behind are of no use once there are others, and nothing plays them.
        match lane.unused().filter(|_| matches!(item, Item::Config(_))) {
            Some(unused) => self.held -= len(&std::mem::replace(unused, item)),
            None => lane.queue.push_back(Queued { item, stretch, came: now }),
        }
        self.settle(now);
        if let Some((from, to)) = jump {
            // They were meant for what won't come any more.
            let left = |aside: &Aside| apart(aside.at, from) < apart(aside.at, to);
            let of_lane = |aside: &Aside| aside.lane.is_none_or(|lane| lane == id);
            let (over, waiting): (VecDeque<_>, VecDeque<_>) =
                std::mem::take(&mut self.aside).into_iter().partition(|aside| of_lane(aside) && left(aside));
            self.aside = waiting;
            self.aside_len -= over.iter().map(|aside| len(&aside.item)).sum::<usize>();
            self.lost += over.len() as u64;
        }
        pushed
    }

    /// A unit that hasn't come already: where it belongs.
    fn arrive(&mut self, id: LaneId, now: Time, raw: i64) -> Pushed {
        let newest = self.lanes.iter().map(|lane| lane.stretch).max().unwrap_or(0);
        let lane = &self.lanes[id.0];
        let dts = raw.saturating_sub(lane.shift);
        // The others have jumped to where it is by its own clock.
        let follows =
            || lane.shift != 0 && lane.stretch < newest && self.others(id, newest).any(|other| other.is_near(raw));
        let jumps = lane.last.filter(|&last| dts <= last || span(last, dts) > FORWARD_MAX || follows()).is_some();
        let begins = lane.last.is_none();
        let (stretch, shift) = match self.beside(id, now, newest, raw) {
            // A track that comes later is where the others are.
            shift if begins => (newest, shift.unwrap_or(0)),
            _ if !jumps => (lane.stretch, lane.shift),
            // After the others, if they have jumped already.
            Some(shift) if newest > lane.stretch => (newest, shift),
            _ => (newest + 1, 0),
        };
        let dts = raw.saturating_sub(shift);
        let lane = &mut self.lanes[id.0];
        let apart = shift != 0 && shift != lane.shift;
        let step = lane.last.filter(|_| !jumps).map_or(0, |last| dts.saturating_sub(last));
        if step > 0 && (lane.step == 0 || step < lane.step) {
            lane.step = step;
        }
        (lane.last, lane.shift, lane.stretch, lane.came) = (Some(dts), shift, stretch, now);
        lane.begun = lane.begun.filter(|_| !jumps);
        lane.measure(now, dts);
        self.observe(id, now, dts);
        match (apart, jumps) {
            (true, _) => Pushed::Apart,
            (_, true) => Pushed::Jumped,
            _ => Pushed::Taken,
        }
    }

    /// The other tracks of a stretch that has begun.
    fn others(&self, id: LaneId, stretch: u64) -> impl Iterator<Item = &Lane> {
        let lanes = self.lanes.iter().enumerate().filter(move |(n, lane)| *n != id.0 && lane.stretch == stretch);
        lanes.map(|(_, lane)| lane).filter(|lane| lane.last.is_some())
    }

    /// By how much a track's clock is ahead of the others', where that is known: nothing, where its units lie near theirs; what puts
    /// them side by side by their arrival, where they are so far off that one would wait for ever, or never be waited for.
    fn beside(&self, id: LaneId, now: Time, stretch: u64, raw: i64) -> Option<i64> {
        if let Some(other) = self.others(id, stretch).find(|other| other.is_near(raw)) {
            return Some(other.shift);
        }
        let newest = self.others(id, stretch).max_by_key(|other| other.came)?;
        // Of a burst, the first unit came when it was time.
        let (begun, first) = newest.begun?;
        let off = raw.saturating_sub(first.saturating_add(SCALE.ticks(now.since(begun)).cast_signed()));
        let behind_max = if self.origin.is_some() { BEHIND_MAX } else { AHEAD_MAX };
        (span(0, off) > AHEAD_MAX || span(off, 0) > behind_max).then_some(off)
    }

    /// By how much a track's clock is ahead of the others'.
    pub fn shift(&self, lane: LaneId) -> Duration {
        apart(self.lanes[lane.0].shift, 0)
    }

    /// Takes a message that came with units decoded at `at`, and is meant for `pts`. It goes with those of its track, or if it has
    /// none, with the leader's.
    pub fn message(&mut self, lane: Option<LaneId>, now: Time, at: i64, pts: i64, message: TimedMessage) -> Pushed {
        // Renditions that say the same go to the packager each, since one of them may have no place there yet.
        let whose = lane.map_or(usize::MAX, |LaneId(n)| n);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&whose.to_be_bytes()).update(message.scheme.uri().as_bytes());
        hasher.update(&pts.to_be_bytes()).update(&message.data);
        let hash = hasher.finalize();
        if self.known.contains(&hash) {
            return Pushed::Repeated;
        }
        if self.known.len() == KNOWN_MAX {
            self.known.pop_front();
        }
        self.known.push_back(hash);
        let aside = Aside { lane, at, came: now, item: Item::Message(pts, message) };
        match self.near(now, &aside) {
            Some(lane) => self.join(lane, aside),
            None => {
                self.aside_len += len(&aside.item);
                self.aside.push_back(aside);
                self.give_up(|playout| playout.aside_len > ASIDE_LEN_MAX);
            }
        }
        Pushed::Taken
    }

    /// How many messages more were taken and are lost, since there were too many, or no units of their time.
    pub fn lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Puts messages where units of their time are by now.
    fn settle(&mut self, now: Time) {
        self.give_up(|playout| playout.aside.front().is_some_and(|oldest| now.since(oldest.came) > ASIDE_MAX));
        if self.aside.iter().any(|aside| self.near(now, aside).is_some()) {
            for aside in std::mem::take(&mut self.aside) {
                match self.near(now, &aside) {
                    None => self.aside.push_back(aside),
                    Some(lane) => {
                        self.aside_len -= len(&aside.item);
                        self.join(lane, aside);
                    }
                }
            }
        }
    }

    /// With whose units a message goes, if some of its time came last.
    fn near(&self, now: Time, aside: &Aside) -> Option<LaneId> {
        let is_near = |lane: &LaneId| self.lanes[lane.0].is_near(aside.at);
        if let Some(lane) = aside.lane.or(self.leader).filter(is_near) {
            return Some(lane);
        }
        let comes = self.leader.is_some_and(|leader| !self.lanes[leader.0].closed) && now.since(aside.came) < START_MAX;
        let free = aside.lane.is_none() && !comes;
        (0..self.lanes.len()).map(LaneId).find(is_near).filter(|_| free)
    }

    /// Puts a message among the units of a track.
    fn join(&mut self, id: LaneId, Aside { at, came, mut item, .. }: Aside) {
        let (lane, len) = (&mut self.lanes[id.0], len(&item));
        if lane.messages_len + len > LANE_MESSAGES_LEN_MAX {
            self.lost += 1;
            return;
        }
        self.held += len;
        lane.messages_len += len;
        if let Item::Message(pts, _) = &mut item {
            *pts = pts.saturating_sub(lane.shift);
        }
        let (place, stretch) = (lane.place(at.saturating_sub(lane.shift)), lane.stretch);
        lane.queue.insert(place, Queued { item, stretch, came });
    }

    /// The oldest messages won't find units of their time any more.
    fn give_up(&mut self, over: impl Fn(&Playout) -> bool) {
        while over(self)
            && let Some(oldest) = self.aside.pop_front()
        {
            self.aside_len -= len(&oldest.item);
            self.lost += 1;
        }
    }

    /// A unit behind the newest: it has come already, unless it fills a hole. Requests of two segments that follow one
    /// another closely may be taken in either order.
    fn fill(&mut self, id: LaneId, now: Time, dts: i64, unit: AccessUnit) -> Pushed {
        let lane = &mut self.lanes[id.0];
        let half = (lane.step / 2).max(1);
        let at = |queued: &Queued| match &queued.item {
            Item::Unit(dts, _) if queued.stretch == lane.stretch => Some(*dts),
            _ => None,
        };
        let behind = lane.queue.iter().position(|queued| at(queued).is_some_and(|other| other + half > dts));
        let hole = behind.filter(|&n| {
            let next = at(&lane.queue[n]).is_some_and(|next| dts + half < next);
            let before = lane.queue.iter().take(n).rev().find_map(at).or(lane.played);
            next && before.is_none_or(|before| before + half < dts)
        });
        let Some(n) = hole else { return Pushed::Repeated };
        let item = Item::Unit(dts, unit);
        self.held += len(&item);
        let stretch = lane.stretch;
        lane.queue.insert(n, Queued { item, stretch, came: now });
        Pushed::Taken
    }

    /// A unit has come: late, or how early.
    fn observe(&mut self, id: LaneId, now: Time, dts: i64) {
        let lane = &self.lanes[id.0];
        let Some((at, base)) = self.origin.filter(|_| lane.stretch == self.stretch) else { return };
        let due = at + span(base, dts);
        self.lanes[id.0].late = now.since(due);
        if due < now {
            let late = now.since(due);
            // All of them were held up, and not this one alone.
            let on_time = |other: &Lane| other.last.is_some() && other.late.max(now.since(other.came)) <= LATE_MAX;
            let mut others = self.lanes.iter().enumerate().filter(|(n, _)| *n != id.0);
            let idle = self.lanes.iter().all(|lane| lane.units().next().is_none());
            let alone = idle && !others.any(|(_, other)| on_time(other));
            if alone || late <= LATE_MAX {
                self.origin = Some((at + late, base));
            }
            (self.early, self.early_since) = (Some(Duration::ZERO), now);
            return;
        }
        self.early = self.early.map(|early| early.min(due.since(now)));
        if now.since(self.early_since) >= RETURN_EACH {
            if let Some(early) = self.early.filter(|&early| early > RETURN_KEEPS) {
                let back = (early - RETURN_KEEPS).min(RETURN_STEP);
                self.origin = Some((Time::from_micros(at.since(Time::ZERO + back).as_micros() as u64), base));
            }
            (self.early, self.early_since) = (Some(Duration::MAX), now);
        }
    }

    /// The next item that is due.
    pub fn pop(&mut self, now: Time) -> Option<(LaneId, Item)> {
        let (at, id) = self.next(now)?;
        if at > now {
            return None;
        }
        let (base, queued) = (self.origin, self.lanes[id.0].queue.pop_front()?);
        self.held -= len(&queued.item);
        match queued.item {
            Item::Unit(dts, _) => self.lanes[id.0].played = Some(dts),
            Item::Message(..) => self.lanes[id.0].messages_len -= len(&queued.item),
            Item::Config(_) => {}
        }
        if let Item::Unit(dts, _) = queued.item
            && (base.is_none() || queued.stretch > self.stretch)
        {
            // What is due begins here.
            self.origin = Some((now, dts));
            self.stretch = queued.stretch;
            (self.early, self.early_since) = (None, now);
        }
        Some((id, queued.item))
    }

    /// When to look again.
    pub fn due(&self, now: Time) -> Option<Time> {
        self.next(now).map(|(at, _)| at)
    }

    /// The item that comes next, and when it is due.
    fn next(&self, now: Time) -> Option<(Time, LaneId)> {
        let lanes = || self.lanes.iter().enumerate().map(|(n, lane)| (LaneId(n), lane));
        // Headers go together with the unit that they stand before: others' units before that don't come behind them.
        let units = || lanes().filter_map(|(id, lane)| lane.units().next().map(|unit| (id, unit)));
        let heads = || lanes().filter_map(|(id, lane)| Some((id, lane.queue.front()?)));
        let Some((at, base)) = self.origin else {
            let first = heads().map(|(_, head)| head.came).min()?;
            let all = self.lanes.iter().all(|lane| lane.closed || lane.units().next().is_some());
            let any = self.lanes.iter().any(|lane| lane.units().next().is_some());
            let starts = if all && any { now.min(first) } else { first + START_MAX };
            // At the start, before all units.
            let free = heads().find(|(_, head)| !matches!(head.item, Item::Unit(..)));
            let unit = units().min_by_key(|(_, (dts, ..))| *dts);
            let id = free.map(|(id, _)| id).or(unit.map(|(id, _)| id))?;
            return Some((starts, id));
        };
        // Right behind its unit.
        if let Some((id, _)) = heads().find(|(_, head)| matches!(head.item, Item::Message(..))) {
            return Some((now, id));
        }
        // The rest of what was before a jump first.
        let next = |after: bool| {
            let those = units().filter(|(_, (_, stretch, _))| (*stretch > self.stretch) == after);
            those.min_by_key(|(_, (dts, stretch, _))| (*stretch, *dts))
        };
        let here = next(false)
            .map(|(id, (dts, stretch, _))| (if stretch < self.stretch { now } else { at + span(base, dts) }, id));
        match (here, next(true)) {
            (None, there) => there.map(|(id, _)| (now, id)),
            (Some(here), None) => Some(here),
            (Some(here), Some((id, (.., came)))) => Some(here.min((came + LATE_MAX, id))),
        }
    }
}

#[cfg(test)]
mod tests;
