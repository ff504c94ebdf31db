//! Response headers: those on every response, lifetimes, and the latency of each hop.

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

/// What an order to a demo comes with. Other sites' pages can't send it: their browsers ask first whether they may, and
/// OPTIONS doesn't list it.
pub(crate) const X_DAMSON_DEMO: HeaderName = HeaderName::from_static("x-damson-demo");
const X_PUBLISHED_AT: HeaderName = HeaderName::from_static("x-published-at");
/// The header fields of most responses fit in this, in bytes.
const WRITTEN_LEN: usize = 1 << 10;

const PRIORITY: HeaderName = HeaderName::from_static("priority");
const CMSD_STATIC: HeaderName = HeaderName::from_static("cmsd-static");
const CMSD_DYNAMIC: HeaderName = HeaderName::from_static("cmsd-dynamic");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const TIMING_ALLOW_ORIGIN: HeaderName = HeaderName::from_static("timing-allow-origin");

/// Sets CORS, on every response, errors included: without it hls.js and Shaka fail for good.
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

/// Sets the answer to a preflight.
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

/// What a response is, for its lifetime in caches (rfc8216bis App. B.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// A playlist that was blocked for: its URL says which. 6 x TARGETDURATION.
    Blocking,
    /// A playlist or MPD. Half a TARGETDURATION.
    Plain,
    /// Init segments, segments and parts. 6 x TARGETDURATION.
    Media,
    /// A blocking playlist that failed. 4 x TARGETDURATION.
    BlockingFault,
    /// What else failed for good. One TARGETDURATION.
    Fault,
    /// 503, and all that is of the moment.
    Never,
}

impl Lifetime {
    /// Returns `Cache-Control`; `target` is TARGETDURATION in seconds.
    pub(crate) fn value(self, target: u32) -> HeaderValue {
        let seconds = match self {
            Lifetime::Never => return HeaderValue::from_static("no-store"),
            Lifetime::Blocking | Lifetime::Media => target.saturating_mul(6),
            // Whole seconds only; a cache that keeps a playlist for none of them would pass every request on.
            Lifetime::Plain => (target / 2).max(1),
            Lifetime::BlockingFault => target.saturating_mul(4),
            Lifetime::Fault => target,
        };
        text(&format!("max-age={seconds}"))
    }
}

/// How soon a response is wanted beside others of its connection (RFC 9218): rfc8216bis 6.2.5 has players wait for
/// playlists, and a late one delays all that follows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Urgency(&'static str);

impl Urgency {
    /// Playlists and the MPD.
    pub(crate) const DOCUMENT: Self = Urgency("u=1");
    /// Init segments, without which nothing plays.
    pub(crate) const INIT: Self = Urgency("u=2");
    /// Parts, which are wanted now.
    pub(crate) const PART: Self = Urgency("u=3");
    /// The segment under way, which is useful piece by piece.
    pub(crate) const GROWING: Self = Urgency("u=4, i");
    /// Whole segments, which fill a buffer; sound before pictures, being less and missed more.
    pub(crate) const SOUND: Self = Urgency("u=5");
    pub(crate) const PICTURES: Self = Urgency("u=6");

    pub(crate) fn set(self, headers: &mut HeaderMap) {
        headers.insert(PRIORITY, HeaderValue::from_static(self.0));
    }
}

/// Makes a header value of printable ASCII; what isn't becomes `?`.
pub(crate) fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or_else(|_| {
        let clean: String = value.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
        HeaderValue::from_str(&clean).unwrap_or(HeaderValue::from_static("?"))
    })
}

/// Says when this edge published it, in microseconds since the epoch: how late an answer is can be measured from outside.
pub(crate) fn published(headers: &mut HeaderMap, at: UnixTime) {
    headers.insert(X_PUBLISHED_AT, HeaderValue::from(at.as_micros()));
}

/// Makes a strong ETag of a hash's first half.
pub(crate) fn etag(hash: &[u8; 32]) -> HeaderValue {
    text(&format!("\"{}\"", &blake3::Hash::from_bytes(*hash).to_hex()[..32]))
}

