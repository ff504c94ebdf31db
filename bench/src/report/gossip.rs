//! Plain gossip, the classic exercise: who hears of a message first tells `fanout` others, chosen anew. And the peer
//! sampling remark: what if it takes the farthest of a few?

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use damson_sim::Latency;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::plot::Line;
use super::record::Record;
use crate::paper::world::mean;

/// One message.
#[derive(Clone, Copy)]
struct Spread {
    reached: f64,
    rmr: f64,
    ldh: f64,
    last_ms: f64,
    mean_ms: f64,
}

/// A figure of one.
type Of = fn(&Spread) -> f64;

/// How a node chooses whom to tell.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Choice {
    /// Anybody of those it knows.
    Random,
    /// The farthest of a random subset of the logarithm's size.
    Farthest,
    /// The nearest of one, to see what distance does.
    Nearest,
}

/// Node 0 tells `fanout` of the nodes it knows, and so does everybody who hears of it first. `known`: how many
/// a node knows, the same ones all the time; 0: all.
fn gossip(n: u32, fanout: usize, known: usize, choice: Choice, latency: &Latency, seed: u64) -> Spread {
    let mut chance = SmallRng::seed_from_u64(seed);
    let mut heard: Vec<Option<(u64, u32)>> = vec![None; n as usize];
    let mut heap = BinaryHeap::from([Reverse((0u64, 0u32, 0u32))]);
    let mut sent = 0usize;
    while let Some(Reverse((at, hops, node))) = heap.pop() {
        if heard[node as usize].is_some() {
            continue;
        }
        heard[node as usize] = Some((at, hops));
        // The same draw each time it is asked: a node's view.
        let mut view_chance = SmallRng::seed_from_u64(seed << 32 | u64::from(node));
        let view: Vec<u32> = (0..known).map(|_| other(&mut view_chance, n, node)).collect();
        let mut chosen: Vec<u32> = Vec::with_capacity(fanout);
        // A view may hold fewer than `fanout` different nodes.
        for _ in 0..20 * fanout {
            if chosen.len() == fanout {
                break;
            }
            let draw = |chance: &mut SmallRng| match view.len() {
                0 => other(chance, n, node),
                len => view[chance.random_range(0..len)],
            };
            let size = match choice {
                Choice::Random => 1,
                Choice::Farthest | Choice::Nearest => (known.max(2) as f64).log2().ceil() as usize,
            };
            let few: Vec<u32> = (0..size).map(|_| draw(&mut chance)).collect();
            let far = |to: &u32| latency.between_us(seed, node, *to);
            let pick = match choice {
                Choice::Nearest => few.into_iter().min_by_key(far),
                Choice::Random | Choice::Farthest => few.into_iter().max_by_key(far),
            };
            if let Some(pick) = pick.filter(|pick| !chosen.contains(pick)) {
                chosen.push(pick);
            }
        }
        for to in chosen {
            sent += 1;
            heap.push(Reverse((at + latency.between_us(seed, node, to), hops + 1, to)));
        }
    }
    let heard: Vec<(u64, u32)> = heard.into_iter().flatten().collect();
    Spread {
        reached: heard.len() as f64 / f64::from(n),
        rmr: sent as f64 / (heard.len().saturating_sub(1)).max(1) as f64 - 1.0,
        ldh: heard.iter().map(|(_, hops)| f64::from(*hops)).fold(0.0, f64::max),
        last_ms: heard.iter().map(|(at, _)| *at as f64 / 1_000.0).fold(0.0, f64::max),
        mean_ms: mean(heard.iter().map(|(at, _)| *at as f64 / 1_000.0)),
    }
}

fn other(chance: &mut SmallRng, n: u32, me: u32) -> u32 {
    let draw = chance.random_range(0..n - 1);
    if draw >= me { draw + 1 } else { draw }
}

/// The share r that an epidemic of this fanout reaches, if it doesn't die out at once: r = 1 - e^(-f r).
fn theory_reached(fanout: f64) -> f64 {
    (0..200).fold(1.0, |reached: f64, _| 1.0 - (-fanout * reached).exp())
}

/// Rounds until it has reached all it will. It grows by the fanout a round, and those who told a late one are
/// fewer by f (1 - r) a round, looking back: the diameter of a random digraph, as of a branching process and its dual.
fn theory_rounds(n: f64, fanout: f64) -> f64 {
    let thinning = fanout * (1.0 - theory_reached(fanout));
    n.ln() / fanout.ln() + n.ln() / (1.0 / thinning).ln()
}

