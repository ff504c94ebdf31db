//! HTTP ingest: whole streams in one request, CMAF tracks and segments (DASH-IF Live Media Ingest 1.2, interface 1), and
//! what DASH and HLS muxers PUT (interface 2).
//!
//! ```text
//!  request --path--> session (one a stream) <-- other requests
//!          --body--> bmff | ts --units--> lane --\
//!                                         lane ---> playout --by time--> claims --> publication
//! ```
//!
//! - `path`: which stream, and which of its objects (pure).
//! - `playout`: bursts and tracks to one sequence in the order and at the pace of its timestamps (pure).
//! - `session`: what a stream's requests have in common, and its claims; `tracks`: its tracks, and where each has its place.
//! - `body`: a request's bytes to units.
//! - [`server`]: sockets and HTTP; `answer`: who is told what.

#[cfg(feature = "node")]
mod answer;
#[cfg(feature = "node")]
mod body;
#[cfg_attr(not(feature = "node"), allow(dead_code, reason = "the server is of the node"))]
mod path;
#[cfg_attr(not(feature = "node"), allow(dead_code, reason = "the server is of the node"))]
mod playout;
#[cfg(feature = "node")]
pub mod server;
#[cfg(feature = "node")]
mod session;
#[cfg(feature = "node")]
mod tracks;
