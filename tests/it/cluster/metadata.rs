//! Timed metadata by HTTP ingest: what transport streams and CMAF tracks say is said by an edge, once, and of the same pictures.

use bytes::Bytes;
use damson_core::cmaf;
use damson_core::demux::bmff;
use damson_core::model::time::{Timescale, UnixTime};
use mp4_atom::{Emib, Emsg, EmsgTimestamp, Encode};

use super::http_push::{INGEST, cmaf as cmaf_track, ingest, put, remuxed, tracks};
use super::machine::unless_starved;
use super::playlist::{Seen, to_the_end, viewers};
use super::push::film;
use super::{Cluster, Node, check_logs, fetch_all};

const ID3: &str = "https://aomedia.org/emsg/ID3";
const SCTE35: &str = "urn:scte:scte35:2013:bin";

/// ISO 13818-1, annex A.
fn crc(bytes: &[u8]) -> [u8; 4] {
    let shift = |crc: u32| crc << 1 ^ if crc >> 31 == 1 { 0x04c1_1db7 } else { 0 };
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| shift(crc));
    bytes.iter().fold(u32::MAX, byte).to_be_bytes()
}

fn closed(mut section: Vec<u8>) -> Vec<u8> {
    let len = u16::try_from(section.len() + 4 - 3).expect("short").to_be_bytes();
    section[1] = section[1] & 0xf0 | len[0];
    section[2] = len[1];
    let crc = crc(&section);
    section.extend(crc);
    section
}

/// A splice_insert (SCTE 35, 9.7.3) at `pts`: out for a second, or in.
fn splice(pts: u64, out: bool) -> Vec<u8> {
    let time = |time: u64| [&[0xfe | (time >> 32) as u8][..], &(time as u32).to_be_bytes()].concat();
    let mut command = [&[0, 0, 0, 7, 0x7f, if out { 0xef } else { 0x4f }][..], &time(pts)].concat();
    command.extend(out.then(|| time(90_000)).into_iter().flatten());
    command.extend([0, 1, 0, 0]);
    let mut section = vec![0xfc, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xf0, command.len() as u8, 5];
    section.extend(command);
    section.extend([0, 0]);
    closed(section)
}

const PACKET: usize = 188;
/// ffmpeg's PIDs, and ours.
const PMT: u16 = 0x1000;
const VIDEO: u16 = 0x100;
const SPLICES: u16 = 0x201;

/// A transport stream of ffmpeg's with a break from its third second on, announced twice, and its end; and when the break begins.
fn spliced(ts: &[u8]) -> (Vec<u8>, u64) {
    let (mut out, mut pictures, mut begins) = (Vec::new(), 0u8, 0);
    let say = |counter: u8, section: &[u8]| {
        let mut packet = [0xff; PACKET];
        packet[..5].copy_from_slice(&[0x47, 0x40 | (SPLICES >> 8) as u8, SPLICES as u8, 0x10 | counter, 0]);
        packet[5..5 + section.len()].copy_from_slice(section);
        packet
    };
    for packet in ts.chunks_exact(PACKET) {
        let (pid, starts) = (u16::from_be_bytes([packet[1] & 0x1f, packet[2]]), packet[1] & 0x40 != 0);
        if pid == PMT && starts {
            let len = 3 + usize::from(u16::from_be_bytes([packet[6] & 0xf, packet[7]]));
            let mut section = packet[5..5 + len - 4].to_vec();
            section.extend([0x86, 0xe0 | (SPLICES >> 8) as u8, SPLICES as u8, 0xf0, 0]);
            let section = closed(section);
            let mut described = [0xff; PACKET];
            described[..5].copy_from_slice(&packet[..5]);
            described[5..5 + section.len()].copy_from_slice(&section);
            out.extend(described);
            continue;
        }
        out.extend(packet);
        if pid == VIDEO && starts {
            let pes = &packet[if packet[3] & 0x20 != 0 { 5 + usize::from(packet[4]) } else { 4 }..];
            let at = |n: usize, mask: u8, shift: u32| u64::from(pes[9 + n] & mask) << shift;
            let pts = at(0, 0x0e, 29) | at(1, 0xff, 22) | at(2, 0xfe, 14) | at(3, 0xff, 7) | at(4, 0xfe, 0) >> 1;
            // A second before and half a second before they are due.
            match pictures {
                0 => begins = pts + 2 * 90_000,
                30 | 45 => out.extend(say(pictures / 15 - 2, &splice(begins, true))),
                90 => out.extend(say(2, &splice(pts, false))),
                _ => {}
            }
            pictures = pictures.saturating_add(1);
        }
    }
    (out, begins)
}