const FANOUTS: [usize; 11] = [2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14];

/// Plain gossip by fanout, beside the theory.
pub(crate) fn by_fanout(n: u32, runs: u64) -> Vec<Line> {
    let equal = Latency::Constant(Duration::from_millis(1));
    const FILES: [&str; 4] = ["gossip-reliability.svg", "gossip-atomic.svg", "gossip-rmr.svg", "gossip-ldh.svg"];
    let line = |file, curve: &str| Line { file, curve: curve.to_owned(), points: Vec::new() };
    let mut lines: Vec<[Line; 2]> = FILES.map(|file| [line(file, "simulated"), line(file, "theory")]).into();
    for fanout in FANOUTS {
        let spreads: Vec<Spread> = (1..=runs).map(|seed| gossip(n, fanout, 0, Choice::Random, &equal, seed)).collect();
        let f = fanout as f64;
        let everybody = spreads.iter().filter(|spread| spread.reached >= 1.0).count() as f64 / runs as f64;
        // An epidemic that dies with its first few says nothing of the rest.
        let lives = |spread: &&Spread| spread.reached > 0.01;
        let figure = |of: Of| mean(spreads.iter().filter(lives).map(of));
        let measured = [100.0 * figure(|s| s.reached), 100.0 * everybody, figure(|s| s.rmr), figure(|s| s.ldh)];
        // Nobody is left out: e^(-n e^-f).
        let atomic = (-f64::from(n) * (-f).exp()).exp();
        let theory = [100.0 * theory_reached(f), 100.0 * atomic, f - 1.0, theory_rounds(f64::from(n), f)];
        let died_out = !spreads.iter().any(|spread| lives(&spread));
        for (n, [simulated, expected]) in lines.iter_mut().enumerate() {
            if !died_out {
                simulated.points.push((f, measured[n]));
                expected.points.push((f, theory[n]));
            }
        }
    }
    lines.into_iter().flatten().collect()
}

/// How many nodes a node knows: HyParView's views in the paper.
const KNOWN: usize = 35;

/// The peer sampling remark, in a world of regions.
pub(crate) fn sampling(n: u32, runs: u64) -> Vec<Record> {
    let world = Latency::World { last_mile: Duration::from_millis(2) };
    let figures: [(&str, Of); 5] = [
        ("reached, %", |s| 100.0 * s.reached),
        ("RMR", |s| s.rmr),
        ("LDH", |s| s.ldh),
        ("last node, ms", |s| s.last_ms),
        ("mean, ms", |s| s.mean_ms),
    ];
    let mut records = Vec::new();
    for fanout in [4, 6, 8] {
        let choices = [
            (Choice::Random, "any"),
            (Choice::Farthest, "the farthest of a few"),
            (Choice::Nearest, "the nearest of a few"),
        ];
        for (choice, who) in choices {
            for seed in 1..=runs {
                let spread = gossip(n, fanout, KNOWN, choice, &world, seed);
                for (what, figure) in figures {
                    records.push(Record {
                        part: "sampling".to_owned(),
                        case: format!("fanout {fanout}"),
                        nodes: n,
                        what: what.to_owned(),
                        goal: String::new(),
                        who: who.to_owned(),
                        key: seed as f64,
                        value: figure(&spread),
                    });
                }
            }
        }
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gossip_reaches_what_the_theory_says() {
        let equal = Latency::Constant(Duration::from_millis(1));
        for fanout in [2, 3, 5] {
            let runs: Vec<f64> =
                (1..=5).map(|seed| gossip(2_000, fanout, 0, Choice::Random, &equal, seed).reached).collect();
            let (got, expect) = (mean(runs.iter().copied()), theory_reached(fanout as f64));
            assert!((got - expect).abs() < 0.02, "fanout {fanout}: {got}, {expect}");
        }
    }

    #[test]
    fn far_peers_take_longer() {
        let world = Latency::World { last_mile: Duration::from_millis(2) };
        let mean_ms = |choice| gossip(1_000, 6, KNOWN, choice, &world, 1).mean_ms;
        assert!(mean_ms(Choice::Farthest) > mean_ms(Choice::Nearest));
    }
}
