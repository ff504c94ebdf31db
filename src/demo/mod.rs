//! The demo: one process with an ingest node and edges as full nodes in a line, each with its own sockets on loopback, under
//! a CA in memory.
//!
//! ```text
//!   film, RTMP --> ingest ==hop==> edge1 ==hop==> edge2 ==hop==> edge3 --> http://127.0.0.1:8080/
//!                     \\--------- longer ---------/
//! ```
//!
//! Each node also has a link to the node after the next, a longer one through a relay: the line is the tree, and the other
//! links repair it when a node is stopped, for which the page has a button.

mod demo;
mod links;
mod nodes;

pub use demo::{Demo, DemoOptions};
pub use links::{DelayRange, Loss};
