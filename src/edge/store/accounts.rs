//! Where the time of a stream's parts went, and what requests for them took.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;

use super::{Shared, State, Stream};
use crate::edge::api::trace::Sums;
use crate::edge::feed::Listed as FedPart;
use crate::edge::timing::Pace;
use crate::observe::metrics::Kind;
use damson_core::model::latency::{RecentLatencies, Spread};
use damson_core::model::time::{Time, UnixTime};
use damson_core::model::{Msn, Stage, StreamName, TrackId};
use damson_core::window::Lookup;

impl Stream {
    /// What its accounts came to. Held while they are summed up, so that it is done once.
    pub(crate) fn sums(&self) -> MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which requests are timed.
    pub(crate) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// What a request took: those stages that it had.
    pub(crate) fn timed<const N: usize>(&self, now: Time, kind: Kind, stages: [Option<(Stage, Duration)>; N]) {
        for (stage, took) in stages.iter().flatten() {
            self.shared.metrics.request_stage(kind, *stage, *took);
        }
        if kind == Kind::Part {
            let requests = self.requests.get_or_init(Mutex::default);
            let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
            stages.iter().flatten().for_each(|(stage, took)| requests.record(now, *stage, *took));
        }
    }

    /// What the requests for its parts took in the last 1, 10 or 60 s.
    pub(crate) fn requests_within(&self, now: Time, seconds: u64) -> Vec<(Stage, Spread)> {
        let requests = self.requests.get();
        let requests = requests.map(|requests| requests.lock().unwrap_or_else(PoisonError::into_inner));
        requests.map(|requests| requests.within(now, seconds)).unwrap_or_default()
    }
}

impl State {
    /// When the newest listing or record was taken in.
    pub(crate) fn published_at(&self) -> UnixTime {
        self.published_at
    }

    /// The same on our own clock.
    pub(crate) fn published(&self) -> Time {
        self.published
    }

    /// The accounts of its newest parts.
    pub(crate) fn accounts(&self) -> &RecentLatencies {
        &self.accounts
    }

    /// The parts that are listed from now on.
    pub(crate) fn follow(&self) -> broadcast::Receiver<Arc<FedPart>> {
        self.feed.subscribe()
    }

    /// The account of a part that was listed just now.
    pub(super) fn account(&mut self, name: &StreamName, (track, msn, part): (TrackId, Msn, u16), shared: &Shared) {
        let held = self.window.track(track).map(|track| track.part(msn, part));
        let Some(Lookup::Ready(part)) = held else { return };
        let Some(account) = part.latency().map(Arc::new) else { return };
        shared.metrics.part_listed(&account);
        if let Some(exporter) = &shared.exporter {
            exporter.listed(name, &account, &shared.metrics);
        }
        // An error says that nobody listens.
        let _ = self.feed.send(Arc::new(FedPart::new(Arc::clone(&account))));
        self.accounts.push(account);
    }
}
