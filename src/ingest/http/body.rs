//! A request's bytes to units: which container it is, and its tracks' lanes.

use bytes::BytesMut;

use super::path::Object;
use super::playout::LaneId;
use super::session::{Over, Session};
use super::tracks::{Kind, Segments};
use crate::clock;
use crate::live::Scheme;
use crate::media::bmff::{self, Fault, Handler, Movie, Reader};
use crate::media::ts::{self, End};
use crate::media::{CodecConfig, InputTrack, Message};
use crate::observe;

/// By so many bytes every container is known: a box's header, and two transport packets.
const BOX_LEN: usize = 12;
const PACKETS_LEN: usize = 189;

/// Whether a body that begins so can be taken; `None` if more has to come. `all`: no more comes.
pub(super) fn begins(first: &[u8], all: bool) -> Option<bool> {
    match first.first() {
        Some(&SYNC) if first.len() >= PACKETS_LEN => Some(first[PACKETS_LEN - 1] == SYNC),
        Some(&SYNC) => all.then_some(first.len() == PACKETS_LEN - 1),
        _ if first.len() >= BOX_LEN => Some(bmff::begins(first)),
        _ => all.then_some(false),
    }
}

/// Whether it is a media segment, which says nothing without its init segment.
pub(super) fn needs_init(first: &[u8]) -> bool {
    first.first() != Some(&SYNC) && !matches!(first.get(4..8), Some(b"ftyp" | b"moov"))
}

/// Every transport packet begins so (ISO 13818-1, 2.4.3.3).
const SYNC: u8 = 0x47;

/// Why a body isn't taken on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// As it is, or since its init segment hasn't come.
    #[error("{0}")]
    Bmff(#[from] Fault),
    #[error("neither MPEG-TS nor MP4 begins there")]
    Unknown,
    #[error("{0}")]
    NoTrack(String),
    #[error("more than {0} tracks")]
    Tracks(usize),
    #[error("the session is over")]
    Over(Over),
}

impl From<Over> for Refused {
    fn from(over: Over) -> Self {
        Refused::Over(over)
    }
}

/// A request's body.
pub(super) struct Body<'a> {
    session: &'a Session,
    /// `None` where the request is the whole push.
    object: Option<&'a Object>,
    limits: bmff::Limits,
    counters: &'a observe::Ingest,
    content: Content,
    /// What its track is called, as its objects' names go.
    name: String,
    /// Lanes by track_ID, or by the demuxer's track.
    lanes: Vec<(u32, Option<LaneId>)>,
    last: bool,
    /// The decode time of a transport stream's newest unit.
    at: Option<u64>,
    /// An init segment has come, and nobody knows of it.
    begins: bool,
}

enum Content {
    Unknown(BytesMut),
    Bmff(Box<Reader>),
    Ts(Segments),
}

impl<'a> Body<'a> {
    pub(super) fn new(
        session: &'a Session,
        object: Option<&'a Object>,
        limits: bmff::Limits,
        counters: &'a observe::Ingest,
    ) -> Self {
        let content = Content::Unknown(BytesMut::new());
        Body {
            session,
            object,
            limits,
            counters,
            content,
            name: String::new(),
            lanes: Vec::new(),
            last: false,
            at: None,
            begins: false,
        }
    }

    /// Takes the next bytes, and waits while the session has no room for what is in them.
    pub(super) async fn push(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        match &mut self.content {
            Content::Unknown(first) => {
                first.extend_from_slice(bytes);
                if begins(first, false).is_none() {
                    return Ok(());
                }
                let first = std::mem::take(first);
                self.content = self.container(&first).await?;
                Box::pin(self.push(&first)).await
            }
            Content::Bmff(reader) => {
                let read = reader.push(bytes);
                self.drain_bmff().await?;
                Ok(read?)
            }
            Content::Ts(segments) => {
                segments.demuxer.push(bytes);
                self.drain_ts().await
            }
        }
    }

