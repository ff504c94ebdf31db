//! The tracks of a push: their places in its sessions, the order of their units, and state that its requests share (pure).
//!
//! ```text
//!  body --BodyOutput--> Tracks::take --> queue --> Tracks::pop --> Tracks::inputs --> session
//!                  room? damaged?           when it is due
//! ```

use std::collections::BTreeMap;

use super::jitter_buffer::{Item, JitterBuffer, Pushed, QueueId};
use super::path::Object;
use crate::demux::bmff::{self, BmffReader};
use crate::demux::ts::Demuxer;
use crate::model::input_clock::unwrap;
use crate::model::time::{Time, UnixTime};
use crate::model::{AccessUnit, Announced, CodecConfig, InputClock, InputTrack, Rendition, TimedMessage};
use crate::packager::Input;

/// The most objects whose headers are kept: as many as there may be tracks, each under two names.
const OBJECTS_MAX: usize = 64;

/// The name of a track's objects, and the track's number in them.
pub type TrackKey = (String, u32);

/// The kind and language of a track.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrackTraits {
    /// Whether it has pictures; otherwise it has sound.
    pub video: bool,
    /// The language of its sound, if the container states it.
    pub language: Option<String>,
}

#[derive(Debug)]
struct PushTrack {
    key: TrackKey,
    kind: TrackTraits,
    queue: QueueId,
    /// The index of its session in the push, and its track there; `None` if there is no place for it.
    place: Option<(usize, InputTrack)>,
    /// Units are missing before the next one.
    damaged: bool,
    /// The step between its two newest units.
    step: i64,
    /// The track's last segment has come.
    ended: bool,
    /// The track's newest headers, for a session that begins later.
    config: Option<CodecConfig>,
    /// A note that the track has a clock of its own was logged.
    noted_apart: bool,
}

/// An output of a request's body.
#[derive(Debug)]
pub enum BodyOutput {
    /// Headers of the units that follow in a track.
    Config(QueueId, CodecConfig),
    /// A unit, on its input's clock.
    Unit(QueueId, InputClock, AccessUnit),
    /// A message on its input's clock, and the decode time of the units that it came with; `None` for the newest ones.
    /// A message without a track goes with the push's own pictures, or with any track if they don't come.
    Message(Option<QueueId>, InputClock, Option<u64>, TimedMessage),
    /// Units of a track are missing before the next one.
    Damaged(QueueId),
    /// A track's last segment has come.
    Ended(QueueId),
    /// An init segment was kept, and media segments that wait for it can be read.
    Init,
    /// The encoder's wallclock.
    Reference(UnixTime),
    /// A frame of this track_ID was dropped; the text says why.
    Dropped(u32, &'static str),
    /// A message was dropped; the text says why.
    Ignored(String),
    /// A note for the log.
    Note(String),
}

/// The tracks of a push.
#[derive(Debug, Default)]
pub struct Tracks {
    buffer: JitterBuffer,
    tracks: Vec<PushTrack>,
    tracks_max: usize,
    /// The rendition of each session, the push itself first.
    sessions: Vec<Option<Rendition>>,
    /// Readers that have read an init segment, by its object.
    inits: BTreeMap<Object, BmffReader>,
    /// The demuxers of transport streams, between two of their segments.
    demuxers: BTreeMap<String, Box<Demuxer>>,
    /// Notes for the log.
    notes: Vec<String>,
    noted_loss: bool,
}

impl Tracks {
    /// Returns the tracks of a push, which may have `tracks_max` of them and is the stream's `rendition`.
    pub fn new(rendition: Option<Rendition>, tracks_max: usize) -> Self {
        Tracks { tracks_max, sessions: vec![rendition], ..Tracks::default() }
    }

    /// Returns the queue of a track; `None` if there is no place for it, which is noted the first time.
    ///
    /// # Errors
    /// The limit, if the push has that many tracks already.
    pub fn queue(&mut self, key: &TrackKey, kind: &TrackTraits) -> Result<Option<QueueId>, usize> {
        if let Some(track) = self.tracks.iter().find(|track| track.key == *key && track.kind.video == kind.video) {
            return Ok(track.place.map(|_| track.queue));
        }
        if self.tracks.len() >= self.tracks_max {
            return Err(self.tracks_max);
        }
        let place = self.place(key, kind);
        let queue = self.buffer.open();
        match place {
            Some((0, _)) if kind.video => self.buffer.lead(queue),
            Some(_) => {}
            None => {
                self.buffer.close(queue);
                let (name, language) = (&key.0, kind.language.as_deref().unwrap_or("no language"));
                self.notes.push(format!(
                    "no place for track {name:?}, {language}: sound beside other sound needs a language, and a rendition \
                     has one track of a kind"
                ));
            }
        }
        let (key, kind) = (key.clone(), kind.clone());
        let (damaged, ended, noted_apart) = (false, false, false);
        self.tracks.push(PushTrack { key, kind, queue, place, damaged, step: 0, ended, config: None, noted_apart });
        Ok(place.map(|_| queue))
    }

