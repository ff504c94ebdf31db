//! Gaps for parts that didn't come in time.
//!
//! The durations of lost parts are unknown, because their headers are lost, too. Known are the end of the part before and
//! the start of the next part that is here. The stretch between them is cut into parts of about PART-TARGET, and into
//! segments of about the record's length where whole segments are missing.

use std::collections::BTreeMap;

use super::segment::{Part, Segment};
use crate::model::time::Timescale;
use crate::model::{Flags, Msn, PartHeader, PartId, Record, TrackId};

/// Puts gaps in place of what is missing of segment `next.0` from part `next.1` on. Returns `false` if nothing is missing:
/// the segment ended early, and the next one begins after a discontinuity.
pub(super) fn fill(
    segments: &mut BTreeMap<Msn, Segment>,
    next: (Msn, u16),
    record: &Record,
    scale: Timescale,
    track: TrackId,
) -> bool {
    let (msn, number) = next;
    let Some(later) = first_after(segments, next) else { return false };
    let before = last_before(segments, next);
    let segment_ticks = scale.ticks(record.segment_duration);
    let part_ticks = scale.ticks(record.part_target).max(1);
    let start = before.map_or(later.decode_time.saturating_sub(segment_ticks), end_of);
    let jump = before.is_some_and(|before| before.discontinuity != later.discontinuity);
    let ends_segment = later.id.msn != msn;
    if ends_segment && jump && number > 0 {
        return false;
    }
    let (stretch, count) = if ends_segment {
        // The rest of this segment is lost, and perhaps whole segments after it.
        let listed = segments.get(&msn).map_or(0, Segment::duration);
        let between = u64::from(later.id.msn - msn - 1);
        let later_start = later.decode_time.saturating_sub(part_ticks * u64::from(later.id.part));
        let missing = later_start.saturating_sub(start);
        let stretch = match between {
            _ if jump => segment_ticks,
            0 => missing,
            _ => ((missing + listed) / (between + 1)).saturating_sub(listed),
        };
        // Never longer than a segment can be, whatever the headers said: TARGETDURATION when rounded.
        let half = u64::from(scale.hz()) / 2;
        let longest = scale.ticks(record.target()).saturating_add(half).saturating_sub(listed + 1);
        let stretch = stretch.clamp(1, longest.max(1));
        (stretch, stretch.div_ceil(part_ticks).max(1))
    } else {
        // If the gap before was estimated too short, this one doesn't make up for it: PART-TARGET holds.
        let missing = u64::from(later.id.part - number);
        (later.decode_time.saturating_sub(start).min(missing * part_ticks), missing)
    };
    let model = before.unwrap_or(later);
    let segment = segments.entry(msn).or_insert_with(|| Segment::empty(msn));
    for (part, i) in (number..=u16::MAX).zip(0..count) {
        // The gaps share the stretch evenly.
        let (from, to) = (stretch * i / count, stretch * (i + 1) / count);
        let decode_time = start + from;
        let moved = scale.duration(decode_time.saturating_sub(model.decode_time));
        let header = PartHeader {
            id: PartId { epoch: record.epoch, track, msn, part },
            decode_time,
            duration: u32::try_from(to - from).unwrap_or(u32::MAX),
            program_date_time: model.program_date_time + moved,
            flags: Flags { last: ends_segment && i + 1 == count, ..Flags::default() },
            ..model
        };
        segment.insert(part, Part::lost(header));
    }
    true
}

fn end_of(header: PartHeader) -> u64 {
    header.decode_time.saturating_add(u64::from(header.duration))
}

fn first_after(segments: &BTreeMap<Msn, Segment>, (msn, number): (Msn, u16)) -> Option<PartHeader> {
    segments.range(msn..).find_map(|(m, segment)| {
        let from = if *m == msn { number } else { 0 };
        segment.first_from(from).map(|part| part.header)
    })
}

