//! Pictures and packets come out as they went in, wherever PES packets and datagrams end.

use super::*;
use crate::codec::hevc::Hevc;
use crate::codec::hevc::tests::{MAIN, bytes as hex};
use crate::demux::rtp::Rtp;

/// The duration of a picture: 25 fps.
const FRAME: u64 = 3_600;

/// The form in which an encoder writes its pictures: the codec, slices a picture, and whether access unit delimiters part them.
#[derive(Clone, Copy, Debug)]
struct Coding {
    h265: bool,
    slices: u64,
    delimiters: bool,
}

/// The bytes of picture `n`, and those that are to come of it. Each fifth is a key picture.
fn coded(coding: Coding, n: u64, len: usize) -> (Vec<u8>, Bytes) {
    let key = n.is_multiple_of(5);
    let body = |slice_n: u64| [&[if slice_n == 0 { 0x80 } else { 0x40 }][..], &slice(0, n * 8 + slice_n, len)].concat();
    let (delimiter, sets, start): (&[u8], Vec<Vec<u8>>, &[u8]) = if coding.h265 {
        let hevc = Hevc::parse(&hex(MAIN)).expect("x265's own");
        let sets = hevc.hvcc.arrays.iter().map(|array| array.nalus[0].to_vec());
        (&[0x46, 1, 0x10], sets.collect(), if key { &[19 << 1, 1] } else { &[1 << 1, 1] })
    } else {
        (&[9, 0xf0], vec![sps().to_vec(), pps().to_vec()], if key { &[0x65] } else { &[0x41] })
    };
    let slices: Vec<Vec<u8>> = (0..coding.slices).map(|n| [start, &body(n)].concat()).collect();
    let slices: Vec<&[u8]> = slices.iter().map(|slice| &slice[..]).collect();
    let mut nals: Vec<&[u8]> = if coding.delimiters { vec![delimiter] } else { Vec::new() };
    nals.extend(sets.iter().filter(|_| key).map(|set| &set[..]));
    nals.extend(&slices);
    (annex_b(&nals), lengths(&slices))
}

/// Tables, with pictures alone.
fn tables(coding: Coding) -> Mux {
    let mut mux = Mux::default();
    mux.pat(&[(1, PMT)]);
    mux.pmt(PMT, 1, 0, &[(if coding.h265 { 0x24 } else { 0x1b }, V)]);
    mux
}

fn stamp(n: u64, bounded: bool) -> Option<Stamp> {
    Some(Stamp { pts: n * FRAME + 900, dts: Some(n * FRAME), bounded })
}

/// Checks that the pictures come out with their times.
#[track_caller]
fn check(mux: &Mux, pictures: &[Bytes], what: impl std::fmt::Debug) {
    let (out, stats) = demuxed([mux.bytes()]);
    let got: Vec<_> = units(out).into_iter().map(|unit| (unit.dts, unit.composition_offset, unit.data)).collect();
    let expect: Vec<_> = (0..).zip(pictures).map(|(n, data)| (n * FRAME, 900, data.clone())).collect();
    assert_eq!(got, expect, "{what:?}");
    assert_eq!((stats.damaged, stats.undecodable), (0, 0), "{what:?}");
}

fn codings() -> impl Iterator<Item = Coding> {
    let all = [(false, false), (false, true), (true, false), (true, true)].into_iter();
    all.flat_map(|(h265, delimiters)| [1, 4].map(|slices| Coding { h265, slices, delimiters }))
}

#[test]
fn the_tail_of_a_picture_in_the_next_pes_packet() {
    for coding in codings() {
        let (mut mux, mut tail, mut pictures) = (tables(coding), Vec::new(), Vec::new());
        for n in 0..12 {
            let (bytes, picture) = coded(coding, n, 300);
            let (head, rest) = bytes.split_at(bytes.len() - 200);
            mux.pes(V, 0xe0, stamp(n, n % 2 == 0), &[&tail, head].concat());
            tail = rest.to_vec();
            pictures.push(picture);
        }
        mux.pes(V, 0xe0, None, &tail);
        check(&mux, &pictures, coding);
    }
}

