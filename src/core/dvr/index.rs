//! The index of a life's archive. Pure.
//!
//! A row holds the segments of all tracks with one MSN. Each row is first listed, then only kept, then removed; the oldest row
//! goes first.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::entry::SegmentEntry;
use super::query::Listing;
use super::track_index::TrackIndex;
use crate::model::time::UnixTime;
use crate::model::{LifeId, Msn, Period, Record, Track, TrackId};
use crate::window::{Segment, Window};

/// The most segments that may be missing in a row before the older ones are removed: more than an archive of a day has.
const HOLE_MAX: u32 = 100_000;

/// The number of init segments of a track above which those that no segment needs are removed.
const INITS_IDLE_MAX: usize = Record::INITS_MAX * 2;

/// The archive of one life.
#[derive(Debug)]
pub struct ArchiveIndex {
    life: LifeId,
    depth: Duration,
    segment_duration: Duration,
    segment_longest: Duration,
    /// The tracks, by their ids.
    tracks: Vec<TrackIndex>,
    rows: BTreeMap<Msn, Row>,
    /// The rows from here on are listed, by the archive or by the window.
    listed_from: Msn,
    /// The duration of all rows that there ever were: the archive's clock.
    total: Duration,
    listed_span: Duration,
    /// Bytes that this node keeps, of the rows that are listed and of all rows.
    listed_bytes: u64,
    kept_bytes: u64,
    inits: BTreeMap<(TrackId, u16), Bytes>,
    /// This node keeps the segments; otherwise other nodes do.
    keeps: bool,
    /// The first segment that this run took from its window. Players have seen that segment and the later ones in a playlist.
    live_from: Option<Msn>,
    /// Segments before this one are never listed again.
    cut_to: Msn,
    /// The periods, by their first MSN.
    periods: BTreeMap<Msn, Period>,
    removed: Vec<(TrackId, Msn)>,
    version: u64,
    /// The number of listings of other nodes that were merged into it.
    joins: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Row {
    span: Duration,
    bytes: u64,
    began: UnixTime,
    /// The time on the archive's clock until which a delisted row is kept.
    until: Option<Duration>,
}

/// The sizes of an archive, for the budget that all archives of a node share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stock {
    /// Bytes of the listed rows, as far as this node keeps them.
    pub listed: u64,
    /// Bytes of all rows, as far as this node keeps them.
    pub kept: u64,
    /// The start of the oldest row that is listed.
    pub oldest_listed: Option<UnixTime>,
    /// The start of the oldest row.
    pub oldest_kept: Option<UnixTime>,
}

impl ArchiveIndex {
    /// Returns an empty archive of the life of `record`. It lists `depth`, and at least what a live playlist lists. Its periods
    /// and init segments come by [`record`](Self::record).
    pub fn new(record: &Record, depth: Duration) -> Self {
        ArchiveIndex {
            life: record.life,
            depth: depth.max(record.playlist_duration()),
            segment_duration: record.segment_duration,
            segment_longest: record.target() + Duration::from_millis(499),
            tracks: record.tracks.iter().map(|track| TrackIndex::new(track.timescale)).collect(),
            rows: BTreeMap::new(),
            listed_from: 0,
            total: Duration::ZERO,
            listed_span: Duration::ZERO,
            listed_bytes: 0,
            kept_bytes: 0,
            inits: BTreeMap::new(),
            keeps: true,
            live_from: None,
            cut_to: 0,
            periods: BTreeMap::new(),
            removed: Vec::new(),
            version: 0,
            joins: 0,
        }
    }

    /// Returns the archive of a node that keeps no segments: the list of what other nodes keep.
    pub fn afar(record: &Record, depth: Duration) -> Self {
        ArchiveIndex { keeps: false, ..ArchiveIndex::new(record, depth) }
    }

    /// Tells whether this node keeps the segments.
    pub fn keeps(&self) -> bool {
        self.keeps
    }

    /// Returns the duration that it lists.
    pub fn depth(&self) -> Duration {
        self.depth
    }

    /// Returns how many listings of other nodes were merged into it. Between two merges, a listed segment doesn't change.
    pub fn joins(&self) -> u32 {
        self.joins
    }

    /// Returns its life.
    pub fn life(&self) -> LifeId {
        self.life
    }

    /// Returns a number that grows with each change of what is listed.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns a track.
    pub fn track(&self, track: TrackId) -> Option<&TrackIndex> {
        self.tracks.get(usize::from(track.0))
    }

