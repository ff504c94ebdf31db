//! How connections end when the node goes down: what is under way is answered, and nothing more is taken.

use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use hyper_util::server::graceful::GracefulConnection;
use tokio_util::sync::CancellationToken;

/// Why a connection ended otherwise than by both sides' consent.
pub(crate) type Ended = Result<(), Box<dyn Error + Send + Sync>>;

/// Tells all connections of a server to close.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    goodbye: CancellationToken,
    is_closing: AtomicBool,
}

impl Drain {
    /// Has all connections answer what is under way, and take nothing more.
    pub(crate) fn close(&self) {
        self.is_closing.store(true, Ordering::SeqCst);
        self.goodbye.cancel();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::SeqCst)
    }

    /// Returns when connections are to close. To be polled by one task: it takes its place among all others, behind a
    /// lock, the first time alone.
    pub(crate) fn closing(&self) -> impl Future<Output = ()> {
        let mut cancelled = Box::pin(self.goodbye.cancelled());
        let mut is_registered = false;
        poll_fn(move |cx| {
            if self.is_closing() {
                return Poll::Ready(());
            }
            if std::mem::replace(&mut is_registered, true) { Poll::Pending } else { cancelled.as_mut().poll(cx) }
        })
    }
}

/// Serves a connection of hyper's until it ends, or until `stop`; then what is under way is answered within `within`
/// (GOAWAY, RFC 9113 6.8; `Connection: close`).
///
/// # Errors
/// The connection's, that of `stop`, or more time was needed.
pub(crate) async fn serve<C>(mut connection: Pin<&mut C>, stop: impl Future<Output = Ended>, within: Duration) -> Ended
where
    C: GracefulConnection,
    C::Error: Error + Send + Sync + 'static,
{
    tokio::select! {
        biased;
        stopped = stop => stopped?,
        ended = connection.as_mut() => return Ok(ended?),
    }
    connection.as_mut().graceful_shutdown();
    Ok(tokio::time::timeout(within, connection).await??)
}
