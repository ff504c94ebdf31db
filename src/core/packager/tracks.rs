//! The tracks of a presentation, in the order of its record.

use std::time::Duration;

use super::metadata::Waiting;
use super::plan::{FRAME_RATE_MIN, FRAME_RATE_UNKNOWN, Parts};
use super::publishers::Source;
use super::track::{TrackMuxer, frame_rate};
use super::track_names::{is_for, is_plain, name_for, numbered};
use crate::cmaf::EventMessage;
use crate::codec::codec::Codec;
use crate::model::limits::TRACKS_MAX;
use crate::model::{Announced, Record, Rendition, Track, TrackId};

/// BANDWIDTH is published again when it has grown by more than a tenth.
const RATE_STEP: u64 = 10;

/// Returns the tracks as the record has them.
pub(super) fn list(tracks: &[TrackMuxer]) -> Vec<Track> {
    tracks.iter().map(|muxer| muxer.track().clone()).collect()
}

/// Returns the places that a push's track may feed.
pub(super) fn places<'a>(
    tracks: &'a [TrackMuxer],
    codec: &'a Codec,
    rendition: Option<&'a Rendition>,
) -> impl Iterator<Item = usize> + 'a {
    let fits = move |track: &Track| track.is_video() == codec.is_video() && is_for(&track.name, codec, rendition);
    tracks.iter().enumerate().filter(move |(_, muxer)| fits(muxer.track())).map(|(track, _)| track)
}

/// Returns the track to append for a source that no place is free for; a rendition has one of each name.
pub(super) fn further(
    tracks: &[TrackMuxer],
    source: &Source,
    rendition: Option<&Rendition>,
    record: &Record,
) -> Option<TrackMuxer> {
    let own = || tracks.iter().map(TrackMuxer::track);
    let (kind, language) = name_for(&source.codec, rendition)?;
    let free = |name: &String| !own().any(|track| track.name == *name);
    let name = match rendition {
        Some(_) => Some(kind).filter(free),
        None => numbered(&kind, free),
    };
    let stated = source.language.clone().filter(|_| rendition.is_none() && !source.codec.is_video());
    let stated = stated.filter(|stated| !own().any(|track| track.language.as_ref() == Some(stated)));
    let id = u8::try_from(tracks.len()).ok().filter(|&id| usize::from(id) < TRACKS_MAX)?;
    let first = own().find(|track| track.is_video()).map(frame_rate);
    let rate = source.codec.frame_rate_milli().or(first).unwrap_or(FRAME_RATE_UNKNOWN).max(FRAME_RATE_MIN);
    Some(TrackMuxer::with_codec(TrackId(id), (name?, language.or(stated)), &source.codec, (rate, 0), None, record))
}

/// Returns the track whose units decide where parts end: the first video track, else the first one.
pub(super) fn leader(tracks: &[TrackMuxer]) -> Option<usize> {
    let video = tracks.iter().position(TrackMuxer::is_video);
    video.or_else(|| (!tracks.is_empty()).then_some(0))
}

/// Returns how many tracks a push will send, by its announcement.
pub(super) fn expected(tracks: &[TrackMuxer], announced: Announced, rendition: Option<&Rendition>) -> usize {
    let comes = |track: &&Track| match track.is_video() {
        true => announced.video != Some(false),
        false => announced.audio != Some(false),
    };
    let own = |track: &&Track| match rendition {
        None => is_plain(&track.name),
        Some(name) => track.name == name.as_str(),
    };
    tracks.iter().map(TrackMuxer::track).filter(own).filter(comes).count()
}

/// Cuts the leader's parts by whole frames, and the audio beside it at the same times. `part` is the planned length of
/// parts; without it, the length is found from PART-TARGET. Returns the length.
pub(super) fn cut_parts(
    tracks: &mut [TrackMuxer],
    tick: Duration,
    target: Duration,
    part: Option<Duration>,
) -> Option<Duration> {
    let leader = leader(tracks)?;
    let beside = tracks.iter().enumerate().filter(|(i, muxer)| *i != leader && !muxer.is_video());
    let audio = beside.map(|(_, muxer)| muxer.frame_duration()).collect();
    let parts = Parts::new(tracks[leader].nominal_frame(), tick, audio);
    let meant = part.unwrap_or_else(|| parts.meant(target));
    for (i, muxer) in tracks.iter_mut().enumerate() {
        match i == leader || muxer.is_video() {
            true => muxer.cut_parts(parts.longest(meant).min(target), None),
            false => muxer.cut_parts(target, Some(meant)),
        }
    }
    Some(meant)
}

/// Puts a message into the next part of each fed video track, or of each fed audio track if there is no video.
pub(super) fn carry(tracks: &mut [TrackMuxer], message: &Waiting, media: Duration, is_fed: impl Fn(usize) -> bool) {
    let video = tracks.iter().enumerate().any(|(track, muxer)| muxer.is_video() && is_fed(track));
    for (_, muxer) in tracks.iter_mut().enumerate().filter(|(track, muxer)| muxer.is_video() == video && is_fed(*track))
    {
        let scale = muxer.track().timescale;
        muxer.announce(EventMessage {
            scheme: message.scheme,
            id: message.id(media),
            time: scale.ticks(media),
            duration: message.duration.map(|lasts| u32::try_from(scale.ticks(lasts)).unwrap_or(u32::MAX)),
            data: message.data.clone(),
        });
    }
}

