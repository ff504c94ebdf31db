//! Makes parts of one track's units. The rules for cutting parts are here; the cutter decides where segments end.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::date_time::wallclock;
use super::diagnostic::Diagnostic;
use super::io::Output;
use super::plan::{FRAME_RATE_MIN, FRAME_RATE_UNKNOWN, PART_SHARE_MIN, frame_duration, unit_duration};
use super::publishers::Source;
use super::step::TrackEnd;
use super::timeline::{Placed, TrackClock, UnitTiming};
use super::unit::{HOLE_MIN, InputUnit, PeriodStart, REORDER_MAX, SegmentStart, Stamp, TrackUnit};
use crate::cmaf::{self, EventMessage, ProducerReferenceTime, Sample};
use crate::codec::codec::Codec;
use crate::codec::{ac3, opus};
use crate::model::input_clock::rescale;
use crate::model::limits::{
    MESSAGES_WAITING_MAX, PART_BOXES_LEN_MAX, PART_MESSAGES_LEN_MAX, PART_UNITS_MAX, push_bounded,
};
use crate::model::time::{Timescale, UnixTime};
use crate::model::{Flags, Init, PartHeader, PartId, Record, Track, TrackId, TrackKind, UNIT_LEN_MAX};

/// The least step of PROGRAM-DATE-TIME from segment to segment: its text has milliseconds.
const DATE_TIME_STEP_MIN: Duration = Duration::from_millis(1);
/// With an input clock of milliseconds, a segment ends this much later than the count of its frames says. Otherwise its
/// last unit would sometimes be a part of its own.
const GRID_SLACK: Duration = Duration::from_millis(2);
const _: () =
    assert!(PART_BOXES_LEN_MAX == cmaf::overhead(PART_UNITS_MAX) + MESSAGES_WAITING_MAX * cmaf::EVENT_OVERHEAD);

/// Makes parts of one track's units.
#[derive(Debug)]
pub(super) struct TrackMuxer {
    track: Track,
    /// The headers of the units that come; `None` when resumed and not seen here yet.
    codec: Option<Codec>,
    /// The init segment's number in use.
    init: u16,
    clock: Option<TrackClock>,
    /// The length of a unit, in ticks: exact for audio, the usual one for video.
    frame: u64,
    /// The longest part.
    part_longest: u64,
    /// PART-TARGET.
    part_target: u64,
    /// Parts end at multiples of this after their segment's start, where another track leads.
    grid: Option<Duration>,
    target_duration: Duration,
    /// No segment lasts longer.
    segment_longest: u64,
    availability_start: UnixTime,
    part: u16,
    /// The current segment doesn't begin with a keyframe.
    forced: bool,
    /// The sequence number of the next chunk.
    sequence: u32,
    /// The end of the numbered parts, without `pending`.
    end: u64,
    /// The units of the part under way. Empty only at a segment's start, before the first unit.
    pending: Vec<TrackUnit>,
    pending_len: usize,
    /// Events that the next part carries.
    events: VecDeque<EventMessage>,
    segment_start: u64,
    segment_len: u64,
    /// The bytes and ticks of all measured segments.
    total: (u64, u64),
    /// The newest segment's PROGRAM-DATE-TIME.
    date_time: UnixTime,
    /// The time from decoding to presentation, of the newest segment with units.
    reordered: u64,
}

impl TrackMuxer {
    /// A track of `record` whose units last `frame` ticks.
    pub(super) fn new(track: Track, frame: u64, record: &Record) -> Self {
        let init = track.inits.last().map_or(0, |init| init.number);
        let part_target = floor_ticks(track.timescale, record.part_target).max(1);
        TrackMuxer {
            codec: None,
            init,
            clock: None,
            frame: frame.max(1),
            part_longest: part_target,
            part_target,
            grid: None,
            target_duration: record.target(),
            segment_longest: floor_ticks(track.timescale, record.segment_longest()),
            availability_start: record.availability_start,
            part: 0,
            forced: false,
            sequence: 0,
            end: 0,
            pending: Vec::new(),
            pending_len: 0,
            events: VecDeque::new(),
            segment_start: 0,
            segment_len: 0,
            total: (0, 0),
            date_time: UnixTime::default(),
            reordered: 0,
            track,
        }
    }

