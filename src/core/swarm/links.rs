//! The links of a node, which all of its swarms share: up, being dialled, or idle.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::io::Output;
use crate::model::time::Time;
use crate::model::{NodeId, Peer};

/// The most frames that wait for one dial. An overlay asks one thing at a time of a peer without a link.
const WAITING_MAX: usize = 64;

/// A link stays up for this long after the last swarm needed it: an overlay repeats a refused request within 8 s.
const LINGER: Duration = Duration::from_secs(10);

/// A dial without an answer for this long has failed: above any driver's own timeout.
pub(super) const DIAL_PATIENCE: Duration = Duration::from_secs(30);

/// The hub looks for idle links this often in [`LINGER`].
const SWEEPS: u32 = 4;

/// The state of a link.
#[derive(Debug)]
enum State {
    Dialling { since: Time, waiting: VecDeque<Bytes> },
    Up { idle_since: Option<Time> },
}

#[derive(Debug)]
struct Link {
    peer: Peer,
    state: State,
}

impl Link {
    fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }
}

/// All links, by peer.
#[derive(Debug, Default)]
pub(super) struct Links {
    links: BTreeMap<NodeId, Link>,
    /// The time of the next look.
    sweep_at: Option<Time>,
}

impl Links {
    /// Returns the peer at the other end, where a link is up.
    pub(super) fn peer(&self, id: NodeId) -> Option<Peer> {
        self.links.get(&id).filter(|link| link.is_up()).map(|link| link.peer)
    }

    /// Returns all peers with a link that is up.
    pub(super) fn up(&self) -> impl Iterator<Item = Peer> {
        self.links.values().filter(|link| link.is_up()).map(|link| link.peer)
    }

    /// Returns what sends a frame to `to`: the frame itself over a link, or a dial, for which the frame waits. Without a
    /// link, a frame that doesn't want a dial is dropped.
    pub(super) fn route(&mut self, now: Time, to: Peer, frame: Bytes, wants_dial: bool) -> Option<Output> {
        match self.links.get_mut(&to.id).map(|link| &mut link.state) {
            Some(State::Up { .. }) => Some(Output::Control { to: to.id, frame }),
            Some(State::Dialling { waiting, .. }) => {
                if waiting.len() >= WAITING_MAX {
                    waiting.pop_front();
                }
                waiting.push_back(frame);
                None
            }
            None if wants_dial => {
                let state = State::Dialling { since: now, waiting: VecDeque::from([frame]) };
                self.links.insert(to.id, Link { peer: to, state });
                self.arm_sweep(now);
                Some(Output::Dial { addr: to.addr, peer: Some(to.id) })
            }
            None => None,
        }
    }

    /// Notes that a link is up. Returns the frames that waited for it.
    pub(super) fn set_up(&mut self, now: Time, peer: Peer) -> impl Iterator<Item = Output> + use<> {
        let fresh = Link { peer, state: State::Up { idle_since: None } };
        let link = self.links.entry(peer.id).or_insert(fresh);
        link.peer = peer;
        let waiting = match std::mem::replace(&mut link.state, State::Up { idle_since: None }) {
            State::Dialling { waiting, .. } => waiting,
            State::Up { .. } => VecDeque::new(),
        };
        self.arm_sweep(now);
        waiting.into_iter().map(move |frame| Output::Control { to: peer.id, frame })
    }

    pub(super) fn remove(&mut self, id: NodeId) {
        self.links.remove(&id);
    }

    /// Takes out the peers whose dial to `addr`, or as `peer`, has ended.
    pub(super) fn take_dialling(&mut self, addr: SocketAddr, peer: Option<NodeId>) -> Vec<NodeId> {
        self.take(|link| !link.is_up() && (link.peer.addr == addr || Some(link.peer.id) == peer))
    }

    /// Takes out the peers whose dials have had no answer for too long.
    pub(super) fn take_overdue(&mut self, now: Time) -> Vec<NodeId> {
        self.sweep_at = None;
        self.take(|link| matches!(link.state, State::Dialling { since, .. } if since + DIAL_PATIENCE <= now))
    }

    /// Takes out the links that no swarm has needed for a while.
    pub(super) fn take_idle(&mut self, now: Time, needed: impl Fn(NodeId) -> bool) -> Vec<NodeId> {
        let idle = self.take(|link| match &mut link.state {
            State::Up { idle_since } if needed(link.peer.id) => {
                *idle_since = None;
                false
            }
            State::Up { idle_since } => *idle_since.get_or_insert(now) + LINGER <= now,
            State::Dialling { .. } => false,
        });
        self.arm_sweep(now);
        idle
    }

