//! Rules that aren't in the paper: the calm after a drop, the pace of a storm, referrals, nearness.

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus as Rng;

use super::config::Config;
use super::message::Message;
use super::view::{Active, Passive, View};
use super::views::{BUSY_MAX, Views};
use crate::model::time::Time;
use crate::model::{NodeId, Peer};

/// The number of others to whom a reply refers. Guess: one more than an active view.
const REFER_MAX: usize = 6;

/// The number of neighbours left to chance (X-BOT's "unbiased neighbors": at least 1), so that the overlay stays
/// connected and its diameter small. Guess: 3 of 5.
const RANDOM_LINKS: usize = 3;

/// A candidate must be nearer than this share of the farthest neighbour's round trip, in percent. Guess: above the noise.
const NEARER_PERCENT: u64 = 75;

/// The number of contacts that a rotation probes.
pub(super) const PROBES: usize = 8;

/// Holds back the refill of a node that was dropped, and has enough other neighbours.
#[derive(Debug, Clone, Default)]
pub(super) struct Calm {
    until: Time,
    /// Refusals since a neighbour was lost.
    refusals: u32,
}

impl Calm {
    /// Returns the time before which no slot is filled.
    pub(super) fn until(&self) -> Time {
        self.until
    }

    /// Notes that a neighbour let go of us.
    pub(super) fn dropped(&mut self, now: Time, config: &Config) {
        self.until = now + config.refill_calm;
    }

    /// Notes that a request of ours was refused.
    pub(super) fn refused(&mut self, now: Time, config: &Config) {
        self.refusals += 1;
        self.until = now + (config.refill_calm / 4).saturating_mul(self.refusals).min(BUSY_MAX);
    }

    /// Forgets the refusals: there may be free slots again.
    pub(super) fn forget(&mut self) {
        self.refusals = 0;
    }
}

/// Paces the admissions that cost a neighbour its place.
#[derive(Debug, Clone)]
pub(super) struct Admissions {
    tokens: usize,
    /// The time of the last fresh token.
    since: Time,
}

impl Admissions {
    pub(super) fn new(config: &Config) -> Self {
        Admissions { tokens: config.active_max, since: Time::ZERO }
    }

    /// Takes a token, if there is one.
    pub(super) fn admit(&mut self, now: Time, config: &Config) -> bool {
        let Some(interval) = config.admit_interval else { return true };
        let fresh = now.since(self.since).as_micros() / interval.as_micros().max(1);
        let tokens = self.tokens.saturating_add(usize::try_from(fresh).unwrap_or(usize::MAX)).min(config.active_max);
        if fresh > 0 {
            self.since = now;
        }
        self.tokens = tokens.saturating_sub(1);
        tokens > 0
    }
}

/// Returns a few nodes to refer the sender of a JOIN to.
pub(super) fn referrals(rng: &mut Rng, views: &Views, config: &Config, except: NodeId) -> Vec<Peer> {
    let mut others = Vec::new();
    if config.admit_interval.is_none() {
        return others;
    }
    views.passive().sample(rng, REFER_MAX, |m| m.fails == 0 && m.peer.id != except, &mut others);
    let more = (REFER_MAX - others.len()).max(REFER_MAX / 2);
    views.active().sample(rng, more, |m| m.peer.id != except, &mut others);
    others
}

/// Returns a passive peer to exchange a link for, of those that are `idle`: one that failed, and may be back, or any.
pub(super) fn exchange(
    rng: &mut Rng,
    now: Time,
    passive: &View<Passive>,
    idle: impl Fn(NodeId) -> bool,
) -> Option<Peer> {
    let free = |m: &Passive| m.retry_at <= now && idle(m.peer.id);
    let suspect = passive.pick(rng, |m| m.fails > 0 && free(m)).map(|m| m.peer);
    suspect.or_else(|| passive.pick(rng, free).map(|m| m.peer))
}

