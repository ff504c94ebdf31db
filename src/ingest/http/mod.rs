//! HTTP ingest: whole streams in one request, CMAF tracks and segments (DASH-IF Live Media Ingest 1.2, interface 1), and
//! what DASH and HLS muxers PUT (interface 2).
//!
//! ```text
//!  request --path--> push (one a stream) <-- other requests
//!          --body--> bmff | ts --units--> lane --\
//!                                         lane ---> playout --by time--> sessions --> publication
//! ```
//!
//! - `path`: which stream, and which of its objects (pure).
//! - `playout`: bursts and tracks to one sequence in the order and at the pace of its timestamps (pure).
//! - `body`: a request's bytes to units (pure).
//! - `tracks`: a push's tracks, where each has its place, and what its requests leave for one another (pure).
//! - `push`: who waits for them, and the push's sessions.
//! - [`server`]: sockets and HTTP; `answer`: who is told what.

mod answer;
mod push;
pub mod server;