    /// Returns a segment that is kept.
    pub fn entry(&self, track: TrackId, msn: Msn) -> Option<&SegmentEntry> {
        self.track(track)?.entry(msn)
    }

    /// Returns an init segment.
    pub fn init(&self, track: TrackId, number: u16) -> Option<&Bytes> {
        self.inits.get(&(track, number))
    }

    /// Returns the periods of the segments that are kept, oldest first.
    pub fn periods(&self) -> impl Iterator<Item = &Period> {
        self.periods.values()
    }

    /// Returns the period of a segment.
    pub fn period(&self, msn: Msn) -> Option<Period> {
        self.periods.range(..=msn).next_back().map(|(_, period)| *period)
    }

    /// Returns the oldest MSN that is listed.
    pub fn listed_from(&self) -> Msn {
        self.listed_from
    }

    /// Returns its sizes.
    pub fn stock(&self) -> Stock {
        let oldest_listed = self.rows.range(self.listed_from..).next().map(|(_, row)| row.began);
        let oldest_kept = self.rows.first_key_value().map(|(_, row)| row.began);
        Stock { listed: self.listed_bytes, kept: self.kept_bytes, oldest_listed, oldest_kept }
    }

    /// Takes a record, or a newer revision of it. Returns the init segments that are new.
    pub fn record(&mut self, record: &Record) -> Vec<(TrackId, u16, Bytes)> {
        for period in &record.periods {
            self.period_in(*period);
        }
        let mut new = Vec::new();
        for Track { id, timescale, inits, .. } in &record.tracks {
            if usize::from(id.0) == self.tracks.len() {
                self.tracks.push(TrackIndex::new(*timescale));
            }
            for init in inits {
                let old = self.inits.insert((*id, init.number), init.bytes.clone());
                if old.is_none_or(|old| old != init.bytes) {
                    new.push((*id, init.number, init.bytes.clone()));
                }
            }
        }
        self.forget_inits(record);
        new
    }

    /// Takes a period, unless it is known.
    pub(super) fn period_in(&mut self, period: Period) {
        self.periods.entry(period.first_msn).or_insert(period);
    }

    /// Takes a segment. Returns `false` if it isn't complete, is too late, or is known.
    pub fn take(&mut self, track: TrackId, segment: &Segment) -> bool {
        if !segment.is_complete() {
            return false;
        }
        self.live_from.get_or_insert(segment.msn);
        self.entry_in(track, SegmentEntry { here: self.keeps, ..SegmentEntry::of(segment) })
    }

    /// Takes a segment by its entry. Returns `false` if it is too late, or is known.
    pub(super) fn entry_in(&mut self, track: TrackId, entry: SegmentEntry) -> bool {
        let Some(index) = self.track(track) else { return false };
        if index.newest().is_some_and(|newest| entry.msn <= newest.msn) {
            return false;
        }
        self.fill(track, &entry);
        self.push(track, entry);
        self.settle();
        true
    }

    /// Lists the segments that the window lists no more.
    pub fn advance(&mut self, window: &Window) {
        for track in window.tracks() {
            let Some(first) = track.listed().next() else { continue };
            let entry = SegmentEntry::of(first);
            let Some(newest) = self.track(track.id()).and_then(TrackIndex::newest) else { continue };
            if newest.msn.saturating_add(1) < entry.msn {
                self.fill(track.id(), &entry);
                self.settle();
            }
            let index = self.tracks.get_mut(usize::from(track.id().0));
            let has_grown = index.is_some_and(|index| index.list_until(self.listed_from, first.msn));
            self.version += u64::from(has_grown);
        }
    }

    /// Delists the oldest row. Returns `false` if no row is listed.
    pub fn delist_oldest(&mut self) -> bool {
        let Some((&msn, row)) = self.rows.range_mut(self.listed_from..).next() else { return false };
        row.until = Some(self.total + self.listed_span + row.span);
        let row = *row;
        self.unlist(&row);
        self.raise(msn.saturating_add(1));
        true
    }

    /// Removes the oldest row. Returns `false` if there is none.
    pub fn drop_oldest(&mut self) -> bool {
        let Some((msn, row)) = self.rows.pop_first() else { return false };
        if row.until.is_none() {
            self.unlist(&row);
        }
        self.kept_bytes = self.kept_bytes.saturating_sub(row.bytes);
        for (id, track) in (0..).map(TrackId).zip(&mut self.tracks) {
            if track.entry(msn).is_some() {
                self.removed.push((id, msn));
            }
            track.delist(msn + 1);
            track.forget(msn + 1);
        }
        self.raise(msn + 1);
        if let Some((&oldest, _)) = self.rows.first_key_value()
            && let Some((&first, _)) = self.periods.range(..=oldest).next_back()
        {
            self.periods = self.periods.split_off(&first);
        }
        true
    }

