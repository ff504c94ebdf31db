//! The MPD (ISO/IEC 23009-1, DASH-IF's restricted timing and low-latency modes). Pure.
//!
//! Media time runs through the whole life, so a period's `presentationTimeOffset` is its `Period@start`
//! in the track's timescale, and `availabilityStartTime` is the wallclock of media time 0. Neither ever
//! changes (DASH-IF live, 4.3). `$Number$` is the MSN.
//!
//! When the life has ended, the MPD is static, and ends with the last medium there is. To who has read it before, by
//! `Location`, all else stays as it was: Shaka (5.2) takes a period that has begun otherwise, or is addressed otherwise
//! than before, for a broken one. To a newcomer it names what is still listed, one by one, and begins with that.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::directives::FOLLOW;
use super::facts::{Millis, bandwidth, by_format, end, independent, presentation_has_ended, started};
use super::listed::Listed;
use crate::dvr::SegmentEntry;
use crate::model::time::{MediaTime, Timescale};
use crate::model::{Msn, Period, Record, Track, TrackKind, TrackSet, VideoInfo};
use crate::window::{TrackWindow, Window};

/// `Content-Type` of an MPD.
pub const CONTENT_TYPE: &str = "application/dash+xml";

/// How segments are named to players.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Timing {
    /// `$Number$` with `@duration`: a player needs no new MPD to find the next segment.
    #[default]
    Number,
    /// SegmentTimeline: each segment with its own start and length; the MPD is read again for each.
    Timeline,
}

/// Where segments are numbered, an MPD says nothing new but for a new period, that a player close to the live edge has to know of
/// before its buffer is empty. dash.js (5.2, as run) asks no more often than that.
const UPDATE_PERIOD: Duration = Duration::from_secs(1);

/// By how much pictures may be shown later than their decode times tell: by the depth of reordering, which is five frames with three
/// B-frames in a row, and more with more. What a part's header says is decode times.
const SHOWN_LATER: Duration = Duration::from_millis(250);

/// The MPD; `None` before every track is listed, those apart that come late.
pub fn manifest<'a>(of: impl Into<Listed<'a>>, timing: Timing) -> Option<String> {
    render(of.into(), timing, false)
}

/// The MPD for who has read it before; it differs once the life has ended.
pub fn update<'a>(of: impl Into<Listed<'a>>, timing: Timing) -> Option<String> {
    render(of.into(), timing, true)
}

fn render(of: Listed<'_>, timing: Timing, follows: bool) -> Option<String> {
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
    // Relative to the MPD, whatever path a proxy gives it. Both schemes that the low-latency profile counts.
    out.push_str("<UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:http-xsdate:2014\" value=\"../time\"/>\n");
    out.push_str("<UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:http-iso:2014\" value=\"../time?iso\"/>\n</MPD>\n");
    Some(out)
}

/// Whether all that the life has ever had is listed: of a track that came late, from its first period on.
fn is_whole(of: Listed<'_>, record: &Record) -> bool {
    let periods = of.periods(record);
    let first = |t: &TrackWindow| periods.iter().find(|p| p.tracks.contains(t.id())).map(|p| p.first_msn);
    started(of.window).all(|t| of.entries(t).next().map(|s| s.msn) == first(t))
}

/// Period@id: by the discontinuity that it begins with; one that continues has its first segment's number, too.
fn period_id(period: &Period) -> String {
    match period.continues {
        false => format!("p{}", period.discontinuity),
        true => format!("p{}-{}", period.discontinuity, period.first_msn),
    }
}

/// The segments listed of a track that lie in a period, of those known.
fn listed_in<'w>(
    of: Listed<'w>,
    known: &[Period],
    track: &'w TrackWindow,
    period: &Period,
) -> impl Iterator<Item = SegmentEntry> + use<'w> {
    let until = known.iter().map(|p| p.first_msn).filter(|&msn| msn > period.first_msn).min();
    let (first, until) = (period.first_msn, until.unwrap_or(Msn::MAX));
    // What is older than the periods that are remembered has another discontinuity sequence number.
    let discontinuity = period.discontinuity;
    of.entries(track).filter(move |s| (first..until).contains(&s.msn) && s.discontinuity == discontinuity)
}

