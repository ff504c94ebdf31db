//! The links of a node, shared by all of its swarms: up, being dialled, or idle.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::model::NodeId;
use crate::model::Peer;
use crate::model::time::Time;

/// Most frames that wait for one dial. An overlay asks one thing at a time of a peer without a link.
const WAITING_MAX: usize = 64;

/// Where a link stands.
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

/// What to do with a frame.
#[derive(Debug, PartialEq)]
pub(super) enum Route {
    /// There is a link.
    Send,
    /// It waits for a dial under way.
    Wait,
    /// It waits for a dial that is to begin.
    Dial,
    /// It isn't worth a dial.
    Drop,
}

/// All links, by peer.
#[derive(Debug, Default)]
pub(super) struct Links {
    links: BTreeMap<NodeId, Link>,
}

impl Links {
    pub(super) fn is_up(&self, id: NodeId) -> bool {
        self.links.get(&id).is_some_and(|link| matches!(link.state, State::Up { .. }))
    }

    /// The peer at the other end, where a link is up.
    pub(super) fn peer(&self, id: NodeId) -> Option<Peer> {
        self.links.get(&id).filter(|link| matches!(link.state, State::Up { .. })).map(|link| link.peer)
    }

    pub(super) fn up(&self) -> impl Iterator<Item = Peer> {
        self.links.values().filter(|link| matches!(link.state, State::Up { .. })).map(|link| link.peer)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Finds the way of a frame to `to`, and keeps it where it has to wait.
    pub(super) fn route(&mut self, now: Time, to: Peer, frame: &Bytes, wants_dial: bool) -> Route {
        match self.links.get_mut(&to.id).map(|link| &mut link.state) {
            Some(State::Up { .. }) => Route::Send,
            Some(State::Dialling { waiting, .. }) => {
                if waiting.len() >= WAITING_MAX {
                    waiting.pop_front();
                }
                waiting.push_back(frame.clone());
                Route::Wait
            }
            None if wants_dial => {
                let state = State::Dialling { since: now, waiting: VecDeque::from([frame.clone()]) };
                self.links.insert(to.id, Link { peer: to, state });
                Route::Dial
            }
            None => Route::Drop,
        }
    }

    /// A link is up; returns what waited for it. Told again of one that is up: nothing.
    pub(super) fn set_up(&mut self, peer: Peer) -> VecDeque<Bytes> {
        let fresh = Link { peer, state: State::Up { idle_since: None } };
        let link = self.links.entry(peer.id).or_insert(fresh);
        link.peer = peer;
        match std::mem::replace(&mut link.state, State::Up { idle_since: None }) {
            State::Dialling { waiting, .. } => waiting,
            State::Up { .. } => VecDeque::new(),
        }
    }

    pub(super) fn remove(&mut self, id: NodeId) {
        self.links.remove(&id);
    }

    /// Takes what was being dialled at `addr`, or is `peer` and being dialled.
    pub(super) fn take_dialling(&mut self, addr: SocketAddr, peer: Option<NodeId>) -> Vec<NodeId> {
        let failed = |link: &Link| {
            matches!(link.state, State::Dialling { .. }) && (link.peer.addr == addr || Some(link.peer.id) == peer)
        };
        let ids: Vec<_> = self.links.values().filter(|link| failed(link)).map(|link| link.peer.id).collect();
        for id in &ids {
            self.links.remove(id);
        }
        ids
    }

    /// Takes what has been dialled for so long that the answer must have been lost.
    pub(super) fn take_overdue(&mut self, now: Time, patience: Duration) -> Vec<NodeId> {
        let overdue = |link: &Link| matches!(link.state, State::Dialling { since, .. } if since + patience <= now);
        let ids: Vec<_> = self.links.values().filter(|link| overdue(link)).map(|link| link.peer.id).collect();
        for id in &ids {
            self.links.remove(id);
        }
        ids
    }

    /// Takes the links that nobody has needed for `linger`.
    pub(super) fn take_idle(&mut self, now: Time, linger: Duration, needed: impl Fn(NodeId) -> bool) -> Vec<NodeId> {
        let mut ids = Vec::new();
        for (id, link) in &mut self.links {
            if let State::Up { idle_since } = &mut link.state {
                if needed(*id) {
                    *idle_since = None;
                } else if *idle_since.get_or_insert(now) + linger <= now {
                    ids.push(*id);
                }
            }
        }
        for id in &ids {
            self.links.remove(id);
        }
        ids
    }
}
