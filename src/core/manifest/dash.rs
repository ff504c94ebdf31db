//! The MPD (ISO/IEC 23009-1, DASH-IF's restricted timing and low-latency modes). Pure.
//!
//! Media time runs through the whole life. So a period's `presentationTimeOffset` is its `Period@start` in the track's
//! timescale, and `availabilityStartTime` is the wallclock of media time 0. Neither ever changes (DASH-IF live, 4.3).
//! `$Number$` is the MSN.
//!
//! When the life has ended, the MPD is static, and ends with the last segment that has media. For a player that has
//! read the MPD before (it follows `Location`) nothing else changes: Shaka (5.2) fails if a period's start or
//! addressing changes. For other players the MPD names each segment that is still listed, and begins with the first
//! one.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::directives::FOLLOW;
use super::facts::{Millis, bandwidth, by_format, end, independent, presentation_has_ended, started};
use super::listed::Listed;
use crate::dvr::SegmentEntry;
use crate::model::input_clock::rescale;
use crate::model::time::Timescale;
use crate::model::{Msn, Period, Record, SampleAspectRatio, Track, TrackKind, TrackSet, VideoInfo};
use crate::window::{TrackWindow, Window};

/// `Content-Type` of an MPD.
pub const CONTENT_TYPE: &str = "application/dash+xml";

/// The way in which the MPD names segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Timing {
    /// `$Number$` with `@duration`: a player needs no new MPD to find the next segment.
    #[default]
    Number,
    /// SegmentTimeline: each segment has its own start and duration, and a player reads the MPD again for each.
    Timeline,
}

/// With numbered segments only a new period changes the MPD. A player close to the live edge has to know of it before
/// its buffer is empty. dash.js (5.2, as run) reads the MPD no more often than this.
const UPDATE_PERIOD: Duration = Duration::from_secs(1);

/// The most by which pictures are shown later than their decode times. It depends on the depth of reordering: five
/// frames with three B-frames in a row. Parts have only decode times.
const SHOWN_LATER: Duration = Duration::from_millis(250);

/// Renders the MPD; returns `None` until all tracks are listed, except those that start late. Once the life has ended,
/// the MPD is another one for players that `follow`: that have read it before.
pub fn mpd<'a>(of: impl Into<Listed<'a>>, timing: Timing, follows: bool) -> Option<String> {
    let of = of.into();
    let window = of.window;
    let record = window.record()?;
    if !window.is_started() {
        return None;
    }
    let ended = presentation_has_ended(window);
    let anew = ended && !follows && !is_whole(of, record);
    let timing = if anew { Timing::Timeline } else { timing };
    let mut periods = listed_periods(of, record);
    if ended {
        periods.retain(|period| with_media(of, period).next().is_some());
    }
    if let Some(first) = periods.first_mut().filter(|_| anew) {
        first.start = first.start.max(start_of(of, first));
    }
    let mut out = String::with_capacity(4 << 10);
    let end = periods.last().filter(|_| ended).map(|last| end_of(of, record, last, timing));
    mpd_start(&mut out, of, record, timing, end);
    if !ended {
        let _ = writeln!(out, "<Location>manifest.mpd?{FOLLOW}</Location>");
    }
    service_description(&mut out, record, periods.first());
    for (i, period) in periods.iter().enumerate() {
        let end = match periods.get(i + 1) {
            Some(next) => Some(next.start),
            None => end,
        };
        let (id, start) = (period_id(period), XsDuration(period.start));
        let _ = write!(out, "<Period id=\"{id}\" start=\"{start}\"");
        if let Some(end) = end.filter(|_| ended) {
            let _ = write!(out, " duration=\"{}\"", XsDuration(end.saturating_sub(period.start)));
        }
        out.push_str(">\n");
        let before = i.checked_sub(1).and_then(|i| periods.get(i)).filter(|_| period.continues);
        let view = View { of, record, period, before, end, timing, ended };
        view.adaptation_sets(&mut out);
        out.push_str("</Period>\n");
    }
    // Relative to the MPD, since a proxy may change the path. The low-latency profile counts both schemes.
    out.push_str("<UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:http-xsdate:2014\" value=\"../time\"/>\n");
    out.push_str("<UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:http-iso:2014\" value=\"../time?iso\"/>\n</MPD>\n");
    Some(out)
}

