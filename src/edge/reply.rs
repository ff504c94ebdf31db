//! What a request is answered with, and what its conditions, its range and its encodings make of that.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode, Version};

use super::bodies::Body;
use super::documents::{Coding, Document};
use super::headers;
use super::headers::{Head, Lifetime, Urgency};
use super::sealed::{SEALED_LEN_MIN, Sealed, Seals};
use super::timing::Timed;
use damson_core::model::time::UnixTime;

/// An answer, for the connection to send.
pub(crate) struct Answer {
    pub(crate) response: Response<Body>,
    /// The file that the body lies in.
    pub(crate) sealed: Option<Arc<Sealed>>,
    /// The header fields as HTTP/1 writes them, in place of the response's own.
    pub(crate) fields: Option<Bytes>,
    /// With its body, where it is timed.
    pub(crate) timed: Option<Timed>,
}

impl From<Response<Body>> for Answer {
    fn from(response: Response<Body>) -> Self {
        Answer { response, sealed: None, fields: None, timed: None }
    }
}

/// An answer, before it is known what part of it in which encoding is asked for.
pub(crate) struct Reply {
    body: Body,
    headers: HeaderMap,
    /// A strong one, to compare with.
    etag: Option<HeaderValue>,
    /// A document changes while it is read in pieces; media doesn't.
    ranges: bool,
    /// A document, and whether its URL says which; its headers stand for ours.
    document: Option<(Arc<Document>, bool)>,
    /// Rendered headers that stand for ours, and how long the request was held.
    media: Option<(Arc<Head>, Duration)>,
    sealed: Option<Arc<Sealed>>,
    timed: Option<Timed>,
}

impl Reply {
    /// `target` is TARGETDURATION in seconds.
    pub(crate) fn new(body: impl Into<Body>, content_type: &'static str, lifetime: Lifetime, target: u32) -> Self {
        let headers = headers::common(content_type, lifetime.value(target));
        Reply {
            body: body.into(),
            headers,
            etag: None,
            ranges: lifetime == Lifetime::Media,
            document: None,
            media: None,
            sealed: None,
            timed: None,
        }
    }

    /// What doesn't change any more, with its rendered headers, for a request that was held for so long.
    pub(crate) fn media(body: Body, head: Arc<Head>, held: Duration) -> Self {
        let (headers, etag) = (HeaderMap::new(), head.etag.clone());
        Reply {
            body,
            headers,
            etag,
            ranges: true,
            document: None,
            media: Some((head, held)),
            sealed: None,
            timed: None,
        }
    }

    /// A rendered document; `blocking` if its URL says which.
    pub(crate) fn document(document: Arc<Document>, blocking: bool) -> Self {
        let etag = Some(document.etag.clone());
        let document = Some((document, blocking));
        let (body, headers) = (Body::empty(), HeaderMap::new());
        Reply { body, headers, etag, ranges: false, document, media: None, sealed: None, timed: None }
    }

    /// With a strong ETag.
    pub(crate) fn tagged(mut self, etag: HeaderValue) -> Self {
        self.headers.insert(header::ETAG, etag.clone());
        self.etag = Some(etag);
        self
    }

    /// How soon it is wanted, and since when it is there.
    pub(crate) fn of(mut self, urgency: Urgency, published: UnixTime) -> Self {
        urgency.set(&mut self.headers);
        headers::published(&mut self.headers, published);
        self
    }

    /// A request that is timed.
    pub(crate) fn timed(mut self, timed: Option<Timed>) -> Self {
        self.timed = timed;
        self
    }

    /// Large, and asked for before: from a file, then.
    pub(crate) fn sealed(mut self, seals: &Seals) -> Self {
        if let (Body::Chain(chunks), Some(etag)) = (&self.body, &self.etag)
            && chunks.remaining() >= SEALED_LEN_MIN
        {
            self.sealed = seals.get(etag, chunks.iter().cloned());
        }
        self
    }

