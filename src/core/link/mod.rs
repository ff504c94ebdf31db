//! The protocol of a link, a QUIC connection between two nodes, without the connection itself.
//!
//! - [`frame`]: the bytes on it. [`pairing`]: which of several connections is the link. [`query`]: questions and answers.
//! - [`clock_offset`]: the offset of the peer's clock. [`backoff`]: when to dial an address again.

pub mod backoff;
pub mod clock_offset;
pub mod frame;
pub mod pairing;
pub mod query;
