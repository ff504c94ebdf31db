//! The settings of a node, and the sockets that they name.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use damson_core::manifest::dash::Timing;
use damson_core::{packager as media, swarm};
use tokio::net::TcpListener;
use url::Url;

use super::error::NodeError;
use super::inputs::Inputs;
use super::listen::listen;
use crate::config::{ConfigError, Dash, Listen, Settings, Topology, Tracing};
use crate::edge::{Control, EdgeAddress, Limits};
use crate::ingest::Takeover;
use crate::mesh::Identity;
use crate::net::Tls;
use crate::{dvr, edge};

/// The default of `--rtmp`.
const RTMP_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1935);
/// The default of `--http`.
const HTTP_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080);
/// The default of `--mesh`.
const MESH_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 4900);

/// The settings of a node. Its TCP sockets are bound already.
pub struct NodeConfig {
    /// Its key and certificate.
    pub identity: Identity,
    /// Its name.
    pub name: String,
    /// The mesh endpoint's address (UDP).
    pub mesh: SocketAddr,
    /// The address that others dial, where it isn't `mesh`.
    pub advertise: Option<SocketAddr>,
    /// Nodes to join through, or the neighbours in a static topology.
    pub join: Vec<SocketAddr>,
    /// The way in which neighbours are found.
    pub topology: Topology,
    /// The most that may be sent to other nodes, in bytes/s; `None`: no cap.
    pub upload: Option<u64>,
    /// The listener of RTMP.
    pub rtmp: Option<TcpListener>,
    /// All other inputs.
    pub inputs: Inputs,
    /// The listener of HTTP.
    pub http: Option<TcpListener>,
    /// The listener of HTTPS, and its certificate.
    pub https: Option<(TcpListener, Arc<Tls>)>,
    /// The limits of one player.
    pub limits: Limits,
    /// The settings by which streams are cut.
    pub media: media::Settings,
    /// The rule of who may take a stream over.
    pub takeover: Takeover,
    /// The most that a push may send for long, in bits per second.
    pub bit_rate_max: u64,
    /// The most pushes at a time.
    pub pushes_max: usize,
    /// The way in which the MPD addresses segments.
    pub dash: Dash,
    /// The settings of the DVR.
    pub dvr: Option<dvr::Settings>,
    /// The collector to which traces of parts are sent.
    pub otlp: Option<Url>,
    /// Parts carry the breakdown of their latency through this node, and viewers are told of it.
    pub traced: bool,
    /// The edges that the player page offers, by name and URL; this one alone if empty.
    pub edges: Vec<EdgeAddress>,
    /// Stops and starts the nodes of a demo, for the page.
    pub control: Option<Arc<dyn Control>>,
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

    /// Takes out what the edge is told.
    pub(super) fn edge_config(&mut self) -> edge::Config {
        edge::Config {
            timing: self.dash.into(),
            edges: std::mem::take(&mut self.edges),
            limits: self.limits.clone(),
            traced: self.traced,
            control: self.control.take(),
            ..edge::Config::new(self.identity.id(), self.name.clone())
        }
    }
}

/// Returns the certificate that the settings name, if it is for anything.
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

/// Returns the swarms' settings for a topology, and for what may be sent in bytes/s.
pub(super) fn hub_config(topology: Topology, join: Vec<SocketAddr>, upload: Option<u64>) -> swarm::Config {
    let mut config = match topology {
        Topology::Gossip => swarm::Config::gossip(join),
        Topology::Static => swarm::Config::fixed(join),
    };
    config.broadcast.upload = upload;
    config
}

impl From<Dash> for Timing {
    fn from(dash: Dash) -> Self {
        match dash {
            Dash::Number => Timing::Number,
            Dash::Timeline => Timing::Timeline,
        }
    }
}
