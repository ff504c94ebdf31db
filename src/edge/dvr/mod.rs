//! DVR: what a stream was, kept for seeking back.
//!
//! ```text
//!  window --whole segments--> Archive (index of the life: pure, behind the stream's lock) --> hls, dash: what is listed
//!                               |  segments, in turn                       ^ cuts, by the budget and after losses
//!                               v                                          |
//!                             Keeper: queue --> its own thread --> Disk: one file a segment
//!  a request for an old one --> memory (what has left the window, by bytes) --> Disk --> another node, that keeps it
//! ```
//!
//! - [`archive`] and [`shelf`] are the index: which segments are listed, which only kept, which are let go of. A segment
//!   is archived when it is whole, and listed by the archive from when the window lists it no more, so that what a
//!   node dies with is the segment under way, and not the window.
//! - [`listed`] joins both for the documents.
//! - [`joining`] gives a node without an archive, or with holes in its own, what others list; [`fetches`] decides which
//!   of them is asked for a segment that isn't here, [`message`] is what they are asked, and `fetcher` asks.
//! - [`mod@format`] is a file, and `disk` a folder of them; `keeper` queues, counts and bounds.
//!
//! What is listed is bounded by time (`--dvr`) and by half of the bytes; the other half, and as much time again, holds what
//! was listed: rfc8216bis 6.2.2 wants a removed segment fetchable for its own duration and that of the longest
//! playlist that listed it. All tracks go in step, oldest first, and those of the oldest stream of all, so that every
//! stream can be sought back in equally far.

pub mod archive;
#[cfg(feature = "node")]
pub mod disk;
pub mod format;
#[cfg(feature = "node")]
pub mod keeper;
pub mod listed;
pub mod shelf;

#[cfg(feature = "node")]
mod fetcher;
pub mod fetches;
pub mod joining;
pub mod message;

#[cfg(test)]
mod tests;

pub use archive::{Archive, Stock};
#[cfg(feature = "node")]
pub use fetcher::{Answering, Far, Fetcher, Refusal};
#[cfg(feature = "node")]
pub use keeper::Keeper;
pub use listed::Listed;
pub use message::Listing;
pub use shelf::{Entry, Shelf};

use std::path::PathBuf;
use std::time::Duration;

use crate::live::{LifeId, Msn, StreamName, TrackId};

/// A segment of a stream's life.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The stream.
    pub stream: StreamName,
    /// Its life.
    pub life: LifeId,
    /// The track.
    pub track: TrackId,
    /// The segment.
    pub msn: Msn,
}

/// What is kept for seeking back.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How much of each stream is listed; no less than a playlist lists without.
    pub depth: Duration,
    /// Bytes of segments in memory: without a folder, all that is kept.
    pub memory: u64,
    /// Where the rest lies, and how many bytes it may have there.
    pub disk: Option<(PathBuf, u64)>,
}

impl Settings {
    /// What `--dvr-memory` is if nothing is said: 12 minutes of 3 Mb/s.
    pub const MEMORY: u64 = 256 << 20;
    /// What `--dvr-disk` is if nothing is said: 8 hours of 3 Mb/s.
    pub const DISK: u64 = 10 << 30;

    /// Bytes of all segments kept.
    pub fn bytes_max(&self) -> u64 {
        self.disk.as_ref().map_or(self.memory, |(_, bytes)| *bytes)
    }
}
