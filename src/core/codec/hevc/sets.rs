//! H.265's parameter sets that come with the pictures, and the hvcC that they make.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Hevc;
use super::sps::Sps;
use crate::codec::avc::sets::{exp_golomb, fits, renew};

/// The most PPS (H.265, 7.4.3).
const PPS_MAX: u32 = 64;

/// The parameter sets in force, by id.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct HevcSets {
    vps: BTreeMap<u32, Bytes>,
    sps: BTreeMap<u32, Bytes>,
    pps: BTreeMap<u32, Bytes>,
}

impl HevcSets {
    /// Takes the sets that come before a picture, header bytes included.
    pub(crate) fn take(
        &mut self,
        vps: impl IntoIterator<Item = Bytes>,
        sps: impl IntoIterator<Item = Bytes>,
        pps: impl IntoIterator<Item = Bytes>,
    ) {
        // 7.3.2.1: vps_video_parameter_set_id:4 behind the header; 7.3.2.3: pps_pic_parameter_set_id.
        let vps = vps.into_iter().filter(fits).filter_map(|set| Some((u32::from(set.get(2)? >> 4), set)));
        let sps = sps.into_iter().filter(fits).filter_map(|set| Some((Sps::parse(&set).ok()?.id, set))).collect();
        let pps = pps.into_iter().filter(fits).filter_map(|set| Some((exp_golomb(set.get(2..)?)?, set)));
        let pps = pps.filter(|(id, _)| *id < PPS_MAX).collect();
        self.vps.extend(vps);
        renew((&mut self.sps, &mut self.pps), sps, pps);
    }

    /// Returns an HEVCDecoderConfigurationRecord with lengths of 4 bytes; `None` without a set of each kind.
    pub(crate) fn record(&self) -> Option<Bytes> {
        let [vps, sps, pps] =
            [&self.vps, &self.sps, &self.pps].map(|sets| sets.values().cloned().collect::<Vec<Bytes>>());
        let whole = !vps.is_empty() && !pps.is_empty();
        whole.then(|| Hevc::record_of(&vps, &sps, &pps).ok())?
    }
}
