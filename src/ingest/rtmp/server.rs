//! The RTMP server: one task for each connection reads, runs the RTMP session, and sends the media to its publish session.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use damson_core::demux::flv;
use damson_core::demux::rtmp::{Output, RtmpError, RtmpSession, session};
use damson_core::demux::target::PublishTarget;
use damson_core::model::time::Time;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::ingest::publish_request::{Eviction, PublishRequest, Refused};
use crate::ingest::publish_session::{PublishSession, eviction_of};
use crate::ingest::registry::PublishRegistry;
use crate::net::Listeners;
use crate::net::accept::{Accepted, Connections, Overflow};

/// The limits of RTMP connections.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most connections at a time, including those that don't publish; further ones are closed at once.
    pub connections_max: usize,
    /// The longest time from the first byte to an accepted publish, and from the end of one publish to the next.
    pub setup: Duration,
    /// The longest silence of an encoder that publishes.
    pub idle: Duration,
    /// The longest time that a reply may wait to be written. An encoder that takes longer doesn't read.
    pub write: Duration,
    /// The limits of each RTMP session.
    pub session: session::Limits,
}

impl Default for Limits {
    /// Returns 2,048 connections; 10 s to publish (OBS and ffmpeg take under 1 s on a slow line) and of silence (an
    /// encoder sends audio every 20 ms); 5 s to read a reply.
    fn default() -> Self {
        Limits {
            connections_max: 2_048,
            setup: Duration::from_secs(10),
            idle: Duration::from_secs(10),
            write: Duration::from_secs(5),
            session: session::Limits::default(),
        }
    }
}

/// The size of one read, in bytes.
const READ_LEN: usize = 64 << 10;

/// The silence after which a due acknowledgement is sent: shorter than a frame, longer than the gaps of a burst.
const QUIET: Duration = Duration::from_millis(10);

/// The time that an encoder has to read why its connection is closed.
const FAREWELL: Duration = Duration::from_millis(500);

