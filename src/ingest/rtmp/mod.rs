//! RTMP ("Adobe's Real Time Messaging Protocol" 1.0, 2012): what encoders push with.
//!
//! ```text
//!  socket --bytes--> server --> damson_core::demux::rtmp: session --media, replies--> server --> registry
//! ```
//!
//! [`server`] has the sockets, and one task a connection; all that is said on it is the core's.

pub mod server;
