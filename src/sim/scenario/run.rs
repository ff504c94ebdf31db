//! Playing a scenario: its timeline in virtual time, then its end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use damson_core::model::Peer;
use damson_core::swarm::{Hub, Input};

use super::cast::{Cast, PARTS, configs, part, record};
use super::outcome::{Bound, Outcome};
use super::{Among, Away, Choice, Core, Cut, Event, Publish, Scenario, View, Way};
use crate::check::{Delivery, Message};
use crate::member::Member;
use crate::net::{Net, Settings};
use crate::queue::Queue;
use crate::units::micros;

/// The time between two looks at the bounds.
const LOOK: Duration = Duration::from_secs(1);

/// The time from the announcement of a hub's stream to its first part.
const CLAIM_AHEAD_US: u64 = 10_000_000;

/// An entry of the timeline.
#[derive(Debug, Clone)]
enum Act {
    /// A node joins at one of these, or at a random earlier one.
    Join(Vec<u32>),
    /// A stream is announced.
    Claim { stream: u8, from: u32 },
    /// The next part of a run.
    Part { run: usize },
    /// The scenario's `n`th event.
    Event(usize),
    /// These nodes go away.
    Down(Vec<u32>, Away),
    /// These nodes come back.
    Up(Vec<u32>, Away),
}

/// A run of parts so far.
#[derive(Debug, Clone, Default)]
struct Run {
    parts: Vec<usize>,
    /// Control frames before the first part, and after the last one's time.
    frames: (u64, u64),
}

struct Play<'a, N: Cast> {
    scene: &'a Scenario,
    net: Net<N>,
    begun_us: u64,
    timeline: Queue<Act>,
    /// By node: the time of its last start.
    born_us: Vec<u64>,
    slow: BTreeSet<u32>,
    runs: Vec<Run>,
    /// By stream: its next part.
    next: BTreeMap<u8, u32>,
    outcome: Outcome,
}

impl Scenario {
    /// Plays the scenario. `file` is its name in the command that repeats the run.
    ///
    /// Panics at once where a node delivers a part twice, or other bytes, or breaks a bound. Faults that show only in the
    /// end are in the outcome.
    pub fn run(&self, file: &str) -> Outcome {
        match self.core {
            Core::Member => Play::<Member>::new(self, file).play(),
            Core::Hub => Play::<Hub>::new(self, file).play(),
        }
    }
}

impl<'a, N: Cast> Play<'a, N> {
    fn new(scene: &'a Scenario, file: &str) -> Self {
        let without: String = scene.paper.iter().map(|departure| format!(" --without {}", departure.name())).collect();
        let repeat = format!("cargo run --release -p damson-bench -- scenario {file} --seed {}{without}", scene.seed);
        let settings = Settings { repeat: repeat.clone().into(), ..scene.network.clone() };
        let net = Net::new(settings, scene.seed);
        let begun_us = net.now_us();
        let outcome = Outcome { seed: scene.seed, repeat, ..Outcome::default() };
        let runs = vec![Run::default(); scene.publish.len()];
        let (timeline, (born_us, slow, next)) = (Queue::new(), Default::default());
        let mut play = Play { scene, net, begun_us, timeline, born_us, slow, runs, next, outcome };
        play.plan();
        play
    }

    /// Lays out the timeline.
    fn plan(&mut self) {
        let scene = self.scene;
        let nodes = u64::from(scene.nodes);
        let pace = 1_000_000u64.checked_div(u64::from(scene.join.per_second)).unwrap_or(0);
        for n in 0..nodes {
            self.timeline.add(n * pace, Act::Join(scene.join.contacts.clone()));
        }
        let mut claimed = BTreeSet::new();
        for (run, publish) in scene.publish.iter().map(toml::Spanned::get_ref).enumerate() {
            let at = micros(publish.at_s.seconds());
            if claimed.insert(publish.stream) {
                let at = at.saturating_sub(CLAIM_AHEAD_US).max(nodes * pace);
                self.timeline.add(at, Act::Claim { stream: publish.stream, from: publish.from });
            }
            for n in 0..u64::from(publish.parts) {
                self.timeline.add(at + n * micros(publish.every_ms.millis()), Act::Part { run });
            }
        }
        for (n, event) in scene.event.iter().map(toml::Spanned::get_ref).enumerate() {
            let at = micros(event.at_s.seconds());
            self.timeline.add(at, Act::Event(n));
            if let Some(storm) = &event.join {
                for n in 0..u64::from(storm.count) {
                    let after = n * micros(storm.over_s.seconds()) / u64::from(storm.count);
                    self.timeline.add(at + after, Act::Join(storm.contacts.clone()));
                }
            }
        }
    }

