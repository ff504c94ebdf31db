//! The reasons why a node can't start, each with the setting at fault.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use damson_core::model::StreamName;
use damson_core::model::id::NameError;

use crate::config::ConfigError;
use crate::ingest;
use crate::mesh::{IdentityError, MeshError};
use crate::net::TlsError;
use crate::net::http_client::HttpClientError;

/// The reason why a node can't start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The identity can't be read or used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The mesh can't start.
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// A TCP port is taken, or the address isn't this machine's.
    #[error("can't listen on {addr}: {source}; choose another address with --{flag}")]
    Listen {
        /// The flag that sets it.
        flag: &'static str,
        /// The address.
        addr: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The demo needs a port next to that of `--http`, which is taken.
    #[error(
        "can't listen on {addr} for {node}: {source}; the demo needs {ports} ports from that of --http on: choose another \
         one with --http, or fewer edges with --edges"
    )]
    Beside {
        /// The node's name.
        node: String,
        /// The address.
        addr: SocketAddr,
        /// The cause.
        source: io::Error,
        /// The number of ports that the demo takes.
        ports: u16,
    },
    /// The certificate for HTTPS or RTMPS can't be used.
    #[error("--tls-cert, --tls-key: {0}")]
    Tls(#[from] TlsError),
    /// The film can't be played.
    #[error("--film: {0}")]
    Film(#[from] ingest::file_loop::FileError),
    /// A file to loop can't be played.
    #[error("--loop: {0}")]
    Loop(ingest::file_loop::FileError),
    /// A source's socket can't be opened.
    #[error("--udp: can't listen on {addr} for {stream}: {error}")]
    Udp {
        /// The stream.
        stream: StreamName,
        /// The address or group.
        addr: SocketAddr,
        /// The cause.
        error: io::Error,
    },
    /// The archives can't be opened.
    #[error("--dvr-dir: can't use {}: {source}", dir.display())]
    Dvr {
        /// The folder.
        dir: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The client for traces can't be made.
    #[error("--otlp: {0}")]
    Otlp(#[from] HttpClientError),
    /// A stream's name isn't valid.
    #[error(transparent)]
    Name(NameError),
    /// RUST_LOG isn't valid.
    #[error("RUST_LOG: {0}")]
    Log(#[from] tracing_subscriber::filter::ParseError),
    /// The runtime can't start.
    #[error("can't start the runtime: {0}")]
    Runtime(io::Error),
}
