//! How the bodies of a node share its upload: a chunk each in turn.

use std::collections::VecDeque;

use bytes::Bytes;
use damson_core::model::{PartHeader, PartId, SwarmId, Trace};

/// What a body may send before it is another's turn, in bytes: a few packets.
const CHUNK_LEN: usize = 16 << 10;

/// The same on a slow link: a packet.
const CHUNK_LEN_MIN: usize = 1_500;

/// How much time the bytes under way to a slow receiver may take in front of it: congestion control lets no
/// sender fill a longer queue, in microseconds.
pub(super) const QUEUE_US: u64 = 50_000;

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
    /// When receivers' queues are looked at again, in microseconds; 0: not needed.
    pub(super) wake: u64,
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

    /// The transfer at this place goes to the end of the line, and is returned.
    pub(super) fn turn(&mut self, at: usize) -> Option<&mut Transfer> {
        let transfer = self.transfers.remove(at)?;
        self.transfers.push_back(transfer);
        self.transfers.back_mut()
    }
}

impl Transfer {
    /// Whether it has something to send.
    pub(super) fn is_ready(&self) -> bool {
        !self.pieces.is_empty() || (self.head.is_some() && self.left == 0)
    }

    /// The next chunk, over links that carry `rate` bytes/s.
    pub(super) fn chunk(&mut self, rate: u64) -> Bytes {
        let Some(first) = self.pieces.front_mut() else { return Bytes::new() };
        let most = usize::try_from(rate / 50).unwrap_or(CHUNK_LEN).clamp(CHUNK_LEN_MIN, CHUNK_LEN);
        let chunk = first.split_to(first.len().min(most));
        if first.is_empty() {
            self.pieces.pop_front();
        }
        chunk
    }
}
