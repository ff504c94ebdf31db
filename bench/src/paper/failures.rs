//! Failures: mass kills, cuts, join storms.

use std::time::Duration;

use damson_core::model::Peer;
use damson_sim::{DeadDials, Member, Net, Node};

use super::world::{SECOND, SMALL, World, deliveries, millis, publish};
use super::{Case, Figure, Goal, figure};

pub(crate) const ALL: [Case; 5] = [
    Case { name: "mass kill, dials refused", run: kill_refused },
    Case { name: "mass kill, dials time out", run: kill_silent },
    Case { name: "95 % killed", run: kill_most },
    Case { name: "all join one contact at once", run: storm },
    Case { name: "halves cut for 60 s", run: halves },
];

/// The latest notice of a dead link, after the kill.
const NOTICE: Duration = Duration::from_millis(1_500);

fn kill(net: &mut Net<Member>, percent: u32, spare: &[u32]) {
    let n = net.len();
    let mut victims: Vec<u32> = (1..n).filter(|at| !spare.contains(at)).collect();
    let survivors = (n as usize * (100 - percent as usize)) / 100;
    while victims.len() + 1 + spare.len() > survivors && !victims.is_empty() {
        let at = net.random() as usize % victims.len();
        net.kill(victims.swap_remove(at));
    }
}

fn kill_refused(n: u32, seed: u64) -> Vec<Figure> {
    kill_and_publish(n, seed, DeadDials::Refused, 1_500.0)
}

fn kill_silent(n: u32, seed: u64) -> Vec<Figure> {
    kill_and_publish(n, seed, DeadDials::TimeOut, 3_000.0)
}

fn kill_and_publish(n: u32, seed: u64, dead_dials: DeadDials, goal_ms: f64) -> Vec<Figure> {
    let mut settled = World::default().settled(n, seed);
    settled.set_dead_dials(dead_dials);
    publish(&mut settled, 0, 10, SMALL, SECOND);
    let mut figures = Vec::new();
    for percent in [30, 50, 70, 80, 90] {
        let mut net = settled.clone();
        kill(&mut net, percent, &[]);
        let ceiling = largest_component(&net);
        let part = publish(&mut net, 10, 1, SMALL, 30 * SECOND);
        let first = deliveries(&net, &part)[0];
        let least = if percent >= 70 { Goal::Least(100.0) } else { Goal::None };
        let most = if percent >= 70 { Goal::Most(goal_ms) } else { Goal::None };
        figures.push(figure(
            format!("{percent} % killed: reached, %"),
            least,
            100.0 * first.reached as f64 / first.of as f64,
        ));
        let after = millis(first.last.saturating_sub(NOTICE));
        figures.push(figure(format!("{percent} % killed: last survivor, ms after the notice"), most, after));
        figures.push(figure(format!("{percent} % killed: RMR"), Goal::None, first.rmr));
        let known = 100.0 * ceiling as f64 / first.of as f64;
        figures.push(figure(format!("{percent} % killed: largest component of the live views, %"), Goal::None, known));
    }
    figures
}