/// Returns whether a peak bit rate has grown notably over the published one.
pub(super) fn have_grown(tracks: &[TrackMuxer], said: &[Track]) -> bool {
    said.iter().zip(tracks).any(|(said, muxer)| {
        let (said, found) = (u64::from(said.bandwidth), u64::from(muxer.track().bandwidth));
        found > said + said / RATE_STEP
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{asc, avcc};
    use super::*;
    use crate::model::{CodecConfig, InputTrack, PushId};
    use crate::packager::cutter::tests::record;
    use crate::packager::publishers::tests::attached;

    const PICTURES: InputTrack = InputTrack(0);
    const SOUND: InputTrack = InputTrack(1);

    fn codec(config: &CodecConfig) -> Codec {
        Codec::parse(config).expect("headers")
    }

    /// Tracks of these names: those of sound begin with `audio`.
    fn tracks(names: &[&str]) -> Vec<TrackMuxer> {
        let muxer = |(id, name): (u8, &&str)| {
            let codec = codec(&if name.starts_with("audio") { asc() } else { avcc() });
            let name = ((*name).to_owned(), None);
            TrackMuxer::with_codec(TrackId(id), name, &codec, (30_000, 8_000), None, &record())
        };
        (0..).zip(names).map(muxer).collect()
    }

    #[test]
    fn a_push_sends_the_tracks_of_its_name_that_it_announces() {
        let tracks = tracks(&["video", "720p", "audio"]);
        let rendition = Rendition::parse("720p").expect("a name");
        let said = |video, audio| Announced { video, audio };
        assert_eq!(expected(&tracks, said(None, None), None), 2);
        assert_eq!(expected(&tracks, said(None, Some(false)), None), 1);
        assert_eq!(expected(&tracks, said(None, None), Some(&rendition)), 1);
        assert_eq!(expected(&tracks, said(Some(false), None), Some(&rendition)), 0);
        assert_eq!(places(&tracks, &codec(&avcc()), Some(&rendition)).collect::<Vec<_>>(), [1]);
        assert_eq!(places(&tracks, &codec(&asc()), Some(&rendition)).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_track_is_appended_only_while_there_is_room() {
        let mut publishers = attached(&[(PushId(0), None)]);
        publishers.language(SOUND, "de".to_owned());
        publishers.configure(PICTURES, &avcc());
        publishers.configure(SOUND, &asc());
        let further = |names: &[&str], input, rendition: Option<&str>| {
            let rendition = rendition.map(|name| Rendition::parse(name).expect(name));
            let source = publishers.source(input).expect("configured");
            let muxer = further(&tracks(names), source, rendition.as_ref(), &record())?;
            let Track { id, name, language, bandwidth, .. } = muxer.track().clone();
            assert_eq!(bandwidth, 0);
            Some((id.0, name, language))
        };
        let named = |id, name: &str, language: Option<&str>| Some((id, name.to_owned(), language.map(str::to_owned)));
        assert_eq!(further(&["720p", "audio"], PICTURES, Some("360p")), named(2, "360p", None));
        assert_eq!(further(&["720p", "audio"], SOUND, Some("360p")), None, "sound is there");
        assert_eq!(further(&["video", "audio"], SOUND, None), named(2, "audio1", Some("de")));
        assert_eq!(further(&["audio"], PICTURES, None), named(1, "video", None));
        assert_eq!(further(&["video"; TRACKS_MAX], PICTURES, None), None, "as many as there may be");
    }

    #[test]
    fn pictures_lead_wherever_they_are() {
        assert_eq!(
            [&["audio", "video"][..], &["audio"], &[]].map(|names| leader(&tracks(names))),
            [Some(1), Some(0), None]
        );
        let (tick, target) = (Duration::from_millis(1), Duration::from_millis(214));
        let part = cut_parts(&mut tracks(&["audio", "video"]), tick, target, None);
        assert_eq!(part, Some(Duration::from_secs_f64(1.0 / 30.0) * 6));
    }

    #[test]
    fn parts_are_whole_frames_of_the_first_track() {
        let tick = Duration::from_millis(1);
        let target = Duration::from_millis(214);
        let part = cut_parts(&mut tracks(&["video", "audio"]), tick, target, None);
        assert_eq!(part, Some(Duration::from_secs_f64(1.0 / 30.0) * 6), "found from PART-TARGET");
        let set = Some(Duration::from_millis(100));
        assert_eq!(cut_parts(&mut tracks(&["video", "audio"]), tick, target, set), set);
        assert_eq!(cut_parts(&mut [], tick, target, None), None);
    }

    #[test]
    fn a_bit_rate_that_hardly_grows_is_not_told() {
        let tracks = tracks(&["video"]);
        let said = |bandwidth| [Track { bandwidth, ..tracks[0].track().clone() }];
        assert!(have_grown(&tracks, &said(7_000)));
        assert!(!have_grown(&tracks, &said(7_500)));
    }
}
