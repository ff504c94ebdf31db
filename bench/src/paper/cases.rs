//! What the papers measure: redundancy, hops and time of a tree that is new, and of one that stands.

use std::time::Duration;

use damson_core::plumtree::Optimise;
use damson_sim::{Latency, Settings};

use super::world::{SECOND, SMALL, World, deliveries, eccentricity, mean, millis, publish, reached};
use super::{Case, Figure, Goal, figure};

pub(crate) const ALL: [Case; 5] = [
    // First: the memory of the cases before would be what it uses.
    Case { name: super::SCALE, run: scale },
    Case { name: "steady, equal links", run: equal_links },
    Case { name: "steady, links U(5,50) ms", run: uneven_links },
    Case { name: "steady, a world of regions", run: world },
    Case { name: "2 % loss of control messages", run: loss },
];

/// Parts until a tree counts as standing, and parts measured then.
const YOUNG: u32 = 30;
const STEADY: u32 = 50;

fn equal_links(n: u32, seed: u64) -> Vec<Figure> {
    let latency = Latency::Constant(Duration::from_millis(20));
    let mut world =
        World { settings: Settings { latency: latency.clone(), ..World::default().settings }, ..World::default() };
    // Among equal links there is no time to be gained, only hops to be counted.
    world.broadcast.optimise = Optimise::Hops { threshold: 3 };
    let mut net = world.settled(n, seed);
    publish(&mut net, 0, YOUNG, SMALL, SECOND);
    let parts = publish(&mut net, YOUNG, STEADY, SMALL, SECOND);
    let steady = deliveries(&net, &parts);
    let (links, _) = eccentricity(&net, &latency, seed);
    vec![
        figure("RMR", Goal::Most(0.001), mean(steady.iter().map(|d| d.rmr))),
        figure("LDH", Goal::Most(9.0), mean(steady.iter().map(|d| f64::from(d.ldh)))),
        figure("the source's eccentricity, links", Goal::None, links as f64),
        figure("reached, %", Goal::Least(100.0), reached(&steady)),
    ]
}

fn uneven_links(n: u32, seed: u64) -> Vec<Figure> {
    let mut figures = Vec::new();
    let settled = World::default().settled(n, seed);
    for (rule, optimise) in
        [("time", World::default().broadcast.optimise), ("hop", Optimise::Hops { threshold: 3 }), ("no", Optimise::Off)]
    {
        let mut net = settled.clone();
        for at in 0..n {
            net.with_node(at, |node, _| node.set_optimise(optimise));
        }
        let first = publish(&mut net, 0, 1, SMALL, 2 * SECOND);
        publish(&mut net, 1, YOUNG - 1, SMALL, SECOND);
        let parts = publish(&mut net, YOUNG, STEADY, SMALL, SECOND);
        let first = deliveries(&net, &first)[0];
        let steady = deliveries(&net, &parts);
        let last = mean(steady.iter().map(|d| millis(d.last)));
        let (_, ideal) = eccentricity(&net, &World::default().settings.latency, seed);
        let ldh_goal = if rule == "hop" { Goal::Most(15.0) } else { Goal::None };
        figures.extend([
            figure(format!("{rule} rule: RMR"), Goal::Most(0.001), mean(steady.iter().map(|d| d.rmr))),
            figure(format!("{rule} rule: LDH"), ldh_goal, mean(steady.iter().map(|d| f64::from(d.ldh)))),
            figure(format!("{rule} rule: last node, ms"), Goal::None, last),
            figure(format!("{rule} rule: last node over the shortest way"), Goal::None, last * 1_000.0 / ideal as f64),
            figure(format!("{rule} rule: reached, %"), Goal::Least(100.0), reached(&steady)),
        ]);
        if rule == "time" {
            let frames = net.traffic().frames;
            publish(&mut net, YOUNG + STEADY, STEADY, SMALL, SECOND / 5);
            let control = (net.traffic().frames - frames) as f64 / f64::from(n) / f64::from(STEADY);
            figures.extend([
                figure("first message: RMR", Goal::Most(0.10), first.rmr),
                figure("first message: last node over steady", Goal::Most(2.5), millis(first.last) / last),
                figure("first message: reached, %", Goal::Least(100.0), reached(&[first])),
                figure("control messages a node and part, at 5 parts/s", Goal::Most(5.0), control),
            ]);
        }
    }
    figures
}

fn world(n: u32, seed: u64) -> Vec<Figure> {
    let latency = Latency::World { last_mile: Duration::from_millis(2) };
    let world =
        World { settings: Settings { latency: latency.clone(), ..World::default().settings }, ..World::default() };
    let mut net = world.settled(n, seed);
    publish(&mut net, 0, YOUNG, SMALL, SECOND);
    let parts = publish(&mut net, YOUNG, STEADY, SMALL, SECOND);
    let steady = deliveries(&net, &parts);
    let (_, ideal) = eccentricity(&net, &latency, seed);
    let last = mean(steady.iter().map(|d| millis(d.last)));
    vec![
        figure("RMR", Goal::Most(0.001), mean(steady.iter().map(|d| d.rmr))),
        figure("LDH", Goal::None, mean(steady.iter().map(|d| f64::from(d.ldh)))),
        figure("last node, ms", Goal::None, last),
        figure("last node over the shortest way", Goal::None, last * 1_000.0 / ideal as f64),
        figure("reached, %", Goal::Least(100.0), reached(&steady)),
    ]
}

fn loss(n: u32, seed: u64) -> Vec<Figure> {
    let mut world = World { held: u32::MAX, ..World::default() };
    world.settings.loss_permille = 20;
    let mut net = world.settled(n / 5, seed);
    publish(&mut net, 0, YOUNG, SMALL, SECOND);
    let parts = publish(&mut net, YOUNG, STEADY, SMALL, SECOND);
    net.run(10 * SECOND);
    let steady = deliveries(&net, &parts);
    vec![
        figure("islands", Goal::Most(1.0), net.islands().len() as f64),
        figure("RMR", Goal::Most(0.02), mean(steady.iter().map(|d| d.rmr))),
        figure("reached, %", Goal::Least(100.0), reached(&steady)),
        figure("last node, ms", Goal::None, mean(steady.iter().map(|d| millis(d.last)))),
    ]
}

/// What this process has used of the processor so far.
fn cpu_seconds() -> f64 {
    crate::process::cpu_seconds_of(std::process::id()).unwrap_or(f64::NAN)
}

/// The simulator's own cost: joined and settled, then 130 small messages; 330 s of virtual time.
fn scale(n: u32, seed: u64) -> Vec<Figure> {
    let began = cpu_seconds();
    let mut net = World { joins: n.div_ceil(20), settle: 180 * SECOND, ..World::default() }.settled(n, seed);
    let settled = cpu_seconds() - began;
    let parts = publish(&mut net, 0, 130, SMALL, SECOND);
    let all = cpu_seconds() - began;
    let memory = super::load::memory_kb();
    vec![
        figure("processor time of one core, s", Goal::Most(10.0), all),
        figure("until settled, s", Goal::None, settled),
        figure("us a delivery", Goal::None, (all - settled) * 1e6 / f64::from(n) / 130.0),
        figure("memory, KB a node", Goal::Most(32.0), memory as f64 / f64::from(n)),
        figure("reached, %", Goal::Least(100.0), reached(&deliveries(&net, &parts))),
    ]
}
