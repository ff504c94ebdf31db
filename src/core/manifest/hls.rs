//! Multivariant and media playlists (rfc8216bis-22). Pure: from the record and from what is listed.
//!
//! The same media playlist serves HLS and LL-HLS.

use std::fmt::Write as _;
use std::time::Duration;

use super::date_ranges::DateRanges;
use super::directives::Skip;
use super::facts::{Millis, bandwidth, by_format, format, independent, track_has_ended};
use super::hls_history::{HlsHistory, Lines};
use super::hls_lines::{self, Before, Seconds};
use super::listed::Listed;
use crate::dvr::{SegmentEntry, TrackIndex};
use crate::model::limits::hold;
use crate::model::time::Timescale;
use crate::model::{Record, Track, TrackId, TrackKind};
use crate::window::{Part, Segment, TrackWindow, Window};

/// `Content-Type` of playlists (rfc8216bis 4).
pub const CONTENT_TYPE: &str = "application/vnd.apple.mpegurl";

/// EXT-X-VERSION: EXT-X-SKIP needs 9, and 10 where it "replaces EXT-X-DATERANGE tags" (rfc8216bis 8).
const VERSION: u8 = 9;
const SKIPS_DATERANGES_VERSION: u8 = 10;

/// The group of audio tracks. Tracks of another codec than the first one's have a group of their own, with the codec in
/// its name: a variant's CODECS has every codec of its group, and a player that lacks one of them skips the variant.
const AUDIO_GROUP: &str = "audio";

/// Only the newest segments, including the one under way, show their parts.
const PART_SEGMENTS_MAX: usize = 3;

/// Renders the multivariant playlist; returns `None` before the record is known.
pub fn multivariant(window: &Window) -> Option<String> {
    let record = window.record()?;
    let mut out = String::with_capacity(512);
    let _ = writeln!(out, "#EXTM3U\n#EXT-X-VERSION:{VERSION}");
    if independent(window) {
        out.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
    }
    // A rendition that isn't sent isn't offered either: its playlist lists gaps until it returns.
    let (video, audio): (Vec<_>, Vec<_>) =
        record.tracks.iter().filter(|t| record.is_sent(t.id)).partition(|t| t.is_video());
    let named = by_format(&audio).into_iter().enumerate().map(|(i, tracks)| match i {
        0 => (AUDIO_GROUP.to_owned(), tracks),
        _ => (format!("{AUDIO_GROUP}-{}", format(tracks[0])), tracks),
    });
    let groups: Vec<(String, Vec<&Track>)> = named.collect();
    // One audio track without video needs no group: the variant itself is the rendition.
    let grouped = audio.len() > 1 || (!audio.is_empty() && !video.is_empty());
    for (group, tracks) in groups.iter().filter(|_| grouped) {
        for (i, track) in tracks.iter().enumerate() {
            media_tag(&mut out, group, track, i == 0);
        }
    }
    for (group, tracks) in &groups {
        let variants = if video.is_empty() { &tracks[..1] } else { &video[..] };
        for track in variants {
            stream_inf(&mut out, window, track, tracks, grouped.then_some(group));
        }
    }
    if groups.is_empty() {
        for track in video {
            stream_inf(&mut out, window, track, &[], None);
        }
    }
    Some(out)
}

fn media_tag(out: &mut String, group: &str, track: &Track, default: bool) {
    // NAME should be in the language that it names; the tag of the language is readable for all.
    let name = track.language.as_ref().unwrap_or(&track.name);
    let _ = write!(out, "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{group}\",NAME=\"{name}\"");
    if let Some(language) = &track.language {
        let _ = write!(out, ",LANGUAGE=\"{language}\"");
    }
    let _ = write!(out, ",DEFAULT={},AUTOSELECT=YES", if default { "YES" } else { "NO" });
    if let TrackKind::Audio(info) = track.kind {
        let _ = write!(out, ",CHANNELS=\"{}\"", info.channels);
    }
    let _ = writeln!(out, ",URI=\"{}/playlist.m3u8\"", track.name);
}

