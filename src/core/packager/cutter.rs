//! Where segments end, for all tracks at once.
//!
//! The leader, the first video track that is alive, else an audio track, decides each cut when its unit
//! arrives. The others follow: a unit that might lie behind a cut that isn't decided yet waits until the
//! leader has come as far, which is a frame's time in an interleaved input, and never longer than
//! `patience`: by then the leader is taken for stalled, and another track leads. A track that stays
//! behind gets gap parts in step, and so does one that nobody feeds.
//!
//! Renditions are cut where a keyframe of theirs is *shown* with the leader's, since their encoders may reorder by
//! different numbers of frames. One that has none there is given up: see [`Segmenter::poll_lost`].

use std::collections::VecDeque;
use std::time::Duration;

use super::diagnostic::Notice;
use super::timeline::REORDER_MAX;
use super::track::{Lane, Segment, Sink, UNIT_LEN_MAX, Unit};
use crate::model::InputTrack;
use crate::model::{Msn, Record};

/// How far a track may lag behind before it is taken for stalled. A guess: encoders interleave within
/// a few hundred ms.
const PATIENCE: Duration = Duration::from_secs(1);
/// A track that lags for good gets this much, and loses what comes later still.
const PATIENCE_MAX: Duration = Duration::from_secs(4);
/// How far the pictures of another push may lag behind the leader's before they are given up up to a segment's start.
/// Nobody waits for them but who watches them: longer than a lost packet or a busy machine holds a connection up.
pub(crate) const PATIENCE_PUSH: Duration = Duration::from_secs(3);
/// What a push sends last, its tracks end at as many times. So far apart, each ends where it does; further, the
/// shorter one gets a gap. Players leave out a segment with a gap, so milliseconds of it cost seconds. Our own
/// guess: a few frames of sound and of pictures.
const TAIL_MAX: Duration = Duration::from_millis(250);
/// A track's unit may begin a segment that much before the cut, and no more than half a unit: the segment would become
/// too long.
const EARLY_MAX: Duration = Duration::from_millis(50);
/// The shortest segment, after a forced cut: MSNs must not run ahead of Unix time.
const SEGMENT_MIN: Duration = Duration::from_secs(1);
/// Most units that wait for the leader.
const WAITING_MAX: usize = 1_024;

#[derive(Debug)]
pub(crate) struct Segmenter {
    pub lanes: Vec<Lane>,
    pub sink: Sink,
    /// The segments that some lane is still in, oldest first; the last one is under way.
    segments: VecDeque<Segment>,
    /// The MSN after the newest segment.
    pub next_msn: Msn,
    /// What is aimed at.
    length: Duration,
    /// TARGETDURATION + 0.5 s: no segment lasts longer (Apple's authoring rules).
    longest: Duration,
    patience: Duration,
    /// Segments from this on are kept for a track that is about to begin.
    pub keep: Option<Msn>,
    /// The next segment begins with a discontinuity.
    pub breaks: bool,
    /// A cut that nobody has been told of.
    cut: bool,
    lost: VecDeque<Lost>,
}

/// A rendition that is out of step with the one that leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lost {
    /// Its keyframes lie this far behind (microseconds; before: negative) those of the leader.
    Misaligned { lane: usize, micros: i64 },
    /// It lags too far, and may go on at a later segment's start.
    Stalled { lane: usize },
}

impl Segmenter {
    pub(crate) fn new(record: &Record, lanes: Vec<Lane>, sink: Sink, next_msn: Msn) -> Self {
        Segmenter {
            lanes,
            sink,
            segments: VecDeque::new(),
            next_msn,
            length: record.segment_duration,
            longest: record.target() + Duration::from_millis(500),
            patience: PATIENCE,
            keep: None,
            breaks: false,
            cut: false,
            lost: VecDeque::new(),
        }
    }

    /// Begins a period with its first segment, whose first picture is shown at `shown`; every lane has been restarted
    /// at `next_msn`.
    pub(crate) fn begin(&mut self, start: Duration, shown: Duration, discontinuity: u32, forced: bool) {
        debug_assert!(self.segments.is_empty());
        self.sink.irregular |= forced;
        let (msn, shift, keyed) = (self.next_msn, self.sink.anchor.shift(), !forced);
        self.segments.push_back(Segment { msn, start, ideal: start, discontinuity, shown, keyed, forced, shift });
        self.next_msn += 1;
        self.breaks = false;
    }

    /// A unit of lane `i` has come. To be followed by [`go_on`](Segmenter::go_on).
    pub(crate) fn place(&mut self, i: usize, unit: Unit) {
        let media = self.lanes[i].media(unit.dts);
        let shown = self.lanes[i].media(unit.shown()).min(media + REORDER_MAX);
        self.sink.anchor.observe(unit.arrived, shown);
        let lane = &mut self.lanes[i];
        lane.newest = lane.newest.max(media);
        lane.reorder = lane.reorder.max(shown.saturating_sub(media));
        self.lanes[i].waiting.push_back(unit);
    }

