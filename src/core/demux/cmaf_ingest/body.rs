//! A request's bytes to units: which container it is, and its tracks' queues (pure).
//!
//! The caller's contract: after each [`Body::push`] and [`Body::finish`], failed or not, it drains [`Body::poll`] until
//! `None`, and has each outcome [taken](Tracks::take) before it asks for the next.

use std::collections::VecDeque;

use super::jitter_buffer::LaneId;
use super::path::Object;
use super::tracks::{Came, TrackTraits, Tracks};
use crate::demux::bmff::{BmffError, BmffReader, Handler, Movie};
use crate::demux::ts::{Demuxer, End};
use crate::demux::{bmff, ts};
use crate::model::{InputTrack, Scheme, TimedMessage};
use crate::packager::Input;

/// By so many bytes every container is known: a box's header, and two transport packets.
const BOX_LEN: usize = 12;
const PACKETS_LEN: usize = 189;

/// Whether a body that begins so can be taken; `None` if more has to come. `all`: no more comes.
pub fn begins(first: &[u8], all: bool) -> Option<bool> {
    match first.first() {
        Some(&SYNC) if first.len() >= PACKETS_LEN => Some(first[PACKETS_LEN - 1] == SYNC),
        Some(&SYNC) => all.then_some(first.len() == PACKETS_LEN - 1),
        _ if first.len() >= BOX_LEN => Some(bmff::begins(first)),
        _ => all.then_some(false),
    }
}

/// Whether it is a media segment, which says nothing without its init segment.
pub fn needs_init(first: &[u8]) -> bool {
    first.first() != Some(&SYNC) && !matches!(first.get(4..8), Some(b"ftyp" | b"moov"))
}

/// Every transport packet begins so (ISO 13818-1, 2.4.3.3).
const SYNC: u8 = 0x47;

/// Why a body isn't taken on.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// As it is, or since its init segment hasn't come.
    #[error("{0}")]
    Bmff(#[from] BmffError),
    /// The first bytes are those of no format that is taken.
    #[error("neither MPEG-TS nor MP4 begins there")]
    Unknown,
    /// The container says why none of its tracks can be used.
    #[error("{0}")]
    NoTrack(String),
    /// The push has no place for another track.
    #[error("more than {0} tracks")]
    Tracks(usize),
}

/// A request's body.
pub struct Body {
    /// `None` where the request is the whole push.
    object: Option<Object>,
    content: Content,
    /// What its track is called, as its objects' names go.
    name: String,
    /// The queues of tracks, by track_ID or by the demuxer's track.
    lanes: Vec<(u32, Option<LaneId>)>,
    last: bool,
    /// The decode time of the newest unit of a transport stream's pictures, or of its sound if there are none.
    at: Option<u64>,
    /// An init segment has come, and nobody knows of it.
    begins: bool,
    /// What is said of each queue once all of it has come.
    finally: Option<fn(LaneId) -> Came>,
    finished: bool,
    out: VecDeque<Came>,
}

enum Content {
    Bmff(Box<BmffReader>),
    Ts(Box<Demuxer>),
    /// Others go on with it.
    Kept,
}