#[test]
fn a_pes_packet_a_slice() {
    for (coding, all_stamped) in codings().flat_map(|coding| [(coding, false), (coding, true)]) {
        let (mut mux, mut pictures) = (tables(coding), Vec::new());
        for n in 0..12 {
            let (bytes, picture) = coded(coding, n, 100);
            let is_slice = |at: &usize| bytes[*at..].starts_with(&[0, 0, 0, 1]);
            let mut cuts: Vec<usize> = (0..bytes.len()).filter(is_slice).collect();
            cuts.drain(..cuts.len() + 1 - usize::try_from(coding.slices).expect("few"));
            let ends = cuts.iter().copied().chain([bytes.len()]);
            let mut from = 0;
            for (i, to) in ends.enumerate() {
                let stamp = stamp(n, true).filter(|_| i == 0 || all_stamped);
                mux.pes(V, 0xe0, stamp, &bytes[from..to]);
                from = to;
            }
            pictures.push(picture);
        }
        check(&mux, &pictures, (coding, all_stamped));
    }
}

#[test]
fn parameter_sets_in_a_pes_packet_of_their_own() {
    let coding = Coding { h265: false, slices: 1, delimiters: false };
    let (mut mux, mut pictures) = (tables(coding), Vec::new());
    for n in 0..7 {
        let (bytes, picture) = coded(coding, n, 100);
        let slice = bytes.len() - picture.len();
        if slice > 0 {
            mux.pes(V, 0xe0, None, &bytes[..slice]);
        }
        mux.pes(V, 0xe0, stamp(n, true), &bytes[slice..]);
        pictures.push(picture);
    }
    check(&mux, &pictures, ());
}

/// The frame's duration is known from the second time stamp on.
#[test]
fn several_pictures_with_one_time_stamp() {
    for coding in codings() {
        let (mut mux, mut pictures) = (tables(coding), Vec::new());
        let mut put = |n: u64, pictures_in: u64| {
            let (bytes, of): (Vec<_>, Vec<_>) = (n..n + pictures_in).map(|n| coded(coding, n, 60)).unzip();
            mux.pes(V, 0xe0, stamp(n, true), &bytes.concat());
            pictures.extend(of);
        };
        [(0, 1), (1, 1), (2, 3), (5, 2), (7, 4)].into_iter().for_each(|(n, of)| put(n, of));
        check(&mux, &pictures, coding);
    }
}

/// Only the next picture shows where one ends, but nobody waits for it.
#[test]
fn a_picture_comes_out_with_its_pes_packet() {
    for (coding, bounded) in codings().flat_map(|coding| [(coding, false), (coding, true)]) {
        let mut demuxer = Demuxer::new(None);
        let mut mux = tables(coding);
        let mut came = Vec::new();
        for n in 0..20 {
            // The first one's lengths are those of all.
            let len = if n % 5 == 0 { 400 } else { 100 };
            mux.pes(V, 0xe0, stamp(n, bounded), &coded(coding, n, len).0);
            demuxer.datagram(&mux.bytes());
            mux.packets.clear();
            came.push(units(drain(&mut demuxer)).len());
        }
        // Without its length, the next one's first packet shows that a PES packet has ended.
        let expect = if bounded { [&[0, 2][..], &[1; 18]].concat() } else { [&[0, 0, 2][..], &[1; 17]].concat() };
        assert_eq!(came, expect, "{coding:?}");
    }
}

/// An encoder that gives the lengths of PES packets can't put long pictures into one.
#[test]
fn a_long_picture_goes_on_in_a_second_pes_packet() {
    let coding = Coding { h265: false, slices: 1, delimiters: true };
    let (mut mux, mut pictures) = (tables(coding), Vec::new());
    for n in 0..12 {
        let (bytes, picture) = coded(coding, n, if n == 5 || n == 10 { 100_000 } else { 1_000 });
        let (head, rest) = bytes.split_at(bytes.len().min(60_000));
        mux.pes(V, 0xe0, stamp(n, true), head);
        if !rest.is_empty() {
            mux.pes(V, 0xe0, None, rest);
        }
        pictures.push(picture);
    }
    check(&mux, &pictures, ());
}

#[test]
fn a_loss_in_split_pictures_costs_those_that_it_hits() {
    let coding = Coding { h265: false, slices: 4, delimiters: false };
    let (mut mux, mut tail) = (tables(coding), Vec::new());
    let mut pictures = Vec::new();
    let mut begins = Vec::new();
    for n in 0..16 {
        let (bytes, picture) = coded(coding, n, 300);
        let (head, rest) = bytes.split_at(bytes.len() - 200);
        begins.push(mux.packets.len());
        mux.pes(V, 0xe0, stamp(n, false), &[&tail, head].concat());
        tail = rest.to_vec();
        pictures.push((n * FRAME, picture));
    }
    mux.pes(V, 0xe0, None, &tail);
    mux.packets.remove(begins[7] + 4);
    let (out, stats) = demuxed([mux.bytes()]);
    let got: Vec<_> = units(out).into_iter().map(|unit| (unit.dts, unit.data)).collect();
    assert_eq!(got, [&pictures[..7], &pictures[10..]].concat());
    assert_eq!(stats.damaged, 1);
}

