//! The units that wait for their presentation or period to begin.

use std::time::Duration;

use super::plan::{Gops, frame_duration, frame_rate_milli};
use super::publishers::Publishers;
use super::settings::Settings;
use super::timeline::TRACKS_APART_MAX;
use super::unit::InputUnit;
use crate::model::input_clock::span;
use crate::model::time::Time;
use crate::model::{InputClock, InputTrack, PushId};

/// The most bytes that wait, 4 s at 128 Mb/s; beyond it, the units are published at once.
const PREROLL_LEN_MAX: usize = 64 << 20;
/// The most units that wait: 5 s of 16 tracks at 50 a second.
const PREROLL_UNITS_MAX: usize = 4_096;
/// The number of frames for measuring the frame rate if GOPs aren't measured: 0.4 s at 30 fps.
const FRAMES_MEASURED: usize = 12;

/// The waiting units, in order of arrival.
#[derive(Debug, Default)]
pub(super) struct Preroll {
    settings: Settings,
    units: Vec<InputUnit>,
    len: usize,
    need_keyframe: bool,
}

impl Preroll {
    pub(super) fn new(settings: Settings) -> Self {
        Preroll { settings, ..Preroll::default() }
    }

    /// Forgets all units. `need_keyframe` says that units before the first keyframe are worthless.
    pub(super) fn restart(&mut self, need_keyframe: bool) {
        *self = Preroll { need_keyframe, ..Preroll::new(self.settings) };
    }

    pub(super) fn push(&mut self, unit: InputUnit) {
        self.len += unit.data.len();
        self.units.push(unit);
    }

    /// Returns whether a unit of the track has come.
    pub(super) fn has(&self, track: InputTrack) -> bool {
        self.of(track).next().is_some()
    }

    /// Drops a push's units.
    pub(super) fn forget_push(&mut self, push: PushId) {
        self.retain(|unit| unit.track.push() != push);
    }

    /// Drops a track's units; returns how many they were.
    pub(super) fn forget_track(&mut self, track: InputTrack) -> usize {
        self.retain(|unit| unit.track != track)
    }

    fn retain(&mut self, keep: impl Fn(&InputUnit) -> bool) -> usize {
        let before = self.units.len();
        self.units.retain(keep);
        self.len = self.units.iter().map(|unit| unit.data.len()).sum();
        before - self.units.len()
    }

    /// Returns when the first unit came.
    pub(super) fn since(&self) -> Option<Time> {
        self.units.first().map(|unit| unit.now)
    }

    /// Returns when to check again whether the units suffice.
    pub(super) fn next_check(&self, now: Time) -> Option<Time> {
        let (since, settings) = (self.since()?, &self.settings);
        let waits = [settings.track_wait, settings.announced_wait, settings.measure, self.longest()];
        waits.into_iter().map(|wait| since + wait).filter(|&at| at > now).min()
    }

    /// Returns whether the units are published at once, so that memory stays bounded.
    pub(super) fn is_full(&self) -> bool {
        self.len >= PREROLL_LEN_MAX || self.units.len() >= PREROLL_UNITS_MAX
    }

    /// Takes all units, and returns whether those before the first keyframe are worthless.
    pub(super) fn take(&mut self) -> (Vec<InputUnit>, bool) {
        let units = std::mem::take(&mut self.units);
        self.len = 0;
        (units, std::mem::take(&mut self.need_keyframe))
    }

    fn of(&self, track: InputTrack) -> impl Iterator<Item = &InputUnit> {
        self.units.iter().filter(move |unit| unit.track == track)
    }

    /// Returns the longest wait of all, after which the units are published.
    fn longest(&self) -> Duration {
        let settings = &self.settings;
        settings.measure.max(settings.track_wait).max(settings.announced_wait) + Duration::from_secs(1)
    }

    fn age(&self, now: Time) -> Duration {
        self.since().map_or(Duration::ZERO, |since| now.since(since))
    }

    /// Returns whether there is enough to begin a presentation: all its tracks, and its GOPs.
    pub(super) fn presentation_ready(&self, lead: PushId, publishers: &Publishers, now: Time) -> bool {
        let (age, settings) = (self.age(now), &self.settings);
        if self.is_full() || age >= self.longest() {
            return true;
        }
        let Some(publisher) = publishers.get(lead) else { return false };
        let there = |video: bool| {
            publishers.sources_of(lead).any(|(track, source)| source.codec.is_video() == video && self.has(track))
        };
        // The other renditions are about to come, and sound can't be cut before pictures are there.
        let wait = if there(true) { settings.track_wait } else { settings.measure };
        if publisher.rendition.is_some() && age < wait {
            return false;
        }
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
        // A track of another rendition or language is configured, but has no unit yet.
        if age < settings.track_wait && publishers.sources_of(lead).any(|(track, _)| !self.has(track)) {
            return false;
        }
        self.is_measured(lead, publishers, publisher.clock, age)
    }

    /// Returns whether the frames and GOPs of the leading push are measured.
    fn is_measured(&self, lead: PushId, publishers: &Publishers, clock: InputClock, age: Duration) -> bool {
        let settings = &self.settings;
        let mut video = publishers.sources_of(lead).filter(|(track, s)| s.codec.is_video() && self.has(*track));
        let Some((track, source)) = video.next() else { return true };
        let units = || self.of(track).skip_while(|unit| !unit.keyframe);
        let stamps: Vec<i64> = units().map(|unit| unit.dts).collect();
        if stamps.is_empty() {
            return false; // no keyframe yet
        }
        if settings.segment.is_some() {
            return stamps.len() >= FRAMES_MEASURED || age >= settings.track_wait;
        }
        let gops = Gops::measure(units(), clock);
        let frame = frame_rate_milli(&stamps, clock, source.codec.frame_rate_milli()).map(frame_duration);
        let settled = frame.is_some_and(|frame| gops.settled(frame)) && stamps.len() >= FRAMES_MEASURED;
        settled || gops.span() >= settings.measure
    }

