//! The SRT server: one task that receives datagrams, and one for each caller, from its handshake to its end.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use damson_core::demux::srt::guard::{Guarded, guard};
use damson_core::demux::srt::stream_id as streamid;
use damson_core::demux::srt::stream_id::StreamIdError;
use damson_core::demux::target::PublishTarget;
use damson_core::demux::ts::{End, TsDiagnostic};
use damson_core::model::time::Time;
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
pub use crate::ingest::ts::bind;
use crate::ingest::ts::{QUEUE_LEN, TsInput};
use crate::{clock, observe};

/// The settings of SRT. Their debug text doesn't show the passphrase.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The latency of a packet, retransmissions included; the caller's own applies if it is longer.
    pub latency: Duration,
    /// The passphrase with which callers encrypt; without one, callers must not encrypt.
    pub passphrase: Option<Passphrase>,
    /// The stream of callers whose stream id names none.
    pub default: Option<PublishTarget>,
    /// The most callers at a time, including those in the handshake.
    pub connections_max: usize,
}

/// The longest time from a caller's first datagram to its acceptance: callers give up after 3 s.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The silence after which a caller counts as gone (SRTO_PEERIDLETIMEO's default). Keep-alives come every second.
const IDLE: Duration = Duration::from_secs(5);
/// The buffer for a caller's retransmissions, in bytes: a second at 100 Mb/s.
const RECEIVE_BUFFER: u64 = 12 << 20;
/// The longest datagram, in bytes: SRT stays below 1,500.
const DATAGRAM_LEN_MAX: usize = 2_048;

