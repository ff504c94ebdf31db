//! What two neighbours say to each other over a QUIC connection, apart from the connection itself.

pub mod backoff;
pub mod clock_offset;
pub mod frame;
pub mod pairing;
pub mod query;
