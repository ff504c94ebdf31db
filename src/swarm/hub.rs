//! Who gets what.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;

use super::config::Config;
use super::contacts::Contacts;
use super::directory::{ANNOUNCEMENTS_MAX, Announcement, Change, Directory, checksum};
use super::frame::{Body, Frame};
use super::links::{Links, Route};
use super::member::{Member, Stream, SwarmView};
use super::{Entry, Input, Output};
use crate::broadcast::{self, Plumtree};
use crate::live::{Flags, NodeId, PartHeader, PartId, Record, StreamName, SwarmId, TrackId};
use crate::media::Resume;
use crate::overlay::{self, DownCause, HyParView, Peer};
use crate::units::Time;
use crate::wire::WireError;

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
struct Owned {
    entry: Entry,
    /// Set at the stream's end: until when its entry is refreshed.
    until: Option<Time>,
}

/// How often links are looked at for idleness: a share of `link_linger` that doesn't matter.
const SWEEPS: u32 = 4;

/// All swarms of one node.
#[derive(Debug)]
pub struct Hub {
    me: Peer,
    config: Config,
    seed: u64,
    links: Links,
    contacts: Contacts,
    directory: Directory,
    owned: BTreeMap<StreamName, Owned>,
    members: BTreeMap<SwarmId, Member>,
    /// The deadlines of all members.
    due: BTreeSet<(Time, SwarmId)>,
    refresh_at: Option<Time>,
    sweep_at: Option<Time>,
    outputs: VecDeque<Output>,
    counters: Counters,
    last_fault: Option<(NodeId, WireError)>,
    left: bool,
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
            owned: BTreeMap::new(),
            members: BTreeMap::new(),
            due: BTreeSet::new(),
            refresh_at: None,
            sweep_at: None,
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
                if !self.to_tree(now, swarm, input) {
                    self.outputs.push_back(Output::BodyRefuse { from, swarm, id: header.id });
                }
            }
            Input::BodyPiece { from, swarm, id, bytes } => {
                self.to_tree(now, swarm, broadcast::Input::BodyPiece { from, id, bytes });
            }
            Input::BodyTorn { from, swarm, id } => {
                self.to_tree(now, swarm, broadcast::Input::BodyTorn { from, id });
            }
            Input::BodyStopped { to, swarm, id } => {
                self.to_tree(now, swarm, broadcast::Input::BodyStopped { to, id });
            }
            Input::Claim { record } => self.on_claim(now, record),
            Input::Publish { stream, header, body } => {
                self.to_tree(now, SwarmId::of(&stream), broadcast::Input::Publish { header, body });
            }
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
        let rest = [self.refresh_at, self.sweep_at, self.contacts.next(), self.directory.next_expiry()];
        rest.into_iter().flatten().chain(members).min()
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
    #[cfg(any(test, feature = "sim"))]
    pub fn check_invariants(&self) {
        for member in self.members.values() {
            member.overlay.check_invariants();
            let Some(stream) = &member.stream else { continue };
            for peer in member.overlay.active() {
                assert!(stream.tree.neighbours().any(|(id, _)| id == peer.id), "a neighbour Plumtree doesn't know");
            }
        }
    }

    fn stream(&self, stream: &StreamName) -> Option<&Stream> {
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
            self.to_overlay(now, id, overlay::Input::Join(peer));
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

    fn peer_down(&mut self, now: Time, peer: NodeId, cause: DownCause) {
        for id in self.members.keys().copied().collect::<Vec<_>>() {
            self.to_overlay(now, id, overlay::Input::PeerDown { peer, cause });
        }
    }

    fn on_estimate(&mut self, now: Time, peer: NodeId, rtt_us: u32, rate: u64) {
        for id in self.members.keys().copied().collect::<Vec<_>>() {
            self.to_overlay(now, id, overlay::Input::Rtt { peer, rtt_us });
            self.to_tree(now, id, broadcast::Input::LinkEstimate { peer, rtt_us, rate });
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
            Body::Leave if swarm == SwarmId::DIRECTORY => self.peer_down(now, from, DownCause::Left),
            Body::Leave => {
                self.to_overlay(now, swarm, overlay::Input::PeerDown { peer: from, cause: DownCause::Left });
            }
            Body::Overlay(message) => {
                let asks = matches!(message, overlay::Message::Join | overlay::Message::Neighbor { .. });
                let known = self.to_overlay(now, swarm, overlay::Input::Message { from: peer, message });
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
                if !self.to_tree(now, swarm, broadcast::Input::Message { from, message }) {
                    self.counters.unknown_swarms += 1;
                }
            }
        }
    }

    fn send(&mut self, now: Time, to: Peer, frame: &Frame, wants_dial: bool) {
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

    // --- the directory ---

    fn on_announcements(&mut self, now: Time, from: Peer, announcements: &[Announcement]) {
        let mut news = Vec::new();
        let mut moved = Vec::new();
        for announcement in announcements {
            match self.directory.merge(now, announcement) {
                Change::Moved => moved.push(announcement.entry.stream.clone()),
                Change::Refreshed => {}
                Change::Old | Change::Corrupt | Change::Full => continue,
            }
            news.extend(self.directory.announce(now, &announcement.entry.stream));
        }
        // Passed on before anything is sent in the streams' swarms: who hears us there has heard of them.
        self.announce(now, &news, Some(from.id));
        for stream in moved {
            self.on_moved(now, &stream, Some(from));
        }
        for announcement in &news {
            self.revive(&announcement.entry.stream);
        }
    }

    /// Tells all neighbours of the directory but `except`.
    fn announce(&mut self, now: Time, news: &[Announcement], except: Option<NodeId>) {
        let Some(member) = self.members.get(&SwarmId::DIRECTORY) else { return };
        for peer in member.overlay.active().filter(|peer| Some(peer.id) != except).collect::<Vec<_>>() {
            self.tell(now, peer, news);
        }
    }

    fn tell(&mut self, now: Time, peer: Peer, news: &[Announcement]) {
        for chunk in news.chunks(ANNOUNCEMENTS_MAX) {
            let frame = Frame { swarm: SwarmId::DIRECTORY, body: Body::Directory(chunk.to_vec()) };
            self.send(now, peer, &frame, false);
        }
    }

    /// A stream is new, or has a new publisher or life.
    fn on_moved(&mut self, now: Time, stream: &StreamName, teller: Option<Peer>) {
        let Some(entry) = self.directory.get(stream).cloned() else { return };
        if self.owned.get(stream).is_some_and(|owned| owned.entry.epoch < entry.epoch) {
            self.owned.remove(stream); // Another ingest has taken over.
        }
        self.outputs.push_back(Output::Announced { entry: entry.clone() });
        if self.wants(&entry) {
            self.join(now, stream, teller.into_iter().chain([entry.ingest]));
        }
    }

    /// Whether this node is to be in the swarm of a stream: until interest lands, in every one.
    fn wants(&self, _entry: &Entry) -> bool {
        !self.left
    }

    fn revive(&mut self, stream: &StreamName) {
        if let Some(stream) = self.members.get_mut(&SwarmId::of(stream)).and_then(|member| member.stream.as_mut()) {
            stream.leave_at = None;
        }
    }

    fn on_claim(&mut self, now: Time, record: Record) {
        if self.left {
            return;
        }
        let stream = record.stream.clone();
        let until = record.ended.map(|_| now + self.config.ended_linger);
        let known = self.owned.get(&stream).map(|owned| &owned.entry);
        let news = known.is_none_or(|entry| (entry.epoch, entry.life) != (record.epoch, record.life));
        let refresh = known.filter(|_| !news).map_or(0, |entry| entry.refresh);
        let entry = Entry { stream: stream.clone(), life: record.life, epoch: record.epoch, refresh, ingest: self.me };
        self.owned.insert(stream.clone(), Owned { entry, until });
        if news {
            self.refresh(now, &[stream.clone()]);
            self.join(now, &stream, []);
        }
        self.refresh_at.get_or_insert(now + self.config.refresh_interval);
        let body = record.encode();
        let id = PartId { epoch: record.epoch, track: TrackId::RECORD, msn: record.revision, part: 0 };
        let header = PartHeader {
            id,
            decode_time: 0,
            duration: 0,
            program_date_time: record.availability_start,
            ingested: record.availability_start,
            init: 0,
            discontinuity: record.periods.last().map_or(0, |period| period.discontinuity),
            flags: Flags { last: true, ..Flags::default() },
            length: u32::try_from(body.len()).expect("a record is far below 4 GiB"),
            hash: *blake3::hash(&body).as_bytes(),
        };
        self.to_tree(now, SwarmId::of(&stream), broadcast::Input::Publish { header, body });
    }

    /// Refreshes and announces entries of ours.
    fn refresh(&mut self, now: Time, streams: &[StreamName]) {
        let mut news = Vec::new();
        let mut moved = Vec::new();
        for stream in streams {
            let Some(owned) = self.owned.get_mut(stream) else { continue };
            owned.entry.refresh = owned.entry.refresh.saturating_add(1);
            let entry = owned.entry.clone();
            let announcement = Announcement { checksum: checksum(&entry), entry, age_ms: 0 };
            match self.directory.merge(now, &announcement) {
                Change::Moved => moved.push(stream.clone()),
                Change::Refreshed => {}
                Change::Old | Change::Corrupt | Change::Full => continue,
            }
            news.push(announcement);
        }
        self.announce(now, &news, None);
        for stream in moved {
            self.on_moved(now, &stream, None);
        }
    }

    fn refresh_all(&mut self, now: Time) {
        self.owned.retain(|_, owned| owned.until.is_none_or(|until| now < until));
        let streams: Vec<_> = self.owned.keys().cloned().collect();
        self.refresh(now, &streams);
        self.refresh_at = (!self.owned.is_empty()).then(|| now + self.config.refresh_interval);
    }

    // --- swarms ---

    fn overlay_of(&self, id: SwarmId) -> HyParView {
        // Each swarm has its own randomness, from the one seed.
        HyParView::new(self.me, self.config.overlay.clone(), self.seed ^ id.0.rotate_left(1))
    }

    fn add_member(&mut self, member: Member) {
        let id = member.id;
        self.members.insert(id, member);
        self.reschedule(id);
    }

    /// Joins a stream's swarm, or learns of more members of it.
    fn join(&mut self, now: Time, name: &StreamName, contacts: impl IntoIterator<Item = Peer>) {
        let id = SwarmId::of(name);
        let me = self.me.id;
        let fresh = !self.members.contains_key(&id);
        if fresh {
            let tree = Plumtree::new(me, self.config.broadcast.clone(), self.seed ^ id.0);
            let overlay = self.overlay_of(id);
            self.add_member(Member { id, overlay, stream: Some(Stream::new(name.clone(), tree)), due: None });
        }
        let stream = self.members.get_mut(&id).and_then(|member| member.stream.as_mut());
        let Some(stream) = stream.filter(|stream| stream.name == *name) else { return }; // Ids of 64 bits don't collide.
        stream.leave_at = None;
        stream.contacts = contacts.into_iter().filter(|peer| peer.id != me).collect();
        if fresh && self.config.is_static() {
            for peer in self.contacts.known() {
                self.to_overlay(now, id, overlay::Input::Join(peer));
            }
        }
    }

    /// An overlay has too few neighbours, or looks for islands.
    fn bootstrap(&mut self, now: Time, id: SwarmId) {
        if self.config.is_static() {
            return;
        }
        let contacts = if id == SwarmId::DIRECTORY {
            let links = &self.links;
            self.contacts.ask(now, |id| links.is_up(id))
        } else {
            self.stream_contacts(id)
        };
        for peer in contacts {
            self.to_overlay(now, id, overlay::Input::Join(peer));
        }
    }

    /// Who is likely to be in a stream's swarm: who told us of it, the neighbours in the directory, the
    /// ingest. Two of them, others each time, since all nodes join at about the same moment.
    fn stream_contacts(&mut self, id: SwarmId) -> Vec<Peer> {
        let me = self.me.id;
        let directory = self.members.get(&SwarmId::DIRECTORY);
        let near: Vec<_> = directory.into_iter().flat_map(|member| member.overlay.active()).collect();
        let Some(member) = self.members.get_mut(&id) else { return Vec::new() };
        let Some(stream) = member.stream.as_mut() else { return Vec::new() };
        for peer in near {
            if !stream.contacts.iter().any(|known| known.id == peer.id) {
                stream.contacts.push(peer);
            }
        }
        let mut contacts = std::mem::take(&mut stream.contacts);
        contacts.retain(|peer| peer.id != me);
        let taken: Vec<_> =
            contacts.iter().filter(|peer| !member.overlay.is_neighbor(peer.id)).take(2).copied().collect();
        contacts.retain(|peer| !taken.iter().any(|t| t.id == peer.id));
        contacts.extend(&taken);
        // Old neighbours in the directory are forgotten; the ingest comes back with the next announcement.
        contacts.truncate(CONTACTS_MAX);
        stream.contacts = contacts;
        taken
    }

    fn on_leave(&mut self, now: Time) {
        for id in self.members.keys().copied().collect::<Vec<_>>() {
            self.to_overlay(now, id, overlay::Input::Leave);
        }
        let frame = Frame { swarm: SwarmId::DIRECTORY, body: Body::Leave }.encode();
        for peer in self.links.up() {
            self.outputs.push_back(Output::Control { to: peer.id, frame: frame.clone() });
        }
        self.owned.clear();
        self.left = true;
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
        self.to_overlay(now, id, overlay::Input::Leave);
        if let Some(member) = self.members.remove(&id)
            && let Some(at) = member.due
        {
            self.due.remove(&(at, id));
        }
    }

    fn reschedule(&mut self, id: SwarmId) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let due = member.next_timeout();
        if due != member.due {
            if let Some(at) = std::mem::replace(&mut member.due, due) {
                self.due.remove(&(at, id));
            }
            self.due.extend(due.map(|at| (at, id)));
        }
    }

    // --- the cores ---

    /// Whether there is such a swarm.
    fn to_overlay(&mut self, now: Time, id: SwarmId, input: overlay::Input) -> bool {
        let Some(member) = self.members.get_mut(&id) else { return false };
        member.overlay.handle(now, input);
        self.pump(now, id);
        true
    }

    /// Whether there is such a stream.
    fn to_tree(&mut self, now: Time, id: SwarmId, input: broadcast::Input) -> bool {
        let Some(stream) = self.members.get_mut(&id).and_then(|member| member.stream.as_mut()) else { return false };
        stream.tree.handle(now, input);
        self.pump(now, id);
        true
    }

    /// Does what the two cores of a swarm want, until they want nothing more.
    fn pump(&mut self, now: Time, id: SwarmId) {
        while let Some(member) = self.members.get_mut(&id) {
            if let Some(output) = member.overlay.poll_output() {
                self.on_overlay_output(now, id, output);
            } else if let Some(output) = member.stream.as_mut().and_then(|stream| stream.tree.poll_output()) {
                self.on_tree_output(now, id, output);
            } else {
                break;
            }
        }
        self.reschedule(id);
    }

    fn on_overlay_output(&mut self, now: Time, id: SwarmId, output: overlay::Output) {
        let tree = |hub: &mut Hub, input: broadcast::Input| {
            if let Some(stream) = hub.members.get_mut(&id).and_then(|member| member.stream.as_mut()) {
                stream.tree.handle(now, input);
            }
        };
        match output {
            overlay::Output::Send { to, message } => {
                let wants_dial = message.wants_dial();
                self.send(now, to, &Frame { swarm: id, body: Body::Overlay(message) }, wants_dial);
            }
            overlay::Output::NeighborUp(peer) if id == SwarmId::DIRECTORY => {
                let all = self.directory.announce_all(now);
                self.tell(now, peer, &all);
            }
            overlay::Output::NeighborUp(peer) => tree(self, broadcast::Input::NeighborUp(peer.id)),
            overlay::Output::NeighborDown(peer) => tree(self, broadcast::Input::NeighborDown(peer)),
            overlay::Output::Bootstrap => self.bootstrap(now, id),
        }
    }

    fn on_tree_output(&mut self, now: Time, swarm: SwarmId, output: broadcast::Output) {
        match output {
            broadcast::Output::Send { to, message } => {
                if let Some(peer) = self.links.peer(to) {
                    self.send(now, peer, &Frame { swarm, body: Body::Broadcast(message) }, false);
                }
            }
            broadcast::Output::BodyHead { to, header, trace, offset, received } => {
                let stream = self.members.get(&swarm).and_then(|member| member.stream.as_ref());
                let hold_back = stream.and_then(|stream| stream.record.as_ref()).map(Record::hold_back);
                let expires = now + self.config.fresh.max(hold_back.unwrap_or_default());
                self.outputs.push_back(Output::BodyHead { to, swarm, header, trace, offset, received, expires });
            }
            broadcast::Output::BodyPiece { to, id, bytes } => {
                self.outputs.push_back(Output::BodyPiece { to, swarm, id, bytes });
            }
            broadcast::Output::BodyAbort { to, id } => {
                self.outputs.push_back(Output::BodyAbort { to, swarm, id });
            }
            broadcast::Output::BodyRefuse { from, id } => {
                self.outputs.push_back(Output::BodyRefuse { from, swarm, id });
            }
            broadcast::Output::Deliver { header, body, trace, received } => {
                let Some(stream) = self.members.get_mut(&swarm).and_then(|member| member.stream.as_mut()) else {
                    return;
                };
                if header.id.track == TrackId::RECORD {
                    self.on_record(swarm, header.id, body);
                    return;
                }
                if let Some(before) = stream.on_part(&header, self.config.held_segments) {
                    stream.tree.handle(now, broadcast::Input::Forget { track: header.id.track, before });
                }
                let stream = stream.name.clone();
                self.outputs.push_back(Output::Deliver { stream, header, body, trace, received });
            }
        }
    }

    fn on_record(&mut self, swarm: SwarmId, id: PartId, body: Bytes) {
        let Some(stream) = self.members.get_mut(&swarm).and_then(|member| member.stream.as_mut()) else { return };
        match Record::decode(body) {
            Ok(record) if record.stream == stream.name && record.epoch == id.epoch && record.revision == id.msn => {
                if stream.record.as_ref().is_none_or(|old| record.supersedes(old)) {
                    stream.record = Some(record.clone());
                    self.outputs.push_back(Output::Record { record: Box::new(record) });
                }
            }
            Ok(_) | Err(_) => self.counters.bad_records += 1,
        }
    }
}

/// Most nodes remembered as members of a stream's swarm, beside the overlay's own views.
const CONTACTS_MAX: usize = 16;
