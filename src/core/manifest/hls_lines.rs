//! Writes the lines of a segment in a media playlist. A line stays the same as long as its segment is listed: durations
//! come from ticks, never from sums of rounded numbers.

use std::fmt::{self, Write as _};

use crate::dvr::SegmentEntry;
use crate::model::time::Timescale;

/// Most EXT-X-DISCONTINUITY tags between two segments.
const DISCONTINUITIES_MAX: u32 = 16;

/// What the lines of a segment depend on: the segment before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// The init segment that applies, once a line has named one.
    pub init: Option<u16>,
    discontinuity: u32,
}

impl Before {
    /// Returns the state before the first segment, whose own EXT-X-DISCONTINUITY has left with its predecessor.
    pub fn first(segment: &SegmentEntry) -> Self {
        Before { init: None, discontinuity: segment.discontinuity }
    }

    /// Returns the state after a segment.
    pub fn after(segment: &SegmentEntry) -> Self {
        Before { init: Some(segment.init), discontinuity: segment.discontinuity }
    }

    /// Writes the lines before a segment's parts.
    pub fn begin(&mut self, out: &mut String, segment: &SegmentEntry) {
        let jumps = segment.discontinuity.saturating_sub(self.discontinuity);
        for _ in 0..jumps.min(DISCONTINUITIES_MAX) {
            out.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if self.init != Some(segment.init) {
            let _ = writeln!(out, "#EXT-X-MAP:URI=\"init.{}.mp4\"", segment.init);
        }
        *self = Before::after(segment);
        let _ = writeln!(out, "#EXT-X-PROGRAM-DATE-TIME:{}", segment.program_date_time);
    }
}

/// Writes the lines of a whole segment after its parts.
pub fn finish(out: &mut String, segment: &SegmentEntry, scale: Timescale) {
    let gap = if segment.gap { "#EXT-X-GAP\n" } else { "" };
    let _ = writeln!(out, "{gap}#EXTINF:{},\n{}.m4s", Seconds(segment.duration, scale), segment.msn);
}

/// Ticks, shown as seconds with six digits, rounded to the nearest: every implementation reads that.
#[derive(Debug, Clone, Copy)]
pub struct Seconds(pub u64, pub Timescale);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ticks, hz) = (u128::from(self.0), u128::from(self.1.hz()));
        let micros = (ticks * 1_000_000 + hz / 2) / hz;
        write!(f, "{}.{:06}", micros / 1_000_000, micros % 1_000_000)
    }
}
