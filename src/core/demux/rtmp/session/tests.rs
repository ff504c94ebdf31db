use proptest::prelude::*;

use super::*;
use crate::demux::amf0;

/// The bytes that an encoder sends.
#[derive(Clone)]
struct Encoder(BytesMut);

impl Encoder {
    fn new() -> Self {
        Encoder(BytesMut::from(&[&[3][..], &[7; handshake::LEN - 1]].concat()[..]))
    }

    fn message(mut self, csid: u8, kind: u8, stream: u32, timestamp: u32, payload: &[u8]) -> Self {
        let payload = Bytes::copy_from_slice(payload);
        chunk::put_message(&mut self.0, csid, &Message { kind, stream, timestamp, payload }, chunk::CHUNK_SIZE_INITIAL);
        self
    }

    fn call(self, stream: u32, name: &str, transaction: f64, args: &[Value]) -> Self {
        let payload = message::call(stream, name, transaction, args).payload;
        self.message(3, 20, stream, 0, &payload)
    }

    fn connect(self, app: &str) -> Self {
        self.call(0, "connect", 1.0, &[Value::object([("app", app.into()), ("flashVer", "FMLE/3.0".into())])])
    }

    /// Connects and publishes as OBS does.
    fn publish(self, key: &str) -> Self {
        self.call(0, "releaseStream", 2.0, &[Value::Null, key.into()])
            .call(0, "FCPublish", 3.0, &[Value::Null, key.into()])
            .call(0, "createStream", 4.0, &[Value::Null])
            .call(1, "publish", 5.0, &[Value::Null, key.into(), "live".into()])
    }

    fn metadata(self) -> Self {
        let metadata = Value::object([("videocodecid", 7.0.into()), ("audiocodecid", 10.0.into())]);
        let payload = amf0::encode_all(&["@setDataFrame".into(), "onMetaData".into(), metadata]);
        self.message(4, 18, 1, 0, &payload)
    }

    fn audio(self, timestamp: u32, body: &[u8]) -> Self {
        self.message(4, 8, 1, timestamp, body)
    }
}

/// Runs a session that accepts every publish. Returns its outputs in words.
fn run(bytes: &[u8], piece: usize) -> Vec<String> {
    let mut session = RtmpSession::new(Limits { message_len_max: 1 << 20, ..Limits::default() });
    let mut out = Vec::new();
    // Replies come in chunks, as a client would read them.
    let mut replies = Dechunker::new(1 << 20, 0);
    for piece in bytes.chunks(piece.max(1)) {
        let mut result = session.handle(piece);
        session.acknowledge();
        while let Some(output) = session.poll_output() {
            match output {
                Output::Send(bytes) if bytes.len() == handshake::LEN => out.push("S0 S1 S2".to_owned()),
                Output::Send(bytes) => {
                    let reply = replies.next(&mut &bytes[..]).expect("well-formed").expect("whole");
                    out.push(match MessageBody::parse(reply.clone()) {
                        Ok(MessageBody::Command(command)) => {
                            let code = command.args.iter().find_map(|arg| arg.property("code")).and_then(Value::as_str);
                            format!("{} {} {}", command.name, command.transaction, code.unwrap_or("-"))
                        }
                        Ok(body) => {
                            if let MessageBody::SetChunkSize(size) = body {
                                replies.set_chunk_size(size).expect("allowed");
                            }
                            format!("type {} {:02x?}", reply.kind, &reply.payload[..])
                        }
                        Err(error) => panic!("our own reply: {error}"),
                    });
                }
                Output::PublishRequested(name) => {
                    let rendition = name.rendition.map(|name| format!(" as {name}")).unwrap_or_default();
                    out.push(format!("publish {}{rendition} {:?}", name.stream, name.query));
                    assert!(result.is_ok(), "what came meanwhile is not read yet");
                    result = session.accept_publish();
                }
                Output::Metadata(announced) => out.push(format!("{:?} {:?}", announced.video, announced.audio)),
                Output::Input(Input::Config { track, .. }) => out.push(format!("config of {}", track.0)),
                Output::Input(Input::Message(message)) => {
                    out.push(format!("text of {} bytes at {:?}", message.data.len(), message.pts))
                }
                Output::Input(Input::Unit(unit)) => out.push(format!("unit of {} at {}", unit.track.0, unit.dts)),
                Output::Input(other) => panic!("{other:?} from a session"),
                Output::Notice(notice) => out.push(notice.to_string()),
                Output::Unpublished => out.push("unpublished".to_owned()),
            }
        }
        if let Err(error) = result {
            out.push(error.to_string());
            break;
        }
    }
    out
}