impl Body {
    /// A body that begins so, as far as [`begins`] wants; `known`: the reader and the track of a media segment's
    /// [init segment](Tracks::init_for).
    pub fn new(
        object: Option<Object>,
        first: &[u8],
        known: Option<(BmffReader, String)>,
        limits: bmff::Limits,
        tracks: &mut Tracks,
    ) -> Self {
        let is_ts = first.first() == Some(&SYNC);
        let (content, name) = match (&object, known) {
            (Some(object), _) if is_ts => {
                let name = object.track(true);
                (Content::Ts(tracks.take_demuxer(&name)), name)
            }
            (None, _) if is_ts => (Content::Ts(Box::new(Demuxer::new(None))), String::new()),
            (_, Some((reader, name))) => (Content::Bmff(Box::new(reader)), name),
            // An init segment is said again even if it is the same.
            (object, None) => {
                let name = object.as_ref().map_or(String::new(), |object| object.track(false));
                (Content::Bmff(Box::new(BmffReader::new(limits))), name)
            }
        };
        let (lanes, out) = (Vec::new(), VecDeque::new());
        let (last, begins, finished) = (false, false, false);
        Body { object, content, name, lanes, last, at: None, begins, finally: None, finished, out }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// What is wrong with them; nothing more is taken.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        match &mut self.content {
            Content::Bmff(reader) => reader.push(bytes)?,
            Content::Ts(demuxer) => demuxer.push(bytes),
            Content::Kept => {}
        }
        Ok(())
    }

    /// The body is over; `whole`: as it should be, and not cut off.
    ///
    /// # Errors
    /// It was cut short.
    pub fn finish(&mut self, whole: bool) -> Result<(), Refused> {
        self.finished = true;
        match &mut self.content {
            Content::Bmff(reader) => {
                let finished = reader.finish();
                if finished.is_err() {
                    self.finally = Some(Came::Damaged);
                } else if self.last && whole {
                    self.finally = Some(Came::Ended);
                }
                finished?;
            }
            Content::Ts(demuxer) if whole => demuxer.finish(End::Said),
            Content::Ts(demuxer) => demuxer.lost(),
            Content::Kept => {}
        }
        Ok(())
    }

    /// What has come of it.
    ///
    /// # Errors
    /// Why nothing more of it is taken.
    pub fn poll(&mut self, tracks: &mut Tracks) -> Result<Option<Came>, Refused> {
        loop {
            if let Some(came) = self.out.pop_front() {
                return Ok(Some(came));
            }
            match &mut self.content {
                Content::Bmff(reader) => {
                    let Some(output) = reader.poll_output() else { return Ok(self.drained(tracks)) };
                    let movie = reader.movie().cloned();
                    self.bmff(output, movie.as_deref(), tracks)?;
                }
                Content::Ts(demuxer) => {
                    let Some(output) = demuxer.poll_output() else { return Ok(self.drained(tracks)) };
                    self.ts(output, tracks)?;
                }
                Content::Kept => return Ok(None),
            }
        }
    }

    /// All that has come so far is in its queues.
    fn drained(&mut self, tracks: &mut Tracks) -> Option<Came> {
        match (&self.content, &self.object) {
            // What is in others' requests may follow its headers.
            (Content::Bmff(reader), Some(object)) if std::mem::take(&mut self.begins) => {
                tracks.keep_init(object, reader);
                return Some(Came::Init);
            }
            (Content::Ts(_), Some(_)) if self.finished => {
                if let Content::Ts(demuxer) = std::mem::replace(&mut self.content, Content::Kept) {
                    tracks.keep_demuxer(std::mem::take(&mut self.name), demuxer);
                }
            }
            _ => {}
        }
        if let Some(finally) = self.finally.take() {
            self.each_lane(finally);
        }
        self.out.pop_front()
    }

    fn each_lane(&mut self, came: fn(LaneId) -> Came) {
        self.out.extend(self.lanes.iter().filter_map(|(_, lane)| *lane).map(came));
    }

    fn bmff(&mut self, output: bmff::Output, movie: Option<&Movie>, tracks: &mut Tracks) -> Result<(), Refused> {
        match output {
            bmff::Output::Movie(movie) => {
                if let Some(object) = &self.object {
                    self.name = object.track(false);
                }
                self.begins = true;
                self.lanes = self.lanes_of(&movie, tracks)?;
            }
            bmff::Output::Config { track, config } => {
                if let Some(lane) = self.lane(track, movie, tracks)? {
                    self.out.push_back(Came::Config(lane, config));
                }
            }
            bmff::Output::Unit { track, unit } => {
                if let Some(lane) = self.lane(track, movie, tracks)? {
                    self.out.push_back(Came::Unit(lane, bmff::CLOCK, unit));
                }
            }
            bmff::Output::Message { track, at, message } => {
                let lane = self.lane(track, movie, tracks)?;
                self.out.push_back(Came::Message(lane, bmff::CLOCK, Some(at), message));
            }
            bmff::Output::Ignored { why } => self.out.push_back(Came::Ignored(why)),
            bmff::Output::Reference(wall) => self.out.push_back(Came::Reference(wall)),
            bmff::Output::Last => self.last = true,
            bmff::Output::Dropped { track, why } => {
                self.out.push_back(Came::Dropped(track, why));
                let lane = self.lane(track, movie, tracks)?;
                self.out.extend(lane.map(Came::Damaged));
            }
            bmff::Output::Missing { samples } => {
                let note = format!(
                    "a fragment was cut, {samples} frames are missing; its pictures go on with the next key picture"
                );
                self.out.push_back(Came::Note(note));
                self.each_lane(Came::Damaged);
            }
        }
        Ok(())
    }

    /// The queue of a track, which its init segment may have opened in another request.
    fn lane(&mut self, id: u32, movie: Option<&Movie>, tracks: &mut Tracks) -> Result<Option<LaneId>, Refused> {
        if self.lanes.is_empty()
            && let Some(movie) = movie
        {
            self.lanes = self.lanes_of(movie, tracks)?;
        }
        Ok(self.lanes.iter().find(|(track, _)| *track == id).and_then(|(_, lane)| *lane))
    }

    fn lanes_of(&mut self, movie: &Movie, tracks: &mut Tracks) -> Result<Vec<(u32, Option<LaneId>)>, Refused> {
        let (mut lanes, mut refused) = (Vec::new(), Vec::new());
        for track in &movie.tracks {
            let video = track.handler == Handler::Video;
            match &track.config {
                Ok(_) if video || track.handler == Handler::Audio => {
                    let kind = TrackTraits { video, language: track.language.clone() };
                    lanes.push((track.id, self.open(track.id, &kind, tracks)?));
                }
                // Its messages go beside the pictures.
                Ok(_) if track.is_events() => lanes.push((track.id, None)),
                Ok(_) => {}
                Err(why) => refused.push(format!("track {}: {why}", track.id)),
            }
        }
        let refused = refused.join("; ");
        if lanes.is_empty() {
            let why =
                if refused.is_empty() { "it has no track of pictures, sound or messages".to_owned() } else { refused };
            return Err(Refused::NoTrack(why));
        }
        if !refused.is_empty() {
            self.out.push_back(Came::Note(format!("not all is taken: {refused}")));
        }
        Ok(lanes)
    }

    fn open(&mut self, id: u32, kind: &TrackTraits, tracks: &mut Tracks) -> Result<Option<LaneId>, Refused> {
        let (lane, nowhere) = tracks.lane(&(self.name.clone(), id), kind).map_err(Refused::Tracks)?;
        self.out.extend(nowhere.map(Came::Note));
        Ok(lane)
    }

    fn ts(&mut self, output: ts::Output, tracks: &mut Tracks) -> Result<(), Refused> {
        match output {
            ts::Output::Program { announced, .. } => {
                // All of them are waited for.
                for (track, there) in [(ts::VIDEO, announced.video), (ts::AUDIO, announced.audio)] {
                    if there == Some(true) {
                        self.ts_lane(track, tracks)?;
                    }
                }
            }
            ts::Output::Input(Input::Language { track, language }) => {
                if let Some(lane) = self.ts_lane(track, tracks)? {
                    tracks.language(lane, language);
                }
            }
            ts::Output::Input(Input::Config { track, config }) => {
                if let Some(lane) = self.ts_lane(track, tracks)? {
                    self.out.push_back(Came::Config(lane, config));
                }
            }
            ts::Output::Input(Input::Message(message)) => self.ts_message(message),
            ts::Output::Input(Input::Unit(unit)) => {
                if let Some(lane) = self.ts_lane(unit.track, tracks)? {
                    if unit.track == ts::VIDEO || !self.has_pictures() {
                        self.at = Some(unit.dts);
                    }
                    self.out.push_back(Came::Unit(lane, ts::CLOCK, unit));
                }
            }
            ts::Output::Input(_) => {}
            ts::Output::Diagnostic(event @ ts::TsDiagnostic::Nothing { .. }) => {
                return Err(Refused::NoTrack(event.to_string()));
            }
            ts::Output::Diagnostic(event) => self.out.push_back(Came::Note(format!("MPEG-TS: {event}"))),
        }
        Ok(())
    }

    /// An ID3 tag is where it is meant; a splice is announced, and goes with what it stands beside.
    fn ts_message(&mut self, message: TimedMessage) {
        let at = match message.scheme {
            Scheme::Id3 => message.pts.or(self.at),
            Scheme::Scte35 => self.at,
        };
        let of = |track: InputTrack| self.lanes.iter().find(|(known, _)| *known == u32::from(track.0));
        let lane = of(ts::VIDEO).or_else(|| of(ts::AUDIO)).and_then(|(_, lane)| *lane);
        self.out.push_back(Came::Message(lane, ts::CLOCK, at, message));
    }

    fn has_pictures(&self) -> bool {
        self.lanes.iter().any(|(track, lane)| *track == u32::from(ts::VIDEO.0) && lane.is_some())
    }

    fn ts_lane(&mut self, track: InputTrack, tracks: &mut Tracks) -> Result<Option<LaneId>, Refused> {
        let id = u32::from(track.0);
        if let Some((_, lane)) = self.lanes.iter().find(|(known, _)| *known == id) {
            return Ok(*lane);
        }
        let kind = TrackTraits { video: track == ts::VIDEO, language: None };
        let lane = self.open(id, &kind, tracks)?;
        self.lanes.push((id, lane));
        Ok(lane)
    }
}
