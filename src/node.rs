//! A node: ingest, mesh and edge, joined.
//!
//! ```text
//!   RTMP, SRT, UDP, film --> PublishRegistry --PartSink--> Mesh (Hub) --Sink--> Store --> HTTP
//!                                                 ||  QUIC
//!                                              other nodes
//! ```
//!
//! What this node's own ingest publishes takes the same way as what comes from afar: through the hub
//! into the store.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::clock;
use crate::config::{ConfigError, Dash, Listen, Settings, Takeover, Topology, Tracing};
use crate::edge::{Edge, EdgeAddress, Host, Limits, Store};
use crate::ingest;
use crate::ingest::file_loop::FileLoop;
use crate::ingest::hook::KeysThenHook;
use crate::ingest::keys::Keys;
use crate::ingest::{BoxFuture, PartSink, PublishRegistry};
use crate::mesh::{Asked, Identity, Mesh, MeshConfig, Sink, Snapshot};
use crate::net::http_client::{HttpClient, Trust};
use crate::net::{Listeners, Tls, listener};
use crate::observe::{Metrics, otlp};
use crate::{dvr, edge};
use damson_core::manifest::dash::Timing;
use damson_core::model::Resume;
use damson_core::model::time::Time;
use damson_core::model::{NodeId, NodeName, PartHeader, Record, StreamName, Trace};
use damson_core::packager as media;
use damson_core::swarm;
use damson_core::swarm::Entry;

mod error;
mod inputs;
mod past;

pub use error::NodeError;
pub use inputs::Inputs;

/// How old `/api/v1/swarm` may be.
const VIEW_INTERVAL: Duration = Duration::from_secs(1);
/// Most nodes whose names are kept.
const NAMES_MAX: usize = 10_000;

/// Where a node listens for RTMP if nothing is said.
const RTMP_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1935);
/// Where a node serves HTTP if nothing is said.
const HTTP_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080);
/// Where a node's mesh endpoint listens if nothing is said.
const MESH_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 4900);

/// All that a node is told at its start. Its TCP sockets are bound already.
pub struct NodeConfig {
    /// Its key and certificate.
    pub identity: Identity,
    /// What it is called.
    pub name: String,
    /// Where its mesh endpoint listens.
    pub mesh: SocketAddr,
    /// What others dial, where it isn't `mesh`.
    pub advertise: Option<SocketAddr>,
    /// Nodes to join through, or the neighbours in a static topology.
    pub join: Vec<SocketAddr>,
    /// How neighbours are found.
    pub topology: Topology,
    /// What may be sent to other nodes, in bytes/s; `None`: no cap.
    pub upload: Option<u64>,
    /// Where encoders push RTMP.
    pub rtmp: Option<TcpListener>,
    /// What else comes in.
    pub inputs: Inputs,
    /// Where players fetch.
    pub http: Option<TcpListener>,
    /// Where they fetch by HTTPS, and with which certificate.
    pub https: Option<(TcpListener, Arc<Tls>)>,
    /// What one player may take.
    pub limits: Limits,
    /// How streams are cut.
    pub media: media::Settings,
    /// Who may take a stream over.
    pub takeover: Takeover,
    /// What a push may send for long, in bits per second.
    pub bit_rate_max: u64,
    /// Pushes at a time.
    pub pushes_max: usize,
    /// How the MPD addresses segments.
    pub dash: Dash,
    /// What is kept for seeking back.
    pub dvr: Option<dvr::Settings>,
    /// Where traces of parts are sent.
    pub otlp: Option<Url>,
    /// Whether parts carry their account through this node, and viewers are told of it.
    pub traced: bool,
    /// The edges that the player page offers, by name and URL; this one alone if empty.
    pub edges: Vec<EdgeAddress>,
    /// Stops and starts the nodes of a demo, for the page.
    pub control: Option<Arc<dyn edge::Control>>,
}

