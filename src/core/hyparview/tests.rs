//! A small network of overlays in virtual time. Links keep the order; the driver's part (dials that fail,
//! links that break) is played by `Net`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::model::time::Time;
use crate::model::wire::Reader;
use crate::model::{NodeId, Peer};

const LATENCY: Duration = Duration::from_millis(20);
const NOTICE: Duration = Duration::from_secs(1);
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
enum Event {
    Message { to: NodeId, from: NodeId, message: Message },
    Down { at: NodeId, peer: NodeId, cause: DownCause },
    Timeout { at: NodeId },
}

struct Net {
    now: Time,
    nodes: BTreeMap<NodeId, HyParView>,
    events: BTreeMap<(Time, u64), Event>,
    armed: BTreeMap<NodeId, Time>,
    seq: u64,
    /// The side of each node while the network is cut.
    sides: Option<fn(NodeId) -> bool>,
    /// What a dial to a dead node comes to.
    dead: DownCause,
    loss_percent: u32,
    rng: Xoshiro256PlusPlus,
    bootstrap: Vec<NodeId>,
    ups: BTreeMap<NodeId, BTreeSet<NodeId>>,
}

fn peer(n: u64) -> Peer {
    Peer { id: NodeId(n), addr: SocketAddr::from(([127, 0, 0, 1], u16::try_from(n % 60_000 + 1).expect("a port"))) }
}

impl Net {
    fn new(seed: u64) -> Self {
        Net {
            now: Time::from_millis(1),
            nodes: BTreeMap::new(),
            events: BTreeMap::new(),
            armed: BTreeMap::new(),
            seq: 0,
            sides: None,
            dead: DownCause::Refused,
            loss_percent: 0,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            bootstrap: vec![NodeId(0)],
            ups: BTreeMap::new(),
        }
    }

    fn add(&mut self, n: u64, config: &Config) {
        let seed = self.rng.random();
        self.nodes.insert(NodeId(n), HyParView::new(peer(n), config.clone(), seed));
        self.handle(NodeId(n), Input::Timeout);
    }

