//! One partial view: a list of nodes short enough to be searched from end to end.

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus as Rng;

use crate::model::time::Time;
use crate::model::{NodeId, Peer};

/// A member of the active view.
#[derive(Debug, Clone, Copy)]
pub(super) struct Active {
    pub(super) peer: Peer,
    /// The time at which it became a neighbour.
    pub(super) since: Time,
    /// Smoothed round trip in microseconds; 0 while unknown.
    pub(super) rtt_us: u32,
    /// Chosen for its short round trip, not by chance.
    pub(super) near: bool,
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

/// A member of either view.
pub(super) trait ViewMember {
    fn peer(&self) -> Peer;
}

impl ViewMember for Active {
    fn peer(&self) -> Peer {
        self.peer
    }
}

impl ViewMember for Passive {
    fn peer(&self) -> Peer {
        self.peer
    }
}

/// A view: no node twice. The order means nothing, but is the same for the same inputs.
#[derive(Debug, Clone)]
pub(super) struct View<M> {
    members: Vec<M>,
}

impl<M: ViewMember> View<M> {
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

    /// Returns a member at random among those that `want` takes.
    pub(super) fn pick(&self, rng: &mut Rng, want: impl Fn(&M) -> bool) -> Option<&M> {
        let n = self.members.iter().filter(|m| want(m)).count();
        if n == 0 {
            return None;
        }
        let at = rng.random_range(0..n);
        self.members.iter().filter(|m| want(m)).nth(at)
    }

    /// Returns a node at random, but none of these.
    pub(super) fn pick_except(&self, rng: &mut Rng, except: &[NodeId]) -> Option<Peer> {
        self.pick(rng, |m| !except.contains(&m.peer().id)).map(ViewMember::peer)
    }

    /// Appends up to `k` different members at random among those that `want` takes to `out`.
    pub(super) fn sample(&self, rng: &mut Rng, k: usize, want: impl Fn(&M) -> bool, out: &mut Vec<Peer>) {
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

impl View<Active> {
    /// Returns whether there is a link that the tree doesn't use. Only such a link is worth an exchange.
    pub(super) fn has_spare(&self) -> bool {
        self.iter().any(|m| !m.carries)
    }

    /// Returns a neighbour at random among those that `want` takes. Departure: one whose link the tree doesn't use, if
    /// there is one.
    pub(super) fn pick_spare(&self, rng: &mut Rng, want: impl Fn(&Active) -> bool) -> Option<Peer> {
        let spare = self.pick(rng, |m| !m.carries && want(m));
        let picked = if spare.is_some() { spare } else { self.pick(rng, want) };
        picked.map(|m| m.peer)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;

    use super::*;

    fn view(n: u64) -> View<Passive> {
        let mut view = View::new();
        for id in 0..n {
            view.push(Passive::new(Peer { id: NodeId(id), addr: ([127, 0, 0, 1], 1).into() }));
        }
        view
    }

    #[test]
    fn a_pick_is_any_of_those_wanted_and_no_other() {
        let (rng, view) = (&mut Rng::seed_from_u64(1), view(8));
        let picked: BTreeSet<u64> =
            (0..200).filter_map(|_| view.pick_except(rng, &[NodeId(0), NodeId(7)])).map(|peer| peer.id.0).collect();
        assert_eq!(picked, (1..7).collect());
        assert!(view.pick(rng, |_| false).is_none());
    }

    #[test]
    fn a_sample_has_no_node_twice_and_all_nodes_alike() {
        let (rng, view) = (&mut Rng::seed_from_u64(1), view(10));
        let mut times = [0; 10];
        for _ in 0..1_000 {
            let mut sample = Vec::new();
            view.sample(rng, 3, |m| m.peer.id != NodeId(9), &mut sample);
            assert_eq!(sample.iter().collect::<BTreeSet<_>>().len(), 3);
            sample.iter().for_each(|peer| times[peer.id.0 as usize] += 1);
        }
        assert_eq!(times[9], 0, "not wanted");
        assert!(times[..9].iter().all(|n| (270..400).contains(n)), "{times:?}");
        let mut all = Vec::new();
        view.sample(rng, 20, |_| true, &mut all);
        assert_eq!(all.len(), 10, "no more than there are");
    }

    #[test]
    fn a_link_that_carries_parts_is_the_last_to_be_picked() {
        let rng = &mut Rng::seed_from_u64(1);
        let mut view = View::new();
        for id in 0..4 {
            let peer = Peer { id: NodeId(id), addr: ([127, 0, 0, 1], 1).into() };
            let active = Active { peer, since: Time::ZERO, rtt_us: 0, near: false, carries: id != 2 };
            view.push(active);
        }
        assert!(view.has_spare());
        assert!((0..50).all(|_| view.pick_spare(rng, |_| true).is_some_and(|peer| peer.id == NodeId(2))));
        assert_ne!(view.pick_spare(rng, |m| m.peer.id != NodeId(2)), None, "any, where none is spare");
        view.remove(NodeId(2));
        assert!(!view.has_spare());
    }
}
