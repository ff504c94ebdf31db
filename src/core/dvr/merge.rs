//! An archive and what other nodes list: so that every edge lists the same (DESIGN invariant 1). Pure.
//!
//! A node that comes late, or back, asks a keeper once what there was before its own window, and goes on from there by
//! itself. Who keeps nothing of its own follows the keepers in what is listed no more.

use std::collections::BTreeMap;

use super::index::Archive;
use super::query::Listing;
use super::track_index::{Entry, Shelf};
use crate::model::{Msn, TrackId};

impl Archive {
    /// Whether a node that lists segments from `listed_from` on has something that this one lacks.
    pub fn lacks(&self, listed_from: Msn) -> bool {
        let wanted = listed_from.max(self.cut_to());
        let live_from = self.live_from();
        let Some(first) = self.oldest() else { return live_from.is_none_or(|live| wanted < live) };
        let torn = |shelf: &Shelf| {
            let past = shelf.entries().take_while(|entry| live_from.is_none_or(|live| entry.msn < live));
            past.into_iter().any(|entry| entry.lost && entry.msn >= wanted)
        };
        wanted < first || self.shelves().any(torn)
    }

    /// Takes in what another node lists, as far as it is missing here: before what is here, and in holes before what this
    /// run took from its window. What its window has listed as a gap stays one. The newest segment that there can be is the one
    /// before `end`.
    pub fn join(&mut self, listing: Listing, end: Msn) {
        let live_from = self.live_from().unwrap_or(Msn::MAX);
        let ours = self.oldest().map(|oldest| self.listed_from().max(oldest));
        let mut entries: BTreeMap<(Msn, TrackId), Entry> = BTreeMap::new();
        for (track, entry) in listing.entries.into_iter().filter(|(_, entry)| entry.msn < end) {
            let longest = self.longest(track);
            let entry = Entry { duration: entry.duration.min(longest), here: false, ..entry };
            entries.insert((entry.msn, track), entry);
        }
        for (id, shelf) in (0..).map(TrackId).zip(self.shelves()) {
            for entry in shelf.entries().filter(|entry| !entry.lost || entry.msn >= live_from) {
                entries.insert((entry.msn, id), *entry);
            }
        }
        let mut joined = self.emptied();
        for (track, number, bytes) in listing.inits {
            if joined.init(track, number).is_none() {
                joined.init_in(track, number, bytes);
            }
        }
        for period in listing.periods {
            joined.period_in(period);
        }
        for ((_, track), entry) in entries {
            joined.entry_in(track, entry);
        }
        let listed_from = ours.map_or(listing.listed_from, |ours| ours.min(listing.listed_from));
        joined.raise_to(listed_from.max(self.cut_to()));
        *self = joined;
    }

    /// What is listed and kept of these, for another node to join.
    pub fn listing(&self, from: Msn, before: Msn) -> Listing {
        let in_range = |entry: &&Entry| (from..before).contains(&entry.msn) && !entry.lost;
        let shelves = (0..).map(TrackId).zip(self.shelves());
        let entries = shelves.flat_map(|(id, shelf)| shelf.entries().filter(in_range).map(move |e| (id, *e)));
        Listing {
            listed_from: self.listed_from(),
            periods: self.periods().copied().collect(),
            inits: self.inits().map(|((track, number), bytes)| (*track, *number, bytes.clone())).collect(),
            entries: entries.collect(),
        }
    }

    /// The oldest segment that is kept here.
    pub fn oldest_here(&self) -> Option<Msn> {
        self.shelves().filter_map(|shelf| shelf.entries().find(|entry| entry.here).map(|entry| entry.msn)).min()
    }

    /// Lists nothing any more that neither this node keeps nor those that list from `listed_from` on.
    pub fn follow(&mut self, listed_from: Msn) {
        self.raise_to(self.oldest_here().map_or(listed_from, |here| here.min(listed_from)));
    }
}
