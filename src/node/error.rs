//! The reasons why a node can't start, as its user is told: by the setting at fault.

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
    /// The identity can't be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The mesh can't start.
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// A TCP port can't be had.
    #[error("can't listen on {addr}: {source}; choose another address with --{flag}")]
    Listen {
        /// The flag that sets it.
        flag: &'static str,
        /// The address.
        addr: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// A port of the demo's beside the one that `--http` names can't be had.
    #[error(
        "can't listen on {addr} for {node}: {source}; a demo takes {ports} ports, from that of --http on: choose another \
         with --http, or fewer with --edges"
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
    /// HTTPS can't be served.
    #[error("--tls-cert, --tls-key: {0}")]
    Tls(#[from] TlsError),
    /// The film can't be played.
    #[error("--film: {0}")]
    Film(#[from] ingest::file_loop::FileError),
    /// A file to loop can't be.
    #[error("--loop: {0}")]
    Loop(ingest::file_loop::FileError),
    /// A source's socket can't be had.
    #[error("--udp: {addr} for {stream}: {error}")]
    Udp {
        /// The stream.
        stream: StreamName,
        /// The address or group.
        addr: SocketAddr,
        /// The cause.
        error: io::Error,
    },
    /// The archives of a former run can't be read.
    #[error("--dvr-dir {}: {source}", dir.display())]
    Dvr {
        /// The folder.
        dir: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Traces can't be sent.
    #[error("--otlp: {0}")]
    Otlp(#[from] HttpClientError),
    /// A name that can't be a stream's.
    #[error(transparent)]
    Name(NameError),
    /// RUST_LOG can't be read.
    #[error("RUST_LOG: {0}")]
    Log(#[from] tracing_subscriber::filter::ParseError),
    /// The runtime can't start.
    #[error("can't start the runtime: {0}")]
    Runtime(io::Error),
}
