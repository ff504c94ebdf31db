//! H.264 as a byte stream (ISO 14496-10, annex B) to what CMAF holds: parameter sets in an avcC, and pictures as
//! length-prefixed NAL units (14496-15, 5.3).
//!
//! A PES packet holds one access unit, or several that begin with delimiters: encoders for broadcast pack so. What is
//! about the stream and not the picture is left out of the units: delimiters, filler data, the ends of sequences, and
//! the parameter sets themselves, which `avc1` has in its sample entry.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::pes::Payload;
use super::{MODULUS, Output, Stats};
use crate::media::avc::{ParameterSets, exp_golomb};
use crate::media::{AccessUnit, CodecConfig, InputTrack};

/// nal_unit_type (table 7-1).
const NAL_SLICES: std::ops::RangeInclusive<u8> = 1..=5;
const NAL_IDR: u8 = 5;
const NAL_SEI: u8 = 6;
const NAL_SPS: u8 = 7;
const NAL_PPS: u8 = 8;
const NAL_DELIMITER: u8 = 9;
/// Delimiter, ends of sequence and stream, filler data, SPS extension (whose place is the avcC's tail).
const NAL_LEFT_OUT: std::ops::RangeInclusive<u8> = 7..=13;
/// What a picture lasts where nothing tells: 30 fps.
const STEP: u64 = 3_000;
/// Steps beyond this are no frame's length, but a hole: 1 s.
const STEP_MAX: u64 = 90_000;

/// Pictures that are left out at most until one refers to nothing before: 2 minutes at 30 fps. A stream without any such
/// picture is shown all the same then.
const WAIT_MAX: u32 = 3_600;

/// One track's decoder state.
#[derive(Debug)]
pub(super) struct Avc {
    track: InputTrack,
    sets: ParameterSets,
    config: Option<Bytes>,
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

impl Avc {
    pub(super) fn new(track: InputTrack) -> Self {
        Avc {
            track,
            sets: ParameterSets::default(),
            config: None,
            waits: Some(0),
            leading: None,
            last: None,
            step: STEP,
        }
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
        stats: &mut Stats,
        out: &mut VecDeque<Output>,
    ) -> Result<(), &'static str> {
        let nals = nal_units(&pes.data);
        if nals.is_empty() {
            return Err("an H.264 PES packet without a start code");
        }
        self.parameter_sets(&pes.data, &nals)?;
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
            // Without time stamps it follows the one before.
            (None, Some((last, count))) => {
                let dts = (last + self.step * count) % MODULUS;
                (dts, dts)
            }
            (None, None) => return Err("an H.264 stream without time stamps"),
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
        stats: &mut Stats,
        out: &mut VecDeque<Output>,
    ) {
        let access = access(data, nals);
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
        for nal in nals.iter().filter(|nal| !NAL_LEFT_OUT.contains(&nal.kind)) {
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

    /// Parameter sets are in force from the picture on before which they stand.
    fn parameter_sets(&mut self, data: &Bytes, nals: &[NalUnit]) -> Result<(), &'static str> {
        let of = |kind: u8| nals.iter().filter(move |nal| nal.kind == kind).map(|nal| data.slice(nal.bytes.clone()));
        self.sets.take(of(NAL_SPS), of(NAL_PPS))
    }

    /// Says the headers where their bytes are others than before.
    fn configure(&mut self, out: &mut VecDeque<Output>) {
        let Some(config) = self.sets.record().filter(|config| self.config.as_ref() != Some(config)) else {
            return;
        };
        self.config = Some(config.clone());
        out.push_back(Output::Config { track: self.track, config: CodecConfig::Avc(config) });
    }
}

/// The NAL units of a byte stream (B.1), without start codes and the zeros around them.
fn nal_units(data: &[u8]) -> Vec<NalUnit> {
    let mut out: Vec<NalUnit> = Vec::new();
    let mut start = None;
    let mut close = |start: Option<usize>, end: usize| {
        let Some(start) = start else { return };
        // trailing_zero_8bits, and the next start code's zero_byte. A NAL unit's own last byte isn't 0 (7.4.1).
        let len = data[start..end].iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        if len > 0 {
            out.push(NalUnit { kind: data[start] & 0x1f, bytes: start..start + len });
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
fn pictures(nals: &[NalUnit]) -> Vec<&[NalUnit]> {
    let (mut out, mut begin, mut sliced) = (Vec::new(), 0, false);
    for (i, nal) in nals.iter().enumerate() {
        if nal.kind == NAL_DELIMITER && sliced {
            out.push(&nals[begin..i]);
            (begin, sliced) = (i, false);
        }
        sliced |= NAL_SLICES.contains(&nal.kind);
    }
    if sliced {
        out.push(&nals[begin..]);
    }
    out
}

fn access(data: &[u8], nals: &[NalUnit]) -> Access {
    if nals.iter().any(|nal| nal.kind == NAL_IDR) {
        return Access::Closed;
    }
    let recovery =
        nals.iter().filter(|nal| nal.kind == NAL_SEI).find_map(|nal| recovery_point(&data[nal.bytes.clone()]));
    match recovery {
        Some(0) => Access::Open,
        Some(_) => Access::Gradual,
        None => Access::None,
    }
}

/// recovery_frame_cnt of an SEI message (D.1.8): after how many pictures all is right that began with this one.
fn recovery_point(sei: &[u8]) -> Option<u32> {
    let mut rest = sei.get(1..)?;
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