    fn play(mut self) -> Outcome {
        while let Some((at, act)) = self.timeline.pop(u64::MAX) {
            self.wait_until(at);
            self.act(act);
        }
        // The last part has its time, too.
        let last = self.scene.publish.iter().map(|publish| publish.get_ref().every_ms.millis()).max();
        let until = self.net.now_us() - self.begun_us + micros(last.unwrap_or_default());
        self.wait_until(until);
        self.end();
        for run in 0..self.runs.len() {
            self.figures_of(run);
        }
        self.outcome.trace_hash = self.net.trace_hash();
        self.outcome.events = self.net.events();
        self.outcome.virtual_s = (self.net.now_us() - self.begun_us) as f64 / 1e6;
        self.outcome
    }

    /// Runs until `us` microseconds after the start, and looks at the bounds each second.
    fn wait_until(&mut self, us: u64) {
        let until = self.begun_us + us;
        while self.net.now_us() < until {
            let left = Duration::from_micros(until - self.net.now_us());
            let second = micros(LOOK) - (self.net.now_us() - self.begun_us) % micros(LOOK);
            let step = left.min(Duration::from_micros(second));
            self.net.run(step);
            if step < left {
                self.net.check_bounds();
            }
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Join(contacts) => self.join(&contacts),
            Act::Claim { stream, from } => {
                let (name, epoch, _) = N::stream(stream, from);
                self.net.with_node(from, |node, now| node.handle(now, Input::Claim(record(name, epoch))));
            }
            Act::Part { run } => self.publish(run),
            Act::Event(n) => self.event(self.scene.event[n].get_ref()),
            Act::Down(nodes, Away::Crash) => nodes.into_iter().for_each(|at| self.net.kill(at)),
            Act::Up(nodes, Away::Crash) => nodes.into_iter().for_each(|at| self.restart(at)),
            Act::Down(nodes, Away::Cut) => self.cut(&nodes, Way::Both),
            Act::Up(_, Away::Cut) => self.net.heal(),
        }
    }

    // --- nodes ---

    fn contacts(&mut self, at: u32, named: &[u32]) -> Vec<Peer> {
        let contacts = match (named, at) {
            ([], 0) => vec![],
            ([], _) => vec![u32::try_from(self.net.random() % u64::from(at)).unwrap_or(0)],
            (named, _) => named.iter().copied().filter(|contact| *contact != at).collect(),
        };
        contacts.into_iter().map(Net::<N>::peer).collect()
    }

    fn join(&mut self, named: &[u32]) {
        let at = self.net.len();
        let contacts = self.contacts(at, named);
        let node = N::make(self.scene, self.net.next_peer(), contacts, self.scene.seed << 32 | u64::from(at));
        self.net.add(node);
        self.born_us.push(self.net.now_us());
    }

    fn restart(&mut self, at: u32) {
        if self.net.node(at).is_some() {
            return;
        }
        let contacts = self.contacts(at, &self.scene.join.contacts);
        let seed = self.net.random();
        let node = N::make(self.scene, Net::<N>::peer(at), contacts, seed);
        self.net.restart(at, node);
        self.born_us[at as usize] = self.net.now_us();
    }

    /// Returns the nodes of a choice, of those that live or of those that are dead.
    fn choose(&mut self, choice: &Choice, alive: bool) -> Vec<u32> {
        let there = |at: &u32| *at < self.net.len() && self.net.node(*at).is_some() == alive;
        if let Some(nodes) = &choice.nodes {
            return nodes.iter().copied().filter(there).collect();
        }
        if let Some([from, to]) = choice.range {
            return (from..to).filter(there).filter(|at| !choice.spare.contains(at)).collect();
        }
        let publishers: Vec<u32> = self.scene.publish.iter().map(|publish| publish.get_ref().from).collect();
        let free = |at: &u32| !publishers.contains(at) && !choice.spare.contains(at);
        let mut nodes: Vec<u32> = (0..self.net.len()).filter(there).filter(free).collect();
        let share = choice.percent.map(|percent| (nodes.len() as f64 * percent / 100.0).round() as usize);
        let count = share.unwrap_or(choice.count.unwrap_or(0) as usize).min(nodes.len());
        let mut chosen = Vec::with_capacity(count);
        for _ in 0..count {
            let at = usize::try_from(self.net.random() % nodes.len() as u64).unwrap_or(0);
            chosen.push(nodes.swap_remove(at));
        }
        chosen
    }

