//! HEVC's sequence parameter set (H.265, 7.3.2.2), as far as VUI's frame rate: all that stands before it has to be read.

use h264_reader::rbsp::{BitRead, BitReader, BitReaderError, ByteReader};

use crate::codec::error::{HeaderError, rate_milli};

const HEADER: &str = "hvcC's SPS";
/// 7.4.3.2.1: num_short_term_ref_pic_sets, num_long_term_ref_pics_sps.
const SHORT_TERM_MAX: u32 = 64;
const LONG_TERM_MAX: u32 = 32;
/// 7.4.8: pictures in one direction, sps_max_dec_pic_buffering_minus1 being 15 at most.
const REFERENCES_MAX: u32 = 16;

/// What is read of an SPS.
#[derive(Debug)]
pub(super) struct Sps {
    /// 15 at most.
    pub id: u32,
    /// general_profile_space to general_level_idc, as they stand (7.3.3).
    pub profile: [u8; 12],
    /// In pixels, cropped.
    pub width: u64,
    pub height: u64,
    pub chroma_format: u8,
    /// Of luma and chroma, less 8.
    pub bit_depths: [u8; 2],
    pub temporal_layers: u8,
    pub temporal_nesting: bool,
    pub frame_rate_milli: Option<u32>,
    pub transfer: u8,
}

struct Reader<'a>(BitReader<ByteReader<&'a [u8]>>);

type Read<T> = Result<T, BitReaderError>;

impl Reader<'_> {
    fn ue(&mut self, name: &'static str) -> Read<u32> {
        self.0.read_ue(name)
    }

    fn flag(&mut self, name: &'static str) -> Read<bool> {
        self.0.read_bit(name)
    }

    fn u8(&mut self, bits: u32, name: &'static str) -> Read<u8> {
        self.0.read_var(bits, name)
    }

    fn skip(&mut self, bits: u32, name: &'static str) -> Read<()> {
        self.0.skip(bits, name)
    }
}

impl Sps {
    /// Reads a whole NAL unit.
    pub(super) fn parse(nal: &[u8]) -> Result<Sps, HeaderError> {
        let bits = HeaderError::bits(HEADER);
        // 7.3.1.2: a header of two bytes.
        let Some((_, rbsp)) = nal.split_first_chunk::<2>() else {
            return Err(HeaderError::Missing { header: HEADER, what: "header" });
        };
        let r = &mut Reader(BitReader::new(ByteReader::without_skip(rbsp)));
        let (sps, poc_bits) = Sps::start(r).map_err(&bits)??;
        coding(r).map_err(&bits)?;
        references(r, poc_bits).map_err(&bits)??;
        let (transfer, frame_rate_milli) = vui(r).map_err(&bits)?;
        Ok(Sps { transfer, frame_rate_milli, ..sps })
    }

    /// Up to the bits of a picture's order count.
    fn start(r: &mut Reader<'_>) -> Read<Result<(Sps, u32), HeaderError>> {
        let invalid = |what, value: u32| Ok(Err(HeaderError::Invalid { header: HEADER, what, value: value.into() }));
        r.skip(4, "sps_video_parameter_set_id")?;
        let sub_layers = r.u8(3, "sps_max_sub_layers_minus1")?;
        let temporal_nesting = r.flag("sps_temporal_id_nesting_flag")?;
        let profile = profile_tier_level(r, sub_layers)?;
        let id = r.ue("sps_seq_parameter_set_id")?;
        if id > 15 {
            return invalid("sps_seq_parameter_set_id", id);
        }
        let chroma_format = r.ue("chroma_format_idc")?;
        let Ok(chroma @ 0..=3) = u8::try_from(chroma_format) else {
            return invalid("chroma_format_idc", chroma_format);
        };
        if chroma == 3 {
            r.flag("separate_colour_plane_flag")?;
        }
        let (mut width, mut height) = (u64::from(r.ue("pic_width")?), u64::from(r.ue("pic_height")?));
        if r.flag("conformance_window_flag")? {
            let mut edges = [0u64; 4];
            for edge in &mut edges {
                *edge = r.ue("conformance window")?.into();
            }
            // Table 6-1: chroma samples are as far apart as so many of luma.
            let (across, down) = (if matches!(chroma, 1 | 2) { 2 } else { 1 }, if chroma == 1 { 2 } else { 1 });
            width = width.saturating_sub((edges[0] + edges[1]) * across);
            height = height.saturating_sub((edges[2] + edges[3]) * down);
        }
        let mut bit_depths = [0; 2];
        for depth in &mut bit_depths {
            let value = r.ue("bit_depth_minus8")?;
            let Ok(small @ 0..=7) = u8::try_from(value) else { return invalid("bit_depth_minus8", value) };
            *depth = small;
        }
        let poc_bits = r.ue("log2_max_pic_order_cnt_lsb_minus4")?;
        if poc_bits > 12 {
            return invalid("log2_max_pic_order_cnt_lsb_minus4", poc_bits);
        }
        let of_each = r.flag("sps_sub_layer_ordering_info_present_flag")?;
        for _ in 0..if of_each { sub_layers + 1 } else { 1 } {
            for name in ["sps_max_dec_pic_buffering", "sps_max_num_reorder_pics", "sps_max_latency_increase"] {
                r.ue(name)?;
            }
        }
        let sps = Sps {
            id,
            profile,
            width,
            height,
            chroma_format: chroma,
            bit_depths,
            temporal_layers: sub_layers + 1,
            temporal_nesting,
            frame_rate_milli: None,
            transfer: 2,
        };
        Ok(Ok((sps, poc_bits + 4)))
    }
}

