//! The DVR: segments that have left their windows, kept on disk and fetched from other nodes.
//!
//! ```text
//! edge: a segment leaves its window --> ArchiveIndex (in the core: which segments are listed and kept)
//!                                         |  segments, one by one             ^ cuts, by the budget and after losses
//!                                          v                                  |
//!                                        ArchiveWriter: queue --> its own thread --> Disk: one file a segment
//! edge: a request for an old segment --> memory --> Disk --> Fetcher --> another node that holds it
//! ```
//!
//! - [`archive_writer`] queues, counts and bounds the segments of all streams; [`disk`] is a folder of segments, whose format
//!   is [`damson_core::dvr::segment_file`].
//! - `fetcher` asks other nodes, through a [`QueryNode`]; [`damson_core::dvr::fetch_queue`] chooses them.
//! - [`damson_core::dvr::index`] says which segments are listed; the edge's `streams` hold it beside their windows.
//!
//! A segment is archived as soon as it is complete, and the archive lists it once the window doesn't. So a node that dies
//! loses only the segment that is under way, not the window.
//!
//! The time (`--dvr`) and half of the bytes bound what is listed. The other half, and the same time again, is for segments
//! that are no longer listed: rfc8216bis 6.2.2 wants a removed segment fetchable for its own duration and that of the longest
//! playlist that listed it. All tracks of a stream lose the same segments, oldest first, and the stream with the oldest
//! segment loses first, so that players can seek back equally far in each.

pub mod archive_writer;
pub mod disk;
mod fetcher;
mod settings;

#[cfg(test)]
mod tests;

pub use archive_writer::ArchiveWriter;
pub use fetcher::{Fetcher, QueryFuture, QueryNode};
pub use settings::Settings;
