//! The access units of H.264 and H.265 in byte streams (annex B of both), whatever PES packets they come in.
//!
//! A PES packet mostly holds one access unit. It may hold several as well, or a part of one, such as a slice (ISO 13818-1,
//! 2.14.1). So the borders are found in the NAL units (H.264, 7.4.1.2.3; H.265, 7.4.2.4.4).
//!
//! Only the next access unit shows where one ends, and waiting for it takes the time of a frame. So the end of a PES packet
//! ends the access unit too, once the stream has shown that its PES packets end so: the next one began with an access unit.
//! A PES packet that gives its length may be full, and its access unit go on in the next. It isn't trusted if it is
//! longer than all that have ended with theirs. A stream that once continues an access unit in another PES packet is never
//! trusted again.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::output::End;
use super::pes::{PES_LEN_MAX, Payload, Times};
use crate::codec::hevc;

/// The most NAL units of an access unit: far more than slices in any level of H.264 or H.265.
const NALS_MAX: usize = 16_384;

/// A NAL unit, and its place in the data of its access unit.
#[derive(Clone, Debug)]
pub(super) struct NalUnit {
    pub(super) kind: u8,
    pub(super) class: NalClass,
    pub(super) bytes: Range<usize>,
}

/// The kind of a NAL unit, as this demuxer tells them apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NalClass {
    /// A slice of a picture that is no random access point by its type.
    Slice,
    /// A slice of an IDR picture.
    Idr,
    /// A slice of a BLA or CRA picture.
    Open,
    Sei,
    Delimiter,
    /// Parameter sets.
    Parameters,
    /// Ends of sequence and stream, filler data, prefixes of SVC, SPS extension (whose place is the avcC's tail).
    LeftOut,
    Other,
}

impl NalClass {
    fn is_slice(self) -> bool {
        matches!(self, NalClass::Slice | NalClass::Idr | NalClass::Open)
    }
}

/// A complete access unit with at least one slice.
#[derive(Debug)]
pub(super) struct WholeUnit {
    pub(super) data: Bytes,
    pub(super) nals: Vec<NalUnit>,
    /// PTS and DTS, if a PES packet gives them.
    pub(super) times: Option<Times>,
}

/// The beginning of a PES packet in the data, and its time stamps until an access unit has taken them.
#[derive(Clone, Copy, Debug, Default)]
struct Begin {
    at: usize,
    times: Option<Times>,
    stamped: bool,
}

/// Splits a byte stream into access units.
#[derive(Debug, Default)]
pub(super) struct AccessUnits {
    h265: bool,
    /// The unfinished access unit, and what came behind it.
    data: BytesMut,
    /// Its NAL units that have ended, and the one that hasn't, which begins there.
    nals: Vec<NalUnit>,
    open: Option<(u8, NalClass, usize)>,
    /// Before this place no start code is looked for any more.
    scanned: usize,
    begun: bool,
    /// It has a slice.
    sliced: bool,
    times: Option<Times>,
    /// It has begun in a PES packet without time stamps.
    unstamped: bool,
    /// The last PES packet but one, and the last: a start code may begin in the one and end in the other.
    begins: [Begin; 2],
    /// The length of the last PES packet; the greatest number if it gave none.
    len: usize,
    /// The greatest such length of a PES packet that has ended with its access unit.
    trusted: usize,
    /// Access units go on in other PES packets.
    splits: bool,
    /// The last access unit was put out at the end of its PES packet.
    ended: bool,
}

impl AccessUnits {
    pub(super) fn new(h265: bool) -> Self {
        AccessUnits { h265, ..AccessUnits::default() }
    }

    /// Drops the unfinished access unit, since packets are missing. Returns whether there was one.
    pub(super) fn clear(&mut self) -> bool {
        let had = self.sliced;
        let AccessUnits { h265, trusted, splits, .. } = *self;
        *self = AccessUnits { h265, trusted, splits, ..AccessUnits::default() };
        had
    }

    /// Takes a PES packet's payload. Returns `false` if it belongs to an access unit that was put out already, or that is
    /// too long.
    pub(super) fn push(&mut self, pes: &Payload) -> bool {
        let mut fits = true;
        if self.data.len() > PES_LEN_MAX || self.nals.len() >= NALS_MAX {
            fits = !self.clear();
        }
        match self.begins(&pes.data).filter(|_| self.sliced || self.ended) {
            Some(true) => self.trusted = self.trusted.max(self.len),
            Some(false) => {
                self.splits = true;
                fits &= !self.ended;
            }
            None => {}
        }
        if !pes.data.is_empty() {
            let begin = Begin { at: self.data.len(), times: pes.times, stamped: pes.times.is_some() };
            self.begins = [self.begins[1], begin];
            self.len = pes.len;
            self.data.extend_from_slice(&pes.data);
        }
        fits
    }

    /// Returns the next complete access unit. `whole` tells that the last PES packet has ended.
    pub(super) fn next(&mut self, whole: bool) -> Option<WholeUnit> {
        while let Some(at) = self.start_code() {
            let Some((kind, class, first)) = header(self.h265, &self.data[at + 3..]) else { break };
            self.close(at);
            self.scanned = at + 3;
            let begins = first || matches!(class, NalClass::Delimiter | NalClass::Sei | NalClass::Parameters);
            // A picture whose first slice is missing can't be decoded.
            if !self.begun && class.is_slice() && !first {
                continue;
            }
            let mut unit = None;
            if !self.begun || self.sliced && begins {
                unit = self.begin(at);
            }
            let at = self.scanned;
            if class.is_slice() && !std::mem::replace(&mut self.sliced, true) && self.unstamped {
                // Parameter sets in a PES packet of their own need no time stamp.
                self.times = self.stamp(at).times;
            }
            self.open = Some((kind, class, at));
            if unit.is_some() {
                return unit;
            }
        }
        (whole && !self.splits && self.len <= self.trusted).then(|| self.end())?
    }

