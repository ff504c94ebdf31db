use std::sync::Arc;

use bytes::Bytes;
use damson_core::demux::flv;
use damson_core::model::time::{Time, UnixTime};
use damson_core::model::{
    AccessUnit, Announced, Clocks, Epoch, LifeId, NodeId, PartHeader, Period, PushId, Record, Rendition, Resume,
    StreamName,
};
use damson_core::packager as media;
use damson_core::packager::{Input, Output, Refusal};
use tokio::sync::mpsc;

use super::super::authorizer::{Authorizer, KeysThenHook};
use super::super::publication::{NewPackaging, Packaging};
use super::super::publish_request::{BoxFuture, Denied, Eviction, PartSink, PublishRequest, Refused};
use super::super::publish_session::PublishSession;
use super::super::settings::{Settings, Takeover};
use super::PublishRegistry;

/// The events in words, in their order.
type Log = mpsc::UnboundedSender<String>;

/// A unit at which the recorder refuses its push.
const REFUSED: u64 = 666;

/// A unit before which the presentation ends, as after a long silence.
const LINGERED: u64 = 777;

/// Stands for the packager: logs its inputs, and ends its presentation at [`Input::End`].
struct Recorder {
    stream: StreamName,
    log: Log,
    outputs: Vec<Output>,
}

impl Packaging for Recorder {
    fn handle(&mut self, _: Clocks, input: Input) {
        let word = match input {
            Input::Timeout => "timeout".to_owned(),
            Input::Attached { push, rendition, epoch, .. } => match rendition {
                None => format!("attached {}", epoch.counter),
                Some(name) => format!("attached {} as {name} at {}", epoch.counter, push.0),
            },
            Input::Language { track, language } => format!("language {} {language}", track.0),
            Input::Config { track, .. } => format!("config {}", track.0),
            Input::Unit(unit) if unit.dts == REFUSED => {
                let (push, why) = (unit.track.push(), Refusal::Misaligned { micros: 80_000 });
                self.outputs.push(Output::Refused { push, why });
                format!("unit of {}", push.0)
            }
            Input::Unit(unit) => {
                let ended = (unit.dts == LINGERED).then(|| Output::Record(record(&self.stream, 1, Some(7))));
                self.outputs.extend(ended);
                format!("unit {}", unit.dts)
            }
            Input::Message(message) => format!("message {}", message.track.0),
            Input::Detached(PushId(0)) => "detached".to_owned(),
            Input::Detached(push) => format!("detached {}", push.0),
            Input::End => {
                self.outputs.push(Output::Record(record(&self.stream, 1, Some(7))));
                "end".to_owned()
            }
        };
        let _ = self.log.send(word);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop()
    }

    fn poll_timeout(&self) -> Option<Time> {
        Some(Time::MAX) // it lingers
    }
}

/// Far above the Unix time, so that epochs are counted from it.
const KNOWN: u32 = 4_000_000_000;

fn record(stream: &StreamName, counter: u32, ended: Option<u32>) -> Record {
    Record {
        stream: stream.clone(),
        life: LifeId(1),
        epoch: Epoch { counter, node: NodeId(9) },
        revision: 1,
        first_msn: 1,
        target_duration: 2,
        part_target: std::time::Duration::from_millis(200),
        latency: std::time::Duration::from_millis(200) * 3,
        segment_duration: std::time::Duration::from_secs(2),
        messages: damson_core::model::Schemes::default(),
        availability_start: UnixTime::from_micros(0),
        tracks: vec![],
        periods: vec![Period::new(1, 0, std::time::Duration::ZERO)],
        ended,
    }
}

/// Holds a presentation of every stream with this epoch, or none.
struct Swarm(Log, Option<u32>);

impl PartSink for Swarm {
    fn record(&self, record: Record) {
        let _ = self.0.send(format!("record, ended {:?}", record.ended));
    }

    fn part(&self, _: &StreamName, _: PartHeader, _: Bytes) {}

    fn resume(&self, stream: &StreamName) -> BoxFuture<'_, Option<Resume>> {
        let record = self.1.map(|counter| record(stream, counter, None));
        Box::pin(async { record.map(|record| Resume { record, newest_msn: 1, discontinuity: 0, ends: vec![] }) })
    }

    fn ended(&self, stream: &StreamName) {
        let _ = self.0.send(format!("{stream} is over"));
    }
}

