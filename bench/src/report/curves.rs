//! The Plumtree paper's curves, by the paper's rules: HyParView with a fanout of 4, a message a cycle, and the other
//! ways to broadcast over the very same overlay. Eager and lazy push need no simulation there: who gets what over
//! which links follows from the overlay.

use std::collections::VecDeque;
use std::time::Duration;

use damson_core::plumtree::Optimise;
use damson_core::{hyparview as overlay, plumtree as broadcast};
use damson_sim::{Glance, Latency, Member, Net};

use super::plot::Line;
use crate::paper::world::{SECOND, SMALL, World, mean, part};

/// A message each: longer than the graft timers, so that each is over when the next begins.
const CYCLE: Duration = Duration::from_secs(2);
/// The paper kills 50 nodes at cycle 100.
const CYCLES: u32 = 200;
const KILL_AT: u32 = 100;
const VICTIMS: u32 = 50;
/// Points are means of so many cycles.
const SMOOTH: usize = 5;

/// A figure of one of these.
type Of<T> = fn(&T) -> f64;

#[derive(Clone, Copy, PartialEq)]
enum Senders {
    One,
    Two,
    Random,
}

/// One broadcast.
#[derive(Clone, Copy, Default)]
struct Cycle {
    rmr: f64,
    ldh: f64,
    /// Of those who lived when it was sent, in percent.
    reliability: f64,
    /// Messages in all.
    payload: f64,
    control: f64,
}

fn paper_rules() -> World {
    let mut world =
        World { overlay: overlay::Config::paper(), broadcast: broadcast::Config::paper(), ..World::default() };
    world.settings.latency = Latency::Constant(Duration::from_millis(20));
    world
}

/// The curves over cycles.
pub(crate) fn over_cycles(n: u32, seed: u64) -> Vec<Line> {
    let settled = paper_rules().settled(n, seed);
    let mut runs: Vec<(String, Vec<Cycle>)> = Vec::new();
    let variants =
        [(Senders::One, "one sender", 3), (Senders::Two, "two senders", 7), (Senders::Random, "random senders", 7)];
    for (senders, name, threshold) in variants {
        for (rule, optimise) in [("", Optimise::Hops { threshold }), (", no optimisation", Optimise::Off)] {
            let mut net = settled.clone();
            for at in 0..n {
                net.with_node(at, |node, _| node.set_optimise(optimise));
            }
            let (plumtree, eager, lazy, unicast) = cycles(&mut net, senders);
            runs.push((format!("{name}{rule}"), plumtree));
            if senders == Senders::One && rule.is_empty() {
                runs.push(("eager push".to_owned(), eager));
                runs.push(("lazy push".to_owned(), lazy));
                runs.push(("unicast to all".to_owned(), unicast));
            }
        }
    }
    let figures: [(&str, Of<Cycle>); 5] = [
        ("rmr.svg", |c| c.rmr),
        ("ldh.svg", |c| c.ldh),
        ("reliability.svg", |c| c.reliability),
        ("payload.svg", |c| c.payload),
        ("control.svg", |c| c.control),
    ];
    let lines = |(file, figure): (&'static str, Of<Cycle>)| {
        runs.iter().map(move |(name, run)| Line { file, curve: name.clone(), points: smooth(run, figure) })
    };
    figures.into_iter().flat_map(lines).collect()
}

fn smooth(run: &[Cycle], figure: Of<Cycle>) -> Vec<(f64, f64)> {
    let point = |(n, cycles): (usize, &[Cycle])| ((n * SMOOTH) as f64, mean(cycles.iter().map(figure)));
    run.chunks(SMOOTH).enumerate().map(point).collect()
}

