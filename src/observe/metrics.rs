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

/// What a request asked for.
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
    /// The page, probes, what isn't there.
    Other,
}

impl RequestKind {
    /// All of them, each at the place that its number says.
    pub const ALL: [RequestKind; 8] = [
        RequestKind::Multivariant,
        RequestKind::Playlist,
        RequestKind::Mpd,
        RequestKind::Init,
        RequestKind::Segment,
        RequestKind::Part,
        RequestKind::Api,
        RequestKind::Other,
    ];

    /// As labels have it.
    fn name(self) -> &'static str {
        match self {
            RequestKind::Multivariant => "multivariant",
            RequestKind::Playlist => "playlist",
            RequestKind::Mpd => "mpd",
            RequestKind::Init => "init",
            RequestKind::Segment => "segment",
            RequestKind::Part => "part",
            RequestKind::Api => "api",
            RequestKind::Other => "other",
        }
    }
}

impl EncodeLabelValue for RequestKind {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.name().encode(encoder)
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
    /// Its place on the way: 0 is the ingest's. Bounded by [`damson_core::model::Trace::HOPS_MAX`].
    hop: u32,
}

/// What is kept for seeking back.
#[derive(Debug)]
pub struct Dvr {
    /// Bytes of the segments that are kept.
    pub kept: Gauge<u64, AtomicU64>,
    /// Segments that were given up before they were on disk.
    pub lost: Counter,
    /// Segments read from disk for a player.
    pub reads: Counter,
    /// Failed reads and writes.
    pub failures: Counter,
    /// Segments fetched from other nodes for a player.
    pub fetched: Counter,
    /// Segments that no other node could give.
    pub unfetched: Counter,
}

/// A node's metrics.
#[derive(Debug)]
pub struct Metrics {
    /// What comes in.
    pub ingest: Ingest,
    /// What is kept for seeking back.
    pub dvr: Dvr,
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
    otlp: Otlp,
}

/// Registers a metric.
fn add<M: Metric + Clone + Default>(r: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    r.register(name, help, metric.clone());
    metric
}

/// Registers a metric that has a unit.
fn add_in<M: Metric + Clone>(unit: Unit, r: &mut Registry, name: &str, help: &str, metric: M) -> M {
    r.register_with_unit(name, help, unit, metric.clone());
    metric
}

/// 100 us to 13 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 2.0, 18))
}

/// A stage of requests, by kind. What is found once is kept: to look it up costs more than to count.
#[derive(Debug)]
struct Requests {
    family: Family<KindLabels, Histogram>,
    found: [OnceLock<Histogram>; RequestKind::ALL.len()],
}

impl Requests {
    fn of(&self, kind: RequestKind) -> &Histogram {
        self.found[kind as usize].get_or_init(|| self.family.get_or_create_owned(&KindLabels { kind }))
    }
}

