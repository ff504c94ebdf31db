//! Event messages, before fragments and in tracks of their own.

use mp4_atom::{Emib, Emsg, EmsgTimestamp, Encode};

use super::*;
use crate::codec::scte35::tests::{insert, section};
use crate::model::MESSAGE_LEN_MAX;

const ID3: &str = "https://aomedia.org/emsg/ID3";
const OLD_ID3: &str = "https://developer.apple.com/streaming/emsg-id3";
const SCTE35: &str = "urn:scte:scte35:2013:bin";

fn encoded(atom: &impl Encode) -> Vec<u8> {
    let mut out = Vec::new();
    atom.encode(&mut out).expect("a Vec takes all");
    out
}

fn emsg(scheme: &str, hz: u32, presentation_time: EmsgTimestamp, event_duration: u32, data: &[u8]) -> Vec<u8> {
    let (scheme_id_uri, value, message_data) = (scheme.to_owned(), "1".to_owned(), data.to_vec());
    encoded(&Emsg { timescale: hz, presentation_time, event_duration, id: 3, scheme_id_uri, value, message_data })
}

fn emib(scheme: &str, presentation_time_delta: i64, event_duration: u32, data: &[u8]) -> Vec<u8> {
    let (scheme_id_uri, value, message_data) = (scheme.to_owned(), String::new(), data.to_vec());
    encoded(&Emib { presentation_time_delta, event_duration, id: 3, scheme_id_uri, value, message_data })
}

/// Returns the outputs for boxes between a segment's `styp` and its chunk, without the pictures.
fn before_a_chunk(boxes: &[Vec<u8>]) -> String {
    let init = cmaf::init(&avc(), Timescale::MPEG);
    let file = [&init[..], &boxed(b"styp", b"msdh\0\0\0\0msdh"), &boxes.concat(), &chunk(90_000)].concat();
    let (out, end) = read([], &file);
    assert_eq!(end, Ok(()));
    let of = |line: &&str| line.starts_with("message") || line.starts_with("ignored");
    text(&out).lines().filter(of).map(|line| format!("{line}\n")).collect()
}

#[test]
fn messages_before_a_fragment_come_with_their_times() {
    // The chunk is decoded from 90000 on; its second and third pictures are shown first, at 94500 and 96000, and the first at 93000.
    let out = before_a_chunk(&[
        emsg(ID3, 1_000, EmsgTimestamp::Relative(500), 2_000, b"ID3v0"),
        emsg(OLD_ID3, 48_000, EmsgTimestamp::Absolute(48_000 * 9), u32::MAX, b"ID3v1"),
        // The fragment's `prft` may stand on either side.
        emsg(ID3, 90_000, EmsgTimestamp::Absolute(1), 0, b"ID3 long ago"),
    ]);
    assert_eq!(
        out,
        "message 1 at 90000: Id3 138000 Some(2s) ID3v0\n\
         message 1 at 90000: Id3 810000 None ID3v1\n\
         message 1 at 90000: Id3 1 Some(0ns) ID3 long ago\n"
    );
}

#[test]
fn a_splice_is_meant_when_its_box_says_and_lasts_as_it_says_itself() {
    let (splice, back) = (insert(7, 5, Some(30 * 90_000)), insert(7, 5, None));
    let out = before_a_chunk(&[
        emsg(SCTE35, 90_000, EmsgTimestamp::Absolute(180_000), u32::MAX, &splice),
        emsg(SCTE35, 90_000, EmsgTimestamp::Absolute(180_001), 0, &splice),
        emsg(SCTE35, 90_000, EmsgTimestamp::Absolute(180_002), 90_000, &back),
        emsg(SCTE35, 90_000, EmsgTimestamp::Absolute(0), 0, &section(0, 0, &[])),
    ]);
    let (said, back) = (splice.escape_ascii(), back.escape_ascii());
    // A message that is dropped doesn't wait for a fragment.
    let expect = format!(
        "ignored: a splice_null\n\
         message 1 at 90000: Scte35 180000 Some(30s) {said}\n\
         message 1 at 90000: Scte35 180001 Some(30s) {said}\n\
         message 1 at 90000: Scte35 180002 Some(1s) {back}\n"
    );
    assert_eq!(out, expect);
}

