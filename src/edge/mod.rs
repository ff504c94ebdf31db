//! Serves HTTP to players: playlists, MPDs, parts and segments, from what the node holds.
//!
//! ```text
//!  mesh --record, part, announced--> streams: window, rendered documents, held requests (one lock a stream)
//!                                      |  a publication wakes the requests that it satisfies
//!  player --GET--> server --> http --> respond --> documents | body | api
//! ```
//!
//! - [`server`] accepts connections within [`limits`], and `http` speaks the protocols. `context` holds what requests
//!   are answered from.
//! - `respond` answers one request, and holds it where the rules of docs/architecture.md ("Edge") let it. `reply`
//!   applies the request's conditions and range. `headers` renders header fields once. [`damson_core::manifest`] turns
//!   paths into routes and windows into documents.
//! - A `body` is `chunks`, chained without a copy, or `follow`s a segment under way. `sendfile` has the kernel send
//!   whole segments without a copy.
//! - [`streams`] holds the streams. `byte_cache` bounds the segments that have left their windows, and
//!   [`dvr`](crate::dvr) archives them for seeking back.
//! - [`api`] shows the streams and the latency of each part. `request_times` times requests.
//!
//! The edge doesn't know the mesh: the mesh feeds it, and a [`Host`] gives its API what it shows of other nodes.
//!
//! A document is rendered once a publication (invariant 8). It depends only on the record and on what is listed, so
//! that two edges that list the same part send the same bytes (invariant 1).

pub mod api;
mod body;
mod byte_cache;
mod chunks;
mod context;
mod documents;
mod follow;
mod headers;
mod http;
pub mod limits;
mod reply;
mod request_times;
mod respond;
mod sendfile;
pub mod server;
pub mod streams;

pub use context::{Config, Control, Edge, EdgeAddress, Host, Standalone};
pub use limits::Limits;
pub use server::serve;
pub use streams::Store;

#[cfg(test)]
mod tests;