/// Returns true if everything that the life ever had is listed; of a late track, from its first period on.
fn is_whole(of: Listed<'_>, record: &Record) -> bool {
    let periods = of.periods(record);
    let first = |t: &TrackWindow| periods.iter().find(|p| p.tracks.contains(t.id())).map(|p| p.first_msn);
    started(of.window).all(|t| of.entries(t).next().map(|s| s.msn) == first(t))
}

/// Returns Period@id: the discontinuity that the period begins with, and its first MSN if it continues another one.
fn period_id(period: &Period) -> String {
    match period.continues {
        false => format!("p{}", period.discontinuity),
        true => format!("p{}-{}", period.discontinuity, period.first_msn),
    }
}

/// Returns the listed segments of a track in a period.
fn listed_in<'w>(
    of: Listed<'w>,
    known: &[Period],
    track: &'w TrackWindow,
    period: &Period,
) -> impl Iterator<Item = SegmentEntry> + use<'w> {
    let until = known.iter().map(|p| p.first_msn).filter(|&msn| msn > period.first_msn).min();
    let (first, until) = (period.first_msn, until.unwrap_or(Msn::MAX));
    // Segments older than the known periods have another discontinuity sequence number.
    let discontinuity = period.discontinuity;
    of.entries(track).filter(move |s| (first..until).contains(&s.msn) && s.discontinuity == discontinuity)
}

/// Returns the periods of which something is listed.
fn listed_periods(of: Listed<'_>, record: &Record) -> Vec<Period> {
    let tracks = of.window.tracks();
    let oldest = tracks.iter().filter_map(|t| of.entries(t).next()).map(|s| s.msn).min().unwrap_or(0);
    let newest = tracks.iter().filter_map(TrackWindow::last).map(|(msn, _)| msn).max().unwrap_or(0);
    let known = of.periods(record);
    let after = |i: usize| known.get(i + 1).map(|next| next.first_msn);
    let periods = known.iter().enumerate();
    periods
        .filter(|(i, p)| p.first_msn <= newest && after(*i).is_none_or(|next| next > oldest))
        .map(|(_, p)| *p)
        .collect()
}

/// Returns the segments of a period that each track still has when the life has ended, if it has any. Gaps at the start
/// and the end are left out; gaps in between stay, since segments are numbered in a row.
fn with_media<'w>(
    of: Listed<'w>,
    period: &Period,
) -> impl Iterator<Item = (&'w TrackWindow, Vec<SegmentEntry>)> + use<'w> {
    let (period, known) = (*period, of.window.record().map_or(Vec::new(), |record| of.periods(record)));
    let segments = move |track: &'w TrackWindow| {
        let listed = listed_in(of, &known, track, &period);
        let mut segments: Vec<_> = listed.skip_while(|s| s.gap).collect();
        let end = segments.iter().rposition(|s| !s.gap).map_or(0, |last| last + 1);
        segments.truncate(end);
        (track, segments)
    };
    of.window.tracks().iter().map(segments).filter(|(_, segments)| !segments.is_empty())
}

/// Returns the time at which every track of a period has media.
fn start_of(of: Listed<'_>, period: &Period) -> Duration {
    let start = |(t, s): (&TrackWindow, Vec<SegmentEntry>)| Some(t.timescale().duration(s.first()?.decode_time));
    with_media(of, period).filter_map(start).max().unwrap_or_default()
}

/// Returns the time at which all media of a period have been shown; with numbered segments at most the end of the last
/// one, or players would expect another. Players go by it: if pictures are shown later, dash.js (5.2, as run) mostly
/// jumps back by 0.5 s and pauses there. Media that end earlier do no harm.
fn end_of(of: Listed<'_>, record: &Record, period: &Period, timing: Timing) -> Duration {
    let end = |(t, s): (&TrackWindow, Vec<SegmentEntry>)| {
        let last = s.last()?;
        let decoded = t.timescale().duration(last.end());
        let numbered =
            period.start + record.segment_duration * last.msn.saturating_add(1).saturating_sub(period.first_msn);
        Some(match timing {
            Timing::Number => (decoded + SHOWN_LATER).min(numbered).max(decoded),
            Timing::Timeline => decoded + SHOWN_LATER,
        })
    };
    with_media(of, period).filter_map(end).max().unwrap_or_default()
}

