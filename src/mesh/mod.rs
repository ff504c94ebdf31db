//! QUIC links between nodes, and the driver of the cores.
//!
//! Two nodes share one QUIC connection, the *link*, for all their swarms. It has one bidirectional
//! control stream, ahead of everything, and a unidirectional stream for each body; so a body can be
//! refused or cancelled at once, a lost packet of one body holds up no other, and control is never
//! behind a body (see [`frame`]).
//!
//! ```text
//!  node --claim, publish--> [driver: the Hub] --record, part--> Sink
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
//! - **One link a pair**, whoever dials and however often (see `pairing`).
//! - **Congestion control** is Cubic, told of losses only where a link is full: chance isn't (see `congestion`).
//! - **Clocks**: neighbours exchange timestamps, and keep an offset for each link, so that a hop's
//!   transit is measured without a common clock (see [`clock_offset`]).
//!
//! - **Questions** (see `query`) go from any node to any other, over connections of their own: what is fetched of the past
//!   never stands before what is live.
//!
//! [`frame`] and [`clock_offset`] are pure, and build without feature `node`.

mod congestion;

mod body;
mod connector;
mod driver;
mod endpoint;
pub mod identity;
mod link;
mod mesh;
mod query;
mod snapshot;
#[cfg(test)]
mod tests;
mod tls;

pub use identity::{Ca, Identity, IdentityError};
pub use mesh::{Mesh, MeshConfig, MeshError, Sink};
pub use query::{Answer, AskFault, Asked};
pub use snapshot::{LinkView, Snapshot, SwarmView};
pub use tls::TlsError;
