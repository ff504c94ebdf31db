//! The view of a mesh for the API: `/api/v1/swarm`.

use std::net::SocketAddr;

use damson_core::model::time::Time;
use damson_core::model::{NodeId, Peer, StreamName};
use damson_core::swarm::SwarmView;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::link_state::LinkState;

/// A node's links and swarms at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// This node's id, as sixteen hexadecimal digits.
    pub node: String,
    /// Its name.
    pub name: String,
    /// The address at which it can be dialled.
    pub addr: SocketAddr,
    /// Connections that failed through a fault of the peer, such as another CA or a bad hello.
    pub refused: u64,
    /// The links, by peer.
    pub links: Vec<LinkView>,
    /// The swarms.
    #[serde(serialize_with = "swarms")]
    pub swarms: Vec<SwarmView>,
}

/// Writes the swarms as the API shows them: nodes by their ids, streams by their names.
fn swarms<S: Serializer>(swarms: &[SwarmView], serializer: S) -> Result<S::Ok, S::Error> {
    let peers = |peers: &[Peer]| peers.iter().map(|peer| peer.id.to_string()).collect::<Vec<_>>();
    let ids = |ids: &[NodeId]| ids.iter().map(NodeId::to_string).collect::<Vec<_>>();
    serializer.collect_seq(swarms.iter().map(|swarm| {
        json!({
            "stream": swarm.stream.as_ref().map(StreamName::as_str),
            "active": peers(&swarm.active),
            "passive": peers(&swarm.passive),
            "eager": ids(&swarm.eager),
            "lazy": ids(&swarm.lazy),
            "parent": swarm.parent.map(|parent| parent.to_string()),
            "overlay": swarm.overlay,
            "broadcast": swarm.broadcast,
        })
    }))
}

/// A link.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LinkView {
    /// The peer's id, as sixteen hexadecimal digits.
    pub peer: String,
    /// The node's name, from its certificate.
    pub name: String,
    /// The address that its packets come from.
    pub addr: SocketAddr,
    /// The address at which it can be dialled.
    pub listen: SocketAddr,
    /// The link's age in milliseconds.
    pub age_ms: u64,
    /// The round trip in microseconds: the shortest of the newest pings; before the first one, QUIC's own.
    pub rtt_us: u64,
    /// The peer's clock minus ours in microseconds, if it is known.
    pub offset_us: Option<i64>,
    /// The uncertainty of `offset_us`, either way, in microseconds: half the shortest round trip, and the possible drift since. If the
    /// path is longer one way than the other, that can't be seen, and is within this.
    pub uncertainty_us: Option<u64>,
    /// The drift of the peer's clock from ours, in parts per million; above zero if it goes faster.
    pub drift_ppm: Option<f64>,
    /// The transit of the newest body from the peer, first byte to first byte, in microseconds. It may be negative within
    /// `uncertainty_us`.
    pub transit_us: Option<i64>,
    /// Bytes of bodies that wait to be sent.
    pub body_queue: usize,
    /// The counts since the link came up, and the queue's and the rate's gauges, each by its name.
    #[serde(flatten)]
    pub counters: Value,
    /// UDP bytes sent.
    pub udp_bytes_sent: u64,
    /// UDP bytes received.
    pub udp_bytes_received: u64,
    /// Packets lost.
    pub packets_lost: u64,
    /// The path's largest UDP payload in bytes, as probed.
    pub mtu: u16,
}

impl LinkView {
    pub(crate) fn of(state: &LinkState, body_queue: usize, now: Time) -> Self {
        let stats = state.conn.stats();
        let clock = state.clock.lock();
        let (rtt, offset, drift_ppm) = (clock.rtt(), clock.at(now), clock.drift_ppm());
        LinkView {
            peer: state.peer.id.to_string(),
            name: state.name.clone(),
            addr: state.conn.remote_address(),
            listen: state.peer.addr,
            age_ms: u64::try_from(now.since(state.since).as_millis()).unwrap_or(u64::MAX),
            rtt_us: u64::try_from(rtt.unwrap_or(stats.path.rtt).as_micros()).unwrap_or(u64::MAX),
            offset_us: offset.map(|offset| offset.micros),
            uncertainty_us: offset.and_then(|offset| u64::try_from(offset.uncertainty.as_micros()).ok()),
            drift_ppm: drift_ppm.map(|ppm| (ppm * 10.0).round() / 10.0),
            transit_us: *state.newest_transit.lock(),
            body_queue,
            // These are plain numbers: this can't fail.
            counters: serde_json::to_value(&state.counters).unwrap_or_default(),
            udp_bytes_sent: stats.udp_tx.bytes,
            udp_bytes_received: stats.udp_rx.bytes,
            packets_lost: stats.path.lost_packets,
            mtu: stats.path.current_mtu,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use damson_core::model::SwarmId;

    #[test]
    fn a_swarm_is_shown_by_names_and_ids() {
        let peer = |id| Peer { id: NodeId(id), addr: ([127, 0, 0, 1], 1).into() };
        let swarm = SwarmView {
            id: SwarmId::DIRECTORY,
            stream: StreamName::parse("cam1").ok(),
            active: vec![peer(1), peer(2)],
            passive: Vec::new(),
            eager: vec![NodeId(1)],
            lazy: vec![NodeId(2)],
            parent: Some(NodeId(0xabc)),
            overlay: Default::default(),
            broadcast: None,
        };
        let (node, name, addr) = ("7".to_owned(), "a".to_owned(), ([127, 0, 0, 1], 2).into());
        let shown = Snapshot { node, name, addr, refused: 0, links: Vec::new(), swarms: vec![swarm] };
        let json = serde_json::to_value(shown).expect("plain data");
        let swarm = &json["swarms"][0];
        assert_eq!(swarm["stream"], "cam1");
        assert_eq!(swarm["active"], json!(["0000000000000001", "0000000000000002"]));
        assert_eq!((&swarm["eager"][0], &swarm["lazy"][0]), (&swarm["active"][0], &swarm["active"][1]));
        assert_eq!(swarm["parent"], "0000000000000abc");
        assert!(swarm["broadcast"].is_null() && swarm["overlay"].is_object() && swarm["id"].is_null());
    }
}
