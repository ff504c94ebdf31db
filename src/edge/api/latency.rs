//! `/api/v1/streams/{stream}/trace`: where the time of each part went. All times in microseconds; what each stage is,
//! [`damson_core::model::latency`] says.
//!
//! - `?track=` names a track. Without it, the newest part is the first track's, and the windows are of all tracks.
//! - `?msn=`, and `?part=`, ask for one part alone: a [`Traced`].
//! - Without `msn` and `part`: the newest part's [`Traced`] fields, and beside them `parts`, the last [20](PARTS) as [`Traced`],
//!   oldest first, and `windows`, as [`Windows`] has them, at most 0.5 s old.
//! - `/trace/live` tells the same as it happens, by WebSocket: `{"type": "part", ..}`, a [`Traced`], for each part as it
//!   is listed, and `{"type": "overview", "stream": .., "windows": [..]}` at once and then each second. `?track=` names a
//!   track; without it, all are told of.
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

use std::time::Duration;

use damson_core::manifest::HttpError;
use damson_core::model::latency::{Spread, StageTime};
use damson_core::model::{LatencyBreakdown, Msn, NodeId, NodeName, Stage, TrackId};
use damson_core::window::{Part, TrackWindow};
use serde::Serialize;

use crate::clock;
use crate::edge::context::Edge;
use crate::edge::streams::Stream;
use crate::edge::streams::stream::StreamState;
use crate::edge::streams::summary::WindowSummary;

/// How many of the newest parts are listed.
pub const PARTS: usize = 20;

/// One part's way, and where its time went.
#[derive(Debug, Serialize)]
pub struct Traced {
    /// Of which stream.
    stream: String,
    /// Of which track, by name.
    track: String,
    /// In which segment.
    msn: Msn,
    /// Which part of it.
    part: u16,
    /// Its length in bytes.
    bytes: u32,
    /// Its length in time.
    duration_us: u64,
    /// When the ingest had its last access unit, on the ingest's wallclock: the account begins here.
    ingested_unix_us: u64,
    /// When this edge listed it, on its own wallclock: the account ends here.
    available_unix_us: u64,
    /// As the ingest measured it; `null` where a node on the way is too old to say.
    packaging_us: Option<i64>,
    /// One entry a link passed.
    hops: Vec<HopJson>,
    /// First byte in here to last byte in.
    receive_tail_us: u64,
    /// Last byte in here to listed.
    listing_us: u64,
    /// This edge.
    edge: NodeJson,
    /// Of dwell, queue, transit, tail and listing: what the relay has added.
    total_us: i64,
    /// With packaging: the age of the part as it was listed here.
    age_us: i64,
    /// How far off these sums may be, either way; `null` where a node on the way is too old to say.
    uncertainty_us: Option<u64>,
    /// The same as a list, in order: their sum is `age_us`.
    stages: Vec<StageJson<Micros>>,
}

#[derive(Debug, Serialize)]
struct NodeJson {
    node: String,
    name: String,
}

#[derive(Debug, Serialize)]
struct HopJson {
    #[serde(flatten)]
    at: NodeJson,
    dwell_us: u64,
    queue_us: u64,
    /// Below zero, perhaps, within the uncertainty.
    transit_us: i64,
    uncertainty_us: Option<u64>,
}

/// What one stage took, of one part or of many.
#[derive(Debug, Serialize)]
struct StageJson<T> {
    stage: &'static str,
    /// The place on the way of the node whose it is: 0 is the ingest's, the last this edge's.
    hop: usize,
    #[serde(flatten)]
    at: NodeJson,
    /// Where a transit leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<NodeJson>,
    #[serde(flatten)]
    took: T,
    /// Of many, the largest.
    uncertainty_us: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Micros {
    us: i64,
}

/// What the last 1, 10 and 60 s come to.
#[derive(Debug, Serialize)]
pub struct Windows {
    /// How far it reaches back. As far as the newest 2,048 parts do.
    seconds: u64,
    /// How many parts were listed in it.
    parts: u64,
    /// Of their ages.
    age: Option<Spread>,
    /// By place on the way, then by stage; exact. Where the tree has changed meanwhile, a place has several nodes.
    stages: Vec<StageJson<Spread>>,
    /// What requests for parts took, of all tracks; to an eighth, `max_us` exactly. Up to one second (of 60: ten)
    /// more is counted. Of more than 16 requests a second one in 32 is timed, so `count` isn't how many there were.
    requests: Vec<StageOfRequests>,
}

#[derive(Debug, Serialize)]
struct StageOfRequests {
    stage: &'static str,
    #[serde(flatten)]
    spread: Spread,
}

/// The newest part, the last ones, and what they come to.
#[derive(Serialize)]
struct Newest {
    #[serde(flatten)]
    newest: Traced,
    parts: Vec<Traced>,
    windows: Vec<Windows>,
}

#[derive(Serialize)]
struct PartMessage {
    r#type: &'static str,
    #[serde(flatten)]
    part: Traced,
}

#[derive(Serialize)]
struct OverviewMessage<'a> {
    r#type: &'static str,
    stream: &'a str,
    windows: Vec<Windows>,
}

