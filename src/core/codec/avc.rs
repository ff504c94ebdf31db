//! H.264's own headers: AVCDecoderConfigurationRecord (ISO 14496-15, 5.3.3.1) and the SPS in it.

pub(crate) mod sets;

use bytes::Bytes;
use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::nal::{Nal, RefNal};

use crate::model::limits::CONFIG_LEN_MAX;

/// nal_unit_type of a sequence parameter set (H.264 table 7-1).
pub(crate) const NAL_SPS: u8 = 7;
/// nal_unit_type of a picture parameter set.
pub(crate) const NAL_PPS: u8 = 8;

/// What is read of an AVCDecoderConfigurationRecord.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Avc {
    /// The record as it came: two configurations are the same if these bytes are.
    pub record: Bytes,
    /// profile_idc, the constraint flags, level_idc, as the SPS has them.
    pub profile: [u8; 3],
    /// Bytes of a NAL unit's length: 1, 2 or 4.
    pub length_size: u8,
    /// Sequence parameter sets, header byte included.
    pub sps: Vec<Bytes>,
    /// Picture parameter sets, header byte included.
    pub pps: Vec<Bytes>,
    /// chroma_format, bit_depth_luma, bit_depth_chroma where a high profile gives them.
    pub high: Option<[u8; 3]>,
    /// SPS extensions, as many as `high` announces.
    pub sps_ext: Vec<Bytes>,
    /// In pixels, cropped.
    pub width: u16,
    /// In pixels, cropped.
    pub height: u16,
    /// Frames in a thousand seconds as VUI states it; a hint, since encoders get it wrong.
    pub frame_rate_milli: Option<u32>,
    /// transfer_characteristics of VUI (H.264 table E-4; 16 is PQ, 18 is HLG); 2 where nothing is said.
    pub transfer: u8,
}

/// Why an AVCDecoderConfigurationRecord can't be used. Its publisher is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AvcError {
    /// Ends before byte `at`.
    #[error("the avcC has {len} bytes, and {what} should go on to byte {at}")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where it should end.
        at: usize,
        /// The header's length.
        len: usize,
    },
    /// Longer than [`CONFIG_LEN_MAX`].
    #[error("the avcC has {0} bytes, more than {CONFIG_LEN_MAX}")]
    TooLong(usize),
    /// configurationVersion isn't 1.
    #[error("avcC configurationVersion is {0}, not 1")]
    Version(u8),
    /// Lengths of 3 bytes aren't allowed (14496-15, 5.3.3.1.2).
    #[error("avcC says that NAL lengths have 3 bytes")]
    LengthSize,
    /// No SPS or no PPS.
    #[error("the avcC has no {0}")]
    Missing(&'static str),
    /// A parameter set of the wrong NAL type.
    #[error("byte {at} of the avcC: NAL type {found} where a {what} should be")]
    NalType {
        /// What it should be.
        what: &'static str,
        /// The type found.
        found: u8,
        /// Its offset.
        at: usize,
    },
    /// The SPS can't be read.
    #[error("the avcC's SPS: {0}")]
    Sps(String),
    /// Larger than a sample entry can say.
    #[error("the avcC's SPS: a picture of {0}x{1} pixels")]
    PictureSize(u32, u32),
}

struct Cursor<'a> {
    buf: &'a Bytes,
    at: usize,
}

impl Cursor<'_> {
    fn take(&mut self, n: usize, what: &'static str) -> Result<Bytes, AvcError> {
        let end = self.at + n;
        if end > self.buf.len() {
            return Err(AvcError::Truncated { what, at: end, len: self.buf.len() });
        }
        let out = self.buf.slice(self.at..end);
        self.at = end;
        Ok(out)
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, AvcError> {
        Ok(self.take(1, what)?[0])
    }

    /// `n` parameter sets, each behind a 16-bit length.
    fn sets(&mut self, n: u8, what: &'static str, nal: Option<u8>) -> Result<Vec<Bytes>, AvcError> {
        let mut sets = Vec::new();
        for _ in 0..n {
            let len = self.take(2, what)?;
            let at = self.at;
            let set = self.take(usize::from(u16::from_be_bytes([len[0], len[1]])), what)?;
            let found = set.first().map_or(0, |header| header & 0x1f);
            if nal.is_some_and(|nal| nal != found) {
                return Err(AvcError::NalType { what, found, at });
            }
            sets.push(set);
        }
        Ok(sets)
    }
}

