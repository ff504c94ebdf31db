//! Error codes on the wire: why a connection is closed, and why a stream ends early.

use quinn::VarInt;

/// No swarm needs the link.
pub(crate) const UNNEEDED: VarInt = VarInt::from_u32(0);
/// The node leaves.
pub(crate) const LEAVING: VarInt = VarInt::from_u32(1);
/// Another connection is the link.
pub(crate) const DUPLICATE: VarInt = VarInt::from_u32(2);
/// The peer sent rubbish.
pub(crate) const PROTOCOL: VarInt = VarInt::from_u32(3);
/// The peer doesn't read its control stream.
pub(crate) const WEDGED: VarInt = VarInt::from_u32(4);
/// The peer isn't who it should be.
pub(crate) const IDENTITY: VarInt = VarInt::from_u32(5);
/// The node has all the links it takes.
pub(crate) const FULL: VarInt = VarInt::from_u32(6);

/// A body's stream is reset: it can't be finished, or is too old.
pub(crate) const BODY_ABORTED: VarInt = VarInt::from_u32(1);
/// A body's stream is stopped: refused.
pub(crate) const BODY_REFUSED: VarInt = VarInt::from_u32(2);
/// A stream of an unknown kind is stopped.
pub(crate) const STREAM_UNKNOWN: VarInt = VarInt::from_u32(3);
