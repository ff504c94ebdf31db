//! HTTP/1.1 (RFC 9112) for an edge, which answers GET, HEAD and OPTIONS, and reads no bodies.
//!
//! hyper still serves HTTP/2. But each of its HTTP/1 connections keeps two buffers of 8 KiB, and writes each response's
//! headers through maps and queues. Ten thousand players that wait for a part make up most of an edge's memory, and
//! answering them most of its work. Here a waiting connection keeps only the bytes that it has read of the next
//! request.
//!
//! A request with a body is answered, and its connection closed: the bytes after it are never taken for a request.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::Body as _;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, StatusCode, Uri, Version};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::deadline::Deadline;
use crate::clock;
use crate::edge::api::live;
use crate::edge::body::ResponseBody;
use crate::edge::chunks::Chunks;
use crate::edge::context::Edge;
use crate::edge::headers;
use crate::edge::limits::{HEAD_LEN_MAX, Limits, Visitor};
use crate::edge::reply::ReadyResponse;
use crate::edge::request_times::Timed;
use crate::edge::respond::{refusal, respond};
use crate::edge::sendfile::FileSlot;
use crate::net::drain::{Drain, Ended};
use crate::observe::metrics::RequestKind;

/// Most header fields of a request.
const FIELDS_MAX: usize = 100;

/// The bytes that are read at a time: a request, and the few that a client sends ahead.
const READ_LEN: usize = 4 << 10;

/// The room for the status line and the connection's own fields, in bytes.
const REST_LEN: usize = 192;

/// Buffers in one writev: a head, and the parts of most segments.
const SLICES_MAX: usize = 32;

/// Serves one request after the other, until one side closes.
pub(crate) async fn serve(
    io: impl AsyncRead + AsyncWrite + Unpin,
    slot: FileSlot,
    visitor: &Visitor,
    edge: &Edge,
    drain: &Drain,
) -> Ended {
    let mut closing = std::pin::pin!(drain.closing());
    let limits = &edge.config().limits;
    let mut reader = RequestReader { io, ahead: Vec::new(), deadline: Deadline::default() };
    loop {
        let asked = tokio::select! {
            biased;
            asked = reader.request(limits) => asked?,
            () = closing.as_mut() => return Ok(()),
        };
        let (request, mut keep) = match asked {
            None => return Ok(()),
            Some(Ok(asked)) => asked,
            Some(Err(status)) => {
                let refused = head(b"", status, Version::HTTP_11, &[(header::CONTENT_LENGTH, "0"), CLOSE]);
                reader.io.write_all(&refused).await?;
                return Ok(reader.io.shutdown().await?);
            }
        };
        if live::is_asked(&request) {
            match live::open(edge, &request) {
                // Boxed, so that a connection that waits for a part has no room for it.
                Ok(opened) => return Box::pin(live::serve(reader.io, reader.ahead, opened, edge, drain)).await,
                Err(error) => {
                    edge.metrics().request(RequestKind::Api, error.status, 0);
                    answer(&mut reader, &slot, refusal(&error).into(), Keep { may: false, ..keep }, false).await?;
                    return Ok(reader.io.shutdown().await?);
                }
            }
        }
        let is_head = request.method() == Method::HEAD;
        let found = tokio::select! {
            biased;
            found = respond(edge, visitor, request) => found,
            gone = reader.gone() => return gone,
        };
        keep.may &= !drain.is_closing();
        answer(&mut reader, &slot, found, keep, is_head).await?;
        if !keep.may {
            return Ok(reader.io.shutdown().await?);
        }
    }
}

/// Whether the connection stays open, and the version in which the response says so.
#[derive(Debug, Clone, Copy)]
struct Keep {
    version: Version,
    may: bool,
}

