//! A player's connection, from its first byte to its last.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use hyper::rt::{Read, Write};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::h1;
use super::h2_streams::{ConnectionFault, H2Streams};
use super::player_socket::PlayerSocket;
use crate::edge::context::Edge;
use crate::edge::limits::{HEAD_LEN_MAX, STREAM_RESETS_MAX, STREAMS_MAX, Visitor};
use crate::edge::request_times::Timed;
use crate::edge::respond::respond;
use crate::edge::sendfile::FileSlot;
use crate::net::accept::Accepted;
use crate::net::drain::{self, Drain, Ended};
use crate::net::tls::is_h2;

/// Serves a connection until its end.
pub(crate) async fn run(accepted: Accepted, visitor: Visitor, edge: Arc<Edge>, drain: Arc<Drain>) {
    let remote = accepted.remote;
    if let Err(error) = converse(accepted, Arc::new(visitor), &edge, &drain).await {
        tracing::debug!(%remote, %error, "HTTP: the connection failed");
    }
}

async fn converse(accepted: Accepted, visitor: Arc<Visitor>, edge: &Arc<Edge>, drain: &Drain) -> Ended {
    let limits = &edge.config().limits;
    let slot = FileSlot::default();
    let mut socket = PlayerSocket::new(accepted.stream, slot.clone(), limits.stall);
    let Some(tls) = accepted.tls else {
        let begins_as_h2 = async {
            tokio::select! {
                is_h2 = tokio::time::timeout(limits.handshake, socket.begins_as_h2()) => Ok::<_, io::Error>(Some(is_h2??)),
                () = drain.closing() => Ok(None),
            }
        };
        return match Box::pin(begins_as_h2).await? {
            None => Ok(()),
            Some(true) => Box::pin(h2(TokioIo::new(socket), visitor, edge, drain)).await,
            Some(false) => h1::serve(socket, slot, &visitor, edge, drain).await,
        };
    };
    let secured = async {
        let stream = tokio::select! {
            stream = tokio::time::timeout(limits.handshake, tls.acceptor().accept(socket)) => stream??,
            () = drain.closing() => return Ok(()),
        };
        if is_h2(&stream) {
            h2(TokioIo::new(stream), visitor, edge, drain).await
        } else {
            // Encrypted data can't be sent from a file, so the slot stays empty.
            h1::serve(stream, FileSlot::default(), &visitor, edge, drain).await
        }
    };
    Box::pin(secured).await
}

async fn h2(io: impl Read + Write + Unpin + 'static, visitor: Arc<Visitor>, edge: &Arc<Edge>, drain: &Drain) -> Ended {
    let limits = &edge.config().limits;
    let streams = H2Streams::new();
    let service = service_fn(|request| {
        let (edge, visitor, streams) = (Arc::clone(edge), Arc::clone(&visitor), Arc::clone(&streams));
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
        // Requests have no bodies, so the windows stay as small as RFC 9113 6.9.2 has them at the start.
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(65_535)
        .serve_connection(io, service);
    let stop = async {
        tokio::select! {
            biased;
            () = drain.closing() => Ok(()),
            fault = streams.watch(limits) => if fault == ConnectionFault::Idle { Ok(()) } else { Err(fault.into()) },
        }
    };
    drain::serve(pin!(connection), stop, limits.drain).await
}
