//! AV1's own headers: AV1CodecConfigurationRecord (AV1-ISOBMFF 1.3, 2.3.3), the sequence header in it (AV1 bitstream
//! specification, 5.5), and what becomes of its temporal units in an `av01` track.

use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};
use h264_reader::rbsp::{BitRead, BitReader, BitReaderError};
use mp4_atom::{Atom as _, Av1c};

use super::error::{HeaderError, rate_milli, size};
use crate::model::limits::CONFIG_LEN_MAX;

const HEADER: &str = "av1C";

/// obu_type (6.2.2).
const OBU_SEQUENCE_HEADER: u8 = 1;
const OBU_TEMPORAL_DELIMITER: u8 = 2;
const OBU_FRAME_HEADER: u8 = 3;
const OBU_FRAME: u8 = 6;
const OBU_TILE_LIST: u8 = 8;
const OBU_PADDING: u8 = 15;
/// AV1-ISOBMFF 2.4: temporal delimiters, tile lists and padding "SHOULD NOT be present in the sample".
const LEFT_OUT: [u8; 3] = [OBU_TEMPORAL_DELIMITER, OBU_TILE_LIST, OBU_PADDING];

/// What is read of an AV1CodecConfigurationRecord.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Av1 {
    /// The record as it came: two configurations are the same if these bytes are.
    pub record: Bytes,
    /// The same, taken apart.
    pub av1c: Av1c,
    /// The sequence header OBU, whole.
    sequence: Bytes,
    /// reduced_still_picture_header: frame headers then don't say their type.
    still: bool,
    /// In pixels.
    pub width: u16,
    /// In pixels.
    pub height: u16,
    /// Frames in a thousand seconds if they come evenly and the header says so.
    pub frame_rate_milli: Option<u32>,
    /// What its pictures' numbers stand for.
    pub colour: Colour,
}

/// color_config (6.4.2), as far as a player is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Colour {
    /// color_primaries, transfer_characteristics (16 is PQ, 18 is HLG) and matrix_coefficients; 2 where nothing is said.
    pub description: [u8; 3],
    /// color_range: 0 to 255.
    pub full_range: bool,
}

/// An open bitstream unit.
#[derive(Clone, Copy, Debug)]
struct Obu<'a> {
    kind: u8,
    /// Header and size included.
    whole: &'a [u8],
    payload: &'a [u8],
}

/// The OBUs of a temporal unit in the low-overhead format (5.3); `None` once for what is none.
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
    let &header = data.first()?;
    // 5.3.2: forbidden bit, type:4, extension, has_size, reserved.
    let mut at = if header & 4 == 0 { 1 } else { 2 };
    if header & 0x80 != 0 {
        return None;
    }
    let len = if header & 2 == 0 {
        // It reaches to the end.
        data.len().checked_sub(at)?
    } else {
        let (len, bytes) = leb128(data.get(at..)?)?;
        at += bytes;
        len
    };
    let whole = data.get(..at.checked_add(len)?)?;
    Some(Obu { kind: header >> 3 & 15, whole, payload: &whole[at..] })
}

/// 4.10.5: seven bits a byte, the least first; and how many bytes.
fn leb128(data: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0u64;
    for (i, byte) in data.iter().take(8).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return usize::try_from(value).ok().map(|value| (value, i + 1));
        }
    }
    None
}

impl Av1 {
    /// Reads an AV1CodecConfigurationRecord and the sequence header in it.
    pub fn parse(record: &Bytes) -> Result<Av1, HeaderError> {
        if record.len() > CONFIG_LEN_MAX {
            return Err(HeaderError::TooLong { header: HEADER, len: record.len(), max: CONFIG_LEN_MAX });
        }
        let av1c = Av1c::decode_body(&mut &record[..]).map_err(HeaderError::atom(HEADER))?;
        let sequence = obus(&av1c.config_obus).flatten().find(|obu| obu.kind == OBU_SEQUENCE_HEADER);
        let sequence = sequence.ok_or(HeaderError::Missing { header: HEADER, what: "sequence header" })?;
        let read = Sequence::parse(sequence.payload).map_err(HeaderError::bits("av1C's sequence header"))?;
        let (width, height) = size(HEADER, read.width, read.height)?;
        let (frame_rate_milli, colour, still) = (read.frame_rate_milli, read.colour, read.reduced);
        let sequence = Bytes::copy_from_slice(sequence.whole);
        Ok(Av1 { record: record.clone(), sequence, still, width, height, frame_rate_milli, colour, av1c })
    }

    /// RFC 6381 codecs string (AV1-ISOBMFF, 5): `av01`, profile, level and tier, bit depth; and the
    /// colours where they aren't usual.
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

