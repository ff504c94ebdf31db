//! The header and the trace of a part, which travel in front of its body.
//!
//! The ingest node makes a [`PartHeader`], which is the same at every node. A [`Trace`] belongs to one copy of the part, and
//! grows by one [`Hop`] a link.

use std::time::Duration;

use bytes::{BufMut, BytesMut};

use super::id::{NodeId, NodeName, PartId};
use super::time::UnixTime;
use super::wire::{self, Fault, Reader, WireError};

/// The largest body of a part, in bytes: 1 s at 128 Mb/s.
pub const BODY_LEN_MAX: u32 = 16 << 20;

/// Holds the facts about a part that change how playlists list it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags {
    /// Starts with a keyframe (INDEPENDENT=YES); always set for audio.
    pub independent: bool,
    /// The body is empty. GAP=YES, unless the part is `held`.
    pub gap: bool,
    /// The part is the last of its segment.
    pub last: bool,
    /// The segment was cut without a keyframe, because none came in time.
    pub forced: bool,
    /// Segments of this presentation may begin without a keyframe: its GOPs were irregular, or a cut was forced. Once set, it
    /// stays for the presentation.
    pub irregular: bool,
    /// The segment has media beside this gap: the sample before lasts through it, or there is a moment without any. Playlists
    /// list it as any part, and the segment isn't EXT-X-GAP, so that players play what came.
    pub held: bool,
}

impl Flags {
    fn to_bits(self) -> u8 {
        let flags = [self.independent, self.gap, self.last, self.forced, self.irregular, self.held];
        flags.into_iter().rev().fold(0, |bits, flag| bits << 1 | u8::from(flag))
    }

    fn from_bits(bits: u8) -> Self {
        let flag = |n: u8| bits >> n & 1 != 0;
        Flags { independent: flag(0), gap: flag(1), last: flag(2), forced: flag(3), irregular: flag(4), held: flag(5) }
    }
}

/// Describes a part, as its ingest node made it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartHeader {
    /// The part's id.
    pub id: PartId,
    /// Where the part before ends, in ticks of its track since the presentation's start: the decode time of its first access unit
    /// (`tfdt`), or earlier where access units are missing before that.
    pub decode_time: u64,
    /// The part's length, in ticks of its track.
    pub duration: u32,
    /// Wallclock of its first presented access unit: the segment's EXT-X-PROGRAM-DATE-TIME where the
    /// part is the segment's first.
    pub program_date_time: UnixTime,
    /// The arrival of the last byte of its last access unit, on the ingest node's wallclock.
    pub ingested: UnixTime,
    /// The number of the init segment it needs.
    pub init: u16,
    /// The discontinuities between the presentation's start and the segment, with one before the segment itself
    /// (rfc8216bis 4.4.3.3). It changes only between segments.
    pub discontinuity: u32,
    /// The facts that change how playlists list the part.
    pub flags: Flags,
    /// The body's length in bytes, at most [`BODY_LEN_MAX`].
    pub length: u32,
    /// BLAKE3 of the body.
    pub hash: [u8; 32],
}

impl PartHeader {
    /// A header's length on the wire, in bytes.
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

    /// Returns whether this is the header of `body`.
    pub fn matches(&self, body: &[u8]) -> bool {
        body.len() == self.length as usize && blake3::hash(body).as_bytes() == &self.hash
    }
}

/// Holds the time that a part spent at one node and on the link behind it, in the stages of [`super::latency`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hop {
    /// The node that sent the part.
    pub node: NodeId,
    /// The node's name.
    pub name: NodeName,
    /// From the first byte in (at the ingest node: the part made) until the part is handed to the link, on that node's clock.
    pub dwell: Duration,
    /// From when the part is handed to the link until its first byte is out, on that node's clock.
    pub queue: Duration,
    /// From the first byte out to the first byte in at the next node, in microseconds, as the receiver measured it with the
    /// clocks' offset. Negative if the offset is wrong by more than the trip takes: it is never clamped.
    pub transit_us: i64,
    /// The uncertainty of `transit_us`, either way; `None` if a node of an older version didn't state it.
    pub uncertainty: Option<Duration>,
}

impl Hop {
    /// The longest transit that is believed, in microseconds, either way: 71 minutes, as the wire has it.
    const TRANSIT_MAX: i64 = u32::MAX as i64;

    /// Returns a hop without measurements.
    pub fn by(node: NodeId, name: NodeName) -> Self {
        Hop { node, name, dwell: Duration::ZERO, queue: Duration::ZERO, transit_us: 0, uncertainty: None }
    }
}

/// Holds the hops of one copy of a part, the ingest node first. The part's hash doesn't cover it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Trace {
    /// From the part's last access unit in until the part is made, in microseconds, as the ingest node measured it; `None` if
    /// it didn't say.
    pub packaging_us: Option<i64>,
    /// One hop for each link that the copy has passed.
    pub hops: Vec<Hop>,
}

impl Trace {
    /// Most hops; later ones aren't recorded.
    pub const HOPS_MAX: usize = 32;

    /// Returns whether the trace has begun. A node that measures nothing ends the trace.
    pub fn is_begun(&self) -> bool {
        self.packaging_us.is_some() || !self.hops.is_empty()
    }

    /// An unknown `packaging_us` on the wire.
    const UNKNOWN: i64 = i64::MIN;
    /// A hop's length behind the list of hops, in bytes.
    const MORE_LEN: usize = 4 + 8 + 4;

