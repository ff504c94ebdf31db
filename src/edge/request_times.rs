//! What requests take, stage by stage: [`Stage::OF_REQUESTS`], as [`damson_core::model::latency`] defines them.
//!
//! Each request is timed by one [`Timed`], from the lookup to its last byte: parts, segments, init segments, playlists
//! and MPDs, whose stages `/metrics` shows by kind. What those for parts come to is also kept a stream in sketches, bounded
//! whatever the number of requests.
//!
//! To time a request costs 0.5 us of the 5 us that a small part's answer takes. So of a stream's requests of each kind
//! the first [`FIRST`] of each second are timed, and of the others one in [`EACH`]: see [`Pace`].

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use damson_core::model::Stage;
use damson_core::model::latency::Spread;
use damson_core::model::time::Time;
use parking_lot::Mutex;

use crate::clock;
use crate::observe::Metrics;
use crate::observe::metrics::RequestKind;

/// A request that is timed, answered.
#[derive(Debug)]
pub(crate) struct Timed {
    times: Arc<RequestTimes>,
    kind: RequestKind,
    /// What is sent as it comes: how long that takes says nothing of this edge.
    grows: bool,
    asked: Time,
    listed: Time,
    answered: Time,
}

impl Timed {
    /// Marks what is sent as it comes.
    pub(crate) fn growing(self) -> Self {
        Timed { grows: true, ..self }
    }

    /// Notes that the answer is handed to the connection.
    pub(crate) fn answered(&mut self) {
        self.answered = clock::now();
    }

    /// Takes in that its last byte is in the system's hands.
    pub(crate) fn sent(self) {
        let now = clock::now();
        let Timed { times, kind, grows, asked, listed, answered } = self;
        // A document is as old as its newest part, and an init segment as the stream: that is no wait of anybody's.
        let may_idle = matches!(kind, RequestKind::Part | RequestKind::Segment);
        let first = match asked < listed {
            true => Some((Stage::Held, listed.since(asked))),
            false => may_idle.then(|| (Stage::Idle, asked.since(listed))),
        };
        let answer = (Stage::Answer, answered.since(asked.max(listed)));
        let send = (!grows).then(|| (Stage::Send, now.since(answered)));
        times.record(now, kind, [first, Some(answer), send].into_iter().flatten());
    }
}

/// What the requests for a stream take.
#[derive(Debug)]
pub(crate) struct RequestTimes {
    pace: Pace,
    /// Of a stream that somebody watches: what the requests for its parts took.
    recent: OnceLock<Mutex<RecentRequests>>,
    metrics: Arc<Metrics>,
}

impl RequestTimes {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(RequestTimes { pace: Pace::default(), recent: OnceLock::new(), metrics })
    }

    /// Times a request for what was listed then; `None` where nobody knows when, or where it isn't its turn.
    pub(crate) fn begin(self: &Arc<Self>, kind: RequestKind, asked: Time, listed: Time) -> Option<Timed> {
        let is_wanted = listed > Time::ZERO && self.pace.is_due(kind, asked);
        let answered = asked.max(listed);
        is_wanted.then(|| Timed { times: Arc::clone(self), kind, grows: false, asked, listed, answered })
    }

    /// Takes in what a request took: those stages that it had.
    fn record(&self, now: Time, kind: RequestKind, stages: impl Iterator<Item = (Stage, Duration)> + Clone) {
        stages.clone().for_each(|(stage, took)| self.metrics.request_stage(kind, stage, took));
        if kind == RequestKind::Part {
            let mut recent = self.recent.get_or_init(Mutex::default).lock();
            stages.for_each(|(stage, took)| recent.record(now, stage, took));
        }
    }

    /// Returns what the requests for parts took in the last 1, 10 or 60 s.
    pub(crate) fn within(&self, now: Time, seconds: u64) -> Vec<(Stage, Spread)> {
        self.recent.get().map(|recent| recent.lock().within(now, seconds)).unwrap_or_default()
    }
}

/// How many requests are timed each second, whatever their number.
const FIRST: u64 = 16;

/// Of the others, one in so many.
const EACH: u64 = 32;

/// Chooses the requests that are timed, by [`RequestKind`]: above, how many of this second's there were; below, in [`Pace::BITS`],
/// which second it is. Two threads that begin one at once may both be the first.
#[derive(Debug, Default)]
struct Pace([AtomicU64; RequestKind::COUNT]);

