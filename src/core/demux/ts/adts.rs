//! AAC in ADTS (ISO 13818-7, 6.2; 14496-3, 1.A.2) to an AudioSpecificConfig and raw_data_blocks.

use std::collections::VecDeque;

use bytes::Bytes;

use super::framing::{Framing, SoundDecoder};
use super::output::Output;
use super::pes::Payload;
use crate::codec::aac::SAMPLE_RATES;
use crate::model::{CodecConfig, InputTrack};

/// The length of a header without its checksum, in bytes.
const HEADER_LEN: usize = 7;
/// The samples of a raw_data_block. ADTS can't announce 960.
const FRAME_SAMPLES: u64 = 1_024;

/// One track's decoder state.
#[derive(Debug)]
pub(super) struct Adts {
    track: InputTrack,
    config: Option<[u8; 2]>,
    framing: Framing,
}

/// A frame's header.
#[derive(Clone, Copy, Debug)]
struct Header {
    /// AudioSpecificConfig.
    config: [u8; 2],
    rate: u32,
    /// The length of header and checksum.
    header_len: usize,
    /// The length of the frame.
    len: usize,
}

impl Adts {
    pub(super) fn new(track: InputTrack) -> Self {
        Adts { track, config: None, framing: Framing::default() }
    }

    /// Returns whether a frame with the same configuration may begin here, judging by the available bytes.
    fn may_begin(&self, bytes: &[u8]) -> bool {
        if bytes.len() < HEADER_LEN {
            return is_sync(bytes);
        }
        let next = |header: &Header| bytes.get(header.len..).filter(|next| !next.is_empty()).is_none_or(is_sync);
        let like = |header: &Header| self.config.is_none_or(|config| config == header.config);
        Header::parse(bytes).is_ok_and(|header| like(&header) && next(&header))
    }

    fn frame(&mut self, header: &Header, data: Bytes, out: &mut VecDeque<Output>) {
        let Some(dts) = self.framing.time(header.rate) else { return };
        self.framing.count(FRAME_SAMPLES);
        if data.is_empty() {
            return;
        }
        if self.config != Some(header.config) {
            self.config = Some(header.config);
            let config = CodecConfig::Aac(Bytes::copy_from_slice(&header.config));
            out.push_back(Output::config(self.track, config));
        }
        out.push_back(Output::sound(self.track, dts, data));
    }
}

impl SoundDecoder for Adts {
    fn damaged(&mut self) -> bool {
        self.framing.damaged()
    }

    fn frames(&mut self, pes: &Payload, out: &mut VecDeque<Output>) -> Result<(), &'static str> {
        let (mut open, mut fault) = (self.framing.open(pes), None);
        while open.bytes().len() >= HEADER_LEN {
            match Header::parse(open.bytes()) {
                Ok(header) if open.bytes().len() < header.len => break,
                Ok(header) => {
                    let frame = self.framing.frame(&mut open, header.len);
                    self.frame(&header, frame.slice(header.header_len..), out);
                }
                Err(what) => {
                    // Skip to the next possible frame.
                    fault = Some(what);
                    let bytes = open.bytes();
                    let next = (1..bytes.len()).find(|&i| self.may_begin(&bytes[i..])).unwrap_or(bytes.len());
                    open.skip(next);
                }
            }
        }
        self.framing.close(open);
        fault.map_or(Ok(()), Err)
    }
}

/// syncword, and layer 0.
fn is_sync(bytes: &[u8]) -> bool {
    bytes[0] == 0xff && bytes.get(1).is_none_or(|byte| byte & 0xf6 == 0xf0)
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Header, &'static str> {
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else { return Err("an ADTS frame ends in its header") };
        if !is_sync(header) {
            return Err("no ADTS sync word where a frame should begin");
        }
        let object_type = (header[2] >> 6) + 1;
        let index = header[2] >> 2 & 15;
        let channels = (header[2] & 1) << 2 | header[3] >> 6;
        let len = usize::from(header[3] & 3) << 11 | usize::from(header[4]) << 3 | usize::from(header[5] >> 5);
        let header_len = if header[1] & 1 == 1 { HEADER_LEN } else { HEADER_LEN + 2 };
        let Some(&rate) = SAMPLE_RATES.get(usize::from(index)) else {
            return Err("an ADTS frame has a reserved sample rate");
        };
        if len < header_len {
            return Err("an ADTS frame is shorter than its header");
        }
        if header[6] & 3 != 0 {
            return Err("an ADTS frame has several raw_data_blocks, which is not supported");
        }
        if channels == 0 {
            return Err("the AAC channels are in a program_config_element; set the encoder to mono, stereo or 5.1");
        }
        let config = u16::from(object_type) << 11 | u16::from(index) << 7 | u16::from(channels) << 3;
        Ok(Header { config: config.to_be_bytes(), rate, header_len, len })
    }
}
