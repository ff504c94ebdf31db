//! Who keeps what has left a stream's window, so that a node that keeps none of it knows whom to ask.
//!
//! Each keeper tells of itself every few seconds, in the directory's swarm; a notice is passed on to all neighbours
//! but the sender if it is newer than what is held, and one that isn't refreshed dies. A stream has at most
//! [`KEEPERS_MAX`] of them: those that reach back the furthest, so that a cluster in which every edge keeps isn't
//! flooded with notices that nobody needs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::{BufMut, BytesMut};

use super::Output;
use super::frame::{Body, Frame};
use super::hub::Hub;
use crate::model::Peer;
use crate::model::time::Time;
use crate::model::wire;
use crate::model::wire::{Fault, Reader, WireError};
use crate::model::{LifeId, Msn, NodeId, StreamName, SwarmId};

/// Most keepers of a stream that are known, and told of. A guess: enough that some are up.
pub const KEEPERS_MAX: usize = 8;

/// Most notices in one frame: 170 bytes each at most.
pub const NOTICES_MAX: usize = 128;

/// What a node keeps of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Which stream.
    pub stream: StreamName,
    /// Which life of it.
    pub life: LifeId,
    /// The oldest segment that it can give.
    pub from: Msn,
    /// The oldest that it lists.
    pub listed_from: Msn,
    /// How long what it lists may become.
    pub depth: Duration,
}

/// A keeper of a stream, as everybody knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeper {
    /// Who, and where it can be asked.
    pub node: Peer,
    /// What it keeps.
    pub kept: Kept,
    /// Goes up with each refresh, over restarts too: the keeper's wallclock in microseconds.
    pub stamp: u64,
}

/// A keeper on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Of whom.
    pub keeper: Keeper,
    /// A checksum, as of the directory's entries.
    pub checksum: u64,
    /// How long ago the keeper said so, as far as the sender knows, in milliseconds.
    pub age_ms: u32,
}

impl Notice {
    /// The shortest one on the wire, in bytes.
    pub const WIRE_LEN_MIN: usize = 3 + 8 + 4 + 4 + 4 + 8 + Peer::WIRE_LEN_MIN + 8 + 4;

    fn new(keeper: Keeper, age_ms: u32) -> Self {
        Notice { checksum: checksum(&keeper), keeper, age_ms }
    }

    /// Appends the notice.
    pub fn encode(&self, out: &mut BytesMut) {
        put_keeper(out, &self.keeper);
        out.put_u64(self.checksum);
        out.put_u32(self.age_ms);
    }

    /// Reads a notice. Its checksum is checked by [`Keepers::merge`].
    pub fn decode(r: &mut Reader) -> Result<Self, WireError> {
        let stream = r.text(StreamName::LEN_MAX, "stream")?;
        let stream = StreamName::parse(&stream).map_err(|_| r.fault("stream", Fault::Invalid))?;
        let kept = Kept {
            stream,
            life: LifeId(r.u64("life")?),
            from: r.u32("kept from")?,
            listed_from: r.u32("listed from")?,
            depth: Duration::from_secs(u64::from(r.u32("depth")?)),
        };
        let keeper = Keeper { kept, stamp: r.u64("stamp")?, node: Peer::decode(r)? };
        Ok(Notice { keeper, checksum: r.u64("checksum")?, age_ms: r.u32("age")? })
    }
}

fn put_keeper(out: &mut BytesMut, keeper: &Keeper) {
    let Keeper { node, kept, stamp } = keeper;
    wire::put_text(out, kept.stream.as_str());
    out.put_u64(kept.life.0);
    out.put_u32(kept.from);
    out.put_u32(kept.listed_from);
    out.put_u32(u32::try_from(kept.depth.as_secs()).unwrap_or(u32::MAX));
    out.put_u64(*stamp);
    node.encode(out);
}

/// The first eight bytes of BLAKE3 over the keeper as it is on the wire.
fn checksum(keeper: &Keeper) -> u64 {
    let mut out = BytesMut::new();
    put_keeper(&mut out, keeper);
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(&out).as_bytes()[..8]);
    u64::from_be_bytes(first)
}

#[derive(Debug, Clone)]
struct Held {
    keeper: Keeper,
    refreshed: Time,
}

/// All keepers of all streams, as far as they are known.
#[derive(Debug)]
pub struct Keepers {
    streams: BTreeMap<StreamName, BTreeMap<NodeId, Held>>,
    dead_after: Duration,
    streams_max: usize,
}