fn last_before(segments: &BTreeMap<Msn, Segment>, (msn, number): (Msn, u16)) -> Option<PartHeader> {
    segments.range(..=msn).rev().find_map(|(m, segment)| {
        let part = if *m == msn { segment.last_before(number) } else { segment.newest().map(|(_, part)| part) };
        part.map(|part| part.header)
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::tests::record;
    use super::*;
    use crate::model::time::{Time, UnixTime};

    const MSN: Msn = 7;

    fn part(msn: Msn, part: u16, decode_time: u64, discontinuity: u32) -> Part {
        let header = PartHeader {
            id: PartId { epoch: record(0).epoch, track: TrackId(0), msn, part },
            decode_time,
            duration: 200,
            program_date_time: UnixTime::from_micros(decode_time * 1_000),
            ingested: UnixTime::default(),
            init: 3,
            discontinuity,
            flags: Flags { independent: true, ..Flags::default() },
            length: 4,
            hash: [1; 32],
        };
        Part::untraced(header, Bytes::from_static(b"body"))
    }

    /// Fills from `next` on, with the first `next.1` parts of that segment listed. Returns each gap's part, start, duration and
    /// whether it is the last, if anything is missing.
    fn filled(parts: Vec<Part>, next: (Msn, u16)) -> Option<Vec<(u16, u64, u32, bool)>> {
        let mut segments = BTreeMap::new();
        for part in parts {
            let id = part.header.id;
            segments.entry(id.msn).or_insert_with(|| Segment::empty(id.msn)).insert(id.part, part);
        }
        for _ in 0..next.1 {
            segments.get_mut(&next.0).and_then(|s| s.list(Time::ZERO)).expect("here");
        }
        let is_missing = fill(&mut segments, next, &record(0), Timescale::MILLIS, TrackId(0));
        let gaps = segments.get(&next.0).into_iter().flat_map(Segment::held).filter(|part| part.is_lost());
        let gaps: Vec<_> = gaps.map(|part| &part.header).collect();
        assert!(gaps.iter().all(|h| h.length == 0 && h.init == 3 && !h.flags.independent));
        assert!(gaps.iter().all(|h| h.program_date_time == UnixTime::from_micros(h.decode_time * 1_000)));
        let gaps = gaps.iter().map(|h| (h.id.part, h.decode_time, h.duration, h.flags.last)).collect();
        is_missing.then_some(gaps)
    }

    #[test]
    fn parts_amid_a_segment_share_what_is_between() {
        let parts = vec![part(MSN, 0, 0, 0), part(MSN, 3, 590, 0)];
        assert_eq!(filled(parts, (MSN, 1)), Some(vec![(1, 200, 195, false), (2, 395, 195, false)]));
        // PART-TARGET holds, however far off the next part is.
        let parts = vec![part(MSN, 0, 0, 0), part(MSN, 2, 5_000, 0)];
        assert_eq!(filled(parts, (MSN, 1)), Some(vec![(1, 200, 200, false)]));
    }

    #[test]
    fn a_segments_lost_end_reaches_to_the_next_segment() {
        let parts = vec![part(MSN, 0, 0, 0), part(MSN + 1, 0, 600, 0)];
        assert_eq!(filled(parts, (MSN, 1)), Some(vec![(1, 200, 200, false), (2, 400, 200, true)]));
        // The first part of the next one is lost, too.
        let parts = vec![part(MSN, 0, 0, 0), part(MSN + 1, 1, 600, 0)];
        assert_eq!(filled(parts, (MSN, 1)), Some(vec![(1, 200, 200, true)]));
    }

    #[test]
    fn segments_in_a_row_that_are_lost_share_what_is_between() {
        let parts = vec![part(MSN - 1, 0, 0, 0), part(MSN + 2, 0, 1_000, 0)];
        let first = filled(parts, (MSN, 0)).expect("missing");
        assert_eq!(first, [(0, 200, 200, false), (1, 400, 200, true)]);
        // TARGETDURATION holds, however far off the next segment is.
        let parts = vec![part(MSN - 1, 0, 0, 0), part(MSN + 1, 0, 60_000, 0)];
        let ticks: u32 = filled(parts, (MSN, 0)).expect("missing").iter().map(|gap| gap.2).sum();
        assert_eq!(ticks, 2_499);
    }

    #[test]
    fn before_a_discontinuity_a_segment_just_ends() {
        let jump = vec![part(MSN, 0, 0, 0), part(MSN + 1, 0, 9_000, 1)];
        assert_eq!(filled(jump, (MSN, 1)), None);
        assert_eq!(filled(vec![part(MSN, 0, 0, 0)], (MSN, 1)), None, "nothing later is here");
        // Of a whole segment before it nobody knows how long it was.
        let jump = vec![part(MSN - 1, 0, 0, 0), part(MSN + 1, 0, 9_000, 1)];
        let ticks: u32 = filled(jump, (MSN, 0)).expect("missing").iter().map(|gap| gap.2).sum();
        assert_eq!(ticks, 2_000);
    }
}
