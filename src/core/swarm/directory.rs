//! The directory: which streams there are, of which life and epoch, and where their ingest nodes can be dialled.
//!
//! The newest entry of a stream, by (epoch, refresh), wins. The ingest node refreshes it.

use bytes::{BufMut, BytesMut};

use super::announcement::{Announceable, Announcement, Announcements, Change, decode_stream};
use crate::model::time::Time;
use crate::model::wire::{Reader, WireError};
use crate::model::{Epoch, LifeId, NodeId, Peer, StreamName, wire};

/// A stream in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name of the stream.
    pub stream: StreamName,
    /// The presentation that the stream shows.
    pub life: LifeId,
    /// The epoch of its publisher; the newest wins.
    pub epoch: Epoch,
    /// Goes up with each refresh, every 5 s.
    pub refresh: u32,
    /// The ingest node, and where it can be dialled.
    pub ingest: Peer,
}

impl Announceable for Entry {
    type Key = StreamName;

    const WIRE_LEN_MIN: usize = 3 + 8 + 12 + 4 + Peer::WIRE_LEN_MIN;

    fn encode(&self, out: &mut BytesMut) {
        wire::put_text(out, self.stream.as_str());
        out.put_u64(self.life.0);
        out.put_u32(self.epoch.counter);
        out.put_u64(self.epoch.node.0);
        out.put_u32(self.refresh);
        self.ingest.encode(out);
    }

    fn decode(r: &mut Reader) -> Result<Self, WireError> {
        Ok(Entry {
            stream: decode_stream(r)?,
            life: LifeId(r.u64("life")?),
            epoch: Epoch { counter: r.u32("epoch counter")?, node: NodeId(r.u64("epoch node")?) },
            refresh: r.u32("refresh")?,
            ingest: Peer::decode(r)?,
        })
    }

    fn key(&self) -> StreamName {
        self.stream.clone()
    }

    fn is_newer(&self, other: &Self) -> bool {
        (self.epoch, self.refresh) > (other.epoch, other.refresh)
    }

    fn is_plausible(&self) -> bool {
        self.epoch.node == self.ingest.id
    }
}

impl Announcements<Entry> {
    /// Takes announcements. Returns those that are news, and the entries of the streams that are new or have moved to
    /// another life or epoch.
    pub(super) fn merge(
        &mut self,
        now: Time,
        announcements: Vec<Announcement<Entry>>,
    ) -> (Vec<Announcement<Entry>>, Vec<Entry>) {
        let (mut news, mut moved) = (Vec::new(), Vec::new());
        for announcement in announcements {
            let entry = &announcement.what;
            match self.take(now, &announcement) {
                Change::Refused => continue,
                Change::Newer(old) if (old.epoch, old.life) == (entry.epoch, entry.life) => {}
                Change::Newer(_) | Change::New => moved.push(entry.stream.clone()),
            }
            news.push(announcement);
        }
        (news, moved.iter().filter_map(|stream| self.get(stream).cloned()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Time = Time::from_millis(100_000);

    fn entry(counter: u32, refresh: u32) -> Entry {
        Entry {
            stream: StreamName::parse("a").expect("a name"),
            life: LifeId(1),
            epoch: Epoch { counter, node: NodeId(7) },
            refresh,
            ingest: Peer { id: NodeId(7), addr: ([127, 0, 0, 1], 4_900).into() },
        }
    }

    #[test]
    fn the_newest_entry_by_epoch_and_refresh_wins() {
        let mut directory = Announcements::<Entry>::new(9);
        let mut merge = |entry| {
            let (news, moved) = directory.merge(T, vec![Announcement::new(entry)]);
            (news.len(), moved.len())
        };
        assert_eq!(merge(entry(1, 5)), (1, 1));
        assert_eq!((merge(entry(1, 5)), merge(entry(1, 4))), ((0, 0), (0, 0)));
        assert_eq!(merge(entry(1, 6)), (1, 0), "a refresh moves nothing");
        assert_eq!(merge(Entry { life: LifeId(2), ..entry(1, 7) }), (1, 1), "another life");
        assert_eq!(merge(entry(2, 0)), (1, 1), "another epoch");
        let forged = Entry { epoch: Epoch { counter: 3, node: NodeId(8) }, ..entry(1, 1) };
        assert_eq!(merge(forged), (0, 0));
        assert_eq!(directory.get(&entry(0, 0).stream), Some(&entry(2, 0)));
    }

    #[test]
    fn a_stream_that_moves_twice_at_once_is_shown_as_it_is_in_the_end() {
        let twice = vec![Announcement::new(entry(1, 1)), Announcement::new(entry(2, 1))];
        let (news, moved) = Announcements::<Entry>::new(9).merge(T, twice.clone());
        assert_eq!((news, moved), (twice, vec![entry(2, 1), entry(2, 1)]));
    }
}
