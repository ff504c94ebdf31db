use proptest::prelude::*;

use super::super::codec::Codec;
use super::*;
use crate::cmaf;
use crate::codec::hevc::tests::bytes;

/// ffmpeg 9.0's frames, their first bytes: AC-3 in mono at 48 kHz, and 5.1 at 44.1 kHz.
const MONO: &str = "0b77480d0c402f842bc1c77aaf5e1be7";
const SURROUND: &str = "0b7746fa5e40ebf8403eff9dffc2107f";
/// E-AC-3 in mono, and 5.1.
const E_MONO: &str = "0b7700bf3287c00021064060e3bd57af";
const E_SURROUND: &str = "0b77037f3f87c00020f8200002004000";

/// A whole frame that begins so.
fn frame(hex: &str) -> Vec<u8> {
    let start = bytes(hex);
    let len = SyncFrame::parse(&start).expect(hex).len;
    start.iter().copied().chain(std::iter::repeat(0)).take(len).collect()
}

fn codec(unit: &[u8]) -> Codec {
    let config = Headers::default().of(unit).expect("frames").expect("the first");
    Codec::parse(&config).expect("what we made")
}

#[test]
fn frames_say_what_they_are() {
    let check = |hex: &str, name: &str, len, rate, channels| {
        let unit = frame(hex);
        assert_eq!(unit.len(), len, "{hex}");
        let codec = codec(&unit);
        assert_eq!((codec.name().as_str(), codec.sample_rate()), (name, rate));
        let (Codec::Ac3(Ac3 { channels: found, .. }) | Codec::Eac3(Eac3 { channels: found, .. })) = codec else {
            panic!("{name}")
        };
        assert_eq!(found, channels);
        assert_eq!(samples(&unit), Some(1_536));
    };
    // The lengths of the FLV tags that they come from.
    check(MONO, "ac-3", 384, 48_000, 1);
    check(SURROUND, "ac-3", 1_950, 44_100, 6);
    check(E_MONO, "ec-3", 384, 48_000, 1);
    check(E_SURROUND, "ec-3", 1_792, 48_000, 6);
}

#[test]
fn boxes_are_ffmpegs() {
    // ffmpeg's own mp4 muxer writes this for these streams.
    let check = |hex: &str, expect: &str| match codec(&frame(hex)) {
        Codec::Ac3(ac3) => assert_eq!(ac3.config, bytes(expect)),
        Codec::Eac3(eac3) => assert_eq!(eac3.config, bytes(expect)),
        other => panic!("{other:?}"),
    };
    check(MONO, "1008c0");
    check(SURROUND, "503de0");
    check(E_MONO, "0300200200");
    check(E_SURROUND, "0e00200f00");
}

#[test]
fn a_bit_rate_that_varies_is_no_new_configuration() {
    let mut headers = Headers::default();
    let mut unit = frame(E_SURROUND);
    assert!(headers.of(&unit).expect("frames").is_some());
    assert_eq!(headers.of(&unit), Ok(None));
    unit.extend([0; 2]);
    unit[3] += 1;
    assert_eq!(headers.of(&unit), Ok(None));
    assert!(headers.of(&frame(E_MONO)).expect("frames").is_some());
}

#[test]
fn dependent_substreams_bring_speakers() {
    // strmtyp 1, frmsiz 7, fscod 0, numblkscod 3, acmod 2, bsid 16, no compr, chanmape, and Lrs/Rrs in its chanmap.
    let mut dependent = vec![0x0b, 0x77, 0x40, 0x07, 0x34, 0x80, 0x10, 0x20];
    dependent.resize(16, 0);
    let unit = [frame(E_SURROUND), dependent.clone()].concat();
    let Codec::Eac3(eac3) = codec(&unit) else { panic!("E-AC-3") };
    let first = &eac3.dec3.substreams[0];
    assert_eq!((first.num_dep_sub, first.chan_loc, eac3.channels), (1, Some(2), 8));
    assert_eq!(samples(&unit), Some(1_536));
    let alone = Headers::default().of(&dependent).expect_err("nothing that it goes on with");
    assert_eq!(alone.to_string(), "no substream that a dependent one goes on with");
}

#[test]
fn faults_are_named() {
    let check = |unit: &[u8], expect: &str| {
        assert_eq!(Headers::default().of(unit).expect_err("a fault").to_string(), expect);
    };
    check(&[], "no syncword");
    check(&[0x0b, 0x77, 0], "no whole header");
    check(&[0; 16], "no syncword");
    check(&[0x0b, 0x77, 0, 0, 0, 0xf8, 0, 0], "bsid is 31");
    // Frames of four bytes, each of which is the next one's header.
    check(&[0x0b, 0x77, 0, 1].repeat(1_000), "frames of an access unit is 129");
    assert_eq!(samples(&[0x0b, 0x77, 0, 1].repeat(1_000)), Some(128 * 256));
    check(&[0x0b, 0x77, 0, 0, 0xc0, 0x40, 0, 0], "fscod and frmsizecod is 192");
}

proptest! {
    #[test]
    fn rubbish_is_refused_or_makes_an_init_segment(
        changes in proptest::collection::vec((0usize..16, any::<u8>()), 0..6),
        tail in proptest::collection::vec(any::<u8>(), 0..40),
        which in 0..4usize,
    ) {
        let mut unit = bytes([MONO, SURROUND, E_MONO, E_SURROUND][which]).to_vec();
        for (at, byte) in changes {
            unit[at] = byte;
        }
        unit.extend(tail);
        let _ = samples(&unit);
        if let Ok(Some(config)) = Headers::default().of(&unit) {
            let codec = Codec::parse(&config).expect("what we made");
            prop_assert!(cmaf::init(&codec, codec.timescale()).len() < 2 << 10);
        }
    }

    #[test]
    fn any_box_is_taken_or_refused(content in proptest::collection::vec(any::<u8>(), 0..40)) {
        for config in [CodecConfig::Ac3(content.clone().into()), CodecConfig::Eac3(content.clone().into())] {
            if let Ok(codec) = Codec::parse(&config) {
                prop_assert!(cmaf::init(&codec, codec.timescale()).len() < 2 << 10);
            }
        }
    }
}