impl NodeConfig {
    /// Reads the identity and binds the sockets that `settings` name.
    pub async fn from_settings(settings: &Settings) -> Result<Self, NodeError> {
        let Some(dir) = &settings.identity else {
            let why = "the folder that `damson pki issue` made for this node";
            return Err(ConfigError::Missing { name: "identity", why }.into());
        };
        let identity = Identity::load(dir)?;
        let name = settings.name.clone().unwrap_or_else(|| identity.name().to_owned());
        let rtmp = match settings.rtmp {
            Some(Listen::Off) => None,
            Some(Listen::On(addr)) => Some(listen(addr, "rtmp").await?),
            None => match listen(RTMP_DEFAULT, "rtmp").await {
                Ok(listener) => Some(listener),
                // Nobody asked for it: a second node on one machine is an edge.
                Err(error) => {
                    tracing::warn!("{error}; this node takes no RTMP");
                    None
                }
            },
        };
        let http = match settings.http.unwrap_or(Listen::On(HTTP_DEFAULT)).addr() {
            Some(addr) => Some(listen(addr, "http").await?),
            None => None,
        };
        let limits = Limits::default();
        let limits = Limits {
            connections: settings.connections.unwrap_or(limits.connections),
            connections_of_address: settings.address_connections.unwrap_or(limits.connections_of_address),
            held_of_address: settings.address_held.unwrap_or(limits.held_of_address),
            ..limits
        };
        let tls = tls(settings)?.map(Arc::new);
        let https = match settings.https.and_then(Listen::addr).zip(tls.as_ref()) {
            Some((addr, tls)) => Some((listen(addr, "https").await?, Arc::clone(tls))),
            None => None,
        };
        Ok(NodeConfig {
            identity,
            name,
            mesh: settings.mesh.unwrap_or(MESH_DEFAULT),
            advertise: settings.advertise,
            join: settings.join.clone(),
            topology: settings.topology.unwrap_or_default(),
            upload: settings.upload()?,
            rtmp,
            inputs: Inputs::from_settings(settings, tls.as_ref()).await?,
            http,
            https,
            limits,
            media: media::Settings {
                segment: settings.segment()?,
                part: settings.part()?,
                latency: settings.latency()?,
                linger: settings.linger()?,
                ..media::Settings::default()
            },
            takeover: settings.takeover.unwrap_or_default(),
            bit_rate_max: settings.bit_rate_max()?,
            pushes_max: settings.pushers()?,
            dash: settings.dash.unwrap_or_default(),
            dvr: settings.dvr()?,
            otlp: settings.otlp.clone(),
            traced: settings.tracing.unwrap_or_default() == Tracing::On,
            edges: Vec::new(),
            control: None,
        })
    }
}

/// The certificate that the settings name, if it is for anything.
fn tls(settings: &Settings) -> Result<Option<Tls>, NodeError> {
    let users = [
        (settings.https, "--https needs a certificate and its key"),
        (settings.rtmps, "--rtmps needs a certificate and its key"),
        (settings.https_ingest, "--https-ingest needs a certificate and its key"),
    ];
    let Some((_, why)) = users.into_iter().find(|(listen, _)| listen.and_then(Listen::addr).is_some()) else {
        return Ok(None);
    };
    let missing = |name| ConfigError::Missing { name, why };
    let cert = settings.tls_cert.as_ref().ok_or_else(|| missing("tls-cert"))?;
    let key = settings.tls_key.as_ref().ok_or_else(|| missing("tls-key"))?;
    Ok(Some(Tls::from_files(cert, key)?))
}

/// Binds a TCP listener; an error names the flag that chooses another address.
pub async fn listen(addr: SocketAddr, flag: &'static str) -> Result<TcpListener, NodeError> {
    listener::bind(addr).map_err(|source| NodeError::Listen { flag, addr, source })
}

