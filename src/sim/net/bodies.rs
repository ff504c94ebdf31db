//! Bodies: they share a node's upload, and wait for a slow receiver.

use std::collections::VecDeque;

use damson_core::model::time::Time;
use damson_core::model::{Hop, NodeId, NodeName, SwarmId, Trace};
use damson_core::plumtree::BodyEvent;
use damson_core::swarm::Input;

use super::{Event, Net, OnLink};
use crate::node::{Node, peer};
use crate::uplink::{BodyStart, QUEUE_US, Transfer};

impl<N: Node> Net<N> {
    /// Begins a body, in place of an older transfer of it to the same peer.
    pub(super) fn begin_body(&mut self, from: u32, to: NodeId, swarm: SwarmId, start: BodyStart, expires: Time) {
        let Some((to, link)) = self.link_to(from, to) else { return };
        let BodyStart { header, offset, .. } = start;
        let id = header.id;
        let left = header.length - offset.min(header.length);
        self.traffic.heads += 1;
        if let Some(message) = self.ledger.get_mut(&id) {
            message.heads += 1;
        }
        let tear_at = self.tear_at(left);
        let slot = &mut self.slots[from as usize];
        let expires = expires.as_micros().saturating_sub(slot.skew);
        let (head, pieces) = (Some(Box::new(start)), VecDeque::new());
        slot.uplink.remove(to, &id);
        slot.uplink.transfers.push_back(Transfer { to, link, swarm, id, head, pieces, left, tear_at, expires });
    }

    /// Sends what may be sent now.
    pub(super) fn upload(&mut self, from: u32) {
        loop {
            let slot = &mut self.slots[from as usize];
            if slot.uplink.busy || slot.uplink.transfers.is_empty() {
                return;
            }
            let (rate, now) = (slot.upload, self.now);
            let Some(at) = self.next_transfer(from) else { return };
            let to = self.slots[from as usize].uplink.transfers[at].to;
            let slowest = [rate, self.slots[to as usize].download].into_iter().flatten().min();
            let slot = &mut self.slots[from as usize];
            let Some(transfer) = slot.uplink.turn(at) else { return };
            let (to, link, swarm, id) = (transfer.to, transfer.link, transfer.swarm, transfer.id);
            if transfer.head.is_some() && transfer.expires < now {
                slot.uplink.transfers.pop_back();
                self.input(from, Input::Body { peer: peer(to).id, swarm, event: BodyEvent::Stopped(id) });
                continue;
            }
            let bytes = match (rate, slowest) {
                (None, None) => transfer.pieces.pop_front().unwrap_or_default(),
                (_, slowest) => transfer.chunk(slowest.unwrap_or(u64::MAX)),
            };
            let length = u32::try_from(bytes.len()).expect("a piece is small");
            transfer.left = transfer.left.saturating_sub(length);
            let torn = transfer.tear_at.is_some_and(|at| transfer.left <= at);
            let mut head = transfer.head.take();
            if let Some(start) = head.as_mut().filter(|start| start.trace.hops.len() < Trace::HOPS_MAX) {
                start.trace.hops.push(Hop::by(peer(from).id, NodeName::default()));
            }
            if torn || transfer.left == 0 {
                slot.uplink.transfers.pop_back();
            }
            if let Some(message) = self.ledger.get_mut(&id) {
                message.bytes += u64::from(length);
            }
            let sent = match rate {
                Some(rate) => {
                    let done = now + u64::from(length) * 1_000_000 / rate.max(1);
                    self.slots[from as usize].uplink.busy = true;
                    self.queue.add(done, Event::Upload(from));
                    done
                }
                None => now,
            };
            if self.is_blocked(from, to) {
                continue;
            }
            let mut at = sent + self.delay(from, to);
            let there = &mut self.slots[to as usize];
            if let Some(rate) = there.download {
                at = at.max(there.download_free) + u64::from(length) * 1_000_000 / rate.max(1);
                there.download_free = at;
            }
            let what = if torn { OnLink::Torn(swarm, id) } else { OnLink::Body { head, swarm, id, bytes } };
            self.on_link_after(at - now, from, to, link, what);
            if torn {
                self.input(from, Input::Body { peer: peer(to).id, swarm, event: BodyEvent::Stopped(id) });
            }
        }
    }

    /// Returns the number of bytes left at which a body of `left` bytes is torn, if it is.
    pub(super) fn tear_at(&mut self, left: u32) -> Option<u32> {
        let torn = self.chance(self.settings.torn_permille);
        torn.then(|| u32::try_from(self.random() % u64::from(left.max(1))).unwrap_or(0))
    }

    /// Returns the first transfer that has something to send and whose receiver's queue isn't full. Where there is none
    /// the node looks again later.
    fn next_transfer(&mut self, from: u32) -> Option<usize> {
        let mut soonest = u64::MAX;
        for (at, transfer) in self.slots[from as usize].uplink.transfers.iter().enumerate() {
            if !transfer.is_ready() {
                continue;
            }
            let there = &self.slots[transfer.to as usize];
            if there.download.is_none() {
                return Some(at);
            }
            let room_at = there.download_free.saturating_sub(QUEUE_US + self.delay(from, transfer.to));
            if room_at <= self.now {
                return Some(at);
            }
            soonest = soonest.min(room_at);
        }
        let uplink = &mut self.slots[from as usize].uplink;
        if soonest < u64::MAX && (uplink.wake == 0 || soonest < uplink.wake) {
            uplink.wake = soonest;
            self.queue.add(soonest, Event::Wake(from));
        }
        None
    }
}
