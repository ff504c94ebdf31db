//! HTTP ingest without HTTP: requests' paths and bodies to one sequence of units. Pure.
//!
//! - [`path`]: which stream a request is about, and which of its objects.
//! - [`body`]: a request's bytes to units.
//! - [`tracks`]: the tracks of a push, and what its requests leave for one another.
//! - [`jitter_buffer`]: bursts and tracks to one sequence, in the order and at the pace of its timestamps.

pub mod body;
pub mod jitter_buffer;
pub mod path;
pub mod tracks;
