use proptest::prelude::*;

use super::*;

fn unit(track: InputTrack, composition_offset: i32, keyframe: bool, data: &'static [u8]) -> Input {
    let data = Bytes::from_static(data);
    Input::Unit(AccessUnit { track, dts: u64::from(u32::MAX), composition_offset, keyframe, data })
}

fn check(kind: TagKind, bodies: &[&'static [u8]], expect: Result<Vec<Input>, &str>) {
    let (mut tags, mut out, mut result) = (Tags::new(TRACKS_MAX), Vec::new(), Ok(()));
    for body in bodies {
        let body = Bytes::from_static(body);
        result = match kind {
            TagKind::Video => tags.video(&body, u32::MAX, &mut out),
            TagKind::Audio => tags.audio(&body, u32::MAX, &mut out),
        };
    }
    assert_eq!(result.map(|()| out).map_err(|e| e.to_string()), expect.map_err(str::to_owned), "{bodies:02x?}");
}

fn check_video(body: &'static [u8], expect: Result<Vec<Input>, &str>) {
    check(TagKind::Video, &[body], expect);
}

fn check_audio(body: &'static [u8], expect: Result<Vec<Input>, &str>) {
    check(TagKind::Audio, &[body], expect);
}

fn config(of: fn(Bytes) -> CodecConfig, track: u8, data: &'static [u8]) -> Input {
    Input::Config { track: InputTrack(track), config: of(Bytes::from_static(data)) }
}

#[test]
fn video_tags() {
    check_video(&[], Ok(vec![]));
    check_video(&[0x17, 0, 0, 0, 0, 1, 100], Ok(vec![config(CodecConfig::Avc, 0, &[1, 100])]));
    check_video(&[0x17, 1, 0, 0, 80, 7, 8], Ok(vec![unit(VIDEO, 80, true, &[7, 8])]));
    check_video(&[0x27, 1, 0xff, 0xff, 0xfe, 7], Ok(vec![unit(VIDEO, -2, false, &[7])]));
    check_video(&[0x27, 1, 0x80, 0, 0, 7], Ok(vec![unit(VIDEO, -(1 << 23), false, &[7])]));
    check_video(&[0x17, 2, 0, 0, 0], Ok(vec![]));
    check_video(&[0x57, 0], Ok(vec![]));
    check_video(&[0x17], Err("byte 1 of the video tag: the tag ends inside AVCPacketType"));
    check_video(&[0x17, 1, 0], Err("byte 3 of the video tag: the tag ends inside CompositionTime"));
    check_video(&[0x17, 0, 0, 0, 0], Err("byte 5 of the video tag: the tag ends inside the sequence header"));
    check_video(&[0x17, 3, 0, 0, 0], Err("byte 1 of the video tag: AVCPacketType 3 is unknown"));
    check_video(&[0x24, 0], Err("On2 VP6 video isn't supported over RTMP; set the encoder to H.264, H.265 or AV1"));
    // H.265 as it was pushed before there was Enhanced RTMP.
    check_video(&[0x1c, 0, 0, 0, 0, 1, 1], Ok(vec![config(CodecConfig::Hevc, 0, &[1, 1])]));
    check_video(&[0x1c, 1, 0, 0, 5, 9], Ok(vec![unit(VIDEO, 5, true, &[9])]));
}

#[test]
fn enhanced_video_tags() {
    check_video(b"\x90avc1\x01", Ok(vec![config(CodecConfig::Avc, 0, &[1])]));
    check_video(b"\x91avc1\x00\x00\x05x", Ok(vec![unit(VIDEO, 5, true, b"x")]));
    check_video(b"\xa3avc1x", Ok(vec![unit(VIDEO, 0, false, b"x")]));
    check_video(b"\x92avc1", Ok(vec![]));
    check_video(b"\x90hvc1\x01", Ok(vec![config(CodecConfig::Hevc, 0, &[1])]));
    check_video(b"\xa1hvc1\xff\xff\xffx", Ok(vec![unit(VIDEO, -1, false, b"x")]));
    check_video(b"\xa1hvc1\xff", Err("byte 6 of the video tag: the tag ends inside CompositionTime"));
    // AV1 isn't reordered, and has no composition time.
    check_video(b"\x90av01\x81", Ok(vec![config(CodecConfig::Av1, 0, b"\x81")]));
    check_video(b"\x90av01", Ok(vec![]));
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
fn several_tracks_in_a_tag() {
    // OneTrack, ManyTracks, ManyTracksManyCodecs.
    check_video(b"\x96\x01avc1\x07\x00\x00\x05x", Ok(vec![unit(InputTrack(2), 5, true, b"x")]));
    check_video(
        b"\x96\x11avc1\x00\x00\x00\x04\x00\x00\x05x\x01\x00\x00\x05\x00\x00\x00yz",
        Ok(vec![unit(VIDEO, 5, true, b"x"), unit(InputTrack(2), 0, true, b"yz")]),
    );
    check_video(
        b"\x96\x20avc1\x00\x00\x00\x01\x01hvc1\x03\x00\x00\x02\x01\x02av01\x09\x00\x00\x01\x81",
        Ok(vec![
            config(CodecConfig::Avc, 0, &[1]),
            config(CodecConfig::Hevc, 2, &[1, 2]),
            config(CodecConfig::Av1, 3, &[0x81]),
        ]),
    );
    // The same TrackId is the same track; one of sound is another.
    check(
        TagKind::Audio,
        &[b"\x95\x00mp4a\x01\x12", b"\x95\x01mp4a\x01x", b"\x95\x01mp4a\x02y", b"\x95\x01mp4a\x00z"],
        Ok(vec![
            config(CodecConfig::Aac, 2, &[0x12]),
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
    check_video(b"\x97\x02\x0f\x42\x3f\x01avc1\x00\x00\x05x", Ok(vec![unit(VIDEO, 5, true, b"x")]));
    let long = [&b"\x97\xff\x01\x2b"[..], &[7; 300], b"\xf6\x01avc1\x01\x00\x00\x05x"].concat();
    let mut out = Vec::new();
    Tags::new(TRACKS_MAX).video(&long.into(), u32::MAX, &mut out).expect("well-formed");
    assert_eq!(out, [unit(InputTrack(2), 5, true, b"x")]);
    check_video(b"\x97\x02\x0f", Err("byte 3 of the video tag: the tag ends inside modExData"));
}

#[test]
fn audio_tags() {
    check_audio(&[], Ok(vec![]));
    check_audio(&[0xaf, 0, 0x12, 0x10], Ok(vec![config(CodecConfig::Aac, 1, &[0x12, 0x10])]));
    check_audio(&[0xaf, 1, 1, 2], Ok(vec![unit(AUDIO, 0, true, &[1, 2])]));
    check_audio(&[0xaf, 1], Ok(vec![]));
    check_audio(&[0xaf], Err("byte 1 of the audio tag: the tag ends inside AACPacketType"));
    check_audio(&[0xaf, 0], Err("byte 2 of the audio tag: the tag ends inside the sequence header"));
    let advice = "audio isn't supported over RTMP; set the encoder to AAC, Opus, AC-3 or E-AC-3";
    check_audio(&[0x2f, 0], Err(&format!("MP3 {advice}")));
    check_audio(b"\x90.mp3", Err(&format!("MP3 {advice}")));
    check_audio(b"\x91fLaCx", Err(&format!("FLAC {advice}")));
    check_audio(b"\x91avc1x", Err(&format!("\"avc1\" {advice}")));
    check_audio(b"\x90mp4a\x12", Ok(vec![config(CodecConfig::Aac, 1, b"\x12")]));
    check_audio(b"\x91mp4ax", Ok(vec![unit(AUDIO, 0, true, b"x")]));
    check_audio(b"\x90OpusOpusHead", Ok(vec![config(CodecConfig::Opus, 1, b"OpusHead")]));
    check_audio(b"\x91Opusx", Ok(vec![unit(AUDIO, 0, true, b"x")]));
    check_audio(b"\x90Opus", Err("byte 5 of the audio tag: the tag ends inside the sequence header"));
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
