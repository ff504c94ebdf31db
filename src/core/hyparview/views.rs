//! The two partial views. Small enough to be searched from end to end.

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

use crate::model::NodeId;
use crate::model::Peer;
use crate::model::time::Time;

/// A member of the active view.
#[derive(Debug, Clone, Copy)]
pub(super) struct Active {
    pub(super) peer: Peer,
    /// When it became one.
    pub(super) since: Time,
    /// Smoothed round trip in microseconds; 0 while unknown.
    pub(super) rtt_us: u32,
    /// Chosen for its short way, not by chance.
    pub(super) near: bool,
    /// When it was last asked whether we are its neighbour.
    pub(super) audited: Time,
    /// The broadcast tree runs over this link.
    pub(super) carries: bool,
}

/// A member of the passive view.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passive {
    pub(super) peer: Peer,
    /// Failed dials and lost links in a row. Above 0 it is a suspect.
    pub(super) fails: u8,
    /// Refusals for want of a slot in a row.
    pub(super) busy: u8,
    /// Not asked before this.
    pub(super) retry_at: Time,
}

impl Passive {
    pub(super) fn new(peer: Peer) -> Self {
        Passive { peer, fails: 0, busy: 0, retry_at: Time::ZERO }
    }
}

/// What both views are: a short list of nodes.
pub(super) trait Member {
    fn peer(&self) -> Peer;
}

impl Member for Active {
    fn peer(&self) -> Peer {
        self.peer
    }
}

impl Member for Passive {
    fn peer(&self) -> Peer {
        self.peer
    }
}

/// A view: no node twice. The order means nothing, but is the same for the same inputs.
#[derive(Debug, Clone)]
pub(super) struct View<M> {
    members: Vec<M>,
}

impl<M: Member> View<M> {
    pub(super) fn new() -> Self {
        View { members: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &M> {
        self.members.iter()
    }

    pub(super) fn contains(&self, id: NodeId) -> bool {
        self.get(id).is_some()
    }

    pub(super) fn get(&self, id: NodeId) -> Option<&M> {
        self.members.iter().find(|m| m.peer().id == id)
    }

    pub(super) fn get_mut(&mut self, id: NodeId) -> Option<&mut M> {
        self.members.iter_mut().find(|m| m.peer().id == id)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut M> {
        self.members.iter_mut()
    }

    /// Adds a member that isn't one yet.
    pub(super) fn push(&mut self, member: M) {
        debug_assert!(!self.contains(member.peer().id), "no node twice");
        self.members.push(member);
    }

    pub(super) fn remove(&mut self, id: NodeId) -> Option<M> {
        let at = self.members.iter().position(|m| m.peer().id == id)?;
        Some(self.members.swap_remove(at))
    }

    /// A member at random among those that `want` takes.
    pub(super) fn pick(&self, rng: &mut Xoshiro256PlusPlus, want: impl Fn(&M) -> bool) -> Option<&M> {
        let n = self.members.iter().filter(|m| want(m)).count();
        if n == 0 {
            return None;
        }
        let at = rng.random_range(0..n);
        self.members.iter().filter(|m| want(m)).nth(at)
    }

    /// Up to `k` different members at random among those that `want` takes, appended to `out`.
    pub(super) fn sample(
        &self,
        rng: &mut Xoshiro256PlusPlus,
        k: usize,
        want: impl Fn(&M) -> bool,
        out: &mut Vec<Peer>,
    ) {
        // Selection sampling (Knuth 3.4.2, algorithm S): one pass, no copy.
        let mut left = self.members.iter().filter(|m| want(m)).count();
        let mut k = k.min(left);
        for member in self.members.iter().filter(|m| want(m)) {
            if k == 0 {
                break;
            }
            if rng.random_range(0..left) < k {
                out.push(member.peer());
                k -= 1;
            }
            left -= 1;
        }
    }
}
