//! Asks other nodes for what they keep: the driver of [`FetchQueue`].

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

/// An answer to come.
pub type QueryFuture<'a> = Pin<Box<dyn Future<Output = Result<Bytes, QueryError>> + Send + 'a>>;

/// The way to other nodes.
pub trait QueryNode: fmt::Debug + Send + Sync {
    /// Asks a node; its answer has `max` bytes at most, and `progress` is told of each piece of it.
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
    /// Returns a fetcher that asks by `nodes`. It has to be [driven](Fetcher::drive).
    pub fn new(nodes: Box<dyn QueryNode>, metrics: Arc<Metrics>) -> Arc<Self> {
        let (fetches, asking) = (Mutex::default(), Mutex::default());
        Arc::new(Fetcher { nodes, fetches, asking, sooner: Notify::new(), metrics })
    }

    /// Watches the time, for ever.
    pub async fn drive(self: Arc<Self>) {
        let mut alarm = clock::Alarm::default();
        loop {
            let next = self.fetches.lock().poll_timeout();
            tokio::select! { () = alarm.until(next) => self.handle(Input::Timeout), () = self.sooner.notified() => {} }
        }
    }

    /// Fetches a segment that these nodes may have.
    pub(crate) async fn fetch(self: &Arc<Self>, key: SegmentKey, holders: Vec<Peer>) -> Outcome {
        let (waiter, outcome) = oneshot::channel();
        self.handle(Input::Want { key, holders, waiter });
        outcome.await.unwrap_or(Outcome::Unreachable)
    }

    /// Asks a node what it lists of a life.
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
                        // An error says that the request is gone already.
                        let _ = waiter.send(outcome.clone());
                    }
                }
            }
        }
        self.sooner.notify_one();
    }

    fn ask(self: &Arc<Self>, attempt: Attempt, holder: Peer, key: SegmentKey) {
        let fetcher = Arc::clone(self);
        // Held until it is among those that can be aborted.
        let mut asking = self.asking.lock();
        let task = tokio::spawn(async move {
            let answer = fetcher.query(attempt, holder, &key).await;
            if let Err(error) = &answer {
                tracing::debug!(node = %holder.id, stream = %key.stream, msn = key.msn, %error, "DVR: not fetched");
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
        // Megabytes are hashed.
        let read = tokio::task::spawn_blocking(move || segment_file::read(bytes)).await.map_err(|e| wrong(&e))?;
        let (track, segment) = read.map_err(|e| wrong(&e))?;
        if (track, segment.msn) != (key.track, key.msn) || segment.has_loss() {
            return Err(QueryError::Wrong("another segment, or a torn one".to_owned()));
        }
        Ok(Arc::new(segment))
    }
}
