//! What is compared. Each case runs with each contender, in the same network.

use std::time::Duration;

use damson_sim::{DeadDials, Net};

use super::contender::{Contender, Links, Pace, payloads, publish, settings, settled, spread};
use super::iroh::Iroh;
use crate::paper::world::{SECOND, part};

/// A case's figures for one contender.
pub(crate) type Figures = Vec<(String, f64)>;

/// Parts until a tree counts as standing, and parts measured then.
const YOUNG: u32 = 30;
const STEADY: u32 = 50;
/// The latest notice of a dead link, after the kill.
const NOTICE_MS: f64 = 1_500.0;

fn named(figures: &[(&str, f64)]) -> Figures {
    figures.iter().map(|(what, value)| ((*what).to_owned(), *value)).collect()
}

pub(crate) fn equal<C: Contender>(n: u32, seed: u64) -> Figures {
    steady::<C>(n, seed, Links::Equal)
}

pub(crate) fn uneven<C: Contender>(n: u32, seed: u64) -> Figures {
    steady::<C>(n, seed, Links::Uneven)
}

pub(crate) fn world<C: Contender>(n: u32, seed: u64) -> Figures {
    steady::<C>(n, seed, Links::World)
}

/// One source: the first message ever, and the tree once it stands.
fn steady<C: Contender>(n: u32, seed: u64, links: Links) -> Figures {
    let mut net = settled::<C>(n, seed, links, &[], Pace::default());
    let before = payloads(&net);
    let first = publish(&mut net, 0, 0, 1, 5 * SECOND);
    let sent = payloads(&net) - before;
    let first = spread(&net, &first, sent);
    publish(&mut net, 0, 1, YOUNG - 1, SECOND);
    let (before, frames) = (payloads(&net), net.traffic().frames);
    let parts = publish(&mut net, 0, YOUNG, STEADY, SECOND);
    let sent = payloads(&net) - before;
    let frames = (net.traffic().frames - frames) as f64;
    let steady = spread(&net, &parts, sent);
    let needless = if C::NAME == "damson" { 0.0 } else { sent as f64 };
    named(&[
        ("RMR", steady.rmr),
        ("LDH", steady.ldh),
        ("last node, ms", steady.last_ms),
        ("reached, %", steady.reached),
        ("control messages a node and part, at 1 part/s", (frames - needless) / f64::from(n) / f64::from(STEADY)),
        ("first message: RMR", first.rmr),
        ("first message: last node, ms", first.last_ms),
        ("first message: last node over steady", first.last_ms / steady.last_ms),
        ("first message: reached, %", first.reached),
    ])
}

/// 50 nodes publish a part each by turns, into one swarm: all share one tree.
pub(crate) fn senders<C: Contender>(n: u32, seed: u64) -> Figures {
    let mut net = settled::<C>(n, seed, Links::Uneven, &[], Pace::default());
    many_sources(&mut net)
}

/// The same with a topic for each of the 50.
pub(crate) fn topics(n: u32, seed: u64) -> Figures {
    let mut net: Net<Iroh> = Net::new(settings(Links::Uneven), seed);
    for at in 0..n {
        let contact = net.random() % u64::from(at.max(1));
        let contacts = if at == 0 { vec![] } else { vec![Net::<Iroh>::peer(contact as u32)] };
        net.add(Iroh::new(at, &contacts, 50, seed << 32 | u64::from(at)));
        net.run(SECOND / 50);
    }
    net.run(Pace::default().settle);
    many_sources(&mut net)
}

fn many_sources<C: Contender>(net: &mut Net<C>) -> Figures {
    let mut parts = Vec::new();
    let mut before = 0;
    for k in 0..15 {
        if k == 10 {
            before = payloads(net);
        }
        for source in 0..50.min(net.len()) {
            let (header, body) = part(source, k, 1_000);
            let number = net.publish(source, header, body);
            net.run(SECOND / 50);
            if k >= 10 {
                parts.push(number);
            }
        }
    }
    net.run(5 * SECOND);
    let spread = spread(net, &parts, payloads(net) - before);
    named(&[("RMR", spread.rmr), ("last node, ms", spread.last_ms), ("reached, %", spread.reached)])
}

fn kill<C: Contender>(net: &mut Net<C>, percent: u32, spare: &[u32]) {
    let n = net.len();
    let mut victims: Vec<u32> = (1..n).filter(|at| !spare.contains(at)).collect();
    let survivors = (n as usize * (100 - percent as usize)) / 100;
    while victims.len() + 1 + spare.len() > survivors && !victims.is_empty() {
        let at = net.random() as usize % victims.len();
        net.kill(victims.swap_remove(at));
    }
}

pub(crate) fn kill_refused<C: Contender>(n: u32, seed: u64) -> Figures {
    kills::<C>(n, seed, DeadDials::Refused)
}

pub(crate) fn kill_silent<C: Contender>(n: u32, seed: u64) -> Figures {
    kills::<C>(n, seed, DeadDials::TimeOut)
}

