//! What an SRT ingest adds to `srt-protocol`, which speaks the protocol itself (pure).
//!
//! - [`stream_id`]: which stream a caller wants to publish.
//! - [`guard`]: datagrams that would make the protocol's state machine panic are kept from it.

pub mod guard;
pub mod stream_id;
