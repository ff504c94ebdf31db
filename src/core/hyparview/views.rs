//! The two partial views, and the contact cache behind them.

use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus as Rng;

use super::config::{Config, Topology};
use super::contact_cache::ContactCache;
use super::io::DownCause;
use super::view::{Active, Passive, View};
use crate::model::time::Time;
use crate::model::{NodeId, Peer};

/// A peer that refused for want of a slot is asked again after this, doubling up to [`BUSY_MAX`]; at once where we lose a
/// neighbour, since then there are free slots around. Guess: a refill takes about as long elsewhere.
const BUSY_FIRST: Duration = Duration::from_secs(1);

/// Guess: in a small swarm the last slot may stay free for good (the nodes with a free slot are neighbours already), and
/// each question costs a dial.
pub(super) const BUSY_MAX: Duration = Duration::from_secs(60);

/// Owns the neighbours, the nodes that can become neighbours, and the contact cache. No node is in both views, and this
/// node is in none.
#[derive(Debug, Clone)]
pub(super) struct Views {
    me: NodeId,
    active_max: usize,
    passive_max: usize,
    contacts_max: usize,
    active: View<Active>,
    passive: View<Passive>,
    contacts: ContactCache,
    /// The peers of a static topology.
    named: Option<Vec<NodeId>>,
}

impl Views {
    pub(super) fn new(me: NodeId, config: &Config) -> Self {
        let mut views = Views {
            me,
            active_max: config.active_max,
            passive_max: config.passive_max,
            contacts_max: config.contacts_max,
            active: View::new(),
            passive: View::new(),
            contacts: ContactCache::default(),
            named: None,
        };
        if let Topology::Static { peers } = &config.topology {
            views.named = Some(Vec::new());
            peers.iter().for_each(|peer| views.name(*peer));
        }
        views
    }

    pub(super) fn active(&self) -> &View<Active> {
        &self.active
    }

    pub(super) fn passive(&self) -> &View<Passive> {
        &self.passive
    }

    /// Returns all nodes whose addresses are known.
    pub(super) fn known(&self) -> impl Iterator<Item = Peer> {
        let views = self.active.iter().map(|m| m.peer).chain(self.passive.iter().map(|m| m.peer));
        views.chain(self.contacts.iter())
    }

    pub(super) fn is_neighbor(&self, id: NodeId) -> bool {
        self.active.contains(id)
    }

    /// Returns how many slots of the active view are free.
    pub(super) fn room(&self) -> usize {
        self.active_max.saturating_sub(self.active.len())
    }

    pub(super) fn has_room(&self) -> bool {
        self.room() > 0
    }

    /// Returns whether there are neighbours enough to wait for a better time to fill a slot.
    pub(super) fn has_enough(&self, config: &Config) -> bool {
        self.active.len() >= config.active_min.max(1)
    }

    pub(super) fn is_static(&self) -> bool {
        self.named.is_some()
    }

    fn is_named(&self, id: NodeId) -> bool {
        self.named.as_ref().is_some_and(|named| named.contains(&id))
    }

    /// Notes that a node sent something: it is alive, and its link knows its address best. Returns whether it is in a view.
    pub(super) fn heard(&mut self, from: Peer) -> bool {
        if let Some(member) = self.active.get_mut(from.id) {
            member.peer = from;
        } else if let Some(member) = self.passive.get_mut(from.id) {
            (member.peer, member.fails) = (from, 0);
        } else {
            return false;
        }
        true
    }

    pub(super) fn set_rtt(&mut self, id: NodeId, rtt_us: u32) {
        if let Some(member) = self.active.get_mut(id) {
            member.rtt_us = rtt_us;
        }
    }

    pub(super) fn set_carries(&mut self, id: NodeId, carries: bool) {
        if let Some(member) = self.active.get_mut(id) {
            member.carries = carries;
        }
    }

    /// "addNodeActiveView(node)", where there is room.
    pub(super) fn add_active(&mut self, now: Time, peer: Peer, near: bool) {
        debug_assert!(self.has_room() && peer.id != self.me, "the caller makes room");
        self.passive.remove(peer.id);
        self.active.push(Active { peer, since: now, rtt_us: 0, near, carries: false });
    }

    pub(super) fn remove_active(&mut self, id: NodeId) -> Option<Peer> {
        self.active.remove(id).map(|m| m.peer)
    }

