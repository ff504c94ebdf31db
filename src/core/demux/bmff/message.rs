//! Event messages: `emsg` boxes before a fragment (ISO 23009-1, 5.10.3.3), and the samples of event message tracks
//! (ISO 23001-18; DASH-IF Live Media Ingest 1.2, 6.6).
//!
//! An `emsg` comes out behind the first sample of the fragment that it stands before, so that whoever keeps things in order has
//! seen what time it is there. What of them nobody carries, or can read, is passed over: the media beside it are whole.

use std::time::Duration;

use bytes::Bytes;
use mp4_atom::{Atom, Emib, Emsg, EmsgTimestamp};

use super::boxes::{Cursor, FourCc};
use super::movie::{Handler, Track};
use super::table::Place;
use super::{CLOCK, Output, Reader};
use crate::codec::{id3, scte35};
use crate::model::Scheme;
use crate::model::time::Timescale;
use crate::model::{InputTrack, MESSAGE_LEN_MAX, Message};
use crate::packager::timeline::rescale;

/// The longest `emsg`'s content, in bytes: a message, and 1 KiB for its fields and what its scheme is called.
pub(super) const EMSG_LEN_MAX: u64 = (MESSAGE_LEN_MAX + (1 << 10)) as u64;
/// What is taken of the boxes before a fragment, and of a sample's, in bytes: four of the longest, or some thousand short ones.
const EVENTS_LEN_MAX: usize = 4 * EMSG_LEN_MAX as usize;
/// A box's header has no less.
const HEADER_LEN: usize = 8;
/// As much of a scheme's name is told.
const NAME_LEN_MAX: usize = 100;

/// When it is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum When {
    /// So much after the earliest presentation time of what it came with.
    After(i64),
    /// On the presentation's timeline.
    At(i64),
}

/// An event message instance (ISO 23001-18) as it stands: what its time counts from is still to be known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct EventInstance {
    scheme: Scheme,
    scale: Timescale,
    when: When,
    duration: Option<Duration>,
    data: Bytes,
}

/// Those of a fragment that is still to come.
#[derive(Debug, Default)]
pub(super) struct Early {
    /// Of all boxes as they came.
    len: usize,
    events: Vec<EventInstance>,
}

/// Those of a fragment whose samples are still to come.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Behind whose first sample they come out.
    index: usize,
    messages: Vec<Output>,
}

impl EventInstance {
    /// Reads an `emsg`'s content, or why it isn't taken.
    fn emsg(mut content: &[u8]) -> Result<EventInstance, String> {
        let emsg = Emsg::decode_body(&mut content).map_err(|why| format!("an emsg that can't be read: {why}"))?;
        let when = match emsg.presentation_time {
            EmsgTimestamp::Relative(delta) => When::After(delta.into()),
            EmsgTimestamp::Absolute(time) => {
                When::At(i64::try_from(time).map_err(|_| "an emsg of a time beyond 2^63".to_owned())?)
            }
        };
        let scale = Timescale::new(emsg.timescale).ok_or_else(|| "an emsg with a timescale of 0".to_owned())?;
        EventInstance::new(&emsg.scheme_id_uri, scale, when, emsg.event_duration, emsg.message_data)
    }

    /// The same of an `emib`, which counts in ticks of its track.
    fn emib(mut content: &[u8], scale: Timescale) -> Result<EventInstance, String> {
        let emib = Emib::decode_body(&mut content).map_err(|why| format!("an emib that can't be read: {why}"))?;
        let when = When::After(emib.presentation_time_delta);
        EventInstance::new(&emib.scheme_id_uri, scale, when, emib.event_duration, emib.message_data)
    }

    fn new(uri: &str, scale: Timescale, when: When, duration: u32, data: Vec<u8>) -> Result<EventInstance, String> {
        let Some(scheme) = Scheme::parse(uri) else {
            let name: String = uri.chars().take(NAME_LEN_MAX).collect();
            return Err(format!("event messages of {name:?} aren't carried"));
        };
        if data.len() > MESSAGE_LEN_MAX {
            return Err(format!("an event message of more than {MESSAGE_LEN_MAX} bytes"));
        }
        // "event_duration: [...] 0xFFFFFFFF if unknown".
        let duration = Some(duration).filter(|duration| *duration != u32::MAX);
        let duration = duration.map(|duration| scale.duration(duration.into()));
        let duration = match scheme {
            Scheme::Id3 if data.starts_with(id3::MAGIC) => duration,
            Scheme::Id3 => return Err("an event message of ID3 without an ID3 tag".to_owned()),
            Scheme::Scte35 => match scte35::Splice::checked(&data) {
                Ok(splice) if splice.kind == scte35::Kind::Null => return Err("a splice_null".to_owned()),
                // The box is made by a packager, of which some say 0; the splice by who sells the break.
                Ok(splice) => splice.duration.or(duration),
                Err(why) => return Err(why.to_string()),
            },
        };
        Ok(EventInstance { scheme, scale, when, duration, data: data.into() })
    }

