//! The names of tracks in the record.

use super::publishers::Publishers;
use super::unit::InputUnit;
use crate::codec::codec::Codec;
use crate::model::limits::TRACKS_MAX;
use crate::model::{InputTrack, PushId, Rendition};

/// A track of a presentation that begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Named {
    pub input: InputTrack,
    pub name: String,
    pub language: Option<String>,
}

/// Names the tracks of a presentation that begins, pictures first, since the record's order is the playlists'.
pub(super) fn names(lead: PushId, publishers: &Publishers, units: &[InputUnit]) -> Vec<Named> {
    let order = publishers.in_order();
    let mut tracks: Vec<InputTrack> = publishers.sources().map(|(track, _)| track).collect();
    tracks.retain(|&track| units.iter().any(|unit| unit.track == track));
    let place = |track: InputTrack| order.iter().position(|&push| push == track.push());
    tracks.sort_by_key(|&track| (!publishers.is_video(track), track.push() != lead, place(track), track));
    let mut out: Vec<Named> = Vec::new();
    for input in tracks {
        let Some(source) = publishers.source(input) else { continue };
        let rendition = publishers.rendition(input.push());
        let Some((kind, language)) = name_for(&source.codec, rendition) else { continue };
        // Two audio tracks may have one language, if one is an audio description. Both would have the same NAME.
        let stated = source.language.clone().filter(|_| rendition.is_none() && !source.codec.is_video());
        let stated = stated.filter(|stated| !out.iter().any(|track| track.language.as_ref() == Some(stated)));
        let language = language.or(stated);
        let free = |name: &String| !out.iter().any(|track| track.name == *name);
        let name = match rendition {
            Some(_) => Some(kind).filter(free),
            None => numbered(&kind, free),
        };
        if let Some(name) = name.filter(|_| out.len() < TRACKS_MAX) {
            out.push(Named { input, name, language });
        }
    }
    out
}

/// Returns the first free name of a kind: `audio`, `audio1`, `audio2`.
pub(super) fn numbered(kind: &str, free: impl Fn(&String) -> bool) -> Option<String> {
    let more = (1..=TRACKS_MAX).map(|n| format!("{kind}{n}"));
    std::iter::once(kind.to_owned()).chain(more).find(free)
}

/// Returns the name of a push's first track of a kind, and its language. A push of one language has no pictures.
pub(super) fn name_for(codec: &Codec, rendition: Option<&Rendition>) -> Option<(String, Option<String>)> {
    let language = rendition.and_then(Rendition::language);
    match (rendition, codec.is_video()) {
        (Some(_), true) if language.is_some() => None,
        (Some(rendition), true) => Some((rendition.to_string(), None)),
        (Some(rendition), false) if language.is_some() => Some((rendition.to_string(), language.map(str::to_owned))),
        (_, false) => Some(("audio".to_owned(), None)),
        (None, true) => Some(("video".to_owned(), None)),
    }
}

/// Returns whether this is the name of a track of a push without a rendition.
pub(super) fn is_plain(name: &str) -> bool {
    let mut kinds = ["video", "audio"].into_iter().filter_map(|kind| name.strip_prefix(kind));
    kinds.any(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
}

/// Returns whether a push's track may feed the track of this name.
pub(super) fn is_for(name: &str, codec: &Codec, rendition: Option<&Rendition>) -> bool {
    match rendition {
        None => is_plain(name),
        Some(_) => name_for(codec, rendition).is_some_and(|(own, _)| own == name),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{asc, avcc};
    use super::*;
    use crate::packager::publishers::tests::{attached, track_unit};

    const VIDEO: InputTrack = InputTrack(0);
    const AUDIO: InputTrack = InputTrack(1);

    /// The names of all tracks, each of which has had a unit.
    fn named(lead: PushId, pushes: &[(PushId, Option<&str>)], tracks: &[InputTrack]) -> Vec<(String, Option<String>)> {
        let mut publishers = attached(pushes);
        publishers.language(InputTrack(3), "de".to_owned());
        for &track in tracks {
            publishers.configure(track, &if track.0 & 1 == 0 { avcc() } else { asc() });
        }
        let units: Vec<InputUnit> = tracks.iter().map(|&track| track_unit(track, 0, true)).collect();
        names(lead, &publishers, &units).into_iter().map(|track| (track.name, track.language)).collect()
    }

    fn plain(names: &[&str]) -> Vec<(String, Option<String>)> {
        names.iter().map(|&name| (name.to_owned(), None)).collect()
    }

    #[test]
    fn tracks_of_one_push_are_numbered_and_pictures_come_first() {
        let tracks = [AUDIO, VIDEO, InputTrack(5), InputTrack(2)];
        assert_eq!(named(PushId(0), &[(PushId(0), None)], &tracks), plain(&["video", "video1", "audio", "audio1"]));
        let told = named(PushId(0), &[(PushId(0), None)], &[AUDIO, InputTrack(3)]);
        assert_eq!(told[1], ("audio1".to_owned(), Some("de".to_owned())));
    }

    #[test]
    fn renditions_are_named_by_their_push_and_share_their_sound() {
        let pushes = [(PushId(1), Some("360p")), (PushId(0), Some("720p")), (PushId(2), Some("audio_de"))];
        let tracks = [0, 1, 2].map(|push| [VIDEO, AUDIO].map(|track| InputTrack::of(PushId(push), track))).concat();
        let named = named(PushId(0), &pushes, &tracks);
        let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["720p", "360p", "audio", "audio_de"]);
        assert_eq!(named[3].1.as_deref(), Some("de"));
    }

    #[test]
    fn a_push_feeds_the_tracks_of_its_name() {
        let rendition = Rendition::parse("720p").expect("a name");
        let mut publishers = attached(&[(PushId(0), None)]);
        publishers.configure(VIDEO, &avcc());
        let codec = &publishers.source(VIDEO).expect("configured").codec;
        assert!(is_for("video1", codec, None) && !is_for("720p", codec, None));
        assert!(is_for("720p", codec, Some(&rendition)) && !is_for("video", codec, Some(&rendition)));
        assert!(is_plain("audio12") && !is_plain("audio_de"));
    }
}
