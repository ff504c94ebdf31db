//! A push that joins a life under way: what it has sent waits for the start of a segment that all tracks share.

use std::collections::VecDeque;
use std::time::Duration;

use super::cutter::PATIENCE_PUSH;
use super::diagnostic::{Notice, Refusal, Unusable};
use super::io::Output;
use super::packager::{Packager, Source};
use super::preroll::Raw;
use super::presentation::Life;
use super::publishers as feeds;
use super::publishers::Push;
use super::timeline::rescale;
use super::track::Segment;
use crate::model::Msn;
use crate::model::time::{Time, Timescale};
use crate::model::{Clocks, Feed, InputTrack};

/// What waits at most, in bytes and units: it is forgotten then, and a later segment's start waited for.
const QUEUE_LEN_MAX: usize = 32 << 20;
const QUEUE_UNITS_MAX: usize = 4_096;
/// Timestamps further from the others' are another clock's. A line may be that slow, and no slower, since a push that
/// lags more is given up anyway.
pub(crate) const APART_MAX: Duration = PATIENCE_PUSH;
/// For so long at least, since one encoder's renditions jump one after the other.
const APART_FOR: Duration = Duration::from_secs(2);
/// Sound may begin that much behind a segment's start, in microseconds: a hole of a few units.
const HOLE_MAX: i64 = 100_000;

/// A push that is further behind than so many segments waits for the next one.
const SEGMENTS_LATE_MAX: u32 = 3;
/// What is kept of sound that another push feeds: about 4 s.
const SPARE_UNITS_MAX: usize = 192;
/// Sound that lags so far behind the pictures is taken from another push. Below the segmenter's patience.
const SOUND_SILENT_MAX: Duration = Duration::from_millis(700);

/// See the module.
#[derive(Debug)]
pub(crate) struct Joining {
    /// The first segment that it may begin with.
    pub target: Msn,
    queue: VecDeque<Raw>,
    len: usize,
    since: Option<Time>,
    /// The newest of what is forgotten, and the newest keyframe of it, as shown, in microseconds of media time.
    forgotten: Option<i64>,
    keyframe: Option<i64>,
}

/// What is found at a segment's start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// Not come as far.
    Wait,
    /// It began later.
    Later,
    /// The unit at this place in the queue begins the segment, with its clock this far off, in ticks of the input.
    Here(usize, i64),
    /// It shows no keyframe there.
    Misaligned(Refusal),
}

/// A segment's start: in microseconds of media time, and how far from it a keyframe may be shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Boundary {
    pub start: i64,
    pub shown: i64,
    pub tolerance: i64,
    /// What is shown after this is another clock's.
    pub latest: i64,
}

impl Joining {
    pub(crate) fn new(target: Msn) -> Self {
        Joining { target, queue: VecDeque::new(), len: 0, since: None, forgotten: None, keyframe: None }
    }

    /// Appends a unit. What is shown before `floor`, the newest of the life, can't begin a segment that isn't cut
    /// yet, and is forgotten, unless the target has begun. What is shown after `latest` is kept, since the others may
    /// jump as far in a moment, but nothing waits behind it.
    pub(crate) fn push(
        &mut self,
        raw: Raw,
        guide: Option<InputTrack>,
        floor: Option<i64>,
        latest: i64,
        place: impl Fn(i64) -> i64,
    ) {
        self.since.get_or_insert(raw.now);
        self.len += raw.data.len();
        self.queue.push_back(raw);
        let full = self.len > QUEUE_LEN_MAX || self.queue.len() > QUEUE_UNITS_MAX;
        let (floor, latest) = if full { (Some(i64::MAX), i64::MAX) } else { (floor, latest) };
        let Some(floor) = floor else { return };
        while let Some(i) = self.queue.iter().position(|raw| place(raw.shown()) <= latest) {
            let shown = place(self.queue[i].shown());
            if shown >= floor {
                break;
            }
            let Some(raw) = self.queue.remove(i) else { break };
            if Some(raw.track) == guide {
                self.forgotten = self.forgotten.max(Some(shown));
                self.keyframe = Some(shown).filter(|_| raw.keyframe).or(self.keyframe);
            }
            self.len -= raw.data.len();
        }
    }

    /// Whether its timestamps are another clock's than those of a life that has come to `newest`.
    pub(crate) fn apart(&self, now: Time, at: i64, newest: i64) -> Option<Refusal> {
        let micros = at.saturating_sub(newest);
        let long = self.since.is_some_and(|since| now.since(since) >= APART_FOR);
        (long && Duration::from_micros(micros.unsigned_abs()) > APART_MAX).then_some(Refusal::Apart { micros })
    }

