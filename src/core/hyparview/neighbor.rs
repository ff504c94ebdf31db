//! Becoming neighbours: NEIGHBOR and its answer, and the filling of free slots (paper, 4.3).

use super::hyparview::{Ask, HyParView, Pending, micros};
use super::message::{Message, NODES_MAX, Priority};
use super::views::Passive;
use crate::model::Peer;
use crate::model::time::Time;

impl HyParView {
    pub(super) fn on_neighbor(&mut self, now: Time, from: Peer, priority: Priority) {
        let mut others = Vec::new();
        let accepted = if self.active.contains(from.id) {
            true // An audit, or two requests that crossed.
        } else if self.has_room() {
            self.add_active(now, from, false);
            true
        } else {
            match priority {
                _ if self.is_static() => false,
                // "A node that receives a high priority NEIGHBOR request will always accept the request,
                // even if it has to drop a random member from its active view"
                // Departure: not one that has hardly come. The asker is sent on to our neighbours instead, so that
                // a thousand of them don't push each other out of the same few slots.
                Priority::High => {
                    let guard = self.config.admit_interval.is_some();
                    let settled = self.config.young_link;
                    let dropped = self.drop_random(now, |m| !guard || m.since + settled <= now).is_some();
                    if dropped {
                        self.add_active(now, from, false);
                    } else {
                        self.active.sample(&mut self.rng, NODES_MAX, |m| m.peer.id != from.id, &mut others);
                    }
                    dropped
                }
                // "If a node receives a low priority NEIGHBOR request, it will only accept the request if
                // it has a free slot in its active view"
                Priority::Low => false,
                Priority::Rotate => {
                    let spare = self.has_spare() && self.admit(now);
                    let dropped = if spare { self.drop_random(now, |m| !m.carries) } else { None };
                    if dropped.is_some() {
                        self.add_active(now, from, false);
                    }
                    others.extend(dropped);
                    dropped.is_some()
                }
                Priority::Near { rtt_us } => {
                    let dropped = self.farther_than(rtt_us).and_then(|far| self.drop_active(now, far));
                    if dropped.is_some() {
                        self.add_active(now, from, true);
                    }
                    others.extend(dropped);
                    dropped.is_some()
                }
            }
        };
        self.send(from, Message::NeighborReply { accepted, others });
    }

    pub(super) fn on_neighbor_reply(&mut self, now: Time, from: Peer, accepted: bool, others: Vec<Peer>) {
        let ask = self.take_pending(from.id);
        if ask.is_some() {
            self.misfires = 0;
        }
        self.anchored |= ask == Some(Ask::Join) || (accepted && ask == Some(Ask::Rotate));
        let displaced = others.first().copied();
        if ask.is_some() {
            for other in others {
                self.add_passive(Passive::new(other), &mut Vec::new());
            }
        }
        if !accepted {
            self.counters.refusals += u64::from(ask.is_some());
            if self.active.contains(from.id) {
                // Our audit found a one-sided link, or two requests crossed and one was refused. Either
                // way the DISCONNECT keeps the views symmetric.
                self.counters.one_sided += u64::from(ask.is_none());
                self.drop_active(now, from.id);
            } else if ask.is_some() {
                // "the initiator will select another node from its passive view and repeat the whole procedure"
                self.add_passive(Passive::new(from), &mut Vec::new());
                self.busy(now, from.id);
                if ask == Some(Ask::Fill) && self.active.len() >= self.config.active_min.max(1) {
                    self.misses += 1;
                    let calm = (self.config.refill_calm / 4).saturating_mul(self.misses).min(self.config.busy_max);
                    self.calm_until = now + calm;
                }
            }
            return;
        }
        if self.active.contains(from.id) {
            return;
        }
        if !self.has_room() {
            let gone = match ask {
                Some(Ask::Rotate) => self.pick_spare(|m| !m.carries),
                Some(Ask::Place) => self.pick_spare(|_| true),
                Some(Ask::Near) => self.farthest().and_then(|far| self.active.get(far)).map(|m| m.peer),
                Some(Ask::Join | Ask::Fill) | None => None,
            };
            if let Some(gone) = gone {
                // Both ends of an exchange drop somebody: the two are brought together, as X-BOT's four
                // nodes are, so that the exchange leaves no slot free.
                if let Some(peer) =
                    displaced.filter(|d| d.id != gone.id && matches!(ask, Some(Ask::Rotate | Ask::Near)))
                {
                    self.send(gone, Message::ForwardJoin { peer, ttl: 0 });
                }
                self.drop_active(now, gone.id);
            }
        }
        if self.has_room() && !self.left {
            self.add_active(now, from, ask == Some(Ask::Near));
        } else {
            self.send(from, Message::Disconnect);
            self.add_passive(Passive::new(from), &mut Vec::new());
        }
    }

    /// Asks passive peers as long as slots are free.
    pub(super) fn refill(&mut self, now: Time) {
        if self.left || !self.has_room() || now < self.calm_until {
            return;
        }
        // Departure: several at once (the paper: one after the other), but not many more than there are slots.
        let room = self.config.active_max - self.active.len();
        let width = self.config.refill_width.min(room + 1);
        loop {
            let fresh = self.pending.iter().filter(|p| p.ask == Ask::Fill && now < p.hedge_at).count();
            // Departure: more where most are dead.
            let hedged = self.pending.iter().filter(|p| now >= p.hedge_at).count();
            let width = (width + (self.misfires + hedged) / 2).min(width.max(self.config.refill_width_max));
            if fresh >= width || self.pending.len() >= self.config.pending_max {
                return;
            }
            let Some(peer) = self.candidate(now) else { return };
            self.ask(now, peer, Ask::Fill);
        }
    }

    /// "node p selects at random a node q from its passive view"; one that didn't fail rather than a suspect. Departure:
    /// before the suspects, those in the contact cache.
    pub(super) fn candidate(&mut self, now: Time) -> Option<Peer> {
        let HyParView { active, passive, contacts, pending, config, rng, .. } = self;
        let idle = |id| !pending.iter().any(|p| p.peer.id == id);
        let ready = |m: &Passive| m.retry_at <= now && idle(m.peer.id);
        let fresh = passive.pick(rng, |m| m.fails == 0 && ready(m)).map(|m| m.peer);
        let few = active.len() < config.active_min || self.misfires >= config.passive_max / 2;
        let met =
            || if few { contacts.next(|id| !active.contains(id) && !passive.contains(id) && idle(id)) } else { None };
        fresh.or_else(met).or_else(|| passive.pick(rng, ready).map(|m| m.peer))
    }

    pub(super) fn ask(&mut self, now: Time, peer: Peer, ask: Ask) {
        if self.pending.len() >= self.config.pending_max {
            return;
        }
        let deadline = now + self.config.answer_timeout;
        let hedge_at = self.config.refill_hedge.map_or(deadline, |hedge| now + hedge);
        self.pending.push(Pending { peer, ask, hedge_at, deadline });
        self.counters.requests += 1;
        let message = match ask {
            Ask::Join => Message::Join,
            // "a priority level ... high if the node has no elements in its active view, low otherwise"
            Ask::Fill if self.active.is_empty() => Message::Neighbor { priority: Priority::High },
            Ask::Fill | Ask::Place => Message::Neighbor { priority: Priority::Low },
            Ask::Rotate => Message::Neighbor { priority: Priority::Rotate },
            Ask::Near => {
                let rtt_us = self.measure.take().map_or(u32::MAX, |m| micros(now.since(m.sent)));
                Message::Neighbor { priority: Priority::Near { rtt_us } }
            }
        };
        self.send(peer, message);
    }
}
