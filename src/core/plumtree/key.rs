//! The key of a body.

use std::collections::BTreeMap;

use super::message::Position;
use crate::model::{Epoch, Msn, NodeId, PartId, TrackId};

/// A [`PartId`], ordered by its place in the stream: bodies of one track stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) track: TrackId,
    pub(super) msn: Msn,
    pub(super) part: u16,
    pub(super) epoch: Epoch,
}

impl Key {
    pub(super) fn id(self) -> PartId {
        PartId { epoch: self.epoch, track: self.track, msn: self.msn, part: self.part }
    }

    pub(super) fn position(self) -> Position {
        (self.msn, self.part)
    }

    /// Returns the order of pulls: the record, then the newest segments, each from its first part.
    pub(super) fn urgency(self) -> impl Ord {
        (self.track != TrackId::RECORD, std::cmp::Reverse((self.epoch, self.msn)), self.part, self.track)
    }

    /// Returns the lowest key of a segment.
    pub(super) fn start_of(track: TrackId, msn: Msn) -> Key {
        Key { track, msn, part: 0, epoch: Epoch { counter: 0, node: NodeId(0) } }
    }

    pub(super) fn last_of(track: TrackId) -> Key {
        let epoch = Epoch { counter: u32::MAX, node: NodeId(u64::MAX) };
        Key { track, msn: Msn::MAX, part: u16::MAX, epoch }
    }
}

impl From<PartId> for Key {
    fn from(id: PartId) -> Key {
        Key { track: id.track, msn: id.msn, part: id.part, epoch: id.epoch }
    }
}

/// Returns the last key of `track` in `map`.
pub(super) fn newest_in<V>(map: &BTreeMap<Key, V>, track: TrackId) -> Option<Key> {
    map.range(Key::start_of(track, 0)..=Key::last_of(track)).next_back().map(|(key, _)| *key)
}
