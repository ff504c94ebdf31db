//! TCP listeners that an operator's flag names.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::error::NodeError;
use crate::net::listener;

/// Binds a TCP listener; an error names the flag that chooses another address.
pub async fn listen(addr: SocketAddr, flag: &'static str) -> Result<TcpListener, NodeError> {
    listener::bind(addr).map_err(|source| NodeError::Listen { flag, addr, source })
}
