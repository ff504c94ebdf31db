//! A node's place in the mesh: what `node.rs` of the crate sees of all this.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::connector::Desk;
use super::driver::{Command, Driver};
use super::endpoint;
use super::identity::Identity;
use super::query::{Answer, AskFault, Asked, Asker};
use super::snapshot::{Snapshot, SwarmView};
use super::tls::TlsError;
use damson_core::model::Peer;
use damson_core::model::Resume;
use damson_core::model::time::Time;
use damson_core::model::wire::WireError;
use damson_core::model::{NodeId, PartHeader, Record, StreamName, Trace};
use damson_core::swarm;
use damson_core::swarm::{Entry, Hub, Input, Keeper, Kept, Output};

/// The most events of links that wait for the driver; their readers, and so their peers, wait then.
/// Each holds at most one piece: 16 MiB in all.
const EVENTS: usize = 256;

/// Why a node can't take its place in the mesh.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// Another program, or another node, has the port.
    #[error("{0} is taken: another program listens there (UDP)")]
    AddrInUse(SocketAddr),
    /// The address can't be listened at.
    #[error("can't listen at {addr} (UDP): {source}")]
    Bind {
        /// Which.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The identity can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What a [`Mesh`] starts with.
#[derive(Debug, Clone)]
pub struct MeshConfig {
    /// Who the node is, and whom it trusts.
    pub identity: Identity,
    /// Where to listen (UDP); port 0 takes any.
    pub bind: SocketAddr,
    /// Where peers can dial the node, if not where it listens. An unspecified address, as `bind` may have
    /// it, makes them take the one that its packets come from.
    pub advertise: Option<SocketAddr>,
    /// Of the swarms: the topology, and the addresses to join at.
    pub hub: swarm::Config,
    /// Of all that is random.
    pub seed: u64,
    /// Whether parts carry their account through this node.
    pub traced: bool,
}

/// Who is told what comes in. Called from the driver's task, so each call must be quick, and mustn't
/// wait for anything.
pub trait Sink: Send + Sync + 'static {
    /// The record of a stream is new or newer.
    fn record(&self, record: Record);
    /// A part is here, whole and checked, with its way to this node. `received` is its first byte in.
    fn part(&self, stream: &StreamName, header: PartHeader, body: Bytes, trace: Trace, received: Time);
    /// A stream is new in the directory, or has moved to another life or epoch.
    fn announced(&self, entry: Entry);
    /// A stream is gone from the directory.
    fn expired(&self, stream: &StreamName);
    /// Who keeps what of a stream's past, beside this node.
    fn kept(&self, _stream: &StreamName, _keepers: Vec<Keeper>) {}
    /// Another node asks. May wait; the answer is a list of chunks, so that bodies needn't be copied.
    fn asked(&self, _question: Bytes) -> Asked<'_> {
        Box::pin(async { Answer::NotHere })
    }
}

/// What the driver drives: [`Hub`], or something simpler in a test.
pub(crate) trait Core: Send + 'static {
    /// Something happened.
    fn handle(&mut self, now: Time, input: Input);
    /// What is to be done, until `None`.
    fn poll_output(&mut self) -> Option<Output>;
    /// When to call `handle` with [`Input::Timeout`], at the latest.
    fn poll_timeout(&self) -> Option<Time>;
    /// How many control frames couldn't be read, and what was wrong with the last one.
    fn bad_frames(&self) -> (u64, Option<&WireError>);
    /// Where a publisher of `stream` goes on.
    fn resume(&self, stream: &StreamName) -> Option<Resume>;
    /// What can be seen of the swarms.
    fn views(&self) -> Vec<SwarmView>;
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

    fn bad_frames(&self) -> (u64, Option<&WireError>) {
        (self.counters().bad_frames, self.last_fault().map(|(_, fault)| fault))
    }

    fn resume(&self, stream: &StreamName) -> Option<Resume> {
        Hub::resume(self, stream)
    }

    fn views(&self) -> Vec<SwarmView> {
        self.swarms().map(SwarmView::from).collect()
    }
}

/// A node in the mesh. Dropped without [`Mesh::shutdown`], it vanishes without a farewell.
#[derive(Debug)]
pub struct Mesh {
    commands: mpsc::UnboundedSender<Command>,
    /// The driver's task has it, and with it the socket, which is gone when the task is.
    asker: Weak<Asker>,
    node: NodeId,
    local: SocketAddr,
}