    /// A temporal unit as `av01` has it, and whether it is a sync sample: "the first frame is a Key Frame that has
    /// show_frame flag set to 1, \[and\] it contains a Sequence Header OBU before the first Frame Header OBU"
    /// (AV1-ISOBMFF, 2.5). Where that header is missing, it is put in. `None` where OBUs don't fill it.
    pub fn sample(&self, data: &Bytes) -> Option<(Bytes, bool)> {
        let (mut sequence, mut left_out, mut sync) = (false, false, None);
        for obu in obus(data) {
            let obu = obu?;
            left_out |= LEFT_OUT.contains(&obu.kind);
            sequence |= obu.kind == OBU_SEQUENCE_HEADER && sync.is_none();
            if matches!(obu.kind, OBU_FRAME_HEADER | OBU_FRAME) && sync.is_none() {
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
        for obu in obus(data).flatten().filter(|obu| !LEFT_OUT.contains(&obu.kind)) {
            out.extend_from_slice(obu.whole);
        }
        Some((out.freeze(), sync))
    }

    /// 5.9.2: show_existing_frame, frame_type:2 (0 is KEY_FRAME), show_frame.
    fn is_shown_key(&self, frame_header: &[u8]) -> bool {
        self.still || frame_header.first().is_some_and(|&byte| byte >> 4 == 0b0001)
    }
}

/// What is read of a sequence header.
struct Sequence {
    reduced: bool,
    width: u64,
    height: u64,
    frame_rate_milli: Option<u32>,
    colour: Colour,
}

impl Sequence {
    /// 5.5.1, up to the colour's range.
    fn parse(payload: &[u8]) -> Result<Sequence, BitReaderError> {
        let r = &mut BitReader::new(payload);
        let profile: u8 = r.read_var(3, "seq_profile")?;
        r.skip(1, "still_picture")?;
        let reduced = r.read_bit("reduced_still_picture_header")?;
        let mut frame_rate_milli = None;
        if reduced {
            r.skip(5, "seq_level_idx")?;
        } else {
            frame_rate_milli = operating_points(r)?;
        }
        let width_bits = r.read_var::<u32>(4, "frame_width_bits_minus_1")? + 1;
        let height_bits = r.read_var::<u32>(4, "frame_height_bits_minus_1")? + 1;
        let width = u64::from(r.read_var::<u32>(width_bits, "max_frame_width_minus_1")?) + 1;
        let height = u64::from(r.read_var::<u32>(height_bits, "max_frame_height_minus_1")?) + 1;
        if !reduced && r.read_bit("frame_id_numbers_present_flag")? {
            r.skip(7, "frame id lengths")?;
        }
        r.skip(3, "use_128x128_superblock, enable_filter_intra, enable_intra_edge_filter")?;
        if !reduced {
            inter_tools(r)?;
        }
        r.skip(3, "enable_superres, enable_cdef, enable_restoration")?;
        let colour = color_config(r, profile)?;
        Ok(Sequence { reduced, width, height, frame_rate_milli, colour })
    }
}

/// Timing, decoder model and operating points; the frame rate.
fn operating_points(r: &mut BitReader<&[u8]>) -> Result<Option<u32>, BitReaderError> {
    let mut frame_rate_milli = None;
    let mut delay_bits = None;
    if r.read_bit("timing_info_present_flag")? {
        let units: u32 = r.read_to("num_units_in_display_tick")?;
        let scale: u32 = r.read_to("time_scale")?;
        if r.read_bit("equal_picture_interval")? {
            // uvlc() is ue(v) by another name (4.10.3).
            let ticks = u64::from(r.read_ue("num_ticks_per_picture_minus_1")?) + 1;
            frame_rate_milli = rate_milli(scale, u64::from(units).saturating_mul(ticks));
        }
        if r.read_bit("decoder_model_info_present_flag")? {
            delay_bits = Some(r.read_var::<u32>(5, "buffer_delay_length_minus_1")? + 1);
            r.skip(32 + 10, "num_units_in_decoding_tick and lengths")?;
        }
    }
    let delay = r.read_bit("initial_display_delay_present_flag")?;
    let count: u8 = r.read_var(5, "operating_points_cnt_minus_1")?;
    for _ in 0..=count {
        r.skip(12, "operating_point_idc")?;
        if r.read_var::<u8>(5, "seq_level_idx")? > 7 {
            r.skip(1, "seq_tier")?;
        }
        if let Some(bits) = delay_bits
            && r.read_bit("decoder_model_present_for_this_op")?
        {
            r.skip(2 * bits + 1, "operating_parameters_info")?;
        }
        if delay && r.read_bit("initial_display_delay_present_for_this_op")? {
            r.skip(4, "initial_display_delay_minus_1")?;
        }
    }
    Ok(frame_rate_milli)
}

fn inter_tools(r: &mut BitReader<&[u8]>) -> Result<(), BitReaderError> {
    r.skip(4, "enable_interintra_compound to enable_dual_filter")?;
    let order_hint = r.read_bit("enable_order_hint")?;
    if order_hint {
        r.skip(2, "enable_jnt_comp, enable_ref_frame_mvs")?;
    }
    // SELECT_SCREEN_CONTENT_TOOLS isn't 0.
    let chosen = r.read_bit("seq_choose_screen_content_tools")? || r.read_bit("seq_force_screen_content_tools")?;
    if chosen && !r.read_bit("seq_choose_integer_mv")? {
        r.skip(1, "seq_force_integer_mv")?;
    }
    if order_hint {
        r.skip(3, "order_hint_bits_minus_1")?;
    }
    Ok(())
}

/// 5.5.2, up to color_range.
fn color_config(r: &mut BitReader<&[u8]>, profile: u8) -> Result<Colour, BitReaderError> {
    let high = r.read_bit("high_bitdepth")?;
    if profile == 2 && high {
        r.skip(1, "twelve_bit")?;
    }
    if profile != 1 {
        r.skip(1, "mono_chrome")?;
    }
    let mut description = [2; 3];
    if r.read_bit("color_description_present_flag")? {
        for code in &mut description {
            *code = r.read_var(8, "color_description")?;
        }
    }
    // sRGB has its whole range, and doesn't say so.
    let full_range = description == [1, 13, 0] || r.read_bit("color_range")?;
    Ok(Colour { description, full_range })
}

#[cfg(test)]
mod tests;
