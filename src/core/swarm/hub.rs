//! The hub: passes each input to its owner, and sends what the owners return. Nothing else sends.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;

use super::announcement::{Announcement, Announcements};
use super::archives::{ArchiveNotice, KEEPERS_MAX, Keeper, Kept};
use super::claims::{Claims, record_part};
use super::config::Config;
use super::contacts::Contacts;
use super::directory::Entry;
use super::frame::{FrameBody, SwarmFrame};
use super::io::{Input, Output};
use super::links::Links;
use super::member::{Action, Member, SwarmView};
use super::members::Members;
use crate::hyparview::DownCause;
use crate::model::time::Time;
use crate::model::wire::WireError;
use crate::model::{NodeId, Peer, Record, Resume, StreamName, SwarmId, Trace};
use crate::plumtree::{BodyAction, BodyEvent};
use crate::{hyparview as overlay, plumtree as broadcast};

/// The most streams of a cluster.
const STREAMS_MAX: usize = 10_000;

/// All swarms of one node.
#[derive(Debug)]
pub struct Hub {
    me: Peer,
    is_static: bool,
    links: Links,
    contacts: Contacts,
    directory: Announcements<Entry>,
    archives: Announcements<Keeper>,
    claims: Claims,
    members: Members,
    outputs: VecDeque<Output>,
    bad_frames: u64,
    last_fault: Option<WireError>,
    left: bool,
}

impl Hub {
    /// Makes a node that is in the directory's swarm alone and knows no other node. Its first deadline is at once.
    pub fn new(me: Peer, config: Config, seed: u64) -> Self {
        Hub {
            me,
            is_static: config.is_static(),
            links: Links::default(),
            contacts: Contacts::new(me.addr, &config),
            directory: Announcements::new(STREAMS_MAX),
            archives: Announcements::new(STREAMS_MAX * KEEPERS_MAX),
            claims: Claims::new(me),
            members: Members::new(me, config, seed),
            outputs: VecDeque::new(),
            bad_frames: 0,
            last_fault: None,
            left: false,
        }
    }

