//! Units from requests, which bring a stream in bursts and track by track, to one sequence in the order and at the pace
//! of their timestamps (pure).
//!
//! ```text
//!  queue (one a track)  |=====|     |== <- a request brings a segment at once
//!  queue                 |===|          another request, somewhat later
//!                          ^ origin: this decode time is due now
//! ```
//!
//! A unit is played when it is due. The first unit sets the origin, once each track has come. A late unit moves it, so
//! that playout waits that long from then on: the latency is as long as the pauses between requests, and no longer. When
//! all units come early for a while, playout slowly catches up. A sender that is faster than real time, such as a file,
//! fills its queue and has to wait.
//!
//! A unit that has come already is found by its decode time, and dropped, since redundant encoders send the same ("A
//! receiving entity can ignore fragments that it has already received", DASH-IF Live Media Ingest 1.2, 6.8). A time that
//! is further away is a jump: an encoder has restarted. The units between two jumps are a stretch.
//!
//! Tracks whose times are so far apart that one would never be due have clocks of their own, as in the packager. The one
//! that comes later is aligned with the others by its arrival.
//!
//! Messages have no pace of their own: each goes right behind the unit that it came with. A message in a track and in
//! requests of its own comes before or after the units of its time. It waits until such units come. It may go early, and
//! a splice has to. A message that finds no units is lost, and counted.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::time::{Time, Timescale};
use crate::model::{AccessUnit, CodecConfig, MESSAGE_LEN_MAX, TimedMessage};

/// The scale of all times.
pub const SCALE: Timescale = Timescale::MPEG;
/// The longest time that a track's queue holds, from its oldest to its newest unit: a long segment, and the start of the next.
const AHEAD_MAX: Duration = Duration::from_secs(15);
/// The most bytes of memory that all queues hold: that time at 25 Mb/s.
const HELD_MAX: usize = 48 << 20;
/// The longest time that playout waits at the start for announced tracks, and a message for the leader.
const START_MAX: Duration = Duration::from_secs(3);
/// The longest time that the other tracks wait for a late one. After that, the packager goes on without it.
const LATE_MAX: Duration = Duration::from_secs(3);
/// Tracks whose times are further apart than a queue holds have clocks of their own, and are aligned by arrival. Once
/// other tracks play, one that begins may be behind by this much: its encoder kept it until it could connect. A guess.
const BEHIND_MAX: Duration = Duration::from_secs(60);
/// The longest step forward that counts as a hole. A longer one is a jump.
const FORWARD_MAX: Duration = Duration::from_secs(10);
/// A unit has come already if it is behind its track's newest by no more than this, or than one and a half bursts:
/// encoders send again what was cut off.
const RESENT_MAX: Duration = Duration::from_secs(2);
/// A unit has come already, too, if it is behind its encoder's expected time by no more than this, or than three
/// bursts. A redundant encoder differs by about a segment. A guess.
const REDUNDANT_MAX: Duration = Duration::from_secs(6);
/// Units that come within this time are one burst, and the longest burst that counts.
const BURST: Duration = Duration::from_secs(1);
const BURST_MAX: Duration = Duration::from_secs(10);
/// The time between two steps of catching up while all units come early, the earliness that remains, and the size of a step:
/// less than a viewer's buffer.
const RETURN_EACH: Duration = Duration::from_secs(10);
const RETURN_KEEPS: Duration = Duration::from_millis(150);
const RETURN_STEP: Duration = Duration::from_millis(250);
/// The number of messages that are remembered to find repeated ones: a tag a frame, of a long segment.
const KNOWN_MAX: usize = 1_024;
/// The most memory for the messages among a track's units, in bytes: a tag of 1 KiB a frame, at 60 frames a second.
/// Further messages are lost.
const QUEUE_MESSAGES_LEN_MAX: usize = 1 << 20;
/// The most memory for the messages that wait for units of their time, in bytes. The oldest are lost first. A guess.
const WAITING_LEN_MAX: usize = 4 * MESSAGE_LEN_MAX;
/// The longest wait of a message. After that, all units ahead have been played, and nearby units are of another time.
const WAITING_MAX: Duration = AHEAD_MAX.saturating_add(FORWARD_MAX);

