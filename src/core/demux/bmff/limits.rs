//! The limits of a file, in tracks and samples.

/// The most tracks of a file: as many as a push may have.
pub const TRACKS_MAX: usize = 16;

/// The most samples of a fragment: a minute of 16 tracks at 60 a second.
pub const SAMPLES_MAX: usize = 1 << 16;
