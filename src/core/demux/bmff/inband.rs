//! Headers that come with the samples, as `avc3` allows (ISO 14496-15, 5.4.2.1). Encoders do so in `avc1`, too.

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::avc::sets::AvcSets;
use crate::codec::avc::{Avc, NAL_PPS, NAL_SPS};
use crate::codec::error::HeaderError;
use crate::model::CodecConfig;

/// nal_unit_type (H.264, table 7-1) of NAL units that describe the stream and not the picture: parameter sets,
/// delimiters, ends, filler data.
const NAL_LEFT_OUT: std::ops::RangeInclusive<u8> = 7..=13;

/// The search for headers in a track's samples.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Inband {
    /// Only the sample entry has headers.
    None,
    /// H.264.
    Avc {
        /// The bytes of a NAL unit's length: 1, 2 or 4.
        length_size: u8,
        /// The parameter sets in force.
        sets: AvcSets,
    },
}

/// A sample that has been searched for headers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Searched {
    /// The headers that are in force from this sample on, if they have changed.
    pub config: Option<CodecConfig>,
    /// The access unit.
    pub data: Bytes,
}

impl Inband {
    /// Reads an `avcC`'s content. Returns the headers, with lengths of 4 bytes, if it has parameter sets.
    pub(super) fn avc(record: Bytes) -> (Inband, Option<Bytes>) {
        let length_size = record.get(4).map_or(4, |byte| (byte & 3) + 1);
        let mut sets = AvcSets::default();
        let config = match Avc::parse(&record) {
            Ok(avc) => {
                // An avcC never has more sets than fit.
                let of = |sets: Vec<Vec<u8>>| sets.into_iter().map(Bytes::from);
                let _ = sets.take(of(avc.avcc.sequence_parameter_sets), of(avc.avcc.picture_parameter_sets));
                let mut bytes = BytesMut::from(&record[..]);
                bytes[4] |= 3;
                Some(bytes.freeze())
            }
            Err(HeaderError::Missing(_)) => None,
            // The packager reports what is wrong with it.
            Err(_) => Some(record),
        };
        (Inband::Avc { length_size, sets }, config)
    }

    /// Removes everything that isn't part of the picture from a sample.
    ///
    /// # Errors
    /// The fault of the sample.
    pub(super) fn search(&mut self, data: Bytes) -> Result<Searched, &'static str> {
        let Inband::Avc { length_size, sets } = self else { return Ok(Searched { config: None, data }) };
        let nals = nal_units(&data, usize::from(*length_size))?;
        let of = |kind: u8| nals.iter().filter(move |nal| nal[0] & 0x1f == kind).map(|nal| data.slice_ref(nal));
        let before = sets.clone();
        sets.take(of(NAL_SPS), of(NAL_PPS))?;
        let changed = *sets != before;
        let config = sets.record().filter(|_| changed).map(CodecConfig::Avc);
        let is_left_out = |nal: &&[u8]| NAL_LEFT_OUT.contains(&(nal[0] & 0x1f));
        if *length_size == 4 && !nals.iter().any(is_left_out) {
            return Ok(Searched { config, data });
        }
        let mut out = BytesMut::with_capacity(data.len() + nals.len() * 4);
        for nal in nals.iter().filter(|nal| !is_left_out(nal)) {
            out.put_u32(u32::try_from(nal.len()).map_err(|_| "a NAL unit has 4 GiB or more")?);
            out.extend_from_slice(nal);
        }
        Ok(Searched { config, data: out.freeze() })
    }
}

/// Returns a sample's NAL units. No NAL unit is empty.
fn nal_units(mut rest: &[u8], length_size: usize) -> Result<Vec<&[u8]>, &'static str> {
    let mut out = Vec::new();
    while !rest.is_empty() {
        let (len, tail) = rest.split_at_checked(length_size).ok_or("the sample ends inside a NAL unit's length")?;
        let len = len.iter().fold(0, |len, &byte| len << 8 | usize::from(byte));
        let (nal, tail) = tail.split_at_checked(len).ok_or("a NAL unit is longer than its sample")?;
        if !nal.is_empty() {
            out.push(nal);
        }
        rest = tail;
    }
    Ok(out)
}