/// 7.3.3, with the general profile.
fn profile_tier_level(r: &mut Reader<'_>, sub_layers: u8) -> Read<[u8; 12]> {
    let mut profile = [0; 12];
    for byte in &mut profile {
        *byte = r.u8(8, "profile_tier_level")?;
    }
    let mut present = [(false, false); 8];
    for present in present.iter_mut().take(sub_layers.into()) {
        *present = (r.flag("sub_layer_profile_present_flag")?, r.flag("sub_layer_level_present_flag")?);
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
fn coding(r: &mut Reader<'_>) -> Read<()> {
    for name in ["coding block size", "its range", "transform block size", "its range", "hierarchy inter", "intra"] {
        r.ue(name)?;
    }
    if r.flag("scaling_list_enabled_flag")? && r.flag("sps_scaling_list_data_present_flag")? {
        scaling_lists(r)?;
    }
    r.skip(2, "amp_enabled_flag, sample_adaptive_offset_enabled_flag")?;
    if r.flag("pcm_enabled_flag")? {
        r.skip(8, "pcm_sample_bit_depth")?;
        r.ue("log2_min_pcm_size")?;
        r.ue("its range")?;
        r.flag("pcm_loop_filter_disabled_flag")?;
    }
    Ok(())
}

/// 7.3.4.
fn scaling_lists(r: &mut Reader<'_>) -> Read<()> {
    for size in 0..4u32 {
        for _ in 0..if size == 3 { 2 } else { 6 } {
            if !r.flag("scaling_list_pred_mode_flag")? {
                r.ue("scaling_list_pred_matrix_id_delta")?;
                continue;
            }
            if size > 1 {
                r.0.read_se("scaling_list_dc_coef_minus8")?;
            }
            for _ in 0..64.min(1 << (4 + 2 * size)) {
                r.0.read_se("scaling_list_delta_coef")?;
            }
        }
    }
    Ok(())
}

/// Reference picture sets, and two flags behind them.
fn references(r: &mut Reader<'_>, poc_bits: u32) -> Read<Result<(), HeaderError>> {
    let invalid = |what, value: u32| Ok(Err(HeaderError::Invalid { header: HEADER, what, value: value.into() }));
    let count = r.ue("num_short_term_ref_pic_sets")?;
    if count > SHORT_TERM_MAX {
        return invalid("num_short_term_ref_pic_sets", count);
    }
    let mut before = Deltas::default();
    for n in 0..count {
        before = match short_term(r, (n > 0).then_some(before))? {
            Some(deltas) => deltas,
            None => return invalid("pictures of a reference set", REFERENCES_MAX + 1),
        };
    }
    if r.flag("long_term_ref_pics_present_flag")? {
        let count = r.ue("num_long_term_ref_pics_sps")?;
        if count > LONG_TERM_MAX {
            return invalid("num_long_term_ref_pics_sps", count);
        }
        for _ in 0..count {
            r.skip(poc_bits + 1, "lt_ref_pic_poc_lsb_sps, used_by_curr_pic_lt_sps_flag")?;
        }
    }
    r.skip(2, "sps_temporal_mvp_enabled_flag, strong_intra_smoothing_enabled_flag")?;
    Ok(Ok(()))
}

/// DeltaPocS0 and DeltaPocS1 of a set (7.4.8).
#[derive(Default)]
struct Deltas([Vec<i64>; 2]);

/// 7.3.7: a set of its own, or one that is told by the one before. `None`: of too many pictures.
fn short_term(r: &mut Reader<'_>, before: Option<Deltas>) -> Read<Option<Deltas>> {
    let predicted = before.is_some() && r.flag("inter_ref_pic_set_prediction_flag")?;
    let mut sets = Deltas::default();
    if let Some(Deltas([s0, s1])) = before.filter(|_| predicted) {
        let negative = r.flag("delta_rps_sign")?;
        let delta = i64::from(r.ue("abs_delta_rps_minus1")?) + 1;
        let delta = if negative { -delta } else { delta };
        let mut uses = Vec::new();
        for _ in 0..s0.len() + s1.len() + 1 {
            let used = r.flag("used_by_curr_pic_flag")?;
            uses.push(used || r.flag("use_delta_flag")?);
        }
        // (7-61), (7-62): those of the one before, moved by `delta`, and `delta` itself.
        let moved = s0.iter().chain(&s1).map(|poc| poc + delta).chain([delta]);
        let kept: Vec<i64> = moved.zip(uses).filter(|(_, uses)| *uses).map(|(poc, _)| poc).collect();
        for (set, sign) in sets.0.iter_mut().zip([-1, 1]) {
            set.extend(kept.iter().filter(|poc| *poc * sign > 0));
            set.sort_by_key(|poc| poc.abs());
        }
    } else {
        let counts = [r.ue("num_negative_pics")?, r.ue("num_positive_pics")?];
        if counts.iter().any(|&count| count > REFERENCES_MAX) {
            return Ok(None);
        }
        for ((set, count), sign) in sets.0.iter_mut().zip(counts).zip([-1, 1]) {
            let mut poc = 0;
            for _ in 0..count {
                poc += sign * (i64::from(r.ue("delta_poc_minus1")?) + 1);
                r.flag("used_by_curr_pic_flag")?;
                set.push(poc);
            }
        }
    }
    let fits = sets.0.iter().all(|set| set.len() <= REFERENCES_MAX as usize);
    Ok(fits.then_some(sets))
}

/// E.2.1, up to the frame rate: that, and the transfer characteristics.
fn vui(r: &mut Reader<'_>) -> Read<(u8, Option<u32>)> {
    let mut transfer = 2;
    if !r.flag("vui_parameters_present_flag")? {
        return Ok((transfer, None));
    }
    if r.flag("aspect_ratio_info_present_flag")? && r.u8(8, "aspect_ratio_idc")? == 255 {
        r.skip(32, "sar_width, sar_height")?;
    }
    if r.flag("overscan_info_present_flag")? {
        r.flag("overscan_appropriate_flag")?;
    }
    if r.flag("video_signal_type_present_flag")? {
        r.skip(4, "video_format, video_full_range_flag")?;
        if r.flag("colour_description_present_flag")? {
            r.skip(8, "colour_primaries")?;
            transfer = r.u8(8, "transfer_characteristics")?;
            r.skip(8, "matrix_coeffs")?;
        }
    }
    if r.flag("chroma_loc_info_present_flag")? {
        r.ue("chroma_sample_loc_type_top_field")?;
        r.ue("chroma_sample_loc_type_bottom_field")?;
    }
    r.skip(3, "neutral_chroma_indication_flag, field_seq_flag, frame_field_info_present_flag")?;
    if r.flag("default_display_window_flag")? {
        for _ in 0..4 {
            r.ue("default display window")?;
        }
    }
    if !r.flag("vui_timing_info_present_flag")? {
        return Ok((transfer, None));
    }
    let units: u32 = r.0.read_to("vui_num_units_in_tick")?;
    let scale: u32 = r.0.read_to("vui_time_scale")?;
    Ok((transfer, rate_milli(scale, units.into())))
}
