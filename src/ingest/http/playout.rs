//! From requests that bring a stream in bursts and by track to one sequence of units in the order and at the pace of
//! their timestamps (pure).
//!
//! ```text
//!  lane (one a track)   |=====|     |== <- a request brings a segment at once
//!  lane                  |===|          another one somewhat later
//!                          ^ origin: this decode time is due now
//! ```
//!
//! A unit is handed on when it is due. The first one sets what is due, once each track has come; one that comes late
//! moves it, so that what was late once is waited for from then on: latency is as much as the requests' own pauses, and
//! no more. What nobody needs any more of that is given back slowly. A sender that is faster than time, a file, fills its
//! lane, and is held up by it.
//!
//! What has come already is told by its decode time, and dropped: redundant encoders send the same ("A receiving entity
//! can ignore fragments that it has already received", DASH-IF Live Media Ingest 1.2, 6.8). A time that is further off
//! than that is a jump: an encoder has begun anew.

use std::collections::VecDeque;
use std::time::Duration;

use crate::media::{AccessUnit, CodecConfig};
use crate::units::{Time, Timescale};

/// Of all lanes' times.
pub(crate) const SCALE: Timescale = Timescale::MPEG;
/// What a lane holds at most, from its oldest to its newest unit: a long segment, and the start of the next.
const AHEAD_MAX: Duration = Duration::from_secs(15);
/// And what all of them hold, in bytes: that, at 25 Mb/s.
const HELD_MAX: usize = 48 << 20;
/// How long it is waited at the start for tracks that were announced and don't come.
const START_MAX: Duration = Duration::from_secs(3);
/// By how much the others wait for a track that comes late. Behind that, the packager goes on without it.
const LATE_MAX: Duration = Duration::from_secs(3);
/// A step forward beyond this is a jump, not a hole.
const FORWARD_MAX: Duration = Duration::from_secs(10);
/// What lies behind a lane's newest unit by no more than this, or than one and a half of its bursts, has come already: an
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

/// A track's place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct LaneId(pub usize);

/// What goes through a lane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Item {
    /// Headers of what follows.
    Config(CodecConfig),
    /// A frame at its decode time, in ticks of [`SCALE`], unwrapped.
    Unit(i64, AccessUnit),
}

/// What became of an item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pushed {
    /// It was taken.
    Taken,
    /// It had come already.
    Repeated,
    /// It was taken, and lies elsewhere than the one before.
    Jumped,
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
    /// The newest unit's.
    last: Option<i64>,
    /// The shortest step between two of them.
    step: i64,
    stretch: u64,
    /// The unit that was handed on last.
    played: Option<i64>,
    /// When that came.
    came: Time,
    /// How the burst that it is of began, and the longest that was.
    begun: Option<(Time, i64)>,
    burst: Duration,
    closed: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Playout {
    lanes: Vec<Lane>,
    held: usize,
    /// When which decode time is due, in the stretch that is played.
    origin: Option<(Time, i64)>,
    stretch: u64,
    /// By how much units have come too early at least since then; `None` if one was late, or a lane full.
    early: Option<Duration>,
    early_since: Time,
}

impl Lane {
    fn units(&self) -> impl DoubleEndedIterator<Item = (i64, u64, Time)> {
        self.queue.iter().filter_map(|queued| match &queued.item {
            Item::Unit(dts, _) => Some((*dts, queued.stretch, queued.came)),
            Item::Config(_) => None,
        })
    }
}

