//! What a request is answered with, and what its conditions, its range and its encodings make of that.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use damson_core::model::time::UnixTime;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode, Version};

use super::body::ResponseBody;
use super::documents::{Coding, Document};
use super::headers;
use super::headers::{Lifetime, MediaHead, Urgency};
use super::request_times::Timed;
use super::sendfile::{FILE_LEN_MIN, MemoryFile, MemoryFiles};

/// An answer, for the connection to send.
pub(crate) struct ReadyResponse {
    pub(crate) response: Response<ResponseBody>,
    /// The file that the body lies in.
    pub(crate) file: Option<Arc<MemoryFile>>,
    /// The header fields as HTTP/1 writes them, in place of the response's own.
    pub(crate) fields: Option<Bytes>,
    /// With its body, where it is timed.
    pub(crate) timed: Option<Timed>,
}

impl From<Response<ResponseBody>> for ReadyResponse {
    fn from(response: Response<ResponseBody>) -> Self {
        ReadyResponse { response, file: None, fields: None, timed: None }
    }
}

/// An answer, before it is known what part of it in which encoding is asked for.
pub(crate) struct Reply {
    body: ResponseBody,
    headers: ReplyHeaders,
    /// A strong one, to compare with.
    etag: Option<HeaderValue>,
    /// A document changes while it is read in pieces; media doesn't.
    ranges: bool,
    file: Option<Arc<MemoryFile>>,
    timed: Option<Timed>,
}

/// What a reply's header fields are, before it is known which part of it is asked for.
enum ReplyHeaders {
    Own(HeaderMap),
    /// A document's, and whether its URL says which.
    Document(Arc<Document>, bool),
    /// Those of a part or segment, and how long the request was held.
    Media(Arc<MediaHead>, Duration),
}

impl Reply {
    /// Makes a reply with headers of its own; `target` is TARGETDURATION in seconds.
    pub(crate) fn new(
        body: impl Into<ResponseBody>,
        content_type: &'static str,
        lifetime: Lifetime,
        target: u32,
    ) -> Self {
        let headers = ReplyHeaders::Own(headers::common(content_type, lifetime.value(target)));
        let ranges = lifetime == Lifetime::Media;
        Reply { body: body.into(), headers, etag: None, ranges, file: None, timed: None }
    }

    /// Makes a reply of what doesn't change any more, with its rendered headers, for a request that was held for so long.
    pub(crate) fn media(body: ResponseBody, head: Arc<MediaHead>, held: Duration) -> Self {
        let etag = head.etag.clone();
        Reply { body, headers: ReplyHeaders::Media(head, held), etag, ranges: true, file: None, timed: None }
    }

    /// Makes a reply of a rendered document; `blocking` if its URL says which.
    pub(crate) fn document(document: Arc<Document>, blocking: bool) -> Self {
        let etag = Some(document.etag.clone());
        let headers = ReplyHeaders::Document(document, blocking);
        Reply { body: ResponseBody::empty(), headers, etag, ranges: false, file: None, timed: None }
    }

    /// Adds a strong ETag, how soon it is wanted, and since when it is there; to headers of its own.
    pub(crate) fn tagged(mut self, etag: HeaderValue, urgency: Urgency, published: UnixTime) -> Self {
        if let ReplyHeaders::Own(headers) = &mut self.headers {
            headers.insert(header::ETAG, etag.clone());
            urgency.set(headers);
            headers::published(headers, published);
        }
        self.etag = Some(etag);
        self
    }

    /// Has the request timed.
    pub(crate) fn timed(mut self, timed: Option<Timed>) -> Self {
        self.timed = timed;
        self
    }

    /// Sends it from a file, where it is large and was asked for before.
    pub(crate) fn by_file(mut self, files: &MemoryFiles) -> Self {
        if let (ResponseBody::Chain(chunks), Some(etag)) = (&self.body, &self.etag)
            && chunks.remaining() >= FILE_LEN_MIN
        {
            self.file = files.get(etag, chunks.iter().cloned());
        }
        self
    }