/// The periods of which something is listed.
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

/// The segments of a period that each track still has when the life has ended, one at least: without the gaps that the
/// period begins or ends with. Those in between stay, since segments are numbered in a row.
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

/// Where a period's first medium begins, of every track that has some.
fn start_of(of: Listed<'_>, period: &Period) -> Duration {
    let start = |(t, s): (&TrackWindow, Vec<SegmentEntry>)| Some(t.timescale().duration(s.first()?.decode_time));
    with_media(of, period).filter_map(start).max().unwrap_or_default()
}

/// Where a period's last medium has surely been shown; where segments are numbered, not beyond the last, or there would be another.
/// Players go by it: where pictures are shown behind it, dash.js (5.2, as run) mostly goes back by 0.5 s and stands there, paused.
/// Media that ends before is no harm.
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

/// timeShiftBufferDepth: no more than is listed, in whole seconds. ffmpeg (5.1, as run) goes back to the same
/// segments for ever if it reaches to before availabilityStartTime.
fn time_shift(of: Listed<'_>, record: &Record) -> Duration {
    let listed = |t: &TrackWindow| t.timescale().duration(of.entries(t).map(|s| s.duration).sum());
    // A track that came late has a Period of its own, and says nothing of the others.
    let oldest = of.periods(record).first().map_or(TrackSet::ALL, |period| period.tracks);
    let all_along = of.window.tracks().iter().filter(|t| oldest.contains(t.id()));
    let listed = all_along.map(listed).min().unwrap_or_default();
    let longest = if of.is_archived() { Duration::MAX } else { record.playlist_duration() };
    Duration::from_secs(listed.as_secs().max(1)).min(longest)
}

/// suggestedPresentationDelay, for players of whole segments: as HLS's HOLD-BACK, but no longer than the
/// programme is old, in whole seconds. ffmpeg (5.1, as run) takes the difference of a younger one for an
/// unsigned number, and asks for segments far in the past, for ever. A low-latency MPD has none: Shaka (5.2,
/// as run) plays so far behind, whatever ServiceDescription says (7.7 s for 1.75 s).
fn presentation_delay(window: &Window, record: &Record) -> Duration {
    Duration::from_secs(end_of_media(window).as_secs()).min(record.hold_back())
}

/// MPD@minimumUpdatePeriod: how long a player may stay without knowing of a new period. A timeline is read again for each segment.
fn update_period(record: &Record, timing: Timing) -> Duration {
    match timing {
        Timing::Number => UPDATE_PERIOD.min(record.target()),
        Timing::Timeline => record.target(),
    }
}

/// MPD@maxSegmentDuration. Where GOPs are regular it is the longest there is; should one have to be cut late all the same, then
/// the MPD says so from there on. It is part of the latency: Shaka (5.2, as run) takes an edge to have nothing newer than now less this.
fn longest_segment(of: Listed<'_>, record: &Record) -> Duration {
    if !independent(of.window) {
        return record.target() + Duration::from_millis(500);
    }
    let listed = |t| of.entries(t).map(|s: SegmentEntry| TrackWindow::timescale(t).duration(s.duration)).max();
    let longest = started(of.window).filter_map(listed).fold(record.segment_duration, Duration::max);
    Duration::from_millis(u64::try_from(longest.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX))
}