/// Writes header fields as HTTP/1 has them (RFC 9112 5).
pub(crate) fn written(headers: &HeaderMap) -> Bytes {
    let mut out = Vec::with_capacity(WRITTEN_LEN);
    for (name, value) in headers {
        write_field(&mut out, name, value.as_bytes());
    }
    Bytes::from(out)
}

/// Writes one of them.
pub(crate) fn write_field(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    for piece in [name.as_str().as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(piece);
    }
}

/// Returns what all responses have, and these two.
pub(crate) fn common(content_type: &'static str, lifetime: HeaderValue) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(16);
    cors(&mut headers);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, lifetime);
    headers
}

/// The way of a part to this edge, as CTA-5006 and Server-Timing have it, and when the edge had it.
pub(crate) struct HeadInput<'a> {
    pub(crate) part: &'a Part,
    pub(crate) record: &'a Record,
    pub(crate) track: &'a Track,
    /// This edge.
    pub(crate) edge: &'a str,
    pub(crate) duration: Duration,
    pub(crate) urgency: Urgency,
    /// Whether it is told at all.
    pub(crate) traced: bool,
}

/// The headers of a part or segment. They are rendered once for all who ask (invariant 8): but for how long
/// each waited, they are the same.
#[derive(Debug)]
pub(crate) struct MediaHead {
    /// All but what tells of the way and of the wait.
    headers: HeaderMap,
    pub(crate) etag: Option<HeaderValue>,
    told: Option<HopFields>,
    /// As HTTP/1 writes them with a whole body, for who waited, who adds his wait, and for who didn't.
    written: OnceLock<(Bytes, Bytes)>,
}

/// What is told of the way.
#[derive(Debug)]
struct HopFields {
    /// CMSD-Static before and after the value of `ht`.
    around_held: (String, String),
    /// Server-Timing up to the value of `held`.
    timing: String,
}

impl HopFields {
    fn cmsd_static(&self, held: Duration) -> String {
        let (before, after) = &self.around_held;
        format!("{before}{}{after}", held.as_millis())
    }

    fn server_timing(&self, held: Duration) -> String {
        format!("{}{}", self.timing, Millis::from(held))
    }
}

impl MediaHead {
    /// Returns the headers for a request that was held for so long.
    pub(crate) fn headers(&self, held: Duration) -> HeaderMap {
        let mut headers = self.headers.clone();
        if let Some(told) = &self.told {
            headers.insert(CMSD_STATIC, text(&told.cmsd_static(held)));
            headers.insert(SERVER_TIMING, text(&told.server_timing(held)));
        }
        headers
    }

    /// Returns the same as HTTP/1 writes it, with a whole body of `length` bytes, which is always the same.
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
        write_field(&mut out, &CMSD_STATIC, text(&told.cmsd_static(held)).as_bytes());
        write_field(&mut out, &SERVER_TIMING, text(&told.server_timing(held)).as_bytes());
        Bytes::from(out)
    }
}

/// Microseconds as ms, to the microsecond; a transit may be below zero.
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
    /// Renders all that a response says of what ends with (or is) this part.
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
        // What an archive has read from its disk doesn't say.
        if self.part.delivered > Time::ZERO {
            published(&mut headers, clock::wall_of(self.part.delivered));
        }
        self.urgency.set(&mut headers);
        let told = self.traced.then(|| self.told(&mut headers, name));
        MediaHead { headers, etag, told, written: OnceLock::new() }
    }

    /// Renders what is told of the hops; CMSD-Dynamic is a header at once.
    fn told(&self, headers: &mut HeaderMap, name: &dyn Fn(NodeId) -> String) -> HopFields {
        let header = &self.part.header;
        // Traces carry names, too: of nodes that nobody here has met, only they know it.
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
            // One list entry a hop (CTA-5006): the ingest's own comes with its first hop, if it has one.
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

/// Most heads that are kept of a stream, 1-2 KB each: those of the parts that players ask for now.
const HEADS_MAX: u64 = 256;

/// A part, or a segment.
type HeadKey = (TrackId, Msn, Option<u16>);

/// The heads of a stream's parts and segments, least recently asked for first out.
#[derive(Debug)]
pub(crate) struct MediaHeads(ByteCache<HeadKey, (HeadSource, Arc<MediaHead>)>);

/// What a head was rendered from: the hash of its part (a segment's last), and whether the life had ended.
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