    /// Makes the response: chooses the encoding and the range, and leaves out what the client has or, with `head`, hasn't
    /// asked for.
    pub(crate) fn finish(self, asked: &HeaderMap, version: Version, head: bool) -> ReadyResponse {
        let Reply { mut body, headers, etag, ranges, file, timed } = self;
        let timed = timed.filter(|_| !head);
        let is_known = etag.as_ref().is_some_and(|etag| matches_etag(asked.get(header::IF_NONE_MATCH), etag));
        // Written once for all who ask.
        let is_plain = !is_known && version != Version::HTTP_2;
        let (fields, mut headers) = match headers {
            ReplyHeaders::Own(headers) => (None, headers),
            ReplyHeaders::Document(document, blocking) => {
                let coding = if !is_known && accepts_gzip(asked) { Coding::Gzip } else { Coding::Plain };
                body = document.body(coding).into();
                match is_plain {
                    true => (Some(document.fields(coding, blocking)), HeaderMap::new()),
                    false => (None, document.headers(coding, blocking)),
                }
            }
            ReplyHeaders::Media(media, held) => {
                match body.length().filter(|_| is_plain && !asked.contains_key(header::RANGE)) {
                    Some(length) => (Some(media.fields(held, length)), HeaderMap::new()),
                    None => (None, media.headers(held)),
                }
            }
        };
        if fields.is_some() {
            let response = Response::new(if head { ResponseBody::empty() } else { body });
            return ReadyResponse { response, file, fields, timed };
        }
        if is_known {
            for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH] {
                headers.remove(name);
            }
            return response(StatusCode::NOT_MODIFIED, headers, ResponseBody::empty()).into();
        }
        let mut status = StatusCode::OK;
        if let Some(length) = body.length() {
            if ranges {
                headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
                let if_range = asked.get(header::IF_RANGE).is_none_or(|v| Some(v) == etag.as_ref());
                match asked.get(header::RANGE).filter(|_| if_range).and_then(|v| range(v.to_str().ok()?, length)) {
                    None => {}
                    Some(ByteRange::Part(from, to)) => {
                        status = StatusCode::PARTIAL_CONTENT;
                        headers.insert(header::CONTENT_RANGE, headers::text(&format!("bytes {from}-{to}/{length}")));
                        body = body.slice(from..to + 1);
                    }
                    Some(ByteRange::Unsatisfiable) => {
                        status = StatusCode::RANGE_NOT_SATISFIABLE;
                        headers.insert(header::CONTENT_RANGE, headers::text(&format!("bytes */{length}")));
                        body = ResponseBody::empty();
                    }
                }
            }
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.length().unwrap_or(0)));
        }
        let response = response(status, headers, if head { ResponseBody::empty() } else { body });
        ReadyResponse { response, file, fields: None, timed }
    }
}

fn response(status: StatusCode, headers: HeaderMap, body: ResponseBody) -> Response<ResponseBody> {
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
enum ByteRange {
    /// First and last byte.
    Part(u64, u64),
    Unsatisfiable,
}

/// Reads one range of RFC 9110 14.1.2; `None` for what is to be ignored: several ranges, other units, nonsense.
fn range(text: &str, length: u64) -> Option<ByteRange> {
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
    Some(to.filter(|to| from <= *to).map_or(ByteRange::Unsatisfiable, |to| ByteRange::Part(from, to)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        let check = |text: &str, expect: Option<ByteRange>| assert_eq!(range(text, 10), expect, "{text}");
        check("bytes=0-3", Some(ByteRange::Part(0, 3)));
        check("bytes=4-", Some(ByteRange::Part(4, 9)));
        check("bytes=-3", Some(ByteRange::Part(7, 9)));
        check("bytes=-30", Some(ByteRange::Part(0, 9)));
        check("bytes=0-99999999999999999999999", Some(ByteRange::Part(0, 9)));
        check("bytes=10-", Some(ByteRange::Unsatisfiable));
        check("bytes=-0", Some(ByteRange::Unsatisfiable));
        check("bytes=5-4", None);
        check("bytes=0-1,3-4", None);
        check("bytes=a-b", None);
        check("lines=0-3", None);
        assert_eq!(range("bytes=0-", 0), Some(ByteRange::Unsatisfiable));
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
