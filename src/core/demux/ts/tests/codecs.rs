//! H.265, AC-3, E-AC-3 and Opus.

use super::*;
use crate::codec::codec::Codec;
use crate::codec::hevc::Hevc;
use crate::codec::hevc::tests::{MAIN, bytes};

/// ffmpeg's frames of AC-3 and E-AC-3 in mono at 48 kHz, of 384 bytes.
const AC_3: &str = "0b77480d0c402f842bc1c77aaf5e1be7";
const E_AC_3: &str = "0b7700bf3287c00021064060e3bd57af";
/// Registration, and the extension descriptor of two channels.
const OPUS: &[u8] = b"\x05\x04Opus\x7f\x02\x80\x02";

fn stamp(pts: u64) -> Option<Stamp> {
    Some(Stamp { pts, dts: None, bounded: true })
}

/// A frame that begins so, of 384 bytes; `n` is in it.
fn frame(start: &str, n: u8) -> Vec<u8> {
    bytes(start).iter().copied().chain(std::iter::repeat(n)).take(384).collect()
}

fn one(stream_type: u8, descriptors: &[u8]) -> Mux {
    let mut mux = Mux::default();
    mux.pat(&[(1, PMT)]);
    mux.pmt_described(PMT, 1, 0, &[(stream_type, A, descriptors)]);
    mux
}

/// Demultiplexes a stream with one audio track. Returns its codec, and the units with their times.
fn sound(mux: &Mux) -> (String, Vec<(u64, Bytes)>) {
    let (out, _) = demuxed([mux.bytes()]);
    let configs: Vec<_> = out
        .iter()
        .filter_map(|o| if let Output::Input(Input::Config { config, .. }) = o { Some(config) } else { None })
        .collect();
    let [config] = configs[..] else { panic!("one config: {out:?}") };
    let name = Codec::parse(config).expect("what we made").name();
    (name, units(out).into_iter().map(|unit| (unit.dts, unit.data)).collect())
}

#[test]
fn ac_3_by_all_its_names() {
    // ATSC; DVB's descriptors; ffmpeg's registration.
    let names: [(&str, u8, &[u8]); 6] = [
        (AC_3, 0x81, &[]),
        (AC_3, 0x06, &[0x6a, 1, 0]),
        (AC_3, 0x06, b"\x05\x04AC-3"),
        (E_AC_3, 0x87, &[]),
        (E_AC_3, 0x06, &[0x0a, 4, b'e', b'n', b'g', 0, 0x7a, 1, 0]),
        (E_AC_3, 0x06, b"\x05\x04EAC3"),
    ];
    for (start, stream_type, descriptors) in names {
        let mut mux = one(stream_type, descriptors);
        let frames: Vec<_> = (0..5).map(|n| frame(start, n)).collect();
        mux.pes(A, 0xbd, stamp(9_000), &frames[..2].concat());
        // A frame over two PES packets, whose second one has the stamp of the frame that begins in it.
        mux.pes(A, 0xbd, stamp(14_760), &[&frames[2][..], &frames[3][..100]].concat());
        mux.pes(A, 0xbd, stamp(20_521), &[&frames[3][100..], &frames[4]].concat());
        let (out, _) = demuxed([mux.bytes()]);
        let language = Output::Input(Input::Language { track: AUDIO, language: "en".to_owned() });
        assert_eq!(out.contains(&language), descriptors.first() == Some(&0x0a), "{out:?}");
        let (name, got) = sound(&mux);
        assert_eq!(name, if start == AC_3 { "ac-3" } else { "ec-3" });
        let times = [9_000, 11_880, 14_760, 17_640, 20_521];
        let expect: Vec<_> = times.into_iter().zip(frames).map(|(time, frame)| (time, Bytes::from(frame))).collect();
        assert_eq!(got, expect, "{stream_type:#x} {descriptors:02x?}");
    }
}

#[test]
fn rubbish_between_frames_costs_what_it_hits() {
    let mut mux = one(0x81, &[]);
    let frames: Vec<_> = (1..4).map(|n| frame(AC_3, n)).collect();
    mux.pes(A, 0xbd, stamp(0), &[&frames[0][..], &[0x0b, 9, 9], &frames[1]].concat());
    mux.pes(A, 0xbd, stamp(5_760), &frames[2]);
    let (out, _) = demuxed([mux.bytes()]);
    assert!(out.contains(&Output::Diagnostic(TsDiagnostic::Broken {
        pid: A,
        what: "no AC-3 sync word where a frame should begin"
    })));
    assert_eq!(units(out).into_iter().map(|unit| unit.data).collect::<Vec<_>>(), frames);
}

