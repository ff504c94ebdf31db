//! Writes `/api/v1/streams/{stream}/trace`: the latency of parts, stage by stage. All times are in microseconds;
//! [`damson_core::model::latency`] defines the stages.
//!
//! - `?track=` names a track. Without it, the newest part is one of the first track, and the windows cover all tracks.
//! - `?msn=` and `?part=` select one part, and the answer is that part alone.
//! - Without `msn` and `part` the answer is the newest part, and beside its fields `parts`, the last [20](PARTS), oldest first,
//!   and `windows`, at most 0.5 s old.
//! - `/trace/live` sends the same by WebSocket: `{"type": "part", ..}` as soon as a part is listed, and
//!   `{"type": "overview", "stream": .., "windows": [..]}` at once and then each second. `?track=` names a track; without
//!   it, the messages cover all tracks.
//!
//! ```json
//! {
//!   "stream": "demo", "track": "video", "msn": 1793410000, "part": 3, "bytes": 61234, "duration_us": 200000,
//!   "ingested_unix_us": 1793410006123456, "available_unix_us": 1793410006160000,
//!   "packaging_us": 33100,
//!   "hops": [{"node": "9f..", "name": "ingest", "dwell_us": 90, "queue_us": 40, "transit_us": 310, "uncertainty_us": 95}],
//!   "receive_tail_us": 800, "listing_us": 3, "edge": {"node": "a1..", "name": "edge1"},
//!   "total_us": 1243, "age_us": 34343, "uncertainty_us": 95,
//!   "stages": [{"stage": "packaging", "hop": 0, "node": "9f..", "name": "ingest", "us": 33100, "uncertainty_us": 0}, ..],
//!   "parts": [..],
//!   "windows": [{
//!     "seconds": 10, "parts": 50,
//!     "age": {"count": 50, "p50_us": 34000, "p90_us": 34900, "p99_us": 36000, "max_us": 36000},
//!     "stages": [{"stage": "transit", "hop": 0, "node": "9f..", "name": "ingest", "to": {"node": "a1..", "name": "edge1"},
//!       "count": 50, "p50_us": 300, "p90_us": 400, "p99_us": 500, "max_us": 500, "uncertainty_us": 110}, ..],
//!     "requests": [{"stage": "held", "count": 120, "p50_us": 180000, "p90_us": .., "p99_us": .., "max_us": ..}, ..]
//!   }, ..]
//! }
//! ```
//!
//! Of a part:
//! - `ingested_unix_us` is when the ingest node had the part's last access unit, on that node's wallclock, and
//!   `available_unix_us` when this edge listed it, on its own wallclock. The breakdown begins and ends there.
//! - `hops` has an entry for each link that the part has passed. A `transit_us` may be below zero, within its uncertainty.
//! - `total_us` is what the relay has added: dwell, queue, transit, tail and listing. `age_us` adds packaging to it: the age of
//!   the part as this edge lists it. `stages` has the same as a list, whose sum is `age_us`.
//! - `uncertainty_us` is how far off these sums may be, either way. It and `packaging_us` are `null` where an older node of
//!   the path doesn't measure them.
//!
//! Of a window:
//! - `seconds` is how far it reaches back, but no further than the newest 2,048 parts.
//! - `stages` is exact, sorted by hop, then by stage: `hop` 0 is the ingest node, the last one this edge. Where the tree
//!   has changed meanwhile, a hop has several nodes. `uncertainty_us` is the largest of the parts.
//! - `requests` is what requests for parts took, of all tracks, but no more than the newest 8,192 timings. The edge times the
//!   first 16 requests of each second, and one in 32 of the others, so `count` isn't the number of requests.

use std::time::Duration;

use damson_core::manifest::HttpError;
use damson_core::model::{LatencyBreakdown, Msn, NodeId, NodeName, Stage, TrackId};
use damson_core::window::{Part, TrackWindow};
use serde_json::{Value, json};

use super::json::merged;
use crate::clock;
use crate::edge::context::Edge;
use crate::edge::streams::Stream;
use crate::edge::streams::stream::StreamState;
use crate::edge::streams::summary::WindowSummary;

/// The number of newest parts in an answer.
pub const PARTS: usize = 20;

/// Returns the body of the route.
pub(crate) fn json(
    edge: &Edge,
    stream: &Stream,
    track: Option<&str>,
    msn: Option<Msn>,
    part: Option<u16>,
) -> Result<Value, HttpError> {
    let (breakdown, wanted) = {
        let state = stream.lock();
        let (id, window) = traced_track(&state, track)?;
        let breakdown = traced_part(window, msn, part)?.latency();
        let breakdown = breakdown.ok_or_else(|| HttpError::new(404, "request: that part is a gap; it has no trace"))?;
        (breakdown, track.map(|_| id))
    };
    let mut json = traced(edge, stream, &breakdown);
    if msn.is_none() && part.is_none() {
        let last: Vec<_> = stream.lock().listed().of(clock::now(), wanted).rev().take(PARTS).cloned().collect();
        json["parts"] = last.iter().rev().map(|breakdown| traced(edge, stream, breakdown)).collect();
        json["windows"] = windows(edge, stream, wanted);
    }
    Ok(json)
}

/// Returns the live message of a part.
pub(crate) fn part_message(edge: &Edge, stream: &Stream, breakdown: &LatencyBreakdown) -> String {
    merged([json!({ "type": "part" }), traced(edge, stream, breakdown)]).to_string()
}

