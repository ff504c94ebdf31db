//! AAC in ADTS (ISO 13818-7, 6.2; 14496-3, 1.A.2) to an AudioSpecificConfig and raw_data_blocks.

use std::collections::VecDeque;

use bytes::Bytes;

use super::framing::{Framing, SoundDecoder};
use super::output::Output;
use super::pes::Payload;
use crate::codec::adts::{AdtsHeader, FRAME_SAMPLES, HEADER_LEN, is_sync};
use crate::model::{CodecConfig, InputTrack};

/// One track's decoder state.
#[derive(Debug)]
pub(super) struct Adts {
    track: InputTrack,
    config: Option<[u8; 2]>,
    framing: Framing,
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
        let next = |header: &AdtsHeader| bytes.get(header.len..).filter(|next| !next.is_empty()).is_none_or(is_sync);
        let like = |header: &AdtsHeader| self.config.is_none_or(|config| config == header.config);
        AdtsHeader::parse(bytes).is_ok_and(|header| like(&header) && next(&header))
    }

    fn frame(&mut self, header: &AdtsHeader, data: Bytes, out: &mut VecDeque<Output>) {
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
            match AdtsHeader::parse(open.bytes()) {
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
