//! RTMP ingest ("Adobe's Real Time Messaging Protocol" 1.0, 2012), with and without TLS.
//!
//! ```text
//!  socket --bytes--> server --> damson_core::demux::rtmp: session --media, replies--> server --> registry
//! ```
//!
//! [`server`] has the sockets, and one task for each connection; the protocol itself is in [`damson_core::demux::rtmp`].

pub mod server;
