//! The interface between the network and a core.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use damson_core::model::time::Time;
use damson_core::model::{NodeId, Peer, StreamName, SwarmId};
use damson_core::plumtree::{Counters, Sizes};
use damson_core::swarm::{Hub, Input, Output};

/// The port that every simulated node listens at.
const PORT: u16 = 4_433;

/// Returns the node with this index: its id is the index + 1, its address 10.x.y.z.
pub(super) fn peer(index: u32) -> Peer {
    let ip = Ipv4Addr::from_bits(10 << 24 | index);
    Peer { id: NodeId(u64::from(index) + 1), addr: SocketAddr::new(ip.into(), PORT) }
}

/// Returns the index of a node.
pub(super) fn index(id: NodeId) -> Option<u32> {
    u32::try_from(id.0.checked_sub(1)?).ok()
}

/// Returns the index of the node at an address.
pub(super) fn index_at(addr: SocketAddr) -> Option<u32> {
    let IpAddr::V4(ip) = addr.ip() else { return None };
    Some(ip.to_bits() & 0xff_ffff)
}

/// The state of a node that the checkers look at.
#[derive(Debug, Clone, Default)]
pub struct Glance {
    /// The active view.
    pub active: Vec<NodeId>,
    /// The members whose link is eager.
    pub eager: Vec<NodeId>,
    /// The sizes of the broadcast's queues and sets.
    pub sizes: Option<Sizes>,
    /// The broadcast's counters.
    pub stats: Option<Counters>,
}

/// A core that the network can drive, as it drives a [`Hub`].
pub trait Node {
    /// A control frame.
    type Frame: Clone;

    /// Takes an input.
    fn handle(&mut self, now: Time, input: Input<Self::Frame>);

    /// Returns the next output, until `None`.
    fn poll_output(&mut self) -> Option<Output<Self::Frame>>;

    /// Returns the time at which [`Input::Timeout`] is due.
    fn poll_timeout(&self) -> Option<Time>;

    /// Returns the state of the first stream's swarm.
    fn glance(&self) -> Glance;

    /// Changes the bootstrap addresses, if the core can.
    fn set_contacts(&mut self, _contacts: Vec<Peer>) {}

    /// Changes the upload budget, if the core can.
    fn set_upload(&mut self, _upload: Option<u64>) {}

    /// Panics where an invariant of the core is broken.
    fn check_invariants(&self) {}
}

/// Returns the name of the first stream.
pub(super) fn stream_name() -> StreamName {
    StreamName::parse("cam1").expect("a valid name")
}

impl Node for Hub {
    type Frame = Bytes;

    fn handle(&mut self, now: Time, input: Input) {
        Hub::handle(self, now, input);
    }

    fn poll_output(&mut self) -> Option<Output> {
        Hub::poll_output(self)
    }

    fn poll_timeout(&self) -> Option<Time> {
        Hub::poll_timeout(self)
    }

    fn glance(&self) -> Glance {
        let id = SwarmId::of(&stream_name());
        let view = self.swarms().find(|view| view.id == id).or_else(|| self.swarms().next());
        let Some(view) = view else { return Glance::default() };
        Glance {
            active: view.active.iter().map(|peer| peer.id).collect(),
            eager: view.eager,
            sizes: self.sizes(id),
            stats: view.broadcast,
        }
    }

    fn check_invariants(&self) {
        Hub::check_invariants(self);
    }
}
