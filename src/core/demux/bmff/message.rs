//! Event messages: `emsg` boxes before a fragment (ISO 23009-1, 5.10.3.3), and the samples of event message tracks (ISO
//! 23001-18; DASH-IF Live Media Ingest 1.2, 6.6).
//!
//! An `emsg` comes out behind the first sample of its fragment, so that the jitter buffer knows the time there.
//! Messages that are invalid or not supported are skipped; the media beside them are complete.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use mp4_atom::{Atom, Emib, Emsg, EmsgTimestamp};

use super::boxes::Cursor;
use super::movie::Movie;
use super::output::Output;
use super::place::{CLOCK, SamplePlace};
use super::track::{Handler, MovieTrack};
use crate::codec::{id3, scte35};
use crate::model::input_clock::rescale;
use crate::model::time::Timescale;
use crate::model::{InputTrack, MESSAGE_LEN_MAX, Scheme, TimedMessage};

/// The longest content of an `emsg`, in bytes: a message, and 1 KiB for its fields and the name of its scheme.
pub(super) const EMSG_LEN_MAX: u64 = (MESSAGE_LEN_MAX + (1 << 10)) as u64;
/// The limit of all event messages before a fragment, or in a sample, in bytes: four of the longest, or some thousand short
/// ones.
const EVENTS_LEN_MAX: usize = 4 * EMSG_LEN_MAX as usize;
/// The shortest header of a box, in bytes.
const HEADER_LEN: usize = 8;
/// The number of characters of a scheme's name that are logged.
const NAME_LEN_MAX: usize = 100;

/// The time of an event message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum When {
    /// Ticks after the earliest presentation time of its fragment or sample.
    After(i64),
    /// Ticks on the presentation's timeline.
    At(i64),
}

/// An event message instance (ISO 23001-18), before the start of its time is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct EventInstance {
    scheme: Scheme,
    scale: Timescale,
    when: When,
    duration: Option<Duration>,
    data: Bytes,
}

/// The waiting event messages: each waits for its fragment, then for that fragment's first sample.
#[derive(Debug, Default)]
pub(super) struct EventMessages {
    /// The messages that wait for their fragment, and the total length of their boxes in bytes.
    waiting: Vec<EventInstance>,
    waiting_len: usize,
    /// The messages of the newest fragment, and the index of the track with whose first sample they come out.
    ready: Vec<Output>,
    index: usize,
}

impl EventInstance {
    /// Reads an `emsg`'s content. The error is the reason why the message is dropped.
    fn emsg(mut content: &[u8]) -> Result<EventInstance, String> {
        let emsg = Emsg::decode_body(&mut content).map_err(|why| format!("can't read an emsg box: {why}"))?;
        let when = match emsg.presentation_time {
            EmsgTimestamp::Relative(delta) => When::After(delta.into()),
            EmsgTimestamp::Absolute(time) => {
                When::At(i64::try_from(time).map_err(|_| "an emsg box has a time above 2^63".to_owned())?)
            }
        };
        let scale = Timescale::new(emsg.timescale).ok_or_else(|| "an emsg box has a timescale of 0".to_owned())?;
        EventInstance::new(&emsg.scheme_id_uri, scale, when, emsg.event_duration, emsg.message_data)
    }

    /// Reads an `emib`'s content, which counts in ticks of its track.
    fn emib(mut content: &[u8], scale: Timescale) -> Result<EventInstance, String> {
        let emib = Emib::decode_body(&mut content).map_err(|why| format!("can't read an emib box: {why}"))?;
        let when = When::After(emib.presentation_time_delta);
        EventInstance::new(&emib.scheme_id_uri, scale, when, emib.event_duration, emib.message_data)
    }

    fn new(uri: &str, scale: Timescale, when: When, duration: u32, data: Vec<u8>) -> Result<EventInstance, String> {
        let Some(scheme) = Scheme::parse(uri) else {
            let name: String = uri.chars().take(NAME_LEN_MAX).collect();
            return Err(format!("event messages of scheme {name:?} are not supported"));
        };
        if data.len() > MESSAGE_LEN_MAX {
            return Err(format!("an event message exceeds {MESSAGE_LEN_MAX} bytes"));
        }
        // "event_duration: [...] 0xFFFFFFFF if unknown".
        let duration = Some(duration).filter(|duration| *duration != u32::MAX);
        let duration = duration.map(|duration| scale.duration(duration.into()));
        let duration = match scheme {
            Scheme::Id3 if data.starts_with(id3::MAGIC) => duration,
            Scheme::Id3 => return Err("an ID3 event message has no ID3 tag".to_owned()),
            Scheme::Scte35 => match scte35::Splice::checked(&data) {
                Ok(splice) if splice.kind == scte35::SpliceKind::Null => return Err("a splice_null".to_owned()),
                // Some packagers write a duration of 0 into the box; the splice itself has the right one.
                Ok(splice) => splice.duration.or(duration),
                Err(why) => return Err(format!("splice_info_section: {why}")),
            },
        };
        Ok(EventInstance { scheme, scale, when, duration, data: data.into() })
    }