#[test]
fn what_isnt_carried_is_told_and_the_pictures_are_whole() {
    let now = EmsgTimestamp::Relative(0);
    let long = [&b"ID3"[..], &vec![0; MESSAGE_LEN_MAX + 4_096]].concat();
    let out = before_a_chunk(&[
        emsg("urn:mpeg:dash:event:2012", 1_000, now.clone(), 0, b"1"),
        emsg(ID3, 0, now.clone(), 0, b"ID3"),
        emsg(ID3, 1_000, now.clone(), 0, b"no tag"),
        emsg(SCTE35, 1_000, now.clone(), 0, &[&insert(7, 5, None)[..], &vec![0xfc; 60_000]].concat()),
        emsg(ID3, 1_000, now.clone(), 0, &long[..MESSAGE_LEN_MAX + 1]),
        emsg(ID3, 1_000, now.clone(), 0, &long),
        emsg(ID3, 1_000, EmsgTimestamp::Absolute(u64::MAX), 0, b"ID3"),
        boxed(b"emsg", &[2; 30]),
        boxed(b"emsg", b""),
    ]);
    let told = [
        "event messages of scheme \"urn:mpeg:dash:event:2012\" are not supported",
        "an emsg box has a timescale of 0",
        "an ID3 event message has no ID3 tag",
        "splice_info_section: section_length is 32",
        "an event message exceeds 65536 bytes",
        "an emsg box exceeds 66560 bytes",
        "an emsg box has a time above 2^63",
        "can't read an emsg box: ",
        "can't read an emsg box: ",
    ];
    // A message that is too long is reported before the others.
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines.len() == told.len() && told.iter().all(|why| lines.iter().any(|line| line.contains(why))), "{out}");
}

#[test]
fn messages_are_bounded_in_bytes() {
    let now = || EmsgTimestamp::Relative(0);
    let counts =
        |out: String| (out.matches("message ").count(), out.matches("ignored: more than 266240 bytes").count());
    // A tag a frame, of a long fragment.
    let short = vec![emsg(ID3, 1_000, now(), 0, b"ID3"); 500];
    assert_eq!(counts(before_a_chunk(&short)), (500, 0));
    let long = emsg(ID3, 1_000, now(), 0, &[&b"ID3"[..], &vec![0; MESSAGE_LEN_MAX - 3]].concat());
    assert_eq!(counts(before_a_chunk(&vec![long.clone(); 6])), (4, 2));
    // Each of two fragments has as many.
    let init = cmaf::init(&avc(), Timescale::MPEG);
    let twice = [&init[..], &long.repeat(4), &chunk(90_000), &long.repeat(4), &chunk(99_000)].concat();
    let (out, end) = read([], &twice);
    assert_eq!((counts(text(&out)), end), ((8, 0), Ok(())));
    // Messages beyond the limit of a sample are reported, too.
    assert_eq!(counts(events(b"urim", &[short.concat(), long.repeat(6), short.concat()])), (500 + 4 + 500, 1));
    assert_eq!(counts(events(b"evte", &[boxed(b"emeb", b"").repeat(40_000)])), (0, 1));
}

#[test]
fn messages_of_a_fragment_without_samples_have_its_time() {
    let init = cmaf::init(&avc(), Timescale::MPEG);
    let empty = cmaf::silence(270_000);
    let message = emsg(ID3, 90_000, EmsgTimestamp::Relative(9), 0, b"ID3");
    let (out, end) = read([], &[&init[..], &message, &empty].concat());
    assert_eq!(end, Ok(()));
    assert!(text(&out).ends_with("message 1 at 270000: Id3 270009 Some(0ns) ID3\n"), "{}", text(&out));
    // Without a fragment there is no time.
    let (out, end) = read([], &[&init[..], &message].concat());
    assert!(end.is_ok() && out.len() == 2, "{out:?}");
}

