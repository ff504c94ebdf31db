//! The protocols that a player's connection speaks.
//!
//! - [`player_socket`] is the connection itself: it sends whole segments from files, and ends where the player takes nothing.
//! - [`h1`] speaks HTTP/1.1; [`h2_streams`] watches over what hyper's HTTP/2 has under way.

pub(crate) mod connection;
pub(crate) mod h1;
pub(crate) mod h2_streams;
pub(crate) mod player_socket;