/// Returns the body of the route.
pub(crate) fn json(
    edge: &Edge,
    name: &str,
    track: Option<&str>,
    msn: Option<Msn>,
    part: Option<u16>,
) -> Result<String, HttpError> {
    let stream = edge.store().find(name)?;
    let (account, wanted) = {
        let state = stream.lock();
        let (id, window) = traced_track(&state, track)?;
        let account = traced_part(window, msn, part)?.latency();
        let account = account.ok_or_else(|| HttpError::new(404, "request: that part is a gap: it has come no way"))?;
        (account, track.map(|_| id))
    };
    let newest = traced(edge, &stream, &account);
    let encoded = if msn.is_some() || part.is_some() {
        serde_json::to_string(&newest)
    } else {
        let last: Vec<_> = stream.lock().listed().of(clock::now(), wanted).rev().take(PARTS).cloned().collect();
        let parts = last.iter().rev().map(|account| traced(edge, &stream, account)).collect();
        serde_json::to_string(&Newest { newest, parts, windows: windows(edge, &stream, wanted) })
    };
    encoded.map_err(|e| HttpError::new(500, format!("edge: {e}")))
}

/// Returns the live message of a part.
pub(crate) fn part_message(edge: &Edge, stream: &Stream, account: &LatencyBreakdown) -> String {
    let message = PartMessage { r#type: "part", part: traced(edge, stream, account) };
    serde_json::to_string(&message).unwrap_or_default()
}

/// Returns the live message of what the last parts come to.
pub(crate) fn overview_message(edge: &Edge, stream: &Stream, track: Option<TrackId>) -> String {
    let windows = windows(edge, stream, track);
    let message = OverviewMessage { r#type: "overview", stream: stream.name().as_str(), windows };
    serde_json::to_string(&message).unwrap_or_default()
}

/// Returns a track by name.
pub(crate) fn track_id(stream: &Stream, name: &str) -> Result<TrackId, HttpError> {
    traced_track(&stream.lock(), Some(name)).map(|found| found.0)
}

fn traced_track<'a>(state: &'a StreamState, name: Option<&str>) -> Result<(TrackId, &'a TrackWindow), HttpError> {
    let record = state.window().record().ok_or_else(|| HttpError::new(404, "stream: nothing of it is here yet"))?;
    let track = match name {
        Some(name) => record.track_named(name),
        None => record.tracks.first(),
    };
    let track = track.ok_or_else(|| HttpError::new(404, "request: the stream has no such track"))?;
    let held = state.window().track(track.id);
    held.map(|held| (track.id, held)).ok_or_else(|| HttpError::new(404, "stream: nothing of it is here yet"))
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

/// The node of a place on the way; this edge behind the last.
type PlaceOfHop = Option<(NodeId, NodeName)>;

fn node(edge: &Edge, node: PlaceOfHop) -> NodeJson {
    let (id, name) = match node {
        Some((id, name)) if name.as_str().is_empty() => (id, edge.node_name(id)),
        Some((id, name)) => (id, name.as_str().to_owned()),
        None => (edge.config().node, edge.name().to_owned()),
    };
    NodeJson { node: id.to_string(), name }
}

fn stage<T>(
    edge: &Edge,
    (stage, hop): (Stage, usize),
    (at, to): (PlaceOfHop, PlaceOfHop),
    took: T,
    uncertainty: Option<Duration>,
) -> StageJson<T> {
    let to = (stage == Stage::Transit).then(|| node(edge, to));
    StageJson { stage: stage.name(), hop, at: node(edge, at), to, took, uncertainty_us: uncertainty.map(whole) }
}

fn traced(edge: &Edge, stream: &Stream, account: &LatencyBreakdown) -> Traced {
    let (track, duration) = {
        let state = stream.lock();
        let record = state.window().record();
        let track = record.and_then(|record| record.tracks.iter().find(|track| track.id == account.id.track));
        let duration = track.map(|track| track.timescale.duration(account.duration.into()));
        (track.map(|track| track.name.clone()).unwrap_or_default(), duration.unwrap_or_default())
    };
    let hops = account.trace.hops.iter().enumerate().map(|(i, hop)| HopJson {
        at: node(edge, account.node(i)),
        dwell_us: whole(hop.dwell),
        queue_us: whole(hop.queue),
        transit_us: hop.transit_us,
        uncertainty_us: hop.uncertainty.map(whole),
    });
    let stages = account.steps().map(|step: StageTime| {
        let nodes = (account.node(step.hop), account.node(step.hop + 1));
        stage(edge, (step.stage, step.hop), nodes, Micros { us: step.micros }, step.uncertainty)
    });
    Traced {
        stream: stream.name().to_string(),
        track,
        msn: account.id.msn,
        part: account.id.part,
        bytes: account.length,
        duration_us: whole(duration),
        ingested_unix_us: account.ingested.as_micros(),
        available_unix_us: clock::wall_of(account.listed).as_micros(),
        packaging_us: account.trace.packaging_us,
        hops: hops.collect(),
        receive_tail_us: whole(account.tail),
        listing_us: whole(account.listing),
        edge: node(edge, None),
        total_us: account.relay_us(),
        age_us: account.age_us(),
        uncertainty_us: account.uncertainty().map(whole),
        stages: stages.collect(),
    }
}

/// Returns what the last parts of a track, or of all, come to.
fn windows(edge: &Edge, stream: &Stream, track: Option<TrackId>) -> Vec<Windows> {
    let of = |WindowSummary { seconds, parts, requests }: &WindowSummary| Windows {
        seconds: *seconds,
        parts: parts.age.map_or(0, |age| age.count),
        age: parts.age,
        stages: parts
            .stages
            .iter()
            .map(|s| stage(edge, (s.stage, s.hop), (s.node, s.to), s.spread, s.uncertainty))
            .collect(),
        requests: requests.iter().map(|&(stage, spread)| StageOfRequests { stage: stage.name(), spread }).collect(),
    };
    stream.summary(track).iter().map(of).collect()
}
