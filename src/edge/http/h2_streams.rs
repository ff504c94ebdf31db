//! Watches the streams of an HTTP/2 connection, and ends it when one stalls, when none is used, or when the client
//! cancels too many requests.
//!
//! hyper tells nothing of streams. But it drops the future of a request that is cancelled, and the data of a stream
//! that are sent or reset. So [`PendingRequest`] and [`WatchedChunks`] watch for their own drop.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::Buf;
use damson_core::manifest::HttpError;
use damson_core::model::time::Time;
use http_body::Body;
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock;
use crate::edge::body::ResponseBody;
use crate::edge::chunks::Chunks;
use crate::edge::limits::{Limits, TAKEN_BACK_MAX};
use crate::edge::request_times::Timed;

/// The requests and data of one connection.
#[derive(Debug)]
pub(crate) struct H2Streams {
    counts: Mutex<StreamCounts>,
    /// Notified when the client cancels too many requests.
    abused: Notify,
}

#[derive(Debug, Default)]
struct StreamCounts {
    next: u64,
    /// The time at which the data of each stream last moved.
    data: BTreeMap<u64, Time>,
    /// Requests that aren't answered yet.
    asked: u64,
    answered: u64,
    /// Requests that the client has cancelled before they were answered.
    taken_back: u64,
    /// The time at which the last request came, or the last data went out.
    last: Time,
}

impl StreamCounts {
    fn is_abused(&self) -> bool {
        self.taken_back > TAKEN_BACK_MAX + self.answered
    }
}

/// The reason to end a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConnectionFault {
    /// See [`Limits::stall`].
    #[error("the client takes no data of a stream")]
    Stalled,
    /// See [`TAKEN_BACK_MAX`].
    #[error("the client cancels too many requests")]
    TakenBack,
    /// See [`Limits::idle`].
    #[error("the client sends no requests")]
    Idle,
}

impl H2Streams {
    pub(crate) fn new() -> Arc<Self> {
        let counts = StreamCounts { last: clock::now(), ..StreamCounts::default() };
        Arc::new(H2Streams { counts: Mutex::new(counts), abused: Notify::new() })
    }

    /// Counts a request that has come.
    pub(crate) fn ask(self: &Arc<Self>) -> PendingRequest {
        let mut counts = self.counts.lock();
        counts.asked += 1;
        counts.last = clock::now();
        PendingRequest { streams: Arc::clone(self), answered: false }
    }

    /// Makes a body whose data are watched. `timed` ends with its first frame: a part is one frame.
    pub(crate) fn body(
        self: Arc<Self>,
        body: ResponseBody,
        mut timed: Option<Timed>,
    ) -> impl Body<Data = WatchedChunks, Error = HttpError> {
        body.map_frame(move |frame| {
            frame.map_data(|chunks| WatchedChunks::new(chunks, Arc::clone(&self), timed.take()))
        })
    }

    /// Waits for a reason to end the connection.
    pub(crate) async fn watch(&self, limits: &Limits) -> ConnectionFault {
        let pause = limits.stall.min(limits.idle) / 4;
        loop {
            if let Err(fault) = self.check(clock::now(), limits) {
                return fault;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.abused.notified() => {}
            }
        }
    }

    /// Returns the reason to end the connection at `now`, if there is one.
    fn check(&self, now: Time, limits: &Limits) -> Result<(), ConnectionFault> {
        let counts = self.counts.lock();
        if counts.is_abused() {
            return Err(ConnectionFault::TakenBack);
        }
        if counts.data.values().any(|moved| now.since(*moved) >= limits.stall) {
            return Err(ConnectionFault::Stalled);
        }
        let is_idle = counts.asked == 0 && counts.data.is_empty();
        if is_idle && now.since(counts.last) >= limits.idle {
            return Err(ConnectionFault::Idle);
        }
        Ok(())
    }
}

/// A request that isn't answered yet.
#[derive(Debug)]
pub(crate) struct PendingRequest {
    streams: Arc<H2Streams>,
    answered: bool,
}

impl PendingRequest {
    pub(crate) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for PendingRequest {
    fn drop(&mut self) {
        let mut counts = self.streams.counts.lock();
        counts.asked -= 1;
        *(if self.answered { &mut counts.answered } else { &mut counts.taken_back }) += 1;
        if counts.is_abused() {
            self.streams.abused.notify_one();
        }
    }
}

/// Data that wait for the client to take them.
#[derive(Debug)]
pub(crate) struct WatchedChunks {
    chunks: Chunks,
    streams: Arc<H2Streams>,
    number: u64,
    timed: Option<Timed>,
}

impl WatchedChunks {
    fn new(chunks: Chunks, streams: Arc<H2Streams>, timed: Option<Timed>) -> Self {
        let mut counts = streams.counts.lock();
        let number = counts.next;
        counts.next += 1;
        counts.data.insert(number, clock::now());
        drop(counts);
        WatchedChunks { chunks, streams, number, timed }
    }
}

impl Buf for WatchedChunks {
    fn remaining(&self) -> usize {
        self.chunks.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.chunk()
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        self.chunks.chunks_vectored(dst)
    }

    fn advance(&mut self, n: usize) {
        self.chunks.advance(n);
        self.streams.counts.lock().data.insert(self.number, clock::now());
    }
}

impl Drop for WatchedChunks {
    fn drop(&mut self) {
        if let Some(timed) = self.timed.take().filter(|_| !self.chunks.has_remaining()) {
            timed.sent();
        }
        let mut counts = self.streams.counts.lock();
        counts.data.remove(&self.number);
        counts.last = clock::now();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_taken_back_counts_against_what_is_answered() {
        let (streams, limits) = (H2Streams::new(), Limits::default());
        let now = clock::now();
        for _ in 0..TAKEN_BACK_MAX {
            drop(streams.ask());
        }
        assert!(streams.check(now, &limits).is_ok());
        streams.ask().answered();
        drop(streams.ask());
        assert!(streams.check(now, &limits).is_ok());
        drop(streams.ask());
        assert_eq!(streams.check(now, &limits), Err(ConnectionFault::TakenBack));
    }

    #[test]
    fn data_that_stay_are_a_stall_and_none_at_all_are_idle() {
        let (streams, limits) = (H2Streams::new(), Limits { stall: SECOND, idle: 2 * SECOND, ..Limits::default() });
        let ticket = |len: usize| {
            WatchedChunks::new([bytes::Bytes::from(vec![0; len])].into_iter().collect(), Arc::clone(&streams), None)
        };
        let mut moves = ticket(10);
        let later = clock::now() + SECOND;
        assert_eq!(streams.check(later, &limits), Err(ConnectionFault::Stalled));
        drop(moves);
        assert!(streams.check(later, &limits).is_ok());
        moves = ticket(10);
        moves.advance(5);
        assert!(streams.check(clock::now(), &limits).is_ok());
        assert_eq!(moves.remaining(), 5);
        drop(moves);
        let held = streams.ask();
        assert!(streams.check(clock::now() + 10 * SECOND, &limits).is_ok(), "a held request isn't idle");
        held.answered();
        assert_eq!(streams.check(clock::now() + 2 * SECOND, &limits), Err(ConnectionFault::Idle));
    }
}
