//! RTMP over real sockets: ffmpeg's push, takeovers, and what isn't a push.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use damson::ingest::rtmp::server;
use damson::ingest::rtmp::server::Limits;
use damson::ingest::{BoxFuture, KeysThenHook, NewPackaging, Packaging, PartSink, PublishRegistry, Settings, Takeover};
use damson_core::demux::amf0;
use damson_core::demux::amf0::Value;
use damson_core::demux::rtmp::chunk::{Message, put_message};
use damson_core::model::time::Time;
use damson_core::model::{
    AccessUnit, Announced, Clocks, CodecConfig, InputTrack, NodeId, PartHeader, PushId, Record, Resume, StreamName,
};
use damson_core::packager::{Input, Output};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::tidy::root;

/// Stands for the packager, and passes on what it is given.
struct Recorder(mpsc::UnboundedSender<Input>);

impl Packaging for Recorder {
    fn handle(&mut self, _: Clocks, input: Input) {
        let _ = self.0.send(input);
    }

    fn poll_output(&mut self) -> Option<Output> {
        None
    }

    fn poll_timeout(&self) -> Option<Time> {
        Some(Time::MAX) // it lingers
    }
}

struct Nowhere;

impl PartSink for Nowhere {
    fn record(&self, _: Record) {}
    fn part(&self, _: &StreamName, _: PartHeader, _: Bytes) {}
    fn resume(&self, _: &StreamName) -> BoxFuture<'_, Option<Resume>> {
        Box::pin(async { None })
    }
    fn ended(&self, _: &StreamName) {}
}

struct Ingest {
    at: SocketAddr,
    inputs: mpsc::UnboundedReceiver<Input>,
    registry: PublishRegistry,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
}

impl Ingest {
    async fn start(limits: Limits) -> Ingest {
        let (sender, inputs) = mpsc::unbounded_channel();
        let packaging: NewPackaging = Arc::new(move |_, _| Box::new(Recorder(sender.clone())));
        let settings = Settings {
            node: NodeId(1),
            takeover: Takeover::SameAddress,
            bit_rate_max: Settings::BIT_RATE_MAX,
            pushes_max: 64,
        };
        let registry = PublishRegistry::with_packaging(settings, KeysThenHook::default(), Arc::new(Nowhere), packaging);
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(server::serve(listener, registry.clone(), limits, shutdown.clone()));
        Ingest { at: (Ipv4Addr::LOCALHOST, port).into(), inputs, registry, shutdown, server }
    }

    async fn next(&mut self) -> Input {
        self.inputs.recv().await.expect("the recorder lives")
    }

    /// Everything up to and with the end of a tenure.
    async fn tenure(&mut self) -> Vec<Input> {
        let mut out = Vec::new();
        while out.last() != Some(&Input::Detached(PushId(0))) {
            out.push(self.next().await);
        }
        out
    }

    async fn stop(self) {
        self.registry.drain().await;
        self.shutdown.cancel();
        self.server.await.expect("the server ends");
    }
}

/// An encoder made by hand, which pushes audio.
struct Encoder(TcpStream);

impl Encoder {
    async fn connect(ingest: &Ingest, from: [u8; 4]) -> Encoder {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((IpAddr::from(from), 0).into()).expect("loopback has 127.0.0.0/8");
        let mut encoder = Encoder(socket.connect(ingest.at).await.expect("the server accepts"));
        encoder.send(&[&[3][..], &[0; 2 * 1_536]].concat()).await;
        encoder
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("the server reads");
    }

    async fn message(&mut self, kind: u8, stream: u32, payload: &[u8]) {
        let mut out = BytesMut::new();
        let payload = Bytes::copy_from_slice(payload);
        put_message(&mut out, 3, &Message { kind, stream, timestamp: 0, payload }, 128);
        self.send(&out).await;
    }

    async fn publish(&mut self, app: &str, key: &str) {
        let connect = ["connect".into(), 1.0.into(), Value::object([("app", app.into())])];
        self.message(20, 0, &amf0::encode_all(&connect)).await;
        let publish = ["publish".into(), 2.0.into(), Value::Null, key.into(), "live".into()];
        self.message(20, 1, &amf0::encode_all(&publish)).await;
    }

