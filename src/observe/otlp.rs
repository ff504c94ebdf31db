//! Traces for OpenTelemetry: OTLP/HTTP with JSON bodies (OTLP 1.x; JSON as its protobuf mapping has it).
//!
//! The trace of a part is made whole by the edge that lists it, from the part's account: so it is whole whatever the other
//! nodes are told, nothing more is on the wire, and all its spans are on one clock, that edge's. Its id is a hash of the
//! part's id and the edge's: each edge's trace of a part is one of its own, and made again it would be the same. Sampled
//! is the first part of each segment of each track, at all edges alike.
//!
//! ```text
//!  part (the ingest's)
//!  |- packaging, dwell, queue, transit        the ingest's
//!     `- (under the transit) dwell, queue, transit     the next node's
//!        `- (under the transit) tail, listing          the edge's
//! ```
//!
//! A span's resource is its node: `service.name` damson, `service.instance.id` the node's name. Spans of negative length
//! can't be: a transit below zero has none, and its length in `damson.us`, as all have.
//!
//! What is to be exported waits in a [bounded](QUEUE) queue; what has no room there is dropped, and counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use damson_core::model::time::UnixTime;
use damson_core::model::{LatencyBreakdown, NodeId, Stage, StreamName};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::metrics::Metrics;
use crate::clock;
use crate::net::http_client::HttpClient;

/// Parts that may wait for the collector.
pub const QUEUE: usize = 256;

/// Most parts of one request.
const BATCH: usize = 64;

/// How long a batch is gathered.
const GATHER: Duration = Duration::from_secs(1);

/// How long a request may still take when the node goes down.
const LAST: Duration = Duration::from_secs(1);

/// A part to be exported.
#[derive(Debug, Clone)]
struct Sampled {
    stream: StreamName,
    account: Arc<LatencyBreakdown>,
    /// When it was listed, on this edge's wallclock.
    listed: UnixTime,
}

/// Takes the accounts of parts.
#[derive(Debug, Clone)]
pub struct Exporter(mpsc::Sender<Sampled>);

/// Sends what the exporter took.
#[derive(Debug)]
pub struct Sender {
    queue: mpsc::Receiver<Sampled>,
    client: HttpClient,
    url: Url,
    edge: (NodeId, String),
    metrics: Arc<Metrics>,
}

/// An exporter to a collector's URL, and what is to be run for it. Without a path, OTLP's own is taken.
pub fn start(client: HttpClient, mut url: Url, edge: (NodeId, String), metrics: Arc<Metrics>) -> (Exporter, Sender) {
    if url.path() == "/" && url.query().is_none() {
        url.set_path("/v1/traces");
    }
    let (into, queue) = mpsc::channel(QUEUE);
    (Exporter(into), Sender { queue, client, url, edge, metrics })
}

impl Exporter {
    /// A part is listed. Never waits.
    pub fn listed(&self, stream: &StreamName, account: &Arc<LatencyBreakdown>, metrics: &Metrics) {
        if account.id.part > 0 {
            return;
        }
        let listed = clock::wall_of(account.listed);
        let sampled = Sampled { stream: stream.clone(), account: Arc::clone(account), listed };
        if self.0.try_send(sampled).is_err() {
            metrics.otlp().dropped.inc();
        }
    }
}

