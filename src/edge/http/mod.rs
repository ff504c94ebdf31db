//! A player's connection, and its protocols.
//!
//! - [`connection`] serves one from its first byte to its last, over TLS or not, by the protocol that the player
//!   chooses.
//! - [`player_socket`] is its socket: it sends whole segments from files, and ends when the player takes no data.
//! - [`h1`] speaks HTTP/1.1. [`h2_streams`] watches the streams of hyper's HTTP/2. Both sides use `deadline`s.

pub(crate) mod connection;
mod deadline;
pub(crate) mod h1;
pub(crate) mod h2_streams;
pub(crate) mod player_socket;