/// A running node.
pub struct Node {
    name: String,
    mesh: Arc<Mesh>,
    registry: PublishRegistry,
    rtmp: Option<SocketAddr>,
    rtmps: Option<SocketAddr>,
    srt: Option<SocketAddr>,
    /// URLs of HTTP ingest.
    pushes: Vec<String>,
    http: Option<SocketAddr>,
    https: Option<SocketAddr>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Node {
    /// Starts the mesh, the registry and the servers.
    ///
    /// # Errors
    /// The mesh's port is taken, or the identity or what is kept for seeking back can't be used.
    pub fn start(config: NodeConfig) -> Result<Self, NodeError> {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let metrics = Arc::new(Metrics::default());
        let keeper = config.dvr.map(|dvr| past::keeper(dvr, &metrics)).transpose()?;
        let store = Store::with_keeper(Arc::clone(&metrics), keeper);
        if let Some(url) = config.otlp {
            let me = (config.identity.id(), config.name.clone());
            let (exporter, sender) = otlp::start(HttpClient::new(Trust::System)?, url, me, Arc::clone(&metrics));
            store.export_to(exporter);
            tasks.spawn(sender.run(stop.clone()));
        }
        let registry_cell = Arc::new(OnceLock::new());
        let view = Arc::new(MeshView::default());
        let (registry, me) = (Arc::clone(&registry_cell), config.identity.id());
        let sink = IntoStore { store: Arc::clone(&store), registry, view: Arc::clone(&view), me };
        let mut edge_config = edge::Config::new(config.identity.id(), config.name.clone());
        edge_config.timing = config.dash.into();
        edge_config.edges = config.edges;
        edge_config.control = config.control;
        edge_config.limits = config.limits;
        edge_config.traced = config.traced;

        let seed = config.identity.id().0 ^ clock::wall().as_micros();
        let hub = hub_config(config.topology, config.join, config.upload);
        let (identity, bind, advertise) = (config.identity, config.mesh, config.advertise);
        let mesh = MeshConfig { identity, bind, advertise, hub, seed, traced: config.traced };
        let mesh = Arc::new(Mesh::start(mesh, Arc::new(sink))?);
        past::start(&mesh, &store, &metrics, (&tasks, &stop));

        let settings = ingest::Settings {
            node: mesh.node_id(),
            takeover: config.takeover.into(),
            bit_rate_max: config.bit_rate_max,
            pushes_max: config.pushes_max,
        };
        let (counters, inputs) = (metrics.ingest.clone(), config.inputs);
        let authorizer = KeysThenHook { keys: Keys::new(inputs.keys, counters.clone()), hook: inputs.hook };
        let parts = Arc::new(IntoMesh(Arc::clone(&mesh)));
        let registry = PublishRegistry::new(settings, config.media, authorizer, parts);
        // The sink was made first; it tells the registry when another ingest goes on with a stream of ours.
        let _ = registry_cell.set(registry.clone());

        tasks.spawn(watch(Arc::clone(&mesh), Arc::clone(&view), stop.clone()));
        let edge = Edge::new(edge_config, Arc::clone(&store), view, metrics);
        let addr = |listener: &Option<TcpListener>| listener.as_ref().and_then(|l| l.local_addr().ok());
        let (rtmp, http) = (addr(&config.rtmp), addr(&config.http));
        if let Some(listener) = config.rtmp {
            tasks.spawn(ingest::rtmp::server::serve(listener, registry.clone(), inputs.rtmp, stop.clone()));
        }
        let rtmps = inputs.rtmps.as_ref().and_then(|(listener, _)| listener.local_addr().ok());
        if inputs.rtmps.is_some() {
            let listeners = Listeners { plain: None, tls: inputs.rtmps };
            tasks.spawn(ingest::rtmp::server::serve(listeners, registry.clone(), inputs.rtmp, stop.clone()));
        }
        let srt = inputs.srt.as_ref().and_then(|(socket, _)| socket.local_addr().ok());
        if let Some((socket, settings)) = inputs.srt {
            let (registry, counters) = (registry.clone(), counters.clone());
            tasks.spawn(ingest::srt::server::serve(socket, registry, settings, counters, stop.clone()));
        }
        let mut pushes = Vec::new();
        if let Some((listeners, settings)) = inputs.http {
            let http = listeners.plain.as_ref().map(|listener| ("http", listener));
            let https = listeners.tls.as_ref().map(|(listener, _)| ("https", listener));
            for (scheme, listener) in http.into_iter().chain(https) {
                pushes.extend(listener.local_addr().map(|addr| format!("{scheme}://{addr}{}/STREAM", settings.prefix)));
            }
            let (registry, counters) = (registry.clone(), counters.clone());
            tasks.spawn(ingest::http::server::serve(listeners, registry, settings, counters, stop.clone()));
        }
        if !inputs.udp.is_empty() {
            tasks.spawn(ingest::udp::server::serve(inputs.udp, registry.clone(), counters, stop.clone()));
        }
        let https = config.https.as_ref().and_then(|(listener, _)| listener.local_addr().ok());
        // Without a listener, too: the server tells the store the time.
        tasks.spawn(edge::serve(Listeners { plain: config.http, tls: config.https }, edge, stop.clone()));
        let node = Node { name: config.name, mesh, registry, rtmp, rtmps, srt, pushes, http, https, stop, tasks };
        for (stream, film) in inputs.loops {
            node.play(stream, film);
        }
        Ok(node)
    }

    /// Where players fetch.
    pub fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Where players fetch by HTTPS.
    pub fn https(&self) -> Option<SocketAddr> {
        self.https
    }

    /// Where encoders push.
    pub fn rtmp(&self) -> Option<SocketAddr> {
        self.rtmp
    }

    /// Where encoders push over TLS.
    pub fn rtmps(&self) -> Option<SocketAddr> {
        self.rtmps
    }

    /// Where other nodes reach this one.
    pub fn mesh(&self) -> SocketAddr {
        self.mesh.local_addr()
    }

    /// Publishes a looped film as `stream`.
    pub fn play(&self, stream: StreamName, film: FileLoop) {
        let (registry, stop) = (self.registry.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            match film.run(&registry, stream.clone(), stop).await {
                Ok(None) => {}
                Ok(Some(eviction)) => tracing::info!(%stream, "the film has stopped: {eviction}"),
                Err(refused) => tracing::error!(%stream, "the film can't be published: {refused}"),
            }
        });
    }

