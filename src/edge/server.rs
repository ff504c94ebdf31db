//! The HTTP server: accepts connections and drains them.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::api::{Control, Host};
use super::connection;
use super::connection::Common;
use super::ebb::{CALM, Ebb};
use super::limits::{Addresses, FEEDS_MAX, Limits};
use super::store::Store;
use super::tls::Tls;
use crate::clock;
use crate::observe::Metrics;
use damson_core::manifest::dash::Timing;
use damson_core::model::NodeId;

/// How long no connection is accepted after the system had no room for one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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

/// Where an edge serves.
#[derive(Debug, Default)]
pub struct Listeners {
    /// HTTP/1.1, and HTTP/2 of clients that begin with it (RFC 9113 3.3).
    pub http: Option<TcpListener>,
    /// The same over TLS, where ALPN chooses.
    pub https: Option<(TcpListener, Arc<Tls>)>,
}

impl From<TcpListener> for Listeners {
    fn from(listener: TcpListener) -> Self {
        Listeners { http: Some(listener), https: None }
    }
}

impl Listeners {
    /// The next connection of either; never where there is none.
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr, Option<Arc<Tls>>)> {
        let http = async {
            match &self.http {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        let https = async {
            match &self.https {
                Some((listener, tls)) => listener.accept().await.map(|(stream, from)| (stream, from, Arc::clone(tls))),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = http => accepted.map(|(stream, from)| (stream, from, None)),
            accepted = https => accepted.map(|(stream, from, tls)| (stream, from, Some(tls))),
        }
    }

    /// Looks after the certificate.
    async fn watch(&self) {
        match &self.https {
            Some((_, tls)) => Arc::clone(tls).watch().await,
            None => std::future::pending().await,
        }
    }
}

/// Serves until `shutdown`; then answers who is held with 503, and gives the rest [`Limits::drain`].
///
/// It also tells the store the time: one server a store.
///
/// # Errors
/// None but the listeners' own, where they can't be used at all.
pub async fn serve(listeners: impl Into<Listeners>, edge: Arc<Edge>, shutdown: CancellationToken) -> io::Result<()> {
    let listeners = listeners.into();
    let room = Arc::new(Semaphore::new(edge.config.limits.connections));
    let common = Arc::new(Common::new(Arc::clone(&edge)));
    let mut connections = JoinSet::new();
    let accept = async {
        loop {
            // The semaphore is never closed.
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listeners.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            let (stream, from, tls) = match accepted {
                Ok(accepted) => accepted,
                Err(e) if is_of_one_connection(&e) => continue,
                Err(e) => {
                    // Out of descriptors, mostly: others have to go first.
                    tracing::warn!(error = %e, "can't accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(visitor) = edge.addresses.admit(from.ip(), &edge.config.limits) else {
                tracing::debug!(remote = %from, "HTTP: refused, its address has too many connections");
                continue;
            };
            let served = connection::run(stream, tls, visitor, Arc::clone(&common));
            connections.spawn(async move {
                served.await;
                drop(permit);
            });
        }
    };
    tokio::select! {
        () = accept => {}
        () = edge.store.drive() => {}
        () = give_back(&edge) => {}
        () = listeners.watch() => {}
        () = shutdown.cancelled() => {}
    }
    drop(listeners);
    // First, so that who waits is told that its connection closes.
    common.close();
    edge.store.close();
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(edge.config.limits.drain, drained).await.is_err() {
        tracing::info!(left = connections.len(), "connections broken off");
        connections.shutdown().await;
    }
    Ok(())
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

fn is_of_one_connection(e: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(e.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