impl Mesh {
    /// Opens the socket and starts the driver. `sink` is told what comes in.
    ///
    /// # Errors
    /// A port that is taken, an address that isn't this machine's, or an identity that can't be used.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn start(config: MeshConfig, sink: Arc<dyn Sink>) -> Result<Mesh, MeshError> {
        let (hub, seed) = (config.hub.clone(), config.seed);
        Self::start_with(config, sink, |me| Hub::new(me, hub, seed))
    }

    /// The same with the core that `make` makes of this node's id and address.
    pub(crate) fn start_with<C: Core>(
        config: MeshConfig,
        sink: Arc<dyn Sink>,
        make: impl FnOnce(Peer) -> C,
    ) -> Result<Mesh, MeshError> {
        let MeshConfig { identity, bind, advertise, seed, traced, .. } = config;
        let endpoint = endpoint::open(&identity, bind)?;
        let asker = Arc::new(Asker::new(endpoint.clone(), endpoint::asking(&identity)?));
        let local = endpoint.local_addr().map_err(|source| MeshError::Bind { addr: bind, source })?;
        // Unspecified, it makes peers take the address that our packets come from.
        let listen = advertise.unwrap_or(local);
        let me = Peer { id: identity.id(), addr: listen };
        let (events_in, events) = mpsc::channel(EVENTS);
        let (commands, commands_out) = mpsc::unbounded_channel();
        let desk = Desk::new(endpoint, events_in, sink.clone());
        tokio::spawn(desk.clone().accept());
        let driver = Driver::new(make(me), sink, me, identity.name().to_owned(), listen, desk, seed).traced(traced);
        let weak = Arc::downgrade(&asker);
        tokio::spawn(async move {
            driver.run(commands_out, events).await;
            drop(asker);
        });
        Ok(Mesh { commands, asker: weak, node: identity.id(), local })
    }

    /// This node's ingest has a stream, or its record has changed: it is announced, and its swarm joined.
    pub fn claim(&self, record: Record) {
        self.command(Command::Claim(record));
    }

    /// This node's ingest has made a part.
    pub fn publish(&self, stream: &StreamName, header: PartHeader, body: Bytes) {
        self.command(Command::Publish(stream.clone(), header, body));
    }

    /// This node keeps these streams' past for others; to be said every few seconds, since it is forgotten else.
    pub fn keep(&self, kept: Vec<Kept>) {
        self.command(Command::Keep(kept));
    }

    /// Asks a node, whether there is a link with it or not. `progress` is told of each piece of the answer, which has
    /// `max` bytes at most. There is no limit in time: drop the future instead.
    ///
    /// # Errors
    /// It can't be reached, isn't who it should be, hasn't got it, or breaks off.
    pub async fn ask(
        &self,
        whom: Peer,
        question: Bytes,
        max: usize,
        progress: impl FnMut() + Send,
    ) -> Result<Bytes, AskFault> {
        let asker = self.asker.upgrade().ok_or_else(|| AskFault::Unreachable("this node is shut down".to_owned()))?;
        asker.ask(whom, question, max, progress).await
    }

    /// Where a publisher of `stream` that comes to this node goes on; `None` if nothing is known of it.
    pub async fn resume(&self, stream: &StreamName) -> Option<Resume> {
        let (answer, resume) = oneshot::channel();
        self.command(Command::Resume(stream.clone(), answer));
        resume.await.ok().flatten()
    }

    /// What can be seen of the mesh from here; `None` once it is shut down.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        let (answer, snapshot) = oneshot::channel();
        self.command(Command::Snapshot(answer));
        snapshot.await.ok()
    }

    /// Says farewell to the neighbours, lets what is under way go out, and closes; within 2 s.
    pub async fn shutdown(&self) {
        let (done, over) = oneshot::channel();
        self.command(Command::Shutdown(done));
        // An error means that it was shut down before.
        let _ = over.await;
    }

    /// Where the node listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Who the node is.
    pub fn node_id(&self) -> NodeId {
        self.node
    }

    fn command(&self, command: Command) {
        // After a shutdown nobody listens, and nothing is to be done.
        let _ = self.commands.send(command);
    }
}
