//! The task that owns the core: it hands events of links to the core, and the core's outputs to links. It decides nothing:
//! `links` knows which connection is the link, and each link what a full queue drops.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use damson_core::hyparview::DownCause;
use damson_core::link::frame::BodyHead;
use damson_core::link::pairing::LinkNo;
use damson_core::model::time::Time;
use damson_core::model::{Hop, NodeId, NodeName, PartHeader, Peer, Record, Resume, StreamName, Trace};
use damson_core::plumtree::{BodyAction, BodyEvent};
use damson_core::swarm::{Hub, Input, Kept, Output};
use quinn::Endpoint;
use tokio::sync::{mpsc, oneshot};

use super::body_sender::BodyJob;
use super::connector::Connector;
use super::event::{BodySerial, Greeted, LinkEvent, MeshEvent};
use super::fault::LinkFault;
use super::links::Links;
use super::query::{QueryClient, QueryServer};
use super::sink::Sink;
use super::snapshot::Snapshot;
use crate::clock;

/// The most events of links that wait for the driver. If there are more, the readers wait, and so do their peers. Each event holds
/// at most one piece: 16 MiB in all.
const EVENTS: usize = 256;

/// The most events that are handled between two looks at the commands.
const BATCH: usize = 64;

/// The core that the driver drives: [`Hub`], or a simpler one in a test.
pub(crate) trait Core: Send + 'static {
    /// Takes an input.
    fn handle(&mut self, now: Time, input: Input);
    /// Returns the next output, until `None`.
    fn poll_output(&mut self) -> Option<Output>;
    /// Returns the latest time to call `handle` with [`Input::Timeout`].
    fn poll_timeout(&self) -> Option<Time>;
    /// Returns the hub, unless this is a test's core.
    fn hub(&self) -> Option<&Hub> {
        None
    }
}

impl Core for Hub {
    fn handle(&mut self, now: Time, input: Input) {
        Hub::handle(self, now, input);
    }

    fn poll_output(&mut self) -> Option<Output> {
        Hub::poll_output(self)
    }

    fn poll_timeout(&self) -> Option<Time> {
        Hub::poll_timeout(self)
    }

    fn hub(&self) -> Option<&Hub> {
        Some(self)
    }
}

/// A command of the node.
pub(crate) enum Command {
    Claim(Record),
    Publish(StreamName, PartHeader, Bytes),
    Keep(Vec<Kept>),
    Resume(StreamName, oneshot::Sender<Option<Resume>>),
    /// The driver's task owns the client, and with it the socket, which closes when the task ends.
    Queries(oneshot::Sender<Arc<QueryClient>>),
    Snapshot(oneshot::Sender<Snapshot>),
    Shutdown(oneshot::Sender<()>),
}

/// The driver of a [`Mesh`](super::mesh::Mesh), before it runs. If it is dropped, the socket closes.
pub struct Driver {
    pub(crate) core: Box<dyn Core>,
    pub(crate) me: Peer,
    pub(crate) name: String,
    pub(crate) endpoint: Endpoint,
    pub(crate) queries: QueryClient,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    pub(crate) seed: u64,
    pub(crate) traced: bool,
}

impl Driver {
    /// Starts to dial and to listen. `sink` takes what comes out of the mesh.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn start(self, sink: Arc<dyn Sink>) {
        let Driver { core, me, name, endpoint, queries, commands, seed, traced } = self;
        let (events_in, events) = mpsc::channel(EVENTS);
        let connector = Connector::new(endpoint, events_in, QueryServer::new(Arc::clone(&sink)));
        tokio::spawn(connector.clone().accept());
        let running = EventLoop {
            core,
            sink,
            hop: Hop::by(me.id, NodeName::of(&name)),
            name,
            links: Links::new(me, connector.clone(), seed),
            connector,
            queries: Arc::new(queries),
            now: clock::now(),
            follow_ups: VecDeque::new(),
            next_body: 0,
            traced,
        };
        tokio::spawn(running.run(commands, events));
    }
}