    /// Goes on up to the next cut, which it returns: nothing of the segment that begins there is put out before the
    /// next call. `None`: that was all.
    pub(crate) fn go_on(&mut self) -> Option<Segment> {
        self.drain(false);
        if std::mem::take(&mut self.cut) {
            return self.segments.back().copied();
        }
        self.advance_stalled();
        self.forget();
        None
    }

    /// As [`go_on`](Segmenter::go_on), but all that has come is placed: before a [`flush`](Segmenter::flush).
    pub(crate) fn go_on_to_the_end(&mut self) -> Option<Segment> {
        self.drain(true);
        std::mem::take(&mut self.cut).then(|| self.segments.back().copied()).flatten()
    }

    /// The next rendition that is out of step. The caller sees to it that its lane isn't fed any more.
    pub(crate) fn poll_lost(&mut self) -> Option<Lost> {
        self.lost.pop_front()
    }

    /// Everything that has come becomes parts, and the segment under way ends. Returns where its tracks
    /// end as they are shown: the next period begins there at the earliest.
    pub(crate) fn flush(&mut self) -> Option<Duration> {
        let current = *self.segments.back()?;
        let decoded = self.lanes.iter().map(Lane::decode_end).max()?.max(current.start);
        let shown = self.lanes.iter().map(Lane::content_end).max()?.max(decoded);
        let tail = self.tail();
        for i in 0..self.lanes.len() {
            while let Some(segment) = self.segment(self.lanes[i].msn) {
                let end = self.lanes[i].ragged_end().filter(|end| *end + tail >= decoded).unwrap_or(decoded);
                let at = self.segment(segment.msn + 1).map_or(end, |next| next.start);
                self.lanes[i].close(at, None, &segment, &mut self.sink);
            }
        }
        self.sink.anchor.segment_ended(decoded.saturating_sub(current.start));
        self.segments.clear();
        let numbered = self.lanes.iter().map(|lane| lane.media(lane.end)).max()?;
        Some(shown.max(numbered))
    }

    /// A whole segment in which nothing came, from `start`, after a [`flush`](Segmenter::flush).
    pub(crate) fn gap(&mut self, start: Duration, discontinuity: u32) -> Duration {
        self.begin(start, start, discontinuity, false);
        // Each track goes on from its own end, which is earlier than `start` by what was reordered.
        let ended = self.lanes.iter().map(|lane| lane.media(lane.end)).min().unwrap_or(start);
        let end = (start + self.length).min(ended + self.longest);
        if let Some(segment) = self.segments.pop_back() {
            for lane in &mut self.lanes {
                lane.close(end, None, &segment, &mut self.sink);
            }
        }
        end
    }

    pub(crate) fn segment(&self, msn: Msn) -> Option<Segment> {
        let oldest = self.segments.front()?.msn;
        self.segments.get(usize::try_from(msn.checked_sub(oldest)?).ok()?).copied()
    }

    /// How far the period has come: the newest unit of any track.
    pub(crate) fn newest(&self) -> Duration {
        self.lanes.iter().map(|lane| lane.newest).max().unwrap_or_default()
    }

    /// The lane that decides where to cut.
    pub(crate) fn leader(&self) -> usize {
        let newest = self.newest();
        let alive = |lane: &Lane| lane.is_fed() && lane.newest + self.patience.max(lane.frame_duration() * 2) >= newest;
        let video = self.lanes.iter().position(|lane| lane.track.is_video() && alive(lane));
        let fed = || self.lanes.iter().position(Lane::is_fed);
        video.or_else(|| self.lanes.iter().position(alive)).or_else(fed).unwrap_or(0)
    }

    /// How far apart tracks may end. Gap segments go on where each track has ended, and may for it not last longer
    /// than TARGETDURATION.
    fn tail(&self) -> Duration {
        TAIL_MAX.min(self.longest.saturating_sub(self.length) / 2)
    }

    /// Places every unit whose segment is known; `all`: the rest, too, as far as cuts are known.
    fn drain(&mut self, all: bool) {
        let leader = self.leader();
        loop {
            let mut moved = false;
            // The leader first: the others follow its cuts.
            for i in std::iter::once(leader).chain(0..self.lanes.len()) {
                while self.lanes[i].waiting.front().is_some_and(|unit| all || self.decided(i, leader, unit)) {
                    let Some(unit) = self.lanes[i].waiting.pop_front() else { break };
                    // At the end of all, what is far ahead of the leader has to be cut without it.
                    let ahead = self.lanes[i].newest > self.lanes[leader].newest + self.tail();
                    if i == leader || all && ahead {
                        self.decide(i, &unit);
                        if self.cut {
                            // It is told first.
                            self.lanes[i].waiting.push_front(unit);
                            return;
                        }
                    }
                    self.place_one(i, unit);
                    moved = true;
                }
            }
            if !moved || all {
                break;
            }
        }
    }

