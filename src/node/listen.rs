//! TCP listeners that an operator's flag names.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::error::NodeError;
use crate::config::Listen;
use crate::net::listener;

/// Binds a TCP listener. An error names the flag that chooses another address.
pub async fn listen(addr: SocketAddr, flag: &'static str) -> Result<TcpListener, NodeError> {
    listener::bind(addr).map_err(|source| NodeError::Listen { flag, addr, source })
}

/// Binds the TCP listener of a flag, unless the flag is unset or `off`.
pub(super) fn bind(flag: &'static str, listen: Option<Listen>) -> Result<Option<TcpListener>, NodeError> {
    let Some(addr) = listen.and_then(Listen::addr) else { return Ok(None) };
    listener::bind(addr).map(Some).map_err(|source| NodeError::Listen { flag, addr, source })
}