    fn cut(&mut self, nodes: &[u32], way: Way) {
        self.net.heal();
        for at in 0..self.net.len() {
            self.net.set_side(at, u8::from(nodes.contains(&at)));
        }
        if way != Way::To {
            self.net.cut(1, 0);
        }
        if way != Way::From {
            self.net.cut(0, 1);
        }
    }

    fn event(&mut self, event: &Event) {
        if let Some(choice) = &event.kill {
            self.choose(choice, true).into_iter().for_each(|at| self.net.kill(at));
        }
        if let Some(choice) = &event.restart {
            self.choose(choice, false).into_iter().for_each(|at| self.restart(at));
        }
        if let Some(choice) = &event.leave {
            self.choose(choice, true).into_iter().for_each(|at| self.net.leave(at));
        }
        if let Some(Cut { nodes, way }) = &event.cut {
            let nodes = self.choose(nodes, true);
            self.cut(&nodes, *way);
        }
        if event.heal == Some(true) {
            self.net.heal();
        }
        if let Some(slow) = &event.slow {
            let rate = Some(slow.mbps.bytes_per_s());
            for at in self.choose(&slow.nodes, true) {
                self.slow.insert(at);
                self.net.set_rates(at, rate, rate);
                if slow.known {
                    self.net.with_node(at, |node, _| node.set_upload(rate));
                }
            }
        }
        if let Some(flap) = &event.flap {
            let nodes = self.choose(&flap.nodes, true);
            let (down, up) = (micros(flap.down_s.seconds()), micros(flap.up_s.seconds()));
            let mut at = self.net.now_us() - self.begun_us;
            for _ in 0..flap.times {
                self.timeline.add(at, Act::Down(nodes.clone(), flap.how));
                self.timeline.add(at + down, Act::Up(nodes.clone(), flap.how));
                at += down + up;
            }
        }
        if let Some(loss) = &event.loss {
            self.net.set_loss(loss.percent.permille(), loss.torn_percent.permille());
        }
        if let Some(named) = &event.contacts {
            for at in 0..self.net.len() {
                let contacts: Vec<Peer> = named.iter().filter(|id| **id != at).map(|id| Net::<N>::peer(*id)).collect();
                self.net.with_node(at, |node, _| node.set_contacts(contacts));
            }
        }
        if let Some(view) = &event.expect {
            let at = (self.net.now_us() - self.begun_us) as f64 / 1e6;
            self.look(&format!("at {at} s"), view);
        }
    }

    fn publish(&mut self, run: usize) {
        let Publish { from, stream, parts, bytes, .. } = *self.scene.publish[run].get_ref();
        let n = self.next.entry(stream).or_default();
        let (name, epoch, track) = N::stream(stream, from);
        let (header, body) = part(epoch, track, *n, bytes as usize);
        let part = self.net.publish_in(name, from, header, body);
        *n += 1;
        let frames = self.net.traffic().frames;
        let run = &mut self.runs[run];
        if run.parts.is_empty() {
            run.frames.0 = frames;
        }
        run.parts.push(part);
        if run.parts.len() == parts as usize {
            run.frames.1 = frames;
        }
    }

    // --- figures ---

    /// Notes the state of the overlay.
    fn look(&mut self, of: &str, view: &View) {
        let (overlay, _) = configs(self.scene);
        let glances = self.net.glances();
        let alive = glances.iter().flatten().count();
        let slots: usize = glances.iter().flatten().map(|glance| glance.active.len().min(overlay.active_max)).sum();
        let most = overlay.active_max.min(alive.saturating_sub(1)) * alive;
        let isolated = glances.iter().flatten().filter(|glance| glance.active.is_empty()).count();
        let links = self.net.overlay_links();
        let rtts = links.iter().map(|(at, other)| 2.0 * self.net.delay_us(*at, *other) as f64 / 1_000.0);
        let rtt = rtts.sum::<f64>() / links.len().max(1) as f64;
        let islands = self.net.islands().len() as f64;
        let one_sided = self.net.one_sided().len() as f64;
        let full = 100.0 * slots as f64 / most.max(1) as f64;
        let out = &mut self.outcome;
        let least = view.islands_least.map(Bound::Least);
        out.add(of, "islands", islands, view.islands.map(Bound::Most).or(least));
        out.add(of, "isolated", isolated as f64, view.isolated.map(Bound::Most));
        out.add(of, "active views full, %", full, view.full_percent.map(Bound::Least));
        out.add(of, "one-sided links", one_sided, view.one_sided.map(Bound::Most));
        out.add(of, "round trip of a link, ms", rtt, view.rtt_ms.map(Bound::Most));
    }

