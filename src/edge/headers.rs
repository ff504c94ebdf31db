//! Response headers: the common ones, cache lifetimes, and the latency of each hop.

use std::fmt::{self, Write as _};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use damson_core::model::time::{Time, UnixTime};
use damson_core::model::{Msn, NodeId, Record, Track, TrackId};
use damson_core::window::Part;
use hyper::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
};

use super::byte_cache::ByteCache;
use crate::clock;

/// The header that an order to a demo must carry. Pages of other sites can't send it: their browsers ask for permission
/// first, and the answer to OPTIONS doesn't list it.
pub(crate) const X_DAMSON_DEMO: HeaderName = HeaderName::from_static("x-damson-demo");
const X_PUBLISHED_AT: HeaderName = HeaderName::from_static("x-published-at");
/// The room for the header fields of most responses, in bytes.
const WRITTEN_LEN: usize = 1 << 10;

const PRIORITY: HeaderName = HeaderName::from_static("priority");
const CMSD_STATIC: HeaderName = HeaderName::from_static("cmsd-static");
const CMSD_DYNAMIC: HeaderName = HeaderName::from_static("cmsd-dynamic");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const TIMING_ALLOW_ORIGIN: HeaderName = HeaderName::from_static("timing-allow-origin");

/// Sets CORS on every response, errors included: without it hls.js and Shaka give up.
pub(crate) fn cors(headers: &mut HeaderMap) {
    use hyper::header::{ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS};
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static(
            "Date, Age, Content-Length, Content-Range, ETag, Server-Timing, CMSD-Static, CMSD-Dynamic, X-Published-At",
        ),
    );
    headers.insert(TIMING_ALLOW_ORIGIN, HeaderValue::from_static("*"));
}

/// Sets the header fields of the answer to a preflight.
pub(crate) fn preflight(headers: &mut HeaderMap) {
    use hyper::header::{ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_MAX_AGE, ALLOW};
    headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, OPTIONS"));
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("Range, CMCD-Request, CMCD-Object, CMCD-Status, CMCD-Session"),
    );
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
}

/// The kind of a response, which decides its lifetime in caches (rfc8216bis App. B.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// A playlist that a blocking request got: its URL names the version. 6 x TARGETDURATION.
    Blocking,
    /// A playlist or MPD. Half of TARGETDURATION.
    Plain,
    /// Init segments, segments and parts. 6 x TARGETDURATION.
    Media,
    /// A blocking request that failed. 4 x TARGETDURATION.
    BlockingFault,
    /// Another request that failed for good. One TARGETDURATION.
    Fault,
    /// A 503, and everything that changes at any time.
    Never,
}

impl Lifetime {
    /// Returns `Cache-Control`; `target` is TARGETDURATION in seconds.
    pub(crate) fn value(self, target: u32) -> HeaderValue {
        let seconds = match self {
            Lifetime::Never => return HeaderValue::from_static("no-store"),
            Lifetime::Blocking | Lifetime::Media => target.saturating_mul(6),
            // In whole seconds. With 0 a cache would pass every request on.
            Lifetime::Plain => (target / 2).max(1),
            Lifetime::BlockingFault => target.saturating_mul(4),
            Lifetime::Fault => target,
        };
        text(&format!("max-age={seconds}"))
    }
}

/// The urgency of a response beside others of its connection (RFC 9218). By rfc8216bis 6.2.5, players wait for
/// playlists, and a late playlist delays everything after it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Urgency(&'static str);

impl Urgency {
    /// Playlists and MPDs.
    pub(crate) const DOCUMENT: Self = Urgency("u=1");
    /// Init segments, without which nothing plays.
    pub(crate) const INIT: Self = Urgency("u=2");
    /// Parts, which the player needs now.
    pub(crate) const PART: Self = Urgency("u=3");
    /// The segment under way, which is useful piece by piece.
    pub(crate) const GROWING: Self = Urgency("u=4, i");
    /// Whole segments, which fill a buffer. Sound comes before pictures: it is smaller, and missed more.
    pub(crate) const SOUND: Self = Urgency("u=5");
    pub(crate) const PICTURES: Self = Urgency("u=6");

    pub(crate) fn set(self, headers: &mut HeaderMap) {
        headers.insert(PRIORITY, HeaderValue::from_static(self.0));
    }
}

/// Makes a header value of printable ASCII; other characters become `?`.
pub(crate) fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or_else(|_| {
        let clean: String = value.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
        HeaderValue::from_str(&clean).unwrap_or(HeaderValue::from_static("?"))
    })
}

