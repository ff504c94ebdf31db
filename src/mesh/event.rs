//! The events that the tasks of connections and links send to the driver.

use std::net::SocketAddr;

use bytes::Bytes;
use damson_core::link::frame::{BodyHead, FrameDecoder, Hello};
use damson_core::link::pairing::LinkNo;
use damson_core::model::time::Time;
use damson_core::model::{NodeId, PartId, Peer, SwarmId};
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::{mpsc, oneshot};

use super::fault::{DialFault, LinkFault};

/// A body, by its swarm and its part.
pub(crate) type BodyKey = (SwarmId, PartId);

/// A body's number, which tells it from an earlier body with the same key on the same link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BodySerial(pub(crate) u64);

/// The channel to the driver: each event, with its time.
pub(crate) type Events = mpsc::Sender<(Time, MeshEvent)>;

/// An event of a connection.
pub(crate) enum MeshEvent {
    /// A dial has found this peer. The answer is our hello, or `None` if there is a link, or one is under way.
    Dialled { no: LinkNo, peer: NodeId, hello: oneshot::Sender<Option<Hello>> },
    /// The peer has answered our hello.
    Answered(Box<Greeted>),
    /// A peer that dialled us says hello.
    Greeted(Box<Greeted>),
    /// A dial has ended without a link of its own.
    DialEnded(Box<FailedDial>),
    /// Something happened on a link.
    Link { no: LinkNo, peer: NodeId, event: LinkEvent },
}

/// An event of a link.
pub(crate) enum LinkEvent {
    /// The link has ended.
    Lost(LinkFault),
    /// A frame of the swarms has come.
    Control(Bytes),
    /// A body begins.
    BodyHead { serial: BodySerial, head: Box<BodyHead>, stop: oneshot::Sender<()> },
    /// The next bytes of a body.
    BodyPiece { serial: BodySerial, key: BodyKey, bytes: Bytes, last: bool },
    /// A body ends early.
    BodyTorn { serial: BodySerial, key: BodyKey },
    /// The peer has a body of ours, or (`stopped`) won't get it.
    BodySent { serial: BodySerial, key: BodyKey, stopped: bool },
    /// An estimate of the link, about each second.
    Estimate { rtt_us: u32, rate: u64 },
}

/// A connection whose peer is known and has said hello.
pub(crate) struct Greeted {
    pub(crate) no: LinkNo,
    pub(crate) conn: Connection,
    pub(crate) peer: Peer,
    pub(crate) name: String,
    pub(crate) hello: Hello,
    pub(crate) control: (SendStream, RecvStream),
    /// Holds the bytes after the hello.
    pub(crate) decoder: FrameDecoder,
    /// The address that we dialled, if we did.
    pub(crate) dialled: Option<SocketAddr>,
}

/// A dial that has made no link of its own.
pub(crate) struct FailedDial {
    pub(crate) no: LinkNo,
    pub(crate) addr: SocketAddr,
    /// The node that we expected, and the one that we found.
    pub(crate) expected: Option<NodeId>,
    pub(crate) found: Option<NodeId>,
    pub(crate) fault: DialFault,
}