/// The reason why a connection ended.
#[derive(Debug, thiserror::Error)]
enum CloseReason {
    #[error("the encoder closed the connection")]
    Closed,
    #[error("the encoder closed the connection in the middle of a message")]
    Torn,
    #[error("the TLS handshake failed: {0}; an encoder needs an rtmps:// URL here")]
    Tls(std::io::Error),
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Rtmp(#[from] RtmpError),
    #[error("refused: {0}")]
    Refused(#[from] Refused),
    #[error("evicted: {0}")]
    Evicted(#[from] Eviction),
    #[error("the encoder did not publish within {0:?}")]
    Setup(Duration),
    #[error("the encoder sent nothing for {0:?}")]
    Idle(Duration),
    #[error("the encoder did not read a reply within {0:?}")]
    Write(Duration),
    #[error("the node is shutting down")]
    Shutdown,
}

impl CloseReason {
    /// Returns whether an operator should look at it.
    fn is_fault(&self) -> bool {
        !matches!(self, CloseReason::Closed | CloseReason::Shutdown | CloseReason::Evicted(_))
    }
}

/// Accepts encoders until `shutdown`, and returns when all connections are closed. The media received by then is published;
/// to end the streams too, call [`PublishRegistry::drain`] first.
pub async fn serve(
    listeners: impl Into<Listeners>,
    registry: PublishRegistry,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let mut connections = Connections::new(listeners, limits.connections_max, Overflow::Refuse("RTMP"));
    let accept = connections.accept(|accepted| Some(connection(accepted, registry.clone(), limits, shutdown.clone())));
    shutdown.run_until_cancelled(accept).await;
    connections.drain(Duration::MAX).await;
}

async fn connection(accepted: Accepted, registry: PublishRegistry, limits: Limits, shutdown: CancellationToken) {
    let Accepted { stream, remote, tls } = accepted;
    let Some(tls) = tls else {
        return Connection::new(stream, remote, "rtmp", registry, limits).serve(&shutdown).await;
    };
    let handshake = timeout(limits.setup, tls.acceptor().accept(stream));
    let Some(handshake) = shutdown.run_until_cancelled(handshake).await else { return };
    let reason = match handshake {
        // Boxed, since the buffers and keys of TLS take twice a record of 16 KiB, which not every task needs.
        Ok(Ok(stream)) => {
            return Connection::new(Box::new(stream), remote, "rtmps", registry, limits).serve(&shutdown).await;
        }
        Ok(Err(error)) => CloseReason::Tls(error),
        Err(_) => CloseReason::Setup(limits.setup),
    };
    tracing::warn!(%remote, %reason, "RTMPS: closed");
}

struct Connection<S> {
    socket: S,
    remote: SocketAddr,
    /// The protocol's name in publish requests.
    protocol: &'static str,
    registry: PublishRegistry,
    limits: Limits,
    session: RtmpSession,
    publish: Option<PublishSession>,
    /// The encoder takes no more replies.
    deaf: bool,
    /// The time by which a publish has to be accepted.
    setup_until: Time,
    alarm: clock::Alarm,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn new(socket: S, remote: SocketAddr, protocol: &'static str, registry: PublishRegistry, limits: Limits) -> Self {
        let session = RtmpSession::new(limits.session);
        let setup_until = clock::now() + limits.setup;
        let alarm = clock::Alarm::default();
        let (publish, deaf) = (None, false);
        Connection { socket, remote, protocol, registry, limits, session, publish, deaf, setup_until, alarm }
    }

    /// Serves the connection until it ends, or until `shutdown`.
    async fn serve(mut self, shutdown: &CancellationToken) {
        // `run_until_cancelled` would double the size of each connection's task.
        let reason = tokio::select! {
            reason = self.run() => reason,
            () = shutdown.cancelled() => CloseReason::Shutdown,
        };
        self.close(&reason).await;
    }

    async fn run(&mut self) -> CloseReason {
        tracing::debug!(remote = %self.remote, protocol = self.protocol, "RTMP: connected");
        let mut buffer = BytesMut::with_capacity(READ_LEN);
        loop {
            buffer.clear();
            buffer.reserve(READ_LEN);
            if let Err(reason) = self.read(&mut buffer).await {
                return reason;
            }
            let handled = self.session.handle(&buffer);
            if let Err(reason) = self.outputs(handled).await {
                return reason;
            }
        }
    }

    /// Waits for bytes, for an eviction, or for a timeout.
    async fn read(&mut self, buffer: &mut BytesMut) -> Result<(), CloseReason> {
        loop {
            let Limits { setup, idle, .. } = self.limits;
            let (due, late) = match &self.publish {
                _ if self.session.owes_acknowledgement() => (clock::now() + QUIET, None),
                Some(_) => (clock::now() + idle, Some(CloseReason::Idle(idle))),
                None => (self.setup_until, Some(CloseReason::Setup(setup))),
            };
            tokio::select! {
                biased;
                eviction = eviction_of(self.publish.as_mut()) => return Err(eviction.into()),
                read = self.socket.read_buf(buffer) => return self.was_read(read),
                () = self.alarm.until(Some(due)) => {}
            }
            if let Some(late) = late {
                return Err(late);
            }
            self.session.acknowledge();
            self.outputs(Ok(())).await?;
        }
    }

    /// Returns an error if a read has ended the connection.
    fn was_read(&self, read: std::io::Result<usize>) -> Result<(), CloseReason> {
        // The TLS peer closed its socket without a close_notify.
        let is_end = |error: &std::io::Error| error.kind() == std::io::ErrorKind::UnexpectedEof;
        match read {
            Ok(1..) => Ok(()),
            // An encoder that leaves without reading our last reply resets the connection.
            Err(error) if (self.publish.is_some() || !self.session.is_between_messages()) && !is_end(&error) => {
                Err(error.into())
            }
            _ if self.session.is_between_messages() => Err(CloseReason::Closed),
            _ => Err(CloseReason::Torn),
        }
    }

    /// Carries out the session's outputs, and then returns the session's result.
    async fn outputs(&mut self, mut result: Result<(), RtmpError>) -> Result<(), CloseReason> {
        let mut replies = BytesMut::new();
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Send(bytes) => replies.extend_from_slice(&bytes),
                Output::PublishRequested(target) => {
                    self.write(&mut replies).await?;
                    match self.begin(target).await {
                        Ok(publish) => {
                            self.publish = Some(publish);
                            result = result.and(self.session.accept_publish());
                        }
                        Err(reason) => {
                            self.session.reject_publish(&reason.to_string());
                            return Err(reason);
                        }
                    }
                }
                Output::Metadata(announced) => self.publishing()?.attach(flv::CLOCK, announced).await?,
                Output::Input(input) => self.publishing()?.input(input).await?,
                Output::Notice(notice) => {
                    let stream = self.publish.as_ref().map(PublishSession::stream);
                    tracing::warn!(remote = %self.remote, stream = stream.map(tracing::field::display), "RTMP: {notice}");
                }
                Output::Unpublished => {
                    self.publish = None;
                    self.setup_until = clock::now() + self.limits.setup;
                }
            }
        }
        self.write(&mut replies).await?;
        Ok(result?)
    }

    async fn begin(&self, target: PublishTarget) -> Result<PublishSession, CloseReason> {
        let PublishTarget { stream, rendition, query } = target;
        let request =
            PublishRequest { rendition, query, ..PublishRequest::new(stream, Some(self.remote), self.protocol) };
        let limit = self.limits.setup;
        Ok(timeout(limit, self.registry.publish(request)).await.map_err(|_| CloseReason::Setup(limit))??)
    }

    fn publishing(&mut self) -> Result<&mut PublishSession, CloseReason> {
        // The RTMP session outputs media only between an accepted publish and its end.
        self.publish.as_mut().ok_or(CloseReason::Closed)
    }

    async fn write(&mut self, replies: &mut BytesMut) -> Result<(), CloseReason> {
        if !replies.is_empty() && !self.deaf {
            let limit = self.limits.write;
            let written = timeout(limit, self.socket.write_all(replies)).await;
            // An encoder may close its connection before its last bytes are read.
            self.deaf = written.map_err(|_| CloseReason::Write(limit))?.is_err();
        }
        replies.clear();
        Ok(())
    }

    /// Publishes what the session still holds. Returns the replies that aren't sent yet.
    async fn finish(&mut self) -> BytesMut {
        let mut replies = BytesMut::new();
        self.session.finish();
        while let Some(output) = self.session.poll_output() {
            match (output, &mut self.publish) {
                (Output::Send(bytes), _) => replies.extend_from_slice(&bytes),
                // A push that was evicted takes nothing.
                (Output::Input(input), Some(publish)) => drop(publish.input(input).await),
                _ => {}
            }
        }
        replies
    }

    /// Ends the push, logs the reason, and tells the encoder.
    async fn close(mut self, reason: &CloseReason) {
        let mut replies = self.finish().await;
        let stream = self.publish.take().map(|publish| publish.stream().to_string());
        let (remote, byte) = (self.remote, self.session.received());
        if reason.is_fault() {
            tracing::warn!(%remote, stream, byte, %reason, "RTMP: closed");
        } else {
            tracing::info!(%remote, stream, byte, %reason, "RTMP: closed");
        }
        match reason {
            CloseReason::Io(_) | CloseReason::Write(_) | CloseReason::Closed | CloseReason::Torn => return,
            CloseReason::Evicted(_) | CloseReason::Idle(_) | CloseReason::Shutdown => {
                self.session.end(&reason.to_string());
            }
            CloseReason::Rtmp(_) | CloseReason::Refused(_) | CloseReason::Setup(_) | CloseReason::Tls(_) => {}
        }
        replies.extend_from_slice(&self.finish().await);
        // An encoder that has left doesn't need the reason.
        if self.write(&mut replies).await.is_err() || self.socket.shutdown().await.is_err() {
            return;
        }
        // A socket that is closed with unread bytes is reset, and the reset would overtake the reason.
        let mut rest = BytesMut::with_capacity(READ_LEN);
        let drained = async {
            while self.socket.read_buf(&mut rest).await.is_ok_and(|read| read > 0) {
                rest.clear();
            }
        };
        let _ = timeout(FAREWELL, drained).await;
    }
}
