//! The HTTP server: accepts connections and drains them.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::api::Host;
use super::dash::Timing;
use super::respond::respond;
use super::sealed::{Outlet, Slot};
use super::store::Store;
use crate::live::NodeId;
use crate::observe::Metrics;

/// A request's head must be there within this; an idle connection is closed after it, too. hyper's own default.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest request head, in bytes: a path of [`TARGET_LEN_MAX`](super::route::TARGET_LEN_MAX) fits.
const HEAD_LEN_MAX: usize = 16 << 10;

/// How long responses under way may take when the node goes down.
pub const DRAIN: Duration = Duration::from_secs(3);

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
#[derive(Debug, Clone)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// What it is called.
    pub name: String,
    /// How the MPD names segments.
    pub timing: Timing,
    /// What `/api/v1/edges` lists.
    pub edges: Vec<EdgeAddress>,
    /// Most connections at a time; more wait in the listener's queue.
    pub connections_max: usize,
}

impl Config {
    /// The defaults, for this node.
    pub fn new(node: NodeId, name: impl Into<String>) -> Self {
        Config { node, name: name.into(), timing: Timing::default(), edges: Vec::new(), connections_max: 16_384 }
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
        Arc::new(Edge { config, name, store, host, metrics })
    }

    /// Its settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What the node holds.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub(super) fn host(&self) -> &dyn Host {
        &*self.host
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What a node is called, as a header can carry it; its id where nobody knows.
    pub(super) fn node_name(&self, node: NodeId) -> String {
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

/// Serves until `shutdown`; then answers who is held with 503, and gives the rest [`DRAIN`].
///
/// It also tells the store the time: one server a store.
///
/// # Errors
/// None but the listener's own, where it can't be used at all.
pub async fn serve(listener: TcpListener, edge: Arc<Edge>, shutdown: CancellationToken) -> io::Result<()> {
    let connections = TaskTracker::new();
    let room = Arc::new(Semaphore::new(edge.config.connections_max));
    let abort = CancellationToken::new();
    let accept = async {
        loop {
            // The semaphore is never closed.
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(e) if is_of_one_connection(&e) => continue,
                Err(e) => {
                    // Out of descriptors, mostly: others have to go first.
                    tracing::warn!(error = %e, "can't accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (edge, shutdown, abort) = (Arc::clone(&edge), shutdown.clone(), abort.clone());
            connections.spawn(async move {
                tokio::select! {
                    () = connection(stream, edge, shutdown) => {}
                    () = abort.cancelled() => {}
                }
                drop(permit);
            });
        }
    };
    tokio::select! {
        () = accept => {}
        () = edge.store.drive() => {}
        () = shutdown.cancelled() => {}
    }
    drop(listener);
    edge.store.close();
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::info!(left = connections.len(), "connections broken off");
        abort.cancel();
        connections.wait().await;
    }
    Ok(())
}

fn is_of_one_connection(e: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(e.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

async fn connection(stream: TcpStream, edge: Arc<Edge>, shutdown: CancellationToken) {
    // A part's last bytes never wait for an acknowledgement.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let remote = stream.peer_addr().ok();
    let slot = Slot::default();
    let outlet = Outlet::new(stream, slot.clone());
    let service = service_fn(move |request| {
        let (edge, slot) = (Arc::clone(&edge), slot.clone());
        async move {
            let mut response = respond(&edge, request).await;
            slot.set(response.extensions_mut().remove());
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(HEAD_LEN_MAX)
        .half_close(false)
        .serve_connection(TokioIo::new(outlet), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = ended {
        tracing::debug!(?remote, error = %e, "HTTP: a connection ended");
    }
}