impl Keepers {
    /// None yet; a keeper is dead `dead_after` its last notice.
    pub fn new(dead_after: Duration, streams_max: usize) -> Self {
        Keepers { streams: BTreeMap::new(), dead_after, streams_max }
    }

    /// Takes a notice; whether it is news, and to be passed on.
    pub fn merge(&mut self, now: Time, notice: &Notice) -> bool {
        let Notice { keeper, checksum: sum, age_ms } = notice;
        let age = Duration::from_millis(u64::from(*age_ms));
        if checksum(keeper) != *sum || age >= self.dead_after || !keeper.node.can_be_dialled() {
            return false;
        }
        let stream = &keeper.kept.stream;
        if self.streams.len() >= self.streams_max && !self.streams.contains_key(stream) {
            return false;
        }
        let of_stream = self.streams.entry(stream.clone()).or_default();
        if of_stream.get(&keeper.node.id).is_some_and(|old| keeper.stamp <= old.keeper.stamp) {
            return false;
        }
        of_stream.insert(keeper.node.id, Held { keeper: keeper.clone(), refreshed: now - age });
        while of_stream.len() > KEEPERS_MAX {
            // Who reaches back the least; of equals, always the same one, wherever this is decided.
            let last = of_stream.values().max_by_key(|h| (h.keeper.kept.from, h.keeper.node.id));
            let Some(last) = last.map(|held| held.keeper.node.id) else { break };
            of_stream.remove(&last);
        }
        of_stream.contains_key(&keeper.node.id)
    }

    /// The keepers of a stream, by id.
    pub fn of(&self, stream: &StreamName) -> Vec<Keeper> {
        let held = self.streams.get(stream).into_iter().flat_map(BTreeMap::values);
        held.map(|held| held.keeper.clone()).collect()
    }

    /// All that are known, to be told to a new neighbour.
    pub fn tell_all(&self, now: Time) -> Vec<Notice> {
        let notice = |held: &Held| {
            let age = now.since(held.refreshed).as_millis();
            Notice::new(held.keeper.clone(), u32::try_from(age).unwrap_or(u32::MAX))
        };
        self.streams.values().flat_map(BTreeMap::values).map(notice).collect()
    }

    /// Removes the dead; says whose streams they were of.
    pub fn expire(&mut self, now: Time) -> Vec<StreamName> {
        let mut changed = Vec::new();
        self.streams.retain(|stream, keepers| {
            let before = keepers.len();
            keepers.retain(|_, held| held.refreshed + self.dead_after > now);
            if keepers.len() < before {
                changed.push(stream.clone());
            }
            !keepers.is_empty()
        });
        changed
    }

    /// When the next one dies, unless it is refreshed.
    pub fn next_expiry(&self) -> Option<Time> {
        let held = self.streams.values().flat_map(BTreeMap::values);
        held.map(|held| held.refreshed + self.dead_after).min()
    }
}

impl Hub {
    /// This node keeps these: it tells everybody. To be said again before the notices die.
    pub(super) fn on_keep(&mut self, now: Time, kept: Vec<Kept>, stamp: u64) {
        if self.left {
            return;
        }
        let notices = kept.into_iter().map(|kept| {
            let keeper = Keeper { node: self.me, kept, stamp };
            Notice::new(keeper, 0)
        });
        // A node that listens everywhere doesn't know its own address; its neighbours put theirs of it in.
        let notices: Vec<_> = notices.collect();
        self.tell_keepers(now, &notices, None);
    }

    pub(super) fn on_notices(&mut self, now: Time, from: Peer, notices: Vec<Notice>) {
        let mut news = Vec::new();
        for mut notice in notices {
            if notice.keeper.node.id == self.me.id {
                continue;
            }
            // Of the neighbour itself, which may not know where it can be dialled.
            if notice.keeper.node.id == from.id
                && !notice.keeper.node.can_be_dialled()
                && notice.checksum == checksum(&notice.keeper)
            {
                notice = Notice::new(Keeper { node: from, ..notice.keeper }, notice.age_ms);
            }
            if self.keepers.merge(now, &notice) {
                news.push(notice);
            }
        }
        self.tell_keepers(now, &news, Some(from.id));
        let streams: BTreeSet<_> = news.into_iter().map(|notice| notice.keeper.kept.stream).collect();
        self.show_keepers(streams);
    }

