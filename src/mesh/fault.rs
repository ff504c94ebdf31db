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
    /// The CA's certificate is no trust anchor.
    #[error("can't use the cluster's CA certificate: {0}; copy it again from the folder of `damson pki init`")]
    Ca(String),
    /// The node's own certificate is another CA's, or out of date.
    #[error("other nodes would refuse this node's certificate: {0}; issue a new one with `damson pki issue`")]
    Own(rustls::Error),
    /// The certificate and key don't work.
    #[error("can't use this node's certificate or key: {0}; issue new ones with `damson pki issue`")]
    Key(String),
}

/// A peer's fault that ends its link, or the end of its connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkFault {
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("frame of a swarm: {0}")]
    Control(WireError),
    #[error("head of a body: {0}")]
    Head(#[from] WireError),
    #[error("a body's stream ends at byte {at}, {missing} bytes before the body does")]
    Short { at: usize, missing: usize },
    #[error("a body's stream goes on at byte {at}, after the body's end")]
    Long { at: usize },
    #[error("a body's head didn't come in {0:?}")]
    HeadLate(Duration),
    #[error("a second hello")]
    Hello,
    #[error("doesn't read its control stream: {0} bytes wait")]
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
    /// Returns the code to close the connection with; `None` where it is closed already.
    pub(crate) fn code(&self) -> Option<VarInt> {
        match self {
            LinkFault::Connection(_) => None,
            LinkFault::Wedged(_) => Some(code::WEDGED),
            LinkFault::StreamEnded => Some(code::UNNEEDED),
            _ => Some(code::PROTOCOL),
        }
    }

    /// Returns what the hub is told.
    pub(crate) fn cause(&self) -> DownCause {
        match self {
            LinkFault::Connection(ConnectionError::ApplicationClosed(close)) if close.error_code == code::LEAVING => {
                DownCause::Left
            }
            LinkFault::Connection(ConnectionError::TimedOut) => DownCause::TimedOut,
            _ => DownCause::Lost,
        }
    }

    /// Tells whether the peer broke the protocol, rather than went away.
    pub(crate) fn is_rubbish(&self) -> bool {
        self.code() == Some(code::PROTOCOL)
    }
}

/// The reason why a dial made no link.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialFault {
    #[error("can't be dialled: {0}")]
    Address(#[from] ConnectError),
    #[error("no answer in {0:?}")]
    TimedOut(Duration),
    #[error("{0}")]
    Connection(ConnectionError),
    #[error("its certificate: {0}")]
    Certificate(String),
    #[error("is {0}, another node than the one expected")]
    Another(NodeId),
    #[error("{0}")]
    Hello(LinkFault),
    /// No failure: the peer has, or is getting, another link with us.
    #[error("another link with it is there or on its way")]
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
    /// Returns what the hub is told.
    pub(crate) fn cause(&self) -> DownCause {
        match self {
            DialFault::TimedOut(_) | DialFault::Connection(ConnectionError::TimedOut) => DownCause::TimedOut,
            DialFault::Duplicate | DialFault::Hello(_) => DownCause::Lost,
            _ => DownCause::Refused,
        }
    }
}
