//! Who gets what.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;

use super::config::Config;
use super::contacts::Contacts;
use super::directory::Directory;
use super::frame::{Body, Frame};
use super::keepers::Keepers;
use super::links::{Links, Route};
use super::member::{Member, Stream, SwarmView};
use super::{Entry, Input, Output};
use crate::hyparview as overlay;
use crate::hyparview::DownCause;
use crate::model::Peer;
use crate::model::Resume;
use crate::model::time::Time;
use crate::model::wire::WireError;
use crate::model::{NodeId, Record, StreamName, SwarmId};
use crate::plumtree as broadcast;

/// What a hub has counted; see also [`SwarmView`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Frames that couldn't be read.
    pub bad_frames: u64,
    /// Frames of nodes without a link.
    pub stray_frames: u64,
    /// Frames and bodies of swarms that this node isn't in.
    pub unknown_swarms: u64,
    /// Records that weren't their stream's, or couldn't be read.
    pub bad_records: u64,
    /// Directory announcements refused for their checksum or their claim.
    pub bad_announcements: u64,
    /// Directory announcements refused since the directory was full.
    pub full_announcements: u64,
}

/// A stream that this node's ingest claims.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) entry: Entry,
    /// Set at the stream's end: until when its entry is refreshed.
    pub(super) until: Option<Time>,
}

/// How often links are looked at for idleness: a share of `link_linger` that doesn't matter.
const SWEEPS: u32 = 4;

/// All swarms of one node.
#[derive(Debug)]
pub struct Hub {
    pub(super) me: Peer,
    pub(super) config: Config,
    pub(super) seed: u64,
    pub(super) links: Links,
    pub(super) contacts: Contacts,
    pub(super) directory: Directory,
    pub(super) keepers: Keepers,
    pub(super) owned: BTreeMap<StreamName, Owned>,
    pub(super) members: BTreeMap<SwarmId, Member>,
    /// The deadlines of all members.
    pub(super) due: BTreeSet<(Time, SwarmId)>,
    pub(super) refresh_at: Option<Time>,
    sweep_at: Option<Time>,
    /// When the upload is shared anew, with the first part after it.
    pub(super) share_at: Option<Time>,
    pub(super) outputs: VecDeque<Output>,
    pub(super) counters: Counters,
    last_fault: Option<(NodeId, WireError)>,
    pub(super) left: bool,
}

impl Hub {
    /// A node that is in the directory's swarm alone, and knows nobody yet. Its first deadline is at once.
    pub fn new(me: Peer, config: Config, seed: u64) -> Self {
        let mut hub = Hub {
            me,
            seed,
            links: Links::default(),
            contacts: Contacts::new(me.addr, &config),
            directory: Directory::new(config.dead_after, config.entries_max),
            keepers: Keepers::new(config.dead_after, config.entries_max),
            owned: BTreeMap::new(),
            members: BTreeMap::new(),
            due: BTreeSet::new(),
            refresh_at: None,
            sweep_at: None,
            share_at: None,
            outputs: VecDeque::new(),
            counters: Counters::default(),
            last_fault: None,
            left: false,
            config,
        };
        let overlay = hub.overlay_of(SwarmId::DIRECTORY);
        hub.add_member(Member { id: SwarmId::DIRECTORY, overlay, stream: None, due: None });
        hub
    }

