//! The sockets of MPEG-TS over UDP: one task a socket, which receives, and one a source, which feeds its session.
//!
//! Nobody connects and nobody says goodbye: a source is a publisher while its datagrams come, and has gone after
//! [`SILENCE`]. Several nodes may take the same group. The newest one's push wins, as ever; the others stand by, and one
//! of them goes on when that ingest does no more.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use damson_core::demux::rtp::Rtp;
use damson_core::demux::ts::End;
use damson_core::model::time::Time;
use damson_core::packager::Input;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::source::Source;
use crate::ingest::publish_request::{Eviction, PublishRequest};
use crate::ingest::publish_session::PublishSession;
use crate::ingest::registry::PublishRegistry;
use crate::ingest::ts::TsInput;
use crate::{clock, observe};

/// Without a datagram for so long, a publisher has gone: longer than any multiplexer's pause.
pub const SILENCE: Duration = Duration::from_secs(3);
/// After so long its last picture is taken for whole, though nothing says so: before its absence is.
const PAUSE: Duration = Duration::from_millis(250);
/// How long after a refusal, or beside another ingest, a source looks again.
const AGAIN: Duration = Duration::from_secs(5);
/// What the kernel is asked to hold while this process is busy, in bytes: a second at 64 Mb/s. It gives what
/// `net.core.rmem_max` allows.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Datagrams between the socket's task and a source's: 0.3 s at 64 Mb/s.
const QUEUE_LEN: usize = 2_048;
/// The longest datagram, in bytes.
const DATAGRAM_LEN_MAX: usize = 65_536;

/// A bound socket, and the sources that are read from it.
#[derive(Debug)]
pub struct Receiver {
    socket: UdpSocket,
    sources: Vec<Source>,
}

/// Binds the sockets: one for all the programs of the same address.
///
/// # Errors
/// The source whose socket can't be had, and why.
pub fn bind(sources: &[Source]) -> Result<Vec<Receiver>, (Source, io::Error)> {
    let mut out: Vec<Receiver> = Vec::new();
    for source in sources {
        let place = |source: &Source| (source.addr, source.source, source.interface.clone());
        // Port 0 is another one each time.
        let same = |receiver: &&mut Receiver| {
            source.addr.port() != 0 && receiver.sources.first().map(place) == Some(place(source))
        };
        if let Some(receiver) = out.iter_mut().find(same) {
            receiver.sources.push(source.clone());
            continue;
        }
        let socket = listen(source).map_err(|error| (source.clone(), error))?;
        out.push(Receiver { socket, sources: vec![source.clone()] });
    }
    Ok(out)
}

fn listen(source: &Source) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(source.addr), Type::DGRAM, Some(Protocol::UDP))?;
    let group = source.addr.ip();
    if group.is_multicast() {
        // Others on this machine may take it, too. Bound to the group, it hears nothing else of that port.
        socket.set_reuse_address(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.bind(&source.addr.into())?;
    match (group, source.source) {
        (IpAddr::V4(group), Some(IpAddr::V4(sender))) if group.is_multicast() => {
            socket.join_ssm_v4(&sender, &group, &address_of(source)?)?;
        }
        (IpAddr::V4(group), _) if group.is_multicast() => socket.join_multicast_v4_n(&group, &interface(source)?)?,
        (IpAddr::V6(group), _) if group.is_multicast() => {
            let index = source.interface.as_deref().map(index).transpose()?;
            socket.join_multicast_v6(&group, index.unwrap_or(0))?;
        }
        _ => {}
    }
    UdpSocket::from_std(socket.into())
}

/// The interface as any-source joins want it.
fn interface(source: &Source) -> io::Result<InterfaceIndexOrAddress> {
    match source.interface.as_deref() {
        None => Ok(InterfaceIndexOrAddress::Address(Ipv4Addr::UNSPECIFIED)),
        Some(name) => match name.parse() {
            Ok(address) => Ok(InterfaceIndexOrAddress::Address(address)),
            Err(_) => index(name).map(InterfaceIndexOrAddress::Index),
        },
    }
}

/// The same as source-specific ones want it: by an address.
fn address_of(source: &Source) -> io::Result<Ipv4Addr> {
    let Some(name) = source.interface.as_deref() else { return Ok(Ipv4Addr::UNSPECIFIED) };
    name.parse().map_err(|_| {
        let why = format!("a source-specific group is joined by an interface's address, not by its name {name:?}");
        io::Error::new(io::ErrorKind::InvalidInput, why)
    })
}

/// An interface's number (Linux).
fn index(name: &str) -> io::Result<u32> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("there is no interface {name:?}"));
    if name.contains('/') || name.contains("..") {
        return Err(missing());
    }
    let text = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).map_err(|_| missing())?;
    text.trim().parse().map_err(|_| missing())
}

