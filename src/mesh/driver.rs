//! The one task that owns the core: events of links in, outputs to links. It decides nothing but which
//! connection is the link (see `pairing`) and what a full queue drops.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, info, warn};

use super::body::{Job, Key, Outgoing, Serial};
use super::connector::{Desk, DialFault, Failed};
use super::link::{Event, Greeted, Link, LinkFault, count};
use super::mesh::{Core, Sink};
use super::snapshot::{LinkView, Snapshot};
use crate::clock;
use crate::mesh::link::code;
use damson_core::hyparview::DownCause;
use damson_core::link::backoff::Backoff;
use damson_core::link::frame::{Hello, VERSION};
use damson_core::link::pairing::{LinkNo, Pairing, Verdict};
use damson_core::model::Peer;
use damson_core::model::Resume;
use damson_core::model::time::Time;
use damson_core::model::{NodeId, NodeName, PartHeader, Record, StreamName, Trace};
use damson_core::swarm::{Input, Kept, Output};

/// The most bytes of bodies that wait for one peer: a second of a fast link, or two of the largest bodies.
/// Bodies are shared among the queues that they wait in.
const BODY_QUEUE_LEN: usize = 32 << 20;

/// The most links: a node's swarms have some 5 neighbours each, and share links.
const LINKS_MAX: usize = 1_024;

/// A link that ends sooner is dialled again no faster than one that never came up.
const LASTING: Duration = Duration::from_secs(2);

/// How long a link that is closed may still send what it has.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// How many events are handled before outputs' queues are looked at again.
const BATCH: usize = 64;

/// How many timeouts in a row the core may ask for, each already past: a core that asks for more has a
/// bug, and mustn't hang the node.
const TIMEOUTS_MAX: usize = 64;

/// What the node asks for.
pub(crate) enum Command {
    Claim(Record),
    Publish(StreamName, PartHeader, Bytes),
    Keep(Vec<Kept>),
    Resume(StreamName, oneshot::Sender<Option<Resume>>),
    Snapshot(oneshot::Sender<Snapshot>),
    Shutdown(oneshot::Sender<()>),
}

pub(crate) struct Driver<C> {
    core: C,
    sink: Arc<dyn Sink>,
    me: Peer,
    name: String,
    /// What hellos say of where this node listens.
    listen: SocketAddr,
    desk: Desk,
    links: BTreeMap<NodeId, Conversation>,
    pairing: Pairing,
    backoff: Backoff,
    /// Dials under way.
    dialling: BTreeMap<SocketAddr, LinkNo>,
    /// The newest event's time: the core's clock never goes back.
    now: Time,
    /// What follows from outputs, for the core to hear after they are drained.
    follow_ups: VecDeque<Input>,
    /// The stamp of the last hello.
    stamp: u64,
    next_body: u64,
    traced: bool,
}

/// A link and the bodies on it.
struct Conversation {
    link: Link,
    /// The address that we dialled.
    dialled: Option<SocketAddr>,
    outgoing: BTreeMap<Key, Outgoing>,
    incoming: BTreeMap<Key, Incoming>,
}

struct Incoming {
    serial: Serial,
    /// Stops the stream. Kept while bytes come.
    stop: oneshot::Sender<()>,
}

impl<C: Core> Driver<C> {
    pub(crate) fn new(
        core: C,
        sink: Arc<dyn Sink>,
        me: Peer,
        name: String,
        listen: SocketAddr,
        desk: Desk,
        seed: u64,
    ) -> Self {
        Driver {
            core,
            sink,
            me,
            name,
            listen,
            desk,
            links: BTreeMap::new(),
            pairing: Pairing::new(me.id),
            backoff: Backoff::new(seed),
            dialling: BTreeMap::new(),
            now: clock::now(),
            follow_ups: VecDeque::new(),
            stamp: 0,
            next_body: 0,
            traced: true,
        }
    }

    /// Whether parts carry their account through this node.
    pub(crate) fn traced(self, traced: bool) -> Self {
        Driver { traced, ..self }
    }

