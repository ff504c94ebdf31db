//! A part and a segment, as this node has them.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::model::time::{Time, UnixTime};
use crate::model::{LatencyBreakdown, Msn, PartHeader, Trace};

/// The hash of a part that was made up here: no body has it but by a 1 in 2^256 accident.
const NO_HASH: [u8; 32] = [0; 32];

/// A part as this node has it.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its header. `flags.gap` is set where there is nothing to serve.
    pub header: PartHeader,
    /// Its body; empty for a gap.
    pub body: Bytes,
    /// Its trace to this node.
    pub trace: Trace,
    /// First byte in, on this node's clock.
    pub received: Time,
    /// Last byte in, checked and kept.
    pub delivered: Time,
    /// The playlist lists it; [`Time::ZERO`] until then, and where nobody knows.
    pub listed: Time,
}

impl Part {
    /// A part whose times and trace nobody knows: from an archive, or made up.
    pub fn untraced(header: PartHeader, body: Bytes) -> Self {
        let (received, delivered, listed) = Default::default();
        Part { header, body, trace: Trace::default(), received, delivered, listed }
    }

    /// A gap in the place of a part that is lost, whatever `header` says of a body.
    pub(super) fn lost(mut header: PartHeader) -> Self {
        header.flags.gap = true;
        (header.length, header.hash) = (0, NO_HASH);
        Part::untraced(header, Bytes::new())
    }

    /// Whether it is listed as a gap: nothing came from the publisher, or it is lost.
    pub fn is_gap(&self) -> bool {
        self.header.flags.gap
    }

    /// Whether nothing is missing in its place: the sample before it lasts through it.
    pub fn is_held(&self) -> bool {
        self.header.flags.held && !self.is_lost()
    }

    /// Whether it has a body elsewhere, perhaps, and none here. Where nothing came from the publisher, nobody has one.
    pub fn is_lost(&self) -> bool {
        self.is_gap() && self.header.hash == NO_HASH
    }

    /// Returns where its time went, once it is listed; `None` of a gap, which has come no way, of what an archive kept, and
    /// of what has come through a node that measures nothing.
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

/// A segment as this node has it: a whole one, or the one under way.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Its media sequence number.
    pub msn: Msn,
    parts: BTreeMap<u16, Part>,
    /// How many parts, from 0 on, the playlist lists.
    listed: u16,
    /// All its parts are listed.
    complete: bool,
    sums: Sums,
}

/// The sums of a segment's listed parts. A part that is listed never changes.
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

    /// A whole segment of these parts, as an archive has kept it; `None` unless they are one segment's, from the first
    /// to the last.
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

    /// The parts that the playlist lists, in order.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = &Part> + Clone {
        // Listed parts are held without holes: 0..listed are the first `listed` entries.
        self.parts.values().take(usize::from(self.listed))
    }

    /// The first listed part: it tells the segment's start, init segment and discontinuity.
    pub fn first(&self) -> Option<&Part> {
        self.parts.get(&0).filter(|_| self.listed > 0)
    }

    /// Whether all its parts are listed.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether some of it isn't there: EXT-X-GAP.
    pub fn has_gap(&self) -> bool {
        self.sums.gap
    }

    /// Whether some of it is lost: 404 for the segment as a whole.
    pub fn has_loss(&self) -> bool {
        self.sums.loss
    }

    /// Its length so far, in ticks.
    pub fn duration(&self) -> u64 {
        self.sums.ticks
    }

    /// Its length so far, in bytes.
    pub fn length(&self) -> u64 {
        self.sums.bytes
    }

    /// Media time of its start, in ticks.
    pub fn decode_time(&self) -> u64 {
        self.first().map_or(0, |p| p.header.decode_time)
    }

    /// Its EXT-X-PROGRAM-DATE-TIME.
    pub fn program_date_time(&self) -> UnixTime {
        self.first().map_or_else(UnixTime::default, |p| p.header.program_date_time)
    }

    /// Its discontinuity sequence number.
    pub fn discontinuity(&self) -> u32 {
        self.first().map_or(0, |p| p.header.discontinuity)
    }

    /// The number of its init segment.
    pub fn init(&self) -> u16 {
        self.first().map_or(0, |p| p.header.init)
    }

    /// How many parts the playlist lists.
    pub(super) fn listed(&self) -> u16 {
        self.listed
    }

    /// A part that is here, listed or not.
    pub(super) fn part(&self, number: u16) -> Option<&Part> {
        self.parts.get(&number)
    }

    /// All parts that are here, listed or not.
    pub(super) fn held(&self) -> impl Iterator<Item = &Part> {
        self.parts.values()
    }

    /// The first part that is here from `number` on.
    pub(super) fn first_from(&self, number: u16) -> Option<&Part> {
        self.parts.range(number..).next().map(|(_, part)| part)
    }

    /// The last part that is here before `number`.
    pub(super) fn last_before(&self, number: u16) -> Option<&Part> {
        self.parts.range(..number).next_back().map(|(_, part)| part)
    }

    /// The last part that is here, and its number.
    pub(super) fn newest(&self) -> Option<(u16, &Part)> {
        self.parts.last_key_value().map(|(number, part)| (*number, part))
    }

    /// The last part that is here, where none is missing before it.
    pub(super) fn newest_in_a_row(&self) -> Option<&Part> {
        let (number, part) = self.newest()?;
        (self.parts.len() == usize::from(number) + 1).then_some(part)
    }

    /// Takes a part in; the first that comes in a place stays.
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
