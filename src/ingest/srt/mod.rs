//! MPEG-TS over SRT (draft-sharabayko-srt): a listener for callers that publish.
//!
//! [`server`] has the socket, and one task a caller; the state machine of the protocol is the crate `srt-protocol`. What a
//! caller wants by its stream id, and which datagrams are kept from that state machine, is in [`damson_core::demux::srt`].

pub mod server;
