//! Opus's own headers: the identification header (RFC 7845, 5.1), and the duration of a packet (RFC 6716, 3.1).
//!
//! A packet's timestamp is that of the decoder's output for it, pre-skip included: the first packets have times before the
//! first sound. So the track has no edit list. ("Encapsulation of Opus in ISO BMFF" 4.4 asks for one in files, whose
//! timeline begins with the sound. ffmpeg's live streams have the same times as ours.) A player that joins in the middle
//! skips only the decoder's 80 ms of convergence.

use bytes::{BufMut, Bytes, BytesMut};
use mp4_atom::{Atom as _, Dops};

use super::error::HeaderError;

const MAGIC: &[u8; 8] = b"OpusHead";
/// The most channels of channel mapping family 1 (RFC 7845, 5.1.1.2).
pub(crate) const CHANNELS_MAX: u8 = 8;
/// The longest packet (RFC 6716, 3.4, R5): 120 ms, in samples of 48 kHz.
const SAMPLES_MAX: u32 = 5_760;
/// The duration of a packet by most encoders' default: 20 ms, in samples of 48 kHz.
pub(crate) const SAMPLES_USUAL: u32 = 960;
/// The rate at which all Opus is decoded, in Hz.
pub(crate) const RATE: u32 = 48_000;

/// An identification header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opus {
    /// The header as it came: two headers are the same if these bytes are.
    pub head: Bytes,
    /// The header as the sample entry has it.
    pub dops: Dops,
}

impl Opus {
    /// Reads an identification header.
    pub fn parse(head: &Bytes) -> Result<Opus, HeaderError> {
        let Some((fixed, table)) = head.split_first_chunk::<19>().filter(|(fixed, _)| fixed.starts_with(MAGIC)) else {
            return Err(HeaderError::Missing("19 bytes that begin with OpusHead"));
        };
        let &[.., version, channels, skip0, skip1, r0, r1, r2, r3, gain0, gain1, family] = fixed;
        // "Implementations SHOULD treat streams where the upper four bits of the version number match ... as compatible".
        if version >> 4 != 0 {
            return Err(HeaderError::invalid("version", version));
        }
        // The same fields in another byte order ("Encapsulation of Opus in ISO BMFF", 4.3.2), and the table as it is.
        let mut out = BytesMut::new();
        out.put_slice(&[0, channels, skip1, skip0, r3, r2, r1, r0, gain1, gain0, family]);
        let table_len = if family == 0 { 0 } else { 2 + usize::from(channels) };
        out.put_slice(&table[..table_len.min(table.len())]);
        if channels == 0 || channels > if family == 0 { 2 } else { CHANNELS_MAX } {
            return Err(HeaderError::invalid("channel count", channels));
        }
        if family > 1 {
            return Err(HeaderError::invalid("channel mapping family (0 and 1 are taken)", family));
        }
        let dops = Dops::decode_body(&mut &out[..])?;
        Ok(Opus { head: head.slice(..19 + table_len), dops })
    }

    /// Returns the identification header of a `dOps`'s content.
    pub fn head_of(dops: &[u8]) -> Result<Bytes, HeaderError> {
        let dops = Dops::decode_body(&mut &dops[..])?;
        let mut out = BytesMut::from(&MAGIC[..]);
        out.put_slice(&[1, dops.output_channel_count]);
        out.put_u16_le(dops.pre_skip);
        out.put_u32_le(dops.input_sample_rate);
        out.put_i16_le(dops.output_gain);
        match dops.channel_mapping {
            None => out.put_u8(0),
            Some(mapping) => {
                out.put_slice(&[mapping.family, mapping.stream_count, mapping.coupled_count]);
                out.put_slice(&mapping.channel_mapping);
            }
        }
        Ok(out.freeze())
    }

