//! The index of a life's archive. Pure.
//!
//! A row is the segments of all tracks with one MSN. Rows are listed, then only kept, then let go of, oldest first.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::track_index::{Entry, Shelf};
use crate::model::time::UnixTime;
use crate::model::{LifeId, Msn, Period, Record, Track, TrackId};
use crate::window::{Segment, Window};

/// How many segments may be missing between two for the older ones to stay: more than an archive of a day has.
const HOLE_MAX: u32 = 100_000;

/// Init segments of a track, beyond which those that no segment needs any more are let go of.
const INITS_IDLE_MAX: usize = Record::INITS_MAX * 2;

/// The archive of one life.
#[derive(Debug)]
pub struct Archive {
    life: LifeId,
    depth: Duration,
    segment_duration: Duration,
    segment_longest: Duration,
    /// By track id.
    shelves: Vec<Shelf>,
    rows: BTreeMap<Msn, Row>,
    /// Rows from here on are listed, here or by the window.
    listed_from: Msn,
    /// How long all rows were that there ever were: the archive's clock.
    total: Duration,
    listed: Sum,
    kept: Sum,
    inits: BTreeMap<(TrackId, u16), Bytes>,
    /// The node keeps what it takes; else others do.
    keeps: bool,
    /// The first segment that this run took from its window: of that and all that follow, viewers have been told.
    live_from: Option<Msn>,
    /// What was told to be listed no more never is again.
    cut_to: Msn,
    /// By first MSN.
    periods: BTreeMap<Msn, Period>,
    removed: Vec<(TrackId, Msn)>,
    version: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Row {
    span: Duration,
    bytes: u64,
    began: UnixTime,
    /// Once it is delisted: until when it is kept, on the archive's clock.
    until: Option<Duration>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    span: Duration,
    bytes: u64,
}

impl Sum {
    fn add(&mut self, span: Duration, bytes: u64) {
        self.span += span;
        self.bytes += bytes;
    }

    fn sub(&mut self, row: &Row) {
        self.span = self.span.saturating_sub(row.span);
        self.bytes = self.bytes.saturating_sub(row.bytes);
    }
}

/// What an archive has, for the budgets of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stock {
    /// Bytes of the rows that are listed, as far as they are kept here.
    pub listed: u64,
    /// Bytes of all rows, the same.
    pub kept: u64,
    /// When the oldest row that is listed began.
    pub oldest_listed: Option<UnixTime>,
    /// When the oldest row of all began.
    pub oldest_kept: Option<UnixTime>,
}

impl Archive {
    /// An empty one of the life of `record`, that lists `depth`: no less than the window does. It has to be told the
    /// [`record`](Self::record) all the same.
    pub fn new(record: &Record, depth: Duration) -> Self {
        let shelves = record.tracks.iter().map(|track| Shelf::new(track.timescale)).collect();
        Archive {
            life: record.life,
            depth: depth.max(record.playlist_duration()),
            segment_duration: record.segment_duration,
            segment_longest: record.target() + Duration::from_millis(499),
            shelves,
            rows: BTreeMap::new(),
            listed_from: 0,
            total: Duration::ZERO,
            listed: Sum::default(),
            kept: Sum::default(),
            inits: BTreeMap::new(),
            keeps: true,
            live_from: None,
            cut_to: 0,
            periods: BTreeMap::new(),
            removed: Vec::new(),
            version: 0,
        }
    }

    /// The same at a node that keeps nothing itself: a list of what others keep.
    pub fn afar(record: &Record, depth: Duration) -> Self {
        Archive { keeps: false, ..Archive::new(record, depth) }
    }

    /// Whether the node keeps what it takes.
    pub fn keeps(&self) -> bool {
        self.keeps
    }

    /// How much it lists.
    pub fn depth(&self) -> Duration {
        self.depth
    }

    /// Which life it is of.
    pub fn life(&self) -> LifeId {
        self.life
    }