    /// The response: chooses the encoding and the range, and leaves out what the client has or, with `head`, hasn't
    /// asked for.
    pub(crate) fn finish(self, asked: &HeaderMap, version: Version, head: bool) -> Answer {
        let Reply { mut body, mut headers, etag, ranges, document, media, sealed, timed } = self;
        let timed = timed.filter(|_| !head);
        let is_known = etag.as_ref().is_some_and(|etag| matches_etag(asked.get(header::IF_NONE_MATCH), etag));
        if let Some((document, blocking)) = document {
            let coding = if !is_known && accepts_gzip(asked) { Coding::Gzip } else { Coding::Plain };
            if !is_known && version != Version::HTTP_2 {
                // Written once for all who ask.
                let fields = Some(document.fields(coding, blocking));
                let body = if head { Body::empty() } else { document.body(coding).into() };
                return Answer { response: Response::new(body), sealed, fields, timed };
            }
            headers = document.headers(coding, blocking);
            body = document.body(coding).into();
        }
        if let Some((media, held)) = media {
            let is_plain = !is_known && version != Version::HTTP_2 && !asked.contains_key(header::RANGE);
            if let Some(length) = body.length().filter(|_| is_plain) {
                let fields = Some(media.fields(held, length));
                let body = if head { Body::empty() } else { body };
                return Answer { response: Response::new(body), sealed, fields, timed };
            }
            headers = media.headers(held);
        }
        if is_known {
            for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH] {
                headers.remove(name);
            }
            return response(StatusCode::NOT_MODIFIED, headers, Body::empty()).into();
        }
        let mut status = StatusCode::OK;
        if let Some(length) = body.length() {
            if ranges {
                headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
                let if_range = asked.get(header::IF_RANGE).is_none_or(|v| Some(v) == etag.as_ref());
                match asked.get(header::RANGE).filter(|_| if_range).and_then(|v| range(v.to_str().ok()?, length)) {
                    None => {}
                    Some(Range::Part(from, to)) => {
                        status = StatusCode::PARTIAL_CONTENT;
                        headers.insert(header::CONTENT_RANGE, headers::text(&format!("bytes {from}-{to}/{length}")));
                        body = body.slice(from..to + 1);
                    }
                    Some(Range::Unsatisfiable) => {
                        status = StatusCode::RANGE_NOT_SATISFIABLE;
                        headers.insert(header::CONTENT_RANGE, headers::text(&format!("bytes */{length}")));
                        body = Body::empty();
                    }
                }
            }
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.length().unwrap_or(0)));
        }
        let response = response(status, headers, if head { Body::empty() } else { body });
        Answer { response, sealed, fields: None, timed }
    }
}

fn response(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT_ENCODING).and_then(|v| v.to_str().ok()).is_some_and(|accepted| {
        accepted.split(',').any(|coding| {
            let (name, q) = coding.split_once(';').unwrap_or((coding, ""));
            matches!(name.trim(), "gzip" | "*") && !matches!(q.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
        })
    })
}

fn matches_etag(asked: Option<&HeaderValue>, etag: &HeaderValue) -> bool {
    let (Some(asked), Ok(etag)) = (asked.and_then(|v| v.to_str().ok()), etag.to_str()) else { return false };
    asked.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    /// First and last byte.
    Part(u64, u64),
    Unsatisfiable,
}

/// One range of RFC 9110 14.1.2; `None` for what is to be ignored: several ranges, other units, nonsense.
fn range(text: &str, length: u64) -> Option<Range> {
    let (first, last) = text.trim().strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // Digits alone overflow only upwards.
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (from, to) = match (first.trim(), last.trim()) {
        ("", suffix) => (length.checked_sub(number(suffix)?.min(length))?, length.checked_sub(1)),
        (first, "") => (number(first)?, length.checked_sub(1)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            (first, length.checked_sub(1).map(|end| end.min(last)))
        }
    };
    Some(to.filter(|to| from <= *to).map_or(Range::Unsatisfiable, |to| Range::Part(from, to)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        let check = |text: &str, expect: Option<Range>| assert_eq!(range(text, 10), expect, "{text}");
        check("bytes=0-3", Some(Range::Part(0, 3)));
        check("bytes=4-", Some(Range::Part(4, 9)));
        check("bytes=-3", Some(Range::Part(7, 9)));
        check("bytes=-30", Some(Range::Part(0, 9)));
        check("bytes=0-99999999999999999999999", Some(Range::Part(0, 9)));
        check("bytes=10-", Some(Range::Unsatisfiable));
        check("bytes=-0", Some(Range::Unsatisfiable));
        check("bytes=5-4", None);
        check("bytes=0-1,3-4", None);
        check("bytes=a-b", None);
        check("lines=0-3", None);
        assert_eq!(range("bytes=0-", 0), Some(Range::Unsatisfiable));
    }

    #[test]
    fn gzip_is_sent_to_who_accepts_it() {
        let check = |accepted: &'static str, expect: bool| {
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(accepted))]);
            assert_eq!(accepts_gzip(&headers), expect, "{accepted}");
        };
        check("gzip, deflate, br", true);
        check("br;q=1.0, gzip;q=0.5", true);
        check("identity", false);
        check("gzip;q=0", false);
    }
}