    /// Returns the unfinished access unit at the end of the stream, or in a pause if it looks complete.
    pub(super) fn finish(&mut self, end: End) -> Option<WholeUnit> {
        (end == End::Said || !self.splits).then(|| self.end())?
    }

    fn end(&mut self) -> Option<WholeUnit> {
        if !self.sliced {
            return None;
        }
        // A NAL unit that is shorter than a header ends a sequence or the stream.
        self.close(self.start_code_at().unwrap_or(self.data.len()));
        let unit = self.cut(self.data.len());
        (self.begins, self.ended) = (Default::default(), true);
        unit
    }

    /// Begins an access unit with the start code there, and returns the one before.
    fn begin(&mut self, at: usize) -> Option<WholeUnit> {
        // zero_byte (B.1.1).
        let from = at - usize::from(at > 0 && self.data[at - 1] == 0);
        let unit = self.cut(from);
        let begin = self.stamp(0);
        (self.times, self.unstamped) = (begin.times, !begin.stamped);
        (self.begun, self.ended) = (true, false);
        unit
    }

    /// Takes the data up to there away. Returns the access unit in it.
    fn cut(&mut self, at: usize) -> Option<WholeUnit> {
        let (data, nals) = (self.data.split_to(at).freeze(), std::mem::take(&mut self.nals));
        self.scanned = self.scanned.saturating_sub(at);
        for begin in &mut self.begins {
            begin.at = begin.at.saturating_sub(at);
        }
        self.begun = false;
        let times = self.times.take();
        std::mem::take(&mut self.sliced).then_some(WholeUnit { data, nals, times })
    }

    /// Returns the PES packet in which this place is. Its time stamps are those of the first access unit that begins in it
    /// (ISO 13818-1, 2.4.3.7).
    fn stamp(&mut self, at: usize) -> Begin {
        let [before, last] = &mut self.begins;
        let begin = if at >= last.at { last } else { before };
        let found = *begin;
        begin.times = None;
        found
    }

    /// Ends the open NAL unit before the start code there.
    fn close(&mut self, at: usize) {
        let Some((kind, class, start)) = self.open.take() else { return };
        // trailing_zero_8bits, and the next start code's zero_byte. A NAL unit's own last byte isn't 0 (7.4.1).
        let len = self.data[start..at].iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        if len > 0 && self.nals.len() < NALS_MAX {
            self.nals.push(NalUnit { kind, class, bytes: start..start + len });
        }
    }

    /// Returns the place of the next start code.
    fn start_code(&mut self) -> Option<usize> {
        while let Some(third) = self.data.get(self.scanned + 2) {
            // The third byte gives the least distance to the next start code.
            match third {
                1 if self.start_code_at().is_some() => return Some(self.scanned),
                0 => self.scanned += 1,
                _ => self.scanned += 3,
            }
        }
        None
    }

    /// Returns the place up to which is scanned, if a start code is there.
    fn start_code_at(&self) -> Option<usize> {
        self.data.get(self.scanned..)?.starts_with(&[0, 0, 1]).then_some(self.scanned)
    }

    /// Returns whether a PES packet's payload begins an access unit behind another one; `None` if it can't be seen.
    fn begins(&self, payload: &[u8]) -> Option<bool> {
        let zeros = payload.iter().position(|&byte| byte != 0)?;
        if zeros < 2 || payload[zeros] != 1 {
            return Some(false);
        }
        let (_, class, first) = header(self.h265, &payload[zeros + 1..])?;
        match class {
            NalClass::Delimiter | NalClass::Sei | NalClass::Parameters => Some(true),
            class => class.is_slice().then_some(first),
        }
    }
}

/// Reads nal_unit_type (H.264, table 7-1; H.265, table 7-1), and whether the NAL unit is the first slice of a picture:
/// first_mb_in_slice is 0, or first_slice_segment_in_pic_flag is set.
fn header(h265: bool, bytes: &[u8]) -> Option<(u8, NalClass, bool)> {
    let kind = if h265 { hevc::nal_type(*bytes.first()?) } else { bytes.first()? & 0x1f };
    let class = match (h265, kind) {
        (false, 5) | (true, 19..=20) => NalClass::Idr,
        (true, 16..=18 | 21) => NalClass::Open,
        (false, 1..=4) | (true, 0..=31) => NalClass::Slice,
        (false, 6) | (true, 39) => NalClass::Sei,
        (false, 9) | (true, 35) => NalClass::Delimiter,
        (false, 7 | 8) | (true, 32..=34) => NalClass::Parameters,
        (false, 10..=14) | (true, 36..=38) => NalClass::LeftOut,
        _ => NalClass::Other,
    };
    let flags = bytes.get(if h265 { 2 } else { 1 })?;
    // Partitions B and C begin with another field (H.264, 7.3.2.9).
    let partition = !h265 && matches!(kind, 3 | 4);
    Some((kind, class, class.is_slice() && !partition && flags & 0x80 != 0))
}
