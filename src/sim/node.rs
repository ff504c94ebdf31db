//! What the network asks of a core.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;

use damson_core::hyparview::DownCause;
use damson_core::model::Peer;
use damson_core::model::time::Time;
use damson_core::model::{NodeId, PartHeader, PartId, StreamName, SwarmId, Trace};
use damson_core::plumtree::{Sizes, Stats};
use damson_core::swarm;

/// The port that every simulated node listens at.
const PORT: u16 = 4_433;

/// The node with this index: its id is the index + 1, its address 10.x.y.z.
pub(super) fn peer(index: u32) -> Peer {
    let [_, a, b, c] = index.to_be_bytes();
    Peer { id: NodeId(u64::from(index) + 1), addr: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, a, b, c)), PORT) }
}

/// The index of a node.
pub(super) fn index(id: NodeId) -> Option<u32> {
    u32::try_from(id.0.checked_sub(1)?).ok()
}

/// The index of the node at an address.
pub(super) fn index_at(addr: SocketAddr) -> Option<u32> {
    match addr.ip() {
        IpAddr::V4(ip) => {
            let [_, a, b, c] = ip.octets();
            Some(u32::from_be_bytes([0, a, b, c]))
        }
        IpAddr::V6(_) => None,
    }
}

/// What happens to a node; as [`swarm::Input`].
#[derive(Debug, Clone)]
pub enum In<F> {
    /// `poll_timeout` has passed.
    Timeout,
    /// A link is up.
    LinkUp {
        /// To whom.
        peer: Peer,
        /// The address dialled, if this node did.
        dialled: Option<SocketAddr>,
    },
    /// A link is gone.
    LinkDown {
        /// To whom.
        peer: NodeId,
        /// Why.
        cause: DownCause,
    },
    /// A dial came to nothing.
    DialFailed {
        /// Where to.
        addr: SocketAddr,
        /// Whom it was to reach.
        peer: Option<NodeId>,
        /// Why.
        cause: DownCause,
    },
    /// What a link is like.
    Estimate {
        /// To whom.
        peer: NodeId,
        /// Round trip in microseconds.
        rtt_us: u32,
        /// Rate of bodies in bytes/s; 0 while unknown.
        rate: u64,
    },
    /// A control frame.
    Frame {
        /// From whom.
        from: NodeId,
        /// What.
        frame: F,
    },
    /// A body begins.
    Head {
        /// From whom.
        from: NodeId,
        /// In which swarm.
        swarm: SwarmId,
        /// Header and way.
        head: Box<(PartHeader, Trace)>,
        /// Where its pieces start.
        offset: u32,
    },
    /// The next bytes of a body.
    Piece {
        /// From whom.
        from: NodeId,
        /// In which swarm.
        swarm: SwarmId,
        /// Which body.
        id: PartId,
        /// The bytes.
        bytes: Bytes,
    },
    /// A body ends early.
    Torn {
        /// From whom.
        from: NodeId,
        /// In which swarm.
        swarm: SwarmId,
        /// Which body.
        id: PartId,
    },
    /// A body is refused, or was dropped from the queue.
    Stopped {
        /// By whom.
        to: NodeId,
        /// In which swarm.
        swarm: SwarmId,
        /// Which body.
        id: PartId,
    },
    /// The node leaves.
    Leave,
}

/// What a node wants done; as [`swarm::Output`].
#[derive(Debug, Clone)]
pub enum Out<F> {
    /// Make a link.
    Dial {
        /// Where to.
        addr: SocketAddr,
        /// Whom to find there.
        peer: Option<NodeId>,
    },
    /// Close one.
    Close {
        /// To whom.
        peer: NodeId,
    },
    /// Send a control frame.
    Frame {
        /// To whom.
        to: NodeId,
        /// What.
        frame: F,
    },
    /// Begin a body.
    Head {
        /// To whom.
        to: NodeId,
        /// In which swarm.
        swarm: SwarmId,
        /// Header and way.
        head: Box<(PartHeader, Trace)>,
        /// Where its pieces start.
        offset: u32,
        /// When it is worth nothing.
        expires: Time,
    },
    /// Go on with it.
    Piece {
        /// To whom.
        to: NodeId,
        /// In which swarm.
        swarm: SwarmId,
        /// Which body.
        id: PartId,
        /// The bytes.
        bytes: Bytes,
    },
    /// End it early.
    Abort {
        /// To whom.
        to: NodeId,
        /// In which swarm.
        swarm: SwarmId,
        /// Which body.
        id: PartId,
    },
    /// Refuse one.
    Refuse {
        /// From whom.
        from: NodeId,
        /// In which swarm.
        swarm: SwarmId,
        /// Which body.
        id: PartId,
    },
    /// A body is here.
    Deliver {
        /// In which swarm.
        swarm: SwarmId,
        /// Its header.
        header: Box<PartHeader>,
        /// Its bytes.
        body: Bytes,
        /// How many links it passed.
        hops: u8,
    },
}

