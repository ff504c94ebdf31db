//! Everything that the streams of a node share.

use std::sync::Arc;

use damson_core::manifest::HttpError;
use damson_core::model::{LatencyBreakdown, StreamName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use super::archives::Archives;
use super::timers::StreamTimers;
use crate::dvr::{ArchiveWriter, Fetcher};
use crate::observe::{Exporter, Metrics};

/// Most held requests of the node; the next one is answered 503.
const WAITERS_MAX: usize = 100_000;

/// The timers, archives, metrics and places for held requests of all streams.
#[derive(Debug)]
pub(crate) struct StreamsShared {
    timers: StreamTimers,
    archives: Archives,
    /// The places for held requests.
    places: Arc<Semaphore>,
    exporter: Option<Exporter>,
    metrics: Arc<Metrics>,
}

impl StreamsShared {
    pub(crate) fn new(
        metrics: Arc<Metrics>,
        writer: Option<Arc<ArchiveWriter>>,
        fetcher: Option<Arc<Fetcher>>,
        exporter: Option<Exporter>,
    ) -> Self {
        StreamsShared {
            timers: StreamTimers::default(),
            archives: Archives::new(writer, fetcher),
            places: Arc::new(Semaphore::new(WAITERS_MAX)),
            exporter,
            metrics,
        }
    }

    pub(crate) fn timers(&self) -> &StreamTimers {
        &self.timers
    }

    pub(crate) fn archives(&self) -> &Archives {
        &self.archives
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Counts a part that was listed, and exports its latency.
    pub(crate) fn part_listed(&self, name: &StreamName, breakdown: &Arc<LatencyBreakdown>) {
        self.metrics.part_listed(breakdown);
        if let Some(exporter) = &self.exporter {
            exporter.listed(name, breakdown, &self.metrics);
        }
    }

    /// Returns the number of held requests.
    pub(crate) fn waiting(&self) -> usize {
        WAITERS_MAX - self.places.available_permits()
    }

    /// Takes a place for one more held request; dropping it gives the place back.
    pub(crate) fn hold(&self) -> Result<OwnedSemaphorePermit, HttpError> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|error| match error {
            TryAcquireError::Closed => closing(),
            TryAcquireError::NoPermits => too_many(),
        })
    }

    /// Rejects all further held requests, and has the archives written.
    pub(crate) fn close(&self) {
        self.places.close();
        if let Some(writer) = self.archives.writer() {
            writer.close();
        }
    }
}

/// Returns the error of a request that is held while the node shuts down.
pub(crate) fn closing() -> HttpError {
    HttpError::new(503, "edge: shutting down; use another edge")
}

/// Returns the error of a request beyond the limit of held requests.
pub(crate) fn too_many() -> HttpError {
    HttpError::new(503, "edge: too many requests are held already")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_held_up_to_a_bound_and_not_while_the_node_shuts_down() {
        let shared = StreamsShared::new(Arc::new(Metrics::default()), None, None, None);
        let mut held: Vec<_> = (0..WAITERS_MAX).map(|_| shared.hold().expect("a place")).collect();
        assert_eq!(shared.hold().map(drop), Err(too_many()));
        held.pop();
        assert!(shared.hold().is_ok() && shared.waiting() == WAITERS_MAX - 1);
        shared.close();
        assert_eq!(shared.hold().map(drop), Err(closing()));
    }
}
