//! What a publisher asks for, why it may be refused, and where what it publishes goes.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use bytes::Bytes;
use damson_core::model::{PartHeader, PushId, Record, Rendition, Resume, StreamName};
use damson_core::packager::{Diagnostic, Refusal};

/// A future that can be kept.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who wants to publish, and as what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublishRequest {
    /// The stream.
    pub stream: StreamName,
    /// What it is a rendition of it as; `None` for the stream as such.
    pub rendition: Option<Rendition>,
    /// The application of the URL: `live`.
    pub app: String,
    /// What stood behind `?`: where keys will be.
    pub query: Option<String>,
    /// The encoder; `None` for a file of our own.
    pub remote: Option<SocketAddr>,
    /// `rtmp`, `file`.
    pub protocol: &'static str,
}

/// Why a publish isn't allowed, as the encoder is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Denied(pub String);

/// Why a publish is refused. Its text is for the encoder: other publishers' addresses are logged, not told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not authorised.
    #[error("not allowed: {0}")]
    Denied(#[from] Denied),
    /// Somebody else publishes it.
    #[error("stream {0} is busy: another address pushes it (takeover = \"any\" would let this one take over)")]
    Busy(StreamName),
    /// [`PushId::COUNT_MAX`] renditions already.
    #[error("stream {0} has its {max} renditions", max = PushId::COUNT_MAX)]
    Renditions(StreamName),
    /// [`pushes_max`](super::settings::Settings::pushes_max) pushes, or [`STREAMS_MAX`](super::active::STREAMS_MAX) streams already.
    #[error("this ingest has all the pushes that it takes (--pushers)")]
    Full,
    /// The node is about to stop.
    #[error("this ingest is shutting down")]
    Draining,
}

/// Why a session was ended from this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eviction {
    /// Another connection publishes the stream now.
    TakenOver,
    /// Another ingest has claimed a higher epoch.
    Superseded,
    /// The rendition doesn't fit those that others push.
    Refused(Refusal),
    /// It has sent more than this for long, in bits per second.
    BitRate(u64),
    /// The node is about to stop.
    Draining,
}

impl fmt::Display for Eviction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Eviction::TakenOver => "another connection has taken the stream over",
            Eviction::Superseded => "the stream is published at another ingest now",
            Eviction::Refused(why) => return why.fmt(f),
            Eviction::BitRate(limit) => {
                let limit = *limit as f64 / 1e6;
                return write!(
                    f,
                    "it sends more than {limit} Mb/s: set the encoder to less, or --bit-rate-max to more"
                );
            }
            Eviction::Draining => "this ingest is shutting down",
        })
    }
}

/// Where the publications' output goes. Nothing here may block.
pub trait PartSink: Send + Sync + 'static {
    /// Takes a new or changed record; always before the first part that needs it.
    fn record(&self, record: Record);
    /// Takes a complete part.
    fn part(&self, stream: &StreamName, header: PartHeader, body: Bytes);
    /// Returns what the swarm holds of the stream, asked before each publisher's first frame.
    fn resume(&self, stream: &StreamName) -> BoxFuture<'_, Option<Resume>>;
    /// Counts what the packager has to say; it is logged here.
    fn diagnostic(&self, _stream: &StreamName, _diagnostic: &Diagnostic) {}
    /// The stream's publication is over: its life has ended, or another ingest goes on with it.
    fn ended(&self, stream: &StreamName);
}
