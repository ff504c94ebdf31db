//! The UDP server: one task for each socket receives, and one for each source sends the media to its session.
//!
//! UDP has no connections: a source is a publisher while its datagrams come, and has left after [`SILENCE`]. Several nodes
//! may receive the same group. The node that published last keeps the stream; the others stand by, and one of them goes on
//! when that ingest stalls.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use damson_core::demux::rtp::Rtp;
use damson_core::demux::ts::End;
use damson_core::model::time::Time;
use damson_core::packager::Input;
use socket2::{InterfaceIndexOrAddress, SockRef};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::source::Source;
use crate::ingest::publish_request::{Eviction, PublishRequest};
use crate::ingest::publish_session::{PublishSession, eviction_of};
use crate::ingest::registry::PublishRegistry;
use crate::ingest::ts::{self, QUEUE_LEN, TsInput};
use crate::{clock, observe};

/// The silence after which a publisher has left: longer than any multiplexer's pause.
pub const SILENCE: Duration = Duration::from_secs(3);
/// The silence after which the last picture counts as complete: shorter than the time after which it counts as missing.
const PAUSE: Duration = Duration::from_millis(250);
/// The time between two attempts to publish, after a refusal or while another ingest publishes.
const RETRY: Duration = Duration::from_secs(5);
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
/// The source whose socket can't be bound, and why.
pub fn bind(sources: &[Source]) -> Result<Vec<Receiver>, (Source, io::Error)> {
    let mut out: Vec<Receiver> = Vec::new();
    for source in sources {
        let place = |source: &Source| (source.addr, source.source, source.interface.clone());
        // Port 0 is another port each time.
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
    let socket = ts::bind(source.addr)?;
    let options = SockRef::from(&socket);
    let interface = interface(source)?;
    match (source.addr.ip(), source.source, interface) {
        (group, ..) if !group.is_multicast() => {}
        (IpAddr::V4(group), Some(IpAddr::V4(sender)), InterfaceIndexOrAddress::Address(address)) => {
            options.join_ssm_v4(&sender, &group, &address)?;
        }
        (IpAddr::V4(group), None, interface) => options.join_multicast_v4_n(&group, &interface)?,
        (IpAddr::V6(group), _, InterfaceIndexOrAddress::Index(index)) => options.join_multicast_v6(&group, index)?,
        (IpAddr::V6(group), ..) if source.interface.is_none() => options.join_multicast_v6(&group, 0)?,
        _ => {
            let why = "a source-specific group needs an interface's address, and an IPv6 group its name";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
    }
    Ok(socket)
}

/// Returns the interface on which a group is joined: any, or the one with this IPv4 address or name (Linux).
fn interface(source: &Source) -> io::Result<InterfaceIndexOrAddress> {
    let Some(name) = source.interface.as_deref() else {
        return Ok(InterfaceIndexOrAddress::Address(Ipv4Addr::UNSPECIFIED));
    };
    if let Ok(address) = name.parse() {
        return Ok(InterfaceIndexOrAddress::Address(address));
    }
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("there is no interface {name:?}"));
    if name.contains('/') || name.contains("..") {
        return Err(missing());
    }
    let index = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).map_err(|_| missing())?;
    index.trim().parse().map(InterfaceIndexOrAddress::Index).map_err(|_| missing())
}

/// Receives until `shutdown`, and returns when all sockets are closed, which leaves their groups.
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
            let (sender, datagrams) = mpsc::channel(QUEUE_LEN);
            senders.push(sender);
            let name = format!("udp://{addr}");
            tracing::info!(stream = %source.stream, from = name, "UDP: waiting for MPEG-TS");
            let reception = Reception {
                registry: registry.clone(),
                input: TsInput::new(name, source.program, counters.clone()),
                source,
                rtp: Rtp::default(),
                counters: counters.clone(),
                session: None,
                retry_at: Time::ZERO,
                elsewhere: None,
                logged: String::new(),
                datagrams,
                paused: false,
            };
            tasks.spawn(reception.run());
        }
        let shutdown = shutdown.clone();
        tasks.spawn(async move { shutdown.run_until_cancelled(receive(&socket, only, &senders)).await });
    }
    tasks.close();
    tasks.wait().await;
}

