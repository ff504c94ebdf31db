//! HyParView (Leitao, Pereira, Rodrigues: "HyParView: a membership protocol for reliable gossip-based
//! broadcast", DSN 2007), one instance a swarm.
//!
//! A node holds two partial views. The *active view* is small and symmetric: its members are the
//! neighbours that Plumtree sends to, each over an open link. The *passive view* is a larger list of
//! nodes that can take a failed neighbour's place, and shuffles keep it fresh.
//!
//! - [`HyParView`]: the algorithm, a file for each of its parts (`join`, `neighbor`, `shuffle`), and its
//!   departures from the paper, each marked where it happens.
//! - [`Config`]: every figure with its origin, and the switches back to the paper's rules.
//! - [`Message`]: what nodes say, and its codec.
//! - `departures`: the longer ones. `views`: the two views. `book`: who was met besides. `timer`: the named deadlines.
//!
//! The contract: after every [`HyParView::handle`], drain [`HyParView::poll_output`] until `None`;
//! then wait for the next input or [`HyParView::poll_timeout`], whose passing is told by
//! [`Input::Timeout`]. For each [`Output::Send`] to a peer that can't be reached the driver answers
//! with [`Input::PeerDown`], also for one that asked for nothing in return.
//!
//! Active views are symmetric whenever the network is quiet, by three rules over links that keep the
//! order: who accepts a request adds the asker before it answers; the asker adds on the answer, or,
//! where it has no room any more, answers Disconnect; and nobody drops a live neighbour without
//! a Disconnect. Where messages are lost, the audit mends what that leaves ([`Config::audit_interval`]).

mod book;
mod config;
mod departures;
mod hyparview;
mod join;
mod message;
mod neighbor;
mod shuffle;
mod timer;
mod views;

#[cfg(test)]
mod tests;

use crate::model::Peer;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{BufMut, BytesMut};

pub use config::{Config, STATIC_ACTIVE_MAX, Topology};
pub use hyparview::{Counters, HyParView};
pub use message::{Message, NODES_MAX, Priority};

use crate::model::NodeId;
use crate::model::wire::{Fault, Reader, WireError};

/// What can happen to an overlay.
#[derive(Debug, Clone)]
pub enum Input {
    /// `poll_timeout` has passed.
    Timeout,
    /// Join through this node (its address; its identity is learnt from the link). In a static
    /// topology: this is one of the peers named.
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
    /// This node leaves: its neighbours are told, and nothing more is asked or accepted.
    Leave,
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
    /// Send a message; the driver dials the peer first where there is no link, unless the message is
    /// one that only matters over a link ([`Message::wants_dial`]).
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
    /// Ask the bootstrap addresses, or some of them: give [`Input::Join`] for whoever answers there.
    /// Repeated with backoff for as long as there are too few neighbours.
    Bootstrap,
}
