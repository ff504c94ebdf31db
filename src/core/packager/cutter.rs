//! The ends of segments, for all tracks at once.
//!
//! The leader, the first video track that is alive, else an audio track, decides each cut when its unit
//! arrives. The others follow: a unit that might lie behind an undecided cut waits until the leader has come as far. That
//! takes a frame's time in an interleaved input, and at most `patience`, after which the leader counts as stalled and
//! another track leads. A track that stays behind, or isn't fed, gets gap parts.
//!
//! A segment of pictures ends at the last keyframe that keeps it within TARGETDURATION. Parts leave as they come, so nothing is
//! known of the next keyframe when one comes: it is expected after the longest GOP that was seen. If it would come too late then, the
//! segment ends at this one. If it comes later still, the segment is cut by force.
//!
//! Renditions are cut where a keyframe of theirs is *shown* with the leader's, since their encoders may reorder by
//! different numbers of frames. One that has none there is given up: see [`Cutter::poll_lost`].

mod queue;

use std::collections::VecDeque;
use std::time::Duration;

use self::queue::{Cut, Lengths, Queue};
use super::date_time::Anchor;
use super::diagnostic::Diagnostic;
use super::keyframes::KeyframeIntervals;
use super::step::{Lost, Step, TrackEnd};
use super::unit::{HOLE_MIN, SegmentStart, TrackUnit, micros};
use crate::model::limits::PATIENCE_PUSH;
use crate::model::time::UnixTime;
use crate::model::{InputTrack, Msn, Record, Track, UNIT_LEN_MAX};

/// A track that lags this far counts as stalled. A guess: encoders interleave within
/// a few hundred ms.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest patience with a track that keeps lagging; it loses units that come later still.
const PATIENCE_MAX: Duration = Duration::from_secs(4);
/// The tracks of a push that ends have different ends. If they are this close, each track ends at its own; otherwise the
/// shorter one gets a gap. Players skip a segment with a gap, so milliseconds of it cost seconds. Our own guess: a few
/// frames of sound and of pictures.
const TAIL_MAX: Duration = Duration::from_millis(250);
/// Segments that a presentation may have begun beyond one a second: MSNs must not run ahead of Unix time.
const SEGMENTS_AHEAD_MAX: u64 = 1;
/// Most units that wait for the leader.
const WAITING_MAX: usize = 1_024;

/// Decides where segments end, and to which segment each unit belongs. It returns its decisions as [`Step`]s.
#[derive(Debug)]
pub(super) struct Cutter {
    queues: Vec<Queue>,
    /// The segments that some track is still in, oldest first; the last one is under way.
    segments: VecDeque<SegmentStart>,
    /// The MSN after the newest segment.
    next_msn: Msn,
    /// The segment length aimed at.
    length: Duration,
    /// No segment lasts longer.
    longest: Duration,
    first_msn: Msn,
    intervals: KeyframeIntervals,
    patience: Duration,
    /// Segments from this on are kept for a track that is about to begin.
    keep: Option<Msn>,
    /// The next segment begins with a discontinuity.
    breaks: bool,
    /// See [`Flags::irregular`](crate::model::Flags::irregular).
    irregular: bool,
    anchor: Anchor,
    lost: VecDeque<Lost>,
    /// Decisions that weren't returned yet.
    steps: Vec<Step>,
}

impl Cutter {
    /// Goes on with segment `next_msn` of a record.
    pub(super) fn new(record: &Record, next_msn: Msn, irregular: bool) -> Self {
        Cutter {
            queues: Vec::new(),
            segments: VecDeque::new(),
            next_msn,
            length: record.segment_duration,
            longest: record.segment_longest(),
            first_msn: record.first_msn,
            intervals: KeyframeIntervals::default(),
            patience: PATIENCE,
            keep: None,
            breaks: false,
            irregular,
            anchor: Anchor::new(record.availability_start),
            lost: VecDeque::new(),
            steps: Vec::new(),
        }
    }

