//! What can be seen of a mesh: `/api/v1/swarm` and the metrics.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

use super::link::{Shared, TRANSIT_UNKNOWN};
use damson_core::hyparview as overlay;
use damson_core::model::NodeId;
use damson_core::model::Peer;
use damson_core::model::time::Time;
use damson_core::{plumtree as broadcast, swarm};

/// A node's links and swarms at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// This node's id, as sixteen hexadecimal digits.
    pub node: String,
    /// Its name.
    pub name: String,
    /// Where it can be dialled.
    pub addr: SocketAddr,
    /// Connections that came to no link for a fault of the peer's: another CA, rubbish for a hello.
    pub refused: u64,
    /// By peer.
    pub links: Vec<LinkView>,
    /// By swarm.
    pub swarms: Vec<SwarmView>,
}

/// One swarm that the node is in.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SwarmView {
    /// The stream's name; `None` for the directory.
    pub stream: Option<String>,
    /// HyParView's active view, as node ids.
    pub active: Vec<String>,
    /// HyParView's passive view, as node ids.
    pub passive: Vec<String>,
    /// Plumtree's eager peers: the branches of the tree here.
    pub eager: Vec<String>,
    /// Plumtree's lazy peers.
    pub lazy: Vec<String>,
    /// The neighbour that feeds this node, as far as it is known.
    pub parent: Option<String>,
    /// What HyParView has counted.
    pub overlay: overlay::Counters,
    /// What Plumtree has counted; `None` for the directory.
    pub broadcast: Option<broadcast::Stats>,
}

impl From<swarm::SwarmView> for SwarmView {
    fn from(view: swarm::SwarmView) -> Self {
        let peers = |peers: &[Peer]| peers.iter().map(|peer| peer.id.to_string()).collect();
        let ids = |ids: &[NodeId]| ids.iter().map(NodeId::to_string).collect();
        SwarmView {
            stream: view.stream.map(|stream| stream.to_string()),
            active: peers(&view.active),
            passive: peers(&view.passive),
            eager: ids(&view.eager),
            lazy: ids(&view.lazy),
            parent: view.parent.map(|parent| parent.to_string()),
            overlay: view.overlay,
            broadcast: view.broadcast,
        }
    }
}

/// One link.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LinkView {
    /// The peer's id, as sixteen hexadecimal digits.
    pub peer: String,
    /// Its name, as its certificate has it.
    pub name: String,
    /// Where its packets come from.
    pub addr: SocketAddr,
    /// Where it can be dialled.
    pub listen: SocketAddr,
    /// For how long the link is up, in milliseconds.
    pub age_ms: u64,
    /// Round trip in microseconds: the shortest of the newest pings, QUIC's own before the first.
    pub rtt_us: u64,
    /// The peer's clock minus ours in microseconds, once known.
    pub offset_us: Option<i64>,
    /// How far off `offset_us` may be, either way, in microseconds: half the shortest round trip, and what the drift
    /// since may amount to. What a path is longer one way than the other can't be seen, and is within this.
    pub uncertainty_us: Option<u64>,
    /// How much faster the peer's clock goes than ours, in parts per million.
    pub drift_ppm: Option<f64>,
    /// How long the newest body from the peer was under way, first byte to first byte, in microseconds; below zero,
    /// perhaps, within `uncertainty_us`.
    pub transit_us: Option<i64>,
    /// Measured rate of bodies from the peer, in bytes/s; 0 while unknown.
    pub rate: u64,
    /// Bytes of bodies that wait to be sent.
    pub body_queue: usize,
    /// Bytes of control frames that wait to be sent.
    pub control_queue: usize,
    /// Bodies that the peer has whole.
    pub bodies_sent: u64,
    /// Bodies received whole.
    pub bodies_received: u64,
    /// Bodies that the peer has refused.
    pub bodies_stopped: u64,
    /// Bodies that this node has dropped, since the peer is slow: the queue was full, or they expired.
    pub bodies_dropped: u64,
    /// Bodies that this node has refused.
    pub bodies_refused: u64,
    /// Bodies that the peer gave up.
    pub bodies_torn: u64,
    /// Bytes of bodies given to QUIC.
    pub body_bytes_sent: u64,
    /// Bytes of bodies received.
    pub body_bytes_received: u64,
    /// Control frames sent.
    pub control_sent: u64,
    /// Control frames received.
    pub control_received: u64,
    /// UDP bytes sent.
    pub udp_bytes_sent: u64,
    /// UDP bytes received.
    pub udp_bytes_received: u64,
    /// Packets that were lost.
    pub packets_lost: u64,
    /// The path's largest UDP payload in bytes, as found out.
    pub mtu: u16,
}

impl LinkView {
    pub(crate) fn of(shared: &Shared, now: Time) -> Self {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        let counters = &shared.counters;
        let stats = shared.conn.stats();
        let (rtt, offset, drift_ppm) = {
            let clock = shared.clock();
            (clock.rtt(), clock.at(now), clock.drift_ppm())
        };
        LinkView {
            peer: shared.peer.id.to_string(),
            name: shared.name.clone(),
            addr: shared.conn.remote_address(),
            listen: shared.peer.addr,
            age_ms: u64::try_from(now.since(shared.since).as_millis()).unwrap_or(u64::MAX),
            rtt_us: u64::try_from(rtt.unwrap_or(stats.path.rtt).as_micros()).unwrap_or(u64::MAX),
            offset_us: offset.map(|offset| offset.micros),
            uncertainty_us: offset.and_then(|offset| u64::try_from(offset.uncertainty.as_micros()).ok()),
            drift_ppm: drift_ppm.map(|ppm| (ppm * 10.0).round() / 10.0),
            transit_us: Some(shared.newest_transit.load(Relaxed)).filter(|us| *us != TRANSIT_UNKNOWN),
            rate: get(&shared.rate),
            body_queue: shared.body_queue.load(Relaxed),
            control_queue: shared.control_queue.load(Relaxed),
            bodies_sent: get(&counters.bodies_sent),
            bodies_received: get(&counters.bodies_received),
            bodies_stopped: get(&counters.bodies_stopped),
            bodies_dropped: get(&counters.bodies_dropped),
            bodies_refused: get(&counters.bodies_refused),
            bodies_torn: get(&counters.bodies_torn),
            body_bytes_sent: get(&counters.body_bytes_sent),
            body_bytes_received: get(&counters.body_bytes_received),
            control_sent: get(&counters.control_sent),
            control_received: get(&counters.control_received),
            udp_bytes_sent: stats.udp_tx.bytes,
            udp_bytes_received: stats.udp_rx.bytes,
            packets_lost: stats.path.lost_packets,
            mtu: stats.path.current_mtu,
        }
    }
}
