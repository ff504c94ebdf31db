use std::fmt::Write as _;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::cmaf;
use crate::codec::codec::Codec;
use crate::codec::hevc;
use crate::codec::opus::Opus;
use crate::model::time::{Timescale, UnixTime};
use crate::model::{AccessUnit, CodecConfig, TimedMessage};

mod messages;

/// H.264 High, 1280x720, as x264 makes it.
const AVCC: &[u8] = include_bytes!("../../../../tests/fuzz/seeds/avc/x264-high-720p");
/// A plain file of 16 s: 480 pictures, 750 frames of sound.
const FILM: &[u8] = include_bytes!("../../../../fixtures/media/plum-720p30.mp4");

fn avc() -> Codec {
    Codec::parse(&CodecConfig::Avc(Bytes::from_static(AVCC))).expect("a fixture")
}

fn aac() -> Codec {
    Codec::parse(&CodecConfig::Aac(Bytes::from_static(&[0x11, 0x90]))).expect("AAC-LC, 48 kHz, stereo")
}

fn nal(kind: u8, len: usize) -> Vec<u8> {
    let mut out = u32::try_from(len).expect("short").to_be_bytes().to_vec();
    out.push(0x60 | kind);
    out.resize(4 + len, 0xab);
    out
}

fn sample(n: u32, kind: u8) -> cmaf::Sample {
    let data = nal(kind, 100 + n as usize).into();
    cmaf::Sample { duration: 3_000, composition_offset: 3_000 - 1_500 * n.cast_signed(), sync: kind == 5, data }
}

/// A chunk of three pictures.
fn chunk(time: u64) -> Bytes {
    let wall = UnixTime::from_micros(1_700_000_000_000_000 + time);
    let reference = cmaf::ProducerReferenceTime { media_time: time, wall };
    cmaf::chunk(7, time, reference, (Timescale::MPEG, &[]), &[sample(0, 5), sample(1, 1), sample(2, 1)])
}

/// A box.
pub(crate) fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(content.len() + 8).expect("short").to_be_bytes().to_vec();
    out.extend(kind);
    out.extend(content);
    out
}

/// A segment with all that may be in one.
fn segment(time: u64, last: bool) -> Vec<u8> {
    let brand: &[u8] = if last { b"msdh\0\0\0\0msdhlmsg" } else { b"msdh\0\0\0\0msdh" };
    [
        boxed(b"styp", brand),
        boxed(b"emsg", b"\0\0\0\0urn:x\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0"),
        chunk(time).to_vec(),
        boxed(b"free", b""),
    ]
    .concat()
}

fn drain(reader: &mut BmffReader) -> Vec<Output> {
    std::iter::from_fn(|| reader.poll_output()).collect()
}

/// Reads a file in pieces of these lengths. Returns all outputs, and the result of the end.
fn read(pieces: impl IntoIterator<Item = usize>, file: &[u8]) -> (Vec<Output>, Result<(), BmffError>) {
    let mut reader = BmffReader::new(Limits::default());
    let (mut out, mut rest, mut end) = (Vec::new(), file, Ok(()));
    for len in pieces.into_iter().chain([file.len()]) {
        let (piece, tail) = rest.split_at(len.min(rest.len()));
        rest = tail;
        end = reader.push(piece);
        out.extend(drain(&mut reader));
        if end.is_err() {
            break;
        }
    }
    let finished = reader.finish();
    out.extend(drain(&mut reader));
    (out, end.and(finished))
}

