//! The inputs besides plain RTMP.

use std::sync::Arc;

use damson_core::model::StreamName;
use tokio::net::{TcpListener, UdpSocket};

use super::error::NodeError;
use super::listen::bind;
use crate::config::{Listen, Settings};
use crate::ingest;
use crate::ingest::file_loop::FileLoop;
use crate::ingest::hook::Hook;
use crate::ingest::keys::KeyEntry;
use crate::net::http_client::{HttpClient, Trust};
use crate::net::{Listeners, Tls};

/// The inputs besides plain RTMP. Their sockets are bound, and their files are read.
#[derive(Debug, Default)]
pub struct Inputs {
    /// The limits of RTMP and RTMPS.
    pub rtmp: ingest::rtmp::server::Limits,
    /// The listener of RTMPS, and its certificate.
    pub rtmps: Option<(TcpListener, Arc<Tls>)>,
    /// The socket of SRT.
    pub srt: Option<(UdpSocket, ingest::srt::server::Settings)>,
    /// The sockets of MPEG-TS over UDP.
    pub udp: Vec<ingest::udp::server::Receiver>,
    /// The files to loop, and their streams.
    pub loops: Vec<(StreamName, FileLoop)>,
    /// The listeners of HTTP ingest.
    pub http: Option<(Listeners, ingest::http::server::Settings)>,
    /// The publish keys.
    pub keys: Vec<KeyEntry>,
    /// The server that authorises pushes besides the keys.
    pub hook: Option<Hook>,
}

impl Inputs {
    pub(super) async fn from_settings(settings: &Settings, tls: Option<Arc<Tls>>) -> Result<Self, NodeError> {
        let rtmps = bind("rtmps", settings.rtmps)?.zip(tls.clone());
        let bound = ingest::udp::server::bind(settings.sources()?);
        let udp =
            bound.map_err(|(source, error)| NodeError::Udp { stream: source.stream, addr: source.addr, error })?;
        let srt = match settings.srt.and_then(Listen::addr) {
            Some(addr) => {
                let socket = ingest::srt::server::bind(addr);
                let socket = socket.map_err(|source| NodeError::Listen { flag: "srt", addr, source })?;
                Some((socket, settings.srt()?))
            }
            None => None,
        };
        let mut loops = Vec::new();
        for looped in &settings.looped {
            let film = FileLoop::open(&looped.file).await.map_err(NodeError::Loop)?;
            loops.push((looped.stream.clone(), film));
        }
        let hook = match settings.on_publish()? {
            Some((url, timeout)) => Some(Hook { client: HttpClient::new(Trust::System)?, url, timeout }),
            None => None,
        };
        let bounds = settings.http_ingest()?;
        let plain = bind("http-ingest", settings.http_ingest)?;
        let listeners = Listeners { plain, tls: bind("https-ingest", settings.https_ingest)?.zip(tls) };
        Ok(Inputs {
            rtmp: settings.rtmp_limits()?,
            rtmps,
            srt,
            udp,
            loops,
            http: (!listeners.is_empty()).then_some((listeners, bounds)),
            keys: settings.publish_key.clone(),
            hook,
        })
    }
}
