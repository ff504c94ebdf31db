//! Units that a multiplexer wrote come out as they went in, or not at all.

mod access_units;
mod codecs;
mod metadata;

use bytes::Bytes;
use proptest::prelude::*;

use super::output::MODULUS;
use super::*;
use mp4_atom::{Avcc, AvccExt};

use crate::codec::avc::Avc;
use crate::model::{AccessUnit, Announced, CodecConfig, InputTrack, TimedMessage};
use crate::packager::Input;
use crate::packager::tests::AVCC_720P30;
use crate::testing::ts_mux::{Mux, Stamp, adts};

const PMT: u16 = 0x100;
const V: u16 = 0x101;
const A: u16 = 0x102;

fn sps() -> &'static [u8] {
    &AVCC_720P30[8..34]
}

fn pps() -> &'static [u8] {
    &AVCC_720P30[37..41]
}

/// NAL units behind start codes.
fn annex_b(nals: &[&[u8]]) -> Vec<u8> {
    nals.iter().flat_map(|nal| [&[0, 0, 0, 1][..], nal].concat()).collect()
}

/// NAL units behind their lengths.
fn lengths(nals: &[&[u8]]) -> Bytes {
    let put = |nal: &&[u8]| [&u32::try_from(nal.len()).expect("short").to_be_bytes()[..], nal].concat();
    nals.iter().flat_map(put).collect()
}

/// A slice's bytes: no start code in them, and none alike. It is a picture's first one.
fn slice(kind: u8, n: u64, len: usize) -> Vec<u8> {
    let byte = |i: usize| 4 + u8::try_from((n as usize * 31 + i * 7) % 250).expect("small");
    [vec![0x60 | kind, 0x80], n.to_be_bytes().map(|b| b | 4).to_vec(), (0..len).map(byte).collect()].concat()
}

/// A film, and the units that the demuxer should output.
#[derive(Default)]
struct Film {
    mux: Mux,
    units: Vec<AccessUnit>,
}

impl Film {
    fn new() -> Film {
        let mut film = Film::default();
        film.tables();
        film
    }

    fn tables(&mut self) {
        self.mux.pat(&[(1, PMT)]);
        self.mux.pmt(PMT, 1, 0, &[(0x1b, V), (0x0f, A)]);
    }

    /// A picture of `len` bytes; a key picture brings its parameter sets.
    fn picture(&mut self, pts: u64, dts: u64, key: bool, len: usize) {
        let slice = slice(if key { 5 } else { 1 }, dts, len);
        let sei = [6, 5, 1, 9, 0x80];
        let delimiter = [9, 0xf0];
        let nals: &[&[u8]] = if key { &[&delimiter, sps(), pps(), &sei, &slice] } else { &[&delimiter, &sei, &slice] };
        let stamp = Stamp { pts: pts % MODULUS, dts: Some(dts % MODULUS), bounded: false };
        self.mux.pes(V, 0xe0, Some(stamp), &annex_b(nals));
        self.units.push(AccessUnit {
            track: VIDEO,
            dts: dts % MODULUS,
            composition_offset: i32::try_from(pts as i64 - dts as i64).expect("small"),
            keyframe: key,
            data: lengths(&[&sei, &slice]),
        });
    }

    /// A PES packet of `frames` AAC frames.
    fn sound(&mut self, pts: u64, frames: u64, len: usize) {
        let mut data = Vec::new();
        for n in 0..frames {
            let frame = slice(9, pts + n, len);
            data.extend(adts(&frame));
            let dts = (pts + n * 1_920) % MODULUS;
            let unit = AccessUnit { track: AUDIO, dts, composition_offset: 0, keyframe: true, data: frame.into() };
            self.units.push(unit);
        }
        let stamp = Stamp { pts: pts % MODULUS, dts: None, bounded: true };
        self.mux.pes(A, 0xc0, Some(stamp), &data);
    }