/// Writes one line for each output.
fn text(outputs: &[Output]) -> String {
    let mut out = String::new();
    for output in outputs {
        let line = match output {
            Output::Movie(movie) => {
                let tracks: Vec<String> = movie
                    .tracks
                    .iter()
                    .map(|t| format!("{}:{}/{}{:+} {:?}", t.id, t.entry, t.timescale.hz(), t.shift, t.language))
                    .collect();
                format!("movie fragmented={} {tracks:?}", movie.fragmented)
            }
            Output::Config { track, config: CodecConfig::Avc(record) } => format!("avcC {track} {}", record.len()),
            Output::Config { track, config: CodecConfig::Aac(config) } => format!("aac {track} {:02x?}", &config[..]),
            Output::Config { track, config } => format!("config {track} {config:02x?}"),
            Output::Unit { track, unit } => {
                let AccessUnit { dts, composition_offset, keyframe, data, .. } = unit;
                let key = if *keyframe { " key" } else { "" };
                format!("unit {track} {dts} cto {composition_offset} len {}{key}", data.len())
            }
            Output::Reference(wall) => format!("reference {wall}"),
            Output::Message { track, at, message: TimedMessage { scheme, pts, duration, data, .. } } => {
                let (pts, data) = (pts.expect("a time"), data.escape_ascii());
                format!("message {track} at {at}: {scheme:?} {pts} {duration:?} {data}")
            }
            Output::Ignored { why } => format!("ignored: {why}"),
            Output::Last => "last".to_owned(),
            Output::Dropped { track, why } => format!("dropped {track}: {why}"),
            Output::Missing { samples } => format!("missing {samples}"),
        };
        writeln!(out, "{line}").expect("a String takes all");
    }
    out
}

const SEGMENT_TEXT: &str = "\
ignored: event messages of scheme \"urn:x\" are not supported
reference 2023-11-14T22:13:20.090Z
unit 1 90000 cto 3000 len 104 key
unit 1 93000 cto 1500 len 105
unit 1 96000 cto 0 len 106
";

#[test]
fn what_we_write_is_read() {
    let file = [&cmaf::init(&avc(), Timescale::MPEG)[..], &segment(90_000, false), &segment(90_000, true)].concat();
    let (out, end) = read([], &file);
    assert_eq!(end, Ok(()));
    let head = format!("movie fragmented=true [\"1:avc1/90000+0 None\"]\navcC 1 {}\n", AVCC.len());
    assert_eq!(text(&out), format!("{head}{SEGMENT_TEXT}last\n{SEGMENT_TEXT}"));
    let (out, _) = read([], &cmaf::init(&aac(), Timescale::new(48_000).expect("not zero")));
    assert_eq!(text(&out), "movie fragmented=true [\"1:mp4a/48000+0 None\"]\naac 1 [11, 90]\n");
}

#[test]
fn headers_of_every_codec_come_out_as_they_went_in() {
    let configs = [
        CodecConfig::Hevc(hevc::tests::bytes(hevc::tests::MAIN)),
        CodecConfig::Av1(hevc::tests::bytes("81000c000a0b0200000521e7f66017c002")),
        CodecConfig::Opus(Opus::head(2, 312, None)),
        CodecConfig::Ac3(Bytes::from_static(&[0x50, 0x3d, 0xe0])),
        CodecConfig::Eac3(Bytes::from_static(&[0x0e, 0, 0x20, 0x0f, 0])),
    ];
    for config in configs {
        let codec = Codec::parse(&config).expect("an encoder's own");
        let (out, _) = read([], &cmaf::init(&codec, codec.timescale()));
        let found = out.iter().find_map(|o| if let Output::Config { config, .. } = o { Some(config) } else { None });
        assert_eq!(Codec::parse(found.expect("headers")), Ok(codec), "{config:?}");
    }
}

#[test]
fn segments_come_one_by_one_after_their_init() {
    let mut reader = BmffReader::new(Limits::default());
    let segment = segment(90_000, false);
    assert_eq!(reader.push(&segment).map_err(|fault| matches!(fault, BmffError::NoInit { .. })), Err(true));
    assert!(reader.finish().is_ok() && matches!(drain(&mut reader)[..], [Output::Ignored { .. }]));
    let init = cmaf::init(&avc(), Timescale::MPEG);
    reader.push(&init).expect("whole");
    reader.finish().expect("whole");
    assert_eq!(drain(&mut reader).len(), 2);
    for _ in 0..2 {
        // A repeated init segment changes nothing.
        reader.push(&init).expect("whole");
        reader.push(&segment).expect("whole");
        reader.finish().expect("whole");
        assert_eq!(text(&drain(&mut reader)), SEGMENT_TEXT);
    }
    // The second request is cut in the middle of its second picture.
    reader.push(&segment[..segment.len() - 8 - 106 - 50]).expect("nothing wrong so far");
    let cut = reader.finish();
    assert!(matches!(cut, Err(BmffError::Cut { .. })), "{cut:?}");
    let expect = SEGMENT_TEXT.lines().take(3).map(|line| format!("{line}\n")).collect::<String>();
    assert_eq!(text(&drain(&mut reader)), format!("{expect}missing 2\n"));
    reader.push(&segment).expect("whole");
    assert_eq!(text(&drain(&mut reader)), SEGMENT_TEXT);
}