/// Sets the time at which this edge published the content, in microseconds since the epoch, so that clients can measure
/// how late an answer is.
pub(crate) fn published(headers: &mut HeaderMap, at: UnixTime) {
    headers.insert(X_PUBLISHED_AT, HeaderValue::from(at.as_micros()));
}

/// Makes a strong ETag of the first half of a hash.
pub(crate) fn etag(hash: &[u8; 32]) -> HeaderValue {
    text(&format!("\"{}\"", &blake3::Hash::from_bytes(*hash).to_hex()[..32]))
}

/// Writes header fields in the format of HTTP/1 (RFC 9112 5).
pub(crate) fn written(headers: &HeaderMap) -> Bytes {
    let mut out = Vec::with_capacity(WRITTEN_LEN);
    for (name, value) in headers {
        write_field(&mut out, name, value.as_bytes());
    }
    Bytes::from(out)
}

/// Writes one header field.
pub(crate) fn write_field(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    for piece in [name.as_str().as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(piece);
    }
}

/// Returns the header fields of every response, with these two values.
pub(crate) fn common(content_type: &'static str, lifetime: HeaderValue) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(16);
    cors(&mut headers);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, lifetime);
    headers
}

/// The values from which the head of a part or segment is rendered.
pub(crate) struct HeadInput<'a> {
    pub(crate) part: &'a Part,
    pub(crate) record: &'a Record,
    pub(crate) track: &'a Track,
    /// The name of this edge.
    pub(crate) edge: &'a str,
    pub(crate) duration: Duration,
    pub(crate) urgency: Urgency,
    /// Whether the head has the latency of each hop.
    pub(crate) traced: bool,
}

/// The header fields of a part or segment, rendered once for all requests (invariant 8). They differ only in how long
/// each request was held.
#[derive(Debug)]
pub(crate) struct MediaHead {
    /// All but the fields of `HopFields`.
    headers: HeaderMap,
    pub(crate) etag: Option<HeaderValue>,
    told: Option<HopFields>,
    /// The fields with a whole body, as HTTP/1 writes them: for requests that were held, without `HopFields`, and for
    /// the others.
    written: OnceLock<(Bytes, Bytes)>,
}

/// The header fields that have the latency of each hop and end with the time that the request was held.
#[derive(Debug)]
struct HopFields {
    /// CMSD-Static before and after the value of `ht`.
    around_held: (String, String),
    /// Server-Timing up to the value of `held`.
    timing: String,
}

impl HopFields {
    fn fields(&self, held: Duration) -> [(HeaderName, HeaderValue); 2] {
        let (before, after) = &self.around_held;
        let cmsd = format!("{before}{}{after}", held.as_millis());
        let timing = format!("{}{}", self.timing, Millis::from(held));
        [(CMSD_STATIC, text(&cmsd)), (SERVER_TIMING, text(&timing))]
    }
}

impl MediaHead {
    /// Returns the header fields for a request that was held for `held`.
    pub(crate) fn headers(&self, held: Duration) -> HeaderMap {
        let mut headers = self.headers.clone();
        headers.extend(self.told.iter().flat_map(|told| told.fields(held)));
        headers
    }

    /// Returns the same as HTTP/1 writes it, with a whole body, which always has the same `length`.
    pub(crate) fn fields(&self, held: Duration, length: u64) -> Bytes {
        let (common, unheld) = self.written.get_or_init(|| {
            let mut headers = self.headers.clone();
            headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            let common = written(&headers);
            let unheld = self.with_wait(&common, Duration::ZERO);
            (common, unheld)
        });
        if held.is_zero() { unheld.clone() } else { self.with_wait(common, held) }
    }

    fn with_wait(&self, common: &Bytes, held: Duration) -> Bytes {
        let Some(told) = &self.told else { return common.clone() };
        let mut out = Vec::with_capacity(common.len() + told.timing.len() + WRITTEN_LEN / 4);
        out.extend_from_slice(common);
        for (name, value) in told.fields(held) {
            write_field(&mut out, &name, value.as_bytes());
        }
        Bytes::from(out)
    }
}

/// Microseconds, shown as milliseconds with three digits. A transit may be below zero.
struct Millis(i64);

impl From<Duration> for Millis {
    fn from(duration: Duration) -> Self {
        Millis(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.unsigned_abs();
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}.{:03}", micros / 1_000, micros % 1_000)
    }
}