/// One histogram for each stage of [`damson_core::model::latency`].
#[derive(Debug)]
struct Stages {
    packaging: Histogram,
    dwell: Family<HopLabels, Histogram>,
    queue: Family<HopLabels, Histogram>,
    transit: Family<HopLabels, Histogram>,
    /// A histogram's sum is a counter, which can't take what is below zero: it is counted here, and as zero there.
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
        let dwell = hops("hop_dwell", "First byte in at a node to handed to the link");
        let queue = hops("hop_queue", "Handed to the link to first byte out");
        let transit = hops("hop_transit", "First byte out to first byte in at the next node");
        let below_zero = add(r, "hop_transit_below_zero", "Transits measured as below zero");
        let mut one = |name, help| add_in(Unit::Seconds, r, name, help, seconds());
        let packaging = one("packaging", "Last access unit of a part in at the ingest to the part made");
        let tail = one("receive_tail", "First to last byte of a part at this node");
        let listing = one("listing", "All of a part at this node to listed by it");
        let age = one("part_age", "Last access unit of a part in at the ingest to listed here");
        let requests = Stage::OF_REQUESTS.map(|stage| {
            let (name, help) = match stage {
                Stage::Held => ("request_held", "Request to what it asks for listed, where it came before"),
                Stage::Idle => ("request_idle", "Part or segment listed to the request for it, where that came after"),
                Stage::Answer => ("request_answer", "Listed, or asked for if that is later, to answered"),
                _ => ("request_send", "Answer to its last byte in the system's hands"),
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

    fn observe_request(&self, kind: RequestKind, stage: Stage, took: Duration) {
        if let Some((_, requests)) = Stage::OF_REQUESTS.iter().zip(&self.requests).find(|(of, _)| **of == stage) {
            requests.of(kind).observe(took.as_secs_f64());
        }
    }
}

/// What became of the traces that were to be exported.
#[derive(Debug, Clone)]
pub struct Otlp {
    /// Parts whose traces the collector took.
    pub exported: Counter,
    /// Parts whose traces were dropped since the collector is slower than they came.
    pub dropped: Counter,
    /// Parts whose traces the collector refused, or couldn't be sent.
    pub failed: Counter,
}

impl Otlp {
    fn register(r: &mut Registry) -> Otlp {
        Otlp {
            exported: add(r, "otlp_exported", "Parts whose traces the collector took"),
            dropped: add(r, "otlp_dropped", "Parts whose traces were dropped: the collector is slow"),
            failed: add(r, "otlp_failed", "Parts whose traces the collector didn't take"),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new(Registry::with_prefix("damson"))
    }
}

impl Metrics {
    /// Registers the node's metrics beside what `registry` has already.
    pub fn new(mut registry: Registry) -> Self {
        let r = &mut registry;
        let (stages, otlp) = (Stages::register(r), Otlp::register(r));
        let ingest = Ingest::default();
        ingest.register(r);
        Metrics {
            ingest,
            requests: add(r, "http_requests", "Requests answered"),
            bytes: add_in(Unit::Bytes, r, "http_response", "Bytes of bodies", Default::default()),
            parts: add(r, "parts", "Parts delivered to this node"),
            part_bytes: add_in(Unit::Bytes, r, "parts_received", "Bytes of those parts", Default::default()),
            gaps: add(r, "gaps", "Parts listed as gaps since they didn't come in time"),
            late: add(r, "parts_late", "Parts of the present lives that came after they had been listed as gaps"),
            streams: add(r, "streams", "Streams held"),
            waiting: add(r, "http_requests_held", "Requests held until something is published"),
            held: add_in(Unit::Bytes, r, "window", "Bytes of bodies held", Default::default()),
            dvr: Dvr {
                kept: add_in(Unit::Bytes, r, "dvr", "Bytes of the segments kept for seeking back", Default::default()),
                lost: add(r, "dvr_lost", "Segments given up before they were on disk"),
                reads: add(r, "dvr_reads", "Segments read from disk"),
                failures: add(r, "dvr_failures", "Failed reads and writes of the DVR"),
                fetched: add(r, "dvr_fetched", "Segments fetched from other nodes"),
                unfetched: add(r, "dvr_unfetched", "Segments that no other node could give"),
            },
            stages,
            otlp,
            registry,
        }
    }

    /// A request was answered, with a body of `length` bytes: 0 where that isn't known, and is left to [`sent`](Self::sent).
    pub fn request(&self, kind: RequestKind, status: u16, length: u64) {
        self.requests.get_or_create(&RequestLabels { kind, status }).inc();
        if length > 0 {
            self.bytes.get_or_create(&KindLabels { kind }).inc_by(length);
        }
    }

    /// Counts the bytes of bodies whose length isn't known when their responses start.
    pub fn sent(&self, kind: RequestKind) -> Counter {
        self.bytes.get_or_create_owned(&KindLabels { kind })
    }

    /// A part was delivered.
    pub fn part_delivered(&self, header: &PartHeader) {
        self.parts.inc();
        self.part_bytes.inc_by(u64::from(header.length));
    }

    /// A part was listed.
    pub fn part_listed(&self, account: &LatencyBreakdown) {
        account.steps().for_each(|step| self.stages.observe(step));
        self.stages.age.observe(account.age_us().max(0) as f64 / 1e6);
    }

    /// A stage of a request.
    pub fn request_stage(&self, kind: RequestKind, stage: Stage, took: Duration) {
        self.stages.observe_request(kind, stage, took);
    }

    /// What became of exported traces.
    pub fn otlp(&self) -> &Otlp {
        &self.otlp
    }

    /// A part was listed as a gap.
    pub fn gap_listed(&self) {
        self.gaps.inc();
    }

    /// The exposition as OpenMetrics has it, with what is measured only when it is asked for.
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