    /// Returns an identification header for a stream that has none. `pre_skip` is in samples of 48 kHz.
    pub fn head(channels: u8, pre_skip: u16, mapping: Option<(u8, u8, &[u8])>) -> Bytes {
        let mut out = BytesMut::from(&MAGIC[..]);
        out.put_slice(&[1, channels]);
        out.put_u16_le(pre_skip);
        out.put_u32_le(RATE);
        out.put_slice(&[0, 0, u8::from(mapping.is_some())]);
        if let Some((streams, coupled, channels)) = mapping {
            out.put_slice(&[streams, coupled]);
            out.put_slice(channels);
        }
        out.freeze()
    }
}

/// Returns how many samples of 48 kHz a packet has; `None` if it is no packet.
pub fn samples(packet: &[u8]) -> Option<u32> {
    let (&toc, rest) = packet.split_first()?;
    // Table 2: frame sizes by configuration.
    let frame = match toc >> 3 {
        config @ 0..=11 => [480, 960, 1_920, 2_880][usize::from(config & 3)],
        config @ 12..=15 => [480, 960][usize::from(config & 1)],
        config => [120, 240, 480, 960][usize::from(config & 3)],
    };
    let count = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(rest.first()? & 0x3f),
    };
    Some(frame * count).filter(|samples| (1..=SAMPLES_MAX).contains(samples))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STEREO: &[u8] = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0";

    #[test]
    fn libopus_stereo() {
        let opus = Opus::parse(&Bytes::from_static(STEREO)).expect("ffmpeg's own");
        let dops = &opus.dops;
        assert_eq!((dops.output_channel_count, dops.pre_skip, dops.input_sample_rate), (2, 312, 48_000));
        assert_eq!(opus.head, STEREO);
        assert_eq!(Opus::head(2, 312, None), STEREO);
    }

    #[test]
    fn surround_has_a_table() {
        let head = Opus::head(6, 312, Some((4, 2, &[0, 4, 1, 2, 3, 5])));
        let mapping = Opus::parse(&head).expect("5.1").dops.channel_mapping.expect("family 1");
        assert_eq!((mapping.family, mapping.stream_count, mapping.coupled_count), (1, 4, 2));
        assert_eq!(mapping.channel_mapping, [0, 4, 1, 2, 3, 5]);
        assert!(Opus::parse(&head.slice(..head.len() - 1)).is_err());
        for head in [head, Bytes::from_static(STEREO)] {
            let mut dops = Vec::new();
            Opus::parse(&head).expect("read").dops.encode_body(&mut dops).expect("written");
            assert_eq!(Opus::head_of(&dops), Ok(head));
        }
    }

    #[test]
    fn faults_are_named() {
        let check = |at: usize, byte: u8, expect: &str| {
            let mut head = STEREO.to_vec();
            head[at] = byte;
            assert_eq!(Opus::parse(&head.into()).expect_err("a fault").to_string(), expect);
        };
        check(0, b'o', "no 19 bytes that begin with OpusHead");
        check(8, 0x10, "version is 16");
        check(9, 0, "channel count is 0");
        check(9, 3, "channel count is 3");
        check(18, 255, "channel mapping family (0 and 1 are taken) is 255");
    }

    #[test]
    fn packets_say_how_long_they_last() {
        let check = |packet: &[u8], expect| assert_eq!(samples(packet), expect, "{packet:02x?}");
        check(&[0xf8, 1], Some(960)); // CELT, 20 ms
        check(&[0xfc, 1], Some(960));
        check(&[0xe1, 1], Some(240)); // 2.5 ms, twice
        check(&[0x78, 1], Some(960)); // hybrid
        check(&[0x18, 1], Some(2_880)); // SILK, 60 ms
        check(&[0xfb, 3], Some(2_880)); // three of 20 ms
        check(&[0xfb, 0], None);
        check(&[0xfb, 7], None);
        check(&[0xfb], None);
        check(&[], None);
    }

    proptest! {
        #[test]
        fn rubbish_is_refused_or_makes_a_box(head: [u8; 19], table in proptest::collection::vec(any::<u8>(), 0..12)) {
            let head: Vec<u8> = MAGIC.iter().chain(&head[8..]).chain(&table).copied().collect();
            if let Ok(opus) = Opus::parse(&head.into()) {
                opus.dops.encode_body(&mut Vec::new()).expect("what was read is written");
            }
        }
    }
}
