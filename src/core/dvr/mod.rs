//! The index of what has left the window: which segments can be sought back to, where they are listed, and how they are stored.

pub mod entry;
pub mod fetch_queue;
pub mod index;
pub mod key;
pub mod merge;
pub mod query;
pub mod segment_file;
#[cfg(test)]
mod tests;
pub mod track_index;

pub use entry::SegmentEntry;
pub use index::{ArchiveIndex, Stock};
pub use key::SegmentKey;
pub use query::Listing;
pub use track_index::TrackIndex;