    /// Takes the longest GOP that was measured before the presentation began.
    pub(super) fn expect_keyframes(&mut self, longest_gop: Option<Duration>) {
        longest_gop.into_iter().for_each(|gop| self.intervals.observe(gop));
    }

    /// Appends a track, whose units last `frame` ticks.
    pub(super) fn append(&mut self, track: &Track, frame: u64, input: Option<InputTrack>) {
        self.queues.push(Queue::new(track, frame, input));
    }

    /// Sets the length of a track's units, in ticks.
    pub(super) fn set_frame(&mut self, track: usize, frame: u64) {
        self.queues[track].frame = frame;
    }

    pub(super) fn next_msn(&self) -> Msn {
        self.next_msn
    }

    /// Returns the segment that a track is in; 0 before its first one.
    pub(super) fn msn(&self, track: usize) -> Msn {
        self.queues[track].msn
    }

    pub(super) fn input(&self, track: usize) -> Option<InputTrack> {
        self.queues[track].input
    }

    /// Feeds a track from an input track, or from none.
    pub(super) fn feed(&mut self, track: usize, input: Option<InputTrack>) {
        self.queues[track].input = input;
    }

    /// Stops feeding the tracks of the inputs that match. Returns whether there were any.
    pub(super) fn release(&mut self, matches: impl Fn(InputTrack) -> bool) -> bool {
        let mut any = false;
        for queue in self.queues.iter_mut().filter(|queue| queue.input.is_some_and(&matches)) {
            (queue.input, any) = (None, true);
        }
        any
    }

    pub(super) fn track_of(&self, input: InputTrack) -> Option<usize> {
        self.queues.iter().position(|queue| queue.input == Some(input))
    }

    /// Returns the media time of a wallclock reading.
    pub(super) fn media_at(&self, wall: UnixTime) -> Duration {
        self.anchor.media(wall)
    }

    /// Begins a period with its first segment, whose first picture is shown at `shown`. It is kept for tracks that join.
    pub(super) fn begin(&mut self, start: Duration, shown: Duration, discontinuity: u32, forced: bool) {
        self.anchor.restart();
        // A push that was misaligned as the period before was flushed may begin this one aligned.
        self.lost.clear();
        let msn = self.next_msn;
        self.keep = Some(msn);
        for queue in &mut self.queues {
            debug_assert!(queue.waiting.is_empty());
            (queue.msn, queue.newest, queue.reorder) = (msn, start, Duration::ZERO);
            (queue.keyframe, queue.begun) = (None, start);
        }
        self.begin_segment(start, shown, discontinuity, forced);
    }

    fn begin_segment(&mut self, start: Duration, shown: Duration, discontinuity: u32, forced: bool) {
        debug_assert!(self.segments.is_empty());
        self.irregular |= forced;
        let (msn, shift, keyed) = (self.next_msn, self.anchor.shift(), !forced);
        self.push_segment(SegmentStart { msn, start, ideal: start, discontinuity, shown, keyed, forced, shift });
    }

    fn push_segment(&mut self, segment: SegmentStart) {
        self.next_msn = segment.msn + 1;
        self.breaks = false;
        self.segments.push_back(segment);
    }

    /// Makes the next segment begin with a discontinuity.
    pub(super) fn break_next(&mut self) {
        self.breaks = true;
    }

    /// Keeps segments from `keep` on, and the places of tracks that pushes are about to join with a segment.
    pub(super) fn reserve(&mut self, keep: Option<Msn>, places: &[(usize, Msn)]) {
        self.keep = keep;
        for (i, queue) in self.queues.iter_mut().enumerate() {
            queue.reserved = places.iter().find(|(place, _)| *place == i).map(|(_, target)| *target);
        }
    }

