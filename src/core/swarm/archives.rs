//! The archives: which nodes hold what has left a stream's window, so that a node without it knows whom to ask.
//!
//! Each such node announces itself every few seconds, in the directory's swarm. A node knows at most [`KEEPERS_MAX`] for a
//! stream: those that reach back the furthest, so that a cluster in which every edge has a DVR isn't flooded with useless
//! notices.

use std::time::Duration;

use bytes::{BufMut, BytesMut};

use super::announcement::{Announceable, Announcement, Announcements, Change, decode_stream};
use crate::model::time::Time;
use crate::model::wire::{Reader, WireError};
use crate::model::{LifeId, Msn, NodeId, Peer, StreamName, wire};

/// The most keepers of a stream that a node knows and passes on. A guess: enough that some are up.
pub(super) const KEEPERS_MAX: usize = 8;

/// The part of a stream that a node's DVR holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The name of the stream.
    pub stream: StreamName,
    /// The presentation that the segments belong to.
    pub life: LifeId,
    /// The oldest segment that the node can give.
    pub from: Msn,
    /// The oldest segment that its playlists list.
    pub listed_from: Msn,
    /// The longest that its playlists may become.
    pub depth: Duration,
}

/// A node that holds what has left a stream's window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeper {
    /// The node, and where it can be asked.
    pub node: Peer,
    /// The content of the archive.
    pub kept: Kept,
    /// Goes up with each refresh, over restarts too: the node's wallclock in microseconds.
    pub stamp: u64,
}

/// A keeper on its way.
pub type ArchiveNotice = Announcement<Keeper>;

impl Announceable for Keeper {
    type Key = (StreamName, NodeId);

    const WIRE_LEN_MIN: usize = 3 + 8 + 4 + 4 + 4 + 8 + Peer::WIRE_LEN_MIN;

    fn encode(&self, out: &mut BytesMut) {
        let Keeper { node, kept, stamp } = self;
        wire::put_text(out, kept.stream.as_str());
        out.put_u64(kept.life.0);
        out.put_u32(kept.from);
        out.put_u32(kept.listed_from);
        out.put_u32(u32::try_from(kept.depth.as_secs()).unwrap_or(u32::MAX));
        out.put_u64(*stamp);
        node.encode(out);
    }

    fn decode(r: &mut Reader) -> Result<Self, WireError> {
        let kept = Kept {
            stream: decode_stream(r)?,
            life: LifeId(r.u64("life")?),
            from: r.u32("kept from")?,
            listed_from: r.u32("listed from")?,
            depth: Duration::from_secs(u64::from(r.u32("depth")?)),
        };
        Ok(Keeper { kept, stamp: r.u64("stamp")?, node: Peer::decode(r)? })
    }

    fn key(&self) -> (StreamName, NodeId) {
        (self.kept.stream.clone(), self.node.id)
    }

    fn is_newer(&self, other: &Self) -> bool {
        self.stamp > other.stamp
    }

    fn is_plausible(&self) -> bool {
        self.node.can_be_dialled()
    }
}

impl Announcements<Keeper> {
    /// Takes notices of the neighbour `from`; returns those that are news. `me` is this node, which isn't listed.
    pub(super) fn merge(
        &mut self,
        now: Time,
        me: NodeId,
        from: Peer,
        mut notices: Vec<ArchiveNotice>,
    ) -> Vec<ArchiveNotice> {
        for notice in &mut notices {
            let node = notice.what.node;
            // A node that listens on all addresses doesn't know where it can be dialled; its neighbours do.
            if node.id == from.id && !node.can_be_dialled() && notice.is_intact() {
                let keeper = Keeper { node: from, ..notice.what.clone() };
                *notice = ArchiveNotice { age_ms: notice.age_ms, ..ArchiveNotice::new(keeper) };
            }
        }
        notices.retain(|notice| notice.what.node.id != me && self.is_news(now, notice));
        notices
    }

