//! What a node keeps of a stream, and says of it.

use std::time::Duration;

use bytes::{BufMut, BytesMut};

use super::announcement::{Announceable, Announcement, decode_stream};
use crate::model::wire::{Reader, WireError};
use crate::model::{LifeId, Msn, Peer, StreamName, wire};

/// What a node keeps of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Which stream.
    pub stream: StreamName,
    /// Which life of it.
    pub life: LifeId,
    /// The oldest segment that it can give.
    pub from: Msn,
    /// The oldest that it lists.
    pub listed_from: Msn,
    /// How long what it lists may become.
    pub depth: Duration,
}

/// A keeper of a stream, as everybody knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeper {
    /// Who, and where it can be asked.
    pub node: Peer,
    /// What it keeps.
    pub kept: Kept,
    /// Goes up with each refresh, over restarts too: the keeper's wallclock in microseconds.
    pub stamp: u64,
}

/// A keeper on its way.
pub type ArchiveNotice = Announcement<Keeper>;

impl Announceable for Keeper {
    const WIRE_LEN_MIN: usize = 3 + 8 + 4 + 4 + 4 + 8 + Peer::WIRE_LEN_MIN;

    fn encode(&self, out: &mut BytesMut) {
        let Keeper { node, kept, stamp } = self;
        wire::put_text(out, kept.stream.as_str());
        out.put_u64(kept.life.0);
        out.put_u32(kept.from);
        out.put_u32(kept.listed_from);
        out.put_u32(u32::try_from(kept.depth.as_secs()).unwrap_or(u32::MAX));
        out.put_u64(*stamp);
        node.encode(out);
    }

    fn decode(r: &mut Reader) -> Result<Self, WireError> {
        let kept = Kept {
            stream: decode_stream(r)?,
            life: LifeId(r.u64("life")?),
            from: r.u32("kept from")?,
            listed_from: r.u32("listed from")?,
            depth: Duration::from_secs(u64::from(r.u32("depth")?)),
        };
        Ok(Keeper { kept, stamp: r.u64("stamp")?, node: Peer::decode(r)? })
    }
}
