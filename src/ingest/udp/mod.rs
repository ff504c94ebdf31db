//! UDP ingest: MPEG-TS, unicast and IP multicast, plain or in RTP.
//!
//! - [`source`] parses the setting `cam1=udp://239.1.2.3:5000?interface=10.0.0.1`.
//! - [`server`] has the sockets, and one task for each source; [`damson_core::demux::rtp`] reads the header, and counts what
//!   is missing before it.

pub mod server;
pub mod source;
