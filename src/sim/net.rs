//! The network: nodes, links and events.

mod bodies;
mod faults;
mod inspect;
mod links;
mod settings;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use damson_core::hyparview::DownCause;
use damson_core::model::time::Time;
use damson_core::model::{NodeId, PartHeader, PartId, Peer, StreamName, SwarmId, Trace};
use damson_core::plumtree::{BodyAction, BodyEvent};
use damson_core::swarm::{Input, Output};

use crate::check::Ledger;
use crate::latency::mix;
use crate::node::{Node, index, peer, stream_name};
use crate::queue::Queue;
use crate::units::micros;
use crate::uplink::{BodyStart, Uplink};

pub use settings::{DeadDials, Settings, Traffic};

/// Something that is going to happen. `link` is the number of a link.
#[derive(Debug, Clone)]
enum Event<F> {
    /// A node's deadline may have passed.
    Timer(u32),
    /// Something happens on a link, unless `to` believes in a newer link by then, or in none.
    OnLink { from: u32, to: u32, link: u32, what: OnLink<F> },
    /// The answer to a dial is back. It is for the dialler that was started for the `born`th time.
    Dialled { from: u32, born: u32, addr: SocketAddr, expected: Option<NodeId>, failed: Option<DownCause> },
    /// The dialled node has the dialler's last handshake packet.
    Accepted { from: u32, to: u32, link: u32 },
    /// A node's upload is free for the next chunk.
    Upload(u32),
    /// A slow receiver's queue has room again.
    Wake(u32),
}

/// Something that happens on a link, at one end.
#[derive(Debug, Clone)]
enum OnLink<F> {
    Frame(F),
    /// A piece of a body, the first one with the head.
    Body {
        head: Option<Box<BodyStart>>,
        swarm: SwarmId,
        id: PartId,
        bytes: Bytes,
    },
    Torn(SwarmId, PartId),
    Refused(SwarmId, PartId),
    /// The link is down; with `only_if_cut`, unless the network between the two has healed.
    Down {
        only_if_cut: bool,
    },
    /// The link's round trip and rate have been measured.
    Estimate,
}

impl<F> Event<F> {
    /// Returns what the trace's hash takes in: the kind of event, and the nodes.
    fn key(&self) -> (u64, u32, u32) {
        match *self {
            Event::Timer(at) => (1, at, 0),
            Event::OnLink { from, to, ref what, .. } => match what {
                OnLink::Frame(_) => (2, from, to),
                OnLink::Body { .. } => (3, from, to),
                OnLink::Torn(..) => (4, from, to),
                OnLink::Refused(..) => (5, from, to),
                OnLink::Down { .. } => (8, to, from),
                OnLink::Estimate => (9, to, from),
            },
            Event::Dialled { from, .. } => (6, from, 0),
            Event::Accepted { from, to, .. } => (7, from, to),
            Event::Upload(at) => (10, at, 0),
            Event::Wake(at) => (11, at, 0),
        }
    }
}

/// One end of a link. A node may believe in a link that its peer has lost.
#[derive(Debug, Clone, Copy)]
struct End {
    peer: u32,
    /// The link's number. A link made anew has another one.
    number: u32,
}

#[derive(Clone)]
struct Slot<N> {
    node: Option<N>,
    /// The number of times that the node was started.
    born: u32,
    /// The links in which the node believes.
    ends: Vec<End>,
    /// The earliest timer event under way, in microseconds; `u64::MAX`: none.
    timer: u64,
    skew: u64,
    /// The side of a cut.
    side: u8,
    upload: Option<u64>,
    download: Option<u64>,
    download_free: u64,
    uplink: Uplink,
}