#[test]
fn sound_is_counted_where_its_times_are_a_frame_off() {
    let scale = Timescale::new(48_000).expect("not zero");
    let fragment = |time: u64, n: u8| {
        let reference = cmaf::ProducerReferenceTime { media_time: time, wall: UnixTime::from_micros(1) };
        let frame = cmaf::Sample { duration: 1_024, composition_offset: 0, sync: true, data: vec![n; 9].into() };
        cmaf::chunk(7, time, reference, (scale, &[]), &[frame])
    };
    // Each other frame of the first eight has the next one's time; then a second is missing.
    let stated = (0..12u64).map(|n| if n < 8 { n.next_multiple_of(2) } else { n + 47 } * 1_024);
    let file = stated.zip(0..).map(|(time, n)| fragment(time, n)).collect::<Vec<_>>().concat();
    let (out, _) = read([], &[&cmaf::init(&aac(), scale)[..], &file].concat());
    let times = out.iter().filter_map(|output| match output {
        Output::Unit { unit, .. } => Some(unit.dts),
        _ => None,
    });
    let expect: Vec<u64> = (0..8).chain(55..59).map(|n| n * 1_024 * 90_000 / 48_000).collect();
    assert_eq!(times.collect::<Vec<_>>(), expect);
    // Sound that begins a frame after the pictures stays beside them.
    let (out, _) = read([], &[&cmaf::init(&aac(), scale)[..], &fragment(1_024, 0)].concat());
    let first =
        out.iter().find_map(|output| if let Output::Unit { unit, .. } = output { Some(unit.dts) } else { None });
    assert_eq!(first, Some(1_920));
}

#[test]
fn a_plain_film_is_read_while_it_comes() {
    let (out, end) = read(std::iter::repeat_n(1_400, FILM.len() / 1_400), FILM);
    assert_eq!(end, Ok(()));
    let Some(Output::Movie(movie)) = out.first() else { panic!("{:?}", out.first()) };
    let units = |track: u32| {
        out.iter().filter_map(move |output| match output {
            Output::Unit { track: of, unit } if *of == track => Some(unit.clone()),
            _ => None,
        })
    };
    let [video, audio] = &movie.tracks[..] else { panic!("{movie:?}") };
    assert_eq!((video.handler, audio.handler), (Handler::Video, Handler::Audio));
    assert_eq!((units(video.id).count(), units(audio.id).count()), (480, 750));
    assert!(units(video.id).enumerate().all(|(n, unit)| unit.keyframe == (n % 60 == 0)));
    let stamps: Vec<u64> = units(audio.id).map(|unit| unit.dts).collect();
    assert!(stamps.windows(2).all(|pair| pair[1] == pair[0] + 1_920), "no sound is lost");
    // Reordered by its encoder, and put back to 0 by its edit list.
    let shown = units(video.id).map(|unit| CLOCK.wrapped(unit.dts.cast_signed() + i64::from(unit.composition_offset)));
    assert_eq!(shown.min(), Some(0));
    let first = units(video.id).next().expect("480");
    assert_eq!((first.dts + first.composition_offset.cast_unsigned() as u64) >> CLOCK.wrap_bits, 1, "before 0");
}

