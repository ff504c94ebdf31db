//! An archive and what other nodes list: so that every edge lists the same (DESIGN invariant 1).
//!
//! A node that comes late, or back, asks a keeper once what there was before its own window, and goes on from there by
//! itself. A node that keeps nothing of its own follows the keepers in what is listed no more.

use std::collections::BTreeMap;

use super::entry::SegmentEntry;
use super::index::ArchiveIndex;
use super::query::Listing;
use crate::model::{Msn, TrackId};

/// Takes in what another node lists, as far as it is missing in `index`: before what is there, and in holes before what this
/// run took from its window. What its window has listed as a gap stays one. The newest segment that there can be is the one
/// before `end`.
pub fn join(index: &mut ArchiveIndex, listing: Listing, end: Msn) {
    let live_from = index.live_from().unwrap_or(Msn::MAX);
    let ours = index.oldest().map(|oldest| index.listed_from().max(oldest));
    let mut entries: BTreeMap<(Msn, TrackId), SegmentEntry> = BTreeMap::new();
    for (track, entry) in listing.entries.into_iter().filter(|(_, entry)| entry.msn < end) {
        let longest = index.longest(track);
        let entry = SegmentEntry { duration: entry.duration.min(longest), here: false, ..entry };
        entries.insert((entry.msn, track), entry);
    }
    for (id, track) in index.tracks() {
        for entry in track.entries().filter(|entry| !entry.lost || entry.msn >= live_from) {
            entries.insert((entry.msn, id), *entry);
        }
    }
    let listed_from = ours.map_or(listing.listed_from, |ours| ours.min(listing.listed_from));
    let entries = entries.into_iter().map(|((_, track), entry)| (track, entry)).collect();
    index.refill(Listing { listed_from, entries, ..listing });
}

/// Returns what is listed and kept of these segments, for another node to join.
pub fn listing(index: &ArchiveIndex, from: Msn, before: Msn) -> Listing {
    let in_range = |entry: &&SegmentEntry| (from..before).contains(&entry.msn) && !entry.lost;
    let entries = index.tracks().flat_map(|(id, track)| track.entries().filter(in_range).map(move |e| (id, *e)));
    Listing {
        listed_from: index.listed_from(),
        periods: index.periods().copied().collect(),
        inits: index.inits().map(|((track, number), bytes)| (*track, *number, bytes.clone())).collect(),
        entries: entries.collect(),
    }
}
