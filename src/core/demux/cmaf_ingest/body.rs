//! A request's bytes to units: which container it is, and its tracks' queues (pure).
//!
//! The caller's contract: after each [`Body::push`] and [`Body::finish`], failed or not, it drains [`Body::poll`] until
//! `None`, and has each outcome [taken](Tracks::take) before it asks for the next.

use std::collections::{BTreeMap, VecDeque};

use super::jitter_buffer::QueueId;
use super::path::Object;
use super::tracks::{BodyOutput, TrackTraits, Tracks};
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
    queues: BTreeMap<u32, Option<QueueId>>,
    last: bool,
    /// The decode time of the newest unit of a transport stream's pictures, or of its sound if there are none.
    at: Option<u64>,
    /// An init segment has come, and nobody knows of it.
    begins: bool,
    /// What is said of each queue once all of it has come.
    finally: Option<fn(QueueId) -> BodyOutput>,
    finished: bool,
    out: VecDeque<BodyOutput>,
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
        let own = object.as_ref().map_or(String::new(), |object| object.track(is_ts));
        let (content, name) = match known {
            _ if is_ts => (Content::Ts(tracks.take_demuxer(&own)), own),
            Some((reader, name)) => (Content::Bmff(Box::new(reader)), name),
            // An init segment is said again even if it is the same.
            None => (Content::Bmff(Box::new(BmffReader::new(limits))), own),
        };
        let (queues, out) = (BTreeMap::new(), VecDeque::new());
        let (last, begins, finished) = (false, false, false);
        Body { object, content, name, queues, last, at: None, begins, finally: None, finished, out }
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
                    self.finally = Some(BodyOutput::Damaged);
                } else if self.last && whole {
                    self.finally = Some(BodyOutput::Ended);
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
    pub fn poll(&mut self, tracks: &mut Tracks) -> Result<Option<BodyOutput>, Refused> {
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
    fn drained(&mut self, tracks: &mut Tracks) -> Option<BodyOutput> {
        match (&self.content, &self.object) {
            // What is in others' requests may follow its headers.
            (Content::Bmff(reader), Some(object)) if std::mem::take(&mut self.begins) => {
                tracks.keep_init(object, reader);
                return Some(BodyOutput::Init);
            }
            (Content::Ts(_), Some(_)) if self.finished => {
                if let Content::Ts(demuxer) = std::mem::replace(&mut self.content, Content::Kept) {
                    tracks.keep_demuxer(std::mem::take(&mut self.name), demuxer);
                }
            }
            _ => {}
        }
        if let Some(finally) = self.finally.take() {
            self.each_queue(finally);
        }
        self.out.pop_front()
    }

    fn each_queue(&mut self, came: fn(QueueId) -> BodyOutput) {
        self.out.extend(self.queues.values().flatten().copied().map(came));
    }

    fn bmff(&mut self, output: bmff::Output, movie: Option<&Movie>, tracks: &mut Tracks) -> Result<(), Refused> {
        match output {
            bmff::Output::Movie(movie) => {
                if let Some(object) = &self.object {
                    self.name = object.track(false);
                }
                self.begins = true;
                self.queues = self.queues_of(&movie, tracks)?;
            }
            bmff::Output::Config { track, config } => {
                let queue = self.queue(track, movie, tracks)?;
                self.out.extend(queue.map(|queue| BodyOutput::Config(queue, config)));
            }
            bmff::Output::Unit { track, unit } => {
                let queue = self.queue(track, movie, tracks)?;
                self.out.extend(queue.map(|queue| BodyOutput::Unit(queue, bmff::CLOCK, unit)));
            }
            bmff::Output::Message { track, at, message } => {
                let queue = self.queue(track, movie, tracks)?;
                self.out.push_back(BodyOutput::Message(queue, bmff::CLOCK, Some(at), message));
            }
            bmff::Output::Ignored { why } => self.out.push_back(BodyOutput::Ignored(why)),
            bmff::Output::Reference(wall) => self.out.push_back(BodyOutput::Reference(wall)),
            bmff::Output::Last => self.last = true,
            bmff::Output::Dropped { track, why } => {
                self.out.push_back(BodyOutput::Dropped(track, why));
                let queue = self.queue(track, movie, tracks)?;
                self.out.extend(queue.map(BodyOutput::Damaged));
            }
            bmff::Output::Missing { samples } => {
                let note = format!(
                    "a fragment was cut, {samples} frames are missing; its pictures go on with the next key picture"
                );
                self.out.push_back(BodyOutput::Note(note));
                self.each_queue(BodyOutput::Damaged);
            }
        }
        Ok(())
    }

    /// The queue of a track, which its init segment may have opened in another request.
    fn queue(&mut self, id: u32, movie: Option<&Movie>, tracks: &mut Tracks) -> Result<Option<QueueId>, Refused> {
        if self.queues.is_empty()
            && let Some(movie) = movie
        {
            self.queues = self.queues_of(movie, tracks)?;
        }
        Ok(self.queues.get(&id).copied().flatten())
    }

    fn queues_of(&mut self, movie: &Movie, tracks: &mut Tracks) -> Result<BTreeMap<u32, Option<QueueId>>, Refused> {
        let (mut queues, mut refused) = (BTreeMap::new(), Vec::new());
        for track in &movie.tracks {
            let video = track.handler == Handler::Video;
            let queue = match &track.config {
                Ok(_) if video || track.handler == Handler::Audio => {
                    let kind = TrackTraits { video, language: track.language.clone() };
                    self.open(track.id, &kind, tracks)?
                }
                // Event messages go beside the pictures.
                Ok(_) if track.is_events() => None,
                Ok(_) => continue,
                Err(why) => {
                    refused.push(format!("track {}: {why}", track.id));
                    continue;
                }
            };
            queues.entry(track.id).or_insert(queue);
        }
        let refused = refused.join("; ");
        if queues.is_empty() {
            let none = "it has no track of pictures, sound or messages";
            return Err(Refused::NoTrack(if refused.is_empty() { none.to_owned() } else { refused }));
        }
        if !refused.is_empty() {
            self.out.push_back(BodyOutput::Note(format!("not all is taken: {refused}")));
        }
        Ok(queues)
    }

    fn open(&self, id: u32, kind: &TrackTraits, tracks: &mut Tracks) -> Result<Option<QueueId>, Refused> {
        tracks.queue(&(self.name.clone(), id), kind).map_err(Refused::Tracks)
    }

    fn ts(&mut self, output: ts::Output, tracks: &mut Tracks) -> Result<(), Refused> {
        match output {
            ts::Output::Program { announced, .. } => {
                // All of them are waited for.
                for (track, there) in [(ts::VIDEO, announced.video), (ts::AUDIO, announced.audio)] {
                    if there == Some(true) {
                        self.ts_queue(track, tracks)?;
                    }
                }
            }
            ts::Output::Input(Input::Language { track, language }) => {
                if let Some(queue) = self.ts_queue(track, tracks)? {
                    tracks.language(queue, language);
                }
            }
            ts::Output::Input(Input::Config { track, config }) => {
                let queue = self.ts_queue(track, tracks)?;
                self.out.extend(queue.map(|queue| BodyOutput::Config(queue, config)));
            }
            ts::Output::Input(Input::Message(message)) => self.ts_message(message),
            ts::Output::Input(Input::Unit(unit)) => {
                if let Some(queue) = self.ts_queue(unit.track, tracks)? {
                    if unit.track == ts::VIDEO || self.ts_opened(ts::VIDEO).is_none() {
                        self.at = Some(unit.dts);
                    }
                    self.out.push_back(BodyOutput::Unit(queue, ts::CLOCK, unit));
                }
            }
            ts::Output::Input(_) => {}
            ts::Output::Diagnostic(event @ ts::TsDiagnostic::Nothing { .. }) => {
                return Err(Refused::NoTrack(event.to_string()));
            }
            ts::Output::Diagnostic(event) => self.out.push_back(BodyOutput::Note(format!("MPEG-TS: {event}"))),
        }
        Ok(())
    }

    /// An ID3 tag is where it is meant; a splice is announced, and goes with what it stands beside.
    fn ts_message(&mut self, message: TimedMessage) {
        let at = match message.scheme {
            Scheme::Id3 => message.pts.or(self.at),
            Scheme::Scte35 => self.at,
        };
        let queue = self.ts_opened(ts::VIDEO).or_else(|| self.ts_opened(ts::AUDIO));
        self.out.push_back(BodyOutput::Message(queue, ts::CLOCK, at, message));
    }

    fn ts_opened(&self, track: InputTrack) -> Option<QueueId> {
        self.queues.get(&track.0.into()).copied().flatten()
    }

    fn ts_queue(&mut self, track: InputTrack, tracks: &mut Tracks) -> Result<Option<QueueId>, Refused> {
        let id = u32::from(track.0);
        if let Some(queue) = self.queues.get(&id) {
            return Ok(*queue);
        }
        let queue = self.open(id, &TrackTraits { video: track == ts::VIDEO, language: None }, tracks)?;
        self.queues.insert(id, queue);
        Ok(queue)
    }
}
