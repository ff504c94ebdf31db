//! The mesh: QUIC links between nodes, and the driver of the core.
//!
//! Two nodes share one QUIC connection, the *link*, for all their swarms. It has a bidirectional
//! control stream, which goes first, and a unidirectional stream for each body. So a body can be
//! refused or aborted at once, a lost packet of one body holds up no other, and control frames never
//! wait for a body (see [`frame`](damson_core::link::frame)).
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
//! - **The driver** owns the pure core and never waits for a peer (docs/architecture.md, Invariants). What
//!   a peer doesn't take waits in its link's queues, which are bounded in bytes and age; the bodies that
//!   expire first are dropped first. A link whose peer doesn't read its control stream is closed.
//! - **Backpressure** goes the other way: readers wait for the driver, and QUIC's flow control makes their
//!   peer wait.
//! - **Identity** is a key with a certificate of the cluster's CA; without it, the handshake fails
//!   (see [`identity`]).
//! - **One link a pair**, no matter which node dials, and how often (see [`pairing`](damson_core::link::pairing)).
//! - **Congestion control** is Cubic, which hears of a loss only if the link is full (see `congestion`).
//! - **Clocks**: neighbours exchange timestamps, and keep an offset for each link. So a hop's transit is
//!   measured without a common clock (see [`clock_offset`](damson_core::link::clock_offset)).
//! - **Queries** (see `query`) go from any node to any other, over connections of their own: an old segment that is
//!   fetched never delays a live part.
//!
//! The files, from the socket up: `endpoint` with `tls`, [`identity`] and `congestion`; `connector` dials and accepts, `control`
//! says hello, and `code` and `fault` say why either ends. A `link` has its `link_state`, its control stream, a `body_sender` and
//! a `body_receiver`; `links` holds them all. Each task sends its `event`s to the `driver`, which joins them with the core and
//! the `sink`. `mesh` is the node's handle, and `snapshot` its view for the API. The pure rules of a link are in
//! [`damson_core::link`]: frames, pairing, back-off, clock offsets, and the format of an answer.

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
