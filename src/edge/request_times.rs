//! Times requests, stage by stage: [`Stage::OF_REQUESTS`], as [`damson_core::model::latency`] defines them.
//!
//! A [`Timed`] follows one request from the lookup to its last byte: for a part, segment, init segment, playlist or MPD.
//! `/metrics` shows the stages by kind. Each stream also keeps its newest timings of requests for parts.
//!
//! Timing a request costs 0.5 us of the 5 us that a small part's answer takes. So [`Pace`] chooses, of a stream's requests of
//! each kind, the first [`FIRST`] of each second, and one in [`EACH`] of the others.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use damson_core::model::Stage;
use damson_core::model::latency::Spread;
use damson_core::model::time::Time;
use parking_lot::Mutex;

use crate::clock;
use crate::observe::Metrics;
use crate::observe::metrics::RequestKind;

/// The timing of one request.
#[derive(Debug)]
pub(crate) struct Timed {
    times: Arc<RequestTimes>,
    kind: RequestKind,
    /// The body is sent as it grows, so that its duration says nothing of this edge.
    grows: bool,
    asked: Time,
    listed: Time,
    answered: Time,
}

impl Timed {
    /// Marks a body that is sent as it grows.
    pub(crate) fn growing(self) -> Self {
        Timed { grows: true, ..self }
    }

    /// Notes that the connection has the answer.
    pub(crate) fn answered(&mut self) {
        self.answered = clock::now();
    }

    /// Notes that the system has the last byte of the answer.
    pub(crate) fn sent(self) {
        let now = clock::now();
        let Timed { times, kind, grows, asked, listed, answered } = self;
        // A document is as old as its newest part, and an init segment as old as the stream: that isn't idle time.
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

/// The timings of the requests for a stream.
#[derive(Debug)]
pub(crate) struct RequestTimes {
    pace: Pace,
    recent: Mutex<RecentRequests>,
    metrics: Arc<Metrics>,
}

impl RequestTimes {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(RequestTimes { pace: Pace::default(), recent: Mutex::default(), metrics })
    }

    /// Times a request for what was listed at `listed`; returns `None` if that time isn't known, or the request isn't
    /// chosen.
    pub(crate) fn begin(self: &Arc<Self>, kind: RequestKind, asked: Time, listed: Time) -> Option<Timed> {
        let is_wanted = listed > Time::ZERO && self.pace.is_due(kind, asked);
        let answered = asked.max(listed);
        is_wanted.then(|| Timed { times: Arc::clone(self), kind, grows: false, asked, listed, answered })
    }

    fn record(&self, now: Time, kind: RequestKind, stages: impl Iterator<Item = (Stage, Duration)>) {
        for (stage, took) in stages {
            self.metrics.request_stage(kind, stage, took);
            if kind == RequestKind::Part {
                self.recent.lock().record(now, stage, took);
            }
        }
    }

    /// Returns the stages of requests for parts in the last `seconds`, at most 60.
    pub(crate) fn within(&self, now: Time, seconds: u64) -> Vec<(Stage, Spread)> {
        // The clone is sorted outside the lock, for which requests wait.
        let recent = self.recent.lock().clone();
        recent.within(now, seconds)
    }
}

/// The number of requests that are timed in each second, whatever the load.
const FIRST: u64 = 16;

/// Of the other requests, one in this number is timed.
const EACH: u64 = 32;

/// Chooses the requests that are timed, by [`RequestKind`]. The low [`Pace::BITS`] bits hold the second, the others the
/// number of requests in that second. Two threads that begin a second at once may both count from 0.
#[derive(Debug, Default)]
struct Pace([AtomicU64; RequestKind::COUNT]);

impl Pace {
    /// 2^24 seconds are half a year.
    const BITS: u32 = 24;

    fn is_due(&self, kind: RequestKind, now: Time) -> bool {
        let kind = &self.0[kind as usize];
        // 2^20 us are about a second.
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

/// The newest timings of the requests for a stream's parts, by stage.
#[derive(Debug, Clone, Default)]
struct RecentRequests(VecDeque<(Time, Stage, i64)>);

impl RecentRequests {
    /// The longest window that the API shows.
    const SPAN: Duration = Duration::from_secs(60);
    /// Most timings that are kept, of 24 bytes each: a minute of 45 timed requests a second.
    const MAX: usize = 8_192;

    fn record(&mut self, now: Time, stage: Stage, took: Duration) {
        let is_old = |(at, ..): &(Time, Stage, i64)| now.since(*at) > Self::SPAN;
        while self.0.len() >= Self::MAX || self.0.front().is_some_and(is_old) {
            self.0.pop_front();
        }
        self.0.push_back((now, stage, i64::try_from(took.as_micros()).unwrap_or(i64::MAX)));
    }

    /// Returns the spread of each stage that was timed in the last `seconds`.
    fn within(&self, now: Time, seconds: u64) -> Vec<(Stage, Spread)> {
        let span = Duration::from_secs(seconds);
        let recent = || self.0.iter().filter(|(at, ..)| now.since(*at) <= span);
        let spread =
            |stage: Stage| Spread::of(recent().filter(|(_, of, _)| *of == stage).map(|(.., us)| *us).collect());
        Stage::OF_REQUESTS.into_iter().filter_map(|stage| Some((stage, spread(stage)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn old_timings_are_forgotten() {
        let mut requests = RecentRequests::default();
        let at = |seconds: u64| Time::from_millis(seconds * 1_000);
        requests.record(at(100), Stage::Send, Duration::from_micros(5));
        requests.record(at(105), Stage::Send, Duration::from_micros(7));
        requests.record(at(105), Stage::Held, Duration::from_micros(3));
        let counts = |requests: &RecentRequests, now, seconds| {
            let found = requests.within(at(now), seconds);
            found.into_iter().map(|(stage, spread)| (stage.name(), spread.count, spread.max_us)).collect::<Vec<_>>()
        };
        assert_eq!(counts(&requests, 106, 1), [("held", 1, 3), ("send", 1, 7)]);
        assert_eq!(counts(&requests, 106, 10), [("held", 1, 3), ("send", 2, 7)]);
        assert_eq!(counts(&requests, 112, 10), [("held", 1, 3), ("send", 1, 7)]);
        assert_eq!(counts(&requests, 150, 10), []);
        assert_eq!(counts(&requests, 150, 60), [("held", 1, 3), ("send", 2, 7)]);
        requests.record(at(162), Stage::Idle, Duration::ZERO);
        assert_eq!(requests.0.len(), 3, "the first is older than a minute");
        for _ in 0..RecentRequests::MAX {
            requests.record(at(162), Stage::Answer, Duration::ZERO);
        }
        assert_eq!(counts(&requests, 162, 60), [("answer", RecentRequests::MAX as u64, 0)]);
    }
}