/// The reason why a caller's connection ended.
#[derive(Debug, thiserror::Error)]
enum CloseReason {
    #[error("the encoder closed the connection")]
    Closed,
    #[error("the encoder sent nothing for {IDLE:?}")]
    Idle,
    #[error("no handshake within {HANDSHAKE:?}")]
    Handshake,
    #[error("refused: {0}")]
    StreamId(#[from] StreamIdError),
    #[error("refused: {0}")]
    Refused(#[from] Refused),
    #[error("refused: the encoder doesn't encrypt; set the node's --srt-passphrase there")]
    NoPassphrase,
    #[error("refused: the encoder encrypts, but this node has no --srt-passphrase")]
    Encrypted,
    #[error("refused: the encoder has another passphrase than --srt-passphrase")]
    Passphrase,
    #[error("refused: {0}")]
    Nothing(TsDiagnostic),
    #[error("evicted: {0}")]
    Evicted(#[from] Eviction),
    #[error("the node is shutting down")]
    Shutdown,
}

impl CloseReason {
    /// Returns whether an operator should look at it.
    fn is_fault(&self) -> bool {
        !matches!(self, CloseReason::Closed | CloseReason::Shutdown | CloseReason::Evicted(_))
    }

    /// Returns the number that the caller is told (SRT Access Control Guidelines).
    fn reject_reason(&self) -> RejectReason {
        RejectReason::Server(match self {
            CloseReason::Passphrase => return RejectReason::Core(CoreRejectReason::BadSecret),
            CloseReason::StreamId(StreamIdError::Mode(_)) => ServerRejectReason::BadMode,
            CloseReason::StreamId(_) => ServerRejectReason::BadRequest,
            CloseReason::Refused(Refused::Denied(_)) => ServerRejectReason::Unauthorized,
            CloseReason::Refused(Refused::Busy(_)) => ServerRejectReason::Conflict,
            CloseReason::Refused(Refused::Draining) => ServerRejectReason::Down,
            CloseReason::Refused(_) => ServerRejectReason::Overload,
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

/// Accepts callers until `shutdown`, and returns when all connections are closed.
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
    shutdown.run_until_cancelled(receive(&context, &tasks)).await;
    tasks.close();
    tasks.wait().await;
}

/// Hands datagrams to their callers' tasks, and starts a task for each induction.
async fn receive(context: &Context, tasks: &TaskTracker) {
    let mut callers: BTreeMap<SocketAddr, mpsc::Sender<Guarded>> = BTreeMap::new();
    let mut bytes = vec![0; DATAGRAM_LEN_MAX];
    loop {
        let (len, from) = match context.socket.recv_from(&mut bytes).await {
            Ok(received) => received,
            Err(error) => {
                // The error is mostly an ICMP message about a caller that has left.
                tracing::debug!(%error, "SRT: can't receive");
                tokio::task::yield_now().await;
                continue;
            }
        };
        let Some(guarded) = guard(&bytes[..len]) else { continue };
        let induction = guarded.induction;
        // A full queue loses the datagram, which the caller sends again.
        match callers.get(&from).map(|caller| caller.try_send(guarded.clone())) {
            Some(Ok(()) | Err(mpsc::error::TrySendError::Full(_))) => continue,
            Some(Err(mpsc::error::TrySendError::Closed(_))) | None if induction => {}
            _ => continue,
        }
        callers.retain(|_, caller| !caller.is_closed());
        if callers.len() >= context.settings.connections_max {
            continue; // the caller repeats its induction
        }
        let (sender, datagrams) = mpsc::channel(QUEUE_LEN);
        let _ = sender.try_send(guarded);
        callers.insert(from, sender);
        tasks.spawn(Caller { context: context.clone(), remote: from, datagrams, stream: None }.run());
    }
}

/// One caller.
struct Caller {
    context: Context,
    remote: SocketAddr,
    datagrams: mpsc::Receiver<Guarded>,
    /// The stream that the caller asks for.
    stream: Option<String>,
}

impl Caller {
    async fn run(mut self) {
        let shutdown = self.context.shutdown.clone();
        let reason = tokio::select! {
            biased;
            () = shutdown.cancelled() => CloseReason::Shutdown,
            reason = self.serve() => reason,
        };
        let Caller { remote, stream, .. } = self;
        match &reason {
            // Any sender can cause it with one datagram.
            CloseReason::Handshake => tracing::debug!(%remote, %reason, "SRT: closed"),
            fault if fault.is_fault() => tracing::warn!(%remote, stream, %reason, "SRT: closed"),
            _ => tracing::info!(%remote, stream, %reason, "SRT: closed"),
        }
    }

    async fn serve(&mut self) -> CloseReason {
        let accepted = timeout(HANDSHAKE, self.shake_hands()).await.unwrap_or(Err(CloseReason::Handshake));
        let (connection, session) = match accepted {
            Ok(accepted) => accepted,
            Err(reason) => return reason,
        };
        let name = format!("srt://{}", self.remote);
        let input = TsInput::new(name, None, self.context.counters.clone());
        let counters = self.context.counters.clone();
        let mut publishing = Publishing { connection, session, input, counters, dropped: 0, said_goodbye: false };
        let Err(reason) = self.publish(&mut publishing).await;
        if !matches!(reason, CloseReason::Closed | CloseReason::Idle) {
            let (timestamp, dest_sockid) = (TimeStamp::from_micros(0), publishing.connection.settings().remote_sockid);
            let shutdown = ControlPacket { timestamp, dest_sockid, control_type: ControlTypes::Shutdown };
            self.send(&Packet::Control(shutdown)).await;
        }
        reason
    }

    /// Runs the handshake, from the induction to an accepted publish.
    async fn shake_hands(&mut self) -> Result<(DuplexConnection, PublishSession), CloseReason> {
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
                let response = match self.authorize(&request, material.as_ref()).await {
                    Ok((key, session)) => {
                        granted = Some(session);
                        AccessControlResponse::Accepted(key)
                    }
                    Err(reason) => {
                        let told = reason.reject_reason();
                        refused = Some(reason);
                        AccessControlResponse::Rejected(told)
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
                    let session = granted.take().ok_or(CloseReason::Closed)?;
                    return Ok((DuplexConnection::new(connection), session));
                }
                ConnectionResult::Reject(reply, _) => {
                    if let Some((packet, _)) = reply {
                        self.send(&packet).await;
                    }
                    return Err(refused.unwrap_or(CloseReason::Passphrase));
                }
                ConnectionResult::NotHandled(error) => {
                    tracing::debug!(remote = %self.remote, %error, "SRT: handshake packet ignored")
                }
                ConnectionResult::Failure(_) | ConnectionResult::NoAction | ConnectionResult::RequestAccess(_) => {}
            }
        }
        Err(CloseReason::Shutdown)
    }

    async fn authorize(
        &mut self,
        request: &AccessControlRequest,
        material: Option<&KeyingMaterialMessage>,
    ) -> Result<(Option<KeySettings>, PublishSession), CloseReason> {
        let key = match (&self.context.settings.passphrase, material) {
            (Some(_), None) => return Err(CloseReason::NoPassphrase),
            (None, Some(_)) => return Err(CloseReason::Encrypted),
            (Some(passphrase), Some(material)) => {
                let key = KeySettings { key_size: request.key_size, passphrase: passphrase.clone() };
                // Checked before the push begins and evicts the present publisher.
                if StreamEncryptionKeys::unwrap_from(&key, material).is_err() {
                    return Err(CloseReason::Passphrase);
                }
                Some(key)
            }
            (None, None) => None,
        };
        let id = request.stream_id.as_ref().map_or("", |id| id.as_str());
        let target = match (streamid::parse(id), &self.context.settings.default) {
            (Err(StreamIdError::Missing), Some(default)) => default.clone(),
            (target, _) => target?,
        };
        self.stream = Some(target.stream.to_string());
        let request = PublishRequest {
            rendition: target.rendition,
            query: target.query,
            ..PublishRequest::new(target.stream, Some(self.remote), "srt")
        };
        Ok((key, self.context.registry.publish(request).await?))
    }

    /// Runs the connection, from an accepted publish to its end.
    async fn publish(&mut self, publishing: &mut Publishing) -> Result<Infallible, CloseReason> {
        loop {
            let now = clock::now();
            if !publishing.connection.is_open() {
                let (end, reason) = match publishing.said_goodbye {
                    true => (End::Said, CloseReason::Closed),
                    false => (End::Silent, CloseReason::Idle),
                };
                publishing.input.finish(end);
                publishing.drain().await?;
                return Err(reason);
            }
            publishing.release(now).await?;
            while let Some((packet, _)) = publishing.connection.next_packet(clock::instant(now)) {
                self.send(&packet).await;
            }
            let timer = publishing.connection.check_timers(clock::instant(now));
            tokio::select! {
                biased;
                eviction = publishing.session.evicted() => return Err(eviction.into()),
                guarded = self.datagrams.recv() => {
                    let guarded = guarded.ok_or(CloseReason::Shutdown)?;
                    publishing.take(self.parse(&guarded), self.remote);
                }
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
        // SRT treats it as a loss.
        if let Err(error) = self.context.socket.send_to(&bytes, self.remote).await {
            tracing::debug!(remote = %self.remote, %error, "SRT: can't send");
        }
    }
}

/// A caller that publishes.
struct Publishing {
    connection: DuplexConnection,
    session: PublishSession,
    input: TsInput,
    counters: observe::Ingest,
    /// The number of packets so far that came too late or were lost.
    dropped: u64,
    said_goodbye: bool,
}

impl Publishing {
    /// Takes a received packet.
    fn take(&mut self, packet: Option<Packet>, remote: SocketAddr) {
        let Some(mut packet) = packet else { return };
        if let Packet::Control(control) = &mut packet {
            match &control.control_type {
                // A caller repeats its conclusion, without our socket's id, until the reply arrives.
                ControlTypes::Handshake(shake) if matches!(shake.info, HandshakeVsInfo::V5(_)) => {
                    control.dest_sockid = self.connection.settings().local_sockid;
                }
                ControlTypes::Shutdown => self.said_goodbye = true,
                _ => {}
            }
        }
        self.connection.handle_packet_input(clock::instant(clock::now()), Ok((packet, remote)));
    }

    /// Sends the media that is due to the session.
    async fn release(&mut self, now: Time) -> Result<(), CloseReason> {
        loop {
            match self.connection.next_data(clock::instant(now)) {
                Some((_, data)) => {
                    self.input.datagram(&data);
                    self.drain().await?;
                }
                None => {
                    let lost = self.connection.statistics().rx_dropped_data - self.dropped;
                    if lost == 0 {
                        return Ok(());
                    }
                    self.counters.srt_lost.inc_by(lost);
                    self.input.lost();
                    self.dropped += lost;
                }
            }
        }
    }

    async fn drain(&mut self) -> Result<(), CloseReason> {
        while let Some(input) = self.input.next() {
            self.input.send(&mut self.session, input.map_err(CloseReason::Nothing)?).await?;
        }
        Ok(())
    }
}