    fn handle(&mut self, id: NodeId, input: Input) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.handle(self.now, input);
        node.check_invariants();
        let mut contacts = Vec::new();
        while let Some(output) = node.poll_output() {
            match output {
                Output::Send { to, message } => {
                    let reachable = self.sides.is_none_or(|side| side(id) == side(to.id));
                    let lost = self.rng.random_range(0..100) < self.loss_percent;
                    self.seq += 1;
                    let message = through_the_codec(message);
                    let (at, event) = if reachable && self.ups.contains_key(&to.id) {
                        (LATENCY, Event::Message { to: to.id, from: id, message })
                    } else if reachable && self.dead == DownCause::Refused {
                        (LATENCY * 2, Event::Down { at: id, peer: to.id, cause: DownCause::Refused })
                    } else {
                        (DIAL_TIMEOUT, Event::Down { at: id, peer: to.id, cause: DownCause::TimedOut })
                    };
                    if !(lost && matches!(event, Event::Message { .. })) {
                        self.events.insert((self.now + at, self.seq), event);
                    }
                }
                Output::NeighborUp(peer) => {
                    assert!(self.ups.entry(id).or_default().insert(peer.id), "up twice");
                }
                Output::NeighborDown(peer) => {
                    assert!(self.ups.entry(id).or_default().remove(&peer), "down, but wasn't up");
                }
                Output::Bootstrap => contacts.extend(self.bootstrap.iter().copied().filter(|b| *b != id)),
            }
        }
        self.ups.entry(id).or_default();
        let due = node.poll_timeout();
        if let Some(due) = due
            && self.armed.get(&id).is_none_or(|at| due < *at)
        {
            assert!(due > self.now || due == Time::ZERO, "a timer that is due was left");
            self.seq += 1;
            self.events.insert((due.max(self.now), self.seq), Event::Timeout { at: id });
            self.armed.insert(id, due);
        }
        for contact in contacts {
            self.handle(id, Input::Join(peer(contact.0)));
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > end {
                break;
            }
            self.now = entry.key().0;
            match entry.remove() {
                Event::Message { to, from, message } => {
                    self.handle(to, Input::Message { from: peer(from.0), message });
                }
                Event::Down { at, peer, cause } => self.handle(at, Input::PeerDown { peer, cause }),
                Event::Timeout { at } => {
                    self.armed.remove(&at);
                    if self.nodes.get(&at).and_then(HyParView::poll_timeout).is_some_and(|due| due <= self.now) {
                        self.handle(at, Input::Timeout);
                    } else {
                        self.rearm(at);
                    }
                }
            }
        }
        self.now = end;
    }

    fn rearm(&mut self, at: NodeId) {
        if let Some(due) = self.nodes.get(&at).and_then(HyParView::poll_timeout) {
            self.seq += 1;
            self.events.insert((due, self.seq), Event::Timeout { at });
            self.armed.insert(at, due);
        }
    }

    /// Breaks every link between two nodes for which `broken` holds; both ends notice a second later.
    fn break_links(&mut self, broken: impl Fn(NodeId, NodeId) -> bool) {
        let links: Vec<_> = self
            .ups
            .iter()
            .flat_map(|(a, peers)| peers.iter().map(|b| (*a, *b)))
            .filter(|(a, b)| broken(*a, *b))
            .collect();
        for (at, peer) in links {
            self.seq += 1;
            self.events.insert((self.now + NOTICE, self.seq), Event::Down { at, peer, cause: DownCause::Lost });
        }
    }

    fn kill(&mut self, dead: impl Fn(NodeId) -> bool) {
        self.break_links(|a, b| dead(a) || dead(b));
        self.nodes.retain(|id, _| !dead(*id));
        self.ups.retain(|id, _| !dead(*id));
    }

    fn component(&self) -> usize {
        let Some(first) = self.nodes.keys().next() else { return 0 };
        let (mut seen, mut stack) = (BTreeSet::from([*first]), vec![*first]);
        while let Some(id) = stack.pop() {
            for next in self.nodes.get(&id).into_iter().flat_map(HyParView::active) {
                if self.nodes.contains_key(&next.id) && seen.insert(next.id) {
                    stack.push(next.id);
                }
            }
        }
        seen.len()
    }

    #[track_caller]
    fn check_connected(&self) {
        assert_eq!(self.component(), self.nodes.len(), "one overlay");
    }

    fn one_sided(&self) -> Vec<(NodeId, NodeId)> {
        let pairs = self.nodes.iter().flat_map(|(id, node)| node.active().map(|p| (*id, p.id)));
        pairs.filter(|(a, b)| !self.nodes.get(b).is_some_and(|b| b.is_neighbor(*a))).collect()
    }

    /// Symmetry holds when quiet. The network never is for long (rotation), so a one-sided link must be gone
    /// after a few round trips.
    #[track_caller]
    fn check_symmetric(&mut self) {
        let before: BTreeSet<_> = self.one_sided().into_iter().collect();
        self.run(LATENCY * 4);
        let after: BTreeSet<_> = self.one_sided().into_iter().collect();
        assert_eq!(before.intersection(&after).collect::<Vec<_>>(), Vec::<&(NodeId, NodeId)>::new());
    }

    /// The share of filled slots in active views, as the scenarios count it.
    fn full_percent(&self) -> usize {
        let slots: usize = self.nodes.values().map(|node| node.active().count()).sum();
        slots * 100 / (5 * self.nodes.len())
    }
}

fn through_the_codec(message: Message) -> Message {
    let mut out = BytesMut::new();
    message.encode(&mut out);
    let r = &mut Reader::new(out.freeze());
    let back = Message::decode(r).expect("our own message").expect("a known one");
    r.finish("message").expect("nothing left");
    assert_eq!(back, message);
    back
}

fn settled(n: u64, seed: u64, config: &Config) -> Net {
    let mut net = Net::new(seed);
    for i in 0..n {
        net.add(i, config);
        net.run(Duration::from_millis(50));
    }
    net.run(Duration::from_secs(60));
    net.check_connected();
    net.check_symmetric();
    net
}

#[test]
fn nodes_that_join_one_after_the_other_become_one_overlay() {
    for seed in 0..4 {
        let net = settled(100, seed, &Config::default());
        assert!(net.full_percent() >= 95, "{} % full", net.full_percent());
    }
}

#[test]
fn the_papers_rules_make_one_overlay_too() {
    let mut net = settled(100, 1, &Config::paper());
    net.run(Duration::from_secs(600));
    net.check_connected();
    net.check_symmetric();
}

