//! All links of a node: which connection to a peer is the link (see `pairing`), and which addresses are dialled, and when.
//!
//! The methods return the inputs that follow for the hub.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use damson_core::hyparview::DownCause;
use damson_core::link::backoff::Backoff;
use damson_core::link::frame::{Hello, VERSION};
use damson_core::link::pairing::{LinkNo, Pairing, Verdict};
use damson_core::model::time::Time;
use damson_core::model::{NodeId, Peer};
use damson_core::plumtree::BodyEvent;
use damson_core::swarm::{Input, SwarmView};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use super::body_sender::BodyJob;
use super::code;
use super::connector::Connector;
use super::event::{BodyKey, FailedDial, Greeted};
use super::fault::{DialFault, LinkFault};
use super::link::Link;
use super::snapshot::Snapshot;
use crate::clock;

/// The most links: each of a node's swarms has some 5 neighbours, and swarms share links.
const LINKS_MAX: usize = 1_024;

/// A link that ends sooner delays the next dial, like a dial that fails.
const LASTING: Duration = Duration::from_secs(2);

pub(crate) struct Links {
    me: Peer,
    connector: Connector,
    links: BTreeMap<NodeId, Link>,
    pairing: Pairing,
    backoff: Backoff,
    /// The dials under way.
    dialling: BTreeMap<SocketAddr, LinkNo>,
    /// The stamp of the last hello.
    stamp: u64,
}

impl Links {
    pub(crate) fn new(me: Peer, connector: Connector, seed: u64) -> Self {
        Links {
            me,
            connector,
            links: BTreeMap::new(),
            pairing: Pairing::new(me.id),
            backoff: Backoff::new(seed),
            dialling: BTreeMap::new(),
            stamp: 0,
        }
    }

    /// Returns the link to a node.
    pub(crate) fn get(&mut self, peer: NodeId) -> Option<&mut Link> {
        self.links.get_mut(&peer)
    }

    /// Returns the link to a node, if it is still this one.
    pub(crate) fn current(&mut self, peer: NodeId, no: LinkNo) -> Option<&mut Link> {
        if self.pairing.link(peer) == Some(no) { self.links.get_mut(&peer) } else { None }
    }

    /// Returns a view of the links, together with that of the swarms.
    pub(crate) fn snapshot(&self, name: &str, swarms: Vec<SwarmView>) -> Snapshot {
        Snapshot {
            node: self.me.id.to_string(),
            name: name.to_owned(),
            addr: self.me.addr,
            refused: self.connector.refused(),
            links: self.links.values().map(|link| link.view(clock::now())).collect(),
            swarms,
        }
    }

    // Links come.

    /// Dials an address, unless there is a link with it, or a dial is under way.
    pub(crate) fn dial(&mut self, addr: SocketAddr, peer: Option<NodeId>) -> Option<Input> {
        let linked = |of: &Peer| peer.map_or(of.addr == addr, |id| of.id == id);
        if let Some(peer) = self.links.values().map(Link::peer).find(linked) {
            return Some(Input::LinkUp { peer, dialled: Some(addr) });
        }
        if !self.dialling.contains_key(&addr) {
            let wait = self.backoff.wait(clock::now(), addr);
            self.dialling.insert(addr, self.connector.dial(addr, peer, wait));
        }
        None
    }

    /// Returns our hello for a peer that our dial has found, or `None` if there is a link with it, or one is under way.
    pub(crate) fn hello_to(&mut self, peer: NodeId, no: LinkNo) -> Option<Hello> {
        self.pairing.dialled(peer, no).then(|| self.hello())
    }

    fn hello(&mut self) -> Hello {
        self.stamp = clock::wall().as_micros().max(self.stamp + 1);
        Hello { version: VERSION, node: self.me.id, listen: self.me.addr, stamp: self.stamp }
    }

    /// Our dial has been answered.
    pub(crate) fn answered(&mut self, greeted: Greeted) -> Option<Input> {
        if let Some(addr) = greeted.dialled {
            self.dialling.remove(&addr);
        }
        if self.pairing.answered(greeted.peer.id, greeted.no, greeted.hello.stamp) {
            return Some(self.up(greeted));
        }
        greeted.conn.close(code::DUPLICATE, b"");
        None
    }

    /// A peer has dialled us. Returns the connection to bring [up](Links::up), and whether an older link is lost for it.
    pub(crate) fn greeted(&mut self, greeted: Greeted) -> Option<(Greeted, bool)> {
        let peer = greeted.peer.id;
        if self.links.len() >= LINKS_MAX && !self.links.contains_key(&peer) {
            warn!(%peer, addr = %greeted.peer.addr, "link refused: this node has {LINKS_MAX} links already");
            greeted.conn.close(code::FULL, b"too many links");
            return None;
        }
        match self.pairing.greeted(peer, greeted.no, greeted.hello.stamp) {
            Verdict::Duplicate => {
                greeted.conn.close(code::DUPLICATE, b"");
                None
            }
            Verdict::Replaces(_) => {
                // The peer has lost the old link before we have.
                let old = self.links.remove(&peer).inspect(|old| old.cut(code::DUPLICATE, b""));
                Some((greeted, old.is_some()))
            }
            Verdict::Up => Some((greeted, false)),
        }
    }

