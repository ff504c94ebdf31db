//! One track of a window.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use super::gap;
use super::segment::{Part, Segment};
use crate::model::limits::JOIN_SETTLE;
use crate::model::time::{Time, Timescale};
use crate::model::{Msn, Record, TrackId};

/// What is known of a part or segment that somebody asks for.
#[derive(Debug)]
pub enum Lookup<T> {
    /// Here it is.
    Ready(T),
    /// It is lost, and listed as a gap: 404.
    Gap,
    /// It isn't here yet, and is expected: it may be waited for.
    Expected,
    /// It has left the window, or is too far ahead: 404 at once.
    Unknown,
}

/// A part that was just listed.
pub(super) struct ListedPart {
    pub(super) msn: Msn,
    pub(super) part: u16,
    pub(super) concealed: bool,
}

/// One track's segments.
#[derive(Debug)]
pub struct TrackWindow {
    id: TrackId,
    scale: Timescale,
    segments: BTreeMap<Msn, Segment>,
    /// The first segment that the playlist lists, once it lists any.
    first: Option<Msn>,
    /// The next part to list.
    next: (Msn, u16),
    /// When gathering the window ends, from the first part on.
    settles: Option<Time>,
    /// While held at a missing part, or gathering the window.
    deadline: Option<Time>,
}

impl TrackWindow {
    pub(super) fn new(id: TrackId, scale: Timescale) -> Self {
        TrackWindow { id, scale, segments: BTreeMap::new(), first: None, next: (0, 0), settles: None, deadline: None }
    }

    /// The track's id.
    pub fn id(&self) -> TrackId {
        self.id
    }

    /// Units of its decode times and durations.
    pub fn timescale(&self) -> Timescale {
        self.scale
    }

    /// The segments that the playlist lists, oldest first; the last may be under way.
    pub fn listed(&self) -> impl DoubleEndedIterator<Item = &Segment> + Clone {
        let first = self.first.unwrap_or(Msn::MAX);
        self.segments.range(first..).map(|(_, s)| s).filter(|s| s.listed() > 0)
    }

    /// The segments that it has listed, and that are still held.
    pub fn delisted(&self) -> impl Iterator<Item = &Segment> {
        let first = self.first.unwrap_or(0);
        self.segments.range(..first).map(|(_, s)| s)
    }

    /// Whether the playlist lists anything yet.
    pub fn is_started(&self) -> bool {
        self.first.is_some()
    }

    /// Whether the playlist lists a whole segment.
    pub fn has_segment(&self) -> bool {
        self.listed().any(Segment::is_complete)
    }

    /// The part that the playlist waits for: everything before it is listed. `None` before the first.
    pub fn next(&self) -> Option<(Msn, u16)> {
        self.first.map(|_| self.next)
    }

    /// The newest listed segment and part.
    pub fn last(&self) -> Option<(Msn, u16)> {
        self.listed().next_back().map(|s| (s.msn, s.listed() - 1))
    }

    /// A whole segment, listed or recently delisted.
    pub fn segment(&self, msn: Msn) -> Lookup<&Segment> {
        match self.segments.get(&msn) {
            Some(s) if s.is_complete() && s.has_loss() => Lookup::Gap,
            Some(s) if s.is_complete() => Lookup::Ready(s),
            _ => self.expectation(msn),
        }
    }

    /// The whole segments held after `msn`, oldest first; the playlist lists them, or did.
    pub fn whole_after(&self, msn: Option<Msn>) -> impl Iterator<Item = &Segment> {
        let from = msn.map_or(Bound::Unbounded, Bound::Excluded);
        self.segments.range((from, Bound::Unbounded)).map(|(_, s)| s).filter(|s| s.is_complete())
    }

    /// The segment as far as it is listed, for a response that follows it part by part.
    pub fn segment_under_way(&self, msn: Msn) -> Option<&Segment> {
        self.segments.get(&msn).filter(|s| s.listed() > 0)
    }

    /// A part that is here, listed or about to be.
    pub fn part(&self, msn: Msn, part: u16) -> Lookup<&Part> {
        let Some(segment) = self.segments.get(&msn) else { return self.expectation(msn) };
        match segment.part(part) {
            Some(p) if p.is_lost() => Lookup::Gap,
            Some(p) => Lookup::Ready(p),
            None if segment.is_complete() => Lookup::Unknown,
            // One part ahead of the newest is hinted; a few more may have been skipped over.
            None if part <= segment.listed().saturating_add(1) => self.expectation(msn),
            None => Lookup::Unknown,
        }
    }

    /// Bytes of the bodies held.
    pub fn held_bytes(&self) -> u64 {
        self.segments.values().flat_map(Segment::held).map(|p| p.body.len() as u64).sum()
    }

    /// The mean and the peak bit rate of the whole segments listed, in bits/s.
    pub fn bit_rates(&self) -> (u64, u64) {
        let (mut bytes, mut ticks, mut peak) = (0, 0, 0);
        for s in self.listed().filter(|s| s.is_complete() && s.duration() > 0 && !s.has_gap()) {
            bytes += s.length();
            ticks += s.duration();
            peak = peak.max(s.length() * 8 * u64::from(self.scale.hz()) / s.duration());
        }
        ((bytes * 8 * u64::from(self.scale.hz())).checked_div(ticks).unwrap_or(0), peak)
    }

