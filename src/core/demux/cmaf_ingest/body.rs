//! A request's bytes to units, through the container that they are in (pure).
//!
//! The caller's contract: after each [`Body::push`] and [`Body::finish`], failed or not, it drains [`Body::poll`] until
//! `None`, and gives each output to [`Tracks::take`] before it asks for the next.

use std::collections::{BTreeMap, VecDeque};

use super::jitter_buffer::QueueId;
use super::path::Object;
use super::tracks::{BodyOutput, TrackTraits, Tracks};
use crate::demux::bmff::{BmffError, BmffReader, Handler, Movie};
use crate::demux::ts::{Demuxer, End};
use crate::demux::{bmff, ts};
use crate::model::{InputTrack, Scheme, TimedMessage};
use crate::packager::Input;

/// The number of bytes that identify each container: a box's header, and two transport packets.
const BOX_LEN: usize = 12;
const PACKETS_LEN: usize = 189;

/// Returns whether a body that begins with these bytes can be read; `None` if more bytes are needed. `all` says that
/// no more come.
pub fn begins(first: &[u8], all: bool) -> Option<bool> {
    match first.first() {
        Some(&SYNC) if first.len() >= PACKETS_LEN => Some(first[PACKETS_LEN - 1] == SYNC),
        Some(&SYNC) => all.then_some(first.len() == PACKETS_LEN - 1),
        _ if first.len() >= BOX_LEN => Some(bmff::begins(first)),
        _ => all.then_some(false),
    }
}

/// Returns whether the bytes begin a media segment, which needs its init segment.
pub fn needs_init(first: &[u8]) -> bool {
    first.first() != Some(&SYNC) && !matches!(first.get(4..8), Some(b"ftyp" | b"moov"))
}

/// The first byte of every transport packet (ISO 13818-1, 2.4.3.3).
const SYNC: u8 = 0x47;

/// The reason why the rest of a body is not read.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The file is invalid, or its init segment is missing.
    #[error("{0}")]
    Bmff(#[from] BmffError),
    /// The first bytes belong to no known format.
    #[error("the body is neither MPEG-TS nor MP4")]
    Unknown,
    /// None of the tracks can be used; the text says why.
    #[error("{0}")]
    NoTrack(String),
    /// The push has no place for another track.
    #[error("more than {0} tracks")]
    Tracks(usize),
}

/// The body of a request.
pub struct Body {
    /// The object that the request brings; `None` where the request is the whole push.
    object: Option<Object>,
    content: Content,
    /// The name of its track, which is taken from the object's name.
    name: String,
    /// The queues of tracks, by track_ID or by the demuxer's track.
    queues: BTreeMap<u32, Option<QueueId>>,
    last: bool,
    /// The decode time of a transport stream's newest picture, or of its sound if there are no pictures.
    at: Option<u64>,
    /// An init segment has come, and is not stored yet.
    begins: bool,
    /// The output for each queue after the whole body is read.
    finally: Option<fn(QueueId) -> BodyOutput>,
    finished: bool,
    out: VecDeque<BodyOutput>,
}

enum Content {
    Bmff(Box<BmffReader>),
    Ts(Box<Demuxer>),
    /// Later requests continue with this demuxer.
    Kept,
}

impl Body {
    /// Returns a body that begins with `first`, as [`begins`] has checked it. `known` is the reader and the track's
    /// name of a media segment's [init segment](Tracks::init_for).
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
            // A new reader puts out its tracks again even if they haven't changed.
            None => (Content::Bmff(Box::new(BmffReader::new(limits))), own),
        };
        let (queues, out) = (BTreeMap::new(), VecDeque::new());
        let (last, begins, finished) = (false, false, false);
        Body { object, content, name, queues, last, at: None, begins, finally: None, finished, out }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// A fault in the body; the rest of it can't be read.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        match &mut self.content {
            Content::Bmff(reader) => reader.push(bytes)?,
            Content::Ts(demuxer) => demuxer.push(bytes),
            Content::Kept => {}
        }
        Ok(())
    }

    /// Ends the body. `whole` says that it is complete.
    ///
    /// # Errors
    /// The file was cut short.
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

    /// Returns the next output.
    ///
    /// # Errors
    /// The reason why the rest of the body is not read.
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

    /// Puts out what follows the outputs of all bytes so far.
    fn drained(&mut self, tracks: &mut Tracks) -> Option<BodyOutput> {
        match (&self.content, &self.object) {
            // Media segments in other requests may need this init segment.
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
                    "a fragment was truncated: {samples} frames are missing; the video continues with the next keyframe"
                );
                self.out.push_back(BodyOutput::Note(note));
                self.each_queue(BodyOutput::Damaged);
            }
        }
        Ok(())
    }

    /// Returns the queue of a track. Its init segment may have opened the queue in another request.
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
                // Event messages go with the video.
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
            let none = "the file has no video, audio or message track";
            return Err(Refused::NoTrack(if refused.is_empty() { none.to_owned() } else { refused }));
        }
        if !refused.is_empty() {
            self.out.push_back(BodyOutput::Note(format!("some tracks are ignored: {refused}")));
        }
        Ok(queues)
    }

    fn open(&self, id: u32, kind: &TrackTraits, tracks: &mut Tracks) -> Result<Option<QueueId>, Refused> {
        tracks.queue(&(self.name.clone(), id), kind).map_err(Refused::Tracks)
    }

    fn ts(&mut self, output: ts::Output, tracks: &mut Tracks) -> Result<(), Refused> {
        match output {
            ts::Output::Program { announced, .. } => {
                // Opens their queues, so that playout waits for all of them.
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

    /// Puts out a message. An ID3 tag belongs to its presentation time. A splice is announced early, and belongs to the
    /// media around it.
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