/// An init segment of one metadata track, in milliseconds.
fn events_init(entry: &[u8; 4]) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
    let stsd = [words(&[0, 1]), boxed(entry, &[0, 0, 0, 0, 0, 0, 0, 1])].concat();
    let stbl = boxed(b"stbl", &boxed(b"stsd", &stsd));
    let hdlr = boxed(b"hdlr", &[&words(&[0, 0])[..], b"meta", &[0; 13]].concat());
    let mdhd = boxed(b"mdhd", &[words(&[0, 0, 0, 1_000, 0]), vec![0x55, 0xc4, 0, 0]].concat());
    let mdia = boxed(b"mdia", &[mdhd, hdlr, boxed(b"minf", &stbl)].concat());
    let trak = boxed(b"trak", &[boxed(b"tkhd", &words(&[0, 0, 0, 1])), mdia].concat());
    let mvex = boxed(b"mvex", &boxed(b"trex", &words(&[0, 1, 1, 0, 0, 0])));
    let moov = boxed(b"moov", &[boxed(b"mvhd", &words(&[0, 0, 0, 1_000, 0])), trak, mvex].concat());
    [boxed(b"ftyp", b"cmfc\0\0\0\0cmfc"), moov].concat()
}

/// Returns the outputs for samples of two seconds, from the fourth second on.
fn events(entry: &[u8; 4], samples: &[Vec<u8>]) -> String {
    let sample =
        |data: &Vec<u8>| cmaf::Sample { duration: 2_000, composition_offset: 0, sync: true, data: data.clone().into() };
    let samples: Vec<_> = samples.iter().map(sample).collect();
    let reference = cmaf::ProducerReferenceTime { media_time: 0, wall: UnixTime::default() };
    let chunk = cmaf::chunk(1, 4_000, reference, (Timescale::MILLIS, &[]), &samples);
    let (out, end) = read([], &[events_init(entry), chunk.to_vec()].concat());
    assert_eq!(end, Ok(()));
    assert!(matches!(&out[0], Output::Movie(movie) if movie.tracks[0].is_events()), "{:?}", out[0]);
    text(&out[2..])
}

#[test]
fn samples_of_an_event_message_track_are_messages() {
    let splice = insert(7, 5, Some(30 * 90_000));
    let said = splice.escape_ascii();
    let out = events(
        b"evte",
        &[
            boxed(b"emeb", b""),
            [emib(SCTE35, 1_000, u32::MAX, &splice), emib(ID3, 0, 500, b"ID3a")].concat(),
            // Active still, and so in the next sample, too.
            emib(SCTE35, -1_000, u32::MAX, &splice),
            [emib("urn:x", 0, 0, b"?"), b"\0\0\0\x09emib".to_vec()].concat(),
        ],
    );
    let expect = format!(
        "message 1 at 540000: Scte35 630000 Some(30s) {said}\n\
         message 1 at 540000: Id3 540000 Some(500ms) ID3a\n\
         message 1 at 720000: Scte35 630000 Some(30s) {said}\n\
         ignored: event messages of scheme \"urn:x\" are not supported\n\
         ignored: can't read a sample of event messages: "
    );
    assert!(out.starts_with(&expect), "{out}");
}

#[test]
fn boxes_of_dash_in_samples_of_any_metadata_are_messages_too() {
    let out = events(
        b"urim",
        &[
            emsg(ID3, 1_000, EmsgTimestamp::Relative(250), 0, b"ID3a"),
            boxed(b"embe", b""),
            emsg(ID3, 1_000, EmsgTimestamp::Absolute(9_000), 0, b"ID3b"),
            b"plain text, as somebody else's metadata".to_vec(),
        ],
    );
    let expect = "message 1 at 360000: Id3 382500 Some(0ns) ID3a\n\
                  message 1 at 720000: Id3 810000 Some(0ns) ID3b\n\
                  ignored: can't read a sample of event messages: ";
    assert!(out.starts_with(expect), "{out}");
}

#[test]
fn damaged_messages_are_passed_over() {
    let splice = insert(7, 5, None);
    let message = emsg(SCTE35, 1_000, EmsgTimestamp::Relative(0), 0, &splice);
    for at in 8..message.len() {
        let mut damaged = message.clone();
        damaged[at] ^= 0x5a;
        let out = before_a_chunk(&[damaged]);
        assert_eq!(out.lines().count(), 1, "{at}: {out}");
        assert!(at < message.len() - splice.len() || out.starts_with("ignored"), "{at}: {out}");
    }
}