    /// Takes what has happened.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Timeout => {}
            Input::LinkUp { peer, dialled } => self.on_link_up(now, peer, dialled),
            Input::LinkDown { peer, cause } => self.on_link_down(now, peer, cause),
            Input::DialFailed { addr, peer, cause } => self.on_dial_failed(now, addr, peer, cause),
            Input::LinkEstimate { peer, rtt_us, rate } => self.on_estimate(now, peer, rtt_us, rate),
            Input::Control { from, frame } => self.on_control(now, from, frame),
            Input::BodyHead { from, swarm, header, trace, offset } => {
                let input = broadcast::Input::BodyHead { from, header, trace, offset };
                if !self.feed_tree(now, swarm, input) {
                    self.outputs.push_back(Output::BodyRefuse { from, swarm, id: header.id });
                }
            }
            Input::BodyPiece { from, swarm, id, bytes } => {
                self.feed_tree(now, swarm, broadcast::Input::BodyPiece { from, id, bytes });
            }
            Input::BodyTorn { from, swarm, id } => {
                self.feed_tree(now, swarm, broadcast::Input::BodyTorn { from, id });
            }
            Input::BodyStopped { to, swarm, id } => {
                self.feed_tree(now, swarm, broadcast::Input::BodyStopped { to, id });
            }
            Input::Claim { record } => self.on_claim(now, record),
            Input::Publish { stream, header, body, trace } => {
                self.feed_tree(now, SwarmId::of(&stream), broadcast::Input::Publish { header, body, trace });
            }
            Input::Keep { kept, stamp } => self.on_keep(now, kept, stamp),
            Input::Leave => self.on_leave(now),
        }
        self.expire(now);
    }

    /// The next thing to do; drain until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        if self.left {
            return None;
        }
        let members = self.due.first().map(|(at, _)| *at);
        let rest = [self.refresh_at, self.sweep_at, self.contacts.next()];
        let rest = rest.into_iter().chain([self.directory.next_expiry(), self.keepers.next_expiry()]);
        rest.flatten().chain(members).min()
    }

    // --- what can be seen ---

    /// This node.
    pub fn me(&self) -> Peer {
        self.me
    }

    /// Its swarms, the directory first.
    pub fn swarms(&self) -> impl Iterator<Item = SwarmView> {
        self.members.values().map(Member::view)
    }

    /// The entries of the directory, by name.
    pub fn directory(&self) -> impl Iterator<Item = &Entry> {
        self.directory.entries()
    }

    /// The directory's entry of a stream.
    pub fn entry(&self, stream: &StreamName) -> Option<&Entry> {
        self.directory.get(stream)
    }

    /// The newest record of a stream.
    pub fn record(&self, stream: &StreamName) -> Option<&Record> {
        self.stream(stream)?.record.as_ref()
    }

    /// Where a publisher of `stream` goes on, if the swarm holds a life of it.
    pub fn resume(&self, stream: &StreamName) -> Option<Resume> {
        self.stream(stream)?.resume()
    }

    /// The peers with a link.
    pub fn links(&self) -> impl Iterator<Item = Peer> {
        self.links.up()
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        let Directory { corrupt, full, .. } = self.directory;
        Counters { bad_announcements: corrupt, full_announcements: full, ..self.counters }
    }

    /// Whose frame couldn't be read last, and why.
    pub fn last_fault(&self) -> Option<&(NodeId, WireError)> {
        self.last_fault.as_ref()
    }

    /// What a swarm's broadcast remembers; `None` for the directory and unknown swarms.
    pub fn sizes(&self, swarm: SwarmId) -> Option<broadcast::Sizes> {
        self.members.get(&swarm)?.stream.as_ref().map(|stream| stream.tree.sizes())
    }

    /// Panics where a promise of the views is broken.
    pub fn check_invariants(&self) {
        for member in self.members.values() {
            member.overlay.check_invariants();
            let Some(stream) = &member.stream else { continue };
            for peer in member.overlay.active() {
                assert!(stream.tree.neighbours().any(|(id, _)| id == peer.id), "a neighbour Plumtree doesn't know");
            }
        }
    }

    pub(super) fn stream(&self, stream: &StreamName) -> Option<&Stream> {
        self.members.get(&SwarmId::of(stream))?.stream.as_ref()
    }

    // --- links ---

    fn on_link_up(&mut self, now: Time, peer: Peer, dialled: Option<SocketAddr>) {
        if peer.id == self.me.id {
            return;
        }
        for frame in self.links.set_up(peer) {
            self.outputs.push_back(Output::Control { to: peer.id, frame });
        }
        // Somebody else was expected there.
        for id in dialled.map(|addr| self.links.take_dialling(addr, None)).unwrap_or_default() {
            self.peer_down(now, id, DownCause::Refused);
        }
        self.arm_sweep(now);
        let wanted = self.contacts.found(peer, dialled);
        if wanted || (self.config.is_static() && self.contacts.known().contains(&peer)) {
            self.join_through(now, peer);
        }
    }

    /// A contact is there: the directory's overlay joins through it; in a static topology all do.
    fn join_through(&mut self, now: Time, peer: Peer) {
        let ids: Vec<_> = match self.config.is_static() {
            true => self.members.keys().copied().collect(),
            false => vec![SwarmId::DIRECTORY],
        };
        for id in ids {
            self.feed_overlay(now, id, overlay::Input::Join(peer));
        }
    }

    fn on_link_down(&mut self, now: Time, peer: NodeId, cause: DownCause) {
        self.links.remove(peer);
        self.peer_down(now, peer, cause);
    }

    fn on_dial_failed(&mut self, now: Time, addr: SocketAddr, peer: Option<NodeId>, cause: DownCause) {
        self.contacts.failed(now, addr);
        for id in self.links.take_dialling(addr, peer) {
            self.peer_down(now, id, cause);
        }
    }

    pub(super) fn peer_down(&mut self, now: Time, peer: NodeId, cause: DownCause) {
        for id in self.members.keys().copied().collect::<Vec<_>>() {
            self.feed_overlay(now, id, overlay::Input::PeerDown { peer, cause });
        }
    }

    fn on_estimate(&mut self, now: Time, peer: NodeId, rtt_us: u32, rate: u64) {
        for id in self.members.keys().copied().collect::<Vec<_>>() {
            self.feed_overlay(now, id, overlay::Input::Rtt { peer, rtt_us });
            self.feed_tree(now, id, broadcast::Input::LinkEstimate { peer, rtt_us, rate });
        }
    }

    fn arm_sweep(&mut self, now: Time) {
        if self.sweep_at.is_none() && !self.links.is_empty() {
            self.sweep_at = Some(now + self.config.link_linger / SWEEPS);
        }
    }

    fn sweep(&mut self, now: Time) {
        for id in self.links.take_overdue(now, self.config.dial_patience) {
            self.peer_down(now, id, DownCause::TimedOut);
        }
        let Hub { links, members, config, .. } = self;
        let needed = |id: NodeId| members.values().any(|member| member.overlay.needs_link(id));
        for peer in links.take_idle(now, config.link_linger, needed) {
            self.outputs.push_back(Output::Close { peer });
        }
        self.arm_sweep(now);
    }

    // --- frames ---

    fn on_control(&mut self, now: Time, from: NodeId, frame: Bytes) {
        let Some(peer) = self.links.peer(from) else {
            self.counters.stray_frames += 1;
            return;
        };
        let Frame { swarm, body } = match Frame::decode(frame) {
            Ok(Some(frame)) => frame,
            Ok(None) => return, // A newer node's.
            Err(fault) => {
                self.counters.bad_frames += 1;
                self.last_fault = Some((from, fault));
                return;
            }
        };
        match body {
            Body::Directory(announcements) => self.on_announcements(now, peer, &announcements),
            Body::Keepers(notices) => self.on_notices(now, peer, notices),
            Body::Leave if swarm == SwarmId::DIRECTORY => self.peer_down(now, from, DownCause::Left),
            Body::Leave => {
                self.feed_overlay(now, swarm, overlay::Input::PeerDown { peer: from, cause: DownCause::Left });
            }
            Body::Overlay(message) => {
                let asks = matches!(message, overlay::Message::Join | overlay::Message::Neighbor { .. });
                let known = self.feed_overlay(now, swarm, overlay::Input::Message { from: peer, message });
                if !known {
                    self.counters.unknown_swarms += 1;
                    // Its announcement may be on its way to us. Who asks tries elsewhere, and again later.
                    if asks {
                        let frame = Frame { swarm, body: Body::Leave }.encode();
                        self.outputs.push_back(Output::Control { to: from, frame });
                    }
                }
            }
            Body::Broadcast(message) => {
                if !self.feed_tree(now, swarm, broadcast::Input::Message { from, message }) {
                    self.counters.unknown_swarms += 1;
                }
            }
        }
    }

    pub(super) fn send(&mut self, now: Time, to: Peer, frame: &Frame, wants_dial: bool) {
        let frame = frame.encode();
        match self.links.route(now, to, &frame, wants_dial) {
            Route::Send => self.outputs.push_back(Output::Control { to: to.id, frame }),
            Route::Dial => {
                self.outputs.push_back(Output::Dial { addr: to.addr, peer: Some(to.id) });
                self.arm_sweep(now);
            }
            Route::Wait | Route::Drop => {}
        }
    }

    // --- time ---

    fn expire(&mut self, now: Time) {
        if self.left {
            return;
        }
        if self.refresh_at.is_some_and(|at| at <= now) {
            self.refresh_all(now);
        }
        if self.sweep_at.take_if(|at| *at <= now).is_some() {
            self.sweep(now);
        }
        if self.directory.next_expiry().is_some_and(|at| at <= now) {
            for stream in self.directory.expire(now) {
                self.on_expired(now, stream);
            }
        }
        if self.keepers.next_expiry().is_some_and(|at| at <= now) {
            let changed = self.keepers.expire(now);
            self.show_keepers(changed);
        }
        let due: Vec<_> = self.due.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect();
        for id in due {
            self.expire_member(now, id);
        }
        // Last, since an overlay may just have asked for them.
        for addr in self.contacts.due(now) {
            self.outputs.push_back(Output::Dial { addr, peer: None });
        }
    }

    fn on_expired(&mut self, now: Time, stream: StreamName) {
        let id = SwarmId::of(&stream);
        if let Some(gone) = self.members.get_mut(&id).and_then(|member| member.stream.as_mut()) {
            gone.leave_at = Some(now + self.config.swarm_linger);
            self.reschedule(id);
        }
        self.outputs.push_back(Output::Expired { stream });
    }

    fn expire_member(&mut self, now: Time, id: SwarmId) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let past = |at: Option<Time>| at.is_some_and(|at| at <= now);
        if past(member.stream.as_ref().and_then(|stream| stream.leave_at)) {
            return self.part_from(now, id);
        }
        if past(member.overlay.poll_timeout()) {
            member.overlay.handle(now, overlay::Input::Timeout);
        }
        if let Some(stream) = member.stream.as_mut().filter(|stream| past(stream.tree.poll_timeout())) {
            stream.tree.handle(now, broadcast::Input::Timeout);
        }
        self.pump(now, id);
    }

    /// Leaves a stream's swarm and forgets it.
    fn part_from(&mut self, now: Time, id: SwarmId) {
        self.feed_overlay(now, id, overlay::Input::Leave);
        if let Some(member) = self.members.remove(&id)
            && let Some(at) = member.due
        {
            self.due.remove(&(at, id));
        }
    }

    pub(super) fn reschedule(&mut self, id: SwarmId) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let due = member.next_timeout();
        if due != member.due {
            if let Some(at) = std::mem::replace(&mut member.due, due) {
                self.due.remove(&(at, id));
            }
            self.due.extend(due.map(|at| (at, id)));
        }
    }
}
