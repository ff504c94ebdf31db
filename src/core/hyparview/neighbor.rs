//! Becoming neighbours: NEIGHBOR and its answer, and the requests under way (paper, 4.3).

use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus as Rng;

use super::config::Config;
use super::departures::{self, Admissions};
use super::message::{Message, NODES_MAX, Priority};
use super::view::{Active, View};
use super::views::Views;
use crate::model::time::Time;
use crate::model::{NodeId, Peer};

/// Most requests under way at once, hedges included: the passive view, the contact cache and the bootstrap addresses.
/// With 20, dials into nothing held up the bootstrap until they had timed out (95 % killed: 10 s rather than 1 s).
const PENDING_MAX: usize = 112;

/// Links younger than this aren't dropped for a request of high priority, unless by the paper's rule. Guess: a few round
/// trips.
const YOUNG_LINK: Duration = Duration::from_secs(1);

/// The reason of a request to become a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// The peer is our contact.
    Join,
    /// A slot is free.
    Fill,
    /// The peer is new, and its walk ended here.
    Place,
    /// To exchange a link.
    Rotate,
    /// To exchange our farthest link, since the peer's round trip is this.
    Near { rtt_us: u32 },
}

impl Ask {
    /// Returns the request; `alone` says that there is no neighbour.
    pub(super) fn message(self, alone: bool) -> Message {
        let priority = match self {
            Ask::Join => return Message::Join,
            // "a priority level ... high if the node has no elements in its active view, low otherwise"
            Ask::Fill if alone => Priority::High,
            Ask::Fill | Ask::Place => Priority::Low,
            Ask::Rotate => Priority::Rotate,
            Ask::Near { rtt_us } => Priority::Near { rtt_us },
        };
        Message::Neighbor { priority }
    }
}

/// A request under way.
#[derive(Debug, Clone, Copy)]
struct Pending {
    peer: NodeId,
    ask: Ask,
    /// From here on it holds up no other request.
    hedge_at: Time,
    /// From here on the peer has timed out.
    deadline: Time,
}

/// Owns the requests under way, one a peer.
#[derive(Debug, Clone, Default)]
pub(super) struct Requests {
    pending: Vec<Pending>,
    /// Requests that failed since one was answered.
    failures: usize,
}

impl Requests {
    pub(super) fn contains(&self, id: NodeId) -> bool {
        self.pending.iter().any(|p| p.peer == id)
    }

    pub(super) fn is_full(&self) -> bool {
        self.pending.len() >= PENDING_MAX
    }

    /// Begins a request; returns whether there was room for it.
    pub(super) fn begin(&mut self, now: Time, peer: NodeId, ask: Ask, config: &Config) -> bool {
        if self.is_full() {
            return false;
        }
        let deadline = now + config.answer_timeout;
        let hedge_at = config.refill_hedge.map_or(deadline, |hedge| now + hedge);
        self.pending.push(Pending { peer, ask, hedge_at, deadline });
        true
    }

    /// Takes a request away that needs no answer any more.
    pub(super) fn take(&mut self, id: NodeId) -> Option<Ask> {
        let at = self.pending.iter().position(|p| p.peer == id)?;
        Some(self.pending.swap_remove(at).ask)
    }

    /// Takes the request that this peer has answered.
    pub(super) fn answered(&mut self, id: NodeId) -> Option<Ask> {
        let ask = self.take(id)?;
        self.failures = 0;
        Some(ask)
    }

    /// Takes the request to a peer that can't be reached; returns whether there was one.
    pub(super) fn failed(&mut self, id: NodeId) -> bool {
        let asked = self.take(id).is_some();
        self.failures += usize::from(asked);
        asked
    }

    /// Takes a request that went unanswered for too long.
    pub(super) fn expire(&mut self, now: Time) -> Option<NodeId> {
        let late = self.pending.iter().find(|p| p.deadline <= now)?.peer;
        self.failed(late);
        Some(late)
    }

    /// Returns whether so many failed in a row that most passive peers may be dead.
    pub(super) fn mostly_fail(&self, config: &Config) -> bool {
        self.failures >= config.passive_max / 2
    }

    /// Returns whether one more passive peer may be asked for one of `room` free slots.
    ///
    /// Departure: several at once (the paper: one after the other), but not many more than there are slots; more
    /// where most are dead.
    pub(super) fn may_fill(&self, now: Time, room: usize, config: &Config) -> bool {
        let fresh = self.pending.iter().filter(|p| p.ask == Ask::Fill && now < p.hedge_at).count();
        let hedged = self.pending.iter().filter(|p| now >= p.hedge_at).count();
        let width = config.refill_width.min(room + 1);
        let width = (width + (self.failures + hedged) / 2).min(width.max(config.refill_width_max));
        fresh < width && !self.is_full()
    }

