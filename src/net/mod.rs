//! What the node's servers and clients share: sockets, TLS, and how connections begin and end.
//!
//! - [`tls`]: the certificates of HTTPS and RTMPS.
//! - [`listener`]: the listeners of a server, with TLS and without.
//! - `accept`: a server's connections, up to a limit, and a task for each.
//! - `preface`: tells HTTP/2 from HTTP/1.1 by a connection's first bytes.
//! - `drain`: how connections end when the node shuts down.
//! - [`http_client`]: the requests that a node and `damson trace` send.

pub(crate) mod accept;
pub(crate) mod drain;
pub mod http_client;
pub mod listener;
pub(crate) mod preface;
pub mod tls;

pub use listener::Listeners;
pub use tls::{Tls, TlsError};
