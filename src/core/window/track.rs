//! One track of a window.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;

use super::gap as conceal;
use super::window::JOIN_SETTLE;
use crate::model::Record;
use crate::model::time::{Time, Timescale, UnixTime};
use crate::model::{Msn, TrackId};
use crate::model::{PartHeader, Trace};

/// A part as this node has it.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its header. `flags.gap` is set where there is nothing to serve.
    pub header: PartHeader,
    /// Its body; empty for a gap.
    pub body: Bytes,
    /// Its way to this node.
    pub trace: Trace,
    /// First byte in, on this node's clock.
    pub received: Time,
    /// Last byte in, checked and kept.
    pub delivered: Time,
    /// The playlist lists it; [`Time::ZERO`] until then, and where nobody knows.
    pub listed: Time,
}

impl Part {
    /// Whether it is listed as a gap: nothing came from the publisher, or it is lost.
    pub fn is_gap(&self) -> bool {
        self.header.flags.gap
    }

    /// Whether nothing is missing in its place: the sample before it lasts through it.
    pub fn is_held(&self) -> bool {
        self.header.flags.held && !self.is_lost()
    }

    /// Whether it has a body elsewhere, perhaps, and none here. Where nothing came from the publisher, nobody has one.
    pub fn is_lost(&self) -> bool {
        self.is_gap() && self.header.hash == conceal::NO_HASH
    }
}

/// A segment as this node has it: a whole one, or the one under way.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Its media sequence number.
    pub msn: Msn,
    pub(crate) parts: BTreeMap<u16, Part>,
    /// How many parts, from 0 on, the playlist lists.
    listed: u16,
    /// All its parts are listed.
    pub(crate) complete: bool,
    sums: Sums,
}

/// What a segment's listed parts come to. A part that is listed never changes.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    ticks: u64,
    bytes: u64,
    gap: bool,
    loss: bool,
}

impl Sums {
    fn with(self, part: &Part) -> Sums {
        Sums {
            ticks: self.ticks + u64::from(part.header.duration),
            bytes: self.bytes + u64::from(part.header.length),
            gap: self.gap || part.is_gap() && !part.is_held(),
            loss: self.loss || part.is_lost(),
        }
    }
}

impl Segment {
    pub(crate) fn empty(msn: Msn) -> Self {
        Segment { msn, parts: BTreeMap::new(), listed: 0, complete: false, sums: Sums::default() }
    }

    /// A whole segment of these parts, as an archive has kept it; `None` unless they are one segment's, from the first
    /// to the last.
    pub fn whole(parts: Vec<Part>) -> Option<Self> {
        let id = parts.first()?.header.id;
        let listed = u16::try_from(parts.len()).ok()?;
        let in_order = (0..listed).zip(&parts).all(|(n, part)| {
            let other = part.header.id;
            (other.track, other.msn, other.part) == (id.track, id.msn, n)
        });
        let sums = parts.iter().fold(Sums::default(), Sums::with);
        let parts = (0..listed).zip(parts).collect();
        in_order.then_some(Segment { msn: id.msn, parts, listed, complete: true, sums })
    }

    /// The parts that the playlist lists, in order.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = &Part> + Clone {
        // Listed parts are held without holes: 0..listed are the first `listed` entries.
        self.parts.values().take(usize::from(self.listed))
    }

    /// The first listed part: it tells the segment's start, init segment and discontinuity.
    pub fn first(&self) -> Option<&Part> {
        self.parts.get(&0).filter(|_| self.listed > 0)
    }

    /// Whether all its parts are listed.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether some of it isn't there: EXT-X-GAP.
    pub fn has_gap(&self) -> bool {
        self.sums.gap
    }

    /// Whether some of it is lost: 404 for the segment as a whole.
    pub fn has_loss(&self) -> bool {
        self.sums.loss
    }

    /// Its length so far, in ticks.
    pub fn duration(&self) -> u64 {
        self.sums.ticks
    }

    /// Its length so far, in bytes.
    pub fn length(&self) -> u64 {
        self.sums.bytes
    }

    /// Media time of its start, in ticks.
    pub fn decode_time(&self) -> u64 {
        self.first().map_or(0, |p| p.header.decode_time)
    }

    /// Its EXT-X-PROGRAM-DATE-TIME.
    pub fn program_date_time(&self) -> UnixTime {
        self.first().map_or_else(UnixTime::default, |p| p.header.program_date_time)
    }

    /// Its discontinuity sequence number.
    pub fn discontinuity(&self) -> u32 {
        self.first().map_or(0, |p| p.header.discontinuity)
    }

    /// The number of its init segment.
    pub fn init(&self) -> u16 {
        self.first().map_or(0, |p| p.header.init)
    }
}

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
pub(crate) struct Listed {
    pub(crate) msn: Msn,
    pub(crate) part: u16,
    pub(crate) concealed: bool,
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
    pub(crate) fn new(id: TrackId, scale: Timescale) -> Self {
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
        self.segments.range(first..).map(|(_, s)| s).filter(|s| s.listed > 0)
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
        self.listed().next_back().map(|s| (s.msn, s.listed - 1))
    }

