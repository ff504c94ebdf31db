//! The settings of a node, and the sockets that they name.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use damson_core::manifest::dash::Timing;
use damson_core::{packager as media, swarm};
use tokio::net::TcpListener;
use url::Url;

use super::error::NodeError;
use super::inputs::Inputs;
use super::listen::bind;
use crate::config::{ConfigError, Dash, Listen, Settings, Topology, Tracing};
use crate::ingest::Takeover;
use crate::mesh::{Identity, MeshConfig};
use crate::net::Tls;
use crate::{clock, dvr, edge, ingest};

/// The default of `--rtmp`.
const RTMP_DEFAULT: Listen = Listen::On(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1935));
/// The default of `--http`.
const HTTP_DEFAULT: Listen = Listen::On(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080));
/// The default of `--mesh`.
const MESH_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 4900);

/// The settings of a node. Its TCP sockets are bound already.
pub struct NodeConfig {
    /// The settings of the mesh.
    pub mesh: MeshConfig,
    /// The settings of publishing.
    pub ingest: ingest::Settings,
    /// The settings of segments and parts.
    pub media: media::Settings,
    /// The settings of the edge.
    pub edge: edge::Config,
    /// The listener of RTMP.
    pub rtmp: Option<TcpListener>,
    /// All other inputs.
    pub inputs: Inputs,
    /// The listener of HTTP.
    pub http: Option<TcpListener>,
    /// The listener of HTTPS, and its certificate.
    pub https: Option<(TcpListener, Arc<Tls>)>,
    /// The settings of the DVR.
    pub dvr: Option<dvr::Settings>,
    /// The collector to which traces of parts are sent.
    pub otlp: Option<Url>,
}

impl NodeConfig {
    /// Returns the defaults of a node that has no listener yet.
    pub fn new(identity: Identity, name: String) -> Self {
        let node = identity.id();
        NodeConfig {
            mesh: MeshConfig {
                identity,
                bind: MESH_DEFAULT,
                advertise: None,
                hub: swarm::Config::gossip(Vec::new()),
                seed: node.0 ^ clock::wall().as_micros(),
                traced: true,
            },
            ingest: ingest::Settings {
                node,
                takeover: Takeover::default(),
                bit_rate_max: ingest::Settings::BIT_RATE_MAX,
                pushes_max: ingest::Settings::PUSHES_MAX,
            },
            media: media::Settings::default(),
            edge: edge::Config::new(node, name),
            rtmp: None,
            inputs: Inputs::default(),
            http: None,
            https: None,
            dvr: None,
            otlp: None,
        }
    }

    /// Reads the identity and binds the sockets that `settings` name.
    pub async fn from_settings(settings: &Settings) -> Result<Self, NodeError> {
        let Some(dir) = &settings.identity else {
            let why = "the folder that `damson pki issue` made for this node";
            return Err(ConfigError::Missing { name: "identity", why }.into());
        };
        let identity = Identity::load(dir)?;
        let name = settings.name.clone().unwrap_or_else(|| identity.name().to_owned());
        let mut config = NodeConfig::new(identity, name);
        config.rtmp = match settings.rtmp {
            Some(_) => bind("rtmp", settings.rtmp)?,
            // A second node on a machine needs no RTMP, so that a default port that is taken is no error.
            None => bind("rtmp", Some(RTMP_DEFAULT)).unwrap_or_else(|error| {
                tracing::warn!("{error}; this node accepts no RTMP");
                None
            }),
        };
        config.http = bind("http", Some(settings.http.unwrap_or(HTTP_DEFAULT)))?;
        let tls = tls(settings)?.map(Arc::new);
        config.https = bind("https", settings.https)?.zip(tls.clone());
        config.inputs = Inputs::from_settings(settings, tls).await?;

        config.mesh.bind = settings.mesh.unwrap_or(MESH_DEFAULT);
        config.mesh.advertise = settings.advertise;
        config.mesh.hub = match settings.topology.unwrap_or_default() {
            Topology::Gossip => swarm::Config::gossip(settings.join.clone()),
            Topology::Static => swarm::Config::fixed(settings.join.clone()),
        };
        config.mesh.hub.broadcast.upload = settings.upload()?;
        config.mesh.traced = settings.tracing.unwrap_or_default() == Tracing::On;
        config.ingest.takeover = settings.takeover.unwrap_or_default();
        config.ingest.bit_rate_max = settings.bit_rate_max()?;
        config.ingest.pushes_max = settings.pushers()?;
        config.media.segment = settings.segment()?;
        config.media.part = settings.part()?;
        config.media.latency = settings.latency()?;
        config.media.linger = settings.linger()?;
        let limits = &mut config.edge.limits;
        limits.connections = settings.connections.unwrap_or(limits.connections);
        limits.connections_of_address = settings.address_connections.unwrap_or(limits.connections_of_address);
        limits.held_of_address = settings.address_held.unwrap_or(limits.held_of_address);
        config.edge.traced = config.mesh.traced;
        config.edge.timing = match settings.dash.unwrap_or_default() {
            Dash::Number => Timing::Number,
            Dash::Timeline => Timing::Timeline,
        };
        config.dvr = settings.dvr()?;
        config.otlp = settings.otlp.clone();
        Ok(config)
    }
}

/// Reads the certificate that the settings name, if a listener needs one.
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