/// A header field of the connection itself.
type Field = (HeaderName, &'static str);

const CLOSE: Field = (header::CONNECTION, "close");

/// The reading side of a connection.
struct RequestReader<I> {
    io: I,
    /// The bytes read of the next request.
    ahead: Vec<u8>,
    deadline: Deadline,
}

/// A request and whether its connection stays open, or the status that rejects it.
type ParsedRequest = Result<(Request<()>, Keep), StatusCode>;

impl<I: AsyncRead + Unpin> RequestReader<I> {
    /// Returns the next request; `None` when the client has closed, or is too slow.
    async fn request(&mut self, limits: &Limits) -> io::Result<Option<ParsedRequest>> {
        let longest = |begun: bool| if begun { limits.head } else { limits.quiet };
        self.deadline.due = Some(clock::timers() + longest(!self.ahead.is_empty()));
        let mut looked_at = 0;
        loop {
            // An incomplete head is parsed again only when more bytes have come.
            if self.ahead.len() > looked_at {
                match parse(&self.ahead) {
                    Err(status) => return Ok(Some(Err(status))),
                    Ok(Some((length, request, keep))) => {
                        self.ahead.drain(..length);
                        if self.ahead.is_empty() {
                            self.ahead = Vec::new();
                        }
                        return Ok(Some(Ok((request, keep))));
                    }
                    Ok(None) if self.ahead.len() >= HEAD_LEN_MAX as usize => {
                        return Ok(Some(Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)));
                    }
                    Ok(None) => looked_at = self.ahead.len(),
                }
            }
            let begins = self.ahead.is_empty();
            if poll_fn(|cx| self.poll_more(cx, true)).await? == 0 {
                return Ok(None);
            }
            if begins {
                self.deadline.due = Some(clock::timers() + limits.head);
            }
        }
    }

    /// Returns when the client has closed. Keeps the requests that it sends meanwhile.
    async fn gone(&mut self) -> Ended {
        while self.ahead.len() < HEAD_LEN_MAX as usize {
            if poll_fn(|cx| self.poll_more(cx, false)).await? == 0 {
                return Ok(());
            }
        }
        std::future::pending().await
    }

    /// Reads more bytes and returns their number: 0 at the end or, with `in_time`, at the deadline.
    fn poll_more(&mut self, cx: &mut Context<'_>, in_time: bool) -> Poll<io::Result<usize>> {
        let mut buf = [const { MaybeUninit::uninit() }; READ_LEN];
        let mut buf = ReadBuf::uninit(&mut buf);
        match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
            Poll::Ready(read) => Poll::Ready(read.map(|()| {
                self.ahead.extend_from_slice(buf.filled());
                buf.filled().len()
            })),
            Poll::Pending if in_time => self.deadline.poll(cx).map(|()| Ok(0)),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Parses the request at the start of `bytes`, and returns its length with it; `None` until its head is complete. Keeps
/// only the header fields that are used.
fn parse(bytes: &[u8]) -> Result<Option<(usize, Request<()>, Keep)>, StatusCode> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        Err(httparse::Error::Version) => return Err(StatusCode::HTTP_VERSION_NOT_SUPPORTED),
        Err(_) => return Err(StatusCode::BAD_REQUEST),
    };
    let bad = StatusCode::BAD_REQUEST;
    let version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let mut request = Request::new(());
    *request.method_mut() = parsed.method.and_then(|m| Method::from_bytes(m.as_bytes()).ok()).ok_or(bad)?;
    *request.version_mut() = version;
    *request.uri_mut() = parsed.path.and_then(|path| Uri::try_from(path).ok()).ok_or(bad)?;
    let mut framing = Framing { may_keep: version == Version::HTTP_11, has_body: false, hosts: 0 };
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| bad)?;
        if framing.take(&name, field.value, request.uri().path()).ok_or(bad)? {
            request.headers_mut().append(name, HeaderValue::from_bytes(field.value).map_err(|_| bad)?);
        }
    }
    // "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that lacks a Host header
    // field and to any request message that contains more than one Host header field line" (RFC 9112 3.2).
    if framing.hosts > 1 || (framing.hosts == 0 && version == Version::HTTP_11) {
        return Err(bad);
    }
    // A body may end anywhere (RFC 9112 6.3), so nothing after it is parsed.
    Ok(Some((length, request, Keep { version, may: framing.may_keep && !framing.has_body })))
}

/// The statements of the header fields about the connection.
struct Framing {
    may_keep: bool,
    has_body: bool,
    hosts: usize,
}

impl Framing {
    /// Takes a field in. Returns whether the answer needs it later, and `None` if it is malformed.
    fn take(&mut self, name: &HeaderName, value: &[u8], path: &str) -> Option<bool> {
        match *name {
            header::CONNECTION => {
                let value = String::from_utf8_lossy(value).to_ascii_lowercase();
                for option in value.split(',').map(str::trim) {
                    match option {
                        "close" => self.may_keep = false,
                        "keep-alive" => self.may_keep = true,
                        _ => {}
                    }
                }
            }
            header::HOST => {
                // Empty where the target has no authority (RFC 9112 3.2). A Host names no user (RFC 9110 7.2).
                let is_one = |authority: Authority| !authority.as_str().contains('@');
                let is_one = value.is_empty() || Authority::try_from(value).is_ok_and(is_one);
                is_one.then_some(())?;
                self.hosts += 1;
            }
            header::TRANSFER_ENCODING => self.has_body = true,
            header::CONTENT_LENGTH => self.has_body |= value != b"0",
            header::ACCEPT_ENCODING | header::IF_NONE_MATCH | header::IF_RANGE | header::RANGE => return Some(true),
            header::UPGRADE | header::SEC_WEBSOCKET_KEY | header::SEC_WEBSOCKET_VERSION => return Some(true),
            // It selects the format of `/metrics`; nothing else has two formats.
            header::ACCEPT => return Some(path == "/metrics"),
            // CMCD (CTA-5004) is only logged.
            _ if name.as_str().starts_with("cmcd-") => return Some(tracing::enabled!(tracing::Level::DEBUG)),
            _ => return Some(*name == headers::X_DAMSON_DEMO),
        }
        Some(false)
    }
}

