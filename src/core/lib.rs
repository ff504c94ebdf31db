//! The pure core of damson, a live video segment relay: access units to parts, parts through the overlay, windows to playlists.
//!
//! The modules stand in the order in which a part travels:
//!
//! ```text
//!  bytes --demux--> access units --packager (codec, cmaf)--> parts --plumtree over hyparview (swarm, link)--> window
//!     --> manifest (HLS, DASH), dvr (the index of what has left the window)
//! ```
//!
//! [`model`] stands below them all: ids, headers, times and limits, which import nothing.
//!
//! # What is absent
//!
//! There is no clock, socket, file, task or ambient randomness here: Cargo keeps the crates that have them out, and clippy
//! (`disallowed-methods`, `disallowed-types`) keeps out those of `std`. Containers are ordered, so that a seed replays.
//!
//! # The caller's contract
//!
//! Each state machine has the shape `handle(now, input)`, `poll_output()`, `poll_timeout()`. After every `handle` the caller
//! drains `poll_output()` until `None`; then it waits for the next input or for `poll_timeout()`, whose passing
//! `Input::Timeout` tells. Time never goes back. The node and the simulator drive the same code.

pub mod cmaf;
pub mod codec;
pub mod demux;
pub mod dvr;
pub mod hyparview;
pub mod link;
pub mod manifest;
pub mod model;
pub mod packager;
pub mod plumtree;
pub mod swarm;
pub mod testing;
#[cfg(test)]
mod tests;
pub mod window;
