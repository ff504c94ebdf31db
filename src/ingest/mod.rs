//! Encoders' sockets to access units.
//!
//! - `flv`: FLV tag bodies to codec headers and access units (pure).
//! - `rtmp`: handshake, chunks, messages and session as a state machine (pure), and its server.
//! - `file`: an .mp4 file looped in real time.
//! - `desk`: who may publish what: the one async `authorize` point, one push a stream name, takeovers.
