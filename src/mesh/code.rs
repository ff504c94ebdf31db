//! The error codes on the wire: why a connection is closed, and why a stream ends early.

use quinn::VarInt;

/// No swarm needs the link.
pub(crate) const UNNEEDED: VarInt = VarInt::from_u32(0);
/// The node leaves.
pub(crate) const LEAVING: VarInt = VarInt::from_u32(1);
/// Another connection is the link.
pub(crate) const DUPLICATE: VarInt = VarInt::from_u32(2);
/// The peer broke the protocol.
pub(crate) const PROTOCOL: VarInt = VarInt::from_u32(3);
/// The peer doesn't read its control stream.
pub(crate) const WEDGED: VarInt = VarInt::from_u32(4);
/// The peer isn't the node that it should be.
pub(crate) const IDENTITY: VarInt = VarInt::from_u32(5);
/// The node has no room for another link.
pub(crate) const FULL: VarInt = VarInt::from_u32(6);

/// The body can't be finished, or has expired: its stream is reset.
pub(crate) const BODY_ABORTED: VarInt = VarInt::from_u32(1);
/// The body is refused: its stream is stopped.
pub(crate) const BODY_REFUSED: VarInt = VarInt::from_u32(2);
/// The stream is of an unknown kind: it is stopped.
pub(crate) const STREAM_UNKNOWN: VarInt = VarInt::from_u32(3);