impl HeadInput<'_> {
    /// Renders the head of a part, or of the segment that ends with it.
    pub(crate) fn head(
        &self,
        content_type: &'static str,
        etag: Option<HeaderValue>,
        name: &dyn Fn(NodeId) -> String,
    ) -> MediaHead {
        let mut headers = common(content_type, Lifetime::Media.value(self.record.target_duration));
        if let Some(etag) = &etag {
            headers.insert(ETAG, etag.clone());
        }
        // Parts that an archive has read from its disk have no such time.
        if self.part.delivered > Time::ZERO {
            published(&mut headers, clock::wall_of(self.part.delivered));
        }
        self.urgency.set(&mut headers);
        let told = self.traced.then(|| self.told(&mut headers, name));
        MediaHead { headers, etag, told, written: OnceLock::new() }
    }

    /// Renders the latency of each hop (CTA-5006, Server-Timing), and sets CMSD-Dynamic, which is the same for all
    /// requests.
    fn told(&self, headers: &mut HeaderMap, name: &dyn Fn(NodeId) -> String) -> HopFields {
        let header = &self.part.header;
        // The trace has names of nodes that this node has never met.
        let named = |node: NodeId| match self.part.trace.hops.iter().find(|hop| hop.node == node) {
            Some(hop) if !hop.name.as_str().is_empty() => hop.name.as_str().to_owned(),
            _ => name(node),
        };
        let around_held = (
            format!(
                "at={},br={},d={},ht=",
                header.ingested.as_millis(),
                self.track.bandwidth.div_ceil(1_000),
                self.duration.as_millis()
            ),
            format!(
                ",n=\"{}\",ot={},st={}",
                named(header.id.epoch.node),
                if self.track.is_video() { 'v' } else { 'a' },
                if self.record.ended.is_some() { 'v' } else { 'l' },
            ),
        );
        let tail = Millis::from(self.part.delivered.since(self.part.received));
        let listing = Millis::from(self.part.listed.since(self.part.delivered));
        let (mut dynamic, mut timing) = (String::with_capacity(256), String::with_capacity(256));
        let origin = named(header.id.epoch.node);
        if let Some(packaging) = self.part.trace.packaging_us.map(Millis) {
            // CTA-5006 has one list entry a hop: packaging is in the entry of the ingest node's first hop.
            let _ = write!(timing, "packaging;dur={packaging};desc=\"{origin}\", ");
        }
        for (i, hop) in self.part.trace.hops.iter().enumerate() {
            let node = named(hop.node);
            let (dwell, queue, transit) = (Millis::from(hop.dwell), Millis::from(hop.queue), Millis(hop.transit_us));
            let _ = write!(dynamic, "\"{node}\"");
            if let (0, Some(packaging)) = (i, self.part.trace.packaging_us.map(Millis)) {
                let _ = write!(dynamic, ";damson-packaging={packaging}");
            }
            let _ = write!(dynamic, ";damson-dwell={dwell};damson-queue={queue};damson-transit={transit}, ");
            let _ = write!(timing, "dwell{i};dur={dwell};desc=\"{node}\", queue{i};dur={queue}, ");
            let _ = write!(timing, "transit{i};dur={transit}, ");
        }
        let _ = write!(dynamic, "\"{}\";damson-tail={tail};damson-listing={listing}", self.edge);
        let _ = write!(timing, "tail;dur={tail};desc=\"{}\", listing;dur={listing}, held;dur=", self.edge);
        headers.insert(CMSD_DYNAMIC, text(&dynamic));
        HopFields { around_held, timing }
    }
}

/// Most heads that a stream keeps, of 1-2 KB each: those of the parts that players ask for now.
const HEADS_MAX: u64 = 256;

/// The key of a head: of a part, or of a segment if there is no part number.
type HeadKey = (TrackId, Msn, Option<u16>);

/// The heads of a stream's parts and segments, least recently asked for first out.
#[derive(Debug)]
pub(crate) struct MediaHeads(ByteCache<HeadKey, (HeadSource, Arc<MediaHead>)>);

/// The version of a head: the hash of its part (of a segment's last part), and whether the life had ended.
pub(crate) type HeadSource = ([u8; 32], bool);

impl Default for MediaHeads {
    fn default() -> Self {
        MediaHeads(ByteCache::new(HEADS_MAX))
    }
}

impl MediaHeads {
    /// Returns the head of a part, or of a segment where the key has no part; renders it unless it is cached.
    pub(crate) fn get(
        &mut self,
        key: HeadKey,
        source: HeadSource,
        render: impl FnOnce() -> MediaHead,
    ) -> Arc<MediaHead> {
        if let Some((_, head)) = self.0.get(&key).filter(|(of, _)| *of == source) {
            return Arc::clone(head);
        }
        let head = Arc::new(render());
        self.0.put(key, (source, Arc::clone(&head)), 1);
        head
    }
}
