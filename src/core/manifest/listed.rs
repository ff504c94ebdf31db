//! What is listed of a stream: the window, and what an archive holds from before it. Pure.

use super::date_ranges::RemovedRanges;
use crate::dvr::{ArchiveIndex, SegmentEntry, TrackIndex};
use crate::model::{LifeId, Period, Record, TrackId};
use crate::window::{TrackWindow, Window};

/// What documents are made of.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    /// The newest segments.
    pub window: &'a Window,
    /// The archive of the window's life.
    pub archive: Option<&'a ArchiveIndex>,
    /// A number that is higher for each archive that this node opens of the stream.
    pub archives_before: u64,
    /// The date ranges of the segments that have left the window.
    pub removed: Option<&'a RemovedRanges>,
}

/// What is listed of a track before its window. In one edition a segment that is listed stays as it is.
#[derive(Debug, Clone, Copy)]
pub struct ArchivedTrack<'a> {
    /// The edition.
    pub edition: Edition,
    /// The segments, of which some are listed.
    pub index: &'a TrackIndex,
}

/// What tells apart two states of an archive in which the same segment may be listed as a gap, and whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edition {
    /// The life.
    pub life: LifeId,
    /// A number that is higher for each archive that this node opens of the life.
    pub archives_before: u64,
    /// How many listings of other nodes were joined to this archive.
    pub joins: u32,
}

impl<'a> From<&'a Window> for Listed<'a> {
    fn from(window: &'a Window) -> Self {
        Listed::new(window, None)
    }
}

impl<'a> Listed<'a> {
    /// Both; an archive of another life than the window's counts for nothing.
    pub fn new(window: &'a Window, archive: Option<&'a ArchiveIndex>) -> Self {
        let of_this_life = |a: &&ArchiveIndex| window.record().is_some_and(|record| record.life == a.life());
        Listed { window, archive: archive.filter(of_this_life), archives_before: 0, removed: None }
    }

    /// Whether more is listed than the window.
    pub fn is_archived(&self) -> bool {
        self.archive.is_some()
    }

    /// What a track's window follows on, where that is listed.
    pub fn archived(&self, track: TrackId) -> Option<ArchivedTrack<'a>> {
        let first = self.window.track(track)?.listed().next()?.msn;
        let archive = self.archive?;
        let index = archive.track(track).filter(|index| index.leads_to(first))?;
        let (life, joins) = (archive.life(), archive.joins());
        Some(ArchivedTrack { edition: Edition { life, archives_before: self.archives_before, joins }, index })
    }

    /// All segments listed of a track, oldest first; the last may be under way.
    pub fn entries(&self, track: &'a TrackWindow) -> impl DoubleEndedIterator<Item = SegmentEntry> + Clone + use<'a> {
        let archived = self.archived(track.id()).into_iter().flat_map(|archived| archived.index.listed());
        archived.copied().chain(track.listed().map(SegmentEntry::of))
    }

    /// The periods of all that is listed, and perhaps older ones.
    pub fn periods(&self, record: &Record) -> Vec<Period> {
        let Some(archive) = self.archive else { return record.periods.clone() };
        archive.periods().copied().collect()
    }
}
