//! The HTTP server: accepts connections and drains them.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::api::{Control, Host};
use super::connection;
use super::ebb::{CALM, Ebb};
use super::limits::{Addresses, FEEDS_MAX, Limits, Visitor};
use super::store::Store;
use crate::clock;
use crate::net::Listeners;
use crate::net::accept::{Connections, Overflow};
use crate::net::drain::Drain;
use crate::observe::Metrics;
use damson_core::manifest::dash::Timing;
use damson_core::model::NodeId;

/// An edge of the cluster, as the player page lists it.
#[derive(Debug, Clone, Serialize)]
pub struct EdgeAddress {
    /// What it is called.
    pub name: String,
    /// `http://host:port`.
    pub url: String,
}

/// An edge's settings.
#[derive(Clone)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// What it is called.
    pub name: String,
    /// How the MPD names segments.
    pub timing: Timing,
    /// What `/api/v1/edges` lists.
    pub edges: Vec<EdgeAddress>,
    /// What one player may take.
    pub limits: Limits,
    /// Whether requests are timed, and answers tell of the way of parts.
    pub traced: bool,
    /// Stops and starts nodes, in a demo.
    pub control: Option<Arc<dyn Control>>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("node", &self.node).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Config {
    /// The defaults, for this node.
    pub fn new(node: NodeId, name: impl Into<String>) -> Self {
        Config {
            node,
            name: name.into(),
            timing: Timing::default(),
            edges: Vec::new(),
            limits: Limits::default(),
            traced: true,
            control: None,
        }
    }
}

/// What requests are answered from.
pub struct Edge {
    config: Config,
    /// The name, as a header can carry it.
    name: String,
    store: Arc<Store>,
    host: Arc<dyn Host>,
    metrics: Arc<Metrics>,
    addresses: Arc<Addresses>,
    /// Room for live traces.
    feeds: Semaphore,
}

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edge").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Edge {
    /// An edge over what `store` holds.
    pub fn new(config: Config, store: Arc<Store>, host: Arc<dyn Host>, metrics: Arc<Metrics>) -> Arc<Self> {
        let name = plain(&config.name);
        let feeds = Semaphore::new(FEEDS_MAX);
        Arc::new(Edge { config, name, store, host, metrics, addresses: Arc::default(), feeds })
    }

    /// Its settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What the node holds.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// How many players are connected.
    pub fn connections(&self) -> usize {
        self.addresses.connections()
    }

    /// Gives one more connection of `ip` its place, if there is one.
    pub(crate) fn admit(&self, ip: IpAddr) -> Option<Visitor> {
        self.addresses.admit(ip, &self.config.limits)
    }

    pub(crate) fn host(&self) -> &dyn Host {
        &*self.host
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn feeds(&self) -> &Semaphore {
        &self.feeds
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What a node is called, as a header can carry it; its id where nobody knows.
    pub(crate) fn node_name(&self, node: NodeId) -> String {
        if node == self.config.node {
            return self.name.clone();
        }
        self.host.node_name(node).map_or_else(|| node.to_string(), |name| plain(&name))
    }
}

/// Without what would end a quoted string.
fn plain(name: &str) -> String {
    let fits = |c: char| (c.is_ascii_graphic() || c == ' ') && c != '"' && c != '\\';
    name.chars().map(|c| if fits(c) { c } else { '_' }).collect()
}

/// Serves until `shutdown`; then answers who is held with 503, and gives the rest [`Limits::drain`].
///
/// It also tells the store the time: one server a store.
pub async fn serve(listeners: impl Into<Listeners>, edge: Arc<Edge>, shutdown: CancellationToken) {
    let limits = &edge.config().limits;
    let drain = Arc::new(Drain::default());
    let mut connections = Connections::new(listeners, limits.connections, Overflow::Wait);
    let accept = connections.accept(|accepted| {
        let Some(visitor) = edge.admit(accepted.remote.ip()) else {
            tracing::debug!(remote = %accepted.remote, "HTTP: refused, its address has too many connections");
            return None;
        };
        Some(connection::run(accepted, visitor, Arc::clone(&edge), Arc::clone(&drain)))
    });
    tokio::select! {
        () = accept => {}
        () = edge.store().drive() => {}
        () = give_back(&edge) => {}
        () = shutdown.cancelled() => {}
    }
    connections.close();
    // First, so that who waits is told that its connection closes.
    drain.close();
    edge.store().close();
    connections.drain(limits.drain).await;
}

/// Gives memory back when a crowd has gone.
async fn give_back(edge: &Edge) {
    let (mut ebb, mut each) = (Ebb::default(), tokio::time::interval(CALM / 2));
    loop {
        each.tick().await;
        if ebb.look(clock::now(), edge.connections()) {
            let began = clock::now();
            // An error says that the runtime ends.
            let _ = tokio::task::spawn_blocking(damson_heap::give_back).await;
            let took_ms = clock::now().since(began).as_millis();
            tracing::debug!(took_ms, "a crowd has gone, and its memory is given back");
        }
    }
}