    /// Takes a unit of a track. To be followed by [`advance`](Cutter::advance).
    pub(super) fn place(&mut self, track: usize, unit: TrackUnit) {
        let queue = &mut self.queues[track];
        let (media, shown) = (queue.media(unit.dts), queue.shown(&unit));
        queue.newest = queue.newest.max(media);
        queue.reorder = queue.reorder.max(shown.saturating_sub(media));
        self.anchor.observe(unit.arrived, shown);
        queue.waiting.push_back(unit);
    }

    /// Notes that a placed unit came too late.
    pub(super) fn late(&mut self) {
        self.patience = (self.patience * 2).min(PATIENCE_MAX);
    }

    /// Places units up to the next cut, with which the steps end then. Called until they don't; `all`: all that has come is
    /// placed, before a [`flush`](Cutter::flush).
    pub(super) fn advance(&mut self, all: bool) -> Vec<Step> {
        let leader = self.leader();
        loop {
            let mut moved = false;
            // The leader comes first: the others follow its cuts.
            for i in std::iter::once(leader).chain(0..self.queues.len()) {
                while self.queues[i].waiting.front().is_some_and(|unit| all || self.decided(i, leader, unit)) {
                    let Some(unit) = self.queues[i].waiting.pop_front() else { break };
                    // At the end of the period, units far ahead of the leader are cut without it.
                    let ahead = self.queues[i].newest > self.queues[leader].newest + self.tail();
                    // A segment must not become too long on any track, wherever the leader is.
                    let queue = &self.queues[i];
                    let overflows = queue.msn + 1 == self.next_msn && queue.overflows(&unit, self.longest);
                    if (i == leader || all && ahead || overflows) && self.decide(i, &unit, !all && i != leader) {
                        // The segment's start comes before its units.
                        self.queues[i].waiting.push_front(unit);
                        return std::mem::take(&mut self.steps);
                    }
                    self.place_one(i, unit);
                    moved = true;
                }
            }
            if !moved || all {
                return std::mem::take(&mut self.steps);
            }
        }
    }

    /// Fills the tracks that have fallen behind with gap parts.
    pub(super) fn stalled(&mut self) -> Vec<Step> {
        let newest = self.newest();
        for i in 0..self.queues.len() {
            while let Some(next) = self.segment(self.queues[i].msn + 1) {
                let queue = &self.queues[i];
                if !queue.waiting.is_empty() {
                    break;
                }
                // The track's newest unit is in the old segment; otherwise the track would have left it.
                let other = queue.is_fed() && self.is_of_another_push(i);
                let patience = if other { PATIENCE_PUSH.max(self.patience) } else { self.patience };
                let lags = next.start + patience <= newest && queue.newest + patience <= newest;
                let reserved = queue.reserved.is_some_and(|msn| queue.msn >= msn);
                if if queue.is_fed() { !lags } else { reserved } {
                    break;
                }
                if other {
                    self.give_up(i, None);
                }
                if !self.close(i, next.start, None) {
                    break;
                }
            }
        }
        self.forget();
        std::mem::take(&mut self.steps)
    }

    /// Returns the next rendition that isn't aligned any more.
    pub(super) fn poll_lost(&mut self) -> Option<Lost> {
        self.lost.pop_front()
    }

    /// Ends the segment under way: everything that has come becomes parts. `ends` are the tracks' ends. Returns where they end
    /// as they are shown, too: the next period begins there at the earliest.
    pub(super) fn flush(&mut self, ends: &[TrackEnd]) -> Option<(Vec<Step>, Duration)> {
        let current = *self.segments.back()?;
        let decoded = ends.iter().map(|end| end.decoded).max()?.max(current.start);
        let shown = ends.iter().map(|end| end.shown).max()?.max(decoded);
        let tail = self.tail();
        for (i, end) in ends.iter().enumerate() {
            let mut ragged = end.ragged;
            while let Some(segment) = self.segment(self.queues[i].msn) {
                let own = Some(end.decoded).filter(|end| std::mem::take(&mut ragged) && *end + tail >= decoded);
                let at = self.segment(segment.msn + 1).map_or(own.unwrap_or(decoded), |next| next.start);
                self.close(i, at, None);
            }
        }
        self.anchor.segment_ended(decoded.saturating_sub(current.start));
        self.segments.clear();
        Some((std::mem::take(&mut self.steps), shown))
    }

