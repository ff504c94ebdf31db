//! The network: nodes, links and events.

mod bodies;
mod faults;
mod inspect;
mod links;
mod settings;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use damson_core::hyparview::DownCause;
use damson_core::model::time::Time;
use damson_core::model::{NodeId, PartHeader, PartId, Peer, SwarmId, Trace};
use damson_core::plumtree::{BodyAction, BodyEvent};
use damson_core::swarm::{Input, Output};

use crate::check::Ledger;
use crate::latency::mix;
use crate::node::{Node, index, peer, stream_name};
use crate::queue::{Next, Queue};
use crate::uplink::{Transfer, Uplink};

pub use settings::{DeadDials, Settings, Traffic};

/// Something that is going to happen. The number beside two nodes is their link's: frames of an older
/// link between them come to nothing.
#[derive(Debug, Clone)]
enum Event<F> {
    Frame {
        from: u32,
        to: u32,
        link: u32,
        frame: F,
    },
    Body {
        from: u32,
        to: u32,
        link: u32,
        swarm: SwarmId,
        head: Option<Box<Start>>,
        id: PartId,
        bytes: Bytes,
    },
    Torn {
        from: u32,
        to: u32,
        link: u32,
        swarm: SwarmId,
        id: PartId,
    },
    Refused {
        from: u32,
        to: u32,
        link: u32,
        swarm: SwarmId,
        id: PartId,
    },
    /// The answer to a dial is back; `born`: which life of the dialler.
    Dialled {
        from: u32,
        born: u32,
        addr: std::net::SocketAddr,
        expected: Option<NodeId>,
        failed: Option<DownCause>,
    },
    /// The dialled node has the dialler's last handshake packet.
    Accepted {
        from: u32,
        to: u32,
        link: u32,
    },
    Down {
        at: u32,
        peer: u32,
        link: u32,
        only_if_cut: bool,
    },
    Estimate {
        at: u32,
        peer: u32,
        link: u32,
    },
    Upload(u32),
    /// A slow receiver's queue has room again.
    Wake(u32),
}

impl<F> Event<F> {
    /// What the trace's hash takes in of it: its kind, and the nodes.
    fn key(&self) -> (u64, u32, u32) {
        match *self {
            Event::Frame { from, to, .. } => (2, from, to),
            Event::Body { from, to, .. } => (3, from, to),
            Event::Torn { from, to, .. } => (4, from, to),
            Event::Refused { from, to, .. } => (5, from, to),
            Event::Dialled { from, .. } => (6, from, 0),
            Event::Accepted { from, to, .. } => (7, from, to),
            Event::Down { at, peer, .. } => (8, at, peer),
            Event::Estimate { at, peer, .. } => (9, at, peer),
            Event::Upload(at) => (10, at, 0),
            Event::Wake(at) => (11, at, 0),
        }
    }
}

#[derive(Debug, Clone)]
struct Start {
    header: PartHeader,
    trace: Trace,
    offset: u32,
}

/// One end of a link: a node may believe in one that its peer has lost, and the other way round.
#[derive(Debug, Clone, Copy)]
struct End {
    peer: u32,
    /// The link's number: a link made anew has another.
    number: u32,
}

#[derive(Clone)]
struct Slot<N> {
    node: Option<N>,
    /// How often it was started.
    born: u32,
    /// The links in which it believes.
    ends: Vec<End>,
    /// The earliest timer event under way, in microseconds; `u64::MAX`: none.
    timer: u64,
    skew: u64,
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
    /// Links whose acceptor has yet to learn of them, by pair.
    accepting: BTreeMap<u64, u32>,
    /// By a link's number, from 1 on: whether the end of the lower index, and that of the higher, believes it up.
    /// Small and warm where the nodes are neither.
    up: Vec<[bool; 2]>,
    queue: Queue<Event<N::Frame>>,
    dice: u64,
    /// By node: its side of a cut; `(a, b)` in `blocked`: nothing goes from side a to side b.
    sides: Vec<u8>,
    blocked: Vec<(u8, u8)>,
    ledger: Ledger,
    traffic: Traffic,
    trace_hash: u64,
    events: u64,
}

/// Virtual time starts here, in microseconds: clocks of cores may subtract.
const START_US: u64 = 100_000_000;

