//! The sockets of RTMP, over TLS or not: one task a connection, which reads, runs the RTMP session, and feeds its publish session.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use damson_core::demux::flv;
use damson_core::demux::rtmp::{Output, RtmpError, RtmpSession, session};
use damson_core::demux::target::PublishTarget;
use damson_core::model::time::Time;
use damson_core::packager::Input;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::ingest::publish_request::{Eviction, PublishRequest, Refused};
use crate::ingest::publish_session::{Gone, PublishSession};
use crate::ingest::registry::PublishRegistry;
use crate::net::Listeners;
use crate::net::accept::{Accepted, Connections, Overflow};

/// What connections may cost, and how long they may be silent.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time, those included that don't publish; further ones are closed at once.
    pub connections_max: usize,
    /// From the first byte to an accepted publish, and from the end of one publish to the next.
    pub setup: Duration,
    /// A publishing encoder that sends nothing for so long is taken for dead.
    pub idle: Duration,
    /// A reply that can't be written for so long: the encoder doesn't read.
    pub write: Duration,
    /// Of each session.
    pub session: session::Limits,
}

impl Default for Limits {
    /// 2,048 connections; 10 s to publish (OBS and ffmpeg take under 1 s on a slow line) and of silence (an
    /// encoder sends audio every 20 ms); 5 s to take a reply.
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

/// One read, in bytes.
const READ_LEN: usize = 64 << 10;

/// Nothing for so long, and an acknowledgement that is due is sent: shorter than a frame, longer than the gaps
/// of a burst.
const QUIET: Duration = Duration::from_millis(10);

/// How long an encoder may take to read why it is refused.
const FAREWELL: Duration = Duration::from_millis(500);

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
enum Over {
    #[error("the encoder closed the connection")]
    Closed,
    #[error("the encoder closed the connection in the middle of a message")]
    Torn,
    #[error("the TLS handshake failed: {0} (is it an rtmps:// URL?)")]
    Tls(std::io::Error),
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Rtmp(#[from] RtmpError),
    #[error("refused: {0}")]
    Refused(#[from] Refused),
    #[error("evicted: {0}")]
    Evicted(Eviction),
    #[error("no publish within {0:?}")]
    Setup(Duration),
    #[error("nothing came for {0:?}")]
    Idle(Duration),
    #[error("a reply couldn't be written within {0:?}")]
    Write(Duration),
    #[error("the server stops")]
    Shutdown,
}

/// Whether it is how a TLS connection ends whose peer just closes its socket.
fn is_end(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::UnexpectedEof
}

impl Over {
    /// Whether an operator has to look at it.
    fn is_fault(&self) -> bool {
        !matches!(self, Over::Closed | Over::Shutdown | Over::Evicted(_))
    }
}

/// Accepts encoders until `shutdown`, and returns once all connections are closed. What they have fed by then is published; to end
/// their streams too, [`PublishRegistry::drain`] comes first.
pub async fn serve(
    listeners: impl Into<Listeners>,
    registry: PublishRegistry,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let mut connections = Connections::new(listeners, limits.connections_max, Overflow::Refuse("RTMP"));
    let accept = connections.accept(|accepted| Some(connection(accepted, registry.clone(), limits, shutdown.clone())));
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        () = accept => {}
    }
    connections.drain(Duration::MAX).await;
}

async fn connection(accepted: Accepted, registry: PublishRegistry, limits: Limits, shutdown: CancellationToken) {
    let Accepted { stream, remote, tls } = accepted;
    let Some(tls) = tls else {
        return Connection::new(stream, remote, "rtmp", registry, limits).serve(&shutdown).await;
    };
    let shaken = tokio::select! {
        shaken = timeout(limits.setup, tls.acceptor().accept(stream)) => shaken,
        () = shutdown.cancelled() => return,
    };
    let over = match shaken {
        // What it keeps for a record of 16 KiB and its keys is twice that: not in every task.
        Ok(Ok(stream)) => {
            return Connection::new(Box::new(stream), remote, "rtmps", registry, limits).serve(&shutdown).await;
        }
        Ok(Err(error)) => Over::Tls(error),
        Err(_) => Over::Setup(limits.setup),
    };
    tracing::warn!(%remote, reason = %over, "RTMPS: closed");
}

struct Connection<S> {
    socket: S,
    remote: SocketAddr,
    /// As publish requests name it.
    protocol: &'static str,
    registry: PublishRegistry,
    limits: Limits,
    session: RtmpSession,
    publish: Option<PublishSession>,
    /// The encoder takes no more replies.
    deaf: bool,
    /// By when a publish has to be accepted.
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

    /// From its first byte to its last, or to `shutdown`.
    async fn serve(mut self, shutdown: &CancellationToken) {
        let over = tokio::select! {
            over = self.run() => over,
            () = shutdown.cancelled() => Over::Shutdown,
        };
        self.close(&over).await;
    }

    async fn run(&mut self) -> Over {
        tracing::debug!(remote = %self.remote, protocol = self.protocol, "RTMP: connected");
        let mut buffer = BytesMut::with_capacity(READ_LEN);
        loop {
            buffer.clear();
            buffer.reserve(READ_LEN);
            if let Err(over) = self.read(&mut buffer).await {
                return over;
            }
            let handled = self.session.handle(&buffer);
            if let Err(over) = self.outputs(handled).await {
                return over;
            }
        }
    }

