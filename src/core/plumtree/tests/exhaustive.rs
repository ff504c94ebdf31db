//! Every order in which three nodes' messages about two parts can arrive, over the very core.
//!
//! The nodes are all neighbours. Node 0 publishes two parts, each at any moment. Control messages of a link keep
//! their order, as do the frames of one body; all else may overtake all else. Time stands still while messages
//! are under way, and goes on to the next deadline when there are none, or at any moment as often as
//! [`Faults::early`] says (a message may be as late as that). On each way there may be losses and a crash.
//!
//! States are told apart by what the cores remember, their counters left out, and each is left by every way once.

#![expect(clippy::disallowed_types, reason = "nothing walks the set of states that were seen")]

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashSet, VecDeque};
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use super::*;

/// How much may go wrong on one way through the states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Faults {
    /// Messages lost and bodies torn.
    lost: u8,
    /// Nodes 1 and 2 may crash.
    crashes: u8,
    /// Deadlines that pass while messages are under way.
    early: u8,
}

/// What is under way on one stream of one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Stream {
    Control,
    Body(PartId),
    /// STOP_SENDING, against the body's way.
    Stop(PartId),
    /// The news that the sender is dead.
    Down,
}

#[derive(Debug, Clone, PartialEq)]
enum Sent {
    Message(Message),
    Head(PartHeader, Trace, u32),
    Piece(Bytes),
    Torn,
    Stop,
    Down,
}

type Way = (u8, u8, Stream);

/// A core, and the hash of what it remembers.
#[derive(Clone)]
struct Core {
    tree: Rc<Plumtree>,
    hash: u64,
}

#[derive(Clone)]
struct State {
    now: Time,
    /// `None`: crashed.
    cores: [Option<Core>; 3],
    under_way: BTreeMap<Way, VecDeque<(u64, Rc<Sent>)>>,
    /// How many parts are to be published while orders are explored, and how many were.
    parts: u8,
    published: u8,
    /// By node, a bit a part.
    delivered: [u8; 3],
    faults: Faults,
    /// Bodies begun.
    heads: u8,
    /// Deadlines that passed with nothing under way since the last delivery.
    waited: u8,
    /// The time between the parts that check the tree.
    pace: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Publish,
    Deliver(Way),
    Lose(Way),
    Crash(u8),
    Deadline(u8),
}

/// With so many deadlines passed and nothing heard, what is missing is missing for good.
const WAITS: u8 = 40;
/// What is due later than this is no consequence of the two parts: digests go round for ever.
const SOON: Duration = Duration::from_millis(400);
/// The shortest parts are this long.
const PART_LEAST: Duration = Duration::from_millis(100);

struct Digest(DefaultHasher);

impl std::fmt::Write for Digest {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

fn digest(thing: &impl std::fmt::Debug) -> u64 {
    let mut digest = Digest(DefaultHasher::new());
    write!(digest, "{thing:?}").expect("a hash takes every write");
    digest.0.finish()
}

fn stamped(sent: Sent) -> (u64, Rc<Sent>) {
    (digest(&sent), Rc::new(sent))
}

fn id_of(n: u8) -> PartId {
    part(0, u16::from(n))
}

impl State {
    fn new(config: &Config, parts: u8, faults: Faults) -> Self {
        let core = |id: u64| {
            let mut tree = Plumtree::new(NodeId(id), config.clone(), id);
            for other in (0..3).filter(|other| *other != id) {
                tree.handle(Time::from_millis(1_000), Input::NeighborUp(NodeId(other)));
            }
            while tree.poll_output().is_some() {}
            Some(Core { hash: digest(&tree), tree: Rc::new(tree) })
        };
        State {
            now: Time::from_millis(1_000),
            cores: [core(0), core(1), core(2)],
            under_way: BTreeMap::new(),
            parts,
            published: 0,
            delivered: [0; 3],
            faults,
            heads: 0,
            waited: 0,
            pace: Duration::ZERO,
        }
    }

    fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for core in &self.cores {
            core.as_ref().map(|core| core.hash).hash(&mut hasher);
        }
        (self.now, self.published, self.faults).hash(&mut hasher);
        for (way, queue) in &self.under_way {
            way.hash(&mut hasher);
            queue.iter().for_each(|(hash, _)| hash.hash(&mut hasher));
            queue.len().hash(&mut hasher);
        }
        hasher.finish()
    }

    fn tree(&self, node: u8) -> Option<&Plumtree> {
        self.cores[usize::from(node)].as_ref().map(|core| &*core.tree)
    }

    /// The next deadline, and whose.
    fn deadline(&self) -> Option<(Time, u8)> {
        (0..3).filter_map(|node| Some((self.tree(node)?.poll_timeout()?, node))).min()
    }

    /// Whether everybody who lives has what was published so far.
    fn settled(&self) -> bool {
        let all = (1u8 << self.published) - 1;
        (0..3).all(|node| self.tree(node).is_none() || self.delivered[usize::from(node)] == all)
    }

    /// Everything that can happen next.
    fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        if self.published < self.parts {
            steps.push(Step::Publish);
        }
        for way in self.under_way.keys() {
            steps.push(Step::Deliver(*way));
            if self.faults.lost > 0 && matches!(way.2, Stream::Control | Stream::Body(_)) {
                steps.push(Step::Lose(*way));
            }
        }
        if self.faults.crashes > 0 {
            steps.extend([1, 2].into_iter().filter(|node| self.tree(*node).is_some()).map(Step::Crash));
        }
        if let Some((at, node)) = self.deadline() {
            let quiet = self.under_way.is_empty() && (!self.settled() || at <= self.now + SOON);
            if quiet || (!self.under_way.is_empty() && self.faults.early > 0) {
                steps.push(Step::Deadline(node));
            }
        }
        steps
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Publish => {
                let id = id_of(self.published);
                let body = body(id, 3);
                self.published += 1;
                self.input(0, Input::Publish { header: header(id, &body), body, trace: Trace::default() });
            }
            Step::Deliver(way) => {
                self.waited = 0;
                self.deliver(way);
            }
            Step::Lose(way) => {
                self.faults.lost -= 1;
                match way.2 {
                    Stream::Body(_) => *self.under_way.entry(way).or_default() = VecDeque::from([stamped(Sent::Torn)]),
                    _ => {
                        self.pop(way);
                    }
                }
            }
            Step::Crash(node) => {
                self.faults.crashes -= 1;
                self.cores[usize::from(node)] = None;
                self.under_way.retain(|(_, to, _), _| *to != node);
                let others: Vec<u8> = (0..3).filter(|other| self.tree(*other).is_some()).collect();
                for other in others {
                    self.under_way.insert((node, other, Stream::Down), VecDeque::from([stamped(Sent::Down)]));
                }
            }
            Step::Deadline(node) => {
                let early = !self.under_way.is_empty();
                self.faults.early -= u8::from(early);
                self.waited += u8::from(!early);
                let due = self.tree(node).and_then(Plumtree::poll_timeout).expect("it has a deadline");
                self.now = self.now.max(due);
                self.input(node, Input::Timeout);
            }
        }
    }

    fn pop(&mut self, way: Way) -> Option<Rc<Sent>> {
        let queue = self.under_way.get_mut(&way)?;
        let first = queue.pop_front().map(|(_, sent)| sent);
        if queue.is_empty() {
            self.under_way.remove(&way);
        }
        first
    }

    fn deliver(&mut self, way: Way) {
        let (from, to, stream) = way;
        let peer = NodeId(u64::from(from));
        let Some(sent) = self.pop(way) else { return };
        let input = match (Sent::clone(&sent), stream) {
            (Sent::Message(message), _) => Input::Message { from: peer, message },
            (Sent::Head(header, trace, offset), _) => {
                Input::Body { peer, event: BodyEvent::Head { header, trace, offset } }
            }
            (Sent::Piece(bytes), Stream::Body(id)) => Input::Body { peer, event: BodyEvent::Piece { id, bytes } },
            (Sent::Torn, Stream::Body(id)) => Input::Body { peer, event: BodyEvent::Torn(id) },
            (Sent::Stop, Stream::Stop(id)) => {
                // Only a body that is still under way can be stopped.
                if self.under_way.remove(&(to, from, Stream::Body(id))).is_none() {
                    return;
                }
                Input::Body { peer, event: BodyEvent::Stopped(id) }
            }
            (Sent::Down, _) => {
                self.under_way.retain(|(sender, receiver, _), _| (*sender, *receiver) != (from, to));
                Input::NeighborDown(peer)
            }
            (sent, stream) => unreachable!("{sent:?} on {stream:?}"),
        };
        self.input(to, input);
        // A body's bytes come with its head: what could overtake them could overtake both.
        let body = (from, to, stream);
        if matches!(self.under_way.get(&body).and_then(|queue| queue.front()), Some((_, next)) if matches!(**next, Sent::Piece(_)))
        {
            self.deliver(body);
        }
    }

    fn input(&mut self, node: u8, input: Input) {
        let Some(core) = &mut self.cores[usize::from(node)] else { return };
        let tree = Rc::make_mut(&mut core.tree);
        tree.handle(self.now, input);
        let mut outputs = Vec::new();
        while let Some(output) = tree.poll_output() {
            outputs.push(output);
        }
        tree.counters = Counters::default();
        core.hash = digest(&tree);
        for output in outputs {
            self.output(node, output);
        }
    }

    fn output(&mut self, node: u8, output: Output) {
        let (to, stream, sent) = match output {
            Output::Send { to, message } => (to, Stream::Control, Sent::Message(message)),
            Output::Body { peer: to, action: BodyAction::Head { header, mut trace, offset, .. } } => {
                self.heads = self.heads.wrapping_add(1);
                let name = NodeName::default();
                trace.hops.push(Hop::by(NodeId(u64::from(node)), name));
                (to, Stream::Body(header.id), Sent::Head(header, trace, offset))
            }
            Output::Body { peer: to, action: BodyAction::Piece { id, bytes } } => {
                (to, Stream::Body(id), Sent::Piece(bytes))
            }
            Output::Body { peer: to, action: BodyAction::Abort(id) } => (to, Stream::Body(id), Sent::Torn),
            Output::Body { peer: from, action: BodyAction::Refuse(id) } => (from, Stream::Stop(id), Sent::Stop),
            Output::Deliver { header, body, .. } => {
                assert!(header.matches(&body), "node {node} delivered other bytes");
                let bit = 1 << header.id.part;
                let had = &mut self.delivered[usize::from(node)];
                assert_eq!(*had & bit, 0, "node {node} delivered {:?} twice", header.id);
                *had |= bit;
                return;
            }
        };
        let to = u8::try_from(to.0).expect("one of three");
        if self.tree(to).is_some() {
            let queue = self.under_way.entry((node, to, stream)).or_default();
            if sent == Sent::Stop && !queue.is_empty() {
                return;
            }
            queue.push_back(stamped(sent));
        }
    }

    /// Quiet: everybody who lives has both parts, and nobody waits for anything. What crossed may have left the tree
    /// wrong, and the next part mends it: the one after that is sent once to each, along a tree without a cycle.
    fn check_quiet(mut self) {
        assert!(self.published == self.parts && self.settled(), "delivered: {:?}", self.delivered);
        self.check_nobody_waits();
        for _ in 0..2 {
            // Nothing is due before: all that is due sooner than [`SOON`] has passed.
            self.now += self.pace;
            self.heads = 0;
            self.take(Step::Publish);
            self.run_in_order();
        }
        self.check_nobody_waits();
        let alive: Vec<u8> = (0..3).filter(|node| self.tree(*node).is_some()).collect();
        assert_eq!(usize::from(self.heads), alive.len() - 1, "copies sent of a part in a tree that stands");
        for node in alive {
            let (mut at, mut steps) = (node, 0);
            while let Some(parent) = self.tree(at).and_then(Plumtree::parent) {
                at = u8::try_from(parent.0).expect("one of three");
                steps += 1;
                assert!(steps < 3, "node {node} is fed by itself, over node {at}");
            }
            assert_eq!(at, 0, "node {node} is fed by node 0 in the end");
        }
    }

    fn check_nobody_waits(&self) {
        for node in 0..3 {
            let Some(tree) = self.tree(node) else { continue };
            assert_eq!((tree.sizes().missing, tree.sizes().transfers), (0, 0), "node {node} waits");
        }
    }

    /// Goes on without a fault until nothing is under way or due soon.
    fn run_in_order(&mut self) {
        self.faults = Faults::default();
        while let Some(step) = self.steps().into_iter().find(|step| !matches!(step, Step::Publish)) {
            self.take(step);
            assert!(self.waited < WAITS, "nothing more is heard, and something is missing");
        }
    }
}

