//! The streams that a node holds, fed by the mesh, asked by requests.
//!
//! ```text
//!  mesh --record, part, announced--> store --> stream: window, rendered documents, requests that wait
//!                                                |  past: its DVR, which has left the window --> archives: memory, disk, other nodes
//!                                                |  latency: where its parts' time went --> summary
//! ```
//!
//! A publication wakes the requests that it satisfies. `timers` knows when each stream is to be told the time, `shared` what
//! the streams have in common.

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