/// The number of a track's queue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct QueueId(pub usize);

/// An item of a track's queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// Headers of the units that follow.
    Config(CodecConfig),
    /// A frame at its decode time, in ticks of [`SCALE`], unwrapped.
    Unit(i64, AccessUnit),
    /// Timed metadata at its presentation time, in ticks of [`SCALE`], unwrapped.
    Message(i64, TimedMessage),
}

/// The result of pushing an item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pushed {
    /// The item was taken.
    Taken,
    /// The item had come already.
    Repeated,
    /// The item is useless, since units before it are missing.
    Useless,
    /// The item was taken, and its time has jumped.
    Jumped,
    /// The item was taken, and its time is so far from the other tracks that its track is aligned by arrival.
    Apart,
}

#[derive(Debug)]
struct Queued {
    item: Item,
    /// The number of jumps before it.
    stretch: u64,
    came: Time,
}

#[derive(Debug, Default)]
struct TrackQueue {
    items: VecDeque<Queued>,
    /// The memory of its messages, in bytes.
    messages_len: usize,
    /// The distance by which the track's clock is ahead of playout. The times in this struct don't include it.
    shift: i64,
    /// The newest unit's decode time.
    last: Option<i64>,
    /// The shortest step between two units.
    step: i64,
    stretch: u64,
    /// The decode time of the last unit that was played.
    played: Option<i64>,
    /// The arrival time of the newest unit.
    came: Time,
    /// The lateness of the newest unit.
    late: Duration,
    /// The arrival and decode time of the current burst's first unit, and the longest burst.
    begun: Option<(Time, i64)>,
    burst: Duration,
    closed: bool,
}

/// Puts units of several tracks in order, and plays them at the pace of their timestamps.
#[derive(Debug, Default)]
pub struct JitterBuffer {
    queues: Vec<TrackQueue>,
    held: usize,
    /// A time, and the decode time that is due then, in the stretch that is played.
    origin: Option<(Time, i64)>,
    stretch: u64,
    /// The track that messages without a track go with.
    leader: Option<QueueId>,
    /// The least earliness of all units since `early_since`; `None` if one was late, or a queue was full.
    early: Option<Duration>,
    early_since: Time,
    /// Messages that wait for units of their time.
    waiting: Vec<WaitingMessage>,
    known: VecDeque<blake3::Hash>,
    /// The number of messages that were taken and then lost.
    lost: u64,
}

/// A message that waits for units of its time.
#[derive(Debug)]
struct WaitingMessage {
    /// The message's track; `None` for the [leader](JitterBuffer::lead), or for the first track nearby if the leader doesn't
    /// come.
    queue: Option<QueueId>,
    /// The decode time of the units that it came with.
    at: i64,
    came: Time,
    item: Item,
}

impl Queued {
    /// Returns the decode time of a unit of this stretch.
    fn dts(&self, stretch: u64) -> Option<i64> {
        match &self.item {
            Item::Unit(dts, _) if self.stretch == stretch => Some(*dts),
            _ => None,
        }
    }
}

impl TrackQueue {
    fn units(&self) -> impl DoubleEndedIterator<Item = (i64, u64, Time)> {
        self.items.iter().filter_map(|queued| match &queued.item {
            Item::Unit(dts, _) => Some((*dts, queued.stretch, queued.came)),
            Item::Config(_) | Item::Message(..) => None,
        })
    }

    /// Returns the headers behind the track's newest unit.
    fn unused(&mut self) -> Option<&mut Item> {
        let behind = self.items.iter_mut().rev().map(|queued| &mut queued.item);
        behind.take_while(|item| !matches!(item, Item::Unit(..))).find(|item| matches!(item, Item::Config(_)))
    }

