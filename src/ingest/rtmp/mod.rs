//! RTMP ("Adobe's Real Time Messaging Protocol" 1.0, 2012): what encoders push with.
//!
//! ```text
//!  socket --bytes--> handshake --> chunk --messages--> message --> session --media, replies--> server --> registry
//! ```
//!
//! All but `server` is a plain state machine that takes bytes, cut anywhere.

pub mod server;
