//! HTTP ingest: whole streams in one request, CMAF tracks and segments (DASH-IF Live Media Ingest 1.2, interface 1), and
//! what DASH and HLS muxers PUT (interface 2).
//!
//! ```text
//!  request --path--> push (one a stream) <-- other requests
//!          --body--> bmff | ts --units--> jitter buffer --by time--> sessions --> publication
//! ```
//!
//! - [`server`] has the sockets and the requests; `answer` is who is told what.
//! - `push` has what the requests of a push share: its tracks, who waits for them, and its sessions.
//! - What a path names, what a body holds, and in which order its units come out, is in
//!   [`damson_core::demux::cmaf_ingest`].

mod answer;
mod push;
pub mod server;
