//! One track's units on their way into parts. The cutting rules of a part are here; where a segment
//! ends, [`segmenter`](super::cutter) says.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::diagnostic::Notice;
use super::io::Output;
use super::metadata::{PART_MESSAGES_LEN_MAX, WAITING_MAX};
use super::plan::PART_SHARE_MIN;
use super::timeline::{Anchor, REORDER_MAX, TrackClock};
use crate::cmaf::Event;
use crate::cmaf::cmaf;
use crate::cmaf::cmaf::{Reference, Sample};
use crate::codec::codec::Codec;
use crate::model::InputTrack;
use crate::model::part_header::BODY_LEN_MAX;
use crate::model::time::{Timescale, UnixTime};
use crate::model::{Epoch, Flags, Init, Msn, PartHeader, PartId, Record, Track};

/// Most access units in a part: a flood of equal timestamps is cut into parts by count.
const UNITS_MAX: usize = 4_096;
/// PROGRAM-DATE-TIME goes forward by this from segment to segment at least: what its text can say.
const DATE_TIME_STEP_MIN: Duration = Duration::from_millis(1);
/// Where a track stops, and others go on for longer than this, a gap is listed.
const HOLE_MIN: Duration = Duration::from_millis(100);
/// A segment ends that much later than its frames' count says, where the input clock has milliseconds: without it, its
/// last unit would sometimes be a part of its own.
const GRID_SLACK: Duration = Duration::from_millis(2);
/// The longest access unit: the largest body less its boxes.
pub const UNIT_LEN_MAX: usize =
    BODY_LEN_MAX as usize - cmaf::overhead(UNITS_MAX) - PART_MESSAGES_LEN_MAX - WAITING_MAX * cmaf::EVENT_OVERHEAD;

/// An access unit on its track's timeline.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    /// Decode time in ticks of the track.
    pub dts: u64,
    /// In ticks of the track.
    pub composition_offset: i32,
    pub keyframe: bool,
    pub data: Bytes,
    /// When its last byte was there.
    pub arrived: UnixTime,
}

impl Unit {
    /// Presentation time in ticks of the track.
    pub(crate) fn shown(&self) -> u64 {
        self.dts.saturating_add_signed(self.composition_offset.into())
    }
}

/// A segment as all tracks share it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Segment {
    pub msn: Msn,
    /// Where it begins.
    pub start: Duration,
    /// Where it would begin if audio units were infinitely short (audio alone), else `start`.
    pub ideal: Duration,
    pub discontinuity: u32,
    /// When its first picture is shown, on the track that led.
    pub shown: Duration,
    /// Begins with a keyframe of the track that led: the other pictures begin with theirs.
    pub keyed: bool,
    /// Cut without a keyframe.
    pub forced: bool,
    /// PROGRAM-DATE-TIME's shift, in microseconds.
    pub shift: i64,
}

/// Where parts go, and what they share.
#[derive(Debug)]
pub(crate) struct Sink {
    pub out: VecDeque<Output>,
    pub epoch: Epoch,
    pub anchor: Anchor,
    pub wall: UnixTime,
    /// See [`Flags::irregular`].
    pub irregular: bool,
}

