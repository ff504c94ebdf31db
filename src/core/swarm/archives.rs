//! Who keeps what has left a stream's window, so that a node that keeps none of it knows whom to ask.
//!
//! Each keeper tells of itself every few seconds, in the directory's swarm; a notice is passed on to all neighbours
//! but the sender if it is newer than what is held, and one that isn't refreshed dies. A stream has at most
//! [`KEEPERS_MAX`] of them: those that reach back the furthest, so that a cluster in which every edge keeps isn't
//! flooded with notices that nobody needs.

use std::collections::BTreeMap;
use std::time::Duration;

use super::announcement::Held;
use super::archive_notice::{ArchiveNotice, Keeper};
use crate::model::time::Time;
use crate::model::{NodeId, Peer, StreamName};

/// Most keepers of a stream that are known, and told of. A guess: enough that some are up.
const KEEPERS_MAX: usize = 8;

/// All keepers of all streams but this node itself, as far as they are known.
#[derive(Debug)]
pub(super) struct ArchiveDirectory {
    me: NodeId,
    streams: BTreeMap<StreamName, BTreeMap<NodeId, Held<Keeper>>>,
    dead_after: Duration,
    streams_max: usize,
}

impl ArchiveDirectory {
    /// Makes an empty one; a keeper is dead `dead_after` its last notice.
    pub(super) fn new(me: NodeId, dead_after: Duration, streams_max: usize) -> Self {
        ArchiveDirectory { me, streams: BTreeMap::new(), dead_after, streams_max }
    }

    /// Takes notices that a neighbour has told of; returns those that are news, and to be passed on.
    pub(super) fn merge(&mut self, now: Time, from: Peer, notices: Vec<ArchiveNotice>) -> Vec<ArchiveNotice> {
        let me = self.me;
        let named = notices.into_iter().filter(|notice| notice.what.node.id != me).map(|notice| {
            // A node that listens everywhere doesn't know where it can be dialled; its neighbours do.
            let node = notice.what.node;
            if node.id == from.id && !node.can_be_dialled() && notice.is_intact() {
                let keeper = Keeper { node: from, ..notice.what };
                return ArchiveNotice { age_ms: notice.age_ms, ..ArchiveNotice::new(keeper) };
            }
            notice
        });
        named.filter(|notice| self.take(now, notice)).collect()
    }

    /// Takes a notice; returns whether it is news.
    fn take(&mut self, now: Time, notice: &ArchiveNotice) -> bool {
        let Keeper { node, kept, stamp } = &notice.what;
        if !notice.is_intact() || notice.age() >= self.dead_after || !node.can_be_dialled() {
            return false;
        }
        if self.streams.len() >= self.streams_max && !self.streams.contains_key(&kept.stream) {
            return false;
        }
        let of_stream = self.streams.entry(kept.stream.clone()).or_default();
        if of_stream.get(&node.id).is_some_and(|old| *stamp <= old.what.stamp) {
            return false;
        }
        of_stream.insert(node.id, Held::new(now, notice.clone()));
        while of_stream.len() > KEEPERS_MAX {
            // Who reaches back the least; of equals, always the same one, wherever this is decided.
            let last = of_stream.values().map(|held| (held.what.kept.from, held.what.node.id)).max();
            let Some((_, last)) = last else { break };
            of_stream.remove(&last);
        }
        of_stream.contains_key(&node.id)
    }

    /// Returns the keepers of a stream, by id.
    pub(super) fn of(&self, stream: &StreamName) -> Vec<Keeper> {
        self.streams.get(stream).into_iter().flat_map(BTreeMap::values).map(|held| held.what.clone()).collect()
    }

    /// Returns all that is known, to be told to a new neighbour.
    pub(super) fn announce_all(&self, now: Time) -> Vec<ArchiveNotice> {
        self.streams.values().flat_map(BTreeMap::values).map(|held| held.announce(now)).collect()
    }

