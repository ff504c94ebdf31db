//! What the node's servers and clients have in common: sockets, TLS, and how connections begin and end.
//!
//! - [`tls`]: the certificates of HTTPS and RTMPS.
//! - [`listener`]: where a server listens, with TLS and without.
//! - `accept`: a server's connections, within a limit, and a task for each.
//! - `preface`: HTTP/2 or HTTP/1.1, by a connection's first bytes.
//! - `drain`: how connections end when the node goes down.
//! - [`http_client`]: the requests of a node, and of `damson trace`.

pub(crate) mod accept;
pub(crate) mod drain;
pub mod http_client;
pub mod listener;
pub(crate) mod preface;
pub mod tls;

pub use listener::Listeners;
pub use tls::{Tls, TlsError};
