//! The place and the times of a sample.

use crate::model::InputClock;
use crate::model::time::Timescale;

/// The clock of the reader's outputs: 90 kHz, modulo 2^62. No time of a file wraps, but an edit may shift its first
/// ones below 0.
pub const CLOCK: InputClock = InputClock { scale: Timescale::MPEG, wrap_bits: 62 };

/// A sample's place and times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SamplePlace {
    /// The sample's position in the file.
    pub offset: u64,
    /// The sample's length, in bytes.
    pub len: u32,
    /// The decode time in ticks of the track, shifted by the edit list.
    pub dts: i64,
    /// The duration in ticks of the track.
    pub duration: u32,
    /// Presentation minus decode time, in ticks of the track.
    pub composition_offset: i32,
    /// A random access point.
    pub keyframe: bool,
}