    /// Takes note that a segment is lost. A listed segment can't become a gap (rfc8216bis 6.2.1), so that nothing up to it is
    /// listed once the window lets go of it.
    pub fn cut(&mut self, msn: Msn) {
        self.cut_to = self.cut_to.max(msn.saturating_add(1));
        self.raise_to(msn.saturating_add(1));
    }

    /// Lists nothing before `msn` again, as a former run did: EXT-X-MEDIA-SEQUENCE never goes back.
    pub fn resume(&mut self, listed_from: Msn) {
        self.cut_to = self.cut_to.max(listed_from);
        self.raise_to(listed_from);
    }

    /// Returns the segments that were removed since the last call.
    pub fn take_removed(&mut self) -> Vec<(TrackId, Msn)> {
        std::mem::take(&mut self.removed)
    }

    /// Returns the tracks, in the order of their ids.
    pub(super) fn tracks(&self) -> impl Iterator<Item = (TrackId, &TrackIndex)> {
        (0..).map(TrackId).zip(&self.tracks)
    }

    /// Returns the init segments, by track and number.
    pub(super) fn inits(&self) -> impl Iterator<Item = (&(TrackId, u16), &Bytes)> {
        self.inits.iter()
    }

    /// Returns the oldest MSN that is known.
    pub fn oldest(&self) -> Option<Msn> {
        self.rows.first_key_value().map(|(msn, _)| *msn)
    }

    /// Returns the oldest MSN that this node keeps.
    pub fn oldest_here(&self) -> Option<Msn> {
        self.tracks.iter().filter_map(|track| track.entries().find(|entry| entry.here).map(|entry| entry.msn)).min()
    }

    /// Tells whether a node that lists segments from `listed_from` on has some that this archive lacks.
    pub fn lacks(&self, listed_from: Msn) -> bool {
        let wanted = listed_from.max(self.cut_to);
        let Some(first) = self.oldest() else { return self.live_from.is_none_or(|live| wanted < live) };
        let is_old = |entry: &&SegmentEntry| self.live_from.is_none_or(|live| entry.msn < live);
        let is_torn = |entry: &SegmentEntry| entry.lost && entry.msn >= wanted;
        let torn = |track: &TrackIndex| track.entries().take_while(is_old).any(is_torn);
        wanted < first || self.tracks.iter().any(torn)
    }

    /// Delists what neither this node keeps nor the nodes that list from `listed_from` on.
    pub fn follow(&mut self, listed_from: Msn) {
        self.raise_to(self.oldest_here().map_or(listed_from, |here| here.min(listed_from)));
    }

    /// Returns the first segment that this run took from its window.
    pub(super) fn live_from(&self) -> Option<Msn> {
        self.live_from
    }

    /// Returns the longest duration of a segment of the track, in ticks.
    pub(super) fn longest(&self, track: TrackId) -> u64 {
        self.track(track).map_or(0, |index| index.timescale().ticks(self.segment_longest)).max(1)
    }

    /// Replaces all segments by those of a listing, which are sorted by MSN. Adds its init segments and periods.
    pub fn refill(&mut self, listing: Listing) {
        self.rows.clear();
        (self.listed_span, self.listed_bytes, self.kept_bytes) = (Duration::ZERO, 0, 0);
        (self.listed_from, self.total) = (0, Duration::ZERO);
        for track in &mut self.tracks {
            *track = TrackIndex::new(track.timescale());
        }
        self.version += 1;
        self.joins += 1;
        for (track, number, bytes) in listing.inits {
            self.inits.entry((track, number)).or_insert(bytes);
        }
        for period in listing.periods {
            self.period_in(period);
        }
        for (track, entry) in listing.entries {
            self.entry_in(track, entry);
        }
        self.raise_to(listing.listed_from.max(self.cut_to));
    }

    /// Delists all rows before `msn`.
    fn raise_to(&mut self, msn: Msn) {
        while self.rows.range(self.listed_from..).next().is_some_and(|(first, _)| *first < msn) {
            self.delist_oldest();
        }
        self.raise(msn);
    }

