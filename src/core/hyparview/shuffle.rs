//! Keeping the passive view fresh: SHUFFLE and SHUFFLEREPLY (paper, 4.4).

use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus as Rng;

use super::config::Config;
use super::message::{Message, NODES_MAX};
use super::views::Views;
use crate::model::{NodeId, Peer};

/// Owns when the next SHUFFLE is sent, and what the last one carried.
#[derive(Debug, Clone)]
pub(super) struct Shuffles {
    every: Duration,
    sent: Vec<NodeId>,
}

impl Shuffles {
    pub(super) fn new(config: &Config) -> Self {
        Shuffles { every: config.shuffle_first, sent: Vec::new() }
    }

    /// Returns the time until the next one.
    pub(super) fn interval(&self) -> Duration {
        self.every
    }

    /// Makes it that of a young node again.
    pub(super) fn hurry(&mut self, config: &Config) {
        self.every = config.shuffle_first;
    }

    /// Returns a SHUFFLE and whom it goes to first.
    pub(super) fn begin(&mut self, rng: &mut Rng, me: Peer, views: &Views, config: &Config) -> Option<(Peer, Message)> {
        self.every = (self.every * 2).min(config.shuffle_interval);
        let target = views.active().pick_except(rng, &[])?;
        // "the identifier of the node itself, ka nodes from its active view, kp nodes from its passive view"
        let Config { shuffle_active: ka, shuffle_passive: kp, .. } = *config;
        let mut nodes = Vec::with_capacity(ka + kp);
        views.active().sample(rng, ka, |m| m.peer.id != target.id, &mut nodes);
        views.passive().sample(rng, kp, |m| m.fails == 0, &mut nodes);
        nodes.truncate(NODES_MAX);
        self.sent = nodes.iter().map(|n| n.id).collect();
        Some((target, Message::Shuffle { origin: me, ttl: config.shuffle_ttl, nodes }))
    }

    /// Takes what the last one carried, when its answer comes; `None` where nothing did, or it came before.
    pub(super) fn take_sent(&mut self) -> Option<Vec<NodeId>> {
        Some(std::mem::take(&mut self.sent)).filter(|sent| !sent.is_empty())
    }
}

/// Takes a SHUFFLE that a neighbour sent; returns what to send: the same, to another neighbour, or its answer.
pub(super) fn take(
    rng: &mut Rng,
    views: &mut Views,
    config: &Config,
    from: Peer,
    origin: Peer,
    ttl: u8,
    nodes: Vec<Peer>,
) -> Option<(Peer, Message)> {
    // A node may not know the address that others see it at; its neighbour does.
    let origin = if origin.id == from.id { from } else { origin };
    // "first decreases its TTL. If the TTL is greater than zero and the number of nodes in q's active view is
    // greater than 1, the node will select a random node from its active view, different from the
    // one it has received this shuffle message from, and simply forwards the SHUFFLE"
    let ttl = ttl.min(config.shuffle_ttl).saturating_sub(1);
    if ttl > 0
        && views.active().len() > 1
        && let Some(next) = views.active().pick_except(rng, &[from.id, origin.id])
    {
        return Some((next, Message::Shuffle { origin, ttl, nodes }));
    }
    // "accepts the shuffle and sends back ... a list of nodes selected at random from q's passive
    // view with a number of elements equal to the number of nodes received"
    let mut answer = Vec::new();
    views.passive().sample(rng, nodes.len(), |m| m.fails == 0 && m.peer.id != origin.id, &mut answer);
    let mut sent = answer.iter().map(|n| n.id).collect();
    views.integrate(rng, nodes, &mut sent);
    views.integrate(rng, vec![origin], &mut sent);
    (!answer.is_empty()).then_some((origin, Message::ShuffleReply { nodes: answer }))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::super::io::DownCause;
    use super::*;
    use crate::model::time::Time;

    fn peer(n: u64) -> Peer {
        Peer { id: NodeId(n), addr: ([127, 0, 0, 1], 1 + n as u16).into() }
    }

    /// Neighbours 1 to 5, passive peers 11 to 30, of which 11 failed.
    fn views(config: &Config) -> Views {
        let (mut views, rng) = (Views::new(NodeId(0), config), &mut Rng::seed_from_u64(1));
        (1..6).for_each(|n| views.add_active(Time::ZERO, peer(n), false));
        (11..31).for_each(|n| views.add_passive(rng, peer(n), &mut Vec::new()));
        views.suspect(Time::ZERO, NodeId(11), DownCause::Lost, config);
        views
    }

    #[test]
    fn a_shuffle_carries_some_of_both_views_but_neither_its_target_nor_suspects() {
        let (config, rng) = (Config::default(), &mut Rng::seed_from_u64(1));
        let (views, mut shuffles) = (views(&config), Shuffles::new(&config));
        assert_eq!(shuffles.take_sent(), None);
        for _ in 0..50 {
            let (target, message) = shuffles.begin(rng, peer(0), &views, &config).expect("there are neighbours");
            let Message::Shuffle { origin, ttl, nodes } = message else { panic!("{message:?}") };
            assert_eq!((origin, ttl), (peer(0), config.shuffle_ttl));
            let active = nodes.iter().filter(|node| node.id.0 < 10).count();
            assert_eq!((active, nodes.len()), (3, 7));
            assert!(!nodes.contains(&target) && !nodes.contains(&peer(11)));
            assert_eq!(shuffles.take_sent(), Some(nodes.iter().map(|node| node.id).collect()));
            assert_eq!(shuffles.take_sent(), None, "one answer each");
        }
        assert_eq!(shuffles.interval(), config.shuffle_interval, "no longer a young node");
        shuffles.hurry(&config);
        assert_eq!(shuffles.interval(), config.shuffle_first);
    }

    #[test]
    fn a_shuffle_walks_until_its_ttl_ends_and_is_answered_there() {
        let (config, rng) = (Config::default(), &mut Rng::seed_from_u64(1));
        let mut views = views(&config);
        let mut take = |from: Peer, ttl| {
            let nodes = vec![peer(41), peer(12)];
            take(rng, &mut views, &config, from, peer(40), ttl, nodes).expect("it goes on or is answered")
        };
        let (next, message) = take(peer(1), u8::MAX);
        assert!(next.id != NodeId(1) && next.id.0 < 6);
        let Message::Shuffle { origin, ttl, .. } = message else { panic!("{message:?}") };
        assert_eq!((origin, ttl), (peer(40), config.shuffle_ttl - 1), "nobody makes it walk longer");
        let (to, message) = take(peer(1), 1);
        let Message::ShuffleReply { nodes } = message else { panic!("{message:?}") };
        assert_eq!((to, nodes.len()), (peer(40), 2), "as many as came");
        assert!([40, 41].into_iter().all(|n| views.passive().contains(NodeId(n))));
    }

    #[test]
    fn the_origins_own_address_is_what_its_neighbour_sees() {
        let (config, rng) = (Config::default(), &mut Rng::seed_from_u64(1));
        let mut views = views(&config);
        let origin = Peer { addr: ([0, 0, 0, 0], 1).into(), ..peer(2) };
        let answer = take(rng, &mut views, &config, peer(2), origin, 0, vec![peer(41)]);
        assert_eq!(answer.map(|(to, _)| to), Some(peer(2)));
    }
}
