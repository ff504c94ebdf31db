//! The control messages between Plumtree nodes, and their codec.
//!
//! The paper's IHAVE, GRAFT and PRUNE, and three of ours: NOT-HERE (the answer to a GRAFT for a body that isn't here),
//! RECEIVING (don't send this body) and the window digest.

use bytes::{BufMut, BytesMut};

use crate::model::part_header::BODY_LEN_MAX;
use crate::model::time::Time;
use crate::model::wire::{Fault, Reader, WireError};
use crate::model::{Epoch, Msn, NodeId, PartHeader, PartId, Trace, TrackId, wire};

/// The most announcements in one IHAVE: 14 KB, a few packets.
pub const IHAVE_IDS_MAX: usize = 512;

/// The most tracks in a digest: all that a stream may have, and the record.
pub const DIGEST_TRACKS_MAX: usize = TrackId::COUNT_MAX as usize + 1;

/// The most holes of a track in a digest. The last one is widened to cover the rest.
pub const DIGEST_HOLES_MAX: usize = 32;

/// The hop count of a body that the announcing node has yet to receive.
pub const HOPS_UNKNOWN: u8 = u8::MAX;

/// The position of a part in its track: (segment, part).
pub type Position = (Msn, u16);

/// The announcement of a body that the sender has, or is getting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announce {
    /// The id of the body.
    pub id: PartId,
    /// The body's length in bytes, for the graft timer.
    pub length: u32,
    /// The number of links that it passed on its way to the sender (the paper's `round`);
    /// [`HOPS_UNKNOWN`] if the sender still waits for its first byte.
    pub hops: u8,
    /// The time since the sender got its first byte, in microseconds: the delay of this announcement.
    pub age_us: u32,
}

impl Announce {
    /// Makes the announcement of a body that has passed `hops` links, and whose first byte came at `received`.
    pub(super) fn of(now: Time, header: &PartHeader, hops: u8, received: Time) -> Self {
        let age_us = u32::try_from(now.since(received).as_micros()).unwrap_or(u32::MAX);
        Announce { id: header.id, length: header.length, hops, age_us }
    }

    /// Makes an announcement that says nothing about when or over how many links the body came, and so nothing about which
    /// neighbour is the better parent.
    pub(super) fn bare(id: PartId, length: u32) -> Self {
        Announce { id, length, hops: HOPS_UNKNOWN, age_us: 0 }
    }

    const WIRE_LEN: usize = PartId::WIRE_LEN + 4 + 1 + 4;

    fn encode(&self, out: &mut BytesMut) {
        self.id.encode(out);
        out.put_u32(self.length);
        out.put_u8(self.hops);
        out.put_u32(self.age_us);
    }

    fn decode(r: &mut Reader) -> Result<Self, WireError> {
        let id = PartId::decode(r)?;
        let length = r.u32("announced length")?;
        if length > BODY_LEN_MAX {
            return Err(r.fault("announced length", Fault::TooLarge));
        }
        Ok(Announce { id, length, hops: r.u8("announced hops")?, age_us: r.u32("announced age")? })
    }
}

/// Returns how many links a copy has passed, below [`HOPS_UNKNOWN`].
pub(super) fn hops_of(trace: &Trace) -> u8 {
    u8::try_from(trace.hops.len()).unwrap_or(u8::MAX).min(HOPS_UNKNOWN - 1)
}

/// The parts that the sender of a digest has of one track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackDigest {
    /// The track.
    pub track: TrackId,
    /// The newest part that it holds, and the epoch of its number; `None` if it holds none.
    pub newest: Option<(Epoch, Position)>,
    /// The gaps that it wants filled: from the first position to before the second.
    pub holes: Vec<(Position, Position)>,
}