    /// Looks for the unit that begins a segment. `place` gives the media time of a timestamp.
    pub(crate) fn look(
        &self,
        guide: (InputTrack, bool),
        at: Boundary,
        ticks_of: impl Fn(i64) -> i64,
        place: impl Fn(i64) -> i64,
    ) -> Found {
        let (track, video) = guide;
        let mine = self.queue.iter().enumerate().filter(|(_, raw)| raw.track == track);
        let mut before = self.forgotten.is_some_and(|shown| shown < at.shown);
        let mut nearest = self.keyframe.map(|shown| shown.saturating_sub(at.shown));
        let mut passed = None;
        for (i, raw) in mine {
            let shown = place(raw.shown());
            if shown > at.latest {
                continue;
            }
            if !video {
                match shown.saturating_sub(at.start) {
                    off if off < -at.tolerance => before = true,
                    off if off <= HOLE_MAX || before => return Found::Here(i, 0),
                    _ => return Found::Later,
                }
                continue;
            }
            let off = shown.saturating_sub(at.shown);
            if raw.keyframe {
                if off.abs() <= at.tolerance {
                    return Found::Here(i, ticks_of(off));
                }
                nearest = nearest.into_iter().chain([off]).min_by_key(|off| off.abs());
            }
            before |= off < -at.tolerance;
            passed = passed.max(Some(off).filter(|&off| off > at.tolerance));
        }
        match (passed, before, nearest) {
            (None, ..) => Found::Wait,
            // A nearer keyframe may come, and its distance is what the publisher can make something of.
            (Some(passed), true, Some(micros)) if passed < micros.abs() => Found::Wait,
            (Some(_), true, Some(micros)) => Found::Misaligned(Refusal::Misaligned { micros }),
            _ => Found::Later,
        }
    }

    /// All that waits.
    pub(crate) fn into_units(self) -> VecDeque<Raw> {
        self.queue
    }

    /// What waits from the unit at `from` on; and, apart from it, what is shown after `latest`: up to there all tracks
    /// would be filled with gaps.
    fn into_units_from(self, from: usize, latest: i64, place: impl Fn(i64) -> i64) -> (Vec<Raw>, Vec<Raw>) {
        self.queue.into_iter().skip(from).partition(|raw| place(raw.shown()) <= latest)
    }
}

/// What a push does while others are live: it joins them, leaves, loses step, feeds what another doesn't any more.
impl Packager {
    /// A unit of a push that waits for a place.
    pub(crate) fn wait_for_place(&mut self, clocks: Clocks, raw: Raw) {
        let (feed, at, now) = (raw.track.feed(), raw.dts, raw.now);
        self.queue(raw);
        self.join(feed);
        // What was gathered says nothing of how far the others are.
        let Some(life) = self.life.as_ref().filter(|_| now == clocks.now) else { return };
        let newest = micros(life.newest());
        let push = self.pushes.get(&feed).and_then(|push| push.joining.as_ref());
        if let Some(why) = push.and_then(|joining| joining.apart(clocks.now, life.micros(at), newest)) {
            self.refuse(feed, why);
        }
    }

    /// Keeps a unit for later.
    pub(crate) fn queue(&mut self, raw: Raw) {
        let Some(life) = &self.life else { return };
        let feed = raw.track.feed();
        let Some(push) = self.pushes.get_mut(&feed) else { return };
        let guide = feeds::guide(&self.sources, feed, push.is_language()).map(|(track, _)| track);
        let Some(joining) = &mut push.joining else { return };
        let decided = life.segmenter.segment(joining.target).is_some();
        let newest = micros(life.newest().saturating_sub(life.frame()));
        joining.push(raw, guide, (!decided).then_some(newest), latest(life), |ticks| life.micros(ticks));
    }

