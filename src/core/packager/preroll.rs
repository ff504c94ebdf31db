//! What a publisher sends before its life or period begins.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::diagnostic::{Notice, Unusable};
use super::io::Output;
use super::packager::{Publisher, Settings, Source};
use super::plan::{Gops, frame_duration, frame_rate_milli};
use super::timeline::{BACKWARD_MAX, REORDER_MAX, span};
use crate::model::time::{Time, Timescale, UnixTime};
use crate::model::{Feed, InputClock, InputTrack};

/// What is gathered before it is published all the same, in bytes: 4 s at 128 Mb/s.
const GATHERED_LEN_MAX: usize = 64 << 20;
/// And in units: 5 s of 16 tracks at 50 a second.
const GATHERED_UNITS_MAX: usize = 4_096;
/// Frames that a rate is measured on where nothing else is to be measured: 0.4 s at 30 fps.
const FRAMES_MEASURED: usize = 12;
/// Tracks whose first timestamps lie further apart than this run on clocks of their own, and are put
/// side by side by their arrival.
pub(crate) const TRACKS_APART_MAX: Duration = Duration::from_secs(2);
/// The same of tracks that have one clock by their standard: its muxer is broken. A hole of that length is a jump, too.
const COMMON_APART_MAX: Duration = Duration::from_secs(10);
/// Audio that far before the first keyframe is kept, since encoders interleave loosely.
pub(crate) const AUDIO_LEAD_MAX: Duration = Duration::from_millis(500);

/// A unit as it came.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub track: InputTrack,
    /// Unwrapped, in ticks of the input clock.
    pub dts: i64,
    /// What was taken off `dts` to put its track beside the others.
    pub shifted: i64,
    pub composition_offset: i32,
    pub keyframe: bool,
    pub data: Bytes,
    pub arrived: UnixTime,
    pub now: Time,
}

impl Raw {
    /// When it is shown, in ticks of the input clock.
    pub(crate) fn shown(&self) -> i64 {
        self.dts.saturating_add(self.composition_offset.into())
    }

    /// The wallclock of `base`, if what it shows was taken when it came: that is the latest that it can have been.
    pub(crate) fn origin(&self, base: i64, scale: Timescale) -> UnixTime {
        let reorder_max = i64::try_from(scale.ticks(REORDER_MAX)).unwrap_or(i64::MAX);
        let shown = self.dts.saturating_add(i64::from(self.composition_offset).min(reorder_max));
        let after = scale.duration(u64::try_from(shown.saturating_sub(base)).unwrap_or(0));
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        UnixTime::from_micros(self.arrived.as_micros().saturating_sub(micros))
    }

    /// When it is decoded or shown, whichever comes first.
    pub(crate) fn earliest(&self) -> i64 {
        self.dts.saturating_add(self.composition_offset.min(0).into())
    }
}

/// The units gathered so far, as they came.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    units: Vec<Raw>,
    len: usize,
    need_keyframe: bool,
}

/// What was gathered, on one clock.
#[derive(Debug)]
pub(crate) struct Aligned {
    /// As they came, jumps taken out.
    pub raw: Vec<Raw>,
    /// The earliest decode time.
    pub base: i64,
}

impl Gathered {
    pub(crate) fn new(need_keyframe: bool) -> Self {
        Gathered { need_keyframe, ..Gathered::default() }
    }

    pub(crate) fn push(&mut self, raw: Raw) {
        self.len += raw.data.len();
        self.units.push(raw);
    }

    /// Whether a unit of the track has come.
    pub(crate) fn has(&self, track: InputTrack) -> bool {
        self.of(track).next().is_some()
    }

    /// Takes the units of all pushes but one out.
    pub(crate) fn split_off(&mut self, lead: Feed) -> Vec<Raw> {
        let (own, others) = std::mem::take(&mut self.units).into_iter().partition(|raw| raw.track.feed() == lead);
        self.units = own;
        self.len = self.units.iter().map(|raw| raw.data.len()).sum();
        others
    }

    /// Drops a push's units.
    pub(crate) fn forget_push(&mut self, feed: Feed) {
        self.units.retain(|raw| raw.track.feed() != feed);
        self.len = self.units.iter().map(|raw| raw.data.len()).sum();
    }

    /// When the first unit came.
    pub(crate) fn since(&self) -> Option<Time> {
        self.units.first().map(|raw| raw.now)
    }

    /// Drops a track's units; says how many.
    pub(crate) fn forget(&mut self, track: InputTrack) -> usize {
        let before = self.units.len();
        self.units.retain(|raw| raw.track != track);
        self.len = self.units.iter().map(|raw| raw.data.len()).sum();
        before - self.units.len()
    }