    /// A whole segment, listed or recently delisted.
    pub fn segment(&self, msn: Msn) -> Lookup<&Segment> {
        match self.segments.get(&msn) {
            Some(s) if s.complete && s.has_loss() => Lookup::Gap,
            Some(s) if s.complete => Lookup::Ready(s),
            _ => self.expectation(msn),
        }
    }

    /// The whole segments held after `msn`, oldest first; the playlist lists them, or did.
    pub fn whole_after(&self, msn: Option<Msn>) -> impl Iterator<Item = &Segment> {
        let from = msn.map_or(Bound::Unbounded, Bound::Excluded);
        self.segments.range((from, Bound::Unbounded)).map(|(_, s)| s).filter(|s| s.complete)
    }

    /// The segment as far as it is listed, for a response that follows it part by part.
    pub fn segment_under_way(&self, msn: Msn) -> Option<&Segment> {
        self.segments.get(&msn).filter(|s| s.listed > 0)
    }

    /// A part that is here, listed or about to be.
    pub fn part(&self, msn: Msn, part: u16) -> Lookup<&Part> {
        let Some(segment) = self.segments.get(&msn) else { return self.expectation(msn) };
        match segment.parts.get(&part) {
            Some(p) if p.is_lost() => Lookup::Gap,
            Some(p) => Lookup::Ready(p),
            None if segment.complete => Lookup::Unknown,
            // One part ahead of the newest is hinted; a few more may have been skipped over.
            None if part <= segment.listed.saturating_add(1) => self.expectation(msn),
            None => Lookup::Unknown,
        }
    }

    /// Bytes of the bodies held.
    pub fn held_bytes(&self) -> u64 {
        self.segments.values().flat_map(|s| s.parts.values()).map(|p| p.body.len() as u64).sum()
    }

    /// The mean and the peak bit rate of the whole segments listed, in bits/s.
    pub fn bit_rates(&self) -> (u64, u64) {
        let (mut bytes, mut ticks, mut peak) = (0, 0, 0);
        for s in self.listed().filter(|s| s.complete && s.duration() > 0 && !s.has_gap()) {
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

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    /// Takes a part in; `false` if its place was given up as a gap, or has left the window.
    pub(crate) fn insert(&mut self, record: &Record, part: Part) -> bool {
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
        self.segments.entry(msn).or_insert_with(|| Segment::empty(msn)).parts.entry(number).or_insert(part);
        true
    }

    /// Lists the next part if it is here, or if it has been waited for long enough.
    pub(crate) fn list_next(&mut self, record: &Record, now: Time) -> Option<Listed> {
        if self.first.is_none() {
            self.try_start(record, now)?;
        }
        let (msn, number) = self.next;
        let mut concealed = false;
        if !self.segments.get(&msn).is_some_and(|s| s.parts.contains_key(&number)) {
            if !self.is_overdue(record, now) {
                return None;
            }
            concealed = true;
            if !conceal::fill(&mut self.segments, self.next, record, self.scale, self.id) {
                // The segment just ends here: the next one begins after a discontinuity.
                let segment = self.segments.get_mut(&msn)?;
                segment.complete = true;
                self.next = (msn.saturating_add(1), 0);
                self.deadline = None;
                return self.list_next(record, now);
            }
        }
        let segment = self.segments.get_mut(&msn)?;
        let part = segment.parts.get_mut(&number)?;
        part.listed = now;
        let last = part.header.flags.last;
        // A gap that `conceal` made for an earlier call is still a concealed one.
        concealed |= part.is_lost();
        segment.sums = segment.sums.with(part);
        segment.listed = number + 1;
        segment.complete = last;
        self.next = if last { (msn.saturating_add(1), 0) } else { (msn, number + 1) };
        self.deadline = None;
        Some(Listed { msn, part: number, concealed })
    }

    /// Whether the next part has been waited for long enough. It is waited for from when a later part is here.
    fn is_overdue(&mut self, record: &Record, now: Time) -> bool {
        let later = self
            .segments
            .range(self.next.0..)
            .any(|(m, s)| s.parts.last_key_value().is_some_and(|(p, _)| (*m, *p) > self.next));
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
        let from_first_part = |m: &Msn| self.segments.get(m).is_some_and(|s| s.parts.contains_key(&0));
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
            let (newest_part, newest) = segment.parts.last_key_value()?;
            let whole = segment.parts.len() == usize::from(*newest_part) + 1;
            if !whole || (expect.is_some() && !newest.header.flags.last) {
                break;
            }
            start = Some(*msn);
            expect = msn.checked_sub(1);
        }
        start
    }

    /// How much is held from `start` on.
    fn span(&self, start: Msn) -> Duration {
        let parts = self.segments.range(start..).flat_map(|(_, s)| s.parts.values());
        self.scale.duration(parts.map(|p| u64::from(p.header.duration)).sum())
    }

    /// Delists what is past the playlist's length, and lets go of what is past the window: whole
    /// segments that were listed go to `evicted`.
    pub(crate) fn evict(&mut self, record: &Record, evicted: &mut Vec<(TrackId, Segment)>) {
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
            if !s.complete || total.saturating_sub(duration) < keep {
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
