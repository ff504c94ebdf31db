//! HTTP: playlists, MPD, parts and segments, from what the node holds.
//!
//! ```text
//!  mesh --record, part, announced--> store: window, rendered documents, waiters (one lock a stream)
//!                                      |  a publication wakes the waiters that it satisfies
//!  player --GET--> server --> route --> respond --> hls | dash | bodies | api
//! ```
//!
//! - [`route`], [`hls`], [`dash`] and [`waiters`] are pure: a path to a typed request, a window to a
//!   document, a publication to the waiters that it wakes.
//! - `store` holds the streams of the node; `respond` answers for one request, and waits where DESIGN's
//!   edge rules let it; `reply` heeds the request's conditions and range; `bodies` chains the parts' `Bytes` without a
//!   copy, and `sealed` has the kernel send whole segments without one; `documents` and `headers` keep what is
//!   rendered.
//! - [`dvr`] keeps what has left the window, for seeking back.
//! - `server` accepts connections within [`limits`]; `connection` serves one, over `outlet` and perhaps [`tls`], by
//!   HTTP/1.1 (`h1`) or by hyper's HTTP/2, whose `streams` it watches.
//! - [`api`] tells what is known, of the way of each part above all; `feed` tells it live, by WebSocket; `timing` measures
//!   what requests for parts take.
//!
//! A document is rendered once a publication (invariant 8), and depends on the record and on what is
//! listed alone, so that two edges that stand at the same part give the same bytes (invariant 1).

pub mod dash;
mod dateranges;
pub mod dvr;
pub mod hls;
pub mod route;
#[cfg(any(test, feature = "sim"))]
pub mod synthetic;
pub mod waiters;

#[cfg(feature = "node")]
pub mod api;
#[cfg(feature = "node")]
pub mod bodies;
#[cfg(feature = "node")]
mod connection;
#[cfg(feature = "node")]
mod documents;
#[cfg(feature = "node")]
mod ebb;
#[cfg(feature = "node")]
mod feed;
#[cfg(feature = "node")]
mod h1;
#[cfg(feature = "node")]
mod headers;
#[cfg(feature = "node")]
pub mod limits;
#[cfg(feature = "node")]
mod outlet;
#[cfg(feature = "node")]
mod reply;
#[cfg(feature = "node")]
mod respond;
#[cfg(feature = "node")]
mod sealed;
#[cfg(feature = "node")]
pub mod server;
#[cfg(feature = "node")]
pub mod store;
#[cfg(feature = "node")]
mod streams;
#[cfg(feature = "node")]
mod timing;
#[cfg(feature = "node")]
pub mod tls;

#[cfg(feature = "node")]
pub use api::{Control, Host};
#[cfg(feature = "node")]
pub use limits::Limits;
#[cfg(feature = "node")]
pub use server::{Config, Edge, EdgeAddress, Listeners, serve};
#[cfg(feature = "node")]
pub use store::Store;
#[cfg(feature = "node")]
pub use tls::{Tls, TlsError};

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::live::Record;

/// No request is held longer: hls.js gives a playlist request up after 10 s.
pub const HOLD_MAX: Duration = Duration::from_secs(8);

/// How long a request for a stream that the directory knows, and this edge doesn't hold yet, waits for it.
pub const APPEAR_MAX: Duration = Duration::from_secs(5);

/// How long a blocking reload, or a request for a hinted part, is held: min(3xTD, 8 s) (rfc8216bis 6.2.5.2
/// asks for an answer within 3xTD).
pub fn hold(record: &Record) -> Duration {
    record.hold_back().min(HOLD_MAX)
}

/// Who is at fault that a request isn't answered with what it asks for, and what to tell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {text}")]
pub struct Fault {
    /// HTTP status.
    pub status: u16,
    /// One line; it starts with who is at fault: `request:`, `stream:` or `edge:`.
    pub text: String,
}

impl Fault {
    pub(crate) fn new(status: u16, text: impl Into<String>) -> Self {
        Fault { status, text: text.into() }
    }
}