    /// Tells all neighbours of the directory but `except`.
    fn tell_keepers(&mut self, now: Time, news: &[Notice], except: Option<NodeId>) {
        let Some(member) = self.members.get(&SwarmId::DIRECTORY) else { return };
        for peer in member.overlay.active().filter(|peer| Some(peer.id) != except).collect::<Vec<_>>() {
            self.tell_keepers_to(now, peer, news);
        }
    }

    pub(super) fn tell_keepers_to(&mut self, now: Time, peer: Peer, news: &[Notice]) {
        for chunk in news.chunks(NOTICES_MAX) {
            let frame = Frame { swarm: SwarmId::DIRECTORY, body: Body::Keepers(chunk.to_vec()) };
            self.send(now, peer, &frame, false);
        }
    }

    pub(super) fn show_keepers(&mut self, streams: impl IntoIterator<Item = StreamName>) {
        for stream in streams {
            let keepers = self.keepers.of(&stream);
            self.outputs.push_back(Output::Kept { stream, keepers });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeper(id: u64, from: Msn, stamp: u64) -> Keeper {
        let stream = StreamName::parse("cam1").expect("a name");
        let kept = Kept { stream, life: LifeId(1), from, listed_from: from, depth: Duration::from_secs(60) };
        let addr = ([127, 0, 0, 1], 4_900).into();
        Keeper { node: Peer { id: NodeId(id), addr }, kept, stamp }
    }

    fn keepers() -> Keepers {
        Keepers::new(Duration::from_secs(15), 2)
    }

    #[test]
    fn the_newest_notice_counts_and_dies() {
        let (mut keepers, t) = (keepers(), Time::from_millis(100_000));
        let stream = keeper(1, 0, 0).kept.stream;
        assert!(keepers.merge(t, &Notice::new(keeper(1, 7, 1), 0)));
        assert!(!keepers.merge(t, &Notice::new(keeper(1, 8, 1), 0)), "the same again");
        assert!(keepers.merge(t, &Notice::new(keeper(1, 9, 2), 5_000)));
        assert_eq!(keepers.of(&stream), [keeper(1, 9, 2)]);
        assert!(!keepers.merge(t, &Notice::new(keeper(2, 9, 2), 15_000)), "as old as the dead");
        let torn = Notice { age_ms: 0, keeper: keeper(2, 8, 2), ..Notice::new(keeper(2, 9, 2), 0) };
        assert!(!keepers.merge(t, &torn), "another checksum");
        let nowhere =
            Keeper { node: Peer { addr: ([0, 0, 0, 0], 1).into(), ..keeper(2, 9, 2).node }, ..keeper(2, 9, 2) };
        assert!(!keepers.merge(t, &Notice::new(nowhere, 0)));
        assert_eq!(keepers.next_expiry(), Some(t + Duration::from_secs(10)));
        assert_eq!(keepers.expire(t + Duration::from_millis(9_999)), []);
        assert_eq!(keepers.expire(t + Duration::from_secs(10)), std::slice::from_ref(&stream));
        assert_eq!(keepers.of(&stream), []);
    }

    #[test]
    fn a_stream_has_so_many_and_a_node_so_many_streams() {
        let (mut keepers, t) = (keepers(), Time::from_millis(100_000));
        for id in 1..=20 {
            let taken = keepers.merge(t, &Notice::new(keeper(id, 100 - id as Msn, 1), 0));
            assert!(taken, "{id} reaches back further than those before it");
        }
        assert!(!keepers.merge(t, &Notice::new(keeper(1, 99, 2), 0)), "it isn't passed on");
        let ids: Vec<_> = keepers.of(&keeper(1, 0, 0).kept.stream).iter().map(|k| k.node.id.0).collect();
        assert_eq!(ids, [13, 14, 15, 16, 17, 18, 19, 20]);
        for (name, taken) in [("b", true), ("c", false)] {
            let mut other = keeper(1, 1, 1);
            other.kept.stream = StreamName::parse(name).expect("a name");
            assert_eq!(keepers.merge(t, &Notice::new(other, 0)), taken);
        }
    }

    #[test]
    fn notices_survive_the_wire() {
        let notice = Notice::new(keeper(7, 8, 9), 10);
        let mut out = BytesMut::new();
        notice.encode(&mut out);
        assert!(out.len() >= Notice::WIRE_LEN_MIN);
        assert_eq!(Notice::decode(&mut Reader::new(out.freeze())), Ok(notice));
    }
}
