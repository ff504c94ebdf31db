//! Prometheus counters and histograms of one node.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use damson_core::model::latency::StageTime;
use damson_core::model::{LatencyBreakdown, PartHeader, Stage};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry, Unit};

use super::ingest::Ingest;

/// The kind of resource that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestKind {
    /// A multivariant playlist.
    Multivariant,
    /// A media playlist.
    Playlist,
    /// An MPD.
    Mpd,
    /// An init segment.
    Init,
    /// A segment.
    Segment,
    /// A part.
    Part,
    /// `/api/v1`.
    Api,
    /// The page, probes, resources that don't exist.
    Other,
}

impl RequestKind {
    /// The number of kinds.
    pub const COUNT: usize = RequestKind::Other as usize + 1;
}

impl EncodeLabelValue for RequestKind {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let name = match self {
            RequestKind::Multivariant => "multivariant",
            RequestKind::Playlist => "playlist",
            RequestKind::Mpd => "mpd",
            RequestKind::Init => "init",
            RequestKind::Segment => "segment",
            RequestKind::Part => "part",
            RequestKind::Api => "api",
            RequestKind::Other => "other",
        };
        name.encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    kind: RequestKind,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: RequestKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HopLabels {
    /// The number of the hop: 0 is that of the ingest node. Bounded by [`damson_core::model::Trace::HOPS_MAX`].
    hop: u32,
}

/// The metrics of the DVR.
#[derive(Debug)]
pub struct Dvr {
    /// Bytes of the kept segments.
    pub kept: Gauge<u64, AtomicU64>,
    /// Segments that were dropped before they were on disk.
    pub lost: Counter,
    /// Segments read from disk for a player.
    pub reads: Counter,
    /// Failed reads and writes.
    pub failures: Counter,
    /// Segments fetched from other nodes for a player.
    pub fetched: Counter,
    /// Segments that no other node had.
    pub unfetched: Counter,
}

/// The metrics of the export of traces.
#[derive(Debug)]
pub struct Otlp {
    /// Parts whose traces the collector accepted.
    pub exported: Counter,
    /// Parts whose traces were dropped, since the collector is too slow.
    pub dropped: Counter,
    /// Parts whose traces the collector refused, or that couldn't be sent.
    pub failed: Counter,
}

/// A node's metrics.
#[derive(Debug)]
pub struct Metrics {
    /// The metrics of the ingest.
    pub ingest: Ingest,
    /// The metrics of the DVR.
    pub dvr: Dvr,
    /// The metrics of the export of traces.
    pub otlp: Otlp,
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    bytes: Family<KindLabels, Counter>,
    parts: Counter,
    part_bytes: Counter,
    gaps: Counter,
    late: Gauge<u64, AtomicU64>,
    streams: Gauge<u64, AtomicU64>,
    waiting: Gauge<u64, AtomicU64>,
    held: Gauge<u64, AtomicU64>,
    stages: Stages,
}

/// Registers a metric.
fn add<M: Metric + Clone + Default>(r: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    r.register(name, help, metric.clone());
    metric
}

/// Registers a metric with a unit.
fn add_in<M: Metric + Clone>(unit: Unit, r: &mut Registry, name: &str, help: &str, metric: M) -> M {
    r.register_with_unit(name, help, unit, metric.clone());
    metric
}

/// Returns a histogram of 100 us to 13 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 2.0, 18))
}

/// The histograms of a stage of requests, by kind. They are kept, since a lookup in the family costs more than counting.
#[derive(Debug)]
struct Requests {
    family: Family<KindLabels, Histogram>,
    found: [OnceLock<Histogram>; RequestKind::COUNT],
}

impl Requests {
    fn of(&self, kind: RequestKind) -> &Histogram {
        self.found[kind as usize].get_or_init(|| self.family.get_or_create_owned(&KindLabels { kind }))
    }
}

/// The histograms of the stages of [`damson_core::model::latency`].
#[derive(Debug)]
struct Stages {
    packaging: Histogram,
    dwell: Family<HopLabels, Histogram>,
    queue: Family<HopLabels, Histogram>,
    transit: Family<HopLabels, Histogram>,
    /// A histogram's sum can't decrease, so a negative time counts as zero there, and is counted here.
    below_zero: Family<HopLabels, Counter>,
    tail: Histogram,
    listing: Histogram,
    age: Histogram,
    requests: [Requests; Stage::OF_REQUESTS.len()],
}

impl Stages {
    fn register(r: &mut Registry) -> Stages {
        let new = || Family::new_with_constructor(seconds as fn() -> Histogram);
        let mut hops = |name, help| add_in(Unit::Seconds, r, name, help, new());
        let dwell = hops("hop_dwell", "Dwell: from the first byte in at a node until the part is handed to the link");
        let queue = hops("hop_queue", "Queue: from the link until the first byte is sent");
        let transit = hops("hop_transit", "Transit: from the first byte sent to the first byte in at the next node");
        let below_zero = add(r, "hop_transit_below_zero", "Transits measured as below zero");
        let mut one = |name, help| add_in(Unit::Seconds, r, name, help, seconds());
        let packaging =
            one("packaging", "Packaging: from the last access unit of a part in at the ingest until the part is made");
        let tail = one("receive_tail", "Tail: from the first to the last byte of a part at this node");
        let listing = one("listing", "Listing: from the last byte of a part at this node until the part is listed");
        let age = one("part_age", "From the last access unit of a part in at the ingest until the part is listed here");
        let requests = Stage::OF_REQUESTS.map(|stage| {
            let (name, help) = match stage {
                Stage::Held => {
                    ("request_held", "From a request until its part or segment is listed, if the request came first")
                }
                Stage::Idle => (
                    "request_idle",
                    "From the listing of a part or segment until the request for it, if the request came second",
                ),
                Stage::Answer => {
                    ("request_answer", "From the listing or the request, whichever is later, until the answer")
                }
                _ => ("request_send", "From the answer until the operating system has its last byte"),
            };
            let family = Family::new_with_constructor(seconds as fn() -> Histogram);
            Requests { family: add_in(Unit::Seconds, r, name, help, family), found: Default::default() }
        });
        Stages { packaging, dwell, queue, transit, below_zero, tail, listing, age, requests }
    }