struct NotFor(&'static str);

impl Authorizer for NotFor {
    fn authorize(&self, request: PublishRequest) -> BoxFuture<'_, Result<(), Denied>> {
        let denied = request.query.as_deref() == Some(self.0);
        Box::pin(async move { if denied { Err(Denied("that key is old".to_owned())) } else { Ok(()) } })
    }
}

struct Scene {
    registry: PublishRegistry,
    words: mpsc::UnboundedReceiver<String>,
}

impl Scene {
    fn new(takeover: Takeover) -> Self {
        Scene::of_pushes(takeover, Settings::PUSHES_MAX)
    }

    /// Makes a scene with room for `pushes_max` pushes.
    fn of_pushes(takeover: Takeover, pushes_max: usize) -> Self {
        let (log, words) = mpsc::unbounded_channel();
        let swarm = Arc::new(Swarm(log.clone(), Some(KNOWN)));
        let packaging: NewPackaging = Arc::new(move |stream, resume| {
            let _ = log.send(format!("packager from {:?}", resume.map(|resume| resume.record.epoch.counter)));
            Box::new(Recorder { stream: stream.clone(), log: log.clone(), outputs: vec![] })
        });
        let settings = Settings { node: NodeId(1), takeover, bit_rate_max: 1_000_000, pushes_max };
        Scene { registry: PublishRegistry::with_packaging(settings, NotFor("old"), swarm, packaging), words }
    }

    async fn publish(&self, remote: &str, query: &str) -> Result<PublishSession, Refused> {
        self.publish_as(None, remote, query).await
    }

    async fn publish_as(&self, rendition: Option<&str>, remote: &str, query: &str) -> Result<PublishSession, Refused> {
        let stream = StreamName::parse("cam1").expect("a name");
        let request = PublishRequest {
            rendition: rendition.map(|name| Rendition::parse(name).expect("a name")),
            query: Some(query.to_owned()),
            ..PublishRequest::new(stream, Some(remote.parse().expect("an address")), "test")
        };
        self.registry.publish(request).await
    }

    async fn publisher(&self, remote: &str) -> PublishSession {
        self.publisher_as(None, remote).await
    }

    async fn publisher_as(&self, rendition: Option<&str>, remote: &str) -> PublishSession {
        let mut session = self.publish_as(rendition, remote, "").await.expect("free, or to be taken over");
        session.attach(flv::CLOCK, Announced::default()).await.expect("just begun");
        session
    }

    /// Waits for the next words, and compares them.
    async fn hears(&mut self, expect: &[&str]) {
        for expect in expect {
            assert_eq!(self.words.recv().await.as_deref(), Some(*expect));
        }
    }
}

fn unit(dts: u64) -> Input {
    of(dts, Bytes::from_static(b"x"))
}

fn of(dts: u64, data: Bytes) -> Input {
    Input::Unit(AccessUnit { track: flv::VIDEO, dts, composition_offset: 0, keyframe: true, data })
}

#[tokio::test]
async fn a_publisher_comes_goes_and_returns() {
    let mut scene = Scene::new(Takeover::SameAddress);
    let mut first = scene.publisher("10.0.0.1:1000").await;
    first.input(unit(1)).await.expect("attached");
    drop(first);
    scene.hears(&["packager from Some(4000000000)", "attached 4000000001", "unit 1", "detached"]).await;
    // The packager lingers, and the next publisher goes on with it.
    let mut second = scene.publisher("10.0.0.9:1000").await;
    second.input(unit(2)).await.expect("attached");
    scene.hears(&["attached 4000000002", "unit 2"]).await;
    scene.registry.drain().await;
    scene.hears(&["detached", "end", "record, ended Some(7)", "cam1 is over"]).await;
    assert!(scene.registry.streams().is_empty());
    assert_eq!(scene.publish("10.0.0.1:1000", "").await.err(), Some(Refused::Draining));
}

#[tokio::test]
async fn the_same_address_takes_over() {
    let mut scene = Scene::new(Takeover::SameAddress);
    let mut dead = scene.publisher("10.0.0.1:1000").await;
    dead.input(unit(1)).await.expect("attached");
    let mut alive = scene.publisher("[::ffff:10.0.0.1]:2000").await;
    assert_eq!(dead.evicted().await, Eviction::TakenOver);
    // The inputs of the old connection come before those of the new one.
    scene.hears(&["packager from Some(4000000000)", "attached 4000000001", "unit 1", "detached"]).await;
    scene.hears(&["attached 4000000002"]).await;
    assert_eq!(dead.input(unit(2)).await, Err(Eviction::TakenOver));
    drop(dead);
    alive.input(unit(3)).await.expect("the old one's end doesn't touch it");
    scene.hears(&["unit 3"]).await;
}

