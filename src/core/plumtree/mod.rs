//! Plumtree ("Epidemic Broadcast Trees", SRDS 2007; corrected in TR-07-14), one instance a swarm.
//!
//! - [`Plumtree`]: takes inputs, asks the owners below, and alone sends. It answers GRAFT.
//! - `bodies`: the bodies of the stream. `store` holds whole ones, `transfers` those that come in, `pulls` those that are
//!   missing.
//! - `tree`: the eager links and the parent. `neighbours`: the measurements of the links.
//! - `lazy_queue`: the IHAVEs that wait. `digests`: when to compare the held bodies with the neighbours'.
//! - [`Config`]: the settings with their origin, and the switches back to the paper's rules.
//! - [`Message`]: the control messages and their codec.
//!
//! The contract: after every [`Plumtree::handle`], drain [`Plumtree::poll_output`] until `None`; then
//! wait for the next input or [`Plumtree::poll_timeout`], and pass [`Input::Timeout`] then.

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
mod plumtree;
mod pulls;
mod store;
mod transfers;
mod tree;

#[cfg(test)]
mod tests;

pub use config::{Config, Optimise};
pub use counters::{Counters, Sizes};
pub use io::{BodyAction, BodyEvent, Input, Output, PIECE_LEN_MAX};
pub use lazy_queue::ANNOUNCE_MAX;
pub use message::{
    Announce, DIGEST_HOLES_MAX, DIGEST_TRACKS_MAX, HOPS_UNKNOWN, IHAVE_IDS_MAX, Message, Position, TrackDigest,
};
pub use neighbours::NEIGHBOURS_MAX;
pub use plumtree::Plumtree;
pub use pulls::MISSING_MAX;
pub use store::HELD_MAX;
pub use transfers::{TRANSFER_BYTES_MAX, TRANSFERS_MAX};
