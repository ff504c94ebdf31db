//! Facts about a stream that both playlists and MPDs state.

use std::fmt;
use std::time::Duration;

use crate::dvr::SegmentEntry;
use crate::model::{Record, Track};
use crate::window::{Segment, TrackWindow, Window};

/// The bandwidth of a rendition before anything is measured, in bits/s.
const BANDWIDTH_GUESS: u64 = 1_000_000;

/// Returns the peak and mean bit rate of a track in bits/s: the record's, which is the same at all edges, or before it
/// has one the measured one.
pub fn bandwidth(window: &Window, track: &Track) -> (u64, u64) {
    if track.bandwidth > 0 {
        let average = if track.average_bandwidth > 0 { track.average_bandwidth } else { track.bandwidth };
        return (u64::from(track.bandwidth), u64::from(average));
    }
    match window.track(track.id).map_or((0, 0), TrackWindow::bit_rates) {
        (0, _) | (_, 0) => (BANDWIDTH_GUESS, BANDWIDTH_GUESS),
        (average, peak) => (peak, average),
    }
}

/// Returns a track's codec without its profile: the first element of its codecs string.
pub fn format(track: &Track) -> &str {
    track.codec.split('.').next().unwrap_or_default()
}

/// Groups tracks by [`format()`], in the order in which the formats first occur.
pub fn by_format<'a>(tracks: &[&'a Track]) -> Vec<Vec<&'a Track>> {
    let mut groups: Vec<Vec<&Track>> = Vec::new();
    for track in tracks {
        match groups.iter_mut().find(|group| format(group[0]) == format(track)) {
            Some(group) => group.push(track),
            None => groups.push(vec![track]),
        }
    }
    groups
}

/// A duration, shown as seconds with three digits.
#[derive(Debug, Clone, Copy)]
pub struct Millis(pub Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0.as_secs(), self.0.subsec_millis())
    }
}

/// Returns the time at which the newest listed segment of a track ends.
pub fn end(track: &TrackWindow) -> Option<Duration> {
    track.listed().next_back().map(|last| track.timescale().duration(SegmentEntry::of(last).end()))
}

/// Returns true if every segment starts with a keyframe: "all media samples in a Media Segment can be decoded without
/// information from other segments" (rfc8216bis 4.4.2.1). A player reads the multivariant playlist only once. So a life
/// states this as long as its GOPs are regular, and never again after a forced cut.
pub fn independent(window: &Window) -> bool {
    let mut parts = window.tracks().iter().flat_map(TrackWindow::listed).flat_map(Segment::parts);
    !parts.any(|part| part.header.flags.irregular)
}

/// Returns the tracks of which something has been listed.
pub fn started(window: &Window) -> impl Iterator<Item = &TrackWindow> {
    window.tracks().iter().filter(|t| t.is_started())
}

/// Returns true if the life has ended, and every segment of the track is listed.
pub fn track_has_ended(record: &Record, track: &TrackWindow) -> bool {
    record.ended.is_some_and(|last| track.next().is_some_and(|(msn, _)| msn > last))
}

/// Returns true if the life has ended, and every segment of every started track is listed.
pub fn presentation_has_ended(window: &Window) -> bool {
    window.record().is_some_and(|record| started(window).all(|t| track_has_ended(record, t)))
}