    /// GOPs of 5 pictures, some of them reordered, and sound.
    fn gops(&mut self, from: u64, gops: u64, len: usize) {
        for n in 0..gops * 5 {
            if n % 5 == 0 {
                self.tables();
            }
            let dts = from + n * 3_000;
            let reorder = [2, 4, 1, 1, 2][usize::try_from(n % 5).expect("small")];
            self.picture(dts + reorder * 3_000, dts, n % 5 == 0, if n % 5 == 0 { len * 4 } else { len });
            if n % 2 == 0 {
                self.sound(from + n / 2 * 5_760, 3, len / 3 + 1);
            }
        }
    }
}

fn drain(demuxer: &mut Demuxer) -> Vec<Output> {
    std::iter::from_fn(|| demuxer.poll_output()).collect()
}

fn units(outputs: Vec<Output>) -> Vec<AccessUnit> {
    outputs
        .into_iter()
        .filter_map(|output| if let Output::Input(Input::Unit(unit)) = output { Some(unit) } else { None })
        .collect()
}

/// Splits units by track, since one track's last unit comes out later than another's.
fn by_track(units: &[AccessUnit]) -> [Vec<&AccessUnit>; 2] {
    [VIDEO, AUDIO].map(|track| units.iter().filter(|unit| unit.track == track).collect())
}

fn demuxed(datagrams: impl IntoIterator<Item = Vec<u8>>) -> (Vec<Output>, Counters) {
    demuxed_to(End::Said, datagrams)
}

fn demuxed_to(end: End, datagrams: impl IntoIterator<Item = Vec<u8>>) -> (Vec<Output>, Counters) {
    let mut demuxer = Demuxer::new(None);
    let mut out = Vec::new();
    for datagram in datagrams {
        demuxer.datagram(&datagram);
        out.extend(drain(&mut demuxer));
    }
    demuxer.finish(end);
    out.extend(drain(&mut demuxer));
    (out, demuxer.stats())
}

#[test]
fn every_unit_comes_out_as_it_went_in() {
    let mut film = Film::new();
    // Across the wrap.
    film.gops(MODULUS - 20_000, 4, 700);
    let (out, stats) = demuxed(film.mux.packets.chunks(7).map(|packets| packets.concat()));
    assert_eq!(
        out[0],
        Output::Program { number: 1, announced: Announced { video: Some(true), audio: Some(true) } },
        "{out:?}"
    );
    let mut configs: Vec<_> =
        out.iter().filter(|output| matches!(output, Output::Input(Input::Config { .. }))).cloned().collect();
    configs.sort_by_key(|config| matches!(config, Output::Input(Input::Config { track: AUDIO, .. })));
    let [
        Output::Input(Input::Config { track: VIDEO, config: CodecConfig::Avc(avcc) }),
        Output::Input(Input::Config { config: asc, .. }),
    ] = &configs[..]
    else {
        panic!("one config a track: {configs:?}")
    };
    let parsed = Avc::parse(avcc).expect("our own");
    let Avcc { sequence_parameter_sets, picture_parameter_sets, ext, .. } = &parsed.avcc;
    assert_eq!((parsed.picture.width, parsed.picture.height), (1280, 720));
    assert_eq!((&sequence_parameter_sets[0][..], &picture_parameter_sets[0][..]), (sps(), pps()));
    assert_eq!(*ext, Some(AvccExt::default()), "4:2:0 in 8 bits");
    assert_eq!(*asc, CodecConfig::Aac(Bytes::from_static(&[0x11, 0x90])));
    assert_eq!(by_track(&units(out)), by_track(&film.units));
    assert_eq!(stats, Counters { packets: film.mux.packets.len() as u64, ..Counters::default() });
}