    /// Goes up with each change of what is listed.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// A track, by its id.
    pub fn shelf(&self, track: TrackId) -> Option<&Shelf> {
        self.shelves.get(usize::from(track.0))
    }

    /// A segment that is kept.
    pub fn entry(&self, track: TrackId, msn: Msn) -> Option<&Entry> {
        self.shelf(track)?.entry(msn)
    }

    /// An init segment that some segment needs, or did.
    pub fn init(&self, track: TrackId, number: u16) -> Option<&Bytes> {
        self.inits.get(&(track, number))
    }

    /// The life's periods as far as any of them is kept, oldest first.
    pub fn periods(&self) -> impl Iterator<Item = &Period> {
        self.periods.values()
    }

    /// The period that a segment lies in.
    pub fn period(&self, msn: Msn) -> Option<Period> {
        self.periods.range(..=msn).next_back().map(|(_, period)| *period)
    }

    /// The oldest MSN that is listed.
    pub fn listed_from(&self) -> Msn {
        self.listed_from
    }

    /// What it has.
    pub fn stock(&self) -> Stock {
        let oldest_listed = self.rows.range(self.listed_from..).next().map(|(_, row)| row.began);
        let oldest_kept = self.rows.first_key_value().map(|(_, row)| row.began);
        Stock { listed: self.listed.bytes, kept: self.kept.bytes, oldest_listed, oldest_kept }
    }

    /// The record, or a newer revision; says which init segments are new.
    pub fn record(&mut self, record: &Record) -> Vec<(TrackId, u16, Bytes)> {
        for period in &record.periods {
            self.period_in(*period);
        }
        let mut new = Vec::new();
        for Track { id, timescale, inits, .. } in &record.tracks {
            if usize::from(id.0) == self.shelves.len() {
                self.shelves.push(Shelf::new(*timescale));
            }
            for init in inits {
                if self.init_in(*id, init.number, init.bytes.clone()) {
                    new.push((*id, init.number, init.bytes.clone()));
                }
            }
        }
        self.forget_inits(record);
        new
    }

    /// A period that a segment of a former run belongs to.
    pub fn period_in(&mut self, period: Period) {
        self.periods.entry(period.first_msn).or_insert(period);
    }

    /// An init segment of a former run; `false` if it is known.
    pub fn init_in(&mut self, track: TrackId, number: u16, bytes: Bytes) -> bool {
        self.inits.insert((track, number), bytes.clone()).is_none_or(|old| old != bytes)
    }

    /// A whole segment; `false` if it is too late, or known.
    pub fn take(&mut self, track: TrackId, segment: &Segment) -> bool {
        if !segment.is_complete() {
            return false;
        }
        self.live_from.get_or_insert(segment.msn);
        self.entry_in(track, Entry { here: self.keeps, ..Entry::of(segment) })
    }

    /// The same, by its entry.
    pub fn entry_in(&mut self, track: TrackId, entry: Entry) -> bool {
        let Some(shelf) = self.shelf(track) else { return false };
        if shelf.newest().is_some_and(|newest| entry.msn <= newest.msn) {
            return false;
        }
        self.fill(track, &entry);
        self.push(track, entry);
        self.settle();
        true
    }

    /// Lists what the window lists no more.
    pub fn advance(&mut self, window: &Window) {
        for track in window.tracks() {
            let Some(first) = track.listed().next() else { continue };
            let entry = Entry::of(first);
            let Some(newest) = self.shelf(track.id()).and_then(Shelf::newest) else { continue };
            if newest.msn.saturating_add(1) < entry.msn {
                self.fill(track.id(), &entry);
                self.settle();
            }
            let shelf = self.shelves.get_mut(usize::from(track.id().0));
            let printed = shelf.is_some_and(|shelf| shelf.print_until(self.listed_from, first.msn));
            self.version += u64::from(printed);
        }
    }

