//! A node: ingest, mesh and edge, joined.
//!
//! ```text
//!   RTMP, SRT, UDP, HTTP, a file --> ingest --PartSink--> mesh (hub) --Sink--> store --> HTTP
//!                                                            ||  QUIC
//!                                                         other nodes
//! ```
//!
//! The parts that this node's own ingest publishes pass the hub into the store, as those of other nodes do.
//!
//! - `config` reads the settings, with `inputs` and `listen`, and binds all sockets; `error` says which setting is at fault.
//! - `node` builds a node from the bottom up and stops it; `adapters` join the layers.
//! - `mesh_view` shows the mesh to the API, and `listening` the addresses to the operator.

mod adapters;
mod config;
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