    /// Returns the newest unit's decode time, on the track's own clock.
    fn last(&self) -> Option<i64> {
        self.last.map(|last| last.saturating_add(self.shift))
    }

    /// Returns whether the newest unit is near a time, on the track's own clock.
    fn is_near(&self, at: i64) -> bool {
        self.last().is_some_and(|last| apart(at, last) <= FORWARD_MAX)
    }

    /// Returns the index for a message: behind the last unit that is decoded by then, and its messages. A unit of its
    /// stretch is always before it.
    fn place(&self, at: i64) -> usize {
        let decoded = |queued: &Queued| queued.dts(self.stretch).is_some_and(|dts| dts <= at);
        let first = || self.items.iter().position(|queued| queued.dts(self.stretch).is_some());
        let Some(unit) = self.items.iter().rposition(decoded).or_else(first) else { return self.items.len() };
        let is_message = |queued: &&Queued| matches!(queued.item, Item::Message(..));
        unit + 1 + self.items.range(unit + 1..).take_while(is_message).count()
    }

    /// Returns whether a unit of that time has come already. A unit behind the newest that hasn't is of an encoder that
    /// has restarted.
    fn has_had(&self, dts: i64, now: Time) -> bool {
        let Some(behind) = self.last.filter(|&last| dts <= last).map(|last| span(dts, last)) else { return false };
        let resent = RESENT_MAX.max(self.burst * 3 / 2);
        let redundant = REDUNDANT_MAX.max(self.burst * 3);
        behind <= resent || behind + now.since(self.came) <= redundant
    }

    /// Measures the bursts.
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

/// Returns the memory of an item, in bytes.
fn len(item: &Item) -> usize {
    let data = match item {
        Item::Config(config) => config.as_bytes(),
        Item::Unit(_, unit) => &unit.data,
        Item::Message(_, message) => &message.data,
    };
    size_of::<Queued>() + data.len()
}

impl JitterBuffer {
    /// Opens the queue of one more track. Playout begins once all tracks have come.
    pub fn open(&mut self) -> QueueId {
        self.queues.push(TrackQueue::default());
        QueueId(self.queues.len() - 1)
    }

    /// Sets the track that messages without a track go with.
    pub fn lead(&mut self, queue: QueueId) {
        self.leader = Some(queue);
    }

    /// Notes that a track pauses or has ended. Playout doesn't wait for it.
    pub fn close(&mut self, queue: QueueId) {
        self.queues[queue.0].closed = true;
    }

    /// Returns a track's newest decode time, or the newest of all tracks if it has none.
    pub fn newest(&self, queue: Option<QueueId>) -> Option<i64> {
        queue.and_then(|queue| self.last(queue)).or_else(|| self.queues.iter().filter_map(TrackQueue::last).max())
    }

    /// Returns a track's newest decode time.
    pub fn last(&self, queue: QueueId) -> Option<i64> {
        self.queues[queue.0].last()
    }

    /// Returns whether a track's queue has room.
    pub fn has_room(&mut self, queue: QueueId) -> bool {
        let mut units = self.queues[queue.0].units();
        let (first, last) = (units.next(), units.next_back());
        let ahead = first.zip(last).is_some_and(|((first, ..), (last, ..))| span(first, last) >= AHEAD_MAX);
        let full = ahead || self.held >= HELD_MAX;
        if full {
            // The sender has to wait, so its units don't count as early.
            self.early = None;
        }
        !full
    }