fn mpd_start(out: &mut String, of: Listed<'_>, record: &Record, timing: Timing, end: Option<Duration>) {
    let window = of.window;
    // It must move when the MPD changes, and be the same at every edge: the newest period's start (of what ended, its
    // end), and a millisecond for each revision of the record.
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
        let (update, depth) = (XsDuration(update_period(record, timing)), XsDuration(time_shift(of, record)));
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

/// ProducerReferenceTime@id: unique in the MPD, of which a period may continue another one's discontinuity.
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
    /// One set for all video renditions of a codec, since players switch within a set, and one for each audio track; ids and
    /// order are fixed for the life.
    fn adaptation_sets(&self, out: &mut String) {
        let (video, audio): (Vec<_>, Vec<_>) = self.record.tracks.iter().partition(|t| t.is_video());
        let audio: Vec<Vec<&Track>> = audio.into_iter().map(|track| vec![track]).collect();
        for (index, set) in by_format(&video).iter().chain(&audio).enumerate() {
            // What has ended may have had no sound, or no pictures, in a period: its timeline would be empty.
            let named = |track: &&&Track| !self.ended || !self.segments(track).is_empty();
            let tracks: Vec<&Track> = set.iter().filter(|track| self.has(track)).filter(named).copied().collect();
            self.adaptation_set(out, index, set, &tracks);
        }
    }

    /// Whether the period has the track, as far as this node has come: "Representations are neither added to a Period
    /// nor removed".
    fn has(&self, track: &Track) -> bool {
        self.period.tracks.contains(track.id) && self.of.window.track(track.id).is_some_and(TrackWindow::is_started)
    }

    fn adaptation_set(&self, out: &mut String, index: usize, set: &[&Track], tracks: &[&Track]) {
        // Its id is that of the first track that the life had of it, whichever the period has.
        let Some(first) = set.first().filter(|_| !tracks.is_empty()) else { return };
        let kind = if first.is_video() { "video" } else { "audio" };
        let _ = write!(
            out,
            "<AdaptationSet id=\"{}\" contentType=\"{kind}\" mimeType=\"{kind}/mp4\" segmentAlignment=\"true\" startWithSAP=\"1\"",
            u64::from(first.id.0) + 1
        );
        if let Some(language) = &first.language {
            let _ = write!(out, " lang=\"{language}\"");
        }
        out.push_str(">\n");
        // Players append what continues without a reset of their decoders (DASH-IF live, "period continuity").
        if let Some(before) = self.before.filter(|before| tracks.iter().any(|t| before.tracks.contains(t.id))) {
            let _ = writeln!(
                out,
                "<SupplementalProperty schemeIdUri=\"urn:mpeg:dash:period-continuity:2015\" value=\"{}\"/>",
                period_id(before)
            );
        }
        // Supplemental, so that a player that doesn't know the scheme shows it all the same.
        if let TrackKind::Video(VideoInfo { transfer: transfer @ (16 | 18), .. }) = first.kind {
            let scheme = "urn:mpeg:mpegB:cicp:TransferCharacteristics";
            let _ = writeln!(out, "<SupplementalProperty schemeIdUri=\"{scheme}\" value=\"{transfer}\"/>");
        }
        let carries = first.is_video() || !self.record.tracks.iter().any(Track::is_video);
        for scheme in self.record.messages.iter().filter(|_| carries) {
            let _ = writeln!(out, "<InbandEventStream schemeIdUri=\"{}\"/>", scheme.uri());
        }
        let media_start = MediaTime::new(Timescale::MPEG.ticks(self.period.start), Timescale::MPEG);
        let wall = self.record.availability_start + self.period.start;
        let _ = writeln!(
            out,
            "<ProducerReferenceTime id=\"{}\" inband=\"true\" type=\"encoder\" wallClockTime=\"{wall}\" presentationTime=\"{}\">\
             <UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:http-xsdate:2014\" value=\"../time\"/></ProducerReferenceTime>",
            reference_id(self.record, self.period, index),
            media_start.rescale(first.timescale).ticks,
        );
        // The first language is the one to begin with.
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
            // Chunk boundaries in the segment under way, a part apart; most don't start with a keyframe.
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
        // The first part of a segment is available this much before the segment is whole.
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

    /// The segments of a track that the period names.
    fn segments(&self, track: &Track) -> Vec<SegmentEntry> {
        if self.ended {
            let mut tracks = with_media(self.of, self.period);
            return tracks.find(|(t, _)| t.id() == track.id).map_or(Vec::new(), |(_, segments)| segments);
        }
        let Some(track) = self.of.window.track(track.id) else { return Vec::new() };
        listed_in(self.of, &self.of.periods(self.record), track, self.period).collect()
    }

    /// Runs of equal segments; the one under way at its expected length.
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

/// Scheme and value of AudioChannelConfiguration. Dolby's codecs have one of their own (DASH-IF IOP 4.3, 9.2.1.2), 16 bits of
/// which each is a speaker or a pair of them, from the left one on: where the number of channels tells which they are.
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
