//! One track's archived segments, in a row, and which of them are listed.

use std::collections::VecDeque;
use std::ops::Range;

use super::entry::SegmentEntry;
use crate::model::Msn;
use crate::model::time::Timescale;

/// One track of an [`ArchiveIndex`](super::index::ArchiveIndex).
#[derive(Debug)]
pub struct TrackIndex {
    scale: Timescale,
    /// All that are kept: each MSN is one more than the one's before.
    entries: VecDeque<SegmentEntry>,
    /// The last that came, kept or not.
    newest: Option<SegmentEntry>,
    /// Those before the window that are listed; all of them are kept. It only moves on.
    listed: Range<Msn>,
}

impl TrackIndex {
    /// Makes the index of a track that has no segment yet.
    pub fn new(scale: Timescale) -> Self {
        TrackIndex { scale, entries: VecDeque::new(), newest: None, listed: 0..0 }
    }

    /// Units of its decode times and durations.
    pub fn timescale(&self) -> Timescale {
        self.scale
    }

    /// The last segment that came.
    pub fn newest(&self) -> Option<&SegmentEntry> {
        self.newest.as_ref()
    }

    /// A segment that is kept.
    pub fn entry(&self, msn: Msn) -> Option<&SegmentEntry> {
        let first = self.entries.front()?.msn;
        self.entries.get(usize::try_from(msn.checked_sub(first)?).ok()?)
    }

    /// All that are kept, oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &SegmentEntry> {
        self.entries.iter()
    }

    /// The numbers of the segments before the window that are listed.
    pub fn range(&self) -> Range<Msn> {
        self.listed.clone()
    }

    /// The segments before the window that are listed, oldest first.
    pub fn listed(&self) -> impl DoubleEndedIterator<Item = &SegmentEntry> + ExactSizeIterator + Clone {
        let first = self.entries.front().map_or(0, |first| first.msn);
        let at = |msn: Msn| (msn.saturating_sub(first) as usize).min(self.entries.len());
        self.entries.range(at(self.listed.start)..at(self.listed.end))
    }

    /// Whether the window's first segment follows on those listed here, of which there are some.
    pub fn leads_to(&self, msn: Msn) -> bool {
        !self.listed.is_empty() && self.listed.end == msn
    }

    /// Takes the next in; they come in a row.
    pub fn push(&mut self, entry: SegmentEntry) {
        debug_assert!(self.newest.is_none_or(|newest| newest.msn + 1 == entry.msn));
        self.newest = Some(entry);
        self.entries.push_back(entry);
    }

    /// Lists those from `listed_from` on that the window, which begins with `first`, lists no more; `false` if there are
    /// none.
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

    /// Lists none before `from` any more.
    pub fn delist(&mut self, from: Msn) {
        self.listed.start = self.listed.start.max(from.min(self.listed.end));
    }

    /// Lets go of all before `from`, which must not be listed.
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

    /// A track that has these segments, and lists those in `range`.
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
        // The window may be ahead of what is kept.
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
        // Past all that is listed: it goes on behind that.
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