    pub(crate) async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut events: mpsc::Receiver<(Time, Event)>,
    ) {
        let mut batch = Vec::with_capacity(BATCH);
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        let mut armed = None;
        loop {
            self.timeouts();
            let due = self.core.poll_timeout();
            if due != armed {
                armed = due;
                if let Some(due) = due {
                    timer.as_mut().reset(tokio::time::Instant::from_std(clock::instant(due)));
                }
            }
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(Command::Shutdown(done)) => {
                        self.leave(&mut events).await;
                        let _ = done.send(());
                        return;
                    }
                    Some(command) => self.command(command),
                    // The handle was dropped: no farewell.
                    None => return self.desk.endpoint.close(code::LEAVING, b"dropped"),
                },
                _ = events.recv_many(&mut batch, BATCH) => {
                    for (at, event) in batch.drain(..) {
                        self.event(at, event);
                    }
                }
                () = &mut timer, if armed.is_some() => armed = None,
            }
        }
    }

    fn timeouts(&mut self) {
        for _ in 0..TIMEOUTS_MAX {
            let now = clock::now();
            if self.core.poll_timeout().is_none_or(|due| due > now) {
                return;
            }
            self.input(now, Input::Timeout);
        }
        debug!("the core asks for timeouts in the past");
    }

    fn command(&mut self, command: Command) {
        let now = clock::now();
        match command {
            Command::Claim(record) => self.input(now, Input::Claim { record }),
            Command::Publish(stream, header, body) => {
                // Where packaging ends, dwell begins.
                let packaging = i128::from(clock::wall().as_micros()) - i128::from(header.ingested.as_micros());
                let begun = Trace { packaging_us: i64::try_from(packaging).ok(), hops: Vec::new() };
                let trace = if self.traced { begun } else { Trace::default() };
                self.input(now, Input::Publish { stream, header, body, trace });
            }
            Command::Keep(kept) => self.input(now, Input::Keep { kept, stamp: clock::wall().as_micros() }),
            Command::Resume(stream, answer) => {
                let _ = answer.send(self.core.resume(&stream));
            }
            Command::Snapshot(answer) => {
                let _ = answer.send(self.snapshot());
            }
            Command::Shutdown(_) => unreachable!("handled in run"),
        }
    }

    /// Tells the core, and does what it wants, and what follows from that.
    fn input(&mut self, at: Time, input: Input) {
        self.now = self.now.max(at);
        let mut next = Some(input);
        while let Some(input) = next {
            self.core.handle(self.now, input);
            while let Some(output) = self.core.poll_output() {
                self.output(output);
            }
            next = self.follow_ups.pop_front();
        }
    }

    fn event(&mut self, at: Time, event: Event) {
        match event {
            Event::Control { no, peer, frame } if self.current(peer, no) => {
                self.control_in(at, peer, frame);
            }
            Event::BodyHead { no, peer, body, head, stop } if self.current(peer, no) => {
                let key = (head.swarm, head.header.id);
                let incoming = Incoming { serial: body, stop };
                let Some(link) = self.links.get_mut(&peer) else { return };
                if let Some(old) = link.incoming.insert(key, incoming) {
                    // Sent anew, and its reset not yet seen.
                    let _ = old.stop.send(());
                    self.input(at, Input::BodyTorn { from: peer, swarm: key.0, id: key.1 });
                }
                if head.body_len() == 0 {
                    self.forget_incoming(peer, key, body);
                }
                let (header, offset) = (head.header, head.offset);
                let trace = if self.traced { head.trace } else { Trace::default() };
                self.input(at, Input::BodyHead { from: peer, swarm: key.0, header, trace, offset });
            }
            Event::BodyPiece { no, peer, body, key, bytes, last } if self.current(peer, no) => {
                let known = self.links.get(&peer).and_then(|link| link.incoming.get(&key));
                if known.is_none_or(|incoming| incoming.serial != body) {
                    return;
                }
                if last {
                    self.forget_incoming(peer, key, body);
                }
                self.input(at, Input::BodyPiece { from: peer, swarm: key.0, id: key.1, bytes });
            }
            Event::BodyTorn { no, peer, body, key } if self.current(peer, no) => {
                if self.forget_incoming(peer, key, body) {
                    self.input(at, Input::BodyTorn { from: peer, swarm: key.0, id: key.1 });
                }
            }
            Event::BodySent { no, peer, body, key, stopped } if self.current(peer, no) => {
                let Some(link) = self.links.get_mut(&peer) else { return };
                if link.outgoing.get(&key).is_some_and(|outgoing| outgoing.serial == body) {
                    link.outgoing.remove(&key);
                    if stopped {
                        self.input(at, Input::BodyStopped { to: peer, swarm: key.0, id: key.1 });
                    }
                }
            }
            Event::Estimate { no, peer, rtt_us, rate } if self.current(peer, no) => {
                self.input(at, Input::LinkEstimate { peer, rtt_us, rate });
            }
            // Of a link that has been given up.
            Event::Control { .. }
            | Event::BodyHead { .. }
            | Event::BodyPiece { .. }
            | Event::BodyTorn { .. }
            | Event::BodySent { .. }
            | Event::Estimate { .. } => {}
            Event::Lost { no, peer, fault } => {
                if self.current(peer, no) {
                    self.lost(at, peer, &fault);
                }
            }
            Event::Dialled { no, peer, hello } => {
                let say = self.pairing.dialled(peer, no).then(|| self.hello());
                let _ = hello.send(say);
            }
            Event::Answered(greeted) => self.answered(at, *greeted),
            Event::Greeted(greeted) => self.greeted(at, *greeted),
            Event::DialEnded(failed) => self.dial_ended(at, &failed),
        }
    }

    fn control_in(&mut self, at: Time, from: NodeId, frame: Bytes) {
        let (bad, _) = self.core.bad_frames();
        self.input(at, Input::Control { from, frame });
        let (bad_now, why) = self.core.bad_frames();
        if bad_now > bad
            && let Some(why) = why.cloned()
        {
            let fault = LinkFault::Control(why);
            if let Some(link) = self.links.get(&from) {
                link.link.shared.conn.close(code::PROTOCOL, fault.to_string().as_bytes());
            }
            self.lost(at, from, &fault);
        }
    }

    fn current(&self, peer: NodeId, no: LinkNo) -> bool {
        self.pairing.link(peer) == Some(no)
    }

    fn forget_incoming(&mut self, peer: NodeId, key: Key, body: Serial) -> bool {
        let Some(link) = self.links.get_mut(&peer) else { return false };
        let known = link.incoming.get(&key).is_some_and(|incoming| incoming.serial == body);
        if known {
            link.incoming.remove(&key);
        }
        known
    }

    // Links.

    fn hello(&mut self) -> Hello {
        self.stamp = clock::wall().as_micros().max(self.stamp + 1);
        Hello { version: VERSION, node: self.me.id, listen: self.listen, stamp: self.stamp }
    }

    /// Our dial has made a link.
    fn answered(&mut self, at: Time, greeted: Greeted) {
        if let Some(addr) = greeted.dialled {
            self.dialling.remove(&addr);
        }
        if self.pairing.answered(greeted.peer.id, greeted.no, greeted.hello.stamp) {
            self.up(at, greeted, None);
        } else {
            greeted.conn.close(code::DUPLICATE, b"");
        }
    }

    /// A peer has dialled.
    fn greeted(&mut self, at: Time, greeted: Greeted) {
        let peer = greeted.peer.id;
        if self.links.len() >= LINKS_MAX && !self.links.contains_key(&peer) {
            warn!(%peer, addr = %greeted.peer.addr, "refused: this node has {LINKS_MAX} links already");
            return greeted.conn.close(code::FULL, b"too many links");
        }
        match self.pairing.greeted(peer, greeted.no, greeted.hello.stamp) {
            Verdict::Duplicate => greeted.conn.close(code::DUPLICATE, b""),
            Verdict::Replaces(_) => {
                // The peer has lost the old one before we have.
                if let Some(old) = self.links.remove(&peer) {
                    old.link.shared.conn.close(code::DUPLICATE, b"");
                    self.input(at, Input::LinkDown { peer, cause: DownCause::Lost });
                }
                let hello = self.hello();
                self.up(at, greeted, Some(hello));
            }
            Verdict::Up => {
                let hello = self.hello();
                self.up(at, greeted, Some(hello));
            }
        }
    }

    fn up(&mut self, at: Time, greeted: Greeted, hello: Option<Hello>) {
        let (peer, dialled) = (greeted.peer, greeted.dialled);
        info!(peer = %peer.id, name = greeted.name, addr = %peer.addr, dialled = dialled.is_some(), "link up");
        let link = Link::start(greeted, hello, self.desk.events.clone());
        let conversation = Conversation { link, dialled, outgoing: BTreeMap::new(), incoming: BTreeMap::new() };
        self.links.insert(peer.id, conversation);
        self.input(at, Input::LinkUp { peer, dialled });
    }

    fn lost(&mut self, at: Time, peer: NodeId, fault: &LinkFault) {
        let Some(no) = self.pairing.link(peer) else { return };
        self.pairing.ended(peer, no);
        let Some(lost) = self.links.remove(&peer) else { return };
        let shared = &lost.link.shared;
        if let Some(addr) = lost.dialled {
            if at.since(shared.since) < LASTING {
                self.backoff.failed(at, addr);
            } else {
                self.backoff.succeeded(addr);
            }
        }
        let (name, addr) = (&shared.name, shared.conn.remote_address());
        if fault.is_rubbish() {
            warn!(%peer, name, %addr, "link closed, the peer is at fault: {fault}");
        } else {
            info!(%peer, name, %addr, "link lost: {fault}");
        }
        self.input(at, Input::LinkDown { peer, cause: fault.cause() });
    }

    fn dial_ended(&mut self, at: Time, failed: &Failed) {
        let Failed { no, addr, expected, found, ref fault } = *failed;
        if let Some(peer) = found {
            self.pairing.ended(peer, no);
        }
        if self.dialling.get(&addr) != Some(&no) {
            return;
        }
        let link = found.and_then(|peer| self.links.get(&peer)).map(|link| link.link.shared.peer);
        let myself = found == Some(self.me.id);
        match (fault, link) {
            // The peer's own dial was faster.
            (_, Some(peer)) => {
                self.dialling.remove(&addr);
                self.input(at, Input::LinkUp { peer, dialled: Some(addr) });
            }
            // Its dial is about to succeed; if it doesn't, the desk says so.
            (DialFault::Duplicate, None) if !myself => {}
            (fault, None) => {
                debug!(%addr, "dial failed: {fault}");
                let cause = if myself { DownCause::Refused } else { fault.cause() };
                self.dialling.remove(&addr);
                self.backoff.failed(at, addr);
                self.input(at, Input::DialFailed { addr, peer: found.or(expected), cause });
            }
        }
    }

    // Outputs.

    fn output(&mut self, output: Output) {
        match output {
            Output::Dial { addr, peer } => self.dial(addr, peer),
            Output::Close { peer } => self.close(peer),
            Output::Control { to, frame } => self.control(to, frame),
            Output::BodyHead { to, swarm, header, trace, offset, received, expires } => {
                self.next_body += 1;
                let serial = Serial(self.next_body);
                let name = NodeName::of(&self.name);
                let handed = clock::now();
                let job = Job { me: self.me.id, name, serial, swarm, header, trace, offset, received, handed, expires };
                self.body_head(to, job);
            }
            Output::BodyPiece { to, swarm, id, bytes } => self.body_piece(to, (swarm, id), bytes),
            Output::BodyAbort { to, swarm, id } => {
                let outgoing = self.links.get_mut(&to).and_then(|link| link.outgoing.remove(&(swarm, id)));
                if let Some(outgoing) = outgoing {
                    outgoing.abort();
                }
            }
            Output::BodyRefuse { from, swarm, id } => {
                let incoming = self.links.get_mut(&from).and_then(|link| link.incoming.remove(&(swarm, id)));
                if let Some(incoming) = incoming {
                    let _ = incoming.stop.send(());
                }
            }
            Output::Record { record } => self.sink.record(*record),
            Output::Deliver { stream, header, body, trace, received } => {
                self.sink.part(&stream, header, body, trace, received);
            }
            Output::Announced { entry } => self.sink.announced(entry),
            Output::Expired { stream } => self.sink.expired(&stream),
            Output::Kept { stream, keepers } => self.sink.kept(&stream, keepers),
        }
    }

    fn dial(&mut self, addr: SocketAddr, peer: Option<NodeId>) {
        let linked = |link: &&Conversation| match peer {
            Some(id) => link.link.shared.peer.id == id,
            None => link.link.shared.peer.addr == addr,
        };
        if let Some(link) = self.links.values().find(linked) {
            self.follow_ups.push_back(Input::LinkUp { peer: link.link.shared.peer, dialled: Some(addr) });
        } else if !self.dialling.contains_key(&addr) {
            let wait = self.backoff.wait(clock::now(), addr);
            self.dialling.insert(addr, self.desk.dial(addr, peer, wait));
        }
    }

    fn close(&mut self, peer: NodeId) {
        let Some(no) = self.pairing.link(peer) else { return };
        self.pairing.ended(peer, no);
        if let Some(closed) = self.links.remove(&peer) {
            info!(%peer, name = closed.link.shared.name, "link closed: no swarm needs it");
            tokio::spawn(closed.link.close(code::UNNEEDED, CLOSE_PATIENCE));
        }
    }

    fn control(&mut self, to: NodeId, frame: Bytes) {
        let Some(link) = self.links.get(&to) else {
            debug!(%to, "a control frame for a node without a link");
            return;
        };
        if let Err(fault) = link.link.send_control(frame) {
            let shared = link.link.shared.clone();
            shared.conn.close(code::WEDGED, fault.to_string().as_bytes());
            warn!(peer = %to, name = shared.name, "link closed: {fault}");
            self.pairing.ended(to, shared.no);
            self.links.remove(&to);
            self.follow_ups.push_back(Input::LinkDown { peer: to, cause: DownCause::Lost });
        }
    }

    fn body_head(&mut self, to: NodeId, job: Job) {
        let key = (job.swarm, job.header.id);
        match self.links.get_mut(&to) {
            Some(link) => {
                let outgoing = Outgoing::start(&link.link, job);
                link.outgoing.insert(key, outgoing);
            }
            None => self.follow_ups.push_back(Input::BodyStopped { to, swarm: key.0, id: key.1 }),
        }
    }

    fn body_piece(&mut self, to: NodeId, key: Key, bytes: Bytes) {
        let Some(link) = self.links.get_mut(&to) else { return };
        let shared = &link.link.shared;
        if shared.body_queue.load(Relaxed) + bytes.len() > BODY_QUEUE_LEN {
            // Dropped bodies' tasks give back what they hold in a moment: only what is still wanted counts.
            let mut queued: usize = link.outgoing.values().map(Outgoing::queued).sum();
            while queued + bytes.len() > BODY_QUEUE_LEN {
                // The body that is soonest worth nothing goes first.
                let waiting = link.outgoing.iter().filter(|(_, outgoing)| outgoing.queued() > 0);
                let Some((&victim, _)) = waiting.min_by_key(|(_, outgoing)| outgoing.expires) else { break };
                let Some(dropped) = link.outgoing.remove(&victim) else { break };
                queued = queued.saturating_sub(dropped.queued());
                dropped.abort();
                count(&shared.counters.bodies_dropped, 1);
                debug!(peer = %to, name = shared.name, "a slow peer loses a body");
                self.follow_ups.push_back(Input::BodyStopped { to, swarm: victim.0, id: victim.1 });
            }
        }
        if let Some(outgoing) = link.outgoing.get(&key) {
            outgoing.push(shared, bytes);
        }
    }

    // The end, and what can be seen.

    async fn leave(mut self, events: &mut mpsc::Receiver<(Time, Event)>) {
        self.input(clock::now(), Input::Leave);
        let links = std::mem::take(&mut self.links);
        let mut closing = tokio::task::JoinSet::new();
        for link in links.into_values() {
            closing.spawn(link.link.close(code::LEAVING, CLOSE_PATIENCE));
        }
        // Nobody reads events any more: nobody may wait for them either.
        events.close();
        while closing.join_next().await.is_some() {}
        self.desk.endpoint.close(code::LEAVING, b"");
        // The farewells are on the wire, or nobody listens.
        let _ = tokio::time::timeout(CLOSE_PATIENCE / 2, self.desk.endpoint.wait_idle()).await;
    }

    fn snapshot(&self) -> Snapshot {
        let now = clock::now();
        Snapshot {
            node: self.me.id.to_string(),
            name: self.name.clone(),
            addr: self.me.addr,
            refused: self.desk.refusals.total.load(Relaxed),
            links: self.links.values().map(|link| LinkView::of(&link.link.shared, now)).collect(),
            swarms: self.core.views(),
        }
    }
}
