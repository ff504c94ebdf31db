//! Bodies: how they share a node's upload, and wait for a slow receiver.

use damson_core::model::{Hop, NodeName, Trace};
use damson_core::plumtree::BodyEvent;
use damson_core::swarm::Input;

use super::{Event, Net, Start};
use crate::node::{Node, peer};
use crate::uplink::QUEUE_US;

impl<N: Node> Net<N> {
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
            let head = transfer.head.take().map(|head| {
                let (header, mut trace) = *head;
                if trace.hops.len() < Trace::HOPS_MAX {
                    trace.hops.push(Hop::by(peer(from).id, NodeName::default()));
                }
                Box::new(Start { header, trace, offset: transfer.offset })
            });
            if torn || transfer.left == 0 {
                slot.uplink.transfers.pop_back();
            }
            self.traffic.body_bytes += u64::from(length);
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
            if torn {
                self.queue.add(at, Event::Torn { from, to, link, swarm, id });
                self.input(from, Input::Body { peer: peer(to).id, swarm, event: BodyEvent::Stopped(id) });
            } else {
                self.queue.add(at, Event::Body { from, to, link, swarm, head, id, bytes });
            }
        }
    }

    /// How much is left of a body of `left` bytes when it is torn, if the dice say that it is.
    pub(super) fn tear_at(&mut self, left: u32) -> Option<u32> {
        let torn = self.chance(self.settings.torn_permille);
        torn.then(|| u32::try_from(self.random() % u64::from(left.max(1))).unwrap_or(0))
    }

    /// The first transfer that has something to send, and whose receiver's queue isn't full. Where there are only
    /// others, the node looks again.
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