    /// "activeView <- activeView \ {n}; addNodePassiveView(n)". A node that has just let go of us, or we of it, has no
    /// slot for us.
    pub(super) fn demote(&mut self, rng: &mut Rng, now: Time, id: NodeId) -> Option<Peer> {
        let peer = self.remove_active(id)?;
        self.add_passive(rng, peer, &mut Vec::new());
        self.set_busy(now, id);
        Some(peer)
    }

    /// "addNodePassiveView(node)". In a full view one of `sent` goes first ("will first remove the
    /// identifiers that it has sent to the peer"); departure: a suspect goes before them.
    pub(super) fn add_passive(&mut self, rng: &mut Rng, peer: Peer, sent: &mut Vec<NodeId>) {
        let known = peer.id == self.me || self.active.contains(peer.id) || self.passive.contains(peer.id);
        if known || !peer.can_be_dialled() || (self.is_static() && !self.is_named(peer.id)) {
            return;
        }
        if self.passive.len() >= self.passive_max {
            let worst = self.passive.iter().filter(|m| m.fails > 0).max_by_key(|m| m.fails).map(|m| m.peer.id);
            let sent = std::iter::from_fn(|| sent.pop()).find(|id| self.passive.contains(*id));
            let gone = worst.or(sent).or_else(|| self.passive.pick(rng, |_| true).map(|m| m.peer.id));
            if let Some(gone) = gone.and_then(|gone| self.passive.remove(gone)) {
                self.contacts.note(rng, gone.peer, self.contacts_max);
            }
        }
        if self.passive.len() < self.passive_max {
            self.passive.push(Passive::new(peer));
        }
    }

    /// "integrates the elements it received into its passive view"
    pub(super) fn integrate(&mut self, rng: &mut Rng, nodes: Vec<Peer>, sent: &mut Vec<NodeId>) {
        for node in nodes {
            self.add_passive(rng, node, sent);
        }
    }

    /// Notes that a passive peer has no slot for us; it is asked again later.
    pub(super) fn set_busy(&mut self, now: Time, id: NodeId) {
        let Some(member) = self.passive.get_mut(id) else { return };
        member.busy = member.busy.saturating_add(1);
        member.retry_at = now + doubled(BUSY_FIRST, member.busy, BUSY_MAX);
    }

    /// Lets all be asked again that had no slot for us.
    pub(super) fn forget_busy(&mut self) {
        for member in self.passive.iter_mut().filter(|m| m.fails == 0) {
            (member.busy, member.retry_at) = (0, Time::ZERO);
        }
    }

    /// "If the connection fails to establish, node q is considered failed and removed from p's passive view"
    ///
    /// Departure: not on the first failure, lest a netsplit drain the passive view for good. Returns whether it is a
    /// suspect now.
    pub(super) fn suspect(&mut self, now: Time, id: NodeId, cause: DownCause, config: &Config) -> bool {
        let named = self.is_named(id);
        let Some(member) = self.passive.get_mut(id) else { return false };
        let weight = match cause {
            DownCause::Left if !named => u8::MAX,
            // Somebody answered that nobody is there: three of these are enough.
            DownCause::Refused => (config.fails_max / 3).max(1),
            DownCause::TimedOut | DownCause::Lost | DownCause::Left => 1,
        };
        member.fails = member.fails.saturating_add(weight);
        if named {
            member.fails = member.fails.min(8);
        } else if member.fails > config.fails_max {
            self.passive.remove(id);
            return false;
        }
        member.retry_at = now + doubled(config.fail_first, member.fails, config.fail_max);
        true
    }

    /// Names a peer of a static topology, or tells that it can be reached again.
    pub(super) fn name(&mut self, peer: Peer) {
        if peer.id == self.me {
            return;
        }
        if self.is_named(peer.id) {
            if let Some(member) = self.passive.get_mut(peer.id) {
                *member = Passive::new(peer);
            }
        } else if let Some(named) = self.named.as_mut().filter(|named| named.len() < self.passive_max) {
            named.push(peer.id);
            if !self.active.contains(peer.id) {
                self.passive.push(Passive::new(peer));
            }
        }
    }