/// A candidate whose round trip is being measured.
#[derive(Debug, Clone, Copy)]
struct Measurement {
    peer: NodeId,
    stamp: u64,
    sent: Time,
    /// The first ping may include a dial; the second one counts.
    warm: bool,
}

/// Measures passive peers, one at a time.
#[derive(Debug, Clone, Default)]
pub(super) struct Nearness {
    measurement: Option<Measurement>,
}

/// The meaning of a PONG.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Pong {
    /// No ping of ours asked for it.
    Stray,
    /// The link is up; this ping counts.
    Again(Message),
    /// The round trip, in microseconds.
    Rtt(u32),
}

impl Nearness {
    /// Returns whether the round trip to this node is being measured.
    pub(super) fn is_measuring(&self, id: NodeId) -> bool {
        self.measurement.is_some_and(|m| m.peer == id)
    }

    /// Returns the peer that a full node measures now, and the ping to send.
    pub(super) fn begin(
        &mut self,
        rng: &mut Rng,
        now: Time,
        views: &Views,
        config: &Config,
    ) -> Option<(Peer, Message)> {
        if views.has_room() || self.measurement.is_some_and(|m| now.since(m.sent) < config.answer_timeout) {
            return None;
        }
        let peer = views.passive().pick(rng, |m| m.fails == 0 && m.retry_at <= now)?.peer;
        Some((peer, self.ping(rng, now, peer.id, false)))
    }

    fn ping(&mut self, rng: &mut Rng, now: Time, peer: NodeId, warm: bool) -> Message {
        let stamp = rng.random();
        self.measurement = Some(Measurement { peer, stamp, sent: now, warm });
        Message::Ping { stamp }
    }

    /// Takes a PONG.
    pub(super) fn on_pong(&mut self, rng: &mut Rng, now: Time, from: NodeId, stamp: u64) -> Pong {
        match self.measurement.filter(|m| m.peer == from && m.stamp == stamp) {
            None => Pong::Stray,
            Some(measurement) if !measurement.warm => Pong::Again(self.ping(rng, now, from, true)),
            Some(measurement) => {
                self.measurement = None;
                Pong::Rtt(u32::try_from(now.since(measurement.sent).as_micros()).unwrap_or(u32::MAX))
            }
        }
    }

    /// Forgets the measurement of this node.
    pub(super) fn forget(&mut self, id: NodeId) {
        self.measurement = self.measurement.filter(|m| m.peer != id);
    }
}

/// Returns the farthest neighbour that may be given up for a nearer one: of the near ones, or of all while
/// more than [`RANDOM_LINKS`] of them are left to chance. Not one that the broadcast tree runs over: the tree
/// moves to nearer links by itself, and then this one is free to go.
pub(super) fn farthest(active: &View<Active>) -> Option<&Active> {
    let near_only = active.iter().filter(|m| !m.near).count() <= RANDOM_LINKS;
    let candidates = active.iter().filter(|m| m.rtt_us > 0 && !m.carries && (m.near || !near_only));
    candidates.max_by_key(|m| m.rtt_us)
}

