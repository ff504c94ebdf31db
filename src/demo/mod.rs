//! The demo: one process, an ingest and edges as full nodes in a line, each with its own sockets on
//! loopback, under a CA that lives in memory.
//!
//! ```text
//!   film, RTMP --> ingest ==hop==> edge1 ==hop==> edge2 ==hop==> edge3 --> http://127.0.0.1:8080/
//!                     \\--------- longer ---------/
//! ```
//!
//! Each node also has a link to the node after the next, a longer one through a relay: the line is the tree,
//! and the others are its repair when a node is stopped, which the page has a button for.

mod demo;
mod links;
mod nodes;

pub use demo::{Demo, DemoOptions, HTTPS_PORT};
pub use links::{DelayRange, Loss};
