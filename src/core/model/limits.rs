//! Limits that several modules share, and their relations.

use std::collections::VecDeque;
use std::time::Duration;

use super::part_header::BODY_LEN_MAX;
use super::record::Record;

/// Most tracks of a presentation, those included whose push is gone: 16 renditions, and sound in 8 languages.
pub const TRACKS_MAX: usize = 24;
/// The longest codec headers accepted, in bytes: an SPS is below 100, and the init segments of all tracks must fit the record.
pub const CONFIG_LEN_MAX: usize = 1 << 10;
const _: () = assert!((CONFIG_LEN_MAX + 1_024) * TRACKS_MAX * Record::INITS_MAX < Record::LEN_MAX);

/// The longest message: an ID3 tag with a small picture.
pub const MESSAGE_LEN_MAX: usize = 64 << 10;
/// Messages that wait for a part: more, and the oldest are lost.
pub const MESSAGES_WAITING_MAX: usize = 64;
/// Most bytes of messages in a part; the rest waits for the next part.
pub const PART_MESSAGES_LEN_MAX: usize = 2 * MESSAGE_LEN_MAX;

/// Most access units in a part: a flood of equal timestamps is cut into parts by count.
pub const PART_UNITS_MAX: usize = 4_096;
/// Most bytes of a part's boxes beside its samples and messages; the packager asserts it.
pub const PART_BOXES_LEN_MAX: usize = 160 + PART_UNITS_MAX * 16 + MESSAGES_WAITING_MAX * 96;
/// The longest access unit: the largest body less its boxes and messages.
pub const UNIT_LEN_MAX: usize = BODY_LEN_MAX as usize - PART_BOXES_LEN_MAX - PART_MESSAGES_LEN_MAX;

/// How far the pictures of another push may lag behind the leader's before they are given up until a segment's start, and how
/// far its timestamps may differ. Longer than a lost packet or a busy machine holds a connection up; only the viewers of
/// that rendition wait.
pub const PATIENCE_PUSH: Duration = Duration::from_secs(3);
/// The longest wait for older segments of a node that joins a running stream, before it lists the others. Our
/// own guess: a neighbour on another continent sends 30 s of 3 Mb/s over a 100 Mb/s link in 1 s.
pub const JOIN_SETTLE: Duration = Duration::from_millis(1_500);

/// The longest wait of a request for a stream that the directory knows and this edge doesn't hold yet.
pub const APPEAR_MAX: Duration = Duration::from_secs(5);

/// No request is held longer: hls.js gives a playlist request up after 10 s.
pub const HOLD_MAX: Duration = Duration::from_secs(8);

// A new stream is listed before the requests that wait for it time out; and no wait is longer than the longest.
const _: () =
    assert!(JOIN_SETTLE.as_millis() < APPEAR_MAX.as_millis() && APPEAR_MAX.as_millis() < HOLD_MAX.as_millis());

/// Appends an item to a queue of at most `max`, which loses its oldest one if it is full.
pub(crate) fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, max: usize) {
    if queue.len() >= max {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// Returns how long a blocking reload, or a request for a hinted part, is held: min(3xTD, 8 s) (rfc8216bis 6.2.5.2
/// asks for an answer within 3xTD).
pub fn hold(record: &Record) -> Duration {
    record.hold_back().min(HOLD_MAX)
}
