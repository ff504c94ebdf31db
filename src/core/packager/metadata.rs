//! Timed metadata that waits for parts.
//!
//! A message goes into the next part of every track that may carry it: of all pictures, so that it is there whichever
//! rendition is played, or of all sound where there are none. That may be before its time, seconds ahead where splices are
//! announced; event message boxes of version 1 say when they are meant.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::diagnostic::Unusable;
use crate::codec::scte35;
use crate::model::input_clock::unwrap;
use crate::model::limits::{MESSAGES_WAITING_MAX, push_bounded};
use crate::model::{InputClock, MESSAGE_LEN_MAX, PushId, Scheme, TimedMessage};

/// The number of messages that are remembered, so that a repeated one isn't carried again.
const REMEMBERED_MAX: usize = 32;
/// The number of breaks that are remembered until they end.
const BREAKS_MAX: usize = 8;

/// A message with its time unwrapped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Waiting {
    pub push: PushId,
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

    /// Returns the id of the message for its time: the same in each track that carries it.
    pub(super) fn id(&self, media: Duration) -> u32 {
        let [a, b, c, d, ..] = *self.hash(media).as_bytes();
        u32::from_be_bytes([a, b, c, d])
    }
}

/// The messages that wait for a part, and those carried lately.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    waiting: VecDeque<Waiting>,
    known: VecDeque<blake3::Hash>,
    /// Breaks that have begun: splice_event_id, and the message that began it.
    breaks: VecDeque<(u32, Waiting, Duration)>,
}

impl Metadata {
    /// Takes a message, which waits for a presentation on whose timeline it lies. `newest` is the newest timestamp of its push.
    pub(super) fn add(
        &mut self,
        message: TimedMessage,
        clock: InputClock,
        newest: Option<i64>,
    ) -> Result<(), Unusable> {
        let TimedMessage { track, scheme, pts, duration, data } = message;
        if data.is_empty() {
            return Err(Unusable::Empty);
        }
        if data.len() > MESSAGE_LEN_MAX {
            return Err(Unusable::TooLong);
        }
        // Without any unit, the present time is unknown.
        let Some(pts) = pts.map(|pts| unwrap(pts, clock, newest)).or(newest) else { return Ok(()) };
        let waiting = Waiting { push: track.push(), scheme, pts, duration, data };
        push_bounded(&mut self.waiting, waiting, MESSAGES_WAITING_MAX);
        Ok(())
    }

    /// Returns the waiting messages that haven't been carried, with their media times, which `media_of` gives.
    pub(super) fn take(&mut self, media_of: impl Fn(&Waiting) -> Option<Duration>) -> Vec<(Waiting, Duration)> {
        let mut out = Vec::new();
        for message in std::mem::take(&mut self.waiting) {
            let Some(media) = media_of(&message).filter(|&media| !self.is_known(&message, media)) else { continue };
            out.extend(self.ended(&message, media));
            out.push((message, media));
        }
        out
    }

    /// Returns whether a message has been carried: splices are announced several times. From now on it has.
    fn is_known(&mut self, waiting: &Waiting, media: Duration) -> bool {
        let hash = waiting.hash(media);
        if self.known.contains(&hash) {
            return true;
        }
        push_bounded(&mut self.known, hash, REMEMBERED_MAX);
        false
    }

