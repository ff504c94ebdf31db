//! ISO BMFF files (ISO 14496-12) to codec headers and samples, as their bytes come (pure).
//!
//! ```text
//!  ftyp  moov (trak: mdhd hdlr stsd elst stbl, mvex/trex)                         mdat      a plain file, moov first
//!  ftyp  moov   styp prft emsg  moof (traf: tfhd tfdt trun)  mdat   styp moof mdat  ...     fragments, CMAF (23000-19)
//! ```
//!
//! [`BmffReader`] takes such a file in any pieces, several files after one another, or segments after their init segment.
//! The caller's contract: after each [`BmffReader::push`] and [`BmffReader::finish`], failed or not, it drains
//! [`BmffReader::poll_output`] until `None`. The reader holds one `moov` or `moof` of a limited size, one sample, and the
//! event messages of two fragments, each at most 260 KiB. It skips everything else as it comes.
//!
//! Event messages come out beside the samples, whether they stand before fragments (`emsg`) or in a track of their own (`evte`).
//!
//! Samples come in the file's order, which is by track within a fragment and not by time. Their times are on one [`CLOCK`].
//!
//! A new codec goes into `sample_entry`.

mod boxes;
mod error;
mod four_cc;
mod fragment;
mod limits;
mod message;
mod movie;
mod output;
mod place;
mod reader;
mod sample_entry;
mod sample_table;
mod track;

#[cfg(test)]
pub(crate) mod tests;

pub use boxes::Header;
pub use error::{BmffError, UnusableTrack};
pub use four_cc::FourCc;
pub use limits::{SAMPLES_MAX, TRACKS_MAX};
pub use movie::Movie;
pub use output::Output;
pub use place::{CLOCK, SamplePlace};
pub use reader::{BmffReader, Limits, begins};
pub use sample_table::Samples;
pub use track::{Handler, MovieTrack};