    async fn audio(&mut self) {
        self.message(8, 1, &[0xaf, 1, 0x21]).await;
    }

    /// Reads until the server has said `text`, which is ASCII; chunk headers that cut it aren't.
    async fn hears(&mut self, text: &str) {
        let mut heard = Vec::new();
        while !heard.windows(text.len()).any(|window| window == text.as_bytes()) {
            let read = self.0.read_buf(&mut heard).await.expect("no reset before the reason");
            heard.retain(u8::is_ascii);
            assert!(read > 0, "closed before it said {text:?}: {}", heard.escape_ascii());
        }
    }

    async fn is_closed(&mut self) {
        while self.0.read(&mut [0; 4_096]).await.expect("no reset") > 0 {}
    }
}

fn run(program: &str, arguments: &[&str]) -> std::process::Output {
    let output = Command::new(program).args(arguments).output().expect("it is installed");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The packets of an FLV file as ffprobe, and not our own parser, reads them: kind, dts, cts, size, keyframe.
fn packets(file: &str) -> Vec<(InputTrack, u64, i32, usize, bool)> {
    let entries = "packet=codec_type,pts,dts,size,flags";
    let probed = run("ffprobe", &["-v", "error", "-show_entries", entries, "-of", "csv=p=0", file]);
    let text = String::from_utf8(probed.stdout).expect("text");
    let number = |text: &str| text.parse::<i64>().expect("a number");
    text.lines()
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            let (pts, dts) = (number(fields[1]), number(fields[2]));
            let track = InputTrack(u8::from(fields[0] == "audio"));
            let size = usize::try_from(number(fields[3])).expect("a size");
            let offset = i32::try_from(pts - dts).expect("a small offset");
            (track, u64::try_from(dts).expect("FLV starts at 0"), offset, size, fields[4].starts_with('K'))
        })
        .collect()
}

#[tokio::test]
async fn every_access_unit_of_an_ffmpeg_push_arrives() {
    let film = root().join("fixtures/media/plum-720p30.mp4");
    let film = film.to_str().expect("a path");
    let folder = tempfile::tempdir().expect("a folder");
    let flv = folder.path().join("film.flv");
    let flv = flv.to_str().expect("a path");
    run("ffmpeg", &["-v", "error", "-i", film, "-c", "copy", "-f", "flv", flv]);
    let mut expect = packets(flv);
    assert!(expect.iter().any(|(_, _, offset, ..)| *offset > 33), "the film has B-frames");

    let mut ingest = Ingest::start(Limits::default()).await;
    let url = format!("rtmp://{}/live/cam1?key=7", ingest.at);
    let film = film.to_owned();
    let push = tokio::task::spawn_blocking(move || {
        run("ffmpeg", &["-v", "error", "-i", &film, "-c", "copy", "-f", "flv", &url]);
    });
    let inputs = ingest.tenure().await;
    push.await.expect("ffmpeg ends well");

    let announced = Announced { video: Some(true), audio: Some(true) };
    assert!(matches!(&inputs[0], Input::Attached { announced: said, .. } if *said == announced), "{:?}", inputs[0]);
    let configs =
        |input: &&Input| matches!(input, Input::Config { config: CodecConfig::Avc(_) | CodecConfig::Aac(_), .. });
    assert_eq!(inputs.iter().filter(configs).count(), 2);
    let units: Vec<&AccessUnit> = inputs
        .iter()
        .filter_map(|input| match input {
            Input::Unit(unit) => Some(unit),
            _ => None,
        })
        .collect();
    let mut got: Vec<_> = units
        .iter()
        .map(|unit| (unit.track, unit.dts, unit.composition_offset, unit.data.len(), unit.keyframe))
        .collect();
    // Pictures wait for the next message at first, since it may have more of them: each track has its order.
    got.sort_by_key(|unit| unit.0);
    expect.sort_by_key(|unit| unit.0);
    assert_eq!(got.len(), expect.len());
    assert_eq!(got, expect);
    ingest.stop().await;
}