    /// Returns the next time at which one expires or, as long as there is `room`, holds up no other one any more.
    pub(super) fn next(&self, now: Time, room: bool) -> Option<Time> {
        self.pending.iter().map(|p| if room && now < p.hedge_at { p.hedge_at } else { p.deadline }).min()
    }

    /// Panics where a promise of the requests is broken.
    pub(super) fn check_invariants(&self, active: &View<Active>) {
        assert!(self.pending.len() <= PENDING_MAX, "pending requests above their bound");
        for Pending { peer, .. } in &self.pending {
            assert!(!active.contains(*peer), "{peer} is a neighbour and asked to be one");
        }
    }
}

/// The answer to a NEIGHBOR request. By default it is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) accepted: bool,
    /// The neighbour that makes way.
    pub(super) displaced: Option<Peer>,
    /// Others to ask.
    pub(super) others: Vec<Peer>,
}

/// Decides about a NEIGHBOR request.
pub(super) fn answer(
    rng: &mut Rng,
    now: Time,
    from: NodeId,
    priority: Priority,
    views: &Views,
    admissions: &mut Admissions,
    config: &Config,
) -> Answer {
    // From a neighbour: two requests crossed, or our DISCONNECT was lost.
    if views.is_neighbor(from) || views.has_room() {
        return Answer { accepted: true, ..Answer::default() };
    }
    if views.is_static() {
        return Answer::default();
    }
    let active = views.active();
    let displaced = match priority {
        // "A node that receives a high priority NEIGHBOR request will always accept the request,
        // even if it has to drop a random member from its active view"
        // Departure: not one that has hardly come.
        Priority::High => {
            let guard = config.admit_interval.is_some();
            active.pick_spare(rng, |m| !guard || m.since + YOUNG_LINK <= now)
        }
        // "If a node receives a low priority NEIGHBOR request, it will only accept the request if
        // it has a free slot in its active view"
        Priority::Low => None,
        Priority::Rotate => {
            let spare = active.has_spare() && admissions.admit(now, config);
            if spare { active.pick_spare(rng, |m| !m.carries) } else { None }
        }
        Priority::Near { rtt_us } => departures::farther_than(active, rtt_us),
    };
    let mut others = Vec::new();
    if priority != Priority::High {
        others.extend(displaced);
    } else if displaced.is_none() {
        // Departure: the asker is sent on to our neighbours, so that a thousand of them don't push each other
        // out of the same few slots.
        active.sample(rng, NODES_MAX, |m| m.peer.id != from, &mut others);
    }
    Answer { accepted: displaced.is_some(), displaced, others }
}