#[test]
fn a_raster_of_192_or_204_bytes_and_any_reads() {
    let mut film = Film::new();
    film.gops(0, 2, 300);
    for (before, after) in [(0, 0), (4, 0), (0, 16)] {
        let (before, after) = (vec![0; before], vec![0x11; after]);
        let bytes: Vec<u8> =
            film.mux.packets.iter().flat_map(|packet| [&before, &packet[..], &after].concat()).collect();
        for size in [1, 100, 1_000, bytes.len()] {
            let mut demuxer = Demuxer::new(None);
            bytes.chunks(size).for_each(|bytes| demuxer.push(bytes));
            demuxer.finish(End::Said);
            assert_eq!(by_track(&units(drain(&mut demuxer))), by_track(&film.units), "{} by {size}", before.len());
        }
    }
}

#[test]
fn a_lost_packet_costs_the_pictures_up_to_the_next_key_picture() {
    let mut film = Film::new();
    film.gops(0, 3, 700);
    // The second packet of the second picture.
    let of_video = |packet: &[u8; 188]| u16::from_be_bytes([packet[1] & 0x1f, packet[2]]) == V;
    let videos: Vec<usize> = (0..film.mux.packets.len()).filter(|&i| of_video(&film.mux.packets[i])).collect();
    let starts: Vec<usize> = videos.iter().copied().filter(|&i| film.mux.packets[i][1] & 0x40 != 0).collect();
    let lost = videos.iter().copied().find(|&i| i > starts[1]).expect("it has two");
    film.mux.packets.remove(lost);
    let (out, stats) = demuxed([film.mux.bytes()]);
    let got = units(out);
    let [video, audio] = by_track(&film.units);
    let kept: Vec<_> = video[..1].iter().chain(&video[5..]).copied().collect();
    assert_eq!(by_track(&got), [kept, audio]);
    assert_eq!((stats.continuity_errors, stats.lost, stats.damaged, stats.undecodable), (1, 1, 1, 3));
}

#[test]
fn a_lost_packet_of_sound_costs_its_frames() {
    let mut film = Film::new();
    film.picture(0, 0, true, 10);
    // Four frames in five packets: the second frame is in the second and third.
    film.sound(0, 4, 200);
    film.sound(7_680, 4, 200);
    let of_sound = |packet: &[u8; 188]| u16::from_be_bytes([packet[1] & 0x1f, packet[2]]) == A;
    let packets: Vec<usize> = (0..film.mux.packets.len()).filter(|&i| of_sound(&film.mux.packets[i])).collect();
    film.mux.packets.remove(packets[2]);
    let (out, stats) = demuxed([film.mux.bytes()]);
    let got = units(out);
    let [_, audio] = by_track(&film.units);
    assert_eq!(by_track(&got)[1], [&audio[..1], &audio[4..]].concat());
    assert_eq!((stats.continuity_errors, stats.damaged), (1, 1));
}

#[test]
fn a_packet_that_comes_twice_is_one() {
    let mut film = Film::new();
    film.gops(0, 2, 700);
    let twice: Vec<u8> = film.mux.packets.iter().flat_map(|packet| [*packet, *packet].concat()).collect();
    let (out, stats) = demuxed([twice]);
    assert_eq!(by_track(&units(out)), by_track(&film.units));
    assert_eq!((stats.duplicates, stats.continuity_errors), (film.mux.packets.len() as u64, 0));
}

#[test]
fn an_announced_discontinuity_is_no_error() {
    let mut film = Film::new();
    film.gops(0, 1, 100);
    let mut second = Film::new();
    second.mux.payload(V, &[0; 184 * 5]); // other counters
    second.mux.packets.clear();
    second.gops(900_000, 1, 100);
    let start = second.mux.packets.iter().position(|p| u16::from_be_bytes([p[1] & 0x1f, p[2]]) == V).expect("video");
    // An adaptation field alone, with discontinuity_indicator.
    let mut packet = [0xff; 188];
    packet[..6].copy_from_slice(&[0x47, (V >> 8) as u8, V as u8, 0x20, 183, 0x80]);
    second.mux.packets.insert(start, packet);
    let (out, stats) = demuxed([film.mux.bytes(), second.mux.bytes()]);
    let [got, _] = by_track(&units(out)).map(|units| units.len());
    assert_eq!((got, stats.damaged), (4 + 5, 1), "the last one before has no end");
    second.mux.packets.remove(start);
    let (_, unannounced) = demuxed([film.mux.bytes(), second.mux.bytes()]);
    assert_eq!(stats.continuity_errors + 1, unannounced.continuity_errors);
}