    /// Lets a push join if the start of a segment is there, and its units for it.
    fn join(&mut self, feed: Feed) {
        let (Some(life), Some(push)) = (&mut self.life, self.pushes.get_mut(&feed)) else { return };
        let (language, rendition) = (push.is_language(), push.rendition.clone());
        let Some(joining) = &mut push.joining else { return };
        let Some(guide) = feeds::guide(&self.sources, feed, language) else { return };
        if guide.1 && !life.is_fed(true) || !life.is_fed(false) {
            // Sound cuts where it likes: pictures that come to it begin anew, with a discontinuity.
            return self.anew(true);
        }
        let Some(source) = self.sources.get(&guide.0) else { return };
        let place = life.place_of(&source.codec, rendition.as_ref());
        let changed =
            place.and_then(|lane| life.segmenter.lanes[lane].codec.as_ref()).is_some_and(|c| *c != source.codec);
        let found = loop {
            let place = place.map(|lane| life.segmenter.lanes[lane].msn);
            joining.target = joining.target.max(place.unwrap_or(0));
            if joining.target + SEGMENTS_LATE_MAX < life.segmenter.next_msn {
                joining.target = life.segmenter.next_msn;
            }
            let Some(segment) = life.segmenter.segment(joining.target) else {
                // "EXT-X-DISCONTINUITY SHOULD be present if there is a change in encoding parameters" (rfc8216bis
                // 4.4.4.3); and then on every rendition, whose discontinuity sequence numbers have to match (6.2.4).
                life.segmenter.breaks |= changed;
                return self.keep_for_joining();
            };
            let tolerance = micros(feeds::tolerance(life.frame()));
            let (start, shown) = (micros(segment.start), micros(segment.shown));
            let at = Boundary { start, shown, tolerance, latest: latest(life) };
            let scale = life.clock.scale;
            let ticks = |off: i64| rescale(off, Timescale::new(1_000_000).unwrap_or(scale), scale);
            match joining.look(guide, at, ticks, |ticks| life.micros(ticks)) {
                Found::Wait => return self.keep_for_joining(),
                Found::Later => joining.target = segment.msn + 1,
                Found::Misaligned(why) => break Err(why),
                Found::Here(from, shifted) => break Ok((segment, from, shifted)),
            }
        };
        match found {
            Err(why) => self.refuse(feed, why),
            Ok((segment, from, shifted)) => self.take_place(feed, guide.0, segment, from, shifted),
        }
        self.keep_for_joining();
    }

    fn take_place(&mut self, feed: Feed, guide: InputTrack, segment: Segment, from: usize, shifted: i64) {
        self.collect();
        let (Some(life), Some(push)) = (&mut self.life, self.pushes.get_mut(&feed)) else { return };
        let rendition = push.rendition.clone();
        let Some(joining) = push.joining.take() else { return };
        let (mut units, jumped) = joining.into_units_from(from, latest(life), |ticks| life.micros(ticks));
        self.out.extend(Notice::dropped(jumped.iter().map(|raw| raw.track), Unusable::Jumped));
        for raw in units.iter_mut().filter(|raw| raw.track == guide) {
            raw.shifted = shifted;
        }
        let tracks: Vec<InputTrack> = self.sources.keys().copied().filter(|track| track.feed() == feed).collect();
        for track in tracks {
            let Some(source) = self.sources.get_mut(&track) else { continue };
            source.lane = None;
            let first = units.iter().find(|raw| raw.track == track).cloned();
            // Sound that all share is fed by whoever has it; the first who has any brings the track.
            let shared = track != guide && !source.codec.is_video();
            if shared && life.shared_sound().is_some() {
                continue;
            }
            let Some(first) = first else { continue };
            source.lane = life.claim_or_append(track, &source.codec, rendition.as_ref());
            match source.lane {
                Some(lane) => life.join(lane, source, &first, segment),
                None if track == guide => return self.refuse(feed, Refusal::NoPlace),
                None => {}
            }
        }
        for raw in units {
            match self.sources.get(&raw.track).and_then(|source| source.lane) {
                Some(lane) => self.life.as_mut().into_iter().for_each(|life| life.put(lane, raw.clone())),
                None => self.spare_unit(raw),
            }
        }
        if let Some(life) = &mut self.life {
            life.go_on();
        }
        self.in_step();
    }

    /// Segments are kept from where somebody may still join.
    pub(crate) fn keep_for_joining(&mut self) {
        let targets = self.pushes.values().filter_map(|push| push.joining.as_ref().map(|joining| joining.target));
        let keep = targets.min();
        let Some(life) = &mut self.life else { return };
        life.segmenter.keep = keep;
        let place = |(&feed, push): (&Feed, &Push)| {
            let target = push.joining.as_ref()?.target;
            let (track, _) = feeds::guide(&self.sources, feed, push.is_language())?;
            Some((life.place_of(&self.sources.get(&track)?.codec, push.rendition.as_ref())?, target))
        };
        let places: Vec<(usize, Msn)> = self.pushes.iter().filter_map(place).collect();
        for (i, lane) in life.segmenter.lanes.iter_mut().enumerate() {
            lane.reserved = places.iter().find(|(place, _)| *place == i).map(|(_, target)| *target);
        }
    }