    /// Removes the dead; returns whose streams they were of.
    pub(super) fn expire(&mut self, now: Time) -> Vec<StreamName> {
        let mut changed = Vec::new();
        self.streams.retain(|stream, keepers| {
            let before = keepers.len();
            keepers.retain(|_, held| held.dies_at(self.dead_after) > now);
            if keepers.len() < before {
                changed.push(stream.clone());
            }
            !keepers.is_empty()
        });
        changed
    }

    /// Returns when the next one dies, unless it is refreshed.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let held = self.streams.values().flat_map(BTreeMap::values);
        held.map(|held| held.dies_at(self.dead_after)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::super::archive_notice::Kept;
    use super::*;
    use crate::model::{LifeId, Msn};

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

    fn archives() -> ArchiveDirectory {
        ArchiveDirectory::new(NodeId(1_000), Duration::from_secs(15), 2)
    }

    /// Whether a notice of this age is passed on.
    fn is_news(archives: &mut ArchiveDirectory, keeper: Keeper, age_ms: u32) -> bool {
        let notice = ArchiveNotice { age_ms, ..ArchiveNotice::new(keeper) };
        !archives.merge(T, FROM, vec![notice]).is_empty()
    }

    #[test]
    fn the_newest_notice_counts_and_dies() {
        let mut archives = archives();
        let stream = keeper(1, 0, 0).kept.stream;
        assert!(is_news(&mut archives, keeper(1, 7, 1), 0));
        assert!(!is_news(&mut archives, keeper(1, 8, 1), 0), "the same again");
        assert!(is_news(&mut archives, keeper(1, 9, 2), 5_000));
        assert_eq!(archives.of(&stream), [keeper(1, 9, 2)]);
        assert!(!is_news(&mut archives, keeper(2, 9, 2), 15_000), "as old as the dead");
        let torn = ArchiveNotice { what: keeper(2, 8, 2), ..ArchiveNotice::new(keeper(2, 9, 2)) };
        assert_eq!(archives.merge(T, FROM, vec![torn]), [], "another checksum");
        assert_eq!(archives.poll_timeout(), Some(T + Duration::from_secs(10)));
        assert_eq!(archives.expire(T + Duration::from_millis(9_999)), []);
        assert_eq!(archives.expire(T + Duration::from_secs(10)), std::slice::from_ref(&stream));
        assert_eq!(archives.of(&stream), []);
    }

    #[test]
    fn a_stream_has_so_many_and_a_node_so_many_streams() {
        let mut archives = archives();
        for id in 1..=20 {
            let news = is_news(&mut archives, keeper(id, 100 - id as Msn, 1), 0);
            assert!(news, "{id} reaches back further than those before it");
        }
        assert!(!is_news(&mut archives, keeper(1, 99, 2), 0), "it isn't passed on");
        let ids: Vec<_> = archives.of(&keeper(1, 0, 0).kept.stream).iter().map(|k| k.node.id.0).collect();
        assert_eq!(ids, [13, 14, 15, 16, 17, 18, 19, 20]);
        for (name, news) in [("b", true), ("c", false)] {
            let mut other = keeper(1, 1, 1);
            other.kept.stream = StreamName::parse(name).expect("a name");
            assert_eq!(is_news(&mut archives, other, 0), news);
        }
    }

    #[test]
    fn a_neighbour_that_listens_everywhere_is_named_as_its_link_shows_it() {
        let mut archives = archives();
        let nowhere = |id| Keeper { node: Peer { id: NodeId(id), addr: ([0, 0, 0, 0], 1).into() }, ..keeper(1, 9, 2) };
        let notices = [98, 99, 1_000].map(|id| ArchiveNotice::new(nowhere(id))).to_vec();
        let news = archives.merge(T, FROM, notices);
        assert_eq!(news, [ArchiveNotice::new(Keeper { node: FROM, ..keeper(1, 9, 2) })]);
        assert_eq!(archives.announce_all(T), news);
    }

    #[test]
    fn this_node_is_no_keeper_here() {
        assert!(!is_news(&mut archives(), keeper(1_000, 1, 1), 0));
    }
}