impl Sender {
    /// Sends until `stop`, and then what is left.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut was_taken = true;
        loop {
            tokio::select! {
                biased;
                n = self.queue.recv_many(&mut batch, BATCH) => {
                    if n == 0 {
                        return;
                    }
                }
                () = stop.cancelled(), if !self.queue.is_closed() => {
                    self.queue.close();
                    continue;
                }
            }
            if batch.len() < BATCH {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(GATHER) => {}
                }
                while batch.len() < BATCH
                    && let Ok(more) = self.queue.try_recv()
                {
                    batch.push(more);
                }
            }
            let spans = self.request(&batch).to_string();
            let (count, otlp) = (batch.len() as u64, self.metrics.otlp());
            batch.clear();
            let sent = tokio::select! {
                biased;
                sent = self.client.post_json(&self.url, Bytes::from(spans)) => sent,
                () = late(&stop) => {
                    otlp.failed.inc_by(count);
                    return;
                }
            };
            let fault = match sent {
                Ok(answer) if answer.status().is_success() => None,
                Ok(answer) => Some(format!("status {}", answer.status().as_u16())),
                Err(error) => Some(error.to_string()),
            };
            (if fault.is_none() { &otlp.exported } else { &otlp.failed }).inc_by(count);
            // Once, until they are taken again: a collector may be away for long.
            if let Some(fault) = fault.as_ref().filter(|_| was_taken) {
                tracing::warn!(url = %self.url, "traces aren't taken: {fault}");
            }
            was_taken = fault.is_none();
        }
    }

    /// An ExportTraceServiceRequest.
    fn request(&self, batch: &[Sampled]) -> Value {
        let mut by_node: BTreeMap<NodeId, (String, Vec<Value>)> = BTreeMap::new();
        for sampled in batch {
            for (node, name, span) in self.spans(sampled) {
                by_node.entry(node).or_insert_with(|| (name, Vec::new())).1.push(span);
            }
        }
        let resources = by_node.into_iter().map(|(node, (name, spans))| {
            json!({
                "resource": { "attributes": [
                    text("service.name", "damson"),
                    text("service.instance.id", &name),
                    text("damson.node", &node.to_string()),
                ] },
                "scopeSpans": [{ "scope": { "name": "damson", "version": env!("CARGO_PKG_VERSION") }, "spans": spans }],
            })
        });
        json!({ "resourceSpans": resources.collect::<Vec<_>>() })
    }

    fn spans(&self, sampled: &Sampled) -> Vec<(NodeId, String, Value)> {
        let Sampled { stream, account, listed } = sampled;
        let id = account.id;
        let hash = |more: &[u8]| {
            let mut hasher = blake3::Hasher::new();
            for piece in [stream.as_str().as_bytes(), &id.epoch.counter.to_be_bytes(), &id.epoch.node.0.to_be_bytes()] {
                hasher.update(&(piece.len() as u64).to_be_bytes()).update(piece);
            }
            hasher.update(&id.track.0.to_be_bytes()).update(&id.msn.to_be_bytes()).update(&id.part.to_be_bytes());
            hasher.update(&self.edge.0.0.to_be_bytes()).update(more).finalize().to_hex()
        };
        let trace = hash(b"trace")[..32].to_owned();
        let span_id = |name: &str, hop: usize| hash(format!("{name}{hop}").as_bytes())[..16].to_owned();
        let node = |hop: usize| match account.node(hop) {
            Some((node, name)) => (node, name.as_str().to_owned()),
            None => self.edge.clone(),
        };
        let nanos = |at: i128| (at.max(0) * 1_000).to_string();
        let span = |name: &str, ids: (String, Option<String>), from: i128, us: i64, mut more: Vec<Value>| {
            more.push(int("damson.us", us));
            let mut span = json!({
                "traceId": trace, "spanId": ids.0, "name": name,
                "kind": 1, // INTERNAL
                "startTimeUnixNano": nanos(from), "endTimeUnixNano": nanos(from + i128::from(us.max(0))),
                "attributes": more,
            });
            if let Some(parent) = ids.1 {
                span["parentSpanId"] = parent.into();
            }
            span
        };
        let begin = i128::from(listed.as_micros()) - i128::from(account.age_us());
        let about = vec![
            text("damson.stream", stream.as_str()),
            int("damson.track", id.track.0.into()),
            int("damson.msn", id.msn.into()),
            int("damson.part", id.part.into()),
            int("damson.bytes", account.length.into()),
            text("damson.edge", &self.edge.1),
        ];
        let (origin, name) = node(0);
        let root = span_id("part", 0);
        let mut spans = vec![(origin, name, span("part", (root.clone(), None), begin, account.age_us(), about))];
        let mut at = begin;
        for step in account.steps() {
            let (id, name) = node(step.hop);
            let parent = match step.hop {
                0 => root.clone(),
                hop => span_id(Stage::Transit.name(), hop - 1),
            };
            let ids = (span_id(step.stage.name(), step.hop), Some(parent));
            let mut more = Vec::new();
            if step.stage == Stage::Transit {
                more.push(text("damson.to", &node(step.hop + 1).1));
                let uncertainty = step.uncertainty.and_then(|u| i64::try_from(u.as_micros()).ok());
                more.extend(uncertainty.map(|us| int("damson.uncertainty_us", us)));
            }
            spans.push((id, name, span(step.stage.name(), ids, at, step.micros, more)));
            at += i128::from(step.micros);
        }
        spans
    }
}

async fn late(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(LAST).await;
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// Integers of 64 bits are strings in protobuf's JSON.
fn int(key: &str, value: i64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

#[cfg(test)]
mod tests;
