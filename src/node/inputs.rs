//! What comes in besides RTMP.

use tokio::net::UdpSocket;

use super::NodeError;
use crate::config::{Listen, Settings};
use crate::ingest::keys::KeyEntry;
use crate::ingest::{self, file::FileLoop};
use crate::live::StreamName;

/// What comes in besides RTMP. Its sockets are bound, its files read.
#[derive(Debug, Default)]
pub struct Inputs {
    /// Where encoders push SRT.
    pub srt: Option<(UdpSocket, ingest::srt::server::Settings)>,
    /// Sockets of MPEG-TS over UDP.
    pub udp: Vec<ingest::udp::server::Receiver>,
    /// Looped files.
    pub loops: Vec<(StreamName, FileLoop)>,
    /// Publish keys.
    pub keys: Vec<KeyEntry>,
}

impl Inputs {
    pub(super) async fn from_settings(settings: &Settings) -> Result<Self, NodeError> {
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
        Ok(Inputs { srt, udp, loops, keys: settings.publish_key.clone() })
    }
}