    /// Numbers a whole segment in which nothing came, from `start`, after a [`flush`](Cutter::flush). Each track goes on from
    /// its own end, the earliest of which is `ended`: earlier than `start` by what was reordered. Returns the segment's end,
    /// too.
    pub(super) fn gap(&mut self, start: Duration, ended: Duration, discontinuity: u32) -> (Vec<Step>, Duration) {
        self.begin_segment(start, start, discontinuity, false);
        let end = (start + self.length).min(ended + self.longest);
        for i in 0..self.queues.len() {
            self.queues[i].msn = self.next_msn - 1;
            self.close(i, end, None);
        }
        self.segments.clear();
        (std::mem::take(&mut self.steps), end)
    }

    /// Returns a segment that some track is still in, or that is kept.
    pub(super) fn segment(&self, msn: Msn) -> Option<SegmentStart> {
        let oldest = self.segments.front()?.msn;
        self.segments.get(usize::try_from(msn.checked_sub(oldest)?).ok()?).copied()
    }

    /// Returns the progress of the period: the newest unit of any track.
    pub(super) fn newest(&self) -> Duration {
        self.queues.iter().map(|queue| queue.newest).max().unwrap_or_default()
    }

    /// Returns the newest unit of one track.
    pub(super) fn newest_of(&self, track: usize) -> Duration {
        self.queues[track].newest
    }

    /// Returns the progress of the leading track, and the duration of its frames. Other tracks may be ahead of it.
    pub(super) fn lead(&self) -> (Duration, Duration) {
        let leader = self.queues.get(self.leader());
        leader.map_or((Duration::ZERO, Duration::ZERO), |queue| (queue.newest, queue.frame()))
    }

    /// Returns the end of the newest waiting unit of a track.
    pub(super) fn waiting_end(&self, track: usize) -> Option<Duration> {
        let queue = &self.queues[track];
        queue.waiting.back().map(|unit| queue.media(unit.dts + queue.frame))
    }

    /// Returns the track that decides where to cut.
    fn leader(&self) -> usize {
        let newest = self.newest();
        let alive = |queue: &Queue| queue.is_fed() && queue.newest + self.patience.max(queue.frame() * 2) >= newest;
        let video = self.queues.iter().position(|queue| queue.video && alive(queue));
        let fed = || self.queues.iter().position(Queue::is_fed);
        video.or_else(|| self.queues.iter().position(alive)).or_else(fed).unwrap_or(0)
    }

    /// Returns the longest distance between the ends of tracks. Gap segments begin where each track has ended, and must not
    /// be longer than TARGETDURATION on any track.
    fn tail(&self) -> Duration {
        TAIL_MAX.min(self.longest.saturating_sub(self.length) / 2)
    }

    /// Returns whether the segment of a track's oldest waiting unit is known.
    fn decided(&self, i: usize, leader: usize, unit: &TrackUnit) -> bool {
        let queue = &self.queues[i];
        // For a rendition's keyframe, the time at which it is shown counts.
        let at = if queue.video && unit.keyframe { queue.shown(unit) } else { queue.media(unit.dts) };
        let reach = at + queue.frame() / 2;
        let earliest_cut = || {
            let current = self.segments.back();
            current.map_or(Duration::ZERO, |current| self.queues[leader].earliest_cut(current, self.lengths()))
        };
        i == leader
            || queue.waiting.len() > WAITING_MAX
            || queue.waiting.iter().map(|unit| unit.data.len()).sum::<usize>() > UNIT_LEN_MAX
            || self.segment(queue.msn + 1).is_some_and(|next| !queue.crosses(unit, &next, self.longest))
            || reach < earliest_cut()
            || reach <= self.queues[leader].newest
    }

