//! srt.

pub mod guard;
pub mod stream_id;