/// 95 % killed, with 5 bootstrap addresses of which one lives; and without, beside the ceiling.
fn kill_most(n: u32, seed: u64) -> Vec<Figure> {
    let mut figures = Vec::new();
    let bootstrap: Vec<u32> = (1..=5).collect();
    for seeded in [true, false] {
        let world = World::default();
        let mut net = Net::new(world.settings.clone(), seed);
        for at in 0..n {
            let contact = net.random() % u64::from(at.max(1));
            let contacts: Vec<Peer> = match (at, seeded) {
                (_, true) => bootstrap.iter().map(|b| Net::<Member>::peer(*b)).collect(),
                (0, _) => vec![],
                (_, false) => vec![Net::<Member>::peer(contact as u32)],
            };
            let node = world.member(at, contacts, seed);
            net.add(node);
            net.run(SECOND / world.joins);
        }
        net.run(world.settle);
        publish(&mut net, 0, 10, SMALL, SECOND);
        for at in (0..n).filter(|_| !seeded) {
            net.with_node(at, |node, _| node.set_contacts(vec![]));
        }
        kill(&mut net, 95, if seeded { &[3] } else { &[] });
        let ceiling = largest_component(&net);
        let part = publish(&mut net, 10, 1, SMALL, 10 * SECOND);
        let first = deliveries(&net, &part)[0];
        let share = |reached: usize, of: usize| 100.0 * reached as f64 / of as f64;
        let name = if seeded { "one of 5 bootstrap addresses lives" } else { "no bootstrap" };
        let least = if seeded { Goal::Least(99.0) } else { Goal::None };
        figures.push(figure(format!("{name}: first message in 10 s, %"), least, share(first.reached, first.of)));
        net.run(50 * SECOND);
        let first = deliveries(&net, &part)[0];
        let least = if seeded { Goal::Least(100.0) } else { Goal::None };
        figures.push(figure(format!("{name}: the same in 60 s, %"), least, share(first.reached, first.of)));
        figures.push(figure(
            format!("{name}: largest component of the live views, %"),
            Goal::None,
            share(ceiling, first.of),
        ));
    }
    figures
}

/// The size of the largest set of survivors that know one another, active and passive views taken together.
fn largest_component(net: &Net<Member>) -> usize {
    let known = |at: u32| net.node(at).into_iter().flat_map(Member::known).map(move |peer| (at, (peer.0 - 1) as u32));
    net.components(net.alive().flat_map(known)).first().copied().unwrap_or(0)
}

/// Everybody joins node 0 in the same instant.
fn storm(n: u32, seed: u64) -> Vec<Figure> {
    let world = World::default();
    let mut net = Net::new(world.settings.clone(), seed);
    let node = world.member(0, vec![], seed);
    net.add(node);
    for at in 1..n {
        let node = world.member(at, vec![Net::<Member>::peer(0)], seed);
        net.add(node);
    }
    net.run(30 * SECOND);
    let glances = net.glances();
    let slots: usize = glances.iter().flatten().map(|glance| glance.active.len().min(world.overlay.active_max)).sum();
    let isolated = glances.iter().flatten().filter(|glance| glance.active.is_empty()).count();
    vec![
        figure("isolated after 30 s", Goal::Most(0.0), isolated as f64),
        figure("islands after 30 s", Goal::Most(1.0), net.islands().len() as f64),
        figure(
            "active views full after 30 s, %",
            Goal::Least(95.0),
            100.0 * slots as f64 / (n as usize * world.overlay.active_max) as f64,
        ),
    ]
}

/// One side goes on publishing for 60 s; then the network is whole again.
fn halves(n: u32, seed: u64) -> Vec<Figure> {
    let world = World { held: u32::MAX, ..World::default() };
    let mut net = world.settled(n / 5, seed);
    publish(&mut net, 0, 10, SMALL, SECOND);
    for at in 0..net.len() {
        let side = if at == 0 { 0 } else { (net.random() % 2) as u8 };
        net.set_side(at, side);
    }
    net.cut(0, 1);
    net.cut(1, 0);
    publish(&mut net, 10, 60, SMALL, SECOND);
    let apart = net.islands().len();
    net.heal();
    let all = |net: &Net<Member>| {
        let alive: Vec<u32> = net.alive().collect();
        (10..70).all(|part| net.ledger().delivery(part, alive.iter().copied()).reached == alive.len())
    };
    let one = net.run_until(60 * SECOND, SECOND / 4, |net| net.islands().len() == 1);
    let one_s = one.map_or(f64::INFINITY, |took| took.as_secs_f64());
    let rest = net.run_until(60 * SECOND, SECOND / 4, all);
    let all_s = rest.map_or(f64::INFINITY, |took| one_s + took.as_secs_f64());
    vec![
        figure("islands while cut", Goal::None, apart as f64),
        figure("one overlay again, s", Goal::Most(10.0), one_s),
        figure("every part everywhere, s", Goal::Most(10.0), all_s),
    ]
}
