//! From a handshake to a hello: connections before they are links, dialled and accepted.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use damson_core::link::frame::{FrameDecoder, Hello};
use damson_core::link::pairing::LinkNo;
use damson_core::model::time::Time;
use damson_core::model::{NodeId, Peer};
use parking_lot::Mutex;
use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream};
use tokio::sync::{Semaphore, oneshot};
use tracing::{debug, warn};

use super::control::{read_hello, write_hello};
use super::event::{Events, FailedDial, Greeted, MeshEvent};
use super::fault::DialFault;
use super::identity::SERVER_NAME;
use super::query::QueryServer;
use super::{code, identity, query};
use crate::clock;

/// From a dial's first packet to the peer's hello. Three tries of the first packet fit in, at 0, 0.15 and
/// 0.45 s (RFC 9002's doubling of the first round trip's guess, `endpoint::INITIAL_RTT`).
const DIAL_TIMEOUT: Duration = Duration::from_millis(1_500);

/// The most handshakes at once that strangers can make this node compute.
const HANDSHAKES_MAX: usize = 64;

/// From so many on, an address must first show that it is its own (RFC 9000 8.1.2, Retry).
const HANDSHAKES_UNVALIDATED: usize = 16;

/// How long the endpoint may take to send its last packets.
const CLOSE_PATIENCE: Duration = Duration::from_millis(500);

/// Makes connections, and takes those of others.
#[derive(Clone)]
pub(crate) struct Connector {
    endpoint: Endpoint,
    events: Events,
    refusals: Arc<Refusals>,
    connections: Arc<AtomicU64>,
    queries: QueryServer,
}

impl Connector {
    pub(crate) fn new(endpoint: Endpoint, events: Events, queries: QueryServer) -> Self {
        Connector { endpoint, events, refusals: Arc::default(), connections: Arc::default(), queries }
    }

    /// Returns the way by which links tell the driver.
    pub(crate) fn events(&self) -> Events {
        self.events.clone()
    }

    /// Returns how many connections came to nothing for a fault of the peer's.
    pub(crate) fn refused(&self) -> u64 {
        self.refusals.total.load(Relaxed)
    }

    /// Closes all that is open, and waits until the peers are told, or don't listen.
    pub(crate) async fn close(self) {
        self.endpoint.close(code::LEAVING, b"");
        // The farewells are on the wire, or nobody listens.
        let _ = tokio::time::timeout(CLOSE_PATIENCE, self.endpoint.wait_idle()).await;
    }

    /// Closes all that is open, without a farewell.
    pub(crate) fn drop_all(&self) {
        self.endpoint.close(code::LEAVING, b"dropped");
    }

    fn number(&self) -> LinkNo {
        LinkNo(self.connections.fetch_add(1, Relaxed))
    }

    /// Dials `addr` after `wait`; the driver hears of it.
    pub(crate) fn dial(&self, addr: SocketAddr, expected: Option<NodeId>, wait: Duration) -> LinkNo {
        let connector = self.clone();
        let no = self.number();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let mut found = None;
            let dial = connector.try_dial(no, addr, expected, &mut found);
            let fault = match tokio::time::timeout(DIAL_TIMEOUT, dial).await {
                Ok(Ok(greeted)) => return connector.tell(MeshEvent::Answered(Box::new(greeted))).await,
                Ok(Err(fault)) => fault,
                Err(_) => DialFault::TimedOut(DIAL_TIMEOUT),
            };
            let failed = |fault| MeshEvent::DialEnded(Box::new(FailedDial { no, addr, expected, found, fault }));
            if matches!(fault, DialFault::Duplicate) {
                // The peer's own dial is on its way; if it fails after all, the driver must hear of it.
                connector.tell(failed(DialFault::Duplicate)).await;
                tokio::time::sleep(DIAL_TIMEOUT).await;
                return connector.tell(failed(DialFault::TimedOut(DIAL_TIMEOUT))).await;
            }
            if let DialFault::Connection(e) = &fault {
                connector.refusals.note(addr, e, "dialled");
            }
            connector.tell(failed(fault)).await;
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
        let (peer, name) = identity::of_peer(&conn).map_err(DialFault::Certificate)?;
        *found = Some(peer);
        if expected.is_some_and(|expected| expected != peer) {
            conn.close(code::IDENTITY, b"another node was expected here");
            return Err(DialFault::Another(peer));
        }
        let (hello, say) = oneshot::channel();
        self.tell(MeshEvent::Dialled { no, peer, hello }).await;
        let Ok(Some(hello)) = say.await else { return Err(DialFault::Duplicate) };
        let (mut send, recv) = conn.open_bi().await?;
        write_hello(&mut send, hello).await?;
        hear(no, conn, (peer, name), (send, recv), Some(addr)).await
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
            let connector = self.clone();
            tokio::spawn(async move {
                let _permit = permit;
                let addr = incoming.remote_address();
                match tokio::time::timeout(DIAL_TIMEOUT, connector.greet(incoming)).await {
                    Ok(Ok(Some(greeted))) => connector.tell(MeshEvent::Greeted(Box::new(greeted))).await,
                    Ok(Ok(None)) => {}
                    Ok(Err(fault)) => connector.refusals.note(addr, &fault, "dialled us"),
                    Err(_) => debug!(%addr, "a connection said no hello in time"),
                }
            });
        }
    }

    /// Takes a connection; returns `None` where the peer has come to ask, not for a link.
    async fn greet(&self, incoming: Incoming) -> Result<Option<Greeted>, DialFault> {
        let no = self.number();
        let conn = incoming.accept()?.await?;
        let subject = identity::of_peer(&conn).map_err(DialFault::Certificate)?;
        if query::is_for(&conn) {
            self.queries.serve(conn);
            return Ok(None);
        }
        let control = conn.accept_bi().await?;
        hear(no, conn, subject, control, None).await.map(Some)
    }

    async fn tell(&self, event: MeshEvent) {
        // The driver is gone only when the node is.
        let _ = self.events.send((clock::now(), event)).await;
    }
}

/// Waits for the peer's hello.
async fn hear(
    no: LinkNo,
    conn: Connection,
    (peer, name): (NodeId, String),
    mut control: (SendStream, RecvStream),
    dialled: Option<SocketAddr>,
) -> Result<Greeted, DialFault> {
    let mut decoder = FrameDecoder::default();
    let hello = read_hello(&mut control.1, &mut decoder).await?;
    let peer = check_hello(&conn, peer, &hello).map_err(DialFault::Certificate)?;
    Ok(Greeted { no, conn, peer, name, hello, control, decoder, dialled })
}

/// Returns where the peer listens, if its hello and its certificate agree.
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

/// The addresses that were refused, each of which is logged once an interval.
#[derive(Default)]
struct Refusals {
    total: AtomicU64,
    logged: Mutex<BTreeMap<IpAddr, Time>>,
}

impl Refusals {
    const INTERVAL: Duration = Duration::from_secs(10);
    const ADDRESSES_MAX: usize = 256;

    /// Counts a refusal, and logs it unless one of the same address was logged in the last interval.
    fn note(&self, addr: SocketAddr, why: &dyn Display, what: &str) {
        self.total.fetch_add(1, Relaxed);
        let now = clock::now();
        let mut logged = self.logged.lock();
        logged.retain(|_, at| now.since(*at) < Self::INTERVAL);
        if logged.len() < Self::ADDRESSES_MAX && !logged.contains_key(&addr.ip()) {
            logged.insert(addr.ip(), now);
            warn!(%addr, refused = self.total.load(Relaxed), "no link with the node that {what}: {why}");
        }
    }
}
