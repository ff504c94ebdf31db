//! RTMP ("Adobe's Real Time Messaging Protocol" 1.0, 2012) as a state machine that takes bytes, cut anywhere. Pure.
//!
//! ```text
//!  bytes --> handshake --> chunk --messages--> message --> session --access units, replies--> the caller
//! ```

pub mod chunk;
pub mod handshake;
pub mod message;
pub mod session;

pub use session::{Limits, Output, PublishName, RtmpError, RtmpSession};