#[test]
fn a_new_node_is_remembered_halfway_and_placed_at_the_end() {
    let (now, neighbour, new) = (Time::from_millis(1), |n| peer(10 + n), peer(99));
    // The message that a node with so many neighbours sends on, and whether it remembers the new node.
    let walk = |neighbours: u64, ttl: u8| {
        let mut overlay = HyParView::new(peer(0), Config::default(), 1);
        for n in 0..neighbours {
            let message = Message::Neighbor { priority: Priority::Low };
            overlay.handle(now, Input::Message { from: neighbour(n), message });
        }
        while overlay.poll_output().is_some() {}
        overlay.handle(now, Input::Message { from: neighbour(0), message: Message::ForwardJoin { peer: new, ttl } });
        let sent = std::iter::from_fn(|| overlay.poll_output());
        let sent =
            sent.filter_map(|output| if let Output::Send { message, .. } = output { Some(message) } else { None });
        (sent.last(), overlay.passive().any(|peer| peer == new))
    };
    let forward = |ttl| Some(Message::ForwardJoin { peer: new, ttl });
    let place = Some(Message::Neighbor { priority: Priority::Low });
    assert_eq!(walk(5, u8::MAX), (forward(5), false), "nobody makes it walk longer");
    assert_eq!(walk(5, 3), (forward(2), true));
    assert_eq!(walk(5, 1), (forward(0), false));
    assert_eq!(walk(5, 0), (place.clone(), false));
    assert_eq!(walk(1, 6), (place, false), "there is no other way than back");
}

#[test]
fn few_nodes_are_all_neighbours() {
    for n in 2..=6 {
        let net = settled(n, n, &Config::default());
        for node in net.nodes.values() {
            assert_eq!(node.active().count() as u64, n - 1);
        }
    }
}

#[test]
fn a_storm_of_joins_isolates_nobody() {
    for seed in 0..4 {
        let mut net = Net::new(seed);
        for i in 0..300 {
            net.add(i, &Config::default());
        }
        net.run(Duration::from_secs(30));
        net.check_connected();
        net.check_symmetric();
        assert!(net.full_percent() >= 95, "{} % full", net.full_percent());
    }
}

#[test]
fn survivors_of_a_mass_failure_find_each_other() {
    let check = |percent: u64, dead: DownCause, millis: u64| {
        for seed in 0..2 {
            let mut net = settled(100, seed, &Config::default());
            net.dead = dead;
            // Of five bootstrap addresses one lives: who knows nobody alive asks there.
            net.bootstrap = [0, 1, 2, 3, 99].map(NodeId).to_vec();
            net.kill(|id| id.0 < percent);
            net.run(NOTICE + Duration::from_millis(millis));
            net.check_connected();
            net.run(Duration::from_secs(30));
            net.check_symmetric();
        }
    };
    check(50, DownCause::Refused, 1_500);
    check(80, DownCause::Refused, 1_500);
    check(50, DownCause::TimedOut, 3_000);
    check(80, DownCause::TimedOut, 3_000);
}

#[test]
fn a_healed_partition_becomes_one_overlay_again() {
    for n in [4, 12, 40] {
        for seed in 0..3 {
            let mut net = settled(n, seed, &Config::default());
            let side = |id: NodeId| id.0.is_multiple_of(2);
            net.sides = Some(side);
            net.break_links(|a, b| side(a) != side(b));
            net.run(Duration::from_secs(60));
            assert!((net.component() as u64) < n, "the cut cuts");
            net.sides = None;
            net.run(Duration::from_secs(10));
            net.check_connected();
        }
    }
}

#[test]
fn a_lone_node_asks_the_bootstrap_addresses_until_somebody_is_there() {
    let mut net = Net::new(3);
    net.bootstrap = vec![NodeId(7)];
    net.add(1, &Config::default());
    net.run(Duration::from_secs(60));
    net.add(7, &Config::default());
    net.run(Duration::from_secs(13));
    net.check_connected();
    net.check_symmetric();
}

#[test]
fn lost_messages_leave_no_one_sided_link_for_good() {
    let mut net = settled(100, 5, &Config::default());
    net.loss_percent = 2;
    net.run(Duration::from_secs(120));
    net.loss_percent = 0;
    // No link is closed here because one end doesn't need it. A SHUFFLE finds the one-sided ones: each minute one of five.
    net.run(Duration::from_secs(3_600));
    net.check_connected();
    net.check_symmetric();
}

