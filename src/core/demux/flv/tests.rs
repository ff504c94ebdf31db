use proptest::prelude::*;

use super::*;
use crate::codec::hevc::tests::{MAIN, bytes};
use crate::packager::tests::{AVCC_720P30, OTHER_AVCC};

/// NAL units behind their lengths: a slice that begins a picture of H.264, and of H.265.
const IDR: &[u8] = &[0, 0, 0, 3, 0x65, 0x88, 1];
const OTHER: &[u8] = &[0, 0, 0, 3, 0x41, 0x9a, 1];
const HEVC_IDR: &[u8] = &[0, 0, 0, 4, 0x26, 1, 0x80, 1];
/// Of H.264: a slice that goes on with an IDR picture, and SEI.
const MORE: &[u8] = &[0, 0, 0, 3, 0x65, 0x48, 2];
const SEI: &[u8] = &[0, 0, 0, 2, 0x06, 5];
/// SVT-AV1's.
const AV1C: &str = "81000c000a0b0200000521e7f66017c002";
const OPUS_HEAD: &[u8] = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0";

fn unit_at(track: InputTrack, dts: u32, composition_offset: i32, keyframe: bool, data: &[u8]) -> Input {
    let data = Bytes::copy_from_slice(data);
    Input::Unit(AccessUnit { track, dts: dts.into(), composition_offset, keyframe, data })
}

fn unit(track: InputTrack, composition_offset: i32, keyframe: bool, data: &[u8]) -> Input {
    unit_at(track, u32::MAX, composition_offset, keyframe, data)
}

fn config(of: fn(Bytes) -> CodecConfig, track: u8, data: &[u8]) -> Input {
    Input::Config { track: InputTrack(track), config: of(Bytes::copy_from_slice(data)) }
}

/// Reads tags, each at its time, and returns what came of them, and what was told.
fn read(kind: TagKind, bodies: &[(u32, Vec<u8>)]) -> (Result<Vec<Input>, String>, Vec<FlvNotice>) {
    let (mut tags, mut out, mut result) = (Tags::new(TRACKS_MAX), Vec::new(), Ok(()));
    for (at, body) in bodies {
        let body = Bytes::copy_from_slice(body);
        result = result.and(match kind {
            TagKind::Video => tags.video(&body, *at, &mut out),
            TagKind::Audio => tags.audio(&body, *at, &mut out),
        });
    }
    tags.end(&mut out);
    let notices = std::iter::from_fn(|| tags.poll_notice()).collect();
    (result.map(|()| out).map_err(|error| error.to_string()), notices)
}

fn check(kind: TagKind, bodies: &[&[u8]], expect: Result<Vec<Input>, &str>) {
    let bodies: Vec<_> = bodies.iter().map(|body| (u32::MAX, body.to_vec())).collect();
    assert_eq!(read(kind, &bodies), (expect.map_err(str::to_owned), vec![]), "{bodies:02x?}");
}

fn check_video(body: &[u8], expect: Result<Vec<Input>, &str>) {
    check(TagKind::Video, &[body], expect);
}

fn check_audio(body: &[u8], expect: Result<Vec<Input>, &str>) {
    check(TagKind::Audio, &[body], expect);
}

/// A tag of H.264.
fn avc(keyframe: bool, nal_units: &[&[u8]]) -> Vec<u8> {
    [&[if keyframe { 0x17 } else { 0x27 }, 1, 0, 0, 0][..], &nal_units.concat()].concat()
}

fn avc_header(record: &[u8]) -> Vec<u8> {
    [&[0x17, 0, 0, 0, 0][..], record].concat()
}

/// An enhanced tag: its first bytes, and the rest of it.
fn ex(head: &[u8], rest: &[u8]) -> Vec<u8> {
    [head, rest].concat()
}