fn end_of_media(window: &Window) -> Duration {
    window.tracks().iter().filter_map(end).max().unwrap_or_default()
}

/// Returns timeShiftBufferDepth: no more than is listed, in whole seconds. If it reaches to before
/// availabilityStartTime, ffmpeg (5.1, as run) requests the same segments forever.
fn time_shift(of: Listed<'_>, record: &Record) -> Duration {
    let listed = |t: &TrackWindow| t.timescale().duration(of.entries(t).map(|s| s.duration).sum());
    // A late track has a Period of its own, and says nothing of the others.
    let oldest = of.periods(record).first().map_or(TrackSet::ALL, |period| period.tracks);
    let all_along = of.window.tracks().iter().filter(|t| oldest.contains(t.id()));
    let listed = all_along.map(listed).min().unwrap_or_default();
    let longest = if of.archive.is_some() { Duration::MAX } else { record.playlist_duration() };
    Duration::from_secs(listed.as_secs().max(1)).min(longest)
}

/// Returns suggestedPresentationDelay, for players of whole segments: HLS's HOLD-BACK, but at most the age of the
/// presentation in whole seconds. With a longer one, ffmpeg (5.1, as run) computes a negative difference as unsigned,
/// and requests segments far in the past forever. A low-latency MPD has none: Shaka (5.2, as run) plays so far behind,
/// whatever ServiceDescription says (7.7 s for 1.75 s).
fn presentation_delay(window: &Window, record: &Record) -> Duration {
    Duration::from_secs(end_of_media(window).as_secs()).min(record.hold_back())
}

/// Returns MPD@maxSegmentDuration: with regular GOPs the longest listed segment; after a late cut, a longer one from
/// there on. It adds to the latency: Shaka (5.2, as run) expects nothing newer than now less this.
fn longest_segment(of: Listed<'_>, record: &Record) -> Duration {
    if !independent(of.window) {
        return record.segment_longest();
    }
    let listed = |t| of.entries(t).map(|s: SegmentEntry| TrackWindow::timescale(t).duration(s.duration)).max();
    let longest = started(of.window).filter_map(listed).fold(record.segment_duration, Duration::max);
    Duration::from_millis(u64::try_from(longest.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX))
}

fn mpd_start(out: &mut String, of: Listed<'_>, record: &Record, timing: Timing, end: Option<Duration>) {
    let window = of.window;
    // publishTime changes with the MPD, and is the same at every edge: the start of the newest period (once the life
    // has ended, its end), and a millisecond for each revision of the record.
    let newest = record.periods.last().map_or(Duration::ZERO, |p| p.start);
    let published = if end.is_some() { end_of_media(window) } else { newest };
    let _ = write!(
        out,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" \
         profiles=\"urn:mpeg:dash:profile:isoff-live:2011,http://www.dashif.org/guidelines/low-latency-live-v5\" \
         type=\"{}\" availabilityStartTime=\"{}\" publishTime=\"{}\"",
        if end.is_some() { "static" } else { "dynamic" },
        record.availability_start,
        record.availability_start + published + Duration::from_millis(u64::from(record.revision)),
    );
    if let Some(end) = end {
        let _ = write!(out, " mediaPresentationDuration=\"{}\"", XsDuration(end));
    } else {
        // A player learns of a new period after this time at the latest. It reads a timeline again for each segment.
        let update = if timing == Timing::Number { UPDATE_PERIOD.min(record.target()) } else { record.target() };
        let (update, depth) = (XsDuration(update), XsDuration(time_shift(of, record)));
        let _ = write!(out, " minimumUpdatePeriod=\"{update}\" timeShiftBufferDepth=\"{depth}\"");
        if timing == Timing::Timeline {
            let delay = XsDuration(presentation_delay(window, record));
            let _ = write!(out, " suggestedPresentationDelay=\"{delay}\"");
        }
    }
    let (longest, buffer) = (XsDuration(longest_segment(of, record)), XsDuration(record.part_target * 2));
    let _ = writeln!(out, " maxSegmentDuration=\"{longest}\" minBufferTime=\"{buffer}\">");
}

