//! Response headers: those on every response, lifetimes, and the latency of each hop.

use std::fmt::Write as _;
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use crate::live::{NodeId, Part, Record, Track};

pub(super) const X_PUBLISHED_AT: HeaderName = HeaderName::from_static("x-published-at");
const CMSD_STATIC: HeaderName = HeaderName::from_static("cmsd-static");
const CMSD_DYNAMIC: HeaderName = HeaderName::from_static("cmsd-dynamic");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const TIMING_ALLOW_ORIGIN: HeaderName = HeaderName::from_static("timing-allow-origin");

/// CORS, on every response, errors included: without it hls.js and Shaka fail for good.
pub(super) fn cors(headers: &mut HeaderMap) {
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

/// The answer to a preflight.
pub(super) fn preflight(headers: &mut HeaderMap) {
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
pub(super) enum Lifetime {
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
    /// `Cache-Control`; `target` is TARGETDURATION in seconds.
    pub(super) fn value(self, target: u32) -> HeaderValue {
        let seconds = match self {
            Lifetime::Never => return HeaderValue::from_static("no-store"),
            Lifetime::Blocking | Lifetime::Media => target.saturating_mul(6),
            // Whole seconds only; a cache that keeps a playlist for none of them would pass every request on.
            Lifetime::Plain => (target / 2).max(1),
            Lifetime::BlockingFault => target.saturating_mul(4),
            Lifetime::Fault => target,
        };
        number("max-age=", seconds)
    }
}

fn number(prefix: &str, n: impl std::fmt::Display) -> HeaderValue {
    text(&format!("{prefix}{n}"))
}

/// A header value of printable ASCII; what isn't becomes `?`.
pub(super) fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or_else(|_| {
        let clean: String = value.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
        HeaderValue::from_str(&clean).unwrap_or(HeaderValue::from_static("?"))
    })
}

/// A strong ETag from a hash's first half.
pub(super) fn etag(hash: &[u8; 32]) -> HeaderValue {
    let mut out = [b'"'; 34];
    for (pair, byte) in out[1..33].chunks_exact_mut(2).zip(hash) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    HeaderValue::from_bytes(&out).unwrap_or(HeaderValue::from_static("\"\""))
}

/// The way of a part to this edge, as CTA-5006 and Server-Timing have it, and when its ingest had it.
pub(super) struct Way<'a> {
    pub(super) part: &'a Part,
    pub(super) record: &'a Record,
    pub(super) track: &'a Track,
    /// This edge.
    pub(super) edge: &'a str,
    /// How long the request was held before the part was there.
    pub(super) held: Duration,
    pub(super) duration: Duration,
}

impl Way<'_> {
    pub(super) fn insert(&self, headers: &mut HeaderMap, name: &dyn Fn(NodeId) -> String) {
        let header = &self.part.header;
        headers.insert(X_PUBLISHED_AT, HeaderValue::from(header.ingested.as_micros()));
        let ingest = name(header.id.epoch.node);
        headers.insert(
            CMSD_STATIC,
            text(&format!(
                "at={},br={},d={},ht={},n=\"{ingest}\",ot={},st={}",
                header.ingested.as_millis(),
                self.track.bandwidth.div_ceil(1_000),
                self.duration.as_millis(),
                self.held.as_millis(),
                if self.track.is_video() { 'v' } else { 'a' },
                if self.record.ended.is_some() { 'v' } else { 'l' },
            )),
        );
        let ms = |d: Duration| d.as_micros() as f64 / 1_000.0;
        let tail = self.part.delivered.since(self.part.received);
        let (mut dynamic, mut timing) = (String::with_capacity(160), String::with_capacity(160));
        for (i, hop) in self.part.trace.hops.iter().enumerate() {
            let node = name(hop.node);
            let (dwell, transit) = (ms(hop.dwell), ms(hop.transit));
            let _ = write!(dynamic, "\"{node}\";damson-dwell={dwell:.3};damson-transit={transit:.3}, ");
            let _ = write!(timing, "dwell{i};dur={dwell:.3};desc=\"{node}\", transit{i};dur={transit:.3}, ");
        }
        let _ = write!(dynamic, "\"{}\";damson-tail={:.3}", self.edge, ms(tail));
        let _ = write!(timing, "tail;dur={:.3};desc=\"{}\", held;dur={:.3}", ms(tail), self.edge, ms(self.held));
        headers.insert(CMSD_DYNAMIC, text(&dynamic));
        headers.insert(SERVER_TIMING, text(&timing));
    }
}
