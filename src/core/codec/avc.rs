//! H.264's own headers: AVCDecoderConfigurationRecord (ISO 14496-15, 5.3.3.1) and the SPS in it.

pub(crate) mod sets;

use bytes::{Buf, Bytes};
use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::nal::{Nal, RefNal};
use mp4_atom::{Avcc, AvccExt};

use super::error::{HeaderError, check_len};
use super::picture::{Picture, rate_milli};
use crate::model::SampleAspectRatio;
use crate::model::limits::CONFIG_LEN_MAX;

/// nal_unit_type of a slice of an IDR picture (H.264 table 7-1).
pub(crate) const NAL_IDR: u8 = 5;
/// nal_unit_type of a sequence parameter set.
pub(crate) const NAL_SPS: u8 = 7;
/// nal_unit_type of a picture parameter set.
pub(crate) const NAL_PPS: u8 = 8;
/// nal_unit_type of a sequence parameter set extension.
const NAL_SPS_EXT: u8 = 13;

/// An AVCDecoderConfigurationRecord.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Avc {
    /// The record as it came: two configurations are the same if these bytes are.
    pub record: Bytes,
    /// The record as the sample entry has it, with the profile and level of the SPS.
    pub avcc: Avcc,
    /// The pictures, by the SPS.
    pub picture: Picture,
}

fn truncated(what: &str) -> HeaderError {
    HeaderError::Unreadable(format!("the record ends inside {what}"))
}

/// Reads `count` parameter sets, each behind a 16-bit length. mp4-atom's own reader refuses what many encoders leave out
/// or append.
fn sets(rest: &mut &[u8], count: u8, kind: u8) -> Result<Vec<Vec<u8>>, HeaderError> {
    let mut sets = Vec::new();
    for _ in 0..count {
        let len = rest.try_get_u16().map_err(|_| truncated("a parameter set's length"))?;
        let set = rest.split_off(..usize::from(len)).ok_or_else(|| truncated("a parameter set"))?;
        let found = set.first().map_or(0, |header| header & 0x1f);
        // Nothing reads an extension, so its type doesn't matter.
        if found != kind && kind != NAL_SPS_EXT {
            return Err(HeaderError::invalid("nal_unit_type of a parameter set", found));
        }
        sets.push(set.to_vec());
    }
    Ok(sets)
}

/// Reads a whole NAL unit.
fn read_sps(nal: &[u8]) -> Result<SeqParameterSet, HeaderError> {
    let bits = RefNal::new(nal, &[], true).rbsp_bits();
    SeqParameterSet::from_bits(bits).map_err(|error| HeaderError::Unreadable(format!("SPS: {error:?}")))
}

impl Avc {
    /// Reads an AVCDecoderConfigurationRecord and the first SPS in it.
    pub fn parse(record: &Bytes) -> Result<Avc, HeaderError> {
        check_len(record.len(), CONFIG_LEN_MAX)?;
        let Some((&[version, profile_idc, _, _, lengths, count], mut rest)) = record.split_first_chunk() else {
            return Err(truncated("its first six bytes"));
        };
        if version != 1 {
            return Err(HeaderError::invalid("configurationVersion", version));
        }
        // Lengths of 3 bytes aren't allowed (14496-15, 5.3.3.1.2).
        if lengths & 3 == 2 {
            return Err(HeaderError::invalid("lengthSizeMinusOne", 2u8));
        }
        let sps = sets(&mut rest, count & 0x1f, NAL_SPS)?;
        let count = rest.try_get_u8().map_err(|_| truncated("the number of its PPS"))?;
        let pps = sets(&mut rest, count, NAL_PPS)?;
        let first = sps.first().ok_or(HeaderError::Missing("SPS"))?;
        if pps.is_empty() {
            return Err(HeaderError::Missing("PPS"));
        }
        let &[_, profile, compatibility, level, ..] = &first[..] else { return Err(truncated("the SPS")) };
        let parsed = read_sps(first)?;
        let pixels = parsed.pixel_dimensions().map_err(|error| HeaderError::Unreadable(format!("SPS: {error:?}")))?;
        let avcc = Avcc {
            configuration_version: 1,
            avc_profile_indication: profile,
            profile_compatibility: compatibility,
            avc_level_indication: level,
            length_size: (lengths & 3) + 1,
            ext: extension(profile_idc, rest)?,
            sequence_parameter_sets: sps,
            picture_parameter_sets: pps,
        };
        let picture = Picture {
            frame_rate_milli: frame_rate_milli(&parsed),
            transfer: transfer(&parsed).unwrap_or(2),
            sar: sample_aspect_ratio(&parsed).unwrap_or(SampleAspectRatio::SQUARE),
            ..Picture::new(pixels.0.into(), pixels.1.into())?
        };
        Ok(Avc { record: record.clone(), avcc, picture })
    }

