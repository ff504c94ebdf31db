//! Multivariant and media playlists (rfc8216bis-22). Pure: from the record and from what is listed.
//!
//! One media playlist serves plain HLS and LL-HLS. A line that has been printed once is printed the
//! same as long as it is listed: durations come from ticks, never from sums of rounded numbers.

use std::fmt::Write as _;
use std::time::Duration;

use super::hold;
use crate::live::{Record, Segment, Track, TrackId, TrackKind, TrackWindow, Window};
use crate::units::Timescale;

/// `Content-Type` of playlists (rfc8216bis 4).
pub const CONTENT_TYPE: &str = "application/vnd.apple.mpegurl";

/// EXT-X-VERSION. EXT-X-MAP needs 6; delta updates, when they come, 9.
const VERSION: u8 = 9;

/// The group of all audio tracks.
const AUDIO_GROUP: &str = "audio";

/// More EXT-X-DISCONTINUITY tags than this are never printed between two segments.
const DISCONTINUITIES_MAX: u32 = 16;

/// Only the newest segments, the one under way included, show their parts.
const PART_SEGMENTS_MAX: usize = 3;

/// What a rendition's bandwidth is taken to be before anything is measured, in bits/s.
const BANDWIDTH_GUESS: u64 = 1_000_000;

/// The multivariant playlist.
pub fn multivariant(window: &Window) -> Option<String> {
    let record = window.record()?;
    let mut out = String::with_capacity(512);
    let _ = writeln!(out, "#EXTM3U\n#EXT-X-VERSION:{VERSION}");
    if independent(window) {
        out.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
    }
    let (video, audio): (Vec<_>, Vec<_>) = record.tracks.iter().partition(|t| t.is_video());
    // One audio track without video needs no group: the variant itself is the rendition.
    let grouped = audio.len() > 1 || (!audio.is_empty() && !video.is_empty());
    if grouped {
        for (i, track) in audio.iter().enumerate() {
            media_tag(&mut out, track, i == 0);
        }
    }
    let variants = if video.is_empty() { audio.get(..1).unwrap_or_default() } else { &video[..] };
    for track in variants {
        stream_inf(&mut out, window, track, &audio, grouped);
    }
    Some(out)
}

/// Whether every segment starts with a keyframe: "all media samples in a Media Segment can be decoded without information
/// from other segments" (rfc8216bis 4.4.2.1). A player reads the multivariant playlist once, so that a life says it as
/// long as its GOPs are regular, and never again once a cut was forced.
fn independent(window: &Window) -> bool {
    let mut parts = window.tracks().iter().flat_map(TrackWindow::listed).flat_map(Segment::parts);
    !parts.any(|part| part.header.flags.irregular)
}

fn media_tag(out: &mut String, track: &Track, default: bool) {
    let _ = write!(out, "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{AUDIO_GROUP}\",NAME=\"{}\"", track.name);
    if let Some(language) = &track.language {
        let _ = write!(out, ",LANGUAGE=\"{language}\"");
    }
    let _ = write!(out, ",DEFAULT={},AUTOSELECT=YES", if default { "YES" } else { "NO" });
    if let TrackKind::Audio(info) = track.kind {
        let _ = write!(out, ",CHANNELS=\"{}\"", info.channels);
    }
    let _ = writeln!(out, ",URI=\"{}/playlist.m3u8\"", track.name);
}

fn stream_inf(out: &mut String, window: &Window, track: &Track, audio: &[&Track], grouped: bool) {
    let others = || audio.iter().filter(|a| grouped && a.id != track.id);
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
            let _ = write!(out, ",FRAME-RATE={}.{:03}", v.frame_rate_milli / 1_000, v.frame_rate_milli % 1_000);
        }
    }
    if grouped {
        let _ = write!(out, ",AUDIO=\"{AUDIO_GROUP}\"");
    }
    let _ = writeln!(out, "\n{}/playlist.m3u8", track.name);
}

/// Peak and mean bit rate of a track: the record's, so that all edges say the same; before it has one,
/// what is measured here.
pub(super) fn bandwidth(window: &Window, track: &Track) -> (u64, u64) {
    if track.bandwidth > 0 {
        let average = if track.average_bandwidth > 0 { track.average_bandwidth } else { track.bandwidth };
        return (u64::from(track.bandwidth), u64::from(average));
    }
    match window.track(track.id).map_or((0, 0), TrackWindow::bit_rates) {
        (0, _) | (_, 0) => (BANDWIDTH_GUESS, BANDWIDTH_GUESS),
        (average, peak) => (peak, average),
    }
}

/// Whether CAN-BLOCK-RELOAD is declared: the next update is never further off than a request is held.
/// All tracks are made of parts, so it never is, but for parts of many seconds.
fn can_block_reload(record: &Record) -> bool {
    record.part_target <= hold(record)
}

