//! The JSON of `/api/v1`.

use std::collections::BTreeMap;

use damson_core::manifest::HttpError;
use damson_core::manifest::facts::{bandwidth, has_ended};
use damson_core::manifest::route::Route;
use damson_core::model::{AudioInfo, Msn, TrackKind, VideoInfo};
use damson_core::window::TrackWindow;
use serde::Serialize;

use super::latency;
use crate::edge::context::Edge;
use crate::edge::streams::Stream;

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
    #[serde(flatten)]
    kind: KindJson,
    bandwidth: u64,
    first_msn: Option<Msn>,
    last_msn: Option<Msn>,
    last_part: Option<u16>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum KindJson {
    Video { width: u16, height: u16, frame_rate: f64 },
    Audio { sample_rate: u32, channels: u8 },
}

/// Returns the body of an `/api/v1` route.
pub(crate) fn json(edge: &Edge, route: &Route<'_>) -> Result<String, HttpError> {
    let encoded = match *route {
        Route::Streams => {
            let streams: Vec<_> = edge.store().streams().iter().map(|s| stream_json(edge, s)).collect();
            serde_json::to_string(&BTreeMap::from([("streams", streams)]))
        }
        Route::Stream { stream } => serde_json::to_string(&stream_json(edge, edge.store().find(stream)?.as_ref())),
        Route::Trace { stream, track, msn, part } => return latency::json(edge, stream, track, msn, part),
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

fn stream_json(edge: &Edge, stream: &Stream) -> StreamJson {
    let state = stream.lock();
    let window = state.window();
    let record = window.record();
    let ended = record.is_some_and(|r| has_ended(window, r));
    let ingest = record.map(|r| r.epoch.node).or(state.entry().map(|e| e.epoch.node));
    let tracks = record.map_or(&[][..], |r| &r.tracks).iter().map(|track| {
        let held = window.track(track.id);
        let last = held.and_then(TrackWindow::last);
        let kind = match track.kind {
            TrackKind::Video(VideoInfo { width, height, frame_rate_milli, .. }) => {
                KindJson::Video { width, height, frame_rate: f64::from(frame_rate_milli) / 1_000.0 }
            }
            TrackKind::Audio(AudioInfo { sample_rate, channels }) => KindJson::Audio { sample_rate, channels },
        };
        TrackJson {
            name: track.name.clone(),
            codec: track.codec.clone(),
            language: track.language.clone(),
            kind,
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
