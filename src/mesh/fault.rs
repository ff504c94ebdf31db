//! The reasons why a node can't join the mesh, why a link ends, and why a dial makes none.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use damson_core::hyparview::DownCause;
use damson_core::link::frame::FrameError;
use damson_core::model::NodeId;
use damson_core::model::wire::WireError;
use quinn::{ConnectError, ConnectionError, ReadError, VarInt, WriteError};

use super::code;

/// The reason why a node can't join the mesh.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// The socket can't be opened: another program has the port, or the address isn't this machine's.
    #[error("can't listen on {addr} (UDP): {source}; choose another address with --mesh")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The CA's certificate isn't a trust anchor.
    #[error("can't use the cluster's CA certificate: {0}; copy it again from the folder of `damson pki init`")]
    Ca(String),
    /// The node's own certificate is another CA's, or out of date.
    #[error("other nodes would refuse this node's certificate: {0}; issue a new one with `damson pki issue`")]
    Own(rustls::Error),
    /// The certificate and the key don't work together.
    #[error("can't use this node's certificate or key: {0}; issue new ones with `damson pki issue`")]
    Key(String),
}

/// The reason why a link ends: a fault of the peer, or the end of its connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkFault {
    #[error("sent a bad frame: {0}")]
    Frame(#[from] FrameError),
    #[error("sent a bad frame of a swarm: {0}")]
    Control(WireError),
    #[error("sent a bad head of a body: {0}")]
    Head(#[from] WireError),
    #[error("ended a body's stream at byte {at}, {missing} bytes before the body's end")]
    Short { at: usize, missing: usize },
    #[error("sent more in a body's stream than the body, from byte {at} on")]
    Long { at: usize },
    #[error("sent no head of a body within {0:?}")]
    HeadLate(Duration),
    #[error("sent another frame than the hello that was due, or a second hello")]
    Hello,
    #[error("doesn't read its control stream, for which {0} bytes wait")]
    Wedged(usize),
    #[error("{0}")]
    Connection(#[from] ConnectionError),
    /// The peer has ended a stream early.
    #[error("closed its control stream")]
    StreamEnded,
}

impl From<ReadError> for LinkFault {
    fn from(error: ReadError) -> Self {
        if let ReadError::ConnectionLost(e) = error { e.into() } else { LinkFault::StreamEnded }
    }
}

impl From<WriteError> for LinkFault {
    fn from(error: WriteError) -> Self {
        if let WriteError::ConnectionLost(e) = error { e.into() } else { LinkFault::StreamEnded }
    }
}

impl LinkFault {
    /// Returns the code to close the connection with, or `None` if it is closed already.
    pub(crate) fn code(&self) -> Option<VarInt> {
        match self {
            LinkFault::Connection(_) => None,
            LinkFault::Wedged(_) => Some(code::WEDGED),
            LinkFault::StreamEnded => Some(code::UNNEEDED),
            _ => Some(code::PROTOCOL),
        }
    }

    /// Returns the cause that the hub is told.
    pub(crate) fn cause(&self) -> DownCause {
        match self {
            LinkFault::Connection(ConnectionError::ApplicationClosed(close)) if close.error_code == code::LEAVING => {
                DownCause::Left
            }
            LinkFault::Connection(ConnectionError::TimedOut) => DownCause::TimedOut,
            _ => DownCause::Lost,
        }
    }

    /// Tells whether the peer broke the protocol.
    pub(crate) fn is_protocol_fault(&self) -> bool {
        self.code() == Some(code::PROTOCOL)
    }
}

/// The reason why a dial made no link.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialFault {
    #[error("can't be dialled: {0}")]
    Address(#[from] ConnectError),
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("{0}")]
    Connection(ConnectionError),
    #[error("bad certificate: {0}")]
    Certificate(String),
    #[error("node {0} is there, and another one was expected")]
    Another(NodeId),
    #[error("{0}")]
    Hello(LinkFault),
    /// Not a failure: there is another link with the peer, or one is under way.
    #[error("there is another link with the node, or one is under way")]
    Duplicate,
}

impl From<ConnectionError> for DialFault {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) if close.error_code == code::DUPLICATE => DialFault::Duplicate,
            error => DialFault::Connection(error),
        }
    }
}

impl From<LinkFault> for DialFault {
    fn from(fault: LinkFault) -> Self {
        if let LinkFault::Connection(error) = fault { error.into() } else { DialFault::Hello(fault) }
    }
}

impl DialFault {
    /// Returns the cause that the hub is told.
    pub(crate) fn cause(&self) -> DownCause {
        match self {
            DialFault::TimedOut(_) | DialFault::Connection(ConnectionError::TimedOut) => DownCause::TimedOut,
            DialFault::Duplicate | DialFault::Hello(_) => DownCause::Lost,
            _ => DownCause::Refused,
        }
    }
}
