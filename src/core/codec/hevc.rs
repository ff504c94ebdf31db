//! HEVC's own headers: HEVCDecoderConfigurationRecord (ISO 14496-15, 8.3.2.1) and the SPS in it; and what becomes of its
//! access units in an `hvc1` track.

pub(crate) mod sets;
mod sps;

use std::fmt::Write as _;

use bytes::{BufMut, Bytes, BytesMut};
use mp4_atom::{Atom as _, Hvcc};

use self::sps::Sps;
use super::error::{HeaderError, size};
use crate::model::limits::CONFIG_LEN_MAX;

pub(crate) const HEADER: &str = "hvcC";
/// The longest record that is read, in bytes: x265's has its settings in an SEI of 2.3 KiB.
const RECORD_LEN_MAX: usize = 16 << 10;

/// nal_unit_type (H.265 table 7-1).
pub(crate) const NAL_VPS: u8 = 32;
pub(crate) const NAL_SPS: u8 = 33;
pub(crate) const NAL_PPS: u8 = 34;
/// Random access points: BLA, IDR, CRA, and two that are reserved.
const NAL_IRAP: std::ops::RangeInclusive<u8> = 16..=23;

/// What is read of an HEVCDecoderConfigurationRecord.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hevc {
    /// The record as it goes into the sample entry: its parameter sets, and no SEI.
    pub record: Bytes,
    /// The same, taken apart.
    pub hvcc: Hvcc,
    /// In pixels, cropped.
    pub width: u16,
    /// In pixels, cropped.
    pub height: u16,
    /// Frames in a thousand seconds as VUI states it; a hint, since encoders get it wrong.
    pub frame_rate_milli: Option<u32>,
    /// transfer_characteristics of VUI (H.265 table E.4; 16 is PQ, 18 is HLG); 2 where nothing is said.
    pub transfer: u8,
}

/// nal_unit_type of a NAL unit's first byte.
pub(crate) fn nal_type(header: u8) -> u8 {
    header >> 1 & 0x3f
}

impl Hevc {
    /// Reads an HEVCDecoderConfigurationRecord and the first SPS in it.
    pub fn parse(record: &Bytes) -> Result<Hevc, HeaderError> {
        let too_long = |len, max| HeaderError::TooLong { header: HEADER, len, max };
        let invalid = |what, value: u8| HeaderError::Invalid { header: HEADER, what, value: value.into() };
        if record.len() > RECORD_LEN_MAX {
            return Err(too_long(record.len(), RECORD_LEN_MAX));
        }
        let mut hvcc = Hvcc::decode_body(&mut &record[..]).map_err(HeaderError::atom(HEADER))?;
        if hvcc.configuration_version != 1 {
            return Err(invalid("configurationVersion", hvcc.configuration_version));
        }
        if hvcc.length_size_minus_one == 2 {
            return Err(invalid("lengthSizeMinusOne", 2));
        }
        // What the encoder was set to stands in an SEI, and is longer than all the rest.
        hvcc.arrays.retain(|array| matches!(array.nal_unit_type, NAL_VPS..=NAL_PPS) && !array.nalus.is_empty());
        for array in &mut hvcc.arrays {
            // 8.4.1.1: of 'hvc1' "the default and mandatory value of array_completeness is 1".
            array.completeness = true;
            let wrong = |nal: &Vec<u8>| nal.first().is_none_or(|&header| nal_type(header) != array.nal_unit_type);
            if let Some(nal) = array.nalus.iter().find(|nal| wrong(nal)) {
                return Err(invalid("nal_unit_type of a parameter set", nal.first().map_or(0, |&h| nal_type(h))));
            }
        }
        let first = |kind: u8, what| {
            let array = hvcc.arrays.iter().find(|array| array.nal_unit_type == kind);
            array.and_then(|array| array.nalus.first()).ok_or(HeaderError::Missing { header: HEADER, what })
        };
        first(NAL_VPS, "VPS")?;
        first(NAL_PPS, "PPS")?;
        let sps = Sps::parse(first(NAL_SPS, "SPS")?)?;
        let (width, height) = size(HEADER, sps.width, sps.height)?;
        let mut kept = Vec::new();
        hvcc.encode_body(&mut kept).map_err(HeaderError::atom(HEADER))?;
        if kept.len() > CONFIG_LEN_MAX {
            return Err(too_long(kept.len(), CONFIG_LEN_MAX));
        }
        let (frame_rate_milli, transfer) = (sps.frame_rate_milli, sps.transfer);
        Ok(Hevc { record: kept.into(), hvcc, width, height, frame_rate_milli, transfer })
    }

