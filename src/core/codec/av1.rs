//! AV1's own headers: AV1CodecConfigurationRecord (AV1-ISOBMFF 1.3, 2.3.3), the sequence header in it (AV1 bitstream
//! specification, 5.5); and its temporal units as an `av01` track has them.

use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};
use mp4_atom::{Atom as _, Av1c};
use scuffle_av1::seq::SequenceHeaderObu;
use scuffle_av1::{ObuHeader, ObuType};

use super::error::{HeaderError, check_len};
use super::picture::{Picture, rate_milli};
use crate::model::limits::CONFIG_LEN_MAX;

/// The OBU types that "SHOULD NOT be present in the sample" (AV1-ISOBMFF 2.4): temporal delimiters, tile lists, padding.
const LEFT_OUT: [ObuType; 3] = [ObuType::TemporalDelimiter, ObuType::TileList, ObuType::Padding];
/// The most zero bytes in a row in a sequence header: scuffle-av1 counts the zero bits of uvlc() up to 255.
const ZEROS_MAX: usize = 30;

/// An AV1CodecConfigurationRecord.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Av1 {
    /// The record as it came: two configurations are the same if these bytes are.
    pub record: Bytes,
    /// The record's fields.
    pub av1c: Av1c,
    /// The sequence header OBU, whole.
    sequence: Bytes,
    /// reduced_still_picture_header, with which frame headers have no type.
    still: bool,
    /// The pictures. The frame rate is stated if frames come evenly.
    pub picture: Picture,
    /// The colours.
    pub colour: Colour,
}

/// The parts of color_config (6.4.2) that players need.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Colour {
    /// color_primaries, transfer_characteristics (16 is PQ, 18 is HLG) and matrix_coefficients; 2 if the header doesn't state them.
    pub description: [u8; 3],
    /// color_range: 0 to 255.
    pub full_range: bool,
}

/// An open bitstream unit.
#[derive(Clone, Copy, Debug)]
struct Obu<'a> {
    header: ObuHeader,
    /// The whole OBU, with header and size.
    whole: &'a [u8],
    payload: &'a [u8],
}

/// Returns the OBUs of a temporal unit in the low-overhead format (5.3), and `None` for the rest that is no OBU.
fn obus(data: &[u8]) -> impl Iterator<Item = Option<Obu<'_>>> {
    let mut rest = data;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let obu = obu(rest);
        rest = obu.map_or(&[], |obu| &rest[obu.whole.len()..]);
        Some(obu)
    })
}

fn obu(data: &[u8]) -> Option<Obu<'_>> {
    let mut rest = data;
    let header = ObuHeader::parse(&mut rest).ok()?;
    // Without a size, the OBU reaches to the end.
    let len = header.size.map_or(Some(rest.len()), |size| usize::try_from(size).ok())?;
    let payload = rest.get(..len)?;
    Some(Obu { header, whole: &data[..data.len() - rest.len() + len], payload })
}

impl Av1 {
    /// Reads an AV1CodecConfigurationRecord and the sequence header in it.
    pub fn parse(record: &Bytes) -> Result<Av1, HeaderError> {
        check_len(record.len(), CONFIG_LEN_MAX)?;
        let av1c = Av1c::decode_body(&mut &record[..])?;
        let obu = obus(&av1c.config_obus).flatten().find(|obu| obu.header.obu_type == ObuType::SequenceHeader);
        let obu = obu.ok_or(HeaderError::Missing("sequence header"))?;
        let read = read_sequence(&obu)?;
        let color = read.color_config;
        let transfer = color.transfer_characteristics;
        Ok(Av1 {
            record: record.clone(),
            sequence: Bytes::copy_from_slice(obu.whole),
            still: read.reduced_still_picture_header,
            picture: Picture {
                frame_rate_milli: frame_rate_milli(&read),
                transfer,
                ..Picture::new(read.max_frame_width, read.max_frame_height)?
            },
            colour: Colour {
                description: [color.color_primaries, transfer, color.matrix_coefficients],
                full_range: color.full_color_range,
            },
            av1c,
        })
    }

