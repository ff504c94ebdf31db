//! The messages between the nodes of an overlay, and their encoding.

use bytes::{BufMut, BytesMut};

use crate::model::wire::{Fault, Reader, WireError};
use crate::model::{Peer, wire};

/// The longest list of nodes in a message. A shuffle carries 1 + ka + kp = 8 of them.
pub const NODES_MAX: usize = 32;

/// The sender's need of the link, in a NEIGHBOR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// "A node sends a high priority request if it has no elements in its active view" (paper, 4.3).
    High,
    /// Any other: accepted only where a slot is free.
    Low,
    /// Not in the paper: exchanges one link for another, so that islands merge.
    Rotate,
    /// Not in the paper (after X-BOT): the link would be a near one.
    Near {
        /// The round trip as the sender measured it, in microseconds.
        rtt_us: u32,
    },
}

/// A message between two nodes. Names are the paper's; the last two aren't in it.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// The sender is new; the receiver is its contact.
    Join,
    /// A random walk that takes a new node to neighbours farther away.
    ForwardJoin {
        /// The new node.
        peer: Peer,
        /// Steps left.
        ttl: u8,
    },
    /// A request to become neighbours. A neighbour accepts it, too.
    Neighbor {
        /// The sender's need.
        priority: Priority,
    },
    /// The answer to [`Message::Neighbor`] and [`Message::Join`].
    NeighborReply {
        /// Whether the sender of this has the receiver in its active view now.
        accepted: bool,
        /// Others to ask (not in the paper); at most [`NODES_MAX`].
        others: Vec<Peer>,
    },
    /// The sender has dropped the receiver from its active view.
    Disconnect,
    /// A sample of the origin's views on a random walk.
    Shuffle {
        /// The node that sampled its views, and gets the answer.
        origin: Peer,
        /// Steps left.
        ttl: u8,
        /// The sample; at most [`NODES_MAX`].
        nodes: Vec<Peer>,
    },
    /// A sample in return, straight to the origin.
    ShuffleReply {
        /// The sample; at most [`NODES_MAX`].
        nodes: Vec<Peer>,
    },
    /// Measures the round trip to a candidate neighbour (not in the paper).
    Ping {
        /// A number that the answer returns.
        stamp: u64,
    },
    /// The answer to [`Message::Ping`].
    Pong {
        /// The ping's number.
        stamp: u64,
    },
}

impl Message {
    /// Returns whether it is worth a dial where there is no link. Some messages undo or answer something that only a
    /// link carries: without a link there's nothing to undo.
    pub fn wants_dial(&self) -> bool {
        !matches!(self, Message::NeighborReply { .. } | Message::Disconnect | Message::Pong { .. })
    }

    /// Appends the message.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Message::Join => out.put_u8(1),
            Message::ForwardJoin { peer, ttl } => {
                out.put_u8(2);
                peer.encode(out);
                out.put_u8(*ttl);
            }
            Message::Neighbor { priority } => {
                out.put_u8(3);
                match priority {
                    Priority::High => out.put_u8(0),
                    Priority::Low => out.put_u8(1),
                    Priority::Rotate => out.put_u8(2),
                    Priority::Near { rtt_us } => {
                        out.put_u8(3);
                        out.put_u32(*rtt_us);
                    }
                }
            }
            Message::NeighborReply { accepted, others } => {
                out.put_u8(4);
                out.put_u8(u8::from(*accepted));
                put_nodes(out, others);
            }
            Message::Disconnect => out.put_u8(5),
            Message::Shuffle { origin, ttl, nodes } => {
                out.put_u8(6);
                origin.encode(out);
                out.put_u8(*ttl);
                put_nodes(out, nodes);
            }
            Message::ShuffleReply { nodes } => {
                out.put_u8(7);
                put_nodes(out, nodes);
            }
            Message::Ping { stamp } => {
                out.put_u8(8);
                out.put_u64(*stamp);
            }
            Message::Pong { stamp } => {
                out.put_u8(9);
                out.put_u64(*stamp);
            }
        }
    }

    /// Reads a message; `None` where it is one of a newer version that we don't know.
    pub fn decode(r: &mut Reader) -> Result<Option<Self>, WireError> {
        let message = match r.u8("overlay message")? {
            1 => Message::Join,
            2 => Message::ForwardJoin { peer: Peer::decode(r)?, ttl: r.u8("ttl")? },
            3 => {
                let priority = match r.u8("priority")? {
                    0 => Priority::High,
                    1 => Priority::Low,
                    2 => Priority::Rotate,
                    3 => Priority::Near { rtt_us: r.u32("round trip")? },
                    _ => return Err(r.fault("priority", Fault::Invalid)),
                };
                Message::Neighbor { priority }
            }
            4 => Message::NeighborReply { accepted: r.u8("accepted")? != 0, others: nodes(r)? },
            5 => Message::Disconnect,
            6 => Message::Shuffle { origin: Peer::decode(r)?, ttl: r.u8("ttl")?, nodes: nodes(r)? },
            7 => Message::ShuffleReply { nodes: nodes(r)? },
            8 => Message::Ping { stamp: r.u64("stamp")? },
            9 => Message::Pong { stamp: r.u64("stamp")? },
            // 10 was a message of older nodes.
            _ => return Ok(None),
        };
        Ok(Some(message))
    }
}

fn put_nodes(out: &mut BytesMut, nodes: &[Peer]) {
    debug_assert!(nodes.len() <= NODES_MAX, "our own lists are bounded");
    wire::put_count(out, nodes.len());
    for node in nodes {
        node.encode(out);
    }
}

fn nodes(r: &mut Reader) -> Result<Vec<Peer>, WireError> {
    let n = r.count(NODES_MAX, Peer::WIRE_LEN_MIN, "nodes")?;
    (0..n).map(|_| Peer::decode(r)).collect()
}
