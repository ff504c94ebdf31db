use proptest::prelude::*;

use super::*;
use crate::codec::hevc::tests::{MAIN, bytes};
use crate::packager::tests::{AVCC_720P30, OTHER_AVCC};

/// NAL units of H.264 and H.265: a slice of an IDR picture that begins it and one that goes on, another picture, SEI.
const AVC: [&[u8]; 4] = [&[0x65, 0x88, 1], &[0x65, 0x48, 2], &[0x41, 0x9a, 3], &[0x06, 5, 4]];
const HEVC: [&[u8]; 4] = [&[0x26, 1, 0x80, 1], &[0x26, 1, 0x40, 2], &[2, 1, 0x80, 3], &[0x4e, 1, 5, 4]];

fn lengths(units: &[&[u8]]) -> Bytes {
    let one = |unit: &&[u8]| [&u32::try_from(unit.len()).expect("short").to_be_bytes()[..], unit].concat();
    units.iter().flat_map(one).collect()
}

fn codes(units: &[&[u8]]) -> Bytes {
    units.iter().flat_map(|unit| [&[0, 0, 0, 1][..], unit].concat()).collect()
}

/// The SPS and the first PPS of an avcC.
fn sets_of(record: &'static [u8]) -> [Vec<u8>; 2] {
    let avc = avc::Avc::parse(&Bytes::from_static(record)).expect("x264's own").avcc;
    [avc.sequence_parameter_sets[0].clone(), avc.picture_parameter_sets[0].clone()]
}