    /// "node p selects at random a node q from its passive view", among those that are `idle` and due; one that didn't
    /// fail rather than a suspect. Departure: before the suspects, those in the contact cache, where `few` others
    /// are left.
    pub(super) fn candidate(
        &mut self,
        rng: &mut Rng,
        now: Time,
        few: bool,
        idle: impl Fn(NodeId) -> bool,
    ) -> Option<Peer> {
        let Views { active, passive, contacts, .. } = self;
        let ready = |m: &Passive| m.retry_at <= now && idle(m.peer.id);
        let fresh = passive.pick(rng, |m| m.fails == 0 && ready(m)).map(|m| m.peer);
        let stranger = |id| !active.contains(id) && !passive.contains(id) && idle(id);
        let met = || if few { contacts.next(stranger) } else { None };
        fresh.or_else(met).or_else(|| passive.pick(rng, ready).map(|m| m.peer))
    }

    /// Returns when the first passive peer that is `idle` may be asked after `now`, none before `calm_until`.
    pub(super) fn next_retry(&self, now: Time, calm_until: Time, idle: impl Fn(NodeId) -> bool) -> Option<Time> {
        let idle = self.passive.iter().filter(|m| idle(m.peer.id));
        idle.map(|m| m.retry_at.max(calm_until)).filter(|at| *at > now).min()
    }

    /// Lets each node of the contact cache be asked once more.
    pub(super) fn open_contacts(&mut self) {
        self.contacts.open();
    }

    pub(super) fn forget_contact(&mut self, id: NodeId) {
        self.contacts.remove(id);
    }

    /// Returns the next node of the contact cache, as long as a pass has begun and not ended.
    pub(super) fn next_contact(&mut self) -> Option<Peer> {
        let Views { active, passive, contacts, .. } = self;
        let stranger = |id| !active.contains(id) && !passive.contains(id);
        if contacts.is_under_way() { contacts.next(stranger) } else { None }
    }

    /// Panics where an invariant of the views is broken.
    pub(super) fn check_invariants(&self) {
        assert!(self.active.len() <= self.active_max, "active view above its bound");
        assert!(self.passive.len() <= self.passive_max, "passive view above its bound");
        assert!(self.contacts.len() <= self.contacts_max, "contact cache above its bound");
        assert!(!self.active.contains(self.me) && !self.passive.contains(self.me), "a view contains its node");
        for member in self.active.iter() {
            assert!(!self.passive.contains(member.peer.id), "{} is in both views", member.peer.id);
        }
    }
}

