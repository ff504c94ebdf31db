//! H.264 and H.265 as byte streams (annex B of both) to what CMAF holds: parameter sets in an avcC or hvcC, and
//! pictures as length-prefixed NAL units (ISO 14496-15, 5.3, 8.3).
//!
//! A PES packet holds one access unit, or several that begin with delimiters, as broadcast encoders write them. NAL
//! units that describe the stream and not the picture are left out: delimiters, filler data, the ends of sequences, and
//! the parameter sets themselves, which `avc1` and `hvc1` have in their sample entries.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::diagnostic::Counters;
use super::framing::sum_of_255s;
use super::output::{CLOCK, MODULUS, Output, VIDEO};
use super::pes::Payload;
use super::psi::StreamKind;
use crate::codec::avc;
use crate::codec::avc::sets::{AvcSets, exp_golomb};
use crate::codec::hevc;
use crate::codec::hevc::sets::HevcSets;
use crate::codec::nal::by_start_codes;
use crate::model::input_clock::unwrap;
use crate::model::{AccessUnit, CodecConfig};
use crate::packager::Input;

/// The duration of a picture if nothing states it: that of 30 fps.
const STEP: u64 = 3_000;
/// A longer step between two pictures is a hole, not a frame's duration: 1 s.
const STEP_MAX: u64 = 90_000;

/// The most pictures that are dropped while the demuxer waits for a random access point: 2 minutes at 30 fps. A stream without
/// random access points is shown after that.
const WAIT_MAX: u32 = 3_600;

/// The codec, and its parameter sets in force.
#[derive(Debug)]
enum Syntax {
    H264(AvcSets),
    H265(HevcSets),
}

/// The decoder state of the video track.
#[derive(Debug)]
pub(super) struct ByteStream {
    syntax: Syntax,
    config: Option<CodecConfig>,
    /// The number of pictures left out since packets were lost; `None` once a random access point has come.
    waits: Option<u32>,
    /// The presentation time of an open random access point: pictures shown before it refer to lost ones.
    leading: Option<u64>,
    /// DTS of the newest PES packet, and its number of pictures.
    last: Option<(u64, u64)>,
    step: u64,
}

/// A NAL unit in a PES packet's payload.
#[derive(Clone, Debug)]
struct NalUnit {
    kind: u8,
    class: NalClass,
    bytes: Range<usize>,
}

/// The kind of a NAL unit, as this demuxer tells them apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NalClass {
    /// A slice of a picture that is no random access point by its type.
    Slice,
    /// A slice of an IDR picture.
    Idr,
    /// A slice of a BLA or CRA picture.
    Open,
    Sei,
    Delimiter,
    /// Parameter sets, ends of sequence and stream, filler data, SPS extension (whose place is the avcC's tail).
    LeftOut,
    Other,
}

/// The way in which decoding can begin at a picture.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Access {
    /// Decoding can't begin here: the picture refers to others.
    None,
    /// Intra refresh begins: decoding is right after some pictures.
    Gradual,
    /// The picture and all that follow are right, except leading pictures.
    Open,
    /// IDR.
    Closed,
}

impl NalClass {
    fn is_slice(self) -> bool {
        matches!(self, NalClass::Slice | NalClass::Idr | NalClass::Open)
    }
}

impl Syntax {
    /// Reads nal_unit_type (H.264, table 7-1; H.265, table 7-1).
    fn nal_unit(&self, header: u8, bytes: Range<usize>) -> NalUnit {
        let kind = if let Syntax::H264(_) = self { header & 0x1f } else { hevc::nal_type(header) };
        let class = match (self, kind) {
            (Syntax::H264(_), 5) | (Syntax::H265(_), 19..=20) => NalClass::Idr,
            (Syntax::H265(_), 16..=18 | 21) => NalClass::Open,
            (Syntax::H264(_), 1..=4) | (Syntax::H265(_), 0..=31) => NalClass::Slice,
            (Syntax::H264(_), 6) | (Syntax::H265(_), 39) => NalClass::Sei,
            (Syntax::H264(_), 9) | (Syntax::H265(_), 35) => NalClass::Delimiter,
            (Syntax::H264(_), 7..=13) | (Syntax::H265(_), 32..=38) => NalClass::LeftOut,
            _ => NalClass::Other,
        };
        NalUnit { kind, class, bytes }
    }

