//! What the cases have in common: swarms that have settled, parts, and the shortest ways.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use bytes::Bytes;
use damson_core::model::time::UnixTime;
use damson_core::model::{Epoch, Flags, NodeId, PartHeader, PartId, TrackId};
use damson_core::{hyparview as overlay, model, plumtree as broadcast};
use damson_sim::{Delivery, Latency, Member, Net, Settings};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// The small message of the papers' simulations.
pub(crate) const SMALL: usize = 100;
/// How many segments of 5 parts a member holds: 30 s at a part a second, as the node's playlist.
pub(crate) const HELD: u32 = 6;

/// The links of the papers' later implementations' simulations.
pub(crate) fn uneven() -> Latency {
    Latency::Uniform(Duration::from_millis(5), Duration::from_millis(50))
}

/// A swarm's settings.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) overlay: overlay::Config,
    pub(crate) broadcast: broadcast::Config,
    pub(crate) held: u32,
    /// How many nodes join a second, each at a random earlier one.
    pub(crate) joins: u32,
    /// Then it is left alone for so long.
    pub(crate) settle: Duration,
}

impl Default for World {
    fn default() -> Self {
        World {
            settings: Settings {
                latency: uneven(),
                repeat: "cargo run --release -p damson-bench -- paper".into(),
                ..Settings::default()
            },
            overlay: overlay::Config::default(),
            broadcast: broadcast::Config::default(),
            held: HELD,
            joins: 1_000,
            settle: 170 * SECOND,
        }
    }
}

impl World {
    /// One node's core.
    pub(crate) fn member(&self, at: u32, contacts: Vec<model::Peer>, seed: u64) -> Member {
        let me = Net::<Member>::peer(at);
        Member::new(me, contacts, self.held, self.overlay.clone(), self.broadcast.clone(), seed << 32 | u64::from(at))
    }

    /// `n` nodes that joined and settled.
    pub(crate) fn settled(&self, n: u32, seed: u64) -> Net<Member> {
        let mut net = Net::new(self.settings.clone(), seed);
        for at in 0..n {
            let contact = net.random() % u64::from(at.max(1));
            let contacts = if at == 0 { vec![] } else { vec![Net::<Member>::peer(contact as u32)] };
            let node = self.member(at, contacts, seed);
            net.add(node);
            net.run(SECOND / self.joins);
        }
        net.run(self.settle);
        net
    }
}

/// The `n`th part of a stream of `source`'s, 5 to a segment.
pub(crate) fn part(source: u32, n: u32, length: usize) -> (PartHeader, Bytes) {
    let epoch = Epoch { counter: 1, node: NodeId(u64::from(source) + 1) };
    let id = PartId { epoch, track: TrackId(0), msn: n / 5, part: (n % 5) as u16 };
    let mut body = format!("{id:?}").into_bytes();
    body.resize(length, 0);
    let header = PartHeader {
        id,
        decode_time: u64::from(n),
        duration: 1,
        program_date_time: UnixTime::from_micros(0),
        ingested: UnixTime::from_micros(0),
        init: 0,
        discontinuity: 0,
        flags: Flags { independent: true, last: n % 5 == 4, ..Flags::default() },
        length: length as u32,
        hash: *blake3::hash(&body).as_bytes(),
    };
    (header, body.into())
}

/// Node 0 publishes `count` parts from the `first`th on, one each `every`; returns their numbers in the ledger.
pub(crate) fn publish(net: &mut Net<Member>, first: u32, count: u32, length: usize, every: Duration) -> Vec<usize> {
    (first..first + count)
        .map(|n| {
            let (header, body) = part(0, n, length);
            let part = net.publish(0, header, body);
            net.run(every);
            part
        })
        .collect()
}

/// How the parts spread among those who live.
pub(crate) fn deliveries(net: &Net<Member>, parts: &[usize]) -> Vec<Delivery> {
    let alive: Vec<u32> = net.alive().collect();
    parts.iter().map(|part| net.ledger().delivery(*part, alive.iter().copied())).collect()
}

pub(crate) fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.into_iter().collect();
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// The least share of nodes that a part has reached, in percent.
pub(crate) fn reached(deliveries: &[Delivery]) -> f64 {
    deliveries.iter().map(|d| 100.0 * d.reached as f64 / d.of as f64).fold(100.0, f64::min)
}

/// The greatest distance of any node from node 0 over the active views: in links, and in link delays (us).
pub(crate) fn eccentricity(net: &Net<Member>, latency: &Latency, seed: u64) -> (u64, u64) {
    let glances = net.glances();
    let far = |cost: &dyn Fn(u32, u32) -> u64| {
        let mut distance = vec![u64::MAX; glances.len()];
        let mut heap = BinaryHeap::from([Reverse((0u64, 0u32))]);
        distance[0] = 0;
        while let Some(Reverse((d, at))) = heap.pop() {
            if d > distance[at as usize] {
                continue;
            }
            for other in glances[at as usize].iter().flat_map(|glance| &glance.active) {
                let other = (other.0 - 1) as u32;
                let next = d + cost(at, other);
                if glances[other as usize].is_some() && next < distance[other as usize] {
                    distance[other as usize] = next;
                    heap.push(Reverse((next, other)));
                }
            }
        }
        distance.into_iter().filter(|d| *d < u64::MAX).max().unwrap_or(0)
    };
    (far(&|_, _| 1), far(&|a, b| latency.between_us(seed, a, b)))
}