    /// Whether it is known which segment the oldest waiting unit of lane `i` belongs to.
    fn decided(&self, i: usize, leader: usize, unit: &Unit) -> bool {
        let lane = &self.lanes[i];
        // What counts of a rendition's keyframe is when it is shown.
        let at = if lane.track.is_video() && unit.keyframe { self.shown(i, unit) } else { lane.media(unit.dts) };
        let reach = at + lane.frame_duration() / 2;
        let before = |next: Segment| !self.crosses(i, unit, &next);
        i == leader
            || lane.waiting.len() > WAITING_MAX
            || lane.waiting.iter().map(|unit| unit.data.len()).sum::<usize>() > UNIT_LEN_MAX
            || self.segment(lane.msn + 1).is_some_and(before)
            || reach < self.earliest_cut(leader)
            || reach <= self.lanes[leader].newest
    }

    /// No cut of the segment under way comes before this.
    fn earliest_cut(&self, leader: usize) -> Duration {
        let Some(current) = self.segments.back() else { return Duration::ZERO };
        let half = self.lanes[leader].frame_duration() / 2;
        match self.lanes[leader].track.is_video() {
            true if current.forced => {
                (current.start + SEGMENT_MIN).min(current.start + self.length.saturating_sub(half))
            }
            // A keyframe behind which pictures come that are shown before it is decoded earlier than others are.
            true => {
                let shown = (current.shown + self.length).saturating_sub(half + self.lanes[leader].reorder);
                (current.start + self.length.saturating_sub(half)).min(shown)
            }
            false => current.ideal + self.length.saturating_sub(half),
        }
    }

    /// The leader's unit: cuts before it if a segment should begin there.
    fn decide(&mut self, leader: usize, unit: &Unit) {
        let lane = &self.lanes[leader];
        let (at, frame, video) = (lane.media(unit.dts), lane.frame_duration(), lane.track.is_video());
        let track = lane.track.id;
        // "the segment is cut one frame before TD + 0.5 s all the same" (DESIGN, media rules).
        let limit = self.longest.saturating_sub(frame).max(frame);
        let Some(&current) = self.segments.back() else { return };
        let age = at.saturating_sub(current.start);
        // From keyframe to keyframe as they are shown, a GOP is a whole number of frames: an open one is decoded in less
        // after a closed one.
        let shown = self.shown(leader, unit);
        let full = match video && !current.forced {
            true => shown + frame / 2 >= current.shown + self.length,
            false => at >= self.earliest_cut(leader),
        };
        let due = full && age > Duration::ZERO;
        let (start, forced, keyed) = match () {
            // A hole: no unit is there to cut at. The caller comes again for the next one.
            () if age > limit + frame => (current.start + limit, video, false),
            () if due && (unit.keyframe || !video) => (at, false, video),
            () if age >= limit => (at, video, false),
            () => return,
        };
        if forced {
            self.sink.irregular = true;
            self.sink.notice(Notice::ForcedCut { track, msn: current.msn, after: start - current.start });
        }
        // Audio alone is cut on a grid, so that half units don't add up.
        let ideal = current.ideal + self.length;
        let ideal = if video || ideal.abs_diff(start) > frame { start } else { ideal };
        let step = self.sink.anchor.segment_ended(start - current.start);
        if step != 0 {
            self.sink.notice(Notice::DateTimeStep { micros: step });
        }
        let (msn, shift) = (self.next_msn, self.sink.anchor.shift());
        let shown = if keyed { shown } else { start };
        let discontinuity = current.discontinuity + u32::from(std::mem::take(&mut self.breaks));
        self.next_msn += 1;
        self.segments.push_back(Segment { msn, start, ideal, discontinuity, shown, keyed, forced, shift });
        self.cut = true;
    }

    /// When a unit of lane `i` is shown, an absurd composition offset apart.
    fn shown(&self, i: usize, unit: &Unit) -> Duration {
        let lane = &self.lanes[i];
        lane.media(unit.shown()).min(lane.media(unit.dts) + REORDER_MAX)
    }

    /// Whether a unit of lane `i` belongs behind the start of `next`.
    fn crosses(&self, i: usize, unit: &Unit, next: &Segment) -> bool {
        let lane = &self.lanes[i];
        let (at, half) = (lane.media(unit.dts), (lane.frame_duration() / 2).min(EARLY_MAX));
        if !lane.track.is_video() || !next.keyed {
            return at + half >= next.start;
        }
        // Each is cut at its own keyframe, or where it is as late as the leader may be.
        unit.keyframe && self.shown(i, unit) + half >= next.shown || self.is_late(i, at, next)
    }