    /// Stops taking pushes, publishes what is left, answers who waits, and leaves the cluster.
    pub async fn shutdown(self) {
        self.registry.drain().await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.mesh.shutdown().await;
    }
}

/// What comes out of the mesh goes into the store.
struct IntoStore {
    store: Arc<Store>,
    registry: Arc<OnceLock<PublishRegistry>>,
    view: Arc<MeshView>,
    me: NodeId,
}

impl Sink for IntoStore {
    fn record(&self, record: Record) {
        if record.epoch.node != self.me
            && let Some(registry) = self.registry.get()
        {
            registry.superseded(&record.stream, record.epoch);
        }
        self.store.record(record);
    }

    fn part(&self, stream: &StreamName, header: PartHeader, body: Bytes, trace: Trace, received: Time) {
        self.view.learn(&trace);
        self.store.part(stream, header, body, trace, received);
    }

    fn announced(&self, entry: Entry) {
        self.store.announced(entry);
    }

    fn expired(&self, stream: &StreamName) {
        self.store.expired(stream);
    }

    fn kept(&self, stream: &StreamName, keepers: Vec<swarm::Keeper>) {
        self.store.kept(stream, keepers);
    }

    fn asked(&self, question: Bytes) -> Asked<'_> {
        Box::pin(self.store.asked(question))
    }
}

/// What is published here goes into the mesh.
struct IntoMesh(Arc<Mesh>);

impl PartSink for IntoMesh {
    fn record(&self, record: Record) {
        self.0.claim(record);
    }

    fn part(&self, stream: &StreamName, header: PartHeader, body: Bytes) {
        self.0.publish(stream, header, body);
    }