/// Receives until `shutdown`, and returns once all sockets are closed, and with them all groups left.
pub async fn serve(
    receivers: Vec<Receiver>,
    registry: PublishRegistry,
    counters: observe::Ingest,
    shutdown: CancellationToken,
) {
    let tasks = TaskTracker::new();
    for Receiver { socket, sources } in receivers {
        let addr = socket.local_addr().map_or_else(|error| error.to_string(), |addr| addr.to_string());
        let only = sources.first().and_then(|source| source.source);
        let mut senders = Vec::new();
        for source in sources {
            let (sender, receiver) = mpsc::channel(QUEUE_LEN);
            senders.push(sender);
            let name = format!("udp://{addr}");
            tracing::info!(stream = %source.stream, from = name, "waits for MPEG-TS");
            let input = TsInput::new(name, source.program, counters.clone());
            let reception = Reception {
                registry: registry.clone(),
                source,
                input,
                rtp: Rtp::default(),
                rtp_lost: counters.rtp_lost.clone(),
                session: None,
                try_from: Time::ZERO,
                elsewhere: None,
                said: String::new(),
                datagrams: receiver,
                paused: false,
            };
            tasks.spawn(reception.run());
        }
        let stop = shutdown.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = receive(&socket, only, &senders) => {}
                () = stop.cancelled() => {}
            }
        });
    }
    tasks.close();
    tasks.wait().await;
}