    fn lengths(&self) -> Lengths {
        Lengths { aim: self.length, longest: self.longest, interval: self.intervals.longest() }
    }

    /// Cuts before the leader's unit if a segment should begin there. Returns whether it did. `beside`: it isn't the leader, which
    /// goes on without a keyframe.
    fn decide(&mut self, leader: usize, unit: &TrackUnit, beside: bool) -> bool {
        let queue = &self.queues[leader];
        let Some(&current) = self.segments.back() else { return false };
        let begun = u64::from(self.next_msn.saturating_sub(self.first_msn));
        let spare = begun <= queue.media(unit.dts).as_secs() + SEGMENTS_AHEAD_MAX;
        let Some(Cut { start, forced, keyed }) = queue.cut(unit, &current, self.lengths(), spare) else { return false };
        let forced = forced || beside && self.queues[self.leader()].video;
        let (track, video, frame, shown) = (queue.id, queue.video, queue.frame(), queue.shown(unit));
        if start < queue.media(unit.dts) {
            // What is missing may have been a keyframe.
            self.queues[leader].keyframe = None;
        }
        if forced {
            self.irregular = true;
            let notice = Diagnostic::ForcedCut { track, msn: current.msn, after: start - current.start };
            self.steps.push(Step::Tell(notice));
        }
        // Audio alone is cut on a grid, so that half units don't add up.
        let ideal = current.ideal + self.length;
        let ideal = if video || ideal.abs_diff(start) > frame { start } else { ideal };
        let shown = keyed.then_some(shown);
        self.begin_next(&current, (start, ideal), shown, forced);
        true
    }

    /// Begins the segment after `current` at `start`; its keyframe is shown at `shown`, if it has one.
    fn begin_next(
        &mut self,
        current: &SegmentStart,
        (start, ideal): (Duration, Duration),
        shown: Option<Duration>,
        forced: bool,
    ) {
        let step = self.anchor.segment_ended(start - current.start);
        if step != 0 {
            self.steps.push(Step::Tell(Diagnostic::DateTimeStep { micros: step }));
        }
        let (msn, shift) = (self.next_msn, self.anchor.shift());
        let (keyed, shown) = (shown.is_some(), shown.unwrap_or(start));
        let discontinuity = current.discontinuity + u32::from(self.breaks);
        let segment = SegmentStart { msn, start, ideal, discontinuity, shown, keyed, forced, shift };
        self.push_segment(segment);
        self.steps.push(Step::Began(segment));
    }

    /// Returns how far the keyframes of a track, of another push than the leader's, lie from where `next` begins: its unit is
    /// shown behind that, and no keyframe was.
    fn misaligned(&self, i: usize, unit: &TrackUnit, next: &SegmentStart) -> Option<i64> {
        let queue = &self.queues[i];
        let passed = queue.shown(unit) > next.shown + queue.frame();
        let counts = next.keyed && queue.is_fed() && self.is_of_another_push(i);
        let keyframe = queue.keyframe.unwrap_or_default();
        (counts && passed && !unit.keyframe).then(|| micros(keyframe).saturating_sub(micros(next.shown)))
    }

    fn place_one(&mut self, track: usize, unit: TrackUnit) {
        while let Some(next) = self.segment(self.queues[track].msn + 1) {
            if let Some(micros) = self.misaligned(track, &unit, &next) {
                return self.give_up(track, Some(micros));
            }
            let crosses = self.queues[track].crosses(&unit, &next, self.longest);
            if !crosses || !self.close(track, next.start, Some(unit.dts)) {
                break;
            }
        }
        let Some(segment) = self.segment(self.queues[track].msn) else { return };
        if unit.keyframe && self.queues[track].video {
            self.note_keyframe(track, &unit);
        }
        self.steps.push(Step::Place { track, unit, segment, irregular: self.irregular });
    }

