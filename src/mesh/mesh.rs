//! A node's place in the mesh: the handle, by which the node commands the driver.

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
    /// The address that peers can dial, if not the one where the node listens. An unspecified address, as `bind` may have
    /// it, makes them take the one that its packets come from.
    pub advertise: Option<SocketAddr>,
    /// The swarms' settings: the topology, and the addresses to join at.
    pub hub: Config,
    /// The seed of all that is random.
    pub seed: u64,
    /// Parts carry the breakdown of their latency through this node.
    pub traced: bool,
}

/// A node in the mesh. When all of its handles are dropped without [`Mesh::shutdown`], it vanishes without a farewell.
#[derive(Debug, Clone)]
pub struct Mesh {
    commands: mpsc::UnboundedSender<Command>,
    node: NodeId,
    local: SocketAddr,
}

impl Mesh {
    /// Opens the socket. Nothing runs until the [driver is started](Driver::start): what is commanded before then waits.
    ///
    /// # Errors
    /// A port that is taken, an address that isn't this machine's, or an identity that can't be used.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn open(config: MeshConfig) -> Result<(Mesh, Driver), MeshError> {
        let (hub, seed) = (config.hub.clone(), config.seed);
        Self::open_with(config, |me| Box::new(Hub::new(me, hub, seed)))
    }

    /// Opens the socket, for the core that `make` makes of this node's id and address.
    pub(crate) fn open_with(
        config: MeshConfig,
        make: impl FnOnce(Peer) -> Box<dyn Core>,
    ) -> Result<(Mesh, Driver), MeshError> {
        let MeshConfig { identity, bind, advertise, seed, traced, .. } = config;
        let endpoint = endpoint::open(&identity, bind)?;
        let queries = QueryClient::new(endpoint.clone(), endpoint::for_queries(&identity)?);
        let local = endpoint.local_addr().map_err(|source| MeshError::Bind { addr: bind, source })?;
        // Unspecified, it makes peers take the address that our packets come from.
        let me = Peer { id: identity.id(), addr: advertise.unwrap_or(local) };
        let (commands, commands_out) = mpsc::unbounded_channel();
        let (core, name) = (make(me), identity.name().to_owned());
        let driver = Driver { core, me, name, endpoint, queries, commands: commands_out, seed, traced };
        Ok((Mesh { commands, node: me.id, local }, driver))
    }

    /// This node's ingest has a stream, or its record has changed: it is announced, and its swarm joined.
    pub fn claim(&self, record: Record) {
        self.command(Command::Claim(record));
    }

    /// This node's ingest has made a part.
    pub fn publish(&self, stream: &StreamName, header: PartHeader, body: Bytes) {
        self.command(Command::Publish(stream.clone(), header, body));
    }

    /// This node archives these streams for others, too; to be said every few seconds, since it is forgotten else.
    pub fn keep(&self, kept: Vec<Kept>) {
        self.command(Command::Keep(kept));
    }

    /// Asks a node, whether there is a link with it or not. `progress` is told of each piece of the answer, which has
    /// `max` bytes at most. There is no limit in time: drop the future instead.
    ///
    /// # Errors
    /// It can't be reached, isn't who it should be, hasn't got it, or breaks off.
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

    /// Returns where a publisher of `stream` that comes to this node goes on; `None` if nothing is known of it.
    pub async fn resume(&self, stream: &StreamName) -> Option<Resume> {
        self.ask(|answer| Command::Resume(stream.clone(), answer)).await.flatten()
    }

    /// Returns what can be seen of the mesh from here; `None` once it is shut down.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        self.ask(Command::Snapshot).await
    }

    /// Says farewell to the neighbours, lets what is under way go out, and closes; within 2 s.
    pub async fn shutdown(&self) {
        // Without an answer, it was shut down before.
        self.ask(Command::Shutdown).await;
    }

    /// Returns where the node listens.
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
        // After a shutdown nobody listens, and nothing is to be done.
        let _ = self.commands.send(command);
    }
}
