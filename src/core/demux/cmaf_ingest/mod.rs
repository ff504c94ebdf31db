//! Streams that come as HTTP requests (DASH-IF Live Media Ingest 1.2, HLS and MPEG-TS by PUT): many bodies to one sequence
//! of units (pure).
//!
//! ```text
//!  path      the stream, and the object of it
//!   `--> body      one request's bytes, through bmff or ts
//!         `--> tracks      all tracks of the push, and what its requests share
//!               `--> jitter_buffer      the order and the pace of their timestamps
//! ```

pub mod body;
pub mod jitter_buffer;
pub mod path;
pub mod tracks;