#[test]
fn a_picture_without_end_is_dropped() {
    let coding = Coding { h265: false, slices: 1, delimiters: true };
    let mut demuxer = Demuxer::new(None);
    let mut mux = tables(coding);
    mux.pes(V, 0xe0, stamp(0, true), &coded(coding, 0, 100).0);
    for _ in 0..(2 * PES_LEN_MAX / 60_000) {
        mux.pes(V, 0xe0, None, &[0xaa; 60_000]);
        demuxer.datagram(&mux.bytes());
        mux.packets.clear();
    }
    (1..9).for_each(|n| mux.pes(V, 0xe0, stamp(n, true), &coded(coding, n, 100).0));
    demuxer.datagram(&mux.bytes());
    demuxer.finish(End::Said);
    let got = units(drain(&mut demuxer));
    assert_eq!(got.iter().map(|unit| unit.dts / FRAME).collect::<Vec<_>>(), [5, 6, 7, 8]);
    assert_eq!(demuxer.stats().damaged, 1);
}

#[test]
fn opus_packets_across_pes_packets() {
    // Packets of 20 ms, the second of 300 bytes.
    let packets = [vec![0xf8, 1, 2], [&[0xf8][..], &[7; 299]].concat(), vec![0xf8, 3]];
    let control: [&[u8]; 3] = [&[0x7f, 0xe0, 3], &[0x7f, 0xe0, 255, 45], &[0x7f, 0xe0, 2]];
    let bytes: Vec<u8> =
        control.iter().zip(&packets).flat_map(|(control, packet)| [control, &packet[..]].concat()).collect();
    for cut in 7..bytes.len() - 5 {
        let mut mux = Mux::default();
        mux.pat(&[(1, PMT)]);
        mux.pmt_described(PMT, 1, 0, &[(0x06, A, b"\x05\x04Opus\x7f\x02\x80\x02")]);
        let stamp = |pts| Some(Stamp { pts, dts: None, bounded: true });
        mux.pes(A, 0xbd, stamp(0), &bytes[..cut]);
        mux.pes(A, 0xbd, stamp(3_600), &bytes[cut..]);
        let (out, _) = demuxed([mux.bytes()]);
        let got: Vec<_> = units(out).into_iter().map(|unit| (unit.dts, unit.data)).collect();
        let expect: Vec<_> = [0, 1_800, 3_600].into_iter().zip(packets.iter().cloned().map(Bytes::from)).collect();
        assert_eq!(got, expect, "{cut}");
    }
}

/// Hands datagrams on as a node does: the header of RTP off, and losses told.
fn received(datagrams: impl IntoIterator<Item = Vec<u8>>) -> (Vec<AccessUnit>, Counters) {
    let (mut rtp, mut demuxer) = (Rtp::default(), Demuxer::new(None));
    for datagram in datagrams {
        let Some(unwrapped) = rtp.unwrap(&datagram) else { continue };
        if unwrapped.lost > 0 {
            demuxer.lost();
        }
        demuxer.datagram(unwrapped.payload);
    }
    demuxer.finish(End::Said);
    (units(drain(&mut demuxer)), demuxer.stats())
}

/// ffmpeg fills datagrams of 1,472 bytes, and empties its buffer behind each picture.
fn ffmpeg(film: &Film) -> Vec<Vec<u8>> {
    let starts = |packet: &[u8; 188]| u16::from_be_bytes([packet[1] & 0x1f, packet[2]]) == V && packet[1] & 0x40 != 0;
    film.mux
        .packets
        .chunk_by(|_, next| !starts(next))
        .flat_map(|packets| packets.concat().chunks(1_472).map(<[u8]>::to_vec).collect::<Vec<_>>())
        .collect()
}

