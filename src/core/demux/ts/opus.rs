//! Opus in PES packets (OpusTS, a draft of Xiph's and VideoLAN's, 0.1.3, that ffmpeg writes): packets, each behind a control
//! header.
//!
//! ```text
//! 0x3ff:11 start_trim:1 end_trim:1 extension:1 reserved:2 | size: 255s and what is below | [trim:16] [trim:16] [len:8 ..] | packet
//! ```

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use super::framing::{SoundDecoder, sum_of_255s};
use super::output::{MODULUS, Output};
use super::pes::Payload;
use crate::codec::opus::{Opus, samples};
use crate::model::{CodecConfig, InputTrack};

/// The number of streams, of stereo streams, and the channel mapping by channel_config_code, from 3 on (RFC 7845,
/// 5.1.1.2).
const MAPPINGS: [(u8, u8, &[u8]); 6] = [
    (2, 1, &[0, 2, 1]),
    (2, 2, &[0, 1, 2, 3]),
    (3, 2, &[0, 4, 1, 2, 3]),
    (4, 2, &[0, 4, 1, 2, 3, 5]),
    (4, 3, &[0, 4, 1, 2, 3, 5, 6]),
    (5, 3, &[0, 6, 1, 2, 3, 4, 5, 7]),
];

/// One track's decoder state.
#[derive(Debug)]
pub(super) struct Packets {
    track: InputTrack,
    channels: u8,
    configured: bool,
    /// The time of the next packet.
    next: Option<u64>,
}

impl Packets {
    /// Returns the decoder of a track of 1 to [`CHANNELS_MAX`](crate::codec::opus::CHANNELS_MAX) channels.
    pub(super) fn new(track: InputTrack, channels: u8) -> Self {
        Packets { track, channels, configured: false, next: None }
    }
}

impl SoundDecoder for Packets {
    fn damaged(&mut self) -> bool {
        self.next = None;
        false
    }

    /// Takes a PES packet's payload, which holds whole packets.
    fn frames(&mut self, pes: &Payload, out: &mut VecDeque<Output>) -> Result<(), &'static str> {
        if let Some((pts, _)) = pes.times {
            self.next = Some(pts);
        }
        let mut data = pes.data.clone();
        while !data.is_empty() {
            let packet = packet(&mut data).ok_or("an Opus packet is missing or truncated")?;
            let samples = samples(&packet).ok_or("an Opus packet has no duration")?;
            let Some(dts) = self.next else { return Ok(()) };
            // 8 samples at 48 kHz are 15 ticks of 90 kHz.
            self.next = Some((dts + u64::from(samples) * 15 / 8) % MODULUS);
            if !std::mem::replace(&mut self.configured, true) {
                let mapping = usize::from(self.channels).checked_sub(3).and_then(|i| MAPPINGS.get(i)).copied();
                // The encoder's delay has time stamps like everything else, so nothing is skipped.
                let config = CodecConfig::Opus(Opus::head(self.channels, 0, mapping));
                out.push_back(Output::config(self.track, config));
            }
            out.push_back(Output::sound(self.track, dts, packet));
        }
        Ok(())
    }
}

/// Takes the next packet, without its control header.
fn packet(data: &mut Bytes) -> Option<Bytes> {
    let [0x7f, flags, tail @ ..] = &data[..] else { return None };
    if flags & 0xe0 != 0xe0 {
        return None;
    }
    let mut rest = tail;
    let len = sum_of_255s(&mut rest)?;
    let mut skipped = if flags & 0x10 != 0 { 2 } else { 0 } + if flags & 0x08 != 0 { 2 } else { 0 };
    if flags & 0x04 != 0 {
        skipped += 1 + usize::from(*rest.get(skipped)?);
    }
    let header_len = data.len() - rest.len() + skipped;
    if data.len() < header_len + len {
        return None;
    }
    data.advance(header_len);
    Some(data.split_to(len))
}
