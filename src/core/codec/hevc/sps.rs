//! H.265's sequence parameter set (7.3.2.2), up to VUI's frame rate: everything before it has to be read.

use h264_reader::rbsp::{BitRead, BitReader, ByteReader};

use crate::codec::error::HeaderError;
use crate::codec::picture::{Picture, rate_milli};
use crate::model::SampleAspectRatio;

/// 7.4.3.2.1: num_short_term_ref_pic_sets, num_long_term_ref_pics_sps.
const SHORT_TERM_MAX: u32 = 64;
const LONG_TERM_MAX: u32 = 32;
/// 7.4.8: pictures in one direction, sps_max_dec_pic_buffering_minus1 being 15 at most.
const REFERENCES_MAX: usize = 16;
/// Table E.1, by aspect_ratio_idc; the first means "unspecified".
const ASPECT_RATIOS: [(u16, u16); 17] = [
    (0, 0),
    (1, 1),
    (12, 11),
    (10, 11),
    (16, 11),
    (40, 33),
    (24, 11),
    (20, 11),
    (32, 11),
    (80, 33),
    (18, 11),
    (15, 11),
    (64, 33),
    (160, 99),
    (4, 3),
    (3, 2),
    (2, 1),
];

/// The fields that are read of an SPS.
#[derive(Debug)]
pub(super) struct Sps {
    /// seq_parameter_set_id, at most 15.
    pub id: u32,
    /// general_profile_space to general_level_idc, byte by byte (7.3.3).
    pub profile: [u8; 12],
    pub picture: Picture,
    pub chroma_format: u8,
    /// The bit depths of luma and chroma, less 8.
    pub bit_depths: [u8; 2],
    pub temporal_layers: u8,
    pub temporal_nesting: bool,
}

type Bits<'a> = BitReader<ByteReader<&'a [u8]>>;

/// Reads ue(v) of at most `max`.
fn bounded(r: &mut Bits<'_>, max: u32, name: &'static str) -> Result<u32, HeaderError> {
    match r.read_ue(name)? {
        value if value > max => Err(HeaderError::invalid(name, value)),
        value => Ok(value),
    }
}

impl Sps {
    /// Reads a whole NAL unit.
    pub(super) fn parse(nal: &[u8]) -> Result<Sps, HeaderError> {
        // 7.3.1.2: a header of two bytes.
        let (_, rbsp) = nal.split_first_chunk::<2>().ok_or(HeaderError::Missing("header of its SPS"))?;
        let r = &mut BitReader::new(ByteReader::without_skip(rbsp));
        let (sps, poc_bits) = Sps::start(r)?;
        coding(r)?;
        references(r, poc_bits)?;
        Ok(Sps { picture: vui(r, sps.picture)?, ..sps })
    }

    /// Reads up to the coding blocks. Also returns the number of bits of a picture's order count.
    fn start(r: &mut Bits<'_>) -> Result<(Sps, u32), HeaderError> {
        r.skip(4, "sps_video_parameter_set_id")?;
        let sub_layers: u8 = r.read_var(3, "sps_max_sub_layers_minus1")?;
        let temporal_nesting = r.read_bit("sps_temporal_id_nesting_flag")?;
        let profile = profile_tier_level(r, sub_layers)?;
        let id = bounded(r, 15, "sps_seq_parameter_set_id")?;
        let chroma_format = bounded(r, 3, "chroma_format_idc")?;
        if chroma_format == 3 {
            r.read_bit("separate_colour_plane_flag")?;
        }
        let (mut width, mut height) = (u64::from(r.read_ue("pic_width")?), u64::from(r.read_ue("pic_height")?));
        if r.read_bit("conformance_window_flag")? {
            let mut edges = [0u64; 4];
            for edge in &mut edges {
                *edge = r.read_ue("conformance window")?.into();
            }
            // Table 6-1: SubWidthC and SubHeightC.
            let (across, down) =
                (if matches!(chroma_format, 1 | 2) { 2 } else { 1 }, if chroma_format == 1 { 2 } else { 1 });
            width = width.saturating_sub((edges[0] + edges[1]) * across);
            height = height.saturating_sub((edges[2] + edges[3]) * down);
        }
        let bit_depths = [bounded(r, 7, "bit_depth_luma_minus8")?, bounded(r, 7, "bit_depth_chroma_minus8")?];
        let poc_bits = bounded(r, 12, "log2_max_pic_order_cnt_lsb_minus4")? + 4;
        let of_each = r.read_bit("sps_sub_layer_ordering_info_present_flag")?;
        for _ in 0..if of_each { sub_layers + 1 } else { 1 } {
            for name in ["sps_max_dec_pic_buffering", "sps_max_num_reorder_pics", "sps_max_latency_increase"] {
                r.read_ue(name)?;
            }
        }
        let sps = Sps {
            id,
            profile,
            picture: Picture::new(width, height)?,
            chroma_format: chroma_format as u8,
            bit_depths: bit_depths.map(|depth| depth as u8),
            temporal_layers: sub_layers + 1,
            temporal_nesting,
        };
        Ok((sps, poc_bits))
    }
}