#[test]
fn video_tags() {
    check_video(&[], Ok(vec![]));
    check_video(&avc_header(AVCC_720P30), Ok(vec![config(CodecConfig::Avc, 0, AVCC_720P30)]));
    check_video(&ex(&[0x17, 1, 0, 0, 80], IDR), Ok(vec![unit(VIDEO, 80, true, IDR)]));
    check_video(&ex(&[0x27, 1, 0xff, 0xff, 0xfe], OTHER), Ok(vec![unit(VIDEO, -2, false, OTHER)]));
    check_video(&ex(&[0x27, 1, 0x80, 0, 0], OTHER), Ok(vec![unit(VIDEO, -(1 << 23), false, OTHER)]));
    check_video(&ex(&[0x27, 1, 0, 0, 0], IDR), Ok(vec![unit(VIDEO, 0, true, IDR)]));
    check_video(&[0x17, 2, 0, 0, 0], Ok(vec![]));
    check_video(&[0x57, 0], Ok(vec![]));
    check_video(&[0x17], Err("byte 1 of the video tag: the tag ends inside AVCPacketType"));
    check_video(&[0x17, 1, 0], Err("byte 3 of the video tag: the tag ends inside CompositionTime"));
    check_video(&[0x17, 3, 0, 0, 0], Err("byte 1 of the video tag: AVCPacketType 3 is unknown"));
    check_video(&[0x24, 0], Err("On2 VP6 video isn't supported over RTMP; set the encoder to H.264, H.265 or AV1"));
    // H.265 as it was pushed before there was Enhanced RTMP.
    check_video(&ex(&[0x1c, 0, 0, 0, 0], &bytes(MAIN)), Ok(vec![config(CodecConfig::Hevc, 0, &bytes(MAIN))]));
    check_video(&ex(&[0x1c, 1, 0, 0, 5], HEVC_IDR), Ok(vec![unit(VIDEO, 5, true, HEVC_IDR)]));
}

#[test]
fn enhanced_video_tags() {
    check_video(&ex(b"\x90avc1", AVCC_720P30), Ok(vec![config(CodecConfig::Avc, 0, AVCC_720P30)]));
    check_video(&ex(b"\x91avc1\x00\x00\x05", IDR), Ok(vec![unit(VIDEO, 5, true, IDR)]));
    check_video(&ex(b"\xa3avc1", OTHER), Ok(vec![unit(VIDEO, 0, false, OTHER)]));
    check_video(b"\x92avc1", Ok(vec![]));
    check_video(&ex(b"\x90hvc1", &bytes(MAIN)), Ok(vec![config(CodecConfig::Hevc, 0, &bytes(MAIN))]));
    check_video(&ex(b"\x91hvc1\xff\xff\xff", HEVC_IDR), Ok(vec![unit(VIDEO, -1, true, HEVC_IDR)]));
    check_video(b"\xa1hvc1\xff", Err("byte 6 of the video tag: the tag ends inside CompositionTime"));
    // AV1 isn't reordered, and has no composition time.
    check_video(&ex(b"\x90av01", &bytes(AV1C)), Ok(vec![config(CodecConfig::Av1, 0, &bytes(AV1C))]));
    check_video(b"\x91av01xyz", Ok(vec![unit(VIDEO, 0, true, b"xyz")]));
    // Metadata, here of the frame type of commands, as ffmpeg sends it; and a command.
    check_video(b"\xd4hvc1\x02\x00\x09colorInfo", Ok(vec![]));
    check_video(b"\xd1\x00", Ok(vec![]));
    check_video(b"\x90vp09\x01", Err("VP9 video isn't supported over RTMP; set the encoder to H.264, H.265 or AV1"));
    let error = "\"a\\xff\\\"1\" video isn't supported over RTMP; set the encoder to H.264, H.265 or AV1";
    check_video(b"\x90a\xff\"1\x01", Err(error));
    let error =
        "MPEG-2 TS (by its sequence start) video isn't supported over RTMP; set the encoder to H.264, H.265 or AV1";
    check_video(b"\x95av01\x80", Err(error));
    check_video(b"\x98av01\x80", Err("byte 0 of the video tag: packet type 8 is unknown"));
    check_video(b"\x90av", Err("byte 3 of the video tag: the tag ends inside FourCC"));
}

