//! The HTTP server: accepts connections and drains them.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::context::Edge;
use super::http::connection;
use crate::net::Listeners;
use crate::net::accept::{Connections, Overflow};
use crate::net::drain::Drain;

/// Serves until `shutdown`; then answers who is held with 503, and gives the rest [`Limits::drain`](super::limits::Limits::drain).
///
/// It also tells the store the time: one server a store.
pub async fn serve(listeners: impl Into<Listeners>, edge: Arc<Edge>, shutdown: CancellationToken) {
    let limits = &edge.config().limits;
    let drain = Arc::new(Drain::default());
    let mut connections = Connections::new(listeners, limits.connections, Overflow::Wait);
    let accept = connections.accept(|accepted| {
        let Some(visitor) = edge.admit(accepted.remote.ip()) else {
            tracing::debug!(remote = %accepted.remote, "HTTP: refused, its address has too many connections");
            return None;
        };
        Some(connection::run(accepted, visitor, Arc::clone(&edge), Arc::clone(&drain)))
    });
    tokio::select! {
        () = accept => {}
        () = edge.store().drive() => {}
        () = shutdown.cancelled() => {}
    }
    connections.close();
    // First, so that who waits is told that its connection closes.
    drain.close();
    edge.store().close();
    connections.drain(limits.drain).await;
}
