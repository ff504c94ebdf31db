//! Writes the JSON of `/api/v1`.

use std::sync::Arc;

use damson_core::manifest::HttpError;
use damson_core::manifest::facts::{bandwidth, presentation_has_ended};
use damson_core::manifest::route::Route;
use damson_core::model::{AudioInfo, Track, TrackKind, VideoInfo};
use damson_core::window::{TrackWindow, Window};
use serde_json::{Value, json};

use crate::edge::context::{Control, Edge};
use crate::edge::streams::Stream;

/// Returns the body of an `/api/v1` route that names no stream.
pub(crate) fn json(edge: &Edge, route: &Route<'_>) -> Result<Value, HttpError> {
    match route {
        Route::Streams => {
            let streams: Vec<_> = edge.store().streams().iter().map(|of| stream(edge, of)).collect();
            Ok(json!({ "streams": streams }))
        }
        Route::Swarm => Ok(edge.host().swarm()),
        Route::Demo => {
            let nodes = control(edge)?.nodes().into_iter();
            let nodes: Vec<_> = nodes.map(|(name, running)| json!({ "name": name, "running": running })).collect();
            Ok(json!({ "nodes": nodes }))
        }
        Route::Edges => Ok(json!({ "edges": edge.config().edges })),
        _ => Err(HttpError::new(404, "request: no such path")),
    }
}

/// Returns the control of a demo's nodes.
pub(crate) fn control(edge: &Edge) -> Result<&Arc<dyn Control>, HttpError> {
    edge.config().control.as_ref().ok_or_else(|| HttpError::new(404, "request: this node is not part of a demo"))
}

/// Returns the body of `/api/v1/streams/{stream}`.
pub(crate) fn stream(edge: &Edge, stream: &Stream) -> Value {
    let state = stream.lock();
    let window = state.window();
    let record = window.record();
    let ingest = record.map(|r| r.epoch.node).or(state.entry().map(|e| e.epoch.node));
    let tracks: Vec<_> = record.iter().flat_map(|r| &r.tracks).map(|of| track(window, of)).collect();
    let name = stream.name().as_str();
    json!({
        "name": name,
        "live": !presentation_has_ended(window),
        "life": record.map(|r| r.life.0).or(state.entry().map(|e| e.life.0)),
        "ingest": ingest.map(|n| n.to_string()),
        "ingest_name": ingest.map(|n| edge.node_name(n)),
        "tracks": tracks,
        "hls": format!("/{name}/index.m3u8"),
        "dash": format!("/{name}/manifest.mpd"),
        "held_bytes": window.held_bytes(),
        "gaps": window.concealed(),
        "late": window.late(),
    })
}

fn track(window: &Window, track: &Track) -> Value {
    let held = window.track(track.id);
    let last = held.and_then(TrackWindow::last);
    let kind = match track.kind {
        TrackKind::Video(VideoInfo { width, height, frame_rate_milli, .. }) => {
            json!({ "width": width, "height": height, "frame_rate": f64::from(frame_rate_milli) / 1_000.0 })
        }
        TrackKind::Audio(AudioInfo { sample_rate, channels }) => {
            json!({ "sample_rate": sample_rate, "channels": channels })
        }
    };
    let listed = json!({
        "bandwidth": bandwidth(window, track).0,
        "first_msn": held.and_then(|t| t.listed().next()).map(|s| s.msn),
        "last_msn": last.map(|l| l.0),
        "last_part": last.map(|l| l.1),
    });
    merged([json!({ "name": track.name, "codec": track.codec, "language": track.language }), kind, listed])
}

/// Returns one object with the fields of several.
pub(crate) fn merged<const N: usize>(objects: [Value; N]) -> Value {
    let fields = objects.into_iter().filter_map(|object| match object {
        Value::Object(fields) => Some(fields),
        _ => None,
    });
    Value::Object(fields.flatten().collect())
}
