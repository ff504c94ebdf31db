//! One swarm that this node is in: its overlay, its broadcast, and what is known of its stream.

use std::collections::BTreeMap;

use crate::hyparview as overlay;
use crate::hyparview::HyParView;
use crate::model::Peer;
use crate::model::Resume;
use crate::model::time::Time;
use crate::model::{Msn, NodeId, PartHeader, Record, StreamName, SwarmId, TrackId};
use crate::plumtree::{Plumtree, Stats};

/// What has been seen of a track.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Its newest part: (segment, part).
    newest: (Msn, u16),
    /// Where that ends, in ticks.
    end: u64,
    /// The window begins here.
    from: Msn,
}

/// A stream's share of a [`Member`].
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) name: StreamName,
    pub(super) tree: Plumtree,
    /// The newest one.
    pub(super) record: Option<Record>,
    tracks: BTreeMap<TrackId, Seen>,
    discontinuity: u32,
    /// Nodes known to be in the swarm: who told us of it, and the ingest.
    pub(super) contacts: Vec<Peer>,
    /// Set once the directory's entry is gone: when the swarm is left.
    pub(super) leave_at: Option<Time>,
}

impl Stream {
    pub(super) fn new(name: StreamName, tree: Plumtree) -> Self {
        Stream {
            name,
            tree,
            record: None,
            tracks: BTreeMap::new(),
            discontinuity: 0,
            contacts: Vec::new(),
            leave_at: None,
        }
    }

    /// Notes a delivered part; returns the oldest segment of its track that is still held, if that has moved.
    pub(super) fn on_part(&mut self, header: &PartHeader, held_default: u32) -> Option<Msn> {
        let id = header.id;
        self.discontinuity = self.discontinuity.max(header.discontinuity);
        let held = self.record.as_ref().map_or(held_default, Record::held_segments);
        let seen = self.tracks.entry(id.track).or_insert(Seen { newest: (0, 0), end: 0, from: 0 });
        if (id.msn, id.part) >= seen.newest {
            seen.newest = (id.msn, id.part);
            seen.end = header.decode_time.saturating_add(u64::from(header.duration));
        }
        // `held` counts the segment under way.
        let from = seen.newest.0.saturating_sub(held.saturating_sub(1));
        let moved = from > seen.from;
        seen.from = seen.from.max(from);
        moved.then_some(from)
    }

    /// Where a publisher goes on, if the record is known.
    pub(super) fn resume(&self) -> Option<Resume> {
        let record = self.record.clone()?;
        let newest = self.tracks.values().map(|seen| seen.newest.0).max();
        let noted = record.periods.last().map_or(0, |period| period.discontinuity);
        Some(Resume {
            newest_msn: newest.unwrap_or(record.first_msn),
            discontinuity: self.discontinuity.max(noted),
            ends: self.tracks.iter().map(|(track, seen)| (*track, seen.end)).collect(),
            record,
        })
    }
}

/// One swarm.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: SwarmId,
    pub(super) overlay: HyParView,
    /// `None`: the directory.
    pub(super) stream: Option<Stream>,
    /// The deadline by which the hub knows it.
    pub(super) due: Option<Time>,
}

impl Member {
    pub(super) fn next_timeout(&self) -> Option<Time> {
        let stream = self.stream.as_ref();
        let tree = stream.and_then(|s| s.tree.poll_timeout());
        let leave = stream.and_then(|s| s.leave_at);
        self.overlay.poll_timeout().into_iter().chain(tree).chain(leave).min()
    }

    pub(super) fn view(&self) -> SwarmView {
        let tree = self.stream.as_ref().map(|stream| &stream.tree);
        let neighbours = |eager: bool| {
            tree.into_iter()
                .flat_map(|tree| tree.neighbours())
                .filter(|(_, is)| *is == eager)
                .map(|(id, _)| id)
                .collect()
        };
        SwarmView {
            id: self.id,
            stream: self.stream.as_ref().map(|stream| stream.name.clone()),
            active: self.overlay.active().collect(),
            passive: self.overlay.passive().collect(),
            eager: neighbours(true),
            lazy: neighbours(false),
            parent: tree.and_then(Plumtree::parent),
            overlay: self.overlay.counters(),
            broadcast: tree.map(|tree| *tree.stats()),
        }
    }
}

/// What can be seen of a swarm: `/api/v1/swarm`, and the simulator's checkers.
#[derive(Debug, Clone, PartialEq)]
pub struct SwarmView {
    /// Which.
    pub id: SwarmId,
    /// Its stream; `None` for the directory.
    pub stream: Option<StreamName>,
    /// HyParView's active view.
    pub active: Vec<Peer>,
    /// HyParView's passive view.
    pub passive: Vec<Peer>,
    /// Plumtree's eagerPushPeers.
    pub eager: Vec<NodeId>,
    /// Plumtree's lazyPushPeers.
    pub lazy: Vec<NodeId>,
    /// The neighbour that feeds this node, as far as it is known.
    pub parent: Option<NodeId>,
    /// What the overlay has done.
    pub overlay: overlay::Counters,
    /// What the broadcast has done; `None` for the directory.
    pub broadcast: Option<Stats>,
}
