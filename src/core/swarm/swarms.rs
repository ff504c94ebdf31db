//! The hub's side of the swarms: joining and leaving them, and what their cores want done.

use bytes::Bytes;

use super::Output;
use super::frame::{Body, Frame};
use super::hub::Hub;
use super::member::{Member, Stream};
use crate::hyparview as overlay;
use crate::hyparview::HyParView;
use crate::model::Peer;
use crate::model::time::Time;
use crate::model::{PartId, Record, StreamName, SwarmId, TrackId};
use crate::plumtree as broadcast;
use crate::plumtree::Plumtree;

/// Most nodes remembered as members of a stream's swarm, beside the overlay's own views.
const CONTACTS_MAX: usize = 16;

impl Hub {
    pub(super) fn overlay_of(&self, id: SwarmId) -> HyParView {
        // Each swarm has its own randomness, from the one seed.
        HyParView::new(self.me, self.config.overlay.clone(), self.seed ^ id.0.rotate_left(1))
    }

    pub(super) fn add_member(&mut self, member: Member) {
        let id = member.id;
        self.members.insert(id, member);
        self.reschedule(id);
    }

    /// Joins a stream's swarm, or learns of more members of it.
    pub(super) fn join(&mut self, now: Time, name: &StreamName, contacts: impl IntoIterator<Item = Peer>) {
        let id = SwarmId::of(name);
        let me = self.me.id;
        let fresh = !self.members.contains_key(&id);
        if fresh {
            let tree = Plumtree::new(me, self.config.broadcast.clone(), self.seed ^ id.0);
            let overlay = self.overlay_of(id);
            self.add_member(Member { id, overlay, stream: Some(Stream::new(name.clone(), tree)), due: None });
        }
        let stream = self.members.get_mut(&id).and_then(|member| member.stream.as_mut());
        // Ids of 64 bits don't collide; if two do, the second stream isn't carried.
        let Some(stream) = stream.filter(|stream| stream.name == *name) else { return };
        stream.leave_at = None;
        stream.contacts = contacts.into_iter().filter(|peer| peer.id != me && peer.can_be_dialled()).collect();
        if fresh && self.config.is_static() {
            for peer in self.contacts.known() {
                self.feed_overlay(now, id, overlay::Input::Join(peer));
            }
        }
    }

    /// An overlay has too few neighbours, or looks for islands.
    pub(super) fn bootstrap(&mut self, now: Time, id: SwarmId) {
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
            self.feed_overlay(now, id, overlay::Input::Join(peer));
        }
    }

    /// Who is likely to be in a stream's swarm: who told us of it, the neighbours in the directory, the
    /// ingest. Two of them, others each time, since all nodes join at about the same moment.
    pub(super) fn stream_contacts(&mut self, id: SwarmId) -> Vec<Peer> {
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

    pub(super) fn on_leave(&mut self, now: Time) {
        for id in self.members.keys().copied().collect::<Vec<_>>() {
            self.feed_overlay(now, id, overlay::Input::Leave);
        }
        let frame = Frame { swarm: SwarmId::DIRECTORY, body: Body::Leave }.encode();
        for peer in self.links.up() {
            self.outputs.push_back(Output::Control { to: peer.id, frame: frame.clone() });
        }
        self.owned.clear();
        self.left = true;
    }

    /// Whether there is such a swarm.
    pub(super) fn feed_overlay(&mut self, now: Time, id: SwarmId, input: overlay::Input) -> bool {
        let Some(member) = self.members.get_mut(&id) else { return false };
        member.overlay.handle(now, input);
        self.pump(now, id);
        true
    }

    /// Whether there is such a stream.
    pub(super) fn feed_tree(&mut self, now: Time, id: SwarmId, input: broadcast::Input) -> bool {
        let Some(stream) = self.members.get_mut(&id).and_then(|member| member.stream.as_mut()) else { return false };
        stream.tree.handle(now, input);
        self.pump(now, id);
        true
    }

    /// Does what the two cores of a swarm want, until they want nothing more.
    pub(super) fn pump(&mut self, now: Time, id: SwarmId) {
        while let Some(member) = self.members.get_mut(&id) {
            if let Some(output) = member.overlay.poll_output() {
                self.on_overlay_output(now, id, output);
            } else if let Some(output) = member.stream.as_mut().and_then(|stream| stream.tree.poll_output()) {
                self.on_tree_output(now, id, output);
            } else {
                break;
            }
        }
        if let Some(Member { overlay, stream: Some(stream), .. }) = self.members.get_mut(&id)
            && stream.tree.tree_changed()
        {
            for (id, eager) in stream.tree.neighbours() {
                overlay.set_carries(id, eager);
            }
        }
        self.reschedule(id);
    }

    pub(super) fn on_overlay_output(&mut self, now: Time, id: SwarmId, output: overlay::Output) {
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
                let keepers = self.keepers.tell_all(now);
                self.tell_keepers_to(now, peer, &keepers);
            }
            overlay::Output::NeighborUp(peer) => tree(self, broadcast::Input::NeighborUp(peer.id)),
            overlay::Output::NeighborDown(peer) => tree(self, broadcast::Input::NeighborDown(peer)),
            overlay::Output::Bootstrap => self.bootstrap(now, id),
        }
    }

    pub(super) fn on_tree_output(&mut self, now: Time, swarm: SwarmId, output: broadcast::Output) {
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
                self.share_upload(now);
                self.outputs.push_back(Output::Deliver { stream, header, body, trace, received });
            }
        }
    }

    pub(super) fn on_record(&mut self, swarm: SwarmId, id: PartId, body: Bytes) {
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
