//! TCP listeners.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

use super::error::NodeError;

/// The most connections that wait to be accepted: as many as Linux allows unless it is told otherwise. After an outage
/// all players come at once.
const BACKLOG: u32 = 4_096;

/// Binds a TCP listener; an error names the flag that chooses another address.
pub async fn listen(addr: SocketAddr, flag: &'static str) -> Result<TcpListener, NodeError> {
    let bind = || {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // As `TcpListener::bind` does.
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|source| NodeError::Listen { flag, addr, source })
}