    /// The message, where what it came with is first presented at `earliest`. "The splice time shall equal the presentation time of the
    /// [...] event message, as the SCTE-35 timing [...] has no meaning in CMAF" (Live Media Ingest, 6.7).
    fn message(self, earliest: i64) -> Message {
        let ticks = |ticks: i64| rescale(ticks, self.scale, CLOCK.scale);
        let pts = match self.when {
            When::After(delta) => earliest.saturating_add(ticks(delta)),
            When::At(time) => ticks(time),
        };
        let (scheme, duration, data) = (self.scheme, self.duration, self.data);
        Message { track: InputTrack(0), scheme, pts: Some(CLOCK.wrapped(pts)), duration, data }
    }
}

impl Track {
    /// Whether its samples are event messages: by MPEG-B part 18, or as was done before, when a sample entry for any metadata was taken.
    pub fn is_events(&self) -> bool {
        self.handler == Handler::Other(FourCc(*b"meta")) && matches!(&self.entry.0, b"evte" | b"urim")
    }

    /// When a sample is decoded, and when it is presented, on [`CLOCK`].
    fn times(&self, place: &Place) -> (i64, i64) {
        let ticks = |ticks: i64| rescale(ticks, self.timescale, CLOCK.scale);
        (ticks(place.dts), ticks(place.dts.saturating_add(place.composition_offset.into())))
    }
}

impl Reader {
    /// An `emsg`: it waits for its fragment.
    pub(super) fn emsg(&mut self, content: &[u8]) {
        match EventInstance::emsg(content) {
            Ok(event) if self.early.len + content.len() <= EVENTS_LEN_MAX => {
                self.early.len += content.len();
                self.early.events.push(event);
            }
            Ok(_) => self.ignored(format!("more than {EVENTS_LEN_MAX} bytes of event messages before a fragment")),
            Err(why) => self.ignored(why),
        }
    }

    pub(super) fn ignored(&mut self, why: String) {
        self.out.push_back(Output::Ignored { why });
    }

    /// The fragment of the messages that were read is there: they go with its pictures, or with what comes first in it.
    pub(super) fn time_events(&mut self, ends: &[(usize, i64)]) {
        let Some(movie) = self.movie.clone() else { return };
        if self.early.events.is_empty() {
            return;
        }
        let video = |index: usize| movie.tracks[index].handler == Handler::Video;
        let of_pictures = self.fragment.iter().find(|(index, _)| video(*index));
        let index = of_pictures.or_else(|| self.fragment.front()).map(|(index, _)| *index);
        let times =
            self.fragment.iter().filter(|(of, _)| Some(*of) == index).map(|(of, place)| movie.tracks[*of].times(place));
        // One without a sample says when it is, too.
        let empty = ends.first().map(|(of, end)| {
            let track = &movie.tracks[*of];
            let at = rescale(end.saturating_add(track.shift), track.timescale, CLOCK.scale);
            (*of, at)
        });
        let first = times.reduce(|a, b| (a.0.min(b.0), a.1.min(b.1)));
        let found = index.zip(first).or_else(|| empty.map(|(of, at)| (of, (at, at))));
        let Some((index, (at, earliest))) = found else { return };
        let track = movie.tracks[index].id;
        let events = std::mem::take(&mut self.early).events.into_iter();
        let messages =
            events.map(|event| Output::Message { track, at: CLOCK.wrapped(at), message: event.message(earliest) });
        self.told = Told { index, messages: messages.collect() };
        if self.fragment.is_empty() {
            self.tell_all();
        }
    }

    /// A sample of a track has come out.
    pub(super) fn tell(&mut self, index: usize) {
        if self.told.index == index {
            self.tell_all();
        }
    }

    pub(super) fn tell_all(&mut self) {
        self.out.extend(self.told.messages.drain(..));
    }

    /// A sample of an event message track: "one or more EventMessageInstanceBoxes, or one EventMessageEmptyBox" (23001-18, 6); before
    /// that was written, `emsg` boxes, of which version 0 counts from the sample's presentation time (Live Media Ingest, 6.6).
    pub(super) fn event_sample(&mut self, index: usize, place: &Place, data: &[u8]) {
        let Some(movie) = self.movie.clone() else { return };
        let track = &movie.tracks[index];
        let (at, presented) = track.times(place);
        let mut boxes = Cursor::new(track.entry, place.offset, data);
        let mut len = 0;
        loop {
            let child = match boxes.child() {
                Ok(Some(child)) => child,
                Ok(None) => return,
                Err(why) => return self.ignored(format!("a sample of event messages that can't be read: {why}")),
            };
            len += HEADER_LEN + child.rest().len();
            if len > EVENTS_LEN_MAX {
                return self.ignored(format!("more than {EVENTS_LEN_MAX} bytes of event messages in a sample"));
            }
            let event = match &child.kind.0 {
                b"emib" => EventInstance::emib(child.rest(), track.timescale),
                b"emsg" => EventInstance::emsg(child.rest()),
                b"emeb" | b"embe" => continue,
                _ => Err(format!("'{}' in a sample of event messages", child.kind)),
            };
            match event {
                Ok(event) => {
                    let message = event.message(presented);
                    self.out.push_back(Output::Message { track: track.id, at: CLOCK.wrapped(at), message });
                }
                Err(why) => self.ignored(why),
            }
        }
    }
}
