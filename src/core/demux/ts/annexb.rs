//! H.264 and H.265 as byte streams (annex B of both) to what CMAF holds: parameter sets in an avcC or hvcC, and
//! pictures as length-prefixed NAL units (ISO 14496-15, 5.3, 8.3).
//!
//! NAL units that describe the stream and not the picture are left out: delimiters, filler data, the ends of sequences, and
//! the parameter sets themselves, which `avc1` and `hvc1` have in their sample entries.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use super::access_units::{AccessUnits, NalClass, NalUnit, WholeUnit};
use super::diagnostic::Counters;
use super::framing::sum_of_255s;
use super::output::{CLOCK, End, MODULUS, Output, VIDEO};
use super::pes::{Payload, Times};
use super::psi::StreamKind;
use crate::codec::avc;
use crate::codec::avc::sets::{AvcSets, exp_golomb};
use crate::codec::hevc;
use crate::codec::hevc::sets::HevcSets;
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
    units: AccessUnits,
    syntax: Syntax,
    config: Option<CodecConfig>,
    /// The number of pictures left out since packets were lost; `None` once a random access point has come.
    waits: Option<u32>,
    /// The presentation time of an open random access point: pictures shown before it refer to lost ones.
    leading: Option<u64>,
    /// The newest time stamps, and the number of pictures since.
    last: Option<(Times, u64)>,
    step: u64,
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

impl Syntax {
    /// Takes parameter sets, which are in force from the next picture on.
    fn take(&mut self, unit: &WholeUnit) -> Result<(), &'static str> {
        let bytes = |nal: &NalUnit| Bytes::copy_from_slice(&unit.data[nal.bytes.clone()]);
        let of = |kind: u8| unit.nals.iter().filter(move |nal| nal.kind == kind).map(bytes);
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

    fn access(&self, WholeUnit { data, nals, .. }: &WholeUnit) -> Access {
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
        let units = AccessUnits::new(kind == StreamKind::Hevc);
        Some(ByteStream { units, syntax, config: None, waits: Some(0), leading: None, last: None, step: STEP })
    }

    /// Drops the unfinished access unit, since packets are missing. Returns whether there was one.
    pub(super) fn damaged(&mut self) -> bool {
        self.wait();
        self.units.clear()
    }

    /// Lets no picture be shown until the next random access point, as at the start.
    fn wait(&mut self) {
        self.waits = Some(self.waits.unwrap_or(0));
        self.leading = None;
    }

    /// Takes a PES packet's payload, of which the end may be missing.
    pub(super) fn packet(
        &mut self,
        pes: &Payload,
        whole: bool,
        stats: &mut Counters,
        out: &mut VecDeque<Output>,
    ) -> Result<(), &'static str> {
        if !self.units.push(pes) {
            stats.damaged += 1;
            self.wait();
        }
        let mut fault = None;
        while let Some(unit) = self.units.next(whole) {
            fault = self.unit(&unit, stats, out).err().or(fault);
        }
        fault.map_or(Ok(()), Err)
    }

    /// Ends the stream, or notes a pause.
    pub(super) fn finish(
        &mut self,
        end: End,
        stats: &mut Counters,
        out: &mut VecDeque<Output>,
    ) -> Result<(), &'static str> {
        self.units.finish(end).map_or(Ok(()), |unit| self.unit(&unit, stats, out))
    }

    /// Returns PTS and DTS of the next picture.
    fn times(&mut self, stamp: Option<Times>) -> Result<Times, &'static str> {
        // Two pictures with one decode time have one time stamp for both.
        let stamp = stamp.filter(|(_, dts)| self.last.is_none_or(|((_, last), _)| last != *dts));
        match (stamp, &mut self.last) {
            (Some(stamp), last) => {
                let step = last.map(|((_, last), count)| stamp.1.wrapping_sub(last) % MODULUS / count);
                self.step = step.filter(|step| (1..=STEP_MAX).contains(step)).unwrap_or(self.step);
                *last = Some((stamp, 1));
                Ok(stamp)
            }
            // Pictures without time stamps follow the ones before.
            (None, Some(((pts, dts), count))) => {
                let later = self.step * *count;
                *count += 1;
                Ok(((*pts + later) % MODULUS, (*dts + later) % MODULUS))
            }
            (None, None) => Err("the pictures have no time stamps"),
        }
    }

    fn unit(&mut self, unit: &WholeUnit, stats: &mut Counters, out: &mut VecDeque<Output>) -> Result<(), &'static str> {
        let (pts, dts) = self.times(unit.times)?;
        self.syntax.take(unit)?;
        let access = self.syntax.access(unit);
        if self.is_shown(access, pts, stats) {
            self.put_out(unit, access, (pts, dts), stats, out);
        }
        Ok(())
    }

    /// Returns whether a picture can be shown: nothing that it refers to is missing.
    fn is_shown(&mut self, access: Access, pts: u64, stats: &mut Counters) -> bool {
        if let Some(left_out) = &mut self.waits
            && access == Access::None
            && *left_out < WAIT_MAX
        {
            *left_out += 1;
            stats.undecodable += 1;
            return false;
        }
        if self.waits.take().is_some() && access == Access::Open {
            self.leading = Some(pts);
        } else if let Some(first) = self.leading {
            // Compared in 33 bits: this picture is shown before the random access point.
            if pts.wrapping_sub(first) % MODULUS > MODULUS / 2 {
                stats.undecodable += 1;
                return false;
            }
            self.leading = None;
        }
        true
    }

    fn put_out(
        &mut self,
        WholeUnit { data, nals, .. }: &WholeUnit,
        access: Access,
        (pts, dts): Times,
        stats: &mut Counters,
        out: &mut VecDeque<Output>,
    ) {
        if access != Access::None || self.config.is_none() {
            self.configure(out);
        }
        if self.config.is_none() {
            stats.undecodable += 1;
            return;
        }
        let mut unit = BytesMut::with_capacity(nals.iter().map(|nal| 4 + nal.bytes.len()).sum());
        let left_out = |class| matches!(class, NalClass::Delimiter | NalClass::Parameters | NalClass::LeftOut);
        for nal in nals.iter().filter(|nal| !left_out(nal.class)) {
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
