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
/// Most units that wait: 5 s of 16 tracks at 50 a second, or 12 s of 7 tracks.
const PREROLL_UNITS_MAX: usize = 4_096;
/// The longest wait for the first keyframe of pictures that come: x264 makes one each 10 s at 25 fps if nobody asks it for more.
/// Pictures that have none by then never have one (intra refresh).
const KEYFRAME_WAIT: Duration = Duration::from_secs(12);
/// The frames on which a rate is measured if GOPs aren't: 0.4 s at 30 fps.
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
        let waits = [
            settings.track_wait,
            settings.announced_wait,
            settings.measure,
            self.measured(),
            self.longest(),
            KEYFRAME_WAIT,
        ];
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

    /// Returns the units, to repair their timestamps.
    pub(super) fn units_mut(&mut self) -> &mut [InputUnit] {
        &mut self.units
    }

    fn of(&self, track: InputTrack) -> impl Iterator<Item = &InputUnit> {
        self.units.iter().filter(move |unit| unit.track == track)
    }

    /// Returns the longest wait, except for a keyframe.
    fn longest(&self) -> Duration {
        let settings = &self.settings;
        settings.measure.max(settings.track_wait).max(settings.announced_wait) + Duration::from_secs(1)
    }

    /// Returns the longest wait for regular GOPs.
    fn measured(&self) -> Duration {
        self.settings.measure + Duration::from_secs(1)
    }

    fn age(&self, now: Time) -> Duration {
        self.since().map_or(Duration::ZERO, |since| now.since(since))
    }

    /// Returns whether a push has sent a keyframe of video; `None`: it has sent no video.
    fn is_keyed(&self, push: PushId, publishers: &Publishers) -> Option<bool> {
        let is_video = |unit: &&InputUnit| unit.track.push() == push && publishers.is_video(unit.track);
        self.units.iter().filter(is_video).map(|unit| unit.keyframe).reduce(|any, keyframe| any || keyframe)
    }

    /// Returns whether there is enough to begin a presentation: all its tracks, and its GOPs.
    pub(super) fn presentation_ready(&self, lead: PushId, publishers: &Publishers, now: Time) -> bool {
        let (age, settings) = (self.age(now), &self.settings);
        let keyed = self.is_keyed(lead, publishers);
        let most = if keyed.is_some() { KEYFRAME_WAIT } else { self.longest() };
        if self.is_full() || age >= most {
            return true;
        }
        let Some(publisher) = publishers.get(lead).filter(|_| keyed != Some(false)) else { return false };
        // The other renditions are about to come, and pictures have to be there before sound can be cut.
        let wait = if keyed.is_some() { settings.track_wait } else { settings.measure };
        if publisher.rendition.is_some() && age < wait {
            return false;
        }
        let mut tracks = publishers.sources_of(lead);
        let has_audio = tracks.any(|(track, source)| !source.codec.is_video() && self.has(track));
        for (there, announced, unsaid) in [
            // Pictures would be measured as long.
            (keyed.is_some(), publisher.announced.video, settings.measure),
            (has_audio, publisher.announced.audio, settings.track_wait),
        ] {
            let wait = match announced {
                Some(true) => settings.announced_wait,
                Some(false) => Duration::ZERO,
                None => unsaid,
            };
            if age < wait && !there {
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
        let enough = stamps.len() >= FRAMES_MEASURED;
        if settings.segment.is_some() {
            return enough || age >= settings.track_wait;
        }
        let gops = Gops::measure(units(), clock);
        let frame = frame_rate_milli(&stamps, clock, source.codec.frame_rate_milli()).map(frame_duration);
        let settled = frame.is_some_and(|frame| gops.settled(frame));
        enough && (settled || age >= self.measured()) || gops.span() >= settings.measure
    }

    /// Returns whether there is enough to begin a period of a presentation: a unit of each of the `expected` tracks, of
    /// which the newest lie together, and a keyframe if there is video. Segments may last `longest`.
    pub(super) fn period_ready(
        &self,
        lead: PushId,
        publishers: &Publishers,
        expected: usize,
        longest: Duration,
        now: Time,
    ) -> bool {
        let (age, settings) = (self.age(now), &self.settings);
        if self.is_full() {
            return true;
        }
        let Some(publisher) = publishers.get(lead) else { return false };
        if publisher.rendition.is_some() && age < settings.track_wait {
            return false;
        }
        // A source that returns in the middle of a GOP has audio at once, and its keyframe up to a GOP later.
        let keyed = self.is_keyed(lead, publishers);
        let tracks = || publishers.sources_of(lead);
        let comes = publisher.announced.video == Some(true) || tracks().any(|(_, source)| source.codec.is_video());
        let long = longest * 2 > settings.announced_wait;
        let wait = if long { KEYFRAME_WAIT } else { settings.announced_wait };
        if self.need_keyframe && age < wait && !keyed.unwrap_or(!comes) {
            return false;
        }
        let newest: Vec<i64> = tracks().filter_map(|(track, _)| Some(self.of(track).last()?.dts)).collect();
        let heard = tracks().any(|(track, source)| !source.codec.is_video() && self.has(track));
        let all = heard || publisher.announced.audio != Some(true);
        let (least, most) = (newest.iter().min().copied(), newest.iter().max().copied());
        let together =
            least.zip(most).is_some_and(|(least, most)| span(least, most, publisher.clock) <= TRACKS_APART_MAX);
        age >= settings.track_wait || (newest.len() >= expected.max(tracks().count()) && all && together)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::{asc, avcc};
    use super::*;
    use crate::model::{CodecConfig, InputTrack};
    use crate::packager::publishers::tests::{announcing, attached, track_unit};

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
        assert!(check(&preroll(20, true), &both, 6_000), "the longest wait is over");
        assert!(!check(&preroll(2, true), &both, 6_000), "a rate can't be measured");
        let rendition = publishers(Some("720p"), &[(VIDEO, avcc())]);
        assert!(!check(&preroll(51, false), &rendition, 500), "the other renditions are about to come");
    }

    #[test]
    fn a_period_waits_for_its_tracks_and_a_keyframe() {
        let both = publishers(None, &[(VIDEO, avcc()), (AUDIO, asc())]);
        let check = |preroll: &Preroll, publishers: &Publishers, seconds: u64, ms: u64| {
            preroll.period_ready(LEAD, publishers, 2, Duration::from_secs(seconds), Time::from_millis(ms))
        };
        assert!(check(&preroll(1, true), &both, 2, 10));
        assert!(!check(&preroll(1, false), &both, 2, 10), "sound is expected");
        assert!(check(&preroll(1, false), &both, 2, 1_000));
        let mut without = empty();
        without.push(track_unit(VIDEO, 0, false));
        assert!(!check(&without, &both, 2, 4_900) && check(&without, &both, 2, 5_000), "no keyframe");
        assert!(!check(&without, &both, 6, 11_900), "segments are long, and so may GOPs be");
        without.restart(false);
        without.push(track_unit(VIDEO, 0, false));
        assert!(check(&without, &both, 2, 1_000), "it goes on in mid-GOP");
        let mut apart = preroll(1, false);
        apart.push(track_unit(AUDIO, 3_000, true));
        assert!(!check(&apart, &both, 2, 10), "sound has a clock of its own");
    }

    #[test]
    fn sound_waits_for_pictures_that_come() {
        let mut sound = empty();
        sound.push(track_unit(AUDIO, 0, true));
        let waits = |video: Option<bool>, tracks: &[(InputTrack, CodecConfig)]| {
            let mut publishers = Publishers::default();
            publishers.attach(LEAD, announcing(video)).expect("the first");
            tracks.iter().for_each(|(track, config)| drop(publishers.configure(*track, config)));
            let ready = |presentation: bool, ms: u64| match presentation {
                true => sound.presentation_ready(LEAD, &publishers, Time::from_millis(ms)),
                false => sound.period_ready(LEAD, &publishers, 1, Duration::from_secs(2), Time::from_millis(ms)),
            };
            [true, false].map(|presentation| (0..70).find(|n| ready(presentation, n * 100)).map(|n| n * 100))
        };
        let audio = (AUDIO, asc());
        assert_eq!(waits(Some(true), std::slice::from_ref(&audio)), [Some(5_000), Some(5_000)]);
        assert_eq!(waits(None, &[(VIDEO, avcc()), audio.clone()]), [Some(4_000), Some(5_000)]);
        assert_eq!(waits(None, std::slice::from_ref(&audio)), [Some(4_000), Some(0)]);
        assert_eq!(waits(Some(false), &[audio]), [Some(0), Some(0)]);
    }

    #[test]
    fn pictures_wait_for_their_keyframe() {
        let both = publishers(None, &[(VIDEO, avcc()), (AUDIO, asc())]);
        let mut preroll = empty();
        for n in 0..300 {
            preroll.push(track_unit(VIDEO, n * 40, false));
            preroll.push(track_unit(AUDIO, n * 40, true));
        }
        let check = |preroll: &Preroll, ms: u64| preroll.presentation_ready(LEAD, &both, Time::from_millis(ms));
        assert!(!check(&preroll, 11_900) && check(&preroll, 12_000), "intra refresh");
        for n in 300..312 {
            assert!(!check(&preroll, 11_900));
            preroll.push(track_unit(VIDEO, n * 40, n == 300));
        }
        assert!(check(&preroll, 11_900));
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
