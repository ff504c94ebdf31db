//! SRT ingest (draft-sharabayko-srt): MPEG-TS from callers that publish.
//!
//! [`server`] has the socket, and one task for each caller; the crate `srt-protocol` has the protocol's state machine.
//! [`damson_core::demux::srt`] reads the stream id, and keeps harmful datagrams from that state machine.

pub mod server;