    /// Lists one row less; `false` if none is left.
    pub fn delist_oldest(&mut self) -> bool {
        let Some((&msn, row)) = self.rows.range_mut(self.listed_from..).next() else { return false };
        row.until = Some(self.total + self.listed.span + row.span);
        self.listed.sub(row);
        self.raise(msn.saturating_add(1));
        true
    }

    /// Lets go of the oldest row; `false` if there is none.
    pub fn drop_oldest(&mut self) -> bool {
        let Some((msn, row)) = self.rows.pop_first() else { return false };
        if row.until.is_none() {
            self.listed.sub(&row);
        }
        self.kept.sub(&row);
        for (id, shelf) in (0..).map(TrackId).zip(&mut self.shelves) {
            if shelf.entry(msn).is_some() {
                self.removed.push((id, msn));
            }
            shelf.delist(msn + 1);
            shelf.forget(msn + 1);
        }
        self.raise(msn + 1);
        let oldest = self.rows.first_key_value().map_or(Msn::MAX, |(msn, _)| *msn);
        while let Some(next) = self.periods.values().nth(1)
            && next.first_msn <= oldest
            && oldest != Msn::MAX
        {
            self.periods.pop_first();
        }
        true
    }

    /// This segment couldn't be kept. A listed segment can't become a gap (rfc8216bis 6.2.1): when the window lets go of
    /// it, nothing up to it is listed.
    pub fn cut(&mut self, msn: Msn) {
        self.cut_to = self.cut_to.max(msn.saturating_add(1));
        self.raise_to(msn.saturating_add(1));
    }

    /// Nothing before `msn` was listed by a former run, and nothing is again: EXT-X-MEDIA-SEQUENCE never goes back.
    pub fn resume(&mut self, listed_from: Msn) {
        self.cut_to = self.cut_to.max(listed_from);
        self.raise_to(listed_from);
    }

    /// The segments that it has let go of since it was asked last.
    pub fn take_removed(&mut self) -> Vec<(TrackId, Msn)> {
        std::mem::take(&mut self.removed)
    }

    pub fn shelves(&self) -> impl Iterator<Item = &Shelf> {
        self.shelves.iter()
    }

    pub fn inits(&self) -> impl Iterator<Item = (&(TrackId, u16), &Bytes)> {
        self.inits.iter()
    }

    /// The oldest segment that is known.
    pub fn oldest(&self) -> Option<Msn> {
        self.rows.first_key_value().map(|(msn, _)| *msn)
    }

    pub fn live_from(&self) -> Option<Msn> {
        self.live_from
    }

    pub fn cut_to(&self) -> Msn {
        self.cut_to
    }

    /// The longest that a segment of the track may be, in ticks.
    pub fn longest(&self, track: TrackId) -> u64 {
        self.shelf(track).map_or(0, |shelf| shelf.timescale().ticks(self.segment_longest)).max(1)
    }

    /// The same without a segment, to be filled anew.
    pub fn emptied(&mut self) -> Archive {
        Archive {
            shelves: self.shelves.iter().map(|shelf| Shelf::new(shelf.timescale())).collect(),
            rows: BTreeMap::new(),
            listed_from: 0,
            total: Duration::ZERO,
            listed: Sum::default(),
            kept: Sum::default(),
            inits: std::mem::take(&mut self.inits),
            periods: std::mem::take(&mut self.periods),
            removed: std::mem::take(&mut self.removed),
            version: self.version + 1,
            ..*self
        }
    }

    /// Lists nothing before `msn`.
    pub fn raise_to(&mut self, msn: Msn) {
        while self.rows.range(self.listed_from..).next().is_some_and(|(first, _)| *first < msn) {
            self.delist_oldest();
        }
        self.raise(msn);
    }

    fn raise(&mut self, from: Msn) {
        if from > self.listed_from {
            self.listed_from = from;
            self.version += 1;
            for shelf in &mut self.shelves {
                shelf.delist(from);
            }
        }
    }