fn kills<C: Contender>(n: u32, seed: u64, dead_dials: DeadDials) -> Figures {
    let mut figures = Vec::new();
    for percent in [30, 50, 70, 80, 90] {
        let mut net = settled::<C>(n, seed, Links::Uneven, &[], Pace::default());
        net.set_dead_dials(dead_dials);
        publish(&mut net, 0, 0, 10, SECOND);
        kill(&mut net, percent, &[]);
        let before = payloads(&net);
        let first = publish(&mut net, 0, 10, 1, 30 * SECOND);
        let first = spread(&net, &first, payloads(&net) - before);
        figures.push((format!("{percent} % killed: reached, %"), first.reached));
        // Later ones come too late for this.
        let next = publish(&mut net, 0, 11, 1, 10 * SECOND);
        figures.push((format!("{percent} % killed: a message 30 s later, %"), spread(&net, &next, 0).reached));
        let after = (first.last_ms - NOTICE_MS).max(0.0);
        figures.push((format!("{percent} % killed: last of those reached, ms after the notice"), after));
    }
    figures
}

/// All were given the same 5 bootstrap addresses, of which one lives on.
pub(crate) fn kill_most<C: Contender>(n: u32, seed: u64) -> Figures {
    let bootstrap = [1, 2, 3, 4, 5];
    let mut net = settled::<C>(n, seed, Links::Uneven, &bootstrap, Pace::default());
    publish(&mut net, 0, 0, 10, SECOND);
    kill(&mut net, 95, &[3]);
    let first = publish(&mut net, 0, 10, 1, 10 * SECOND);
    let soon = spread(&net, &first, 0).reached;
    net.run(50 * SECOND);
    let late = spread(&net, &first, 0).reached;
    named(&[("first message in 10 s, %", soon), ("the same in 60 s, %", late)])
}

/// Everybody joins node 0 in the same instant.
pub(crate) fn storm<C: Contender>(n: u32, seed: u64) -> Figures {
    let mut net = Net::new(settings(Links::Uneven), seed);
    for at in 0..n {
        let contacts = if at == 0 { vec![] } else { vec![Net::<C>::peer(0)] };
        net.add(C::make(at, contacts, Links::Uneven, seed));
    }
    net.run(30 * SECOND);
    let glances = net.glances();
    let slots: usize = glances.iter().flatten().map(|glance| glance.active.len().min(5)).sum();
    let isolated = glances.iter().flatten().filter(|glance| glance.active.is_empty()).count();
    named(&[
        ("isolated after 30 s", isolated as f64),
        ("islands after 30 s", net.islands().len() as f64),
        ("active views full after 30 s, %", 100.0 * slots as f64 / (n as usize * 5) as f64),
    ])
}

/// One half goes on publishing for 60 s; then the network is whole again.
pub(crate) fn halves<C: Contender>(n: u32, seed: u64) -> Figures {
    let mut net = settled::<C>(n, seed, Links::Uneven, &[], Pace::default());
    publish(&mut net, 0, 0, 10, SECOND);
    for at in 0..net.len() {
        let side = if at == 0 { 0 } else { (net.random() % 2) as u8 };
        net.set_side(at, side);
    }
    net.cut(0, 1);
    net.cut(1, 0);
    publish(&mut net, 0, 10, 60, SECOND);
    let apart = net.islands().len();
    net.heal();
    let within = |net: &mut Net<C>, done: &dyn Fn(&Net<C>) -> bool| {
        net.run_until(120 * SECOND, SECOND / 4, done).map_or(f64::INFINITY, |took| took.as_secs_f64())
    };
    let one = within(&mut net, &|net| net.islands().len() == 1);
    // What the window still holds: 30 s.
    let alive: Vec<u32> = net.alive().collect();
    let all =
        |net: &Net<C>| (40..70).all(|part| net.ledger().delivery(part, alive.iter().copied()).reached == alive.len());
    let every = if one.is_finite() { one + within(&mut net, &all) } else { f64::INFINITY };
    named(&[
        ("islands while cut", apart as f64),
        ("one overlay again, s", one),
        ("the last 30 s of parts everywhere, s", every),
    ])
}

/// The simulation's own cost: joined and settled, then 130 small messages; 330 s of virtual time.
pub(crate) fn cost<C: Contender>(n: u32, seed: u64) -> Figures {
    let before = crate::paper::load::memory_kb();
    let cpu = || crate::process::cpu_seconds_of(std::process::id()).unwrap_or(f64::NAN);
    let began = cpu();
    let pace = Pace { joins: n.div_ceil(20), settle: Duration::from_secs(180) };
    let mut net = settled::<C>(n, seed, Links::Uneven, &[], pace);
    let parts = publish(&mut net, 0, 0, 130, SECOND);
    let all = cpu() - began;
    let memory = crate::paper::load::memory_kb().saturating_sub(before);
    named(&[
        ("CPU-s in all", all),
        ("KB a node", memory as f64 / f64::from(n)),
        ("events a node", net.events() as f64 / f64::from(n)),
        ("reached, %", spread(&net, &parts, 0).reached),
    ])
}
