//! What the streams of a node have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use damson_core::manifest::HttpError;
use damson_core::model::{LatencyBreakdown, StreamName};

use super::archives::Archives;
use super::timers::StreamTimers;
use crate::dvr::{ArchiveWriter, Fetcher};
use crate::observe::{Exporter, Metrics};

/// Most requests held in all; the next one is answered 503.
const WAITERS_MAX: usize = 100_000;

/// Timers, archives, the number of requests held, and who is told of what is listed.
#[derive(Debug)]
pub(crate) struct StreamsShared {
    timers: StreamTimers,
    archives: Archives,
    waiting: AtomicUsize,
    is_closing: AtomicBool,
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
            waiting: AtomicUsize::new(0),
            is_closing: AtomicBool::new(false),
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

    /// Counts a part that was listed, and exports where its time went.
    pub(crate) fn part_listed(&self, name: &StreamName, account: &Arc<LatencyBreakdown>) {
        self.metrics.part_listed(account);
        if let Some(exporter) = &self.exporter {
            exporter.listed(name, account, &self.metrics);
        }
    }

    /// Returns how many requests are held.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Checks that one more request may be held.
    pub(crate) fn may_hold(&self) -> Result<(), HttpError> {
        if self.is_closing.load(Ordering::SeqCst) {
            return Err(HttpError::new(503, "edge: going down; ask another"));
        }
        if self.waiting() >= WAITERS_MAX { Err(too_many()) } else { Ok(()) }
    }

    pub(crate) fn held(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn released(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Lets nobody wait any more, and has the archives written.
    pub(crate) fn close(&self) {
        self.is_closing.store(true, Ordering::SeqCst);
        if let Some(writer) = self.archives.writer() {
            writer.close();
        }
    }
}

/// Returns what is said where no more requests can be held.
pub(crate) fn too_many() -> HttpError {
    HttpError::new(503, "edge: too many requests are held already")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_held_and_none_once_the_node_goes_down() {
        let shared = StreamsShared::new(Arc::new(Metrics::default()), None, None, None);
        (0..WAITERS_MAX).for_each(|_| shared.held());
        assert_eq!(shared.may_hold(), Err(too_many()));
        shared.released();
        assert_eq!(shared.may_hold(), Ok(()));
        shared.close();
        assert_eq!(shared.may_hold().map_err(|fault| fault.status), Err(503));
    }
}