#[test]
fn a_film_with_its_head_at_the_end_is_refused_in_words() {
    let head = [boxed(b"ftyp", b"isom\0\0\0\0"), boxed(b"free", b""), boxed(b"mdat", &[0; 99])].concat();
    let (_, end) = read([], &head);
    assert_eq!(
        end.expect_err("no moov").to_string(),
        "byte 24: media comes before the init segment; a plain file needs moov first (-movflags +faststart)"
    );
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let check = |file: &[u8], expect: &str| {
        assert_eq!(read([], file).1.expect_err(expect).to_string(), expect);
    };
    check(b"GET / HTTP/1.1", "byte 0: not an MP4 box (ftyp, styp, moov, moof, ...); send MP4 or CMAF");
    check(&boxed(b"abcd", b""), "byte 0: not an MP4 box (ftyp, styp, moov, moof, ...); send MP4 or CMAF");
    check(
        &[boxed(b"ftyp", b"isom"), vec![0, 0, 0, 4, 0, 0, 0, 0]].concat(),
        "byte 12: the \\x00\\x00\\x00\\x00 box has a size smaller than its header",
    );
    check(&boxed(b"moov", &boxed(b"free", b"")), "byte 8: the moov box has no mvhd box");
    check(&[0x7f, 0, 0, 0, b'm', b'o', b'o', b'v'], "byte 0: the moov box has 2130706424 bytes; the limit is 33554432");
    check(b"\0\0\0\x09ftyp", "the data ends too early, at byte 8");
    let init = cmaf::init(&avc(), Timescale::MPEG);
    let at = init.len();
    check(&[&init[..], &boxed(b"mdat", &[0; 9])].concat(), &format!("byte {at}: an mdat comes before its moof"));
    let other = chunk(0).to_vec();
    let tfhd = other.windows(4).position(|name| name == b"tfhd").expect("there");
    let mut other = [&init[..], &other].concat();
    other[at + tfhd + 11] = 9;
    check(&other, "a fragment belongs to track 9, which the init segment doesn't have");
}

#[test]
fn parameter_sets_among_the_pictures_are_taken_out() {
    let parsed = crate::codec::avc::Avc::parse(&Bytes::from_static(AVCC)).expect("a fixture");
    let prefixed = |set: &Vec<u8>| [&u32::try_from(set.len()).expect("short").to_be_bytes()[..], set].concat();
    let sets: Vec<u8> = parsed
        .avcc
        .sequence_parameter_sets
        .iter()
        .chain(&parsed.avcc.picture_parameter_sets)
        .flat_map(prefixed)
        .collect();
    // The same init as avc3 without sets: what an encoder says that repeats them.
    let init = cmaf::init(&avc(), Timescale::MPEG);
    let record = &[1, 100, 0, 31, 0xff, 0xe0, 0][..];
    let init = replace_avcc(&init, record);
    let with_sets = cmaf::Sample { data: [nal(9, 2), sets, nal(5, 50)].concat().into(), ..sample(0, 5) };
    let plain = sample(1, 1);
    let reference = cmaf::ProducerReferenceTime { media_time: 0, wall: UnixTime::from_micros(0) };
    let early = cmaf::chunk(0, 0, reference, (Timescale::MPEG, &[]), std::slice::from_ref(&plain));
    let file = [
        &init[..],
        &early,
        &cmaf::chunk(1, 3_000, reference, (Timescale::MPEG, &[]), &[with_sets.clone(), plain]),
        &cmaf::chunk(2, 9_000, reference, (Timescale::MPEG, &[]), &[with_sets]),
    ]
    .concat();
    let (out, end) = read([], &file);
    assert_eq!(end, Ok(()));
    let lines: Vec<String> =
        text(&out).lines().filter(|line| !line.starts_with("reference")).map(str::to_owned).collect();
    assert_eq!(
        lines[1..],
        [
            "dropped 1: no codec headers have come yet",
            &format!("avcC 1 {}", AVCC.len()),
            "unit 1 3000 cto 3000 len 54 key",
            "unit 1 6000 cto 1500 len 105",
            "unit 1 9000 cto 3000 len 54 key",
        ]
    );
}