    /// Whether the segment that lane `i` is in has to end without a keyframe.
    fn is_late(&self, i: usize, at: Duration, next: &Segment) -> bool {
        let begun = self.segment(self.lanes[i].msn).map_or(next.start, |segment| segment.start);
        at.saturating_sub(begun) + self.lanes[i].frame_duration() >= self.longest
    }

    /// How far the keyframes of lane `i`, of another push than the leader's, lie from where `next` begins: its unit is
    /// shown behind that, and no keyframe was.
    fn misaligned(&self, i: usize, unit: &Unit, next: &Segment) -> Option<i64> {
        let lane = &self.lanes[i];
        let passed = self.shown(i, unit) > next.shown + lane.frame_duration();
        let counts = next.keyed && lane.is_fed() && self.is_of_another_push(i);
        (counts && passed && !unit.keyframe).then(|| {
            let micros = |at: Duration| i64::try_from(at.as_micros()).unwrap_or(i64::MAX);
            micros(lane.keyframe).saturating_sub(micros(next.shown))
        })
    }

    fn place_one(&mut self, i: usize, unit: Unit) {
        if !self.lanes[i].is_fed() && self.lanes[i].clock.is_none() {
            return;
        }
        while let Some(next) = self.segment(self.lanes[i].msn + 1) {
            if let Some(micros) = self.misaligned(i, &unit, &next) {
                self.lost.push_back(Lost::Misaligned { lane: i, micros });
                return self.abandon(i);
            }
            if !self.crosses(i, &unit, &next) {
                break;
            }
            let Some(segment) = self.segment(self.lanes[i].msn) else { break };
            self.lanes[i].close(next.start, Some(unit.dts), &segment, &mut self.sink);
        }
        let Some(segment) = self.segment(self.lanes[i].msn) else { return };
        if unit.keyframe {
            self.lanes[i].keyframe = self.shown(i, &unit);
        }
        if !self.lanes[i].push(unit, &segment, &mut self.sink) {
            self.patience = (self.patience * 2).min(PATIENCE_MAX);
        }
    }

    /// Nothing more of lane `i` is placed until it is fed anew.
    fn abandon(&mut self, i: usize) {
        let lane = &mut self.lanes[i];
        lane.waiting.clear();
        (lane.input, lane.clock) = (None, None);
    }

    /// Ends the segments of lane `i` before `msn`: a track that nobody fed until there.
    pub(crate) fn catch_up(&mut self, i: usize, msn: Msn) {
        while let (Some(segment), Some(next)) = (self.segment(self.lanes[i].msn), self.segment(self.lanes[i].msn + 1)) {
            if next.msn > msn {
                break;
            }
            self.lanes[i].close(next.start, None, &segment, &mut self.sink);
        }
    }

    /// Lanes that have stayed behind get their gap parts.
    fn advance_stalled(&mut self) {
        let newest = self.newest();
        for i in 0..self.lanes.len() {
            while let Some(next) = self.segment(self.lanes[i].msn + 1) {
                if !self.lanes[i].waiting.is_empty() {
                    break;
                }
                // Its newest unit is in the old segment, or it would have crossed.
                let other = self.lanes[i].is_fed() && self.is_of_another_push(i);
                let patience = if other { PATIENCE_PUSH.max(self.patience) } else { self.patience };
                let lags = next.start + patience <= newest && self.lanes[i].newest + patience <= newest;
                let reserved = self.lanes[i].reserved.is_some_and(|msn| self.lanes[i].msn >= msn);
                if if self.lanes[i].is_fed() { !lags } else { reserved } {
                    break;
                }
                if other {
                    self.lost.push_back(Lost::Stalled { lane: i });
                    self.abandon(i);
                }
                let Some(segment) = self.segment(self.lanes[i].msn) else { break };
                self.lanes[i].close(next.start, None, &segment, &mut self.sink);
            }
        }
    }

    /// Whether lane `i` shows pictures of another push than the one that leads: it goes on with a keyframe only.
    fn is_of_another_push(&self, i: usize) -> bool {
        let feed = |i: usize| self.lanes[i].input.map(InputTrack::feed);
        self.lanes[i].track.is_video() && feed(i) != feed(self.leader())
    }

    fn forget(&mut self) {
        let oldest = self.lanes.iter().map(|lane| lane.msn).chain(self.keep).min().unwrap_or(0);
        while self.segments.len() > 1 && self.segments.front().is_some_and(|segment| segment.msn < oldest) {
            self.segments.pop_front();
        }
    }
}
