//! The bounds of what the reader takes of a file, in tracks and samples.

/// Tracks of a file. A push has as many at most.
pub const TRACKS_MAX: usize = 16;

/// Samples of a fragment: a minute of 16 tracks at 60 a second.
pub const SAMPLES_MAX: usize = 1 << 16;
