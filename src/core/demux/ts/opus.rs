//! Opus in PES packets (OpusTS, a draft of Xiph's and VideoLAN's, 0.1.3, that ffmpeg writes): packets, each behind a control
//! header.
//!
//! ```text
//! 0x3ff:11 start_trim:1 end_trim:1 extension:1 reserved:2 | size: 255s and what is below | [trim:16] [trim:16] [len:8 ..] | packet
//! ```

use std::collections::VecDeque;

use bytes::Bytes;

use super::framing::{Framing, SoundDecoder, sum_of_255s};
use super::output::Output;
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

/// The longest packet, in bytes: 48 frames of 1,275 bytes (RFC 6716, 3.2), and their lengths.
const PACKET_LEN_MAX: usize = 1 << 16;
/// The sample rate of all times.
const RATE: u32 = 48_000;

/// One track's decoder state.
#[derive(Debug)]
pub(super) struct Packets {
    track: InputTrack,
    channels: u8,
    configured: bool,
    framing: Framing,
}

impl Packets {
    /// Returns the decoder of a track of 1 to [`CHANNELS_MAX`](crate::codec::opus::CHANNELS_MAX) channels.
    pub(super) fn new(track: InputTrack, channels: u8) -> Self {
        Packets { track, channels, configured: false, framing: Framing::default() }
    }

    fn packet(&mut self, packet: Bytes, out: &mut VecDeque<Output>) -> Result<(), &'static str> {
        let samples = samples(&packet).ok_or("an Opus packet has no duration")?;
        let Some(dts) = self.framing.time(RATE) else { return Ok(()) };
        self.framing.count(samples.into());
        if !std::mem::replace(&mut self.configured, true) {
            let mapping = usize::from(self.channels).checked_sub(3).and_then(|i| MAPPINGS.get(i)).copied();
            // The encoder's delay has time stamps like everything else, so nothing is skipped.
            let config = CodecConfig::Opus(Opus::head(self.channels, 0, mapping));
            out.push_back(Output::config(self.track, config));
        }
        out.push_back(Output::sound(self.track, dts, packet));
        Ok(())
    }
}

impl SoundDecoder for Packets {
    fn damaged(&mut self) -> bool {
        self.framing.damaged()
    }

    fn frames(&mut self, pes: &Payload, out: &mut VecDeque<Output>) -> Result<(), &'static str> {
        let (mut open, mut fault) = (self.framing.open(pes), None);
        loop {
            match Parsed::at(open.bytes()) {
                Parsed::Packet { header_len, len } => {
                    let packet = self.framing.frame(&mut open, header_len + len).slice(header_len..);
                    fault = self.packet(packet, out).err().or(fault);
                }
                Parsed::Unfinished => break,
                Parsed::None => {
                    fault = Some("no Opus packet where one should begin");
                    let bytes = open.bytes();
                    let next = (1..bytes.len()).find(|&at| is_header(&bytes[at..])).unwrap_or(bytes.len());
                    open.skip(next);
                }
            }
        }
        self.framing.close(open);
        fault.map_or(Ok(()), Err)
    }
}

/// The outcome of reading a control header and the packet behind it.
enum Parsed {
    /// A packet of `len` bytes behind its control header.
    Packet { header_len: usize, len: usize },
    /// A packet that goes on in the next PES packet, or nothing.
    Unfinished,
    /// Something else.
    None,
}

impl Parsed {
    fn at(bytes: &[u8]) -> Parsed {
        let [_, flags, tail @ ..] = bytes else {
            return if is_header(bytes) { Parsed::Unfinished } else { Parsed::None };
        };
        if !is_header(bytes) {
            return Parsed::None;
        }
        let mut rest = tail;
        let Some(len) = sum_of_255s(&mut rest) else {
            return if tail.len() > PACKET_LEN_MAX / 255 { Parsed::None } else { Parsed::Unfinished };
        };
        let mut skipped = if flags & 0x10 != 0 { 2 } else { 0 } + if flags & 0x08 != 0 { 2 } else { 0 };
        if flags & 0x04 != 0 {
            let Some(&extension) = rest.get(skipped) else { return Parsed::Unfinished };
            skipped += 1 + usize::from(extension);
        }
        let header_len = bytes.len() - rest.len() + skipped;
        match len {
            ..=PACKET_LEN_MAX if bytes.len() >= header_len + len => Parsed::Packet { header_len, len },
            ..=PACKET_LEN_MAX => Parsed::Unfinished,
            _ => Parsed::None,
        }
    }
}

/// Returns whether a control header may begin with these bytes.
fn is_header(bytes: &[u8]) -> bool {
    bytes.first().is_none_or(|&byte| byte == 0x7f) && bytes.get(1).is_none_or(|flags| flags & 0xe0 == 0xe0)
}
