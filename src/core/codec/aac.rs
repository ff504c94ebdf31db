//! AAC's own header: AudioSpecificConfig (ISO 14496-3, 1.6.2.1).

use bytes::Bytes;
use h264_reader::rbsp::{BitRead, BitReader};

use super::error::{HeaderError, check_len};
use crate::model::limits::CONFIG_LEN_MAX;

/// samplingFrequencyIndex (14496-3, table 1.18).
pub(crate) const SAMPLE_RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
/// The number of speakers by channelConfiguration (table 1.19); 0 means that a program config element gives it.
const CHANNELS: [u8; 15] = [0, 1, 2, 3, 4, 5, 6, 8, 0, 0, 0, 7, 8, 24, 8];

const LC: u8 = 2;
const SBR: u8 = 5;
const PS: u8 = 29;

/// An AudioSpecificConfig.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Aac {
    /// The config as it came: two configs are the same if these bytes are.
    pub config: Bytes,
    /// audioObjectType that the codecs string names: 2 LC, 5 HE-AAC, 29 HE-AAC v2.
    pub object_type: u8,
    /// The core coder's sample rate, in Hz, at which the samples of a frame are counted.
    pub core_rate: u32,
    /// The decoder's sample rate, in Hz: twice the core's with SBR.
    pub sample_rate: u32,
    /// channelConfiguration: the core's channels (table 1.19).
    pub configuration: u8,
    /// Speakers; 2 with parametric stereo.
    pub channels: u8,
    /// Samples of the core in an access unit: 1024, or 960.
    pub frame_len: u32,
}

type Bits<'a> = BitReader<&'a [u8]>;

/// Reads GetAudioObjectType() (table 1.14): 31 escapes to six more bits.
fn object_type(r: &mut Bits<'_>) -> Result<u8, HeaderError> {
    match r.read_var(5, "audioObjectType")? {
        31u8 => Ok(32 + r.read_var::<u8>(6, "audioObjectTypeExt")?),
        object_type => Ok(object_type),
    }
}

/// Reads samplingFrequencyIndex: 15 escapes to the rate itself in 24 bits.
fn sample_rate(r: &mut Bits<'_>) -> Result<u32, HeaderError> {
    let rate = match r.read_var::<u8>(4, "samplingFrequencyIndex")? {
        15 => r.read_var(24, "samplingFrequency")?,
        index => SAMPLE_RATES.get(usize::from(index)).copied().unwrap_or(0),
    };
    if (7_350..=192_000).contains(&rate) { Ok(rate) } else { Err(HeaderError::invalid("the sample rate", rate)) }
}

/// Reads the backward compatible signalling behind the core's config (1.6.6.1): 0x2b7, then SBR, then 0x548 and PS.
/// Returns the object type and the sample rate, if there are any.
fn extension(r: &mut Bits<'_>) -> Result<Option<(u8, u32)>, HeaderError> {
    let begins =
        |r: &mut Bits<'_>, sync: u16| r.read_var::<u16>(11, "syncExtensionType").is_ok_and(|read| read == sync);
    let is_sbr = begins(r, 0x2b7) && object_type(r).is_ok_and(|kind| kind == SBR);
    if !is_sbr || !r.read_bit("sbrPresentFlag")? {
        return Ok(None);
    }
    let rate = sample_rate(r)?;
    let is_ps = begins(r, 0x548) && r.read_bit("psPresentFlag").unwrap_or(false);
    Ok(Some((if is_ps { PS } else { SBR }, rate)))
}

impl Aac {
    /// Reads an AudioSpecificConfig that signals SBR and PS hierarchically or by the backward compatible extension.
    pub fn parse(config: &Bytes) -> Result<Aac, HeaderError> {
        check_len(config.len(), CONFIG_LEN_MAX)?;
        let r = &mut BitReader::new(&config[..]);
        let signalled = object_type(r)?;
        let core_rate = sample_rate(r)?;
        let configuration: u8 = r.read_var(4, "channelConfiguration")?;
        let (mut object_type, mut sample_rate, mut core) = (signalled, core_rate, signalled);
        let hierarchical = signalled == SBR || signalled == PS;
        if hierarchical {
            sample_rate = self::sample_rate(r)?;
            core = self::object_type(r)?;
        }
        // AAC-LC is what every player decodes, alone and as the core of HE-AAC.
        if core != LC {
            return Err(HeaderError::invalid("audioObjectType (AAC-LC, HE-AAC and HE-AAC v2 are taken)", core));
        }
        // GASpecificConfig (table 4.1).
        let frame_len = if r.read_bit("frameLengthFlag")? { 960 } else { 1_024 };
        if r.read_bit("dependsOnCoreCoder")? {
            r.skip(14, "coreCoderDelay")?;
        }
        let extended = r.read_bit("extensionFlag")?;
        let mut channels = match (configuration, CHANNELS.get(usize::from(configuration))) {
            // A program config element follows, for an unusual layout of more than two speakers. The decoder reads it;
            // only CHANNELS in the playlist needs a number.
            (0, _) => 2,
            (_, Some(&channels)) if channels > 0 => channels,
            _ => return Err(HeaderError::invalid("channelConfiguration", configuration)),
        };
        if configuration != 0 && !extended && !hierarchical {
            (object_type, sample_rate) = extension(r)?.unwrap_or((object_type, sample_rate));
        }
        if object_type == PS {
            channels = 2;
        }
        Ok(Aac { config: config.clone(), object_type, core_rate, sample_rate, configuration, channels, frame_len })
    }

    /// Returns the codecs string (RFC 6381): `mp4a.40.` and the object type.
    pub fn codec(&self) -> String {
        format!("mp4a.40.{}", self.object_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &'static [u8], expect: Result<(&str, u32, u32, u8), HeaderError>) {
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
        check(&[0x17, 0x80, 0x00, 0x00, 0x10], Err(HeaderError::invalid("the sample rate", 0u8)));
    }

    #[test]
    fn faults_are_named() {
        let invalid = |what, value: u8| Err(HeaderError::invalid(what, value));
        assert!(
            matches!(Aac::parse(&Bytes::new()), Err(HeaderError::Unreadable(why)) if why.contains("audioObjectType"))
        );
        assert!(Aac::parse(&Bytes::from_static(&[0x12])).is_err());
        check(&[0x16, 0x90], invalid("the sample rate", 0));
        let object_type = "audioObjectType (AAC-LC, HE-AAC and HE-AAC v2 are taken)";
        check(&[0x0a, 0x10], invalid(object_type, 1));
        check(&[0x1a, 0x10], invalid(object_type, 3));
        check(&[0xf9, 0x46, 0x40], invalid(object_type, 42));
        check(&[0x12, 0x40], invalid("channelConfiguration", 8));
    }
}
