//! What isn't in the paper: rotating, auditing and optimising links, referring and admitting in a storm, static peers.

use rand::RngExt;

use super::hyparview::{Ask, HyParView, Measure, micros};
use super::io::Output;
use super::message::{Message, NODES_MAX, Priority};
use super::views::Passive;
use crate::model::NodeId;
use crate::model::Peer;
use crate::model::time::Time;

/// How many contacts are looked for at a time, once there is no need of them here.
const PROBES: usize = 8;

impl HyParView {
    /// Exchanges a link for one to a passive peer: one that failed, and may be back, or any.
    pub(super) fn rotate(&mut self, now: Time) {
        let room = self.has_room();
        if !room && self.has_spare() {
            let pending = &self.pending;
            let free = |m: &Passive| m.retry_at <= now && !pending.iter().any(|p| p.peer.id == m.peer.id);
            let suspect = self.passive.pick(&mut self.rng, |m| m.fails > 0 && free(m)).map(|m| m.peer);
            let peer = suspect.or_else(|| self.passive.pick(&mut self.rng, free).map(|m| m.peer));
            if let Some(peer) = peer {
                self.ask(now, peer, Ask::Rotate);
            }
        }
        // After a mass failure: who is known here may itself know nobody that lives. It asks when it hears of us.
        for _ in 0..PROBES {
            if !self.contacts.is_under_way() {
                break;
            }
            let HyParView { active, passive, contacts, .. } = self;
            if let Some(peer) = contacts.next(|id| !active.contains(id) && !passive.contains(id)) {
                self.send(peer, Message::Ping { stamp: 0 });
            }
        }
        // Two islands that never knew of each other can only learn of it where both began. A small one
        // is full of nodes with room.
        if self.config.active_min > 0 && (room || self.rng.random_range(0..2) == 0) {
            self.outputs.push_back(Output::Bootstrap);
        }
    }

    /// Sends a walk that ends at another node with a free slot.
    pub(super) fn seek(&mut self) {
        let Some(next) = self.active.pick(&mut self.rng, |_| true).map(|m| m.peer) else { return };
        self.send(next, Message::Seek { peer: self.me, ttl: self.config.seek_ttl });
    }

    pub(super) fn on_seek(&mut self, now: Time, from: Peer, peer: Peer, ttl: u8) {
        if !self.active.contains(from.id) {
            return self.disown(from);
        }
        if peer.id == self.me.id || self.is_static() {
            return;
        }
        let peer = if peer.id == from.id { from } else { peer };
        if self.has_room() && !self.active.contains(peer.id) && !self.is_pending(peer.id) {
            return self.ask(now, peer, Ask::Fill);
        }
        let Some(ttl) = ttl.min(self.config.seek_ttl).checked_sub(1) else { return };
        let next = self.active.pick(&mut self.rng, |m| m.peer.id != from.id && m.peer.id != peer.id);
        if let Some(next) = next.map(|m| m.peer) {
            self.send(next, Message::Seek { peer, ttl });
        }
    }

    /// Asks the neighbour that hasn't been asked for longest, a new one first, whether we are its neighbour, too.
    pub(super) fn audit(&mut self, now: Time) {
        let Some(id) = self.active.iter().min_by_key(|m| m.audited).map(|m| m.peer.id) else { return };
        if let Some(member) = self.active.get_mut(id) {
            member.audited = now;
            let peer = member.peer;
            self.send(peer, Message::Neighbor { priority: Priority::Low });
        }
    }

    pub(super) fn optimise(&mut self, now: Time) {
        if self.has_room() || self.measure.is_some_and(|m| now.since(m.sent) < self.config.answer_timeout) {
            return;
        }
        let peer = self.passive.pick(&mut self.rng, |m| m.fails == 0 && m.retry_at <= now).map(|m| m.peer);
        if let Some(peer) = peer {
            self.ping(now, peer, false);
        }
    }

    fn ping(&mut self, now: Time, peer: Peer, warm: bool) {
        let stamp = self.rng.random();
        self.measure = Some(Measure { peer, stamp, sent: now, warm });
        self.send(peer, Message::Ping { stamp });
    }

    pub(super) fn on_pong(&mut self, now: Time, from: Peer, stamp: u64) {
        let Some(measure) = self.measure.filter(|m| m.peer.id == from.id && m.stamp == stamp) else { return };
        if !measure.warm {
            return self.ping(now, from, true);
        }
        let rtt_us = micros(now.since(measure.sent));
        let known = self.active.contains(from.id) || self.is_pending(from.id);
        if !known && !self.has_room() && self.farther_than(rtt_us).is_some() {
            self.ask(now, from, Ask::Near);
        }
        self.measure = None;
    }

    /// The farthest neighbour that may be given up for a nearer one: of the near ones, or of all while
    /// more than `random_links` of them are left to chance. Not one that the broadcast tree runs over: the tree
    /// moves to nearer links by itself, and then this one is free to go.
    pub(super) fn farthest(&self) -> Option<NodeId> {
        let near_only = self.active.iter().filter(|m| !m.near).count() <= self.config.random_links;
        let candidates = self.active.iter().filter(|m| m.rtt_us > 0 && !m.carries && (m.near || !near_only));
        candidates.max_by_key(|m| m.rtt_us).map(|m| m.peer.id)
    }

    pub(super) fn farther_than(&self, rtt_us: u32) -> Option<NodeId> {
        let far = self.active.get(self.farthest()?)?;
        let bar = u64::from(far.rtt_us) * u64::from(self.config.nearer_percent) / 100;
        (u64::from(rtt_us) < bar).then_some(far.peer.id)
    }

    /// A few nodes to refer somebody to.
    pub(super) fn others(&mut self, except: NodeId) -> Vec<Peer> {
        let mut others = Vec::new();
        let k = self.config.refer_max.min(NODES_MAX);
        self.passive.sample(&mut self.rng, k, |m| m.fails == 0 && m.peer.id != except, &mut others);
        let more = k.saturating_sub(others.len()).max(k / 2);
        self.active.sample(&mut self.rng, more, |m| m.peer.id != except, &mut others);
        others.truncate(NODES_MAX);
        others
    }

    /// Takes a token for an admission that costs a neighbour its place.
    pub(super) fn admit(&mut self, now: Time) -> bool {
        let Some(interval) = self.config.admit_interval else { return true };
        let (tokens, since) = self.admissions;
        let fresh = now.since(since).as_micros() / interval.as_micros().max(1);
        let tokens = tokens.saturating_add(usize::try_from(fresh).unwrap_or(usize::MAX)).min(self.config.active_max);
        let since = if fresh > 0 { now } else { since };
        self.admissions = (tokens.saturating_sub(1), since);
        tokens > 0
    }

    /// Names a peer of a static topology, or tells that it can be reached again.
    pub(super) fn name(&mut self, peer: Peer) {
        if peer.id == self.me.id {
            return;
        }
        if self.named.contains(&peer.id) {
            if let Some(member) = self.passive.get_mut(peer.id) {
                *member = Passive::new(peer);
            }
        } else if self.named.len() < self.config.passive_max {
            self.named.push(peer.id);
            if !self.active.contains(peer.id) {
                self.passive.push(Passive::new(peer));
            }
        }
    }
}