/// A control message between two nodes of a swarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Paper: "IHAVE messages only contain message identifiers". Batched; ours carry length, hops and age.
    Ihave(Vec<Announce>),
    /// Paper: "a GRAFT message triggers the transmission of the missing message payload and adds the
    /// link to the tree".
    Graft {
        /// The missing body; `None` to ask for the link alone, as the paper's optimisation does.
        id: Option<PartId>,
        /// The first byte to send: above 0 where a torn transfer is resumed.
        offset: u32,
        /// Whether the link joins the tree. Departure: a hole in the window is filled without that.
        join: bool,
    },
    /// Paper: the sender of a PRUNE and its receiver make their link lazy.
    Prune,
    /// Departure: the answer to a GRAFT for a body that isn't here, so that the node asks the next holder at once.
    NotHere {
        /// The id of the body.
        id: PartId,
    },
    /// Departure: the sender begins to receive this body from another neighbour. Don't send it; ask for it here, too, as it
    /// comes in.
    Receiving(Announce),
    /// Departure: what the sender holds and lacks. The receiver announces what it can fill in.
    Digest(Vec<TrackDigest>),
}

const IHAVE: u8 = 1;
const GRAFT: u8 = 2;
const PRUNE: u8 = 3;
const NOT_HERE: u8 = 4;
const RECEIVING: u8 = 5;
const DIGEST: u8 = 6;

impl Message {
    /// Appends the message.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Message::Ihave(announces) => {
                out.put_u8(IHAVE);
                wire::put_count(out, announces.len());
                announces.iter().for_each(|announce| announce.encode(out));
            }
            Message::Graft { id, offset, join } => {
                out.put_u8(GRAFT);
                out.put_u8(u8::from(*join) | u8::from(id.is_some()) << 1);
                out.put_u32(*offset);
                if let Some(id) = id {
                    id.encode(out);
                }
            }
            Message::Prune => out.put_u8(PRUNE),
            Message::NotHere { id } => {
                out.put_u8(NOT_HERE);
                id.encode(out);
            }
            Message::Receiving(announce) => {
                out.put_u8(RECEIVING);
                announce.encode(out);
            }
            Message::Digest(tracks) => {
                out.put_u8(DIGEST);
                wire::put_count(out, tracks.len());
                for track in tracks {
                    track.encode(out);
                }
            }
        }
    }

    /// Reads a message, and leaves the rest of the reader.
    ///
    /// # Errors
    /// The bytes aren't a message.
    pub fn decode(r: &mut Reader) -> Result<Self, WireError> {
        Ok(match r.u8("broadcast message type")? {
            IHAVE => {
                let n = r.count(IHAVE_IDS_MAX, Announce::WIRE_LEN, "announcements")?;
                Message::Ihave((0..n).map(|_| Announce::decode(r)).collect::<Result<_, _>>()?)
            }
            GRAFT => {
                let bits = r.u8("graft flags")?;
                let offset = r.u32("graft offset")?;
                let id = if bits & 2 != 0 { Some(PartId::decode(r)?) } else { None };
                Message::Graft { id, offset, join: bits & 1 != 0 }
            }
            PRUNE => Message::Prune,
            NOT_HERE => Message::NotHere { id: PartId::decode(r)? },
            RECEIVING => Message::Receiving(Announce::decode(r)?),
            DIGEST => {
                let n = r.count(DIGEST_TRACKS_MAX, 4, "digest tracks")?;
                Message::Digest((0..n).map(|_| TrackDigest::decode(r)).collect::<Result<_, _>>()?)
            }
            _ => return Err(r.fault("broadcast message type", Fault::Invalid)),
        })
    }
}

impl TrackDigest {
    /// Returns whether its sender wants this part.
    pub fn wants(&self, id: &PartId) -> bool {
        let position = (id.msn, id.part);
        self.newest.is_some_and(|newest| (id.epoch, position) > newest)
            || self.holes.iter().any(|(from, to)| (*from..*to).contains(&position))
    }

    fn encode(&self, out: &mut BytesMut) {
        out.put_u8(self.track.0);
        out.put_u8(u8::from(self.newest.is_some()));
        if let Some((epoch, position)) = self.newest {
            out.put_u32(epoch.counter);
            out.put_u64(epoch.node.0);
            put_position(out, position);
        }
        wire::put_count(out, self.holes.len());
        for (from, to) in &self.holes {
            put_position(out, *from);
            put_position(out, *to);
        }
    }