/// The media playlist of a track; `None` before its first part is listed.
pub fn media(window: &Window, id: TrackId) -> Option<String> {
    let record = window.record()?;
    let track = window.track(id).filter(|t| t.is_started())?;
    let first = track.listed().next()?;
    let ended = is_ended(record, track);

    let mut out = String::with_capacity(8 << 10);
    let _ = writeln!(out, "#EXTM3U\n#EXT-X-VERSION:{VERSION}\n#EXT-X-TARGETDURATION:{}", record.target_duration);
    out.push_str("#EXT-X-SERVER-CONTROL:");
    if can_block_reload(record) {
        out.push_str("CAN-BLOCK-RELOAD=YES,");
    }
    out.push_str("PART-HOLD-BACK=");
    millis(&mut out, record.part_hold_back());
    out.push_str(",HOLD-BACK=");
    millis(&mut out, record.hold_back());
    out.push_str("\n#EXT-X-PART-INF:PART-TARGET=");
    millis(&mut out, record.part_target);
    let _ = writeln!(out, "\n#EXT-X-MEDIA-SEQUENCE:{}", first.msn);
    // The number of the first segment; its own EXT-X-DISCONTINUITY has left with its predecessor.
    let _ = writeln!(out, "#EXT-X-DISCONTINUITY-SEQUENCE:{}", first.discontinuity());

    // "PART tags [SHOULD be removed] once they are greater than three Target Durations from the end"; strict
    // checkers count segments for it, so that shorter ones than TARGETDURATION don't have them for longer.
    let scale = track.timescale();
    let mut from_end: u64 = track.listed().map(Segment::duration).sum();
    let tail = scale.ticks(record.hold_back());
    // The hint of a segment's first part stands for that segment.
    let hinted = usize::from(!ended && track.next().is_some_and(|(_, part)| part == 0));
    let plain_segments = (track.listed().count() + hinted).saturating_sub(PART_SEGMENTS_MAX);
    let (mut init, mut discontinuity) = (None, first.discontinuity());
    for (i, segment) in track.listed().enumerate() {
        let from_start = from_end;
        from_end = from_end.saturating_sub(segment.duration());
        let jumps = segment.discontinuity().saturating_sub(discontinuity);
        for _ in 0..jumps.min(DISCONTINUITIES_MAX) {
            out.push_str("#EXT-X-DISCONTINUITY\n");
        }
        discontinuity = segment.discontinuity();
        if init != Some(segment.init()) {
            init = Some(segment.init());
            let _ = writeln!(out, "#EXT-X-MAP:URI=\"init.{}.mp4\"", segment.init());
        }
        let _ = writeln!(out, "#EXT-X-PROGRAM-DATE-TIME:{}", segment.program_date_time());
        if from_start <= tail && i >= plain_segments {
            parts(&mut out, segment, scale);
        }
        if segment.is_complete() {
            if segment.has_gap() {
                out.push_str("#EXT-X-GAP\n");
            }
            out.push_str("#EXTINF:");
            seconds(&mut out, segment.duration(), scale);
            let _ = writeln!(out, ",\n{}.m4s", segment.msn);
        }
    }
    if ended {
        out.push_str("#EXT-X-ENDLIST\n");
        return Some(out);
    }
    if let Some((msn, part)) = track.next() {
        let _ = writeln!(out, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{msn}.{part}.m4s\"");
    }
    rendition_reports(&mut out, window, record, id);
    Some(out)
}

/// Whether all of the life's segments are listed.
pub(super) fn is_ended(record: &Record, track: &TrackWindow) -> bool {
    record.ended.is_some_and(|last| track.next().is_some_and(|(msn, _)| msn > last))
}

fn parts(out: &mut String, segment: &Segment, scale: Timescale) {
    for part in segment.parts() {
        out.push_str("#EXT-X-PART:DURATION=");
        seconds(out, u64::from(part.header.duration), scale);
        let _ = write!(out, ",URI=\"{}.{}.m4s\"", segment.msn, part.header.id.part);
        if part.is_gap() {
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

/// Seconds with the six digits that every implementation reads, rounded to the nearest.
fn seconds(out: &mut String, ticks: u64, scale: Timescale) {
    let hz = u128::from(scale.hz());
    let micros = (u128::from(ticks) * 1_000_000 + hz / 2) / hz;
    let _ = write!(out, "{}.{:06}", micros / 1_000_000, micros % 1_000_000);
}

/// Seconds with three digits.
fn millis(out: &mut String, duration: Duration) {
    let _ = write!(out, "{}.{:03}", duration.as_secs(), duration.subsec_millis());
}