    /// A track with these headers, its frame rate and bit rate; `unit` is one of its units, if any has come.
    pub(super) fn with_codec(
        id: TrackId,
        (name, language): (String, Option<String>),
        codec: &Codec,
        (rate_milli, bandwidth): (u32, u32),
        unit: Option<&[u8]>,
        record: &Record,
    ) -> Self {
        let track = Track {
            id,
            name,
            timescale: codec.timescale(),
            codec: codec.name(),
            language,
            bandwidth,
            average_bandwidth: bandwidth,
            kind: codec.kind(rate_milli),
            inits: Vec::new(),
        };
        let frame = track.timescale.ticks(unit_duration(codec, unit, rate_milli));
        let mut muxer = TrackMuxer::new(track, frame, record);
        muxer.configure(codec.clone(), rate_milli);
        muxer
    }

    /// Goes on with a track that another packager has numbered up to `end`.
    pub(super) fn resume(track: Track, end: u64, record: &Record) -> Self {
        let rate = frame_rate(&track);
        let frame = match track.kind {
            TrackKind::Video(_) => track.timescale.ticks(frame_duration(rate)),
            TrackKind::Audio(_) => track.timescale.ticks(track.timescale.duration(usual_samples(&track.codec))),
        };
        TrackMuxer { end, ..TrackMuxer::new(track, frame, record) }
    }

    pub(super) fn track(&self) -> &Track {
        &self.track
    }

    pub(super) fn is_video(&self) -> bool {
        self.track.is_video()
    }

    pub(super) fn codec(&self) -> Option<&Codec> {
        self.codec.as_ref()
    }

    /// Returns the duration of a unit, in ticks.
    pub(super) fn frame(&self) -> u64 {
        self.frame
    }

    pub(super) fn frame_duration(&self) -> Duration {
        self.media(self.frame)
    }

    /// Returns the stated length of a video frame, or the length of an audio unit.
    pub(super) fn nominal_frame(&self) -> Duration {
        if self.is_video() { frame_duration(frame_rate(&self.track)) } else { self.frame_duration() }
    }

    /// Returns a unit's decode time as media time, which all tracks share.
    pub(super) fn media(&self, ticks: u64) -> Duration {
        self.scale().duration(ticks)
    }

    /// Returns the end of the numbered parts.
    pub(super) fn numbered(&self) -> Duration {
        self.media(self.end)
    }

    fn scale(&self) -> Timescale {
        self.track.timescale
    }

    /// Returns the end of the track's units.
    pub(super) fn ends(&self) -> TrackEnd {
        let decoded = self.media(self.pending.last().map_or(self.end, |unit| unit.dts + self.frame));
        // An absurd composition offset must not skip hours.
        let latest = |unit: &TrackUnit| unit.shown().min(unit.dts + self.scale().ticks(REORDER_MAX)) + self.frame;
        let shown = self.media(self.pending.iter().map(latest).max().unwrap_or(self.end)).max(decoded);
        TrackEnd { decoded, shown, ragged: !self.pending.is_empty() }
    }

    /// Cuts parts from now on by the count of units that fit `longest`, or on the grid of the track that leads.
    pub(super) fn cut_parts(&mut self, longest: Duration, grid: Option<Duration>) {
        self.part_longest = floor_ticks(self.scale(), longest).max(1);
        self.grid = grid;
    }

    /// Forgets the input's clock: nothing is timed before the next period.
    pub(super) fn stop(&mut self) {
        self.clock = None;
    }

    /// Takes the clock of a source for a period that begins at `period`; and its codec, if that has changed. `first` is the
    /// first unit.
    pub(super) fn follow(&mut self, period: &PeriodStart, source: &Source, first: Option<&InputUnit>) {
        if self.codec.as_ref() != Some(&source.codec) {
            let rate = source.codec.frame_rate_milli().unwrap_or_else(|| frame_rate(&self.track)).max(FRAME_RATE_MIN);
            let lasts = unit_duration(&source.codec, first.map(|unit| &unit.data[..]), rate);
            self.frame = self.scale().ticks(lasts);
            self.configure(source.codec.clone(), rate);
        }
        let shifted = first.map_or(0, |unit| unit.shifted);
        let period = PeriodStart { base: period.base.saturating_add(shifted), ..*period };
        self.clock = Some(TrackClock::new(&period, self.scale(), source.codec.sample_rate()));
    }