    /// The record of parameter sets that came in band (14496-15, 8.3.2.1), with lengths of 4 bytes.
    pub fn record_of(vps: &[Bytes], sps: &[Bytes], pps: &[Bytes]) -> Result<Bytes, HeaderError> {
        let first = sps.first().ok_or(HeaderError::Missing { header: HEADER, what: "SPS" })?;
        let read = Sps::parse(first)?;
        let arrays = [(NAL_VPS, vps), (NAL_SPS, sps), (NAL_PPS, pps)].map(|(nal_unit_type, sets)| {
            let nalus = sets.iter().map(|set| set.to_vec()).collect();
            mp4_atom::HvcCArray { completeness: true, nal_unit_type, nalus }
        });
        let [profile, rest @ ..] = read.profile;
        let [compatibility, constraints] = [&rest[..4], &rest[4..10]];
        let hvcc = Hvcc {
            general_profile_space: profile >> 6,
            general_tier_flag: profile & 0x20 != 0,
            general_profile_idc: profile & 0x1f,
            general_profile_compatibility_flags: compatibility.try_into().unwrap_or_default(),
            general_constraint_indicator_flags: constraints.try_into().unwrap_or_default(),
            general_level_idc: rest[10],
            chroma_format_idc: read.chroma_format,
            bit_depth_luma_minus8: read.bit_depths[0],
            bit_depth_chroma_minus8: read.bit_depths[1],
            num_temporal_layers: read.temporal_layers,
            temporal_id_nested: read.temporal_nesting,
            length_size_minus_one: 3,
            arrays: arrays.into(),
            ..Hvcc::new()
        };
        let mut out = Vec::new();
        hvcc.encode_body(&mut out).map_err(HeaderError::atom(HEADER))?;
        Ok(out.into())
    }

    /// RFC 6381 codecs string (14496-15, E.3): `hvc1`, profile space and profile, compatibility flags from the last to
    /// the first in hexadecimal, tier and level, and the constraint flags' bytes up to the last one that isn't 0.
    pub fn codec(&self) -> String {
        let h = &self.hvcc;
        let mut out = "hvc1.".to_owned();
        if let 1..=3 = h.general_profile_space {
            out.push(char::from(b'A' + h.general_profile_space - 1));
        }
        let compatibility = u32::from_be_bytes(h.general_profile_compatibility_flags).reverse_bits();
        let tier = if h.general_tier_flag { 'H' } else { 'L' };
        let _ = write!(out, "{}.{compatibility:X}.{tier}{}", h.general_profile_idc, h.general_level_idc);
        let flags = &h.general_constraint_indicator_flags;
        let said = flags.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        for byte in &flags[..said] {
            let _ = write!(out, ".{byte:X}");
        }
        out
    }

    /// An access unit as `hvc1` has it, and whether it is a random access point. The parameter sets that the sample entry
    /// has are left out: "parameter sets shall not be present in the samples" (8.4.1.1). `None` where its NAL units
    /// don't fill it.
    pub fn sample(&self, data: &Bytes) -> Option<(Bytes, bool)> {
        let known = |nal: &[u8]| {
            let kind = nal_type(nal[0]);
            let of_kind = self.hvcc.arrays.iter().filter(|array| array.nal_unit_type == kind);
            matches!(kind, NAL_VPS..=NAL_PPS) && of_kind.flat_map(|array| &array.nalus).any(|set| set == nal)
        };
        let (mut sync, mut left_out) = (false, false);
        for nal in self.nal_units(data) {
            let nal = nal?;
            sync |= NAL_IRAP.contains(&nal_type(nal[0]));
            left_out |= known(nal);
        }
        if !left_out {
            return Some((data.clone(), sync));
        }
        let mut out = BytesMut::with_capacity(data.len());
        for nal in self.nal_units(data).flatten().filter(|nal| !known(nal)) {
            out.put_uint(nal.len() as u64, usize::from(self.hvcc.length_size_minus_one) + 1);
            out.extend_from_slice(nal);
        }
        Some((out.freeze(), sync))
    }

    /// The NAL units of an access unit; `None` once for what is none.
    fn nal_units<'a>(&self, data: &'a [u8]) -> impl Iterator<Item = Option<&'a [u8]>> + use<'a> {
        let length_size = usize::from(self.hvcc.length_size_minus_one) + 1;
        let mut rest = data;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let split = rest.split_at_checked(length_size).and_then(|(len, tail)| {
                let len = len.iter().fold(0, |len, &byte| len << 8 | usize::from(byte));
                tail.split_at_checked(len).filter(|_| len > 0)
            });
            rest = split.map_or(&[], |(_, tail)| tail);
            Some(split.map(|(nal, _)| nal))
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