/// Hands datagrams of one sender at a time to all programs' tasks.
async fn receive(socket: &UdpSocket, only: Option<IpAddr>, senders: &[mpsc::Sender<Bytes>]) {
    let buffer = SockRef::from(socket).recv_buffer_size().unwrap_or(0);
    tracing::debug!(addr = ?socket.local_addr().ok(), buffer, "receives");
    let mut bytes = vec![0; DATAGRAM_LEN_MAX];
    let mut held: Option<(SocketAddr, Time)> = None;
    let mut strangers = false;
    loop {
        let (len, from) = match socket.recv_from(&mut bytes).await {
            Ok(received) => received,
            Err(error) => {
                // An ICMP message about something else, or an interface that went down.
                tracing::warn!(%error, "UDP: nothing could be received");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let now = clock::now();
        if only.is_some_and(|only| only != from.ip().to_canonical()) {
            continue;
        }
        // Two senders' packets together make nothing: the first is taken while it sends.
        match held {
            Some((sender, heard)) if sender != from && now.since(heard) < SILENCE => {
                if !std::mem::replace(&mut strangers, true) {
                    tracing::warn!(%from, %sender, "UDP: a second sender on one address; the first is taken");
                }
                continue;
            }
            Some((sender, _)) if sender == from => {}
            _ => {
                strangers = false;
                tracing::info!(%from, "UDP: datagrams come");
            }
        }
        held = Some((from, now));
        let datagram = Bytes::copy_from_slice(&bytes[..len]);
        for sender in senders {
            // A full queue is a loss like any other: the continuity counters tell.
            let _ = sender.try_send(datagram.clone());
        }
    }
}

/// One source: its datagrams, and its session while they come.
struct Reception {
    registry: PublishRegistry,
    source: Source,
    input: TsInput,
    rtp: Rtp,
    rtp_lost: prometheus_client::metrics::counter::Counter,
    session: Option<PublishSession>,
    /// When a push may be tried.
    try_from: Time,
    /// How far another ingest was with the stream when it was last looked at.
    elsewhere: Option<(u64, u64)>,
    /// Why there was no session, when it was last said.
    said: String,
    datagrams: mpsc::Receiver<Bytes>,
    /// Nothing has come for [`PAUSE`].
    paused: bool,
}

enum Heard {
    Datagram(Bytes),
    Pause,
    Silence,
    Evicted(Eviction),
    End,
}

impl Reception {
    async fn run(mut self) {
        loop {
            match self.hear().await {
                Heard::Datagram(datagram) => {
                    self.paused = false;
                    let Some(unwrapped) = self.rtp.unwrap(&datagram) else { continue };
                    if unwrapped.lost > 0 {
                        self.rtp_lost.inc_by(u64::from(unwrapped.lost));
                        self.input.lost();
                    }
                    self.input.datagram(unwrapped.payload);
                    self.drain().await;
                }
                Heard::Pause => {
                    self.paused = true;
                    self.input.finish(End::Silent);
                    self.drain().await;
                }
                Heard::Silence => {
                    if self.session.take().is_some() {
                        tracing::info!(stream = %self.source.stream, "UDP: no datagram for {SILENCE:?}");
                    }
                    self.input.restart();
                    self.rtp = Rtp::default();
                }
                Heard::Evicted(Eviction::Draining) => {
                    self.detach();
                    self.datagrams.close();
                }
                Heard::Evicted(eviction) => {
                    tracing::info!(stream = %self.source.stream, "UDP: stands by: {eviction}");
                    self.detach();
                    self.try_from = clock::now() + AGAIN;
                    self.elsewhere = None;
                }
                Heard::End => return,
            }
        }
    }

    async fn hear(&mut self) -> Heard {
        let evicted = async {
            match &mut self.session {
                Some(session) => session.evicted().await,
                None => std::future::pending().await,
            }
        };
        let wait = if self.paused { SILENCE - PAUSE } else { PAUSE };
        tokio::select! {
            biased;
            eviction = evicted => Heard::Evicted(eviction),
            datagram = timeout(wait, self.datagrams.recv()) => match datagram {
                Ok(Some(datagram)) => Heard::Datagram(datagram),
                Ok(None) => Heard::End,
                Err(_) if self.paused => Heard::Silence,
                Err(_) => Heard::Pause,
            },
        }
    }

    async fn drain(&mut self) {
        while let Some(next) = self.input.next() {
            let Ok(input) = next else { continue };
            if matches!(input, Input::Unit(_)) && self.session.is_none() {
                self.publish().await;
            }
            if let Some(session) = &self.session {
                // Once it is over, the reason is heard next.
                let _ = self.input.feed(session, input).await;
            }
        }
    }

    fn detach(&mut self) {
        self.session = None;
        self.input.detached();
    }

    /// Begins to publish the stream, unless another ingest goes on with it.
    async fn publish(&mut self) {
        let now = clock::now();
        if now < self.try_from {
            return;
        }
        self.try_from = now + AGAIN;
        let stream = &self.source.stream;
        let elsewhere = self.registry.elsewhere(stream).await;
        if elsewhere.is_some() && elsewhere != self.elsewhere {
            self.elsewhere = elsewhere;
            return self.say("another ingest publishes it".to_owned());
        }
        self.elsewhere = None;
        // A source has no address to be known again by: it takes over from nobody.
        let request = PublishRequest {
            stream: stream.clone(),
            rendition: self.source.rendition.clone(),
            app: "live".to_owned(),
            query: None,
            remote: None,
            protocol: "udp",
        };
        match self.registry.publish(request).await {
            Ok(session) => {
                self.session = Some(session);
                self.said.clear();
            }
            Err(refused) => self.say(refused.to_string()),
        }
    }

    fn say(&mut self, why: String) {
        if self.said != why {
            tracing::info!(stream = %self.source.stream, "UDP: stands by: {why}");
            self.said = why;
        }
    }
}