impl Lane {
    /// Whether a unit so far behind the newest has come already, or an encoder has begun anew.
    fn has_had(&self, behind: Duration, now: Time) -> bool {
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

fn span(from: i64, to: i64) -> Duration {
    SCALE.duration(u64::try_from(to.saturating_sub(from)).unwrap_or(0))
}

fn len(item: &Item) -> usize {
    match item {
        Item::Config(_) => 0,
        Item::Unit(_, unit) => unit.data.len(),
    }
}

impl Playout {
    /// A track more. What is played begins once all of them have come.
    pub(crate) fn open(&mut self) -> LaneId {
        self.lanes.push(Lane::default());
        LaneId(self.lanes.len() - 1)
    }

    /// Nothing more comes of a track for now; it isn't waited for.
    pub(crate) fn close(&mut self, lane: LaneId) {
        self.lanes[lane.0].closed = true;
    }

    /// A lane's newest decode time, or if it has none, anyone's.
    pub(crate) fn newest(&self, lane: LaneId) -> Option<i64> {
        self.lanes[lane.0].last.or_else(|| self.lanes.iter().filter_map(|lane| lane.last).max())
    }

    /// A lane's own newest decode time.
    pub(crate) fn last(&self, lane: LaneId) -> Option<i64> {
        self.lanes[lane.0].last
    }

    /// Whether a lane can take more at the moment.
    pub(crate) fn has_room(&mut self, lane: LaneId) -> bool {
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
    pub(crate) fn push(&mut self, id: LaneId, now: Time, item: Item) -> Pushed {
        let newest = self.lanes.iter().map(|lane| lane.stretch).max().unwrap_or(0);
        let near = |dts: i64, last: i64| span(dts, last).max(span(last, dts)) <= FORWARD_MAX;
        let others =
            |dts: i64| self.lanes.iter().any(|l| l.stretch == newest && l.last.is_some_and(|last| near(dts, last)));
        let mut pushed = Pushed::Taken;
        if let Item::Unit(dts, _) = item {
            let lane = &self.lanes[id.0];
            let mut stretch = lane.stretch;
            match lane.last {
                Some(last) if dts <= last && lane.has_had(span(dts, last), now) => {
                    return self.fill(id, now, dts, item);
                }
                Some(last) if dts <= last || span(last, dts) > FORWARD_MAX => {
                    pushed = Pushed::Jumped;
                    // After the others, if they have jumped there already.
                    stretch = if newest > stretch && others(dts) { newest } else { newest + 1 };
                }
                // A track that comes later is where the others are.
                None => stretch = newest,
                Some(_) => {}
            }
            let lane = &mut self.lanes[id.0];
            let step = lane.last.map_or(0, |last| dts.saturating_sub(last));
            if step > 0 && (lane.step == 0 || step < lane.step) {
                lane.step = step;
            }
            (lane.last, lane.stretch, lane.came) = (Some(dts), stretch, now);
            lane.measure(now, dts);
            self.observe(id, now, dts);
        }
        self.held += len(&item);
        let lane = &mut self.lanes[id.0];
        lane.closed = false;
        let stretch = lane.stretch;
        lane.queue.push_back(Queued { item, stretch, came: now });
        pushed
    }

    /// A unit behind the newest: it has come already, unless it fills a hole. Requests of two segments that follow one
    /// another closely may be taken in either order.
    fn fill(&mut self, id: LaneId, now: Time, dts: i64, item: Item) -> Pushed {
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
        if due < now {
            let late = now.since(due);
            let alone = self.lanes.iter().all(|lane| lane.units().next().is_none());
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
    pub(crate) fn pop(&mut self, now: Time) -> Option<(LaneId, Item)> {
        let (at, id) = self.next(now)?;
        if at > now {
            return None;
        }
        let (base, queued) = (self.origin, self.lanes[id.0].queue.pop_front()?);
        self.held -= len(&queued.item);
        if let Item::Unit(dts, _) = queued.item {
            self.lanes[id.0].played = Some(dts);
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
    pub(crate) fn due(&self, now: Time) -> Option<Time> {
        self.next(now).map(|(at, _)| at)
    }

    /// The item that comes next, and when it is due.
    fn next(&self, now: Time) -> Option<(Time, LaneId)> {
        let heads = || self.lanes.iter().enumerate().filter_map(|(n, lane)| Some((LaneId(n), lane.queue.front()?)));
        // Headers go before the unit that they stand before, and at the start before all units.
        let config = heads().find(|(_, head)| matches!(head.item, Item::Config(_)));
        let units = || {
            heads().filter_map(|(id, head)| match &head.item {
                Item::Unit(dts, _) => Some((id, *dts, head)),
                Item::Config(_) => None,
            })
        };
        let Some((at, base)) = self.origin else {
            let first = heads().map(|(_, head)| head.came).min()?;
            let all = self.lanes.iter().all(|lane| lane.closed || lane.units().next().is_some());
            let any = self.lanes.iter().any(|lane| lane.units().next().is_some());
            let starts = if all && any { now.min(first) } else { first + START_MAX };
            let id = config.map(|(id, _)| id).or_else(|| units().min_by_key(|(_, dts, _)| *dts).map(|(id, ..)| id))?;
            return Some((starts, id));
        };
        if let Some((id, _)) = config {
            return Some((now, id));
        }
        // The rest of what was before a jump first.
        let here =
            units().filter(|(.., head)| head.stretch <= self.stretch).min_by_key(|(_, dts, head)| (head.stretch, *dts));
        let there =
            units().filter(|(.., head)| head.stretch > self.stretch).min_by_key(|(_, dts, head)| (head.stretch, *dts));
        let here =
            here.map(|(id, dts, head)| (if head.stretch < self.stretch { now } else { at + span(base, dts) }, id));
        let waits = |(id, _, head): (LaneId, i64, &Queued)| (head.came + LATE_MAX, id);
        match (here, there) {
            (None, there) => there.map(|(id, ..)| (now, id)),
            (Some(here), None) => Some(here),
            (Some(here), Some(there)) => Some(here.min(waits(there))),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::InputTrack;

    fn unit(ms: i64) -> Item {
        let data = Bytes::from_static(&[0; 100]);
        Item::Unit(ms * 90, AccessUnit { track: InputTrack(0), dts: 0, composition_offset: 0, keyframe: true, data })
    }

    fn at(ms: u64) -> Time {
        Time::from_millis(10_000 + ms)
    }

    struct Player {
        playout: Playout,
        /// Lane, decode time and when it was handed on, in milliseconds.
        played: Vec<(usize, i64, u64)>,
        now: Time,
    }

    impl Player {
        fn new(lanes: usize) -> Self {
            let mut playout = Playout::default();
            (0..lanes).for_each(|_| _ = playout.open());
            Player { playout, played: Vec::new(), now: at(0) }
        }

        /// Plays what is due up to then.
        fn until(&mut self, ms: u64) -> &mut Self {
            let mut now = self.now;
            while let Some(due) = self.playout.due(now).filter(|&due| due <= at(ms)) {
                now = now.max(due);
                let (id, item) = self.playout.pop(now).expect("it is due");
                if let Item::Unit(dts, _) = item {
                    self.played.push((id.0, dts / 90, now.since(at(0)).as_millis() as u64));
                }
            }
            self.now = now.max(at(ms));
            self
        }

        /// A segment of 100 ms steps comes at once.
        fn segment(&mut self, ms: u64, lane: usize, times: std::ops::Range<i64>) -> Vec<Pushed> {
            self.until(ms);
            times.step_by(100).map(|time| self.playout.push(LaneId(lane), at(ms), unit(time))).collect()
        }
    }

    #[test]
    fn bursts_are_spread_and_lateness_is_remembered() {
        let mut player = Player::new(1);
        player.segment(0, 0, 5_000..7_000);
        // The next ones are late by 50 and by 80 ms.
        player.segment(2_050, 0, 7_000..9_000);
        player.segment(4_080, 0, 9_000..11_000);
        player.segment(6_050, 0, 11_000..13_000);
        player.until(20_000);
        let late = |n: usize| player.played[n].2 as i64 - (player.played[n].1 - 5_000);
        assert_eq!((late(0), late(19), late(20), late(39), late(40), late(79)), (0, 0, 50, 50, 80, 80));
    }

    #[test]
    fn tracks_are_put_in_order_whoever_comes_first() {
        let mut player = Player::new(2);
        player.segment(0, 0, 0..2_000);
        assert!(player.until(900).played.is_empty(), "the other one is waited for");
        player.segment(1_000, 1, 0..2_000);
        player.segment(2_000, 0, 2_000..4_000);
        player.segment(3_000, 1, 2_000..4_000);
        player.until(9_000);
        let times: Vec<i64> = player.played.iter().map(|(_, time, _)| *time).collect();
        assert!(times.is_sorted() && times.len() == 80, "{times:?}");
        assert_eq!(player.played[79].2, 4_900);
        // One that never comes is not waited for for ever.
        let mut player = Player::new(2);
        player.segment(0, 0, 0..200);
        assert_eq!(player.until(9_000).played, [(0, 0, 3_000), (0, 100, 3_100)]);
    }

    #[test]
    fn headers_go_first_and_hold_nothing_up() {
        let mut player = Player::new(2);
        for lane in 0..2 {
            player.playout.push(LaneId(lane), at(0), Item::Config(CodecConfig::Aac(Bytes::new())));
            player.segment(0, lane, 0..200);
        }
        let first = [player.playout.pop(at(0)), player.playout.pop(at(0))];
        assert!(first.iter().all(|popped| matches!(popped, Some((_, Item::Config(_))))), "{first:?}");
        assert_eq!(player.until(9_000).played, [(0, 0, 0), (1, 0, 0), (0, 100, 100), (1, 100, 100)]);
    }

    #[test]
    fn a_file_is_held_up() {
        let mut player = Player::new(1);
        let mut time = 0;
        while player.playout.has_room(LaneId(0)) {
            player.playout.push(LaneId(0), at(0), unit(time));
            time += 100;
        }
        assert_eq!(time, 15_100);
        player.until(1_000);
        assert!(player.playout.has_room(LaneId(0)));
        // It is no reason to go faster.
        player.segment(14_000, 0, 15_100..16_000);
        player.until(60_000);
        assert!(player.played.iter().all(|(_, time, played)| *time == *played as i64));
    }

    #[test]
    fn what_has_come_is_dropped_and_a_new_beginning_is_not() {
        let mut player = Player::new(2);
        let repeated = |pushed: Vec<Pushed>| pushed.iter().filter(|pushed| **pushed == Pushed::Repeated).count();
        player.segment(0, 0, 0..2_000);
        assert_eq!(repeated(player.segment(100, 0, 0..2_000)), 20);
        player.segment(100, 1, 0..2_000);
        assert_eq!(repeated(player.segment(2_000, 0, 1_000..3_000)), 10);
        player.segment(2_000, 1, 2_000..3_000);
        player.segment(3_000, 0, 3_000..6_000);
        player.segment(3_000, 1, 3_000..6_000);
        // Killed, and begun anew from 0.
        player.until(8_000);
        let pushed = player.segment(8_000, 0, 0..1_000);
        assert_eq!((pushed[0], pushed[1]), (Pushed::Jumped, Pushed::Taken));
        let pushed = player.segment(8_300, 1, 0..1_000);
        assert_eq!((pushed[0], pushed[1]), (Pushed::Jumped, Pushed::Taken));
        player.until(20_000);
        assert_eq!(player.played.len(), 2 * 70);
        assert_eq!(player.played.iter().map(|(.., played)| *played).max(), Some(9_200));
    }

    #[test]
    fn two_segments_may_come_in_either_order() {
        let mut player = Player::new(1);
        player.segment(0, 0, 0..1_000);
        player.segment(500, 0, 2_000..3_000);
        assert!(player.segment(500, 0, 1_000..2_000).iter().all(|pushed| *pushed == Pushed::Taken));
        // Others between those that are there are none of theirs.
        assert!(player.segment(500, 0, 1_020..2_000).iter().all(|pushed| *pushed == Pushed::Repeated));
        player.until(9_000);
        assert!(player.played.iter().map(|(_, time, _)| *time).eq((0..3_000).step_by(100)), "{:?}", player.played);
    }

    #[test]
    fn after_an_outage_what_comes_is_played_from_then_on() {
        let mut player = Player::new(2);
        for lane in 0..2 {
            player.segment(0, lane, 0..1_000);
        }
        // Nothing for 20 s; then all at once that was held up.
        for lane in 0..2 {
            player.segment(21_000, lane, 1_000..9_000);
        }
        player.until(60_000);
        let after: Vec<_> = player.played.iter().filter(|(_, time, _)| *time >= 1_000).collect();
        assert!(after.iter().all(|(_, time, played)| *played as i64 == time + 20_000), "{after:?}");
        // In real time again, and with 8 s too many: they are given back.
        for second in 9..400 {
            for lane in 0..2 {
                player.segment(13_000 + second * 1_000, lane, second as i64 * 1_000..second as i64 * 1_000 + 1_000);
            }
        }
        player.until(900_000);
        let (_, time, played) = player.played.last().expect("many");
        assert!((*played as i64 - time - 13_000).abs() < 1_300, "{time} was played at {played}");
        assert!(player.played.windows(2).all(|pair| pair[0].2 <= pair[1].2));
    }
}
