//! Links: cut, dialled, accepted, ended; and what of a network lies between two nodes.

use std::net::SocketAddr;
use std::time::Duration;

use damson_core::hyparview::DownCause;
use damson_core::model::NodeId;
use damson_core::swarm::Input;

use super::settings::DeadDials;
use super::{End, Event, Net};
use crate::node::{Node, index, index_at, peer};

impl<N: Node> Net<N> {
    /// Assigns nodes to sides.
    pub fn set_side(&mut self, node: u32, side: u8) {
        self.sides[node as usize] = side;
    }

    /// Nothing goes from side `a` to side `b` any more. Call it twice for a cut both ways.
    pub fn cut(&mut self, a: u8, b: u8) {
        self.blocked.push((a, b));
        for at in 0..self.len() {
            for End { peer, number } in self.slots[at as usize].ends.clone() {
                if self.is_blocked(at, peer) || self.is_blocked(peer, at) {
                    let notice = self.notice();
                    self.queue.add(self.now + notice, Event::Down { at, peer, link: number, only_if_cut: true });
                }
            }
        }
    }

    /// All cuts are over.
    pub fn heal(&mut self) {
        self.blocked.clear();
    }

    pub(super) fn dial(&mut self, from: u32, addr: SocketAddr, expected: Option<NodeId>) {
        self.traffic.dials += 1;
        let born = self.slots[from as usize].born;
        let to = index_at(addr).filter(|to| *to < self.len() && *to != from);
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let (after, failed) = match to {
            None => (micros(self.settings.dial_timeout), Some(DownCause::TimedOut)),
            Some(to) if self.is_blocked(from, to) || self.is_blocked(to, from) => {
                (micros(self.settings.dial_timeout), Some(DownCause::TimedOut))
            }
            Some(to) if self.slots[to as usize].node.is_none() => match self.settings.dead_dials {
                DeadDials::Refused => (2 * self.delay(from, to), Some(DownCause::Refused)),
                DeadDials::TimeOut(after) => (micros(after), Some(DownCause::TimedOut)),
            },
            Some(to) => (2 * self.delay(from, to), None),
        };
        self.queue.add(self.now + after, Event::Dialled { from, born, addr, expected, failed });
    }

    pub(super) fn on_dialled(
        &mut self,
        from: u32,
        born: u32,
        addr: SocketAddr,
        expected: Option<NodeId>,
        failed: Option<DownCause>,
    ) {
        if self.slots[from as usize].born != born || self.slots[from as usize].node.is_none() {
            return;
        }
        let to = index_at(addr).filter(|to| *to < self.len());
        let gone = |to: &u32| self.slots[*to as usize].node.is_none();
        let cut = |to: &u32| self.is_blocked(from, *to) || self.is_blocked(*to, from);
        let failed = failed.or_else(|| match &to {
            Some(to) if cut(to) => Some(DownCause::TimedOut),
            Some(to) if !gone(to) => None,
            _ => Some(DownCause::Refused),
        });
        let (Some(to), None) = (to, failed) else {
            let cause = failed.unwrap_or(DownCause::Refused);
            self.input(from, Input::DialFailed { addr, peer: expected, cause });
            return;
        };
        if self.end_of(from, to) == 0 {
            // One link a pair: a dial that crosses another joins it. A link in which only the other
            // end still believes is replaced.
            let under_way = self.accepting.get(&pair(from, to)).copied();
            let number = under_way.unwrap_or_else(|| {
                self.up.push([false; 2]);
                u32::try_from(self.up.len() - 1).expect("fewer than 2^32 links")
            });
            self.begin(from, to, number);
            let delay = self.delay(from, to);
            if under_way.is_none() {
                self.accepting.insert(pair(from, to), number);
                self.queue.add(self.now + delay, Event::Accepted { from, to, link: number });
            }
            self.queue.add(self.now + 2 * delay, Event::Estimate { at: from, peer: to, link: number });
        }
        self.input(from, Input::LinkUp { peer: peer(to), dialled: Some(addr) });
    }

    pub(super) fn on_accepted(&mut self, from: u32, to: u32, link: u32) {
        self.accepting.remove(&pair(from, to));
        if !self.is_up(from, to, link) || self.is_up(to, from, link) {
            return;
        }
        if self.slots[to as usize].node.is_none() {
            let notice = self.notice();
            self.queue.add(self.now + notice, Event::Down { at: from, peer: to, link, only_if_cut: false });
            return;
        }
        let old = self.begin(to, from, link);
        if old != 0 && old != link {
            self.input(to, Input::LinkDown { peer: peer(from).id, cause: DownCause::Lost });
        }
        self.input(to, Input::LinkUp { peer: peer(from), dialled: None });
        let delay = self.delay(from, to);
        self.queue.add(self.now + 2 * delay, Event::Estimate { at: to, peer: from, link });
    }

