//! A node: ingest, mesh and edge, joined.
//!
//! ```text
//!   RTMP, SRT, UDP, film --> Desk --Publisher--> Mesh (Hub) --Sink--> Store --> HTTP
//!                                       ||  QUIC
//!                                    other nodes
//! ```
//!
//! What this node's own ingest publishes takes the same way as what comes from afar: through the hub
//! into the store.

mod dvr;
mod error;
mod inputs;
mod node;

pub use error::NodeError;
pub use inputs::Inputs;
pub use node::{Node, NodeConfig, listen};
