//! DVR: what a stream was, kept for seeking back.
//!
//! - [`archive`] and [`shelf`] are the index: which segments are listed, which only kept, which are let go of. A segment
//!   is archived when it is whole, and listed by the archive from when the window lists it no more, so that what a
//!   node dies with is the segment under way, and not the window.
//! - [`listed`] joins both for the documents.
//! - [`format`] is a segment as a file.
//!
//! What is listed is bounded by time (`--dvr`) and by half of the bytes; the other half, and as much time again, holds what
//! was listed: rfc8216bis 6.2.2 wants a removed segment fetchable for its own duration and that of the longest
//! playlist that listed it. All tracks go in step, oldest first, and those of the oldest stream of all, so that every
//! stream can be sought back in equally far.

pub mod archive;
pub mod format;
pub mod listed;
pub mod shelf;

#[cfg(test)]
mod tests;

pub use archive::{Archive, Stock};
pub use listed::Listed;
pub use shelf::{Entry, Shelf};
