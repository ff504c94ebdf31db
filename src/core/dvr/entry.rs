//! The name of a segment, and what playlists and MPDs say of it, without its parts.

use crate::model::time::UnixTime;
use crate::model::{LifeId, Msn, StreamName, TrackId};
use crate::window::Segment;

/// The name of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentKey {
    /// The stream.
    pub stream: StreamName,
    /// The life of the stream.
    pub life: LifeId,
    /// The track.
    pub track: TrackId,
    /// The media sequence number.
    pub msn: Msn,
}

/// A segment as playlists and MPDs list it: its number, times, headers and gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentEntry {
    /// The media sequence number.
    pub msn: Msn,
    /// Media time of its start, in ticks.
    pub decode_time: u64,
    /// The length, in ticks.
    pub duration: u64,
    /// The EXT-X-PROGRAM-DATE-TIME.
    pub program_date_time: UnixTime,
    /// The discontinuity sequence number.
    pub discontinuity: u32,
    /// The number of its init segment.
    pub init: u16,
    /// Some of its media is missing: EXT-X-GAP.
    pub gap: bool,
    /// Some of it is lost, and a request for it is answered 404.
    pub lost: bool,
    /// All of its parts are known, as in all archives.
    pub whole: bool,
    /// The length, in bytes.
    pub length: u64,
    /// This node keeps it; otherwise other nodes may.
    pub here: bool,
}

impl SegmentEntry {
    /// Returns the entry of a segment.
    pub fn of(segment: &Segment) -> Self {
        SegmentEntry {
            msn: segment.msn,
            decode_time: segment.decode_time(),
            duration: segment.duration(),
            program_date_time: segment.program_date_time(),
            discontinuity: segment.discontinuity(),
            init: segment.init(),
            gap: segment.has_gap(),
            lost: segment.has_loss(),
            whole: segment.is_complete(),
            length: segment.length(),
            here: true,
        }
    }

    /// Returns the media time of its end, in ticks.
    pub fn end(&self) -> u64 {
        self.decode_time.saturating_add(self.duration)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A segment of 2 s in milliseconds, of 100 bytes; media time 0 is that of number 0.
    pub(crate) fn entry(msn: Msn) -> SegmentEntry {
        SegmentEntry {
            msn,
            decode_time: u64::from(msn) * 2_000,
            duration: 2_000,
            program_date_time: UnixTime::from_micros(u64::from(msn) * 2_000_000),
            discontinuity: 0,
            init: 0,
            gap: false,
            lost: false,
            whole: true,
            length: 100,
            here: true,
        }
    }
}