    /// The body is over; `whole`: as it should be, and not cut off.
    pub(super) async fn finish(mut self, whole: bool) -> Result<(), Refused> {
        match &mut self.content {
            Content::Unknown(first) if first.is_empty() || !whole => Ok(()),
            Content::Unknown(first) => {
                // Of one packet, which has passed the server.
                let first = std::mem::take(first);
                self.content = self.container(&first).await?;
                self.push(&first).await?;
                Box::pin(self.finish(whole)).await
            }
            Content::Bmff(reader) => {
                let finished = reader.finish();
                let lasts = self.last && whole && finished.is_ok();
                self.drain_bmff().await?;
                if finished.is_err() {
                    self.damaged();
                }
                if lasts {
                    self.lanes.iter().filter_map(|(_, lane)| *lane).for_each(|lane| self.session.ended(lane));
                }
                Ok(finished?)
            }
            Content::Ts(segments) => {
                if whole {
                    segments.demuxer.finish(End::Said);
                } else {
                    segments.demuxer.lost();
                }
                self.drain_ts().await?;
                if let (Content::Ts(segments), Some(_)) = (self.content, self.object) {
                    self.session.keep_demuxer(self.name, segments);
                }
                Ok(())
            }
        }
    }

    fn damaged(&self) {
        self.lanes.iter().filter_map(|(_, lane)| *lane).for_each(|lane| self.session.damaged(lane));
    }

    async fn container(&mut self, first: &[u8]) -> Result<Content, Refused> {
        let is_ts = first.first() == Some(&SYNC);
        if begins(first, true) != Some(true) {
            return Err(Refused::Unknown);
        }
        Ok(match self.object {
            Some(object) if is_ts => {
                self.name = object.track(true);
                Content::Ts(self.session.take_demuxer(&self.name))
            }
            None if is_ts => {
                let demuxer = Box::new(ts::Demuxer::new(None));
                Content::Ts(Segments { demuxer, announced: None })
            }
            Some(object) if needs_init(first) => {
                let (reader, name) = self.session.reader_for(object, self.limits).await;
                self.name = name;
                Content::Bmff(Box::new(reader))
            }
            // It is said again even if it is the same.
            _ => Content::Bmff(Box::new(Reader::new(self.limits))),
        })
    }

    async fn drain_bmff(&mut self) -> Result<(), Refused> {
        while let Content::Bmff(reader) = &mut self.content
            && let Some(output) = reader.poll_output()
        {
            let movie = reader.movie().cloned();
            match output {
                bmff::Output::Movie(movie) => {
                    if let Some(object) = self.object {
                        self.name = object.track(false);
                    }
                    self.begins = true;
                    self.lanes = self.lanes_of(&movie)?;
                }
                bmff::Output::Config { track, config } => {
                    if let Some(lane) = self.lane(track, movie.as_deref())? {
                        self.session.config(lane, config).await?;
                    }
                }
                bmff::Output::Unit(unit) => {
                    let Some(movie) = movie else { continue };
                    let (lane, Some(track)) = (self.lane(unit.track, Some(&movie))?, movie.track(unit.track)) else {
                        continue;
                    };
                    if let Some(lane) = lane {
                        let unit = track.access_unit(InputTrack(0), unit);
                        self.session.unit(lane, bmff::CLOCK, unit).await?;
                    }
                }
                bmff::Output::Message { track, at, message } => {
                    let lane = self.lane(track, movie.as_deref())?;
                    self.session.message(lane, bmff::CLOCK, Some(at), message);
                }
                bmff::Output::Ignored { why } => {
                    tracing::debug!(stream = %self.session.request.stream, "HTTP: a message isn't taken: {why}");
                }
                bmff::Output::Reference(reference) => {
                    self.counters.http_references.inc();
                    let late = clock::wall().since(reference.wall);
                    tracing::trace!(stream = %self.session.request.stream, ?late, "HTTP: behind its encoder's clock");
                }
                bmff::Output::Last => self.last = true,
                bmff::Output::Dropped { track, why } => {
                    tracing::debug!(stream = %self.session.request.stream, track, "HTTP: a frame isn't taken: {why}");
                    if let Some(lane) = self.lane(track, movie.as_deref())? {
                        self.session.damaged(lane);
                    }
                }
                bmff::Output::Missing { samples } => {
                    let stream = &self.session.request.stream;
                    tracing::warn!(%stream, samples, "HTTP: a fragment was cut; its pictures go on with the next key picture");
                    self.damaged();
                }
            }
        }
        // Now that its headers are in their lanes, what is in others' requests may follow them.
        if let (true, Content::Bmff(reader), Some(object)) = (self.begins, &self.content, self.object) {
            self.session.keep_init(object, reader);
            self.begins = false;
        }
        Ok(())
    }