/// Returns the neighbour that makes way in a full active view for a peer that has accepted our request.
pub(super) fn given_up(rng: &mut Rng, ask: Option<Ask>, active: &View<Active>) -> Option<Peer> {
    match ask? {
        Ask::Rotate => active.pick_spare(rng, |m| !m.carries),
        Ask::Place => active.pick_spare(rng, |_| true),
        Ask::Near { .. } => departures::farthest(active).map(|m| m.peer),
        Ask::Join | Ask::Fill => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::SeedableRng;

    use super::*;

    fn peer(n: u64) -> Peer {
        Peer { id: NodeId(n), addr: ([127, 0, 0, 1], 1).into() }
    }

    /// Five neighbours, one each second, the later the farther.
    fn views(config: &Config, carries: impl Fn(u64) -> bool) -> Views {
        let mut views = Views::new(NodeId(0), config);
        for n in 1..6 {
            views.add_active(Time::from_millis(n * 1_000), peer(n), false);
            views.set_rtt(NodeId(n), 1_000 * n as u32);
            views.set_carries(NodeId(n), carries(n));
        }
        views
    }

    #[test]
    fn requests_widen_as_they_fail_and_are_bounded() {
        let (config, now) = (Config::default(), Time::from_millis(1));
        let mut requests = Requests::default();
        let fill = |requests: &mut Requests, now| {
            let before = requests.pending.len();
            while requests.may_fill(now, 5, &config) {
                let id = NodeId(requests.pending.len() as u64 + 1);
                assert!(requests.begin(now, id, Ask::Fill, &config));
            }
            requests.pending.len() - before
        };
        assert_eq!(fill(&mut requests, now), 3);
        let hedged = requests.next(now, true).expect("three are under way");
        assert_eq!(hedged, now + Duration::from_millis(150));
        assert_eq!(fill(&mut requests, hedged), 4, "three more, and one for every two that hang");
        assert_eq!(requests.next(hedged, false), Some(now + config.answer_timeout));
        let late = now + config.answer_timeout;
        assert_eq!(std::iter::from_fn(|| requests.expire(late)).count(), 3);
        assert!(requests.failed(NodeId(4)) && !requests.failed(NodeId(4)));
        assert_eq!(requests.failures, 4);
        assert_eq!(requests.answered(NodeId(5)), Some(Ask::Fill));
        assert_eq!(requests.failures, 0);
        for n in 100..1_000 {
            requests.begin(now, NodeId(n), Ask::Place, &config);
        }
        assert!(requests.is_full() && !requests.may_fill(now, 5, &config));
        requests.check_invariants(&View::new());
        requests.pending.extend(requests.pending.clone());
        assert!(std::panic::catch_unwind(|| requests.check_invariants(&View::new())).is_err());
    }

    #[test]
    fn the_paper_asks_one_after_the_other() {
        let (config, now, mut requests) = (Config::paper(), Time::from_millis(1), Requests::default());
        assert!(requests.may_fill(now, 5, &config));
        requests.begin(now, NodeId(1), Ask::Fill, &config);
        assert!(!requests.may_fill(now, 5, &config));
        assert_eq!(requests.next(now, true), Some(now + config.answer_timeout), "nothing is hedged");
    }

    #[test]
    fn whoever_is_alone_asks_with_high_priority() {
        assert_eq!(Ask::Fill.message(true), Message::Neighbor { priority: Priority::High });
        assert_eq!(Ask::Fill.message(false), Message::Neighbor { priority: Priority::Low });
        assert_eq!(Ask::Place.message(true), Message::Neighbor { priority: Priority::Low });
    }

    #[test]
    fn a_full_view_makes_way_by_priority() {
        let (config, rng) = (Config::default(), &mut Rng::seed_from_u64(1));
        let mut admissions = Admissions::new(&config);
        let mut answered = |now, views: &Views, priority| {
            answer(rng, Time::from_millis(now), NodeId(9), priority, views, &mut admissions, &config)
        };
        let (none, all) = (views(&config, |_| false), views(&config, |_| true));
        for _ in 0..20 {
            let displaced = answered(3_500, &none, Priority::High).displaced.expect("it always accepts");
            assert!(displaced.id.0 <= 2, "none that has hardly come");
        }
        let refused = answered(1_500, &none, Priority::High);
        assert_eq!((refused.accepted, refused.others.len()), (false, 5), "it is sent on to all of them");
        let refused = Answer { accepted: false, displaced: None, others: Vec::new() };
        assert_eq!(answered(9_000, &none, Priority::Low), refused);
        assert_eq!(answered(9_000, &all, Priority::Rotate), refused, "the tree runs over all links");
        let instead = |n| Answer { accepted: true, displaced: Some(peer(n)), others: vec![peer(n)] };
        assert_eq!(answered(9_000, &views(&config, |n| n != 4), Priority::Rotate), instead(4));
        assert_eq!(answered(9_000, &none, Priority::Near { rtt_us: 100 }), instead(5), "the farthest");
    }

    #[test]
    fn a_neighbour_that_asks_again_is_one() {
        let (config, rng) = (Config::default(), &mut Rng::seed_from_u64(1));
        let (views, mut admissions) = (views(&config, |_| false), Admissions::new(&config));
        let again = answer(rng, Time::ZERO, NodeId(3), Priority::Low, &views, &mut admissions, &config);
        assert_eq!(again, Answer { accepted: true, ..Answer::default() });
    }

    #[test]
    fn only_an_exchange_or_a_placed_node_costs_a_neighbour() {
        let (config, rng) = (Config::default(), &mut Rng::seed_from_u64(1));
        let views = views(&config, |n| n != 4);
        let mut gone = |ask| given_up(rng, ask, views.active()).map(|peer| peer.id.0);
        assert_eq!(gone(Some(Ask::Rotate)), Some(4));
        assert_eq!(gone(Some(Ask::Place)), Some(4));
        assert_eq!(gone(Some(Ask::Near { rtt_us: 1 })), Some(4), "the farthest that the tree doesn't need");
        assert_eq!((gone(Some(Ask::Fill)), gone(Some(Ask::Join)), gone(None)), (None, None, None));
    }
}
