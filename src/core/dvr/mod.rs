//! The index of what has left the window: which segments can be sought back to, where they are kept, and how they are stored (pure).
//!
//! - [`index`]: the archive of a life, row by row; [`track_index`]: one track of it; [`entry`]: one segment, and its name.
//! - [`segment_file`]: a segment as a file.
//! - [`merge`]: what other nodes list, so that every edge lists the same. [`query`]: what nodes ask each other.
//! - [`fetch_queue`]: whom this node asks for a segment that it doesn't keep, and who waits for it.

pub mod entry;
pub mod fetch_queue;
pub mod index;
pub mod merge;
pub mod query;
pub mod segment_file;
pub mod track_index;

#[cfg(test)]
mod tests;

pub use entry::{SegmentEntry, SegmentKey};
pub use index::{ArchiveIndex, Stock};
pub use query::Listing;
pub use track_index::TrackIndex;