impl Pace {
    /// 2^24 seconds are half a year.
    const BITS: u32 = 24;

    fn is_due(&self, kind: RequestKind, now: Time) -> bool {
        let kind = &self.0[kind as usize];
        // About a second: 2^20 us.
        let second = (now.as_micros() >> 20) & ((1 << Self::BITS) - 1);
        let seen = kind.load(Relaxed);
        if seen & ((1 << Self::BITS) - 1) != second {
            kind.store(second | 1 << Self::BITS, Relaxed);
            return true;
        }
        let n = kind.fetch_add(1 << Self::BITS, Relaxed) >> Self::BITS;
        n < FIRST || n.is_multiple_of(EACH)
    }
}

/// How many values of each size, to an eighth of them: 200 counters for 0 us to 134 s.
#[derive(Debug, Clone)]
struct Sketch {
    counts: Box<[u32; Sketch::BUCKETS]>,
    max: i64,
}

impl Sketch {
    /// Each power of two is cut in eight.
    const CUT: u32 = 3;
    /// What is longer counts as this, in powers of two of a microsecond: 134 s.
    const POWERS: u32 = 27;
    const BUCKETS: usize = ((Sketch::POWERS - Sketch::CUT + 1) << Sketch::CUT) as usize;

    fn new() -> Self {
        Sketch { counts: Box::new([0; Sketch::BUCKETS]), max: 0 }
    }

    fn clear(&mut self) {
        self.counts.fill(0);
        self.max = 0;
    }

    fn add(&mut self, micros: u64) {
        let bounded = micros.min((1 << Self::POWERS) - 1);
        let power = bounded.checked_ilog2().unwrap_or(0).saturating_sub(Self::CUT);
        // Below 2^CUT each value has its own; above, the first CUT bits after the leading one tell.
        let at = ((power << Self::CUT) as usize) + (bounded >> power) as usize;
        if let Some(count) = self.counts.get_mut(at) {
            *count = count.saturating_add(1);
        }
        self.max = self.max.max(i64::try_from(micros).unwrap_or(i64::MAX));
    }

    /// Returns the largest value that counts where `at` is.
    fn upper(at: usize) -> i64 {
        let eight = 1 << Self::CUT;
        let power = (at / eight).saturating_sub(1);
        let first = (at - power * eight) as i64;
        ((first + 1) << power) - 1
    }

    fn merge(&mut self, other: &Sketch) {
        for (into, from) in self.counts.iter_mut().zip(other.counts.iter()) {
            *into = into.saturating_add(*from);
        }
        self.max = self.max.max(other.max);
    }

    fn spread(&self) -> Option<Spread> {
        let count: u64 = self.counts.iter().map(|&n| u64::from(n)).sum();
        let rank = |percent: u64| {
            let wanted = (count * percent).div_ceil(100).max(1);
            let mut seen = 0;
            let at = self.counts.iter().position(|&n| {
                seen += u64::from(n);
                seen >= wanted
            });
            at.map(|at| Self::upper(at).min(self.max))
        };
        Some(Spread { count, p50_us: rank(50)?, p90_us: rank(90)?, p99_us: rank(99)?, max_us: self.max })
    }
}

/// One sketch for each span of time, the newest in place of the oldest.
#[derive(Debug)]
struct Rolling {
    span: Duration,
    slots: Vec<(u64, Sketch)>,
}

impl Rolling {
    fn new(span: Duration, slots: usize) -> Self {
        Rolling { span, slots: vec![(0, Sketch::new()); slots] }
    }

    fn number(&self, now: Time) -> u64 {
        // From 1 on: 0 is a slot that was never used.
        now.as_micros() / u64::try_from(self.span.as_micros()).unwrap_or(u64::MAX).max(1) + 1
    }

    fn add(&mut self, now: Time, micros: u64) {
        let number = self.number(now);
        let at = usize::try_from(number).unwrap_or(0) % self.slots.len();
        let (of, sketch) = &mut self.slots[at];
        if *of != number {
            *of = number;
            sketch.clear();
        }
        sketch.add(micros);
    }

    /// Returns what the newest so many spans come to, of which the last is under way.
    fn within(&self, now: Time, spans: u64) -> Option<Spread> {
        let number = self.number(now);
        let mut all = Sketch::new();
        let newest = self.slots.iter().filter(|(of, _)| *of + spans > number && *of <= number);
        newest.for_each(|(_, sketch)| all.merge(sketch));
        all.spread()
    }
}