fn service_description(out: &mut String, record: &Record, first: Option<&Period>) {
    let _ = writeln!(
        out,
        "<ServiceDescription id=\"0\"><Latency referenceId=\"{}\" target=\"{}\" min=\"{}\" max=\"{}\"/>\
         <PlaybackRate min=\"0.96\" max=\"1.04\"/></ServiceDescription>",
        first.map_or(0, |p| reference_id(record, p, 0)),
        record.latency.as_millis(),
        (record.part_target * 2).as_millis(),
        record.hold_back().max(record.latency * 2).as_millis(),
    );
}

/// Returns ProducerReferenceTime@id, unique in the MPD: several periods may have the same discontinuity.
fn reference_id(record: &Record, period: &Period, set: usize) -> u64 {
    u64::from(period.first_msn.saturating_sub(record.first_msn)) * 100 + set as u64
}

struct View<'a> {
    of: Listed<'a>,
    record: &'a Record,
    period: &'a Period,
    /// The period that this one continues.
    before: Option<&'a Period>,
    end: Option<Duration>,
    timing: Timing,
    ended: bool,
}

impl View<'_> {
    /// Writes a set for all video renditions of a codec, since players switch within a set, and one for each audio
    /// track. Their ids and order never change in a life.
    fn adaptation_sets(&self, out: &mut String) {
        let (video, audio): (Vec<_>, Vec<_>) = self.record.tracks.iter().partition(|t| t.is_video());
        let audio: Vec<Vec<&Track>> = audio.into_iter().map(|track| vec![track]).collect();
        for (index, set) in by_format(&video).iter().chain(&audio).enumerate() {
            // After the end, a track without media in this period would have an empty timeline.
            let named = |track: &&&Track| !self.ended || !self.segments(track).is_empty();
            let tracks: Vec<&Track> = set.iter().filter(|track| self.has(track)).filter(named).copied().collect();
            self.adaptation_set(out, index, set, &tracks);
        }
    }

    /// Returns true if the period has the track, and this node has started it: "Representations are neither added to a
    /// Period nor removed".
    fn has(&self, track: &Track) -> bool {
        self.period.tracks.contains(track.id) && self.of.window.track(track.id).is_some_and(TrackWindow::is_started)
    }

    fn adaptation_set(&self, out: &mut String, index: usize, set: &[&Track], tracks: &[&Track]) {
        // The id of the set is that of its first track, even if the period lacks that track.
        let Some(first) = set.first().filter(|_| !tracks.is_empty()) else { return };
        let kind = if first.is_video() { "video" } else { "audio" };
        let _ = write!(
            out,
            "<AdaptationSet id=\"{}\" contentType=\"{kind}\" mimeType=\"{kind}/mp4\" segmentAlignment=\"true\"",
            u64::from(first.id.0) + 1
        );
        // Without it nothing is said of where segments begin (ISO/IEC 23009-1, 5.3.7.2).
        if !first.is_video() || independent(self.of.window) {
            out.push_str(" startWithSAP=\"1\"");
        }
        if let Some(language) = &first.language {
            let _ = write!(out, " lang=\"{language}\"");
        }
        out.push_str(">\n");
        // Players append a continued period without a reset of their decoders (DASH-IF live, "period continuity").
        if let Some(before) = self.before.filter(|before| tracks.iter().any(|t| before.tracks.contains(t.id))) {
            let _ = writeln!(
                out,
                "<SupplementalProperty schemeIdUri=\"urn:mpeg:dash:period-continuity:2015\" value=\"{}\"/>",
                period_id(before)
            );
        }
        // Supplemental, so that players that don't know the scheme play it all the same.
        if let TrackKind::Video(VideoInfo { transfer: transfer @ (16 | 18), .. }) = first.kind {
            let scheme = "urn:mpeg:mpegB:cicp:TransferCharacteristics";
            let _ = writeln!(out, "<SupplementalProperty schemeIdUri=\"{scheme}\" value=\"{transfer}\"/>");
        }
        let carries = first.is_video() || !self.record.tracks.iter().any(Track::is_video);
        for scheme in self.record.messages.iter().filter(|_| carries) {
            let _ = writeln!(out, "<InbandEventStream schemeIdUri=\"{}\"/>", scheme.uri());
        }
        let media_start = i64::try_from(Timescale::MPEG.ticks(self.period.start)).unwrap_or(i64::MAX);
        let wall = self.record.availability_start + self.period.start;
        let _ = writeln!(
            out,
            "<ProducerReferenceTime id=\"{}\" inband=\"true\" type=\"encoder\" wallClockTime=\"{wall}\" presentationTime=\"{}\">\
             <UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:http-xsdate:2014\" value=\"../time\"/></ProducerReferenceTime>",
            reference_id(self.record, self.period, index),
            rescale(media_start, Timescale::MPEG, first.timescale),
        );
        // Players begin with the first language.
        let first_of_kind = self.record.tracks.iter().find(|t| t.is_video() == first.is_video());
        let role = if first_of_kind.is_some_and(|t| t.id == first.id) { "main" } else { "alternate" };
        let _ = writeln!(out, "<Role schemeIdUri=\"urn:mpeg:dash:role:2011\" value=\"{role}\"/>");
        let lowest = tracks.iter().map(|t| bandwidth(self.of.window, t).0).min();
        for track in tracks {
            self.representation(out, track, lowest == Some(bandwidth(self.of.window, track).0));
        }
        out.push_str("</AdaptationSet>\n");
    }

    fn representation(&self, out: &mut String, track: &Track, resync: bool) {
        let _ = write!(
            out,
            "<Representation id=\"{}\" codecs=\"{}\" bandwidth=\"{}\"",
            track.name,
            track.codec,
            bandwidth(self.of.window, track).0
        );
        match track.kind {
            TrackKind::Video(v) => {
                let _ = write!(out, " width=\"{}\" height=\"{}\"", v.width, v.height);
                if v.sar != SampleAspectRatio::SQUARE {
                    // 23009-1, 5.3.7.2: width and height are counted "on a grid determined by the @sar attribute".
                    let _ = write!(out, " sar=\"{}:{}\"", v.sar.width, v.sar.height);
                }
                let milli = v.frame_rate_milli;
                match (milli, milli % 1_000) {
                    (0, _) => {}
                    (_, 0) => drop(write!(out, " frameRate=\"{}\"", milli / 1_000)),
                    _ => drop(write!(out, " frameRate=\"{milli}/1000\"")),
                }
                out.push_str(">\n");
            }
            TrackKind::Audio(a) => {
                let (scheme, value) = channel_configuration(&track.codec, a.channels);
                let _ = write!(
                    out,
                    " audioSamplingRate=\"{}\">\n<AudioChannelConfiguration schemeIdUri=\"{scheme}\" value=\"{value}\"/>\n",
                    a.sample_rate
                );
            }
        }
        if resync {
            // The segment under way has a chunk boundary each part; most don't start with a keyframe.
            let _ = writeln!(out, "<Resync type=\"0\" dT=\"{}\"/>", track.timescale.ticks(self.record.part_target));
        }
        self.segment_template(out, track);
        out.push_str("</Representation>\n");
    }

    fn segment_template(&self, out: &mut String, track: &Track) {
        let scale = track.timescale;
        let mut inside = self.segments(track).into_iter().peekable();
        let newest = track.inits.last().map_or(0, |i| i.number);
        let init = inside.peek().map_or(newest, |s| s.init);
        let start = match self.timing {
            Timing::Number => self.period.first_msn,
            Timing::Timeline => inside.peek().map_or(self.period.first_msn, |s| s.msn),
        };
        // The first part of a segment is available this long before the whole segment.
        let offset = self.record.segment_duration.saturating_sub(self.record.part_target);
        let _ = write!(
            out,
            "<SegmentTemplate timescale=\"{}\" presentationTimeOffset=\"{}\" startNumber=\"{start}\" \
             initialization=\"{name}/init.{init}.mp4\" media=\"{name}/$Number$.m4s\" \
             availabilityTimeOffset=\"{}\" availabilityTimeComplete=\"false\"",
            scale.hz(),
            scale.ticks(self.period.start),
            Millis(offset),
            name = track.name,
        );
        match self.timing {
            Timing::Number => {
                let _ = writeln!(out, " duration=\"{}\"/>", scale.ticks(self.record.segment_duration));
            }
            Timing::Timeline => {
                out.push_str(">\n<SegmentTimeline>\n");
                self.timeline(out, inside, scale);
                out.push_str("</SegmentTimeline></SegmentTemplate>\n");
            }
        }
    }

    /// Returns the segments of a track that the period names.
    fn segments(&self, track: &Track) -> Vec<SegmentEntry> {
        if self.ended {
            let mut tracks = with_media(self.of, self.period);
            return tracks.find(|(t, _)| t.id() == track.id).map_or(Vec::new(), |(_, segments)| segments);
        }
        let Some(track) = self.of.window.track(track.id) else { return Vec::new() };
        listed_in(self.of, &self.of.periods(self.record), track, self.period).collect()
    }

    /// Writes runs of equal segments. The segment under way has its expected duration.
    fn timeline(&self, out: &mut String, segments: impl Iterator<Item = SegmentEntry>, scale: Timescale) {
        let expected = scale.ticks(self.record.segment_duration);
        let mut runs: Vec<(u64, u64, u64)> = Vec::new();
        for s in segments {
            let length = if s.whole || self.end.is_some() { s.duration } else { expected.max(s.duration) };
            match runs.last_mut() {
                Some((t, d, r)) if *d == length && *t + *d * (*r + 1) == s.decode_time => *r += 1,
                _ => runs.push((s.decode_time, length, 0)),
            }
        }
        for (t, d, r) in runs {
            let repeats = if r > 0 { format!(" r=\"{r}\"") } else { String::new() };
            let _ = writeln!(out, "<S t=\"{t}\" d=\"{d}\"{repeats}/>");
        }
    }
}

