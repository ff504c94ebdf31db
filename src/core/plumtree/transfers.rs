//! A body that is coming in: its pieces, where they come from, and to whom they go on.

use bytes::{Bytes, BytesMut};

use super::io::PIECE_LEN_MAX;
use super::neighbours::{PeerSet, Slot};
use crate::model::time::Time;
use crate::model::{PartHeader, Trace};

/// Most bodies coming in at a time.
pub const ASSEMBLIES_MAX: usize = 256;

/// Most bytes of bodies coming in, by their headers' lengths; a single body may have more.
pub const ASSEMBLY_BYTES_MAX: u64 = 64 << 20;

/// Pieces beyond this many more than needed are joined: a peer that sends single bytes gains nothing.
const PIECES_SLACK: usize = 64;

/// A transfer to this node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    pub(super) slot: Slot,
    /// Where its next byte belongs.
    pub(super) at: u32,
    /// When its last byte came.
    pub(super) moved: Time,
}

/// A body that is coming in.
#[derive(Debug, Clone)]
pub(super) struct Assembly {
    pub(super) header: PartHeader,
    pub(super) trace: Trace,
    pub(super) received: Time,
    /// Who sends it; `None` after it was torn.
    pub(super) source: Option<Source>,
    pub(super) pieces: Vec<Bytes>,
    pub(super) got: u32,
    /// To whom it goes on, piece by piece.
    pub(super) to: PeerSet,
    /// Who gets it once it is whole: where cut-through is off.
    pub(super) then: PeerSet,
    /// Neighbours that said they have it.
    pub(super) holders: PeerSet,
    /// Neighbours that know that it is coming in here.
    pub(super) told: PeerSet,
}

/// What a piece meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// These bytes are new, and more are to come.
    More(Bytes),
    /// These bytes are new, and the last.
    Last(Bytes),
    /// They were here already.
    Known,
    /// More than the header promised, or more than a piece may have.
    Absurd,
}

impl Assembly {
    pub(super) fn new(header: PartHeader, trace: Trace, slot: Slot, now: Time) -> Self {
        Assembly {
            header,
            trace,
            received: now,
            source: Some(Source { slot, at: 0, moved: now }),
            pieces: Vec::new(),
            got: 0,
            to: PeerSet::default(),
            then: PeerSet::default(),
            holders: PeerSet::default(),
            told: PeerSet::default(),
        }
    }

    /// Takes the next bytes of its source; the caller has checked that they are.
    pub(super) fn add(&mut self, now: Time, bytes: Bytes) -> Added {
        let Some(source) = &mut self.source else { return Added::Known };
        let length = match u32::try_from(bytes.len()) {
            Ok(length) if bytes.len() <= PIECE_LEN_MAX && length <= self.header.length - source.at => length,
            _ => return Added::Absurd,
        };
        let known = (self.got - source.at).min(length);
        source.at += length;
        source.moved = now;
        if known == length {
            return Added::Known;
        }
        let new = bytes.slice(known as usize..);
        self.got += length - known;
        self.pieces.push(new.clone());
        self.thin();
        if self.got == self.header.length { Added::Last(new) } else { Added::More(new) }
    }

    /// Joins the last pieces while there are too many, the smaller ones first, so that a byte is copied
    /// a few times at most.
    fn thin(&mut self) {
        while self.pieces.len() > 2 * (self.got as usize / PIECE_LEN_MAX) + PIECES_SLACK {
            let [.., a, b] = self.pieces.as_slice() else { return };
            if a.len() > 2 * b.len() || a.len() + b.len() > PIECE_LEN_MAX {
                return;
            }
            let mut joined = BytesMut::with_capacity(a.len() + b.len());
            joined.extend_from_slice(a);
            joined.extend_from_slice(b);
            self.pieces.truncate(self.pieces.len() - 2);
            self.pieces.push(joined.freeze());
        }
    }

    /// What has come in, in one piece.
    pub(super) fn join(&self) -> Bytes {
        match self.pieces.as_slice() {
            [one] => one.clone(),
            pieces => {
                let mut whole = BytesMut::with_capacity(self.got as usize);
                for piece in pieces {
                    whole.extend_from_slice(piece);
                }
                whole.freeze()
            }
        }
    }
}
