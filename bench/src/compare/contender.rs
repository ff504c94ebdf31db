//! Who is compared, and how each is made.

use std::time::Duration;

use damson_core::model::Peer;
use damson_core::plumtree::Optimise;
use damson_sim::{Latency, Member, Net, Node, Settings};

use super::iroh::Iroh;
use super::sile::Sile;
use crate::paper::world::{SECOND, World, part, uneven};

/// What the links of a run are like.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Links {
    /// 20 ms, all of them.
    Equal,
    /// U(5,50) ms.
    Uneven,
    /// A world of regions.
    World,
}

/// A core that takes part.
pub(crate) trait Contender: Node + Sized {
    /// What it is called in the table.
    const NAME: &'static str;

    /// A node that joins at `contacts`.
    fn make(at: u32, contacts: Vec<Peer>, links: Links, seed: u64) -> Self;

    /// Payload messages sent that the network doesn't count as bodies.
    fn payloads(&self) -> u64;
}

impl Contender for Member {
    const NAME: &'static str = "damson";

    fn make(at: u32, contacts: Vec<Peer>, links: Links, seed: u64) -> Self {
        let mut world = World::default();
        if links == Links::Equal {
            // Among equal links there is no time to be gained, only hops to be counted.
            world.broadcast.optimise = Optimise::Hops { threshold: 3 };
        }
        world.member(at, contacts, seed)
    }

    fn payloads(&self) -> u64 {
        0
    }
}

impl Contender for Iroh {
    const NAME: &'static str = "iroh-gossip";

    fn make(at: u32, contacts: Vec<Peer>, _: Links, seed: u64) -> Self {
        Iroh::new(at, &contacts, 1, seed << 32 | u64::from(at))
    }

    fn payloads(&self) -> u64 {
        Iroh::payloads(self)
    }
}

impl Contender for Sile {
    const NAME: &'static str = "plumtree + hyparview";

    fn make(at: u32, contacts: Vec<Peer>, _: Links, seed: u64) -> Self {
        Sile::new(at, &contacts, seed << 32 | u64::from(at))
    }

    fn payloads(&self) -> u64 {
        Sile::payloads(self)
    }
}

/// The network they share.
pub(crate) fn settings(links: Links) -> Settings {
    let latency = match links {
        Links::Equal => Latency::Constant(Duration::from_millis(20)),
        Links::Uneven => uneven(),
        Links::World => Latency::World { last_mile: Duration::from_millis(2) },
    };
    Settings { latency, repeat: "cargo run --release -p damson-bench -- compare".into(), ..Settings::default() }
}

/// `n` nodes join at `joins` a second, each at a random earlier one or at `bootstrap`, and settle for `settle`.
pub(crate) fn settled<C: Contender>(n: u32, seed: u64, links: Links, bootstrap: &[u32], pace: Pace) -> Net<C> {
    let mut net = Net::new(settings(links), seed);
    for at in 0..n {
        let contact = net.random() % u64::from(at.max(1));
        let contacts = match at {
            _ if !bootstrap.is_empty() => bootstrap.iter().map(|at| Net::<C>::peer(*at)).collect(),
            0 => vec![],
            _ => vec![Net::<C>::peer(contact as u32)],
        };
        net.add(C::make(at, contacts, links, seed));
        net.run(SECOND / pace.joins);
    }
    net.run(pace.settle);
    net
}

/// How a swarm comes about.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// Nodes a second.
    pub(crate) joins: u32,
    /// Then nothing happens for so long.
    pub(crate) settle: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let World { joins, settle, .. } = World::default();
        Pace { joins, settle }
    }
}

/// Payload messages that all who live have sent so far.
pub(crate) fn payloads<C: Contender>(net: &Net<C>) -> u64 {
    let frames: u64 = net.alive().filter_map(|at| net.node(at)).map(C::payloads).sum();
    frames + net.traffic().heads
}

/// `source` publishes `count` small parts from its `first`th on, one each `every`; their numbers in the ledger.
pub(crate) fn publish<C: Contender>(
    net: &mut Net<C>,
    source: u32,
    first: u32,
    count: u32,
    every: Duration,
) -> Vec<usize> {
    (first..first + count)
        .map(|n| {
            let (header, body) = part(source, n, crate::paper::world::SMALL);
            let part = net.publish(source, header, body);
            net.run(every);
            part
        })
        .collect()
}

/// How some parts fared among those who live.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    /// Payload messages sent for each needed one, less 1.
    pub(crate) rmr: f64,
    /// The mean over the parts.
    pub(crate) ldh: f64,
    /// The mean over the parts, in ms.
    pub(crate) last_ms: f64,
    /// The least over the parts, in percent.
    pub(crate) reached: f64,
}

/// `sent`: the payload messages that went out for these parts.
pub(crate) fn spread<C: Contender>(net: &Net<C>, parts: &[usize], sent: u64) -> Spread {
    let alive: Vec<u32> = net.alive().collect();
    let deliveries: Vec<_> = parts.iter().map(|part| net.ledger().delivery(*part, alive.iter().copied())).collect();
    let needed: usize = deliveries.iter().map(|d| d.reached.saturating_sub(1)).sum();
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / deliveries.len().max(1) as f64;
    Spread {
        rmr: sent as f64 / needed.max(1) as f64 - 1.0,
        ldh: mean(&mut deliveries.iter().map(|d| f64::from(d.ldh))),
        last_ms: mean(&mut deliveries.iter().map(|d| crate::paper::world::millis(d.last))),
        reached: crate::paper::world::reached(&deliveries),
    }
}