    /// Waits for bytes, for the end of the publish session, or for too long.
    async fn read(&mut self, buffer: &mut BytesMut) -> Result<(), Over> {
        loop {
            let owes = self.session.owes_acknowledgement();
            let (due, late) = match &self.publish {
                _ if owes => (clock::now() + QUIET, None),
                Some(_) => (clock::now() + self.limits.idle, Some(Over::Idle(self.limits.idle))),
                None => (self.setup_until, Some(Over::Setup(self.limits.setup))),
            };
            let evicted = async {
                match &mut self.publish {
                    Some(publish) => publish.evicted().await,
                    None => std::future::pending().await,
                }
            };
            let read = tokio::select! {
                biased;
                eviction = evicted => return Err(Over::Evicted(eviction)),
                read = self.socket.read_buf(buffer) => Some(read),
                () = self.alarm.until(Some(due)) => None,
            };
            match (read, late) {
                (Some(read), _) => return self.was_read(read),
                (None, Some(late)) => return Err(late),
                (None, None) => {
                    self.session.acknowledge();
                    self.outputs(Ok(())).await?;
                }
            }
        }
    }

    /// What a read says of the connection.
    fn was_read(&self, read: std::io::Result<usize>) -> Result<(), Over> {
        match read {
            Ok(1..) => Ok(()),
            // What an encoder leaves unread when it goes makes a reset of its end.
            Err(error) if (self.publish.is_some() || !self.session.is_between_messages()) && !is_end(&error) => {
                Err(error.into())
            }
            _ if self.session.is_between_messages() => Err(Over::Closed),
            _ => Err(Over::Torn),
        }
    }

    /// Does what the session wants done, then ends with what it returned.
    async fn outputs(&mut self, mut result: Result<(), RtmpError>) -> Result<(), Over> {
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
                        Err(over) => {
                            self.session.reject_publish(&over.to_string());
                            return Err(over);
                        }
                    }
                }
                Output::Metadata(announced) => {
                    let fed = self.published()?.attach(flv::CLOCK, announced).await;
                    self.fed(fed).await?;
                }
                Output::Input(input) => self.feed(input).await?,
                Output::Unpublished => {
                    self.publish = None;
                    self.setup_until = clock::now() + self.limits.setup;
                }
            }
        }
        self.write(&mut replies).await?;
        Ok(result?)
    }

    async fn begin(&self, target: PublishTarget) -> Result<PublishSession, Over> {
        let PublishTarget { stream, rendition, query } = target;
        let app = session::APP.to_owned();
        let request =
            PublishRequest { stream, rendition, app, query, remote: Some(self.remote), protocol: self.protocol };
        let limit = self.limits.setup;
        Ok(timeout(limit, self.registry.publish(request)).await.map_err(|_| Over::Setup(limit))??)
    }

    fn published(&self) -> Result<&PublishSession, Over> {
        // The session sends media between an accepted publish and its end only.
        self.publish.as_ref().ok_or(Over::Closed)
    }

    async fn feed(&mut self, input: Input) -> Result<(), Over> {
        let fed = self.published()?.input(input).await;
        self.fed(fed).await
    }

    async fn fed(&mut self, fed: Result<(), Gone>) -> Result<(), Over> {
        match (fed, &mut self.publish) {
            (Err(Gone), Some(publish)) => Err(Over::Evicted(publish.evicted().await)),
            _ => Ok(()),
        }
    }

    async fn write(&mut self, replies: &mut BytesMut) -> Result<(), Over> {
        if !replies.is_empty() && !self.deaf {
            let limit = self.limits.write;
            let written = timeout(limit, self.socket.write_all(replies)).await.map_err(|_| Over::Write(limit))?;
            // An encoder that has sent its last may be gone while its last is still to be read.
            self.deaf = written.is_err();
        }
        replies.clear();
        Ok(())
    }

    /// Gives the stream back, logs, and tells the encoder.
    async fn close(mut self, over: &Over) {
        let stream = self.publish.take().map(|publish| publish.stream().to_string());
        let (remote, at) = (self.remote, self.session.received());
        if over.is_fault() {
            tracing::warn!(%remote, stream, byte = at, reason = %over, "RTMP: closed");
        } else {
            tracing::info!(%remote, stream, byte = at, reason = %over, "RTMP: closed");
        }
        match over {
            Over::Io(_) | Over::Write(_) | Over::Closed | Over::Torn => return,
            Over::Evicted(_) | Over::Idle(_) | Over::Shutdown => self.session.end(&over.to_string()),
            Over::Rtmp(_) | Over::Refused(_) | Over::Setup(_) | Over::Tls(_) => {}
        }
        let mut replies = BytesMut::new();
        while let Some(output) = self.session.poll_output() {
            if let Output::Send(bytes) = output {
                replies.extend_from_slice(&bytes);
            }
        }
        // It may be gone, and then needs no reason.
        if self.write(&mut replies).await.is_err() || self.socket.shutdown().await.is_err() {
            return;
        }
        // A socket that is closed with bytes unread is reset, and the reset overtakes the reason.
        let mut rest = BytesMut::with_capacity(READ_LEN);
        let drained = async {
            while self.socket.read_buf(&mut rest).await.is_ok_and(|read| read > 0) {
                rest.clear();
            }
        };
        let _ = timeout(FAREWELL, drained).await;
    }
}