    /// Takes an item.
    pub fn push(&mut self, id: QueueId, now: Time, item: Item) -> Pushed {
        let mut pushed = Pushed::Taken;
        // The decode times before and after a jump.
        let mut jump = None;
        let item = match item {
            Item::Unit(raw, unit) => {
                let queue = &self.queues[id.0];
                let (last, dts) = (queue.last(), raw.saturating_sub(queue.shift));
                if queue.has_had(dts, now) {
                    return self.fill(id, now, dts, unit);
                }
                pushed = self.arrive(id, now, raw);
                jump = last.filter(|_| pushed != Pushed::Taken).map(|last| (last, raw));
                Item::Unit(raw.saturating_sub(self.queues[id.0].shift), unit)
            }
            other => other,
        };
        self.held += len(&item);
        let queue = &mut self.queues[id.0];
        queue.closed = false;
        let stretch = queue.stretch;
        // Headers without units behind them are useless once newer ones come.
        match queue.unused().filter(|_| matches!(item, Item::Config(_))) {
            Some(unused) => self.held -= len(&std::mem::replace(unused, item)),
            None => queue.items.push_back(Queued { item, stretch, came: now }),
        }
        self.settle(now);
        if let Some((from, to)) = jump {
            // These headers belong to units that won't come any more.
            let over = self.waiting.extract_if(.., |message| {
                message.queue.is_none_or(|queue| queue == id) && apart(message.at, from) < apart(message.at, to)
            });
            self.lost += over.count() as u64;
        }
        pushed
    }

    /// Places a new unit: finds its stretch and its track's shift.
    fn arrive(&mut self, id: QueueId, now: Time, raw: i64) -> Pushed {
        let newest = self.queues.iter().map(|queue| queue.stretch).max().unwrap_or(0);
        let queue = &self.queues[id.0];
        let dts = raw.saturating_sub(queue.shift);
        // The other tracks have jumped to its time, by its own clock.
        let follows =
            || queue.shift != 0 && queue.stretch < newest && self.others(id, newest).any(|other| other.is_near(raw));
        let jumps = queue.last.filter(|&last| dts <= last || span(last, dts) > FORWARD_MAX || follows()).is_some();
        let begins = queue.last.is_none();
        let (stretch, shift) = match self.beside(id, now, newest, raw) {
            // A track that comes later joins the others' stretch.
            shift if begins => (newest, shift.unwrap_or(0)),
            _ if !jumps => (queue.stretch, queue.shift),
            // It follows the others, if they have jumped already.
            Some(shift) if newest > queue.stretch => (newest, shift),
            _ => (newest + 1, 0),
        };
        let dts = raw.saturating_sub(shift);
        let queue = &mut self.queues[id.0];
        let apart = shift != 0 && shift != queue.shift;
        let step = queue.last.filter(|_| !jumps).map_or(0, |last| dts.saturating_sub(last));
        if step > 0 && (queue.step == 0 || step < queue.step) {
            queue.step = step;
        }
        (queue.last, queue.shift, queue.stretch, queue.came) = (Some(dts), shift, stretch, now);
        queue.begun = queue.begun.filter(|_| !jumps);
        queue.measure(now, dts);
        self.observe(id, now, dts);
        match (apart, jumps) {
            (true, _) => Pushed::Apart,
            (_, true) => Pushed::Jumped,
            _ => Pushed::Taken,
        }
    }

    /// Returns the other tracks with units in this stretch.
    fn others(&self, id: QueueId, stretch: u64) -> impl Iterator<Item = &TrackQueue> {
        let queues = self.queues.iter().enumerate().filter(move |(n, queue)| *n != id.0 && queue.stretch == stretch);
        queues.map(|(_, queue)| queue).filter(|queue| queue.last.is_some())
    }