#[test]
fn an_empty_header_is_passed_over() {
    for body in [&[0x17, 0, 0, 0, 0][..], b"\x90avc1", b"\x90hvc1", b"\x90av01"] {
        check_video(body, Ok(vec![]));
    }
    for body in [&[0xaf, 0][..], b"\x90mp4a", b"\x90Opus"] {
        check_audio(body, Ok(vec![]));
    }
    let expect = vec![config(CodecConfig::Aac, 1, &[0x11, 0x90]), unit(AUDIO, 0, true, &[1, 2])];
    check(TagKind::Audio, &[&[0xaf, 0], &[0xaf, 0, 0x11, 0x90], &[0xaf, 1, 1, 2]], Ok(expect));
}

#[test]
fn a_header_that_can_not_be_used_is_refused() {
    let check = |kind, body: &[u8], says: &[&str]| {
        let error = read(kind, &[(0, body.to_vec())]).0.expect_err("no header");
        assert!(says.iter().all(|says| error.contains(says)), "{error}");
    };
    let (hevc, own) = ("it looks like H.265", "the video sequence header can't be used: avcC: ");
    check(TagKind::Video, &avc_header(&bytes(MAIN)), &[own, hevc]);
    check(TagKind::Video, &ex(b"\x90avc1", &bytes(MAIN)), &[own, hevc]);
    check(TagKind::Video, &ex(b"\x90hvc1", AVCC_720P30), &["hvcC: ", "it looks like H.264"]);
    check(TagKind::Video, &avc_header(&[2, 100, 0, 31, 255, 225, 0]), &["avcC: configurationVersion is 2"]);
    check(TagKind::Video, b"\x90av01\x81", &["the video sequence header can't be used: av1C: "]);
    check(TagKind::Audio, &[0xaf, 0, 0x0a, 0x10], &["the audio sequence header can't be used: AudioSpecificConfig: "]);
    check(TagKind::Audio, b"\x90OpusX", &["OpusHead: "]);
}

#[test]
fn several_tracks_in_a_tag() {
    // OneTrack, ManyTracks, ManyTracksManyCodecs.
    check_video(&ex(b"\x96\x01avc1\x07\x00\x00\x05", IDR), Ok(vec![unit(InputTrack(2), 5, true, IDR)]));
    let two = [&b"\x96\x11avc1\x00\x00\x00\x0a\x00\x00\x05"[..], IDR, b"\x01\x00\x00\x0a\x00\x00\x00", IDR].concat();
    check_video(&two, Ok(vec![unit(VIDEO, 5, true, IDR), unit(InputTrack(2), 0, true, IDR)]));
    let track = |fourcc: &[u8], id: u8, data: &[u8]| {
        let len = u32::try_from(data.len()).expect("short").to_be_bytes();
        [fourcc, &[id], &len[1..], data].concat()
    };
    let tracks = [track(b"avc1", 0, AVCC_720P30), track(b"hvc1", 3, &bytes(MAIN)), track(b"av01", 9, &bytes(AV1C))];
    check_video(
        &ex(b"\x96\x20", &tracks.concat()),
        Ok(vec![
            config(CodecConfig::Avc, 0, AVCC_720P30),
            config(CodecConfig::Hevc, 2, &bytes(MAIN)),
            config(CodecConfig::Av1, 3, &bytes(AV1C)),
        ]),
    );
    // The same TrackId is the same track; one of sound is another.
    check(
        TagKind::Audio,
        &[b"\x95\x00mp4a\x01\x12\x10", b"\x95\x01mp4a\x01x", b"\x95\x01mp4a\x02y", b"\x95\x01mp4a\x00z"],
        Ok(vec![
            config(CodecConfig::Aac, 2, &[0x12, 0x10]),
            unit(InputTrack(2), 0, true, b"x"),
            unit(InputTrack(3), 0, true, b"y"),
            unit(AUDIO, 0, true, b"z"),
        ]),
    );
    check_video(b"\x96\x11avc1\x00\x00\x00\x09x", Err("byte 11 of the video tag: the tag ends inside a track"));
    check_video(b"\x96\x31avc1", Err("byte 1 of the video tag: AvMultitrackType 3 is unknown"));
    check_video(b"\x96\x06avc1\x00x", Err("byte 0 of the video tag: packet type 6 is unknown"));
    let mut tags = Tags::new(TRACKS_MAX);
    let tag = |id: u8| Bytes::from([&b"\x95\x01Opus"[..], &[id, 1]].concat());
    for id in 1..=14 {
        tags.audio(&tag(id), 0, &mut Vec::new()).expect("16 with the first of each kind");
    }
    let error = tags.audio(&tag(15), 0, &mut Vec::new()).expect_err("one more");
    assert_eq!(error.to_string(), "byte 6 of the audio tag: track 15 is beyond the limit of 16 tracks of a push");
    let mut tags = Tags::new(3);
    tags.audio(&tag(7), 0, &mut Vec::new()).expect("the third");
    let error = tags.audio(&tag(8), 0, &mut Vec::new()).expect_err("the fourth");
    assert_eq!(error.to_string(), "byte 6 of the audio tag: track 8 is beyond the limit of 3 tracks of a push");
}