/// One track of the life.
#[derive(Debug)]
pub(crate) struct Lane {
    pub track: Track,
    /// The headers of the units that come; `None` when resumed and not seen here yet.
    pub codec: Option<Codec>,
    /// The init segment's number in use.
    pub init: u16,
    /// Which input track feeds it.
    pub input: Option<InputTrack>,
    pub clock: Option<TrackClock>,
    /// A push may join it at this segment's start, which isn't numbered as a gap until then.
    pub reserved: Option<Msn>,
    /// What a unit lasts, in ticks: exact for audio, the usual for video.
    pub frame: u64,
    /// No part is longer.
    part_longest: u64,
    /// PART-TARGET.
    part_target: u64,
    /// Parts end at multiples of this after their segment's start, where another track leads.
    grid: Option<Duration>,
    target_duration: Duration,
    /// The segment it is in.
    pub msn: Msn,
    part: u16,
    /// The segment it is in doesn't begin with a keyframe.
    forced: bool,
    /// Goes up with each chunk.
    sequence: u32,
    /// Where what is numbered ends: the parts, and `pending` not counted.
    pub end: u64,
    /// The units of the part under way. Empty only at a segment's start, before the first unit.
    pending: Vec<Unit>,
    pending_len: usize,
    /// What the next part is to carry.
    events: VecDeque<Event>,
    /// Units whose segment isn't decided yet.
    pub waiting: VecDeque<Unit>,
    /// The newest unit that came, whether placed or waiting.
    pub newest: Duration,
    /// The longest from when a unit is decoded to when it is shown.
    pub reorder: Duration,
    /// When the newest keyframe that was placed is shown.
    pub keyframe: Duration,
    segment_start: u64,
    segment_len: u64,
    /// Bytes and ticks of all measured segments.
    total: (u64, u64),
    /// The newest segment's PROGRAM-DATE-TIME.
    date_time: UnixTime,
    /// By how much the newest segment that holds anything is shown after it is decoded.
    reordered: u64,
}

impl Lane {
    pub(crate) fn new(track: Track, codec: Option<Codec>, frame: u64, record: &Record) -> Self {
        let init = track.inits.last().map_or(0, |init| init.number);
        Lane {
            codec,
            init,
            input: None,
            clock: None,
            reserved: None,
            frame: frame.max(1),
            part_longest: floor_ticks(track.timescale, record.part_target).max(1),
            part_target: floor_ticks(track.timescale, record.part_target).max(1),
            grid: None,
            target_duration: record.target(),
            msn: 0,
            part: 0,
            forced: false,
            sequence: 0,
            end: 0,
            pending: Vec::new(),
            pending_len: 0,
            events: VecDeque::new(),
            waiting: VecDeque::new(),
            newest: Duration::ZERO,
            reorder: Duration::ZERO,
            keyframe: Duration::ZERO,
            segment_start: 0,
            segment_len: 0,
            total: (0, 0),
            date_time: UnixTime::default(),
            reordered: 0,
            track,
        }
    }

    /// Whether a publisher feeds it at present.
    pub(crate) fn is_fed(&self) -> bool {
        self.input.is_some()
    }

    pub(crate) fn scale(&self) -> Timescale {
        self.track.timescale
    }

    pub(crate) fn frame_duration(&self) -> Duration {
        self.scale().duration(self.frame)
    }

    /// A unit's decode time as all tracks understand it.
    pub(crate) fn media(&self, ticks: u64) -> Duration {
        self.scale().duration(ticks)
    }

    /// Where its last unit ends on the decoder's clock.
    pub(crate) fn decode_end(&self) -> Duration {
        self.media(self.pending.last().map_or(self.end, |u| u.dts + self.frame))
    }

    /// Where its last unit ends if that isn't numbered yet.
    pub(crate) fn ragged_end(&self) -> Option<Duration> {
        (!self.pending.is_empty()).then(|| self.decode_end())
    }

    /// Where its last unit ends, decoded and shown.
    pub(crate) fn content_end(&self) -> Duration {
        // What an absurd composition offset says is no reason to leave hours out.
        let latest = |u: &Unit| u.shown().min(u.dts + self.scale().ticks(REORDER_MAX)) + self.frame;
        self.media(self.pending.iter().map(latest).max().unwrap_or(self.end)).max(self.decode_end())
    }

    /// How parts are cut from now on: by the count of units that fit `longest`, or on the grid of the track that leads.
    pub(crate) fn cut_parts(&mut self, longest: Duration, grid: Option<Duration>) {
        self.part_longest = floor_ticks(self.scale(), longest).max(1);
        self.grid = grid;
    }

