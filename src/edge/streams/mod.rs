//! The streams of a node: the mesh feeds them, requests read them.
//!
//! ```text
//!  mesh --record, part, announced--> store --> stream: window, rendered documents, held requests
//!                                                |  dvr: what has left its window --> archives: memory, disk, other
//! nodes
//!                                                |  latency: of its newest parts --> summary
//! ```
//!
//! A publication wakes the requests that it satisfies. `timers` has the deadline of each stream, `shared` what the
//! streams have in common.

pub(crate) mod archives;
mod dvr;
pub(crate) mod latency;
pub(crate) mod shared;
pub mod store;
pub(crate) mod stream;
pub(crate) mod summary;
mod timers;

pub use store::Store;
pub use stream::Stream;