    fn push(&mut self, track: TrackId, entry: Entry) {
        let Some(shelf) = self.shelves.get_mut(usize::from(track.0)) else { return };
        let span = shelf.timescale().duration(entry.duration);
        shelf.push(entry);
        let began = entry.program_date_time;
        let row = self.rows.entry(entry.msn).or_insert(Row { began, ..Row::default() });
        let bytes = if entry.here { entry.length } else { 0 };
        // A row is as long as its longest track.
        let longer = span.saturating_sub(row.span);
        row.span += longer;
        row.bytes += bytes;
        self.total += longer;
        self.kept.add(longer, bytes);
        if entry.msn < self.listed_from {
            row.until.get_or_insert(self.total + self.depth);
        } else {
            self.listed.add(longer, bytes);
        }
    }

    /// Delists what is past the depth, and lets go of what needn't be fetchable any more.
    fn settle(&mut self) {
        while let Some((_, row)) = self.rows.range(self.listed_from..).next()
            && self.listed.span.saturating_sub(row.span) >= self.depth
        {
            self.delist_oldest();
        }
        while let Some((_, row)) = self.rows.first_key_value()
            && row.until.is_some_and(|until| until <= self.total)
        {
            self.drop_oldest();
        }
    }

    /// Puts gaps in place of what is missing before `next`: the node was away, and nobody had it any more when it came
    /// back. MSNs are in a row, and what lies before would be lost to the viewers otherwise. Other edges may list the
    /// segments themselves (DESIGN invariant 1: but for gaps, they say the same).
    fn fill(&mut self, track: TrackId, next: &Entry) {
        let Some(shelf) = self.shelf(track) else { return };
        let (Some(mut last), scale) = (shelf.newest().copied(), shelf.timescale()) else { return };
        let missing = next.msn.saturating_sub(last.msn).saturating_sub(1);
        if missing > HOLE_MAX {
            while self.drop_oldest() {}
            if let Some(shelf) = self.shelves.get_mut(usize::from(track.0)) {
                *shelf = Shelf::new(scale);
            }
            return;
        }
        let longest = scale.ticks(self.segment_longest);
        for msn in last.msn.saturating_add(1)..next.msn {
            let period = self.period(msn);
            let discontinuity = period.map_or(last.discontinuity, |p| p.discontinuity);
            let discontinuity = discontinuity.clamp(last.discontinuity, next.discontinuity.max(last.discontinuity));
            let begins = period.filter(|p| discontinuity != last.discontinuity && p.first_msn == msn);
            let decode_time = begins.map_or(last.end(), |p| scale.ticks(p.start).max(last.end()));
            // What is left of the way to the next one, in equal steps; across a discontinuity, as segments are cut.
            let left = u64::from(next.msn - msn);
            let duration = if discontinuity == next.discontinuity {
                next.decode_time.saturating_sub(decode_time) / left
            } else {
                scale.ticks(self.segment_duration)
            };
            let passed = scale.duration(decode_time.saturating_sub(last.decode_time));
            let gap = Entry {
                msn,
                decode_time,
                duration: duration.clamp(1, longest.max(1)),
                program_date_time: last.program_date_time + passed,
                discontinuity,
                init: if discontinuity == next.discontinuity { next.init } else { last.init },
                gap: true,
                lost: true,
                whole: true,
                length: 0,
                here: false,
            };
            self.push(track, gap);
            last = gap;
        }
    }

    /// Bounds what a publisher that changes its codec for ever makes us keep.
    fn forget_inits(&mut self, record: &Record) {
        if self.inits.len() <= INITS_IDLE_MAX * self.shelves.len() {
            return;
        }
        let shelves = &self.shelves;
        self.inits.retain(|(track, number), _| {
            let declared = record.track(*track).is_some_and(|t| t.inits.iter().any(|i| i.number == *number));
            let shelf = shelves.get(usize::from(track.0));
            declared || shelf.is_some_and(|shelf| shelf.entries().any(|e| e.init == *number))
        });
    }
}