    fn expectation<T>(&self, msn: Msn) -> Lookup<T> {
        match self.first {
            None => Lookup::Expected,
            Some(_) if msn == self.next.0 || msn == self.next.0.saturating_add(1) => Lookup::Expected,
            Some(_) => Lookup::Unknown,
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    /// Takes a part in; `false` if its place was given up as a gap, or has left the window.
    pub(super) fn insert(&mut self, record: &Record, part: Part) -> bool {
        let (msn, number) = (part.header.id.msn, part.header.id.part);
        if self.first.is_some() && (msn, number) < self.next {
            // Older than what is listed: it can't be listed any more. If it is a segment before the
            // playlist's first, there is nobody to whom it would be of use.
            return false;
        }
        let newest = self.segments.last_key_value().map_or(msn, |(m, _)| *m);
        if msn < newest.saturating_sub(record.held_segments()) {
            return false;
        }
        self.segments.entry(msn).or_insert_with(|| Segment::empty(msn)).insert(number, part);
        true
    }

    /// Lists the next part if it is here, or if it has been waited for long enough.
    pub(super) fn list_next(&mut self, record: &Record, now: Time) -> Option<ListedPart> {
        if self.first.is_none() {
            self.try_start(record, now)?;
        }
        let (msn, number) = self.next;
        let mut concealed = false;
        if self.segments.get(&msn).and_then(|s| s.part(number)).is_none() {
            if !self.is_overdue(record, now) {
                return None;
            }
            concealed = true;
            if !gap::fill(&mut self.segments, self.next, record, self.scale, self.id) {
                // The segment just ends here: the next one begins after a discontinuity.
                self.segments.get_mut(&msn)?.end();
                self.next = (msn.saturating_add(1), 0);
                self.deadline = None;
                return self.list_next(record, now);
            }
        }
        let part = self.segments.get_mut(&msn)?.list(now)?;
        // A gap that `fill` made for an earlier call is still a concealed one.
        concealed |= part.is_lost();
        self.next = if part.header.flags.last { (msn.saturating_add(1), 0) } else { (msn, number + 1) };
        self.deadline = None;
        Some(ListedPart { msn, part: number, concealed })
    }

    /// Whether the next part has been waited for long enough. It is waited for from when a later part is here.
    fn is_overdue(&mut self, record: &Record, now: Time) -> bool {
        let later =
            self.segments.range(self.next.0..).any(|(m, s)| s.newest().is_some_and(|(part, _)| (*m, part) > self.next));
        if !later {
            self.deadline = None;
            return false;
        }
        let deadline = *self.deadline.get_or_insert(now + record.latency);
        now >= deadline
    }

    /// Picks the first segment to list. At the ingest, and at an edge that was there from the life's
    /// start, that is the track's first. An edge that joins gathers the window first.
    fn try_start(&mut self, record: &Record, now: Time) -> Option<()> {
        let held = self.segments.first_key_value().map(|(m, _)| *m)?;
        let start = self.run_to_newest();
        let settled = match start {
            Some(start) if start == record.first_msn_of(self.id) => true,
            Some(start) => self.span(start) >= record.playlist_duration(),
            None => false,
        };
        let settles = *self.settles.get_or_insert(now + JOIN_SETTLE);
        if !settled && now < settles {
            self.deadline = Some(settles);
            return None;
        }
        self.deadline = None;
        // Past the deadline: what is here without holes, or else from the oldest on, with gaps.
        let from_first_part = |m: &Msn| self.segments.get(m).is_some_and(|s| s.part(0).is_some());
        let start = start.or_else(|| self.segments.range(held..).map(|(m, _)| *m).find(|m| from_first_part(m)))?;
        self.first = Some(start);
        self.next = (start, 0);
        // What lies before can never be listed.
        self.segments = self.segments.split_off(&start);
        Some(())
    }

    /// The first segment of the longest stretch without a hole that ends at the newest part.
    fn run_to_newest(&self) -> Option<Msn> {
        let mut start = None;
        let mut expect = None;
        for (msn, segment) in self.segments.iter().rev() {
            if expect.is_some_and(|e| e != *msn) {
                break;
            }
            let ends = |part: &Part| expect.is_none() || part.header.flags.last;
            if !segment.newest_in_a_row().is_some_and(ends) {
                break;
            }
            start = Some(*msn);
            expect = msn.checked_sub(1);
        }
        start
    }

    /// How much is held from `start` on.
    fn span(&self, start: Msn) -> Duration {
        let parts = self.segments.range(start..).flat_map(|(_, s)| s.held());
        self.scale.duration(parts.map(|p| u64::from(p.header.duration)).sum())
    }

    /// Delists what is past the playlist's length, and lets go of what is past the window: whole
    /// segments that were listed go to `evicted`.
    pub(super) fn evict(&mut self, record: &Record, evicted: &mut Vec<(TrackId, Segment)>) {
        let Some(mut first) = self.first else {
            let held = record.held_segments();
            let newest = self.segments.last_key_value().map_or(0, |(m, _)| *m);
            self.segments = self.segments.split_off(&newest.saturating_sub(held));
            return;
        };
        let keep = self.scale.ticks(record.playlist_duration());
        let mut total: u64 = self.listed().map(Segment::duration).sum();
        while let Some(s) = self.segments.get(&first) {
            let duration = s.duration();
            if !s.is_complete() || total.saturating_sub(duration) < keep {
                break;
            }
            total -= duration;
            first += 1;
        }
        self.first = Some(first);
        let floor = self.next.0.saturating_sub(record.held_segments()).min(first);
        while let Some(oldest) = self.segments.first_entry().filter(|s| *s.key() < floor) {
            evicted.push((self.id, oldest.remove()));
        }
    }
}