#[test]
fn datagrams_of_ffmpeg_that_split_packets() {
    let mut film = Film::new();
    film.gops(0, 8, 3_000);
    let mut datagrams = ffmpeg(&film);
    assert!(datagrams.iter().any(|datagram| datagram[0] >> 6 == 2), "some look like RTP");
    let (got, stats) = received(datagrams.clone());
    assert_eq!(by_track(&got), by_track(&film.units));
    assert_eq!(stats, Counters { packets: film.mux.packets.len() as u64, ..Counters::default() });
    // A lost one costs the picture that it is of, and those that refer to it.
    datagrams.remove(datagrams.len() / 2);
    let (got, stats) = received(datagrams);
    assert!(got.len() > film.units.len() - 12, "{} of {}", got.len(), film.units.len());
    assert!(got.iter().all(|unit| film.units.contains(unit)));
    assert!(stats.resyncs <= 1 && stats.skipped < 2 * 188, "{stats:?}");
}

proptest! {
    /// The bytes of one sender are one stream, by UDP and SRT as by RTP.
    #[test]
    fn datagrams_end_anywhere(
        sizes in prop::collection::vec(1..1_500usize, 1..20),
        len in 1..900usize,
        stride in prop::sample::select(vec![0..0, 0..4, 188..204]),
        rtp: bool,
    ) {
        let mut film = Film::new();
        film.gops(MODULUS - 40_000, 4, len);
        let pad = vec![0x11; stride.len()];
        let packets = film.mux.packets.iter();
        let bytes: Vec<u8> = match stride.start {
            0 => packets.flat_map(|packet| [&pad, &packet[..]].concat()).collect(),
            _ => packets.flat_map(|packet| [&packet[..], &pad].concat()).collect(),
        };
        let (mut rest, mut datagrams, mut sizes) = (&bytes[..], Vec::new(), sizes.iter().cycle());
        while !rest.is_empty() {
            let (datagram, tail) = rest.split_at((*sizes.next().expect("a cycle")).min(rest.len()));
            let n = u16::try_from(datagrams.len() % 65_536).expect("masked").to_be_bytes();
            let header = [0x80, 33, n[0], n[1], 0, 0, 0, 0, 0, 0, 0, 9];
            datagrams.push(if rtp { [&header, datagram].concat() } else { datagram.to_vec() });
            rest = tail;
        }
        let (got, stats) = received(datagrams);
        // RTP is known for sure from its second header on, or its first packets.
        if rtp {
            prop_assert!(got.len() + 8 >= film.units.len() && got.iter().all(|unit| film.units.contains(unit)));
        } else {
            prop_assert_eq!(by_track(&got), by_track(&film.units));
            prop_assert_eq!((stats.resyncs, stats.continuity_errors, stats.duplicates), (0, 0, 0));
        }
    }

    /// Pictures come out as they went in, wherever PES packets end, if the first doesn't end with its picture.
    #[test]
    fn pes_packets_end_anywhere(
        tail in 1..150usize,
        sizes in prop::collection::vec(1..900usize, 1..20),
        (h265, slices, delimiters) in (any::<bool>(), 1..5u64, any::<bool>()),
        bounded: bool,
    ) {
        let coding = Coding { h265, slices, delimiters };
        let coded: Vec<_> = (0..15).map(|n| coded(coding, n, 150)).collect();
        let bytes: Vec<u8> = coded.iter().flat_map(|(bytes, _)| bytes).copied().collect();
        // Where each picture begins: at its zero_byte.
        let begins = coded.iter().scan(0, |at, (bytes, _)| Some(std::mem::replace(at, *at + bytes.len())));
        let begins: Vec<usize> = begins.collect();
        let first = coded[0].0.len() - tail;
        let (mut mux, mut at) = (tables(coding), 0);
        let mut sizes = std::iter::once(first).chain(sizes.into_iter().cycle());
        while at < bytes.len() {
            let to = (at + sizes.next().expect("a cycle")).min(bytes.len());
            let first = begins.iter().position(|begin| (at..to).contains(begin));
            let stamp = first.and_then(|n| stamp(n as u64, bounded));
            mux.pes(V, 0xe0, stamp, &bytes[at..to]);
            at = to;
        }
        let (out, stats) = demuxed([mux.bytes()]);
        let got: Vec<_> = units(out).into_iter().map(|unit| unit.data).collect();
        let expect: Vec<_> = coded.into_iter().map(|(_, picture)| picture).collect();
        prop_assert_eq!(got, expect);
        prop_assert_eq!(stats.damaged, 0);
    }
}
