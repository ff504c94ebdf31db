//! A server's connections: accepted up to a limit, served by a task each, and drained at the end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

pub(crate) use super::listener::Accepted;
use super::listener::Listeners;

/// The pause after the system had no room for a connection.
const PAUSE: Duration = Duration::from_millis(50);

/// The treatment of connections above a server's limit.
#[derive(Clone, Copy)]
pub(crate) enum Overflow {
    /// They wait in the listener's queue.
    Wait,
    /// They are closed at once, and logged with this protocol.
    Refuse(&'static str),
}

/// The connections of a server.
pub(crate) struct Connections {
    listeners: Listeners,
    max: usize,
    overflow: Overflow,
    room: Arc<Semaphore>,
    tasks: JoinSet<()>,
}

impl Connections {
    /// Returns a server's connections, at most `max` at a time.
    pub(crate) fn new(listeners: impl Into<Listeners>, max: usize, overflow: Overflow) -> Self {
        let (room, tasks) = (Arc::new(Semaphore::new(max)), JoinSet::new());
        Connections { listeners: listeners.into(), max, overflow, room, tasks }
    }

    /// Accepts connections for ever, and reloads the certificate. `serve` returns the future that serves a connection, or `None`
    /// to close it at once.
    pub(crate) async fn accept<F>(&mut self, mut serve: impl FnMut(Accepted) -> Option<F>)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Connections { listeners, max, overflow, room, tasks } = self;
        let protocol = if let Overflow::Refuse(protocol) = overflow { protocol } else { "HTTP" };
        let accept = async {
            loop {
                let place = match overflow {
                    Overflow::Wait => Arc::clone(room).acquire_owned().await.ok(),
                    Overflow::Refuse(_) => None,
                };
                let accepted = tokio::select! {
                    accepted = listeners.accept() => accepted,
                    Some(_) = tasks.join_next() => continue,
                };
                let accepted = match accepted {
                    Ok(accepted) => accepted,
                    Err(error) if is_of_one_connection(&error) => continue,
                    Err(error) => {
                        // Mostly, the node is out of file descriptors: other connections have to end first.
                        tracing::warn!(%error, "{protocol}: can't accept connections");
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                };
                let Some(place) = place.or_else(|| Arc::clone(room).try_acquire_owned().ok()) else {
                    tracing::warn!(remote = %accepted.remote, "{protocol}: connection refused, since there are {max} already");
                    continue;
                };
                // The last bytes of an answer don't wait for an acknowledgement. An error means that the client is gone.
                if accepted.stream.set_nodelay(true).is_err() {
                    continue;
                }
                if let Some(served) = serve(accepted) {
                    tasks.spawn(async move {
                        served.await;
                        drop(place);
                    });
                }
            }
        };
        tokio::select! {
            () = accept => {}
            () = listeners.watch() => {}
        }
    }

    /// Closes the listeners.
    pub(crate) fn close(&mut self) {
        self.listeners = Listeners::default();
    }

    /// Waits until all connections have ended, and aborts those that are left after `within`.
    pub(crate) async fn drain(mut self, within: Duration) {
        self.close();
        let tasks = &mut self.tasks;
        if tokio::time::timeout(within, async { while tasks.join_next().await.is_some() {} }).await.is_err() {
            tracing::info!(left = self.tasks.len(), "aborted connections that didn't end in time");
            self.tasks.shutdown().await;
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::Notify;

    use super::*;

    async fn listen() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("bound");
        (listener, addr)
    }

    /// Waits for a byte of the client, and sends it back.
    async fn echo(accepted: Accepted) {
        let Accepted { mut stream, .. } = accepted;
        let byte = stream.read_u8().await.expect("a byte");
        stream.write_u8(byte).await.expect("its client is there");
    }

    async fn says(stream: &mut TcpStream, byte: u8) -> io::Result<u8> {
        stream.write_u8(byte).await?;
        stream.read_u8().await
    }

    #[tokio::test]
    async fn beyond_the_limit_one_waits_or_is_refused() {
        for overflow in [Overflow::Wait, Overflow::Refuse("TEST")] {
            let (listener, addr) = listen().await;
            let mut connections = Connections::new(listener, 1, overflow);
            let check = async {
                let mut first = TcpStream::connect(addr).await.expect("accepted");
                let mut second = TcpStream::connect(addr).await.expect("queued by the system");
                if let Overflow::Refuse(_) = overflow {
                    assert!(says(&mut second, 2).await.is_err(), "closed at once");
                    assert_eq!(says(&mut first, 1).await.ok(), Some(1));
                } else {
                    assert_eq!(says(&mut first, 1).await.ok(), Some(1));
                    assert_eq!(says(&mut second, 2).await.ok(), Some(2), "once the first has gone");
                }
            };
            tokio::select! {
                () = connections.accept(|accepted| Some(echo(accepted))) => {}
                () = check => {}
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_is_broken_off() {
        let (listener, addr) = listen().await;
        let mut connections = Connections::new(listener, 1, Overflow::Wait);
        let began = Notify::new();
        let accept = connections.accept(|accepted| {
            began.notify_one();
            Some(echo(accepted))
        });
        let connect = async {
            let client = TcpStream::connect(addr).await.expect("accepted");
            began.notified().await;
            client
        };
        let mut client = tokio::select! {
            () = accept => unreachable!("it accepts for ever"),
            client = connect => client,
        };
        connections.drain(Duration::from_secs(1)).await;
        assert!(client.read_u8().await.is_err(), "closed");
        assert!(TcpStream::connect(addr).await.is_err(), "nobody listens");
    }
}
