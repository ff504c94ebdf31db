//! The HTTP server: accepts connections and drains them.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::context::Edge;
use super::http::connection;
use crate::net::Listeners;
use crate::net::accept::{Connections, Overflow};
use crate::net::drain::Drain;

/// Serves until `shutdown`; then answers held requests with 503, and gives the others
/// [`Limits::drain`](super::limits::Limits::drain).
///
/// It also runs the timers of the store, so a store has one server.
pub async fn serve(listeners: impl Into<Listeners>, edge: Arc<Edge>, shutdown: CancellationToken) {
    let limits = &edge.config().limits;
    let drain = Arc::new(Drain::default());
    let mut connections = Connections::new(listeners, limits.connections, Overflow::Wait);
    let accept = connections.accept(|accepted| {
        let Some(visitor) = edge.admit(accepted.remote.ip()) else {
            tracing::debug!(remote = %accepted.remote, "HTTP: connection refused, since its address has too many");
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
    // First, so that the answers to held requests say that the connection closes.
    drain.close();
    edge.store().close();
    connections.drain(limits.drain).await;
}