/// `first`, doubled with each of `times` after the first, at most `max`.
fn doubled(first: Duration, times: u8, max: Duration) -> Duration {
    (first * (1 << times.clamp(1, 16).saturating_sub(1))).min(max)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const NOW: Time = Time::from_millis(1);

    fn peer(n: u64) -> Peer {
        Peer { id: NodeId(n), addr: ([127, 0, 0, 1], 1 + n as u16).into() }
    }

    fn rng() -> Rng {
        Rng::seed_from_u64(1)
    }

    fn views(config: &Config, passive: std::ops::Range<u64>) -> Views {
        let mut views = Views::new(NodeId(0), config);
        passive.for_each(|n| views.add_passive(&mut rng(), peer(n), &mut Vec::new()));
        views.check_invariants();
        views
    }

    fn ids<'a>(view: impl Iterator<Item = &'a Passive>) -> Vec<u64> {
        let mut ids: Vec<u64> = view.map(|m| m.peer.id.0).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn a_full_passive_view_lets_go_of_suspects_then_of_those_sent() {
        let config = Config { passive_max: 3, ..Config::default() };
        let mut views = views(&config, 1..4);
        assert!(views.suspect(NOW, NodeId(2), DownCause::TimedOut, &config));
        let sent = &mut vec![NodeId(3), NodeId(9)];
        views.add_passive(&mut rng(), peer(4), sent);
        assert_eq!(ids(views.passive().iter()), [1, 3, 4], "the suspect went");
        views.add_passive(&mut rng(), peer(5), &mut vec![NodeId(3), NodeId(9)]);
        assert_eq!(ids(views.passive().iter()), [1, 4, 5], "the one of those sent that is there went");
        assert_eq!(views.known().count(), 5, "both are in the contact cache");
        views.add_passive(&mut rng(), peer(0), &mut Vec::new());
        views.add_passive(&mut rng(), Peer { addr: ([0, 0, 0, 0], 1).into(), ..peer(6) }, &mut Vec::new());
        assert_eq!(ids(views.passive().iter()), [1, 4, 5], "neither itself nor who can't be dialled");
    }

    #[test]
    fn a_peer_that_fails_waits_longer_each_time_and_goes_in_the_end() {
        let config = Config::default();
        let mut views = views(&config, 1..2);
        let mut waits = Vec::new();
        while views.suspect(NOW, NodeId(1), DownCause::TimedOut, &config) {
            waits.extend(views.passive().get(NodeId(1)).map(|m| m.retry_at.since(NOW)));
        }
        assert_eq!(waits.len(), usize::from(config.fails_max));
        assert_eq!((waits[0], waits[1], waits[7]), (config.fail_first, config.fail_first * 2, config.fail_max));
        assert!(views.passive().is_empty());
        let mut paper = self::views(&Config::paper(), 1..2);
        assert!(!paper.suspect(NOW, NodeId(1), DownCause::TimedOut, &Config::paper()), "the first failure purges");
    }

    #[test]
    fn who_speaks_is_no_suspect() {
        let config = Config::default();
        let mut views = views(&config, 1..2);
        views.suspect(NOW, NodeId(1), DownCause::Lost, &config);
        let moved = Peer { addr: ([10, 0, 0, 1], 7).into(), ..peer(1) };
        assert!(views.heard(moved) && !views.heard(peer(2)));
        let member = views.passive().get(NodeId(1)).expect("it stays");
        assert_eq!((member.peer, member.fails), (moved, 0));
    }

    #[test]
    fn a_dropped_neighbour_isnt_asked_at_once() {
        let config = Config::default();
        let mut views = views(&config, 1..2);
        views.add_active(NOW, peer(1), false);
        assert!(views.passive().is_empty() && views.is_neighbor(NodeId(1)));
        assert_eq!(views.demote(&mut rng(), NOW, NodeId(1)), Some(peer(1)));
        views.check_invariants();
        assert_eq!(views.candidate(&mut rng(), NOW, false, |_| true), None);
        let retry = NOW + BUSY_FIRST;
        assert_eq!(views.next_retry(NOW, Time::ZERO, |_| true), Some(retry));
        assert_eq!(views.next_retry(NOW, Time::ZERO, |id| id != NodeId(1)), None, "it is being asked");
        assert_eq!(views.candidate(&mut rng(), retry, false, |_| true), Some(peer(1)));
        views.forget_busy();
        assert_eq!(views.candidate(&mut rng(), NOW, false, |_| true), Some(peer(1)));
    }

    #[test]
    fn candidates_are_the_healthy_then_the_met_then_the_suspects() {
        let config = Config { passive_max: 1, fail_first: Duration::ZERO, ..Config::default() };
        let mut views = views(&config, 1..2);
        views.add_passive(&mut rng(), peer(2), &mut vec![NodeId(1)]);
        views.open_contacts();
        assert_eq!(views.candidate(&mut rng(), NOW, true, |_| true), Some(peer(2)));
        views.suspect(NOW, NodeId(2), DownCause::TimedOut, &config);
        assert_eq!(views.candidate(&mut rng(), NOW, false, |_| true), Some(peer(2)), "others are left");
        assert_eq!(views.candidate(&mut rng(), NOW, true, |_| true), Some(peer(1)));
        assert_eq!(views.candidate(&mut rng(), NOW, true, |_| true), Some(peer(2)), "the pass is over");
    }

    #[test]
    fn a_static_topology_keeps_to_the_peers_named() {
        let config = Config::fixed(vec![peer(1), peer(0)]);
        let mut views = views(&config, 2..4);
        views.name(peer(5));
        assert_eq!(ids(views.passive().iter()), [1, 5], "neither itself nor whom nobody named");
        for _ in 0..100 {
            assert!(views.suspect(NOW, NodeId(1), DownCause::Left, &config), "it is dialled for ever");
        }
        views.name(peer(1));
        assert_eq!(views.passive().get(NodeId(1)).map(|m| m.fails), Some(0), "it is back");
    }

    #[test]
    fn broken_views_are_found() {
        let check = |what: &str, spoil: &dyn Fn(&mut Views)| {
            let mut views = views(&Config::default(), 2..8);
            views.add_active(NOW, peer(1), false);
            views.check_invariants();
            spoil(&mut views);
            let panic = std::panic::catch_unwind(|| views.check_invariants()).expect_err("found");
            let told = panic.downcast_ref::<String>().cloned();
            let told = told.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
            assert!(told.contains(what), "{told}");
        };
        check("contains its node", &|views| views.passive.push(Passive::new(peer(0))));
        check("in both views", &|views| views.passive.push(Passive::new(peer(1))));
        check("passive view above", &|views| (50..90).for_each(|n| views.passive.push(Passive::new(peer(n)))));
        check("active view above", &|views| views.active_max = 0);
    }
}
