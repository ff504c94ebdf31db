//! The inputs and outputs of a [`Plumtree`](super::plumtree::Plumtree).

use bytes::Bytes;

use super::message::Message;
use crate::model::time::Time;
use crate::model::{Msn, NodeId, PartHeader, PartId, Trace, TrackId};

/// Bodies travel in pieces of at most this many bytes.
pub const PIECE_LEN_MAX: usize = 64 << 10;

/// An event of one body on one link.
#[derive(Debug, Clone)]
pub enum BodyEvent {
    /// The peer begins to send a body. Pieces follow in order.
    Head {
        /// The header of the body.
        header: PartHeader,
        /// The hops so far, the link just passed included.
        trace: Trace,
        /// The offset of the first piece: above 0 where a torn transfer is resumed.
        offset: u32,
    },
    /// The peer has sent the next bytes of a body. The header's length tells the last piece.
    Piece {
        /// The id of the body.
        id: PartId,
        /// At most [`PIECE_LEN_MAX`] bytes.
        bytes: Bytes,
    },
    /// The peer gave the body up, or it expired there, before its last piece.
    Torn(PartId),
    /// The peer refuses the body that we send it (QUIC STOP_SENDING), or our own link queue has dropped it.
    Stopped(PartId),
}

/// A change to one body on one link.
#[derive(Debug, Clone, PartialEq)]
pub enum BodyAction {
    /// Opens a stream and sends the head. The driver adds this node's hop to the trace when the first byte leaves.
    Head {
        /// The header of the body.
        header: PartHeader,
        /// The hops up to this node.
        trace: Trace,
        /// The offset of the first piece.
        offset: u32,
        /// The arrival of the first byte at this node (at the ingest node: the publication). Dwell counts from here.
        received: Time,
    },
    /// Sends the next bytes of a body whose head was sent.
    Piece {
        /// The id of the body.
        id: PartId,
        /// At most [`PIECE_LEN_MAX`] bytes.
        bytes: Bytes,
    },
    /// Resets the stream to the peer: the body can't be finished.
    Abort(PartId),
    /// Stops the stream from the peer (QUIC STOP_SENDING): a duplicate, a stranger's body or a stale one.
    Refuse(PartId),
}

/// An input of a [`Plumtree`](super::plumtree::Plumtree).
#[derive(Debug, Clone)]
pub enum Input {
    /// [`Plumtree::poll_timeout`](super::plumtree::Plumtree::poll_timeout) has passed.
    Timeout,
    /// The overlay has a new neighbour.
    NeighborUp(NodeId),
    /// The overlay has lost or dropped a neighbour. Its transfers both ways are torn.
    NeighborDown(NodeId),
    /// This node has packaged a part (or the record, under [`TrackId::RECORD`]).
    Publish {
        /// The part's header.
        header: PartHeader,
        /// Its body, of `header.length` bytes.
        body: Bytes,
        /// The trace: the time of packaging, and no hop so far.
        trace: Trace,
    },
    /// A control message.
    Message {
        /// The node that sent it; any node may.
        from: NodeId,
        /// The message.
        message: Message,
    },
    /// A body moves, or stops, on the link to a peer.
    Body {
        /// The peer at the other end of the link.
        peer: NodeId,
        /// The change of the body.
        event: BodyEvent,
    },
    /// The link to a neighbour has been measured; for the graft timers.
    LinkEstimate {
        /// The neighbour.
        peer: NodeId,
        /// Smoothed round trip in microseconds.
        rtt_us: u32,
        /// Measured rate of bodies from it, in bytes/s; 0 while unknown.
        rate: u64,
    },
    /// The window has let go of everything of `track` below `before`. This node neither holds, serves nor wants it.
    Forget {
        /// The track.
        track: TrackId,
        /// The oldest segment still held.
        before: Msn,
    },
}

/// An output of a [`Plumtree`](super::plumtree::Plumtree): what the driver does next.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send a control message, ahead of all bodies.
    Send {
        /// The node that gets it.
        to: NodeId,
        /// The message.
        message: Message,
    },
    /// Change a body that is on its way to or from a peer.
    Body {
        /// The peer at the other end of the link.
        peer: NodeId,
        /// The order to the link.
        action: BodyAction,
    },
    /// A body is whole, and its hash is right. Each id comes once.
    Deliver {
        /// The part's header.
        header: PartHeader,
        /// The part's body.
        body: Bytes,
        /// The part's hops to this node; none at the ingest node.
        trace: Trace,
        /// The arrival of its first byte.
        received: Time,
    },
}

/// The start of a transfer to a neighbour.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) header: PartHeader,
    /// The hops up to this node.
    pub(super) trace: Trace,
    /// The arrival of the first byte at this node.
    pub(super) received: Time,
    /// The bytes that are here, from the requested offset.
    pub(super) pieces: Vec<Bytes>,
    /// The neighbour has lost an earlier transfer.
    pub(super) again: bool,
}

/// The answer to a GRAFT for a body.
#[derive(Debug)]
pub(super) enum Serve {
    /// These bytes are here; the rest follows as it comes in.
    Send(Sending),
    /// The body follows once it is here.
    Wait,
    NotHere,
}