    /// When to look again whether it is enough.
    pub(crate) fn next_check(&self, settings: &Settings, now: Time) -> Option<Time> {
        let since = self.since()?;
        let waits = [settings.track_wait, settings.announced_wait, settings.measure, longest(settings)];
        waits.into_iter().map(|wait| since + wait).filter(|&at| at > now).min()
    }

    /// Whether it is published at once, so that memory stays bounded.
    pub(crate) fn full(&self) -> bool {
        self.len >= GATHERED_LEN_MAX || self.units.len() >= GATHERED_UNITS_MAX
    }

    fn of(&self, track: InputTrack) -> impl Iterator<Item = &Raw> {
        self.units.iter().filter(move |raw| raw.track == track)
    }

    /// Whether there is enough to begin a life: all its tracks, and its GOPs.
    pub(crate) fn life_ready(
        &self,
        lead: (Feed, bool),
        sources: &BTreeMap<InputTrack, Source>,
        publisher: &Publisher,
        settings: &Settings,
        now: Time,
    ) -> bool {
        let age = self.since().map_or(Duration::ZERO, |since| now.since(since));
        if self.full() || age >= longest(settings) {
            return true;
        }
        let (lead, rendition) = lead;
        let sources = || sources.iter().filter(move |(track, _)| track.feed() == lead);
        // The other renditions are about to come, and pictures have to be there before sound can be cut.
        let pictures = sources().any(|(&track, source)| source.codec.is_video() && self.has(track));
        if rendition && age < if pictures { settings.track_wait } else { settings.measure } {
            return false;
        }
        let there = |video: bool| sources().any(|(&track, s)| s.codec.is_video() == video && self.has(track));
        for (video, announced) in [(true, publisher.announced.video), (false, publisher.announced.audio)] {
            let wait = match announced {
                Some(true) => settings.announced_wait,
                Some(false) => Duration::ZERO,
                None => settings.track_wait,
            };
            if age < wait && !there(video) {
                return false;
            }
        }
        // Configured, but no unit yet: another rendition or language.
        if age < settings.track_wait && sources().any(|(&track, _)| !self.has(track)) {
            return false;
        }
        let mut video = sources().filter(|(track, s)| s.codec.is_video() && self.has(**track));
        let Some((&track, source)) = video.next() else { return true };
        let (stamps, gops) = self.measure(track, publisher.clock);
        if stamps.is_empty() {
            return false; // no keyframe yet
        }
        if settings.segment.is_some() {
            return stamps.len() >= FRAMES_MEASURED || age >= settings.track_wait;
        }
        let frame = frame_rate_milli(&stamps, publisher.clock, source.codec.frame_rate_milli()).map(frame_duration);
        let settled = frame.is_some_and(|frame| gops.settled(frame)) && stamps.len() >= FRAMES_MEASURED;
        settled || gops.span() >= settings.measure
    }

    /// Whether there is enough to begin a period of a life: a unit of each track in `expected`, of which
    /// the newest lie together, and a keyframe where one is needed.
    pub(crate) fn period_ready(
        &self,
        lead: (Feed, bool),
        sources: &BTreeMap<InputTrack, Source>,
        expected: usize,
        publisher: &Publisher,
        settings: &Settings,
        now: Time,
    ) -> bool {
        let age = self.since().map_or(Duration::ZERO, |since| now.since(since));
        if self.full() || age >= settings.measure {
            return true;
        }
        let (lead, rendition) = lead;
        if rendition && age < settings.track_wait {
            return false;
        }
        let mut newest = Vec::new();
        for (&track, source) in sources.iter().filter(|(track, s)| track.feed() == lead && s.lane.is_some()) {
            let Some(last) = self.of(track).last() else { continue };
            newest.push(last.dts);
            if self.need_keyframe && source.codec.is_video() && !self.of(track).any(|raw| raw.keyframe) {
                return false;
            }
        }
        let (least, most) = (newest.iter().min().copied(), newest.iter().max().copied());
        let together =
            least.zip(most).is_some_and(|(least, most)| span(least, most, publisher.clock) <= TRACKS_APART_MAX);
        age >= settings.track_wait || (newest.len() >= expected && together)
    }

    /// The decode times and GOPs of a video track, from its first keyframe.
    fn measure(&self, track: InputTrack, clock: InputClock) -> (Vec<i64>, Gops) {
        let units = || self.of(track).skip_while(|raw| !raw.keyframe);
        (units().map(|raw| raw.dts).collect(), Gops::measure(units(), clock))
    }

