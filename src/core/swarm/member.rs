//! One swarm that this node is in: its overlay, its broadcast and its stream.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::config::Config;
use super::frame::FrameBody;
use super::io::Output;
use crate::hyparview::HyParView;
use crate::model::time::Time;
use crate::model::{Msn, NodeId, PartHeader, PartId, Peer, Record, Resume, StreamName, SwarmId, TrackId};
use crate::plumtree::{Counters, Plumtree, Sizes};
use crate::{hyparview as overlay, plumtree as broadcast};

/// The most nodes remembered as likely members of a stream's swarm, beside the overlay's own views.
const CONTACTS_MAX: usize = 16;

/// An overlay joins through this many likely members at a time.
const JOINS: usize = 2;

/// A body is worth nothing to a slow peer after HOLD-BACK (3 x TARGETDURATION), and never before this.
const FRESH: Duration = Duration::from_secs(6);

/// An action that a swarm asks of its hub.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    /// Send this. Without a link, dial the peer if `dial` is set.
    Send { to: Peer, body: FrameBody, dial: bool },
    /// Send this if there is a link.
    SendLinked { to: NodeId, body: FrameBody },
    /// Pass this on to the driver.
    Output(Output),
    /// Tell a new neighbour in the directory's swarm all announcements.
    Welcome(Peer),
    /// Join through other members.
    Bootstrap,
}

/// The extent of a track, as far as delivered parts tell.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Its newest part: (segment, part).
    newest: (Msn, u16),
    /// The end of that part, in ticks.
    end: u64,
    /// The first segment of the window.
    from: Msn,
}

/// The stream that a swarm carries.
#[derive(Debug)]
pub(super) struct Stream {
    name: StreamName,
    tree: Plumtree,
    /// The newest record.
    record: Option<Record>,
    tracks: BTreeMap<TrackId, Seen>,
    discontinuity: u32,
    /// Nodes likely to be in the swarm: those that told us of it, and the ingest node.
    contacts: Vec<Peer>,
    /// The time at which this node leaves the swarm; set once the stream's entry is gone.
    leave_at: Option<Time>,
}

impl Stream {
    pub(super) fn new(name: StreamName, tree: Plumtree) -> Self {
        let (record, tracks, discontinuity, contacts, leave_at) = Default::default();
        Stream { name, tree, record, tracks, discontinuity, contacts, leave_at }
    }

    fn on_output(&mut self, now: Time, swarm: SwarmId, output: broadcast::Output, config: &Config) -> Option<Action> {
        let output = match output {
            broadcast::Output::Send { to, message } => {
                return Some(Action::SendLinked { to, body: FrameBody::Broadcast(message) });
            }
            broadcast::Output::Body { peer, action } => {
                let hold_back = self.record.as_ref().map(Record::hold_back);
                let expires = now + FRESH.max(hold_back.unwrap_or_default());
                Output::Body { peer, swarm, action, expires }
            }
            broadcast::Output::Deliver { header, body, .. } if header.id.track == TrackId::RECORD => {
                return self.on_record(header.id, body);
            }
            broadcast::Output::Deliver { header, body, trace, received } => {
                if let Some(before) = self.on_part(&header, config.held_segments) {
                    self.tree.handle(now, broadcast::Input::Forget { track: header.id.track, before });
                }
                Output::Deliver { stream: self.name.clone(), header, body, trace, received }
            }
        };
        Some(Action::Output(output))
    }

    fn on_record(&mut self, id: PartId, body: Bytes) -> Option<Action> {
        let record = Record::decode(body).ok();
        let own = |record: &Record| record.stream == self.name && (record.epoch, record.revision) == (id.epoch, id.msn);
        let newer = |record: &Record| self.record.as_ref().is_none_or(|old| record.supersedes(old));
        let record = record.filter(|record| own(record) && newer(record))?;
        self.record = Some(record.clone());
        Some(Action::Output(Output::Record(Box::new(record))))
    }

