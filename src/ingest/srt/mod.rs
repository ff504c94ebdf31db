//! MPEG-TS over SRT (draft-sharabayko-srt): a listener for callers that publish.
//!
//! - [`streamid`]: what a caller wants, by its stream id (pure).
//! - [`guard`]: datagrams that the protocol's state machine can't take are kept from it (pure).
//! - `server`: the socket, one task a caller; the state machine is the crate `srt-protocol`.

pub mod server;
