//! The simplest core: it sends every body along every link, dials what it is told to, and tells the test
//! all its inputs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use damson_core::model::time::{Time, UnixTime};
use damson_core::model::{
    Epoch, Flags, LifeId, NodeId, PartHeader, PartId, Peer, Record, StreamName, SwarmId, Trace, TrackId,
};
use damson_core::plumtree::{BodyAction, BodyEvent};
use damson_core::swarm::{self, Entry, Input, Output};
use tokio::sync::mpsc;

use crate::mesh::driver::Core;
use crate::mesh::identity::Identity;
use crate::mesh::mesh::{Mesh, MeshConfig};
use crate::mesh::sink::Sink;

/// The inputs of a node's core, in order.
pub(super) type Heard = mpsc::UnboundedReceiver<Input>;

/// A part that a sink has taken.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) header: PartHeader,
    pub(super) body: Bytes,
    pub(super) trace: Trace,
}

/// A node with a fake core.
pub(super) struct Node {
    pub(super) mesh: Mesh,
    pub(super) heard: Heard,
    pub(super) parts: mpsc::UnboundedReceiver<Delivery>,
    script: Arc<Mutex<VecDeque<Output>>>,
}

/// How a fake core behaves.
#[derive(Clone)]
pub(super) struct Habits {
    pub(super) join: Vec<SocketAddr>,
    /// Dials a peer again when its link is lost.
    pub(super) redial: bool,
    /// Refuses every body.
    pub(super) refuse: bool,
    /// The time after which its bodies expire.
    pub(super) expiry: Duration,
    /// Parts carry their trace through this node.
    pub(super) traced: bool,
}

impl Default for Habits {
    fn default() -> Self {
        Habits { join: Vec::new(), redial: false, refuse: false, expiry: Duration::from_secs(5), traced: true }
    }
}

impl Node {
    pub(super) fn start(identity: Identity, bind: SocketAddr, habits: Habits) -> Node {
        let (heard_in, heard) = mpsc::unbounded_channel();
        let (parts_in, parts) = mpsc::unbounded_channel();
        let script = Arc::new(Mutex::new(VecDeque::new()));
        let hub = swarm::Config::default();
        let config = MeshConfig { identity, bind, advertise: None, hub, seed: 7, traced: habits.traced };
        let core = |me: Peer| -> Box<dyn Core> {
            Box::new(Flood {
                me: me.id,
                habits,
                started: false,
                heard: heard_in,
                script: script.clone(),
                outputs: VecDeque::new(),
                links: BTreeMap::new(),
                bodies: BTreeMap::new(),
                done: BTreeSet::new(),
            })
        };
        let (mesh, driver) = Mesh::open_with(config, core).expect("a free port");
        driver.start(Arc::new(Parts(parts_in)));
        Node { mesh, heard, parts, script }
    }

    /// Makes the core send these outputs.
    pub(super) fn put_out(&self, outputs: impl IntoIterator<Item = Output>) {
        self.script.lock().expect("no panic").extend(outputs);
        // Any input makes the driver ask for outputs.
        self.mesh.claim(record());
    }

    pub(super) fn publish(&self, msn: u32, body: &Bytes) {
        self.mesh.publish(&stream(), header(self.mesh.node_id(), msn, body), body.clone());
    }

    /// Waits for an input that `pick` accepts.
    pub(super) async fn hear<T>(&mut self, mut pick: impl FnMut(&Input) -> Option<T>) -> T {
        loop {
            let input = within(self.heard.recv()).await.expect("the core lives");
            if let Some(found) = pick(&input) {
                return found;
            }
        }
    }

    pub(super) async fn up(&mut self) -> NodeId {
        self.hear(|input| if let Input::LinkUp { peer, .. } = input { Some(peer.id) } else { None }).await
    }

    pub(super) async fn part(&mut self) -> Delivery {
        within(self.parts.recv()).await.expect("the sink lives")
    }
}

/// The time after which a wait has hung.
pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it happens in 20 s")
}

pub(super) fn stream() -> StreamName {
    StreamName::parse("cam1").expect("a name")
}

pub(super) fn header(node: NodeId, msn: u32, body: &Bytes) -> PartHeader {
    PartHeader {
        id: PartId { epoch: Epoch { counter: 1, node }, track: TrackId(0), msn, part: 0 },
        decode_time: 0,
        duration: 1,
        program_date_time: UnixTime::from_micros(0),
        ingested: UnixTime::from_micros(0),
        init: 0,
        discontinuity: 0,
        flags: Flags::default(),
        length: u32::try_from(body.len()).expect("a small body"),
        hash: *blake3::hash(body).as_bytes(),
    }
}

fn record() -> Record {
    Record {
        stream: stream(),
        life: LifeId(1),
        epoch: Epoch { counter: 1, node: NodeId(1) },
        revision: 1,
        first_msn: 0,
        target_duration: 2,
        part_target: Duration::from_millis(200),
        latency: Duration::from_millis(200) * 3,
        segment_duration: Duration::from_secs(2),
        messages: damson_core::model::Schemes::default(),
        availability_start: UnixTime::from_micros(0),
        tracks: Vec::new(),
        periods: Vec::new(),
        ended: None,
    }
}