#[test]
fn opus_packets_behind_their_headers() {
    let mut mux = one(0x06, OPUS);
    // 20 ms, of a start trim; 2.5 ms twice; then one of 300 bytes.
    let long = [&[0xf8][..], &[7; 299]].concat();
    let first = [&[0x7f, 0xf0, 3, 0, 0x38, 0xf8, 1, 2][..], &[0x7f, 0xe0, 2, 0xe1, 3]].concat();
    mux.pes(A, 0xbd, stamp(MODULUS - 900), &first);
    mux.pes(A, 0xbd, stamp(2_000), &[&[0x7f, 0xe4, 255, 45, 1, 9][..], &long].concat());
    mux.pes(A, 0xbd, stamp(5_000), &[0x7f, 0xe0, 9, 0xf8]);
    let (name, got) = sound(&mux);
    assert_eq!(name, "opus");
    let expect: [(u64, &[u8]); 3] = [(MODULUS - 900, &[0xf8, 1, 2]), (900, &[0xe1, 3]), (2_000, &long)];
    assert_eq!(got, expect.map(|(time, data)| (time, Bytes::copy_from_slice(data))));
}

#[test]
fn what_is_left_out_is_named() {
    let check = |stream_type: u8, descriptors: &[u8], what: &str| {
        let (out, _) = demuxed([one(stream_type, descriptors).bytes()]);
        let said = |o: &Output| matches!(o, Output::Diagnostic(TsDiagnostic::Refused { what: found, .. }) if found.contains(what));
        assert!(out.iter().any(said), "{out:?}");
    };
    check(0x03, &[], "MP3");
    check(0x06, b"\x05\x04AV01", "AV1 in MPEG-TS; push AV1 by Enhanced RTMP");
    check(0x06, b"\x05\x04Opus\x7f\x02\x80\x81", "Opus of an unusual layout");
    check(0x06, b"\x05\x04Opus", "Opus of an unusual layout");
    check(0x06, &[0x56, 0], "teletext");
}

#[test]
fn h_265_with_its_parameter_sets_in_band() {
    let hevc = Hevc::parse(&bytes(MAIN)).expect("x265's own");
    let set = |kind: usize| &hevc.hvcc.arrays[kind].nalus[0][..];
    let mut mux = Mux::default();
    mux.pat(&[(1, PMT)]);
    mux.pmt(PMT, 1, 0, &[(0x24, V)]);
    let (delimiter, sei): (&[u8], &[u8]) = (&[0x46, 1, 0x10], &[0x4e, 1, 5, 1, 9, 0x80]);
    let slice = |kind: u8, n: u8| vec![kind << 1, 1, 0x80 | n, 4, 5];
    let (lost, cra, rasl, trail, idr) = (slice(1, 0), slice(21, 1), slice(8, 2), slice(1, 3), slice(19, 4));
    let mut picture = |pts, dts, nals: &[&[u8]]| {
        mux.pes(V, 0xe0, Some(Stamp { pts, dts: Some(dts), bounded: false }), &annex_b(nals));
    };
    picture(3_000, 0, &[delimiter, &lost]);
    picture(15_000, 3_000, &[delimiter, set(0), set(1), set(2), sei, &cra]);
    // Shown before it, and made of what was before it.
    picture(9_000, 6_000, &[delimiter, &rasl]);
    picture(18_000, 9_000, &[delimiter, &trail]);
    picture(21_000, 12_000, &[delimiter, set(0), set(1), set(2), &idr]);
    let (out, stats) = demuxed([mux.bytes()]);
    let configs = out.iter().filter(|o| matches!(o, Output::Input(Input::Config { .. }))).collect::<Vec<_>>();
    let config = Output::config(VIDEO, CodecConfig::Hevc(hevc.record.clone()));
    assert_eq!(configs, [&config]);
    let got: Vec<_> = units(out).into_iter().map(|u| (u.dts, u.composition_offset, u.keyframe, u.data)).collect();
    let expect = [
        (3_000, 12_000, true, lengths(&[sei, &cra])),
        (9_000, 9_000, false, lengths(&[&trail])),
        (12_000, 9_000, true, lengths(&[&idr])),
    ];
    assert_eq!(got, expect);
    assert_eq!(stats.undecodable, 2);
}
