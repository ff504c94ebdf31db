//! Live traces: `/api/v1/streams/{stream}/trace/live`, a WebSocket (RFC 6455) over HTTP/1.1.
//!
//! Server-sent events would take one of the six connections that a browser has for HTTP/1.1 to one host. A browser that
//! speaks HTTP/2 with this edge opens a connection of its own for a WebSocket, since the edge doesn't offer RFC 8441.
//!
//! Each message is one JSON object, whose `type` says what it is:
//!
//! - `{"type":"part", ...}` as soon as a part is listed;
//! - `{"type":"overview","stream":...,"windows":[...]}` at once, and then each second. [`latency`] says what both hold.
//!
//! The edge ignores what the client sends. It closes the connection of a client that is
//! [`BEHIND_MAX`](crate::edge::streams::latency::BEHIND_MAX) parts behind (close code 1013), when the node shuts down (1001), and
//! when the stream is gone (1000). A client that reads nothing is dropped as on every connection
//! ([`Limits::stall`](crate::edge::limits::Limits)).

use std::sync::Arc;
use std::time::Duration;

use damson_core::manifest::route::{Route, StreamRoute};
use damson_core::manifest::{HttpError, route};
use damson_core::model::TrackId;
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::header::{HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use hyper::{Method, Request};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::SemaphorePermit;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::MissedTickBehavior;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::latency;
use crate::edge::context::Edge;
use crate::edge::streams::Stream;
use crate::net::drain::{Drain, Ended};
use crate::observe::metrics::RequestKind;

/// The interval of overviews.
const OVERVIEW: Duration = Duration::from_secs(1);

/// The timeout of sending one message.
const SEND_MAX: Duration = Duration::from_secs(5);

/// The longest message of a client, in bytes. Clients have nothing to send.
const SAID_MAX: usize = 4 << 10;

/// Most bytes that wait for a client to take them.
const QUEUE_MAX: usize = 256 << 10;

/// Returns true if a request is the opening handshake of a WebSocket (RFC 6455 4.1).
pub(crate) fn is_asked(request: &Request<()>) -> bool {
    let upgrade =
        request.headers().get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    upgrade && request.method() == Method::GET && request.headers().contains_key(SEC_WEBSOCKET_KEY)
}

/// A handshake that is granted.
pub(crate) struct Opened<'a> {
    stream: Arc<Stream>,
    track: Option<TrackId>,
    accept: String,
    _place: SemaphorePermit<'a>,
}

/// Checks a handshake, and takes a place for it.
pub(crate) fn open<'a>(edge: &'a Edge, request: &Request<()>) -> Result<Opened<'a>, HttpError> {
    let path = route::normalize(request.uri().path())?;
    let Route::Stream(name, StreamRoute::TraceLive { track }) = Route::parse(&path, request.uri().query())? else {
        return Err(HttpError::new(400, "request: only /api/v1/streams/{stream}/trace/live is a WebSocket"));
    };
    if request.headers().get(SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes) != Some(b"13") {
        return Err(HttpError::new(426, "request: only version 13 of WebSocket is supported"));
    }
    let key = request.headers().get(SEC_WEBSOCKET_KEY).map_or(&b""[..], HeaderValue::as_bytes);
    let stream = edge.store().find(name)?;
    let track = track.map(|track| latency::track_id(&stream, track)).transpose()?;
    let place = edge.admit_live().ok_or_else(|| HttpError::new(503, "edge: too many live traces are open; retry"))?;
    Ok(Opened { stream, track, accept: derive_accept_key(key), _place: place })
}

/// Answers the handshake, and feeds the client until one side closes. `ahead` is what the client has sent since the
/// handshake.
pub(crate) async fn serve(
    mut io: impl AsyncRead + AsyncWrite + Unpin,
    ahead: Vec<u8>,
    opened: Opened<'_>,
    edge: &Edge,
    drain: &Drain,
) -> Ended {
    edge.metrics().request(RequestKind::Api, 101, 0);
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-accept: {}\r\n\r\n",
        opened.accept
    );
    io.write_all(head.as_bytes()).await?;
    io.flush().await?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(SAID_MAX))
        .max_frame_size(Some(SAID_MAX))
        .read_buffer_size(SAID_MAX)
        .write_buffer_size(0)
        .max_write_buffer_size(QUEUE_MAX);
    let mut socket = WebSocketStream::from_partially_read(io, ahead, Role::Server, Some(config)).await;
    let why = tokio::select! {
        biased;
        () = drain.closing() => Some((CloseCode::Away, "the node is shutting down")),
        why = feed(&mut socket, edge, &opened.stream, opened.track) => why,
    };
    if let Some((code, reason)) = why {
        let last = Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::from_static(reason) }));
        tokio::time::timeout(SEND_MAX, socket.send(last)).await??;
    }
    Ok(())
}

/// Sends messages until there is a reason to close; returns `None` if the client has closed.
async fn feed<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    edge: &Edge,
    stream: &Arc<Stream>,
    track: Option<TrackId>,
) -> Option<(CloseCode, &'static str)> {
    let mut listed = stream.lock().listed().follow();
    let mut each = tokio::time::interval(OVERVIEW);
    each.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let text = tokio::select! {
            biased;
            // This answers pings, too.
            said = socket.next() => match said {
                // RFC 6455 5.5.1: the answer waits to be sent, and is the last message.
                Some(Ok(Message::Close(_))) => {
                    let _ = tokio::time::timeout(SEND_MAX, socket.flush()).await;
                    return None;
                }
                Some(Err(_)) | None => return None,
                Some(Ok(_)) => continue,
            },
            part = listed.recv() => match part {
                Ok(part) if track.is_some_and(|track| part.breakdown().id.track != track) => continue,
                Ok(part) => part.text(|breakdown| latency::part_message(edge, stream, breakdown)),
                Err(RecvError::Lagged(_)) => return Some((CloseCode::Again, "too slow")),
                Err(RecvError::Closed) => return Some((CloseCode::Normal, "the stream is gone")),
            },
            _ = each.tick() => latency::overview_message(edge, stream, track).into(),
        };
        match tokio::time::timeout(SEND_MAX, socket.send(Message::Text(text))).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return None,
            Err(_) => return Some((CloseCode::Again, "too slow")),
        }
    }
}