#[tokio::test]
async fn the_same_address_takes_over_and_another_is_refused() {
    let mut ingest = Ingest::start(Limits::default()).await;
    let mut first = Encoder::connect(&ingest, [127, 0, 0, 1]).await;
    first.publish("live", "cam1").await;
    first.hears("NetStream.Publish.Start").await;
    first.audio().await;
    assert!(matches!(ingest.next().await, Input::Attached { .. }));
    assert!(matches!(ingest.next().await, Input::Unit(_)));

    let mut other = Encoder::connect(&ingest, [127, 0, 0, 2]).await;
    other.publish("live", "cam1").await;
    other.hears("stream cam1 is busy").await;
    other.is_closed().await;

    let mut second = Encoder::connect(&ingest, [127, 0, 0, 1]).await;
    second.publish("live", "cam1").await;
    second.hears("NetStream.Publish.Start").await;
    assert_eq!(ingest.next().await, Input::Detached(PushId(0)));
    first.hears("another connection has taken the stream over").await;
    first.is_closed().await;
    second.audio().await;
    assert!(matches!(ingest.next().await, Input::Attached { .. }));
    assert!(matches!(ingest.next().await, Input::Unit(_)));

    // Now that nobody holds it, the other address may have it.
    drop(second);
    assert_eq!(ingest.next().await, Input::Detached(PushId(0)));
    let mut other = Encoder::connect(&ingest, [127, 0, 0, 2]).await;
    other.publish("live", "cam1").await;
    other.hears("NetStream.Publish.Start").await;
    ingest.stop().await;
    other.hears("this ingest node is shutting down").await;
}

#[tokio::test]
async fn what_is_no_push_is_told_so_and_disturbs_nobody() {
    let mut ingest = Ingest::start(Limits::default()).await;
    let mut encoder = Encoder::connect(&ingest, [127, 0, 0, 1]).await;
    encoder.publish("live", "cam1").await;
    encoder.audio().await;
    assert!(matches!(ingest.next().await, Input::Attached { .. }));
    assert!(matches!(ingest.next().await, Input::Unit(_)));

    let mut wrong = Encoder::connect(&ingest, [127, 0, 0, 1]).await;
    wrong.publish("vod", "cam1").await;
    wrong.hears("push to rtmp://HOST/live/STREAM").await;
    wrong.is_closed().await;
    let mut wrong = Encoder::connect(&ingest, [127, 0, 0, 1]).await;
    wrong.publish("live", "../cam1").await;
    wrong.hears("a stream name is made of").await;
    wrong.is_closed().await;
    let mut garbage = Encoder(TcpStream::connect(ingest.at).await.expect("the server accepts"));
    garbage.send(&[0xa5; 5_000]).await;
    garbage.is_closed().await;
    let mut garbage = Encoder::connect(&ingest, [127, 0, 0, 1]).await;
    garbage.send(&[0xff; 5_000]).await;
    garbage.is_closed().await;

    encoder.audio().await;
    assert!(matches!(ingest.next().await, Input::Unit(_)));
    ingest.stop().await;
}

#[tokio::test]
async fn a_silent_encoder_is_taken_for_dead() {
    let limits = Limits { idle: Duration::from_millis(50), ..Limits::default() };
    let mut ingest = Ingest::start(limits).await;
    let mut encoder = Encoder::connect(&ingest, [127, 0, 0, 1]).await;
    encoder.publish("live", "cam1").await;
    encoder.audio().await;
    assert!(matches!(ingest.next().await, Input::Attached { .. }));
    assert!(matches!(ingest.next().await, Input::Unit(_)));
    assert_eq!(ingest.next().await, Input::Detached(PushId(0)));
    encoder.hears("the encoder sent nothing for 50ms").await;
    ingest.stop().await;
}

#[tokio::test]
async fn connections_are_bounded_in_number_and_in_time() {
    let limits = Limits { connections_max: 1, setup: Duration::from_millis(50), ..Limits::default() };
    let ingest = Ingest::start(limits).await;
    let mut first = Encoder(TcpStream::connect(ingest.at).await.expect("the server accepts"));
    let mut second = Encoder(TcpStream::connect(ingest.at).await.expect("the kernel accepts"));
    // Closed at once, or once the first one's time is up.
    second.is_closed().await;
    first.is_closed().await;
    ingest.stop().await;
}