    fn take(&mut self, mut which: impl FnMut(&mut Link) -> bool) -> Vec<NodeId> {
        self.links.extract_if(.., |_, link| which(link)).map(|(id, _)| id).collect()
    }

    fn arm_sweep(&mut self, now: Time) {
        if self.sweep_at.is_none() && !self.links.is_empty() {
            self.sweep_at = Some(now + LINGER / SWEEPS);
        }
    }

    /// Returns when [`Links::take_overdue`], then [`Links::take_idle`] are due.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.sweep_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Time = Time::from_millis(100_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn peer(n: u64) -> Peer {
        Peer { id: NodeId(n), addr: ([127, 0, 0, 1], 4_900 + n as u16).into() }
    }

    fn frame(n: u8) -> Bytes {
        Bytes::copy_from_slice(&[n])
    }

    /// Routes frame `n` to node 1.
    fn route(links: &mut Links, n: u8, wants_dial: bool) -> Option<Output> {
        links.route(T, peer(1), frame(n), wants_dial)
    }

    #[test]
    fn frames_wait_for_the_dial_that_the_first_of_them_is_worth() {
        let mut links = Links::default();
        assert_eq!(route(&mut links, 0, false), None, "it isn't worth a dial");
        assert_eq!(route(&mut links, 1, true), Some(Output::Dial { addr: peer(1).addr, peer: Some(NodeId(1)) }));
        assert_eq!(route(&mut links, 2, false), None);
        assert_eq!((links.peer(NodeId(1)), links.up().count()), (None, 0));
        let control = |n| Output::Control { to: NodeId(1), frame: frame(n) };
        assert_eq!(links.set_up(T, peer(1)).collect::<Vec<_>>(), [control(1), control(2)]);
        assert_eq!(links.set_up(T, peer(1)).count(), 0);
        assert_eq!(route(&mut links, 3, false), Some(control(3)));
        assert_eq!(links.peer(NodeId(1)), Some(peer(1)));
    }

    #[test]
    fn the_oldest_of_too_many_waiting_frames_is_dropped() {
        let mut links = Links::default();
        (0..=64).for_each(|n| drop(route(&mut links, n, true)));
        let waited: Vec<_> = links.set_up(T, peer(1)).collect();
        assert_eq!(waited.len(), WAITING_MAX);
        assert_eq!(waited[0], Output::Control { to: NodeId(1), frame: frame(1) });
    }

    #[test]
    fn a_failed_dial_is_found_by_its_address_or_its_peer() {
        let mut links = Links::default();
        for n in 1..=3 {
            links.route(T, peer(n), frame(0), true);
        }
        links.set_up(T, peer(1)).for_each(drop);
        assert_eq!(links.take_dialling(peer(1).addr, None), [], "a link that is up stays");
        assert_eq!(links.take_dialling(peer(2).addr, Some(NodeId(3))), [NodeId(2), NodeId(3)]);
        assert_eq!(links.take_overdue(T + 60 * SECOND), []);
    }

    #[test]
    fn lost_dials_and_idle_links_are_swept() {
        let mut links = Links::default();
        assert_eq!(links.poll_timeout(), None);
        links.route(T, peer(1), frame(0), true);
        links.set_up(T, peer(2)).for_each(drop);
        links.set_up(T, peer(3)).for_each(drop);
        assert_eq!(links.poll_timeout(), Some(T + 10 * SECOND / SWEEPS));
        assert_eq!(links.take_overdue(T + 29 * SECOND), []);
        let sweep =
            |links: &mut Links, after: u32, needed: u64| links.take_idle(T + after * SECOND, |id| id == NodeId(needed));
        assert_eq!(sweep(&mut links, 20, 3), []);
        assert_eq!(sweep(&mut links, 25, 2), [], "one is needed again, the other not any more");
        assert_eq!(sweep(&mut links, 34, 0), []);
        assert_eq!(sweep(&mut links, 35, 0), [NodeId(3)]);
        assert_eq!(links.take_overdue(T + 30 * SECOND), [NodeId(1)]);
        links.remove(NodeId(2));
        assert_eq!(sweep(&mut links, 60, 0), []);
        assert_eq!(links.poll_timeout(), None, "there is nothing to look at");
    }
}