/// What one stage took of late: to an eighth of the value, its largest exactly.
#[derive(Debug)]
struct Recent {
    seconds: Rolling,
    tens: Rolling,
}

impl Recent {
    fn new() -> Self {
        // One more than is asked for, since the newest has only begun.
        let (second, ten) = (Duration::from_secs(1), Duration::from_secs(10));
        Recent { seconds: Rolling::new(second, 11), tens: Rolling::new(ten, 7) }
    }
}

/// What the requests for a stream's parts took of late.
#[derive(Debug)]
struct RecentRequests([Recent; Stage::OF_REQUESTS.len()]);

impl Default for RecentRequests {
    fn default() -> Self {
        RecentRequests(std::array::from_fn(|_| Recent::new()))
    }
}

impl RecentRequests {
    fn record(&mut self, now: Time, stage: Stage, took: Duration) {
        let of = Stage::OF_REQUESTS.iter().zip(&mut self.0).find(|(of, _)| **of == stage);
        if let Some((_, recent)) = of {
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            recent.seconds.add(now, micros);
            recent.tens.add(now, micros);
        }
    }

    /// Returns what the last 1, 10 or 60 s come to, with the second, or ten of them, under way; those stages that there were.
    fn within(&self, now: Time, seconds: u64) -> Vec<(Stage, Spread)> {
        let of = Stage::OF_REQUESTS.iter().zip(&self.0).filter_map(|(&stage, recent)| {
            let spread = match seconds {
                0..=10 => recent.seconds.within(now, seconds + 1),
                _ => recent.tens.within(now, seconds / 10 + 1),
            };
            Some((stage, spread?))
        });
        of.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sketch_is_right_to_an_eighth() {
        for value in (0..2_000).chain((0..27).map(|n| (1_u64 << n) - 1)).chain([123_456, 99_999_999]) {
            let mut sketch = Sketch::new();
            sketch.add(value);
            sketch.add(value);
            sketch.max = i64::MAX;
            let told = sketch.spread().expect("two values").p50_us;
            let value = value as i64;
            assert!(told >= value && told <= value + value / 8, "{told} for {value}");
        }
        let mut sketch = Sketch::new();
        sketch.add(u64::MAX);
        assert_eq!(sketch.spread().map(|s| (s.count, s.max_us)), Some((1, i64::MAX)));
        assert_eq!(Sketch::new().spread(), None);
    }

    #[test]
    fn of_many_requests_some_are_timed() {
        let pace = Pace::default();
        let timed = |second: u64, of: u64| {
            let due = |n: &u64| pace.is_due(RequestKind::Part, Time::from_micros((second << 20) + n));
            (0..of).filter(due).count()
        };
        assert_eq!(timed(1, 10), 10);
        assert_eq!(timed(2, 16), 16);
        assert_eq!(timed(3, 16 + 1_600), 16 + 50);
        assert_eq!(timed(4, 1), 1);
        let playlists =
            (0..40).filter(|n| pace.is_due(RequestKind::Playlist, Time::from_micros((4 << 20) + n))).count();
        assert_eq!(playlists, 17, "each kind has its own");
        assert_eq!(timed(5 + (1 << Pace::BITS), 40), 17, "after half a year");
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let mut requests = RecentRequests::default();
        let at = |seconds: u64| Time::from_millis(seconds * 1_000 + 500);
        requests.record(at(100), Stage::Send, Duration::from_micros(5));
        requests.record(at(105), Stage::Send, Duration::from_micros(7));
        requests.record(at(105), Stage::Held, Duration::from_micros(3));
        let counts = |now, seconds| {
            let found = requests.within(at(now), seconds);
            found.into_iter().map(|(stage, spread)| (stage.name(), spread.count)).collect::<Vec<_>>()
        };
        assert_eq!(counts(105, 1), [("held", 1), ("send", 1)]);
        assert_eq!(counts(105, 10), [("held", 1), ("send", 2)]);
        assert_eq!(counts(112, 10), [("held", 1), ("send", 1)]);
        assert_eq!(counts(150, 10), []);
        assert_eq!(counts(150, 60), [("held", 1), ("send", 2)]);
        assert_eq!(counts(300, 60), []);
    }
}
