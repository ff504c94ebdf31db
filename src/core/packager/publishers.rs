//! The pushes that are attached, and their tracks.

use std::collections::BTreeMap;

use super::diagnostic::{Refusal, Unusable};
use super::unit::{InputUnit, REORDER_MAX};
use crate::codec::codec::{Codec, CodecError};
use crate::model::id::is_language;
use crate::model::input_clock::unwrap;
use crate::model::{
    AccessUnit, Announced, Clocks, CodecConfig, Epoch, InputClock, InputTrack, PushId, Rendition, UNIT_LEN_MAX,
};

/// The most input tracks of all pushes of a stream.
const INPUTS_MAX: usize = 48;
/// The longest language tag, in bytes (RFC 5646, 4.4.1).
const LANGUAGE_LEN_MAX: usize = 35;

/// A push that is attached.
#[derive(Clone, Debug)]
pub(super) struct Publisher {
    pub rendition: Option<Rendition>,
    pub epoch: Epoch,
    pub clock: InputClock,
    pub announced: Announced,
}

impl Publisher {
    /// Returns whether the push is sound in one language, and nothing else.
    pub(super) fn is_language(&self) -> bool {
        self.rendition.as_ref().is_some_and(|rendition| rendition.language().is_some())
    }
}

/// A track of a push.
#[derive(Debug)]
pub(super) struct Source {
    pub codec: Codec,
    /// The language, if the input states it.
    pub language: Option<String>,
    /// The timestamp of its newest unit, unwrapped.
    last: Option<i64>,
    /// The presentation has no place for it.
    pub ignored: bool,
    /// The ticks by which its units were shown before they are decoded, at most.
    early: i64,
}

/// The effect of a track's headers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Configured {
    Unchanged,
    New,
    Changed,
    /// The track can't be taken.
    Ignored,
    Bad(CodecError),
}

#[derive(Debug, Default)]
pub(super) struct Publishers {
    /// In the order of attachment.
    publishers: Vec<(PushId, Publisher)>,
    sources: BTreeMap<InputTrack, Source>,
    /// Languages of tracks whose headers may come later.
    languages: BTreeMap<InputTrack, String>,
}

impl Publishers {
    /// Attaches a push. A push is refused if the units of its timestamps differ from the others'.
    pub(super) fn attach(&mut self, push: PushId, publisher: Publisher) -> Result<(), Refusal> {
        let other = self.publishers.iter().any(|(_, other)| other.clock != publisher.clock);
        if other || push.0 >= PushId::COUNT_MAX {
            return Err(Refusal::NoPlace);
        }
        self.publishers.retain(|(other, _)| *other != push);
        self.publishers.push((push, publisher));
        Ok(())
    }

    /// Forgets a push and its tracks.
    pub(super) fn detach(&mut self, push: PushId) {
        self.publishers.retain(|(other, _)| *other != push);
        self.sources.retain(|track, _| track.push() != push);
        self.languages.retain(|track, _| track.push() != push);
    }

    /// Notes a track's language; anything but a language tag is ignored.
    pub(super) fn language(&mut self, track: InputTrack, language: String) {
        if language.len() <= LANGUAGE_LEN_MAX && is_language(&language) {
            self.languages.insert(track, language);
        }
    }

    /// Takes a track's headers.
    pub(super) fn configure(&mut self, track: InputTrack, config: &CodecConfig) -> Configured {
        let Some(publisher) = self.get(track.push()) else { return Configured::Unchanged };
        let codec = match Codec::parse(config) {
            Ok(codec) => codec,
            Err(error) => return Configured::Bad(error),
        };
        // A push of one language has no pictures: a presentation of pictures alone would have no track.
        if codec.is_video() && publisher.is_language() {
            return Configured::Ignored;
        }
        let full = self.sources.len() >= INPUTS_MAX;
        match self.sources.get_mut(&track) {
            // "Compare parameter sets byte by byte before calling them changed" (SRS #4695).
            Some(source) if source.codec == codec => Configured::Unchanged,
            Some(source) if source.codec.is_video() != codec.is_video() => Configured::Ignored,
            Some(source) => {
                source.codec = codec;
                Configured::Changed
            }
            None if full => Configured::Ignored,
            None => {
                let language = self.languages.get(&track).cloned();
                self.sources.insert(track, Source { codec, language, last: None, ignored: false, early: 0 });
                Configured::New
            }
        }
    }

