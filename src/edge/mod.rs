//! HTTP: playlists, MPD, parts and segments, from what the node holds.
//!
//! ```text
//!  mesh --record, part, announced--> streams: window, rendered documents, waiters (one lock a stream)
//!                                      |  a publication wakes the waiters that it satisfies
//!  player --GET--> server --> route --> respond --> hls | dash | body | api
//! ```
//!
//! - [`route`], [`hls`], [`dash`] and [`waiters`] are pure: a path to a typed request, a window to a
//!   document, a publication to the waiters that it wakes.
//! - [`streams`] holds what the node has, and [`dvr`] what has left the windows, for seeking back.
//! - `respond` answers for one request, and waits where DESIGN's edge rules let it; `reply` heeds the request's conditions
//!   and range. A `body` is `chunks`, chained without a copy, or `follow`s a segment under way. `sendfile` has the kernel
//!   send whole segments without a copy; `documents` and `headers` keep what is rendered.
//! - `server` accepts connections within [`limits`] and hands them the `context`; `connection` serves one, over perhaps
//!   TLS, by a protocol of `http`.
//! - [`api`] tells what is known, of the way of each part above all; `request_times` measures what requests take.
//!
//! A document is rendered once a publication (invariant 8), and depends on the record and on what is
//! listed alone, so that two edges that stand at the same part give the same bytes (invariant 1).

pub mod api;
mod body;
mod byte_cache;
mod chunks;
mod connection;
mod context;
mod documents;
mod ebb;
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
