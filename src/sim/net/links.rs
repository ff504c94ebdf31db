//! Links: they are dialled, accepted, cut and ended, and lose frames.

use std::net::SocketAddr;

use damson_core::hyparview::DownCause;
use damson_core::model::NodeId;
use damson_core::swarm::Input;

use super::settings::DeadDials;
use super::{End, Event, Net, OnLink};
use crate::node::{Node, index, index_at, peer};
use crate::units::micros;

impl<N: Node> Net<N> {
    /// Assigns nodes to sides.
    pub fn set_side(&mut self, node: u32, side: u8) {
        self.slots[node as usize].side = side;
    }

    /// Cuts the network from side `a` to side `b`; a second call cuts the other direction.
    pub fn cut(&mut self, a: u8, b: u8) {
        self.blocked.push((a, b));
        for at in 0..self.len() {
            for End { peer, number } in self.slots[at as usize].ends.clone() {
                if self.is_cut(at, peer) {
                    self.notice_down(at, peer, number, true);
                }
            }
        }
    }

    /// Ends all cuts.
    pub fn heal(&mut self) {
        self.blocked.clear();
    }

    pub(super) fn dial(&mut self, from: u32, addr: SocketAddr, expected: Option<NodeId>) {
        let born = self.slots[from as usize].born;
        let to = index_at(addr).filter(|to| *to < self.len() && *to != from);
        let to = to.filter(|to| !self.is_cut(from, *to));
        let dead = to.is_some_and(|to| self.slots[to as usize].node.is_none());
        let (after, failed) = match to {
            Some(to) if !dead => (2 * self.delay(from, to), None),
            Some(to) if self.settings.dead_dials == DeadDials::Refused => {
                (2 * self.delay(from, to), Some(DownCause::Refused))
            }
            _ => (micros(self.settings.dial_timeout), Some(DownCause::TimedOut)),
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
        let failed = failed.or_else(|| match to {
            Some(to) if self.is_cut(from, to) => Some(DownCause::TimedOut),
            Some(to) if self.slots[to as usize].node.is_some() => None,
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
            self.on_link_after(2 * delay, to, from, number, OnLink::Estimate);
        }
        self.input(from, Input::LinkUp { peer: peer(to), dialled: Some(addr) });
    }

    pub(super) fn on_accepted(&mut self, from: u32, to: u32, link: u32) {
        self.accepting.remove(&pair(from, to));
        if !self.is_up(from, to, link) || self.is_up(to, from, link) {
            return;
        }
        if self.slots[to as usize].node.is_none() {
            return self.notice_down(from, to, link, false);
        }
        let old = self.begin(to, from, link);
        if old != 0 && old != link {
            self.input(to, Input::LinkDown { peer: peer(from).id, cause: DownCause::Lost });
        }
        self.input(to, Input::LinkUp { peer: peer(from), dialled: None });
        self.on_link_after(2 * self.delay(from, to), from, to, link, OnLink::Estimate);
    }

    pub(super) fn on_down(&mut self, at: u32, peer: u32, link: u32, only_if_cut: bool) {
        if only_if_cut && !self.is_cut(at, peer) {
            return;
        }
        self.end(at, peer);
        // The other end's frames are answered no more, though the cut may be over by then.
        if only_if_cut {
            self.notice_down(peer, at, link, false);
        }
        self.input(at, Input::LinkDown { peer: crate::node::peer(peer).id, cause: DownCause::Lost });
    }

    /// Tells one end what its link is like.
    pub(super) fn on_estimate(&mut self, at: u32, peer: u32) {
        let rtt_us = u32::try_from(2 * self.delay(at, peer)).unwrap_or(u32::MAX);
        let upload = self.slots[peer as usize].upload.unwrap_or(0);
        let rate = self.slots[at as usize].download.map_or(upload, |down| down.min(upload));
        self.input(at, Input::LinkEstimate { peer: crate::node::peer(peer).id, rtt_us, rate });
    }

    /// Lets something happen on a link at `to`, `after` microseconds from now.
    pub(super) fn on_link_after(&mut self, after: u64, from: u32, to: u32, link: u32, what: OnLink<N::Frame>) {
        self.queue.add(self.now + after, Event::OnLink { from, to, link, what });
    }

    /// Lets one end notice later that its link is down.
    pub(super) fn notice_down(&mut self, at: u32, peer: u32, link: u32, only_if_cut: bool) {
        let (from, to) = (micros(self.settings.notice.0), micros(self.settings.notice.1));
        let after = from + self.random() % (to.saturating_sub(from) + 1);
        self.on_link_after(after, peer, at, link, OnLink::Down { only_if_cut });
    }

    /// Sends a control frame, which may be lost.
    pub(super) fn send_frame(&mut self, from: u32, to: NodeId, frame: N::Frame) {
        let Some((to, link)) = self.link_to(from, to) else { return };
        self.traffic.frames += 1;
        if !self.is_blocked(from, to) && !self.chance(self.settings.loss_permille) {
            self.on_link_after(self.delay(from, to), from, to, link, OnLink::Frame(frame));
        }
    }

    /// Lets one end believe in a link; returns the number of the link in which it believed before, or 0.
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

    /// Lets one end give its link up.
    pub(super) fn end(&mut self, at: u32, peer: u32) {
        let slot = &mut self.slots[at as usize];
        if let Some(place) = slot.ends.iter().position(|end| end.peer == peer) {
            let End { number, .. } = slot.ends.remove(place);
            self.up[number as usize][usize::from(at > peer)] = false;
        }
        slot.uplink.transfers.retain(|transfer| transfer.to != peer);
    }

    /// Returns the number of the link with `peer` in which `at` believes, or 0.
    pub(super) fn end_of(&self, at: u32, peer: u32) -> u32 {
        let end = self.slots[at as usize].ends.iter().find(|end| end.peer == peer);
        end.map_or(0, |end| end.number)
    }

    /// Returns whether `at` believes that its link number `link` with `peer` is up.
    pub(super) fn is_up(&self, at: u32, peer: u32, link: u32) -> bool {
        self.up[link as usize][usize::from(at > peer)]
    }

    /// Returns the peer's index, and the number of the link that `from` believes up.
    pub(super) fn link_to(&self, from: u32, to: NodeId) -> Option<(u32, u32)> {
        let to = index(to)?;
        let number = self.end_of(from, to);
        (number != 0).then_some((to, number))
    }

    pub(super) fn is_blocked(&self, from: u32, to: u32) -> bool {
        let side = |at: u32| self.slots[at as usize].side;
        !self.blocked.is_empty() && self.blocked.contains(&(side(from), side(to)))
    }

    /// Returns whether something is cut between the two, in either direction.
    fn is_cut(&self, a: u32, b: u32) -> bool {
        self.is_blocked(a, b) || self.is_blocked(b, a)
    }

    pub(super) fn delay(&self, a: u32, b: u32) -> u64 {
        self.settings.latency.between_us(self.seed, a, b)
    }

    pub(super) fn chance(&mut self, permille: u32) -> bool {
        permille > 0 && self.random() % 1_000 < u64::from(permille)
    }
}

/// Returns the key of a pair's link.
fn pair(a: u32, b: u32) -> (u32, u32) {
    (a.min(b), a.max(b))
}
