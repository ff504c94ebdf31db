//! How connections end when the node shuts down: requests under way are answered, and no more are taken.

use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use hyper_util::server::graceful::GracefulConnection;
use tokio_util::sync::CancellationToken;

/// The end of a connection. An error if one side has broken it off.
pub(crate) type Ended = Result<(), Box<dyn Error + Send + Sync>>;

/// Tells all connections of a server to close.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    goodbye: CancellationToken,
    is_closing: AtomicBool,
}

impl Drain {
    /// Makes all connections answer what is under way, and take nothing more.
    pub(crate) fn close(&self) {
        self.is_closing.store(true, Ordering::SeqCst);
        self.goodbye.cancel();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::SeqCst)
    }

    /// Waits until connections are to close. Only one task may poll the future: it registers once, behind a lock that all
    /// connections share.
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

/// Serves one of hyper's connections until it ends. After `stop`, the requests under way are answered within `within` (GOAWAY,
/// RFC 9113 6.8; `Connection: close`).
///
/// # Errors
/// The connection fails, `stop` returns an error, or the time is over.
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::pin;

    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn all_are_told() {
        let drain = Drain::default();
        assert!(!drain.is_closing());
        let close = async {
            tokio::task::yield_now().await;
            drain.close();
        };
        tokio::join!(drain.closing(), drain.closing(), close);
        drain.closing().await;
        assert!(drain.is_closing());
    }

    /// Serves one request, which is under way when `stop` comes. Returns what the client reads, and how the connection ends.
    async fn stopped(stop: Ended) -> (String, Ended) {
        let (mut client, server) = tokio::io::duplex(1_024);
        let (asked, go) = (Notify::new(), Notify::new());
        let service = service_fn(|_: Request<Incoming>| async {
            asked.notify_one();
            go.notified().await;
            Ok::<_, Infallible>(Response::new("late".to_owned()))
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(server), service);
        let stop = async {
            asked.notified().await;
            go.notify_one();
            stop
        };
        let served = async {
            let connection = connection;
            serve(pin!(connection), stop, Duration::from_secs(5)).await
        };
        let talk = async {
            client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("there is room");
            let mut read = String::new();
            client.read_to_string(&mut read).await.expect("text");
            read
        };
        let (ended, read) = tokio::join!(served, talk);
        (read, ended)
    }

    #[tokio::test]
    async fn what_is_under_way_is_answered() {
        let (read, ended) = stopped(Ok(())).await;
        assert!(read.contains("connection: close") && read.ends_with("late"), "{read}");
        assert!(ended.is_ok());
        let (read, ended) = stopped(Err("abused".into())).await;
        assert!(read.is_empty() && ended.is_err(), "unless something is wrong: {read}");
    }
}
