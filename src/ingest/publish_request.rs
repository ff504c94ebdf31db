//! The request of a publisher, the reasons why it is refused or evicted, and the destination of its parts.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use bytes::Bytes;
use damson_core::model::{PartHeader, PushId, Record, Rendition, Resume, StreamName};
use damson_core::packager::{Diagnostic, Refusal};

/// A future that can be kept.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A publisher's request to push a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublishRequest {
    /// The stream.
    pub stream: StreamName,
    /// The rendition that the push adds to the stream; `None` for the stream itself.
    pub rendition: Option<Rendition>,
    /// The query of the URL, which may have `key=KEY`.
    pub query: Option<String>,
    /// The encoder's address; `None` for a source that the settings name.
    pub remote: Option<SocketAddr>,
    /// The protocol: `rtmp`, `rtmps`, `srt`, `udp`, `http` or `file`.
    pub protocol: &'static str,
}

impl PublishRequest {
    /// Returns a request to push `stream` itself, with no query.
    pub(super) fn new(stream: StreamName, remote: Option<SocketAddr>, protocol: &'static str) -> Self {
        PublishRequest { stream, rendition: None, query: None, remote, protocol }
    }

    /// Returns the publish key: the first `key=KEY` of the query.
    pub(super) fn key(&self) -> Option<&str> {
        self.query.as_deref()?.split('&').find_map(|pair| pair.strip_prefix("key="))
    }
}

/// The reason why a push isn't authorised, in words for the encoder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Denied(pub String);

/// The reason why a push is refused. The encoder reads it, so it names no other publisher's address; the log does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The push isn't authorised.
    #[error("not allowed: {0}")]
    Denied(#[from] Denied),
    /// Another address pushes the stream.
    #[error("stream {0} is busy: another address pushes it; stop that push, or set takeover = \"any\"")]
    Busy(StreamName),
    /// The stream has [`PushId::COUNT_MAX`] renditions already.
    #[error("stream {0} has {max} renditions already, which is the limit", max = PushId::COUNT_MAX)]
    Renditions(StreamName),
    /// The node has [`pushes_max`](super::settings::Settings::pushes_max) pushes, or
    /// `active::STREAMS_MAX` streams already.
    #[error("this ingest node is full; use another node, or raise --pushers")]
    Full,
    /// The node is about to stop.
    #[error("this ingest node is shutting down; use another node")]
    Draining,
}

/// The reason why this node ended a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Eviction {
    /// Another connection publishes the stream now.
    #[error("another connection has taken the stream over")]
    TakenOver,
    /// Another ingest node has claimed a higher epoch.
    #[error("the stream is published at another ingest node now")]
    Superseded,
    /// The rendition isn't aligned with those of the other pushes.
    #[error("{0}")]
    Refused(Refusal),
    /// The push has exceeded this bit rate, in bits per second, for too long.
    #[error("the push exceeds {} Mb/s; lower the encoder's bit rate, or raise --bit-rate-max", *.0 as f64 / 1e6)]
    BitRate(u64),
    /// The node is about to stop.
    #[error("this ingest node is shutting down; use another node")]
    Draining,
}

/// The destination of what a node publishes. No method may block.
pub trait PartSink: Send + Sync + 'static {
    /// Takes a new or changed record; it comes before the first part that needs it.
    fn record(&self, record: Record);
    /// Takes a complete part.
    fn part(&self, stream: &StreamName, header: PartHeader, body: Bytes);
    /// Returns what the swarm holds of the stream, asked before each publisher's first frame.
    fn resume(&self, stream: &StreamName) -> BoxFuture<'_, Option<Resume>>;
    /// Counts a diagnostic of the packager, which is logged already.
    fn diagnostic(&self, _stream: &StreamName, _diagnostic: &Diagnostic) {}
    /// Takes note that the stream is no longer published here: it has ended, or another ingest node goes on with it.
    fn ended(&self, stream: &StreamName);
}