    /// Sets a track's language, before its headers come.
    pub fn language(&mut self, queue: QueueId, language: String) {
        if let Some(track) = self.tracks.get_mut(queue.0) {
            track.kind.language = Some(language);
        }
    }

    /// Takes an output of a body.
    ///
    /// # Errors
    /// The output, if its queue has no room at the moment.
    pub fn take(&mut self, now: Time, came: BodyOutput) -> Result<Pushed, BodyOutput> {
        match came {
            BodyOutput::Config(queue, _) | BodyOutput::Unit(queue, ..) if !self.buffer.has_room(queue) => Err(came),
            BodyOutput::Config(queue, config) => Ok(self.push(now, queue, Item::Config(config))),
            BodyOutput::Unit(queue, clock, unit) => {
                let dts = unwrap(unit.dts, clock, self.buffer.newest(Some(queue)));
                let last = self.buffer.last(queue);
                let Some(track) = self.tracks.get_mut(queue.0) else { return Ok(Pushed::Useless) };
                let step = last.map_or(0, |last| dts.saturating_sub(last));
                if track.damaged && step > 0 {
                    // The missing units were sent again, or the next unit doesn't need them.
                    if track.kind.video && !unit.keyframe && step > track.step * 2 {
                        return Ok(Pushed::Useless);
                    }
                    track.damaged = false;
                }
                if step > 0 {
                    track.step = step;
                }
                Ok(self.push(now, queue, Item::Unit(dts, unit)))
            }
            BodyOutput::Message(queue, clock, at, message) => {
                let newest = self.buffer.newest(queue);
                let at = at.map(|at| unwrap(at, clock, newest)).or(newest);
                // A message without a time, before any unit, can't be placed.
                let Some(pts) = message.pts.map(|pts| unwrap(pts, clock, at)).or(at) else {
                    return Ok(Pushed::Useless);
                };
                Ok(self.buffer.message(queue, now, at.unwrap_or(pts), pts, message))
            }
            BodyOutput::Damaged(queue) => {
                if let Some(track) = self.tracks.get_mut(queue.0) {
                    track.damaged = true;
                }
                Ok(Pushed::Useless)
            }
            BodyOutput::Ended(queue) => {
                self.buffer.close(queue);
                if let Some(track) = self.tracks.get_mut(queue.0) {
                    track.ended = true;
                }
                Ok(Pushed::Taken)
            }
            // The other outputs are for the log.
            _ => Ok(Pushed::Taken),
        }
    }

    fn push(&mut self, now: Time, queue: QueueId, item: Item) -> Pushed {
        if let Some(track) = self.tracks.get_mut(queue.0) {
            track.ended = false;
        }
        let pushed = self.buffer.push(queue, now, item);
        if let Some(track) = self.tracks.get_mut(queue.0).filter(|_| pushed == Pushed::Apart)
            && !std::mem::replace(&mut track.noted_apart, true)
        {
            let (name, by) = (&track.key, self.buffer.shift(queue).as_secs());
            self.notes.push(format!("track {name:?} has timestamps {by} s from the others': aligned by its arrival"));
        }
        pushed
    }

    /// Returns the number of messages lost since the last report, and the notes for the log.
    pub fn report(&mut self) -> (u64, Vec<String>) {
        let lost = self.buffer.lost();
        if lost > 0 && !std::mem::replace(&mut self.noted_loss, true) {
            let why = "timed metadata is lost: there was too much of it, or no media of the same time";
            self.notes.push(why.to_owned());
        }
        (lost, std::mem::take(&mut self.notes))
    }

    /// Returns the next item that is due.
    pub fn pop(&mut self, now: Time) -> Option<(QueueId, Item)> {
        self.buffer.pop(now)
    }

    /// Returns when to call [`pop`](Self::pop) again.
    pub fn due(&self, now: Time) -> Option<Time> {
        self.buffer.due(now)
    }

    /// Returns whether the last segment of each track has come.
    pub fn have_ended(&self) -> bool {
        !self.tracks.is_empty() && self.tracks.iter().all(|track| track.ended || track.place.is_none())
    }

    /// Returns the session that takes an item, and its inputs.
    pub fn inputs(&mut self, queue: QueueId, item: Item) -> Option<(usize, Vec<Input>)> {
        let held = self.tracks.get_mut(queue.0)?;
        let (session, track) = held.place?;
        let inputs = match item {
            Item::Config(config) => {
                held.config = Some(config.clone());
                // The name of a rendition contains its language.
                let plain = self.sessions.get(session).is_some_and(Option::is_none);
                headers(track, held.kind.language.clone().filter(|_| plain), config).collect()
            }
            Item::Unit(dts, unit) => vec![Input::Unit(AccessUnit { track, dts: bmff::CLOCK.wrapped(dts), ..unit })],
            Item::Message(pts, message) => {
                vec![Input::Message(TimedMessage { track, pts: Some(bmff::CLOCK.wrapped(pts)), ..message })]
            }
        };
        Some((session, inputs))
    }