    /// Returns the codecs string (RFC 6381): `avc1.` and profile, constraints and level in hexadecimal.
    pub fn codec(&self) -> String {
        let Avcc { avc_profile_indication, profile_compatibility, avc_level_indication, .. } = self.avcc;
        format!("avc1.{avc_profile_indication:02x}{profile_compatibility:02x}{avc_level_indication:02x}")
    }
}

/// Reads the fields behind the PPS in the profiles with chroma information. Many encoders leave them out.
fn extension(profile_idc: u8, rest: &[u8]) -> Result<Option<AvccExt>, HeaderError> {
    let Some((&[chroma_format, luma, chroma, count], mut rest)) = rest.split_first_chunk() else { return Ok(None) };
    if !matches!(profile_idc, 100 | 110 | 122 | 144 | 244) {
        return Ok(None);
    }
    Ok(Some(AvccExt {
        chroma_format: chroma_format & 3,
        bit_depth_luma: (luma & 7) + 8,
        bit_depth_chroma: (chroma & 7) + 8,
        sequence_parameter_sets_ext: sets(&mut rest, count, NAL_SPS_EXT)?,
    }))
}

fn transfer(sps: &SeqParameterSet) -> Option<u8> {
    let signal = sps.vui_parameters.as_ref()?.video_signal_type.as_ref()?;
    Some(signal.colour_description.as_ref()?.transfer_characteristics)
}

fn sample_aspect_ratio(sps: &SeqParameterSet) -> Option<SampleAspectRatio> {
    let (width, height) = sps.vui_parameters.as_ref()?.aspect_ratio_info.as_ref()?.get()?;
    Some(SampleAspectRatio::new(width, height))
}

/// H.264 E.2.1: a frame is two ticks of num_units_in_tick / time_scale.
fn frame_rate_milli(sps: &SeqParameterSet) -> Option<u32> {
    let timing = sps.vui_parameters.as_ref()?.timing_info.as_ref()?;
    rate_milli(timing.time_scale, u64::from(timing.num_units_in_tick) * 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::hevc::tests::bytes;
    use crate::packager::tests::AVCC_720P30;

    #[test]
    fn an_encoders_avcc_is_read() {
        let avc = Avc::parse(&Bytes::from_static(AVCC_720P30)).expect("x264's own");
        assert_eq!(avc.codec(), "avc1.64001f");
        assert_eq!((avc.picture.width, avc.picture.height), (1280, 720));
        assert_eq!((avc.picture.frame_rate_milli, avc.picture.transfer), (Some(30_000), 2));
        assert_eq!(avc.avcc.length_size, 4);
    }

    #[test]
    fn pixels_may_be_wider_than_high() {
        // x264's records of 352x288 pixels of 16:11 (by table E-1) and 360x288 of 64:45 (a ratio of its own).
        let sar = |record: &str| Avc::parse(&bytes(record)).expect("x264's own").picture.sar;
        let record = "0142c00dffe100176742c00dda05825b041000000300100000030320f142aa01000468ce0fc8";
        assert_eq!(sar(record), SampleAspectRatio::new(16, 11));
        let record = "0142c015ffe1001c6742c015da05c25e5fff0040002d1000000300100000030320f162ea01000468ce0fc8";
        assert_eq!(sar(record), SampleAspectRatio::new(64, 45));
    }

    #[test]
    fn each_truncation_is_an_error() {
        for cut in 0..AVCC_720P30.len() - 4 {
            assert!(Avc::parse(&Bytes::from_static(&AVCC_720P30[..cut])).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn faults_are_named() {
        let with = |at: usize, byte: u8| {
            let mut record = AVCC_720P30.to_vec();
            record[at] = byte;
            Avc::parse(&Bytes::from(record)).expect_err("a fault").to_string()
        };
        assert_eq!(with(0, 2), "configurationVersion is 2");
        assert_eq!(with(4, 0xfe), "lengthSizeMinusOne is 2");
        assert_eq!(with(8, 0x68), "nal_unit_type of a parameter set is 8");
        let long = Avc::parse(&Bytes::from(vec![1; CONFIG_LEN_MAX + 1]));
        assert_eq!(long, Err(HeaderError::TooLong { len: CONFIG_LEN_MAX + 1, max: CONFIG_LEN_MAX }));
    }
}
