//! The listeners of a server, with TLS and without.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::tls::Tls;

/// The most connections that wait to be accepted: Linux's own limit by default. After an outage all players connect at once.
const BACKLOG: u32 = 4_096;

/// Binds a TCP listener.
///
/// # Errors
/// The port is taken, or the address isn't this machine's.
pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // `TcpListener::bind` does the same.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// A connection that was accepted just now.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) remote: SocketAddr,
    /// The server's side of the TLS handshake; `None` without TLS.
    pub(crate) tls: Option<Arc<Tls>>,
}

/// The listeners of a server: HTTP and HTTPS, or RTMP and RTMPS.
#[derive(Debug, Default)]
pub struct Listeners {
    /// The listener without TLS.
    pub plain: Option<TcpListener>,
    /// The listener with TLS, and its certificate.
    pub tls: Option<(TcpListener, Arc<Tls>)>,
}

impl From<TcpListener> for Listeners {
    fn from(listener: TcpListener) -> Self {
        Listeners { plain: Some(listener), tls: None }
    }
}

impl Listeners {
    /// Tells whether there is no listener.
    pub fn is_empty(&self) -> bool {
        self.plain.is_none() && self.tls.is_none()
    }

    /// Accepts the next connection of either listener; waits for ever if there is none.
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        let (secured, tls) = self.tls.as_ref().map(|(listener, tls)| (listener, Arc::clone(tls))).unzip();
        let ((stream, remote), tls) = tokio::select! {
            accepted = accept(self.plain.as_ref()) => (accepted?, None),
            accepted = accept(secured) => (accepted?, tls),
        };
        Ok(Accepted { stream, remote, tls })
    }

    /// Reloads the certificate when its files change, for ever.
    pub(super) async fn watch(&self) {
        match &self.tls {
            Some((_, tls)) => Arc::clone(tls).watch().await,
            None => std::future::pending().await,
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}