/// Nodes and the network between them.
#[derive(Clone)]
pub struct Net<N: Node> {
    settings: Settings,
    seed: u64,
    now: u64,
    slots: Vec<Slot<N>>,
    /// For each pair, the number of a link that the acceptor doesn't know yet.
    accepting: BTreeMap<(u32, u32), u32>,
    /// By a link's number, from 1 on: whether the end of the lower index, and that of the higher, believes it up.
    /// Small and warm where the nodes are neither.
    up: Vec<[bool; 2]>,
    queue: Queue<Event<N::Frame>>,
    dice: u64,
    /// With `(a, b)` nothing goes from side a to side b.
    blocked: Vec<(u8, u8)>,
    ledger: Ledger,
    traffic: Traffic,
    trace_hash: u64,
    events: u64,
}

/// Virtual time starts here, in microseconds: clocks of cores may subtract.
const START_US: u64 = 100_000_000;

impl<N: Node> Net<N> {
    /// Makes an empty network.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Net {
            settings,
            seed,
            now: START_US,
            slots: Vec::new(),
            accepting: BTreeMap::new(),
            up: vec![[false; 2]],
            queue: Queue::new(),
            dice: mix(seed),
            blocked: Vec::new(),
            ledger: Ledger::default(),
            traffic: Traffic::default(),
            trace_hash: 0,
            events: 0,
        }
    }

    // --- what a scenario does ---

    /// Returns the identity and address of the next node to be added.
    pub fn next_peer(&self) -> Peer {
        peer(self.len())
    }

    /// Returns the identity and address of the node with this index.
    pub fn peer(index: u32) -> Peer {
        peer(index)
    }

    /// Starts a node; returns its index. Its core must have been made for [`Net::next_peer`].
    pub fn add(&mut self, node: N) -> u32 {
        let at = self.len();
        let skew = micros(self.settings.skew);
        let skew = if skew == 0 { 0 } else { self.random() % skew };
        self.slots.push(Slot {
            node: Some(node),
            born: 1,
            ends: Vec::new(),
            timer: u64::MAX,
            skew,
            side: 0,
            upload: self.settings.upload,
            download: self.settings.download,
            download_free: 0,
            uplink: Uplink::default(),
        });
        self.input(at, Input::Timeout);
        at
    }

    /// Starts a killed node again. It has nothing but its identity and address.
    pub fn restart(&mut self, at: u32, node: N) {
        self.ledger.forget(at);
        let slot = &mut self.slots[at as usize];
        assert!(slot.node.is_none(), "restart of a node that lives");
        slot.born += 1;
        slot.timer = u64::MAX;
        slot.node = Some(node);
        self.input(at, Input::Timeout);
    }

    /// Kills a node: its peers notice that after [`Settings::notice`].
    pub fn kill(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        slot.node = None;
        slot.uplink = Uplink::default();
        for End { peer, number } in std::mem::take(&mut slot.ends) {
            self.up[number as usize][usize::from(at > peer)] = false;
            let number = self.end_of(peer, at);
            if number != 0 {
                self.notice_down(peer, at, number, false);
            }
        }
    }

    /// Lets a node leave in order, then kills it.
    pub fn leave(&mut self, at: u32) {
        self.input(at, Input::Leave);
        self.kill(at);
    }

    /// Changes a node's rates, in bytes/s.
    pub fn set_rates(&mut self, at: u32, upload: Option<u64>, download: Option<u64>) {
        let slot = &mut self.slots[at as usize];
        (slot.upload, slot.download) = (upload, download);
        // Both ends of its links measure that, in a round trip or two.
        for End { peer, number } in slot.ends.clone() {
            let after = 4 * self.delay(at, peer);
            self.on_link_after(after, peer, at, number, OnLink::Estimate);
            self.on_link_after(after, at, peer, number, OnLink::Estimate);
        }
    }

    /// Changes the losses from now on.
    pub fn set_loss(&mut self, loss_permille: u32, torn_permille: u32) {
        (self.settings.loss_permille, self.settings.torn_permille) = (loss_permille, torn_permille);
    }

    /// Changes the fate of dials to dead nodes.
    pub fn set_dead_dials(&mut self, dead_dials: DeadDials) {
        self.settings.dead_dials = dead_dials;
    }

    /// Lets a node publish a part of the first stream; returns its number in the ledger.
    pub fn publish(&mut self, at: u32, header: PartHeader, body: Bytes) -> usize {
        self.publish_in(stream_name(), at, header, body)
    }

    /// Lets a node publish a part of this stream; returns its number in the ledger.
    pub fn publish_in(&mut self, stream: StreamName, at: u32, header: PartHeader, body: Bytes) -> usize {
        self.ledger.publish(at, self.now, header, body.clone());
        self.input(at, Input::Publish { stream, header, body, trace: Trace::default() });
        self.ledger.messages().len() - 1
    }

    /// Acts on a node's core from outside the network.
    pub fn with_node<T>(&mut self, at: u32, act: impl FnOnce(&mut N, Time) -> T) -> Option<T> {
        let now = self.clock(at);
        let result = self.slots[at as usize].node.as_mut().map(|node| act(node, now));
        self.drain(at);
        result
    }

    /// Runs for this long.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + micros(time);
        while let Some((at, event)) = self.queue.pop(end) {
            self.now = at;
            self.events += 1;
            self.happen(event);
        }
        self.now = end;
    }

    /// Runs until `done` or for this long, looking each `step`; returns how long it took.
    pub fn run_until(&mut self, most: Duration, step: Duration, done: impl Fn(&Self) -> bool) -> Option<Duration> {
        let start = self.now;
        loop {
            if done(self) {
                return Some(Duration::from_micros(self.now - start));
            }
            if Duration::from_micros(self.now - start) >= most {
                return None;
            }
            self.run(step);
        }
    }

    // --- events ---

    fn happen(&mut self, event: Event<N::Frame>) {
        let (kind, a, b) = event.key();
        self.trace_hash =
            mix(self.trace_hash ^ self.now.rotate_left(24) ^ (u64::from(a) << 32 | u64::from(b)) ^ kind << 60);
        match event {
            Event::Timer(at) => self.on_timer(at),
            Event::OnLink { from, to, link, what } => {
                if self.is_up(to, from, link) {
                    self.on_link(from, to, link, what);
                }
            }
            Event::Dialled { from, born, addr, expected, failed } => {
                self.on_dialled(from, born, addr, expected, failed)
            }
            Event::Accepted { from, to, link } => self.on_accepted(from, to, link),
            Event::Upload(at) => {
                self.slots[at as usize].uplink.busy = false;
                self.upload(at);
            }
            Event::Wake(at) => {
                self.slots[at as usize].uplink.wake = 0;
                self.upload(at);
            }
        }
    }

    fn on_link(&mut self, from: u32, to: u32, link: u32, what: OnLink<N::Frame>) {
        let sender = peer(from).id;
        match what {
            OnLink::Frame(frame) => self.input(to, Input::Control { from: sender, frame }),
            OnLink::Body { head, swarm, id, bytes } => {
                let now = self.clock(to);
                let Some(node) = self.slots[to as usize].node.as_mut() else { return };
                if let Some(start) = head {
                    let BodyStart { header, trace, offset } = *start;
                    let event = BodyEvent::Head { header, trace, offset };
                    node.handle(now, Input::Body { peer: sender, swarm, event });
                }
                if !bytes.is_empty() {
                    node.handle(now, Input::Body { peer: sender, swarm, event: BodyEvent::Piece { id, bytes } });
                }
                self.drain(to);
            }
            OnLink::Torn(swarm, id) => self.input(to, Input::Body { peer: sender, swarm, event: BodyEvent::Torn(id) }),
            // Only a body that is still under way is stopped.
            OnLink::Refused(swarm, id) => {
                if self.slots[to as usize].uplink.remove(from, &id).is_some() {
                    self.input(to, Input::Body { peer: sender, swarm, event: BodyEvent::Stopped(id) });
                }
            }
            OnLink::Down { only_if_cut } => self.on_down(to, from, link, only_if_cut),
            OnLink::Estimate => self.on_estimate(to, from),
        }
    }

    fn on_timer(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        if slot.timer > self.now {
            return; // Another was armed after this one; a node that was killed has none.
        }
        slot.timer = u64::MAX;
        // The deadline may have been put off since.
        if self.due(at).is_some_and(|due| due <= self.now) { self.input(at, Input::Timeout) } else { self.arm(at) }
    }

    /// Returns a node's deadline in virtual time.
    fn due(&self, at: u32) -> Option<u64> {
        let slot = &self.slots[at as usize];
        Some(slot.node.as_ref()?.poll_timeout()?.as_micros().saturating_sub(slot.skew))
    }

    /// Adds a timer event for a node's deadline, unless an earlier one is under way.
    fn arm(&mut self, at: u32) {
        let Some(due) = self.due(at).map(|due| due.max(self.now)) else { return };
        let slot = &mut self.slots[at as usize];
        if due < slot.timer {
            slot.timer = due;
            self.queue.add(due, Event::Timer(at));
        }
    }

    fn input(&mut self, at: u32, input: Input<N::Frame>) {
        let now = self.clock(at);
        let Some(node) = self.slots[at as usize].node.as_mut() else { return };
        node.handle(now, input);
        self.drain(at);
    }

    /// Returns the time of a node's clock.
    fn clock(&self, at: u32) -> Time {
        Time::from_micros(self.now + self.slots[at as usize].skew)
    }

    fn drain(&mut self, at: u32) {
        while let Some(output) = self.slots[at as usize].node.as_mut().and_then(Node::poll_output) {
            self.output(at, output);
        }
        self.arm(at);
        self.upload(at);
    }

    fn output(&mut self, from: u32, output: Output<N::Frame>) {
        match output {
            Output::Control { to, frame } => self.send_frame(from, to, frame),
            Output::Body { peer: to, swarm, action: BodyAction::Head { header, trace, offset, .. }, expires } => {
                self.begin_body(from, to, swarm, BodyStart { header, trace, offset }, expires);
            }
            Output::Body { peer: to, action: BodyAction::Piece { id, bytes }, .. } => {
                if let Some(to) = index(to)
                    && let Some(transfer) = self.slots[from as usize].uplink.find(to, &id)
                {
                    transfer.pieces.push_back(bytes);
                }
            }
            Output::Body { peer: to, swarm, action: BodyAction::Abort(id), .. } => {
                let Some((to, link)) = self.link_to(from, to) else { return };
                if let Some(transfer) = self.slots[from as usize].uplink.remove(to, &id)
                    && transfer.head.is_none()
                {
                    self.on_link_after(self.delay(from, to), from, to, link, OnLink::Torn(swarm, id));
                }
            }
            Output::Body { peer: to, swarm, action: BodyAction::Refuse(id), .. } => {
                let Some((to, link)) = self.link_to(from, to) else { return };
                if !self.is_blocked(from, to) {
                    self.on_link_after(self.delay(from, to), from, to, link, OnLink::Refused(swarm, id));
                }
            }
            Output::Deliver { header, body, trace, .. } => {
                let hops = u8::try_from(trace.hops.len()).unwrap_or(u8::MAX);
                if let Err(fault) = self.ledger.deliver(from, self.now, &header, &body, hops) {
                    self.fail(&fault);
                }
            }
            Output::Record(_) | Output::Announced(_) | Output::Kept { .. } | Output::Expired(_) => {}
            Output::Dial { addr, peer } => self.dial(from, addr, peer),
            Output::Close(peer) => {
                let Some((to, link)) = self.link_to(from, peer) else { return };
                self.end(from, to);
                self.on_link_after(self.delay(from, to), from, to, link, OnLink::Down { only_if_cut: false });
            }
        }
    }
}
