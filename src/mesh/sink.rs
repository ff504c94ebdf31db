//! Where what comes out of the mesh goes.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use damson_core::link::query::QueryAnswer;
use damson_core::model::time::Time;
use damson_core::model::{PartHeader, Record, StreamName, Trace};
use damson_core::swarm::{Entry, Keeper};

/// An answer to come.
pub type AnswerFuture<'a> = Pin<Box<dyn Future<Output = QueryAnswer> + Send + 'a>>;

/// Takes what comes out of the mesh. The driver's task calls it, so each call must be quick, and mustn't
/// wait for anything.
pub trait Sink: Send + Sync + 'static {
    /// The record of a stream is new or newer.
    fn record(&self, record: Record);
    /// A part is here, whole and checked, with its way to this node. `received` is its first byte in.
    fn part(&self, stream: &StreamName, header: PartHeader, body: Bytes, trace: Trace, received: Time);
    /// A stream is new in the directory, or has moved to another life or epoch.
    fn announced(&self, entry: Entry);
    /// A stream is gone from the directory.
    fn expired(&self, stream: &StreamName);
    /// The other nodes that archive a stream have changed.
    fn kept(&self, _stream: &StreamName, _archives: Vec<Keeper>) {}
    /// Another node asks. May wait; the answer is a list of chunks, so that bodies needn't be copied.
    fn answer(&self, _query: Bytes) -> AnswerFuture<'_> {
        Box::pin(async { QueryAnswer::NotHere })
    }
}
