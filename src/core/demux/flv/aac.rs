//! One track's AAC: raw_data_blocks, or the same in ADTS, which raw AAC of FLV has no place for, but encoders send.

use bytes::{Buf, Bytes};

use super::FlvNotice;
use crate::codec::adts::{AdtsHeader, FRAME_SAMPLES, is_sync};
use crate::codec::codec::{Codec, CodecError};
use crate::model::{AccessUnit, CodecConfig, InputTrack};
use crate::packager::Input;

/// The headers that one track's messages have brought.
#[derive(Debug, Default)]
pub(super) struct AacMessages {
    /// An AudioSpecificConfig has come.
    has_config: bool,
    /// What the newest ADTS header says.
    adts: Option<[u8; 2]>,
}

impl AacMessages {
    /// Takes a sequence header: an AudioSpecificConfig, or an ADTS header in its place.
    pub(super) fn header(&mut self, unit: AccessUnit, out: &mut Vec<Input>) -> Result<(), CodecError> {
        if let Ok(header) = AdtsHeader::parse(&unit.data) {
            self.adts_header(unit.track, header.config, out);
            return Ok(());
        }
        let config = CodecConfig::Aac(unit.data);
        Codec::parse(&config)?;
        self.has_config = true;
        out.push(Input::Config { track: unit.track, config });
        Ok(())
    }

    /// Takes a message's frame, or its frames in ADTS. Returns what is to be told of it.
    pub(super) fn message(&mut self, unit: AccessUnit, out: &mut Vec<Input>) -> Option<FlvNotice> {
        if !is_sync(&unit.data) {
            out.push(Input::Unit(unit));
            return None;
        }
        let (mut rest, mut samples) = (unit.data.clone(), 0);
        while !rest.is_empty() {
            let header = match AdtsHeader::parse(&rest) {
                Ok(header) if header.len <= rest.len() => header,
                Ok(_) => return Some(FlvNotice::Damaged("an ADTS frame is longer than its message")),
                Err(why) => return Some(FlvNotice::Damaged(why)),
            };
            if !self.has_config {
                self.adts_header(unit.track, header.config, out);
            }
            let mut data = rest.split_to(header.len);
            data.advance(header.header_len);
            let dts = (unit.dts + samples * 1_000 / u64::from(header.rate)) & u64::from(u32::MAX);
            if !data.is_empty() {
                out.push(Input::Unit(AccessUnit { dts, data, ..unit.clone() }));
            }
            samples += FRAME_SAMPLES;
        }
        Some(FlvNotice::Adts)
    }

    fn adts_header(&mut self, track: InputTrack, config: [u8; 2], out: &mut Vec<Input>) {
        if self.adts.replace(config) != Some(config) {
            out.push(Input::Config { track, config: CodecConfig::Aac(Bytes::copy_from_slice(&config)) });
        }
    }
}
