//! The streams of a node: the mesh feeds them, requests read them.
//!
//! Only the mesh creates streams, never a request, so that requests for unknown streams cost no memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use damson_core::dvr::query::Query;
use damson_core::dvr::{Stock, merge, segment_file};
use damson_core::link::query::QueryAnswer;
use damson_core::manifest::HttpError;
use damson_core::model::time::Time;
use damson_core::model::{PartHeader, Record, StreamName, Trace};
use damson_core::swarm::{self, Entry, Kept};
use damson_core::window::Input;
use parking_lot::RwLock;

use super::shared::StreamsShared;
use super::stream::Stream;
use crate::clock;
use crate::dvr::{ArchiveWriter, Fetcher};
use crate::edge::sendfile::MemoryFiles;
use crate::observe::{Exporter, Metrics};

/// Most streams of a node. Further ones are dropped, and logged.
const STREAMS_MAX: usize = 16_384;

/// The streams of the node.
#[derive(Debug)]
pub struct Store {
    streams: RwLock<BTreeMap<StreamName, Arc<Stream>>>,
    memory_files: MemoryFiles,
    shared: Arc<StreamsShared>,
}

impl Store {
    /// Makes an empty store that keeps only the windows.
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Store::with(metrics, None, None, None)
    }

    /// Makes a store with a writer of archives, a fetcher from other nodes, and an exporter of latencies.
    pub fn with(
        metrics: Arc<Metrics>,
        writer: Option<Arc<ArchiveWriter>>,
        fetcher: Option<Arc<Fetcher>>,
        exporter: Option<Exporter>,
    ) -> Arc<Self> {
        let shared = Arc::new(StreamsShared::new(metrics, writer, fetcher, exporter));
        Arc::new(Store { streams: RwLock::default(), memory_files: MemoryFiles::default(), shared })
    }

    /// Takes in the record of a stream, new or newer.
    pub fn record(&self, record: Record) {
        if let Some(stream) = self.stream_for(&record.stream) {
            stream.take_in(Input::Record(record));
            stream.catch_up();
            self.tend();
        }
    }

    /// Takes in a part that was delivered whole, checked and for the first time.
    pub fn part(&self, stream: &StreamName, header: PartHeader, body: Bytes, trace: Trace, received: Time) {
        let Some(stream) = self.stream_for(stream) else { return };
        self.shared.metrics().part_delivered(&header);
        stream.take_in(Input::Part { header, body, trace, received });
        self.tend();
    }

    /// Takes in the directory's entry of a stream, new or newer.
    pub fn announced(&self, entry: Entry) {
        if let Some(stream) = self.stream_for(&entry.stream) {
            stream.announce(entry);
        }
    }

    /// Takes in that the directory has dropped a stream. Its window and archive are served for a while longer.
    pub fn expired(&self, name: &StreamName) {
        if self.get(name.as_str()).is_some_and(|stream| stream.expire()) {
            self.remove(name);
        }
    }

    /// Takes in which other nodes archive what of a stream.
    pub fn kept(&self, name: &StreamName, keepers: Vec<swarm::Keeper>) {
        // The directory announces a stream first, so an unknown one is gone.
        if let Some(stream) = self.get(name.as_str()) {
            stream.kept_elsewhere(keepers);
        }
    }

    /// Returns what this node archives, to announce it.
    pub fn kept_here(&self) -> Vec<Kept> {
        self.streams().iter().filter_map(|stream| stream.lock().dvr().kept_here()).collect()
    }

    /// Answers another node's query.
    pub async fn asked(&self, question: Bytes) -> QueryAnswer {
        let Ok(Some(question)) = Query::decode(question) else { return QueryAnswer::NotHere };
        match question {
            Query::Listing { stream, life, from, before } => {
                let Some(stream) = self.get(stream.as_str()) else { return QueryAnswer::NotHere };
                let state = stream.lock();
                let archive = state.dvr().archive().filter(|a| a.keeps() && a.life() == life);
                archive.map_or(QueryAnswer::NotHere, |archive| {
                    QueryAnswer::Here(vec![merge::listing(archive, from, before).encode()])
                })
            }
            Query::Segment(key) => {
                let Some(stream) = self.get(key.stream.as_str()) else { return QueryAnswer::NotHere };
                stream.given(key).await.map_or(QueryAnswer::NotHere, |segment| {
                    let bodies = segment.parts().map(|part| part.body.clone()).filter(|body| !body.is_empty());
                    QueryAnswer::Here(std::iter::once(segment_file::head(&segment, None)).chain(bodies).collect())
                })
            }
        }
    }

    /// Returns a stream by name.
    pub fn get(&self, name: &str) -> Option<Arc<Stream>> {
        self.streams.read().get(name).cloned()
    }

    /// Returns a stream by name, or the error of a request for it.
    pub(crate) fn find(&self, name: &str) -> Result<Arc<Stream>, HttpError> {
        self.get(name).ok_or_else(|| HttpError::new(404, format!("request: no stream is named {name}")))
    }

    /// Returns all streams, by name.
    pub fn streams(&self) -> Vec<Arc<Stream>> {
        self.streams.read().values().cloned().collect()
    }

    /// Returns the segments in memory files.
    pub(crate) fn memory_files(&self) -> &MemoryFiles {
        &self.memory_files
    }

    /// Returns the bytes of segments in memory files.
    pub fn memory_file_bytes(&self) -> u64 {
        self.memory_files.bytes()
    }

    /// Returns the number of held requests.
    pub fn waiting(&self) -> usize {
        self.shared.waiting()
    }

    /// Answers all held requests, and rejects further ones.
    pub fn close(&self) {
        self.shared.close();
        self.streams().iter().for_each(|stream| stream.close());
    }

    /// Runs the timers of the streams, and never returns: run it beside the server.
    pub async fn drive(&self) {
        loop {
            self.shared.timers().due().await;
            self.timeout();
        }
    }

    fn timeout(&self) {
        let now = clock::now();
        while let Some(name) = self.shared.timers().pop(now) {
            let Some(stream) = self.get(name.as_str()) else { continue };
            if stream.is_gone(now) {
                self.remove(&name);
                continue;
            }
            stream.tick(now);
            self.tend();
        }
    }

    fn remove(&self, name: &StreamName) {
        let gone = self.streams.write().remove(name);
        if let Some(stream) = gone {
            stream.remove();
        }
    }

    fn stream_for(&self, name: &StreamName) -> Option<Arc<Stream>> {
        if let Some(stream) = self.get(name.as_str()) {
            return Some(stream);
        }
        let mut streams = self.streams.write();
        if streams.len() >= STREAMS_MAX {
            tracing::warn!(stream = %name, "stream dropped: this node holds {STREAMS_MAX} already");
            return None;
        }
        let new = || Arc::new(Stream::new(name.clone(), Arc::clone(&self.shared)));
        Some(Arc::clone(streams.entry(name.clone()).or_insert_with(new)))
    }

    /// Does the tasks of the archives' writer.
    pub(crate) fn tend(&self) {
        let Some(writer) = self.shared.archives().writer() else { return };
        while let Some(task) = writer.task() {
            match self.get(task.stream().as_str()) {
                Some(stream) => stream.tend(&task),
                None => writer.stock(task.stream(), Stock::default()),
            }
        }
    }
}