    /// Appends the trace; durations in microseconds, at most 71 minutes each.
    ///
    /// ```text
    /// count u16 | (node u64 | name | dwell and queue u32 | transit u32, at least 0)* | packaging i64 |
    ///     (queue u32 | transit i64 | uncertainty u32, all ones if unknown)*
    /// ```
    /// Older nodes skip what is behind the list, and send on the list alone.
    pub fn encode(&self, out: &mut BytesMut) {
        let micros = |d: Duration| u32::try_from(d.as_micros()).unwrap_or(u32::MAX);
        wire::put_count(out, self.hops.len());
        for hop in &self.hops {
            out.put_u64(hop.node.0);
            wire::put_text(out, hop.name.as_str());
            out.put_u32(micros(hop.dwell + hop.queue));
            out.put_u32(u32::try_from(hop.transit_us.max(0)).unwrap_or(u32::MAX));
        }
        out.put_i64(self.packaging_us.unwrap_or(Self::UNKNOWN));
        for hop in &self.hops {
            out.put_u32(micros(hop.queue));
            out.put_i64(hop.transit_us);
            out.put_u32(hop.uncertainty.map_or(u32::MAX, micros));
        }
    }

    /// Reads a trace of at most [`Trace::HOPS_MAX`] hops.
    pub fn decode(r: &mut Reader) -> Result<Self, WireError> {
        let micros = |us: u32| Duration::from_micros(u64::from(us));
        let mut hops = r.list(Self::HOPS_MAX, 18, "hops", |r, _| {
            let (node, name) = (NodeId(r.u64("hop node")?), r.text(NodeName::LEN_MAX, "hop name")?);
            let (dwell, transit_us) = (micros(r.u32("hop dwell")?), i64::from(r.u32("hop transit")?));
            Ok(Hop { dwell, transit_us, ..Hop::by(node, NodeName::of(&name)) })
        })?;
        if r.remaining() == 0 {
            return Ok(Trace { packaging_us: None, hops });
        }
        let bounded = |us: i64| us.clamp(-Hop::TRANSIT_MAX, Hop::TRANSIT_MAX);
        let packaging = r.i64("packaging")?;
        if hops.len() * Self::MORE_LEN > r.remaining() {
            return Err(r.fault("hops", Fault::Truncated));
        }
        for hop in &mut hops {
            hop.queue = micros(r.u32("hop queue")?);
            hop.dwell = hop.dwell.saturating_sub(hop.queue);
            hop.transit_us = bounded(r.i64("hop transit")?);
            let uncertainty = r.u32("hop uncertainty")?;
            hop.uncertainty = (uncertainty != u32::MAX).then(|| micros(uncertainty));
        }
        let packaging_us = (packaging != Self::UNKNOWN).then(|| bounded(packaging));
        Ok(Trace { packaging_us, hops })
    }
}

#[cfg(test)]
mod tests {
    use super::super::id::{Epoch, TrackId};
    use super::*;

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
            flags: Flags { independent: true, gap: false, last: true, forced: false, irregular: true, held: false },
            length: BODY_LEN_MAX,
            hash: [7; 32],
        };
        let mut out = BytesMut::new();
        header.encode(&mut out);
        assert_eq!(out.len(), PartHeader::WIRE_LEN);
        assert_eq!(PartHeader::decode(&mut Reader::new(out.freeze())), Ok(header));
    }

    fn hop(transit_us: i64, uncertainty: Option<u64>) -> Hop {
        Hop {
            dwell: Duration::from_micros(30),
            queue: Duration::from_micros(12),
            transit_us,
            uncertainty: uncertainty.map(Duration::from_micros),
            ..Hop::by(NodeId(7), NodeName::of("edge1"))
        }
    }

    #[test]
    fn a_transit_below_zero_survives_the_wire() {
        for packaging_us in [None, Some(-3), Some(33_000)] {
            let trace = Trace { packaging_us, hops: vec![hop(-40, Some(90)), hop(80_123, None)] };
            let mut out = BytesMut::new();
            trace.encode(&mut out);
            assert_eq!(Trace::decode(&mut Reader::new(out.freeze())), Ok(trace));
        }
    }

    /// As a peer from before the trace has it: it reads the list, and sends on the list.
    #[test]
    fn older_peers_read_and_write_the_list_alone() {
        let trace = Trace { packaging_us: Some(5), hops: vec![hop(-40, Some(90)), hop(1_000, Some(1))] };
        let mut out = BytesMut::new();
        trace.encode(&mut out);
        let r = &mut Reader::new(out.freeze());
        let mut list = BytesMut::new();
        wire::put_count(&mut list, r.count(Trace::HOPS_MAX, 18, "hops").expect("a count"));
        let mut seen = Vec::new();
        for _ in 0..2 {
            list.put_u64(r.u64("node").expect("a node"));
            wire::put_text(&mut list, &r.text(NodeName::LEN_MAX, "name").expect("a name"));
            let (dwell, transit) = (r.u32("dwell").expect("a dwell"), r.u32("transit").expect("a transit"));
            list.put_u32(dwell);
            list.put_u32(transit);
            seen.push((dwell, transit));
        }
        assert_eq!(seen, [(42, 0), (42, 1_000)], "the queue counts as dwell, and nothing is below zero");
        let back = Trace::decode(&mut Reader::new(list.freeze())).expect("a list is a trace");
        assert_eq!((back.packaging_us, back.hops[0].uncertainty, back.hops[1].transit_us), (None, None, 1_000));
    }

    #[test]
    fn a_trace_cut_short_is_refused() {
        let trace = Trace { packaging_us: Some(5), hops: vec![hop(1, Some(90))] };
        let mut out = BytesMut::new();
        trace.encode(&mut out);
        let out = out.freeze();
        let list = out.len() - 8 - Trace::MORE_LEN;
        for cut in (0..out.len()).filter(|&cut| cut != list) {
            assert!(Trace::decode(&mut Reader::new(out.slice(..cut))).is_err(), "cut at {cut}");
        }
    }
}