    fn unlist(&mut self, row: &Row) {
        self.listed_span = self.listed_span.saturating_sub(row.span);
        self.listed_bytes = self.listed_bytes.saturating_sub(row.bytes);
    }

    fn raise(&mut self, from: Msn) {
        if from > self.listed_from {
            self.listed_from = from;
            self.version += 1;
            self.tracks.iter_mut().for_each(|track| track.delist(from));
        }
    }

    fn push(&mut self, track: TrackId, entry: SegmentEntry) {
        let Some(index) = self.tracks.get_mut(usize::from(track.0)) else { return };
        let span = index.timescale().duration(entry.duration);
        index.push(entry);
        let began = entry.program_date_time;
        let row = self.rows.entry(entry.msn).or_insert(Row { began, ..Row::default() });
        let bytes = if entry.here { entry.length } else { 0 };
        // A row is as long as its longest track.
        let longer = span.saturating_sub(row.span);
        row.span += longer;
        row.bytes += bytes;
        self.total += longer;
        self.kept_bytes += bytes;
        if entry.msn < self.listed_from {
            row.until.get_or_insert(self.total + self.depth);
        } else {
            self.listed_span += longer;
            self.listed_bytes += bytes;
        }
    }

    /// Delists what exceeds the depth, and removes the rows whose time is over.
    fn settle(&mut self) {
        while let Some((_, row)) = self.rows.range(self.listed_from..).next()
            && self.listed_span.saturating_sub(row.span) >= self.depth
        {
            self.delist_oldest();
        }
        while let Some((_, row)) = self.rows.first_key_value()
            && row.until.is_some_and(|until| until <= self.total)
        {
            self.drop_oldest();
        }
    }

    /// Puts gaps in the place of the segments that are missing before `next`. They are missing if this node was away, and the
    /// swarm had them no more when it came back. MSNs have no holes, so that players would lose the older segments otherwise.
    /// Other edges may list the segments themselves (docs/architecture.md, Invariants: but for gaps, all edges list the same).
    fn fill(&mut self, track: TrackId, next: &SegmentEntry) {
        let Some(index) = self.track(track) else { return };
        let (Some(mut last), scale) = (index.newest().copied(), index.timescale()) else { return };
        let missing = next.msn.saturating_sub(last.msn).saturating_sub(1);
        if missing > HOLE_MAX {
            while self.drop_oldest() {}
            if let Some(index) = self.tracks.get_mut(usize::from(track.0)) {
                *index = TrackIndex::new(scale);
            }
            return;
        }
        let longest = self.longest(track);
        for msn in last.msn.saturating_add(1)..next.msn {
            let period = self.period(msn);
            let discontinuity = period.map_or(last.discontinuity, |p| p.discontinuity);
            let discontinuity = discontinuity.clamp(last.discontinuity, next.discontinuity.max(last.discontinuity));
            let begins = period.filter(|p| discontinuity != last.discontinuity && p.first_msn == msn);
            let decode_time = begins.map_or(last.end(), |p| scale.ticks(p.start).max(last.end()));
            // The gaps share the time up to the next segment. Before a discontinuity, they are as long as a segment is to be.
            let left = u64::from(next.msn - msn);
            let duration = if discontinuity == next.discontinuity {
                next.decode_time.saturating_sub(decode_time) / left
            } else {
                scale.ticks(self.segment_duration)
            };
            let passed = scale.duration(decode_time.saturating_sub(last.decode_time));
            let gap = SegmentEntry {
                msn,
                decode_time,
                duration: duration.clamp(1, longest),
                program_date_time: last.program_date_time + passed,
                discontinuity,
                init: if discontinuity == next.discontinuity { next.init } else { last.init },
                gap: true,
                lost: true,
                length: 0,
                here: false,
                ..last
            };
            self.push(track, gap);
            last = gap;
        }
    }

