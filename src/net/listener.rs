//! Where a server listens, with TLS and without.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::tls::Tls;

/// How many connections may wait to be accepted: what Linux allows at most unless it is told otherwise. After an outage
/// all players come at once.
const BACKLOG: u32 = 4_096;

/// Binds a TCP listener.
///
/// # Errors
/// The address can't be had.
pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As `TcpListener::bind` does.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// The listeners of a server: HTTP and HTTPS, or RTMP and RTMPS.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Takes connections without TLS.
    pub plain: Option<TcpListener>,
    /// Takes connections with TLS, and shows them this certificate.
    pub tls: Option<(TcpListener, Arc<Tls>)>,
}

impl From<TcpListener> for Listeners {
    fn from(listener: TcpListener) -> Self {
        Listeners { plain: Some(listener), tls: None }
    }
}

impl Listeners {
    /// Whether there is nothing to accept from.
    pub fn is_empty(&self) -> bool {
        self.plain.is_none() && self.tls.is_none()
    }

    /// Accepts the next connection of either; waits for ever where there is none.
    pub(super) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr, Option<Arc<Tls>>)> {
        let plain = async {
            match &self.plain {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        let secured = async {
            match &self.tls {
                Some((listener, tls)) => listener.accept().await.map(|(stream, from)| (stream, from, Arc::clone(tls))),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = plain => accepted.map(|(stream, from)| (stream, from, None)),
            accepted = secured => accepted.map(|(stream, from, tls)| (stream, from, Some(tls))),
        }
    }

    /// Reads the certificate again when its files change, for ever.
    pub(super) async fn watch(&self) {
        match &self.tls {
            Some((_, tls)) => Arc::clone(tls).watch().await,
            None => std::future::pending().await,
        }
    }
}
