//! The additions of an SRT ingest to `srt-protocol`, which implements the protocol (pure).
//!
//! - [`stream_id`] reads which stream a caller wants to publish.
//! - [`guard`] drops datagrams that would make the protocol's state machine panic.

pub mod guard;
pub mod stream_id;
