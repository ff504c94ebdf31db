//! Access units of H.264 and H.265 as inputs bring them, to samples of `avc1` and `hvc1` (ISO 14496-15, 5.3, 8.3).
//!
//! Inputs have NAL units behind lengths, or behind start codes where lengths should be; some of no bytes; and parameter
//! sets among them. Samples have the NAL units of a picture behind lengths of 4 bytes, and their sample entry has the sets.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::avc::sets::AvcSets;
use super::codec::{Codec, CodecError};
use super::error::HeaderError;
use super::hevc::sets::HevcSets;
use super::{avc, hevc};
use crate::model::CodecConfig;

/// The headers in force of a track, and the form of its access units.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NalTrack {
    sets: ParameterSets,
    /// The sets of the headers that were returned last.
    told: Option<ParameterSets>,
    /// The newest avcC or hvcC. One that is repeated says nothing new, whatever sets have come in band since.
    header: Bytes,
    /// Bytes of a NAL unit's length: 1, 2 or 4.
    length_size: usize,
    /// Access units have come with start codes, which look like lengths at times.
    start_codes: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum ParameterSets {
    Avc(AvcSets),
    Hevc(HevcSets),
}

/// The NAL units of an access unit, or of a piece of one. None is empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NalUnits {
    data: Bytes,
    units: Vec<Range<usize>>,
    pub form: NalForm,
}

/// How NAL units are told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NalForm {
    /// By their lengths, which fill the data.
    Lengths,
    /// By their lengths, some of which are 0.
    EmptyUnits,
    /// By start codes (annex B of H.264 and H.265).
    StartCodes,
    /// By lengths that don't fit: those before the fault are there.
    Damaged(&'static str),
}

impl NalTrack {
    /// Returns an H.264 track without headers.
    pub(crate) fn avc() -> Self {
        Self::new(ParameterSets::Avc(AvcSets::default()))
    }

    /// Returns an H.265 track without headers.
    pub(crate) fn hevc() -> Self {
        Self::new(ParameterSets::Hevc(HevcSets::default()))
    }

    fn new(sets: ParameterSets) -> Self {
        NalTrack { sets, told: None, header: Bytes::new(), length_size: 4, start_codes: false }
    }

    /// Returns whether the track is H.265.
    pub(crate) fn is_hevc(&self) -> bool {
        matches!(self.sets, ParameterSets::Hevc(_))
    }