#[test]
fn frames_across_pes_packets_and_several_pictures_in_one() {
    let mut film = Film::new();
    let frames: Vec<Vec<u8>> = (0..3).map(|n| slice(9, n, 300)).collect();
    let bytes: Vec<u8> = frames.iter().flat_map(|frame| adts(frame)).collect();
    let stamp = |pts| Some(Stamp { pts, dts: None, bounded: true });
    film.mux.pes(A, 0xc0, stamp(9_000), &bytes[..400]);
    film.mux.pes(A, 0xc0, stamp(9_000 + 2 * 1_920), &bytes[400..]);
    let pictures: Vec<Vec<u8>> = (0..4).map(|n| slice(if n == 0 { 5 } else { 1 }, n, 50)).collect();
    let two =
        |n: usize, sets: &[&[u8]]| annex_b(&[sets, &[&[9, 0xf0], &pictures[n], &[9, 0xf0], &pictures[n + 1]]].concat());
    film.mux.pes(V, 0xe0, stamp(0), &two(0, &[sps(), pps()]));
    film.mux.pes(V, 0xe0, stamp(7_200), &two(2, &[]));
    let (out, _) = demuxed([film.mux.bytes()]);
    let got = units(out);
    let [video, audio] = by_track(&got);
    let told: Vec<_> = audio.iter().map(|unit| (unit.dts, &unit.data[..])).collect();
    let expect = [(9_000, &frames[0][..]), (10_920, &frames[1]), (12_840, &frames[2])];
    assert_eq!(told, expect);
    // The first's length isn't known yet.
    let told: Vec<_> = video.iter().map(|unit| (unit.dts, unit.data.clone())).collect();
    let expect = [(0, 0), (3_000, 1), (7_200, 2), (10_800, 3)].map(|(dts, n)| (dts, lengths(&[&pictures[n]])));
    assert_eq!(told, expect);
}

#[test]
fn a_changed_pmt_keeps_the_tracks_that_stay() {
    let mut film = Film::new();
    film.picture(0, 0, true, 400);
    film.sound(0, 1, 20);
    film.mux.pmt(PMT, 1, 1, &[(0x1b, V), (0x03, 0x200), (0x0f, 0x103), (0x0f, A)]);
    film.picture(3_000, 3_000, false, 400);
    film.sound(1_920, 1, 20);
    let stamp = Some(Stamp { pts: 0, dts: None, bounded: true });
    film.mux.pes(0x103, 0xc1, stamp, &adts(&[5; 9]));
    let (out, _) = demuxed([film.mux.bytes()]);
    let refused: Vec<_> =
        out.iter().filter_map(|o| if let Output::Diagnostic(event) = o { Some(event) } else { None }).collect();
    let said = "PID 512 (stream_type 0x03) is not supported: MPEG audio (MP1, MP2, MP3); set the encoder to \
                AAC, Opus, AC-3 or E-AC-3";
    assert_eq!(refused.iter().map(ToString::to_string).collect::<Vec<_>>(), [said]);
    let got = units(out);
    assert_eq!(by_track(&got), by_track(&film.units));
    assert_eq!(got.iter().filter(|unit| unit.track == InputTrack(2)).count(), 1);
}

