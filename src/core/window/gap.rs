//! Gaps for parts that didn't come in time.
//!
//! The lost headers took their durations with them. What is known are the end of the part before and
//! the start of the next part that is here; the stretch between is cut into parts of about
//! PART-TARGET, and into segments of about the record's length where whole segments are missing.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::track::{Part, Segment};
use crate::model::Record;
use crate::model::time::{MediaTime, Timescale};
use crate::model::{Flags, PartHeader, Trace};
use crate::model::{Msn, PartId, TrackId};

/// The hash of a part that was made up here: no body has it but by a 1 in 2^256 accident.
pub(crate) const NO_HASH: [u8; 32] = [0; 32];

/// Puts gaps in place of what is missing of segment `next.0` from part `next.1` on. `false` if nothing
/// is missing: the segment ended early, and the next begins after a discontinuity.
pub(crate) fn fill(
    segments: &mut BTreeMap<Msn, Segment>,
    next: (Msn, u16),
    record: &Record,
    scale: Timescale,
    track: TrackId,
) -> bool {
    let (msn, number) = next;
    let Some(later) = first_after(segments, next) else { return false };
    let before = segments.range(..=msn).rev().find_map(|(m, s)| {
        let part = if *m == msn { s.parts.range(..number).next_back() } else { s.parts.last_key_value() };
        part.map(|(_, p)| p.header)
    });
    let segment_ticks = scale.ticks(record.segment_duration);
    let part_ticks = scale.ticks(record.part_target).max(1);
    let start = before.map_or(later.decode_time.saturating_sub(segment_ticks), end_of);

    if later.id.msn == msn {
        let missing = u64::from(later.id.part - number);
        // Where the gap before was estimated too short, this one doesn't make up for it: PART-TARGET holds.
        let stretch = later.decode_time.saturating_sub(start).min(missing * part_ticks);
        let gaps = Gaps { start, stretch, count: missing, ends_segment: false };
        gaps.insert(segments, next, before.unwrap_or(later), record, scale, track);
        return true;
    }
    // The rest of this segment is lost, and perhaps whole segments after it.
    let listed: u64 =
        segments.get(&msn).map_or(0, |s| s.parts.range(..number).map(|(_, p)| u64::from(p.header.duration)).sum());
    let jump = before.is_some_and(|b| b.discontinuity != later.discontinuity);
    if jump && number > 0 {
        return false;
    }
    let segments_between = u64::from(later.id.msn - msn - 1);
    let later_start = later.decode_time.saturating_sub(part_ticks * u64::from(later.id.part));
    let stretch = if jump {
        segment_ticks
    } else if segments_between == 0 {
        later_start.saturating_sub(start)
    } else {
        (later_start.saturating_sub(start) + listed)
            .checked_div(segments_between + 1)
            .unwrap_or(0)
            .saturating_sub(listed)
    };
    // Never longer than a segment can be, whatever the headers said: TARGETDURATION when rounded.
    let half = u64::from(scale.hz()) / 2;
    let longest = scale.ticks(record.target()).saturating_add(half).saturating_sub(listed + 1);
    let stretch = stretch.clamp(1, longest.max(1));
    let count = stretch.div_ceil(part_ticks).max(1);
    let gaps = Gaps { start, stretch, count, ends_segment: true };
    gaps.insert(segments, next, before.unwrap_or(later), record, scale, track);
    true
}

fn end_of(header: PartHeader) -> u64 {
    header.decode_time.saturating_add(u64::from(header.duration))
}

fn first_after(segments: &BTreeMap<Msn, Segment>, next: (Msn, u16)) -> Option<PartHeader> {
    segments.range(next.0..).find_map(|(m, s)| {
        let from = if *m == next.0 { next.1 } else { 0 };
        s.parts.range(from..).next().map(|(_, p)| p.header)
    })
}

struct Gaps {
    start: u64,
    stretch: u64,
    count: u64,
    ends_segment: bool,
}

impl Gaps {
    /// Inserts `count` gaps that share `stretch` evenly, modelled on the part before them.
    fn insert(
        self,
        segments: &mut BTreeMap<Msn, Segment>,
        (msn, number): (Msn, u16),
        model: PartHeader,
        record: &Record,
        scale: Timescale,
        track: TrackId,
    ) {
        let Some(segment) = segments.get_mut(&msn) else {
            segments.insert(msn, Segment::empty(msn));
            return self.insert(segments, (msn, number), model, record, scale, track);
        };
        for i in 0..self.count {
            let Some(part) = u16::try_from(i).ok().and_then(|i| number.checked_add(i)) else { return };
            let from = self.stretch * i / self.count;
            let to = self.stretch * (i + 1) / self.count;
            let decode_time = self.start + from;
            let moved = MediaTime::new(decode_time.saturating_sub(model.decode_time), scale).as_duration();
            let header = PartHeader {
                id: PartId { epoch: record.epoch, track, msn, part },
                decode_time,
                duration: u32::try_from(to - from).unwrap_or(u32::MAX),
                program_date_time: model.program_date_time + moved,
                flags: Flags { gap: true, last: self.ends_segment && i + 1 == self.count, ..Flags::default() },
                length: 0,
                hash: NO_HASH,
                ..model
            };
            let (received, delivered, listed) = Default::default();
            segment.parts.entry(part).or_insert(Part {
                header,
                body: Bytes::new(),
                trace: Trace::default(),
                received,
                delivered,
                listed,
            });
        }
    }
}
