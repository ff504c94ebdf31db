//! What two neighbours say to each other over a QUIC connection, apart from the connection itself (pure).
//!
//! - [`frame`]: what travels, as bytes. [`pairing`]: which of several connections is the link.
//! - [`clock_offset`]: how far the peer's clock is from ours. [`backoff`]: when an address is dialled again.

pub mod backoff;
pub mod clock_offset;
pub mod frame;
pub mod pairing;
pub mod query;