#[test]
fn one_program_of_several() {
    let mut mux = Mux::default();
    mux.pat(&[(7, 0x70), (8, 0x80), (9, 0x90)]);
    mux.pmt(0x80, 8, 0, &[(0x0f, 0x81)]);
    mux.pmt(0x90, 9, 0, &[(0x0f, 0x91)]);
    mux.pmt(0x70, 7, 0, &[(0x02, 0x71)]);
    let stamp = Some(Stamp { pts: 0, dts: None, bounded: true });
    for pid in [0x81, 0x91] {
        mux.pes(pid, 0xc0, stamp, &adts(&[u8::try_from(pid).expect("small"); 9]));
    }
    let check = |wanted: Option<u16>, said: &[&str], data: &[u8]| {
        let mut demuxer = Demuxer::new(wanted);
        demuxer.datagram(&mux.bytes());
        let out = drain(&mut demuxer);
        let events =
            out.iter().filter_map(|o| if let Output::Diagnostic(event) = o { Some(event.to_string()) } else { None });
        assert_eq!(events.collect::<Vec<_>>(), said);
        assert_eq!(units(out).iter().map(|unit| unit.data[0]).collect::<Vec<_>>(), data, "{wanted:?}");
    };
    check(None, &["programs [7, 8, 9]: 8 is published (program=N chooses another)"], &[0x81]);
    check(Some(9), &["programs [7, 8, 9]: 9 is published (program=N chooses another)"], &[0x91]);
    check(Some(3), &["programs [7, 8, 9]: the requested program isn't among them"], &[]);
    let refused = "PID 113 (stream_type 0x02) is not supported: MPEG-1/2 video; set the encoder to H.264 or H.265";
    let nothing = "program 7 has neither H.264 or H.265 video nor AAC (ADTS), AC-3, E-AC-3 or Opus audio";
    check(Some(7), &["programs [7, 8, 9]: 7 is published (program=N chooses another)", refused, nothing], &[]);
}

#[test]
fn after_a_gap_leading_pictures_of_an_open_gop_are_left_out() {
    let mut film = Film::new();
    let stamp = |pts, dts| Some(Stamp { pts, dts: Some(dts), bounded: false });
    // recovery_point, recovery_frame_cnt 0.
    let recovery = [6, 6, 1, 0xc0, 0x80];
    let open = |n| annex_b(&[&[9, 0xf0], sps(), pps(), &recovery, &slice(1, n, 20)]);
    let plain = |n| annex_b(&[&[9, 0xf0], &slice(1, n, 20)]);
    film.mux.pes(V, 0xe0, stamp(6_000, 0), &open(0));
    for (pts, dts, is_open) in [
        (3_000, 3_000, false),
        (9_000, 6_000, false),
        (18_000, 9_000, true),
        (12_000, 12_000, false),
        (15_000, 15_000, false),
        (21_000, 18_000, false),
    ] {
        film.mux.pes(V, 0xe0, stamp(pts, dts), &if is_open { open(dts) } else { plain(dts) });
    }
    let mut demuxer = Demuxer::new(None);
    demuxer.datagram(&film.mux.bytes());
    demuxer.finish(End::Said);
    let times = |units: Vec<AccessUnit>| units.iter().map(|unit| (unit.dts, unit.keyframe)).collect::<Vec<_>>();
    // At the start the picture shown before the first one is left out; those at the second key picture aren't.
    let all = [(0, true), (6_000, false), (9_000, true), (12_000, false), (15_000, false), (18_000, false)];
    assert_eq!(times(units(drain(&mut demuxer))), all);
    demuxer.lost();
    let mut again = Film::default();
    for (pts, dts, is_open) in [(108_000, 99_000, true), (102_000, 102_000, false), (111_000, 105_000, false)] {
        again.mux.pes(V, 0xe0, stamp(pts, dts), &if is_open { open(dts) } else { plain(dts) });
    }
    demuxer.datagram(&again.mux.bytes());
    demuxer.finish(End::Said);
    assert_eq!(times(units(drain(&mut demuxer))), [(99_000, true), (105_000, false)]);
}

