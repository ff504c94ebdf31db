//! The socket of SRT: one task that receives, and one a caller, from its handshake to its end.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use damson_core::demux::srt::guard::{Guarded, guard};
use damson_core::demux::srt::stream_id as streamid;
use damson_core::demux::srt::stream_id::StreamIdError;
use damson_core::demux::ts::{End, TsDiagnostic};
use damson_core::model::time::Time;
use socket2::{Domain, Protocol, Socket, Type};
use srt_protocol::connection::DuplexConnection;
use srt_protocol::options::{ByteCount, Passphrase, SocketOptions};
use srt_protocol::packet::{
    ControlPacket, ControlTypes, CoreRejectReason, HandshakeVsInfo, KeyingMaterialMessage, Packet, RejectReason,
    ServerRejectReason, SrtControlPacket, TimeStamp,
};
use srt_protocol::protocol::pending_connection::listen::Listen;
use srt_protocol::protocol::pending_connection::{AccessControlRequest, AccessControlResponse, ConnectionResult};
use srt_protocol::settings::{ConnInitSettings, KeySettings, StreamEncryptionKeys};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ingest::publish_request::{Eviction, PublishRequest, Refused};
use crate::ingest::publish_session::PublishSession;
use crate::ingest::registry::PublishRegistry;
use crate::ingest::ts::TsInput;
use crate::{clock, observe};

/// What is negotiated with callers.
#[derive(Clone)]
pub struct Settings {
    /// How long a packet may take, retransmissions counted in; the caller's own is taken if it is longer.
    pub latency: Duration,
    /// With which callers encrypt. Without one they mustn't.
    pub passphrase: Option<Passphrase>,
    /// Callers at a time, those included that still shake hands.
    pub connections_max: usize,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Settings {{ latency: {:?}, encrypted: {} }}", self.latency, self.passphrase.is_some())
    }
}

/// From a caller's first datagram to its acceptance: callers give up after 3 s themselves.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A caller that is silent for so long is gone (SRTO_PEERIDLETIMEO's default). Keep-alives come every second.
const IDLE: Duration = Duration::from_secs(5);
/// Datagrams between the socket's task and a caller's: 0.3 s at 64 Mb/s. What is lost here is sent again.
const QUEUE_LEN: usize = 2_048;
/// What the kernel is asked to hold while this process is busy, in bytes; it gives what `net.core.rmem_max` allows.
const SOCKET_BUFFER: usize = 8 << 20;
/// What a caller's retransmissions may wait in, in bytes: a second at 100 Mb/s.
const RECEIVE_BUFFER: u64 = 12 << 20;
/// SRT's datagrams are below 1,500 bytes.
const DATAGRAM_LEN_MAX: usize = 2_048;

/// Binds the socket.
pub fn bind(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.bind(&addr.into())?;
    UdpSocket::from_std(socket.into())
}