/// How far the search went.
#[derive(Debug, Default)]
struct Search {
    states: usize,
    steps: usize,
    quiet: usize,
}

fn search(config: &Config, parts: u8, faults: Faults, pace: Duration) -> Search {
    let start = State { pace, ..State::new(config, parts, faults) };
    let mut seen = HashSet::from([start.key()]);
    let mut search = Search::default();
    // By which step from which other one each state was reached first.
    let mut ways: Vec<(usize, Option<Step>)> = vec![(0, None)];
    let mut open: Vec<(State, usize)> = vec![(start, 0)];
    while let Some((state, at)) = open.pop() {
        let steps = state.steps();
        if steps.is_empty() {
            search.quiet += 1;
            told(&ways, at, None, || state.clone().check_quiet());
        }
        for step in steps {
            let mut next = state.clone();
            told(&ways, at, Some(step), || {
                next.take(step);
                assert!(next.waited < WAITS, "nothing more is heard, and something is missing");
            });
            search.steps += 1;
            if seen.insert(next.key()) {
                ways.push((at, Some(step)));
                open.push((next, ways.len() - 1));
            }
        }
    }
    search.states = seen.len();
    search
}

/// Prints the way to a state in which something is wrong.
fn told(ways: &[(usize, Option<Step>)], mut at: usize, last: Option<Step>, act: impl FnOnce()) {
    if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)) {
        let mut way: Vec<Step> = last.into_iter().collect();
        while let (before, Some(step)) = ways[at] {
            way.push(step);
            at = before;
        }
        way.reverse();
        let way: Vec<String> = way.iter().map(|step| format!("{step:?}")).collect();
        eprintln!("the way there:\n{}", way.join("\n"));
        std::panic::resume_unwind(panic)
    }
}

