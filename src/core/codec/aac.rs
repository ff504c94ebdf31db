//! AAC's own header: AudioSpecificConfig (ISO 14496-3, 1.6.2.1).

use bytes::Bytes;

use crate::model::limits::CONFIG_LEN_MAX;

/// samplingFrequencyIndex (14496-3, table 1.18).
pub(crate) const SAMPLE_RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
/// Speakers by channelConfiguration (table 1.19); 0 means that a program config element says so.
const CHANNELS: [u8; 15] = [0, 1, 2, 3, 4, 5, 6, 8, 0, 0, 0, 7, 8, 24, 8];

const LC: u8 = 2;
const SBR: u8 = 5;
const PS: u8 = 29;

/// What is read of an AudioSpecificConfig.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Aac {
    /// The config as it came: two are the same if these bytes are.
    pub config: Bytes,
    /// audioObjectType that the codecs string names: 2 LC, 5 HE-AAC, 29 HE-AAC v2.
    pub object_type: u8,
    /// Of the core coder, in Hz: what a frame of [`frame_len`](Aac::frame_len) samples is counted in.
    pub core_rate: u32,
    /// Of the sound that comes out, in Hz: twice the core's with SBR.
    pub sample_rate: u32,
    /// Speakers; 2 with parametric stereo.
    pub channels: u8,
    /// Samples of the core in an access unit: 1024, or 960.
    pub frame_len: u32,
}

/// Why an AudioSpecificConfig can't be used. Its publisher is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AacError {
    /// Ends inside a field.
    #[error("the AudioSpecificConfig ends at bit {bits}, inside {what}")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// The config's length in bits.
        bits: usize,
    },
    /// Longer than [`CONFIG_LEN_MAX`].
    #[error("the AudioSpecificConfig has {0} bytes, more than {CONFIG_LEN_MAX}")]
    TooLong(usize),
    /// An object type that isn't AAC as players take it.
    #[error("audioObjectType {0} isn't AAC-LC, HE-AAC or HE-AAC v2")]
    ObjectType(u8),
    /// A reserved index, or a rate outside 7,350 to 192,000 Hz.
    #[error("a sample rate of {0} Hz (index {1})")]
    SampleRate(u32, u8),
    /// A reserved channelConfiguration.
    #[error("channelConfiguration {0}")]
    Channels(u8),
}

struct Bits<'a> {
    buf: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn left(&self) -> usize {
        self.buf.len() * 8 - self.at
    }

    fn take(&mut self, n: usize, what: &'static str) -> Result<u32, AacError> {
        if self.left() < n {
            return Err(AacError::Truncated { what, bits: self.buf.len() * 8 });
        }
        let mut out = 0;
        for _ in 0..n {
            let bit = self.buf[self.at / 8] >> (7 - self.at % 8) & 1;
            out = out << 1 | u32::from(bit);
            self.at += 1;
        }
        Ok(out)
    }

    fn small(&mut self, n: usize, what: &'static str) -> Result<u8, AacError> {
        debug_assert!(n <= 8);
        Ok((self.take(n, what)? & 0xff) as u8)
    }

    /// GetAudioObjectType() (table 1.14): 31 escapes to six more bits.
    fn object_type(&mut self) -> Result<u8, AacError> {
        match self.small(5, "audioObjectType")? {
            31 => Ok(32 + self.small(6, "audioObjectTypeExt")?),
            object_type => Ok(object_type),
        }
    }

    /// samplingFrequencyIndex, 15 escaping to the rate itself in 24 bits.
    fn sample_rate(&mut self) -> Result<u32, AacError> {
        let index = self.small(4, "samplingFrequencyIndex")?;
        let rate = match index {
            15 => self.take(24, "samplingFrequency")?,
            _ => SAMPLE_RATES.get(usize::from(index)).copied().unwrap_or(0),
        };
        if (7_350..=192_000).contains(&rate) { Ok(rate) } else { Err(AacError::SampleRate(rate, index)) }
    }
}