fn stream_inf(out: &mut String, window: &Window, track: &Track, audio: &[&Track], group: Option<&String>) {
    let others = || audio.iter().filter(|a| group.is_some() && a.id != track.id);
    // BANDWIDTH: "the largest sum of peak segment bit rates that is produced by any playable combination".
    let (peak, average) = bandwidth(window, track);
    let loudest = others().map(|a| bandwidth(window, a)).fold((0, 0), |m, b| (m.0.max(b.0), m.1.max(b.1)));
    let mut codecs = vec![track.codec.as_str()];
    for other in others() {
        if !codecs.contains(&other.codec.as_str()) {
            codecs.push(&other.codec);
        }
    }
    let _ = write!(
        out,
        "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={},CODECS=\"{}\"",
        peak + loudest.0,
        average + loudest.1,
        codecs.join(",")
    );
    if let TrackKind::Video(v) = track.kind {
        // 4.4.6.2: "the optimal pixel resolution at which to display all the video in the Variant Stream".
        let _ = write!(out, ",RESOLUTION={}x{}", v.sar.display_width(v.width), v.height);
        if v.frame_rate_milli > 0 {
            let _ = write!(out, ",FRAME-RATE={}", Millis(Duration::from_millis(v.frame_rate_milli.into())));
        }
        if let Some(range) = video_range(v.transfer) {
            let _ = write!(out, ",VIDEO-RANGE={range}");
        }
    }
    if let Some(group) = group {
        let _ = write!(out, ",AUDIO=\"{group}\"");
    }
    let _ = writeln!(out, "\n{}/playlist.m3u8", track.name);
}

/// Returns VIDEO-RANGE (rfc8216bis 4.4.6.2) if the pictures declare it.
fn video_range(transfer: u8) -> Option<&'static str> {
    match transfer {
        1 | 6 | 13..=15 => Some("SDR"),
        16 => Some("PQ"),
        18 => Some("HLG"),
        _ => None,
    }
}

/// CAN-SKIP-UNTIL: "MUST be at least six times the Target Duration" (rfc8216bis 4.4.3.8).
fn skip_boundary(record: &Record) -> Duration {
    record.target() * 6
}

/// Renders the media playlist of a track; returns `None` before its first part is listed.
///
/// With `skip` it is a delta update (rfc8216bis 6.2.5.1): it leaves out the segments that are further from its end than
/// CAN-SKIP-UNTIL, and perhaps the date ranges that have been listed for longer. It is the whole playlist if there are
/// no such segments, and after the end, where delivery directives don't count.
pub fn media<'a>(of: impl Into<Listed<'a>>, history: &mut HlsHistory, id: TrackId, skip: Skip) -> Option<String> {
    let of = of.into();
    let record = of.window.record()?;
    let track = of.window.track(id).filter(|t| t.is_started())?;
    let archived = of.archived(id);
    let lines = history.follow(id, archived);
    let skipped = if skip == Skip::Nothing { 0 } else { skipped(of, record, track) };
    let playlist =
        Playlist { of, record, track, first: of.entries(track).next()?, ended: track_has_ended(record, track) };

    let mut out = String::with_capacity((8 << 10) + lines.map_or(0, Lines::len));
    playlist.head(&mut out, skipped, skip == Skip::DateRanges && skipped > 0);
    let last = playlist.segments(&mut out, lines.zip(archived.map(|archived| archived.index)), skipped);
    if playlist.ended {
        out.push_str("#EXT-X-ENDLIST\n");
    } else {
        playlist.hints(&mut out, last);
        rendition_reports(&mut out, of.window, record, id);
    }
    Some(out)
}