/// A track with headers, the sets of these, and NAL units of its codec.
type Made = (NalTrack, Vec<Vec<u8>>, [&'static [u8]; 4]);

fn tracks() -> [Made; 2] {
    let (mut avc, mut hevc) = (NalTrack::avc(), NalTrack::hevc());
    let record = bytes(MAIN);
    assert!(avc.configure(&Bytes::from_static(AVCC_720P30)).expect("x264's own").is_some());
    assert!(hevc.configure(&record).expect("x265's own").is_some());
    let hevc_sets = hevc::Hevc::parse(&record).expect("x265's own").hvcc.arrays;
    let hevc_sets = hevc_sets.into_iter().flat_map(|array| array.nalus).collect();
    [(avc, sets_of(AVCC_720P30).to_vec(), AVC), (hevc, hevc_sets, HEVC)]
}

#[test]
fn an_access_unit_of_lengths_is_passed_on_as_it_is() {
    for (mut track, _, [idr, _, _, sei]) in tracks() {
        let unit = lengths(&[sei, idr]);
        let (config, sample) = track.access_unit(&unit, false).expect("whole");
        assert_eq!((config, &sample, sample.as_ptr()), (None, &unit, unit.as_ptr()));
    }
}

#[test]
fn sets_keep_no_access_unit_in_memory() {
    for (known, sets, [idr, ..]) in tracks() {
        let mut track = if known.is_hevc() { NalTrack::hevc() } else { NalTrack::avc() };
        let units: Vec<&[u8]> = sets.iter().map(Vec::as_slice).chain([idr]).collect();
        let unit = lengths(&units);
        let (config, sample) = track.access_unit(&unit, true).expect("whole");
        assert_eq!((config.is_some(), sample), (true, lengths(&[idr])));
        assert!(unit.is_unique());
        let long = [&sets[0][..], &[1; 1 << 16]].concat();
        assert_eq!(track.access_unit(&lengths(&[&long, idr]), true), Ok((None, lengths(&[idr]))), "no set");
    }
}

#[test]
fn start_codes_become_lengths() {
    for (mut track, _, [idr, more, _, sei]) in tracks() {
        let expect = lengths(&[sei, idr, more]);
        let three: Vec<u8> = [&[0, 0, 1][..], sei, &[0, 0, 1], idr, &[0, 0, 1], more].concat();
        let zeros: Vec<u8> = [&codes(&[sei])[..], &[0, 0], &codes(&[idr, more]), &[0, 0, 0]].concat();
        for unit in [codes(&[sei, idr, more]), three.into(), zeros.into()] {
            assert_eq!(track.access_unit(&unit, false).expect("whole").1, expect, "{unit:02x?}");
        }
    }
}

#[test]
fn lengths_that_look_like_start_codes_are_lengths() {
    // A NAL unit of 0x141 bytes.
    for (mut track, _, [_, _, other, _]) in tracks() {
        let mut long = other.to_vec();
        long.resize(0x141, 7);
        let unit = lengths(&[&long]);
        assert_eq!(unit[..3], [0, 0, 1]);
        assert_eq!(track.access_unit(&unit, false), Ok((None, unit)));
    }
    // Of a stream with start codes it is one, though the length would fit.
    let (mut track, _, [idr, ..]) = tracks().into_iter().nth(1).expect("H.265");
    assert_eq!(track.split(&codes(&[idr])).form, NalForm::StartCodes);
    let mut unit = vec![0, 0, 1, 2, 1, 0x80];
    unit.resize(4 + 0x102, 7);
    assert_eq!(track.split(&unit.into()).form, NalForm::StartCodes);
}

#[test]
fn empty_nal_units_are_left_out() {
    for (mut track, _, [idr, more, ..]) in tracks() {
        let unit = lengths(&[&[], idr, &[], more, &[]]);
        assert_eq!(track.split(&unit).form, NalForm::EmptyUnits);
        assert_eq!(track.access_unit(&unit, false), Ok((None, lengths(&[idr, more]))));
        assert_eq!(track.access_unit(&lengths(&[&[], &[]]), false), Ok((None, Bytes::new())));
    }
}

#[test]
fn damage_is_named_and_what_is_before_it_kept() {
    for (mut track, _, [idr, ..]) in tracks() {
        let whole = lengths(&[idr]);
        for (tail, why) in [
            (&[0, 0][..], "an access unit ends inside a NAL unit's length"),
            (&[0, 0, 0, 9, 1], "a NAL unit is longer than its access unit"),
            (&[0, 0, 0, 1, 0x80], "a NAL unit has the forbidden bit"),
        ] {
            let unit = [&whole[..], tail].concat().into();
            assert_eq!(track.access_unit(&unit, false), Err(why));
            let nals = track.split(&unit);
            assert_eq!((track.sample(&nals), nals.form), (whole.clone(), NalForm::Damaged(why)));
        }
    }
}

#[test]
fn parameter_sets_and_what_is_no_picture_are_taken_out() {
    for (mut track, sets, [idr, ..]) in tracks() {
        let delimiter: &[u8] = if track.is_hevc() { &[0x46, 1, 0x50] } else { &[0x09, 0xf0] };
        let units: Vec<&[u8]> = [delimiter].into_iter().chain(sets.iter().map(Vec::as_slice)).chain([idr]).collect();
        assert_eq!(track.access_unit(&lengths(&units), true), Ok((None, lengths(&[idr]))), "the same sets");
    }
}

#[test]
fn other_sets_in_band_are_new_headers_from_a_key_picture_on() {
    let [(mut track, _, [idr, _, other, _]), _] = tracks();
    let [sps, pps] = sets_of(OTHER_AVCC);
    // At a picture where decoding can't begin they stay, and are no headers yet.
    let unit = lengths(&[&sps, &pps, other]);
    assert_eq!(track.access_unit(&unit, false), Ok((None, unit)));
    let (config, sample) = track.access_unit(&lengths(&[&sps, &pps, idr]), false).expect("whole");
    let Some(CodecConfig::Avc(record)) = config else { panic!("{config:?}") };
    let read = avc::Avc::parse(&record).expect("made of sets");
    assert_eq!((read.picture.width, read.picture.height, &read.codec()[..]), (640, 360, "avc1.4d401e"));
    assert_eq!(sample, lengths(&[idr]));
    // The old header, repeated, says nothing new; nor do the same sets.
    assert_eq!(track.configure(&Bytes::from_static(AVCC_720P30)), Ok(None));
    assert_eq!(track.access_unit(&lengths(&[&pps, idr]), true), Ok((None, lengths(&[idr]))));
    // A header with the sets that are in force, neither.
    assert_eq!(track.configure(&Bytes::from_static(OTHER_AVCC)), Ok(None));
}

#[test]
fn headers_may_be_missing_or_have_start_codes() {
    for (made, sets, [idr, ..]) in tracks() {
        let new = || if made.is_hevc() { NalTrack::hevc() } else { NalTrack::avc() };
        let sets: Vec<&[u8]> = sets.iter().map(Vec::as_slice).collect();
        let mut track = new();
        assert!(track.configure(&codes(&sets)).expect("sets").is_some());
        assert_eq!(track.access_unit(&codes(&[idr]), true), Ok((None, lengths(&[idr]))));
        // No header at all: the sets come with the first picture.
        let mut track = new();
        let (config, sample) = track.access_unit(&lengths(&[&sets[..], &[idr]].concat()), true).expect("whole");
        assert!(config.is_some());
        assert_eq!(sample, lengths(&[idr]));
    }
    // An avcC without PPS.
    let mut track = NalTrack::avc();
    assert_eq!(track.configure(&Bytes::from_static(&[1, 100, 0, 31, 0xff, 0xe0, 0])), Ok(None));
    assert!(track.configure(&Bytes::from_static(&[2, 100, 0, 31, 0xff, 0xe0, 0])).is_err());
}

#[test]
fn short_lengths_become_four_bytes() {
    let mut record = AVCC_720P30.to_vec();
    record[4] = 0xfd;
    let mut track = NalTrack::avc();
    let config = track.configure(&record.into()).expect("x264's own");
    assert_eq!(config, Some(CodecConfig::Avc(Bytes::from_static(AVCC_720P30))));
    let unit = Bytes::from_static(&[0, 3, 0x65, 0x88, 1]);
    assert_eq!(track.access_unit(&unit, true), Ok((None, lengths(&[AVC[0]]))));
}

#[test]
fn slices_tell_where_a_picture_begins() {
    for (mut track, _, [idr, more, other, sei]) in tracks() {
        let mut check = |units: &[&[u8]], has_slice, continues, random_access| {
            let nals = track.split(&lengths(units));
            let got = (track.has_slice(&nals), track.continues(&nals), track.is_random_access(&nals));
            assert_eq!(got, (has_slice, continues, random_access), "{units:02x?}");
        };
        check(&[sei], false, false, false);
        check(&[sei, idr, more], true, false, true);
        check(&[more], true, true, true);
        check(&[other], true, false, false);
    }
}

proptest! {
    #[test]
    fn any_unit_is_taken_or_refused(units in prop::collection::vec(prop::collection::vec(0u8..70, 0..60), 1..4), hevc in any::<bool>()) {
        let mut track = if hevc { NalTrack::hevc() } else { NalTrack::avc() };
        for unit in units {
            let unit = Bytes::from(unit);
            let _ = track.configure(&unit);
            if let Ok((_, sample)) = track.access_unit(&unit, true) {
                prop_assert!(by_lengths(&sample, 4).1 != NalForm::EmptyUnits);
                prop_assert!(by_lengths(&sample, 4).1.is_whole() || track.start_codes || starts_with_code(&unit));
            }
        }
    }
}
