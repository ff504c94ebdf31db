//! The adapters between the layers: each layer calls the next one through a trait of its own.

use std::sync::Arc;

use bytes::Bytes;
use damson_core::model::time::Time;
use damson_core::model::{NodeId, PartHeader, Peer, Record, Resume, StreamName, Trace};
use damson_core::packager::Diagnostic;
use damson_core::swarm::{Entry, Keeper};

use super::mesh_view::MeshView;
use crate::dvr;
use crate::edge::Store;
use crate::ingest::{BoxFuture, PartSink, PublishRegistry};
use crate::mesh::{AnswerFuture, Mesh, Sink};
use crate::observe::Ingest;

/// Hands the output of the mesh to the store, and tells the ingest when another node's ingest has taken a stream over.
pub(super) struct IntoStore {
    pub(super) store: Arc<Store>,
    pub(super) registry: PublishRegistry,
    pub(super) view: Arc<MeshView>,
    pub(super) me: NodeId,
}

impl Sink for IntoStore {
    fn record(&self, record: Record) {
        if record.epoch.node != self.me {
            self.registry.superseded(&record.stream, record.epoch);
        }
        self.store.record(record);
    }

    fn part(&self, stream: &StreamName, header: PartHeader, body: Bytes, trace: Trace, received: Time) {
        self.view.learn(&trace);
        self.store.part(stream, header, body, trace, received);
    }

    fn announced(&self, entry: Entry) {
        self.store.announced(entry);
    }

    fn expired(&self, stream: &StreamName) {
        self.store.expired(stream);
    }

    fn kept(&self, stream: &StreamName, archives: Vec<Keeper>) {
        self.store.kept(stream, archives);
    }

    fn answer(&self, query: Bytes) -> AnswerFuture<'_> {
        Box::pin(self.store.asked(query))
    }
}

/// Hands what the ingest publishes to the mesh, and counts the packager's diagnostics.
pub(super) struct IntoMesh {
    pub(super) mesh: Mesh,
    pub(super) counters: Ingest,
}

impl PartSink for IntoMesh {
    fn record(&self, record: Record) {
        self.mesh.claim(record);
    }

    fn part(&self, stream: &StreamName, header: PartHeader, body: Bytes) {
        self.mesh.publish(stream, header, body);
    }

    fn resume(&self, stream: &StreamName) -> BoxFuture<'_, Option<Resume>> {
        let stream = stream.clone();
        Box::pin(async move { self.mesh.resume(&stream).await })
    }

    fn diagnostic(&self, _stream: &StreamName, diagnostic: &Diagnostic) {
        self.counters.diagnostic(diagnostic.kind());
    }

    fn ended(&self, stream: &StreamName) {
        tracing::info!(%stream, "the stream is no longer published at this node");
    }
}

impl dvr::QueryNode for Mesh {
    fn query(&self, whom: Peer, query: Bytes, max: usize, progress: Box<dyn FnMut() + Send>) -> dvr::QueryFuture<'_> {
        Box::pin(Mesh::query(self, whom, query, max, progress))
    }
}
