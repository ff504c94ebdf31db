//! A part and a segment, as this node has them.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::model::time::{Time, UnixTime};
use crate::model::{LatencyBreakdown, Msn, PartHeader, Trace};

/// The hash of a part that this node made up. No body has it, but for an accident of 1 in 2^256.
const NO_HASH: [u8; 32] = [0; 32];

/// Holds a part as this node has it.
#[derive(Debug, Clone)]
pub struct Part {
    /// The part's header. `flags.gap` says that there is nothing to serve.
    pub header: PartHeader,
    /// The part's body; empty for a gap.
    pub body: Bytes,
    /// The part's trace to this node.
    pub trace: Trace,
    /// The arrival of the first byte, on this node's clock.
    pub received: Time,
    /// The time at which the last byte had come and the body was checked and kept.
    pub delivered: Time,
    /// The time at which the playlist listed the part; [`Time::ZERO`] before, and if that is unknown.
    pub listed: Time,
}

impl Part {
    /// Makes a part whose times and trace are unknown: one from an archive, or a made-up one.
    pub fn untraced(header: PartHeader, body: Bytes) -> Self {
        let (received, delivered, listed) = Default::default();
        Part { header, body, trace: Trace::default(), received, delivered, listed }
    }

    /// Makes a gap in the place of a lost part, whatever `header` says about a body.
    pub(super) fn lost(mut header: PartHeader) -> Self {
        header.flags.gap = true;
        (header.length, header.hash) = (0, NO_HASH);
        Part::untraced(header, Bytes::new())
    }

    /// Returns whether the playlist lists a gap: nothing came from the publisher, or the part is lost.
    pub fn is_gap(&self) -> bool {
        self.header.flags.gap
    }

    /// Returns whether the sample before this gap lasts through it, so that nothing is missing.
    pub fn is_held(&self) -> bool {
        self.header.flags.held && !self.is_lost()
    }

    /// Returns whether the part is missing at this node alone. If nothing came from the publisher, no node has a body.
    pub fn is_lost(&self) -> bool {
        self.is_gap() && self.header.hash == NO_HASH
    }

    /// Returns the part's latency, once it is listed; `None` for gaps, for parts from an archive, and for parts that passed a
    /// node that measures nothing.
    pub fn latency(&self) -> Option<LatencyBreakdown> {
        let header = &self.header;
        (self.listed > Time::ZERO && !self.is_gap() && self.trace.is_begun()).then(|| LatencyBreakdown {
            id: header.id,
            length: header.length,
            duration: header.duration,
            ingested: header.ingested,
            trace: self.trace.clone(),
            tail: self.delivered.since(self.received),
            listing: self.listed.since(self.delivered),
            listed: self.listed,
        })
    }
}

/// Holds a segment as this node has it: a complete one, or the one under way.
#[derive(Debug, Clone)]
pub struct Segment {
    /// The segment's media sequence number.
    pub msn: Msn,
    parts: BTreeMap<u16, Part>,
    /// The number of parts, from 0 on, that the playlist lists.
    listed: u16,
    /// All parts are listed.
    complete: bool,
    sums: Sums,
}

/// Holds the sums of a segment's listed parts. A listed part never changes.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    ticks: u64,
    bytes: u64,
    gap: bool,
    loss: bool,
}

impl Sums {
    fn with(self, part: &Part) -> Sums {
        Sums {
            ticks: self.ticks + u64::from(part.header.duration),
            bytes: self.bytes + u64::from(part.header.length),
            gap: self.gap || part.is_gap() && !part.is_held(),
            loss: self.loss || part.is_lost(),
        }
    }
}

impl Segment {
    pub(super) fn empty(msn: Msn) -> Self {
        Segment { msn, parts: BTreeMap::new(), listed: 0, complete: false, sums: Sums::default() }
    }

