//! A player's connection, and the protocols that it speaks.
//!
//! - [`connection`] serves one from its first byte to its last, over perhaps TLS, by the protocol that its player speaks.
//! - [`player_socket`] is its socket: it sends whole segments from files, and ends where the player takes nothing.
//! - [`h1`] speaks HTTP/1.1; [`h2_streams`] watches over what hyper's HTTP/2 has under way.

pub(crate) mod connection;
mod deadline;
pub(crate) mod h1;
pub(crate) mod h2_streams;
pub(crate) mod player_socket;