/// Reads profile_tier_level (7.3.3), with the general profile.
fn profile_tier_level(r: &mut Bits<'_>, sub_layers: u8) -> Result<[u8; 12], HeaderError> {
    let mut profile = [0; 12];
    for byte in &mut profile {
        *byte = r.read_var(8, "profile_tier_level")?;
    }
    let mut present = [(false, false); 8];
    for present in present.iter_mut().take(sub_layers.into()) {
        *present = (r.read_bit("sub_layer_profile_present_flag")?, r.read_bit("sub_layer_level_present_flag")?);
    }
    if sub_layers > 0 {
        r.skip(2 * (8 - u32::from(sub_layers)), "reserved_zero_2bits")?;
    }
    for (profile, level) in present {
        r.skip(if profile { 88 } else { 0 } + if level { 8 } else { 0 }, "a sub-layer's profile")?;
    }
    Ok(profile)
}

/// Block sizes, scaling lists and PCM.
fn coding(r: &mut Bits<'_>) -> Result<(), HeaderError> {
    for name in ["coding block size", "its range", "transform block size", "its range", "hierarchy inter", "intra"] {
        r.read_ue(name)?;
    }
    if r.read_bit("scaling_list_enabled_flag")? && r.read_bit("sps_scaling_list_data_present_flag")? {
        scaling_lists(r)?;
    }
    r.skip(2, "amp_enabled_flag, sample_adaptive_offset_enabled_flag")?;
    if r.read_bit("pcm_enabled_flag")? {
        r.skip(8, "pcm_sample_bit_depth")?;
        r.read_ue("log2_min_pcm_size")?;
        r.read_ue("its range")?;
        r.read_bit("pcm_loop_filter_disabled_flag")?;
    }
    Ok(())
}

/// Skips scaling_list_data (7.3.4).
fn scaling_lists(r: &mut Bits<'_>) -> Result<(), HeaderError> {
    for size in 0..4u32 {
        for _ in 0..if size == 3 { 2 } else { 6 } {
            if !r.read_bit("scaling_list_pred_mode_flag")? {
                r.read_ue("scaling_list_pred_matrix_id_delta")?;
                continue;
            }
            if size > 1 {
                r.read_se("scaling_list_dc_coef_minus8")?;
            }
            for _ in 0..64.min(1 << (4 + 2 * size)) {
                r.read_se("scaling_list_delta_coef")?;
            }
        }
    }
    Ok(())
}

/// Reference picture sets, and two flags behind them.
fn references(r: &mut Bits<'_>, poc_bits: u32) -> Result<(), HeaderError> {
    let mut before = None;
    for _ in 0..bounded(r, SHORT_TERM_MAX, "num_short_term_ref_pic_sets")? {
        before = Some(short_term(r, before)?);
    }
    if r.read_bit("long_term_ref_pics_present_flag")? {
        for _ in 0..bounded(r, LONG_TERM_MAX, "num_long_term_ref_pics_sps")? {
            r.skip(poc_bits + 1, "lt_ref_pic_poc_lsb_sps, used_by_curr_pic_lt_sps_flag")?;
        }
    }
    r.skip(2, "sps_temporal_mvp_enabled_flag, strong_intra_smoothing_enabled_flag")?;
    Ok(())
}

