//! The record's periods. A new one begins at each discontinuity, when other tracks are sent, and when segments have drifted.

use std::time::Duration;

use super::unit::SegmentStart;
use crate::model::{Msn, Period, Record, TrackId, TrackSet};

/// The periods of a presentation.
#[derive(Debug)]
pub(super) struct Periods {
    list: Vec<Period>,
    /// The newest segment's discontinuity sequence number.
    discontinuity: u32,
    segment_duration: Duration,
    /// The segments of a track that a node holds.
    held: u32,
}

/// The facts that decide whether a period has a track.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub id: TrackId,
    pub video: bool,
    pub fed: bool,
}

impl Periods {
    /// Continues the periods of a record.
    pub(super) fn new(record: &Record, discontinuity: u32) -> Self {
        let (segment_duration, held) = (record.segment_duration, record.held_segments());
        Periods { list: record.periods.clone(), discontinuity, segment_duration, held }
    }

    pub(super) fn list(&self) -> &[Period] {
        &self.list
    }

    pub(super) fn discontinuity(&self) -> u32 {
        self.discontinuity
    }

    /// Begins the next period; `fresh`: the presentation's first.
    pub(super) fn begin(&mut self, msn: Msn, start: Duration, tracks: &[Sent], fresh: bool) {
        if !fresh {
            self.discontinuity = self.discontinuity.saturating_add(1);
        }
        let tracks = self.sent(tracks);
        self.list.push(Period { tracks, ..Period::new(msn, self.discontinuity, start) });
        self.forget(msn);
    }

    /// Begins a segment; and a period with it, if other tracks are sent than before, or if the segment begins too far from the
    /// time that `$Number$` and `@duration` give. Returns whether a period begins.
    pub(super) fn segment(&mut self, segment: &SegmentStart, tracks: &[Sent]) -> bool {
        let tracks = self.sent(tracks);
        let breaks = segment.discontinuity != self.discontinuity;
        let same = |period: &Period| period.tracks == tracks && !self.has_drifted(period, segment);
        if !breaks && self.list.last().is_some_and(same) {
            return false;
        }
        self.discontinuity = segment.discontinuity;
        self.list.push(period_of(segment, tracks, !breaks));
        self.forget(segment.msn + 1);
        true
    }

    /// Gives the periods from `segment` on a track, whose first unit is at `begins`. `next_msn` is the MSN after the newest
    /// segment.
    pub(super) fn include(&mut self, id: TrackId, segment: &SegmentStart, begins: Duration, next_msn: Msn) {
        let at = self.list.iter().take_while(|period| period.first_msn < segment.msn).count();
        if self.list.get(at).is_none_or(|period| period.first_msn > segment.msn) {
            let before = at.checked_sub(1).and_then(|at| self.list.get(at));
            let (before, earliest) = before.map_or((TrackSet::default(), begins), |p| (p.tracks, p.start));
            if !before.contains(id) {
                // Players cut off what lies before a Period: no keyframe may.
                let start = SegmentStart { start: segment.start.min(begins).max(earliest), ..*segment };
                self.list.insert(at, period_of(&start, before.with(id), true));
            }
        }
        for period in self.list.iter_mut().skip(at) {
            period.tracks = period.tracks.with(id);
        }
        self.forget(next_msn);
    }

    /// Drops periods that have left every window.
    fn forget(&mut self, next_msn: Msn) {
        let (list, oldest) = (&mut self.list, next_msn.saturating_sub(self.held));
        while list.len() > Record::PERIODS_MAX || list.get(1).is_some_and(|next| next.first_msn < oldest) {
            list.remove(0);
        }
    }

    /// Returns the tracks that are sent. If no track of a kind is, the tracks of before stay: players need every kind in every
    /// Period.
    fn sent(&self, tracks: &[Sent]) -> TrackSet {
        let before = self.list.last().map_or(TrackSet::ALL, |period| period.tracks);
        let any_fed = |video: bool| tracks.iter().any(|track| track.video == video && track.fed);
        let fed = [any_fed(false), any_fed(true)];
        let is_sent = |track: &&Sent| if fed[usize::from(track.video)] { track.fed } else { before.contains(track.id) };
        tracks.iter().filter(is_sent).map(|track| track.id).collect()
    }

    /// Returns whether a segment begins half a segment or more from its nominal place in a period. Players that count segments
    /// would request a wrong one (DASH-IF live, 4.3.4: half of `@duration` at most).
    fn has_drifted(&self, period: &Period, segment: &SegmentStart) -> bool {
        let nominal = period.start + self.segment_duration * segment.msn.saturating_sub(period.first_msn);
        segment.start.abs_diff(nominal) * 2 >= self.segment_duration
    }
}