/// Explores, and says how much there was: a count that falls tells that less is explored than before.
fn check(config: &Config, parts: u8, faults: Faults, states_least: usize) {
    check_at(Duration::ZERO, config, parts, faults, states_least);
}

fn check_at(pace: Duration, config: &Config, parts: u8, faults: Faults, states_least: usize) {
    let search = search(config, parts, faults, pace);
    eprintln!("{parts} parts, {faults:?}: {search:?}");
    assert!(search.states >= states_least && search.quiet > 0, "{search:?}");
}

const NONE: Faults = Faults { lost: 0, crashes: 0, early: 0 };

#[test]
fn every_order_of_two_parts_delivers_both_once() {
    check(&Config::default(), 2, NONE, 20_000);
}

#[test]
fn every_order_with_a_loss_a_crash_or_an_early_deadline_delivers_once() {
    check(&Config::default(), 1, Faults { lost: 1, ..NONE }, 1_000);
    check(&Config::default(), 1, Faults { crashes: 1, ..NONE }, 500);
    check(&Config::default(), 1, Faults { early: 1, ..NONE }, 3_000);
}

/// With the body and then the PRUNE of a link lost, a node sends to one that has pruned it. The PRUNE
/// comes again with the next part.
#[test]
fn every_order_with_two_losses_delivers_once_and_leaves_a_tree() {
    check_at(PART_LEAST, &Config::default(), 1, Faults { lost: 2, ..NONE }, 5_000);
}

#[test]
fn every_order_with_a_crash_and_an_early_deadline_delivers_once() {
    check(&Config::default(), 1, Faults { early: 1, crashes: 1, ..NONE }, 5_000);
}

#[test]
fn the_papers_rules_deliver_two_parts_once_in_every_order() {
    check(&Config::paper(), 2, NONE, 2_000);
    check(&Config::paper(), 2, Faults { crashes: 1, ..NONE }, 8_000);
}