/// Why a caller's connection is over.
#[derive(Debug, thiserror::Error)]
enum Over {
    #[error("the encoder closed the connection")]
    Closed,
    #[error("nothing came for {IDLE:?}")]
    Idle,
    #[error("no handshake within {HANDSHAKE:?}")]
    Handshake,
    #[error("refused: {0}")]
    StreamId(#[from] StreamIdError),
    #[error("refused: {0}")]
    Refused(#[from] Refused),
    #[error("refused: {0}")]
    Secret(&'static str),
    #[error("refused: it encrypts with another passphrase")]
    Passphrase,
    #[error("refused: {0}")]
    Nothing(TsDiagnostic),
    #[error("evicted: {0}")]
    Evicted(Eviction),
    #[error("the server stops")]
    Shutdown,
}

impl Over {
    /// Whether an operator has to look at it.
    fn is_fault(&self) -> bool {
        !matches!(self, Over::Closed | Over::Shutdown | Over::Evicted(_))
    }

    /// What the caller is told: a number alone (access control guidelines).
    fn reason(&self) -> RejectReason {
        RejectReason::Server(match self {
            Over::Passphrase => return RejectReason::Core(CoreRejectReason::BadSecret),
            Over::StreamId(StreamIdError::Mode(_)) => ServerRejectReason::BadMode,
            Over::StreamId(_) => ServerRejectReason::BadRequest,
            Over::Refused(Refused::Denied(_)) => ServerRejectReason::Unauthorized,
            Over::Refused(Refused::Busy(_)) => ServerRejectReason::Conflict,
            Over::Refused(Refused::Draining) => ServerRejectReason::Down,
            Over::Refused(_) => ServerRejectReason::Overload,
            _ => return RejectReason::Core(CoreRejectReason::Unsecure),
        })
    }
}

#[derive(Clone)]
struct Context {
    socket: Arc<UdpSocket>,
    registry: PublishRegistry,
    settings: Settings,
    init: ConnInitSettings,
    counters: observe::Ingest,
    shutdown: CancellationToken,
}

/// Takes callers until `shutdown`, and returns once all connections are closed.
pub async fn serve(
    socket: UdpSocket,
    registry: PublishRegistry,
    settings: Settings,
    counters: observe::Ingest,
    shutdown: CancellationToken,
) {
    let mut options = SocketOptions::default();
    options.receiver.latency = settings.latency;
    options.sender.peer_latency = settings.latency;
    options.receiver.buffer_size = ByteCount(RECEIVE_BUFFER);
    options.session.peer_idle_timeout = IDLE;
    let context = Context {
        socket: Arc::new(socket),
        registry,
        settings,
        init: ConnInitSettings::from(options),
        counters,
        shutdown: shutdown.clone(),
    };
    let tasks = TaskTracker::new();
    tokio::select! {
        () = receive(&context, &tasks) => {}
        () = shutdown.cancelled() => {}
    }
    tasks.close();
    tasks.wait().await;
}

/// Hands datagrams to their callers' tasks, and begins one for each induction.
async fn receive(context: &Context, tasks: &TaskTracker) {
    let mut callers: BTreeMap<SocketAddr, mpsc::Sender<Guarded>> = BTreeMap::new();
    let mut bytes = vec![0; DATAGRAM_LEN_MAX];
    loop {
        let (len, from) = match context.socket.recv_from(&mut bytes).await {
            Ok(received) => received,
            Err(error) => {
                // An ICMP message that a caller has gone, mostly.
                tracing::debug!(%error, "SRT: nothing could be received");
                tokio::task::yield_now().await;
                continue;
            }
        };
        let Some(guarded) = guard(&bytes[..len]) else { continue };
        let induction = guarded.induction;
        let closed = match callers.get(&from).map(|caller| caller.try_send(guarded.clone())) {
            Some(Err(mpsc::error::TrySendError::Closed(_))) => true,
            Some(_) => continue,
            None => false,
        };
        if closed {
            callers.remove(&from);
        }
        if !induction {
            continue;
        }
        callers.retain(|_, caller| !caller.is_closed());
        if callers.len() >= context.settings.connections_max {
            continue; // it will call again
        }
        let (sender, datagrams) = mpsc::channel(QUEUE_LEN);
        let _ = sender.try_send(guarded);
        callers.insert(from, sender);
        tasks.spawn(Caller { context: context.clone(), remote: from, datagrams }.run());
    }
}

/// One caller.
struct Caller {
    context: Context,
    remote: SocketAddr,
    datagrams: mpsc::Receiver<Guarded>,
}

impl Caller {
    async fn run(mut self) {
        let mut stream = None;
        let shutdown = self.context.shutdown.clone();
        let over = tokio::select! {
            biased;
            () = shutdown.cancelled() => Over::Shutdown,
            over = self.serve(&mut stream) => over,
        };
        let remote = self.remote;
        match &over {
            // A datagram from anywhere is enough for that.
            Over::Handshake => tracing::debug!(%remote, reason = %over, "SRT: closed"),
            over if over.is_fault() => tracing::warn!(%remote, stream, reason = %over, "SRT: closed"),
            over => tracing::info!(%remote, stream, reason = %over, "SRT: closed"),
        }
    }

    async fn serve(&mut self, stream: &mut Option<String>) -> Over {
        let shaken = timeout(HANDSHAKE, self.shake_hands(stream)).await.unwrap_or(Err(Over::Handshake));
        let (connection, session) = match shaken {
            Ok(shaken) => shaken,
            Err(over) => return over,
        };
        let name = format!("srt://{}", self.remote);
        let mut publishing = Publishing {
            connection,
            session,
            input: TsInput::new(name, None, self.context.counters.clone()),
            dropped: 0,
            said_goodbye: false,
        };
        let over = self.publish(&mut publishing).await;
        if !matches!(over, Over::Closed | Over::Idle) {
            let (timestamp, dest_sockid) = (TimeStamp::from_micros(0), publishing.connection.settings().remote_sockid);
            let bye = ControlPacket { timestamp, dest_sockid, control_type: ControlTypes::Shutdown };
            self.send(&Packet::Control(bye)).await;
        }
        over
    }

    /// From the induction to an accepted publish.
    async fn shake_hands(&mut self, stream: &mut Option<String>) -> Result<(DuplexConnection, PublishSession), Over> {
        let mut listen = Listen::new(self.context.init.copy_randomize(), true);
        let mut granted = None;
        let mut material = None;
        while let Some(guarded) = self.datagrams.recv().await {
            let Some(packet) = self.parse(&guarded) else { continue };
            if !packet.is_handshake() {
                continue;
            }
            if let Packet::Control(ControlPacket { control_type: ControlTypes::Handshake(shake), .. }) = &packet
                && let HandshakeVsInfo::V5(info) = &shake.info
                && let Some(SrtControlPacket::KeyRefreshRequest(sent)) = &info.ext_km
            {
                material = Some(sent.clone());
            }
            let mut result = listen.handle_packet(clock::instant(clock::now()), Ok((packet, self.remote)));
            let mut refused = None;
            if let ConnectionResult::RequestAccess(request) = result {
                let response = match self.authorize(&request, material.as_ref(), stream).await {
                    Ok((key, session)) => {
                        granted = Some(session);
                        AccessControlResponse::Accepted(key)
                    }
                    Err(over) => {
                        let reason = over.reason();
                        refused = Some(over);
                        AccessControlResponse::Rejected(reason)
                    }
                };
                result = listen.handle_access_control_response(clock::instant(clock::now()), response);
            }
            match result {
                ConnectionResult::SendPacket((packet, _)) => self.send(&packet).await,
                ConnectionResult::Connected(reply, connection) => {
                    if let Some((packet, _)) = reply {
                        self.send(&packet).await;
                    }
                    let Some(session) = granted.take() else { return Err(Over::Closed) };
                    return Ok((DuplexConnection::new(connection), session));
                }
                ConnectionResult::Reject(reply, _) => {
                    if let Some((packet, _)) = reply {
                        self.send(&packet).await;
                    }
                    return Err(refused.unwrap_or(Over::Passphrase));
                }
                ConnectionResult::NotHandled(error) => tracing::debug!(remote = %self.remote, %error, "SRT"),
                ConnectionResult::Failure(_) | ConnectionResult::NoAction | ConnectionResult::RequestAccess(_) => {}
            }
        }
        Err(Over::Shutdown)
    }

    async fn authorize(
        &self,
        request: &AccessControlRequest,
        material: Option<&KeyingMaterialMessage>,
        stream: &mut Option<String>,
    ) -> Result<(Option<KeySettings>, PublishSession), Over> {
        let key = match (&self.context.settings.passphrase, material) {
            (Some(_), None) => return Err(Over::Secret("it doesn't encrypt, and a passphrase is set here")),
            (None, Some(_)) => return Err(Over::Secret("it encrypts, and no passphrase is set here")),
            (Some(passphrase), Some(material)) => {
                let key = KeySettings { key_size: request.key_size, passphrase: passphrase.clone() };
                // Before the push begins, which would evict who is there.
                if StreamEncryptionKeys::unwrap_from(&key, material).is_err() {
                    return Err(Over::Passphrase);
                }
                Some(key)
            }
            (None, None) => None,
        };
        let target = streamid::parse(request.stream_id.as_ref().map_or("", |id| id.as_str()))?;
        *stream = Some(target.stream.to_string());
        let request = PublishRequest {
            stream: target.stream,
            rendition: target.rendition,
            app: "live".to_owned(),
            query: target.query,
            remote: Some(self.remote),
            protocol: "srt",
        };
        Ok((key, self.context.registry.publish(request).await?))
    }

    /// From an accepted publish to its end.
    async fn publish(&mut self, publishing: &mut Publishing) -> Over {
        loop {
            let now = clock::now();
            if !publishing.connection.is_open() {
                let end = if publishing.said_goodbye { End::Said } else { End::Silent };
                publishing.input.finish(end);
                if let Err(over) = publishing.drain().await {
                    return over;
                }
                return if publishing.said_goodbye { Over::Closed } else { Over::Idle };
            }
            if let Err(over) = publishing.release(now).await {
                return over;
            }
            while let Some((packet, _)) = publishing.connection.next_packet(clock::instant(now)) {
                self.send(&packet).await;
            }
            let timer = publishing.connection.check_timers(clock::instant(now));
            tokio::select! {
                biased;
                eviction = publishing.session.evicted() => return Over::Evicted(eviction),
                guarded = self.datagrams.recv() => match guarded {
                    Some(guarded) => publishing.take(self.parse(&guarded), self.remote),
                    None => return Over::Shutdown,
                },
                () = sleep_until(timer.into()) => {}
            }
        }
    }

    fn parse(&self, guarded: &Guarded) -> Option<Packet> {
        Packet::parse(&mut guarded.bytes.clone(), self.remote.is_ipv6()).ok()
    }

    async fn send(&self, packet: &Packet) {
        let mut bytes = BytesMut::with_capacity(DATAGRAM_LEN_MAX);
        packet.serialize(&mut bytes);
        // A datagram that can't be sent is lost, as others are.
        if let Err(error) = self.context.socket.send_to(&bytes, self.remote).await {
            tracing::debug!(remote = %self.remote, %error, "SRT: a datagram couldn't be sent");
        }
    }
}

/// A caller that publishes.
struct Publishing {
    connection: DuplexConnection,
    session: PublishSession,
    input: TsInput,
    /// Packets that came too late or never, so far.
    dropped: u64,
    said_goodbye: bool,
}

impl Publishing {
    /// Takes a packet.
    fn take(&mut self, packet: Option<Packet>, remote: SocketAddr) {
        let Some(mut packet) = packet else { return };
        if let Packet::Control(control) = &mut packet {
            match &control.control_type {
                // A caller sends its conclusion again, to no socket's id, until it has heard the reply.
                ControlTypes::Handshake(shake) if matches!(shake.info, HandshakeVsInfo::V5(_)) => {
                    control.dest_sockid = self.connection.settings().local_sockid;
                }
                ControlTypes::Shutdown => self.said_goodbye = true,
                _ => {}
            }
        }
        self.connection.handle_packet_input(clock::instant(clock::now()), Ok((packet, remote)));
    }

    /// Hands on what is due.
    async fn release(&mut self, now: Time) -> Result<(), Over> {
        loop {
            match self.connection.next_data(clock::instant(now)) {
                Some((_, data)) => self.message(&data).await?,
                None => {
                    let dropped = self.connection.statistics().rx_dropped_data;
                    if dropped == self.dropped {
                        return Ok(());
                    }
                    self.input.lost_datagrams(dropped - self.dropped);
                    self.dropped = dropped;
                }
            }
        }
    }

    async fn message(&mut self, data: &Bytes) -> Result<(), Over> {
        self.input.datagram(data);
        self.drain().await
    }

    async fn drain(&mut self) -> Result<(), Over> {
        while let Some(next) = self.input.next() {
            if self.input.feed(&self.session, next.map_err(Over::Nothing)?).await.is_err() {
                return Err(Over::Evicted(self.session.evicted().await));
            }
        }
        Ok(())
    }
}
