//! Encoders' sockets to access units.
//!
//! - [`amf0`], [`flv`]: FLV tag bodies to codec headers and access units (pure).
//! - [`rtmp`]: handshake, chunks, messages and session as a state machine (pure), and its server.
//! - [`udp`]: MPEG-TS in datagrams, unicast and multicast, plain or in RTP.
//! - [`srt`]: MPEG-TS over SRT.
//! - `ts`: what these two have in common.
//! - [`http`]: whole streams, CMAF tracks and segments by PUT and POST.
//! - `file`: an .mp4 file looped in real time.
//! - `keys`: publish keys. `hook`: somebody else is asked.
//! - `desk`: who may publish what: the one async `authorize` point, one push a stream name, takeovers.
//!
//! An encoder's way in: its connection parses bytes to [`media::Input`](damson_core::packager::Input)s, claims
//! the stream's name at the desk, and hands the inputs to the stream's publication task, which runs
//! the packager.

pub mod desk;
pub mod file;
pub mod hook;
pub mod http;
pub mod keys;
pub mod rtmp;
pub mod srt;
mod ts;
pub mod udp;
