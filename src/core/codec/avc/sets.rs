//! H.264's parameter sets that come with the pictures, and the avcC that they make.

use std::collections::BTreeMap;

use bytes::Bytes;
use h264_reader::nal::sps::ChromaFormat;
use mp4_atom::{Atom as _, Avcc, AvccExt};

use super::read_sps;

/// Parameter sets of one kind (H.264, 7.4.2.1.1: 32 SPS; of 256 PPS an avcC's byte counts 255).
const SPS_MAX: usize = 31;
const PPS_MAX: usize = 255;

/// The parameter sets in force, by id.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct AvcSets {
    sps: BTreeMap<u32, Bytes>,
    pps: BTreeMap<u32, Bytes>,
}

impl AvcSets {
    /// Takes the sets that come before a picture, header bytes included.
    pub(crate) fn take(
        &mut self,
        sps: impl IntoIterator<Item = Bytes>,
        pps: impl IntoIterator<Item = Bytes>,
    ) -> Result<(), &'static str> {
        // 7.3.2.1.1: profile, constraints and level come before the id.
        let by_id = |set: Bytes, at: usize| Some((exp_golomb(set.get(at..)?)?, set)).filter(|(_, set)| fits(set));
        let sps = sps.into_iter().filter_map(|set| by_id(set, 4)).collect();
        let pps = pps.into_iter().filter_map(|set| by_id(set, 1)).collect();
        renew((&mut self.sps, &mut self.pps), sps, pps);
        if self.sps.len() > SPS_MAX || self.pps.len() > PPS_MAX {
            self.sps.clear();
            self.pps.clear();
            return Err("more parameter sets than an avcC has room for");
        }
        Ok(())
    }

    /// Returns an AVCDecoderConfigurationRecord (14496-15, 5.3.3.1) with lengths of 4 bytes; `None` without a set of each
    /// kind.
    pub(crate) fn record(&self) -> Option<Bytes> {
        let first = self.sps.values().next()?;
        let &[_, profile, constraints, level, ..] = &first[..] else { return None };
        if self.pps.is_empty() {
            return None;
        }
        let sets = |sets: &BTreeMap<u32, Bytes>| sets.values().map(|set| set.to_vec()).collect();
        let record = Avcc {
            configuration_version: 1,
            avc_profile_indication: profile,
            profile_compatibility: constraints,
            avc_level_indication: level,
            length_size: 4,
            sequence_parameter_sets: sets(&self.sps),
            picture_parameter_sets: sets(&self.pps),
            ext: if matches!(profile, 100 | 110 | 122 | 144) { Some(extension(first)?) } else { None },
        };
        let mut out = Vec::new();
        record.encode_body(&mut out).ok()?;
        Some(out.into())
    }
}

/// Returns the fields behind the parameter sets in an avcC of a high profile.
fn extension(sps: &[u8]) -> Option<AvccExt> {
    let chroma = read_sps(sps).ok()?.chroma_info;
    Some(AvccExt {
        chroma_format: match chroma.chroma_format {
            ChromaFormat::Monochrome => 0,
            ChromaFormat::YUV420 => 1,
            ChromaFormat::YUV422 => 2,
            _ => 3,
        },
        bit_depth_luma: (chroma.bit_depth_luma_minus8 & 7) + 8,
        bit_depth_chroma: (chroma.bit_depth_chroma_minus8 & 7) + 8,
        sequence_parameter_sets_ext: Vec::new(),
    })
}

type ById = BTreeMap<u32, Bytes>;

/// Returns whether a record has room for a parameter set. Longer ones aren't kept.
pub(crate) fn fits(set: &Bytes) -> bool {
    set.len() <= usize::from(u16::MAX)
}

/// Puts sets that came in band in the place of those in force. New SPS replace all sets; sets that are repeated replace none.
pub(crate) fn renew((old_sps, old_pps): (&mut ById, &mut ById), sps: ById, pps: ById) {
    let repeats = |old: &ById, new: &ById| new.iter().all(|(id, set)| old.get(id) == Some(set));
    if repeats(old_sps, &sps) && repeats(old_pps, &pps) {
        return;
    }
    if sps.is_empty() {
        old_pps.extend(pps);
        return;
    }
    *old_sps = sps;
    if !pps.is_empty() {
        *old_pps = pps;
    }
}

/// Reads ue(v) (H.264, 9.1) of at most 15 bits: ids and counts are no longer.
pub(crate) fn exp_golomb(bytes: &[u8]) -> Option<u32> {
    let mut word = [0; 4];
    let len = bytes.len().min(4);
    word[..len].copy_from_slice(&bytes[..len]);
    let word = u32::from_be_bytes(word);
    let zeros = word.leading_zeros();
    let used = 2 * zeros + 1;
    (zeros < 16 && used as usize <= len * 8).then(|| (word >> (32 - used)) - 1)
}