    /// Returns the codecs string (RFC 6381; AV1-ISOBMFF, 5): `av01`, profile, level and tier, bit depth; and the colours if
    /// they differ from BT.709.
    pub fn codec(&self) -> String {
        let Av1c { seq_profile, seq_level_idx_0, seq_tier_0, high_bitdepth, twelve_bit, .. } = &self.av1c;
        let tier = if *seq_tier_0 { 'H' } else { 'M' };
        let depth = match (high_bitdepth, twelve_bit) {
            (true, true) => 12,
            (true, false) => 10,
            _ => 8,
        };
        let mut out = format!("av01.{seq_profile}.{seq_level_idx_0:02}{tier}.{depth:02}");
        // "mutually inclusive (all or none)"; none of them means 4:2:0 in BT.709.
        let [primaries, transfer, matrix] = self.colour.description;
        if !matches!((primaries, transfer, matrix), (1 | 2, 1 | 2, 1 | 2)) {
            let c = &self.av1c;
            let flag = u8::from;
            let (x, y) = (flag(c.chroma_subsampling_x), flag(c.chroma_subsampling_y));
            let place = if x + y == 2 { c.chroma_sample_position } else { 0 };
            let (mono, range) = (flag(c.monochrome), flag(self.colour.full_range));
            let _ = write!(out, ".{mono}.{x}{y}{place}.{primaries:02}.{transfer:02}.{matrix:02}.{range}");
        }
        out
    }

    /// Returns a temporal unit as `av01` has it, and whether it is a sync sample: "the first frame is a Key Frame that has
    /// show_frame flag set to 1, \[and\] it contains a Sequence Header OBU before the first Frame Header OBU"
    /// (AV1-ISOBMFF, 2.5). A sync sample without that header gets it. `None` if the OBUs don't fill the unit.
    pub fn sample(&self, data: &Bytes) -> Option<(Bytes, bool)> {
        let (mut sequence, mut left_out, mut sync) = (false, false, None);
        for obu in obus(data) {
            let obu = obu?;
            let kind = obu.header.obu_type;
            left_out |= LEFT_OUT.contains(&kind);
            sequence |= kind == ObuType::SequenceHeader && sync.is_none();
            if matches!(kind, ObuType::FrameHeader | ObuType::Frame) && sync.is_none() {
                sync = Some(self.is_shown_key(obu.payload));
            }
        }
        let sync = sync.unwrap_or(false);
        let add = sync && !sequence;
        if !left_out && !add {
            return Some((data.clone(), sync));
        }
        let mut out = BytesMut::with_capacity(data.len() + self.sequence.len());
        if add {
            out.extend_from_slice(&self.sequence);
        }
        for obu in obus(data).flatten().filter(|obu| !LEFT_OUT.contains(&obu.header.obu_type)) {
            out.extend_from_slice(obu.whole);
        }
        Some((out.freeze(), sync))
    }

    /// Returns whether a frame is a shown key frame (5.9.2): show_existing_frame, frame_type:2 (0 is KEY_FRAME), show_frame.
    fn is_shown_key(&self, frame_header: &[u8]) -> bool {
        self.still || frame_header.first().is_some_and(|&byte| byte >> 4 == 0b0001)
    }
}

/// Reads a sequence header (5.5).
fn read_sequence(obu: &Obu<'_>) -> Result<SequenceHeaderObu, HeaderError> {
    let unreadable = |why: String| HeaderError::Unreadable(format!("sequence header: {why}"));
    if obu.payload.windows(ZEROS_MAX + 1).any(|bytes| bytes.iter().all(|&byte| byte == 0)) {
        return Err(unreadable(format!("more than {ZEROS_MAX} zero bytes in a row")));
    }
    SequenceHeaderObu::parse(obu.header, &mut &obu.payload[..]).map_err(|error| unreadable(error.to_string()))
}

/// Returns the frame rate, in frames a thousand seconds, if frames come evenly.
fn frame_rate_milli(sequence: &SequenceHeaderObu) -> Option<u32> {
    let timing = sequence.timing_info?;
    let ticks = timing.num_ticks_per_picture?;
    rate_milli(timing.time_scale, u64::from(timing.num_units_in_display_tick).saturating_mul(ticks))
}

#[cfg(test)]
mod tests;
