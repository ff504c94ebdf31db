//! damson: a live video segment relay.
//!
//! The modules stand in the order in which a part travels:
//!
//! ```text
//!  encoder --RTMP--> ingest --access units--> media (timeline, segmenter, CMAF)
//!     --part--> live (window) --> broadcast (Plumtree) --> mesh (QUIC link)
//!         ==hop==> mesh --> broadcast --> live (window)
//!     --> edge (playlists, MPD, parts, segments) --HTTP--> player
//! ```
//!
//! `media`, `live`, `broadcast`, `overlay`, `swarm`, the parsers of `ingest` and the waiters of `edge`
//! are plain state machines: no sockets, no clock, no tasks, no ambient randomness. Each has the shape
//! `handle(now, input)`, `poll_output()`, `poll_timeout()`; after every `handle` the caller drains
//! `poll_output()` until `None`, then sleeps until `poll_timeout()` or the next input. The node
//! (feature `node`) and the simulator (feature `sim`) drive the same code.

pub mod clock;
pub mod dvr;

pub mod ingest;

pub mod mesh;

pub mod edge;

pub mod net;
pub mod observe;

pub mod cli;
pub mod config;
pub mod demo;
pub mod node;
