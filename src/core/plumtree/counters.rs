//! The counters and sizes of a [`Plumtree`](super::plumtree::Plumtree).

use super::io::{BodyAction, BodyEvent, Input, Output};
use super::message::Message;

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Bodies published here.
    pub published: u64,
    /// Bodies delivered, published ones included.
    pub delivered: u64,
    /// Bodies begun to a peer, refused ones too: m of the paper's RMR.
    pub heads_sent: u64,
    /// Bodies begun from a peer.
    pub heads_received: u64,
    /// Body bytes handed to links.
    pub bytes_sent: u64,
    /// Body bytes received, refused ones too.
    pub bytes_received: u64,
    /// Bodies refused since this node holds them, or gets them from another neighbour.
    pub duplicates: u64,
    /// Bodies refused since they are below the window, or of an epoch that was taken over.
    pub stale: u64,
    /// Bodies refused since too many are coming in.
    pub overloads: u64,
    /// Bodies of ours that peers refused or links dropped.
    pub stopped: u64,
    /// Bodies that didn't match their header's hash.
    pub hash_mismatches: u64,
    /// Headers whose id is known with another hash.
    pub conflicts: u64,
    /// Transfers to this node that ended before their last byte.
    pub torn: u64,
    /// Transfers that were resumed at their offset.
    pub resumed: u64,
    /// IHAVE messages sent.
    pub ihaves_sent: u64,
    /// Announcements in them.
    pub announces_sent: u64,
    /// GRAFT messages sent.
    pub grafts_sent: u64,
    /// GRAFT messages received.
    pub grafts_received: u64,
    /// PRUNE messages sent.
    pub prunes_sent: u64,
    /// NOT-HERE messages sent.
    pub not_here_sent: u64,
    /// NOT-HERE messages received.
    pub not_here_received: u64,
    /// RECEIVING messages sent.
    pub receivings_sent: u64,
    /// Digests sent.
    pub digests_sent: u64,
    /// Changes of the parent by the optimisation.
    pub optimisations: u64,
    /// Bodies announced that never came: every holder failed, or the window let go of them.
    pub lost: u64,
    /// Messages and bodies of nodes that are no neighbours.
    pub strangers: u64,
    /// Entries not remembered since a set was full.
    pub bounds_hit: u64,
}

impl Counters {
    /// Counts an input.
    pub(super) fn received(&mut self, input: &Input) {
        match input {
            Input::Body { event: BodyEvent::Head { .. }, .. } => self.heads_received += 1,
            Input::Body { event: BodyEvent::Piece { bytes, .. }, .. } => self.bytes_received += bytes.len() as u64,
            Input::Body { event: BodyEvent::Stopped(_), .. } => self.stopped += 1,
            Input::Message { message: Message::Graft { .. }, .. } => self.grafts_received += 1,
            _ => {}
        }
    }

    /// Counts an output.
    pub(super) fn sent(&mut self, output: &Output) {
        match output {
            Output::Body { action, .. } => match action {
                BodyAction::Head { .. } => self.heads_sent += 1,
                BodyAction::Piece { bytes, .. } => self.bytes_sent += bytes.len() as u64,
                BodyAction::Abort(_) | BodyAction::Refuse(_) => {}
            },
            Output::Deliver { .. } => self.delivered += 1,
            Output::Send { message, .. } => match message {
                Message::Ihave(announces) => {
                    self.ihaves_sent += 1;
                    self.announces_sent += announces.len() as u64;
                }
                Message::Graft { .. } => self.grafts_sent += 1,
                Message::Prune => self.prunes_sent += 1,
                Message::NotHere { .. } => self.not_here_sent += 1,
                Message::Receiving(_) => self.receivings_sent += 1,
                Message::Digest(_) => self.digests_sent += 1,
            },
        }
    }

    /// Returns the number of control messages sent.
    pub fn control_sent(&self) -> u64 {
        self.ihaves_sent
            + self.grafts_sent
            + self.prunes_sent
            + self.not_here_sent
            + self.receivings_sent
            + self.digests_sent
    }
}

/// The number of entries that a [`Plumtree`](super::plumtree::Plumtree) remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Bodies held.
    pub held: usize,
    /// Their bytes.
    pub held_bytes: u64,
    /// Bodies coming in.
    pub transfers: usize,
    /// Bodies announced that aren't here.
    pub missing: usize,
    /// Bodies whose announcement waits.
    pub announcements: usize,
}