    /// Notes a delivered part. Returns the oldest segment of its track that is still held, if that has moved.
    fn on_part(&mut self, header: &PartHeader, held_default: u32) -> Option<Msn> {
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

    /// Returns how much its broadcast remembers.
    pub(super) fn sizes(&self) -> Sizes {
        self.tree.sizes()
    }

    /// Returns where a publisher resumes, if the record is known.
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

/// One swarm. After every change, call [`Member::poll`] until it returns `None`.
#[derive(Debug)]
pub(super) struct Member {
    id: SwarmId,
    overlay: HyParView,
    /// `None`: the directory.
    stream: Option<Stream>,
}

impl Member {
    /// Makes the swarm of a stream, or of the directory.
    pub(super) fn new(id: SwarmId, overlay: HyParView, stream: Option<Stream>) -> Self {
        Member { id, overlay, stream }
    }

    // --- inputs ---

    pub(super) fn feed_overlay(&mut self, now: Time, input: overlay::Input) {
        self.overlay.handle(now, input);
    }

    /// Returns whether the swarm has a stream.
    pub(super) fn feed_tree(&mut self, now: Time, input: broadcast::Input) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        stream.tree.handle(now, input);
        true
    }

    /// Does what is due. Returns whether this node leaves the swarm.
    pub(super) fn expire(&mut self, now: Time) -> bool {
        let past = |at: Option<Time>| at.is_some_and(|at| at <= now);
        if past(self.stream.as_ref().and_then(|stream| stream.leave_at)) {
            self.overlay.handle(now, overlay::Input::Leave);
            return true;
        }
        if past(self.overlay.poll_timeout()) {
            self.overlay.handle(now, overlay::Input::Timeout);
        }
        if let Some(stream) = self.stream.as_mut().filter(|stream| past(stream.tree.poll_timeout())) {
            stream.tree.handle(now, broadcast::Input::Timeout);
        }
        false
    }

    /// Stays in the swarm of `name`; `contacts` are likely members.
    pub(super) fn stay(&mut self, name: &StreamName, contacts: Vec<Peer>) {
        // Ids of 64 bits don't collide; if two do, this node doesn't carry the second stream.
        if let Some(stream) = self.stream.as_mut().filter(|stream| stream.name == *name) {
            stream.leave_at = None;
            stream.contacts = contacts;
        }
    }

    /// Leaves the swarm at `at`, unless the stream comes back.
    pub(super) fn leave_at(&mut self, at: Time) {
        if let Some(stream) = &mut self.stream {
            stream.leave_at = Some(at);
        }
    }

    /// Chooses likely members: the nodes that told us of the stream, `near` (the neighbours in the directory's swarm) and
    /// the ingest node. Takes two, and others each time, since all nodes join at about the same moment.
    pub(super) fn choose_contacts(&mut self, me: NodeId, near: Vec<Peer>) -> Vec<Peer> {
        let Member { overlay, stream: Some(stream), .. } = self else { return Vec::new() };
        let contacts = &mut stream.contacts;
        for peer in near {
            if !contacts.iter().any(|known| known.id == peer.id) {
                contacts.push(peer);
            }
        }
        contacts.retain(|peer| peer.id != me);
        let strangers = contacts.iter().filter(|peer| !overlay.is_neighbor(peer.id));
        let taken: Vec<_> = strangers.take(JOINS).copied().collect();
        contacts.retain(|peer| !taken.iter().any(|t| t.id == peer.id));
        contacts.extend(&taken);
        // Old neighbours go; the ingest node comes back with the next announcement.
        contacts.truncate(CONTACTS_MAX);
        taken
    }

    /// Gives the stream its share of the node's upload; `share` maps its rate to bytes/s.
    pub(super) fn set_upload(&mut self, share: impl Fn(u64) -> u64, now: Time) {
        if let Some(stream) = &mut self.stream {
            let share = share(stream.tree.inflow(now));
            stream.tree.configure(|config| config.upload = Some(share));
        }
    }

    /// Returns the next thing to do.
    pub(super) fn poll(&mut self, now: Time, config: &Config) -> Option<Action> {
        loop {
            let action = if let Some(output) = self.overlay.poll_output() {
                self.on_overlay_output(now, output)
            } else if let Some(stream) = &mut self.stream
                && let Some(output) = stream.tree.poll_output()
            {
                stream.on_output(now, self.id, output, config)
            } else {
                self.tell_overlay();
                return None;
            };
            if action.is_some() {
                return action;
            }
        }
    }

    fn on_overlay_output(&mut self, now: Time, output: overlay::Output) -> Option<Action> {
        let input = match output {
            overlay::Output::Send { to, message } => {
                let dial = message.wants_dial();
                return Some(Action::Send { to, body: FrameBody::Overlay(message), dial });
            }
            overlay::Output::NeighborUp(peer) if self.stream.is_none() => return Some(Action::Welcome(peer)),
            overlay::Output::NeighborUp(peer) => broadcast::Input::NeighborUp(peer.id),
            overlay::Output::NeighborDown(peer) => broadcast::Input::NeighborDown(peer),
            overlay::Output::Bootstrap => return Some(Action::Bootstrap),
        };
        self.feed_tree(now, input);
        None
    }

    /// Tells the overlay which links the tree runs over.
    fn tell_overlay(&mut self) {
        if let Some(stream) = &mut self.stream
            && stream.tree.tree_changed()
        {
            for (id, eager) in stream.tree.neighbours() {
                self.overlay.set_carries(id, eager);
            }
        }
    }

    // --- queries ---

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let stream = self.stream.as_ref();
        let tree = stream.and_then(|s| s.tree.poll_timeout());
        let leave = stream.and_then(|s| s.leave_at);
        self.overlay.poll_timeout().into_iter().chain(tree).chain(leave).min()
    }

    /// Returns the neighbours in the overlay.
    pub(super) fn active(&self) -> impl Iterator<Item = Peer> {
        self.overlay.active()
    }

    pub(super) fn needs_link(&self, id: NodeId) -> bool {
        self.overlay.needs_link(id)
    }

    /// Returns the rate of its stream in bytes/s.
    pub(super) fn inflow(&self, now: Time) -> u64 {
        self.stream.as_ref().map_or(0, |stream| stream.tree.inflow(now))
    }

    pub(super) fn stream(&self) -> Option<&Stream> {
        self.stream.as_ref()
    }

    pub(super) fn check_invariants(&self) {
        self.overlay.check_invariants();
        let Some(stream) = &self.stream else { return };
        for peer in self.overlay.active() {
            assert!(stream.tree.neighbours().any(|(id, _)| id == peer.id), "a neighbour Plumtree doesn't know");
        }
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
            broadcast: tree.map(|tree| *tree.counters()),
        }
    }
}

/// A snapshot of one swarm, for `/api/v1/swarm` and the simulator's checkers.
#[derive(Debug, Clone, PartialEq)]
pub struct SwarmView {
    /// The id of the swarm.
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
    /// The counters of the overlay.
    pub overlay: overlay::Counters,
    /// The counters of the broadcast; `None` for the directory.
    pub broadcast: Option<Counters>,
}
