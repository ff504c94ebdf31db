//! HTTP: playlists, MPD, parts and segments, from what the node holds.
//!
//! ```text
//!  mesh --record, part, announced--> store: window, rendered documents, waiters (one lock a stream)
//!                                      |  a publication wakes the waiters that it satisfies
//!  player --GET--> server --> route --> respond --> hls | dash | bodies | api
//! ```
//!
//! - [`route`], [`hls`], [`dash`] and [`held_requests`] are pure: a path to a typed request, a window to a
//!   document, a publication to the waiters that it wakes. [`facts`] are what both kinds of documents say,
//!   [`hls_history`] keeps the lines of what has left the window.
//! - `store` holds the streams of the node; `respond` answers for one request, and waits where DESIGN's
//!   edge rules let it; `reply` heeds the request's conditions and range; `bodies` chains the parts' `Bytes` without a
//!   copy, and `sealed` has the kernel send whole segments without one; `documents` and `headers` keep what is
//!   rendered.
//! - [`dvr`] keeps what has left the window, for seeking back.
//! - `server` accepts connections within [`limits`]; `connection` serves one, over `outlet` and perhaps TLS, by
//!   HTTP/1.1 (`h1`) or by hyper's HTTP/2, whose `streams` it watches.
//! - [`api`] tells what is known, of the way of each part above all; `feed` tells it live, by WebSocket; `timing` measures
//!   what requests for parts take.
//!
//! A document is rendered once a publication (invariant 8), and depends on the record and on what is
//! listed alone, so that two edges that stand at the same part give the same bytes (invariant 1).

pub mod api;
pub mod bodies;
pub mod byte_cache;
mod connection;
mod documents;
mod ebb;
mod feed;
mod h1;
mod headers;
pub mod limits;
mod outlet;
mod reply;
mod respond;
mod sealed;
pub mod server;
pub mod store;
mod streams;
mod timing;

pub use api::{Control, Host};

pub use limits::Limits;
pub use server::{Config, Edge, EdgeAddress, serve};
pub use store::Store;

#[cfg(test)]
mod tests;
