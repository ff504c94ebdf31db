//! The latency of each part as an edge shows it: JSON, WebSocket, metrics and headers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use damson::clock;
use damson::edge::Config;
use damson::edge::limits::FEEDS_MAX;
use damson::net::Tls;
use damson_core::model::{Hop, NodeId, NodeName, Record, Trace};
use damson_core::testing::synthetic;
use damson_core::testing::synthetic::{FIRST_MSN, PARTS, VIDEO};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{self, Message, protocol::frame::coding::CloseCode};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::edge_server::{LEN, Server};

const NOW: u32 = FIRST_MSN + 2;
const LIVE: &str = "/api/v1/streams/cam1/trace/live";

/// Publishes a part that came over two hops, with a negative transit on the first one.
fn relayed(server: &Server, record: &Record, part: u16) {
    let hop = |node: u64, name: &str, transit_us| Hop {
        dwell: Duration::from_micros(100),
        queue: Duration::from_micros(20),
        transit_us,
        uncertainty: Some(Duration::from_micros(60)),
        ..Hop::by(NodeId(node), NodeName::of(name))
    };
    let (header, body, _) = synthetic::part(record, VIDEO, NOW, part, LEN);
    let trace = Trace { packaging_us: Some(33_000), hops: vec![hop(1, "in", -12), hop(2, "mid", 20_000)] };
    server.edge.store().part(&record.stream, header, body, trace, clock::now());
}

