//! H.264 and H.265 as byte streams (annex B of both) to what CMAF holds: parameter sets in an avcC or hvcC, and pictures
//! as length-prefixed NAL units (ISO 14496-15, 5.3, 8.3).
//!
//! A PES packet holds one access unit, or several that begin with delimiters: encoders for broadcast pack so. What is
//! about the stream and not the picture is left out of the units: delimiters, filler data, the ends of sequences, and
//! the parameter sets themselves, which `avc1` and `hvc1` have in their sample entries.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::diagnostic::Counters;
use super::output::{MODULUS, Output};
use super::pes::Payload;
use crate::codec::avc::sets::{AvcSets, exp_golomb};
use crate::codec::hevc;
use crate::codec::hevc::sets::HevcSets;
use crate::model::{AccessUnit, CodecConfig, InputTrack};

/// nal_unit_type of H.264 (table 7-1).
mod h264 {
    pub(super) const SLICES: std::ops::RangeInclusive<u8> = 1..=5;
    pub(super) const IDR: u8 = 5;
    pub(super) const SEI: u8 = 6;
    pub(super) const SPS: u8 = 7;
    pub(super) const PPS: u8 = 8;
    pub(super) const DELIMITER: u8 = 9;
    /// Parameter sets, delimiter, ends of sequence and stream, filler data, SPS extension (whose place is the avcC's tail).
    pub(super) const LEFT_OUT: std::ops::RangeInclusive<u8> = 7..=13;
}

/// The same of H.265, beside those that [`hevc`] has.
mod h265 {
    pub(super) const SLICES: std::ops::RangeInclusive<u8> = 0..=31;
    pub(super) const DELIMITER: u8 = 35;
    pub(super) const PREFIX_SEI: u8 = 39;
    pub(super) const LEFT_OUT: std::ops::RangeInclusive<u8> = 32..=38;
}

/// What a picture lasts where nothing tells: 30 fps.
const STEP: u64 = 3_000;
/// Steps beyond this are no frame's length, but a hole: 1 s.
const STEP_MAX: u64 = 90_000;

/// Pictures that are left out at most until one refers to nothing before: 2 minutes at 30 fps. A stream without any such
/// picture is shown all the same then.
const WAIT_MAX: u32 = 3_600;

/// Which of the two, and its parameter sets in force.
#[derive(Debug)]
enum Syntax {
    H264(AvcSets),
    H265(HevcSets),
}

/// One track's decoder state.
#[derive(Debug)]
pub(super) struct ByteStream {
    track: InputTrack,
    syntax: Syntax,
    config: Option<CodecConfig>,
    /// Something is missing before what comes next: so many pictures have been left out for it.
    waits: Option<u32>,
    /// Pictures that are shown before this one refer to some from before the gap.
    leading: Option<u64>,
    /// DTS of the newest PES packet, and how many pictures it had.
    last: Option<(u64, u64)>,
    step: u64,
}

/// A NAL unit in a PES packet's payload.
#[derive(Clone, Debug)]
struct NalUnit {
    kind: u8,
    bytes: Range<usize>,
}

/// How a picture can be begun with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Access {
    /// It refers to others.
    None,
    /// Intra refresh begins: what follows heals over some frames.
    Gradual,
    /// An I picture after which all is right, but for leading pictures.
    Open,
    /// IDR.
    Closed,
}

impl Syntax {
    fn kind(&self, header: u8) -> u8 {
        match self {
            Syntax::H264(_) => header & 0x1f,
            Syntax::H265(_) => hevc::nal_type(header),
        }
    }

    fn is_slice(&self, kind: u8) -> bool {
        match self {
            Syntax::H264(_) => h264::SLICES.contains(&kind),
            Syntax::H265(_) => h265::SLICES.contains(&kind),
        }
    }

    fn is_delimiter(&self, kind: u8) -> bool {
        kind == if let Syntax::H264(_) = self { h264::DELIMITER } else { h265::DELIMITER }
    }

    fn is_left_out(&self, kind: u8) -> bool {
        match self {
            Syntax::H264(_) => h264::LEFT_OUT.contains(&kind),
            Syntax::H265(_) => h265::LEFT_OUT.contains(&kind),
        }
    }