/// Returns the number of segments that a delta update skips. "The Skip Boundary" is counted from the end of the last
/// segment. A discontinuity or a change of EXT-X-MAP may be skipped, too, but isn't: Shaka (5.2) only finds those that
/// it reads.
fn skipped(of: Listed<'_>, record: &Record, track: &TrackWindow) -> usize {
    if track_has_ended(record, track) {
        return 0;
    }
    let boundary = track.timescale().ticks(skip_boundary(record));
    let whole = || of.entries(track).filter(|s| s.whole);
    let Some(first) = whole().next() else { return 0 };
    let mut from_end: u64 = whole().map(|s| s.duration).sum();
    let old = whole().take_while(|s| {
        from_end = from_end.saturating_sub(s.duration);
        from_end >= boundary
    });
    old.take_while(|s| (s.discontinuity, s.init) == (first.discontinuity, first.init)).count()
}

/// A media playlist.
struct Playlist<'a> {
    of: Listed<'a>,
    record: &'a Record,
    track: &'a TrackWindow,
    /// The first segment listed.
    first: SegmentEntry,
    ended: bool,
}

impl Playlist<'_> {
    /// Writes everything before the segments. The first `skipped` of them are left out, perhaps with their date ranges.
    fn head(&self, out: &mut String, skipped: usize, skips_dateranges: bool) {
        let record = self.record;
        let version = if skips_dateranges { SKIPS_DATERANGES_VERSION } else { VERSION };
        let _ = writeln!(out, "#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{}", record.target_duration);
        // The next update must never be further off than a request is held. Only parts of many seconds are.
        let block = if record.part_target <= hold(record) { "CAN-BLOCK-RELOAD=YES," } else { "" };
        // CAN-SKIP-DATERANGES is always there: a splice may come at any time, and this line never changes.
        let _ = writeln!(
            out,
            "#EXT-X-SERVER-CONTROL:{block}CAN-SKIP-UNTIL={},CAN-SKIP-DATERANGES=YES,PART-HOLD-BACK={},HOLD-BACK={}",
            Millis(skip_boundary(record)),
            Millis(record.latency),
            Millis(record.hold_back())
        );
        let _ = writeln!(out, "#EXT-X-PART-INF:PART-TARGET={}", Millis(record.part_target));
        let _ = writeln!(out, "#EXT-X-MEDIA-SEQUENCE:{}", self.first.msn);
        // The number of the first segment, whose own EXT-X-DISCONTINUITY has left with its predecessor.
        let _ = writeln!(out, "#EXT-X-DISCONTINUITY-SEQUENCE:{}", self.first.discontinuity);

        let dateranges = DateRanges::of(record, self.track);
        // After EXT-X-DISCONTINUITY-SEQUENCE, which hls.js (#7554) ignores after this tag.
        if skipped > 0 {
            let _ = write!(out, "#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}");
            if skips_dateranges {
                // "REQUIRED if the Client requested an update that skips EXT-X-DATERANGE tags. The quoted-string MAY be empty."
                let removed = dateranges.removed(self.of.removed, skip_boundary(record));
                let _ = write!(out, ",RECENTLY-REMOVED-DATERANGES=\"{removed}\"");
            }
            out.push('\n');
        }
        dateranges.write(out, skips_dateranges.then(|| skip_boundary(record)));
    }

    /// Writes the segments but the first `skipped`, and their parts. Returns what the lines of the next segment depend
    /// on.
    fn segments(&self, out: &mut String, archived: Option<(&Lines, &TrackIndex)>, skipped: usize) -> Before {
        let (record, track) = (self.record, self.track);
        // "PART tags [SHOULD be removed] once they are greater than three Target Durations from the end". Strict
        // checkers count segments instead, so the number of segments is bounded, too.
        let scale = track.timescale();
        let mut from_end: u64 = track.listed().map(Segment::duration).sum();
        let tail = scale.ticks(record.hold_back());
        // The hint of a segment's first part counts as that segment.
        let hinted = usize::from(!self.ended && track.next().is_some_and(|(_, part)| part == 0));
        let plain_segments = (track.listed().count() + hinted).saturating_sub(PART_SEGMENTS_MAX);
        let last_parts = self.ended.then(|| LastParts::of(self.of.window, record, track));
        let printed = archived.and_then(|(lines, index)| lines.write(out, index, skipped));
        let mut before = printed.unwrap_or(Before::first(&self.first));
        let skipped = skipped.saturating_sub(archived.map_or(0, |(_, index)| index.listed().len()));
        for (i, segment) in track.listed().enumerate() {
            let from_start = from_end;
            from_end = from_end.saturating_sub(segment.duration());
            if i < skipped {
                continue;
            }
            let entry = SegmentEntry::of(segment);
            before.begin(out, &entry);
            match &last_parts {
                Some(last) => parts(out, segment, scale, |part| last.shows(part)),
                None if from_start <= tail && i >= plain_segments => parts(out, segment, scale, |_| true),
                None => {}
            }
            if entry.whole {
                hls_lines::finish(out, &entry, scale);
            }
        }
        before
    }

    /// Writes the hint of the part after the `last` segment.
    fn hints(&self, out: &mut String, last: Before) {
        let Some((msn, part)) = self.track.next() else { return };
        // The next segment begins a period, and its init segment is there already (rfc8216bis 4.4.5.3).
        let newest = self.record.track(self.track.id()).and_then(|t| t.inits.last()).map(|i| i.number);
        if let Some(number) = newest.filter(|n| part == 0 && last.init.is_some_and(|i| *n > i)) {
            let _ = writeln!(out, "#EXT-X-PRELOAD-HINT:TYPE=MAP,URI=\"init.{number}.mp4\"");
        }
        let _ = writeln!(out, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{msn}.{part}.m4s\"");
    }
}

