//! The lines of a segment in a media playlist, and its numbers. A line that has been printed once is printed the same as
//! long as it is listed: durations come from ticks, never from sums of rounded numbers.

use std::fmt::Write as _;
use std::time::Duration;

use crate::dvr::SegmentEntry;
use crate::model::time::Timescale;

/// More EXT-X-DISCONTINUITY tags than this are never printed between two segments.
const DISCONTINUITIES_MAX: u32 = 16;

/// What the lines of a segment depend on: what was printed before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// The init segment that applies, once one was named.
    pub init: Option<u16>,
    discontinuity: u32,
}

impl Before {
    /// Before the first segment, whose own EXT-X-DISCONTINUITY has left with its predecessor.
    pub fn first(segment: &SegmentEntry) -> Self {
        Before { init: None, discontinuity: segment.discontinuity }
    }

    /// After a segment.
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
    if segment.gap {
        out.push_str("#EXT-X-GAP\n");
    }
    out.push_str("#EXTINF:");
    seconds(out, segment.duration, scale);
    let _ = writeln!(out, ",\n{}.m4s", segment.msn);
}

/// Writes seconds with the six digits that every implementation reads, rounded to the nearest.
pub fn seconds(out: &mut String, ticks: u64, scale: Timescale) {
    let hz = u128::from(scale.hz());
    let micros = (u128::from(ticks) * 1_000_000 + hz / 2) / hz;
    let _ = write!(out, "{}.{:06}", micros / 1_000_000, micros % 1_000_000);
}

/// Writes seconds with three digits.
pub fn millis(out: &mut String, duration: Duration) {
    let _ = write!(out, "{}.{:03}", duration.as_secs(), duration.subsec_millis());
}