/// What the checkers look at.
#[derive(Debug, Clone, Default)]
pub struct Glance {
    /// The active view.
    pub active: Vec<NodeId>,
    /// Its members whose link is eager.
    pub eager: Vec<NodeId>,
    /// The passive view's size.
    pub passive: usize,
    /// What the broadcast remembers.
    pub sizes: Option<Sizes>,
    /// What it has done.
    pub stats: Option<Stats>,
}

/// A core that the network can drive.
pub trait Node {
    /// A control frame.
    type Frame: Clone;

    /// Takes what has happened.
    fn handle(&mut self, now: Time, input: In<Self::Frame>);

    /// The next thing to do, until `None`.
    fn poll_output(&mut self) -> Option<Out<Self::Frame>>;

    /// When [`In::Timeout`] is due.
    fn poll_timeout(&self) -> Option<Time>;

    /// Makes a part.
    fn publish(&mut self, now: Time, header: PartHeader, body: Bytes);

    /// How it is with the stream's swarm.
    fn glance(&self) -> Glance;

    /// Panics where a promise of its views is broken.
    fn check_invariants(&self) {}

    /// A frame's length on the wire, in bytes.
    fn frame_len(frame: &Self::Frame) -> usize;
}

/// The stream that simulated hubs carry.
pub(super) fn stream_name() -> StreamName {
    StreamName::parse("cam1").expect("a valid name")
}

impl Node for swarm::Hub {
    type Frame = Bytes;

    fn handle(&mut self, now: Time, input: In<Bytes>) {
        let input = match input {
            In::Timeout => swarm::Input::Timeout,
            In::LinkUp { peer, dialled } => swarm::Input::LinkUp { peer, dialled },
            In::LinkDown { peer, cause } => swarm::Input::LinkDown { peer, cause },
            In::DialFailed { addr, peer, cause } => swarm::Input::DialFailed { addr, peer, cause },
            In::Estimate { peer, rtt_us, rate } => swarm::Input::LinkEstimate { peer, rtt_us, rate },
            In::Frame { from, frame } => swarm::Input::Control { from, frame },
            In::Head { from, swarm, head, offset } => {
                let (header, trace) = *head;
                swarm::Input::BodyHead { from, swarm, header, trace, offset }
            }
            In::Piece { from, swarm, id, bytes } => swarm::Input::BodyPiece { from, swarm, id, bytes },
            In::Torn { from, swarm, id } => swarm::Input::BodyTorn { from, swarm, id },
            In::Stopped { to, swarm, id } => swarm::Input::BodyStopped { to, swarm, id },
            In::Leave => swarm::Input::Leave,
        };
        swarm::Hub::handle(self, now, input);
    }

    fn poll_output(&mut self) -> Option<Out<Bytes>> {
        loop {
            return Some(match swarm::Hub::poll_output(self)? {
                swarm::Output::Dial { addr, peer } => Out::Dial { addr, peer },
                swarm::Output::Close { peer } => Out::Close { peer },
                swarm::Output::Control { to, frame } => Out::Frame { to, frame },
                swarm::Output::BodyHead { to, swarm, header, trace, offset, expires, .. } => {
                    Out::Head { to, swarm, head: Box::new((header, trace)), offset, expires }
                }
                swarm::Output::BodyPiece { to, swarm, id, bytes } => Out::Piece { to, swarm, id, bytes },
                swarm::Output::BodyAbort { to, swarm, id } => Out::Abort { to, swarm, id },
                swarm::Output::BodyRefuse { from, swarm, id } => Out::Refuse { from, swarm, id },
                swarm::Output::Deliver { stream, header, body, trace, .. } => Out::Deliver {
                    swarm: SwarmId::of(&stream),
                    header: Box::new(header),
                    body,
                    hops: u8::try_from(trace.hops.len()).unwrap_or(u8::MAX),
                },
                swarm::Output::Record { .. }
                | swarm::Output::Announced { .. }
                | swarm::Output::Kept { .. }
                | swarm::Output::Expired { .. } => continue,
            });
        }
    }

    fn poll_timeout(&self) -> Option<Time> {
        swarm::Hub::poll_timeout(self)
    }

    fn publish(&mut self, now: Time, header: PartHeader, body: Bytes) {
        swarm::Hub::handle(
            self,
            now,
            swarm::Input::Publish { stream: stream_name(), header, body, trace: Trace::default() },
        );
    }

    fn glance(&self) -> Glance {
        let id = SwarmId::of(&stream_name());
        let view = self.swarms().find(|view| view.id == id).or_else(|| self.swarms().next());
        let Some(view) = view else { return Glance::default() };
        Glance {
            active: view.active.iter().map(|peer| peer.id).collect(),
            eager: view.eager,
            passive: view.passive.len(),
            sizes: self.sizes(id),
            stats: view.broadcast,
        }
    }

    fn check_invariants(&self) {
        swarm::Hub::check_invariants(self);
    }

    fn frame_len(frame: &Bytes) -> usize {
        frame.len()
    }
}
