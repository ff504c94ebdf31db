//! RTMP (Adobe, "Real Time Messaging Protocol" 1.0), the part that an encoder needs to publish (pure).
//!
//! ```text
//!  bytes --> handshake --> chunk --> message --> session --> flv: headers, access units
//!            C0 C1 C2      pieces    by type     connect, publish; replies go back the same way
//! ```
//!
//! [`RtmpSession`] is one connection. It asks its caller whether a publish is allowed. It serves no players.

pub mod chunk;
pub mod handshake;
pub mod message;
pub mod session;

pub use session::{Limits, Output, RtmpError, RtmpSession};