#[test]
fn modifiers_are_passed_over() {
    // TimestampOffsetNano, 3 bytes; and an unknown one of 300 before a multitrack tag.
    check_video(&ex(b"\x97\x02\x0f\x42\x3f\x01avc1\x00\x00\x05", IDR), Ok(vec![unit(VIDEO, 5, true, IDR)]));
    let long = [&b"\x97\xff\x01\x2b"[..], &[7; 300], b"\xf6\x01avc1\x01\x00\x00\x05", IDR].concat();
    check_video(&long, Ok(vec![unit(InputTrack(2), 5, true, IDR)]));
    check_video(b"\x97\x02\x0f", Err("byte 3 of the video tag: the tag ends inside modExData"));
}

#[test]
fn audio_tags() {
    check_audio(&[], Ok(vec![]));
    check_audio(&[0xaf, 0, 0x12, 0x10], Ok(vec![config(CodecConfig::Aac, 1, &[0x12, 0x10])]));
    check_audio(&[0xaf, 1, 1, 2], Ok(vec![unit(AUDIO, 0, true, &[1, 2])]));
    check_audio(&[0xaf, 1], Ok(vec![]));
    check_audio(&[0xaf], Err("byte 1 of the audio tag: the tag ends inside AACPacketType"));
    let advice = "audio isn't supported over RTMP; set the encoder to AAC, Opus, AC-3 or E-AC-3";
    check_audio(&[0x2f, 0], Err(&format!("MP3 {advice}")));
    check_audio(b"\x90.mp3", Err(&format!("MP3 {advice}")));
    check_audio(b"\x91fLaCx", Err(&format!("FLAC {advice}")));
    check_audio(b"\x91avc1x", Err(&format!("\"avc1\" {advice}")));
    check_audio(b"\x90mp4a\x12\x10", Ok(vec![config(CodecConfig::Aac, 1, b"\x12\x10")]));
    check_audio(b"\x91mp4ax", Ok(vec![unit(AUDIO, 0, true, b"x")]));
    check_audio(&ex(b"\x90Opus", OPUS_HEAD), Ok(vec![config(CodecConfig::Opus, 1, OPUS_HEAD)]));
    check_audio(b"\x91Opusx", Ok(vec![unit(AUDIO, 0, true, b"x")]));
    // MultichannelConfig, and a number that only pictures have.
    check_audio(b"\x94Opus\x01\x02\0\0\0\x03", Ok(vec![]));
    check_audio(b"\x93Opusx", Err("byte 0 of the audio tag: packet type 3 is unknown"));
}