    /// Puts out of the period who isn't in step with the lead any more.
    pub(crate) fn in_step(&mut self) {
        while let Some((lane, misaligned)) = self.life.as_mut().and_then(|life| life.poll_lost()) {
            let of_lane = |(_, source): &(&InputTrack, &Source)| source.lane == Some(lane);
            let Some(feed) = self.sources.iter().find(of_lane).map(|(track, _)| track.feed()) else { continue };
            match misaligned {
                Some(micros) => self.refuse(feed, Refusal::Misaligned { micros }),
                None => drop(self.step_out(feed)),
            }
        }
    }

    /// A push of several has to join anew. Says whether it is one of several that are live.
    pub(crate) fn step_out(&mut self, feed: Feed) -> bool {
        let Some(life) = &mut self.life else { return false };
        let others = self.sources.iter().any(|(track, source)| track.feed() != feed && source.lane.is_some());
        if !others {
            return false;
        }
        life.release(feed);
        for (_, source) in self.sources.iter_mut().filter(|(track, _)| track.feed() == feed) {
            (source.lane, source.spare) = (None, VecDeque::new());
        }
        let target = life.segmenter.next_msn;
        if let Some(push) = self.pushes.get_mut(&feed) {
            push.joining = Some(Joining::new(target));
        }
        life.go_on();
        self.notice(Notice::Left { feed });
        self.adopt();
        true
    }

    /// One of several pushes is gone.
    pub(crate) fn leave(&mut self, feed: Feed) {
        let was = self.life.as_mut().is_some_and(|life| life.release(feed));
        self.pushes.remove(&feed);
        self.sources.retain(|track, _| track.feed() != feed);
        self.gathered.forget_push(feed);
        if let Some(life) = &mut self.life {
            life.go_on();
        }
        self.keep_for_joining();
        if was {
            self.notice(Notice::Left { feed });
            self.adopt();
        }
        if !self.sources.values().any(|source| source.lane.is_some()) {
            // Nobody is live any more: those who waited begin anew.
            self.anew(true);
        }
        self.in_step();
    }

    /// A push can't be a part of the life: it is told, and gone.
    pub(crate) fn refuse(&mut self, feed: Feed, why: Refusal) {
        self.notice(Notice::Refused { feed, why });
        self.out.push_back(Output::Refused { feed, why });
        if self.pushes.contains_key(&feed) {
            self.leave(feed);
        }
    }

    /// Sound that another push feeds at present.
    pub(crate) fn spare_unit(&mut self, raw: Raw) {
        let (Some(source), Some(life)) = (self.sources.get_mut(&raw.track), &self.life) else { return };
        if life.micros(raw.dts) > latest(life) {
            return;
        }
        if source.spare.len() == SPARE_UNITS_MAX {
            source.spare.pop_front();
        }
        source.spare.push_back(raw);
        self.adopt();
    }

    /// Feeds the shared sound from another push where its own doesn't any more.
    fn adopt(&mut self) {
        let Some(life) = &mut self.life else { return };
        let Some(lane) = life.shared_sound() else { return };
        let own = &life.segmenter.lanes[lane];
        if own.is_fed() && own.newest + SOUND_SILENT_MAX >= life.segmenter.newest() {
            return;
        }
        let codec = own.codec.clone();
        let fits = |source: &Source| codec.as_ref().is_none_or(|codec| *codec == source.codec);
        let newest = |source: &Source| source.spare.back().map(|raw| raw.dts);
        let spares = self.sources.iter().filter(|(_, source)| !source.spare.is_empty() && fits(source));
        let Some(track) = spares.max_by_key(|(_, source)| newest(source)).map(|(&track, _)| track) else { return };
        let Some(source) = self.sources.get_mut(&track) else { return };
        let units = std::mem::take(&mut source.spare);
        if !life.adopt(lane, source, &units) {
            source.spare = units;
            return;
        }
        source.lane = Some(lane);
        for (_, other) in self.sources.iter_mut().filter(|(other, _)| **other != track) {
            if other.lane == Some(lane) {
                other.lane = None;
            }
        }
    }
}

/// How far a push of the life's clock can have come, in microseconds of media time.
fn latest(life: &Life) -> i64 {
    micros(life.newest() + APART_MAX)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