    /// Returns the media time of a reading of the input clock for a track that isn't timed, or not by this push.
    pub(super) fn untimed(&self, period: &PeriodStart, dts: i64) -> Duration {
        self.media(TrackClock::new(period, self.scale(), 0).ticks(dts))
    }

    /// Returns the decode time that a reading of the input clock stands for, if the track is timed.
    pub(super) fn ticks(&self, dts: i64) -> Option<u64> {
        Some(self.clock.as_ref()?.ticks(dts))
    }

    /// Returns whether a unit at `dts` goes on with the track; see [`TrackClock::timing`].
    pub(super) fn timing(&self, dts: i64, newest: Duration, due: Duration) -> UnitTiming {
        self.clock.as_ref().map_or(UnitTiming::Unknown, |clock| clock.timing(dts, newest, due))
    }

    /// Begins a segment of a new period, after everything before it is numbered.
    pub(super) fn restart(&mut self, end: u64) {
        debug_assert!(self.pending.is_empty());
        (self.part, self.end) = (0, end);
        (self.segment_start, self.segment_len) = (end, 0);
    }

    /// Takes `codec`, with a new init segment unless one of those kept is the same.
    fn configure(&mut self, codec: Codec, frame_rate_milli: u32) {
        let bytes = cmaf::init(&codec, self.scale());
        self.track.codec = codec.name();
        self.track.kind = codec.kind(frame_rate_milli);
        self.codec = Some(codec);
        let known = self.track.inits.iter().find(|init| init.bytes == bytes).map(|init| init.number);
        self.init = known.unwrap_or_else(|| {
            let next = self.track.inits.last().map_or(0, |init| init.number.wrapping_add(1));
            self.track.inits.push(Init { number: next, bytes });
            if self.track.inits.len() > Record::INITS_MAX {
                self.track.inits.remove(0);
            }
            next
        });
    }

    /// Places a unit on the track's timeline; `None` where the track isn't timed.
    pub(super) fn time(&mut self, unit: InputUnit, period: &PeriodStart) -> Option<(TrackUnit, Option<Diagnostic>)> {
        let (scale, track) = (self.scale(), unit.track);
        let clock = self.clock.as_mut()?;
        let samples = self.codec.as_ref().and_then(|codec| codec.samples(Some(&unit.data)));
        let (dts, placed) = clock.place(unit.dts, samples.unwrap_or(0));
        let notice = match placed {
            Placed::Exact => None,
            Placed::Nudged(by) => Some(Diagnostic::Nudged { track, by: scale.duration(by) }),
            Placed::Reanchored(by) => Some(Diagnostic::Reanchored { track, by: scale.duration(by.unsigned_abs()) }),
        };
        let offset = rescale(unit.composition_offset.into(), period.clock.scale, scale);
        let composition_offset = i32::try_from(offset).unwrap_or(0);
        let InputUnit { keyframe, data, arrived, .. } = unit;
        Some((TrackUnit { dts, composition_offset, keyframe, data, arrived }, notice))
    }

    /// Returns by how many units the track has to be silent before a unit: see [`TrackClock::missing`].
    pub(super) fn missing(&self, dts: i64) -> i64 {
        let samples = self.unit_samples();
        self.clock.as_ref().map_or(0, |clock| clock.missing(dts, samples))
    }

    /// Returns a unit of silence behind the newest one; `None` where the track isn't timed, or its codec has none.
    pub(super) fn silence(&mut self, arrived: UnixTime) -> Option<TrackUnit> {
        let samples = self.unit_samples();
        let data = self.codec.as_ref()?.silence(samples)?;
        let dts = self.clock.as_mut()?.silence(samples, self.end)?;
        Some(TrackUnit { dts, composition_offset: 0, keyframe: true, data, arrived })
    }

    /// Returns the samples of a usual unit of sound.
    fn unit_samples(&self) -> u32 {
        let rate = self.codec.as_ref().map_or(0, Codec::sample_rate);
        u32::try_from(self.frame * u64::from(rate) / u64::from(self.scale().hz())).unwrap_or(0)
    }

