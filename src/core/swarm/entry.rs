//! A stream in the directory.

use bytes::{BufMut, BytesMut};

use super::announcement::{Announceable, decode_stream};
use crate::model::wire::{Reader, WireError};
use crate::model::{Epoch, LifeId, NodeId, Peer, StreamName, wire};

/// A stream in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub stream: StreamName,
    /// Which life of it.
    pub life: LifeId,
    /// Its publisher's tenure; the newest wins.
    pub epoch: Epoch,
    /// Goes up with each refresh, every 5 s.
    pub refresh: u32,
    /// The ingest, and where it can be dialled.
    pub ingest: Peer,
}

impl Announceable for Entry {
    const WIRE_LEN_MIN: usize = 3 + 8 + 12 + 4 + Peer::WIRE_LEN_MIN;

    fn encode(&self, out: &mut BytesMut) {
        wire::put_text(out, self.stream.as_str());
        out.put_u64(self.life.0);
        out.put_u32(self.epoch.counter);
        out.put_u64(self.epoch.node.0);
        out.put_u32(self.refresh);
        self.ingest.encode(out);
    }

    fn decode(r: &mut Reader) -> Result<Self, WireError> {
        Ok(Entry {
            stream: decode_stream(r)?,
            life: LifeId(r.u64("life")?),
            epoch: Epoch { counter: r.u32("epoch counter")?, node: NodeId(r.u64("epoch node")?) },
            refresh: r.u32("refresh")?,
            ingest: Peer::decode(r)?,
        })
    }
}