    /// Returns whether there is enough to begin a period of a presentation: a unit of each of the `expected` tracks, of
    /// which the newest lie together, and a keyframe where one is needed. `is_fed` tells the tracks that have a place.
    pub(super) fn period_ready(
        &self,
        lead: PushId,
        publishers: &Publishers,
        is_fed: impl Fn(InputTrack) -> bool,
        expected: usize,
        now: Time,
    ) -> bool {
        let (age, settings) = (self.age(now), &self.settings);
        if self.is_full() || age >= settings.measure {
            return true;
        }
        let Some(publisher) = publishers.get(lead) else { return false };
        if publisher.rendition.is_some() && age < settings.track_wait {
            return false;
        }
        let mut newest = Vec::new();
        for (track, source) in publishers.sources_of(lead).filter(|(track, _)| is_fed(*track)) {
            let Some(last) = self.of(track).last() else { continue };
            newest.push(last.dts);
            if self.need_keyframe && source.codec.is_video() && !self.of(track).any(|unit| unit.keyframe) {
                return false;
            }
        }
        let (least, most) = (newest.iter().min().copied(), newest.iter().max().copied());
        let together =
            least.zip(most).is_some_and(|(least, most)| span(least, most, publisher.clock) <= TRACKS_APART_MAX);
        age >= settings.track_wait || (newest.len() >= expected && together)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::{asc, avcc};
    use super::*;
    use crate::model::{CodecConfig, InputTrack};
    use crate::packager::publishers::tests::{attached, track_unit};

    const LEAD: PushId = PushId(0);
    const VIDEO: InputTrack = InputTrack(0);
    const AUDIO: InputTrack = InputTrack(1);

    pub(in crate::packager) fn empty() -> Preroll {
        let mut preroll = Preroll::new(Settings::default());
        preroll.restart(true);
        preroll
    }

    fn publishers(rendition: Option<&str>, tracks: &[(InputTrack, CodecConfig)]) -> Publishers {
        let mut publishers = attached(&[(LEAD, rendition)]);
        for (track, config) in tracks {
            publishers.configure(*track, config);
        }
        publishers
    }

    /// Pictures at 25 fps in GOPs of a second, and sound beside each.
    fn preroll(frames: i64, sound: bool) -> Preroll {
        let mut preroll = empty();
        for n in 0..frames {
            preroll.push(track_unit(VIDEO, n * 40, n % 25 == 0));
            if sound {
                preroll.push(track_unit(AUDIO, n * 40, true));
            }
        }
        preroll
    }

    #[test]
    fn a_presentation_waits_for_its_tracks_and_gops() {
        let both = publishers(None, &[(VIDEO, avcc()), (AUDIO, asc())]);
        let check = |preroll: &Preroll, publishers: &Publishers, ms: u64| {
            preroll.presentation_ready(LEAD, publishers, Time::from_millis(ms))
        };
        assert!(!check(&preroll(20, true), &both, 500), "no GOP is complete");
        assert!(check(&preroll(51, true), &both, 500), "two equal GOPs");
        assert!(!check(&preroll(51, false), &both, 500), "sound is configured");
        assert!(check(&preroll(51, false), &both, 1_000));
        assert!(check(&preroll(20, true), &both, 5_000), "the longest wait is over");
        let rendition = publishers(Some("720p"), &[(VIDEO, avcc())]);
        assert!(!check(&preroll(51, false), &rendition, 500), "the other renditions are about to come");
    }

    #[test]
    fn a_period_waits_for_its_tracks_and_a_keyframe() {
        let both = publishers(None, &[(VIDEO, avcc()), (AUDIO, asc())]);
        let check = |preroll: &Preroll, expected: usize, ms: u64| {
            preroll.period_ready(LEAD, &both, |_| true, expected, Time::from_millis(ms))
        };
        assert!(check(&preroll(1, true), 2, 10));
        assert!(!check(&preroll(1, false), 2, 10), "sound is expected");
        assert!(check(&preroll(1, false), 2, 1_000));
        let mut without = empty();
        without.push(track_unit(VIDEO, 0, false));
        assert!(!check(&without, 1, 1_000), "no keyframe");
        let mut apart = preroll(1, false);
        apart.push(track_unit(AUDIO, 3_000, true));
        assert!(!check(&apart, 2, 10), "sound has a clock of its own");
    }

    #[test]
    fn what_is_forgotten_counts_no_more() {
        let mut preroll = preroll(10, true);
        assert_eq!((preroll.forget_track(VIDEO), preroll.has(VIDEO), preroll.has(AUDIO)), (10, false, true));
        preroll.forget_push(LEAD);
        assert_eq!((preroll.since(), preroll.len), (None, 0));
    }

    #[test]
    fn a_flood_is_full() {
        let mut preroll = empty();
        for n in 0..PREROLL_UNITS_MAX {
            assert!(!preroll.is_full());
            preroll.push(track_unit(AUDIO, n as i64, true));
        }
        assert!(preroll.is_full());
    }
}