    /// Parameter sets are in force from the picture on before which they stand.
    fn take(&mut self, data: &Bytes, nals: &[NalUnit]) -> Result<(), &'static str> {
        let of = |kind: u8| nals.iter().filter(move |nal| nal.kind == kind).map(|nal| data.slice(nal.bytes.clone()));
        match self {
            Syntax::H264(sets) => sets.take(of(h264::SPS), of(h264::PPS)),
            Syntax::H265(sets) => {
                sets.take(of(hevc::NAL_VPS), of(hevc::NAL_SPS), of(hevc::NAL_PPS));
                Ok(())
            }
        }
    }

    fn config(&self) -> Option<CodecConfig> {
        match self {
            Syntax::H264(sets) => sets.record().map(CodecConfig::Avc),
            Syntax::H265(sets) => sets.record().map(CodecConfig::Hevc),
        }
    }

    fn access(&self, data: &[u8], nals: &[NalUnit]) -> Access {
        let (closed, open, sei, header) = match self {
            Syntax::H264(_) => (h264::IDR..=h264::IDR, None, h264::SEI, 1),
            Syntax::H265(_) => (hevc::NAL_IDR, Some((hevc::NAL_CRA, hevc::NAL_BLA)), h265::PREFIX_SEI, 2),
        };
        if nals.iter().any(|nal| closed.contains(&nal.kind)) {
            return Access::Closed;
        }
        if open.is_some_and(|(cra, bla)| nals.iter().any(|nal| nal.kind == cra || bla.contains(&nal.kind))) {
            return Access::Open;
        }
        let of = |nal: &NalUnit| recovery_point(data[nal.bytes.clone()].get(header..)?);
        match nals.iter().filter(|nal| nal.kind == sei).find_map(of) {
            Some(0) => Access::Open,
            Some(_) => Access::Gradual,
            None => Access::None,
        }
    }
}

impl ByteStream {
    pub(super) fn h264(track: InputTrack) -> Self {
        ByteStream::new(track, Syntax::H264(AvcSets::default()))
    }

    pub(super) fn h265(track: InputTrack) -> Self {
        ByteStream::new(track, Syntax::H265(HevcSets::default()))
    }

    fn new(track: InputTrack, syntax: Syntax) -> Self {
        ByteStream { track, syntax, config: None, waits: Some(0), leading: None, last: None, step: STEP }
    }

    /// Something is missing, as at the start: nothing is shown until a picture refers to nothing before.
    pub(super) fn damaged(&mut self) {
        self.waits = Some(self.waits.unwrap_or(0));
        self.leading = None;
    }

    /// Takes a whole PES packet.
    pub(super) fn picture(
        &mut self,
        pes: Payload,
        stats: &mut Counters,
        out: &mut VecDeque<Output>,
    ) -> Result<(), &'static str> {
        let nals = nal_units(&pes.data, &self.syntax);
        if nals.is_empty() {
            return Err("a PES packet of pictures without a start code");
        }
        self.syntax.take(&pes.data, &nals)?;
        let pictures = pictures(&nals, &self.syntax);
        if pictures.is_empty() {
            return Ok(());
        }
        let count = pictures.len() as u64;
        let (pts, dts) = match (pes.times, self.last) {
            (Some((pts, dts)), last) => {
                let step = last.map(|(last, count)| dts.wrapping_sub(last) % MODULUS / count);
                self.step = step.filter(|step| (1..=STEP_MAX).contains(step)).unwrap_or(self.step);
                (pts, dts)
            }
            // Without time stamps it follows the one before.
            (None, Some((last, count))) => {
                let dts = (last + self.step * count) % MODULUS;
                (dts, dts)
            }
            (None, None) => return Err("pictures without time stamps"),
        };
        self.last = Some((dts, count));
        for (n, nals) in (0..).zip(pictures) {
            let later = |time: u64| (time + self.step * n) % MODULUS;
            self.unit(&pes.data, nals, later(pts), later(dts), stats, out);
        }
        Ok(())
    }

    fn unit(
        &mut self,
        data: &Bytes,
        nals: &[NalUnit],
        pts: u64,
        dts: u64,
        stats: &mut Counters,
        out: &mut VecDeque<Output>,
    ) {
        let access = self.syntax.access(data, nals);
        if let Some(left_out) = &mut self.waits
            && access == Access::None
            && *left_out < WAIT_MAX
        {
            *left_out += 1;
            stats.undecodable += 1;
            return;
        }
        if self.waits.take().is_some() && access == Access::Open {
            self.leading = Some(pts);
        } else if let Some(first) = self.leading {
            // 33-bit comparison: shown before it.
            if pts.wrapping_sub(first) % MODULUS > MODULUS / 2 {
                stats.undecodable += 1;
                return;
            }
            self.leading = None;
        }
        if access != Access::None || self.config.is_none() {
            self.configure(out);
        }
        if self.config.is_none() {
            stats.undecodable += 1;
            return;
        }
        let mut unit = BytesMut::with_capacity(nals.iter().map(|nal| 4 + nal.bytes.len()).sum());
        for nal in nals.iter().filter(|nal| !self.syntax.is_left_out(nal.kind)) {
            unit.put_u32(u32::try_from(nal.bytes.len()).unwrap_or(u32::MAX));
            unit.extend_from_slice(&data[nal.bytes.clone()]);
        }
        let offset = signed(pts.wrapping_sub(dts) % MODULUS);
        out.push_back(Output::Unit(AccessUnit {
            track: self.track,
            dts,
            composition_offset: i32::try_from(offset).unwrap_or(0),
            keyframe: access >= Access::Open,
            data: unit.freeze(),
        }));
    }

    /// Says the headers where their bytes are others than before.
    fn configure(&mut self, out: &mut VecDeque<Output>) {
        let Some(config) = self.syntax.config().filter(|config| self.config.as_ref() != Some(config)) else {
            return;
        };
        self.config = Some(config.clone());
        out.push_back(Output::Config { track: self.track, config });
    }
}

