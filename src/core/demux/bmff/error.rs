//! Errors of a file, in words for its sender.

use super::four_cc::FourCc;
use super::limits::{SAMPLES_MAX, TRACKS_MAX};

/// The rest of a file, or of a segment, can't be read. The sender is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BmffError {
    /// The bytes are no ISO BMFF file.
    #[error("byte {at}: not an MP4 box (ftyp, styp, moov, moof, ...); send MP4 or CMAF")]
    NoBox {
        /// The position in the file.
        at: u64,
    },
    /// Media comes before the init segment that describes it.
    #[error("byte {at}: media comes before the init segment; a plain file needs moov first (-movflags +faststart)")]
    NoInit {
        /// The position in the file.
        at: u64,
    },
    /// No `moof` announced this `mdat`.
    #[error("byte {at}: an mdat comes before its moof")]
    DataBeforeMoof {
        /// The position in the file.
        at: u64,
    },
    /// A box that must fit in memory is too long.
    #[error("byte {at}: the {kind} box has {len} bytes; the limit is {limit}")]
    TooLong {
        /// The position in the file.
        at: u64,
        /// The box's type.
        kind: FourCc,
        /// The content's length.
        len: u64,
        /// The longest content allowed.
        limit: u64,
    },
    /// A box is missing.
    #[error("byte {at}: the {parent} box has no {kind} box")]
    Missing {
        /// The position in the file.
        at: u64,
        /// The box's type.
        kind: FourCc,
        /// The type of the box that should hold it.
        parent: FourCc,
    },
    /// A field has a value that isn't allowed.
    #[error("byte {at}: the {kind} box has {what}")]
    Invalid {
        /// The position in the file.
        at: u64,
        /// The box's type.
        kind: FourCc,
        /// A description of the fault.
        what: &'static str,
    },
    /// The file has more than [`TRACKS_MAX`] tracks.
    #[error("the file has more than {TRACKS_MAX} tracks")]
    Tracks,
    /// The fragment has more than [`SAMPLES_MAX`] samples.
    #[error("a fragment has more than {SAMPLES_MAX} samples")]
    Samples,
    /// The init segment lacks the track of a fragment.
    #[error("a fragment belongs to track {id}, which the init segment doesn't have")]
    UnknownTrack {
        /// track_ID.
        id: u32,
    },
    /// Samples overlap, or don't lie in an `mdat` in the order of the file.
    #[error("byte {at}: the sample at byte {offset} is missing or incomplete")]
    Misplaced {
        /// The position in the file.
        at: u64,
        /// The position at which the sample should begin.
        offset: u64,
    },
    /// The file ends inside a box, or before all its samples have come.
    #[error("the data ends too early, at byte {at}")]
    Cut {
        /// The position in the file.
        at: u64,
    },
}

/// The reason why a track is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnusableTrack {
    /// The sample entry is unknown.
    #[error("codec '{0}' is not supported; use H.264, H.265, AV1, AAC, Opus, AC-3 or E-AC-3")]
    Codec(FourCc),
    /// The sample entry is protected.
    #[error("the track is encrypted; push it without encryption")]
    Encrypted,
    /// The track is MP3 in MP4.
    #[error("MP3 is not supported; use AAC, Opus, AC-3 or E-AC-3")]
    Mp3,
    /// The objectTypeIndication isn't AAC's.
    #[error("objectTypeIndication {0:#04x} is not supported; use AAC")]
    ObjectType(u8),
}