#[test]
fn ac_3_has_its_headers_in_its_frames() {
    const FRAME: &[u8] = b"\x0b\x77\x48\x0d\x0c\x40\x2f\x84";
    const TAG: &[u8] = b"\x91ac-3\x0b\x77\x48\x0d\x0c\x40\x2f\x84";
    let frame = || unit(AUDIO, 0, true, FRAME);
    let expect = vec![config(CodecConfig::Ac3, 1, &[0x10, 0x08, 0xc0]), frame(), frame()];
    check(TagKind::Audio, &[b"\x90ac-3", TAG, TAG, b"\x91ac-3\x0b\x78"], Ok(expect));
    check_audio(b"\x91ec-3\x0b\x78", Err("byte 5 of the audio tag: AC-3 frame: no whole header"));
}

#[test]
fn adts_headers_are_taken_off_and_make_a_config() {
    /// A frame of 48 kHz stereo.
    fn adts(payload: &[u8]) -> Vec<u8> {
        let len = u16::try_from(7 + payload.len()).expect("short");
        let [high, low] = (len << 5 | 0x1f).to_be_bytes();
        [&[0xff, 0xf1, 0x4c, 0x80, high, low, 0xfc][..], payload].concat()
    }
    let tag = |frames: &[Vec<u8>]| [&[0xaf, 1][..], &frames.concat()].concat();
    let expect = vec![
        config(CodecConfig::Aac, 1, &[0x11, 0x90]),
        unit_at(AUDIO, 100, 0, true, b"one"),
        // Several frames in one message: each lasts 21.3 ms.
        unit_at(AUDIO, 121, 0, true, b"two"),
        unit_at(AUDIO, 142, 0, true, b"three"),
    ];
    let tags = [(90, vec![0xaf, 0]), (100, tag(&[adts(b"one")])), (121, tag(&[adts(b"two"), adts(b"three")]))];
    assert_eq!(read(TagKind::Audio, &tags), (Ok(expect), vec![FlvNotice::Adts]));
    // An AudioSpecificConfig that came counts; an ADTS header in its place is one.
    let tags = [(0, vec![0xaf, 0, 0x12, 0x10]), (5, tag(&[adts(b"one")]))];
    let expect = vec![config(CodecConfig::Aac, 1, &[0x12, 0x10]), unit_at(AUDIO, 5, 0, true, b"one")];
    assert_eq!(read(TagKind::Audio, &tags).0, Ok(expect));
    let header = [&[0xaf, 0][..], &adts(b"")].concat();
    assert_eq!(read(TagKind::Audio, &[(0, header)]).0, Ok(vec![config(CodecConfig::Aac, 1, &[0x11, 0x90])]));
    // One that ends early is left out.
    let short = tag(&[adts(b"one")[..9].to_vec()]);
    let (out, notices) = read(TagKind::Audio, &[(0, short)]);
    assert_eq!((out, notices.len()), (Ok(vec![]), 1));
}

#[test]
fn slices_in_messages_of_their_own_are_one_picture() {
    let tags = [
        (0, avc_header(AVCC_720P30)),
        (0, avc(true, &[SEI])),
        (0, avc(true, &[IDR])),
        (0, avc(true, &[MORE])),
        (40, avc(false, &[OTHER])),
        (40, avc(false, &[MORE, MORE])),
        // Long after the beginning, too.
        (9_000, avc(false, &[OTHER])),
        (9_000, avc(false, &[MORE])),
    ];
    let expect = vec![
        config(CodecConfig::Avc, 0, AVCC_720P30),
        unit_at(VIDEO, 0, 0, true, &[SEI, IDR, MORE].concat()),
        unit_at(VIDEO, 40, 0, false, &[OTHER, MORE, MORE].concat()),
        unit_at(VIDEO, 9_000, 0, false, &[OTHER, MORE].concat()),
    ];
    assert_eq!(read(TagKind::Video, &tags), (Ok(expect), vec![FlvNotice::Slices]));
}