    /// Takes an input.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Timeout => {}
            Input::LinkUp { peer, dialled } => self.on_link_up(now, peer, dialled),
            Input::LinkDown { peer, cause } => self.on_link_down(now, peer, cause),
            Input::DialFailed { addr, peer, cause } => self.on_dial_failed(now, addr, peer, cause),
            Input::LinkEstimate { peer, rtt_us, rate } => self.on_estimate(now, peer, rtt_us, rate),
            Input::Control { from, frame } => self.on_control(now, from, frame),
            Input::Body { peer, swarm, event } => {
                let head = if let BodyEvent::Head { header, .. } = &event { Some(header.id) } else { None };
                if !self.feed_tree(now, swarm, broadcast::Input::Body { peer, event })
                    && let Some(id) = head
                {
                    self.outputs.push_back(Output::Body { peer, swarm, action: BodyAction::Refuse(id), expires: now });
                }
            }
            Input::Claim(record) => self.on_claim(now, &record),
            Input::Publish { stream, header, body, trace } => {
                self.feed_tree(now, SwarmId::of(&stream), broadcast::Input::Publish { header, body, trace });
            }
            Input::Keep { kept, stamp } => self.on_keep(now, kept, stamp),
            Input::Leave => self.on_leave(now),
        }
        self.expire(now);
    }

    /// Returns the next thing to do; drain until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when [`Input::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        if self.left {
            return None;
        }
        let Hub { links, contacts, directory, archives, claims, members, .. } = self;
        let all = [links.poll_timeout(), contacts.poll_timeout(), directory.poll_timeout(), archives.poll_timeout()];
        all.into_iter().chain([claims.poll_timeout(), members.poll_timeout()]).flatten().min()
    }

    // --- queries ---

    /// Returns its swarms, the directory first.
    pub fn swarms(&self) -> impl Iterator<Item = SwarmView> {
        self.members.all().map(Member::view)
    }

    /// Returns where a publisher of `stream` goes on, if the swarm holds a presentation of it.
    pub fn resume(&self, stream: &StreamName) -> Option<Resume> {
        self.members.get(SwarmId::of(stream))?.stream()?.resume()
    }

    /// Returns how many frames couldn't be read, and what was wrong with the last one.
    pub fn bad_frames(&self) -> (u64, Option<&WireError>) {
        (self.bad_frames, self.last_fault.as_ref())
    }

    /// Returns how much a swarm's broadcast remembers; `None` for the directory and unknown swarms.
    pub fn sizes(&self, swarm: SwarmId) -> Option<broadcast::Sizes> {
        Some(self.members.get(swarm)?.stream()?.sizes())
    }

    /// Panics where a promise of the views is broken.
    pub fn check_invariants(&self) {
        self.members.all().for_each(Member::check_invariants);
    }

    // --- links ---

    fn on_link_up(&mut self, now: Time, peer: Peer, dialled: Option<SocketAddr>) {
        if peer.id == self.me.id {
            return;
        }
        self.outputs.extend(self.links.set_up(now, peer));
        // Another node was expected there.
        for id in dialled.map(|addr| self.links.take_dialling(addr, None)).unwrap_or_default() {
            self.peer_down(now, id, DownCause::Refused);
        }
        if self.contacts.found(peer, dialled) {
            // In a static topology all overlays join through a contact, else only the directory's.
            let ids = if self.is_static { self.members.ids() } else { vec![SwarmId::DIRECTORY] };
            for id in ids {
                self.feed_overlay(now, id, overlay::Input::Join(peer));
            }
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
        for id in self.members.ids() {
            self.feed_overlay(now, id, overlay::Input::PeerDown { peer, cause });
        }
    }

    fn on_estimate(&mut self, now: Time, peer: NodeId, rtt_us: u32, rate: u64) {
        for id in self.members.ids() {
            self.feed_overlay(now, id, overlay::Input::Rtt { peer, rtt_us });
            self.feed_tree(now, id, broadcast::Input::LinkEstimate { peer, rtt_us, rate });
        }
    }

    fn sweep(&mut self, now: Time) {
        for id in self.links.take_overdue(now) {
            self.peer_down(now, id, DownCause::TimedOut);
        }
        let Hub { links, members, .. } = self;
        let idle = links.take_idle(now, |id| members.all().any(|member| member.needs_link(id)));
        self.outputs.extend(idle.into_iter().map(Output::Close));
    }

    // --- frames ---

    fn on_control(&mut self, now: Time, from: NodeId, frame: Bytes) {
        let Some(peer) = self.links.peer(from) else { return };
        let SwarmFrame { swarm, body } = match SwarmFrame::decode(frame) {
            Ok(Some(frame)) => frame,
            Ok(None) => return, // A kind that only a newer node knows.
            Err(fault) => {
                self.bad_frames += 1;
                self.last_fault = Some(fault);
                return;
            }
        };
        match body {
            FrameBody::Directory(announcements) => self.on_announcements(now, announcements, Some(peer)),
            FrameBody::Archives(notices) => self.on_notices(now, peer, notices),
            FrameBody::Leave if swarm == SwarmId::DIRECTORY => self.peer_down(now, from, DownCause::Left),
            FrameBody::Leave => {
                self.feed_overlay(now, swarm, overlay::Input::PeerDown { peer: from, cause: DownCause::Left });
            }
            FrameBody::Overlay(message) => {
                let asks = matches!(message, overlay::Message::Join | overlay::Message::Neighbor { .. });
                if !self.feed_overlay(now, swarm, overlay::Input::Message { from: peer, message }) && asks {
                    // The stream's announcement may be on its way to us. The peer asks another node, and us again later.
                    let frame = SwarmFrame { swarm, body: FrameBody::Leave }.encode();
                    self.outputs.push_back(Output::Control { to: from, frame });
                }
            }
            FrameBody::Broadcast(message) => {
                self.feed_tree(now, swarm, broadcast::Input::Message { from, message });
            }
        }
    }

    fn send(&mut self, now: Time, to: Peer, frames: impl IntoIterator<Item = Bytes>) {
        for frame in frames {
            self.outputs.extend(self.links.route(now, to, frame, false));
        }
    }

    /// Sends to all neighbours of the directory but `except`.
    fn tell(&mut self, now: Time, frames: &[Bytes], except: Option<NodeId>) {
        if frames.is_empty() {
            return;
        }
        for peer in self.members.neighbours().filter(|peer| Some(peer.id) != except).collect::<Vec<_>>() {
            self.send(now, peer, frames.iter().cloned());
        }
    }

    // --- the directory ---

    /// Takes announcements of a neighbour, `teller`, or of this node.
    fn on_announcements(&mut self, now: Time, announcements: Vec<Announcement<Entry>>, teller: Option<Peer>) {
        let (news, moved) = self.directory.merge(now, announcements);
        // Passed on before any message in the streams' swarms: a neighbour that gets one there has heard of the stream.
        let frames = SwarmFrame::tell(&news, FrameBody::Directory);
        self.tell(now, &frames, teller.map(|peer| peer.id));
        for entry in moved {
            self.claims.yield_to(&entry);
            let (stream, ingest) = (entry.stream.clone(), entry.ingest);
            self.outputs.push_back(Output::Announced(entry));
            // A node is in the swarm of every stream.
            if !self.left {
                self.join(now, &stream, teller.into_iter().chain([ingest]));
            }
        }
    }

    fn on_claim(&mut self, now: Time, record: &Record) {
        if self.left {
            return;
        }
        if let Some(announcement) = self.claims.claim(now, record) {
            self.on_announcements(now, vec![announcement], None);
            self.join(now, &record.stream, []);
        }
        let (header, body) = record_part(record);
        let input = broadcast::Input::Publish { header, body, trace: Trace::default() };
        self.feed_tree(now, SwarmId::of(&record.stream), input);
    }

    // --- archives ---

    /// Announces what this node's DVR holds.
    fn on_keep(&mut self, now: Time, kept: Vec<Kept>, stamp: u64) {
        if self.left {
            return;
        }
        // A node that listens on all addresses doesn't know its own; its neighbours fill it in.
        let notice = |kept| ArchiveNotice::new(Keeper { node: self.me, kept, stamp });
        let notices: Vec<_> = kept.into_iter().map(notice).collect();
        self.tell(now, &SwarmFrame::tell(&notices, FrameBody::Archives), None);
    }

    fn on_notices(&mut self, now: Time, from: Peer, notices: Vec<ArchiveNotice>) {
        let news = self.archives.merge(now, self.me.id, from, notices);
        self.tell(now, &SwarmFrame::tell(&news, FrameBody::Archives), Some(from.id));
        self.show_keepers(news.into_iter().map(|notice| notice.what.kept.stream));
    }

    fn show_keepers(&mut self, streams: impl Iterator<Item = StreamName>) {
        for stream in streams.collect::<BTreeSet<_>>() {
            let keepers = self.archives.of(&stream).cloned().collect();
            self.outputs.push_back(Output::Kept { stream, keepers });
        }
    }

    // --- swarms ---

    /// Joins a stream's swarm, or learns of more members of it.
    fn join(&mut self, now: Time, stream: &StreamName, contacts: impl IntoIterator<Item = Peer>) {
        if self.members.join(stream, contacts) && self.is_static {
            for peer in self.contacts.known() {
                self.feed_overlay(now, SwarmId::of(stream), overlay::Input::Join(peer));
            }
        }
    }

    /// Joins a swarm through contacts, for an overlay that has too few neighbours or looks for islands.
    fn bootstrap(&mut self, now: Time, id: SwarmId) {
        if self.is_static {
            return;
        }
        let Hub { contacts, links, members, .. } = self;
        let contacts = match id {
            SwarmId::DIRECTORY => contacts.ask(now, |id| links.peer(id).is_some()),
            _ => members.choose_contacts(id),
        };
        for peer in contacts {
            self.feed_overlay(now, id, overlay::Input::Join(peer));
        }
    }

    fn on_leave(&mut self, now: Time) {
        for id in self.members.ids() {
            self.feed_overlay(now, id, overlay::Input::Leave);
        }
        let frame = SwarmFrame { swarm: SwarmId::DIRECTORY, body: FrameBody::Leave }.encode();
        self.outputs.extend(self.links.up().map(|peer| Output::Control { to: peer.id, frame: frame.clone() }));
        self.claims.clear();
        self.left = true;
    }

    /// Returns whether this node is in such a swarm.
    fn feed_overlay(&mut self, now: Time, id: SwarmId, input: overlay::Input) -> bool {
        let known = self.members.get_mut(id).map(|member| member.feed_overlay(now, input)).is_some();
        self.pump(now, id);
        known
    }

    /// Returns whether this node is in the swarm of such a stream.
    fn feed_tree(&mut self, now: Time, id: SwarmId, input: broadcast::Input) -> bool {
        let known = self.members.get_mut(id).is_some_and(|member| member.feed_tree(now, input));
        self.pump(now, id);
        known
    }

    /// Carries a swarm's actions out, until it has no more.
    fn pump(&mut self, now: Time, swarm: SwarmId) {
        while let Some(action) = self.members.poll(now, swarm) {
            match action {
                Action::Send { to, body, dial } => {
                    let frame = SwarmFrame { swarm, body }.encode();
                    self.outputs.extend(self.links.route(now, to, frame, dial));
                }
                Action::SendLinked { to, body } if self.links.peer(to).is_some() => {
                    let frame = SwarmFrame { swarm, body }.encode();
                    self.outputs.push_back(Output::Control { to, frame });
                }
                Action::SendLinked { .. } => {}
                Action::Output(output) => self.outputs.push_back(output),
                Action::Welcome(peer) => {
                    self.send(now, peer, SwarmFrame::tell(&self.directory.announce_all(now), FrameBody::Directory));
                    self.send(now, peer, SwarmFrame::tell(&self.archives.announce_all(now), FrameBody::Archives));
                }
                Action::Bootstrap => self.bootstrap(now, swarm),
            }
        }
    }

    // --- time ---

    fn expire(&mut self, now: Time) {
        if self.left {
            return;
        }
        let refreshed = self.claims.refresh(now);
        self.on_announcements(now, refreshed, None);
        if self.links.poll_timeout().is_some_and(|at| at <= now) {
            self.sweep(now);
        }
        for stream in self.directory.expire(now) {
            self.members.let_go(now, &stream);
            self.outputs.push_back(Output::Expired(stream));
        }
        let changed = self.archives.expire(now).into_iter().map(|(stream, _)| stream);
        self.show_keepers(changed);
        for id in self.members.due(now) {
            let leaves = self.members.get_mut(id).is_some_and(|member| member.expire(now));
            self.pump(now, id);
            if leaves {
                self.members.remove(id);
            }
        }
        // Last, since an overlay may have just asked for contacts.
        self.outputs.extend(self.contacts.due(now));
    }
}
