//! Multivariant and media playlists (rfc8216bis-22). Pure: from the record and from what is listed.
//!
//! One media playlist serves plain HLS and LL-HLS.

use std::fmt::Write as _;
use std::time::Duration;

use super::date_ranges::DateRanges;
use super::directives::Skip;
use super::facts::{Millis, bandwidth, by_format, format, independent, track_has_ended};
use super::hls_history::{HlsHistory, Lines};
use super::hls_lines;
use super::hls_lines::{Before, Seconds};
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

/// The group of audio tracks. Those of another codec than the first have one of their own, with that codec behind its name:
/// a variant's CODECS names every codec of its group, and a player that lacks one of them doesn't take the variant.
const AUDIO_GROUP: &str = "audio";

/// Only the newest segments, the one under way included, show their parts.
const PART_SEGMENTS_MAX: usize = 3;

/// The multivariant playlist.
pub fn multivariant(window: &Window) -> Option<String> {
    let record = window.record()?;
    let mut out = String::with_capacity(512);
    let _ = writeln!(out, "#EXTM3U\n#EXT-X-VERSION:{VERSION}");
    if independent(window) {
        out.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
    }
    // A rendition that is away isn't offered: its playlist lists gaps until it returns.
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
    // NAME is "in the language" of what it names, which nobody told: the tag says it to all.
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
    let _ = write!(
        out,
        "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={},CODECS=\"{}",
        peak + loudest.0,
        average + loudest.1,
        track.codec
    );
    let mut named = vec![track.codec.as_str()];
    for other in others() {
        if !named.contains(&other.codec.as_str()) {
            let _ = write!(out, ",{}", other.codec);
            named.push(&other.codec);
        }
    }
    out.push('"');
    if let TrackKind::Video(v) = track.kind {
        let _ = write!(out, ",RESOLUTION={}x{}", v.width, v.height);
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

/// VIDEO-RANGE (rfc8216bis 4.4.6.2), where the pictures say what they are.
fn video_range(transfer: u8) -> Option<&'static str> {
    match transfer {
        1 | 6 | 13..=15 => Some("SDR"),
        16 => Some("PQ"),
        18 => Some("HLG"),
        _ => None,
    }
}

/// Whether CAN-BLOCK-RELOAD is declared: the next update is never further off than a request is held.
/// All tracks are made of parts, so it never is, but for parts of many seconds.
fn can_block_reload(record: &Record) -> bool {
    record.part_target <= hold(record)
}

/// CAN-SKIP-UNTIL: "MUST be at least six times the Target Duration" (rfc8216bis 4.4.3.8).
fn skip_boundary(record: &Record) -> Duration {
    record.target() * 6
}

/// The media playlist of a track; `None` before its first part is listed.
pub fn media<'a>(of: impl Into<Listed<'a>>, id: TrackId) -> Option<String> {
    update(of, &mut HlsHistory::default(), id, Skip::Nothing)
}

/// Its delta update (rfc8216bis 6.2.5.1): without the segments that are further from its end than CAN-SKIP-UNTIL, and the date ranges
/// that have been there for longer. The whole playlist where there are no such segments, and after the end, when delivery directives
/// count no more.
pub fn update<'a>(of: impl Into<Listed<'a>>, history: &mut HlsHistory, id: TrackId, skip: Skip) -> Option<String> {
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

/// How many segments a delta update skips. "The Skip Boundary" is counted from the end of the last segment. No discontinuity
/// is skipped, and no change of EXT-X-MAP, though they may be: Shaka (5.2) counts and finds only those that it reads.
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
    /// What stands before the segments, of which the first `skipped` are left out, perhaps with their date ranges.
    fn head(&self, out: &mut String, skipped: usize, skips_dateranges: bool) {
        let record = self.record;
        let version = if skips_dateranges { SKIPS_DATERANGES_VERSION } else { VERSION };
        let _ = writeln!(out, "#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{}", record.target_duration);
        let block = if can_block_reload(record) { "CAN-BLOCK-RELOAD=YES," } else { "" };
        // CAN-SKIP-DATERANGES is said of every stream: a splice may come at any time, and this line never changes.
        let _ = writeln!(
            out,
            "#EXT-X-SERVER-CONTROL:{block}CAN-SKIP-UNTIL={},CAN-SKIP-DATERANGES=YES,PART-HOLD-BACK={},HOLD-BACK={}",
            Millis(skip_boundary(record)),
            Millis(record.latency),
            Millis(record.hold_back())
        );
        let _ = writeln!(out, "#EXT-X-PART-INF:PART-TARGET={}", Millis(record.part_target));
        let _ = writeln!(out, "#EXT-X-MEDIA-SEQUENCE:{}", self.first.msn);
        // The number of the first segment; its own EXT-X-DISCONTINUITY has left with its predecessor.
        let _ = writeln!(out, "#EXT-X-DISCONTINUITY-SEQUENCE:{}", self.first.discontinuity);

        let dateranges = DateRanges::of(record, self.track);
        // After EXT-X-DISCONTINUITY-SEQUENCE, which hls.js (#7554) doesn't read behind it.
        if skipped > 0 {
            let _ = write!(out, "#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}");
            if skips_dateranges {
                // "REQUIRED if the Client requested an update that skips EXT-X-DATERANGE tags. The quoted-string MAY be empty."
                let removed = dateranges.removed(self.of.removed, skip_boundary(record));
                let _ = write!(out, ",RECENTLY-REMOVED-DATERANGES=\"{removed}\"");
            }
            out.push('\n');
        }
        match skips_dateranges {
            true => dateranges.write_recent(out, skip_boundary(record)),
            false => dateranges.write(out),
        }
    }

    /// The segments but the first `skipped`, and their parts. Returns what a segment after them depends on.
    fn segments(&self, out: &mut String, archived: Option<(&Lines, &TrackIndex)>, skipped: usize) -> Before {
        let (record, track) = (self.record, self.track);
        // "PART tags [SHOULD be removed] once they are greater than three Target Durations from the end"; strict
        // checkers count segments for it, so that shorter ones than TARGETDURATION don't have them for longer.
        let scale = track.timescale();
        let mut from_end: u64 = track.listed().map(Segment::duration).sum();
        let tail = scale.ticks(record.hold_back());
        // The hint of a segment's first part stands for that segment.
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

    /// The part to come after the `last` segment.
    fn hints(&self, out: &mut String, last: Before) {
        let Some((msn, part)) = self.track.next() else { return };
        // The next segment begins a period, and its headers are there already (rfc8216bis 4.4.5.3).
        let newest = self.record.track(self.track.id()).and_then(|t| t.inits.last()).map(|i| i.number);
        if let Some(number) = newest.filter(|n| part == 0 && last.init.is_some_and(|i| *n > i)) {
            let _ = writeln!(out, "#EXT-X-PRELOAD-HINT:TYPE=MAP,URI=\"init.{number}.mp4\"");
        }
        let _ = writeln!(out, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{msn}.{part}.m4s\"");
    }
}

/// The parts that an ended playlist shows. Nobody asks for parts any more then; but hls.js (1.7) has a stream end where the
/// last part that the playlist shows is buffered, of both sound and pictures. A gap's never is, nor is a part after the
/// end of the other track.
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
        // Decode time is meant here, and the player's is the time of presentation: less a part, that is buffered all the same.
        let until = track.timescale().ticks(until.saturating_sub(record.part_target));
        // The last segment may be a stump that has none of them.
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
        // In the place of a held one there is a chunk without a sample. hls.js (1.7) never goes on behind GAP=YES.
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