#[test]
fn pictures_of_one_time_are_two() {
    // GStreamer's flvmux gives frames that are reordered the same decode time.
    let tags = [(0, avc(true, &[IDR])), (40, avc(false, &[OTHER])), (40, avc(false, &[OTHER]))];
    let other = || unit_at(VIDEO, 40, 0, false, OTHER);
    assert_eq!(read(TagKind::Video, &tags), (Ok(vec![unit_at(VIDEO, 0, 0, true, IDR), other(), other()]), vec![]));
}

#[test]
fn what_has_no_slice_waits_for_the_next_picture() {
    let sets = avc_sets(AVCC_720P30);
    let tags = [
        (0, avc_header(AVCC_720P30)),
        (0, avc(true, &[&sets, SEI])),
        (0, avc(true, &[IDR])),
        (20, avc(false, &[SEI])),
        (40, avc(false, &[OTHER])),
        (50, avc(false, &[&[0, 0, 0, 0]])),
    ];
    let expect = vec![
        config(CodecConfig::Avc, 0, AVCC_720P30),
        unit_at(VIDEO, 0, 0, true, &[SEI, IDR].concat()),
        unit_at(VIDEO, 40, 0, false, &[SEI, OTHER].concat()),
    ];
    assert_eq!(read(TagKind::Video, &tags), (Ok(expect), vec![FlvNotice::EmptyUnits]));
    // Without end it is bounded.
    let sei = [&[0, 0, 0x7f, 0xff, 6][..], &[5; 0x7ffe]].concat();
    let mut tags = vec![(0, avc(false, &[&sei])); 9];
    tags.push((40, avc(true, &[IDR])));
    let Ok(out) = read(TagKind::Video, &tags).0 else { panic!("refused") };
    let [Input::Unit(unit)] = &out[..] else { panic!("{} come", out.len()) };
    assert!(unit.data.len() <= (64 << 10) + IDR.len() && unit.data.ends_with(IDR));
}

#[test]
fn whole_pictures_are_held_only_at_the_beginning() {
    let (mut tags, mut out) = (Tags::new(TRACKS_MAX), Vec::new());
    let mut came = |at: u32, body: Option<&[u8]>| {
        match body {
            Some(body) => tags.video(&Bytes::copy_from_slice(body), at, &mut out),
            None => tags.audio(&Bytes::from_static(&[0xaf, 1, 1]), at, &mut out),
        }
        .expect("a good tag");
        let dts = |input: Input| if let Input::Unit(unit) = input { Some((unit.track.0, unit.dts)) } else { None };
        out.drain(..).filter_map(dts).collect::<Vec<_>>()
    };
    let picture = avc(false, &[OTHER]);
    assert_eq!(came(u32::MAX, Some(&picture)), []);
    assert_eq!(came(39, Some(&picture)), [(0, u64::from(u32::MAX))]);
    // Sound that is little later says nothing about the picture, but much later it does.
    assert_eq!(came(438, None), [(1, 438)]);
    assert_eq!(came(539, None), [(0, 39), (1, 539)]);
    assert_eq!(came(1_998, Some(&picture)), []);
    assert_eq!(came(1_999, Some(&picture)), [(0, 1_998), (0, 1_999)]);
    assert_eq!(came(2_040, Some(&picture)), [(0, 2_040)]);
    // A slice that goes on with a picture that is out: from here on pictures are held again.
    assert_eq!(came(2_040, Some(&avc(false, &[MORE]))), []);
    assert_eq!(came(2_080, Some(&picture)), []);
    assert_eq!(came(2_120, Some(&picture)), [(0, 2_080)]);
}

/// The parameter sets of a record, behind their lengths.
fn avc_sets(record: &'static [u8]) -> Vec<u8> {
    let avcc = Avc::parse(&Bytes::from_static(record)).expect("x264's own").avcc;
    let sets = avcc.sequence_parameter_sets.into_iter().chain(avcc.picture_parameter_sets);
    sets.flat_map(|set| [&u32::try_from(set.len()).expect("short").to_be_bytes()[..], &set].concat()).collect()
}