/// Returns scheme and value of AudioChannelConfiguration. Dolby's codecs have a scheme of their own (DASH-IF IOP 4.3,
/// 9.2.1.2): 16 bits, each for a speaker or a pair, from the left one on. It is used where the number of channels tells
/// the speakers.
fn channel_configuration(codec: &str, channels: u8) -> (&'static str, String) {
    let speakers = match channels {
        1 => Some("4000"),
        2 => Some("A000"),
        5 => Some("F800"),
        6 => Some("F801"),
        8 => Some("FA01"),
        _ => None,
    };
    match speakers.filter(|_| matches!(codec, "ac-3" | "ec-3")) {
        Some(speakers) => ("tag:dolby.com,2014:dash:audio_channel_configuration:2011", speakers.to_owned()),
        None => ("urn:mpeg:dash:23003:3:audio_channel_configuration:2011", channels.to_string()),
    }
}

struct XsDuration(Duration);

impl fmt::Display for XsDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match self.0.subsec_micros() {
            0 => write!(f, "PT{seconds}S"),
            micros if micros % 1_000 == 0 => write!(f, "PT{seconds}.{:03}S", micros / 1_000),
            micros => write!(f, "PT{seconds}.{micros:06}S"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::hls;
    use crate::model::time::Time;
    use crate::testing::synthetic::{AUDIO, FIRST_MSN, VIDEO, live, part};
    use crate::window::Input;

    #[test]
    fn after_a_forced_cut_nothing_says_that_segments_begin_with_keyframes() {
        let mut feed = live();
        let said = |window: &Window| {
            let mpd = mpd(window, Timing::Number, false).expect("an MPD");
            let index = hls::multivariant(window).expect("a playlist");
            (mpd.matches("startWithSAP").count(), index.contains("EXT-X-INDEPENDENT-SEGMENTS"))
        };
        assert_eq!(said(&feed.window), (2, true));
        feed.run(20, 21, 0);
        for track in [VIDEO, AUDIO] {
            let (mut header, body, trace) = part(&feed.record, track, FIRST_MSN + 21, 0, 1_000);
            (header.flags.irregular, header.flags.forced) = (true, true);
            header.flags.independent = track == AUDIO;
            feed.window.handle(Time::ZERO, Input::Part { header, body, trace, received: Time::ZERO });
        }
        assert_eq!(said(&feed.window), (1, false), "sound begins anywhere");
        let of = |track| crate::testing::synthetic::playlist(&feed.window, track).expect("a playlist");
        let line =
            |track| of(track).lines().rfind(|line| line.starts_with("#EXT-X-PART:")).map(|l| l.contains("INDEPENDENT"));
        assert_eq!((line(VIDEO), line(AUDIO)), (Some(false), Some(true)));
    }
}
