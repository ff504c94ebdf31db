//! The HLS lines of archived segments, written once: an archive of two hours has 3,600 segments, and its playlist is
//! requested with each part. The index of the archive says which segments are listed; the lines follow it whenever a
//! playlist is rendered.

use std::collections::{BTreeMap, VecDeque};

use super::hls_lines::{self, Before};
use super::listed::{ArchivedTrack, Edition};
use crate::dvr::{SegmentEntry, TrackIndex};
use crate::model::{Msn, TrackId};

/// The lines of a stream's tracks.
#[derive(Debug, Default)]
pub struct HlsHistory {
    tracks: BTreeMap<TrackId, Lines>,
}

impl HlsHistory {
    /// Brings the lines of a track up to date with its archive. Drops those of other lives, and all if there is no
    /// archive.
    pub fn follow(&mut self, track: TrackId, archived: Option<ArchivedTrack<'_>>) -> Option<&Lines> {
        let Some(archived) = archived else {
            self.tracks.remove(&track);
            return None;
        };
        self.tracks.retain(|_, lines| lines.of.is_none_or(|of| of.life == archived.edition.life));
        let lines = self.tracks.entry(track).or_default();
        lines.follow(archived);
        Some(lines)
    }
}

/// The lines of one track.
#[derive(Debug, Default)]
pub struct Lines {
    /// The edition that they were written from. In another edition, a gap may be a whole segment.
    of: Option<Edition>,
    /// The MSN of the first segment.
    from: Msn,
    /// The length of each segment's lines, in bytes.
    lengths: VecDeque<usize>,
    text: String,
}

impl Lines {
    fn follow(&mut self, ArchivedTrack { edition, index }: ArchivedTrack<'_>) {
        let start = index.range().start;
        if self.of != Some(edition) || start < self.from {
            *self = Lines { of: Some(edition), from: start, ..Lines::default() };
        }
        let gone = self.lengths.len().min((start - self.from) as usize);
        let gone: usize = self.lengths.drain(..gone).sum();
        self.text.drain(..gone);
        self.from = start;
        for entry in index.listed().skip(self.lengths.len()) {
            let previous = entry.msn.checked_sub(1).and_then(|msn| index.entry(msn));
            let len = self.text.len();
            write(&mut self.text, index, entry, previous.map_or(Before::first(entry), Before::after));
            self.lengths.push_back(self.text.len() - len);
        }
    }

    /// Returns the length of all lines, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    /// Writes the lines of all segments of `index`, which they have followed, but the first `skipped`. Returns what the
    /// lines of the next segment depend on.
    pub fn write(&self, out: &mut String, index: &TrackIndex, skipped: usize) -> Option<Before> {
        let entry = index.listed().nth(skipped)?;
        let (first, last) = (index.listed().next()?, index.listed().next_back()?);
        // The first segment of a playlist has no EXT-X-DISCONTINUITY, and the first one that is written needs an
        // EXT-X-MAP.
        write(out, index, entry, Before::first(first));
        let at: usize = self.lengths.iter().take(skipped + 1).sum();
        out.push_str(self.text.get(at..).unwrap_or(""));
        Some(Before::after(last))
    }
}

fn write(out: &mut String, index: &TrackIndex, entry: &SegmentEntry, mut before: Before) {
    before.begin(out, entry);
    hls_lines::finish(out, entry, index.timescale());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dvr::entry::tests::entry;
    use crate::dvr::track_index::tests::index;
    use crate::model::LifeId;

    const TRACK: TrackId = TrackId(0);

    fn archived(life: u64, joins: u32, index: &TrackIndex) -> Option<ArchivedTrack<'_>> {
        Some(ArchivedTrack { edition: Edition { life: LifeId(life), archives_before: 0, joins }, index })
    }

    /// Returns the lines of all segments but the first `skipped`.
    fn lines(history: &mut HlsHistory, archived: Option<ArchivedTrack<'_>>, skipped: usize) -> String {
        let mut out = String::new();
        if let (Some(lines), Some(archived)) = (history.follow(TRACK, archived), archived) {
            assert_eq!(lines.lengths.len(), archived.index.listed().len());
            lines.write(&mut out, archived.index, skipped);
        }
        out
    }

    /// Segments of which 12 and 15 begin a period, 15 with another init segment.
    fn entries() -> impl Iterator<Item = SegmentEntry> {
        (10..20).map(|msn| SegmentEntry {
            discontinuity: u32::from(msn >= 12) + u32::from(msn >= 15),
            init: u16::from(msn >= 15),
            ..entry(msn)
        })
    }

    #[test]
    fn the_first_line_names_the_headers_and_a_later_one_what_has_changed() {
        let index = index(entries(), 12..16);
        let text = lines(&mut HlsHistory::default(), archived(1, 0, &index), 0);
        let tags: Vec<_> = text.lines().filter(|line| !line.contains("DATE-TIME")).collect();
        let whole = "#EXTINF:2.000000,";
        assert_eq!(
            tags,
            [
                "#EXT-X-MAP:URI=\"init.0.mp4\"",
                whole,
                "12.m4s",
                whole,
                "13.m4s",
                whole,
                "14.m4s",
                "#EXT-X-DISCONTINUITY",
                "#EXT-X-MAP:URI=\"init.1.mp4\"",
                whole,
                "15.m4s",
            ]
        );
    }

    #[test]
    fn lines_that_were_printed_before_are_those_that_are_printed_anew() {
        let mut history = HlsHistory::default();
        for (from, to) in [(10, 11), (10, 14), (11, 14), (12, 18), (15, 18), (18, 20), (10, 20)] {
            let index = index(entries(), from..to);
            for skipped in 0..index.listed().len() {
                let anew = lines(&mut HlsHistory::default(), archived(1, 0, &index), skipped);
                assert_eq!(lines(&mut history, archived(1, 0, &index), skipped), anew, "{from}..{to}, {skipped}");
                assert_eq!(anew.lines().filter(|line| line.ends_with(".m4s")).count(), (to - from) as usize - skipped);
            }
        }
    }

    #[test]
    fn a_join_another_archive_and_another_life_are_printed_anew() {
        let torn = index(entries().map(|e| SegmentEntry { gap: e.msn == 13, ..e }), 10..18);
        let whole = index(entries(), 10..18);
        let mut history = HlsHistory::default();
        assert!(lines(&mut history, archived(1, 0, &torn), 0).contains("#EXT-X-GAP"));
        assert!(lines(&mut history, archived(1, 0, &whole), 0).contains("#EXT-X-GAP"), "what is printed stays");
        assert!(!lines(&mut history, archived(1, 1, &whole), 0).contains("#EXT-X-GAP"));
        assert!(lines(&mut history, archived(2, 1, &torn), 0).contains("#EXT-X-GAP"));
        // The archive is closed, and another one joins as many listings.
        let edition = Edition { life: LifeId(2), archives_before: 1, joins: 1 };
        let again = Some(ArchivedTrack { edition, index: &whole });
        assert!(!lines(&mut history, again, 0).contains("#EXT-X-GAP"));
        history.follow(TrackId(1), archived(3, 1, &whole));
        assert_eq!(history.tracks.len(), 1, "the track of another life");
        assert_eq!(
            lines(&mut history, archived(3, 1, &whole), 0),
            lines(&mut HlsHistory::default(), archived(3, 1, &whole), 0)
        );
        history.follow(TrackId(1), None);
        assert_eq!(lines(&mut history, None, 0), "");
        assert!(history.tracks.is_empty());
    }
}
