//! A summary of the last 1, 10 and 60 s of a stream: ages and stages of its parts, and the requests for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use damson_core::model::latency::{Overview, Spread};
use damson_core::model::time::Time;
use damson_core::model::{LatencyBreakdown, Stage, TrackId};
use parking_lot::Mutex;

use crate::edge::request_times::RequestTimes;

/// The greatest age of a summary: that of a stream of seven tracks takes some milliseconds.
const FRESH: Duration = Duration::from_millis(500);

/// The windows, in seconds.
const WINDOWS: [u64; 3] = [1, 10, 60];

/// The summary of one window.
#[derive(Debug)]
pub(crate) struct WindowSummary {
    pub(crate) seconds: u64,
    pub(crate) parts: Overview,
    /// The stages of requests for parts, of all tracks.
    pub(crate) requests: Vec<(Stage, Spread)>,
}

impl WindowSummary {
    /// Sums up each window of [`WINDOWS`].
    pub(crate) fn all(now: Time, breakdowns: &[Arc<LatencyBreakdown>], requests: &RequestTimes) -> Arc<[Self]> {
        let of = |seconds| {
            let span = Duration::from_secs(seconds);
            let within = breakdowns.iter().filter(|breakdown| now.since(breakdown.listed) <= span);
            let parts = Overview::of(within.map(Arc::as_ref));
            WindowSummary { seconds, parts, requests: requests.within(now, seconds) }
        };
        WINDOWS.map(of).into()
    }
}

/// A summary, and when it was made.
type Summed = (Time, Arc<[WindowSummary]>);

/// The summaries of a stream's tracks, and of all of them.
#[derive(Debug, Default)]
pub(crate) struct Summaries(Mutex<BTreeMap<Option<TrackId>, Summed>>);

impl Summaries {
    /// Returns the summary of a track, or of all tracks; makes it anew after [`FRESH`], however many clients ask. It is
    /// locked meanwhile, so that only one thread makes it.
    pub(crate) fn get(
        &self,
        now: Time,
        track: Option<TrackId>,
        sum_up: impl FnOnce() -> Arc<[WindowSummary]>,
    ) -> Arc<[WindowSummary]> {
        let mut all = self.0.lock();
        match all.get(&track) {
            Some((at, summary)) if now.since(*at) < FRESH => Arc::clone(summary),
            _ => {
                let summary = sum_up();
                all.insert(track, (now, Arc::clone(&summary)));
                summary
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Metrics;

    #[test]
    fn many_who_ask_cost_one_sum() {
        let (summaries, times) = (Summaries::default(), RequestTimes::new(Arc::new(Metrics::default())));
        let mut sums = 0;
        let mut ask = |ms, track| {
            let now = Time::from_millis(ms);
            let sum_up = || {
                sums += 1;
                WindowSummary::all(now, &[], &times)
            };
            let seconds: Vec<_> = summaries.get(now, track, sum_up).iter().map(|window| window.seconds).collect();
            assert_eq!(seconds, WINDOWS);
            sums
        };
        assert_eq!([ask(1_000, None), ask(1_499, None), ask(1_499, Some(TrackId(1)))], [1, 1, 2]);
        assert_eq!([ask(1_500, None), ask(1_999, Some(TrackId(1))), ask(2_000, None)], [3, 4, 5]);
    }
}
