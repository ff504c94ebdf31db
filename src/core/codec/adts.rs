//! AAC frames in ADTS (ISO 13818-7, 6.2; 14496-3, 1.A.2): their headers.

use super::aac::SAMPLE_RATES;

/// The length of a header without its checksum, in bytes.
pub(crate) const HEADER_LEN: usize = 7;
/// The samples of a raw_data_block. ADTS can't announce 960.
pub(crate) const FRAME_SAMPLES: u64 = 1_024;

/// A frame's header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdtsHeader {
    /// AudioSpecificConfig.
    pub config: [u8; 2],
    pub rate: u32,
    /// The length of header and checksum.
    pub header_len: usize,
    /// The length of the frame.
    pub len: usize,
}

/// Returns whether bytes begin with syncword, and layer 0. A raw_data_block that begins so is an empty one.
pub(crate) fn is_sync(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0xff) && bytes.get(1).is_none_or(|byte| byte & 0xf6 == 0xf0)
}

impl AdtsHeader {
    pub(crate) fn parse(bytes: &[u8]) -> Result<AdtsHeader, &'static str> {
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else { return Err("an ADTS frame ends in its header") };
        if !is_sync(header) {
            return Err("no ADTS frame where one should begin");
        }
        let object_type = (header[2] >> 6) + 1;
        let index = header[2] >> 2 & 15;
        let channels = (header[2] & 1) << 2 | header[3] >> 6;
        let len = usize::from(header[3] & 3) << 11 | usize::from(header[4]) << 3 | usize::from(header[5] >> 5);
        let header_len = if header[1] & 1 == 1 { HEADER_LEN } else { HEADER_LEN + 2 };
        let Some(&rate) = SAMPLE_RATES.get(usize::from(index)) else { return Err("an ADTS frame of no sample rate") };
        if len < header_len {
            return Err("an ADTS frame shorter than its header");
        }
        if header[6] & 3 != 0 {
            return Err("an ADTS frame of several raw_data_blocks");
        }
        if channels == 0 {
            return Err("AAC whose channels stand in a program_config_element; set the encoder to a usual layout");
        }
        let config = u16::from(object_type) << 11 | u16::from(index) << 7 | u16::from(channels) << 3;
        Ok(AdtsHeader { config: config.to_be_bytes(), rate, header_len, len })
    }
}