    /// Ignores a track until its push returns.
    pub(super) fn ignore(&mut self, track: InputTrack) {
        if let Some(source) = self.sources.get_mut(&track) {
            source.ignored = true;
        }
    }

    /// Checks an access unit, brings it into its track's form, and unwraps its timestamp.
    pub(super) fn unit(&mut self, clocks: Clocks, unit: AccessUnit) -> Result<InputUnit, Unusable> {
        let track = unit.track;
        let newest = self.sources.values().filter_map(|source| source.last).max();
        let clock = self.get(track.push()).map(|publisher| publisher.clock);
        let (clock, source) = clock.zip(self.sources.get_mut(&track)).ok_or(Unusable::NoConfig)?;
        if unit.data.is_empty() {
            return Err(Unusable::Empty);
        }
        if unit.data.len() > UNIT_LEN_MAX {
            return Err(Unusable::TooLong);
        }
        let (data, keyframe) = source.codec.sample(unit.data, unit.keyframe);
        if data.is_empty() {
            return Err(Unusable::Empty);
        }
        let dts = unwrap(unit.dts, clock, source.last.or(newest));
        source.last = Some(dts);
        Ok(InputUnit {
            track,
            dts,
            shifted: 0,
            lowered: 0,
            composition_offset: unit.composition_offset,
            keyframe: keyframe || !source.codec.is_video(),
            data,
            arrived: clocks.wall,
            now: clocks.now,
        })
    }

    /// Lowers the decode times of units, so that none is shown before it is decoded, as NVENC and QSV send some: players move
    /// such pictures against the sound. `learn`: these units say by how much; else the last ones that did. At most
    /// [`REORDER_MAX`].
    pub(super) fn lower(&mut self, units: &mut [InputUnit], learn: bool) {
        if learn {
            for unit in units.iter() {
                let most = self.get(unit.track.push()).map_or(0, |publisher| publisher.clock.scale.ticks(REORDER_MAX));
                let Some(source) = self.sources.get_mut(&unit.track) else { continue };
                let early = unit.dts.saturating_add(unit.lowered).saturating_sub(unit.shown());
                source.early = source.early.max(early.min(i64::try_from(most).unwrap_or(i64::MAX)));
            }
        }
        for unit in units {
            unit.lower(self.sources.get(&unit.track).map_or(0, |source| source.early));
        }
    }

    pub(super) fn get(&self, push: PushId) -> Option<&Publisher> {
        self.publishers.iter().find(|(other, _)| *other == push).map(|(_, publisher)| publisher)
    }

    /// Returns how many pushes are attached.
    pub(super) fn count(&self) -> usize {
        self.publishers.len()
    }

    pub(super) fn source(&self, track: InputTrack) -> Option<&Source> {
        self.sources.get(&track)
    }

    /// Returns the tracks of all pushes, by their numbers.
    pub(super) fn sources(&self) -> impl Iterator<Item = (InputTrack, &Source)> {
        self.sources.iter().map(|(&track, source)| (track, source))
    }

    /// Returns the tracks of one push.
    pub(super) fn sources_of(&self, push: PushId) -> impl Iterator<Item = (InputTrack, &Source)> {
        self.sources().filter(move |(track, _)| track.push() == push)
    }

    /// Returns the rendition that a push carries.
    pub(super) fn rendition(&self, push: PushId) -> Option<&Rendition> {
        self.get(push)?.rendition.as_ref()
    }

    pub(super) fn is_video(&self, track: InputTrack) -> bool {
        self.source(track).is_some_and(|source| source.codec.is_video())
    }

    /// Returns the newest timestamp of a push, unwrapped.
    pub(super) fn newest(&self, push: PushId) -> Option<i64> {
        self.sources_of(push).filter_map(|(_, source)| source.last).max()
    }

    /// Returns the attached pushes, in the order of attachment.
    pub(super) fn in_order(&self) -> Vec<PushId> {
        self.publishers.iter().map(|(push, _)| *push).collect()
    }