/// Writes the head of a response, with `fields` as they are already written.
fn head(fields: &[u8], status: StatusCode, version: Version, own: &[Field]) -> Vec<u8> {
    // With room for the rest, since growing costs more than everything that is written here.
    let mut out = Vec::with_capacity(fields.len() + REST_LEN);
    out.extend_from_slice(if version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    for piece in [status.as_str().as_bytes(), b" ", status.canonical_reason().unwrap_or("").as_bytes(), b"\r\n", fields]
    {
        out.extend_from_slice(piece);
    }
    for (name, value) in own {
        headers::write_field(&mut out, name, value.as_bytes());
    }
    date(|value| headers::write_field(&mut out, &header::DATE, value.as_bytes()));
    out.extend_from_slice(b"\r\n");
    out
}

/// Passes the date on as RFC 9110 6.6.1 wants it. Each thread formats it once a second.
fn date(with: impl FnOnce(&str)) {
    thread_local! {
        static WRITTEN: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    WRITTEN.with_borrow_mut(|(second, text)| {
        let now = clock::wall().as_micros() / 1_000_000;
        if *second != now {
            *second = now;
            *text = httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_secs(now));
        }
        with(text);
    });
}

/// Sends an answer.
async fn answer<I: AsyncRead + AsyncWrite + Unpin>(
    reader: &mut RequestReader<I>,
    slot: &FileSlot,
    answer: ReadyResponse,
    keep: Keep,
    is_head: bool,
) -> Ended {
    let ReadyResponse { response, file, fields, mut timed } = answer;
    timed.iter_mut().for_each(Timed::answered);
    slot.set(file);
    let status = response.status();
    let has_none = is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let connection = match (keep.version, keep.may) {
        (Version::HTTP_10, true) => Some((header::CONNECTION, "keep-alive")),
        (_, true) => None,
        (_, false) => Some(CLOSE),
    };
    let mut own: Vec<Field> = connection.into_iter().collect();
    let (parts, body) = response.into_parts();
    if body.length().is_none() && !has_none && keep.version == Version::HTTP_11 {
        own.push((header::TRANSFER_ENCODING, "chunked"));
    }
    let fields = fields.unwrap_or_else(|| headers::written(&parts.headers));
    let head = Bytes::from(head(&fields, status, keep.version, &own));
    drop((parts, fields));
    match body {
        _ if has_none => send(&mut reader.io, [head].into_iter().collect()).await?,
        ResponseBody::Chain(chunks) => send(&mut reader.io, chunks.after(head)).await?,
        ResponseBody::Follow(_) => follow(reader, head, body, keep).await?,
    }
    reader.io.flush().await?;
    if let Some(timed) = timed {
        timed.sent();
    }
    Ok(())
}

/// Sends a body piece by piece (RFC 9112 7.1); to a client of HTTP/1.0 until the end of the connection.
async fn follow<I>(reader: &mut RequestReader<I>, head: Bytes, mut body: ResponseBody, keep: Keep) -> Ended
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let is_chunked = keep.version == Version::HTTP_11;
    if !is_chunked && keep.may {
        return Err(
            "a client of HTTP/1.0 with keep-alive asked for a segment under way, which has no length yet".into()
        );
    }
    send(&mut reader.io, [head].into_iter().collect()).await?;
    loop {
        let piece = tokio::select! {
            biased;
            piece = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)) => piece,
            gone = reader.gone() => return gone,
        };
        // An error breaks the response off, so that no client takes it for whole.
        let Some(piece) = piece.transpose()?.and_then(|frame| frame.into_data().ok()) else { break };
        if is_chunked {
            let size = Bytes::from(format!("{:x}\r\n", piece.remaining()));
            send(&mut reader.io, piece.after(size).before(Bytes::from_static(b"\r\n"))).await?;
        } else {
            send(&mut reader.io, piece).await?;
        }
        reader.io.flush().await?;
    }
    if is_chunked {
        send(&mut reader.io, [Bytes::from_static(b"0\r\n\r\n")].into_iter().collect()).await?;
    }
    Ok(())
}