/// Plumtree's cycles, and those of eager push, lazy push and unicast over the overlay as it is then.
fn cycles(net: &mut Net<Member>, senders: Senders) -> (Vec<Cycle>, Vec<Cycle>, Vec<Cycle>, Vec<Cycle>) {
    let (mut sent, mut others) = (Vec::new(), (Vec::new(), Vec::new(), Vec::new()));
    for n in 0..CYCLES {
        if n == KILL_AT {
            kill(net, VICTIMS);
        }
        let living: Vec<u32> = net.alive().collect();
        let source = match senders {
            Senders::One => 0,
            // The killer spares the first two.
            Senders::Two => n % 2,
            Senders::Random => living[net.random() as usize % living.len()],
        };
        let glances = net.glances();
        let before = control(&glances);
        let (header, body) = part(0, n, SMALL);
        let number = net.publish(source, header, body);
        net.run(CYCLE);
        sent.push((number, living.len(), control(&net.glances()) - before));
        let flood = Flood::over(&glances, source);
        let (eager, lazy, unicast) = flood.cycles(living.len());
        others.0.push(eager);
        others.1.push(lazy);
        others.2.push(unicast);
    }
    let everybody: Vec<u32> = (0..net.len()).collect();
    let plumtree = sent.into_iter().map(|(number, living, control)| {
        let delivery = net.ledger().delivery(number, everybody.iter().copied());
        Cycle {
            rmr: delivery.rmr,
            ldh: f64::from(delivery.ldh),
            reliability: 100.0 * delivery.reached as f64 / living as f64,
            payload: net.ledger().messages()[number].heads as f64,
            control,
        }
    });
    (plumtree.collect(), others.0, others.1, others.2)
}

/// What Plumtree has said so far. Those who die take their counts with them, some thousandths of the whole.
fn control(glances: &[Option<Glance>]) -> f64 {
    let sent = |glance: &Glance| glance.stats.map_or(0, |stats| stats.control_sent());
    glances.iter().flatten().map(sent).sum::<u64>() as f64
}

/// Kills so many, but for the first two.
fn kill(net: &mut Net<Member>, count: u32) {
    let mut victims: Vec<u32> = net.alive().filter(|at| *at > 1).collect();
    for _ in 0..count {
        let at = net.random() as usize % victims.len();
        net.kill(victims.swap_remove(at));
    }
}

/// A flood over an overlay.
struct Flood {
    reached: usize,
    depth: u32,
    /// Everybody sends to all neighbours but whom it came from.
    sent: usize,
}

impl Flood {
    fn over(glances: &[Option<Glance>], source: u32) -> Self {
        let mut depth = vec![None; glances.len()];
        let mut queue = VecDeque::from([source]);
        depth[source as usize] = Some(0u32);
        let (mut reached, mut deepest, mut sent) = (1, 0, 0);
        while let Some(at) = queue.pop_front() {
            let Some(glance) = &glances[at as usize] else { continue };
            sent += glance.active.len() - usize::from(at != source && !glance.active.is_empty());
            let next = depth[at as usize].unwrap_or(0) + 1;
            for peer in &glance.active {
                let to = (peer.0 - 1) as usize;
                if glances[to].is_some() && depth[to].is_none() {
                    depth[to] = Some(next);
                    deepest = next;
                    reached += 1;
                    queue.push_back(to as u32);
                }
            }
        }
        Flood { reached, depth: deepest, sent }
    }

    /// Eager push, lazy push, and unicast to all.
    fn cycles(&self, living: usize) -> (Cycle, Cycle, Cycle) {
        let others = (self.reached - 1).max(1) as f64;
        let reliability = 100.0 * self.reached as f64 / living as f64;
        let (ldh, sent) = (f64::from(self.depth), self.sent as f64);
        let eager = Cycle { rmr: sent / others - 1.0, ldh, reliability, payload: sent, control: 0.0 };
        let lazy = Cycle { rmr: 0.0, ldh, reliability, payload: others, control: sent + others };
        let all = (living - 1) as f64;
        (eager, lazy, Cycle { rmr: 0.0, ldh: 1.0, reliability: 100.0, payload: all, control: 0.0 })
    }
}

/// What is left after some share of all nodes died at once.
#[derive(Clone, Copy)]
struct Aftermath {
    percent: f64,
    /// Of the first message, 10 s later, in percent.
    first: f64,
    /// Means of the messages 20 to 30 s after the kill.
    reliability: f64,
    rmr: f64,
    ldh: f64,
    /// Seconds from the kill to the first message from which on each reaches all within 2 s; 40: none did.
    recovered: f64,
}