    /// Makes a complete segment of the parts that an archive has kept; `None` unless they are all parts of one segment.
    pub fn whole(parts: Vec<Part>) -> Option<Self> {
        let id = parts.first()?.header.id;
        let listed = u16::try_from(parts.len()).ok()?;
        let in_order = (0..listed).zip(&parts).all(|(n, part)| {
            let other = part.header.id;
            (other.track, other.msn, other.part) == (id.track, id.msn, n)
        });
        let sums = parts.iter().fold(Sums::default(), Sums::with);
        let parts = (0..listed).zip(parts).collect();
        in_order.then_some(Segment { msn: id.msn, parts, listed, complete: true, sums })
    }

    /// Returns the parts that the playlist lists, in order.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = &Part> + Clone {
        // Listed parts are held without holes: 0..listed are the first `listed` entries.
        self.parts.values().take(usize::from(self.listed))
    }

    /// Returns the first listed part, which tells the segment's start, init segment and discontinuity.
    pub fn first(&self) -> Option<&Part> {
        self.parts.get(&0).filter(|_| self.listed > 0)
    }

    /// Returns whether all parts are listed.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Returns whether some of the segment is missing: EXT-X-GAP.
    pub fn has_gap(&self) -> bool {
        self.sums.gap
    }

    /// Returns whether some of the segment is lost: the segment as a whole is answered 404.
    pub fn has_loss(&self) -> bool {
        self.sums.loss
    }

    /// Returns the segment's length so far, in ticks.
    pub fn duration(&self) -> u64 {
        self.sums.ticks
    }

    /// Returns the segment's length so far, in bytes.
    pub fn length(&self) -> u64 {
        self.sums.bytes
    }

    /// Returns the media time of the segment's start, in ticks.
    pub fn decode_time(&self) -> u64 {
        self.first().map_or(0, |p| p.header.decode_time)
    }

    /// Returns EXT-X-PROGRAM-DATE-TIME.
    pub fn program_date_time(&self) -> UnixTime {
        self.first().map_or_else(UnixTime::default, |p| p.header.program_date_time)
    }

    /// Returns the discontinuity sequence number.
    pub fn discontinuity(&self) -> u32 {
        self.first().map_or(0, |p| p.header.discontinuity)
    }

    /// Returns the number of the init segment.
    pub fn init(&self) -> u16 {
        self.first().map_or(0, |p| p.header.init)
    }

    /// Returns how many parts the playlist lists.
    pub(super) fn listed(&self) -> u16 {
        self.listed
    }

    /// Returns a part that is here, listed or not.
    pub(super) fn part(&self, number: u16) -> Option<&Part> {
        self.parts.get(&number)
    }

    /// Returns all parts that are here, listed or not.
    pub(super) fn held(&self) -> impl Iterator<Item = &Part> {
        self.parts.values()
    }

    /// Returns the first part that is here from `number` on.
    pub(super) fn first_from(&self, number: u16) -> Option<&Part> {
        self.parts.range(number..).next().map(|(_, part)| part)
    }

    /// Returns the last part that is here before `number`.
    pub(super) fn last_before(&self, number: u16) -> Option<&Part> {
        self.parts.range(..number).next_back().map(|(_, part)| part)
    }

    /// Returns the last part that is here, and its number.
    pub(super) fn newest(&self) -> Option<(u16, &Part)> {
        self.parts.last_key_value().map(|(number, part)| (*number, part))
    }

    /// Returns the last part that is here, unless one is missing before it.
    pub(super) fn newest_in_a_row(&self) -> Option<&Part> {
        let (number, part) = self.newest()?;
        (self.parts.len() == usize::from(number) + 1).then_some(part)
    }

    /// Takes a part, unless its place is taken.
    pub(super) fn insert(&mut self, number: u16, part: Part) {
        self.parts.entry(number).or_insert(part);
    }

    /// Lists the next part, if it is here.
    pub(super) fn list(&mut self, now: Time) -> Option<&Part> {
        let part = self.parts.get_mut(&self.listed)?;
        part.listed = now;
        self.sums = self.sums.with(part);
        self.listed += 1;
        self.complete = part.header.flags.last;
        Some(part)
    }

    /// Ends the segment with what is listed of it.
    pub(super) fn end(&mut self) {
        self.complete = true;
    }
}
