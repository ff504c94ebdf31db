//! HTTP ingest: whole streams in one request, CMAF tracks and segments (DASH-IF Live Media Ingest 1.2, interface 1), and
//! the output of DASH and HLS muxers that PUT (interface 2).
//!
//! ```text
//!  request --path--> push (one a stream) <-- other requests
//!          --body--> bmff | ts --units--> jitter buffer --by time--> sessions --> publication
//! ```
//!
//! - [`server`] has the sockets and the requests, `answer` the answers.
//! - `push` has what the requests of a push share: its tracks, the requests that wait for them, and its sessions.
//! - [`damson_core::demux::cmaf_ingest`] reads paths and bodies, and orders the units of all tracks by time.

mod answer;
mod push;
pub mod server;
mod settings;