/// Puts another avcC into an init segment.
fn replace_avcc(init: &[u8], record: &[u8]) -> Vec<u8> {
    let mut out = init.to_vec();
    let name = out.windows(4).position(|name| name == b"avcC").expect("there");
    let old = usize::try_from(u32::from_be_bytes([out[name - 4], out[name - 3], out[name - 2], out[name - 1]]))
        .expect("32 bits");
    out.splice(name - 4..name - 4 + old, boxed(b"avcC", record));
    // Every box around it is shorter by as much.
    let shorter = u32::try_from(old - 8 - record.len()).expect("shorter");
    for parent in [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"] {
        let at = out.windows(4).position(|name| name == parent).expect("there") - 4;
        let len = u32::from_be_bytes([out[at], out[at + 1], out[at + 2], out[at + 3]]) - shorter;
        out[at..at + 4].copy_from_slice(&len.to_be_bytes());
    }
    let name = out.windows(4).position(|name| name == b"avc1").expect("there");
    out[name + 3] = b'3';
    out
}

#[test]
fn times_of_other_scales_meet_on_one_clock() {
    let check = |hz: u32, dts: i64, composition_offset: i32, expect: (i64, i64)| {
        let mut movie = Movie::read(&moov_of(&cmaf::init(&avc(), Timescale::MPEG)), 0).expect("ours");
        movie.tracks[0].timescale = Timescale::new(hz).expect("not zero");
        let place = SamplePlace { offset: 0, len: 0, dts, duration: 0, composition_offset, keyframe: true };
        let (dts, pts) = movie.tracks[0].times(&place);
        assert_eq!((dts, pts - dts), expect);
    };
    check(15_360, 512, 1_024, (3_000, 6_000));
    check(48_000, 1_024, 0, (1_920, 0));
    check(30_000, 8 * 3_600 * 30_000, -1_001, (8 * 3_600 * 90_000, -3_003));
    check(15_360, -1_024, 1_024, (-6_000, 6_000));
}

fn moov_of(init: &Bytes) -> Bytes {
    let name = init.windows(4).position(|name| name == b"moov").expect("there");
    init.slice(name + 4..)
}

/// A short file of each kind.
fn files() -> Vec<Vec<u8>> {
    let fragments =
        [&cmaf::init(&avc(), Timescale::MPEG)[..], &segment(90_000, false), &segment(99_000, true)].concat();
    let sound = [&cmaf::init(&aac(), Timescale::MPEG)[..], &chunk(0)].concat();
    vec![fragments, sound, FILM[..FILM.len().min(60_000)].to_vec()]
}

proptest! {
    #[test]
    fn pieces_make_no_difference(which in 0..3usize, pieces in prop::collection::vec(1..200usize, 0..200)) {
        let file = &files()[which];
        prop_assert_eq!(read(pieces, file), read([], file));
    }

    #[test]
    fn damaged_files_are_refused_or_read(
        which in 0..3usize,
        changes in prop::collection::vec((0..4_000usize, any::<u8>()), 1..20),
        cut in 0..70_000usize,
    ) {
        let mut file = files()[which].clone();
        for (at, byte) in changes {
            if let Some(old) = file.get_mut(at) {
                *old = byte;
            }
        }
        file.truncate(cut);
        let (out, _) = read([], &file);
        let len: usize = out.iter().map(|output| if let Output::Unit { unit, .. } = output { unit.data.len() } else { 0 }).sum();
        // Lengths of one byte become four.
        prop_assert!(len <= file.len() * 4);
        prop_assert_eq!(read(std::iter::repeat_n(7, file.len() / 7), &file).0, out);
    }
}

#[test]
fn byte_by_byte_is_the_same() {
    for file in files() {
        assert_eq!(read(std::iter::repeat_n(1, file.len()), &file), read([], &file));
    }
}

#[test]
fn a_sample_per_bit_of_nothing_is_bounded() {
    // A trun without fields may count to 2^32 in 8 bytes.
    let mut trun = BytesMut::new();
    trun.put_u32(0);
    trun.put_u32(u32::MAX);
    let tfhd = boxed(b"tfhd", &[0, 0, 0, 0, 0, 0, 0, 1]);
    let traf = boxed(b"traf", &[tfhd, boxed(b"trun", &trun)].concat());
    let file = [&cmaf::init(&avc(), Timescale::MPEG)[..], &boxed(b"moof", &traf)].concat();
    assert_eq!(read([], &file).1, Err(BmffError::Samples));
}