fn check(encoder: Encoder, expect: &[&str]) {
    for piece in [1, 13, usize::MAX] {
        assert_eq!(run(&encoder.0, piece), expect, "in pieces of {piece}");
    }
}

const CONNECTED: [&str; 5] = [
    "S0 S1 S2",
    "type 5 [00, 26, 25, a0]",
    "type 6 [00, 26, 25, a0, 02]",
    "type 1 [00, 00, 10, 00]",
    "_result 1 NetConnection.Connect.Success",
];

fn check_connected(encoder: Encoder, expect: &[&str]) {
    check(encoder, &[&CONNECTED[..], expect].concat());
}

const PUBLISHED: [&str; 3] = ["_result 2 -", "_result 3 -", "_result 4 -"];
const ACCEPTED: [&str; 2] = ["type 4 [00, 00, 00, 00, 00, 01]", "onStatus 0 NetStream.Publish.Start"];

fn check_published(query: &str, encoder: Encoder, expect: &[&str]) {
    let asked = format!("publish cam1 {query}");
    check_connected(encoder, &[&PUBLISHED[..], &[&asked], &ACCEPTED[..], expect].concat());
}

#[test]
fn an_encoder_publishes_and_ends() {
    let encoder = Encoder::new().connect("live").publish("cam1?key=a?b").metadata();
    let encoder = encoder.audio(5, &[0xaf, 0, 18, 16]).audio(0xffff_ffff, &[0xaf, 1, 1]).metadata();
    let encoder = encoder.call(1, "FCUnpublish", 6.0, &[Value::Null, "cam1".into()]);
    let encoder = encoder.audio(9, &[0xaf, 1, 1]).call(1, "deleteStream", 0.0, &[Value::Null, 1.0.into()]);
    let expect = ["Some(true) Some(true)", "config of 1", "unit of 1 at 4294967295", "_result 6 -", "unpublished"];
    check_published(r#"Some("key=a?b")"#, encoder, &expect);
}

#[test]
fn media_without_metadata_announces_nothing() {
    let encoder = Encoder::new().connect("/live/?token=7").publish("cam1").audio(5, &[]).audio(5, &[0xaf, 1, 1]);
    check_published(r#"Some("token=7")"#, encoder, &["None None", "unit of 1 at 5"]);
}

#[test]
fn text_is_timed_metadata() {
    let text = |said: Value| amf0::encode_all(&["onTextData".into(), said]);
    let said = Value::object([("text", "plums".into()), ("n", 7.0.into()), ("nothing", Value::Null)]);
    let encoder = Encoder::new().connect("live").publish("cam1").message(4, 18, 1, 3, &text("too early".into()));
    let encoder = encoder.metadata().message(4, 18, 1, 40, &text(said)).message(4, 18, 1, 41, &text("plums".into()));
    let encoder = encoder.message(4, 18, 1, 42, &text(Value::Null));
    // A tag's head, and of each text a frame's, the encoding, and a zero behind its name.
    let (two, one) = (10 + (10 + 1 + 5 + 5) + (10 + 1 + 2 + 1), 10 + (10 + 1 + 5 + 5));
    let expect = [format!("text of {two} bytes at Some(40)"), format!("text of {one} bytes at Some(41)")];
    check_published("None", encoder, &["Some(true) Some(true)", &expect[0], &expect[1]]);
}

#[test]
fn aggregates_are_media_too() {
    let tags = b"\x08\0\0\x03\0\0\x05\0\0\0\0\xaf\x01A\0\0\0\x0e\x09\0\0\x0b\0\0\x0f\0\0\0\0\x17\x01\0\0\0\0\0\0\x02\x65\x88\0\0\0\x0d";
    let encoder = Encoder::new().connect("live").publish("cam1").message(4, 22, 1, 100, tags);
    let encoder = encoder.call(1, "deleteStream", 0.0, &[Value::Null, 1.0.into()]);
    check_published("None", encoder, &["None None", "unit of 1 at 100", "unit of 0 at 110", "unpublished"]);
}

#[test]
fn who_speaks_enhanced_rtmp_is_told_what_is_taken() {
    let connect = |object: Value| {
        let mut session = RtmpSession::new(Limits::default());
        session.handle(&Encoder::new().call(0, "connect", 1.0, &[object]).0).expect("well-formed");
        let sent = std::iter::from_fn(|| session.poll_output()).filter_map(|output| match output {
            Output::Send(bytes) if bytes.len() != handshake::LEN => Some(bytes),
            _ => None,
        });
        let (mut replies, mut last) = (Dechunker::new(1 << 20, 0), None);
        for bytes in sent {
            let reply = replies.next(&mut &bytes[..]).expect("well-formed").expect("whole");
            match MessageBody::parse(reply) {
                Ok(MessageBody::SetChunkSize(size)) => replies.set_chunk_size(size).expect("allowed"),
                Ok(MessageBody::Command(command)) => last = command.args.into_iter().nth(1),
                _ => {}
            }
        }
        last.expect("an answer")
    };
    let says = connect(Value::object([("app", "live".into()), ("fourCcList", Value::Array(vec!["hvc1".into()]))]));
    assert_eq!(says.property("capsEx"), Some(&Value::Number(6.0)));
    assert_eq!(says.property("videoFourCcInfoMap").and_then(|map| map.property("av01")), Some(&Value::Number(4.0)));
    assert_eq!(says.property("audioFourCcInfoMap").and_then(|map| map.property("Opus")), Some(&Value::Number(4.0)));
    assert!(matches!(says.property("fourCcList"), Some(Value::Array(list)) if list.contains(&"ec-3".into())));
    assert_eq!(connect(Value::object([("app", "live".into())])).property("capsEx"), None);
}

#[test]
fn pings_are_answered_and_bytes_acknowledged() {
    let encoder = Encoder::new().connect("live").message(2, 4, 0, 0, &[0, 6, 1, 2, 3, 4]);
    check_connected(encoder, &["type 4 [00, 07, 01, 02, 03, 04]"]);

    let encoder = Encoder::new().connect("live").message(2, 5, 0, 0, &[0, 0, 15, 255]);
    let got = run(&encoder.0, usize::MAX);
    assert!(got.iter().all(|line| !line.starts_with("type 3")), "the window of 4,095 bytes isn't reached: {got:?}");
    let encoder = encoder.publish("cam1").audio(1, &[0xaf, 1].repeat(400));
    let got = run(&encoder.0, 1);
    let acknowledged = got.iter().filter(|line| line.starts_with("type 3")).collect::<Vec<_>>();
    assert_eq!(acknowledged, ["type 3 [00, 00, 0f, ff]"]);
}

#[test]
fn what_is_refused_is_told_why() {
    let reply = "_error 1 NetConnection.Connect.Rejected";
    let error = r#"refused: byte 3073: application "vod": push to rtmp://HOST/live/STREAM or rtmp://HOST/live/STREAM/RENDITION"#;
    check(Encoder::new().connect("vod"), &["S0 S1 S2", reply, error]);

    let encoder = Encoder::new().connect("live").call(1, "publish", 5.0, &[Value::Null, "a b".into()]);
    let error = "refused: byte 3141: \"a b\": a stream name is made of A-Z, a-z, 0-9, '_' and '-'; this one has ' ' at byte 1 \
                 (push to rtmp://HOST/live/STREAM or rtmp://HOST/live/STREAM/RENDITION)";
    check_connected(encoder, &["onStatus 0 NetStream.Publish.BadName", error]);

    let encoder = Encoder::new().connect("live").call(1, "play", 5.0, &[Value::Null, "cam1".into()]);
    let error = "refused: byte 3141: this is an ingest: play the stream over HLS or DASH at an edge's HTTP address";
    check_connected(encoder, &["onStatus 0 NetStream.Play.Failed", error]);

    let encoder = Encoder::new().connect("live").publish("cam1").message(4, 9, 1, 0, b"\x90vp09");
    let error = "media: byte 3310: VP9 video isn't supported over RTMP; set the encoder to H.264, H.265 or AV1";
    check_published("None", encoder, &["onStatus 0 NetStream.Publish.Rejected", error]);
}

#[test]
fn a_rendition_is_the_second_segment_wherever_the_encoder_cuts_the_url() {
    // ffmpeg takes all but the last segment of the path for the application; OBS has a field for each.
    for (app, key) in [("live/cam1", "720p?key=7"), ("live", "cam1/720p?key=7"), ("live/cam1/?key=7", "720p")] {
        let got = run(&Encoder::new().connect(app).publish(key).0, usize::MAX);
        assert!(got.contains(&r#"publish cam1 as 720p Some("key=7")"#.to_owned()), "{app} {key}: {got:?}");
    }
    let check = |app: &str, key: &str, says: &str| {
        let got = run(&Encoder::new().connect(app).publish(key).0, usize::MAX);
        assert!(got.last().is_some_and(|last| last.contains(says)), "{app} {key}: {got:?}");
    };
    check("live/cam1", "a/b", "the path has one segment too many: \"b\"");
    check("live/cam1/a", "b", "the path has one segment too many: \"b\"");
    check("live/cam1", "a b", "\"cam1/a b\": rendition: a stream name is made of");
    check("live/cam1", "video", "what the tracks of a push without a rendition are called");
    check("live/cam1", "audio_?", "is no language");
    check("live/cam1", "7.2", "rendition: a stream name is made of");
}

#[test]
fn a_stream_is_named_wherever_encoders_put_its_name() {
    let check = |app: &str, key: &str, expect: &str| {
        let got = run(&Encoder::new().connect(app).publish(key).0, usize::MAX);
        assert!(got.contains(&format!("publish {expect}")), "{app:?} {key:?}: {got:?}");
    };
    // The whole path as the application, with an empty key; slashes at both ends; the instance of an application.
    check("live/cam1", "", "cam1 None");
    check("live/cam1/720p", "", "cam1 as 720p None");
    check("live", "/cam1", "cam1 None");
    check("live", "cam1/", "cam1 None");
    check("live/", "cam1", "cam1 None");
    check("live/_definst_", "cam1", "cam1 None");
    check("live/_definst_/cam1", "", "cam1 None");
    // A query, in the key or the application.
    check("live/cam1?key=K", "", r#"cam1 Some("key=K")"#);
    check("live?key=K", "cam1", r#"cam1 Some("key=K")"#);
    check("live", "cam1?key=a/b", r#"cam1 Some("key=a/b")"#);
    check("live?key=a/b", "cam1", r#"cam1 Some("key=a/b")"#);
    check("live/cam1", "?key=a/b", r#"cam1 Some("key=a/b")"#);
    check("live/cam1", "720p?key=a/b", r#"cam1 as 720p Some("key=a/b")"#);
    // ffmpeg and librtmp cut `live/cam2?key=a/b/c` at its second slash.
    check("live/cam2?key=a", "b/c", r#"cam2 Some("key=a/b/c")"#);
    check("live/cam2?key=a", "b?c", r#"cam2 Some("key=a/b?c")"#);
}

#[test]
fn the_query_of_the_url_counts_where_nothing_else_has_one() {
    let check = |app: &str, key: &str, expect: &str| {
        let url = "rtmp://localhost/live?key=url";
        let object = Value::object([("app", app.into()), ("tcUrl", url.into())]);
        let encoder = Encoder::new().call(0, "connect", 1.0, &[object]).publish(key);
        assert!(run(&encoder.0, usize::MAX).contains(&format!("publish cam1 Some({expect:?})")), "{app:?} {key:?}");
    };
    check("live", "cam1", "key=url");
    check("live?key=app", "cam1", "key=app");
    check("live", "cam1?key=own", "key=own");
}

#[test]
fn a_picture_that_is_held_comes_before_the_end() {
    let picture = [&[0x17, 1, 0, 0, 0, 0, 0, 0, 2][..], &[0x65, 0x88]].concat();
    let end = |command: &str| {
        let encoder = Encoder::new().connect("live").publish("cam1").message(4, 9, 1, 7, &picture);
        encoder.call(1, command, 6.0, &[Value::Null])
    };
    let expect = ["None None", "unit of 0 at 7", "_result 6 -", "unpublished"];
    for command in ["FCUnpublish", "deleteStream", "closeStream"] {
        let got = run(&end(command).0, usize::MAX);
        assert!(expect.iter().all(|line| got.iter().any(|got| got == line)), "{command}: {got:?}");
    }
}

#[test]
fn an_unusable_header_is_told_and_ends_the_push() {
    let hvcc = crate::codec::hevc::tests::bytes(crate::codec::hevc::tests::MAIN);
    let encoder = Encoder::new().connect("live").publish("cam1");
    let encoder = encoder.message(4, 9, 1, 0, &[&[0x17, 0, 0, 0, 0][..], &hvcc].concat());
    let got = run(&encoder.0, usize::MAX);
    let [.., reply, error] = &got[..] else { panic!("{got:?}") };
    assert_eq!(reply, "onStatus 0 NetStream.Publish.Rejected");
    assert!(error.contains("the video sequence header can't be used: avcC: ") && error.contains("it looks like H.265"));
}

#[test]
fn what_comes_out_of_turn_is_an_error() {
    let check_error = |encoder: Encoder, error: &str| {
        assert_eq!(run(&encoder.0, 50).last().map(String::as_str), Some(error));
    };
    check_error(Encoder::new().publish("cam1"), "session: byte 3073: a command came before connect");
    check_error(Encoder::new().audio(0, &[0xaf, 1, 1]), "session: byte 3073: media came before connect");
    check_error(Encoder::new().connect("live").connect("live"), "session: byte 3141: connect came twice");
    let twice = Encoder::new().connect("live").publish("cam1").call(1, "publish", 6.0, &[Value::Null, "cam2".into()]);
    check_error(twice, "session: byte 3310: publish came during a publish");
    check_error(
        Encoder::new().connect("live").message(2, 1, 0, 0, &[0, 0]),
        "message: byte 3141: the message of type 1 is truncated after 2 bytes",
    );
}

#[test]
fn garbage_in_place_of_a_handshake() {
    let error = "handshake: byte 0: the protocol version is 71 instead of 3: this isn't RTMP but perhaps HTTP; this is the RTMP port";
    assert_eq!(run(b"GET / HTTP/1.1\r\n", 3), [error]);
    let error = "handshake: byte 0: the protocol version is 255 instead of 3: this isn't RTMP";
    assert_eq!(run(&[255; 9], 3), [error]);
}

#[test]
fn what_comes_before_the_answer_is_bounded() {
    let mut session = RtmpSession::new(Limits::default());
    session.handle(&Encoder::new().connect("live").publish("cam1").0).expect("well-formed");
    session.handle(&[0; INBOX_LEN_MAX]).expect("kept");
    let error = session.handle(&[0]).expect_err("too much");
    assert_eq!(error.to_string(), "session: byte 3264: more than 1 MiB came before the publish was answered");
}

proptest! {
    #[test]
    fn rubbish_never_panics_and_cuts_change_nothing(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        piece in 1_usize..300,
    ) {
        let encoder = Encoder::new().connect("live").publish("cam1").metadata();
        let mut bytes = encoder.audio(5, &[0xaf, 0, 18, 16]).audio(0x100_0000, &[0xaf; 300]).0;
        for (index, byte) in changes {
            // The handshake's filler may be anything.
            let at = 3_073 + index.index(bytes.len() - 3_073);
            bytes[at] = byte;
        }
        // Acknowledgements depend on the reads, by their nature.
        let words = |piece| run(&bytes, piece).into_iter().filter(|line| !line.starts_with("type 3 ")).collect::<Vec<_>>();
        prop_assert_eq!(words(piece), words(usize::MAX));
    }
}

/// Real encoders' bytes, from the first up to their headers, are in `fixtures/rtmp`.
#[test]
fn recorded_encoders_are_understood() {
    // The encoders differ in the requests before the publish, and in the tags after it.
    macro_rules! recorded {
        ($name:literal) => {
            ($name, &include_bytes!(concat!("../../../../../fixtures/rtmp/", $name, ".rtmp"))[..])
        };
    }
    type Recorded = ((&'static str, &'static [u8]), &'static str, usize, &'static [&'static str]);
    let all: [Recorded; 6] = [
        (recorded!("obs-29.0.2"), "cam1", 3, &["config of 1", "config of 0"]),
        (recorded!("ffmpeg-5.1"), "g8", 3, &["config of 0", "config of 1"]),
        // A transport stream that is copied: its first AudioSpecificConfig is empty.
        (recorded!("ffmpeg-5.1-remux"), "g9", 3, &["config of 0", "config of 1", "unit of 1 at 0"]),
        (recorded!("ffmpeg-9.0-hevc"), "cam1", 3, &["config of 0", "config of 1", "config of 2"]),
        (recorded!("gstreamer-1.22-rtmp2sink"), "g1", 1, &["config of 0", "config of 1", "unit of 1 at 0"]),
        (recorded!("librtmp-2.4"), "g2", 3, &["config of 0", "config of 1", "unit of 1 at 0", "unit of 1 at 21"]),
    ];
    for ((name, bytes), stream, asked, media) in all {
        let publish = [format!("publish {stream} None")];
        let before = CONNECTED.iter().chain(&PUBLISHED[..asked]).copied();
        let behind = ACCEPTED.iter().chain(&["Some(true) Some(true)"]).chain(media).copied();
        let expect: Vec<&str> = before.chain(publish.iter().map(String::as_str)).chain(behind).collect();
        for piece in [1, 13, usize::MAX] {
            let got = run(bytes, piece);
            assert_eq!(got[..expect.len().min(got.len())], expect, "{name} in pieces of {piece}");
        }
    }
}
