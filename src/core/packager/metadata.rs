//! Timed metadata on its way into parts.
//!
//! A message goes into the next part of every track that may carry it: of all pictures, so that it is there whichever rendition is
//! played, or of all sound where there are none. That may be before its time, seconds ahead where splices are announced; event message
//! boxes of version 1 say when they are meant.

use crate::cmaf::Event;
use crate::model::MESSAGE_LEN_MAX;
use crate::model::Message;
use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::diagnostic::{Notice, Unusable};
use super::packager::Packager;
use super::presentation::Life;
use super::timeline::unwrap;
use super::track::Lane;
use crate::codec::scte35;
use crate::model::InputTrack;
use crate::model::Scheme;

/// Messages that wait for a part: more, and the oldest are lost.
pub(crate) const WAITING_MAX: usize = 64;
/// What a part carries of them at most, in bytes; the rest waits for the next one.
pub(crate) const PART_MESSAGES_LEN_MAX: usize = 2 * MESSAGE_LEN_MAX;
/// Messages that are remembered, so that what is said again isn't carried again.
const REMEMBERED_MAX: usize = 32;

/// The same, its time unwrapped.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub track: InputTrack,
    pub scheme: Scheme,
    pub pts: i64,
    pub duration: Option<Duration>,
    pub data: Bytes,
}

impl Waiting {
    fn hash(&self, media: Duration) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.scheme.uri().as_bytes());
        hasher.update(&media.as_millis().to_be_bytes());
        hasher.update(&self.data);
        hasher.finalize()
    }

    /// An id for the time that it is meant for: the same wherever it is carried.
    pub(crate) fn id(&self, media: Duration) -> u32 {
        let [a, b, c, d, ..] = *self.hash(media).as_bytes();
        u32::from_be_bytes([a, b, c, d])
    }
}

/// Breaks that are remembered until the way back is told.
const BREAKS_MAX: usize = 8;

/// What was carried lately.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    known: VecDeque<blake3::Hash>,
    /// Breaks that have begun: splice_event_id, and what was carried.
    breaks: VecDeque<(u32, Waiting, Duration)>,
}

impl Carried {
    /// Whether a message has been carried: splices are announced several times. From now on it has.
    pub(crate) fn is_known(&mut self, waiting: &Waiting, media: Duration) -> bool {
        let hash = waiting.hash(media);
        if self.known.contains(&hash) {
            return true;
        }
        if self.known.len() == REMEMBERED_MAX {
            self.known.pop_front();
        }
        self.known.push_back(hash);
        false
    }

    /// The break that a splice ends, if it is one that does: it is carried again beside it, since the two are one date range in
    /// HLS (rfc8216bis 4.4.5.1.1), and an edge may have nothing older.
    pub(crate) fn ended(&mut self, waiting: &Waiting, media: Duration) -> Option<(Waiting, Duration)> {
        let splice = scte35::Splice::parse(&waiting.data).ok().filter(|_| waiting.scheme == Scheme::Scte35)?;
        let event = splice.event?;
        let begun = self.breaks.iter().position(|(begun, ..)| *begun == event);
        let begun = begun.and_then(|begun| self.breaks.remove(begun));
        match splice.kind {
            scte35::Kind::In => begun.map(|(_, waiting, media)| (waiting, media)),
            scte35::Kind::Out => {
                if self.breaks.len() == BREAKS_MAX {
                    self.breaks.pop_front();
                }
                self.breaks.push_back((event, waiting.clone(), media));
                None
            }
            scte35::Kind::Command | scte35::Kind::Null => None,
        }
    }
}

impl Packager {
    /// It waits for the life, which knows its time.
    pub(crate) fn message(&mut self, message: Message) {
        let Message { track, scheme, pts, duration, data } = message;
        let Some(push) = self.pushes.get(&track.feed()) else { return };
        if data.is_empty() || data.len() > MESSAGE_LEN_MAX {
            let why = if data.is_empty() { Unusable::Empty } else { Unusable::TooLong };
            return self.notice(Notice::Unusable { track, units: 1, why });
        }
        let of_push = self.sources.iter().filter(|(source, _)| source.feed() == track.feed());
        let newest = of_push.filter_map(|(_, source)| source.last).max();
        // Nothing has come that could tell when now is.
        let Some(pts) = pts.map(|pts| unwrap(pts, push.publisher.clock, newest)).or(newest) else { return };
        if self.messages.len() == WAITING_MAX {
            self.messages.pop_front();
        }
        self.messages.push_back(Waiting { track, scheme, pts, duration, data });
    }
}

impl Life {
    /// Timed metadata goes into the next part of each track that carries it: of all pictures, or of all sound where there are none.
    pub(crate) fn announce(&mut self, messages: &mut VecDeque<Waiting>) {
        let mut new = false;
        for message in messages.drain(..) {
            let of_push = |lane: &&Lane| lane.input.is_some_and(|input| input.feed() == message.track.feed());
            let told = self.segmenter.lanes.iter().filter(of_push);
            let Some(media) = told.filter_map(|lane| Some(lane.media(lane.clock.as_ref()?.ticks(message.pts)))).next()
            else {
                continue;
            };
            if self.carried.is_known(&message, media) {
                continue;
            }
            new |= !self.record.messages.contains(message.scheme);
            self.record.messages = self.record.messages.with(message.scheme);
            let ended = self.carried.ended(&message, media);
            for (message, media) in ended.into_iter().chain([(message, media)]) {
                self.carry(&message, media);
            }
        }
        if new {
            self.publish();
        }
    }

    fn carry(&mut self, message: &Waiting, media: Duration) {
        let video = self.segmenter.lanes.first().is_some_and(|lane| lane.track.is_video());
        // Of one that nobody feeds the next part may come in an hour.
        for lane in self.segmenter.lanes.iter_mut().filter(|lane| lane.track.is_video() == video && lane.is_fed()) {
            let scale = lane.scale();
            lane.announce(Event {
                scheme: message.scheme,
                id: message.id(media),
                time: scale.ticks(media),
                duration: message.duration.map(|duration| u32::try_from(scale.ticks(duration)).unwrap_or(u32::MAX)),
                data: message.data.clone(),
            });
        }
    }
}
