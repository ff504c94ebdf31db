//! The inputs and outputs of a hub.

use std::net::SocketAddr;

use bytes::Bytes;

use super::archives::{Keeper, Kept};
use super::directory::Entry;
use crate::hyparview::DownCause;
use crate::model::time::Time;
use crate::model::{NodeId, PartHeader, Peer, Record, StreamName, SwarmId, Trace};
use crate::plumtree::{BodyAction, BodyEvent};

/// An input of a [`Hub`](super::hub::Hub). Control frames are bytes; a simulator may use another type.
#[derive(Debug, Clone)]
pub enum Input<F = Bytes> {
    /// `poll_timeout` has passed.
    Timeout,
    /// A link is up, whichever end dialled.
    LinkUp {
        /// The peer, with the address that it listens at.
        peer: Peer,
        /// The address of the [`Output::Dial`] that this answers, if any. A contact may be dialled at another address
        /// than the one it names itself.
        dialled: Option<SocketAddr>,
    },
    /// The link to a peer is gone.
    LinkDown {
        /// The peer.
        peer: NodeId,
        /// The reason.
        cause: DownCause,
    },
    /// A dial has failed.
    DialFailed {
        /// The address that was dialled.
        addr: SocketAddr,
        /// The peer expected there, if known.
        peer: Option<NodeId>,
        /// The reason.
        cause: DownCause,
    },
    /// The link to a peer has been measured.
    LinkEstimate {
        /// The peer.
        peer: NodeId,
        /// Smoothed round trip in microseconds.
        rtt_us: u32,
        /// Measured rate of bodies from it, in bytes/s; 0 while unknown.
        rate: u64,
    },
    /// A frame has come over a link's control stream.
    Control {
        /// The peer that sent it.
        from: NodeId,
        /// The frame, as [`SwarmFrame::encode`](super::frame::SwarmFrame::encode) made it.
        frame: F,
    },
    /// A body of a swarm moves, or stops, on the link to a peer.
    Body {
        /// The peer at the other end of the link.
        peer: NodeId,
        /// The swarm that the body belongs to.
        swarm: SwarmId,
        /// The change of the body.
        event: BodyEvent,
    },
    /// This node ingests the stream of this record. The hub announces and refreshes its entry, and joins its swarm.
    Claim(Record),
    /// This node has packaged a part.
    Publish {
        /// The stream that the part belongs to.
        stream: StreamName,
        /// The part's header.
        header: PartHeader,
        /// The part's body.
        body: Bytes,
        /// The trace: the time of packaging, and no hop so far.
        trace: Trace,
    },
    /// This node's DVR holds these for others to fetch. Repeat it every few seconds, since notices die.
    Keep {
        /// The content that it holds of each stream.
        kept: Vec<Kept>,
        /// Rises with each `Keep`, across restarts too: the wallclock in microseconds.
        stamp: u64,
    },
    /// This node leaves, and tells its neighbours.
    Leave,
}

/// An output of a [`Hub`](super::hub::Hub): what the driver does next.
#[derive(Debug, Clone, PartialEq)]
pub enum Output<F = Bytes> {
    /// Make a link. Answered by `LinkUp` or `DialFailed`.
    Dial {
        /// The address to dial.
        addr: SocketAddr,
        /// The peer expected there, if known.
        peer: Option<NodeId>,
    },
    /// Close the link to this peer: no swarm needs it any more.
    Close(NodeId),
    /// Send a frame on the link's control stream.
    Control {
        /// The peer that gets it.
        to: NodeId,
        /// The encoded frame, without the link's own length prefix.
        frame: F,
    },
    /// Change a body that is on its way to or from a peer.
    Body {
        /// The peer at the other end of the link.
        peer: NodeId,
        /// The swarm that the body belongs to.
        swarm: SwarmId,
        /// The order to the link.
        action: BodyAction,
        /// After this a head is worth nothing: the link drops the body from its queue.
        expires: Time,
    },
    /// The record of a stream is new or newer.
    Record(Box<Record>),
    /// A part is here, whole and checked.
    Deliver {
        /// The stream that the part belongs to.
        stream: StreamName,
        /// The part's header.
        header: PartHeader,
        /// The part's body.
        body: Bytes,
        /// The part's hops to this node; none at the ingest node.
        trace: Trace,
        /// The arrival of its first byte.
        received: Time,
    },
    /// A stream is new in the directory, or its entry names another presentation or epoch.
    Announced(Entry),
    /// The nodes that hold what has left a stream's window have changed, or have refreshed their notices.
    Kept {
        /// The name of the stream.
        stream: StreamName,
        /// All such nodes but this one.
        keepers: Vec<Keeper>,
    },
    /// A stream's entry is gone from the directory: nobody has refreshed it for 15 s.
    Expired(StreamName),
}
