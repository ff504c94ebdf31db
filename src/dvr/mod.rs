//! DVR: what a stream was, kept for seeking back.
//!
//! ```text
//!  window --whole segments--> ArchiveIndex (of the life: pure, behind the stream's lock) --> hls, dash: what is listed
//!                               |  segments, in turn                       ^ cuts, by the budget and after losses
//!                               v                                          |
//!                      ArchiveWriter: queue --> its own thread --> Disk: one file a segment
//!  a request for an old one --> memory (what has left the window, by bytes) --> Disk --> another node, that keeps it
//! ```
//!
//! - [`index`] and [`track_index`] know which segments are listed, which only kept, which are let go of. A segment
//!   is archived when it is whole, and listed by the archive from when the window lists it no more, so that what a
//!   node dies with is the segment under way, and not the window.
//! - [`listed`] joins both for the documents.
//! - [`merge`] gives a node without an archive, or with holes in its own, what others list; [`fetch_queue`] decides which
//!   of them is asked for a segment that isn't here, [`query`] is what they are asked, and `fetcher` asks.
//! - [`segment_file`] is a file, and `disk` a folder of them; `archive_writer` queues, counts and bounds.
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
