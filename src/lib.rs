//! The node of damson, a live video segment relay: an encoder pushes a stream to any node, and players fetch it from the edge
//! of every node as HLS or DASH.
//!
//! Every node does all of it. This crate does the I/O: sockets, tasks, files and the clock. The state machines of
//! [`damson_core`], which are pure, decide where a stream is cut, which node a part is sent to and what a playlist says. The
//! modules here drive them: they hand them inputs and the time, and carry out their outputs.
//!
//! The modules stand in the order in which a part travels; those that all of them use come below:
//!
//! ```text
//!  encoder --RTMP, SRT, UDP, HTTP, a file--> ingest --record, parts--> mesh <==QUIC==> meshes of other nodes
//!                                                                       | record, parts
//!                                                                       v
//!                            player <--HLS, DASH by HTTP-- edge: windows, and the segments before them --> dvr: disk, other nodes
//!
//!  node (config) joins them; none of them imports the next, except that edge reads from dvr
//!  net, observe and clock lie below them all
//! ```
//!
//! - [`ingest`] takes pushes, decides who may push a stream, and runs a packager for each stream.
//! - [`mesh`] links nodes, and drives the hub, which brings what one node publishes to all nodes that want it.
//! - [`dvr`] keeps segments on disk, and fetches segments that only other nodes have.
//! - [`edge`] holds the streams, answers players, and shows the latency of each part.
//! - [`net`], [`observe`] and [`clock`] are sockets and TLS, metrics and traces, and the time.
//! - [`config`] reads the settings; [`node`] builds a node from them, and [`demo`] several in one process; [`cli`] has the
//!   other subcommands of `damson`.

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