const KILLED: [u32; 10] = [10, 20, 30, 40, 50, 60, 70, 80, 90, 95];
/// Messages after the kill, one a second.
const AFTER: u32 = 30;

/// The curves over the share of nodes killed, by the paper's rules and by damson's.
pub(crate) fn over_failures(n: u32, seed: u64) -> Vec<Line> {
    let runs: Vec<(&str, Vec<Aftermath>)> =
        [("the paper's rules", paper_rules()), ("damson's rules", World::default())]
            .into_iter()
            .map(|(name, world)| {
                let mut settled = world.settled(n, seed);
                for n in 0..10 {
                    let (header, body) = part(0, n, SMALL);
                    settled.publish(0, header, body);
                    settled.run(SECOND);
                }
                (name, KILLED.iter().map(|percent| aftermath(settled.clone(), *percent)).collect())
            })
            .collect();
    let figures: [(&str, &str, Of<Aftermath>); 5] = [
        ("killed-reliability.svg", ": first message, in 10 s", |a| a.first),
        ("killed-reliability.svg", ": 20-30 s later", |a| a.reliability),
        ("killed-rmr.svg", "", |a| a.rmr),
        ("killed-ldh.svg", "", |a| a.ldh),
        ("killed-recovery.svg", "", |a| a.recovered),
    ];
    let lines = |(file, what, figure): (&'static str, &'static str, Of<Aftermath>)| {
        runs.iter().map(move |(name, run)| Line {
            file,
            curve: format!("{name}{what}"),
            points: run.iter().map(|a| (a.percent, figure(a))).collect(),
        })
    };
    figures.into_iter().flat_map(lines).collect()
}

fn aftermath(mut net: Net<Member>, percent: u32) -> Aftermath {
    let victims = net.len() * percent / 100;
    kill(&mut net, victims);
    let living: Vec<u32> = net.alive().collect();
    let first_in_ledger = net.ledger().messages().len();
    let mut first = 0.0;
    for n in 0..AFTER {
        let (header, body) = part(0, 10 + n, SMALL);
        net.publish(0, header, body);
        net.run(SECOND);
        if n == 9 {
            let delivery = net.ledger().delivery(first_in_ledger, living.iter().copied());
            first = 100.0 * delivery.reached as f64 / delivery.of as f64;
        }
    }
    net.run(10 * SECOND);
    let deliveries: Vec<_> =
        (0..AFTER as usize).map(|n| net.ledger().delivery(first_in_ledger + n, living.iter().copied())).collect();
    let in_time = |delivery: &damson_sim::Delivery| delivery.reached == delivery.of && delivery.last <= 2 * SECOND;
    let late = deliveries.iter().rposition(|delivery| !in_time(delivery));
    let recovered = late.map_or(0, |late| late + 1);
    let settled = &deliveries[20..];
    Aftermath {
        percent: f64::from(percent),
        first,
        reliability: mean(settled.iter().map(|d| 100.0 * d.reached as f64 / d.of as f64)),
        rmr: mean(settled.iter().map(|d| d.rmr)),
        ldh: mean(settled.iter().map(|d| f64::from(d.ldh))),
        recovered: if recovered < AFTER as usize { recovered as f64 } else { 40.0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a line of three, and on a triangle.
    #[test]
    fn a_flood_counts_what_it_sends() {
        let check = |links: &[&[u64]], reached: usize, depth: u32, sent: usize| {
            let glance = |peers: &&[u64]| {
                let active = peers.iter().map(|peer| damson_core::model::NodeId(peer + 1)).collect();
                Some(Glance { active, ..Glance::default() })
            };
            let glances: Vec<_> = links.iter().map(glance).collect();
            let flood = Flood::over(&glances, 0);
            assert_eq!((flood.reached, flood.depth, flood.sent), (reached, depth, sent), "{links:?}");
        };
        check(&[&[1], &[0, 2], &[1]], 3, 2, 2);
        check(&[&[1, 2], &[0, 2], &[0, 1]], 3, 1, 4);
        check(&[&[1], &[0], &[]], 2, 1, 1);
    }
}