    /// Returns the break that a splice ends, if it is one that does: it is carried again beside it, since the two are one date
    /// range in HLS (rfc8216bis 4.4.5.1.1), and an edge may have nothing older.
    fn ended(&mut self, waiting: &Waiting, media: Duration) -> Option<(Waiting, Duration)> {
        let splice = scte35::Splice::parse(&waiting.data).ok().filter(|_| waiting.scheme == Scheme::Scte35)?;
        let event = splice.event?;
        let begun = self.breaks.iter().position(|(begun, ..)| *begun == event);
        let begun = begun.and_then(|begun| self.breaks.remove(begun));
        match splice.kind {
            scte35::SpliceKind::In => begun.map(|(_, waiting, media)| (waiting, media)),
            scte35::SpliceKind::Out => {
                push_bounded(&mut self.breaks, (event, waiting.clone(), media), BREAKS_MAX);
                None
            }
            scte35::SpliceKind::Command | scte35::SpliceKind::Null => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::scte35::tests::insert;
    use crate::model::InputTrack;
    use crate::model::time::Timescale;

    const CLOCK: InputClock = InputClock { scale: Timescale::MILLIS, wrap_bits: 32 };

    fn message(scheme: Scheme, pts: Option<u64>, data: impl Into<Bytes>) -> TimedMessage {
        TimedMessage { track: InputTrack(0), scheme, pts, duration: None, data: data.into() }
    }

    /// Takes all that waits, in ms.
    fn take(metadata: &mut Metadata) -> Vec<u64> {
        let taken = metadata.take(|waiting| u64::try_from(waiting.pts).ok().map(Duration::from_millis));
        taken.into_iter().map(|(_, media)| media.as_millis() as u64).collect()
    }

    #[test]
    fn messages_wait_for_their_time() {
        let mut metadata = Metadata::default();
        assert_eq!(metadata.add(message(Scheme::Id3, None, "now"), CLOCK, None), Ok(()));
        assert_eq!(take(&mut metadata), [0; 0], "nobody knows when now is");
        assert_eq!(metadata.add(message(Scheme::Id3, None, "now"), CLOCK, Some(40)), Ok(()));
        assert_eq!(metadata.add(message(Scheme::Id3, Some(9), "wrapped"), CLOCK, Some((1 << 32) - 40)), Ok(()));
        assert_eq!(metadata.take(|_| None), [], "what has no media time is lost");
        assert_eq!(take(&mut metadata), [0; 0]);
        assert_eq!(metadata.add(message(Scheme::Id3, Some(9), "wrapped"), CLOCK, Some((1 << 32) - 40)), Ok(()));
        assert_eq!(take(&mut metadata), [(1 << 32) + 9]);
    }

    #[test]
    fn what_is_said_again_is_carried_once() {
        let mut metadata = Metadata::default();
        for _ in 0..3 {
            metadata.add(message(Scheme::Scte35, Some(900), "splice"), CLOCK, Some(0)).expect("short");
        }
        assert_eq!(take(&mut metadata), [900]);
        metadata.add(message(Scheme::Scte35, Some(900), "splice"), CLOCK, Some(0)).expect("short");
        assert_eq!(take(&mut metadata), [0; 0]);
        metadata.add(message(Scheme::Scte35, Some(901), "splice"), CLOCK, Some(0)).expect("short");
        assert_eq!(take(&mut metadata), [901], "at another time it is another one");
    }

    #[test]
    fn the_way_back_brings_its_break() {
        let mut metadata = Metadata::default();
        let (out, back) = (insert(7, 8 * 90_000, Some(90_000)), insert(7, 9 * 90_000, None));
        metadata.add(message(Scheme::Scte35, Some(8_000), out), CLOCK, Some(0)).expect("short");
        assert_eq!(take(&mut metadata), [8_000]);
        metadata.add(message(Scheme::Scte35, Some(9_000), back), CLOCK, Some(0)).expect("short");
        assert_eq!(take(&mut metadata), [8_000, 9_000]);
    }

    #[test]
    fn a_flood_leaves_the_newest() {
        let mut metadata = Metadata::default();
        for n in 0..200u64 {
            metadata.add(message(Scheme::Id3, Some(n), "ID3"), CLOCK, Some(0)).expect("short");
        }
        assert_eq!(take(&mut metadata), (200 - MESSAGES_WAITING_MAX as u64..200).collect::<Vec<_>>());
        assert_eq!(metadata.add(message(Scheme::Id3, None, Bytes::new()), CLOCK, None), Err(Unusable::Empty));
        let long = vec![1; MESSAGE_LEN_MAX + 1];
        assert_eq!(metadata.add(message(Scheme::Id3, None, long), CLOCK, None), Err(Unusable::TooLong));
    }
}
