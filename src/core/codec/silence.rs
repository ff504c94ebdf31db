//! Coded silence: access units that fill sound where its encoder sends none.

use bytes::{BufMut, Bytes, BytesMut};

use super::aac::Aac;
use super::opus::{self, Opus};

/// An element of a raw_data_block (ISO 14496-3, table 4.85), and its element_instance_tag.
type Element = (u8, u8);
/// id_syn_ele: one channel, a pair, the low-frequency channel, and the block's end.
const SCE: u8 = 0;
const CPE: u8 = 1;
const LFE: u8 = 3;
const END: u8 = 7;

/// Writes bits, the most significant first.
#[derive(Default)]
struct Bits {
    out: BytesMut,
    filled: u32,
}

impl Bits {
    fn put(&mut self, value: u32, count: u32) {
        for bit in (0..count).rev() {
            if self.filled.is_multiple_of(8) {
                self.out.put_u8(0);
            }
            if let Some(last) = self.out.last_mut() {
                *last |= ((value >> bit & 1) as u8) << (7 - self.filled % 8);
            }
            self.filled += 1;
        }
    }
}

/// Returns a raw_data_block in which every channel is silent; `None` if the elements of the channels aren't known.
pub(super) fn aac(aac: &Aac) -> Option<Bytes> {
    let elements: &[Element] = match aac.configuration {
        1 => &[(SCE, 0)],
        2 => &[(CPE, 0)],
        3 => &[(SCE, 0), (CPE, 0)],
        4 => &[(SCE, 0), (CPE, 0), (SCE, 1)],
        5 => &[(SCE, 0), (CPE, 0), (CPE, 1)],
        6 => &[(SCE, 0), (CPE, 0), (CPE, 1), (LFE, 0)],
        7 | 12 => &[(SCE, 0), (CPE, 0), (CPE, 1), (CPE, 2), (LFE, 0)],
        11 => &[(SCE, 0), (CPE, 0), (CPE, 1), (SCE, 1), (LFE, 0)],
        14 => &[(SCE, 0), (CPE, 0), (CPE, 1), (LFE, 0), (CPE, 2)],
        _ => return None,
    };
    let mut bits = Bits::default();
    for &(kind, tag) in elements {
        bits.put(kind.into(), 3);
        bits.put(tag.into(), 4);
        if kind == CPE {
            // common_window, ics_info, ms_mask_present.
            bits.put(1, 1);
            bits.put(0, 11 + 2);
        }
        for _ in 0..if kind == CPE { 2 } else { 1 } {
            // global_gain, ics_info of a channel alone (one long window, max_sfb 0), then no pulse, TNS and gain control.
            bits.put(0, 8 + if kind == CPE { 0 } else { 11 } + 3);
        }
    }
    bits.put(END.into(), 3);
    Some(bits.out.freeze())
}

/// Returns a packet of about as many samples, at 48 kHz, in which every stream is silent.
pub(super) fn opus(opus: &Opus, samples: u32) -> Bytes {
    // CELT of the full band in frames of 20 ms at most (RFC 6716, table 2).
    let (config, frames) = match samples {
        0..=120 => (28, 1),
        121..=240 => (29, 1),
        241..=480 => (30, 1),
        _ => (31, (samples / opus::SAMPLES_USUAL).clamp(1, 6) as u8),
    };
    let (streams, coupled) = match &opus.dops.channel_mapping {
        Some(mapping) => (mapping.stream_count, mapping.coupled_count),
        None => (1, opus.dops.output_channel_count - 1),
    };
    let mut out = BytesMut::new();
    for stream in 0..streams {
        let stereo = u8::from(stream < coupled);
        let code = if frames > 1 { 3 } else { 0 };
        out.put_u8(config << 3 | stereo << 2 | code);
        if frames > 1 {
            out.put_u8(frames);
        }
        // "Self-delimiting framing" of all streams but the last (appendix B).
        if stream + 1 < streams {
            out.put_u8(2);
        }
        for _ in 0..frames {
            out.put_slice(&[0xff, 0xfe]);
        }
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aac_is_silent_in_every_channel() {
        let check = |config: &'static [u8], expect: &[u8]| {
            let headers = Aac::parse(&Bytes::from_static(config)).expect("a config");
            assert_eq!(aac(&headers).as_deref(), Some(expect), "{config:02x?}");
        };
        check(&[0x11, 0x88], &[0, 0, 0, 7]);
        check(&[0x11, 0x90], &[0x21, 0, 0, 0, 0, 0x1c]);
        assert_eq!(aac(&Aac::parse(&Bytes::from_static(&[0x11, 0xb0])).expect("5.1")).map(|unit| unit.len()), Some(19));
    }

    #[test]
    fn opus_is_silent_for_as_long_as_its_packets_are() {
        for samples in [120, 240, 480, 960, 1_920, 2_880] {
            for (channels, mapping) in [(1, None), (2, None), (6, Some((4, 2, &[0, 4, 1, 2, 3, 5][..])))] {
                let headers = Opus::parse(&Opus::head(channels, 312, mapping)).expect("a head");
                assert_eq!(opus::samples(&opus(&headers, samples)), Some(samples), "{channels}");
            }
        }
        let headers = Opus::parse(&Opus::head(2, 312, None)).expect("a head");
        assert_eq!(opus(&headers, 960), &[0xfc, 0xff, 0xfe][..]);
    }
}