/// The parts that an ended playlist shows. Nobody requests parts any more, but for hls.js (1.7) a stream ends where the
/// last part of the playlist is buffered, of both sound and pictures. A gap is never buffered, nor a part after the end
/// of the other track.
struct LastParts {
    from: u64,
    until: u64,
}

impl LastParts {
    fn of(window: &Window, record: &Record, track: &TrackWindow) -> Self {
        let end = |t: &TrackWindow| {
            let last = t.listed().rfind(|s| !s.has_gap())?;
            Some(t.timescale().duration(SegmentEntry::of(last).end()))
        };
        let until = window.tracks().iter().filter_map(end).min().unwrap_or_default();
        // In decode time. Players use presentation time, so this leaves out one part, which is buffered in any case.
        let until = track.timescale().ticks(until.saturating_sub(record.part_target));
        // The last segment may be too short to have one of these parts.
        let part = track.timescale().ticks(record.part_target);
        let from = track.listed().rfind(|s| !s.has_gap() && s.decode_time().saturating_add(part) <= until);
        LastParts { from: from.map_or(0, Segment::decode_time), until }
    }

    fn shows(&self, part: &Part) -> bool {
        let (start, duration) = (part.header.decode_time, u64::from(part.header.duration));
        self.from <= start && start.saturating_add(duration) <= self.until && !part.is_gap()
    }
}

fn parts(out: &mut String, segment: &Segment, scale: Timescale, is_shown: impl Fn(&Part) -> bool) {
    for part in segment.parts().filter(|part| is_shown(part)) {
        let duration = Seconds(u64::from(part.header.duration), scale);
        let _ = write!(out, "#EXT-X-PART:DURATION={duration},URI=\"{}.{}.m4s\"", segment.msn, part.header.id.part);
        // A held part has a chunk without samples. It isn't marked: hls.js (1.7) never continues after GAP=YES.
        if part.is_gap() && !part.is_held() {
            out.push_str(",GAP=YES");
        } else if part.header.flags.independent {
            out.push_str(",INDEPENDENT=YES");
        }
        out.push('\n');
    }
}

fn rendition_reports(out: &mut String, window: &Window, record: &Record, id: TrackId) {
    for other in record.tracks.iter().filter(|t| t.id != id) {
        if let Some((msn, part)) = window.track(other.id).and_then(TrackWindow::last) {
            let _ = writeln!(
                out,
                "#EXT-X-RENDITION-REPORT:URI=\"../{}/playlist.m3u8\",LAST-MSN={msn},LAST-PART={part}",
                other.name
            );
        }
    }
}