#[tokio::test]
async fn another_address_is_refused_unless_any_may_take_over() {
    let scene = Scene::new(Takeover::SameAddress);
    let mut holder = scene.publisher("10.0.0.1:1000").await;
    let refused = scene.publish("10.0.0.2:1000", "").await.err();
    assert_eq!(refused, Some(Refused::Busy(holder.stream().clone())));
    holder.input(unit(1)).await.expect("it goes on");
    drop(holder);
    scene.publish("10.0.0.2:1000", "").await.expect("free again");

    let scene = Scene::new(Takeover::Any);
    holder = scene.publisher("10.0.0.1:1000").await;
    scene.publish("10.0.0.2:1000", "").await.expect("any may");
    assert_eq!(holder.evicted().await, Eviction::TakenOver);
}

#[tokio::test]
async fn every_publish_is_authorised() {
    let scene = Scene::new(Takeover::Any);
    let refused = scene.publish("10.0.0.1:1000", "old").await.err().map(|refused| refused.to_string());
    assert_eq!(refused.as_deref(), Some("not allowed: that key is old"));
    assert!(scene.registry.streams().is_empty());
}

#[tokio::test]
async fn a_higher_epoch_elsewhere_ends_the_session_without_an_endlist() {
    let mut scene = Scene::new(Takeover::SameAddress);
    let mut session = scene.publisher("10.0.0.1:1000").await;
    scene.hears(&["packager from Some(4000000000)", "attached 4000000001"]).await;
    let stream = session.stream().clone();
    scene.registry.superseded(&stream, Epoch { counter: KNOWN, node: NodeId(9) });
    session.input(unit(1)).await.expect("a lower epoch is nothing");
    scene.hears(&["unit 1"]).await;
    scene.registry.superseded(&stream, Epoch { counter: KNOWN + 1, node: NodeId(9) });
    assert_eq!(session.evicted().await, Eviction::Superseded);
    scene.hears(&["cam1 is over"]).await;
}

#[tokio::test]
async fn a_publisher_that_was_silent_for_the_linger_goes_on_with_its_connection() {
    let mut scene = Scene::new(Takeover::SameAddress);
    let mut session = scene.publisher("10.0.0.1:1000").await;
    session.input(unit(LINGERED)).await.expect("attached");
    scene.hears(&["packager from Some(4000000000)", "attached 4000000001", "unit 777", "record, ended Some(7)"]).await;
    session.input(unit(2)).await.expect("its connection is open");
    scene.hears(&["unit 2"]).await;
    drop(session);
    scene.hears(&["detached"]).await;
}

#[tokio::test]
async fn a_session_that_never_attaches_leaves_nothing() {
    let mut scene = Scene::new(Takeover::SameAddress);
    drop(scene.publish("10.0.0.1:1000", "").await.expect("free"));
    scene.hears(&["cam1 is over"]).await;
    assert!(scene.registry.streams().is_empty());
}

#[tokio::test]
async fn a_publisher_without_media_leaves_nothing() {
    let (log, mut words) = mpsc::unbounded_channel();
    let settings = Settings {
        node: NodeId(1),
        takeover: Takeover::SameAddress,
        bit_rate_max: Settings::BIT_RATE_MAX,
        pushes_max: Settings::PUSHES_MAX,
    };
    let registry =
        PublishRegistry::new(settings, media::Settings::default(), KeysThenHook::default(), Arc::new(Swarm(log, None)));
    let scene = Scene { registry, words: mpsc::unbounded_channel().1 };
    drop(scene.publisher("10.0.0.1:1000").await);
    assert_eq!(words.recv().await.as_deref(), Some("cam1 is over"));
}