/// What an edge says in a track, each with its time, and the times of its pictures.
fn said(edge: &Node, stream: &str, seen: &Seen) -> (Vec<(Bytes, u64)>, Vec<u64>) {
    let mut reader = bmff::BmffReader::new(bmff::Limits::default());
    let (mut messages, mut pictures) = (Vec::new(), Vec::new());
    let mut list = seen.list.clone();
    list.segments.retain(|msn| !list.gaps.contains(msn));
    for piece in fetch_all(edge.http, &format!("/{stream}/video"), &list) {
        reader.push(&piece).expect("ours");
        while let Some(output) = reader.poll_output() {
            match output {
                bmff::Output::Message { message, .. } => messages.push((message.data, message.pts.expect("a time"))),
                bmff::Output::Unit { unit, .. } => {
                    pictures.push(unit.dts.wrapping_add_signed(unit.composition_offset.into()));
                }
                _ => {}
            }
        }
    }
    pictures.sort_unstable();
    (messages, pictures)
}

fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [&u32::try_from(content.len() + 8).expect("short").to_be_bytes()[..], kind, content].concat()
}

/// A track of event messages in milliseconds: its init segment.
fn events_init() -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
    let stsd = [words(&[0, 1]), boxed(b"evte", &[0, 0, 0, 0, 0, 0, 0, 1])].concat();
    let minf = boxed(b"minf", &boxed(b"stbl", &boxed(b"stsd", &stsd)));
    let hdlr = boxed(b"hdlr", &[&words(&[0, 0])[..], b"meta", &[0; 13]].concat());
    let mdhd = boxed(b"mdhd", &[words(&[0, 0, 0, 1_000, 0]), vec![0x55, 0xc4, 0, 0]].concat());
    let trak = [boxed(b"tkhd", &words(&[0, 0, 0, 1])), boxed(b"mdia", &[mdhd, hdlr, minf].concat())].concat();
    let mvex = boxed(b"mvex", &boxed(b"trex", &words(&[0, 1, 1, 0, 0, 0])));
    let moov = [boxed(b"mvhd", &words(&[0, 0, 0, 1_000, 0])), boxed(b"trak", &trak), mvex].concat();
    [boxed(b"ftyp", b"cmfc\0\0\0\0cmfc"), boxed(b"moov", &moov)].concat()
}

fn encoded(atom: &impl Encode) -> Vec<u8> {
    let mut out = Vec::new();
    atom.encode(&mut out).expect("a Vec takes all");
    out
}

/// Its segment of a second; `message`: what becomes true in it.
fn events_segment(second: u32, message: Option<&[u8]>) -> Vec<u8> {
    let emib = |data: &[u8]| {
        let (scheme_id_uri, value, message_data) = (SCTE35.to_owned(), String::new(), data.to_vec());
        encoded(&Emib { presentation_time_delta: 0, event_duration: 1_000, id: 7, scheme_id_uri, value, message_data })
    };
    let data = message.map_or(boxed(b"emeb", b""), emib).into();
    let sample = cmaf::Sample { duration: 1_000, composition_offset: 0, sync: true, data };
    let reference = cmaf::ProducerReferenceTime { media_time: 0, wall: UnixTime::default() };
    cmaf::chunk(second, u64::from(second) * 1_000, reference, (Timescale::MILLIS, &[]), &[sample]).to_vec()
}

fn dateranges(seen: &Seen) -> Vec<String> {
    let lines = seen.texts.values().flat_map(|text| text.lines());
    let mut lines: Vec<String> = lines.filter(|l| l.starts_with("#EXT-X-DATERANGE:")).map(str::to_owned).collect();
    lines.sort();
    lines.dedup();
    lines
}