/// Reads st_ref_pic_set (7.3.7, 7.4.8), which may be predicted from the set before. Returns DeltaPocS0, then DeltaPocS1.
fn short_term(r: &mut Bits<'_>, before: Option<Vec<i64>>) -> Result<Vec<i64>, HeaderError> {
    let predicted = before.is_some() && r.read_bit("inter_ref_pic_set_prediction_flag")?;
    let mut set = Vec::new();
    if let Some(before) = before.filter(|_| predicted) {
        let negative = r.read_bit("delta_rps_sign")?;
        let delta = i64::from(r.read_ue("abs_delta_rps_minus1")?) + 1;
        let delta = if negative { -delta } else { delta };
        // (7-61), (7-62): the pictures of the set before, moved by `delta`, and `delta` itself.
        for poc in before.iter().map(|poc| poc + delta).chain([delta]) {
            let used = r.read_bit("used_by_curr_pic_flag")? || r.read_bit("use_delta_flag")?;
            if used && poc != 0 {
                set.push(poc);
            }
        }
        set.sort_by_key(|poc| (*poc > 0, poc.abs()));
    } else {
        let most = REFERENCES_MAX as u32;
        let counts = [bounded(r, most, "num_negative_pics")?, bounded(r, most, "num_positive_pics")?];
        for (count, sign) in counts.into_iter().zip([-1, 1]) {
            let mut poc = 0;
            for _ in 0..count {
                poc += sign * (i64::from(r.read_ue("delta_poc_minus1")?) + 1);
                r.read_bit("used_by_curr_pic_flag")?;
                set.push(poc);
            }
        }
    }
    let negative = set.iter().filter(|poc| **poc < 0).count();
    match negative.max(set.len() - negative) {
        most if most > REFERENCES_MAX => Err(HeaderError::invalid("pictures of a reference set", most as u64)),
        _ => Ok(set),
    }
}

/// E.2.1, up to the frame rate. Returns the picture with what is stated there.
fn vui(r: &mut Bits<'_>, mut picture: Picture) -> Result<Picture, HeaderError> {
    if !r.read_bit("vui_parameters_present_flag")? {
        return Ok(picture);
    }
    if r.read_bit("aspect_ratio_info_present_flag")? {
        let (width, height) = match r.read_var::<u8>(8, "aspect_ratio_idc")? {
            255 => (r.read_to("sar_width")?, r.read_to("sar_height")?),
            index => ASPECT_RATIOS.get(usize::from(index)).copied().unwrap_or((0, 0)),
        };
        picture.sar = SampleAspectRatio::new(width, height);
    }
    if r.read_bit("overscan_info_present_flag")? {
        r.read_bit("overscan_appropriate_flag")?;
    }
    if r.read_bit("video_signal_type_present_flag")? {
        r.skip(4, "video_format, video_full_range_flag")?;
        if r.read_bit("colour_description_present_flag")? {
            r.skip(8, "colour_primaries")?;
            picture.transfer = r.read_var(8, "transfer_characteristics")?;
            r.skip(8, "matrix_coeffs")?;
        }
    }
    if r.read_bit("chroma_loc_info_present_flag")? {
        r.read_ue("chroma_sample_loc_type_top_field")?;
        r.read_ue("chroma_sample_loc_type_bottom_field")?;
    }
    r.skip(3, "neutral_chroma_indication_flag, field_seq_flag, frame_field_info_present_flag")?;
    if r.read_bit("default_display_window_flag")? {
        for _ in 0..4 {
            r.read_ue("default display window")?;
        }
    }
    if !r.read_bit("vui_timing_info_present_flag")? {
        return Ok(picture);
    }
    let units: u32 = r.read_to("vui_num_units_in_tick")?;
    let scale: u32 = r.read_to("vui_time_scale")?;
    picture.frame_rate_milli = rate_milli(scale, units.into());
    Ok(picture)
}