impl<N: Node> Net<N> {
    /// An empty network.
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
            sides: Vec::new(),
            blocked: Vec::new(),
            ledger: Ledger::default(),
            traffic: Traffic::default(),
            trace_hash: 0,
            events: 0,
        }
    }

    // --- what a scenario does ---

    /// What the next node to be added is called, and where it listens.
    pub fn next_peer(&self) -> Peer {
        peer(u32::try_from(self.slots.len()).expect("fewer than 2^24 nodes"))
    }

    /// The node with this index.
    pub fn peer(index: u32) -> Peer {
        peer(index)
    }

    /// Starts a node; returns its index. Its core must have been made for [`Net::next_peer`].
    pub fn add(&mut self, node: N) -> u32 {
        let at = u32::try_from(self.slots.len()).expect("fewer than 2^24 nodes");
        let skew = u64::try_from(self.settings.skew.as_micros()).unwrap_or(0);
        let skew = if skew == 0 { 0 } else { self.random() % skew };
        self.slots.push(Slot {
            node: Some(node),
            born: 1,
            ends: Vec::new(),
            timer: u64::MAX,
            skew,
            upload: self.settings.upload,
            download: self.settings.download,
            download_free: 0,
            uplink: Uplink::default(),
        });
        self.sides.push(0);
        self.input(at, Input::Timeout);
        at
    }

    /// Starts a killed node again, with nothing but its identity and address.
    pub fn restart(&mut self, at: u32, node: N) {
        self.ledger.forget(at);
        let slot = &mut self.slots[at as usize];
        assert!(slot.node.is_none(), "restart of a node that lives");
        slot.born += 1;
        slot.timer = u64::MAX;
        slot.node = Some(node);
        self.input(at, Input::Timeout);
    }

    /// SIGKILL: its links are noticed down after [`Settings::notice`].
    pub fn kill(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        slot.node = None;
        slot.uplink = Uplink::default();
        for End { peer, number } in std::mem::take(&mut slot.ends) {
            self.up[number as usize][usize::from(at > peer)] = false;
            let number = self.end_of(peer, at);
            if number != 0 {
                let notice = self.notice();
                self.queue.add(self.now + notice, Event::Down { at: peer, peer: at, link: number, only_if_cut: false });
            }
        }
    }

    /// A node leaves in order, and is then gone.
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
            self.queue.add(self.now + after, Event::Estimate { at, peer, link: number });
            self.queue.add(self.now + after, Event::Estimate { at: peer, peer: at, link: number });
        }
    }

    /// Changes the losses from now on.
    pub fn set_loss(&mut self, loss_permille: u32, torn_permille: u32) {
        (self.settings.loss_permille, self.settings.torn_permille) = (loss_permille, torn_permille);
    }

    /// Changes what becomes of dials to dead nodes.
    pub fn set_dead_dials(&mut self, dead_dials: DeadDials) {
        self.settings.dead_dials = dead_dials;
    }

    /// A node makes a part; returns its number in the ledger.
    pub fn publish(&mut self, at: u32, header: PartHeader, body: Bytes) -> usize {
        self.ledger.publish(at, self.now, header, body.clone());
        let now = self.clock(at);
        if let Some(node) = self.slots[at as usize].node.as_mut() {
            node.handle(now, Input::Publish { stream: stream_name(), header, body, trace: Trace::default() });
        }
        self.drain(at);
        self.ledger.messages().len() - 1
    }

    /// A part is going to be published in another way; returns its number in the ledger.
    pub fn expect(&mut self, at: u32, header: PartHeader, body: Bytes) -> usize {
        self.ledger.publish(at, self.now, header, body);
        self.ledger.messages().len() - 1
    }

    /// Gives a node's core something that isn't the network's.
    pub fn with_node<T>(&mut self, at: u32, act: impl FnOnce(&mut N, Time) -> T) -> Option<T> {
        let now = self.clock(at);
        let result = self.slots[at as usize].node.as_mut().map(|node| act(node, now));
        self.drain(at);
        result
    }

    /// Runs for this long.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        while let Some((at, next)) = self.queue.pop(end) {
            self.now = at;
            self.events += 1;
            match next {
                Next::Timer(at) => {
                    self.note(1, at, 0);
                    self.on_timer(at);
                }
                Next::Event(event) => self.happen(event),
            }
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
        self.note(kind, a, b);
        match event {
            Event::Frame { from, to, link, frame } => {
                if self.is_up(to, from, link) {
                    self.input(to, Input::Control { from: peer(from).id, frame });
                }
            }
            Event::Body { from, to, link, swarm, head, id, bytes } => {
                if !self.is_up(to, from, link) {
                    return;
                }
                let from = peer(from).id;
                let now = self.clock(to);
                let Some(node) = self.slots[to as usize].node.as_mut() else { return };
                if let Some(start) = head {
                    let Start { header, trace, offset } = *start;
                    node.handle(
                        now,
                        Input::Body { peer: from, swarm, event: BodyEvent::Head { header, trace, offset } },
                    );
                }
                if !bytes.is_empty() {
                    node.handle(now, Input::Body { peer: from, swarm, event: BodyEvent::Piece { id, bytes } });
                }
                self.drain(to);
            }
            Event::Torn { from, to, link, swarm, id } => {
                if self.is_up(to, from, link) {
                    self.input(to, Input::Body { peer: peer(from).id, swarm, event: BodyEvent::Torn(id) });
                }
            }
            Event::Refused { from, to, link, swarm, id } => {
                // Only a body that is still under way is stopped.
                if self.is_up(to, from, link) && self.slots[to as usize].uplink.remove(from, &id).is_some() {
                    self.input(to, Input::Body { peer: peer(from).id, swarm, event: BodyEvent::Stopped(id) });
                }
            }
            Event::Dialled { from, born, addr, expected, failed } => {
                self.on_dialled(from, born, addr, expected, failed)
            }
            Event::Accepted { from, to, link } => self.on_accepted(from, to, link),
            Event::Down { at, peer, link, only_if_cut } => self.on_down(at, peer, link, only_if_cut),
            Event::Estimate { at, peer, link } => self.on_estimate(at, peer, link),
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

    /// What has happened goes into the trace's hash.
    fn note(&mut self, kind: u64, a: u32, b: u32) {
        self.trace_hash =
            mix(self.trace_hash ^ self.now.rotate_left(24) ^ (u64::from(a) << 32 | u64::from(b)) ^ kind << 60);
    }

    fn on_timer(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        if slot.timer > self.now {
            return; // Another was armed after this one; a node that was killed has none.
        }
        slot.timer = u64::MAX;
        // The deadline may have been put off since.
        let due = slot.node.as_ref().and_then(Node::poll_timeout).map(|due| due.as_micros().saturating_sub(slot.skew));
        match due {
            Some(due) if due > self.now => {
                slot.timer = due;
                self.queue.add_timer(due, at);
            }
            Some(_) => self.input(at, Input::Timeout),
            None => {}
        }
    }

    fn input(&mut self, at: u32, input: Input<N::Frame>) {
        let now = self.clock(at);
        let Some(node) = self.slots[at as usize].node.as_mut() else { return };
        node.handle(now, input);
        self.drain(at);
    }

    /// A node's clock.
    fn clock(&self, at: u32) -> Time {
        Time::from_micros(self.now + self.slots[at as usize].skew)
    }

    fn drain(&mut self, at: u32) {
        while let Some(output) = self.slots[at as usize].node.as_mut().and_then(Node::poll_output) {
            self.output(at, output);
        }
        let slot = &mut self.slots[at as usize];
        let due = slot.node.as_ref().and_then(Node::poll_timeout);
        if let Some(due) = due {
            let due = due.as_micros().saturating_sub(slot.skew).max(self.now);
            if due < slot.timer {
                slot.timer = due;
                self.queue.add_timer(due, at);
            }
        }
        self.upload(at);
    }

    fn output(&mut self, from: u32, output: Output<N::Frame>) {
        match output {
            Output::Control { to, frame } => self.send_frame(from, to, frame),
            Output::Body { peer: to, swarm, action: BodyAction::Head { header, trace, offset, .. }, expires } => {
                let Some((to, link)) = self.link_to(from, to) else { return };
                let id = header.id;
                let left = header.length - offset.min(header.length);
                self.traffic.heads += 1;
                if let Some(message) = self.ledger.get_mut(&id) {
                    message.heads += 1;
                }
                let tear_at = self.tear_at(left);
                let skew = self.slots[from as usize].skew;
                let transfer = Transfer {
                    to,
                    link,
                    swarm,
                    id,
                    head: Some(Box::new((header, trace))),
                    offset,
                    pieces: Default::default(),
                    left,
                    tear_at,
                    expires: expires.as_micros().saturating_sub(skew),
                };
                let uplink = &mut self.slots[from as usize].uplink;
                uplink.remove(to, &id);
                uplink.transfers.push_back(transfer);
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
                    let at = self.now + self.delay(from, to);
                    self.queue.add(at, Event::Torn { from, to, link, swarm, id });
                }
            }
            Output::Body { peer: to, swarm, action: BodyAction::Refuse(id), .. } => {
                let Some((to, link)) = self.link_to(from, to) else { return };
                if !self.is_blocked(from, to) {
                    let at = self.now + self.delay(from, to);
                    self.queue.add(at, Event::Refused { from, to, link, swarm, id });
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
                let at = self.now + self.delay(from, to);
                self.queue.add(at, Event::Down { at: to, peer: from, link, only_if_cut: false });
            }
        }
    }
}