    /// Takes parameter sets, which are in force from the next picture on.
    fn take(&mut self, data: &Bytes, nals: &[NalUnit]) -> Result<(), &'static str> {
        let of = |kind: u8| nals.iter().filter(move |nal| nal.kind == kind).map(|nal| data.slice(nal.bytes.clone()));
        match self {
            Syntax::H264(sets) => sets.take(of(avc::NAL_SPS), of(avc::NAL_PPS)),
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
        let has = |class| nals.iter().any(|nal| nal.class == class);
        if has(NalClass::Idr) {
            return Access::Closed;
        }
        if has(NalClass::Open) {
            return Access::Open;
        }
        let header_len = if let Syntax::H264(_) = self { 1 } else { 2 };
        let of = |nal: &NalUnit| recovery_point(data[nal.bytes.clone()].get(header_len..)?);
        match nals.iter().filter(|nal| nal.class == NalClass::Sei).find_map(of) {
            Some(0) => Access::Open,
            Some(_) => Access::Gradual,
            None => Access::None,
        }
    }
}

impl ByteStream {
    /// Returns the decoder of an elementary stream, or `None` where it has no pictures that can be played.
    pub(super) fn new(kind: StreamKind) -> Option<Self> {
        let syntax = match kind {
            StreamKind::Avc => Syntax::H264(AvcSets::default()),
            StreamKind::Hevc => Syntax::H265(HevcSets::default()),
            _ => return None,
        };
        Some(ByteStream { syntax, config: None, waits: Some(0), leading: None, last: None, step: STEP })
    }

    /// Notes that packets are missing, as at the start: no picture is shown until the next random access point.
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
            return Err("a PES packet of video has no start code");
        }
        self.syntax.take(&pes.data, &nals)?;
        let pictures = pictures(&nals);
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
            // Pictures without time stamps follow the ones before.
            (None, Some((last, count))) => {
                let dts = (last + self.step * count) % MODULUS;
                (dts, dts)
            }
            (None, None) => return Err("the pictures have no time stamps"),
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
            // Compared in 33 bits: this picture is shown before the random access point.
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
        let is_left_out = |nal: &&NalUnit| matches!(nal.class, NalClass::Delimiter | NalClass::LeftOut);
        for nal in nals.iter().filter(|nal| !is_left_out(nal)) {
            unit.put_u32(u32::try_from(nal.bytes.len()).unwrap_or(u32::MAX));
            unit.extend_from_slice(&data[nal.bytes.clone()]);
        }
        let offset = unwrap(pts.wrapping_sub(dts), CLOCK, Some(0));
        out.push_back(Output::Input(Input::Unit(AccessUnit {
            track: VIDEO,
            dts,
            composition_offset: i32::try_from(offset).unwrap_or(0),
            keyframe: access >= Access::Open,
            data: unit.freeze(),
        })));
    }

    /// Puts out the headers if they have changed.
    fn configure(&mut self, out: &mut VecDeque<Output>) {
        let Some(config) = self.syntax.config().filter(|config| self.config.as_ref() != Some(config)) else {
            return;
        };
        self.config = Some(config.clone());
        out.push_back(Output::config(VIDEO, config));
    }
}

fn nal_units(data: &[u8], syntax: &Syntax) -> Vec<NalUnit> {
    by_start_codes(data).into_iter().map(|unit| syntax.nal_unit(data[unit.start], unit)).collect()
}

/// Returns the pictures of a PES packet. A delimiter behind slices begins the next picture.
fn pictures(nals: &[NalUnit]) -> Vec<&[NalUnit]> {
    let (mut out, mut begin, mut sliced) = (Vec::new(), 0, false);
    for (i, nal) in nals.iter().enumerate() {
        if nal.class == NalClass::Delimiter && sliced {
            out.push(&nals[begin..i]);
            (begin, sliced) = (i, false);
        }
        sliced |= nal.class.is_slice();
    }
    if sliced {
        out.push(&nals[begin..]);
    }
    out
}

/// Returns recovery_frame_cnt, or recovery_poc_cnt, of an SEI message behind its header (H.264 D.1.8, H.265 D.2.8): the
/// number of pictures after which decoding is right. 0 is the same in ue(v) and se(v).
fn recovery_point(sei: &[u8]) -> Option<u32> {
    let mut rest = sei;
    loop {
        // payloadType and payloadSize (7.3.2.3.1).
        let (kind, len) = (sum_of_255s(&mut rest)?, sum_of_255s(&mut rest)?);
        if kind == 6 {
            return exp_golomb(rest);
        }
        rest = rest.get(len..)?;
    }
}