    /// Returns the rendition of a session.
    pub fn rendition(&self, session: usize) -> Option<&Rendition> {
        self.sessions.get(session)?.as_ref()
    }

    /// Returns the first inputs of a session: its announced tracks, and their headers so far. `whole` says that the push
    /// is one request; otherwise more tracks may come.
    pub fn beginning(&self, session: usize, whole: bool) -> (Announced, Vec<Input>) {
        let plain = self.sessions.get(session).is_some_and(Option::is_none);
        let config = |track: &PushTrack| {
            let (_, input) = track.place.filter(|(of, _)| *of == session)?;
            Some(headers(input, track.kind.language.clone().filter(|_| plain), track.config.clone()?))
        };
        (self.announced(session, whole), self.tracks.iter().filter_map(config).flatten().collect())
    }

    /// Keeps a reader that has read an object's init segment.
    pub fn keep_init(&mut self, object: &Object, reader: &BmffReader) {
        if self.inits.len() < OBJECTS_MAX || self.inits.contains_key(object) {
            self.inits.insert(object.clone(), reader.again());
        }
    }

    /// Returns the demuxer of a transport stream that comes in segments.
    pub fn take_demuxer(&mut self, track: &str) -> Box<Demuxer> {
        self.demuxers.remove(track).unwrap_or_else(|| Box::new(Demuxer::new(None)))
    }

    /// Keeps the demuxer of a transport stream for the stream's next segment.
    pub fn keep_demuxer(&mut self, track: String, demuxer: Box<Demuxer>) {
        if self.demuxers.len() < OBJECTS_MAX {
            self.demuxers.insert(track, demuxer);
        }
    }

    /// Returns a reader that has read the init segment of an object, and the name of their track. `only` takes the one
    /// init segment of its folder, whatever its name, since no other comes.
    pub fn init_for(&self, object: &Object, only: bool) -> Option<(BmffReader, String)> {
        let by = |name: String| self.inits.iter().find(|(init, _)| init.track(false) == name);
        let near = || {
            let mut beside = self.inits.iter().filter(|(init, _)| init.folder == object.folder);
            let first = beside.next();
            // `init.mp4` needs no track's name.
            first.filter(|(init, _)| beside.next().is_none() && (only || init.track(false) == init.folder))
        };
        let exact = self.inits.get_key_value(object);
        let found = exact.or_else(|| by(object.track(false))).or_else(|| by(object.track(true))).or_else(near);
        found.map(|(init, reader)| (reader.again(), init.track(false)))
    }

    /// Returns a place for a track. The first pictures and the first sound are the push itself; other tracks are its
    /// renditions.
    fn place(&mut self, key: &TrackKey, kind: &TrackTraits) -> Option<(usize, InputTrack)> {
        let of_first = |video: bool| {
            let mut tracks = self.tracks.iter().filter(move |track| track.kind.video == video);
            tracks.any(|track| track.place.is_some_and(|(session, _)| session == 0))
        };
        if !of_first(kind.video) {
            return Some((0, InputTrack(u8::from(!kind.video))));
        }
        if self.rendition(0).is_some() {
            return None;
        }
        let beside = |track: &&PushTrack| track.key.0 == key.0 && track.place.is_some_and(|(session, _)| session == 0);
        let name = match (&kind.language, kind.video) {
            // Another sound of the same file, without a language.
            (None, false) if self.tracks.iter().any(|track| beside(&track)) => {
                let taken = |n: u8| self.tracks.iter().any(|track| track.place == Some((0, InputTrack(n))));
                return (2..16).find(|&n| !taken(n)).map(|n| (0, InputTrack(n)));
            }
            (_, true) => {
                // The encoder's name for the track, if that is a valid name.
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
        self.sessions.push(Some(name));
        Some((self.sessions.len() - 1, InputTrack(u8::from(!kind.video))))
    }

    fn is_free(&self, name: &Rendition) -> bool {
        !self.sessions.contains(&Some(name.clone()))
    }

    /// Returns the announced tracks of a session. More tracks may come in segments.
    fn announced(&self, session: usize, whole: bool) -> Announced {
        let of = |video: bool| {
            let mut tracks = self.tracks.iter().filter(|track| track.place.is_some_and(|(of, _)| of == session));
            let there = tracks.any(|track| track.kind.video == video);
            if there { Some(true) } else { (whole || session > 0).then_some(false) }
        };
        Announced { video: of(true), audio: of(false) }
    }
}

/// Returns the first inputs of a track: its language, and its headers.
fn headers(track: InputTrack, language: Option<String>, config: CodecConfig) -> impl Iterator<Item = Input> {
    let language = language.map(|language| Input::Language { track, language });
    language.into_iter().chain([Input::Config { track, config }])
}
