use proptest::prelude::*;

use super::super::codec::Codec;
use super::*;
use crate::cmaf;
use crate::codec::hevc::tests::bytes;

/// SVT-AV1's record by way of ffmpeg 9.0: 320x180 at 30 fps.
const SVT: &str = "81000c000a0b0200000521e7f66017c002";
/// The same: 1920x1080, 10 bits, PQ.
const SVT_10: &str = "81084c000a0f02000042955dfe1b805f0a12201208";
/// libaom's: 640x360.
const AOM: &str = "81010c000a0b0000000cc4ff6736be4010";
/// A delimiter, and a key frame's first bytes.
const DELIMITER: &[u8] = &[0x12, 0x00];
const KEY: &[u8] = &[0x32, 0x03, 0x10, 1, 2];
const INTER: &[u8] = &[0x32, 0x03, 0x30, 1, 2];
const HIDDEN_KEY: &[u8] = &[0x32, 0x03, 0x00, 1, 2];
const SHOWN_AGAIN: &[u8] = &[0x1a, 0x01, 0x80];

#[test]
fn encoders_records_are_read() {
    let check = |record: &str, codec: &str, size| {
        let av1 = Av1::parse(&bytes(record)).expect(codec);
        assert_eq!(av1.codec(), codec);
        assert_eq!((av1.picture.width, av1.picture.height), size);
    };
    check(SVT, "av01.0.00M.08", (320, 180));
    // ffmpeg's own DASH muxer writes this for the stream.
    check(SVT_10, "av01.0.08M.10.0.110.09.16.09.0", (1_920, 1_080));
    check(AOM, "av01.0.01M.08", (640, 360));
}

#[test]
fn samples_have_no_delimiters_and_begin_with_a_sequence_header() {
    let av1 = Av1::parse(&bytes(SVT)).expect("SVT's own");
    let header = &bytes(SVT)[4..];
    let check = |unit: &[&[u8]], expect: &[&[u8]], sync| {
        assert_eq!(av1.sample(&unit.concat().into()), Some((expect.concat().into(), sync)), "{unit:02x?}");
    };
    check(&[DELIMITER, header, KEY], &[header, KEY], true);
    check(&[header, KEY], &[header, KEY], true);
    check(&[DELIMITER, KEY], &[header, KEY], true);
    check(&[DELIMITER, INTER, &[0x7a, 2, 0, 0]], &[INTER], false);
    check(&[SHOWN_AGAIN], &[SHOWN_AGAIN], false);
    check(&[header, HIDDEN_KEY, INTER], &[header, HIDDEN_KEY, INTER], false);
    // The last one's size may be left out.
    check(&[DELIMITER, &[0x30, 0x30, 9]], &[&[0x30, 0x30, 9]], false);
    assert_eq!(av1.sample(&Bytes::from_static(&[0x32, 9, 0x10])), None);
    assert_eq!(av1.sample(&Bytes::from_static(&[0x92, 0])), None);
}

#[test]
fn faults_are_named() {
    let fault = |record: &[u8]| Av1::parse(&Bytes::copy_from_slice(record)).expect_err("a fault").to_string();
    assert_eq!(fault(&bytes(SVT)[..4]), "no sequence header");
    assert!(fault(&[0x01, 0, 0, 0]).starts_with("can't be read: "));
    assert!(fault(&[&bytes(SVT)[..4], &[0x0a, 2, 2, 0]].concat()).starts_with("can't be read: sequence header: "));
    // Evenly timed, by a uvlc() of 300 zeros.
    let zeros = [&bytes(SVT)[..4], &[0x0a, 50, 4 | 1, 0, 0, 0, 0, 0, 0, 0, 1], &[0; 41]].concat();
    assert_eq!(fault(&zeros), "can't be read: sequence header: more than 30 zero bytes in a row");
    assert_eq!(fault(&[0x81; CONFIG_LEN_MAX + 1]), "it has 1025 bytes; the limit is 1024");
}

proptest! {
    #[test]
    fn rubbish_is_refused_or_makes_an_init_segment(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        which in 0..3usize,
    ) {
        let mut record = bytes([SVT, SVT_10, AOM][which]).to_vec();
        for (at, byte) in changes {
            let at = at.index(record.len());
            record[at] = byte;
        }
        if let Ok(av1) = Av1::parse(&record.into()) {
            let codec = Codec::Av1(Box::new(av1));
            prop_assert!(codec.name().starts_with("av01."));
            prop_assert!(cmaf::init(&codec, codec.timescale()).len() < 2 << 10);
        }
    }

    #[test]
    fn any_unit_is_taken_or_left(unit in proptest::collection::vec(any::<u8>(), 0..60)) {
        let av1 = Av1::parse(&bytes(SVT)).expect("SVT's own");
        if let Some((sample, _)) = av1.sample(&unit.clone().into()) {
            prop_assert!(sample.len() <= unit.len() + av1.sequence.len());
        }
    }
}
