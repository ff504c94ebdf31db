//! What is listed of a stream: the window, and what an archive holds from before it. Pure.

use super::date_ranges::RemovedRanges;
use crate::dvr::Archive;
use crate::dvr::{Entry, Shelf};
use crate::model::{Period, Record, TrackId};
use crate::window::{TrackWindow, Window};

/// What documents are made of.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    /// The newest segments.
    pub window: &'a Window,
    archive: Option<&'a Archive>,
    /// The date ranges of what has left the window.
    pub removed: Option<&'a RemovedRanges>,
}

impl<'a> From<&'a Window> for Listed<'a> {
    fn from(window: &'a Window) -> Self {
        Listed { window, archive: None, removed: None }
    }
}

impl<'a> Listed<'a> {
    /// Both; an archive of another life than the window's counts for nothing.
    pub fn new(window: &'a Window, archive: Option<&'a Archive>) -> Self {
        let of_this_life = |a: &&Archive| window.record().is_some_and(|record| record.life == a.life());
        Listed { window, archive: archive.filter(of_this_life), removed: None }
    }

    /// With the date ranges of what has left the window.
    pub fn after(self, removed: &'a RemovedRanges) -> Self {
        Listed { removed: Some(removed), ..self }
    }

    /// Whether more is listed than the window.
    pub fn is_archived(&self) -> bool {
        self.archive.is_some()
    }

    /// What a track's window follows on, where that is listed.
    pub fn shelf(&self, track: TrackId) -> Option<&'a Shelf> {
        let first = self.window.track(track)?.listed().next()?.msn;
        self.archive?.shelf(track).filter(|shelf| shelf.leads_to(first))
    }

    /// All segments listed of a track, oldest first; the last may be under way.
    pub fn entries(&self, track: &'a TrackWindow) -> impl DoubleEndedIterator<Item = Entry> + Clone + use<'a> {
        let past = self.shelf(track.id()).into_iter().flat_map(Shelf::listed);
        past.copied().chain(track.listed().map(Entry::of))
    }

    /// The periods of all that is listed, and perhaps older ones.
    pub fn periods(&self, record: &Record) -> Vec<Period> {
        let Some(archive) = self.archive else { return record.periods.clone() };
        archive.periods().copied().collect()
    }
}
