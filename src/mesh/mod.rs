//! QUIC links between nodes, and the driver of the cores.
//!
//! Two nodes share one QUIC connection, the *link*, for all their swarms. It has one bidirectional
//! control stream, ahead of everything, and a unidirectional stream for each body; so a body can be
//! refused or cancelled at once, a lost packet of one body holds up no other, and control is never
//! behind a body (see [`frame`](damson_core::link::frame)).
//!
//! ```text
//!  Mesh --claim, publish--> [driver: the Hub] --record, part--> Sink
//!                                 |        ^
//!                      outputs    v        |   events (bounded)
//!                  +-------- link -------- link --------+
//!                  | control writer, control reader     |   a task each
//!                  | body sender..., body reader...     |   a task a body
//!                  +------------- quinn ----------------+
//! ```
//!
//! - **The driver** owns the pure core and never waits for a peer (DESIGN invariant 5): what a peer
//!   doesn't take waits in its own link's queues, which are bounded in bytes and age; the bodies that
//!   are soonest worth nothing are dropped first. A peer that doesn't read its control stream is cut off.
//! - **Backpressure** goes the other way only: readers wait for the driver, and QUIC's flow control
//!   makes their peer wait.
//! - **Identity** is a key whose certificate is of the cluster's CA; anybody else fails the handshake
//!   (see [`identity`]).
//! - **One link a pair**, whoever dials and however often (see [`pairing`](damson_core::link::pairing)).
//! - **Congestion control** is Cubic, told of losses only where a link is full: chance isn't (see `congestion`).
//! - **Clocks**: neighbours exchange timestamps, and keep an offset for each link, so that a hop's
//!   transit is measured without a common clock (see [`clock_offset`](damson_core::link::clock_offset)).
//! - **Queries** (see `query`) go from any node to any other, over connections of their own: what is fetched of the past
//!   never stands before what is live.
//!
//! The files, from the socket up: `endpoint` with `tls`, [`identity`] and `congestion`; `connector` dials and accepts, `control`
//! says hello, and `code` and `fault` say why either ends. A `link` has its `link_state`, its control stream, a `body_sender` and
//! a `body_receiver`; `links` knows them all. Each task tells the `driver` its `event`s; the driver joins them with the core and
//! the `sink`. `mesh` is the node's handle, and `snapshot` what it shows. The rules of a link that are pure lie in
//! [`damson_core::link`]: frames, pairing, back-off, clock offsets, and how an answer is written.

mod body_receiver;
mod body_sender;
mod code;
mod congestion;
mod connector;
mod control;
mod driver;
mod endpoint;
mod event;
mod fault;
pub mod identity;
mod link;
mod link_state;
mod links;
mod mesh;
mod query;
mod sink;
mod snapshot;
#[cfg(test)]
mod tests;
mod tls;

pub use driver::Driver;
pub use fault::MeshError;
pub use identity::{Ca, Identity, IdentityError};
pub use mesh::{Mesh, MeshConfig};
pub use sink::{AnswerFuture, Sink};
pub use snapshot::{LinkView, Snapshot};
