//! What travels in front of a part's body.
//!
//! A [`PartHeader`] is made at the ingest and is the same at every node. A [`Trace`] belongs to one
//! copy of the part, and grows by one [`Hop`] a link.

use std::time::Duration;

use bytes::{BufMut, BytesMut};

use super::id::{NodeId, NodeName, PartId};
use crate::units::UnixTime;
use crate::wire::{self, Fault, Reader, WireError};

/// The largest body of a part, in bytes: 1 s at 128 Mb/s.
pub const BODY_LEN_MAX: u32 = 16 << 20;

/// Facts about a part that change how it is listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags {
    /// Starts with a keyframe (INDEPENDENT=YES); always set for audio.
    pub independent: bool,
    /// Nothing to serve (GAP=YES): the body is empty.
    pub gap: bool,
    /// The last part of its segment.
    pub last: bool,
    /// The segment was cut without a keyframe, since none came in time.
    pub forced: bool,
    /// Segments of this life may begin without a keyframe: its GOPs were irregular, or one was forced. Once set, it
    /// stays for the life.
    pub irregular: bool,
}

impl Flags {
    fn to_bits(self) -> u8 {
        let flags = [self.independent, self.gap, self.last, self.forced, self.irregular];
        flags.into_iter().rev().fold(0, |bits, flag| bits << 1 | u8::from(flag))
    }

    fn from_bits(bits: u8) -> Self {
        let flag = |n: u8| bits >> n & 1 != 0;
        Flags { independent: flag(0), gap: flag(1), last: flag(2), forced: flag(3), irregular: flag(4) }
    }
}

/// A part, as its ingest described it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartHeader {
    /// Its name.
    pub id: PartId,
    /// Decode time of its first access unit (`tfdt`), in ticks of its track since the life's start.
    pub decode_time: u64,
    /// Its length in ticks of its track.
    pub duration: u32,
    /// Wallclock of its first presented access unit: the segment's EXT-X-PROGRAM-DATE-TIME where the
    /// part is the segment's first.
    pub program_date_time: UnixTime,
    /// When the ingest had the last byte of its last access unit, on the ingest's wallclock.
    pub ingested: UnixTime,
    /// The number of the init segment it needs.
    pub init: u16,
    /// How many discontinuities lie between the life's start and its segment, a discontinuity before
    /// the segment itself included (rfc8216bis 4.4.3.3). It changes only between segments.
    pub discontinuity: u32,
    /// How it is listed.
    pub flags: Flags,
    /// The body's length in bytes, at most [`BODY_LEN_MAX`].
    pub length: u32,
    /// BLAKE3 of the body.
    pub hash: [u8; 32],
}

impl PartHeader {
    /// Its length on the wire, in bytes.
    pub const WIRE_LEN: usize = PartId::WIRE_LEN + 8 + 4 + 8 + 8 + 2 + 4 + 1 + 4 + 32;

    /// Appends the header.
    pub fn encode(&self, out: &mut BytesMut) {
        self.id.encode(out);
        out.put_u64(self.decode_time);
        out.put_u32(self.duration);
        out.put_u64(self.program_date_time.as_micros());
        out.put_u64(self.ingested.as_micros());
        out.put_u16(self.init);
        out.put_u32(self.discontinuity);
        out.put_u8(self.flags.to_bits());
        out.put_u32(self.length);
        out.put_slice(&self.hash);
    }

    /// Reads a header; a body above [`BODY_LEN_MAX`] is refused.
    pub fn decode(r: &mut Reader) -> Result<Self, WireError> {
        let header = PartHeader {
            id: PartId::decode(r)?,
            decode_time: r.u64("decode time")?,
            duration: r.u32("duration")?,
            program_date_time: UnixTime::from_micros(r.u64("program date time")?),
            ingested: UnixTime::from_micros(r.u64("ingested")?),
            init: r.u16("init")?,
            discontinuity: r.u32("discontinuity")?,
            flags: Flags::from_bits(r.u8("flags")?),
            length: r.u32("length")?,
            hash: r.array("hash")?,
        };
        if header.length > BODY_LEN_MAX {
            return Err(r.fault("length", Fault::TooLarge));
        }
        Ok(header)
    }

    /// Whether `body` is the one this header was made for.
    pub fn matches(&self, body: &[u8]) -> bool {
        body.len() == self.length as usize && blake3::hash(body).as_bytes() == &self.hash
    }
}

/// One node's and one link's share of a part's way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hop {
    /// The node that sent it.
    pub node: NodeId,
    /// What it is called.
    pub name: NodeName,
    /// First byte in to first byte out, on that node's clock. At the ingest: from the part's completion.
    pub dwell: Duration,
    /// First byte out to first byte in at the next node, offset-corrected, as the receiver measured it.
    pub transit: Duration,
}

/// The way of one copy of a part, ingest first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Trace {
    /// One entry a link passed.
    pub hops: Vec<Hop>,
}

impl Trace {
    /// A longer way isn't recorded further.
    pub const HOPS_MAX: usize = 32;

    /// Appends the trace; durations in microseconds, at most 71 minutes each.
    pub fn encode(&self, out: &mut BytesMut) {
        wire::put_count(out, self.hops.len());
        for hop in &self.hops {
            out.put_u64(hop.node.0);
            wire::put_text(out, hop.name.as_str());
            out.put_u32(u32::try_from(hop.dwell.as_micros()).unwrap_or(u32::MAX));
            out.put_u32(u32::try_from(hop.transit.as_micros()).unwrap_or(u32::MAX));
        }
    }

    /// Reads a trace of at most [`Trace::HOPS_MAX`] hops.
    pub fn decode(r: &mut Reader) -> Result<Self, WireError> {
        let n = r.count(Self::HOPS_MAX, 18, "hops")?;
        let mut hops = Vec::with_capacity(n);
        for _ in 0..n {
            hops.push(Hop {
                node: NodeId(r.u64("hop node")?),
                name: NodeName::of(&r.text(NodeName::LEN_MAX, "hop name")?),
                dwell: Duration::from_micros(u64::from(r.u32("hop dwell")?)),
                transit: Duration::from_micros(u64::from(r.u32("hop transit")?)),
            });
        }
        Ok(Trace { hops })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::id::{Epoch, TrackId};

    #[test]
    fn headers_survive_the_wire() {
        let header = PartHeader {
            id: PartId { epoch: Epoch { counter: 1, node: NodeId(2) }, track: TrackId(3), msn: 4, part: 5 },
            decode_time: u64::MAX,
            duration: 18_000,
            program_date_time: UnixTime::from_micros(1),
            ingested: UnixTime::from_micros(2),
            init: 1,
            discontinuity: 3,
            flags: Flags { independent: true, gap: false, last: true, forced: false, irregular: true },
            length: BODY_LEN_MAX,
            hash: [7; 32],
        };
        let mut out = BytesMut::new();
        header.encode(&mut out);
        assert_eq!(out.len(), PartHeader::WIRE_LEN);
        assert_eq!(PartHeader::decode(&mut Reader::new(out.freeze())), Ok(header));
    }
}