    fn resume(&self, stream: &StreamName) -> BoxFuture<'_, Option<Resume>> {
        let stream = stream.clone();
        Box::pin(async move { self.0.resume(&stream).await })
    }

    fn ended(&self, stream: &StreamName) {
        tracing::info!(%stream, "no longer published here");
    }
}

/// The mesh as the API shows it.
#[derive(Default)]
struct MeshView {
    /// Made anew each second.
    snapshot: Mutex<Option<Snapshot>>,
    /// What nodes are called, as the traces of parts tell.
    names: Mutex<BTreeMap<NodeId, NodeName>>,
}

impl MeshView {
    fn snapshot(&self) -> Option<Snapshot> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn learn(&self, trace: &Trace) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        for hop in &trace.hops {
            if names.len() < NAMES_MAX || names.contains_key(&hop.node) {
                names.insert(hop.node, hop.name);
            }
        }
    }
}

impl Host for MeshView {
    fn swarm(&self) -> serde_json::Value {
        let Some(snapshot) = self.snapshot() else { return serde_json::Value::Null };
        // This node, its neighbours, and who is on the way of parts to here.
        let mut nodes = BTreeMap::from([(snapshot.node.clone(), snapshot.name.clone())]);
        let neighbours = snapshot.links.iter().map(|link| (link.peer.clone(), link.name.clone()));
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let met = names.iter().map(|(node, name)| (node.to_string(), name.as_str().to_owned()));
        nodes.extend(met.chain(neighbours));
        drop(names);
        let nodes: Vec<_> =
            nodes.iter().map(|(node, name)| serde_json::json!({ "node": node, "name": name })).collect();
        let mut value = serde_json::to_value(snapshot).unwrap_or_default();
        value["nodes"] = nodes.into();
        value
    }

    fn is_ready(&self) -> bool {
        self.snapshot().is_some()
    }

    fn node_name(&self, node: NodeId) -> Option<String> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(&node).map(|name| name.as_str().to_owned()).filter(|name| !name.is_empty())
    }
}

async fn watch(mesh: Arc<Mesh>, view: Arc<MeshView>, stop: CancellationToken) {
    let mut each = tokio::time::interval(VIEW_INTERVAL);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = each.tick() => {}
        }
        let snapshot = mesh.snapshot().await;
        *view.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }
}

/// The swarms' settings for a topology, and for what may be sent in bytes/s.
fn hub_config(topology: Topology, join: Vec<SocketAddr>, upload: Option<u64>) -> swarm::Config {
    let mut config = match topology {
        Topology::Gossip => swarm::Config::gossip(join),
        Topology::Static => swarm::Config::fixed(join),
    };
    config.broadcast.upload = upload;
    config
}

impl From<Takeover> for ingest::Takeover {
    fn from(takeover: Takeover) -> Self {
        match takeover {
            Takeover::SameAddress => ingest::Takeover::SameAddress,
            Takeover::Any => ingest::Takeover::Any,
        }
    }
}

impl From<Dash> for Timing {
    fn from(dash: Dash) -> Self {
        match dash {
            Dash::Number => Timing::Number,
            Dash::Timeline => Timing::Timeline,
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "damson node {} ({})", self.name, self.mesh.node_id())?;
        write!(f, "  mesh  {}", self.mesh())?;
        if let Some(rtmp) = self.rtmp {
            write!(f, "\n  rtmp  rtmp://{rtmp}/live/STREAM")?;
        }
        if let Some(rtmps) = self.rtmps {
            write!(f, "\n  rtmps rtmps://{rtmps}/live/STREAM")?;
        }
        if let Some(srt) = self.srt {
            write!(f, "\n  srt   srt://{srt}?streamid=STREAM")?;
        }
        for url in &self.pushes {
            write!(f, "\n  push  {url}")?;
        }
        if let Some(http) = self.http {
            write!(f, "\n  http  http://{http}/")?;
        }
        if let Some(https) = self.https {
            write!(f, "\n  https https://{https}/")?;
        }
        Ok(())
    }
}