async fn trace(server: &Server, query: &str) -> Value {
    let answer = server.get(&format!("/api/v1/streams/cam1/trace{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).expect("JSON")
}

#[tokio::test]
async fn the_stages_of_a_part_add_up() {
    let (server, record) = Server::live(0).await;
    relayed(&server, &record, 0);
    let part = trace(&server, &format!("?track=video&msn={NOW}&part=0")).await;
    let stages = part["stages"].as_array().expect("a list");
    let names: Vec<_> =
        stages.iter().map(|stage| (stage["stage"].as_str().expect("text"), stage["name"].as_str())).collect();
    let at = |name, node| (name, Some(node));
    assert_eq!(names[..4], [at("packaging", "in"), at("dwell", "in"), at("queue", "in"), at("transit", "in")]);
    assert_eq!(
        names[4..],
        [at("dwell", "mid"), at("queue", "mid"), at("transit", "mid"), at("tail", "edge7"), at("listing", "edge7"),]
    );
    let sum: i64 = stages.iter().map(|stage| stage["us"].as_i64().expect("a number")).sum();
    assert_eq!(part["age_us"], sum);
    assert_eq!(part["total_us"], sum - 33_000);
    assert_eq!((&part["hops"][0]["transit_us"], &part["uncertainty_us"]), (&Value::from(-12), &Value::from(120)));
    assert_eq!(part["stages"][3]["to"]["name"], "mid");
    assert!(part.get("windows").is_none(), "one part is asked for");

    let all = trace(&server, "?track=video").await;
    assert_eq!((&all["msn"], &all["part"]), (&part["msn"], &part["part"]), "the newest");
    let parts = all["parts"].as_array().expect("a list");
    assert_eq!(parts.len(), 20);
    let id = |part: &Value| [part["msn"].clone(), part["part"].clone(), part["age_us"].clone()];
    assert_eq!(id(&parts[19]), id(&part), "the newest last");
    let ten = &all["windows"][1];
    assert_eq!((&ten["seconds"], &ten["parts"]), (&Value::from(10), &Value::from(2 * u32::from(PARTS) + 1)));
    let transit =
        ten["stages"].as_array().expect("a list").iter().find(|s| s["stage"] == "transit").expect("a transit");
    assert_eq!((&transit["count"], &transit["p50_us"], &transit["max_us"]), (&1.into(), &(-12).into(), &(-12).into()));
}

#[tokio::test]
async fn a_request_is_timed_from_its_question_to_its_last_byte() {
    let (server, record) = Server::live(0).await;
    let mut client = server.held(&format!("/cam1/video/{NOW}.0.m4s")).await;
    server.part(&record, VIDEO, NOW, 0);
    assert_eq!(client.answer().await.status, 200);
    // The next answer on the same connection comes after the first one was sent.
    assert_eq!(client.ask("GET", &format!("/cam1/video/{NOW}.0.m4s"), &[]).await.status, 200);
    assert_eq!(client.ask("GET", "/healthz", &[]).await.status, 200);
    let all = trace(&server, "").await;
    let requests = all["windows"][2]["requests"].as_array().expect("a list");
    let counts: Vec<_> = requests.iter().map(|r| (r["stage"].as_str().expect("text"), r["count"].as_u64())).collect();
    assert_eq!(counts, [("held", Some(1)), ("idle", Some(1)), ("answer", Some(2)), ("send", Some(2))]);
}

#[tokio::test]
async fn requests_are_timed_by_kind() {
    let (server, record) = Server::live(1).await;
    let mut client = server.held(&format!("/cam1/video/playlist.m3u8?_HLS_msn={NOW}&_HLS_part=1")).await;
    server.part(&record, VIDEO, NOW, 1);
    assert_eq!(client.answer().await.status, 200);
    let segment = format!("video/{FIRST_MSN}.m4s");
    for path in ["index.m3u8", "manifest.mpd", "video/init.0.mp4", &segment] {
        assert_eq!(client.ask("GET", &format!("/cam1/{path}"), &[]).await.status, 200, "{path}");
    }
    // A body that isn't sent takes no time.
    assert_eq!(client.ask("HEAD", &format!("/cam1/video/{FIRST_MSN}.m4s"), &[]).await.status, 200);
    let metrics = client.ask("GET", "/metrics", &[]).await;
    let metrics = metrics.text();
    let count = |stage: &str, kind: &str| {
        let name = format!("damson_request_{stage}_seconds_count{{kind=\"{kind}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)).map(|count| count.to_owned())
    };
    let counts = |kind: &str| ["held", "idle", "answer", "send"].map(|stage| count(stage, kind));
    let (one, none) = (Some("1".to_owned()), None);
    assert_eq!(counts("playlist"), [one.clone(), none.clone(), one.clone(), one.clone()]);
    assert_eq!(counts("segment"), [none.clone(), one.clone(), one.clone(), one.clone()]);
    for kind in ["multivariant", "mpd", "init"] {
        assert_eq!(counts(kind), [none.clone(), none.clone(), one.clone(), one.clone()], "{kind}");
    }
    assert_eq!(counts("part"), [const { None }; 4], "nobody has asked for one");
}

#[tokio::test]
async fn an_edge_without_accounts_tells_nothing_of_the_way() {
    let tls = Tls::self_signed(["localhost".to_owned()]).expect("a name");
    let config = Config { traced: false, ..Config::new(NodeId(7), "edge7") };
    let server = Server::as_set(config, tls).await;
    server.feed(1, LEN);
    for path in [format!("{NOW}.0.m4s"), format!("{FIRST_MSN}.m4s")] {
        let answer = server.get(&format!("/cam1/video/{path}")).await;
        assert_eq!(answer.status, 200);
        for name in ["server-timing", "cmsd-static", "cmsd-dynamic"] {
            assert_eq!(answer.header(name), "", "{path}");
        }
    }
    let metrics = server.get("/metrics").await;
    assert!(!metrics.text().contains("damson_request_answer_seconds_count{"), "{}", metrics.text());
}

#[tokio::test]
async fn metrics_come_in_the_format_that_is_asked_for() {
    let (server, _) = Server::live(0).await;
    let classic = server.get("/metrics").await;
    assert_eq!(classic.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert!(
        classic.text().contains("\n# TYPE damson_parts_total counter\ndamson_parts_total 40\n"),
        "{}",
        classic.text()
    );
    // In the format that Prometheus asks for.
    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
    let open = server.connect().await.ask("GET", "/metrics", &[("Accept", accept)]).await;
    assert_eq!(open.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(open.text().contains("\n# TYPE damson_parts counter\ndamson_parts_total 40\n"), "{}", open.text());
    assert!(open.text().ends_with("# EOF\n"));
}

async fn watch(server: &Server, query: &str) -> Result<WebSocketStream<TcpStream>, tungstenite::Error> {
    let stream = TcpStream::connect(("127.0.0.1", server.port)).await.expect("the edge listens");
    let url = format!("ws://127.0.0.1:{}{LIVE}{query}", server.port);
    client_async(url, stream).await.map(|(socket, _)| socket)
}

/// Returns the next message of a type.
async fn next(socket: &mut WebSocketStream<TcpStream>, kind: &str) -> Value {
    loop {
        let message = socket.next().await.expect("open").expect("well formed");
        let Message::Text(text) = message else { panic!("{message:?}") };
        let value: Value = serde_json::from_str(&text).expect("JSON");
        if value["type"] == kind {
            return value;
        }
    }
}

/// Returns the code with which the edge closes.
async fn closed(socket: &mut WebSocketStream<TcpStream>) -> CloseCode {
    loop {
        match socket.next().await {
            Some(Ok(Message::Close(Some(frame)))) => return frame.code,
            Some(Ok(Message::Text(_))) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn parts_are_told_as_they_are_listed() {
    let (server, record) = Server::live(0).await;
    let mut video = watch(&server, "?track=video").await.expect("a WebSocket");
    let mut all = watch(&server, "").await.expect("a WebSocket");
    assert_eq!(next(&mut video, "overview").await["windows"][0]["seconds"], 1);
    next(&mut all, "overview").await;
    server.part(&record, synthetic::AUDIO, NOW, 0);
    relayed(&server, &record, 0);
    assert_eq!(next(&mut all, "part").await["track"], "audio");
    let part = next(&mut video, "part").await;
    assert_eq!((&part["track"], &part["hops"][0]["transit_us"]), (&Value::from("video"), &Value::from(-12)));
    assert_eq!(part, next(&mut all, "part").await, "rendered once");
    video.close(None).await.expect("it closes");
    let answer = closed_by_us(&mut video).await;
    assert!(matches!(answer, Some(Ok(Message::Close(_)))), "the close is answered: {answer:?}");
}

async fn closed_by_us(socket: &mut WebSocketStream<TcpStream>) -> Option<Result<Message, tungstenite::Error>> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(_))) => {}
            other => return other,
        }
    }
}

#[tokio::test]
async fn who_is_too_slow_is_dropped() {
    let (server, record) = Server::live(0).await;
    let mut socket = watch(&server, "").await.expect("a WebSocket");
    next(&mut socket, "overview").await;
    // All at once, before the edge's task runs: more than it keeps for a client.
    for msn in NOW..NOW + 10 {
        for part in 0..PARTS {
            server.part(&record, VIDEO, msn, part);
        }
    }
    assert_eq!(closed(&mut socket).await, CloseCode::Again);
    server.is_alone().await;
}

#[tokio::test]
async fn a_node_that_goes_down_says_so() {
    let (server, _) = Server::live(1).await;
    let mut socket = watch(&server, "").await.expect("a WebSocket");
    next(&mut socket, "overview").await;
    server.shutdown.cancel();
    assert_eq!(closed(&mut socket).await, CloseCode::Away);
    server.task.await.expect("no panic");
}

#[tokio::test]
async fn what_a_live_trace_may_not_be() {
    let (server, _) = Server::live(1).await;
    let plain = server.get(LIVE).await;
    assert_eq!((plain.status, plain.header("upgrade")), (426, "websocket"));
    let status = |refused: Result<_, tungstenite::Error>| match refused {
        Err(tungstenite::Error::Http(response)) => response.status().as_u16(),
        Err(other) => panic!("{other}"),
        Ok(_) => 101,
    };
    assert_eq!(status(watch(&server, "?track=none").await), 404);
    let old = [("Upgrade", "websocket"), ("Sec-WebSocket-Key", "x"), ("Sec-WebSocket-Version", "8")];
    let refused = server.connect().await.ask("GET", LIVE, &old).await;
    assert_eq!((refused.status, refused.header("sec-websocket-version")), (426, "13"));

    let mut open = Vec::new();
    for _ in 0..FEEDS_MAX {
        open.push(watch(&server, "").await.expect("there is room"));
    }
    assert_eq!(status(watch(&server, "").await), 503);
    // The edge ignores short messages of a client, and closes at one that is far too long.
    let mut one = open.pop().expect("many are open");
    one.send(Message::text("x".repeat(100))).await.expect("sent");
    next(&mut one, "overview").await;
    one.send(Message::text("x".repeat(100_000))).await.expect("sent");
    while one.next().await.is_some_and(|message| message.is_ok()) {}
    drop(open);
    server.is_alone().await;
}

/// CTA-5006: structured fields (RFC 8941), one list entry a hop, and our own keys, which have a hyphen. `etp` and `mb`
/// aren't sent, since Shaka acts on them.
#[tokio::test]
async fn headers_tell_the_way_of_a_part() {
    let (server, record) = Server::live(0).await;
    relayed(&server, &record, 0);
    let answer = server.get(&format!("/cam1/video/{NOW}.0.m4s")).await;
    let dynamic = answer.header("cmsd-dynamic");
    let mut hops = Vec::new();
    for entry in dynamic.split(", ") {
        let mut at = entry.split(';');
        hops.push(at.next().expect("a name"));
        for parameter in at {
            let (key, value) = parameter.split_once('=').expect("a key and a value");
            assert!(key.starts_with("damson-") && key.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{key}");
            // A decimal has at most three digits after its point.
            let (whole, behind) = value.split_once('.').expect("a decimal");
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            assert!(digits(whole.trim_start_matches('-')) && digits(behind) && behind.len() <= 3, "{value}");
        }
    }
    assert_eq!(hops, ["\"in\"", "\"mid\"", "\"edge7\""]);
    assert!(
        dynamic.starts_with(
            "\"in\";damson-packaging=33.000;damson-dwell=0.100;damson-queue=0.020;damson-transit=-0.012, "
        )
    );
    let timing = answer.header("server-timing");
    for metric in ["packaging;dur=33.000;desc=\"in\"", "transit0;dur=-0.012", "transit1;dur=20.000", "listing;dur="] {
        assert!(timing.contains(metric), "{metric}: {timing}");
    }
    let fixed = answer.header("cmsd-static");
    assert!(fixed.contains(",d=200,") && !fixed.contains("etp") && !dynamic.contains("mb="), "{fixed}");
}

/// OpenMetrics 1.0, as far as this exposition needs it. Every rule that is checked here is a MUST there.
#[tokio::test]
async fn metrics_are_what_prometheus_reads() {
    let (server, record) = Server::live(0).await;
    relayed(&server, &record, 0);
    server.get(&format!("/cam1/video/{NOW}.0.m4s")).await;
    let accept = [("Accept", "application/openmetrics-text; version=1.0.0")];
    let answer = server.connect().await.ask("GET", "/metrics", &accept).await;
    let families = Exposition::parse(answer.text());
    for (name, count) in [
        ("damson_packaging_seconds", 41),
        ("damson_hop_dwell_seconds", 2),
        ("damson_hop_queue_seconds", 2),
        ("damson_hop_transit_seconds", 2),
        ("damson_receive_tail_seconds", 41),
        ("damson_listing_seconds", 41),
        ("damson_part_age_seconds", 41),
        ("damson_request_idle_seconds", 1),
        ("damson_request_answer_seconds", 1),
        ("damson_request_send_seconds", 1),
    ] {
        assert_eq!(families.observations(name), count, "{name}");
    }
    assert!(answer.text().contains("damson_hop_transit_below_zero_total{hop=\"0\"} 1\n"));
}

/// The samples, by name and labels.
#[derive(Default)]
struct Exposition {
    types: BTreeMap<String, String>,
    samples: BTreeMap<(String, Vec<(String, String)>), f64>,
}

impl Exposition {
    fn parse(text: &str) -> Self {
        let mut out = Exposition::default();
        let body = text.strip_suffix("# EOF\n").expect("it ends with # EOF");
        let mut family = String::new();
        for line in body.lines() {
            assert!(!line.is_empty() && !line.ends_with(' '), "{line:?}");
            if let Some(about) = line.strip_prefix("# ") {
                let mut words = about.splitn(3, ' ');
                let (what, name, rest) = (words.next(), words.next().expect("a name"), words.next().expect("more"));
                is_name(name);
                if name != family {
                    assert!(!out.types.contains_key(name), "{name} is told of in two places");
                    family = name.to_owned();
                }
                match what {
                    Some("TYPE") => assert!(out.types.insert(family.clone(), rest.to_owned()).is_none()),
                    Some("UNIT") => assert!(name.ends_with(&format!("_{rest}")), "{line}"),
                    Some("HELP") => assert!(!rest.contains('\\'), "{line}"),
                    other => panic!("{other:?}"),
                }
                continue;
            }
            out.sample(&family, line);
        }
        out.check_histograms();
        out
    }

    fn sample(&mut self, family: &str, line: &str) {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').expect("a brace")),
            None => (series, ""),
        };
        is_name(name);
        let labels: Vec<_> = labels
            .split(',')
            .filter(|l| !l.is_empty())
            .map(|label| {
                let (key, value) = label.split_once('=').expect("a label");
                is_name(key);
                let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).expect("quotes");
                assert!(!value.contains(['"', '\\', '\n']), "{line}");
                (key.to_owned(), value.to_owned())
            })
            .collect();
        let keys: BTreeSet<_> = labels.iter().map(|l| &l.0).collect();
        assert_eq!(keys.len(), labels.len(), "{line}");
        let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{line} is not of {family}"));
        let fits: &[&str] = match self.types.get(family).map(String::as_str) {
            Some("counter") => &["_total"],
            Some("gauge") => &[""],
            Some("histogram") => &["_bucket", "_sum", "_count"],
            other => panic!("{family} is {other:?}"),
        };
        assert!(fits.contains(&suffix), "{line}");
        let value: f64 = value.parse().expect("a number");
        assert!(value >= 0.0, "{line}");
        assert!(self.samples.insert((name.to_owned(), labels), value).is_none(), "{line} is there twice");
    }

    /// Checks that buckets only grow, and that the last one, +Inf, counts everything.
    fn check_histograms(&self) {
        for ((name, labels), value) in &self.samples {
            let Some(family) = name.strip_suffix("_count") else { continue };
            let mut buckets: Vec<(f64, f64)> = Vec::new();
            for ((bucket, with), value) in &self.samples {
                let le = with.iter().find(|(key, _)| key == "le");
                let rest: Vec<_> = with.iter().filter(|(key, _)| key != "le").cloned().collect();
                if *bucket == format!("{family}_bucket") && rest == *labels {
                    buckets.push((le.expect("a bucket has one").1.parse().expect("a bound"), *value));
                }
            }
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{name}: {buckets:?}");
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, *value)), "{name}");
            assert!(self.samples.contains_key(&(format!("{family}_sum"), labels.clone())), "{name}");
        }
    }

    /// Returns the number of observations of a histogram.
    fn observations(&self, family: &str) -> u64 {
        assert_eq!(self.types.get(family).map(String::as_str), Some("histogram"), "{family}");
        let counts = self.samples.iter().filter(|((name, _), _)| *name == format!("{family}_count"));
        counts.map(|(_, count)| *count as u64).sum()
    }
}

fn is_name(text: &str) {
    let fits = |(i, c): (usize, char)| c.is_ascii_alphabetic() || c == '_' || (i > 0 && c.is_ascii_digit());
    assert!(!text.is_empty() && text.chars().enumerate().all(fits), "{text:?} is no name");
}
