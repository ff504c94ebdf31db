//! A session's state: its tracks, where each has its place, and what its requests have left for one another.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::path::Object;
use super::playout::{LaneId, Playout};
use super::session::Over;
use crate::live::Rendition;
use crate::media::bmff::Reader;
use crate::media::ts::Demuxer;
use crate::media::{Announced, CodecConfig, InputTrack};
use crate::units::Time;

/// A track by who sends it: the name of its objects, and its number in them.
pub(super) type Key = (String, u32);

/// What a track is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Kind {
    pub video: bool,
    pub language: Option<String>,
}

#[derive(Debug)]
pub(super) struct Track {
    pub(super) key: Key,
    pub(super) kind: Kind,
    pub(super) lane: LaneId,
    /// Which claim feeds it, and as what; `None` where there is no place for it.
    pub(super) place: Option<(usize, InputTrack)>,
    /// Something is missing before what comes next.
    pub(super) damaged: bool,
    /// The step between its two newest units.
    pub(super) step: i64,
    /// Its last segment has come.
    pub(super) ended: bool,
    /// Its newest headers, for a claim that comes later.
    pub(super) config: Option<CodecConfig>,
}

/// A transport stream's demuxer between two of its segments.
#[derive(Debug)]
pub(super) struct Segments {
    pub demuxer: Box<Demuxer>,
    pub announced: Option<Announced>,
}

/// What requests have left for one another.
#[derive(Default)]
pub(super) struct State {
    pub(super) playout: Playout,
    pub(super) tracks: Vec<Track>,
    /// What the claims are renditions of the stream as.
    pub(super) claims: Vec<Option<Rendition>>,
    /// Readers that know an init segment, by its object.
    pub(super) inits: BTreeMap<Object, Reader>,
    pub(super) demuxers: BTreeMap<String, Segments>,
    pub(super) senders: Vec<(IpAddr, blake3::Hash)>,
    pub(super) open: usize,
    pub(super) heard: Time,
    pub(super) over: Option<Over>,
    pub(super) closed: bool,
}

impl State {
    /// A reader that knows the init segment that an object belongs to, and what their track is called. `only`: the one
    /// init segment of its folder, whatever its name, since no other comes.
    pub(super) fn init_for(&self, object: &Object, only: bool) -> Option<(Reader, String)> {
        let by = |name: String| self.inits.iter().find(|(init, _)| init.track(false) == name);
        let near = || {
            let mut beside = self.inits.iter().filter(|(init, _)| init.folder == object.folder);
            let first = beside.next();
            // `init.mp4` needn't say more.
            first.filter(|(init, _)| beside.next().is_none() && (only || init.track(false) == init.folder))
        };
        let exact = self.inits.get_key_value(object);
        let found = exact.or_else(|| by(object.track(false))).or_else(|| by(object.track(true))).or_else(near);
        found.map(|(init, reader)| (reader.again(), init.track(false)))
    }

    /// A place for a track: the first pictures and the first sound are the push itself, others its renditions.
    pub(super) fn place(&mut self, own: Option<&Rendition>, key: &Key, kind: &Kind) -> Option<(usize, InputTrack)> {
        let of_first = |video: bool| {
            let mut tracks = self.tracks.iter().filter(move |track| track.kind.video == video);
            tracks.any(|track| track.place.is_some_and(|(claim, _)| claim == 0))
        };
        if !of_first(kind.video) {
            return Some((0, InputTrack(u8::from(!kind.video))));
        }
        if own.is_some() {
            return None;
        }
        let beside = |track: &&Track| track.key.0 == key.0 && track.place.is_some_and(|(claim, _)| claim == 0);
        let name = match (&kind.language, kind.video) {
            // Sound of the same file that nothing else tells apart.
            (None, false) if self.tracks.iter().any(|track| beside(&track)) => {
                let taken = |n: u8| self.tracks.iter().any(|track| track.place == Some((0, InputTrack(n))));
                return (2..16).find(|&n| !taken(n)).map(|n| (0, InputTrack(n)));
            }
            (_, true) => {
                // Named by its encoder, as far as that is a name.
                let plain: String = key.0.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
                let number = key.1;
                let names = [plain.clone(), format!("{plain}_{number}"), format!("video_{number}")];
                names.into_iter().filter_map(|name| Rendition::parse(&name).ok()).find(|name| self.is_free(name))
            }
            (Some(language), false) => {
                let others = self.tracks.iter().filter(|track| !track.kind.video && track.place.is_some());
                let same = others.clone().any(|track| track.kind.language.as_ref() == Some(language));
                let name = Rendition::parse(&format!("{}{language}", Rendition::LANGUAGE)).ok();
                name.filter(|name| !same && self.is_free(name))
            }
            (None, false) => None,
        }?;
        self.claims.push(Some(name));
        Some((self.claims.len() - 1, InputTrack(u8::from(!kind.video))))
    }

    /// The headers of a claim's tracks, and their languages where its name doesn't say them.
    pub(super) fn configs(&self, claim: usize) -> Vec<(InputTrack, Option<String>, CodecConfig)> {
        let plain = self.claims.get(claim).is_some_and(Option::is_none);
        let config = |track: &Track| {
            let (_, input) = track.place.filter(|(of, _)| *of == claim)?;
            Some((input, track.kind.language.clone().filter(|_| plain), track.config.clone()?))
        };
        self.tracks.iter().filter_map(config).collect()
    }

    pub(super) fn is_free(&self, name: &Rendition) -> bool {
        !self.claims.contains(&Some(name.clone()))
    }

    /// What is known of a claim's tracks. Of segments more may come.
    pub(super) fn announced(&self, claim: usize, whole: bool) -> Announced {
        let of = |video: bool| {
            let mut tracks = self.tracks.iter().filter(|track| track.place.is_some_and(|(of, _)| of == claim));
            let there = tracks.any(|track| track.kind.video == video);
            if there { Some(true) } else { (whole || claim > 0).then_some(false) }
        };
        Announced { video: of(true), audio: of(false) }
    }
}
