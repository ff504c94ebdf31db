//! What a push's tracks are called in the record.

use super::packager::TRACKS_MAX;
use super::preroll::Aligned;
use super::publishers::{Pushes, Sources, in_order};
use crate::codec::codec::Codec;
use crate::model::Feed;
use crate::model::InputTrack;
use crate::model::Rendition;

/// The tracks of a life that begins, pictures first, since the record's order is the playlists'; and their names and
/// languages.
pub(crate) fn names(
    lead: Feed,
    pushes: &Pushes,
    sources: &Sources,
    units: &Aligned,
) -> Vec<(InputTrack, String, Option<String>)> {
    let order = in_order(pushes);
    let mut tracks: Vec<InputTrack> =
        sources.keys().copied().filter(|&track| units.raw.iter().any(|raw| raw.track == track)).collect();
    let place = |track: InputTrack| order.iter().position(|&feed| feed == track.feed());
    tracks.sort_by_key(|&track| (!sources[&track].codec.is_video(), track.feed() != lead, place(track), track));
    let mut out: Vec<(InputTrack, String, Option<String>)> = Vec::new();
    for track in tracks {
        let rendition = pushes.get(&track.feed()).and_then(|push| push.rendition.as_ref());
        let Some((kind, language)) = name_for(&sources[&track].codec, rendition) else { continue };
        // Two sounds of one language, one of which may describe the pictures: NAME would be the same of both.
        let told =
            sources[&track].language.clone().filter(|_| rendition.is_none() && !sources[&track].codec.is_video());
        let told = told.filter(|told| !out.iter().any(|(.., language)| language.as_ref() == Some(told)));
        let language = language.or(told);
        let taken = |name: &String| out.iter().any(|(_, taken, _)| taken == name);
        let mut numbered = (1..).map(|n| format!("{kind}{n}"));
        let name = match taken(&kind) {
            true if rendition.is_none() => numbered.find(|name| !taken(name)).unwrap_or_default(),
            _ => kind,
        };
        if !taken(&name) && out.len() < TRACKS_MAX {
            out.push((track, name, language));
        }
    }
    out
}

/// What a track of a push is called, the first of its kind, and its language. A language has no pictures.
pub(crate) fn name_for(codec: &Codec, rendition: Option<&Rendition>) -> Option<(String, Option<String>)> {
    let language = rendition.and_then(Rendition::language);
    match (rendition, codec.is_video()) {
        (Some(_), true) if language.is_some() => None,
        (Some(rendition), true) => Some((rendition.to_string(), None)),
        (Some(rendition), false) if language.is_some() => Some((rendition.to_string(), language.map(str::to_owned))),
        (_, false) => Some(("audio".to_owned(), None)),
        (None, true) => Some(("video".to_owned(), None)),
    }
}

/// Whether a track of this name is one that a push without a rendition makes.
pub(crate) fn is_plain(name: &str) -> bool {
    let mut kinds = ["video", "audio"].into_iter().filter_map(|kind| name.strip_prefix(kind));
    kinds.any(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether a push's track may feed the track of this name.
pub(crate) fn is_for(name: &str, codec: &Codec, rendition: Option<&Rendition>) -> bool {
    match rendition {
        None => is_plain(name),
        Some(_) => name_for(codec, rendition).is_some_and(|(own, _)| own == name),
    }
}
