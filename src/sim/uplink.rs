//! The bodies that a node is sending. They share its upload: each sends a chunk in turn.

use std::collections::VecDeque;

use bytes::Bytes;
use damson_core::model::{PartHeader, PartId, SwarmId, Trace};

/// The head of a body.
#[derive(Debug, Clone)]
pub(super) struct BodyStart {
    pub(super) header: PartHeader,
    pub(super) trace: Trace,
    pub(super) offset: u32,
}

/// Most bytes of a body in one turn: a few packets.
const CHUNK_LEN: usize = 16 << 10;

/// The same on a slow link: a packet.
const CHUNK_LEN_MIN: usize = 1_500;

/// The longest queue in front of a slow receiver, in microseconds: congestion control lets no sender fill a longer one.
pub(super) const QUEUE_US: u64 = 50_000;

/// A body on its way out.
#[derive(Debug, Clone)]
pub(super) struct Transfer {
    pub(super) to: u32,
    pub(super) link: u32,
    pub(super) swarm: SwarmId,
    pub(super) id: PartId,
    /// The head, until the first chunk has left.
    pub(super) head: Option<Box<BodyStart>>,
    /// The bytes that the node has handed out, and that haven't left.
    pub(super) pieces: VecDeque<Bytes>,
    /// The number of bytes still to be sent.
    pub(super) left: u32,
    /// The number of bytes left at which the body is torn.
    pub(super) tear_at: Option<u32>,
    /// The time after which the head isn't sent any more, in microseconds.
    pub(super) expires: u64,
}

/// The bodies that a node is sending.
#[derive(Debug, Clone, Default)]
pub(super) struct Uplink {
    pub(super) transfers: VecDeque<Transfer>,
    /// A chunk is on its way. Until it is gone nothing else is sent.
    pub(super) busy: bool,
    /// The time at which receivers' queues are looked at again, in microseconds; 0: not needed.
    pub(super) wake: u64,
}

impl Uplink {
    /// Returns the transfer of a body to a peer.
    pub(super) fn find(&mut self, to: u32, id: &PartId) -> Option<&mut Transfer> {
        self.transfers.iter_mut().find(|transfer| transfer.to == to && transfer.id == *id)
    }

    /// Takes the transfer of a body to a peer out.
    pub(super) fn remove(&mut self, to: u32, id: &PartId) -> Option<Transfer> {
        let at = self.transfers.iter().position(|transfer| transfer.to == to && transfer.id == *id)?;
        self.transfers.remove(at)
    }

    /// Moves the transfer at this place to the end of the line, and returns it.
    pub(super) fn turn(&mut self, at: usize) -> Option<&mut Transfer> {
        let transfer = self.transfers.remove(at)?;
        self.transfers.push_back(transfer);
        self.transfers.back_mut()
    }
}

impl Transfer {
    /// Returns whether there is something to send.
    pub(super) fn is_ready(&self) -> bool {
        !self.pieces.is_empty() || (self.head.is_some() && self.left == 0)
    }

    /// Takes the next chunk, for a link that carries `rate` bytes/s.
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