    fn observe(&self, step: StageTime) {
        let seconds = step.micros.max(0) as f64 / 1e6;
        let labels = HopLabels { hop: u32::try_from(step.hop).unwrap_or(u32::MAX) };
        if step.micros < 0 && step.stage == Stage::Transit {
            self.below_zero.get_or_create(&labels).inc();
        }
        match step.stage {
            Stage::Packaging => self.packaging.observe(seconds),
            Stage::Dwell => self.dwell.get_or_create(&labels).observe(seconds),
            Stage::Queue => self.queue.get_or_create(&labels).observe(seconds),
            Stage::Transit => self.transit.get_or_create(&labels).observe(seconds),
            Stage::Tail => self.tail.observe(seconds),
            Stage::Listing => self.listing.observe(seconds),
            Stage::Held | Stage::Idle | Stage::Answer | Stage::Send => {}
        }
    }
}

impl Default for Metrics {
    /// Registers the metrics of a node.
    fn default() -> Self {
        let mut registry = Registry::with_prefix("damson");
        let r = &mut registry;
        let stages = Stages::register(r);
        let otlp = Otlp {
            exported: add(r, "otlp_exported", "Parts whose traces the collector accepted"),
            dropped: add(r, "otlp_dropped", "Parts whose traces were dropped since the collector is slow"),
            failed: add(r, "otlp_failed", "Parts whose traces the collector did not accept"),
        };
        let ingest = Ingest::default();
        ingest.register(r);
        Metrics {
            ingest,
            requests: add(r, "http_requests", "Requests answered"),
            bytes: add_in(Unit::Bytes, r, "http_response", "Bytes of response bodies", Default::default()),
            parts: add(r, "parts", "Parts delivered to this node"),
            part_bytes: add_in(
                Unit::Bytes,
                r,
                "parts_received",
                "Bytes of the parts delivered to this node",
                Default::default(),
            ),
            gaps: add(r, "gaps", "Parts listed as gaps since they came too late or never"),
            late: add(r, "parts_late", "Parts of live presentations that came after they were listed as gaps"),
            streams: add(r, "streams", "Streams held"),
            waiting: add(r, "http_requests_held", "Requests held until a part or segment is listed"),
            held: add_in(Unit::Bytes, r, "window", "Bytes of the bodies in the windows", Default::default()),
            dvr: Dvr {
                kept: add_in(Unit::Bytes, r, "dvr", "Bytes of the segments that the DVR keeps", Default::default()),
                lost: add(r, "dvr_lost", "Segments that were dropped before they were on disk"),
                reads: add(r, "dvr_reads", "Segments read from disk"),
                failures: add(r, "dvr_failures", "Failed reads and writes of the DVR"),
                fetched: add(r, "dvr_fetched", "Segments fetched from other nodes"),
                unfetched: add(r, "dvr_unfetched", "Segments that no other node had"),
            },
            stages,
            otlp,
            registry,
        }
    }
}

impl Metrics {
    /// Counts an answered request, with a body of `length` bytes; 0 where [`sent`](Self::sent) counts them.
    pub fn request(&self, kind: RequestKind, status: u16, length: u64) {
        self.requests.get_or_create(&RequestLabels { kind, status }).inc();
        if length > 0 {
            self.bytes.get_or_create(&KindLabels { kind }).inc_by(length);
        }
    }

    /// Returns the counter for bodies whose length isn't known when their responses start.
    pub fn sent(&self, kind: RequestKind) -> Counter {
        self.bytes.get_or_create_owned(&KindLabels { kind })
    }

    /// Counts a part that was delivered.
    pub fn part_delivered(&self, header: &PartHeader) {
        self.parts.inc();
        self.part_bytes.inc_by(u64::from(header.length));
    }

    /// Counts a part that was listed.
    pub fn part_listed(&self, breakdown: &LatencyBreakdown) {
        breakdown.steps().for_each(|step| self.stages.observe(step));
        self.stages.age.observe(breakdown.age_us().max(0) as f64 / 1e6);
    }

    /// Observes a stage of a request.
    pub fn request_stage(&self, kind: RequestKind, stage: Stage, took: Duration) {
        let stages = Stage::OF_REQUESTS.iter().zip(&self.stages.requests);
        if let Some((_, requests)) = stages.into_iter().find(|(of, _)| **of == stage) {
            requests.of(kind).observe(took.as_secs_f64());
        }
    }

    /// Counts a part that was listed as a gap.
    pub fn gap_listed(&self) {
        self.gaps.inc();
    }

    /// Returns the exposition in OpenMetrics' format, with the gauges that are measured for each exposition.
    pub fn encode(&self, streams: u64, waiting: u64, held: u64, late: u64) -> String {
        self.streams.set(streams);
        self.waiting.set(waiting);
        self.held.set(held);
        self.late.set(late);
        let mut out = String::new();
        // Writing to a String can't fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }
}