/// Returns the period that begins with a segment while media goes on, on a whole microsecond as in the record.
fn period_of(segment: &SegmentStart, tracks: TrackSet, continues: bool) -> Period {
    let start = Duration::from_micros(u64::try_from(segment.start.as_micros()).unwrap_or(u64::MAX));
    Period { tracks, continues, ..Period::new(segment.msn, segment.discontinuity, start) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIDEO: TrackId = TrackId(0);
    const AUDIO: TrackId = TrackId(1);

    /// Periods of segments of 2 s, the first at segment 10.
    fn periods() -> Periods {
        let mut periods =
            Periods { list: Vec::new(), discontinuity: 3, segment_duration: Duration::from_secs(2), held: 1_000 };
        periods.begin(10, Duration::ZERO, &sent(true, true), true);
        periods
    }

    fn sent(video: bool, audio: bool) -> [Sent; 2] {
        [Sent { id: VIDEO, video: true, fed: video }, Sent { id: AUDIO, video: false, fed: audio }]
    }

    fn segment(msn: Msn, start_ms: u64, discontinuity: u32) -> SegmentStart {
        let start = Duration::from_millis(start_ms);
        SegmentStart { msn, start, ideal: start, discontinuity, shown: start, keyed: true, forced: false, shift: 0 }
    }

    fn listed(periods: &Periods) -> Vec<(Msn, u32, bool, bool)> {
        let of = |p: &Period| (p.first_msn, p.discontinuity, p.tracks.contains(VIDEO), p.tracks.contains(AUDIO));
        periods.list().iter().map(of).collect()
    }

    #[test]
    fn a_segment_in_its_place_begins_no_period() {
        let mut periods = periods();
        assert!(!periods.segment(&segment(11, 2_000, 3), &sent(true, true)));
        assert!(!periods.segment(&segment(12, 4_990, 3), &sent(true, true)));
        assert!(periods.segment(&segment(13, 7_000, 3), &sent(true, true)), "half a segment late");
        assert!(periods.segment(&segment(14, 9_000, 4), &sent(true, true)), "a discontinuity");
        assert_eq!(listed(&periods), [(10, 3, true, true), (13, 3, true, true), (14, 4, true, true)]);
        assert_eq!(periods.discontinuity(), 4);
        let continues: Vec<bool> = periods.list().iter().map(|period| period.continues).collect();
        assert_eq!(continues, [false, true, false]);
    }

    #[test]
    fn every_kind_is_in_every_period() {
        let mut periods = periods();
        assert!(!periods.segment(&segment(11, 2_000, 3), &sent(true, false)), "the only sound");
        periods.begin(12, Duration::from_secs(9), &sent(false, true), false);
        assert_eq!(listed(&periods), [(10, 3, true, true), (12, 4, true, true)]);
        let third = Sent { id: TrackId(2), video: false, fed: false };
        assert!(!periods.segment(&segment(13, 11_000, 4), &[&sent(true, true)[..], &[third]].concat()));
    }

    #[test]
    fn a_track_that_joins_is_in_the_periods_from_there_on() {
        let mut periods = periods();
        let third = TrackId(2);
        periods.include(third, &segment(12, 4_000, 3), Duration::from_millis(3_980), 13);
        let with: Vec<(Msn, bool)> =
            periods.list().iter().map(|period| (period.first_msn, period.tracks.contains(third))).collect();
        assert_eq!(with, [(10, false), (12, true)]);
        assert!(periods.list()[1].continues);
        assert_eq!(periods.list()[1].start, Duration::from_millis(3_980), "its keyframe is in the period");
        periods.include(AUDIO, &segment(13, 6_000, 3), Duration::from_secs(6), 14);
        assert_eq!(periods.list().len(), 2, "it was sent before");
    }

    #[test]
    fn old_periods_are_forgotten() {
        let mut periods = periods();
        for n in 1..300 {
            periods.begin(10 + n, Duration::from_secs(u64::from(n)), &sent(true, true), false);
        }
        assert_eq!(periods.list().len(), Record::PERIODS_MAX);
        periods.held = 2;
        periods.begin(310, Duration::from_secs(300), &sent(true, true), false);
        assert_eq!(listed(&periods).iter().map(|period| period.0).collect::<Vec<_>>(), [307, 308, 309, 310]);
    }
}