    /// Begins `segment` of a new period: whatever went before is numbered.
    pub(crate) fn restart(&mut self, msn: Msn, start: Duration, end: u64) {
        debug_assert!(self.pending.is_empty() && self.waiting.is_empty());
        (self.msn, self.part, self.newest, self.end) = (msn, 0, start, end);
        (self.segment_start, self.segment_len) = (end, 0);
        self.reorder = Duration::ZERO;
    }

    /// Takes `codec`, with a new init segment unless one of those kept is the same.
    pub(crate) fn configure(&mut self, codec: Codec, frame_rate_milli: u32) {
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

    /// Appends a unit to the segment under way. Says whether it did: it doesn't where the unit's time is
    /// numbered as a gap already.
    pub(crate) fn push(&mut self, mut unit: Unit, segment: &Segment, sink: &mut Sink) -> bool {
        if self.pending.is_empty() && unit.dts < self.end {
            // The part of its time that is numbered already is a gap's, or a neighbour's rounding.
            if self.end - unit.dts > self.frame * 2 {
                sink.notice(Notice::Late { track: self.track.id, behind: self.media(self.end - unit.dts) });
                return false;
            }
            unit.dts = self.end;
        }
        if let Some(last) = self.pending.last() {
            // Only behind a unit that was moved to the end of a gap.
            unit.dts = unit.dts.max(last.dts + 1);
        }
        self.settle(unit.dts, unit.data.len(), segment, sink);
        self.pending_len += unit.data.len();
        self.pending.push(unit);
        true
    }

    /// The next unit begins at `next`: that gives the last pending one its length. "Close a part before
    /// the access unit that would cross PART-TARGET, on DTS" (DESIGN, media rules).
    fn settle(&mut self, next: u64, len: usize, segment: &Segment, sink: &mut Sink) {
        let Some((first, last)) = self.bounds() else {
            if next.saturating_sub(self.end) > self.frame {
                self.fill(next, false, false, segment, sink);
            }
            return;
        };
        if next - first > self.part_longest && self.pending.len() > 1 {
            // The last unit lasted longer than was to be expected: it is the one that crosses.
            self.emit(self.pending.len() - 1, last, last, false, segment, sink);
        }
        let Some((first, _)) = self.bounds() else { return };
        if next - first > self.part_longest {
            // A single unit that lasts longer than PART-TARGET: its part has that length, and the rest of its
            // time is listed as gaps. Its sample lasts as long as it does, so that players see no hole.
            self.emit(1, next, first + self.part_longest, false, segment, sink);
            self.fill(next, false, true, segment, sink);
        } else if next - first + self.frame > self.part_longest
            || self.on_grid(first, next, segment)
            || self.pending_len + len > UNIT_LEN_MAX
            || self.pending.len() >= UNITS_MAX
        {
            let full = next - first;
            if (full as f64) < PART_SHARE_MIN * self.part_target as f64 {
                sink.notice(Notice::ShortPart { track: self.track.id, msn: self.msn, duration: self.media(full) });
            }
            self.emit(self.pending.len(), next, next, false, segment, sink);
        }
    }

    /// Whether a part that begins at `first` ends before the unit at `next`, since that is the nearest to the end of
    /// the leader's part. Where the track began or had a hole between two of those, the part would become too short:
    /// it is cut by count then, and the track is in step again from the next segment on.
    fn on_grid(&self, first: u64, next: u64, segment: &Segment) -> bool {
        let Some(grid) = self.grid else { return false };
        let ended = |at: u64| {
            let nearest = self.media(at + self.frame / 2);
            nearest.saturating_sub(segment.start + GRID_SLACK).as_nanos() / grid.as_nanos().max(1)
        };
        let long_enough = (next - first) as f64 >= PART_SHARE_MIN * self.part_target as f64;
        long_enough && ended(next) > ended(first)
    }

    fn bounds(&self) -> Option<(u64, u64)> {
        Some((self.pending.first()?.dts, self.pending.last()?.dts))
    }

    /// Ends the segment under way at `at`; `next` is the decode time of the unit that begins the next
    /// one, where it is known.
    pub(crate) fn close(&mut self, at: Duration, next: Option<u64>, segment: &Segment, sink: &mut Sink) {
        let at = self.scale().ticks(at);
        let Some((_, last)) = self.bounds() else {
            // Nothing came: gaps alone. They end where the next unit begins if that differs by rounding only.
            let to = next.filter(|&next| next > self.end && next.abs_diff(at) <= self.frame).unwrap_or(at);
            return self.closed(to.max(self.end + 1), false, segment, sink);
        };
        let content = last + self.frame;
        if next.is_none() && at > content + self.frame.min(self.scale().ticks(HOLE_MIN)) {
            // The track has stopped before the segment does: what it holds, then a gap.
            let listed = self.listed(content);
            self.emit(self.pending.len(), content, listed, false, segment, sink);
            return self.closed(at, false, segment, sink);
        }
        let to = match next {
            Some(next) if next <= at.max(content) + self.frame && self.fits(next) => next,
            Some(_) => at.max(content),
            None => content,
        };
        let to = to.max(last + 1);
        if to - self.bounds().map_or(to, |(first, _)| first) > self.part_longest && self.pending.len() > 1 {
            self.emit(self.pending.len() - 1, last, last, false, segment, sink);
        }
        let listed = self.listed(to);
        self.emit(self.pending.len(), to, listed, listed == to, segment, sink);
        self.closed(to, true, segment, sink);
    }

    /// Whether a segment that ends at `to` is no longer than TARGETDURATION says, rounded.
    fn fits(&self, to: u64) -> bool {
        let longest = self.target_duration + Duration::from_millis(500);
        to <= self.segment_start + self.scale().ticks(longest)
    }

    /// Where a part that holds all pending units may end at most, before `to`.
    fn listed(&self, to: u64) -> u64 {
        self.bounds().map_or(to, |(first, _)| to.min(first + self.part_longest))
    }

    /// The segment under way ends at `to`: what isn't numbered of it is a gap, in which the last sample is `held` or not.
    fn closed(&mut self, to: u64, held: bool, segment: &Segment, sink: &mut Sink) {
        self.fill(to, true, held, segment, sink);
        self.measure();
        (self.part, self.segment_start) = (0, self.end);
        self.msn = self.msn.saturating_add(1);
    }

    /// The first `count` pending units become a part that is listed up to `listed`; its last sample lasts
    /// until `end`.
    fn emit(&mut self, count: usize, end: u64, listed: u64, last: bool, segment: &Segment, sink: &mut Sink) {
        let rest = self.pending.split_off(count);
        let units = std::mem::replace(&mut self.pending, rest);
        self.pending_len = self.pending.iter().map(|u| u.data.len()).sum();
        let (Some(head), Some(tail)) = (units.first(), units.last()) else { return };
        let (start, ingested, keyframe) = (head.dts, tail.arrived, head.keyframe);
        let shown = units.iter().map(Unit::shown).min().unwrap_or(start);
        let wall = self.date(shown, segment, sink);
        let ends = units.iter().skip(1).map(|u| u.dts).chain([end]).collect::<Vec<_>>();
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
        let reference = Reference { media_time: shown, wall };
        let body = cmaf::chunk(self.sequence, start, reference, (self.scale(), &events), &samples);
        self.sequence = self.sequence.wrapping_add(1);
        self.segment_len += body.len() as u64;
        self.end = listed;
        let duration = listed.saturating_sub(start);
        let independent = keyframe || !self.track.is_video();
        if self.part == 0 {
            self.reordered = shown.saturating_sub(start).min(self.scale().ticks(REORDER_MAX));
            // Another track may have led, and cut where this one has no keyframe.
            self.forced = !independent || (segment.forced && !self.track.is_video());
        }
        let flags = Flags { independent, last, forced: self.forced, irregular: sink.irregular, ..Flags::default() };
        self.send(body, start, duration, wall, ingested, flags, segment, sink);
    }

    /// Timed metadata, which the next part carries.
    pub(crate) fn announce(&mut self, event: Event) {
        if self.events.len() == WAITING_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// As many events as a part may carry.
    fn events(&mut self) -> Vec<Event> {
        let mut len = 0;
        let fits = |event: &&Event| {
            len += event.data.len();
            len <= PART_MESSAGES_LEN_MAX
        };
        let count = self.events.iter().take_while(fits).count();
        self.events.drain(..count).collect()
    }

    /// Gap parts from the end of what is numbered to `to`, each of at most PART-TARGET, as every part
    /// (rfc8216bis 4.4.4.9). The last sample lasts through them if they are `held`.
    fn fill(&mut self, to: u64, last: bool, held: bool, segment: &Segment, sink: &mut Sink) {
        if self.part == 0 {
            self.forced = segment.forced;
        }
        while self.end < to {
            let left = to - self.end;
            let duration = left.min(self.part_longest);
            let (last, forced, irregular) = (last && duration == left, self.forced, sink.irregular);
            let flags = Flags { independent: false, gap: true, last, forced, irregular, held };
            let start = self.end;
            self.end += duration;
            // As the frames around it: dates go on where the segment before ends.
            let wall = self.date(start + self.reordered, segment, sink);
            self.send(Bytes::new(), start, duration, wall, sink.wall, flags, segment, sink);
        }
    }

    /// The wallclock of the next part, whose first sample is shown at `ticks`.
    fn date(&mut self, ticks: u64, segment: &Segment, sink: &Sink) -> UnixTime {
        let date = sink.anchor.wall(self.media(ticks), segment.shift);
        if self.part > 0 {
            return date;
        }
        // A stump of a segment may be shorter than what its frames are reordered by.
        self.date_time = date.max(self.date_time + DATE_TIME_STEP_MIN);
        self.date_time
    }

    #[expect(clippy::too_many_arguments, reason = "a header's fields, each of which its two callers find otherwise")]
    fn send(
        &mut self,
        body: Bytes,
        start: u64,
        duration: u64,
        program_date_time: UnixTime,
        ingested: UnixTime,
        flags: Flags,
        segment: &Segment,
        sink: &mut Sink,
    ) {
        let header = PartHeader {
            id: PartId { epoch: sink.epoch, track: self.track.id, msn: self.msn, part: self.part },
            decode_time: start,
            duration: u32::try_from(duration).unwrap_or(u32::MAX),
            program_date_time,
            ingested,
            init: self.init,
            discontinuity: segment.discontinuity,
            flags,
            length: u32::try_from(body.len()).unwrap_or(u32::MAX),
            hash: *blake3::hash(&body).as_bytes(),
        };
        // BACKWARD_MAX and UNITS_MAX leave a segment far fewer parts than that.
        self.part = self.part.saturating_add(1);
        sink.out.push_back(Output::Part { header, body });
    }

    /// The bit rate of the segment that ended.
    fn measure(&mut self) {
        let (len, ticks) = (std::mem::take(&mut self.segment_len), self.end.saturating_sub(self.segment_start));
        // rfc8216bis 4.4.6.2: peaks are over 0.5 to 1.5 x TARGETDURATION; a reconnect's stump says nothing.
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

/// `duration` in ticks, rounded down: what must stay below a limit.
fn floor_ticks(scale: Timescale, duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos() * u128::from(scale.hz()) / 1_000_000_000).unwrap_or(u64::MAX)
}

impl Sink {
    pub(crate) fn notice(&mut self, notice: Notice) {
        self.out.push_back(Output::Notice(notice));
    }
}
