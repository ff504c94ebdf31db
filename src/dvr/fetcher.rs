//! Fetches segments from other nodes: the driver of [`FetchQueue`].

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use damson_core::dvr::fetch_queue::{Attempt, FetchQueue, Input, Outcome, Output};
use damson_core::dvr::query::{LISTING_LEN_MAX, Query, SEGMENT_LEN_MAX};
use damson_core::dvr::{Listing, SegmentKey, segment_file};
use damson_core::link::query::QueryError;
use damson_core::model::{LifeId, Msn, Peer, StreamName};
use damson_core::window::Segment;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use crate::clock;
use crate::observe::Metrics;

/// The future of an answer.
pub type QueryFuture<'a> = Pin<Box<dyn Future<Output = Result<Bytes, QueryError>> + Send + 'a>>;

/// Sends queries to other nodes.
pub trait QueryNode: fmt::Debug + Send + Sync {
    /// Asks a node. The answer has at most `max` bytes; `progress` is called for each piece of it.
    fn query(&self, whom: Peer, query: Bytes, max: usize, progress: Box<dyn FnMut() + Send>) -> QueryFuture<'_>;
}

/// Fetches segments from other nodes.
#[derive(Debug)]
pub struct Fetcher {
    nodes: Box<dyn QueryNode>,
    fetches: Mutex<FetchQueue<oneshot::Sender<Outcome>>>,
    asking: Mutex<BTreeMap<Attempt, AbortHandle>>,
    sooner: Notify,
    metrics: Arc<Metrics>,
}

impl Fetcher {
    /// Returns a fetcher that asks through `nodes`. The caller has to run [`drive`](Fetcher::drive).
    pub fn new(nodes: Box<dyn QueryNode>, metrics: Arc<Metrics>) -> Arc<Self> {
        let (fetches, asking) = (Mutex::default(), Mutex::default());
        Arc::new(Fetcher { nodes, fetches, asking, sooner: Notify::new(), metrics })
    }

    /// Handles the queue's timeouts, for ever.
    pub async fn drive(self: Arc<Self>) {
        let mut alarm = clock::Alarm::default();
        loop {
            let next = self.fetches.lock().poll_timeout();
            tokio::select! { () = alarm.until(next) => self.handle(Input::Timeout), () = self.sooner.notified() => {} }
        }
    }

    /// Fetches a segment that these nodes may hold.
    pub(crate) async fn fetch(self: &Arc<Self>, key: SegmentKey, holders: Vec<Peer>) -> Outcome {
        let (waiter, outcome) = oneshot::channel();
        self.handle(Input::Want { key, holders, waiter });
        outcome.await.unwrap_or(Outcome::Unreachable)
    }

    /// Asks a node for its listing of a life.
    pub(crate) async fn listing(&self, whom: Peer, stream: StreamName, life: LifeId) -> Result<Listing, QueryError> {
        let question = Query::Listing { stream, life, from: 0, before: Msn::MAX };
        let answer = self.nodes.query(whom, question.encode(), LISTING_LEN_MAX, Box::new(|| {})).await?;
        Listing::decode(answer).map_err(|error| QueryError::Wrong(error.to_string()))
    }

    fn handle(self: &Arc<Self>, input: Input<oneshot::Sender<Outcome>>) {
        let outputs: Vec<_> = {
            let mut fetches = self.fetches.lock();
            fetches.handle(clock::now(), input);
            std::iter::from_fn(|| fetches.poll_output()).collect()
        };
        for output in outputs {
            match output {
                Output::Ask { attempt, holder, key } => self.ask(attempt, holder, key),
                Output::Abandon(attempt) => {
                    if let Some(task) = self.asking.lock().remove(&attempt) {
                        task.abort();
                    }
                }
                Output::Done { waiters, outcome } => {
                    let counters = &self.metrics.dvr;
                    let fetched = matches!(outcome, Outcome::Here(_));
                    (if fetched { &counters.fetched } else { &counters.unfetched }).inc();
                    for waiter in waiters {
                        // An error means that the request has ended.
                        let _ = waiter.send(outcome.clone());
                    }
                }
            }
        }
        self.sooner.notify_one();
    }

    fn ask(self: &Arc<Self>, attempt: Attempt, holder: Peer, key: SegmentKey) {
        let fetcher = Arc::clone(self);
        // The lock is held until the task can be aborted.
        let mut asking = self.asking.lock();
        let task = tokio::spawn(async move {
            let answer = fetcher.query(attempt, holder, &key).await;
            if let Err(error) = &answer {
                tracing::debug!(node = %holder.id, stream = %key.stream, msn = key.msn, %error, "DVR: can't fetch a segment");
            }
            fetcher.asking.lock().remove(&attempt);
            fetcher.handle(Input::Answered(attempt, answer));
        });
        asking.insert(attempt, task.abort_handle());
    }

    async fn query(
        self: &Arc<Self>,
        attempt: Attempt,
        holder: Peer,
        key: &SegmentKey,
    ) -> Result<Arc<Segment>, QueryError> {
        let fetcher = Arc::clone(self);
        let progress = move || fetcher.fetches.lock().handle(clock::now(), Input::Progress(attempt));
        let question = Query::Segment(key.clone()).encode();
        let bytes = self.nodes.query(holder, question, SEGMENT_LEN_MAX, Box::new(progress)).await?;
        let wrong = |error: &dyn fmt::Display| QueryError::Wrong(error.to_string());
        // Megabytes are hashed: not on a thread of the runtime.
        let read = tokio::task::spawn_blocking(move || segment_file::read(bytes)).await.map_err(|e| wrong(&e))?;
        let (track, segment) = read.map_err(|e| wrong(&e))?;
        if (track, segment.msn) != (key.track, key.msn) || segment.has_loss() {
            return Err(QueryError::Wrong("another segment, or one with losses".to_owned()));
        }
        Ok(Arc::new(segment))
    }
}