    /// Takes an avcC or hvcC, or parameter sets behind start codes in its place. Returns the headers, with lengths of 4
    /// bytes, if they are new; none if the sets come in band.
    pub(crate) fn configure(&mut self, record: &Bytes) -> Result<Option<CodecConfig>, CodecError> {
        if *record == self.header {
            return Ok(None);
        }
        self.header = record.clone();
        // The record's version is 1.
        if starts_with_code(record) {
            let nals = self.split(record);
            // Sets that don't fit a record make none.
            let _ = self.take(&nals);
            return Ok(self.renewed(true));
        }
        let length_at = if self.is_hevc() { 21 } else { 4 };
        self.length_size = record.get(length_at).map_or(4, |byte| usize::from(byte & 3) + 1);
        let mut sets = match Codec::parse(&self.config_of(record.clone())) {
            Ok(codec) => ParameterSets::of(codec),
            Err(CodecError { error: HeaderError::Missing(_), .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        std::mem::swap(&mut self.sets, &mut sets);
        if self.told.as_ref() == Some(&self.sets) {
            return Ok(None);
        }
        self.told = Some(self.sets.clone());
        let mut bytes = BytesMut::from(&record[..]);
        bytes[length_at] |= 3;
        Ok(Some(self.config_of(bytes.freeze())))
    }

    fn config_of(&self, record: Bytes) -> CodecConfig {
        if self.is_hevc() { CodecConfig::Hevc(record) } else { CodecConfig::Avc(record) }
    }

    /// Tells NAL units apart: by lengths if these fill the data, else by start codes if it begins with one.
    pub(crate) fn split(&mut self, data: &Bytes) -> NalUnits {
        let (units, form) = by_lengths(data, self.length_size);
        if starts_with_code(data) && (self.start_codes || !form.is_whole()) {
            // Where lengths are usual, a broken one may look like a start code of 3 bytes.
            self.start_codes |= data.starts_with(&[0, 0, 0, 1]);
            return NalUnits { data: data.clone(), units: by_start_codes(data), form: NalForm::StartCodes };
        }
        NalUnits { data: data.clone(), units, form }
    }

    /// Takes the parameter sets among NAL units, which are in force from their picture on.
    ///
    /// # Errors
    /// There are more sets than a record has room for.
    pub(crate) fn take(&mut self, nals: &NalUnits) -> Result<(), &'static str> {
        let is_hevc = self.is_hevc();
        let of = |kind: u8| {
            let units = nals.units.iter().filter(move |unit| kind_of(is_hevc, nals.data[unit.start]) == kind);
            // A slice would keep the whole access unit in memory.
            units.map(|unit| Bytes::copy_from_slice(&nals.data[unit.clone()]))
        };
        match &mut self.sets {
            ParameterSets::Avc(sets) => sets.take(of(avc::NAL_SPS), of(avc::NAL_PPS)),
            ParameterSets::Hevc(sets) => {
                sets.take(of(hevc::NAL_VPS), of(hevc::NAL_SPS), of(hevc::NAL_PPS));
                Ok(())
            }
        }
    }

    /// Returns the headers of the sets in force, if they differ from those that were returned last. A track with headers
    /// gets new ones only where decoding can begin.
    pub(crate) fn renewed(&mut self, keyframe: bool) -> Option<CodecConfig> {
        if self.told.is_some() && !keyframe || self.told.as_ref() == Some(&self.sets) {
            return None;
        }
        let config = match &self.sets {
            ParameterSets::Avc(sets) => CodecConfig::Avc(sets.record()?),
            ParameterSets::Hevc(sets) => CodecConfig::Hevc(sets.record()?),
        };
        self.told = Some(self.sets.clone());
        Some(config)
    }

    /// Returns NAL units as a sample has them. Parameter sets that no header has yet stay, since nobody else has them.
    pub(crate) fn sample(&self, nals: &NalUnits) -> Bytes {
        self.without(nals, self.told.as_ref() == Some(&self.sets))
    }

    /// Returns NAL units that belong to a later sample, without parameter sets.
    pub(crate) fn sample_prefix(&self, nals: &NalUnits) -> Bytes {
        self.without(nals, true)
    }

    fn without(&self, nals: &NalUnits, sets: bool) -> Bytes {
        let is_left_out = |unit: &&Range<usize>| {
            let kind = self.kind(nals, unit);
            is_left_out(self.is_hevc(), kind) && (sets || !is_set(self.is_hevc(), kind))
        };
        if nals.form == NalForm::Lengths && self.length_size == 4 && !nals.units.iter().any(|unit| is_left_out(&unit)) {
            return nals.data.clone();
        }
        let mut out = BytesMut::with_capacity(nals.units.iter().map(|unit| 4 + unit.len()).sum());
        for unit in nals.units.iter().filter(|unit| !is_left_out(unit)) {
            out.put_u32(u32::try_from(unit.len()).unwrap_or(u32::MAX));
            out.extend_from_slice(&nals.data[unit.clone()]);
        }
        out.freeze()
    }

    /// Brings a whole access unit into the form of a sample. Returns the headers in force from it on, too, if they are new.
    ///
    /// # Errors
    /// The fault of the access unit.
    pub(crate) fn access_unit(
        &mut self,
        data: &Bytes,
        keyframe: bool,
    ) -> Result<(Option<CodecConfig>, Bytes), &'static str> {
        let nals = self.split(data);
        if let NalForm::Damaged(why) = nals.form {
            return Err(why);
        }
        self.take(&nals)?;
        let config = self.renewed(keyframe || self.is_random_access(&nals));
        Ok((config, self.sample(&nals)))
    }

    fn kind(&self, nals: &NalUnits, unit: &Range<usize>) -> u8 {
        kind_of(self.is_hevc(), nals.data[unit.start])
    }

    /// Returns the first slice of a picture among NAL units.
    fn slice<'a>(&self, nals: &'a NalUnits) -> Option<&'a [u8]> {
        let last = if self.is_hevc() { 31 } else { 5 };
        let first = if self.is_hevc() { 0 } else { 1 };
        let unit = nals.units.iter().find(|unit| (first..=last).contains(&self.kind(nals, unit)))?;
        Some(&nals.data[unit.clone()])
    }

    /// Returns whether NAL units have a slice of a picture.
    pub(crate) fn has_slice(&self, nals: &NalUnits) -> bool {
        self.slice(nals).is_some()
    }

    /// Returns whether NAL units go on with a picture: first_mb_in_slice (H.264, 7.3.3) isn't 0, or
    /// first_slice_segment_in_pic_flag (H.265, 7.3.6.1) isn't set.
    pub(crate) fn continues(&self, nals: &NalUnits) -> bool {
        let header_len = if self.is_hevc() { 2 } else { 1 };
        self.slice(nals).is_some_and(|slice| slice.get(header_len).is_some_and(|byte| byte & 0x80 == 0))
    }

    /// Returns whether decoding can begin at the picture, by the type of its slices: IDR, and H.265's other random access points.
    pub(crate) fn is_random_access(&self, nals: &NalUnits) -> bool {
        let range = if self.is_hevc() { hevc::NAL_IRAP } else { avc::NAL_IDR..=avc::NAL_IDR };
        nals.units.iter().any(|unit| range.contains(&self.kind(nals, unit)))
    }
}

