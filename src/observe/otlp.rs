//! Traces of parts for OpenTelemetry: OTLP/HTTP with JSON bodies (OTLP 1.x; the JSON mapping of protobuf).
//!
//! The edge that lists a part makes the part's trace, from the latency breakdown that the part carries. So the trace is
//! complete whatever other nodes export, nothing more is sent between nodes, and all its spans are on one clock, the edge's.
//! Its id is a hash of the part's id and the edge's, so each edge has a trace of its own. Sampled is the first part of each
//! segment of each track, at all edges alike.
//!
//! ```text
//!  part (the ingest's)
//!  |- packaging, dwell, queue, transit        the ingest's
//!     `- (under the transit) dwell, queue, transit     the next node's
//!        `- (under the transit) tail, listing          the edge's
//! ```
//!
//! A span's resource is its node: `service.name` damson, `service.instance.id` the node's name. OTLP has no spans of
//! negative length: a transit below zero has none, and `damson.us` has its length, as for all spans.
//!
//! Parts to export wait in a [bounded](QUEUE) queue; a part that finds the queue full is dropped and counted.

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

/// The most parts that wait for the collector.
pub const QUEUE: usize = 256;

/// The most parts of one request.
const BATCH: usize = 64;

/// The time for which a batch waits for more parts.
const GATHER: Duration = Duration::from_secs(1);

/// The longest that a request may take when the node shuts down.
const LAST: Duration = Duration::from_secs(1);

/// A part to export.
#[derive(Debug, Clone)]
struct Sampled {
    stream: StreamName,
    breakdown: Arc<LatencyBreakdown>,
    /// The time at which it was listed, on this edge's wallclock.
    listed: UnixTime,
}

/// Takes the latency breakdowns of listed parts.
#[derive(Debug, Clone)]
pub struct Exporter(mpsc::Sender<Sampled>);

/// Sends the exporter's parts to the collector.
#[derive(Debug)]
pub struct Sender {
    queue: mpsc::Receiver<Sampled>,
    client: HttpClient,
    url: Url,
    edge: (NodeId, String),
    metrics: Arc<Metrics>,
}

/// Returns an exporter to a collector's URL, and the sender to run for it. A URL without a path gets OTLP's own.
pub fn start(client: HttpClient, mut url: Url, edge: (NodeId, String), metrics: Arc<Metrics>) -> (Exporter, Sender) {
    if url.path() == "/" && url.query().is_none() {
        url.set_path("/v1/traces");
    }
    let (into, queue) = mpsc::channel(QUEUE);
    (Exporter(into), Sender { queue, client, url, edge, metrics })
}

impl Exporter {
    /// Takes a part that was listed. Never waits.
    pub fn listed(&self, stream: &StreamName, breakdown: &Arc<LatencyBreakdown>, metrics: &Metrics) {
        if breakdown.id.part > 0 {
            return;
        }
        let listed = clock::wall_of(breakdown.listed);
        let sampled = Sampled { stream: stream.clone(), breakdown: Arc::clone(breakdown), listed };
        if self.0.try_send(sampled).is_err() {
            metrics.otlp.dropped.inc();
        }
    }
}

impl Sender {
    /// Sends until `stop`, and then the parts that are left.
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
            let (count, otlp) = (batch.len() as u64, &self.metrics.otlp);
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
            // Logged once until a request succeeds, since a collector may be down for long.
            if let Some(fault) = fault.as_ref().filter(|_| was_taken) {
                tracing::warn!(url = %self.url, "otlp: the collector doesn't accept traces: {fault}");
            }
            was_taken = fault.is_none();
        }
    }

    /// Returns an ExportTraceServiceRequest.
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
        let Sampled { stream, breakdown, listed } = sampled;
        let id = breakdown.id;
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
        let node = |hop: usize| match breakdown.node(hop) {
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
        let begin = i128::from(listed.as_micros()) - i128::from(breakdown.age_us());
        let about = vec![
            text("damson.stream", stream.as_str()),
            int("damson.track", id.track.0.into()),
            int("damson.msn", id.msn.into()),
            int("damson.part", id.part.into()),
            int("damson.bytes", breakdown.length.into()),
            text("damson.edge", &self.edge.1),
        ];
        let (origin, name) = node(0);
        let root = span_id("part", 0);
        let mut spans = vec![(origin, name, span("part", (root.clone(), None), begin, breakdown.age_us(), about))];
        let mut at = begin;
        for step in breakdown.steps() {
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

/// Returns an integer attribute. 64-bit integers are strings in protobuf's JSON.
fn int(key: &str, value: i64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

#[cfg(test)]
mod tests;