#[test]
fn a_static_line_keeps_to_its_links_and_makes_them_again() {
    let mut net = Net::new(1);
    for n in 0..4 {
        let named = if n == 0 { Vec::new() } else { vec![peer(n - 1)] };
        net.add(n, &Config::fixed(named));
    }
    net.run(Duration::from_secs(2));
    let line = |net: &Net| {
        let edges: BTreeSet<_> = net.ups.iter().flat_map(|(a, peers)| peers.iter().map(|b| (a.0, b.0))).collect();
        assert_eq!(edges, BTreeSet::from([(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2)]));
    };
    line(&net);
    net.break_links(|_, _| true);
    net.run(NOTICE + Duration::from_secs(1));
    line(&net);
    // One that is away for long is dialled until it is back.
    net.kill(|id| id == NodeId(1));
    net.run(Duration::from_secs(600));
    net.add(1, &Config::fixed(vec![peer(0)]));
    net.run(Duration::from_secs(6));
    line(&net);
}

#[test]
fn a_static_topology_sends_no_shuffle_though_a_link_is_lost() {
    let mut net = Net::new(1);
    for n in 0..3 {
        net.add(n, &Config::fixed((0..n).map(peer).collect()));
    }
    net.run(Duration::from_secs(2));
    net.kill(|id| id == NodeId(2));
    net.run(Duration::from_secs(600));
    assert!(net.nodes.values().all(|node| node.counters().losses == 1 && node.counters().shuffles == 0));
}

#[test]
fn who_leaves_is_let_go_at_once() {
    let mut net = settled(20, 2, &Config::default());
    net.handle(NodeId(3), Input::Leave);
    net.run(LATENCY * 2);
    assert!(net.nodes.values().all(|n| !n.is_neighbor(NodeId(3))));
    net.run(Duration::from_secs(60));
    assert!(net.nodes.values().all(|n| !n.is_neighbor(NodeId(3))));
}

#[test]
fn links_grow_shorter_where_round_trips_are_told() {
    // Nodes on a ring: the way between two is their distance on it.
    let rtt = |a: u64, b: u64| 1_000 * u32::try_from(a.abs_diff(b).min(64 - a.abs_diff(b))).expect("small");
    let near = {
        let mut overlay = HyParView::new(peer(0), Config::default(), 1);
        let now = Time::from_millis(1);
        for n in [10, 20, 30, 31, 32] {
            overlay
                .handle(now, Input::Message { from: peer(n), message: Message::Neighbor { priority: Priority::Low } });
            overlay.handle(now, Input::Rtt { peer: NodeId(n), rtt_us: rtt(0, n) });
        }
        // A near one asks; then one that is no nearer than those left to chance.
        for n in [1, 2, 3] {
            let priority = Priority::Near { rtt_us: rtt(0, n) };
            overlay.handle(now, Input::Message { from: peer(n), message: Message::Neighbor { priority } });
        }
        overlay.active().map(|p| p.id.0).collect::<BTreeSet<_>>()
    };
    assert_eq!(near, BTreeSet::from([1, 2, 10, 20, 30]));
}

#[test]
fn the_same_seed_gives_the_same_overlay() {
    let edges = |seed| settled(60, seed, &Config::default()).ups;
    assert_eq!(edges(9), edges(9));
    assert_ne!(edges(9), edges(10));
}

// --- rubbish, strangers, reordering ---

fn any_peer() -> impl Strategy<Value = Peer> {
    (0u64..12).prop_map(peer)
}

fn any_message() -> impl Strategy<Value = Message> {
    let nodes = || prop::collection::vec(any_peer(), 0..NODES_MAX);
    let priority = prop_oneof![
        Just(Priority::High),
        Just(Priority::Low),
        Just(Priority::Rotate),
        any::<u32>().prop_map(|rtt_us| Priority::Near { rtt_us }),
    ];
    prop_oneof![
        Just(Message::Join),
        (any_peer(), any::<u8>()).prop_map(|(peer, ttl)| Message::ForwardJoin { peer, ttl }),
        priority.prop_map(|priority| Message::Neighbor { priority }),
        (any::<bool>(), nodes()).prop_map(|(accepted, others)| Message::NeighborReply { accepted, others }),
        Just(Message::Disconnect),
        (any_peer(), any::<u8>(), nodes()).prop_map(|(origin, ttl, nodes)| Message::Shuffle { origin, ttl, nodes }),
        nodes().prop_map(|nodes| Message::ShuffleReply { nodes }),
        any::<u64>().prop_map(|stamp| Message::Ping { stamp }),
        any::<u64>().prop_map(|stamp| Message::Pong { stamp }),
    ]
}

