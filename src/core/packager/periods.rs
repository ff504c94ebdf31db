//! The record's periods: a new one with each discontinuity, whenever other tracks are sent, and where segments have drifted.

use std::time::Duration;

use super::diagnostic::Notice;
use super::presentation::Life;
use super::track::Segment;
use crate::model::{Period, Record, TrackId, TrackSet};

impl Life {
    /// The tracks that are sent. Where none of a kind is, those that were: players need every kind in every Period.
    pub(crate) fn sent(&self) -> TrackSet {
        let before = self.record.periods.last().map_or(TrackSet::ALL, |period| period.tracks);
        let lanes = || self.segmenter.lanes.iter();
        let of_kind = |video: bool| {
            let fed = lanes().any(|lane| lane.track.is_video() == video && lane.is_fed());
            lanes().filter(move |lane| {
                lane.track.is_video() == video && if fed { lane.is_fed() } else { before.contains(lane.track.id) }
            })
        };
        of_kind(true).chain(of_kind(false)).map(|lane| lane.track.id).collect()
    }

    /// A segment begins: with it a period, if other tracks are sent than in the one before, or if it begins too far from
    /// where `$Number$` and `@duration` say.
    pub(crate) fn begun(&mut self, segment: Segment) {
        let tracks = self.sent();
        let breaks = segment.discontinuity != self.discontinuity;
        let same = |period: &Period| period.tracks == tracks && !self.has_drifted(period, &segment);
        if !breaks && self.record.periods.last().is_some_and(same) {
            return;
        }
        self.discontinuity = segment.discontinuity;
        self.record.periods.push(period_of(&segment, tracks, !breaks));
        self.forget_periods();
        self.publish();
        if breaks {
            let (first_msn, discontinuity) = (segment.msn, segment.discontinuity);
            self.segmenter.sink.notice(Notice::PeriodBegan { first_msn, discontinuity });
        }
    }

    /// Whether a segment begins half a segment or more from its nominal place in a period: players that count segments
    /// would ask for another one than they mean (DASH-IF live, 4.3.4: by half of `@duration` at most).
    fn has_drifted(&self, period: &Period, segment: &Segment) -> bool {
        let nominal = period.start + self.record.segment_duration * segment.msn.saturating_sub(period.first_msn);
        segment.start.abs_diff(nominal) * 2 >= self.record.segment_duration
    }

    /// The periods from `segment` on have this track.
    pub(crate) fn include(&mut self, id: TrackId, segment: &Segment) {
        let periods = &mut self.record.periods;
        let at = periods.iter().take_while(|period| period.first_msn < segment.msn).count();
        if periods.get(at).is_none_or(|period| period.first_msn > segment.msn) {
            let before = at.checked_sub(1).and_then(|at| periods.get(at)).map_or(TrackSet::default(), |p| p.tracks);
            if !before.contains(id) {
                periods.insert(at, period_of(segment, before.with(id), true));
            }
        }
        for period in periods.iter_mut().skip(at) {
            period.tracks = period.tracks.with(id);
        }
        self.forget_periods();
    }

    /// Drops periods that have left every window.
    pub(crate) fn forget_periods(&mut self) {
        let oldest = self.segmenter.next_msn.saturating_sub(self.record.held_segments());
        let periods = &mut self.record.periods;
        while periods.len() > Record::PERIODS_MAX || periods.get(1).is_some_and(|next| next.first_msn < oldest) {
            periods.remove(0);
        }
    }
}

/// The period that begins with a segment while media goes on. On a whole microsecond, as the record says it.
fn period_of(segment: &Segment, tracks: TrackSet, continues: bool) -> Period {
    let start = Duration::from_micros(u64::try_from(segment.start.as_micros()).unwrap_or(u64::MAX));
    Period { tracks, continues, ..Period::new(segment.msn, segment.discontinuity, start) }
}
