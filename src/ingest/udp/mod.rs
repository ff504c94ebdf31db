//! MPEG-TS over UDP, unicast and IP multicast, plain or in RTP.
//!
//! - [`source`]: `cam1=udp://239.1.2.3:5000?interface=10.0.0.1`, read (pure).
//! - [`rtp`]: the header, and what is missing before it (pure).
//! - `server`: the sockets; one task a source.

pub mod server;
pub mod source;
