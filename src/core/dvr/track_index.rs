//! The archived segments of one track, and which of them are listed.

use std::collections::VecDeque;
use std::ops::Range;

use super::entry::SegmentEntry;
use crate::model::Msn;
use crate::model::time::Timescale;

/// One track of an [`ArchiveIndex`](super::index::ArchiveIndex).
#[derive(Debug)]
pub struct TrackIndex {
    scale: Timescale,
    /// The segments that are kept. Each MSN is one more than the one before.
    entries: VecDeque<SegmentEntry>,
    /// The newest segment, kept or not.
    newest: Option<SegmentEntry>,
    /// The segments before the window that are listed, all of which are kept. Neither end goes back.
    listed: Range<Msn>,
}

impl TrackIndex {
    /// Returns the index of a track that has no segment yet.
    pub fn new(scale: Timescale) -> Self {
        TrackIndex { scale, entries: VecDeque::new(), newest: None, listed: 0..0 }
    }

    /// Returns the unit of its decode times and durations.
    pub fn timescale(&self) -> Timescale {
        self.scale
    }

    /// Returns the newest segment.
    pub fn newest(&self) -> Option<&SegmentEntry> {
        self.newest.as_ref()
    }

    /// Returns a segment that is kept.
    pub fn entry(&self, msn: Msn) -> Option<&SegmentEntry> {
        let first = self.entries.front()?.msn;
        self.entries.get(usize::try_from(msn.checked_sub(first)?).ok()?)
    }

    /// Returns the segments that are kept, oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &SegmentEntry> {
        self.entries.iter()
    }

    /// Returns the MSNs of the segments before the window that are listed.
    pub fn range(&self) -> Range<Msn> {
        self.listed.clone()
    }

    /// Returns the segments before the window that are listed, oldest first.
    pub fn listed(&self) -> impl DoubleEndedIterator<Item = &SegmentEntry> + ExactSizeIterator + Clone {
        let first = self.entries.front().map_or(0, |first| first.msn);
        let at = |msn: Msn| (msn.saturating_sub(first) as usize).min(self.entries.len());
        self.entries.range(at(self.listed.start)..at(self.listed.end))
    }

    /// Tells whether segments are listed here, and `msn`, the window's first one, comes next.
    pub fn leads_to(&self, msn: Msn) -> bool {
        !self.listed.is_empty() && self.listed.end == msn
    }

    /// Adds the next segment.
    pub fn push(&mut self, entry: SegmentEntry) {
        debug_assert!(self.newest.is_none_or(|newest| newest.msn + 1 == entry.msn));
        self.newest = Some(entry);
        self.entries.push_back(entry);
    }

    /// Lists the segments from `listed_from` to before `first`, with which the window begins. Returns `false` if none is new.
    pub fn list_until(&mut self, listed_from: Msn, first: Msn) -> bool {
        let (Some(oldest), Some(newest)) = (self.entries.front(), self.entries.back()) else { return false };
        let from = if self.listed.is_empty() { listed_from.max(oldest.msn) } else { self.listed.start };
        let until = first.min(newest.msn.saturating_add(1));
        let more = until > self.listed.end.max(from);
        if more {
            self.listed = from..until;
        }
        more
    }

    /// Delists the segments before `from`.
    pub fn delist(&mut self, from: Msn) {
        self.listed.start = self.listed.start.max(from.min(self.listed.end));
    }

    /// Removes the segments before `from`, none of which may be listed.
    pub fn forget(&mut self, from: Msn) {
        while self.entries.front().is_some_and(|e| e.msn < from) {
            self.entries.pop_front();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::dvr::entry::tests::entry;

    /// Returns a track that has these segments, and lists those in `range`.
    pub(crate) fn index(entries: impl IntoIterator<Item = SegmentEntry>, range: Range<Msn>) -> TrackIndex {
        let mut index = TrackIndex::new(Timescale::MILLIS);
        entries.into_iter().for_each(|entry| index.push(entry));
        index.list_until(range.start, range.end);
        index
    }

    fn listed(index: &TrackIndex) -> Vec<Msn> {
        index.listed().map(|entry| entry.msn).collect()
    }

    #[test]
    fn what_the_window_lists_no_more_is_listed_here() {
        let mut index = index((10..20).map(entry), 12..12);
        assert!(listed(&index).is_empty() && !index.leads_to(12));
        assert!(index.list_until(12, 15));
        assert_eq!(listed(&index), [12, 13, 14]);
        assert!(index.leads_to(15) && !index.leads_to(16));
        assert!(!index.list_until(12, 15) && !index.list_until(12, 13), "that is listed already");
        // The window may be ahead of the archive.
        assert!(index.list_until(12, 30));
        assert_eq!((listed(&index).len(), index.range()), (8, 12..20));
    }

    #[test]
    fn what_is_delisted_is_never_listed_again() {
        let mut index = index((10..20).map(entry), 10..15);
        index.delist(13);
        index.delist(11);
        assert_eq!(listed(&index), [13, 14]);
        index.forget(12);
        assert_eq!(listed(&index), [13, 14]);
        assert_eq!((index.entry(11), index.entry(12)), (None, Some(&entry(12))));
        // Beyond the last listed segment: the list goes on behind that.
        index.delist(17);
        assert!(listed(&index).is_empty() && !index.leads_to(15));
        assert!(!index.list_until(17, 17) && index.list_until(17, 19));
        assert_eq!(listed(&index), [17, 18]);
        index.delist(20);
        index.forget(20);
        assert_eq!((index.entries().count(), index.newest()), (0, Some(&entry(19))));
        assert!(!index.list_until(20, 30));
    }
}