struct Parts(mpsc::UnboundedSender<Delivery>);

impl Sink for Parts {
    fn record(&self, _: Record) {}
    fn part(&self, _: &StreamName, header: PartHeader, body: Bytes, trace: Trace, _: Time) {
        let _ = self.0.send(Delivery { header, body, trace });
    }
    fn announced(&self, _: Entry) {}
    fn expired(&self, _: &StreamName) {}
}

struct Flood {
    me: NodeId,
    habits: Habits,
    started: bool,
    heard: mpsc::UnboundedSender<Input>,
    script: Arc<Mutex<VecDeque<Output>>>,
    outputs: VecDeque<Output>,
    links: BTreeMap<NodeId, SocketAddr>,
    bodies: BTreeMap<PartId, Body>,
    done: BTreeSet<PartId>,
}

struct Body {
    from: NodeId,
    header: PartHeader,
    trace: Trace,
    received: Time,
    to: Vec<NodeId>,
    bytes: BytesMut,
}

impl Flood {
    fn head(&mut self, now: Time, from: NodeId, header: PartHeader, trace: Trace) {
        let id = header.id;
        if self.habits.refuse || self.bodies.contains_key(&id) || self.done.contains(&id) {
            self.outputs.push_back(Output::Body {
                peer: from,
                swarm: SwarmId::of(&stream()),
                action: BodyAction::Refuse(id),
                expires: now,
            });
            return;
        }
        let to: Vec<NodeId> = self.links.keys().copied().filter(|&peer| peer != from).collect();
        let swarm = SwarmId::of(&stream());
        let expires = now + self.habits.expiry;
        for &to in &to {
            let (trace, received) = (trace.clone(), now);
            self.outputs.push_back(Output::Body {
                peer: to,
                swarm,
                action: BodyAction::Head { header, trace, offset: 0, received },
                expires,
            });
        }
        let bytes = BytesMut::new();
        self.bodies.insert(id, Body { from, header, trace, received: now, to, bytes });
        if header.length == 0 {
            self.piece(from, id, &Bytes::new());
        }
    }

    fn piece(&mut self, from: NodeId, id: PartId, piece: &Bytes) {
        let swarm = SwarmId::of(&stream());
        let Some(body) = self.bodies.get_mut(&id) else { return };
        if body.from != from {
            return;
        }
        for &to in body.to.iter().filter(|_| !piece.is_empty()) {
            self.outputs.push_back(Output::Body {
                peer: to,
                swarm,
                action: BodyAction::Piece { id, bytes: piece.clone() },
                expires: Time::MAX,
            });
        }
        body.bytes.extend_from_slice(piece);
        if body.bytes.len() == body.header.length as usize {
            let Some(Body { header, trace, received, bytes, .. }) = self.bodies.remove(&id) else { return };
            self.done.insert(id);
            let body = bytes.freeze();
            self.outputs.push_back(Output::Deliver { stream: stream(), header, body, trace, received });
        }
    }
}

impl Core for Flood {
    fn handle(&mut self, now: Time, input: Input) {
        match &input {
            Input::Timeout => {
                self.started = true;
                let dials = self.habits.join.iter().map(|&addr| Output::Dial { addr, peer: None });
                self.outputs.extend(dials);
            }
            Input::LinkUp { peer, .. } => {
                self.links.insert(peer.id, peer.addr);
            }
            Input::LinkDown { peer, .. } => {
                if let Some(addr) = self.links.remove(peer)
                    && self.habits.redial
                {
                    self.outputs.push_back(Output::Dial { addr, peer: Some(*peer) });
                }
            }
            &Input::DialFailed { addr, peer, .. } if self.habits.redial => {
                self.outputs.push_back(Output::Dial { addr, peer });
            }
            Input::Publish { header, body, trace, .. } => {
                self.head(now, self.me, *header, trace.clone());
                for piece in body.chunks(damson_core::plumtree::PIECE_LEN_MAX) {
                    self.piece(self.me, header.id, &body.slice_ref(piece));
                }
            }
            Input::Body { peer, event: BodyEvent::Head { header, trace, .. }, .. } => {
                self.head(now, *peer, *header, trace.clone())
            }
            Input::Body { peer, event: BodyEvent::Piece { id, bytes }, .. } => self.piece(*peer, *id, bytes),
            Input::Body { event: BodyEvent::Torn(id), .. } => {
                if let Some(torn) = self.bodies.remove(id) {
                    let swarm = SwarmId::of(&stream());
                    let aborts = torn.to.iter().map(|&to| Output::Body {
                        peer: to,
                        swarm,
                        action: BodyAction::Abort(*id),
                        expires: now,
                    });
                    self.outputs.extend(aborts);
                }
            }
            _ => {}
        }
        self.outputs.extend(self.script.lock().expect("no panic").drain(..));
        let _ = self.heard.send(input);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Time> {
        (!self.started).then_some(Time::ZERO)
    }
}