    /// Appends a unit to the segment under way. It doesn't, and says so, where the unit's time is numbered as a gap already.
    pub(super) fn push(&mut self, mut unit: TrackUnit, stamp: &Stamp) -> Result<Vec<Output>, Diagnostic> {
        if self.pending.is_empty() && unit.dts < self.end {
            // Its time overlaps a numbered gap, or a neighbour because of rounding.
            if self.end - unit.dts > self.frame * 2 {
                return Err(Diagnostic::Late { track: self.track.id, behind: self.media(self.end - unit.dts) });
            }
            unit.dts = self.end;
        }
        if let Some(last) = self.pending.last() {
            // Only behind a unit that was moved to the end of a gap.
            unit.dts = unit.dts.max(last.dts + 1);
        }
        let mut out = Vec::new();
        self.settle(unit.dts, unit.data.len(), stamp, &mut out);
        self.pending_len += unit.data.len();
        self.pending.push(unit);
        Ok(out)
    }

    /// Notes that the next unit begins at `next`, which gives the last pending one its length. "Close a part before
    /// the access unit that would cross PART-TARGET, on DTS" (docs/architecture.md, Media and time).
    ///
    /// Parts are listed without a hole between them. Where units are missing, or one lasts longer than a part may, a part is
    /// listed up to its longest length all the same, and the next one from there on.
    fn settle(&mut self, next: u64, len: usize, stamp: &Stamp, out: &mut Vec<Output>) {
        while !self.pending.is_empty() && next - self.end > self.part_target {
            self.split(self.lasts(next), stamp, out);
        }
        if self.pending.is_empty() {
            let whole = (next - self.end) / self.part_longest * self.part_longest;
            let rest = self.end + whole;
            let to = if self.is_long_enough_from(rest, next) { next } else { rest };
            return self.fill(to, false, true, stamp, out);
        }
        let full = next - self.end + self.frame > self.part_longest || self.on_grid(next, &stamp.segment);
        let crowded = self.pending_len + len > UNIT_LEN_MAX || self.pending.len() >= PART_UNITS_MAX;
        if crowded || full && self.is_long_enough(next) {
            if !self.is_long_enough(next) {
                let (track, msn, duration) = (self.track.id, stamp.segment.msn, self.media(next - self.end));
                out.push(Output::Diagnostic(Diagnostic::ShortPart { track, msn, duration }));
            }
            self.emit(self.pending.len(), next, next, false, stamp, out);
        }
    }

    /// Makes a part of pending units that last until `end`, and so longer than a part may.
    fn split(&mut self, end: u64, stamp: &Stamp, out: &mut Vec<Output>) {
        let count = self.pending.len();
        match self.pending.last().map(|last| last.dts) {
            // The last one lasts longer than was to be expected: it is the one that crosses.
            Some(last) if count > 1 && self.is_long_enough(last) => self.emit(count - 1, last, last, false, stamp, out),
            _ => self.emit(count, end, self.end + self.part_target, false, stamp, out),
        }
    }

    /// Returns whether the part under way may end at `to`, and be followed by another one of its segment.
    fn is_long_enough(&self, to: u64) -> bool {
        self.is_long_enough_from(self.end, to)
    }

    fn is_long_enough_from(&self, from: u64, to: u64) -> bool {
        to.saturating_sub(from) as f64 >= PART_SHARE_MIN * self.part_target as f64
    }

    /// Returns where the last pending unit ends if the next one begins at `next`. A picture stands until then. Sound lasts
    /// longer than it is by a part at most, since players don't hear how long it is: pictures and sound would drift apart.
    fn lasts(&self, next: u64) -> u64 {
        let content = self.pending.last().map_or(self.end, |last| last.dts + self.frame);
        if self.is_video() || next <= content + self.part_target { next } else { content }
    }

    /// Returns whether the part under way ends before the unit at `next`, since that is the nearest to the end of the leader's
    /// part. Where the track began or had a hole between two of those, the part would become too short: it is cut by count
    /// then, and the grid holds again from the next segment on.
    fn on_grid(&self, next: u64, segment: &SegmentStart) -> bool {
        let Some(grid) = self.grid else { return false };
        let ended = |at: u64| {
            let nearest = self.media(at + self.frame / 2);
            nearest.saturating_sub(segment.start + GRID_SLACK).as_nanos() / grid.as_nanos().max(1)
        };
        self.is_long_enough(next) && ended(next) > ended(self.end)
    }