    /// Returns by how much a track's clock is ahead of the others', if that is known: nothing if its units are near
    /// theirs. If it is so far away that one would wait for ever, or never be waited for, its arrival decides.
    fn beside(&self, id: QueueId, now: Time, stretch: u64, raw: i64) -> Option<i64> {
        if let Some(other) = self.others(id, stretch).find(|other| other.is_near(raw)) {
            return Some(other.shift);
        }
        let newest = self.others(id, stretch).max_by_key(|other| other.came)?;
        // The first unit of a burst came on time.
        let (begun, first) = newest.begun?;
        let off = raw.saturating_sub(first.saturating_add(SCALE.ticks(now.since(begun)).cast_signed()));
        let behind_max = if self.origin.is_some() { BEHIND_MAX } else { AHEAD_MAX };
        (span(0, off) > AHEAD_MAX || span(off, 0) > behind_max).then_some(off)
    }

    /// Returns the distance by which a track's clock is ahead of the others'.
    pub fn shift(&self, queue: QueueId) -> Duration {
        apart(self.queues[queue.0].shift, 0)
    }

    /// Takes a message that came with units decoded at `at`, and has the presentation time `pts`. It goes with its
    /// track's units, or with the leader's if it has no track.
    pub fn message(&mut self, queue: Option<QueueId>, now: Time, at: i64, pts: i64, message: TimedMessage) -> Pushed {
        // The same message of two renditions goes to the packager twice, since one of the two may not be live there
        // yet.
        let whose = queue.map_or(usize::MAX, |QueueId(n)| n);
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
        let message = WaitingMessage { queue, at, came: now, item: Item::Message(pts, message) };
        match self.near(now, &message) {
            Some(queue) => self.join(queue, message),
            None => {
                self.waiting.push(message);
                while self.waiting_len() > WAITING_LEN_MAX {
                    self.waiting.remove(0);
                    self.lost += 1;
                }
            }
        }
        Pushed::Taken
    }

    /// Returns the number of messages lost since the last call: there were too many, or no units of their time.
    pub fn lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Adds waiting messages to the units of their time, if those have come.
    fn settle(&mut self, now: Time) {
        let late = self.waiting.extract_if(.., |message| now.since(message.came) > WAITING_MAX);
        self.lost += late.count() as u64;
        for message in std::mem::take(&mut self.waiting) {
            match self.near(now, &message) {
                Some(queue) => self.join(queue, message),
                None => self.waiting.push(message),
            }
        }
    }

    fn waiting_len(&self) -> usize {
        self.waiting.iter().map(|message| len(&message.item)).sum()
    }

    /// Returns the track of a message, if units of its time came last.
    fn near(&self, now: Time, message: &WaitingMessage) -> Option<QueueId> {
        let is_near = |queue: &QueueId| self.queues[queue.0].is_near(message.at);
        if let Some(queue) = message.queue.or(self.leader).filter(is_near) {
            return Some(queue);
        }
        let comes =
            self.leader.is_some_and(|leader| !self.queues[leader.0].closed) && now.since(message.came) < START_MAX;
        let free = message.queue.is_none() && !comes;
        (0..self.queues.len()).map(QueueId).find(is_near).filter(|_| free)
    }

    /// Adds a message to the units of a track.
    fn join(&mut self, id: QueueId, WaitingMessage { at, came, mut item, .. }: WaitingMessage) {
        let (queue, len) = (&mut self.queues[id.0], len(&item));
        if queue.messages_len + len > QUEUE_MESSAGES_LEN_MAX {
            self.lost += 1;
            return;
        }
        self.held += len;
        queue.messages_len += len;
        if let Item::Message(pts, _) = &mut item {
            *pts = pts.saturating_sub(queue.shift);
        }
        let (place, stretch) = (queue.place(at.saturating_sub(queue.shift)), queue.stretch);
        queue.items.insert(place, Queued { item, stretch, came });
    }

