//! HyParView (Leitao, Pereira, Rodrigues, DSN 2007), one instance a swarm.

use std::net::SocketAddr;

use crate::live::NodeId;

/// A node that can be dialled.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Peer {
    /// Its identity, which the handshake proves.
    pub id: NodeId,
    /// Where its mesh endpoint listens.
    pub addr: SocketAddr,
}

/// What can happen to an overlay.
#[derive(Debug, Clone)]
pub enum Input {
    /// `poll_timeout` has passed.
    Timeout,
    /// Join through this node (its address; its identity is learnt from the link).
    Join(Peer),
    /// A control message.
    Message {
        /// Who sent it.
        from: Peer,
        /// What it says.
        message: Message,
    },
    /// The link to this node broke, or a dial to it failed.
    PeerDown {
        /// Who.
        peer: NodeId,
        /// Why.
        cause: DownCause,
    },
    /// The smoothed round trip of the link to this node, in microseconds.
    Rtt {
        /// Who.
        peer: NodeId,
        /// In microseconds.
        rtt_us: u32,
    },
}

/// Why a peer is down. Only some causes purge it from the passive view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownCause {
    /// Nothing listens there, or its identity is another's.
    Refused,
    /// No answer to the dial.
    TimedOut,
    /// The link was lost.
    Lost,
    /// The node said it leaves.
    Left,
}

/// What an overlay wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send a message; the driver dials the peer first where there is no link.
    Send {
        /// To whom.
        to: Peer,
        /// What.
        message: Message,
    },
    /// The active view has a new member.
    NeighborUp(Peer),
    /// The active view has lost a member.
    NeighborDown(NodeId),
}

/// Placeholder
#[derive(Debug, Clone, PartialEq)]
pub enum Message {}