#[test]
fn other_sets_in_band_come_as_headers_before_their_picture() {
    let sets = avc_sets(OTHER_AVCC);
    let tags = [
        (0, avc_header(AVCC_720P30)),
        (0, avc(true, &[IDR])),
        (40, avc(true, &[&sets, IDR])),
        // The header again, as some encoders repeat it.
        (80, avc_header(AVCC_720P30)),
        (80, avc(true, &[&sets, IDR])),
        // In a message of their own.
        (120, avc(true, &[&avc_sets(AVCC_720P30)])),
        (120, avc(true, &[IDR])),
    ];
    let (out, _) = read(TagKind::Video, &tags);
    let out = out.expect("good tags");
    let [_, _, Input::Config { config: CodecConfig::Avc(record), .. }, second, third, back, fourth] = &out[..] else {
        panic!("{out:?}");
    };
    assert_eq!(Avc::parse(record).map(|avc| avc.picture.width), Ok(640));
    let units = [40, 80, 120].map(|at| unit_at(VIDEO, at, 0, true, IDR));
    assert_eq!([second, third, fourth], units.each_ref());
    assert_eq!(back, &config(CodecConfig::Avc, 0, AVCC_720P30));
}

#[test]
fn start_codes_become_lengths() {
    let tags = [
        (0, avc_header(AVCC_720P30)),
        (0, avc(true, &[&[0, 0, 0, 1, 0x06, 5, 0, 0, 1], &IDR[4..]])),
        (40, avc(false, &[&[0, 0, 1], &OTHER[4..]])),
    ];
    let expect = vec![
        config(CodecConfig::Avc, 0, AVCC_720P30),
        unit_at(VIDEO, 0, 0, true, &[SEI, IDR].concat()),
        unit_at(VIDEO, 40, 0, false, OTHER),
    ];
    assert_eq!(read(TagKind::Video, &tags), (Ok(expect), vec![FlvNotice::StartCodes]));
}

#[test]
fn another_codec_begins_anew() {
    let hevc = |packet: u8, data: &[u8]| [&[0x1c, packet, 0, 0, 0][..], data].concat();
    let tags = [(0, avc(true, &[IDR])), (40, hevc(0, &bytes(MAIN))), (40, hevc(1, HEVC_IDR))];
    let expect = vec![
        unit_at(VIDEO, 0, 0, true, IDR),
        config(CodecConfig::Hevc, 0, &bytes(MAIN)),
        unit_at(VIDEO, 40, 0, true, HEVC_IDR),
    ];
    assert_eq!(read(TagKind::Video, &tags), (Ok(expect), vec![]));
}

#[test]
fn metadata_says_what_will_come() {
    let check = |metadata: &[(&str, Value)], video, audio| {
        let object = Value::Object(metadata.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect());
        assert_eq!(announced(&object), Announced { video, audio }, "{metadata:?}");
    };
    let seven = || Value::Number(7.0);
    check(&[("videocodecid", seven()), ("audiocodecid", seven())], Some(true), Some(true));
    check(&[("videocodecid", "avc1".into())], Some(true), Some(false));
    check(&[("audiocodecid", seven()), ("stereo", Value::Boolean(true))], Some(false), Some(true));
    check(&[("width", seven()), ("hasAudio", Value::Boolean(true))], Some(true), Some(true));
    check(&[("videocodecid", Value::Number(0.0))], None, None);
    check(&[("encoder", "x".into())], None, None);
}

proptest! {
    #[test]
    fn rubbish_never_panics(bodies in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..48), 0..6u8), 1..9)) {
        let (mut tags, mut out) = (Tags::new(TRACKS_MAX), Vec::new());
        for (mut body, kind) in bodies {
            // Mostly such as are enhanced, and have several tracks.
            if let [first, ..] = &mut body[..] {
                *first = [*first, 0x91, 0x95, *first, 0x91, 0x96][usize::from(kind)];
            }
            let body = Bytes::from(body);
            let _ = if kind < 3 { tags.audio(&body, 7, &mut out) } else { tags.video(&body, 7, &mut out) };
        }
    }
}
