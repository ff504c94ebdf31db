//! All swarms of one node: a HyParView and a Plumtree for each, the directory, and the record of each stream. The node's
//! driver and the simulator see only this.
//!
//! ```text
//!             Hub --- directory swarm: HyParView + announcements
//!              |----- cam1: HyParView + Plumtree
//!              `----- cam2: HyParView + Plumtree
//! ```
//!
//! - [`Hub`]: passes inputs to the owners below, and alone sends what they return.
//! - `members`: the swarms that this node is in; `member`: one of them.
//! - `announcement`: what all nodes pass on and hold. `directory`: the streams. `archives`: the nodes that hold what has
//!   left the streams' windows. `claims`: the entries that this node refreshes.
//! - `links`: the links that all swarms share. `contacts`: the addresses to join at.
//! - [`SwarmFrame`]: a frame of a link's control stream: a message of either protocol, or announcements.
//!
//! The contract: after every [`Hub::handle`], drain [`Hub::poll_output`] until `None`; then wait for the next
//! input or [`Hub::poll_timeout`]. Each [`Output::Dial`] is answered by [`Input::LinkUp`] or [`Input::DialFailed`].
//! The hub outputs frames and bodies only for links that are up.

mod announcement;
mod archives;
mod claims;
mod config;
mod contacts;
mod directory;
mod frame;
mod hub;
mod io;
mod links;
mod member;
mod members;

#[cfg(test)]
mod tests;

pub use announcement::{Announceable, Announcement};
pub use archives::{ArchiveNotice, Keeper, Kept};
pub use config::Config;
pub use directory::Entry;
pub use frame::{ANNOUNCEMENTS_MAX, FrameBody, SwarmFrame};
pub use hub::Hub;
pub use io::{Input, Output};
pub use member::SwarmView;