    /// Removes old init segments: a publisher may change its codec for ever.
    fn forget_inits(&mut self, record: &Record) {
        if self.inits.len() <= INITS_IDLE_MAX * self.tracks.len() {
            return;
        }
        let tracks = &self.tracks;
        self.inits.retain(|(track, number), _| {
            let declared = record.track(*track).is_some_and(|t| t.inits.iter().any(|i| i.number == *number));
            let index = tracks.get(usize::from(track.0));
            declared || index.is_some_and(|index| index.entries().any(|e| e.init == *number))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dvr::entry::tests::entry;
    use crate::model::time::Timescale;
    use crate::testing::synthetic::{self, AUDIO, VIDEO};

    /// An archive of a minute, whose ticks are milliseconds, with both tracks' segments.
    fn archive(segments: std::ops::Range<Msn>) -> ArchiveIndex {
        let mut record = synthetic::record("cam1");
        record.tracks.iter_mut().for_each(|track| track.timescale = Timescale::MILLIS);
        let mut archive = ArchiveIndex::new(&record, Duration::from_secs(60));
        for (msn, track) in segments.flat_map(|msn| [(msn, VIDEO), (msn, AUDIO)]) {
            assert!(archive.entry_in(track, entry(msn)));
        }
        archive
    }

    #[test]
    fn all_tracks_go_in_step_and_oldest_first() {
        let mut archive = archive(10..20);
        let stock = |listed, kept, oldest_listed: Msn, oldest_kept: Msn| Stock {
            listed,
            kept,
            oldest_listed: Some(entry(oldest_listed).program_date_time),
            oldest_kept: Some(entry(oldest_kept).program_date_time),
        };
        assert_eq!(archive.stock(), stock(2_000, 2_000, 10, 10));
        assert!(archive.delist_oldest());
        assert_eq!((archive.listed_from(), archive.stock()), (11, stock(1_800, 2_000, 11, 10)));
        assert!(archive.drop_oldest() && archive.drop_oldest());
        assert_eq!((archive.listed_from(), archive.stock()), (12, stock(1_600, 1_600, 12, 12)));
        assert_eq!(archive.take_removed(), [(VIDEO, 10), (AUDIO, 10), (VIDEO, 11), (AUDIO, 11)]);
        assert_eq!((archive.oldest(), archive.entry(AUDIO, 11)), (Some(12), None));
        while archive.drop_oldest() {}
        assert_eq!(archive.stock(), Stock::default());
        assert!(!archive.delist_oldest());
    }

    #[test]
    fn the_depth_bounds_what_is_listed_and_as_much_again_what_is_kept() {
        let archive = archive(10..200);
        // Of 62 s, which listed it, and of its own 2 s.
        assert_eq!((archive.listed_from(), archive.oldest()), (200 - 30, Some(200 - 30 - 32)));
    }

    #[test]
    fn a_hole_becomes_gaps_that_share_the_way() {
        let mut archive = archive(10..12);
        let next = SegmentEntry { decode_time: 24_000 + 4_500, ..entry(15) };
        assert!(archive.entry_in(VIDEO, next));
        assert!(!archive.entry_in(VIDEO, entry(13)), "it is too late");
        let gaps: Vec<_> = (12..15).filter_map(|msn| archive.entry(VIDEO, msn)).collect();
        assert!(gaps.iter().all(|gap| gap.gap && gap.lost && !gap.here && gap.length == 0));
        assert_eq!(
            gaps.iter().map(|gap| (gap.decode_time, gap.duration)).collect::<Vec<_>>(),
            [(24_000, 1_500), (25_500, 1_500), (27_000, 1_500)]
        );
        // After such a hole no player goes on.
        assert!(archive.entry_in(VIDEO, entry(15 + HOLE_MAX + 2)));
        assert_eq!(archive.oldest(), Some(15 + HOLE_MAX + 2));
    }

    #[test]
    fn what_is_cut_off_stays_so() {
        let mut archive = archive(10..20);
        archive.cut(13);
        archive.resume(12);
        assert_eq!(archive.listed_from(), 14);
        assert!(!archive.lacks(10) && archive.oldest_here() == Some(10));
        archive.follow(17);
        assert_eq!(archive.listed_from(), 14, "of what is kept here, all is listed");
        let version = archive.version();
        archive.cut(17);
        assert_eq!((archive.listed_from(), archive.version()), (18, version + 4));
        assert_eq!(archive.entry(VIDEO, 10), Some(&entry(10)), "it is still fetchable");
    }

    #[test]
    fn a_period_stays_as_long_as_a_segment_of_it() {
        let mut archive = archive(10..20);
        for (msn, n) in [(10, 0), (14, 1), (17, 2)] {
            archive.period_in(Period::new(msn, n, Duration::ZERO));
        }
        let of = |archive: &ArchiveIndex, msn| archive.period(msn).map(|period| period.discontinuity);
        assert_eq!([13, 14, 19].map(|msn| of(&archive, msn)), [Some(0), Some(1), Some(2)]);
        assert!((10..16).all(|_| archive.drop_oldest()));
        assert_eq!(archive.periods().map(|period| period.first_msn).collect::<Vec<_>>(), [14, 17]);
    }
}
