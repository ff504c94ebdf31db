//! How the bodies of a node share its upload: a chunk each in turn.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::live::{PartHeader, PartId, SwarmId, Trace};

/// What a body may send before it is another's turn, in bytes: a few packets.
pub(super) const CHUNK_LEN: usize = 16 << 10;

/// A body on its way out.
#[derive(Debug, Clone)]
pub(super) struct Transfer {
    pub(super) to: u32,
    pub(super) link: u32,
    pub(super) swarm: SwarmId,
    pub(super) id: PartId,
    /// The head, until the first chunk has left.
    pub(super) head: Option<Box<(PartHeader, Trace)>>,
    pub(super) offset: u32,
    /// What is left to send, as far as the node has handed it out.
    pub(super) pieces: VecDeque<Bytes>,
    /// How much is still to be sent.
    pub(super) left: u32,
    /// It is torn when so much is left.
    pub(super) tear_at: Option<u32>,
    /// In microseconds.
    pub(super) expires: u64,
}

/// The bodies that a node is sending.
#[derive(Debug, Clone, Default)]
pub(super) struct Uplink {
    pub(super) transfers: VecDeque<Transfer>,
    /// A chunk is on its way: until then nothing else is.
    pub(super) busy: bool,
}

impl Uplink {
    /// The transfer of a body to a peer.
    pub(super) fn find(&mut self, to: u32, id: &PartId) -> Option<&mut Transfer> {
        self.transfers.iter_mut().find(|transfer| transfer.to == to && transfer.id == *id)
    }

    /// Takes it out.
    pub(super) fn remove(&mut self, to: u32, id: &PartId) -> Option<Transfer> {
        let at = self.transfers.iter().position(|transfer| transfer.to == to && transfer.id == *id)?;
        self.transfers.remove(at)
    }

    /// The next transfer that has something to send goes to the end of the line, and is returned.
    pub(super) fn turn(&mut self) -> Option<&mut Transfer> {
        let ready =
            |transfer: &Transfer| !transfer.pieces.is_empty() || (transfer.head.is_some() && transfer.left == 0);
        let at = self.transfers.iter().position(ready)?;
        let transfer = self.transfers.remove(at)?;
        self.transfers.push_back(transfer);
        self.transfers.back_mut()
    }
}

impl Transfer {
    /// The next chunk.
    pub(super) fn chunk(&mut self) -> Bytes {
        let Some(first) = self.pieces.front_mut() else { return Bytes::new() };
        let chunk = first.split_to(first.len().min(CHUNK_LEN));
        if first.is_empty() {
            self.pieces.pop_front();
        }
        chunk
    }
}