/// The running driver.
struct EventLoop {
    core: Box<dyn Core>,
    sink: Arc<dyn Sink>,
    name: String,
    /// This node's hop, without its times.
    hop: Hop,
    links: Links,
    connector: Connector,
    queries: Arc<QueryClient>,
    /// The time of the newest event: the core's clock never goes back.
    now: Time,
    /// Inputs that follow from outputs. The core takes them when its outputs are drained.
    follow_ups: VecDeque<Input>,
    next_body: u64,
    /// Parts carry the breakdown of their latency through this node.
    traced: bool,
}

impl EventLoop {
    async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut events: mpsc::Receiver<(Time, MeshEvent)>,
    ) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut alarm = clock::Alarm::default();
        loop {
            // Ahead of the select, where commands and events go first.
            let now = clock::now();
            if self.core.poll_timeout().is_some_and(|due| due <= now) {
                self.input(now, Input::Timeout);
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
                    // The handle was dropped: the node leaves without a farewell.
                    None => return self.connector.drop_all(),
                },
                _ = events.recv_many(&mut batch, BATCH) => {
                    for (at, event) in batch.drain(..) {
                        self.event(at, event);
                    }
                }
                () = alarm.until(self.core.poll_timeout()) => {}
            }
        }
    }

    fn command(&mut self, command: Command) {
        let now = clock::now();
        match command {
            Command::Claim(record) => self.input(now, Input::Claim(record)),
            Command::Publish(stream, header, body) => {
                // Packaging ends here, and dwell begins.
                let packaging = i128::from(clock::wall().as_micros()) - i128::from(header.ingested.as_micros());
                let begun = Trace { packaging_us: i64::try_from(packaging).ok(), hops: Vec::new() };
                let trace = if self.traced { begun } else { Trace::default() };
                self.input(now, Input::Publish { stream, header, body, trace });
            }
            Command::Keep(kept) => self.input(now, Input::Keep { kept, stamp: clock::wall().as_micros() }),
            // An error of these means that the caller has gone.
            Command::Resume(stream, answer) => drop(answer.send(self.core.hub().and_then(|hub| hub.resume(&stream)))),
            Command::Queries(answer) => drop(answer.send(Arc::clone(&self.queries))),
            Command::Snapshot(answer) => {
                let swarms = self.core.hub().map(|hub| hub.swarms().collect()).unwrap_or_default();
                drop(answer.send(self.links.snapshot(&self.name, swarms)));
            }
            Command::Shutdown(_) => unreachable!("handled in run"),
        }
    }

    /// Hands an input to the core, and does what its outputs say, and what follows from them.
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

    // Events.

    fn event(&mut self, at: Time, event: MeshEvent) {
        let input = match event {
            MeshEvent::Dialled { no, peer, hello } => {
                let _ = hello.send(self.links.hello_to(peer, no));
                None
            }
            MeshEvent::Answered(greeted) => self.links.answered(*greeted),
            MeshEvent::Greeted(greeted) => self.greeted(at, *greeted),
            MeshEvent::DialEnded(failed) => self.links.dial_ended(at, &failed),
            MeshEvent::Link { no, peer, event } => self.link_event(at, no, peer, event),
        };
        if let Some(input) = input {
            self.input(at, input);
        }
    }

    fn greeted(&mut self, at: Time, greeted: Greeted) -> Option<Input> {
        let peer = greeted.peer.id;
        let (greeted, replaces) = self.links.greeted(greeted)?;
        if replaces {
            self.input(at, Input::LinkDown { peer, cause: DownCause::Lost });
        }
        Some(self.links.up(greeted))
    }

    fn link_event(&mut self, at: Time, no: LinkNo, peer: NodeId, event: LinkEvent) -> Option<Input> {
        // Otherwise the event is of a link that was given up.
        let link = self.links.current(peer, no)?;
        match event {
            LinkEvent::Lost(fault) => self.links.lost(at, peer, &fault),
            LinkEvent::Control(frame) => self.control_in(at, peer, frame),
            LinkEvent::BodyHead { serial, head, stop } => {
                let (swarm, id) = (head.swarm, head.header.id);
                if link.body_begins((swarm, id), serial, stop, head.body_len()) {
                    self.input(at, Input::Body { peer, swarm, event: BodyEvent::Torn(id) });
                }
                let BodyHead { header, offset, trace, .. } = *head;
                let trace = if self.traced { trace } else { Trace::default() };
                Some(Input::Body { peer, swarm, event: BodyEvent::Head { header, trace, offset } })
            }
            LinkEvent::BodyPiece { serial, key: (swarm, id), bytes, last } => {
                let wanted = link.body_goes_on((swarm, id), serial, last);
                wanted.then_some(Input::Body { peer, swarm, event: BodyEvent::Piece { id, bytes } })
            }
            LinkEvent::BodyTorn { serial, key: (swarm, id) } => link
                .body_goes_on((swarm, id), serial, true)
                .then_some(Input::Body { peer, swarm, event: BodyEvent::Torn(id) }),
            LinkEvent::BodySent { serial, key: (swarm, id), stopped } => {
                let known = link.body_sent((swarm, id), serial);
                (known && stopped).then_some(Input::Body { peer, swarm, event: BodyEvent::Stopped(id) })
            }
            LinkEvent::Estimate { rtt_us, rate } => Some(Input::LinkEstimate { peer, rtt_us, rate }),
        }
    }

    fn control_in(&mut self, at: Time, from: NodeId, frame: Bytes) -> Option<Input> {
        let bad_frames = |core: &dyn Core| core.hub().map_or(0, |hub| hub.bad_frames().0);
        let before = bad_frames(&*self.core);
        self.input(at, Input::Control { from, frame });
        let (now, why) = self.core.hub()?.bad_frames();
        let why = why.filter(|_| now > before)?.clone();
        self.links.reject(at, from, &LinkFault::Control(why))
    }

    // Outputs.

    fn output(&mut self, output: Output) {
        match output {
            Output::Dial { addr, peer } => self.follow_ups.extend(self.links.dial(addr, peer)),
            Output::Close(peer) => self.links.close(peer),
            Output::Control { to, frame } => self.follow_ups.extend(self.links.send_control(to, frame)),
            Output::Body { peer: to, swarm, action: BodyAction::Head { header, trace, offset, received }, expires } => {
                self.next_body += 1;
                let (serial, hop, handed) = (BodySerial(self.next_body), self.hop, clock::now());
                let job = BodyJob { serial, swarm, header, trace, offset, received, hop, handed, expires };
                self.follow_ups.extend(self.links.send_body(to, job));
            }
            Output::Body { peer: to, swarm, action: BodyAction::Piece { id, bytes }, .. } => {
                self.follow_ups.extend(self.links.send_piece(to, (swarm, id), bytes));
            }
            Output::Body { peer: to, swarm, action: BodyAction::Abort(id), .. } => {
                if let Some(link) = self.links.get(to) {
                    link.abort_body((swarm, id));
                }
            }
            Output::Body { peer: from, swarm, action: BodyAction::Refuse(id), .. } => {
                if let Some(link) = self.links.get(from) {
                    link.refuse_body((swarm, id));
                }
            }
            Output::Record(record) => self.sink.record(*record),
            Output::Deliver { stream, header, body, trace, received } => {
                self.sink.part(&stream, header, body, trace, received);
            }
            Output::Announced(entry) => self.sink.announced(entry),
            Output::Expired(stream) => self.sink.expired(&stream),
            Output::Kept { stream, keepers } => self.sink.kept(&stream, keepers),
        }
    }

    async fn leave(mut self, events: &mut mpsc::Receiver<(Time, MeshEvent)>) {
        self.input(clock::now(), Input::Leave);
        let mut closing = self.links.close_all();
        // The driver reads no more events, so that no task may wait for it.
        events.close();
        while closing.join_next().await.is_some() {}
        self.connector.close().await;
    }
}
