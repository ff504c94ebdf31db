//! What goes in and comes out of a [`Plumtree`](super::plumtree::Plumtree).

use bytes::Bytes;

use super::message::Message;
use crate::model::time::Time;
use crate::model::{Msn, NodeId, PartHeader, PartId, Trace, TrackId};

/// Bodies travel in pieces of at most this many bytes.
pub const PIECE_LEN_MAX: usize = 64 << 10;

/// What can happen to a [`Plumtree`](super::plumtree::Plumtree).
#[derive(Debug, Clone)]
pub enum Input {
    /// [`Plumtree::poll_timeout`](super::plumtree::Plumtree::poll_timeout) has passed.
    Timeout,
    /// The overlay has a new neighbour.
    NeighborUp(NodeId),
    /// The overlay has lost or dropped one. Its transfers both ways are torn.
    NeighborDown(NodeId),
    /// This node's ingest made a part (or the record, under [`TrackId::RECORD`]).
    Publish {
        /// Its header.
        header: PartHeader,
        /// Its body, of `header.length` bytes.
        body: Bytes,
        /// How it was made: a way without a hop.
        trace: Trace,
    },
    /// A control message.
    Message {
        /// Who sent it; anybody may.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// A peer begins to send a body. Pieces follow, in order, as [`Input::BodyPiece`].
    BodyHead {
        /// Who sends it.
        from: NodeId,
        /// What it is.
        header: PartHeader,
        /// Its way, the link it has just passed included.
        trace: Trace,
        /// Where in the body the pieces start: not 0 where a torn transfer is resumed.
        offset: u32,
    },
    /// The next bytes of a body. The last piece is known by the header's length.
    BodyPiece {
        /// Who sends it.
        from: NodeId,
        /// Which body.
        id: PartId,
        /// At most [`PIECE_LEN_MAX`] bytes.
        bytes: Bytes,
    },
    /// The sender gave up, or expired it, before the last piece.
    BodyTorn {
        /// Who sent it.
        from: NodeId,
        /// Which body.
        id: PartId,
    },
    /// A peer refuses the body we send it (QUIC STOP_SENDING), or our own link queue dropped it.
    BodyStopped {
        /// To whom it went.
        to: NodeId,
        /// Which body.
        id: PartId,
    },
    /// What the link to a neighbour is like, for the graft timers; told now and then.
    LinkEstimate {
        /// The neighbour.
        peer: NodeId,
        /// Smoothed round trip in microseconds.
        rtt_us: u32,
        /// Measured rate of bodies from it, in bytes/s; 0 while unknown.
        rate: u64,
    },
    /// The window has let go of everything of `track` below `before`: neither held, served nor wanted.
    Forget {
        /// Which track.
        track: TrackId,
        /// The oldest segment still held.
        before: Msn,
    },
}

/// What a [`Plumtree`](super::plumtree::Plumtree) wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send a control message, ahead of all bodies.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Open a stream for a body and send its head; the driver adds this node's own hop to the trace
    /// when the first byte leaves.
    BodyHead {
        /// To whom.
        to: NodeId,
        /// What.
        header: PartHeader,
        /// Its way up to this node.
        trace: Trace,
        /// Where in the body the pieces start.
        offset: u32,
        /// When this node had its first byte (at the ingest: when it was published); dwell counts from here.
        received: Time,
    },
    /// The next bytes of a body whose head was sent to `to`.
    BodyPiece {
        /// To whom.
        to: NodeId,
        /// Which body.
        id: PartId,
        /// At most [`PIECE_LEN_MAX`] bytes.
        bytes: Bytes,
    },
    /// Reset the body under way to `to`: it can't be finished.
    BodyAbort {
        /// To whom.
        to: NodeId,
        /// Which body.
        id: PartId,
    },
    /// Stop the body under way from `from` (QUIC STOP_SENDING): a duplicate, a stranger's or a stale one.
    BodyRefuse {
        /// From whom.
        from: NodeId,
        /// Which body.
        id: PartId,
    },
    /// A whole body whose hash was checked; each id once.
    Deliver {
        /// Its header.
        header: PartHeader,
        /// Its body.
        body: Bytes,
        /// Its way to this node; empty at the ingest.
        trace: Trace,
        /// First byte in.
        received: Time,
    },
}

/// What goes out of one body to one neighbour.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) header: PartHeader,
    /// Its way up to this node.
    pub(super) trace: Trace,
    /// When this node had its first byte.
    pub(super) received: Time,
    /// What is here of it, from the offset asked for.
    pub(super) pieces: Vec<Bytes>,
    /// The neighbour has lost the transfer, and asks anew.
    pub(super) again: bool,
}

/// What comes of a GRAFT for a body.
#[derive(Debug)]
pub(super) enum Serve {
    /// This much is here now; what follows is passed on as it comes in.
    Send(Sending),
    /// It is sent once it is here.
    Wait,
    NotHere,
}
