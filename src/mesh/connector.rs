//! From a handshake to a hello: connections before they are links, dialled and accepted.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn::{Connection, ConnectionError, Endpoint, Incoming};
use rustls::pki_types::CertificateDer;
use tokio::sync::{Semaphore, oneshot};
use tracing::{debug, warn};

use super::identity;
use super::identity::SERVER_NAME;
use super::link::{Event, Events, Greeted, LinkFault, read_hello, write_hello};
use super::mesh::Sink;
use super::query;
use super::query::Answers;
use crate::clock;
use crate::mesh::link::code;
use damson_core::hyparview::DownCause;
use damson_core::link::frame::{FrameDecoder, Hello};
use damson_core::link::pairing::LinkNo;
use damson_core::model::NodeId;
use damson_core::model::Peer;
use damson_core::model::time::Time;

/// From a dial's first packet to the peer's hello. Three tries of the first packet fit in, at 0, 0.15 and
/// 0.45 s (RFC 9002's doubling of the first round trip's guess, `endpoint::INITIAL_RTT`).
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_millis(1_500);

/// The most handshakes at once that strangers can make this node compute.
const HANDSHAKES_MAX: usize = 64;

/// From so many on, an address must first show that it is its own (RFC 9000 8.1.2, Retry).
const HANDSHAKES_UNVALIDATED: usize = 16;

/// What all connections need.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) endpoint: Endpoint,
    pub(crate) events: Events,
    pub(crate) refusals: Arc<Refusals>,
    connections: Arc<AtomicU64>,
    answers: Answers,
}

/// A dial that made no link of its own.
pub(crate) struct Failed {
    pub(crate) no: LinkNo,
    pub(crate) addr: SocketAddr,
    /// Whom we expected, or found.
    pub(crate) expected: Option<NodeId>,
    pub(crate) found: Option<NodeId>,
    pub(crate) fault: DialFault,
}

/// Why a dial made no link.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialFault {
    #[error("can't be dialled: {0}")]
    Address(#[from] quinn::ConnectError),
    #[error("no answer in {DIAL_TIMEOUT:?}")]
    TimedOut,
    #[error("{0}")]
    Connection(#[from] ConnectionError),
    #[error("its certificate: {0}")]
    Certificate(String),
    #[error("is {0}, another node than the one expected")]
    Another(NodeId),
    #[error("{0}")]
    Hello(LinkFault),
    /// No failure: the peer has, or is getting, another link with us.
    #[error("another link with it is there or on its way")]
    Duplicate,
}

impl DialFault {
    pub(crate) fn cause(&self) -> DownCause {
        match self {
            DialFault::TimedOut | DialFault::Connection(ConnectionError::TimedOut) => DownCause::TimedOut,
            DialFault::Duplicate | DialFault::Hello(_) => DownCause::Lost,
            _ => DownCause::Refused,
        }
    }
}

impl Desk {
    pub(crate) fn new(endpoint: Endpoint, events: Events, sink: Arc<dyn Sink>) -> Self {
        let answers = Answers::new(sink);
        Desk { endpoint, events, refusals: Arc::default(), connections: Arc::default(), answers }
    }

    fn number(&self) -> LinkNo {
        LinkNo(self.connections.fetch_add(1, Relaxed))
    }

    /// Dials `addr` after `wait`; the driver hears of it.
    pub(crate) fn dial(&self, addr: SocketAddr, expected: Option<NodeId>, wait: Duration) -> LinkNo {
        let desk = self.clone();
        let no = self.number();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let mut found = None;
            let dial = desk.try_dial(no, addr, expected, &mut found);
            let fault = match tokio::time::timeout(DIAL_TIMEOUT, dial).await {
                Ok(Ok(greeted)) => return desk.tell(Event::Answered(Box::new(greeted))).await,
                Ok(Err(fault)) => fault,
                Err(_) => DialFault::TimedOut,
            };
            let failed = |fault| Event::DialEnded(Box::new(Failed { no, addr, expected, found, fault }));
            if matches!(fault, DialFault::Duplicate) {
                // The peer's own dial is on its way; if it fails after all, the driver must hear of it.
                desk.tell(failed(DialFault::Duplicate)).await;
                tokio::time::sleep(DIAL_TIMEOUT).await;
                return desk.tell(failed(DialFault::TimedOut)).await;
            }
            if let DialFault::Connection(e) = &fault {
                desk.refusals.note(addr, e, "dialled");
            }
            desk.tell(failed(fault)).await;
        });
        no
    }

    async fn try_dial(
        &self,
        no: LinkNo,
        addr: SocketAddr,
        expected: Option<NodeId>,
        found: &mut Option<NodeId>,
    ) -> Result<Greeted, DialFault> {
        // Whenever this future ends without a link, the last handle's drop closes the connection.
        let conn = self.endpoint.connect(addr, SERVER_NAME)?.await?;
        let (peer, name) = subject(&conn).map_err(DialFault::Certificate)?;
        *found = Some(peer);
        if expected.is_some_and(|expected| expected != peer) {
            conn.close(code::IDENTITY, b"another node was expected here");
            return Err(DialFault::Another(peer));
        }
        let (hello, say) = oneshot::channel();
        self.tell(Event::Dialled { no, peer, hello }).await;
        let Ok(Some(hello)) = say.await else { return Err(DialFault::Duplicate) };
        let (mut send, mut recv) = conn.open_bi().await.map_err(answer)?;
        write_hello(&mut send, hello).await.map_err(|e| DialFault::Hello(LinkFault::from(lost(e))))?;
        let mut decoder = FrameDecoder::default();
        let hello = match read_hello(&mut recv, &mut decoder).await {
            Ok(hello) => hello,
            Err(LinkFault::Connection(e)) => return Err(answer(e)),
            Err(fault) => return Err(DialFault::Hello(fault)),
        };
        let peer = check_hello(&conn, peer, &hello).map_err(DialFault::Certificate)?;
        let dialled = Some(addr);
        Ok(Greeted { no, conn, peer, name, hello, control: (send, recv), decoder, dialled })
    }

    /// Takes connections until the endpoint closes.
    pub(crate) async fn accept(self) {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        while let Some(incoming) = self.endpoint.accept().await {
            let busy = HANDSHAKES_MAX - handshakes.available_permits();
            if busy >= HANDSHAKES_UNVALIDATED && incoming.may_retry() {
                let _ = incoming.retry();
                continue;
            }
            let Ok(permit) = handshakes.clone().try_acquire_owned() else {
                incoming.refuse();
                continue;
            };
            let desk = self.clone();
            tokio::spawn(async move {
                let _permit = permit;
                let addr = incoming.remote_address();
                match tokio::time::timeout(DIAL_TIMEOUT, desk.greet(incoming)).await {
                    Ok(Ok(Some(greeted))) => desk.tell(Event::Greeted(Box::new(greeted))).await,
                    Ok(Ok(None)) => {}
                    Ok(Err(DialFault::Connection(e))) => desk.refusals.note(addr, &e, "dialled us"),
                    Ok(Err(fault)) => desk.refusals.note(addr, &fault, "dialled us"),
                    Err(_) => debug!(%addr, "a connection said no hello in time"),
                }
            });
        }
    }

    /// `None` where the peer has come to ask, not for a link.
    async fn greet(&self, incoming: Incoming) -> Result<Option<Greeted>, DialFault> {
        let no = self.number();
        let conn = incoming.accept()?.await?;
        let (peer, name) = subject(&conn).map_err(DialFault::Certificate)?;
        if query::is_for(&conn) {
            self.answers.serve(conn);
            return Ok(None);
        }
        let (send, mut recv) = conn.accept_bi().await?;
        let mut decoder = FrameDecoder::default();
        let hello = match read_hello(&mut recv, &mut decoder).await {
            Ok(hello) => hello,
            Err(LinkFault::Connection(e)) => return Err(e.into()),
            Err(fault) => return Err(DialFault::Hello(fault)),
        };
        let peer = check_hello(&conn, peer, &hello).map_err(DialFault::Certificate)?;
        Ok(Some(Greeted { no, conn, peer, name, hello, control: (send, recv), decoder, dialled: None }))
    }

    async fn tell(&self, event: Event) {
        // The driver is gone only when the node is.
        let _ = self.events.send((clock::now(), event)).await;
    }
}

