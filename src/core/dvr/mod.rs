//! The DVR: the index of the segments that have left the window, where they are kept, and how they are stored (pure).
//!
//! - [`index`]: the archive of a life, row by row; [`track_index`]: one track of it; [`entry`]: one segment, and its name.
//! - [`segment_file`]: a segment as a file, and the parts of that format that listings share.
//! - [`merge`]: adds what other nodes list. [`query`]: what nodes ask each other.
//! - [`fetch_queue`]: the fetches of segments that other nodes hold.

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
