//! Everything that is listed of a stream: the window, and what an archive has from before it. Pure.

use super::date_ranges::RemovedRanges;
use crate::dvr::{ArchiveIndex, SegmentEntry, TrackIndex};
use crate::model::{LifeId, Period, Record, TrackId};
use crate::window::{TrackWindow, Window};

/// Holds everything that playlists and MPDs are rendered from.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    /// The window, with the newest segments.
    pub window: &'a Window,
    /// The archive of the window's presentation.
    pub archive: Option<&'a ArchiveIndex>,
    /// The number of archives that this node has closed of the stream; it changes with each archive.
    pub archives_before: u64,
    /// The date ranges of the segments that have left the window.
    pub removed: Option<&'a RemovedRanges>,
}

/// The archived segments before a track's window. In one edition a listed segment never changes.
#[derive(Debug, Clone, Copy)]
pub struct ArchivedTrack<'a> {
    /// The edition.
    pub edition: Edition,
    /// The segments, of which some are listed.
    pub index: &'a TrackIndex,
}

/// Tells apart two states of an archive that may list the same segment once as a gap, and once whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edition {
    /// The life.
    pub life: LifeId,
    /// The number of archives that this node has closed of the stream.
    pub archives_before: u64,
    /// The number of other nodes' listings that this archive has joined.
    pub joins: u32,
}

impl<'a> From<&'a Window> for Listed<'a> {
    fn from(window: &'a Window) -> Self {
        Listed::new(window, None)
    }
}

impl<'a> Listed<'a> {
    /// Joins both. An archive of another life than the window's is left out.
    pub fn new(window: &'a Window, archive: Option<&'a ArchiveIndex>) -> Self {
        let of_this_life = |a: &&ArchiveIndex| window.record().is_some_and(|record| record.life == a.life());
        Listed { window, archive: archive.filter(of_this_life), archives_before: 0, removed: None }
    }

    /// Returns the archived segments of a track that its window continues, if there are any.
    pub fn archived(&self, track: TrackId) -> Option<ArchivedTrack<'a>> {
        let first = self.window.track(track)?.listed().next()?.msn;
        let archive = self.archive?;
        let index = archive.track(track).filter(|index| index.leads_to(first))?;
        let (life, joins) = (archive.life(), archive.joins());
        Some(ArchivedTrack { edition: Edition { life, archives_before: self.archives_before, joins }, index })
    }

    /// Returns all listed segments of a track, oldest first. The last one may be under way.
    pub fn entries(&self, track: &'a TrackWindow) -> impl DoubleEndedIterator<Item = SegmentEntry> + Clone + use<'a> {
        let archived = self.archived(track.id()).into_iter().flat_map(|archived| archived.index.listed());
        archived.copied().chain(track.listed().map(SegmentEntry::of))
    }

    /// Returns the periods of everything listed, and perhaps older ones.
    pub fn periods(&self, record: &Record) -> Vec<Period> {
        let Some(archive) = self.archive else { return record.periods.clone() };
        archive.periods().copied().collect()
    }
}
