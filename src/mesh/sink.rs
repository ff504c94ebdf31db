//! The trait that takes the output of the mesh.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use damson_core::link::query::QueryAnswer;
use damson_core::model::time::Time;
use damson_core::model::{PartHeader, Record, StreamName, Trace};
use damson_core::swarm::{Entry, Keeper};

/// The future of an answer.
pub type AnswerFuture<'a> = Pin<Box<dyn Future<Output = QueryAnswer> + Send + 'a>>;

/// Takes the output of the mesh. The driver's task calls it, so that each call must be quick, and must not
/// wait.
pub trait Sink: Send + Sync + 'static {
    /// Takes a new or newer record of a stream.
    fn record(&self, record: Record);
    /// Takes a part, whole and checked, with its trace up to this node. Its first byte came at `received`.
    fn part(&self, stream: &StreamName, header: PartHeader, body: Bytes, trace: Trace, received: Time);
    /// Takes a stream that is new in the directory, or that has a new life or epoch.
    fn announced(&self, entry: Entry);
    /// Takes note that a stream has left the directory.
    fn expired(&self, stream: &StreamName);
    /// Takes the other nodes that archive a stream.
    fn kept(&self, _stream: &StreamName, _archives: Vec<Keeper>) {}
    /// Answers another node's query. It may wait. The answer is a list of chunks, so that bodies aren't copied.
    fn answer(&self, _query: Bytes) -> AnswerFuture<'_> {
        Box::pin(async { QueryAnswer::NotHere })
    }
}