impl Aac {
    /// Reads an AudioSpecificConfig, with SBR and PS signalled either way (hierarchically, or by the
    /// backward compatible extension behind the core's config).
    pub fn parse(config: &Bytes) -> Result<Aac, AacError> {
        if config.len() > CONFIG_LEN_MAX {
            return Err(AacError::TooLong(config.len()));
        }
        let r = &mut Bits { buf: config, at: 0 };
        let signalled = r.object_type()?;
        let core_rate = r.sample_rate()?;
        let configuration = r.small(4, "channelConfiguration")?;
        let (mut object_type, mut sample_rate, mut core) = (signalled, core_rate, signalled);
        if signalled == SBR || signalled == PS {
            sample_rate = r.sample_rate()?;
            core = r.object_type()?;
        }
        // AAC-LC is what every player decodes, alone and as the core of HE-AAC.
        if core != LC {
            return Err(AacError::ObjectType(core));
        }
        // GASpecificConfig (table 4.1).
        let frame_len = if r.take(1, "frameLengthFlag")? == 1 { 960 } else { 1_024 };
        if r.take(1, "dependsOnCoreCoder")? == 1 {
            r.take(14, "coreCoderDelay")?;
        }
        let extension = r.take(1, "extensionFlag")?;
        let mut channels = CHANNELS.get(usize::from(configuration)).copied().unwrap_or(0);
        if configuration == 0 {
            // A program config element follows. Who sends one sends more than stereo in an odd layout;
            // the decoder reads the layout itself, so that only CHANNELS in the playlist needs a number.
            channels = 2;
        } else if channels == 0 {
            return Err(AacError::Channels(configuration));
        } else if extension == 0 && object_type != SBR && object_type != PS && r.left() >= 16 {
            // Backward compatible signalling (1.6.6.1): 0x2b7, then SBR, then 0x548 and PS.
            if r.take(11, "syncExtensionType")? == 0x2b7 && r.object_type()? == SBR && r.take(1, "sbrPresentFlag")? == 1
            {
                object_type = SBR;
                sample_rate = r.sample_rate()?;
                let ps = r.left() >= 12 && r.take(11, "syncExtensionType")? == 0x548;
                if ps && r.take(1, "psPresentFlag")? == 1 {
                    object_type = PS;
                }
            }
        }
        if object_type == PS {
            channels = 2;
        }
        Ok(Aac { config: config.clone(), object_type, core_rate, sample_rate, channels, frame_len })
    }

    /// RFC 6381 codecs string: `mp4a.40.` and the object type.
    pub fn codec(&self) -> String {
        format!("mp4a.40.{}", self.object_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &'static [u8], expect: Result<(&str, u32, u32, u8), AacError>) {
        let parsed = Aac::parse(&Bytes::from_static(bytes));
        let parsed = parsed.map(|aac| (aac.codec(), aac.core_rate, aac.sample_rate, aac.channels));
        assert_eq!(parsed, expect.map(|(codec, core, rate, ch)| (codec.to_owned(), core, rate, ch)), "{bytes:02x?}");
    }

    #[test]
    fn low_complexity() {
        check(&[0x12, 0x10], Ok(("mp4a.40.2", 44_100, 44_100, 2)));
        check(&[0x11, 0x90], Ok(("mp4a.40.2", 48_000, 48_000, 2)));
        check(&[0x11, 0xb0], Ok(("mp4a.40.2", 48_000, 48_000, 6)));
        // ffmpeg's: LC with the SBR extension, flag 0.
        check(&[0x12, 0x10, 0x56, 0xe5, 0x00], Ok(("mp4a.40.2", 44_100, 44_100, 2)));
    }

    #[test]
    fn high_efficiency_either_way() {
        // Hierarchical: 5, 24 kHz, stereo, 48 kHz, 2.
        check(&[0x2b, 0x11, 0x88, 0x00], Ok(("mp4a.40.5", 24_000, 48_000, 2)));
        // Hierarchical: 29, 24 kHz, mono, 48 kHz, 2.
        check(&[0xeb, 0x09, 0x88, 0x00], Ok(("mp4a.40.29", 24_000, 48_000, 2)));
        // Backward compatible: 2, 24 kHz, stereo, then 0x2b7, 5, 1, 48 kHz.
        check(&[0x13, 0x10, 0x56, 0xe5, 0x98], Ok(("mp4a.40.5", 24_000, 48_000, 2)));
        // The same with 0x548 and PS, mono.
        check(&[0x13, 0x08, 0x56, 0xe5, 0x9d, 0x48, 0x80], Ok(("mp4a.40.29", 24_000, 48_000, 2)));
    }

    #[test]
    fn an_escaped_sample_rate() {
        // 2, index 15, 48,000 in 24 bits, stereo.
        check(&[0x17, 0x80, 0x5d, 0xc0, 0x10], Ok(("mp4a.40.2", 48_000, 48_000, 2)));
        check(&[0x17, 0x80, 0x00, 0x00, 0x10], Err(AacError::SampleRate(0, 15)));
    }

    #[test]
    fn faults_are_named() {
        check(&[], Err(AacError::Truncated { what: "audioObjectType", bits: 0 }));
        check(&[0x12], Err(AacError::Truncated { what: "samplingFrequencyIndex", bits: 8 }));
        check(&[0x16, 0x90], Err(AacError::SampleRate(0, 13)));
        check(&[0x0a, 0x10], Err(AacError::ObjectType(1)));
        check(&[0x1a, 0x10], Err(AacError::ObjectType(3)));
        check(&[0xf9, 0x46, 0x40], Err(AacError::ObjectType(42)));
        check(&[0x12, 0x40], Err(AacError::Channels(8)));
    }
}