/// Returns the farthest neighbour if a node at this round trip is clearly nearer.
pub(super) fn farther_than(active: &View<Active>, rtt_us: u32) -> Option<Peer> {
    let far = farthest(active)?;
    let bar = u64::from(far.rtt_us) * NEARER_PERCENT / 100;
    (u64::from(rtt_us) < bar).then_some(far.peer)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::SeedableRng;

    use super::*;

    fn peer(n: u64) -> Peer {
        Peer { id: NodeId(n), addr: ([127, 0, 0, 1], 1 + n as u16).into() }
    }

    fn rng() -> Rng {
        Rng::seed_from_u64(1)
    }

    fn views(active: std::ops::Range<u64>, passive: std::ops::Range<u64>) -> Views {
        let mut views = Views::new(NodeId(0), &Config::default());
        active.for_each(|n| views.add_active(Time::ZERO, peer(n), false));
        passive.for_each(|n| views.add_passive(&mut rng(), peer(n), &mut Vec::new()));
        views
    }

    #[test]
    fn each_refusal_lengthens_the_calm_until_a_neighbour_is_lost() {
        let (config, now, mut calm) = (Config::default(), Time::from_millis(5_000), Calm::default());
        calm.dropped(now, &config);
        assert_eq!(calm.until(), now + Duration::from_secs(1));
        calm.refused(now, &config);
        calm.refused(now, &config);
        assert_eq!(calm.until(), now + Duration::from_millis(500));
        (0..1_000).for_each(|_| calm.refused(now, &config));
        assert_eq!(calm.until(), now + BUSY_MAX);
        calm.forget();
        calm.refused(now, &config);
        assert_eq!(calm.until(), now + Duration::from_millis(250));
    }

    #[test]
    fn admissions_are_a_burst_then_one_each_interval() {
        let config = Config::default();
        let mut admissions = Admissions::new(&config);
        let mut admitted = |now: u64| (0..100).filter(|_| admissions.admit(Time::from_millis(now), &config)).count();
        assert_eq!(admitted(0), 5);
        assert_eq!(admitted(999), 0);
        assert_eq!(admitted(2_100), 2);
        assert_eq!(admitted(1_000_000), 5, "no more than a burst is saved up");
        let paper = Config::paper();
        assert!((0..100).all(|_| admissions.admit(Time::ZERO, &paper)), "the paper admits everybody");
    }

    #[test]
    fn referrals_name_some_of_both_views_and_never_the_one_referred() {
        let (views, config) = (views(1..4, 4..30), Config::default());
        for _ in 0..50 {
            let others = referrals(&mut rng(), &views, &config, NodeId(7));
            assert_eq!(others.len(), 9);
            assert!(others.iter().any(|other| other.id.0 < 4) && others.iter().all(|other| other.id.0 != 7));
        }
    }

    #[test]
    fn the_second_pong_measures() {
        let (rng, config, mut nearness) = (&mut rng(), Config::default(), Nearness::default());
        let (views, at) = (views(1..6, 6..7), Time::from_millis);
        let (to, cold) = nearness.begin(rng, at(1), &views, &config).expect("somebody to measure");
        let Message::Ping { stamp: cold } = cold else { panic!("{cold:?}") };
        assert!(nearness.is_measuring(to.id));
        assert_eq!(nearness.begin(rng, at(2), &views, &config), None, "one at a time");
        assert_eq!(nearness.on_pong(rng, at(90), NodeId(9), cold), Pong::Stray);
        let Pong::Again(Message::Ping { stamp: warm }) = nearness.on_pong(rng, at(90), to.id, cold) else {
            panic!("the first one includes a dial")
        };
        assert_eq!(nearness.on_pong(rng, at(95), to.id, cold), Pong::Stray);
        assert_eq!(nearness.on_pong(rng, at(100), to.id, warm), Pong::Rtt(10_000));
        assert!(!nearness.is_measuring(to.id));
        nearness.begin(rng, at(200), &views, &config);
        nearness.forget(NodeId(9));
        assert!(nearness.is_measuring(to.id));
        nearness.forget(to.id);
        assert!(!nearness.is_measuring(to.id));
    }

    #[test]
    fn the_farthest_goes_unless_the_tree_or_chance_needs_it() {
        let mut views = views(1..6, 0..0);
        assert!(farthest(views.active()).is_none(), "none is measured");
        (1..6).for_each(|n| views.set_rtt(NodeId(n), n as u32 * 1_000));
        let far = |views: &Views, rtt_us| farther_than(views.active(), rtt_us).map(|peer| peer.id.0);
        assert_eq!((far(&views, 3_749), far(&views, 3_750)), (Some(5), None), "75 % of 5 ms");
        views.set_carries(NodeId(5), true);
        assert_eq!(far(&views, 2_999), Some(4));
        (1..3).for_each(|n| views.remove_active(NodeId(n)).map(drop).unwrap_or_default());
        assert!(farthest(views.active()).is_none(), "three are left to chance");
    }
}