    /// Makes a connection the link to its peer.
    pub(crate) fn up(&mut self, greeted: Greeted) -> Input {
        let (peer, dialled) = (greeted.peer, greeted.dialled);
        debug!(peer = %peer.id, name = greeted.name, addr = %peer.addr, dialled = dialled.is_some(), "link up");
        if self.links.is_empty() {
            info!(peer = %peer.id, name = greeted.name, addr = %peer.addr, "joined the cluster: the first link is up");
        }
        // A peer that we dialled has our hello already.
        let hello = dialled.is_none().then(|| self.hello());
        self.links.insert(peer.id, Link::start(greeted, hello, self.connector.events()));
        Input::LinkUp { peer, dialled }
    }

    /// A dial has ended without a link of its own.
    pub(crate) fn dial_ended(&mut self, at: Time, failed: &FailedDial) -> Option<Input> {
        let FailedDial { no, addr, expected, found, ref fault } = *failed;
        if let Some(peer) = found {
            self.pairing.ended(peer, no);
        }
        if self.dialling.get(&addr) != Some(&no) {
            return None;
        }
        let link = found.and_then(|peer| self.links.get(&peer)).map(Link::peer);
        let myself = found == Some(self.me.id);
        match (fault, link) {
            // The peer's own dial was faster.
            (_, Some(peer)) => {
                self.dialling.remove(&addr);
                Some(Input::LinkUp { peer, dialled: Some(addr) })
            }
            // The peer's dial is about to succeed; if it doesn't, the connector says so.
            (DialFault::Duplicate, None) if !myself => None,
            (fault, None) => {
                debug!(%addr, "dial failed: {fault}");
                let cause = if myself { DownCause::Refused } else { fault.cause() };
                self.dialling.remove(&addr);
                self.backoff.failed(at, addr);
                Some(Input::DialFailed { addr, peer: found.or(expected), cause })
            }
        }
    }

    // Links go.

    /// The link to a node has ended.
    pub(crate) fn lost(&mut self, at: Time, peer: NodeId, fault: &LinkFault) -> Option<Input> {
        let link = self.remove(peer)?;
        if let Some((addr, since)) = link.dialled() {
            if at.since(since) < LASTING {
                self.backoff.failed(at, addr);
            } else {
                self.backoff.succeeded(addr);
            }
        }
        let (name, addr) = (link.name(), link.remote());
        if fault.is_protocol_fault() {
            warn!(%peer, name, %addr, "link closed: the peer {fault}");
        } else {
            debug!(%peer, name, %addr, "link lost: {fault}");
        }
        Some(Input::LinkDown { peer, cause: fault.cause() })
    }

    /// Ends the link to a node that broke the protocol.
    pub(crate) fn reject(&mut self, at: Time, peer: NodeId, fault: &LinkFault) -> Option<Input> {
        self.get(peer)?.cut(code::PROTOCOL, fault.to_string().as_bytes());
        self.lost(at, peer, fault)
    }

    /// Closes the link to a node that no swarm needs.
    pub(crate) fn close(&mut self, peer: NodeId) {
        if let Some(link) = self.remove(peer) {
            debug!(%peer, name = link.name(), "link closed: no swarm needs it");
            tokio::spawn(link.close(code::UNNEEDED));
        }
    }

    fn remove(&mut self, peer: NodeId) -> Option<Link> {
        self.pairing.ended(peer, self.pairing.link(peer)?);
        let link = self.links.remove(&peer)?;
        if self.links.is_empty() {
            info!("left the cluster: no link is up any more");
        }
        Some(link)
    }

    /// Closes all links. The caller has to await the tasks that are returned.
    pub(crate) fn close_all(&mut self) -> JoinSet<()> {
        std::mem::take(&mut self.links).into_values().map(|link| link.close(code::LEAVING)).collect()
    }

    // What the hub sends.

    /// Queues a control frame.
    pub(crate) fn send_control(&mut self, to: NodeId, frame: Bytes) -> Option<Input> {
        let Some(link) = self.links.get(&to) else {
            debug!(%to, "dropped a control frame for a node without a link");
            return None;
        };
        let fault = link.send_control(frame).err()?;
        link.cut(code::WEDGED, fault.to_string().as_bytes());
        warn!(peer = %to, name = link.name(), "link closed: the peer {fault}");
        self.remove(to);
        Some(Input::LinkDown { peer: to, cause: DownCause::Lost })
    }

    /// Starts to send a body.
    pub(crate) fn send_body(&mut self, to: NodeId, job: BodyJob) -> Option<Input> {
        let (swarm, id) = job.key();
        match self.get(to) {
            Some(link) => {
                link.send_body(job);
                None
            }
            None => Some(Input::Body { peer: to, swarm, event: BodyEvent::Stopped(id) }),
        }
    }

    /// Queues a body's next piece.
    pub(crate) fn send_piece(&mut self, to: NodeId, key: BodyKey, bytes: Bytes) -> Vec<Input> {
        let dropped = self.get(to).map(|link| link.send_piece(key, bytes)).unwrap_or_default();
        dropped.into_iter().map(|(swarm, id)| Input::Body { peer: to, swarm, event: BodyEvent::Stopped(id) }).collect()
    }
}