    fn decode(r: &mut Reader) -> Result<Self, WireError> {
        let track = TrackId(r.u8("digest track")?);
        if track.0 >= TrackId::COUNT_MAX && track != TrackId::RECORD {
            return Err(r.fault("digest track", Fault::Invalid));
        }
        let newest = if r.u8("digest newest")? != 0 {
            let epoch = Epoch { counter: r.u32("digest epoch")?, node: NodeId(r.u64("digest epoch node")?) };
            Some((epoch, position(r)?))
        } else {
            None
        };
        let n = r.count(DIGEST_HOLES_MAX, 12, "digest holes")?;
        let holes = (0..n).map(|_| Ok((position(r)?, position(r)?))).collect::<Result<_, _>>()?;
        Ok(TrackDigest { track, newest, holes })
    }
}

fn put_position(out: &mut BytesMut, (msn, part): Position) {
    out.put_u32(msn);
    out.put_u16(part);
}

fn position(r: &mut Reader) -> Result<Position, WireError> {
    Ok((r.u32("digest msn")?, r.u16("digest part")?))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn id(msn: Msn) -> PartId {
        PartId { epoch: Epoch { counter: 1, node: NodeId(9) }, track: TrackId(2), msn, part: 3 }
    }

    fn check(message: Message) {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        let bytes = out.freeze();
        assert_eq!(Message::decode(&mut Reader::new(bytes.clone())), Ok(message));
        for cut in 0..bytes.len() {
            assert!(Message::decode(&mut Reader::new(bytes.slice(..cut))).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn messages_survive_the_wire() {
        let announce = Announce { id: id(7), length: BODY_LEN_MAX, hops: 3, age_us: 4_000 };
        check(Message::Ihave(vec![announce; IHAVE_IDS_MAX]));
        check(Message::Graft { id: Some(id(1)), offset: 65_536, join: true });
        check(Message::Graft { id: None, offset: 0, join: true });
        check(Message::Prune);
        check(Message::NotHere { id: id(2) });
        check(Message::Receiving(announce));
        check(Message::Digest(vec![
            TrackDigest { track: TrackId(0), newest: Some((id(1).epoch, (5, 6))), holes: vec![((1, 2), (3, 0))] },
            TrackDigest { track: TrackId::RECORD, newest: None, holes: vec![] },
        ]));
    }

    #[test]
    fn absurd_messages_are_refused_where_they_are_wrong() {
        let check = |bytes: &[u8], at: usize, fault: Fault| {
            let error = Message::decode(&mut Reader::new(Bytes::copy_from_slice(bytes))).expect_err("refused");
            assert_eq!((error.at, error.fault), (at, fault), "{error}");
        };
        check(&[99], 1, Fault::Invalid);
        check(&[IHAVE, 0xff, 0xff], 3, Fault::TooLarge);
        check(&[IHAVE, 0x02, 0x00], 3, Fault::Truncated);
        check(&[DIGEST, 0, 1, 200, 0, 0, 0], 4, Fault::Invalid);
    }

    #[test]
    fn a_digest_wants_what_is_newer_and_what_is_in_its_holes() {
        let epoch = id(0).epoch;
        let digest = TrackDigest { track: TrackId(2), newest: Some((epoch, (10, 3))), holes: vec![((4, 1), (5, 0))] };
        let check = |epoch: Epoch, msn: Msn, part: u16, wanted: bool| {
            assert_eq!(digest.wants(&PartId { epoch, track: TrackId(2), msn, part }), wanted, "{msn}.{part}");
        };
        check(epoch, 10, 3, false);
        check(epoch, 10, 4, true);
        check(epoch, 4, 0, false);
        check(epoch, 4, 1, true);
        check(epoch, 5, 0, false);
        check(Epoch { counter: 2, node: NodeId(0) }, 9, 0, true);
        check(Epoch { counter: 0, node: NodeId(0) }, 11, 0, false);
    }
}