    /// Returns a filter for the parts that every node should hold.
    fn window(&self) -> impl Fn(&Message) -> bool + use<N> {
        let held = self.scene.held_segments;
        let newest: BTreeMap<u64, u32> =
            self.next.iter().map(|(stream, n)| (u64::from(*stream), n.saturating_sub(1) / PARTS)).collect();
        move |message: &Message| {
            let id = message.header.id;
            // A hub's streams differ in the epoch, a member's in the track.
            let stream = u64::from(id.epoch.counter - 1) + u64::from(id.track.0);
            let newest = newest.get(&stream).copied().unwrap_or(0);
            held.is_none_or(|held| id.msn + held > newest)
        }
    }

    /// Ends all faults. Waits until the overlay is whole, then for the quiet time, and lets the checkers look.
    fn end(&mut self) {
        self.net.heal();
        self.net.set_loss(0, 0);
        let window = self.window();
        let most = self.scene.end.whole_s.seconds();
        let whole = |net: &Net<N>| net.islands().len() == 1 && net.window_faults(&window).is_empty();
        let took = self.net.run_until(most, LOOK / 4, whole).map_or(f64::INFINITY, |took| took.as_secs_f64());
        let bound = Some(Bound::Most(most.as_secs_f64()));
        self.outcome.add("the end", "one overlay with every part everywhere, s", took, bound);
        let until = self.net.now_us() - self.begun_us + micros(self.scene.end.quiet_s.seconds());
        self.wait_until(until);
        self.net.check_bounds();
        let faults = self.net.overlay_faults();
        self.outcome.faults.extend(faults);
        let faults = self.net.window_faults(&window);
        self.outcome.faults.extend(faults);
        self.look("the end", &self.scene.end.expect);
    }

    /// Notes the figures of a run of parts.
    fn figures_of(&mut self, run: usize) {
        let publish = self.scene.publish[run].get_ref();
        let Run { parts, frames } = self.runs[run].clone();
        let everybody: Vec<u32> = self.net.alive().collect();
        let (mut spread, mut all) = (Vec::new(), Vec::new());
        for part in &parts {
            let published = self.net.ledger().messages()[*part].published_us;
            let counts = |at: &u32| {
                self.born_us[*at as usize] <= published && (publish.among == Among::All || !self.slow.contains(at))
            };
            let audience: Vec<u32> = self.net.alive().filter(counts).collect();
            spread.push(self.net.ledger().delivery(*part, audience));
            all.push(self.net.ledger().delivery(*part, everybody.iter().copied()));
        }
        let mean = |of: &[Delivery], value: &dyn Fn(&Delivery) -> f64| {
            of.iter().map(value).sum::<f64>() / of.len().max(1) as f64
        };
        let worst = |value: &dyn Fn(&Delivery) -> f64| spread.iter().map(value).fold(0.0, f64::max);
        let reached = -worst(&|d| 100.0 - 100.0 * d.reached as f64 / d.of.max(1) as f64) + 100.0;
        let alive = everybody.len().max(1) as f64;
        let control = (frames.1 - frames.0) as f64 / alive / (parts.len() - 1).max(1) as f64;
        let (rmr, ratio) = (mean(&all, &|d| d.rmr), mean(&all, &|d| d.bytes_ratio));
        let (ldh, last) = (worst(&|d| f64::from(d.ldh)), worst(&|d| d.last.as_secs_f64() * 1e3));
        let mean_ms = mean(&spread, &|d| d.mean.as_secs_f64() * 1e3);
        let (of, expect, out) = (&publish.name, &publish.expect, &mut self.outcome);
        out.add(of, "reached, %", reached, expect.reached_percent.map(Bound::Least));
        out.add(of, "RMR", rmr, expect.rmr.map(Bound::Most));
        out.add(of, "bytes sent / needed", ratio, expect.bytes_ratio.map(Bound::Most));
        out.add(of, "LDH", ldh, expect.ldh.map(Bound::Most));
        out.add(of, "last node, ms", last, expect.last_ms.map(Bound::Most));
        out.add(of, "mean node, ms", mean_ms, expect.mean_ms.map(Bound::Most));
        out.add(of, "control frames a node and part", control, expect.control.map(Bound::Most));
    }
}