/// Returns the live message that sums up the last parts.
pub(crate) fn overview_message(edge: &Edge, stream: &Stream, track: Option<TrackId>) -> String {
    let windows = windows(edge, stream, track);
    json!({ "type": "overview", "stream": stream.name().as_str(), "windows": windows }).to_string()
}

/// Returns a track by name.
pub(crate) fn track_id(stream: &Stream, name: &str) -> Result<TrackId, HttpError> {
    traced_track(&stream.lock(), Some(name)).map(|found| found.0)
}

fn traced_track<'a>(state: &'a StreamState, name: Option<&str>) -> Result<(TrackId, &'a TrackWindow), HttpError> {
    let record =
        state.window().record().ok_or_else(|| HttpError::new(404, "stream: this edge has nothing of it yet"))?;
    let track = match name {
        Some(name) => record.track_named(name),
        None => record.tracks.first(),
    };
    let track = track.ok_or_else(|| HttpError::new(404, "request: the stream has no such track"))?;
    let held = state.window().track(track.id);
    held.map(|held| (track.id, held)).ok_or_else(|| HttpError::new(404, "stream: this edge has nothing of it yet"))
}

fn traced_part(track: &TrackWindow, msn: Option<Msn>, part: Option<u16>) -> Result<&Part, HttpError> {
    let segment = match msn {
        Some(msn) => track.segment_under_way(msn),
        None => track.listed().next_back(),
    };
    let found = segment.and_then(|s| match part {
        Some(part) => s.parts().nth(usize::from(part)),
        None => s.parts().last(),
    });
    found.ok_or_else(|| HttpError::new(404, "request: no such part is listed"))
}

fn whole(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The node of a hop; `None` for this edge, behind the last hop.
type HopNode = Option<(NodeId, NodeName)>;

fn node(edge: &Edge, node: HopNode) -> Value {
    let (id, name) = match node {
        Some((id, name)) if name.as_str().is_empty() => (id, edge.node_name(id)),
        Some((id, name)) => (id, name.as_str().to_owned()),
        None => (edge.config().node, edge.name().to_owned()),
    };
    json!({ "node": id.to_string(), "name": name })
}

fn stage(edge: &Edge, (stage, hop): (Stage, usize), (at, to): (HopNode, HopNode), took: Value) -> Value {
    let to = if stage == Stage::Transit { json!({ "to": node(edge, to) }) } else { json!({}) };
    merged([json!({ "stage": stage.name(), "hop": hop }), node(edge, at), to, took])
}

fn traced(edge: &Edge, stream: &Stream, breakdown: &LatencyBreakdown) -> Value {
    let (track, duration) = {
        let state = stream.lock();
        let track = state.window().record().and_then(|record| record.track(breakdown.id.track));
        let duration = track.map(|track| track.timescale.duration(breakdown.duration.into()));
        (track.map(|track| track.name.clone()).unwrap_or_default(), duration.unwrap_or_default())
    };
    let hops = breakdown.trace.hops.iter().enumerate().map(|(i, hop)| {
        let took = json!({
            "dwell_us": whole(hop.dwell),
            "queue_us": whole(hop.queue),
            "transit_us": hop.transit_us,
            "uncertainty_us": hop.uncertainty.map(whole),
        });
        merged([node(edge, breakdown.node(i)), took])
    });
    let stages = breakdown.steps().map(|step| {
        let nodes = (breakdown.node(step.hop), breakdown.node(step.hop + 1));
        let took = json!({ "us": step.micros, "uncertainty_us": step.uncertainty.map(whole) });
        stage(edge, (step.stage, step.hop), nodes, took)
    });
    json!({
        "stream": stream.name().as_str(),
        "track": track,
        "msn": breakdown.id.msn,
        "part": breakdown.id.part,
        "bytes": breakdown.length,
        "duration_us": whole(duration),
        "ingested_unix_us": breakdown.ingested.as_micros(),
        "available_unix_us": clock::wall_of(breakdown.listed).as_micros(),
        "packaging_us": breakdown.trace.packaging_us,
        "hops": hops.collect::<Vec<_>>(),
        "receive_tail_us": whole(breakdown.tail),
        "listing_us": whole(breakdown.listing),
        "edge": node(edge, None),
        "total_us": breakdown.relay_us(),
        "age_us": breakdown.age_us(),
        "uncertainty_us": breakdown.uncertainty().map(whole),
        "stages": stages.collect::<Vec<_>>(),
    })
}

/// Sums up the last parts of a track, or of all tracks.
fn windows(edge: &Edge, stream: &Stream, track: Option<TrackId>) -> Value {
    let window = |WindowSummary { seconds, parts, requests }: &WindowSummary| {
        let stages = parts.stages.iter().map(|of| {
            let took = merged([json!(of.spread), json!({ "uncertainty_us": of.uncertainty.map(whole) })]);
            stage(edge, (of.stage, of.hop), (of.node, of.to), took)
        });
        let requests = requests.iter().map(|(stage, spread)| merged([json!({ "stage": stage.name() }), json!(spread)]));
        json!({
            "seconds": seconds,
            "parts": parts.age.map_or(0, |age| age.count),
            "age": parts.age,
            "stages": stages.collect::<Vec<_>>(),
            "requests": requests.collect::<Vec<_>>(),
        })
    };
    stream.summary(track).iter().map(window).collect()
}