#[tokio::test]
async fn renditions_are_one_publication_with_a_session_each() {
    let mut scene = Scene::new(Takeover::SameAddress);
    let mut high = scene.publisher_as(Some("720p"), "10.0.0.1:1000").await;
    high.input(unit(1)).await.expect("attached");
    scene.hears(&["packager from Some(4000000000)", "attached 4000000001 as 720p at 0", "unit 1"]).await;
    // The second one is of the same epoch: this ingest numbers already.
    let mut low = scene.publisher_as(Some("360p"), "10.0.0.1:1001").await;
    low.input(unit(2)).await.expect("attached");
    scene.hears(&["attached 4000000001 as 360p at 1", "unit 2"]).await;
    // The same rendition again takes it over, and no other.
    let again = scene.publisher_as(Some("360p"), "10.0.0.1:1002").await;
    assert_eq!(low.evicted().await, Eviction::TakenOver);
    scene.hears(&["detached 1", "attached 4000000001 as 360p at 1"]).await;
    high.input(unit(3)).await.expect("it goes on");
    scene.hears(&["unit 3"]).await;
    // Another address neither takes over nor adds a rendition.
    let refused = scene.publish_as(Some("180p"), "10.0.0.2:1000", "").await.err();
    assert_eq!(refused, Some(Refused::Busy(high.stream().clone())));
    drop(again);
    scene.hears(&["detached 1"]).await;
    drop(high);
    scene.hears(&["detached"]).await;
    // All have left: the next push begins an epoch of its own.
    let _back = scene.publisher_as(Some("360p"), "10.0.0.2:1000").await;
    scene.hears(&["attached 4000000002 as 360p at 0"]).await;
}

#[tokio::test]
async fn a_rendition_that_does_not_fit_is_told_why_and_its_name_is_free() {
    let mut scene = Scene::new(Takeover::SameAddress);
    let mut high = scene.publisher_as(Some("720p"), "10.0.0.1:1000").await;
    let mut low = scene.publisher_as(Some("360p"), "10.0.0.1:1001").await;
    low.input(unit(REFUSED)).await.expect("attached");
    let Eviction::Refused(why) = low.evicted().await else { panic!("not refused") };
    assert!(why.to_string().contains("80.0 ms after"), "{why}");
    scene.publisher_as(Some("360p"), "10.0.0.1:1002").await;
    let mut words = Vec::new();
    while words.last().is_none_or(|word: &String| !word.starts_with("detached")) {
        words.push(scene.words.recv().await.expect("words"));
    }
    assert!(words.iter().filter(|word| word.contains("as 360p at 1")).count() == 2, "{words:?}");
    high.input(unit(3)).await.expect("it goes on");
    scene.hears(&["unit 3"]).await;
}

#[tokio::test]
async fn a_push_of_too_many_bits_is_told_the_limit_and_others_go_on() {
    let scene = Scene::new(Takeover::SameAddress);
    let mut high = scene.publisher_as(Some("720p"), "10.0.0.1:1000").await;
    let mut low = scene.publisher_as(Some("360p"), "10.0.0.1:1001").await;
    // Ten seconds of what it may send, at once, and one byte.
    high.input(of(1, Bytes::from(vec![0; 1_250_000]))).await.expect("a burst is allowed");
    low.input(of(1, Bytes::from(vec![0; 1_500_000]))).await.expect("attached");
    let eviction = low.evicted().await;
    assert_eq!(eviction, Eviction::BitRate(1_000_000));
    assert!(eviction.to_string().contains("exceeds 1 Mb/s"), "{eviction}");
    high.input(unit(2)).await.expect("it goes on");
    scene.publisher_as(Some("360p"), "10.0.0.1:1002").await;
}

#[tokio::test]
async fn where_all_pushes_are_taken_an_encoder_still_comes_again() {
    let scene = Scene::of_pushes(Takeover::SameAddress, 2);
    let high = scene.publisher_as(Some("720p"), "10.0.0.1:1000").await;
    let _low = scene.publisher_as(Some("360p"), "10.0.0.1:1001").await;
    assert_eq!(scene.publish_as(Some("180p"), "10.0.0.1:1002", "").await.err(), Some(Refused::Full));
    // Its old connection is dead, which the node doesn't know yet.
    let again = scene.publisher_as(Some("720p"), "10.0.0.1:1003").await;
    assert_eq!(scene.publish_as(Some("180p"), "10.0.0.1:1002", "").await.err(), Some(Refused::Full));
    drop((high, again));
    scene.publisher_as(Some("180p"), "10.0.0.1:1002").await;
}

#[tokio::test]
async fn renditions_are_bounded() {
    let scene = Scene::new(Takeover::SameAddress);
    let mut sessions = Vec::new();
    for n in 0..PushId::COUNT_MAX {
        sessions.push(scene.publisher_as(Some(&format!("r{n}")), "10.0.0.1:1000").await);
    }
    let refused = scene.publish_as(Some("more"), "10.0.0.1:1000", "").await.err();
    assert_eq!(refused, Some(Refused::Renditions(sessions[0].stream().clone())));
    drop(sessions.pop());
    scene.publish_as(Some("more"), "10.0.0.1:1000", "").await.expect("one is free");
}
