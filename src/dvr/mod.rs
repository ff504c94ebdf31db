//! The past of streams, kept on disk and fetched from other nodes.
//!
//! ```text
//!  edge: a segment leaves its window --> ArchiveIndex (in the core: what is listed, what is let go of)
//!                                          |  segments, in turn               ^ cuts, by the budget and after losses
//!                                          v                                  |
//!                                        ArchiveWriter: queue --> its own thread --> Disk: one file a segment
//!  edge: a request for an old one --> its memory --> Disk --> Fetcher --> another node, that keeps it
//! ```
//!
//! - [`archive_writer`] queues, counts and bounds what all streams keep; [`disk`] is a folder of segments, which
//!   [`damson_core::dvr::segment_file`] writes and reads.
//! - `fetcher` asks other nodes, by the [`QueryNode`] that it is given; [`damson_core::dvr::fetch_queue`] decides which.
//! - Which segments are listed is [`damson_core::dvr::index`]'s to say, and the edge's `streams` hold that beside their windows.
//!
//! A segment is archived when it is whole, and listed by the archive from when the window lists it no more, so that what a
//! node dies with is the segment under way, and not the window.
//!
//! What is listed is bounded by time (`--dvr`) and by half of the bytes; the other half, and as much time again, holds what
//! was listed: rfc8216bis 6.2.2 wants a removed segment fetchable for its own duration and that of the longest
//! playlist that listed it. All tracks go in step, oldest first, and those of the oldest stream of all, so that every
//! stream can be sought back in equally far.

pub mod archive_writer;
pub mod disk;
mod fetcher;
mod settings;

#[cfg(test)]
mod tests;

pub use archive_writer::ArchiveWriter;
pub use fetcher::{Fetcher, QueryFuture, QueryNode};
pub use settings::Settings;
