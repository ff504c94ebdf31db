//! Joining: JOIN and FORWARDJOIN (paper, 4.2).

use super::hyparview::{Ask, HyParView};
use super::message::{Message, Priority};
use super::views::Passive;
use crate::model::Peer;
use crate::model::time::Time;

impl HyParView {
    pub(super) fn on_contact(&mut self, now: Time, contact: Peer) {
        if self.left || contact.id == self.me.id {
            return;
        }
        if self.is_static() {
            return self.name(contact);
        }
        self.anchored |= self.active.contains(contact.id);
        if self.active.contains(contact.id) || self.is_pending(contact.id) {
            return;
        }
        if self.has_room() {
            // "upon init do Send(JOIN, contactNode, myself)"
            self.ask(now, contact, Ask::Join);
        } else {
            // Departure: an island that is content with itself exchanges a link for one to the contact.
            self.ask(now, contact, Ask::Rotate);
        }
    }

    pub(super) fn on_join(&mut self, now: Time, from: Peer) {
        if self.is_static() {
            return self.on_neighbor(now, from, Priority::Low);
        }
        // Departure: in a storm not every JOIN evicts a neighbour (which may be as new as the next one).
        let admitted = self.active.contains(from.id) || self.has_room() || self.admit(now);
        let others = if self.config.admit_interval.is_some() { self.others(from.id) } else { Vec::new() };
        if !admitted {
            if let Some(n) = self.active.pick(&mut self.rng, |m| m.peer.id != from.id).map(|m| m.peer) {
                self.send(n, Message::ForwardJoin { peer: from, ttl: self.config.arwl });
            }
            self.send(from, Message::NeighborReply { accepted: false, others });
            self.add_passive(Passive::new(from), &mut Vec::new());
            return;
        }
        // "if isfull(activeView) then trigger dropRandomElementFromActiveView; addNodeActiveView(newNode)"
        if !self.active.contains(from.id) {
            if !self.has_room() {
                self.drop_random(now, |_| true);
            }
            self.add_active(now, from, false);
        }
        self.send(from, Message::NeighborReply { accepted: true, others });
        // "foreach n in activeView and n != newNode do Send(FORWARDJOIN, n, newNode, ARWL, myself)"
        let ttl = self.config.arwl;
        for n in self.active().filter(|n| n.id != from.id).collect::<Vec<_>>() {
            self.send(n, Message::ForwardJoin { peer: from, ttl });
        }
    }

    pub(super) fn on_forward_join(&mut self, now: Time, from: Peer, peer: Peer, ttl: u8) {
        if !self.active.contains(from.id) {
            return self.disown(from);
        }
        if peer.id == self.me.id || self.is_static() {
            return;
        }
        // "if timeToLive == 0 || #activeView == 1 then addNodeActiveView(newNode)"
        let ttl = ttl.min(self.config.arwl);
        if ttl == 0 || self.active.len() == 1 {
            return self.place(now, peer);
        }
        // "if timeToLive == PRWL then addNodePassiveView(newNode)"
        if ttl == self.config.prwl {
            self.add_passive(Passive::new(peer), &mut Vec::new());
        }
        // "n <- n in activeView and n != sender". Departure: nor the new node itself, which would end its own walk.
        let next = self.active.pick(&mut self.rng, |m| m.peer.id != from.id && m.peer.id != peer.id);
        match next.map(|m| m.peer) {
            Some(n) => self.send(n, Message::ForwardJoin { peer, ttl: ttl - 1 }),
            None => self.place(now, peer),
        }
    }

    /// "addNodeActiveView(newNode)" at the end of its walk. The new node is asked, and added when it accepts.
    pub(super) fn place(&mut self, now: Time, peer: Peer) {
        if self.active.contains(peer.id) || self.is_pending(peer.id) {
            return;
        }
        let full = self.pending.len() >= self.config.pending_max;
        if full || !(self.has_room() || self.admit(now)) {
            return self.add_passive(Passive::new(peer), &mut Vec::new());
        }
        self.ask(now, peer, Ask::Place);
    }
}
