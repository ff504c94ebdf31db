//! A node: ingest, mesh and edge, joined.
//!
//! ```text
//!   RTMP, SRT, UDP, HTTP, a file --> ingest --PartSink--> mesh (hub) --Sink--> store --> HTTP
//!                                                            ||  QUIC
//!                                                         other nodes
//! ```
//!
//! What this node's own ingest publishes takes the same way as what comes from afar: through the hub
//! into the store.
//!
//! - `config` reads the settings, with `inputs` and `listen`, and binds all sockets; `error` says which setting is at fault.
//! - `node` builds a node from the bottom up and stops it; `adapters` join the layers, `dvr` opens the archives.
//! - `mesh_view` and `listening` are what the API and the user are told.

mod adapters;
mod config;
mod dvr;
mod error;
mod inputs;
mod listen;
mod listening;
mod mesh_view;
mod node;

pub use config::NodeConfig;
pub use error::NodeError;
pub use inputs::Inputs;
pub use listen::listen;
pub use node::Node;