    /// Returns the message, if its fragment or sample is first presented at `earliest`. "The splice time shall equal
    /// the presentation time of the [...] event message, as the SCTE-35 timing [...] has no meaning in CMAF" (Live
    /// Media Ingest, 6.7).
    fn message(self, earliest: i64) -> TimedMessage {
        let ticks = |ticks: i64| rescale(ticks, self.scale, CLOCK.scale);
        let pts = match self.when {
            When::After(delta) => earliest.saturating_add(ticks(delta)),
            When::At(time) => ticks(time),
        };
        let (scheme, duration, data) = (self.scheme, self.duration, self.data);
        TimedMessage { track: InputTrack(0), scheme, pts: Some(CLOCK.wrapped(pts)), duration, data }
    }
}

impl EventMessages {
    /// Takes an `emsg`, which waits for its fragment.
    ///
    /// # Errors
    /// The reason why the message is dropped.
    pub(super) fn emsg(&mut self, content: &[u8]) -> Result<(), String> {
        let event = EventInstance::emsg(content)?;
        if self.waiting_len + content.len() > EVENTS_LEN_MAX {
            return Err(format!("more than {EVENTS_LEN_MAX} bytes of event messages before a fragment"));
        }
        self.waiting_len += content.len();
        self.waiting.push(event);
        Ok(())
    }

    /// Gives the waiting messages to the fragment that has come: to its pictures, or to the track of its first sample. Returns
    /// those that go out at once, since the fragment has no sample.
    pub(super) fn fragment(
        &mut self,
        movie: &Movie,
        samples: &VecDeque<(usize, SamplePlace)>,
        ends: &[(usize, i64)],
    ) -> Vec<Output> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let is_video = |index: usize| movie.tracks[index].handler == Handler::Video;
        let first = samples.iter().find(|(index, _)| is_video(*index)).or_else(|| samples.front());
        let (index, at, earliest) = if let Some(&(index, _)) = first {
            let track = &movie.tracks[index];
            let times = samples.iter().filter(|(of, _)| *of == index).map(|(_, place)| track.times(place));
            let (at, earliest) = times.fold((i64::MAX, i64::MAX), |a, b| (a.0.min(b.0), a.1.min(b.1)));
            (index, at, earliest)
        } else if let Some(&(index, end)) = ends.first() {
            // A fragment without samples has a time, too.
            let track = &movie.tracks[index];
            let at = rescale(end.saturating_add(track.shift), track.timescale, CLOCK.scale);
            (index, at, at)
        } else {
            return Vec::new();
        };
        let (track, at) = (movie.tracks[index].id, CLOCK.wrapped(at));
        self.waiting_len = 0;
        let events = std::mem::take(&mut self.waiting).into_iter();
        self.ready = events.map(|event| Output::Message { track, at, message: event.message(earliest) }).collect();
        self.index = index;
        if samples.is_empty() { self.take_ready() } else { Vec::new() }
    }

    /// Returns the messages that come out with a sample of this track.
    pub(super) fn ready_with(&mut self, index: usize) -> Vec<Output> {
        if self.index == index { self.take_ready() } else { Vec::new() }
    }

    /// Returns the messages of the newest fragment that have not come out.
    pub(super) fn take_ready(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.ready)
    }

    /// Ends the file: drops the messages that wait for a fragment, and returns the others.
    pub(super) fn finish(&mut self) -> Vec<Output> {
        std::mem::take(self).ready
    }
}

/// Reads a sample of an event message track: "one or more EventMessageInstanceBoxes, or one EventMessageEmptyBox"
/// (23001-18, 6). Before that was written, samples held `emsg` boxes, of which version 0 counts from the sample's
/// presentation time (Live Media Ingest, 6.6).
pub(super) fn event_sample(track: &MovieTrack, place: &SamplePlace, data: &[u8], out: &mut VecDeque<Output>) {
    let (at, presented) = track.times(place);
    let (mut boxes, mut len) = (Cursor::new(track.entry, place.offset, data), 0);
    loop {
        let child = match boxes.child() {
            Ok(Some(child)) => child,
            Ok(None) => return,
            Err(why) => {
                let why = format!("can't read a sample of event messages: {why}");
                return out.push_back(Output::Ignored { why });
            }
        };
        len += HEADER_LEN + child.rest().len();
        if len > EVENTS_LEN_MAX {
            let why = format!("more than {EVENTS_LEN_MAX} bytes of event messages in a sample");
            return out.push_back(Output::Ignored { why });
        }
        let event = match &child.kind.0 {
            b"emib" => EventInstance::emib(child.rest(), track.timescale),
            b"emsg" => EventInstance::emsg(child.rest()),
            b"emeb" | b"embe" => continue,
            _ => Err(format!("unexpected box '{}' in a sample of event messages", child.kind)),
        };
        out.push_back(match event {
            Ok(event) => {
                let message = event.message(presented);
                Output::Message { track: track.id, at: CLOCK.wrapped(at), message }
            }
            Err(why) => Output::Ignored { why },
        });
    }
}
