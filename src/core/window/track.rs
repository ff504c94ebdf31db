//! One track of a window.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use super::gap;
use super::segment::{Part, Segment};
use crate::model::limits::JOIN_SETTLE;
use crate::model::time::{Time, Timescale};
use crate::model::{Msn, Record, TrackId};

/// The answer to a request for a part or segment.
#[derive(Debug)]
pub enum Lookup<T> {
    /// It is here.
    Ready(T),
    /// It is lost, and listed as a gap: 404.
    Gap,
    /// It isn't here yet, and is expected: the request may wait.
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

/// Holds one track's segments.
#[derive(Debug)]
pub struct TrackWindow {
    id: TrackId,
    scale: Timescale,
    segments: BTreeMap<Msn, Segment>,
    /// The first segment that the playlist lists, once it lists any.
    first: Option<Msn>,
    /// The next part to list.
    next: (Msn, u16),
    /// The latest time to list the track, set by its first part.
    settles: Option<Time>,
    /// The end of the wait for a missing part, or for older segments.
    deadline: Option<Time>,
}

impl TrackWindow {
    pub(super) fn new(id: TrackId, scale: Timescale) -> Self {
        TrackWindow { id, scale, segments: BTreeMap::new(), first: None, next: (0, 0), settles: None, deadline: None }
    }

    /// Returns the track's id.
    pub fn id(&self) -> TrackId {
        self.id
    }

    /// Returns the unit of decode times and durations.
    pub fn timescale(&self) -> Timescale {
        self.scale
    }

    /// Returns the segments that the playlist lists, oldest first; the last may be under way.
    pub fn listed(&self) -> impl DoubleEndedIterator<Item = &Segment> + Clone {
        let first = self.first.unwrap_or(Msn::MAX);
        self.segments.range(first..).map(|(_, s)| s).filter(|s| s.listed() > 0)
    }

    /// Returns the held segments that the playlist doesn't list any more.
    pub fn delisted(&self) -> impl Iterator<Item = &Segment> {
        let first = self.first.unwrap_or(0);
        self.segments.range(..first).map(|(_, s)| s)
    }

    /// Returns whether the playlist lists anything yet.
    pub fn is_started(&self) -> bool {
        self.first.is_some()
    }

    /// Returns whether the playlist lists a complete segment.
    pub fn has_segment(&self) -> bool {
        self.listed().any(Segment::is_complete)
    }

    /// Returns the part that the playlist waits for: everything before it is listed. `None` before the first part.
    pub fn next(&self) -> Option<(Msn, u16)> {
        self.first.map(|_| self.next)
    }

    /// Returns the newest listed segment and part.
    pub fn last(&self) -> Option<(Msn, u16)> {
        self.listed().next_back().map(|s| (s.msn, s.listed() - 1))
    }

    /// Returns a complete segment that is listed or was listed lately.
    pub fn segment(&self, msn: Msn) -> Lookup<&Segment> {
        match self.segments.get(&msn) {
            Some(s) if s.is_complete() && s.has_loss() => Lookup::Gap,
            Some(s) if s.is_complete() => Lookup::Ready(s),
            _ => self.expectation(msn),
        }
    }

    /// Returns the complete segments held after `msn`, oldest first; the playlist lists them, or did.
    pub fn whole_after(&self, msn: Option<Msn>) -> impl Iterator<Item = &Segment> {
        let from = msn.map_or(Bound::Unbounded, Bound::Excluded);
        self.segments.range((from, Bound::Unbounded)).map(|(_, s)| s).filter(|s| s.is_complete())
    }

    /// Returns the segment as far as it is listed, for a response that follows it part by part.
    pub fn segment_under_way(&self, msn: Msn) -> Option<&Segment> {
        self.segments.get(&msn).filter(|s| s.listed() > 0)
    }

    /// Returns a part that is here, listed or about to be.
    pub fn part(&self, msn: Msn, part: u16) -> Lookup<&Part> {
        let Some(segment) = self.segments.get(&msn) else { return self.expectation(msn) };
        match segment.part(part) {
            Some(p) if p.is_lost() => Lookup::Gap,
            Some(p) => Lookup::Ready(p),
            None if segment.is_complete() => Lookup::Unknown,
            // The playlist hints at one part ahead of the newest.
            None if part <= segment.listed().saturating_add(1) => self.expectation(msn),
            None => Lookup::Unknown,
        }
    }

    /// Returns the bytes of the bodies held.
    pub fn held_bytes(&self) -> u64 {
        self.segments.values().flat_map(Segment::held).map(|p| p.body.len() as u64).sum()
    }

    /// Returns the mean and the peak bit rate of the complete segments listed, in bits/s.
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

    /// Takes a part. Returns `false` if a gap was listed in its place, or the place has left the window.
    pub(super) fn insert(&mut self, record: &Record, part: Part) -> bool {
        let (msn, number) = (part.header.id.msn, part.header.id.part);
        if self.first.is_some() && (msn, number) < self.next {
            // A part older than the listed ones can't be listed any more.
            return false;
        }
        let newest = self.segments.last_key_value().map_or(msn, |(m, _)| *m);
        if msn < newest.saturating_sub(record.held_segments()) {
            return false;
        }
        self.segments.entry(msn).or_insert_with(|| Segment::empty(msn)).insert(number, part);
        true
    }

    /// Lists the next part if it is here, or its gap if the wait has been long enough.
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

    /// Returns whether the wait for the next part has been long enough. The wait begins when a later part is here.
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

    /// Picks the first segment to list. At the ingest node, and at an edge that was there from the presentation's start, that
    /// is the track's first. An edge that joins waits for the older segments first.
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
        // After the deadline: the segments that are here without holes, or else from the oldest on, with gaps.
        let from_first_part = |m: &Msn| self.segments.get(m).is_some_and(|s| s.part(0).is_some());
        let start = start.or_else(|| self.segments.range(held..).map(|(m, _)| *m).find(|m| from_first_part(m)))?;
        self.first = Some(start);
        self.next = (start, 0);
        // Older segments can never be listed.
        self.segments = self.segments.split_off(&start);
        Some(())
    }

    /// Returns the first segment of the longest stretch without a hole that ends at the newest part.
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

    /// Returns how much is held from `start` on.
    fn span(&self, start: Msn) -> Duration {
        let parts = self.segments.range(start..).flat_map(|(_, s)| s.held());
        self.scale.duration(parts.map(|p| u64::from(p.header.duration)).sum())
    }

    /// Delists segments beyond the playlist's length, and drops those beyond the window. Segments that were listed go to
    /// `evicted`.
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
        let oldest_kept = self.next.0.saturating_sub(record.held_segments()).min(first);
        while let Some(oldest) = self.segments.first_entry().filter(|s| *s.key() < oldest_kept) {
            evicted.push((self.id, oldest.remove()));
        }
    }
}
