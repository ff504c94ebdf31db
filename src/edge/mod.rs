//! HTTP to players: playlists, MPD, parts and segments, from what the node holds.
//!
//! ```text
//!  mesh --record, part, announced--> streams: window, rendered documents, held requests (one lock a stream)
//!                                      |  a publication wakes the requests that it satisfies
//!  player --GET--> server --> http --> respond --> documents | body | api
//! ```
//!
//! - [`server`] accepts connections within [`limits`] and hands them the `context`; `http` has the protocols that they speak.
//! - `respond` answers for one request, and waits where DESIGN's edge rules let it; `reply` heeds the request's conditions
//!   and range, and `headers` are kept rendered. A path becomes a route, and a window a document, in
//!   [`damson_core::manifest`].
//! - A `body` is `chunks`, chained without a copy, or `follow`s a segment under way. `sendfile` has the kernel send whole
//!   segments without a copy.
//! - [`streams`] holds what the node has, `byte_cache` bounds what of it has left the windows, and [`dvr`](crate::dvr) keeps
//!   it for seeking back.
//! - [`api`] tells what is known, of the way of each part above all; `request_times` measures what requests take.
//!
//! The edge knows nothing of the mesh: it is fed, and a [`Host`] tells what its API shows of other nodes.
//!
//! A document is rendered once a publication (invariant 8), and depends on the record and on what is
//! listed alone, so that two edges that stand at the same part give the same bytes (invariant 1).

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
