use proptest::prelude::*;

use super::super::codec::Codec;
use super::*;
use crate::cmaf;
use crate::model::SampleAspectRatio;

/// x265's records by way of ffmpeg 9.0, without their SEI: Main, 320x180, 30 fps.
pub(crate) const MAIN: &str = "0101600000009000000000003cf000fcfdf8f800000f03200001001840010c01ffff01600000030090000003000003003c9\
     59409210001002b42010101600000030090000003000003003ca00a080c1f3e595952930bc05a020000030002000003003c1022000100064401c073c189";
/// Main 10 in PQ, 1920x1080, 30000/1001 fps, with scaling lists.
const MAIN_10: &str = "01022000000090000000000078f000fcfdfafa00000f03200001001840010c01ffff0220000003009000000300000300789594\
     09210001002e420101022000000300900000030000030078a003c0801107cad965654a4e1780b50910090400000fa40001d4c02022000100064401c073c189";

/// x265's of 352x288 pixels of 16:11, and 360x288 of 64:45.
pub(crate) const SAR_16_11: &str = "0101600000009000000000003cf000fcfdf8f800000f03a00001001840010c01ffff01600000030090000003000003003c95\
     9409a10001002942010101600000030090000003000003003ca00b080485965654a4c2f0468080000003008000000c84a2000100064401c073c189";
const SAR_64_45: &str = "0101600000009000000000003cf000fcfdf8f800000f03a00001001840010c01ffff01600000030090000003000003003c95\
     9409a10001002e42010101600000030090000003000003003ca00b8804872f965654a4c2fff0040002d68080000003008000000c84a2000100064401\
     c073c189";

pub(crate) fn bytes(hex: &str) -> Bytes {
    let hex: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal");
    hex.chunks(2).map(byte).collect::<Vec<u8>>().into()
}

fn nal(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(payload.len() + 2).expect("short").to_be_bytes().to_vec();
    out.extend([kind << 1, 1]);
    out.extend(payload);
    out
}

#[test]
fn encoders_records_are_read() {
    let check = |record: &str, codec: &str, size, rate, transfer| {
        let hevc = Hevc::parse(&bytes(record)).expect(codec);
        assert_eq!(hevc.codec(), codec);
        let Picture { width, height, frame_rate_milli, transfer: read, .. } = hevc.picture;
        assert_eq!(((width, height), frame_rate_milli, read), (size, rate, transfer));
    };
    check(MAIN, "hvc1.1.6.L60.90", (320, 180), Some(30_000), 2);
    check(MAIN_10, "hvc1.2.4.L120.90", (1_920, 1_080), Some(29_970), 16);
}

#[test]
fn codec_strings_are_those_of_annex_e() {
    let with = |f: fn(&mut Hvcc)| {
        let mut hevc = Hevc::parse(&bytes(MAIN)).expect("x265's own");
        f(&mut hevc.hvcc);
        hevc.codec()
    };
    // E.3's own examples, "hev1" apart.
    let main = |h: &mut Hvcc| (h.general_level_idc, h.general_constraint_indicator_flags) = (93, [0xb0, 0, 0, 0, 0, 0]);
    assert_eq!(with(main), "hvc1.1.6.L93.B0");
    let other = |h: &mut Hvcc| {
        (h.general_profile_space, h.general_profile_idc, h.general_tier_flag, h.general_level_idc) = (1, 4, true, 120);
        (h.general_profile_compatibility_flags, h.general_constraint_indicator_flags) =
            ([8, 0, 0, 0], [0xb0, 0x23, 0, 0, 0, 0]);
    };
    assert_eq!(with(other), "hvc1.A4.10.H120.B0.23");
}

#[test]
fn settings_in_an_sei_are_left_out() {
    let mut record = bytes(MAIN).to_vec();
    record[22] += 1;
    record.extend([0x80 | 39, 0, 1, 0x09, 0]);
    record.extend([0x4e; 0x900]);
    assert_eq!(
        Hevc::parse(&record.into()).expect("longer than it may be"),
        Hevc::parse(&bytes(MAIN)).expect("the same")
    );
}

#[test]
fn parameter_sets_in_band_make_the_same_record() {
    let hevc = Hevc::parse(&bytes(MAIN_10)).expect("x265's own");
    let sets = |kind: usize| hevc.hvcc.arrays[kind].nalus.iter().cloned().map(Bytes::from).collect::<Vec<_>>();
    let made = Hevc::record_of(&sets(0), &sets(1), &sets(2)).expect("all three");
    assert_eq!(made, hevc.record);
    assert!(Hevc::record_of(&sets(0), &[], &sets(2)).is_err());
}

#[test]
fn a_sample_says_whether_decoding_can_begin() {
    let check = |units: &[Vec<u8>], sync| assert_eq!(Hevc::is_sync(&units.concat()), sync, "{units:02x?}");
    let (idr, cra, bla) = (nal(19, b"idr"), nal(21, b"cra"), nal(16, b"bla"));
    check(std::slice::from_ref(&idr), Some(true));
    check(&[nal(39, b"sei"), cra], Some(true));
    check(&[bla], Some(true));
    check(&[nal(1, b"p")], Some(false));
    check(&[nal(8, b"rasl")], Some(false));
    check(&[idr, vec![0, 0, 0, 9, 1]], None);
    check(&[vec![0, 0, 0, 0]], None);
}

#[test]
fn pixels_may_be_wider_than_high() {
    let sar = |record: &str| Hevc::parse(&bytes(record)).expect("x265's own").picture.sar;
    assert_eq!(sar(MAIN), SampleAspectRatio::SQUARE);
    // By table E.1, and as a ratio of its own.
    assert_eq!(sar(SAR_16_11), SampleAspectRatio::new(16, 11));
    assert_eq!(sar(SAR_64_45), SampleAspectRatio::new(64, 45));
}

#[test]
fn faults_are_named() {
    let with = |at: usize, byte: u8| {
        let mut record = bytes(MAIN).to_vec();
        record[at] = byte;
        Hevc::parse(&record.into()).expect_err("a fault").to_string()
    };
    assert_eq!(with(0, 2), "configurationVersion is 2");
    assert_eq!(with(21, 0x0e), "lengthSizeMinusOne is 2");
    assert_eq!(with(23, 0x21), "nal_unit_type of a parameter set is 32");
    assert_eq!(with(22, 1), "no PPS");
    for cut in 0..bytes(MAIN).len() {
        assert!(Hevc::parse(&bytes(MAIN).slice(..cut)).is_err(), "cut at {cut}");
    }
}

proptest! {
    #[test]
    fn rubbish_is_refused_or_makes_an_init_segment(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        ten in any::<bool>(),
    ) {
        let mut record = bytes(if ten { MAIN_10 } else { MAIN }).to_vec();
        for (at, byte) in changes {
            let at = at.index(record.len());
            record[at] = byte;
        }
        if let Ok(hevc) = Hevc::parse(&record.into()) {
            let codec = Codec::Hevc(Box::new(hevc));
            prop_assert!(codec.name().starts_with("hvc1."));
            prop_assert!(cmaf::init(&codec, codec.timescale()).len() < 2 << 10);
        }
    }
}
