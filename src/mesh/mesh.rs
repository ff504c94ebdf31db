//! The node's handle of the mesh, by which it commands the driver.

use std::net::SocketAddr;

use bytes::Bytes;
use damson_core::link::query::QueryError;
use damson_core::model::{NodeId, PartHeader, Peer, Record, Resume, StreamName};
use damson_core::swarm::{Config, Hub, Kept};
use tokio::sync::{mpsc, oneshot};

use super::driver::{Command, Core, Driver};
use super::endpoint;
use super::fault::MeshError;
use super::identity::Identity;
use super::query::QueryClient;
use super::snapshot::Snapshot;

/// The settings of a [`Mesh`].
#[derive(Debug, Clone)]
pub struct MeshConfig {
    /// The node's key and certificate, and the CA that it trusts.
    pub identity: Identity,
    /// The address to listen at (UDP); port 0 takes any.
    pub bind: SocketAddr,
    /// The address that peers dial, if it isn't the one where the node listens. If it is unspecified, as `bind` may be, peers dial the
    /// address that its packets come from.
    pub advertise: Option<SocketAddr>,
    /// The swarms' settings: the topology, and the addresses to join at.
    pub hub: Config,
    /// The seed of all random choices.
    pub seed: u64,
    /// Parts carry the breakdown of their latency through this node.
    pub traced: bool,
}

/// A node in the mesh. If all handles are dropped without [`Mesh::shutdown`], the node leaves without a farewell.
#[derive(Debug, Clone)]
pub struct Mesh {
    commands: mpsc::UnboundedSender<Command>,
    node: NodeId,
    local: SocketAddr,
}

impl Mesh {
    /// Opens the socket. Nothing runs until the [driver is started](Driver::start): commands wait until then.
    ///
    /// # Errors
    /// The port is taken, the address isn't this machine's, or the identity can't be used.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn open(config: MeshConfig) -> Result<(Mesh, Driver), MeshError> {
        let (hub, seed) = (config.hub.clone(), config.seed);
        Self::open_with(config, |me| Box::new(Hub::new(me, hub, seed)))
    }

    /// Opens the socket. `make` makes the core from this node's id and address.
    pub(crate) fn open_with(
        config: MeshConfig,
        make: impl FnOnce(Peer) -> Box<dyn Core>,
    ) -> Result<(Mesh, Driver), MeshError> {
        let MeshConfig { identity, bind, advertise, seed, traced, .. } = config;
        let endpoint = endpoint::open(&identity, bind)?;
        let queries = QueryClient::new(endpoint.clone(), endpoint::for_queries(&identity)?);
        let local = endpoint.local_addr().map_err(|source| MeshError::Bind { addr: bind, source })?;
        // If it is unspecified, peers dial the address that our packets come from.
        let me = Peer { id: identity.id(), addr: advertise.unwrap_or(local) };
        let (commands, commands_out) = mpsc::unbounded_channel();
        let (core, name) = (make(me), identity.name().to_owned());
        let driver = Driver { core, me, name, endpoint, queries, commands: commands_out, seed, traced };
        Ok((Mesh { commands, node: me.id, local }, driver))
    }

    /// Announces a stream of this node's ingest, or a newer record of it, and joins its swarm.
    pub fn claim(&self, record: Record) {
        self.command(Command::Claim(record));
    }

    /// Publishes a part of this node's ingest.
    pub fn publish(&self, stream: &StreamName, header: PartHeader, body: Bytes) {
        self.command(Command::Publish(stream.clone(), header, body));
    }

    /// Announces the streams that this node archives. Repeat it every few seconds, since other nodes forget it.
    pub fn keep(&self, kept: Vec<Kept>) {
        self.command(Command::Keep(kept));
    }

    /// Asks a node, with or without a link to it. The answer has at most `max` bytes; `progress` is called for each piece of it. There is
    /// no timeout: the caller drops the future instead.
    ///
    /// # Errors
    /// The node can't be reached, is another one, has no answer, or breaks off.
    pub async fn query(
        &self,
        whom: Peer,
        query: Bytes,
        max: usize,
        progress: impl FnMut() + Send,
    ) -> Result<Bytes, QueryError> {
        let client = self.ask(Command::Queries).await;
        let client = client.ok_or_else(|| QueryError::Unreachable("this node is shut down".to_owned()))?;
        client.query(whom, query, max, progress).await
    }

    /// Returns where a publisher of `stream` goes on at this node, or `None` if nothing is known of the stream.
    pub async fn resume(&self, stream: &StreamName) -> Option<Resume> {
        self.ask(|answer| Command::Resume(stream.clone(), answer)).await.flatten()
    }

    /// Returns a view of the mesh, or `None` once it is shut down.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        self.ask(Command::Snapshot).await
    }

    /// Says farewell to the neighbours, sends what is under way, and closes; within 2 s.
    pub async fn shutdown(&self) {
        // No answer means that it was shut down before.
        self.ask(Command::Shutdown).await;
    }

    /// Returns the address at which the node listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Returns the node's id.
    pub fn node_id(&self) -> NodeId {
        self.node
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.command(command(answer));
        answered.await.ok()
    }

    fn command(&self, command: Command) {
        // After a shutdown there is no driver, and nothing to do.
        let _ = self.commands.send(command);
    }
}
