//! Connections before they are links: dialled or accepted, up to the peer's hello.

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

/// The longest time from a dial's first packet to the peer's hello. The first packet is sent up to three times, at 0, 0.15 and
/// 0.45 s (RFC 9002 doubles the guess of the first round trip, `endpoint::INITIAL_RTT`).
const DIAL_TIMEOUT: Duration = Duration::from_millis(1_500);

/// The most handshakes at once that this node computes for strangers.
const HANDSHAKES_MAX: usize = 64;

/// From this many handshakes on, a client must first prove its address (RFC 9000 8.1.2, Retry).
const HANDSHAKES_UNVALIDATED: usize = 16;

/// The longest time in which the endpoint sends its last packets.
const CLOSE_PATIENCE: Duration = Duration::from_millis(500);

/// Dials nodes, and accepts their connections.
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

    /// Returns the channel to the driver.
    pub(crate) fn events(&self) -> Events {
        self.events.clone()
    }

    /// Returns the number of connections that failed through a fault of the peer.
    pub(crate) fn refused(&self) -> u64 {
        self.refusals.total.load(Relaxed)
    }

    /// Closes all connections, and waits until the peers know it, or don't answer.
    pub(crate) async fn close(self) {
        self.endpoint.close(code::LEAVING, b"");
        // The time is over if a peer doesn't answer.
        let _ = tokio::time::timeout(CLOSE_PATIENCE, self.endpoint.wait_idle()).await;
    }

    /// Closes all connections without waiting.
    pub(crate) fn drop_all(&self) {
        self.endpoint.close(code::LEAVING, b"dropped");
    }

    fn number(&self) -> LinkNo {
        LinkNo(self.connections.fetch_add(1, Relaxed))
    }

    /// Dials `addr` after `wait`, and tells the driver how it ends.
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
                // The peer's own dial is under way. If that fails, the driver must hear of it.
                connector.tell(failed(DialFault::Duplicate)).await;
                tokio::time::sleep(DIAL_TIMEOUT).await;
                return connector.tell(failed(DialFault::TimedOut(DIAL_TIMEOUT))).await;
            }
            if let DialFault::Connection(e) = &fault {
                connector.refusals.note(addr, e, "that this node dialled");
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
        // If this future ends without a link, the connection closes with its last handle.
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
        receive_hello(no, conn, (peer, name), (send, recv), Some(addr)).await
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
                    Ok(Err(fault)) => connector.refusals.note(addr, &fault, "that dialled this node"),
                    Err(_) => debug!(%addr, "a peer that dialled this node sent no hello in time"),
                }
            });
        }
    }

    /// Takes a connection up to its hello. Returns `None` if it is for queries.
    async fn greet(&self, incoming: Incoming) -> Result<Option<Greeted>, DialFault> {
        let no = self.number();
        let conn = incoming.accept()?.await?;
        let subject = identity::of_peer(&conn).map_err(DialFault::Certificate)?;
        if query::is_for(&conn) {
            self.queries.serve(conn);
            return Ok(None);
        }
        let control = conn.accept_bi().await?;
        receive_hello(no, conn, subject, control, None).await.map(Some)
    }

    async fn tell(&self, event: MeshEvent) {
        // The driver ends only when the node does.
        let _ = self.events.send((clock::now(), event)).await;
    }
}

/// Waits for the peer's hello.
async fn receive_hello(
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

/// Checks the peer's hello against its certificate. Returns the address at which it listens.
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

/// The addresses that were refused. Each is logged once an interval.
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
            warn!(%addr, refused = self.total.load(Relaxed), "no link with the node {what}: {why}");
        }
    }
}
