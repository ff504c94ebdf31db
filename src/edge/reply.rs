//! The answer to a request, and the choice of encoding, range and condition.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use damson_core::model::time::UnixTime;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode, Version};

use super::body::ResponseBody;
use super::documents::{Coding, Document};
use super::headers::{self, Lifetime, MediaHead, Urgency};
use super::request_times::Timed;
use super::sendfile::{FILE_LEN_MIN, MemoryFile, MemoryFiles};

/// An answer that the connection can send.
pub(crate) struct ReadyResponse {
    pub(crate) response: Response<ResponseBody>,
    /// The file that holds the body.
    pub(crate) file: Option<Arc<MemoryFile>>,
    /// The header fields as HTTP/1 writes them. They replace those of the response.
    pub(crate) fields: Option<Bytes>,
    /// The timing of the request, which ends with the body.
    pub(crate) timed: Option<Timed>,
}

impl From<Response<ResponseBody>> for ReadyResponse {
    fn from(response: Response<ResponseBody>) -> Self {
        ReadyResponse { response, file: None, fields: None, timed: None }
    }
}

/// An answer before the range and the encoding are chosen.
pub(crate) struct Reply {
    body: ResponseBody,
    headers: ReplyHeaders,
    /// A strong ETag, to compare with.
    etag: Option<HeaderValue>,
    /// Whether ranges are allowed: media never changes, but a document may change between two ranges.
    ranges: bool,
    file: Option<Arc<MemoryFile>>,
    timed: Option<Timed>,
}

/// The header fields of a reply.
enum ReplyHeaders {
    Own(HeaderMap),
    /// Those of a document, and whether the request was blocking.
    Document(Arc<Document>, bool),
    /// Those of a part or segment, and how long the request was held.
    Media(Arc<MediaHead>, Duration),
}

impl Reply {
    /// Makes a reply with header fields of its own; `target` is TARGETDURATION in seconds.
    pub(crate) fn new(body: impl Into<Bytes>, content_type: &'static str, lifetime: Lifetime, target: u32) -> Self {
        let headers = ReplyHeaders::Own(headers::common(content_type, lifetime.value(target)));
        let ranges = lifetime == Lifetime::Media;
        Reply { body: ResponseBody::chain([body.into()]), headers, etag: None, ranges, file: None, timed: None }
    }

    /// Makes a reply of a part or segment, with its rendered head, to a request that was held for `held`.
    pub(crate) fn media(body: ResponseBody, head: Arc<MediaHead>, held: Duration) -> Self {
        let etag = head.etag.clone();
        Reply { body, headers: ReplyHeaders::Media(head, held), etag, ranges: true, file: None, timed: None }
    }

    /// Makes a reply of a rendered document; `blocking` if the request was.
    pub(crate) fn document(document: Arc<Document>, blocking: bool) -> Self {
        let etag = Some(document.etag.clone());
        let headers = ReplyHeaders::Document(document, blocking);
        Reply { body: ResponseBody::empty(), headers, etag, ranges: false, file: None, timed: None }
    }

    /// Adds a strong ETag, the urgency, and the time of publication, to header fields of its own.
    pub(crate) fn tagged(mut self, etag: HeaderValue, urgency: Urgency, published: UnixTime) -> Self {
        if let ReplyHeaders::Own(headers) = &mut self.headers {
            headers.insert(header::ETAG, etag.clone());
            urgency.set(headers);
            headers::published(headers, published);
        }
        self.etag = Some(etag);
        self
    }

    /// Adds the timing of the request.
    pub(crate) fn timed(mut self, timed: Option<Timed>) -> Self {
        self.timed = timed;
        self
    }

    /// Sends the body from a file, if it is large and not requested for the first time.
    pub(crate) fn by_file(mut self, files: &MemoryFiles) -> Self {
        if let (ResponseBody::Chain(chunks), Some(etag)) = (&self.body, &self.etag)
            && chunks.remaining() >= FILE_LEN_MIN
        {
            self.file = files.get(etag, chunks.iter().cloned());
        }
        self
    }

    /// Makes the response: chooses the encoding and the range, and omits the body that the client already has or, with
    /// `head`, doesn't want.
    pub(crate) fn finish(self, asked: &HeaderMap, version: Version, head: bool) -> ReadyResponse {
        let Reply { mut body, headers, etag, ranges, file, timed } = self;
        let timed = timed.filter(|_| !head);
        let is_known = etag.as_ref().is_some_and(|etag| matches_etag(asked.get(header::IF_NONE_MATCH), etag));
        let coding = if !is_known && accepts_gzip(asked) { Coding::Gzip } else { Coding::Plain };
        if let ReplyHeaders::Document(document, _) = &headers {
            body = ResponseBody::chain([document.body(coding)]);
        }
        // Of HTTP/1's usual responses the header fields are written once for all requests.
        let is_usual = !is_known && version != Version::HTTP_2;
        let fields = match &headers {
            ReplyHeaders::Document(document, blocking) if is_usual => Some(document.fields(coding, *blocking)),
            ReplyHeaders::Media(media, held) if is_usual && !asked.contains_key(header::RANGE) => {
                body.length().map(|length| media.fields(*held, length))
            }
            _ => None,
        };
        if fields.is_some() {
            let response = Response::new(if head { ResponseBody::empty() } else { body });
            return ReadyResponse { response, file, fields, timed };
        }
        let mut headers = match headers {
            ReplyHeaders::Own(headers) => headers,
            ReplyHeaders::Document(document, blocking) => document.headers(coding, blocking),
            ReplyHeaders::Media(media, held) => media.headers(held),
        };
        if is_known {
            headers.remove(header::CONTENT_TYPE);
            headers.remove(header::CONTENT_LENGTH);
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

/// Makes a response from its parts.
pub(crate) fn response(status: StatusCode, headers: HeaderMap, body: ResponseBody) -> Response<ResponseBody> {
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
    /// The first and the last byte.
    Part(u64, u64),
    Unsatisfiable,
}

/// Parses a range (RFC 9110 14.1.2); returns `None` for what a server ignores: several ranges, other units, malformed
/// ones.
fn range(text: &str, length: u64) -> Option<ByteRange> {
    let (first, last) = text.trim().strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // Digits overflow only upwards.
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (from, to) = match (first.trim(), last.trim()) {
        ("", suffix) => (length.saturating_sub(number(suffix)?), u64::MAX),
        (first, "") => (number(first)?, u64::MAX),
        (first, last) => (number(first)?, number(last)?),
    };
    if to < from {
        return None;
    }
    let to = length.checked_sub(1).map(|end| end.min(to)).filter(|to| from <= *to);
    Some(to.map_or(ByteRange::Unsatisfiable, |to| ByteRange::Part(from, to)))
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
