//! The HTTP server: accepts connections and drains them.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::context::Edge;
use super::ebb::{CALM, Ebb};
use super::http::connection;
use crate::clock;
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
        () = give_back(&edge) => {}
        () = shutdown.cancelled() => {}
    }
    connections.close();
    // First, so that who waits is told that its connection closes.
    drain.close();
    edge.store().close();
    connections.drain(limits.drain).await;
}

/// Gives memory back when a crowd has gone.
async fn give_back(edge: &Edge) {
    let (mut ebb, mut each) = (Ebb::default(), tokio::time::interval(CALM / 2));
    loop {
        each.tick().await;
        if ebb.look(clock::now(), edge.connections()) {
            let began = clock::now();
            // An error says that the runtime ends.
            let _ = tokio::task::spawn_blocking(damson_heap::give_back).await;
            let took_ms = clock::now().since(began).as_millis();
            tracing::debug!(took_ms, "a crowd has gone, and its memory is given back");
        }
    }
}