#[test]
fn an_end_that_looks_cut_is_left_out() {
    let mut film = Film::new();
    film.picture(0, 0, true, 700);
    film.picture(3_000, 3_000, false, 700);
    let (whole, _) = demuxed_to(End::Silent, [film.mux.bytes()]);
    assert_eq!(by_track(&units(whole)), by_track(&film.units));
    film.mux.packets.pop();
    let (out, stats) = demuxed_to(End::Silent, [film.mux.bytes()]);
    assert_eq!(by_track(&units(out))[0], by_track(&film.units)[0][..1]);
    assert_eq!(stats.damaged, 0, "it isn't lost yet");
}

#[test]
fn a_pause_takes_nothing_away() {
    let mut film = Film::new();
    film.gops(0, 2, 700);
    let mut demuxer = Demuxer::new(None);
    for packet in &film.mux.packets {
        demuxer.datagram(packet);
        demuxer.finish(End::Silent);
    }
    assert_eq!(by_track(&units(drain(&mut demuxer))), by_track(&film.units));
}

/// An event that may happen to a datagram on its way.
#[derive(Clone, Debug)]
enum Fate {
    Lost,
    Cut(usize),
    Twice,
    Behind(Vec<u8>),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        Just(Fate::Lost),
        (0..1_316usize).prop_map(Fate::Cut),
        Just(Fate::Twice),
        prop::collection::vec(any::<u8>(), 0..700).prop_map(Fate::Behind),
    ]
}

proptest! {
    #[test]
    fn rubbish_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..3_000), lead in 0..200usize, packets: bool) {
        let mut demuxer = Demuxer::new(None);
        let mut bytes = bytes;
        if packets {
            bytes.iter_mut().skip(lead).step_by(188).for_each(|byte| *byte = 0x47);
        }
        bytes.chunks(1_316).for_each(|bytes| demuxer.datagram(bytes));
        demuxer.finish(End::Said);
        drain(&mut demuxer);
    }

    #[test]
    fn what_comes_out_went_in_whatever_is_lost(
        fates in prop::collection::btree_map(2..120usize, fate(), 0..12),
        len in 1..900usize,
        size in 1..8usize,
    ) {
        let mut film = Film::new();
        film.gops(MODULUS - 40_000, 8, len);
        // The last two GOPs arrive unchanged.
        let harmed = film.mux.packets.len();
        let left = film.units.len();
        film.gops(MODULUS + 80_000, 2, len);
        let mut datagrams = Vec::new();
        for (n, packets) in film.mux.packets[..harmed].chunks(size).enumerate() {
            let bytes = packets.concat();
            match fates.get(&n) {
                None => datagrams.push(bytes),
                Some(Fate::Lost) => {}
                Some(Fate::Cut(at)) => datagrams.push(bytes[..*at.min(&bytes.len())].to_vec()),
                Some(Fate::Twice) => datagrams.extend([bytes.clone(), bytes]),
                Some(Fate::Behind(rubbish)) => datagrams.extend([bytes, rubbish.clone()]),
            }
        }
        datagrams.extend(film.mux.packets[harmed..].chunks(size).map(|packets| packets.concat()));
        let (out, stats) = demuxed(datagrams);
        let got = units(out);
        for (got, pushed) in by_track(&got).into_iter().zip(by_track(&film.units)) {
            // Each is one that was pushed, in their order; none twice.
            let mut rest = pushed.iter();
            for unit in &got {
                prop_assert!(rest.any(|pushed| pushed == unit), "{:?} wasn't pushed, or not then", unit.dts);
            }
        }
        let tail: Vec<_> = got.iter().filter(|unit| film.units[left..].contains(unit)).cloned().collect();
        prop_assert_eq!(by_track(&tail)[0].len(), 10, "{:?}", stats);
        if fates.is_empty() {
            prop_assert_eq!(by_track(&got), by_track(&film.units));
        }
    }
}
