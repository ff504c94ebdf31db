//! rtmp.

pub mod chunk;
pub mod handshake;
pub mod message;
pub mod session;

pub use session::{Limits, Output, PublishName, RtmpError, RtmpSession};