    fn is_news(&mut self, now: Time, notice: &ArchiveNotice) -> bool {
        if self.take(now, notice) == Change::Refused {
            return false;
        }
        let stream = &notice.what.kept.stream;
        if self.of(stream).count() <= KEEPERS_MAX {
            return true;
        }
        // The one that reaches back the least goes; of equals, every node lets the same one go.
        let last = self.of(stream).map(|keeper| (keeper.kept.from, keeper.node.id)).max();
        let last = last.map_or(notice.what.node.id, |(_, id)| id);
        self.remove(&(stream.clone(), last));
        last != notice.what.node.id
    }

    /// Returns the keepers of a stream, by id.
    pub(super) fn of(&self, stream: &StreamName) -> impl Iterator<Item = &Keeper> {
        self.range((stream.clone(), NodeId(0)), (stream.clone(), NodeId(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Time = Time::from_millis(100_000);
    const FROM: Peer = Peer {
        id: NodeId(99),
        addr: std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4_999),
    };

    fn keeper(id: u64, from: Msn, stamp: u64) -> Keeper {
        let stream = StreamName::parse("cam1").expect("a name");
        let kept = Kept { stream, life: LifeId(1), from, listed_from: from, depth: Duration::from_secs(60) };
        let addr = ([127, 0, 0, 1], 4_900).into();
        Keeper { node: Peer { id: NodeId(id), addr }, kept, stamp }
    }

    fn merge(archives: &mut Announcements<Keeper>, keeper: Keeper) -> bool {
        !archives.merge(T, NodeId(1_000), FROM, vec![ArchiveNotice::new(keeper)]).is_empty()
    }

    #[test]
    fn the_newest_notice_of_a_node_counts() {
        let mut archives = Announcements::new(2);
        let stream = keeper(1, 0, 0).kept.stream;
        assert!(merge(&mut archives, keeper(1, 7, 1)));
        assert!(!merge(&mut archives, keeper(1, 8, 1)), "the same again");
        assert!(merge(&mut archives, keeper(1, 9, 2)));
        assert!(!merge(&mut archives, keeper(1_000, 1, 1)), "this node isn't listed");
        assert_eq!(archives.of(&stream).collect::<Vec<_>>(), [&keeper(1, 9, 2)]);
        let mut other = keeper(1, 7, 1);
        other.kept.stream = StreamName::parse("b").expect("a name");
        assert!(merge(&mut archives, other), "another stream of the same node");
        assert_eq!(archives.of(&stream).count(), 1);
    }

    #[test]
    fn a_stream_has_the_keepers_that_reach_back_the_furthest() {
        let mut archives = Announcements::new(100);
        for id in 1..=20 {
            let news = merge(&mut archives, keeper(id, 100 - id as Msn, 1));
            assert!(news, "{id} reaches back further than those before it");
        }
        assert!(!merge(&mut archives, keeper(1, 99, 2)), "it isn't passed on");
        let ids: Vec<_> = archives.of(&keeper(1, 0, 0).kept.stream).map(|k| k.node.id.0).collect();
        assert_eq!(ids, [13, 14, 15, 16, 17, 18, 19, 20]);
    }

    #[test]
    fn a_neighbour_that_listens_on_all_addresses_is_named_as_its_link_shows_it() {
        let mut archives = Announcements::<Keeper>::new(9);
        let nowhere = |id| Keeper { node: Peer { id: NodeId(id), addr: ([0, 0, 0, 0], 1).into() }, ..keeper(1, 9, 2) };
        let notices = [98, 99, 1_000].map(|id| ArchiveNotice::new(nowhere(id))).to_vec();
        let news = archives.merge(T, NodeId(1_000), FROM, notices);
        assert_eq!(news, [ArchiveNotice::new(Keeper { node: FROM, ..keeper(1, 9, 2) })]);
        assert_eq!(archives.announce_all(T), news);
    }
}
