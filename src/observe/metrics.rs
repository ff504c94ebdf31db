//! Prometheus counters and histograms of one node.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::live::{PartHeader, Trace};

/// What a request asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
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
    /// Its place on the way: 0 is the ingest's. Bounded by [`Trace::HOPS_MAX`].
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
    dwell: Family<HopLabels, Histogram>,
    transit: Family<HopLabels, Histogram>,
    tail: Histogram,
}

/// 100 us to 13 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 2.0, 18))
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
            dwell: Family::new_with_constructor(seconds),
            transit: Family::new_with_constructor(seconds),
            tail: seconds(),
            registry: Registry::default(),
        };
        let r = &mut registry;
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
        r.register_with_unit("hop_dwell", "First byte in to first byte out of a node", Unit::Seconds, m.dwell.clone());
        r.register_with_unit(
            "hop_transit",
            "First byte out to first byte in at the next node",
            Unit::Seconds,
            m.transit.clone(),
        );
        r.register_with_unit(
            "receive_tail",
            "First to last byte of a part at this node",
            Unit::Seconds,
            m.tail.clone(),
        );
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

    /// A part was delivered; `tail` is from its first byte to its last.
    pub fn part_delivered(&self, header: &PartHeader, trace: &Trace, tail: Duration) {
        self.parts.inc();
        self.part_bytes.inc_by(u64::from(header.length));
        for (hop, step) in (0_u32..).zip(trace.hops.iter().take(Trace::HOPS_MAX)) {
            self.dwell.get_or_create(&HopLabels { hop }).observe(step.dwell.as_secs_f64());
            self.transit.get_or_create(&HopLabels { hop }).observe(step.transit.as_secs_f64());
        }
        self.tail.observe(tail.as_secs_f64());
    }

    /// A part was listed as a gap.
    pub fn gap_listed(&self) {
        self.gaps.inc();
    }

    /// The exposition, with what is measured only when it is asked for.
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
