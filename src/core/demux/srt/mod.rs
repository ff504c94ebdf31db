//! What SRT needs beside the crate `srt-protocol`. Pure.
//!
//! - [`stream_id`]: what a caller wants, by its stream id.
//! - [`guard`]: keeps datagrams from the crate that it can't take.

pub mod guard;
pub mod stream_id;