    /// Ends the segment under way at `at`; `next` is the decode time of the unit that begins the next
    /// one, where it is known.
    pub(super) fn close(&mut self, at: Duration, next: Option<u64>, stamp: &Stamp) -> Vec<Output> {
        let (mut out, latest) = (Vec::new(), self.segment_start + self.segment_longest);
        let at = self.scale().ticks(at);
        let Some(last) = self.pending.last().map(|unit| unit.dts) else {
            // Nothing came: gaps alone. They end where the next unit begins if that differs by rounding only.
            let to = next.filter(|&next| next > self.end && next.abs_diff(at) <= self.frame).unwrap_or(at);
            self.fill(to.min(latest).max(self.end + 1), true, false, stamp, &mut out);
            self.closed();
            return out;
        };
        let content = last + self.frame;
        let end = match next {
            // Units are missing for less than a part: the last one lasts until then.
            Some(next) if next <= at.max(content) + self.part_target && next <= latest => next,
            Some(_) => at.max(content),
            // The track has stopped before the segment does.
            None if at > content + self.frame.min(self.scale().ticks(HOLE_MIN)) => at,
            None => content,
        };
        let to = end.min(latest).max(last + 1);
        let lasts = self.lasts(next.unwrap_or(to)).max(last + 1);
        while !self.pending.is_empty() && to - self.end > self.part_target {
            self.split(lasts, stamp, &mut out);
        }
        self.emit(self.pending.len(), lasts, to, true, stamp, &mut out);
        self.fill(to, true, true, stamp, &mut out);
        self.closed();
        out
    }

    /// The segment under way has ended.
    fn closed(&mut self) {
        self.measure();
        (self.part, self.segment_start) = (0, self.end);
    }

    /// The first `count` pending units become a part that is listed up to `listed`; its last sample lasts until `end`.
    fn emit(&mut self, count: usize, end: u64, listed: u64, last: bool, stamp: &Stamp, out: &mut Vec<Output>) {
        let rest = self.pending.split_off(count);
        let units = std::mem::replace(&mut self.pending, rest);
        self.pending_len = self.pending.iter().map(|unit| unit.data.len()).sum();
        let (Some(head), Some(tail)) = (units.first(), units.last()) else { return };
        let (start, decoded, ingested, keyframe) = (self.end, head.dts, tail.arrived, head.keyframe);
        let shown = units.iter().map(TrackUnit::shown).min().unwrap_or(decoded);
        let missing = decoded.saturating_sub(start);
        let wall = self.date(shown.saturating_sub(missing), &stamp.segment);
        let ends = units.iter().skip(1).map(|unit| unit.dts).chain([end]).collect::<Vec<_>>();
        let samples: Vec<Sample> = units
            .into_iter()
            .zip(ends)
            .map(|(unit, end)| Sample {
                duration: u32::try_from(end.saturating_sub(unit.dts)).unwrap_or(u32::MAX),
                composition_offset: unit.composition_offset,
                sync: unit.keyframe,
                data: unit.data,
            })
            .collect();
        let events = self.events();
        let reference = ProducerReferenceTime { media_time: shown, wall: wall + self.media(missing) };
        let body = cmaf::chunk(self.sequence, decoded, reference, (self.scale(), &events), &samples);
        self.sequence = self.sequence.wrapping_add(1);
        self.segment_len += body.len() as u64;
        self.end = listed;
        let independent = keyframe || !self.track.is_video();
        if self.part == 0 {
            self.reordered = shown.saturating_sub(decoded).min(self.scale().ticks(REORDER_MAX));
            // Another track may have led, and cut where this one has no keyframe.
            self.forced = !independent || (stamp.segment.forced && !self.track.is_video());
        }
        let flags = Flags { independent, last, forced: self.forced, irregular: stamp.irregular, ..Flags::default() };
        out.push(self.part((start, listed), (wall, ingested), flags, body, stamp));
    }

    /// Takes timed metadata, which the next part carries.
    pub(super) fn announce(&mut self, event: EventMessage) {
        push_bounded(&mut self.events, event, MESSAGES_WAITING_MAX);
    }

    /// Takes as many events as a part may carry.
    fn events(&mut self) -> Vec<EventMessage> {
        let mut len = 0;
        let fits = |event: &&EventMessage| {
            len += event.data.len();
            len <= PART_MESSAGES_LEN_MAX
        };
        let count = self.events.iter().take_while(fits).count();
        self.events.drain(..count).collect()
    }

