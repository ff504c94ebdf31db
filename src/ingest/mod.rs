//! Encoders' sockets to access units.
//!
//! - [`amf0`], [`flv`]: FLV tag bodies to codec headers and access units (pure).
//! - [`rtmp`]: handshake, chunks, messages and session as a state machine (pure), and its server.
//! - `file`: an .mp4 file looped in real time.
//! - `desk`: who may publish what: the one async `authorize` point, one push a stream name, takeovers.
//!
//! An encoder's way in: its connection parses bytes to [`media::Input`](crate::media::Input)s, claims
//! the stream's name at the desk, and hands the inputs to the stream's publication task, which runs
//! the packager.

pub mod amf0;
#[cfg(feature = "node")]
pub mod desk;
#[cfg(feature = "node")]
pub mod file;
pub mod flv;
pub mod rtmp;
