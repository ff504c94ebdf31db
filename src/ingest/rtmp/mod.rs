//! RTMP ("Adobe's Real Time Messaging Protocol" 1.0, 2012): what encoders push with.
//!
//! ```text
//!  socket --bytes--> handshake --> chunk --messages--> message --> session --media, replies--> server --> desk
//! ```
//!
//! All but `server` is a plain state machine that takes bytes, cut anywhere.

pub mod chunk;
pub mod handshake;
pub mod message;
#[cfg(feature = "node")]
pub mod server;
pub mod session;

pub use session::{Limits, Output, PublishName, RtmpError, RtmpSession};