    /// Adds gap parts from the end of what is numbered to `to`, each of at most PART-TARGET, as every part
    /// (rfc8216bis 4.4.4.9). They are `held` in a segment that has units.
    fn fill(&mut self, to: u64, last: bool, held: bool, stamp: &Stamp, out: &mut Vec<Output>) {
        if self.part == 0 {
            self.forced = stamp.segment.forced;
        }
        while self.end < to {
            let left = to - self.end;
            let duration = left.min(self.part_longest);
            let (last, forced, irregular) = (last && duration == left, self.forced, stamp.irregular);
            let flags = Flags { independent: false, gap: true, last, forced, irregular, held };
            let start = self.end;
            self.end += duration;
            // The date continues from the end of the segment before, as for segments with frames.
            let wall = self.date(start + self.reordered, &stamp.segment);
            out.push(self.part((start, self.end), (wall, stamp.wall), flags, Bytes::new(), stamp));
        }
    }

    /// Returns the wallclock of the next part, whose first sample is shown at `ticks`.
    fn date(&mut self, ticks: u64, segment: &SegmentStart) -> UnixTime {
        let date = wallclock(self.availability_start, self.media(ticks), segment.shift);
        if self.part > 0 {
            return date;
        }
        // A very short segment may be shorter than the reordering of its frames.
        self.date_time = date.max(self.date_time + DATE_TIME_STEP_MIN);
        self.date_time
    }

    /// Numbers the next part, from `start` to `end`.
    fn part(
        &mut self,
        (start, end): (u64, u64),
        (program_date_time, ingested): (UnixTime, UnixTime),
        flags: Flags,
        body: Bytes,
        stamp: &Stamp,
    ) -> Output {
        let id = PartId { epoch: stamp.epoch, track: self.track.id, msn: stamp.segment.msn, part: self.part };
        // BACKWARD_MAX and PART_UNITS_MAX leave a segment far fewer parts than that.
        self.part = self.part.saturating_add(1);
        let header = PartHeader {
            id,
            decode_time: start,
            duration: u32::try_from(end.saturating_sub(start)).unwrap_or(u32::MAX),
            program_date_time,
            ingested,
            init: self.init,
            discontinuity: stamp.segment.discontinuity,
            flags,
            length: u32::try_from(body.len()).unwrap_or(u32::MAX),
            hash: *blake3::hash(&body).as_bytes(),
        };
        Output::Part { header, body }
    }

    /// Measures the bit rate of the segment that ended.
    fn measure(&mut self) {
        let (len, ticks) = (std::mem::take(&mut self.segment_len), self.end.saturating_sub(self.segment_start));
        // rfc8216bis 4.4.6.2: peaks are over 0.5 to 1.5 x TARGETDURATION; a short segment before a reconnect doesn't count.
        if len == 0 || self.media(ticks) * 2 < self.target_duration {
            return;
        }
        self.total = (self.total.0 + len, self.total.1 + ticks);
        let rate = |len: u64, ticks: u64| {
            let bits = u128::from(len) * 8 * u128::from(self.scale().hz()) / u128::from(ticks.max(1));
            u32::try_from(bits).unwrap_or(u32::MAX)
        };
        let (peak, mean) = (rate(len, ticks), rate(self.total.0, self.total.1));
        self.track.bandwidth = self.track.bandwidth.max(peak);
        self.track.average_bandwidth = mean;
    }
}

/// Returns `duration` in ticks, rounded down, for values that must stay below a limit.
fn floor_ticks(scale: Timescale, duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos() * u128::from(scale.hz()) / 1_000_000_000).unwrap_or(u64::MAX)
}

/// Returns the frame rate of a track, in frames a thousand seconds.
pub(super) fn frame_rate(track: &Track) -> u32 {
    match track.kind {
        TrackKind::Video(video) if video.frame_rate_milli > 0 => video.frame_rate_milli,
        _ => FRAME_RATE_UNKNOWN,
    }
}

/// Returns the samples of a unit, for a codec whose headers weren't seen.
fn usual_samples(name: &str) -> u64 {
    match name {
        "opus" => opus::SAMPLES_USUAL.into(),
        "ac-3" | "ec-3" => ac3::SAMPLES.into(),
        _ => 1_024,
    }
}

#[cfg(test)]
mod tests;
