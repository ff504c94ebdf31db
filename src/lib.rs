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

#[cfg(feature = "node")]
pub mod clock;
pub mod units;
pub mod wire;

pub mod ingest;
pub mod media;

pub mod live;

pub mod broadcast;
pub mod overlay;
pub mod swarm;

pub mod mesh;

pub mod edge;

#[cfg(feature = "node")]
pub mod observe;

#[cfg(feature = "sim")]
pub mod sim;

#[cfg(feature = "node")]
pub mod config;
#[cfg(feature = "node")]
pub mod demo;
#[cfg(feature = "node")]
pub mod node;
#[cfg(feature = "node")]
pub mod trace;
