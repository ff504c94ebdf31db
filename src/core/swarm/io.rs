//! What can happen to a hub, and what it wants done.

use std::net::SocketAddr;

use bytes::Bytes;

use super::archives::{Keeper, Kept};
use super::directory::Entry;
use crate::hyparview::DownCause;
use crate::model::time::Time;
use crate::model::{NodeId, PartHeader, Peer, Record, StreamName, SwarmId, Trace};
use crate::plumtree::{BodyAction, BodyEvent};

/// What can happen to a [`Hub`](super::hub::Hub). Its control frames are bytes; a simulator may pass others on.
#[derive(Debug, Clone)]
pub enum Input<F = Bytes> {
    /// `poll_timeout` has passed.
    Timeout,
    /// A link is up, whoever dialled.
    LinkUp {
        /// The peer, with the address that it listens at.
        peer: Peer,
        /// The address of the [`Output::Dial`] that this answers, if one does: a contact may have been
        /// dialled at another address than the one it gives.
        dialled: Option<SocketAddr>,
    },
    /// The link to a peer is gone.
    LinkDown {
        /// Who.
        peer: NodeId,
        /// Why.
        cause: DownCause,
    },
    /// A dial came to nothing.
    DialFailed {
        /// Where to.
        addr: SocketAddr,
        /// Whom we expected there, if anybody.
        peer: Option<NodeId>,
        /// Why.
        cause: DownCause,
    },
    /// What the link to a peer is like.
    LinkEstimate {
        /// Who.
        peer: NodeId,
        /// Smoothed round trip in microseconds.
        rtt_us: u32,
        /// Measured rate of bodies from it, in bytes/s; 0 while unknown.
        rate: u64,
    },
    /// A frame of the link's control stream.
    Control {
        /// From whom.
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
        /// What has happened to the body.
        event: BodyEvent,
    },
    /// This node's ingest claims a stream: its directory entry is announced and refreshed, and its
    /// swarm is joined.
    Claim {
        /// The first record of the epoch, or the next revision.
        record: Record,
    },
    /// This node's ingest made a part.
    Publish {
        /// Of which stream.
        stream: StreamName,
        /// Its header.
        header: PartHeader,
        /// Its body.
        body: Bytes,
        /// How it was made: a way without a hop.
        trace: Trace,
    },
    /// This node keeps these for others to fetch; to be said every few seconds, since notices die.
    Keep {
        /// What of which streams.
        kept: Vec<Kept>,
        /// Higher than all before, over restarts too: the wallclock in microseconds.
        stamp: u64,
    },
    /// This node leaves: tell the neighbours.
    Leave,
}

/// What a [`Hub`](super::hub::Hub) wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output<F = Bytes> {
    /// Make a link. Answered by `LinkUp` or `DialFailed`.
    Dial {
        /// Where to.
        addr: SocketAddr,
        /// Whom to find there, if known.
        peer: Option<NodeId>,
    },
    /// No swarm needs this link any more.
    Close {
        /// To whom.
        peer: NodeId,
    },
    /// Send a frame on the link's control stream.
    Control {
        /// To whom.
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
        /// What the link does.
        action: BodyAction,
        /// After this a head is worth nothing: the link drops the body from its queue.
        expires: Time,
    },
    /// The record of a stream is new or newer.
    Record {
        /// It names its stream.
        record: Box<Record>,
    },
    /// A part is here, whole and checked.
    Deliver {
        /// Of which stream.
        stream: StreamName,
        /// Its header.
        header: PartHeader,
        /// Its body.
        body: Bytes,
        /// Its way to this node; empty at the ingest.
        trace: Trace,
        /// First byte in.
        received: Time,
    },
    /// The directory has a new stream, or a stream's entry moved to another life or epoch.
    Announced {
        /// The entry.
        entry: Entry,
    },
    /// Other nodes keep, or don't keep any more, what has left the window of a stream. Said at each of their refreshes.
    Kept {
        /// Of which stream.
        stream: StreamName,
        /// All of them.
        keepers: Vec<Keeper>,
    },
    /// The directory's entry of a stream is gone: dead for 15 s.
    Expired {
        /// Which.
        stream: StreamName,
    },
}
