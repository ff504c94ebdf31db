use damson_core::model::time::Time;
use damson_core::model::{Epoch, Hop, NodeName, PartId, Trace, TrackId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::net::http_client::{Trust, parse_url};

fn account(msn: u32, part: u16) -> Arc<LatencyBreakdown> {
    let hop = |node: u64, name: &str, transit_us| Hop {
        dwell: Duration::from_micros(100),
        queue: Duration::from_micros(10),
        transit_us,
        uncertainty: Some(Duration::from_micros(50)),
        ..Hop::by(NodeId(node), NodeName::of(name))
    };
    Arc::new(LatencyBreakdown {
        id: PartId { epoch: Epoch { counter: 1, node: NodeId(1) }, track: TrackId(1), msn, part },
        length: 10,
        duration: 10,
        ingested: UnixTime::default(),
        trace: Trace { packaging_us: Some(33_000), hops: vec![hop(1, "in", 20_000), hop(2, "mid", -5)] },
        tail: Duration::from_micros(70),
        listing: Duration::from_micros(5),
        listed: clock::now().max(Time::from_micros(1)),
    })
}

/// What a collector is sent: the path and the JSON of one request, answered with `status`.
async fn received(listener: &TcpListener, status: u16) -> (String, Value) {
    let (mut stream, _) = listener.accept().await.expect("a request");
    let mut bytes = Vec::new();
    let (head, length) = loop {
        read(&mut stream, &mut bytes).await;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
        let field = |line: &str| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned);
        let length: usize = head.lines().find_map(field).expect("a length").parse().expect("a number");
        break (head.to_owned(), length);
    };
    while bytes.len() < head.len() + 4 + length {
        read(&mut stream, &mut bytes).await;
    }
    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}");
    stream.write_all(answer.as_bytes()).await.expect("sent");
    let path = head.split(' ').nth(1).expect("a path").to_owned();
    (path, serde_json::from_slice(&bytes[head.len() + 4..]).expect("JSON"))
}

async fn read(stream: &mut TcpStream, into: &mut Vec<u8>) {
    assert!(stream.read_buf(into).await.expect("read") > 0, "the whole request comes");
}

fn exporter(addr: std::net::SocketAddr, metrics: &Arc<Metrics>) -> (Exporter, Sender) {
    let client = HttpClient::new(Trust::System).expect("ciphers");
    let url = parse_url(&addr.to_string()).expect("a URL");
    start(client, url, (NodeId(3), "edge".to_owned()), Arc::clone(metrics))
}

#[tokio::test]
async fn a_collector_gets_whole_traces() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let metrics = Arc::new(Metrics::default());
    let (exporter, sender) = exporter(listener.local_addr().expect("bound"), &metrics);
    let stream = StreamName::parse("cam1").expect("a name");
    exporter.listed(&stream, &account(7, 0), &metrics);
    exporter.listed(&stream, &account(7, 1), &metrics);
    exporter.listed(&stream, &account(8, 0), &metrics);
    let stop = CancellationToken::new();
    let running = tokio::spawn(sender.run(stop.clone()));
    stop.cancel();
    let (path, request) = received(&listener, 200).await;
    running.await.expect("it ends");
    assert_eq!(path, "/v1/traces");
    assert_eq!((metrics.otlp.exported.get(), metrics.otlp.failed.get()), (2, 0));

    let mut traces: BTreeMap<String, Vec<(String, Value)>> = BTreeMap::new();
    for resource in request["resourceSpans"].as_array().expect("a list") {
        let attributes = resource["resource"]["attributes"].as_array().expect("a list");
        let name = attributes.iter().find(|a| a["key"] == "service.instance.id").expect("a name");
        let name = name["value"]["stringValue"].as_str().expect("text").to_owned();
        for span in resource["scopeSpans"][0]["spans"].as_array().expect("a list") {
            let id = span["traceId"].as_str().expect("an id").to_owned();
            traces.entry(id).or_default().push((name.clone(), span.clone()));
        }
    }
    assert_eq!(traces.len(), 2, "the first parts of two segments");
    for (id, spans) in traces {
        assert_eq!(id.len(), 32);
        check_whole(&spans);
    }
}

/// One root; each span's parent is there, and its stages lie end to end.
fn check_whole(spans: &[(String, Value)]) {
    let stage = |name: &str, node: &str| {
        let found = spans.iter().find(|(at, span)| span["name"] == name && at == node);
        found.map(|(_, span)| span).unwrap_or_else(|| panic!("{name} at {node}: {spans:?}"))
    };
    assert_eq!(spans.len(), 10);
    let root = stage("part", "in");
    assert!(root.get("parentSpanId").is_none());
    for (_, span) in spans.iter().filter(|(_, span)| span["name"] != "part") {
        assert!(spans.iter().any(|(_, parent)| parent["spanId"] == span["parentSpanId"]), "{span}");
    }
    assert_eq!(stage("packaging", "in")["parentSpanId"], root["spanId"]);
    assert_eq!(stage("dwell", "mid")["parentSpanId"], stage("transit", "in")["spanId"], "from node to node");
    assert_eq!(stage("tail", "edge")["parentSpanId"], stage("transit", "mid")["spanId"]);
    let at = |span: &Value, key: &str| span[key].as_str().expect("text").parse::<i64>().expect("a number");
    let (start, end) = ("startTimeUnixNano", "endTimeUnixNano");
    assert_eq!(at(root, start), at(stage("packaging", "in"), start));
    assert_eq!(at(stage("packaging", "in"), end), at(stage("dwell", "in"), start));
    assert_eq!(at(stage("transit", "in"), end) - at(stage("transit", "in"), start), 20_000_000);
    assert_eq!(at(stage("transit", "in"), end), at(stage("dwell", "mid"), start));
    assert_eq!(at(root, end), at(stage("listing", "edge"), end), "and make the part's age");
}

#[tokio::test]
async fn a_slow_collector_loses_traces_and_nobody_waits() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let metrics = Arc::new(Metrics::default());
    let (exporter, sender) = exporter(listener.local_addr().expect("bound"), &metrics);
    let stream = StreamName::parse("cam1").expect("a name");
    for msn in 0..QUEUE as u32 + 5 {
        exporter.listed(&stream, &account(msn, 0), &metrics);
    }
    assert_eq!(metrics.otlp.dropped.get(), 5);
    let stop = CancellationToken::new();
    stop.cancel();
    let running = tokio::spawn(sender.run(stop));
    for status in [503, 200, 200, 200] {
        received(&listener, status).await;
    }
    running.await.expect("it ends");
    assert_eq!(metrics.otlp.failed.get(), BATCH as u64, "one batch was refused");
    assert_eq!(metrics.otlp.exported.get(), (QUEUE - BATCH) as u64);
}
