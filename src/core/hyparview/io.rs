//! The inputs, outputs and counters of an overlay.

use super::message::Message;
use crate::model::{NodeId, Peer};

/// An input of an overlay.
#[derive(Debug, Clone)]
pub enum Input {
    /// `poll_timeout` has passed.
    Timeout,
    /// Join through this node (its address; its identity is learnt from the link). In a static
    /// topology: this is one of the peers named.
    Join(Peer),
    /// A control message.
    Message {
        /// The sender.
        from: Peer,
        /// The message.
        message: Message,
    },
    /// The link to this node broke, or a dial to it failed.
    PeerDown {
        /// The node.
        peer: NodeId,
        /// The reason.
        cause: DownCause,
    },
    /// The smoothed round trip of the link to this node, in microseconds.
    Rtt {
        /// The node.
        peer: NodeId,
        /// The round trip, in microseconds.
        rtt_us: u32,
    },
    /// This node leaves: its neighbours are told, and nothing more is asked or accepted.
    Leave,
}

/// The reason why a peer is down. Only some purge it from the passive view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownCause {
    /// Nothing listens there, or a node with another identity.
    Refused,
    /// No answer to the dial.
    TimedOut,
    /// The link was lost.
    Lost,
    /// The node said it leaves.
    Left,
}

/// An output of an overlay.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send a message; the driver dials the peer first where there is no link, unless the message is
    /// one that only matters over a link ([`Message::wants_dial`]).
    Send {
        /// The receiver.
        to: Peer,
        /// The message.
        message: Message,
    },
    /// The active view has a new member.
    NeighborUp(Peer),
    /// The active view has lost a member.
    NeighborDown(NodeId),
    /// Ask the bootstrap addresses, or some of them: give [`Input::Join`] for whoever answers there.
    /// Repeated with backoff for as long as there are too few neighbours.
    Bootstrap,
}

/// The counters of an overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Counters {
    /// Requests sent to become a neighbour: JOIN and NEIGHBOR.
    pub requests: u64,
    /// Requests of ours that were refused.
    pub refusals: u64,
    /// Requests of ours that failed or weren't answered.
    pub failures: u64,
    /// Neighbours won.
    pub ups: u64,
    /// Neighbours lost with their links.
    pub losses: u64,
    /// Neighbours dropped by us to make room, and by them.
    pub drops: u64,
    /// Neighbours that turned out not to have us.
    pub one_sided: u64,
    /// SHUFFLEs sent.
    pub shuffles: u64,
}
