//! Merges the archives of the cluster, so that all edges list the same (docs/architecture.md, Invariants).
//!
//! A node that is new, or was away, asks an archive once for the segments before its own window, and then goes on by itself.
//! A node without segments of its own delists what the archives delist.

use std::collections::BTreeMap;

use super::entry::SegmentEntry;
use super::index::ArchiveIndex;
use super::query::Listing;
use crate::model::{Msn, TrackId};

/// Adds what another node lists and `index` lacks: the segments before its oldest one, and holes before the segments that
/// this run took from its window. A gap that the window has listed stays a gap. Segments from `end` on can't be there yet, and
/// are ignored.
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

/// Returns what this node keeps of these segments, for another node.
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