    /// One end notices that its link is down; `only_if_cut`: unless the network between the two has healed.
    pub(super) fn on_down(&mut self, at: u32, peer: u32, link: u32, only_if_cut: bool) {
        let cut = self.is_blocked(at, peer) || self.is_blocked(peer, at);
        if !self.is_up(at, peer, link) || (only_if_cut && !cut) {
            return;
        }
        self.end(at, peer);
        // The other end's frames are answered no more, though the cut may be over by then.
        if only_if_cut {
            let notice = self.notice();
            self.queue.add(self.now + notice, Event::Down { at: peer, peer: at, link, only_if_cut: false });
        }
        self.input(at, Input::LinkDown { peer: crate::node::peer(peer).id, cause: DownCause::Lost });
    }

    /// One end has measured its link.
    pub(super) fn on_estimate(&mut self, at: u32, peer: u32, link: u32) {
        if self.is_up(at, peer, link) {
            let rtt_us = u32::try_from(2 * self.delay(at, peer)).unwrap_or(u32::MAX);
            let upload = self.slots[peer as usize].upload.unwrap_or(0);
            let rate = self.slots[at as usize].download.map_or(upload, |down| down.min(upload));
            self.input(at, Input::LinkEstimate { peer: crate::node::peer(peer).id, rtt_us, rate });
        }
    }

    /// A control frame goes out, and may be lost.
    pub(super) fn send_frame(&mut self, from: u32, to: NodeId, frame: N::Frame) {
        let Some((to, link)) = self.link_to(from, to) else { return };
        self.traffic.frames += 1;
        if self.settings.count_frame_bytes {
            self.traffic.frame_bytes += N::frame_len(&frame) as u64;
        }
        if self.is_blocked(from, to) || self.chance(self.settings.loss_permille) {
            self.traffic.lost += 1;
            return;
        }
        let at = self.now + self.delay(from, to);
        self.queue.add(at, Event::Frame { from, to, link, frame });
    }

    /// One end believes the link up; returns the number of the one in which it believed before, or 0.
    fn begin(&mut self, at: u32, peer: u32, number: u32) -> u32 {
        let ends = &mut self.slots[at as usize].ends;
        let old = match ends.iter_mut().find(|end| end.peer == peer) {
            Some(end) => std::mem::replace(&mut end.number, number),
            None => {
                ends.push(End { peer, number });
                0
            }
        };
        self.up[old as usize][usize::from(at > peer)] = false;
        self.up[number as usize][usize::from(at > peer)] = true;
        old
    }

    /// One end gives the link up.
    pub(super) fn end(&mut self, at: u32, peer: u32) {
        let slot = &mut self.slots[at as usize];
        if let Some(place) = slot.ends.iter().position(|end| end.peer == peer) {
            let End { number, .. } = slot.ends.remove(place);
            self.up[number as usize][usize::from(at > peer)] = false;
        }
        slot.uplink.transfers.retain(|transfer| transfer.to != peer);
    }

    /// The number of the link with `peer` in which `at` believes, or 0.
    pub(super) fn end_of(&self, at: u32, peer: u32) -> u32 {
        let end = self.slots[at as usize].ends.iter().find(|end| end.peer == peer);
        end.map_or(0, |end| end.number)
    }

    /// Whether `at` believes that its link number `link` with `peer` is up.
    pub(super) fn is_up(&self, at: u32, peer: u32, link: u32) -> bool {
        self.up[link as usize][usize::from(at > peer)]
    }

    /// The peer's index, and the number of the link that `from` believes up.
    pub(super) fn link_to(&self, from: u32, to: NodeId) -> Option<(u32, u32)> {
        let to = index(to)?;
        let number = self.end_of(from, to);
        (number != 0).then_some((to, number))
    }

    pub(super) fn is_blocked(&self, from: u32, to: u32) -> bool {
        !self.blocked.is_empty() && self.blocked.contains(&(self.sides[from as usize], self.sides[to as usize]))
    }

    pub(super) fn delay(&self, a: u32, b: u32) -> u64 {
        self.settings.latency.between_us(self.seed, a, b)
    }

    pub(super) fn notice(&mut self) -> u64 {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let (from, to) = (micros(self.settings.notice.0), micros(self.settings.notice.1));
        from + self.random() % (to.saturating_sub(from) + 1)
    }

    pub(super) fn chance(&mut self, permille: u32) -> bool {
        permille > 0 && self.random() % 1_000 < u64::from(permille)
    }
}

/// The key of a pair's link.
fn pair(a: u32, b: u32) -> u64 {
    u64::from(a.min(b)) << 32 | u64::from(a.max(b))
}