fn any_input() -> impl Strategy<Value = Input> {
    let cause =
        prop_oneof![Just(DownCause::Refused), Just(DownCause::TimedOut), Just(DownCause::Lost), Just(DownCause::Left),];
    prop_oneof![
        3 => Just(Input::Timeout),
        1 => any_peer().prop_map(Input::Join),
        10 => (any_peer(), any_message()).prop_map(|(from, message)| Input::Message { from, message }),
        2 => (any_peer(), cause).prop_map(|(peer, cause)| Input::PeerDown { peer: peer.id, cause }),
        1 => (any_peer(), any::<u32>()).prop_map(|(peer, rtt_us)| Input::Rtt { peer: peer.id, rtt_us }),
    ]
}

fn any_config() -> impl Strategy<Value = Config> {
    let small = |config: Config| Config { active_max: 3, passive_max: 4, ..config };
    prop_oneof![
        Just(Config::default()),
        Just(small(Config::default())),
        Just(small(Config::paper())),
        Just(small(Config::fixed(vec![peer(1), peer(2)]))),
    ]
}

proptest! {
    #[test]
    fn anybody_may_say_anything_at_any_time(
        config in any_config(),
        inputs in prop::collection::vec((any_input(), 0u64..3_000), 0..200),
        seed: u64,
    ) {
        let mut overlay = HyParView::new(peer(0), config, seed);
        let (mut now, mut neighbors, mut said) = (Time::from_millis(1), BTreeSet::new(), Vec::new());
        for (input, millis) in inputs {
            now += Duration::from_millis(millis);
            // Now and then one of its own messages comes back instead, from anybody: again, or out of its turn.
            let input = match input {
                Input::Rtt { peer: id, rtt_us } if rtt_us % 2 == 0 && !said.is_empty() => {
                    let message: &Message = &said[rtt_us as usize / 2 % said.len()];
                    Input::Message { from: peer(id.0), message: message.clone() }
                }
                input => input,
            };
            overlay.handle(now, input);
            overlay.check_invariants();
            let mut outputs = 0;
            while let Some(output) = overlay.poll_output() {
                outputs += 1;
                match output {
                    Output::NeighborUp(peer) => prop_assert!(neighbors.insert(peer.id)),
                    Output::NeighborDown(id) => prop_assert!(neighbors.remove(&id)),
                    Output::Send { to, message } => {
                        prop_assert_ne!(to.id, NodeId(0));
                        said.push(message);
                    }
                    Output::Bootstrap => {}
                }
            }
            prop_assert!(outputs < 100, "one input, {} outputs", outputs);
            let active: BTreeSet<_> = overlay.active().map(|p| p.id).collect();
            prop_assert_eq!(&neighbors, &active);
        }
    }

    #[test]
    fn rubbish_is_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Message::decode(&mut Reader::new(Bytes::from(bytes)));
    }

    #[test]
    fn messages_survive_the_wire_whole_and_only_whole(message in any_message()) {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        let whole = out.freeze();
        prop_assert_eq!(Message::decode(&mut Reader::new(whole.clone())), Ok(Some(message)));
        for cut in 0..whole.len() {
            prop_assert!(Message::decode(&mut Reader::new(whole.slice(..cut))).is_err());
        }
    }
}

#[test]
fn the_settings_page_names_every_setting() {
    let page = include_str!("README.md");
    let settings = [format!("{:#?}", Config::default()), format!("{:#?}", crate::plumtree::Config::default())];
    for setting in settings
        .iter()
        .flat_map(|text| text.lines())
        .filter(|line| line.starts_with("    ") && !line.starts_with("     "))
    {
        let name = setting.trim().split(':').next().unwrap_or("");
        let known = name.starts_with(['}', ')', ']']) || page.contains(&format!("| `{name}` |"));
        assert!(known, "{name} isn't on the page");
    }
    let named = page.lines().filter_map(|line| line.split('`').nth(1).filter(|_| line.starts_with("| `")));
    for name in named {
        assert!(settings.iter().any(|text| text.contains(&format!("\n    {name}: "))), "there is no {name}");
    }
}
