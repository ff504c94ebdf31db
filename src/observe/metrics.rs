//! Prometheus counters and histograms of one node.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::ingest::Ingest;
use damson_core::model::latency::StageTime;
use damson_core::model::{LatencyBreakdown, PartHeader, Stage};

/// What a request asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
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

impl Kind {
    /// All of them, each at the place that its number says.
    pub const ALL: [Kind; 8] =
        [Kind::Multivariant, Kind::Playlist, Kind::Mpd, Kind::Init, Kind::Segment, Kind::Part, Kind::Api, Kind::Other];

    /// As labels have it.
    fn name(self) -> &'static str {
        match self {
            Kind::Multivariant => "multivariant",
            Kind::Playlist => "playlist",
            Kind::Mpd => "mpd",
            Kind::Init => "init",
            Kind::Segment => "segment",
            Kind::Part => "part",
            Kind::Api => "api",
            Kind::Other => "other",
        }
    }
}

impl EncodeLabelValue for Kind {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.name().encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    kind: Kind,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HopLabels {
    /// Its place on the way: 0 is the ingest's. Bounded by [`damson_core::model::Trace::HOPS_MAX`].
    hop: u32,
}

/// What is kept for seeking back.
#[derive(Debug, Default)]
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

/// 100 us to 13 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 2.0, 18))
}

/// A stage of requests, by kind. What is found once is kept: to look it up costs more than to count.
#[derive(Debug)]
struct Requests {
    family: Family<KindLabels, Histogram>,
    found: [OnceLock<Histogram>; Kind::ALL.len()],
}

impl Requests {
    fn new() -> Self {
        Requests { family: Family::new_with_constructor(seconds), found: Default::default() }
    }

    fn of(&self, kind: Kind) -> &Histogram {
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
        let stages = Stages {
            packaging: seconds(),
            dwell: Family::new_with_constructor(seconds),
            queue: Family::new_with_constructor(seconds),
            transit: Family::new_with_constructor(seconds),
            below_zero: Family::default(),
            tail: seconds(),
            listing: seconds(),
            age: seconds(),
            requests: std::array::from_fn(|_| Requests::new()),
        };
        let mut hops = |name: &str, help: &str, family: &Family<HopLabels, Histogram>| {
            r.register_with_unit(name, help, Unit::Seconds, family.clone());
        };
        hops("hop_dwell", "First byte in at a node to handed to the link", &stages.dwell);
        hops("hop_queue", "Handed to the link to first byte out", &stages.queue);
        hops("hop_transit", "First byte out to first byte in at the next node", &stages.transit);
        r.register("hop_transit_below_zero", "Transits measured as below zero", stages.below_zero.clone());
        let mut one = |name: &str, help: &str, histogram: &Histogram| {
            r.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        };
        one("packaging", "Last access unit of a part in at the ingest to the part made", &stages.packaging);
        one("receive_tail", "First to last byte of a part at this node", &stages.tail);
        one("listing", "All of a part at this node to listed by it", &stages.listing);
        one("part_age", "Last access unit of a part in at the ingest to listed here", &stages.age);
        for (stage, requests) in Stage::OF_REQUESTS.iter().zip(&stages.requests) {
            let (name, help) = match stage {
                Stage::Held => ("request_held", "Request to what it asks for listed, where it came before"),
                Stage::Idle => ("request_idle", "Part or segment listed to the request for it, where that came after"),
                Stage::Answer => ("request_answer", "Listed, or asked for if that is later, to answered"),
                _ => ("request_send", "Answer to its last byte in the system's hands"),
            };
            r.register_with_unit(name, help, Unit::Seconds, requests.family.clone());
        }
        stages
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

    fn observe_request(&self, kind: Kind, stage: Stage, took: Duration) {
        if let Some((_, requests)) = Stage::OF_REQUESTS.iter().zip(&self.requests).find(|(of, _)| **of == stage) {
            requests.of(kind).observe(took.as_secs_f64());
        }
    }
}

/// What became of the traces that were to be exported.
#[derive(Debug, Clone, Default)]
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
        let otlp = Otlp::default();
        r.register("otlp_exported", "Parts whose traces the collector took", otlp.exported.clone());
        r.register("otlp_dropped", "Parts whose traces were dropped: the collector is slow", otlp.dropped.clone());
        r.register("otlp_failed", "Parts whose traces the collector didn't take", otlp.failed.clone());
        otlp
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
        let m = Metrics {
            ingest: Ingest::default(),
            dvr: Dvr::default(),
            requests: Family::default(),
            bytes: Family::default(),
            parts: Counter::default(),
            part_bytes: Counter::default(),
            gaps: Counter::default(),
            late: Gauge::default(),
            streams: Gauge::default(),
            waiting: Gauge::default(),
            held: Gauge::default(),
            stages: Stages::register(&mut registry),
            otlp: Otlp::register(&mut registry),
            registry: Registry::default(),
        };
        let r = &mut registry;
        m.ingest.register(r);
        r.register("http_requests", "Requests answered", m.requests.clone());
        r.register_with_unit("http_response", "Bytes of bodies", Unit::Bytes, m.bytes.clone());
        r.register("parts", "Parts delivered to this node", m.parts.clone());
        r.register_with_unit("parts_received", "Bytes of those parts", Unit::Bytes, m.part_bytes.clone());
        r.register("gaps", "Parts listed as gaps since they didn't come in time", m.gaps.clone());
        r.register(
            "parts_late",
            "Parts of the present lives that came after they had been listed as gaps",
            m.late.clone(),
        );
        r.register("streams", "Streams held", m.streams.clone());
        r.register("http_requests_held", "Requests held until something is published", m.waiting.clone());
        r.register_with_unit("window", "Bytes of bodies held", Unit::Bytes, m.held.clone());
        r.register_with_unit("dvr", "Bytes of the segments kept for seeking back", Unit::Bytes, m.dvr.kept.clone());
        r.register("dvr_lost", "Segments given up before they were on disk", m.dvr.lost.clone());
        r.register("dvr_reads", "Segments read from disk", m.dvr.reads.clone());
        r.register("dvr_failures", "Failed reads and writes of the DVR", m.dvr.failures.clone());
        r.register("dvr_fetched", "Segments fetched from other nodes", m.dvr.fetched.clone());
        r.register("dvr_unfetched", "Segments that no other node could give", m.dvr.unfetched.clone());
        Metrics { registry, ..m }
    }

    /// A request was answered, with a body of `length` bytes: 0 where that isn't known, and is left to [`sent`](Self::sent).
    pub fn request(&self, kind: Kind, status: u16, length: u64) {
        self.requests.get_or_create(&RequestLabels { kind, status }).inc();
        if length > 0 {
            self.bytes.get_or_create(&KindLabels { kind }).inc_by(length);
        }
    }

    /// Counts the bytes of bodies whose length isn't known when their responses start.
    pub fn sent(&self, kind: Kind) -> Counter {
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
    pub fn request_stage(&self, kind: Kind, stage: Stage, took: Duration) {
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