#[test]
fn splices_of_a_transport_stream_come_by_http() {
    unless_starved(|| {
        let cluster = Cluster::new();
        let film = film(cluster.path(), 6);
        let node = cluster.node("a", &INGEST);
        let ts = std::fs::read(remuxed(&film, "film.ts", &[])).expect("written");
        let to = ingest(&node);
        let (ts, due) = spliced(&ts);
        assert_eq!(put(to, "whole", &ts).0, 200);
        let whole = viewers(&node, "whole");
        let seen = to_the_end(whole);
        let (messages, pictures) = said(&node, "whole", &seen[0]);
        let [(out, begins), (again, repeated), (back, ends)] = &messages[..] else { panic!("{messages:?}") };
        // Beside its end the beginning is said again, since they are one date range.
        assert_eq!((again, repeated), (out, begins));
        assert_eq!(**out, splice(due, true));
        assert!(back.len() < out.len() && [begins, ends].iter().all(|at| pictures.contains(at)), "{begins} {ends}");
        assert_eq!((begins - pictures[0]) / 3_000, 60, "{begins} after {}", pictures[0]);
        let ranges = dateranges(&seen[0]);
        assert!(ranges.iter().any(|line| line.contains("SCTE35-OUT=") && line.contains("PLANNED-DURATION=1.000")));
        assert!(ranges.iter().any(|line| line.contains("SCTE35-IN=") && line.contains("END-DATE=")), "{ranges:?}");
        check_logs(&[&node]);
    });
}

#[test]
fn messages_of_cmaf_tracks_come_once_and_with_their_pictures() {
    unless_starved(|| {
        let cluster = Cluster::new();
        let film = film(cluster.path(), 6);
        let node = cluster.node("a", &[&INGEST[..], &["--http-ingest-grace", "120"]].concat());
        let to = ingest(&node);
        let mut video = cmaf_track(&film, "0:v", "v.mp4", &[]);
        let audio = cmaf_track(&film, "0:a", "a.mp4", &[]);
        let tag = |n: usize| format!("ID3 {n}").into_bytes();
        for (n, piece) in video.iter_mut().enumerate().skip(1) {
            let (scheme_id_uri, value, message_data) = (ID3.to_owned(), String::new(), tag(n));
            let presentation_time = EmsgTimestamp::Relative(0);
            let emsg = Emsg {
                timescale: 1_000,
                presentation_time,
                event_duration: u32::MAX,
                id: 1,
                scheme_id_uri,
                value,
                message_data,
            };
            // Behind the segment's type, if it has one.
            let at = if piece[4..8] == *b"styp" { 24 } else { 0 };
            piece.splice(at..at, encoded(&emsg));
        }
        let out = splice(0, true);
        let events: Vec<Vec<u8>> = std::iter::once(events_init())
            .chain((0..6).map(|second| events_segment(second, (second == 3).then_some(&out[..]))))
            .collect();
        for (name, pieces) in [("v.cmfv", &video), ("a.cmfa", &audio), ("m.cmfm", &events)] {
            assert_eq!(put(to, &format!("cam1/Streams({name})"), &pieces[0]), (200, "ok".to_owned()), "{name}");
        }
        let fragments = video.len() - 1;
        // Each is sent twice, as redundant encoders do.
        let thread = tracks(to, "cam1", vec![("m.cmfm", events), ("v.cmfv", video), ("a.cmfa", audio)], 2);
        let seen = viewers(&node, "cam1");
        thread.join().expect("each is taken");
        let seen = to_the_end(seen);
        let (messages, pictures) = said(&node, "cam1", &seen[0]);
        let (splices, tags): (Vec<_>, Vec<_>) = messages.into_iter().partition(|(data, _)| data[0] == 0xfc);
        let told: Vec<Vec<u8>> = tags.iter().map(|(data, _)| data.to_vec()).collect();
        assert_eq!(told, (1..=fragments).map(tag).collect::<Vec<_>>());
        assert_eq!(tags[0].1, pictures[0]);
        assert!(tags.is_sorted_by_key(|(_, at)| *at) && tags.iter().all(|(_, at)| pictures.contains(at)), "{tags:?}");
        assert_eq!(splices, [(out.into(), pictures[0] + 3 * 90_000)]);
        assert_eq!(dateranges(&seen[0]).len(), 1);
        check_logs(&[&node]);
    });
}
