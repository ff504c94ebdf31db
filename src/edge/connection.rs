//! One player's connection, from its first byte to its last.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use hyper::rt::{Read, Write};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::h1;
use super::limits::{HEAD_LEN_MAX, STREAM_RESETS_MAX, STREAMS_MAX, Visitor};
use super::outlet::Outlet;
use super::respond::respond;
use super::sealed::Slot;
use super::server::Edge;
use super::streams::{Fault, Streams};
use super::timing::Timed;
use super::tls::Tls;

/// Why a connection ended otherwise than by both sides' consent.
pub(crate) type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// What all connections of a server have in common.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) edge: Arc<Edge>,
    goodbye: CancellationToken,
    is_closing: AtomicBool,
}

impl Common {
    pub(crate) fn new(edge: Arc<Edge>) -> Self {
        Common { edge, goodbye: CancellationToken::new(), is_closing: AtomicBool::new(false) }
    }

    /// Has all connections answer what is under way, and take nothing more.
    pub(crate) fn close(&self) {
        self.is_closing.store(true, Ordering::SeqCst);
        self.goodbye.cancel();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::SeqCst)
    }

    /// Returns when connections are to close. To be polled by one task: it takes its place among all others, behind a
    /// lock, the first time alone.
    pub(crate) fn closing(&self) -> impl Future<Output = ()> {
        let mut cancelled = Box::pin(self.goodbye.cancelled());
        let mut is_registered = false;
        poll_fn(move |cx| {
            if self.is_closing() {
                return Poll::Ready(());
            }
            if std::mem::replace(&mut is_registered, true) { Poll::Pending } else { cancelled.as_mut().poll(cx) }
        })
    }
}

/// Serves one connection until its end.
pub(crate) async fn run(stream: TcpStream, tls: Option<Arc<Tls>>, visitor: Visitor, common: Arc<Common>) {
    let remote = stream.peer_addr().ok();
    if let Err(error) = converse(stream, tls, Arc::new(visitor), &common).await {
        tracing::debug!(?remote, %error, "HTTP: a connection ended");
    }
}

async fn converse(stream: TcpStream, tls: Option<Arc<Tls>>, visitor: Arc<Visitor>, common: &Common) -> Ended {
    // A part's last bytes never wait for an acknowledgement.
    stream.set_nodelay(true)?;
    let limits = &common.edge.config().limits;
    let slot = Slot::default();
    let mut outlet = Outlet::new(stream, slot.clone(), limits.stall);
    let Some(tls) = tls else {
        let begins_as_h2 = async {
            tokio::select! {
                is_h2 = tokio::time::timeout(limits.handshake, outlet.begins_as_h2()) => Ok::<_, io::Error>(Some(is_h2??)),
                () = common.closing() => Ok(None),
            }
        };
        return match Box::pin(begins_as_h2).await? {
            None => Ok(()),
            Some(true) => Box::pin(h2(TokioIo::new(outlet), visitor, common)).await,
            Some(false) => h1::serve(outlet, slot, &visitor, common).await,
        };
    };
    let secured = async {
        let stream = tokio::select! {
            stream = tokio::time::timeout(limits.handshake, tls.acceptor().accept(outlet)) => stream??,
            () = common.closing() => return Ok(()),
        };
        // A client that names no protocol means HTTP/1.1.
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            h2(TokioIo::new(stream), visitor, common).await
        } else {
            // What is encrypted can't be sent from a file: its slot stays empty.
            h1::serve(stream, Slot::default(), &visitor, common).await
        }
    };
    Box::pin(secured).await
}

async fn h2(io: impl Read + Write + Unpin, visitor: Arc<Visitor>, common: &Common) -> Ended {
    let limits = &common.edge.config().limits;
    let streams = Streams::new();
    let service = service_fn(|request| {
        let (edge, visitor, streams) = (Arc::clone(&common.edge), Arc::clone(&visitor), Arc::clone(&streams));
        let asked = streams.ask();
        async move {
            let mut answer = respond(&edge, &visitor, request).await;
            asked.answered();
            answer.timed.iter_mut().for_each(Timed::answered);
            Ok::<_, Infallible>(answer.response.map(|body| streams.body(body, answer.timed)))
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_LEN_MAX)
        .max_pending_accept_reset_streams(STREAM_RESETS_MAX)
        .max_local_error_reset_streams(STREAM_RESETS_MAX)
        // Nobody has a body to send us: the windows that RFC 9113 6.9.2 begins with.
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(65_535)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let fault = tokio::select! {
        biased;
        () = common.closing() => None,
        ended = connection.as_mut() => return Ok(ended?),
        fault = streams.watch(limits) => Some(fault),
    };
    if let Some(fault) = fault.filter(|fault| *fault != Fault::Idle) {
        return Err(fault.into());
    }
    // GOAWAY (RFC 9113 6.8): what is under way is answered, and nothing more is taken.
    connection.as_mut().graceful_shutdown();
    Ok(tokio::time::timeout(limits.drain, connection).await??)
}
