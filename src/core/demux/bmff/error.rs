//! What can be wrong with a file, in words for who sent it.

use super::four_cc::FourCc;
use super::limits::{SAMPLES_MAX, TRACKS_MAX};

/// Why a file, or a segment, can't be read on. Who made it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BmffError {
    /// No ISO BMFF file.
    #[error("byte {at}: no ISO BMFF box (ftyp, styp, moov, moof, ...) begins there")]
    NoBox {
        /// Where in the file.
        at: u64,
    },
    /// Media, and nothing has said of what.
    #[error("byte {at}: media before the init segment (a plain file has to have moov first: -movflags +faststart)")]
    NoInit {
        /// Where in the file.
        at: u64,
    },
    /// An `mdat` that no `moof` announced.
    #[error("byte {at}: an mdat before its moof")]
    DataBeforeMoof {
        /// Where in the file.
        at: u64,
    },
    /// A box that has to be in memory is too long.
    #[error("byte {at}: the {kind} has {len} bytes, more than {limit}")]
    TooLong {
        /// Where in the file.
        at: u64,
        /// The box.
        kind: FourCc,
        /// Its content's length.
        len: u64,
        /// What it may have.
        limit: u64,
    },
    /// A box has to be there.
    #[error("byte {at}: the {parent} has no {kind}")]
    Missing {
        /// Where in the file.
        at: u64,
        /// The box.
        kind: FourCc,
        /// The box that it should be in.
        parent: FourCc,
    },
    /// A value that a field can't have.
    #[error("byte {at}: {what} in the {kind}")]
    Invalid {
        /// Where in the file.
        at: u64,
        /// The box.
        kind: FourCc,
        /// What is wrong.
        what: &'static str,
    },
    /// [`TRACKS_MAX`].
    #[error("more than {TRACKS_MAX} tracks")]
    Tracks,
    /// [`SAMPLES_MAX`].
    #[error("a fragment of more than {SAMPLES_MAX} samples")]
    Samples,
    /// A fragment of a track that the init segment doesn't have.
    #[error("a fragment of track {id}, which the init segment doesn't have")]
    UnknownTrack {
        /// track_ID.
        id: u32,
    },
    /// Samples overlap, or don't lie in an `mdat` in the order of the file.
    #[error("byte {at}: a sample that begins at byte {offset} isn't there, or not whole")]
    Misplaced {
        /// Where in the file.
        at: u64,
        /// Where the sample should be.
        offset: u64,
    },
    /// It ends inside a box, or before all its samples have come.
    #[error("it ends too early, at byte {at}")]
    Cut {
        /// Where in the file.
        at: u64,
    },
}

/// Why a track isn't taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnusableTrack {
    /// A sample entry that isn't known.
    #[error("'{0}' isn't taken: H.264, H.265, AV1, AAC, Opus, AC-3 and E-AC-3 are")]
    Codec(FourCc),
    /// A protected sample entry.
    #[error("it is encrypted")]
    Encrypted,
    /// MP3 in MP4.
    #[error("MP3 isn't taken: AAC, Opus, AC-3 and E-AC-3 are")]
    Mp3,
    /// An objectTypeIndication that isn't AAC's.
    #[error("objectTypeIndication {0:#04x} isn't AAC")]
    ObjectType(u8),
}