/// The NAL units of a byte stream (B.1), without start codes and the zeros around them.
fn nal_units(data: &[u8], syntax: &Syntax) -> Vec<NalUnit> {
    let mut out: Vec<NalUnit> = Vec::new();
    let mut start = None;
    let mut close = |start: Option<usize>, end: usize| {
        let Some(start) = start else { return };
        // trailing_zero_8bits, and the next start code's zero_byte. A NAL unit's own last byte isn't 0 (7.4.1).
        let len = data[start..end].iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        if len > 0 {
            out.push(NalUnit { kind: syntax.kind(data[start]), bytes: start..start + len });
        }
    };
    let mut at = 0;
    while at + 3 <= data.len() {
        // The third byte tells how far the next start code is off at least.
        match data[at + 2] {
            1 if data[at] == 0 && data[at + 1] == 0 => {
                close(start, at);
                start = Some(at + 3);
                at += 3;
            }
            0 => at += 1,
            _ => at += 3,
        }
    }
    close(start, data.len());
    out
}

/// The pictures of a PES packet: a delimiter behind slices begins the next.
fn pictures<'a>(nals: &'a [NalUnit], syntax: &Syntax) -> Vec<&'a [NalUnit]> {
    let (mut out, mut begin, mut sliced) = (Vec::new(), 0, false);
    for (i, nal) in nals.iter().enumerate() {
        if syntax.is_delimiter(nal.kind) && sliced {
            out.push(&nals[begin..i]);
            (begin, sliced) = (i, false);
        }
        sliced |= syntax.is_slice(nal.kind);
    }
    if sliced {
        out.push(&nals[begin..]);
    }
    out
}

/// recovery_frame_cnt, or recovery_poc_cnt, of an SEI message behind its header (H.264 D.1.8, H.265 D.2.8): after how many
/// pictures all is right that began with this one. 0 is the same in ue(v) and se(v).
fn recovery_point(sei: &[u8]) -> Option<u32> {
    let mut rest = sei;
    loop {
        let kind = coded(&mut rest)?;
        let len = coded(&mut rest)?;
        if kind == 6 {
            return exp_golomb(rest);
        }
        rest = rest.get(len..)?;
    }
}

/// payloadType and payloadSize: a sum that 255 carries on (7.3.2.3.1).
fn coded(rest: &mut &[u8]) -> Option<usize> {
    let mut sum = 0;
    loop {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        sum += usize::from(byte);
        if byte != 255 {
            return Some(sum);
        }
    }
}

/// A difference modulo 2^33, between -2^32 and 2^32.
fn signed(difference: u64) -> i64 {
    let difference = i64::try_from(difference).unwrap_or(0);
    let modulus = 1i64 << 33;
    if difference > modulus / 2 { difference - modulus } else { difference }
}
