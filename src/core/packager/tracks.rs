//! The tracks of a presentation, in the order of its record.

use std::time::Duration;

use super::metadata::Waiting;
use super::plan::{FRAME_RATE_MIN, FRAME_RATE_UNKNOWN, Parts};
use super::track::{TrackMuxer, frame_rate};
use super::track_names::{is_for, is_plain, name_for};
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

/// Returns the track to append for a push that comes to a presentation of others, unless the push has a track already.
pub(super) fn further(
    tracks: &[TrackMuxer],
    codec: &Codec,
    rendition: Option<&Rendition>,
    record: &Record,
) -> Option<TrackMuxer> {
    let known = |track: &Track| match rendition {
        Some(_) => is_for(&track.name, codec, rendition),
        // The tracks of a push without a rendition are fixed when it first comes.
        None => is_plain(&track.name),
    };
    let name = name_for(codec, rendition)?;
    let taken = tracks.iter().map(TrackMuxer::track).any(|track| known(track) || track.name == name.0);
    let id = u8::try_from(tracks.len()).ok().filter(|&id| usize::from(id) < TRACKS_MAX && !taken)?;
    let first = tracks.first().map(|muxer| frame_rate(muxer.track()));
    let rate = codec.frame_rate_milli().or(first).unwrap_or(FRAME_RATE_UNKNOWN).max(FRAME_RATE_MIN);
    Some(TrackMuxer::with_codec(TrackId(id), name, codec, (rate, 0), None, record))
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

/// Cuts the first track's parts by whole frames, and the audio beside it at the same times. `part` is the planned length of
/// parts; without it, the length is found from PART-TARGET. Returns the length.
pub(super) fn cut_parts(
    tracks: &mut [TrackMuxer],
    tick: Duration,
    target: Duration,
    part: Option<Duration>,
) -> Option<Duration> {
    let (leader, others) = tracks.split_first()?;
    let audio = others.iter().filter(|muxer| !muxer.is_video()).map(TrackMuxer::frame_duration);
    let parts = Parts::new(leader.nominal_frame(), tick, audio.collect());
    let meant = part.unwrap_or_else(|| parts.meant(target));
    for (i, muxer) in tracks.iter_mut().enumerate() {
        match i == 0 || muxer.is_video() {
            true => muxer.cut_parts(parts.longest(meant).min(target), None),
            false => muxer.cut_parts(target, Some(meant)),
        }
    }
    Some(meant)
}

/// Puts a message into the next part of each fed video track, or of each fed audio track if there is no video.
pub(super) fn carry(tracks: &mut [TrackMuxer], message: &Waiting, media: Duration, is_fed: impl Fn(usize) -> bool) {
    let video = tracks.first().is_some_and(TrackMuxer::is_video);
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
    use crate::model::CodecConfig;
    use crate::packager::cutter::tests::record;

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
    fn a_track_is_appended_once_and_only_while_there_is_room() {
        let rendition = Rendition::parse("360p").expect("a name");
        let (pictures, sound) = (codec(&avcc()), codec(&asc()));
        let begun = tracks(&["720p", "audio"]);
        let further = |tracks: &[TrackMuxer], codec| {
            further(tracks, codec, Some(&rendition), &record()).map(|muxer| muxer.track().clone())
        };
        let appended = further(&begun, &pictures).expect("a place");
        assert_eq!((appended.id, &appended.name[..], appended.bandwidth), (TrackId(2), "360p", 0));
        assert!(further(&begun, &sound).is_none(), "sound is there");
        assert!(further(&tracks(&["720p"; TRACKS_MAX]), &pictures).is_none(), "as many as there may be");
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
