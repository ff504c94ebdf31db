//! `/api/v1` and `/metrics`.

pub mod trace;

use serde::Serialize;

use super::server::Edge;
use super::store::Stream;
use crate::observe::classic;
use damson_core::manifest::HttpError;
use damson_core::manifest::facts::{bandwidth, has_ended};
use damson_core::manifest::route::Route;
use damson_core::model::{Msn, NodeId, TrackKind};
use damson_core::window::TrackWindow;

/// What the edge asks the node that it is part of.
pub trait Host: Send + Sync {
    /// The body of `/api/v1/swarm`: the mesh as this node sees it. A [`Snapshot`](crate::mesh::Snapshot), and `nodes`:
    /// `{"node", "name"}` of all that this node has met. Each node knows its own links and, in `swarms`, its own branches
    /// of each stream's tree (`eager`, `lazy`, `parent`): who wants the whole tree asks each of `/api/v1/edges`, and puts
    /// together what they say. As old as a second. `null` before the mesh is joined.
    fn swarm(&self) -> serde_json::Value;
    /// Whether the mesh is joined, or there is none to join.
    fn is_ready(&self) -> bool;
    /// What a node is called, if that is known.
    fn node_name(&self, node: NodeId) -> Option<String>;
}

/// Stops and starts the nodes of a demo.
pub trait Control: Send + Sync {
    /// Each node's name, and whether it runs.
    fn nodes(&self) -> Vec<(String, bool)>;
    /// Has a node stopped or started, soon.
    ///
    /// # Errors
    /// There is no such node, or too much to do already.
    fn set(&self, name: &str, run: bool) -> Result<(), HttpError>;
}

/// A node without a mesh: for tests and bench.
#[derive(Debug, Clone, Copy, Default)]
pub struct Standalone;

impl Host for Standalone {
    fn swarm(&self) -> serde_json::Value {
        serde_json::json!({ "nodes": [], "links": [] })
    }
    fn is_ready(&self) -> bool {
        true
    }
    fn node_name(&self, _node: NodeId) -> Option<String> {
        None
    }
}

const OPENMETRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Serialize)]
struct StreamsJson {
    streams: Vec<StreamJson>,
}

#[derive(Serialize)]
struct StreamJson {
    name: String,
    live: bool,
    life: Option<u64>,
    ingest: Option<String>,
    ingest_name: Option<String>,
    tracks: Vec<TrackJson>,
    hls: String,
    dash: String,
    held_bytes: u64,
    gaps: u64,
    late: u64,
}

#[derive(Serialize)]
struct TrackJson {
    name: String,
    codec: String,
    language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sample_rate: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<u8>,
    bandwidth: u64,
    first_msn: Option<Msn>,
    last_msn: Option<Msn>,
    last_part: Option<u16>,
}

/// The body of an `/api/v1` route.
pub(crate) fn json(edge: &Edge, route: &Route<'_>) -> Result<String, HttpError> {
    let encoded = match *route {
        Route::Streams => {
            let streams = edge.store().streams().iter().map(|s| stream_json(edge, s)).collect();
            serde_json::to_string(&StreamsJson { streams })
        }
        Route::Stream { stream } => serde_json::to_string(&stream_json(edge, found(edge, stream)?.as_ref())),
        Route::Trace { stream, track, msn, part } => return trace::json(edge, stream, track, msn, part),
        Route::Swarm => serde_json::to_string(&edge.host().swarm()),
        Route::Demo => {
            let control = edge.config().control.as_ref();
            let control = control.ok_or_else(|| HttpError::new(404, "request: this is no demo"))?;
            let nodes = control.nodes().into_iter();
            let nodes: Vec<_> =
                nodes.map(|(name, running)| serde_json::json!({ "name": name, "running": running })).collect();
            serde_json::to_string(&serde_json::json!({ "nodes": nodes }))
        }
        Route::Edges => serde_json::to_string(&serde_json::json!({ "edges": edge.config().edges })),
        _ => return Err(HttpError::new(404, "request: no such path")),
    };
    encoded.map_err(|e| HttpError::new(500, format!("edge: {e}")))
}

fn found(edge: &Edge, name: &str) -> Result<std::sync::Arc<Stream>, HttpError> {
    edge.store().get(name).ok_or_else(|| HttpError::new(404, format!("request: no stream is named {name}")))
}

fn stream_json(edge: &Edge, stream: &Stream) -> StreamJson {
    let state = stream.lock();
    let window = state.window();
    let record = window.record();
    let ended = record.is_some_and(|r| has_ended(window, r));
    let ingest = record.map(|r| r.epoch.node).or(state.entry().map(|e| e.epoch.node));
    let tracks = record.map_or(&[][..], |r| &r.tracks).iter().map(|track| {
        let held = window.track(track.id);
        let last = held.and_then(TrackWindow::last);
        let (video, audio) = match track.kind {
            TrackKind::Video(v) => (Some(v), None),
            TrackKind::Audio(a) => (None, Some(a)),
        };
        TrackJson {
            name: track.name.clone(),
            codec: track.codec.clone(),
            language: track.language.clone(),
            width: video.map(|v| v.width),
            height: video.map(|v| v.height),
            frame_rate: video.map(|v| f64::from(v.frame_rate_milli) / 1_000.0),
            sample_rate: audio.map(|a| a.sample_rate),
            channels: audio.map(|a| a.channels),
            bandwidth: bandwidth(window, track).0,
            first_msn: held.and_then(|t| t.listed().next()).map(|s| s.msn),
            last_msn: last.map(|l| l.0),
            last_part: last.map(|l| l.1),
        }
    });
    let name = stream.name().as_str();
    StreamJson {
        name: name.to_owned(),
        live: !ended,
        life: record.map(|r| r.life.0).or(state.entry().map(|e| e.life.0)),
        ingest: ingest.map(|n| n.to_string()),
        ingest_name: ingest.map(|n| edge.node_name(n)),
        tracks: tracks.collect(),
        hls: format!("/{name}/index.m3u8"),
        dash: format!("/{name}/manifest.mpd"),
        held_bytes: window.held_bytes(),
        gaps: window.concealed(),
        late: window.late(),
    }
}

/// The body of `/metrics`.
/// `/metrics`, and its content type: OpenMetrics for who takes it.
pub(crate) fn metrics(edge: &Edge, accepted: Option<&str>) -> (String, &'static str) {
    let streams = edge.store().streams();
    let (mut held, mut late) = (0, 0);
    for stream in &streams {
        let state = stream.lock();
        held += state.window().held_bytes();
        late += state.window().late();
    }
    let text = edge.metrics().encode(streams.len() as u64, edge.store().waiting() as u64, held, late);
    match accepted.is_some_and(|accepted| accepted.contains("application/openmetrics-text")) {
        true => (text, OPENMETRICS_TYPE),
        false => (classic::of(&text), classic::CONTENT_TYPE),
    }
}