    /// The lane of a track, which its init segment may have opened in another request.
    fn lane(&mut self, id: u32, movie: Option<&Movie>) -> Result<Option<LaneId>, Refused> {
        if self.lanes.is_empty()
            && let Some(movie) = movie
        {
            self.lanes = self.lanes_of(movie)?;
        }
        Ok(self.lanes.iter().find(|(track, _)| *track == id).and_then(|(_, lane)| *lane))
    }

    fn lanes_of(&self, movie: &Movie) -> Result<Vec<(u32, Option<LaneId>)>, Refused> {
        let (mut lanes, mut refused) = (Vec::new(), Vec::new());
        for track in &movie.tracks {
            let video = track.handler == Handler::Video;
            match &track.config {
                Ok(_) if video || track.handler == Handler::Audio => {
                    let kind = Kind { video, language: track.language.clone() };
                    let lane = self.session.lane(&(self.name.clone(), track.id), &kind).map_err(Refused::Tracks)?;
                    lanes.push((track.id, lane));
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
            tracing::warn!(stream = %self.session.request.stream, "HTTP: not all is taken: {refused}");
        }
        Ok(lanes)
    }

    async fn drain_ts(&mut self) -> Result<(), Refused> {
        while let Content::Ts(segments) = &mut self.content
            && let Some(output) = segments.demuxer.poll_output()
        {
            match output {
                ts::Output::Program { announced, .. } => {
                    segments.announced = Some(announced);
                    // All of them are waited for.
                    for (track, there) in [(ts::VIDEO, announced.video), (ts::AUDIO, announced.audio)] {
                        if there == Some(true) {
                            self.ts_lane(track)?;
                        }
                    }
                }
                ts::Output::Language { track, language } => {
                    if let Some(lane) = self.ts_lane(track)? {
                        self.session.language(lane, language);
                    }
                }
                ts::Output::Config { track, config } => self.ts_config(track, config).await?,
                ts::Output::Message(message) => self.ts_message(message),
                ts::Output::Unit(unit) => {
                    if let Some(lane) = self.ts_lane(unit.track)? {
                        self.at = Some(unit.dts);
                        self.session.unit(lane, ts::CLOCK, unit).await?;
                    }
                }
                ts::Output::Event(event @ ts::Event::Nothing { .. }) => {
                    return Err(Refused::NoTrack(event.to_string()));
                }
                ts::Output::Event(event) => {
                    tracing::warn!(stream = %self.session.request.stream, "HTTP: MPEG-TS: {event}");
                }
            }
        }
        Ok(())
    }

    /// An ID3 tag is where it is meant; a splice is announced, and goes with what it stands beside.
    fn ts_message(&mut self, message: Message) {
        let at = match message.scheme {
            Scheme::Id3 => message.pts.or(self.at),
            Scheme::Scte35 => self.at,
        };
        let of = |track: InputTrack| self.lanes.iter().find(|(known, _)| *known == u32::from(track.0));
        let lane = of(ts::VIDEO).or_else(|| of(ts::AUDIO)).and_then(|(_, lane)| *lane);
        self.session.message(lane, ts::CLOCK, at, message);
    }

    async fn ts_config(&mut self, track: InputTrack, config: CodecConfig) -> Result<(), Refused> {
        if let Some(lane) = self.ts_lane(track)? {
            self.session.config(lane, config).await?;
        }
        Ok(())
    }

    fn ts_lane(&mut self, track: InputTrack) -> Result<Option<LaneId>, Refused> {
        let id = u32::from(track.0);
        if let Some((_, lane)) = self.lanes.iter().find(|(known, _)| *known == id) {
            return Ok(*lane);
        }
        let kind = Kind { video: track == ts::VIDEO, language: None };
        let lane = self.session.lane(&(self.name.clone(), id), &kind).map_err(Refused::Tracks)?;
        self.lanes.push((id, lane));
        Ok(lane)
    }
}
