//! A sample as it comes out, and the clock of all times that do.

use bytes::Bytes;

use crate::model::InputClock;
use crate::model::time::Timescale;

/// 90 kHz, modulo 2^62: no time of a file wraps, but an edit may put its first ones before 0.
pub const CLOCK: InputClock = InputClock { scale: Timescale::MPEG, wrap_bits: 62 };

/// One sample, in ticks of its track.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// track_ID.
    pub track: u32,
    /// Decode time, edits included.
    pub dts: i64,
    /// How long it lasts; 0 where the file doesn't say.
    pub duration: u32,
    /// Presentation minus decode time.
    pub composition_offset: i32,
    /// A random access point.
    pub keyframe: bool,
    /// As [`AccessUnit::data`](crate::model::AccessUnit::data).
    pub data: Bytes,
}