fn answer(e: ConnectionError) -> DialFault {
    match e {
        ConnectionError::ApplicationClosed(close) if close.error_code == code::DUPLICATE => DialFault::Duplicate,
        e => e.into(),
    }
}

fn lost(e: quinn::WriteError) -> ConnectionError {
    match e {
        quinn::WriteError::ConnectionLost(e) => e,
        _ => ConnectionError::LocallyClosed,
    }
}

pub(crate) fn subject(conn: &Connection) -> Result<(NodeId, String), String> {
    let identity = conn.peer_identity().ok_or("shows none")?;
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().map_err(|_| "is of an unknown kind")?;
    identity::subject(chain.first().ok_or("shows none")?)
}

/// Where the peer listens, if its hello and its certificate agree.
fn check_hello(conn: &Connection, peer: NodeId, hello: &Hello) -> Result<Peer, String> {
    if hello.node != peer {
        conn.close(code::IDENTITY, b"the hello's node isn't the certificate's");
        return Err(format!("is {peer}'s, and its hello says {}", hello.node));
    }
    let mut addr = hello.listen;
    if addr.ip().is_unspecified() {
        addr.set_ip(conn.remote_address().ip().to_canonical());
    }
    Ok(Peer { id: peer, addr })
}

/// Who was refused, each address named once an interval.
#[derive(Default)]
pub(crate) struct Refusals {
    pub(crate) total: AtomicU64,
    told: Mutex<BTreeMap<IpAddr, (Time, u64)>>,
}

impl Refusals {
    const INTERVAL: Duration = Duration::from_secs(10);
    const ADDRESSES_MAX: usize = 256;

    /// Counts a refusal, and logs it unless one of the same address was logged in the last interval.
    pub(crate) fn note(&self, addr: SocketAddr, why: &dyn std::fmt::Display, what: &str) {
        self.total.fetch_add(1, Relaxed);
        let now = clock::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= Self::ADDRESSES_MAX && !told.contains_key(&addr.ip()) {
            told.retain(|_, (at, _)| now.since(*at) < Self::INTERVAL);
            if told.len() >= Self::ADDRESSES_MAX {
                return;
            }
        }
        let before = told.get(&addr.ip()).copied();
        match before {
            Some((at, more)) if now.since(at) < Self::INTERVAL => {
                told.insert(addr.ip(), (at, more + 1));
            }
            _ => {
                let unsaid = before.map_or(0, |(_, more)| more);
                told.insert(addr.ip(), (now, 0));
                warn!(%addr, unsaid, "no link with the node that {what}: {why}");
            }
        }
    }
}
