//! Where the time of a stream's parts went, and what requests for them took.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;

use super::{FedPart, Shared, State, Stream};
use crate::edge::api::trace::Sums;
use crate::edge::timing::Pace;
use crate::live::account::{Accounts, Spread};
use crate::live::window::Lookup;
use crate::live::{Account, Msn, Stage, StreamName, TrackId};
use crate::units::Time;

impl Stream {
    /// What its accounts came to. Held while they are summed up, so that it is done once.
    pub(in crate::edge) fn sums(&self) -> MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which requests for its parts are timed.
    pub(in crate::edge) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// What a request for one of its parts took.
    pub(in crate::edge) fn timed<const N: usize>(&self, now: Time, stages: [(Stage, Duration); N]) {
        let requests = self.requests.get_or_init(Mutex::default);
        let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
        for (stage, took) in stages {
            self.shared.metrics.request_stage(stage, took);
            requests.record(now, stage, took);
        }
    }

    /// What the requests for its parts took in the last 1, 10 or 60 s.
    pub(in crate::edge) fn requests_within(&self, now: Time, seconds: u64) -> Vec<(Stage, Spread)> {
        let requests = self.requests.get();
        let requests = requests.map(|requests| requests.lock().unwrap_or_else(PoisonError::into_inner));
        requests.map(|requests| requests.within(now, seconds)).unwrap_or_default()
    }
}

impl State {
    /// The accounts of its newest parts.
    pub(in crate::edge) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// The parts that are listed from now on.
    pub(in crate::edge) fn follow(&self) -> broadcast::Receiver<Arc<FedPart>> {
        self.feed.subscribe()
    }

    /// The account of a part that was listed just now.
    pub(super) fn account(&mut self, name: &StreamName, (track, msn, part): (TrackId, Msn, u16), shared: &Shared) {
        let held = self.window.track(track).map(|track| track.part(msn, part));
        let Some(Lookup::Ready(part)) = held else { return };
        let Some(account) = Account::of(part).map(Arc::new) else { return };
        shared.metrics.part_listed(&account);
        if let Some(exporter) = shared.exporter.get() {
            exporter.listed(name, &account, &shared.metrics);
        }
        // An error says that nobody listens.
        let _ = self.feed.send(Arc::new(FedPart::new(Arc::clone(&account))));
        self.accounts.push(account);
    }
}