impl ParameterSets {
    /// Returns the sets of headers that were read.
    fn of(codec: Codec) -> ParameterSets {
        let bytes = |sets: Vec<Vec<u8>>| sets.into_iter().map(Bytes::from).collect::<Vec<_>>();
        match codec {
            Codec::Hevc(hevc) => {
                let mut sets = HevcSets::default();
                let [mut vps, mut sps, mut pps] = [const { Vec::new() }; 3];
                for array in hevc.hvcc.arrays {
                    let of_kind = match array.nal_unit_type {
                        hevc::NAL_VPS => &mut vps,
                        hevc::NAL_SPS => &mut sps,
                        _ => &mut pps,
                    };
                    of_kind.extend(bytes(array.nalus));
                }
                sets.take(vps, sps, pps);
                ParameterSets::Hevc(sets)
            }
            Codec::Avc(avc) => {
                let mut sets = AvcSets::default();
                // An avcC never has more sets than fit.
                let _ = sets.take(bytes(avc.avcc.sequence_parameter_sets), bytes(avc.avcc.picture_parameter_sets));
                ParameterSets::Avc(sets)
            }
            _ => ParameterSets::Avc(AvcSets::default()),
        }
    }
}

impl NalForm {
    fn is_whole(self) -> bool {
        !matches!(self, NalForm::Damaged(_))
    }
}

/// Returns nal_unit_type of a NAL unit's first byte.
fn kind_of(is_hevc: bool, header: u8) -> u8 {
    if is_hevc { hevc::nal_type(header) } else { header & 0x1f }
}

/// Returns whether NAL units of a type describe the stream and not the picture (table 7-1 of both): parameter sets,
/// delimiters, ends, filler data.
fn is_left_out(is_hevc: bool, kind: u8) -> bool {
    if is_hevc { (32..=38).contains(&kind) } else { (7..=13).contains(&kind) }
}

fn is_set(is_hevc: bool, kind: u8) -> bool {
    if is_hevc { (hevc::NAL_VPS..=hevc::NAL_PPS).contains(&kind) } else { matches!(kind, avc::NAL_SPS | avc::NAL_PPS) }
}

/// Splits NAL units by their lengths, as far as these fit.
fn by_lengths(data: &[u8], length_size: usize) -> (Vec<Range<usize>>, NalForm) {
    let (mut units, mut at, mut form) = (Vec::new(), 0, NalForm::Lengths);
    while at < data.len() {
        let Some(len) = data.get(at..at + length_size) else {
            return (units, NalForm::Damaged("an access unit ends inside a NAL unit's length"));
        };
        let len = len.iter().fold(0, |len, &byte| len << 8 | usize::from(byte));
        at += length_size;
        match data.get(at..).and_then(|rest| rest.get(..len)) {
            None => return (units, NalForm::Damaged("a NAL unit is longer than its access unit")),
            Some([]) => form = NalForm::EmptyUnits,
            // 7.4.1 of both: forbidden_zero_bit.
            Some([header, ..]) if header & 0x80 != 0 => {
                return (units, NalForm::Damaged("a NAL unit has the forbidden bit"));
            }
            Some(_) => units.push(at..at + len),
        }
        at += len;
    }
    (units, form)
}

fn starts_with_code(data: &[u8]) -> bool {
    data.starts_with(&[0, 0, 1]) || data.starts_with(&[0, 0, 0, 1])
}

/// Returns the NAL units of a byte stream (B.1), without start codes and the zeros around them.
pub(crate) fn by_start_codes(data: &[u8]) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let mut start = None;
    let mut close = |start: Option<usize>, end: usize| {
        let Some(start) = start else { return };
        // trailing_zero_8bits, and the next start code's zero_byte. A NAL unit's own last byte isn't 0 (7.4.1).
        let len = data[start..end].iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        if len > 0 {
            out.push(start..start + len);
        }
    };
    let mut at = 0;
    while at + 3 <= data.len() {
        // The third byte tells how far away the next start code is at least.
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

#[cfg(test)]
mod tests;
