//! The node of damson, a live video segment relay: an encoder pushes a stream to any node, and players fetch it from every
//! node's edge as HLS or DASH.
//!
//! Each node does all of it. This crate is what does I/O: sockets, tasks, files and the clock. What a stream is cut into,
//! whom a part is sent to and what a playlist says is decided by the state machines of [`damson_core`], which are pure. The
//! modules here drive them: they hand them what comes in and the time, and do what comes out.
//!
//! The modules stand in the order in which a part travels, and what they all stand on comes below them:
//!
//! ```text
//!  encoder --RTMP, SRT, UDP, HTTP, a file--> ingest --record, parts--> mesh <==QUIC==> meshes of other nodes
//!                                                                       | record, parts
//!                                                                       v
//!                            player <--HLS, DASH by HTTP-- edge: windows, and what has left them --> dvr: disk, other nodes
//!
//!  node (config) joins them; none of them imports the next but edge, which reads from dvr
//!  net, observe and clock lie below them all
//! ```
//!
//! - [`ingest`] takes pushes, decides who may push what, and runs a packager for each stream.
//! - [`mesh`] links nodes, and drives the hub: what is published at one of them comes out at all that want it.
//! - [`dvr`] keeps segments on disk, and fetches those that only other nodes have.
//! - [`edge`] holds the streams, answers players, and tells what is known of each part's way.
//! - [`net`], [`observe`] and [`clock`] are sockets and TLS, metrics and traces, and the time.
//! - [`config`] reads the settings; [`node`] builds a node of them, and [`demo`] several in one process; [`cli`] is the
//!   `damson` command's other work.

pub mod ingest;
pub mod mesh;

pub mod dvr;
pub mod edge;

pub mod clock;
pub mod net;
pub mod observe;

pub mod cli;
pub mod config;
pub mod demo;
pub mod node;