impl Avc {
    /// Reads an AVCDecoderConfigurationRecord and the first SPS in it.
    pub fn parse(record: &Bytes) -> Result<Avc, AvcError> {
        if record.len() > CONFIG_LEN_MAX {
            return Err(AvcError::TooLong(record.len()));
        }
        let r = &mut Cursor { buf: record, at: 0 };
        let version = r.u8("configurationVersion")?;
        if version != 1 {
            return Err(AvcError::Version(version));
        }
        let profile_idc = r.take(3, "profile and level")?[0];
        let length_size = (r.u8("lengthSizeMinusOne")? & 3) + 1;
        if length_size == 3 {
            return Err(AvcError::LengthSize);
        }
        let n = r.u8("numOfSequenceParameterSets")? & 0x1f;
        let sps = r.sets(n, "SPS", Some(NAL_SPS))?;
        let n = r.u8("numOfPictureParameterSets")?;
        let pps = r.sets(n, "PPS", Some(NAL_PPS))?;
        let first = sps.first().ok_or(AvcError::Missing("SPS"))?;
        if pps.is_empty() {
            return Err(AvcError::Missing("PPS"));
        }
        // The profiles with chroma information go on; many encoders leave it out all the same.
        let (mut high, mut sps_ext) = (None, Vec::new());
        if matches!(profile_idc, 100 | 110 | 122 | 144 | 244) && record.len() >= r.at + 4 {
            let chroma_format = r.u8("chroma_format")? & 3;
            let luma = (r.u8("bit_depth_luma_minus8")? & 7) + 8;
            let chroma = (r.u8("bit_depth_chroma_minus8")? & 7) + 8;
            high = Some([chroma_format, luma, chroma]);
            let n = r.u8("numOfSequenceParameterSetExt")?;
            sps_ext = r.sets(n, "SPS extension", None)?;
        }
        if first.len() < 4 {
            return Err(AvcError::Sps("shorter than its profile and level".to_owned()));
        }
        let parsed = SeqParameterSet::from_bits(RefNal::new(first, &[], true).rbsp_bits())
            .map_err(|e| AvcError::Sps(format!("{e:?}")))?;
        let (width, height) = parsed.pixel_dimensions().map_err(|e| AvcError::Sps(format!("{e:?}")))?;
        let (Ok(w), Ok(h)) = (u16::try_from(width), u16::try_from(height)) else {
            return Err(AvcError::PictureSize(width, height));
        };
        if w == 0 || h == 0 {
            return Err(AvcError::PictureSize(width, height));
        }
        let profile = [first[1], first[2], first[3]];
        let frame_rate_milli = frame_rate_milli(&parsed);
        Ok(Avc {
            record: record.clone(),
            profile,
            length_size,
            sps,
            pps,
            high,
            sps_ext,
            width: w,
            height: h,
            frame_rate_milli,
            transfer: transfer(&parsed).unwrap_or(2),
        })
    }

    /// RFC 6381 codecs string: `avc1.` and profile, constraints and level in hexadecimal.
    pub fn codec(&self) -> String {
        let [profile, constraints, level] = self.profile;
        format!("avc1.{profile:02x}{constraints:02x}{level:02x}")
    }
}

/// H.264 E.2.1: a frame is two ticks of num_units_in_tick / time_scale.
fn transfer(sps: &SeqParameterSet) -> Option<u8> {
    let signal = sps.vui_parameters.as_ref()?.video_signal_type.as_ref()?;
    Some(signal.colour_description.as_ref()?.transfer_characteristics)
}

fn frame_rate_milli(sps: &SeqParameterSet) -> Option<u32> {
    let timing = sps.vui_parameters.as_ref()?.timing_info.as_ref()?;
    let milli = (u64::from(timing.time_scale) * 1_000).checked_div(u64::from(timing.num_units_in_tick) * 2)?;
    u32::try_from(milli).ok().filter(|&milli| milli > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packager::tests::AVCC_720P30;

    #[test]
    fn an_encoders_avcc_is_read() {
        let avc = Avc::parse(&Bytes::from_static(AVCC_720P30)).expect("x264's own");
        assert_eq!(avc.codec(), "avc1.64001f");
        assert_eq!((avc.width, avc.height), (1280, 720));
        assert_eq!((avc.frame_rate_milli, avc.transfer), (Some(30_000), 2));
        assert_eq!(avc.length_size, 4);
    }

    #[test]
    fn each_truncation_is_an_error_and_says_where() {
        for cut in 0..AVCC_720P30.len() - 4 {
            assert!(Avc::parse(&Bytes::from_static(&AVCC_720P30[..cut])).is_err(), "cut at {cut}");
        }
        let cut = Avc::parse(&Bytes::from_static(&AVCC_720P30[..8]));
        assert!(matches!(cut, Err(AvcError::Truncated { what: "SPS", len: 8, .. })), "{cut:?}");
    }

    #[test]
    fn faults_are_named() {
        let with = |at: usize, byte: u8| {
            let mut record = AVCC_720P30.to_vec();
            record[at] = byte;
            Avc::parse(&Bytes::from(record))
        };
        assert_eq!(with(0, 2), Err(AvcError::Version(2)));
        assert_eq!(with(4, 0xfe), Err(AvcError::LengthSize));
        assert!(matches!(with(8, 0x68), Err(AvcError::NalType { what: "SPS", found: 8, at: 8 })));
        assert_eq!(Avc::parse(&Bytes::from(vec![1; CONFIG_LEN_MAX + 1])), Err(AvcError::TooLong(CONFIG_LEN_MAX + 1)));
    }
}
