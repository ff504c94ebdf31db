//! Plumtree ("Epidemic Broadcast Trees", SRDS 2007; corrected in TR-07-14), one instance a swarm.
//!
//! Bodies go along the tree's eager links as they come; the other neighbours are told of them, and are asked for one that is missing.
//!
//! - [`Plumtree`]: takes inputs, asks the owners below, and alone sends.
//! - `tree`: which links are eager, and which would be better. `neighbours`: what was measured of them.
//! - `bodies`: all that is known of bodies: the `store` holds them, `transfers` bring them in, `pulls` are missing.
//! - `lazy_queue`: what neighbours are to be told of. `digests`: what is compared with them.
//! - [`Config`]: every figure, and the switches back to the paper's rules. [`Message`]: what nodes say, and its codec.
//!
//! The contract: after every [`Plumtree::handle`], drain [`Plumtree::poll_output`] until `None`; then
//! wait for the next input or [`Plumtree::poll_timeout`], whose passing is told by
//! [`Input::Timeout`].

mod bodies;
mod config;
mod counters;
mod deadline;
mod digests;
mod io;
mod key;
mod lazy_queue;
mod message;
mod neighbours;
#[expect(clippy::module_inception, reason = "a folder's state machine is in the file of the folder's name")]
mod plumtree;
mod pulls;
mod store;
mod transfers;
mod tree;

#[cfg(test)]
mod tests;

pub use config::{Config, Optimise};
pub use counters::{Counters, Sizes};
pub use io::{Input, Output, PIECE_LEN_MAX};
pub use lazy_queue::ANNOUNCE_MAX;
pub use message::{
    Announce, DIGEST_HOLES_MAX, DIGEST_TRACKS_MAX, HOPS_UNKNOWN, IHAVE_IDS_MAX, Message, Position, TrackDigest,
};
pub use neighbours::NEIGHBOURS_MAX;
pub use plumtree::Plumtree;
pub use pulls::MISSING_MAX;
pub use store::HELD_MAX;
pub use transfers::{TRANSFER_BYTES_MAX, TRANSFERS_MAX};
