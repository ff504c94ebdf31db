//! A running node, built from the bottom up: the archives, the mesh's socket, the fetcher, the store, the ingest, and last
//! the mesh's driver, which feeds them.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use damson_core::model::StreamName;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::adapters::{IntoMesh, IntoStore};
use super::config::NodeConfig;
use super::error::NodeError;
use super::inputs::Inputs;
use super::listening::Listening;
use super::mesh_view::MeshView;
use crate::dvr::{ArchiveWriter, Fetcher};
use crate::edge::{self, Edge, Store};
use crate::ingest::file_loop::FileLoop;
use crate::ingest::keys::Keys;
use crate::ingest::{KeysThenHook, PublishRegistry, http, rtmp, srt, udp};
use crate::mesh::Mesh;
use crate::net::Listeners;
use crate::net::http_client::{HttpClient, Trust};
use crate::observe::{Ingest, Metrics, otlp};

/// The interval at which a node announces its archives. Other nodes forget them after three, as with the directory's entries.
const KEPT_INTERVAL: Duration = Duration::from_secs(5);

/// A running node.
pub struct Node {
    name: String,
    mesh: Mesh,
    registry: PublishRegistry,
    listening: Listening,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Node {
    /// Starts the mesh, the inputs and the servers.
    ///
    /// # Errors
    /// The mesh's port is taken, or the identity or the archives can't be used.
    pub fn start(mut config: NodeConfig) -> Result<Self, NodeError> {
        let (me, listening) = (config.edge.node, Listening::of(&config));
        let metrics = Arc::new(Metrics::default());
        let writer = config.dvr.take().map(|settings| {
            let dir = settings.disk.as_ref().map(|(dir, _)| dir.clone()).unwrap_or_default();
            ArchiveWriter::start(settings, Arc::clone(&metrics)).map_err(|source| NodeError::Dvr { dir, source })
        });
        let writer = writer.transpose()?;
        let exporter = config.otlp.take().map(|url| {
            let client = HttpClient::new(Trust::System)?;
            Ok::<_, NodeError>(otlp::start(client, url, (me, config.edge.name.clone()), Arc::clone(&metrics)))
        });
        let (exporter, sender) = exporter.transpose()?.unzip();

        let (mesh, driver) = Mesh::open(config.mesh)?;
        let fetcher = Fetcher::new(Box::new(mesh.clone()), Arc::clone(&metrics));
        let store = Store::with(Arc::clone(&metrics), writer, Some(Arc::clone(&fetcher)), exporter);
        let counters = metrics.ingest.clone();
        let keys = Keys::new(std::mem::take(&mut config.inputs.keys), counters.clone());
        let authorizer = KeysThenHook { keys, hook: config.inputs.hook.take() };
        let registry = PublishRegistry::new(
            config.ingest,
            config.media,
            authorizer,
            Arc::new(IntoMesh { mesh: mesh.clone(), counters: counters.clone() }),
        );
        let view = Arc::new(MeshView::default());
        driver.start(Arc::new(IntoStore { store: store.clone(), registry: registry.clone(), view: view.clone(), me }));

        let name = config.edge.name.clone();
        let edge = Edge::new(config.edge, Arc::clone(&store), view.clone(), metrics);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let node = Node { name, mesh: mesh.clone(), registry, listening, stop, tasks };
        node.until_stopped(fetcher.drive());
        node.until_stopped(tell_kept(mesh.clone(), store));
        node.until_stopped(view.watch(mesh));
        if let Some(sender) = sender {
            node.tasks.spawn(sender.run(node.stop.clone()));
        }
        node.serve_publishers(config.inputs, config.rtmp, &counters);
        // Without a listener, too: the server tells the store the time.
        let listeners = Listeners { plain: config.http, tls: config.https };
        node.tasks.spawn(edge::serve(listeners, edge, node.stop.clone()));
        Ok(node)
    }

    fn serve_publishers(&self, inputs: Inputs, plain: Option<TcpListener>, counters: &Ingest) {
        let (registry, stop) = (&self.registry, &self.stop);
        for listeners in [Listeners { plain, tls: None }, Listeners { plain: None, tls: inputs.rtmps }] {
            if !listeners.is_empty() {
                self.tasks.spawn(rtmp::server::serve(listeners, registry.clone(), inputs.rtmp, stop.clone()));
            }
        }
        if let Some((socket, settings)) = inputs.srt {
            self.tasks.spawn(srt::server::serve(socket, registry.clone(), settings, counters.clone(), stop.clone()));
        }
        if let Some((listeners, settings)) = inputs.http {
            let (registry, counters, stop) = (registry.clone(), counters.clone(), stop.clone());
            self.tasks.spawn(http::server::serve(listeners, registry, settings, counters, stop));
        }
        if !inputs.udp.is_empty() {
            self.tasks.spawn(udp::server::serve(inputs.udp, registry.clone(), counters.clone(), stop.clone()));
        }
        for (stream, film) in inputs.loops {
            self.play(stream, film);
        }
    }

    fn until_stopped(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(task));
    }

    /// Returns the address at which other nodes reach this one.
    pub fn mesh(&self) -> SocketAddr {
        self.mesh.local_addr()
    }

    /// Publishes a looped file as `stream`.
    pub fn play(&self, stream: StreamName, film: FileLoop) {
        let (registry, stop) = (self.registry.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            match film.run(&registry, stream.clone(), stop).await {
                Ok(None) => {}
                Ok(Some(eviction)) => tracing::info!(%stream, "the looped file has stopped: {eviction}"),
                Err(refused) => tracing::error!(%stream, "can't publish the looped file: {refused}"),
            }
        });
    }

    /// Stops taking pushes, publishes what is queued, answers the requests under way, and leaves the cluster.
    pub async fn shutdown(self) {
        self.registry.drain().await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.mesh.shutdown().await;
    }
}

/// Announces the archives of this node to the others, for ever.
async fn tell_kept(mesh: Mesh, store: Arc<Store>) {
    let mut each = tokio::time::interval(KEPT_INTERVAL);
    loop {
        each.tick().await;
        let kept = store.kept_here();
        if !kept.is_empty() {
            mesh.keep(kept);
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "damson node {} ({})", self.name, self.mesh.node_id())?;
        write!(f, "  mesh  {}{}", self.mesh(), self.listening)
    }
}
