//! H.265's own headers: HEVCDecoderConfigurationRecord (ISO 14496-15, 8.3.2.1) and the SPS in it; and its access units
//! as an `hvc1` track has them.

pub(crate) mod sets;
mod sps;

use std::fmt::Write as _;

use bytes::Bytes;
use mp4_atom::{Atom as _, Hvcc};

use self::sps::Sps;
use super::error::{HeaderError, check_len};
use super::picture::Picture;
use crate::model::limits::CONFIG_LEN_MAX;

/// The longest record that is read, in bytes: x265 puts its settings into an SEI of 2.3 KiB.
const RECORD_LEN_MAX: usize = 16 << 10;

/// nal_unit_type (H.265 table 7-1).
pub(crate) const NAL_VPS: u8 = 32;
pub(crate) const NAL_SPS: u8 = 33;
pub(crate) const NAL_PPS: u8 = 34;
/// Random access points: BLA, IDR, CRA, and two that are reserved.
pub(super) const NAL_IRAP: std::ops::RangeInclusive<u8> = 16..=23;

/// An HEVCDecoderConfigurationRecord.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hevc {
    /// The record as the sample entry has it: with parameter sets, and without SEI.
    pub record: Bytes,
    /// The record's fields.
    pub hvcc: Hvcc,
    /// The pictures, by the SPS.
    pub picture: Picture,
}

/// Returns nal_unit_type of a NAL unit's first byte.
pub(crate) fn nal_type(header: u8) -> u8 {
    header >> 1 & 0x3f
}

/// Returns a record as bytes.
fn encoded(hvcc: &Hvcc) -> Result<Bytes, HeaderError> {
    let mut out = Vec::new();
    hvcc.encode_body(&mut out)?;
    Ok(out.into())
}

impl Hevc {
    /// Reads an HEVCDecoderConfigurationRecord and the first SPS in it.
    pub fn parse(record: &Bytes) -> Result<Hevc, HeaderError> {
        check_len(record.len(), RECORD_LEN_MAX)?;
        let mut hvcc = Hvcc::decode_body(&mut &record[..])?;
        if hvcc.configuration_version != 1 {
            return Err(HeaderError::invalid("configurationVersion", hvcc.configuration_version));
        }
        if hvcc.length_size_minus_one == 2 {
            return Err(HeaderError::invalid("lengthSizeMinusOne", 2u8));
        }
        // x265 puts its settings into an SEI, which is longer than all the rest.
        hvcc.arrays.retain(|array| matches!(array.nal_unit_type, NAL_VPS..=NAL_PPS) && !array.nalus.is_empty());
        for array in &mut hvcc.arrays {
            // 8.4.1.1: of 'hvc1' "the default and mandatory value of array_completeness is 1".
            array.completeness = true;
            let kind = |nal: &Vec<u8>| nal.first().map_or(0, |&header| nal_type(header));
            if let Some(wrong) = array.nalus.iter().map(kind).find(|&kind| kind != array.nal_unit_type) {
                return Err(HeaderError::invalid("nal_unit_type of a parameter set", wrong));
            }
        }
        let first = |kind: u8, what| {
            let array = hvcc.arrays.iter().find(|array| array.nal_unit_type == kind);
            array.and_then(|array| array.nalus.first()).ok_or(HeaderError::Missing(what))
        };
        first(NAL_VPS, "VPS")?;
        first(NAL_PPS, "PPS")?;
        let picture = Sps::parse(first(NAL_SPS, "SPS")?)?.picture;
        let record = encoded(&hvcc)?;
        check_len(record.len(), CONFIG_LEN_MAX)?;
        Ok(Hevc { record, hvcc, picture })
    }

    /// Returns the record of parameter sets that came in band (14496-15, 8.3.2.1), with lengths of 4 bytes.
    pub fn record_of(vps: &[Bytes], sps: &[Bytes], pps: &[Bytes]) -> Result<Bytes, HeaderError> {
        let read = Sps::parse(sps.first().ok_or(HeaderError::Missing("SPS"))?)?;
        let arrays = [(NAL_VPS, vps), (NAL_SPS, sps), (NAL_PPS, pps)].map(|(nal_unit_type, sets)| {
            let nalus = sets.iter().map(|set| set.to_vec()).collect();
            mp4_atom::HvcCArray { completeness: true, nal_unit_type, nalus }
        });
        let [profile, c0, c1, c2, c3, constraints @ .., level] = read.profile;
        encoded(&Hvcc {
            general_profile_space: profile >> 6,
            general_tier_flag: profile & 0x20 != 0,
            general_profile_idc: profile & 0x1f,
            general_profile_compatibility_flags: [c0, c1, c2, c3],
            general_constraint_indicator_flags: constraints,
            general_level_idc: level,
            chroma_format_idc: read.chroma_format,
            bit_depth_luma_minus8: read.bit_depths[0],
            bit_depth_chroma_minus8: read.bit_depths[1],
            num_temporal_layers: read.temporal_layers,
            temporal_id_nested: read.temporal_nesting,
            length_size_minus_one: 3,
            arrays: arrays.into(),
            ..Hvcc::new()
        })
    }

    /// Returns the codecs string (RFC 6381; 14496-15, E.3): `hvc1`, profile space and profile, compatibility flags from the last to
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

    /// Returns whether a sample is a random access point; `None` if NAL units behind lengths of 4 bytes don't fill it.
    pub(super) fn is_sync(sample: &[u8]) -> Option<bool> {
        let (mut rest, mut sync) = (sample, false);
        while !rest.is_empty() {
            let (len, tail) = rest.split_first_chunk::<4>()?;
            let (nal, tail) = tail.split_at_checked(u32::from_be_bytes(*len) as usize)?;
            sync |= NAL_IRAP.contains(&nal_type(*nal.first()?));
            rest = tail;
        }
        Some(sync)
    }
}

#[cfg(test)]
pub(crate) mod tests;