/// Hands the datagrams of one sender at a time to the tasks of all programs.
async fn receive(socket: &UdpSocket, only: Option<IpAddr>, senders: &[mpsc::Sender<Bytes>]) {
    let buffer = SockRef::from(socket).recv_buffer_size().unwrap_or(0);
    tracing::debug!(addr = ?socket.local_addr().ok(), buffer, "UDP: receiving");
    let mut bytes = vec![0; DATAGRAM_LEN_MAX];
    let mut held: Option<(SocketAddr, Time)> = None;
    let mut strangers = false;
    loop {
        let (len, from) = match socket.recv_from(&mut bytes).await {
            Ok(received) => received,
            Err(error) => {
                // The error is an ICMP message, or an interface went down.
                tracing::warn!(%error, "UDP: can't receive");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let now = clock::now();
        if only.is_some_and(|only| only != from.ip().to_canonical()) {
            continue;
        }
        // The packets of two senders can't be mixed: the first sender has the socket for as long as it sends.
        match held {
            Some((sender, heard)) if sender != from && now.since(heard) < SILENCE => {
                if !std::mem::replace(&mut strangers, true) {
                    tracing::warn!(%from, %sender, "UDP: a second sender on this address is ignored");
                }
                continue;
            }
            Some((sender, _)) if sender == from => {}
            _ => {
                strangers = false;
                tracing::info!(%from, "UDP: first datagram of a sender");
            }
        }
        held = Some((from, now));
        let datagram = Bytes::copy_from_slice(&bytes[..len]);
        for sender in senders {
            // A full queue loses the datagram, which the continuity counters show.
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
    counters: observe::Ingest,
    session: Option<PublishSession>,
    /// The time of the next attempt to publish.
    retry_at: Time,
    /// The progress of another ingest node with the stream at the last attempt.
    elsewhere: Option<(u64, u64)>,
    /// The reason for standing by, as it was last logged.
    logged: String,
    datagrams: mpsc::Receiver<Bytes>,
    /// No datagram has come for [`PAUSE`].
    paused: bool,
}

impl Reception {
    async fn run(mut self) {
        loop {
            let wait = if self.paused { SILENCE - PAUSE } else { PAUSE };
            tokio::select! {
                biased;
                eviction = eviction_of(self.session.as_mut()) => self.evicted(eviction),
                datagram = timeout(wait, self.datagrams.recv()) => match datagram {
                    Ok(Some(datagram)) => self.datagram(&datagram).await,
                    Ok(None) => return,
                    Err(_) if self.paused => self.silence(),
                    Err(_) => {
                        self.paused = true;
                        self.input.finish(End::Silent);
                        self.drain().await;
                    }
                },
            }
        }
    }

    async fn datagram(&mut self, datagram: &Bytes) {
        self.paused = false;
        let Some(unwrapped) = self.rtp.unwrap(datagram) else { return };
        if unwrapped.lost > 0 {
            self.counters.rtp_lost.inc_by(u64::from(unwrapped.lost));
            self.input.lost();
        }
        self.input.datagram(unwrapped.payload);
        self.drain().await;
    }

    fn silence(&mut self) {
        if self.session.take().is_some() {
            tracing::info!(stream = %self.source.stream, "UDP: no datagram for {SILENCE:?}; the publisher has left");
        }
        self.input.restart();
        self.rtp = Rtp::default();
    }

    fn evicted(&mut self, eviction: Eviction) {
        self.session = None;
        self.input.detached();
        if eviction == Eviction::Draining {
            return self.datagrams.close();
        }
        tracing::info!(stream = %self.source.stream, "UDP: on standby: {eviction}");
        self.retry_at = clock::now() + RETRY;
        self.elsewhere = None;
    }

    async fn drain(&mut self) {
        while let Some(next) = self.input.next() {
            let Ok(input) = next else { continue };
            if matches!(input, Input::Unit(_)) && self.session.is_none() {
                self.publish().await;
            }
            if let Some(session) = &mut self.session {
                // `run` handles the eviction.
                let _ = self.input.send(session, input).await;
            }
        }
    }

    /// Begins to publish the stream, unless another ingest publishes it.
    async fn publish(&mut self) {
        let now = clock::now();
        if now < self.retry_at {
            return;
        }
        self.retry_at = now + RETRY;
        let Source { stream, rendition, .. } = &self.source;
        let elsewhere = self.registry.elsewhere(stream).await;
        if elsewhere.is_some() && elsewhere != self.elsewhere {
            self.elsewhere = elsewhere;
            return self.stand_by("another ingest node publishes the stream".to_owned());
        }
        self.elsewhere = None;
        // Without an address of its own, a source takes over from no other push.
        let request =
            PublishRequest { rendition: rendition.clone(), ..PublishRequest::new(stream.clone(), None, "udp") };
        match self.registry.publish(request).await {
            Ok(session) => {
                self.session = Some(session);
                self.logged.clear();
            }
            Err(refused) => self.stand_by(refused.to_string()),
        }
    }

    /// Logs why the source isn't published, once.
    fn stand_by(&mut self, why: String) {
        if self.logged != why {
            tracing::info!(stream = %self.source.stream, "UDP: on standby: {why}");
            self.logged = why;
        }
    }
}
