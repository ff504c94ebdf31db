//! cmaf_ingest.

pub mod body;
pub mod jitter_buffer;
pub mod path;
pub mod tracks;