/// Writes all of `chunks`.
async fn send(io: &mut (impl AsyncWrite + Unpin), mut chunks: Chunks) -> io::Result<()> {
    while chunks.has_remaining() {
        let written = poll_fn(|cx| {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let n = chunks.chunks_vectored(&mut slices);
            Pin::new(&mut *io).poll_write_vectored(cx, &slices[..n])
        });
        match written.await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => chunks.advance(n),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_body_is_never_a_request() {
        let check = |fields: &str, expect: bool| {
            let text = format!("GET /x HTTP/1.1\r\nHost: edge\r\n{fields}\r\nGET /y");
            let (length, request, keep) = parse(text.as_bytes()).expect("a request").expect("whole");
            assert_eq!((request.uri().path(), keep.may), ("/x", expect), "{fields}");
            assert_eq!(&text[length..], "GET /y");
        };
        check("", true);
        check("Content-Length: 0\r\n", true);
        check("Content-Length: 5\r\n", false);
        check("Content-Length: +0\r\n", false);
        check("Content-Length: 0\r\nContent-Length: 5\r\n", false);
        check("Transfer-Encoding: chunked\r\n", false);
        check("transfer-encoding: x\r\nConnection: keep-alive\r\n", false);
        check("Connection: Upgrade, Close\r\n", false);
    }

    #[test]
    fn what_is_none_is_told_so() {
        let check = |text: &str, expect: Result<bool, u16>| {
            let parsed = parse(text.as_bytes()).map(|parsed| parsed.is_some()).map_err(|status| status.as_u16());
            assert_eq!(parsed, expect, "{text:?}");
        };
        check("GET / HTTP/1.0\r\n\r\n", Ok(true));
        check("GET http://edge/cam1/index.m3u8 HTTP/1.1\r\nHost: edge\r\n\r\n", Ok(true));
        check("GET / HT", Ok(false));
        check("GET / HTTP/3.0\r\n\r\n", Err(505));
        check("GET / HTTP/1.1\r\nA : b\r\n\r\n", Err(400));
        check("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", Err(400));
        check("GET /\u{0} HTTP/1.1\r\n\r\n", Err(400));
        check("\u{0}", Err(400));
        // RFC 9112 3.2.
        check("GET / HTTP/1.1\r\n\r\n", Err(400));
        check("GET http://edge/ HTTP/1.1\r\n\r\n", Err(400));
        check("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Err(400));
        check("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", Err(400));
        for host in ["a b", "a/b", "a@b", "a:b:c", "[::1"] {
            check(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), Err(400));
        }
        for host in ["", "edge", "edge:8080", "192.0.2.1", "[2001:db8::1]:80"] {
            check(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), Ok(true));
        }
        check(&format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(FIELDS_MAX + 1)), Err(431));
        let (_, _, keep) = parse(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").expect("one").expect("whole");
        assert_eq!((keep.version, keep.may), (Version::HTTP_10, true));
    }

    /// Lets virtual time pass.
    async fn passes(time: Duration) {
        let _ = tokio::time::timeout(time, std::future::pending::<()>()).await;
    }

    /// Returns when a client is given up that sends `bytes`, and then one more each `pause`.
    async fn given_up(bytes: &[u8], pause: Duration) -> Duration {
        let (mut client, io) = tokio::io::duplex(1 << 10);
        let mut reader = RequestReader { io, ahead: Vec::new(), deadline: Deadline::default() };
        let began = clock::timers();
        let trickle = async {
            client.write_all(bytes).await.expect("it is read");
            loop {
                passes(pause).await;
                client.write_all(b"a").await.expect("it is read");
            }
        };
        let limits = Limits::default();
        tokio::select! {
            asked = reader.request(&limits) => assert!(matches!(asked, Ok(None)), "{asked:?}"),
            () = trickle => {}
        }
        clock::timers() - began
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_so_much_time_however_it_trickles() {
        let seconds = Duration::from_secs;
        assert_eq!(given_up(b"", seconds(3_600)).await, seconds(30), "nothing was asked");
        assert_eq!(given_up(b"G", seconds(3_600)).await, seconds(20));
        for pause in [1, 7, 19] {
            assert_eq!(given_up(b"GET / HTTP/1.1\r\nX: ", seconds(pause)).await, seconds(20), "each {pause} s");
        }
        // The timeout counts from the first byte, which comes after 29 s.
        assert_eq!(given_up(b"", seconds(29)).await, seconds(49));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_lives_as_long_as_it_asks() {
        let (mut client, io) = tokio::io::duplex(1 << 10);
        let mut reader = RequestReader { io, ahead: Vec::new(), deadline: Deadline::default() };
        let limits = Limits::default();
        for _ in 0..100 {
            let ask = async {
                passes(Duration::from_secs(29)).await;
                client.write_all(b"GET / HTTP/1.1\r\n").await.expect("it is read");
                passes(Duration::from_secs(19)).await;
                client.write_all(b"Host: a\r\n\r\n").await.expect("it is read");
            };
            let (asked, ()) = tokio::join!(reader.request(&limits), ask);
            assert!(matches!(asked, Ok(Some(Ok(_)))), "{asked:?}");
        }
    }
}