    /// Takes a unit behind the newest, if it fills a hole. Otherwise it has come already. Requests of two consecutive
    /// segments may be read in either order.
    fn fill(&mut self, id: QueueId, now: Time, dts: i64, unit: AccessUnit) -> Pushed {
        let queue = &mut self.queues[id.0];
        let half = (queue.step / 2).max(1);
        let at = |queued: &Queued| queued.dts(queue.stretch);
        let behind = queue.items.iter().position(|queued| at(queued).is_some_and(|other| other + half > dts));
        let hole = behind.filter(|&n| {
            let next = at(&queue.items[n]).is_some_and(|next| dts + half < next);
            let before = queue.items.iter().take(n).rev().find_map(at).or(queue.played);
            next && before.is_none_or(|before| before + half < dts)
        });
        let Some(n) = hole else { return Pushed::Repeated };
        let item = Item::Unit(dts, unit);
        self.held += len(&item);
        let stretch = queue.stretch;
        queue.items.insert(n, Queued { item, stretch, came: now });
        Pushed::Taken
    }

    /// Notes the earliness or lateness of a unit, and adapts playout.
    fn observe(&mut self, id: QueueId, now: Time, dts: i64) {
        let queue = &self.queues[id.0];
        let Some((at, base)) = self.origin.filter(|_| queue.stretch == self.stretch) else { return };
        let due = at + span(base, dts);
        self.queues[id.0].late = now.since(due);
        if due < now {
            let late = now.since(due);
            // All tracks were held up, not only this one.
            let on_time =
                |other: &TrackQueue| other.last.is_some() && other.late.max(now.since(other.came)) <= LATE_MAX;
            let mut others = self.queues.iter().enumerate().filter(|(n, _)| *n != id.0);
            let idle = self.queues.iter().all(|queue| queue.units().next().is_none());
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

    /// Returns the next item that is due.
    pub fn pop(&mut self, now: Time) -> Option<(QueueId, Item)> {
        let (at, id) = self.next(now)?;
        if at > now {
            return None;
        }
        let (base, queued) = (self.origin, self.queues[id.0].items.pop_front()?);
        self.held -= len(&queued.item);
        match queued.item {
            Item::Unit(dts, _) => self.queues[id.0].played = Some(dts),
            Item::Message(..) => self.queues[id.0].messages_len -= len(&queued.item),
            Item::Config(_) => {}
        }
        if let Item::Unit(dts, _) = queued.item
            && (base.is_none() || queued.stretch > self.stretch)
        {
            // Playout of a stretch begins here.
            self.origin = Some((now, dts));
            self.stretch = queued.stretch;
            (self.early, self.early_since) = (None, now);
        }
        Some((id, queued.item))
    }

    /// Returns when to call [`pop`](Self::pop) again.
    pub fn due(&self, now: Time) -> Option<Time> {
        self.next(now).map(|(at, _)| at)
    }

    /// Returns the queue of the next item, and when the item is due.
    fn next(&self, now: Time) -> Option<(Time, QueueId)> {
        let queues = || self.queues.iter().enumerate().map(|(n, queue)| (QueueId(n), queue));
        // Headers go with the unit behind them, so that earlier units of other tracks go first.
        let units = || queues().filter_map(|(id, queue)| queue.units().next().map(|unit| (id, unit)));
        let heads = || queues().filter_map(|(id, queue)| Some((id, queue.items.front()?)));
        let Some((at, base)) = self.origin else {
            let first = heads().map(|(_, head)| head.came).min()?;
            let all = self.queues.iter().all(|queue| queue.closed || queue.units().next().is_some());
            let any = self.queues.iter().any(|queue| queue.units().next().is_some());
            let starts = if all && any { now.min(first) } else { first + START_MAX };
            // At the start, headers and messages go before all units.
            let free = heads().find(|(_, head)| !matches!(head.item, Item::Unit(..)));
            let unit = units().min_by_key(|(_, (dts, ..))| *dts);
            let id = free.map(|(id, _)| id).or(unit.map(|(id, _)| id))?;
            return Some((starts, id));
        };
        // Messages go right behind their unit.
        if let Some((id, _)) = heads().find(|(_, head)| matches!(head.item, Item::Message(..))) {
            return Some((now, id));
        }
        // Units from before a jump go first.
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
