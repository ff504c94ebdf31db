//! What the last 1, 10 and 60 s of a stream come to: its parts' ages and stages, and the requests for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use damson_core::model::latency::{Overview, Spread};
use damson_core::model::time::Time;
use damson_core::model::{LatencyBreakdown, Stage, TrackId};
use parking_lot::Mutex;

use crate::edge::request_times::RequestTimes;

/// How old a summary may be: a stream of seven tracks takes some milliseconds to sum up.
const FRESH: Duration = Duration::from_millis(500);

/// The windows that are summed up, in seconds.
const WINDOWS: [u64; 3] = [1, 10, 60];

/// What so many seconds come to.
#[derive(Debug)]
pub(crate) struct WindowSummary {
    pub(crate) seconds: u64,
    pub(crate) parts: Overview,
    /// Of the requests for parts, of all tracks; those stages that there were.
    pub(crate) requests: Vec<(Stage, Spread)>,
}

impl WindowSummary {
    /// Sums up each window of [`WINDOWS`].
    pub(crate) fn all(now: Time, accounts: &[Arc<LatencyBreakdown>], requests: &RequestTimes) -> Arc<[Self]> {
        let of = |seconds| {
            let span = Duration::from_secs(seconds);
            let within = accounts.iter().filter(|account| now.since(account.listed) <= span);
            let parts = Overview::of(within.map(Arc::as_ref));
            WindowSummary { seconds, parts, requests: requests.within(now, seconds) }
        };
        WINDOWS.map(of).into()
    }
}

/// What was summed up, and when.
type Summed = (Time, Arc<[WindowSummary]>);

/// What was summed up of a stream's tracks, or of all.
#[derive(Debug, Default)]
pub(crate) struct Summaries(Mutex<BTreeMap<Option<TrackId>, Summed>>);

impl Summaries {
    /// Returns what a track, or all, come to: summed up anew after [`FRESH`], however many ask. It is locked meanwhile, so
    /// that it is done once.
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