    /// Returns the leading push, which is measured and whose keyframes begin the period: the first with pictures, else the
    /// first with any unit.
    pub(super) fn lead(&self, came: impl Fn(InputTrack) -> bool) -> Option<PushId> {
        let pushes = self.in_order();
        let first = |video: bool| {
            pushes.iter().copied().find(|&push| {
                let language = self.get(push).is_some_and(Publisher::is_language);
                let fits = |source: &Source| !video || source.codec.is_video() && !language;
                self.sources_of(push).any(|(track, source)| fits(source) && came(track))
            })
        };
        first(true).or_else(|| first(false))
    }

    /// Returns the track by which a push is aligned, and whether that has pictures: sound counts if a push has no pictures.
    pub(super) fn guide(&self, push: PushId) -> Option<(InputTrack, bool)> {
        let language = self.get(push).is_some_and(Publisher::is_language);
        let first = |video: bool| self.sources_of(push).find(|(_, source)| source.codec.is_video() == video);
        let video = if language { None } else { first(true) };
        video.map(|(track, _)| (track, true)).or_else(|| first(false).map(|(track, _)| (track, false)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;

    use super::super::tests::{AVCC_720P30, OTHER_AVCC};
    use super::*;
    use crate::model::NodeId;
    use crate::model::time::{Time, Timescale, UnixTime};

    /// Pushes that are attached in this order, with one clock of milliseconds.
    pub(crate) fn attached(pushes: &[(PushId, Option<&str>)]) -> Publishers {
        let mut publishers = Publishers::default();
        for &(push, rendition) in pushes {
            publishers.attach(push, publisher(rendition)).expect("one clock");
        }
        publishers
    }

    /// A push without a rendition that announces video and audio.
    pub(crate) fn announcing(video: Option<bool>) -> Publisher {
        Publisher { announced: Announced { video, audio: Some(true) }, ..publisher(None) }
    }

    /// A unit that came when its decode time says.
    pub(crate) fn track_unit(track: InputTrack, dts: i64, keyframe: bool) -> InputUnit {
        let now = Time::from_millis(dts.unsigned_abs());
        InputUnit {
            track,
            dts,
            shifted: 0,
            lowered: 0,
            composition_offset: 0,
            keyframe,
            data: Bytes::from(dts.to_string()),
            arrived: UnixTime::from_micros(1_000_000_000 + now.as_micros()),
            now,
        }
    }

    const VIDEO: InputTrack = InputTrack(0);
    const AUDIO: InputTrack = InputTrack(1);
    const CLOCKS: Clocks = Clocks { now: Time::ZERO, wall: UnixTime::from_micros(7) };

    fn publisher(rendition: Option<&str>) -> Publisher {
        let rendition = rendition.map(|name| Rendition::parse(name).expect(name));
        let clock = InputClock { scale: Timescale::MILLIS, wrap_bits: 32 };
        let epoch = Epoch { counter: 1, node: NodeId(1) };
        Publisher { rendition, epoch, clock, announced: Announced::default() }
    }

    fn avc(record: &'static [u8]) -> CodecConfig {
        CodecConfig::Avc(Bytes::from_static(record))
    }

    fn aac() -> CodecConfig {
        CodecConfig::Aac(Bytes::from_static(&[0x11, 0x90]))
    }

    fn unit(track: InputTrack, dts: u64, len: usize) -> AccessUnit {
        AccessUnit { track, dts, composition_offset: 0, keyframe: false, data: vec![1; len].into() }
    }

    #[test]
    fn headers_are_new_once_and_changed_only_by_other_bytes() {
        let mut publishers = Publishers::default();
        assert_eq!(publishers.configure(VIDEO, &avc(AVCC_720P30)), Configured::Unchanged, "nobody's");
        publishers.attach(PushId(0), publisher(None)).expect("the first");
        assert_eq!(publishers.configure(VIDEO, &avc(AVCC_720P30)), Configured::New);
        assert_eq!(publishers.configure(VIDEO, &avc(AVCC_720P30)), Configured::Unchanged);
        assert_eq!(publishers.configure(VIDEO, &avc(OTHER_AVCC)), Configured::Changed);
        assert_eq!(publishers.configure(VIDEO, &aac()), Configured::Ignored, "pictures become no sound");
        assert!(matches!(publishers.configure(VIDEO, &avc(&[1, 2])), Configured::Bad(_)));
        publishers.attach(PushId(1), publisher(Some("audio_de"))).expect("the same clock");
        let pictures = InputTrack::of(PushId(1), VIDEO);
        assert_eq!(publishers.configure(pictures, &avc(AVCC_720P30)), Configured::Ignored, "of a language");
    }

    #[test]
    fn a_push_with_another_clock_is_refused() {
        let mut publishers = Publishers::default();
        publishers.attach(PushId(0), publisher(Some("720p"))).expect("the first");
        let mut other = publisher(Some("360p"));
        other.clock.wrap_bits = 33;
        assert_eq!(publishers.attach(PushId(1), other), Err(Refusal::NoPlace));
        assert_eq!(publishers.attach(PushId(PushId::COUNT_MAX), publisher(None)), Err(Refusal::NoPlace));
        assert_eq!(publishers.count(), 1);
    }

    #[test]
    fn units_are_checked_and_their_timestamps_unwrapped() {
        let mut publishers = Publishers::default();
        publishers.attach(PushId(0), publisher(None)).expect("the first");
        let check = |publishers: &mut Publishers, unit: AccessUnit| publishers.unit(CLOCKS, unit).map(|unit| unit.dts);
        assert_eq!(check(&mut publishers, unit(AUDIO, 0, 4)), Err(Unusable::NoConfig));
        publishers.configure(AUDIO, &aac());
        assert_eq!(check(&mut publishers, unit(AUDIO, 0, 0)), Err(Unusable::Empty));
        assert_eq!(check(&mut publishers, unit(AUDIO, 0, UNIT_LEN_MAX + 1)), Err(Unusable::TooLong));
        assert_eq!(check(&mut publishers, unit(AUDIO, (1 << 32) - 5, 4)), Ok((1 << 32) - 5));
        assert_eq!(check(&mut publishers, unit(AUDIO, 16, 4)), Ok((1 << 32) + 16), "across the wrap");
        // A track that comes later counts from the others' timestamps.
        publishers.configure(VIDEO, &avc(AVCC_720P30));
        assert_eq!(check(&mut publishers, unit(VIDEO, 10, 4)), Ok((1 << 32) + 10));
        assert_eq!(publishers.newest(PushId(0)), Some((1 << 32) + 16));
    }

    #[test]
    fn the_first_with_pictures_leads() {
        let mut publishers = Publishers::default();
        let track = |push, track| InputTrack::of(PushId(push), track);
        for (push, name) in [(2, "audio_de"), (1, "720p"), (0, "360p")] {
            publishers.attach(PushId(push), publisher(Some(name))).expect(name);
            publishers.configure(track(push, AUDIO), &aac());
            publishers.configure(track(push, VIDEO), &avc(AVCC_720P30));
        }
        assert_eq!(publishers.in_order(), [PushId(2), PushId(1), PushId(0)]);
        assert_eq!(publishers.lead(|_| true), Some(PushId(1)));
        assert_eq!(publishers.lead(|came| came == track(2, AUDIO)), Some(PushId(2)), "sound alone");
        assert_eq!(publishers.lead(|_| false), None);
        assert_eq!(publishers.guide(PushId(1)), Some((track(1, VIDEO), true)));
        assert_eq!(publishers.guide(PushId(2)), Some((track(2, AUDIO), false)));
        publishers.detach(PushId(1));
        assert_eq!((publishers.lead(|_| true), publishers.guide(PushId(1))), (Some(PushId(0)), None));
    }

    #[test]
    fn a_language_is_forgotten_with_its_push() {
        let mut publishers = Publishers::default();
        let told = |publishers: &Publishers| publishers.source(AUDIO).and_then(|source| source.language.clone());
        publishers.attach(PushId(0), publisher(None)).expect("the first");
        publishers.language(AUDIO, "de".to_owned());
        publishers.language(VIDEO, "no language tag".to_owned());
        publishers.configure(AUDIO, &aac());
        assert_eq!(told(&publishers).as_deref(), Some("de"));
        publishers.detach(PushId(0));
        publishers.attach(PushId(0), publisher(None)).expect("the next");
        publishers.configure(AUDIO, &aac());
        assert_eq!(told(&publishers), None);
    }
}
