//! Parameter sets that come with the pictures, and the avcC that they make.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use h264_reader::nal::sps::{ChromaFormat, SeqParameterSet};
use h264_reader::nal::{Nal, RefNal};

/// Parameter sets of one kind (H.264, 7.4.2.1.1: 32 SPS; of 256 PPS an avcC's byte counts 255).
const SPS_MAX: usize = 31;
const PPS_MAX: usize = 255;

/// The sets in force, by id.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct AvcSets {
    sps: BTreeMap<u32, Bytes>,
    pps: BTreeMap<u32, Bytes>,
}

impl AvcSets {
    /// Takes the sets that stand before a picture, header bytes included. An SPS begins them all anew.
    pub(crate) fn take(
        &mut self,
        sps: impl IntoIterator<Item = Bytes>,
        pps: impl IntoIterator<Item = Bytes>,
    ) -> Result<(), &'static str> {
        // 7.3.2.1.1: profile, constraints and level stand before the id.
        let by_id = |set: Bytes, at: usize| Some((exp_golomb(set.get(at..)?)?, set));
        let sps: BTreeMap<u32, Bytes> = sps.into_iter().filter_map(|set| by_id(set, 4)).collect();
        let pps: BTreeMap<u32, Bytes> = pps.into_iter().filter_map(|set| by_id(set, 1)).collect();
        if !sps.is_empty() {
            self.sps = sps;
            if !pps.is_empty() {
                self.pps = pps;
            }
        } else {
            self.pps.extend(pps);
        }
        if self.sps.len() > SPS_MAX || self.pps.len() > PPS_MAX {
            self.sps.clear();
            self.pps.clear();
            return Err("more parameter sets than an avcC has room for");
        }
        Ok(())
    }

    /// An AVCDecoderConfigurationRecord (14496-15, 5.3.3.1) with lengths of 4 bytes; `None` without a set of each kind.
    pub(crate) fn record(&self) -> Option<Bytes> {
        let first = self.sps.values().next()?;
        let &[_, profile, constraints, level, ..] = &first[..] else { return None };
        if self.pps.is_empty() {
            return None;
        }
        let mut out = BytesMut::new();
        out.extend_from_slice(&[1, profile, constraints, level, 0xfc | 3]);
        let sets = |out: &mut BytesMut, sets: &BTreeMap<u32, Bytes>| {
            for set in sets.values() {
                out.put_u16(u16::try_from(set.len()).ok()?);
                out.extend_from_slice(set);
            }
            Some(())
        };
        out.put_u8(0xe0 | u8::try_from(self.sps.len()).ok()?);
        sets(&mut out, &self.sps)?;
        out.put_u8(u8::try_from(self.pps.len()).ok()?);
        sets(&mut out, &self.pps)?;
        if matches!(profile, 100 | 110 | 122 | 144) {
            let sps = SeqParameterSet::from_bits(RefNal::new(first, &[], true).rbsp_bits()).ok()?;
            let chroma = &sps.chroma_info;
            let format = match chroma.chroma_format {
                ChromaFormat::Monochrome => 0,
                ChromaFormat::YUV420 => 1,
                ChromaFormat::YUV422 => 2,
                _ => 3,
            };
            let luma = chroma.bit_depth_luma_minus8 & 7;
            out.extend_from_slice(&[0xfc | format, 0xf8 | luma, 0xf8 | chroma.bit_depth_chroma_minus8 & 7, 0]);
        }
        Some(out.freeze())
    }
}

/// ue(v) (H.264, 9.1), of at most 15 bits: ids and counts are no longer.
pub(crate) fn exp_golomb(bytes: &[u8]) -> Option<u32> {
    let mut word = [0; 4];
    let len = bytes.len().min(4);
    word[..len].copy_from_slice(&bytes[..len]);
    let word = u32::from_be_bytes(word);
    let zeros = word.leading_zeros();
    let used = 2 * zeros + 1;
    (zeros < 16 && used as usize <= len * 8).then(|| (word >> (32 - used)) - 1)
}