    /// Takes out what can't be decoded and what jumps, and puts all tracks on one clock.
    pub(crate) fn into_units(
        mut self,
        clock: InputClock,
        sources: &BTreeMap<InputTrack, Source>,
        out: &mut VecDeque<Output>,
    ) -> Aligned {
        self.drop_undecodable(clock, sources, out);
        let tracks: Vec<InputTrack> = sources.keys().copied().collect();
        for &track in &tracks {
            self.straighten(track, clock);
        }
        // The first video track's clock counts, else the first track's.
        let video = tracks.iter().filter(|track| sources[track].codec.is_video());
        let reference = video.chain(&tracks).find_map(|&track| self.of(track).next().cloned());
        let apart = if clock.is_common() { COMMON_APART_MAX } else { TRACKS_APART_MAX };
        if let Some(reference) = reference {
            for &track in &tracks {
                self.align(track, &reference, clock, apart);
            }
        }
        // No unit is shown before the period begins, so that presentation times are never negative.
        let base = self.units.iter().map(Raw::earliest).min();
        Aligned { raw: self.units, base: base.unwrap_or(0) }
    }

    fn drop_undecodable(
        &mut self,
        clock: InputClock,
        sources: &BTreeMap<InputTrack, Source>,
        out: &mut VecDeque<Output>,
    ) {
        if !self.need_keyframe {
            return;
        }
        let mut keep = vec![true; self.units.len()];
        let mut first = None;
        for (&track, _) in sources.iter().filter(|(_, s)| s.codec.is_video()) {
            let of_track = |raw: &Raw| raw.track == track;
            // Without any keyframe (intra refresh) all is published as it came.
            let Some(at) = self.units.iter().position(|raw| of_track(raw) && raw.keyframe) else { continue };
            for (keep, _) in keep.iter_mut().zip(&self.units).take(at).filter(|(_, raw)| of_track(raw)) {
                *keep = false;
            }
            first = first.or(Some(self.units[at].clone()));
        }
        if let Some(first) = first {
            for (keep, raw) in keep.iter_mut().zip(&self.units) {
                let audio = sources.get(&raw.track).is_some_and(|s| !s.codec.is_video());
                let off = clock.scale.duration(first.dts.abs_diff(raw.dts));
                let lead = match off > TRACKS_APART_MAX {
                    true => first.now.since(raw.now),
                    false => span(raw.dts, first.dts, clock),
                };
                *keep &= !audio || lead <= AUDIO_LEAD_MAX;
            }
        }
        let dropped = self.units.iter().zip(&keep).filter(|(_, keep)| !**keep).map(|(raw, _)| raw.track);
        out.extend(Notice::dropped(dropped, Unusable::NoKeyframe));
        let mut keep = keep.into_iter();
        self.units.retain(|_| keep.next().unwrap_or(true));
    }

    /// A track's units before the last jump among them are put right before those behind it: nothing is
    /// lost, and the clock that goes on is the newest.
    fn straighten(&mut self, track: InputTrack, clock: InputClock) {
        let mut of_track: Vec<&mut Raw> = self.units.iter_mut().filter(|raw| raw.track == track).collect();
        let jump = (1..of_track.len()).rev().find(|&i| {
            let (a, b) = (&*of_track[i - 1], &*of_track[i]);
            // A transport stream's picture is whole, and comes, with the first packet of the next one.
            let before = of_track[i.saturating_sub(2)].arrived;
            let really = b.arrived.since(before) + Duration::from_secs(1);
            span(b.dts, a.dts, clock) > BACKWARD_MAX || span(a.dts, b.dts, clock) > really
        });
        let Some(jump) = jump else { return };
        let steps = of_track.windows(2).map(|pair| pair[1].dts.saturating_sub(pair[0].dts)).filter(|&step| step > 0);
        let usual = steps.min().unwrap_or(1).min(i64::from(clock.scale.hz()));
        let first = of_track[jump].dts;
        for (back, raw) in (1..).zip(of_track[..jump].iter_mut().rev()) {
            raw.dts = first.saturating_sub(usual * back);
        }
    }

    /// A track on a clock of its own is put beside `reference` by its arrival.
    fn align(&mut self, track: InputTrack, reference: &Raw, clock: InputClock, apart: Duration) {
        let Some(first) = self.of(track).next() else { return };
        let ticks = |duration: Duration| i64::try_from(clock.scale.ticks(duration)).unwrap_or(i64::MAX / 4);
        let arrived = ticks(first.arrived.since(reference.arrived)) - ticks(reference.arrived.since(first.arrived));
        let off = first.dts.saturating_sub(reference.dts.saturating_add(arrived));
        if clock.scale.duration(off.unsigned_abs()) > apart {
            for raw in self.units.iter_mut().filter(|raw| raw.track == track) {
                raw.dts = raw.dts.saturating_sub(off);
                raw.shifted = raw.shifted.saturating_add(off);
            }
        }
    }
}

/// The longest wait of all: nothing goes on after it, whatever has come.
fn longest(settings: &Settings) -> Duration {
    settings.measure.max(settings.track_wait).max(settings.announced_wait) + Duration::from_secs(1)
}
