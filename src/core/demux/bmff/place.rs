//! Where a sample lies, and when.

use crate::model::InputClock;
use crate::model::time::Timescale;

/// The clock of all times that the reader puts out: 90 kHz, modulo 2^62. No time of a file wraps, but an edit may put its first
/// ones before 0.
pub const CLOCK: InputClock = InputClock { scale: Timescale::MPEG, wrap_bits: 62 };

/// A sample's place and times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SamplePlace {
    /// Where in the file it begins.
    pub offset: u64,
    /// In bytes.
    pub len: u32,
    /// In ticks of the track, an edit list included.
    pub dts: i64,
    /// In ticks of the track.
    pub duration: u32,
    /// In ticks of the track.
    pub composition_offset: i32,
    /// A random access point.
    pub keyframe: bool,
}