    /// Notes when a keyframe is shown, and how long after the one before.
    fn note_keyframe(&mut self, track: usize, unit: &TrackUnit) {
        let of_leader = !self.is_of_another_push(track);
        let queue = &mut self.queues[track];
        let shown = queue.shown(unit);
        let before = queue.keyframe.replace(shown);
        if let Some(before) = before.filter(|_| of_leader) {
            self.intervals.observe(shown.saturating_sub(before));
        }
    }

    /// Ends the segment that a track is in. Returns whether it is in one.
    fn close(&mut self, track: usize, at: Duration, next: Option<u64>) -> bool {
        let Some(segment) = self.segment(self.queues[track].msn) else { return false };
        let queue = &mut self.queues[track];
        queue.msn = segment.msn.saturating_add(1);
        // A track without a next unit may end a frame before.
        let ends = next.map_or(at.saturating_sub(queue.frame().min(HOLE_MIN)), |next| queue.media(next).min(at));
        queue.begun = ends.min(queue.begun + self.longest);
        self.steps.push(Step::Close { track, at, next, segment, irregular: self.irregular });
        true
    }

    /// Drops a track's units until it is fed again.
    fn give_up(&mut self, track: usize, misaligned: Option<i64>) {
        let queue = &mut self.queues[track];
        queue.waiting.clear();
        if let Some(input) = queue.input.take() {
            self.lost.push_back(Lost { track, push: input.push(), misaligned });
        }
    }

    /// Begins a segment at `at`, with a keyframe of video that comes to audio alone and leads from then on; it is shown at
    /// `shown`. Returns nothing while the audio has a cut of its own before that, since a segment would become too long.
    pub(super) fn cut_at(&mut self, at: Duration, shown: Duration) -> Option<(SegmentStart, Vec<Step>)> {
        let current = *self.segments.back().filter(|current| at <= current.start + self.length)?;
        // Audio may have gone on to a later segment, which has no unit of before.
        let start = at.max(current.start);
        self.begin_next(&current, (start, start), Some(shown), false);
        Some((*self.segments.back()?, std::mem::take(&mut self.steps)))
    }

    /// Feeds a track from `input`, from `segment` on, and ends those before it, in which it wasn't fed. Returns whether the track
    /// is new, too.
    pub(super) fn join(&mut self, track: usize, input: InputTrack, segment: &SegmentStart) -> (bool, Vec<Step>) {
        let fresh = self.queues[track].msn == 0;
        if fresh {
            (self.queues[track].msn, self.queues[track].begun) = (segment.msn, segment.start);
        }
        while let Some(next) = self.segment(self.queues[track].msn + 1).filter(|next| next.msn <= segment.msn) {
            if !self.close(track, next.start, None) {
                break;
            }
        }
        let queue = &mut self.queues[track];
        queue.waiting.clear();
        (queue.input, queue.newest) = (Some(input), queue.newest.max(segment.start));
        (fresh, std::mem::take(&mut self.steps))
    }

    /// Notes that a track that has just joined begins at `at`.
    pub(super) fn begun_at(&mut self, track: usize, at: Duration) {
        let queue = &mut self.queues[track];
        queue.begun = queue.begun.min(at);
    }

    /// Returns whether a track shows pictures of another push than the one that leads: it goes on with a keyframe only.
    fn is_of_another_push(&self, i: usize) -> bool {
        let push = |i: usize| self.queues[i].input.map(InputTrack::push);
        self.queues[i].video && push(i) != push(self.leader())
    }

    fn forget(&mut self) {
        let oldest = self.queues.iter().map(|queue| queue.msn).chain(self.keep).min().unwrap_or(0);
        while self.segments.len() > 1 && self.segments.front().is_some_and(|segment| segment.msn < oldest) {
            self.segments.pop_front();
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
