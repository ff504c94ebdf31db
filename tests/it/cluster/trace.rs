//! The account of each part, against the truth: on one machine all clocks are one.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use super::deadline::in_time;
use super::machine::unless_starved;
use super::push::{Pace, film, push};
use super::{Cluster, Node, PATIENCE, check_logs, damson, http, process::Process, process::until};

/// Track, segment and part.
type Id = (String, u64, u64);

/// Gathers what the edge tells of its parts, until `enough` says so.
pub(super) fn gather(
    edge: SocketAddr,
    what: &str,
    enough: impl Fn(&BTreeMap<Id, Value>) -> bool,
) -> BTreeMap<Id, Value> {
    let mut seen = BTreeMap::new();
    until(what, PATIENCE, || {
        // Twenty parts are listed: two seconds of two tracks.
        for part in http::json(edge, "/api/v1/streams/cam/trace")["parts"].as_array()? {
            let id = (part["track"].as_str()?.to_owned(), part["msn"].as_u64()?, part["part"].as_u64()?);
            seen.entry(id).or_insert_with(|| part.clone());
        }
        enough(&seen).then_some(())
    });
    seen
}

/// A part's age as the account has it, and by the two wallclocks, in microseconds.
pub(super) fn ages(part: &Value) -> (i64, i64) {
    let number = |key: &str| part[key].as_i64().unwrap_or_else(|| panic!("{key}: {part}"));
    let stages = part["stages"].as_array().expect("a list");
    let sum: i64 = stages.iter().map(|stage| stage["us"].as_i64().expect("a number")).sum();
    assert_eq!(sum, number("age_us"), "{part}");
    for stage in stages {
        let (took, uncertainty) = (stage["us"].as_i64().expect("a number"), stage["uncertainty_us"].as_i64());
        assert!(took >= -uncertainty.expect("all nodes say"), "below zero by more than it may be off: {stage}");
    }
    (sum, number("available_unix_us") - number("ingested_unix_us"))
}

#[test]
fn the_stages_make_the_age_of_the_part() {
    unless_starved(|| {
        let cluster = Cluster::new();
        let film = film(cluster.path(), 60);
        let (collector, spans) = collector();
        let mut nodes = cluster.line(&["a", "b", "c"], &[]);
        let join = nodes.last().expect("three nodes").mesh.to_string();
        let url = format!("http://{collector}");
        nodes.push(cluster.node("d", &["--topology", "static", "--join", &join, "--otlp", &url]));
        let d = &nodes[3];
        let ffmpeg = push(&film, nodes[0].rtmp, "cam", Pace::RealTime);
        d.plays("cam", 2);

        let parts = gather(d.http, "100 parts", |seen| seen.len() >= 120);
        let off: Vec<i64> = parts.values().map(ages).map(|(told, truth)| (told - truth).abs()).collect();
        let right = off.iter().filter(|off| **off <= 2_000).count();
        in_time(right * 100 >= off.len() * 99, || format!("{right} of {} within 2 ms: {off:?}", off.len()));
        let names = |part: &Value| part["hops"].as_array().map(|hops| hops.iter().map(|h| h["name"].clone()).collect());
        for part in parts.values() {
            assert_eq!(names(part), Some(["a", "b", "c"].map(Value::from).to_vec()), "{part}");
        }
        check_table(d);
        check_spans(&spans);
        drop(ffmpeg);
        check_logs(&nodes.iter().collect::<Vec<_>>());
    });
}

/// `damson trace` shows what the edge tells.
fn check_table(edge: &Node) {
    let said = |args: &[&str]| {
        let url = format!("http://{}/", edge.http);
        let mut process = Process::spawn("trace", damson(&["trace", &url, "--count", "1"]).args(args));
        let status = process.ended(PATIENCE);
        assert!(status.success(), "{}", process.log());
        process.log()
    };
    let table = said(&[]);
    for row in ["cam at d: ", "packaging  a ", "transit    b > c ", "tail       d ", "age        listed at d "] {
        assert!(table.contains(row), "{row:?}: {table}");
    }
    let json: Value = serde_json::from_str(&said(&["--json", "--track", "video"])).expect("one line of JSON");
    assert_eq!(json["track"], "video");
}

/// An OTLP receiver, and the spans of each request.
fn collector() -> (SocketAddr, mpsc::Receiver<Vec<Value>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let (told, spans) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
            let mut bytes = Vec::new();
            let body = loop {
                let mut piece = [0; 4_096];
                let n = stream.read(&mut piece).expect("a request");
                bytes.extend_from_slice(&piece[..n]);
                let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
                let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
                let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse::<usize>().ok());
                if bytes.len() == end + 4 + length.expect("a length") {
                    break bytes.split_off(end + 4);
                }
            };
            let request: Value = serde_json::from_slice(&body).expect("JSON");
            let resources = request["resourceSpans"].as_array().expect("a list").iter();
            let scopes = resources.flat_map(|r| r["scopeSpans"].as_array().expect("a list"));
            let spans = scopes.flat_map(|s| s["spans"].as_array().expect("a list")).cloned().collect();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
            if told.send(spans).is_err() {
                return;
            }
        }
    });
    (addr, spans)
}

/// A trace came over all nodes: one root, and no span without its parent.
fn check_spans(spans: &mpsc::Receiver<Vec<Value>>) {
    let mut all: Vec<Value> = Vec::new();
    loop {
        all.extend(spans.recv_timeout(PATIENCE).expect("traces are sent"));
        let roots = all.iter().filter(|span| span.get("parentSpanId").is_none());
        let mut whole = roots.map(|root| {
            let of: Vec<&Value> = all.iter().filter(|span| span["traceId"] == root["traceId"]).collect();
            let children = of.iter().filter(|span| **span != root);
            let orphans = children.filter(|span| !of.iter().any(|other| other["spanId"] == span["parentSpanId"]));
            assert_eq!(orphans.count(), 0, "{of:?}");
            of.len()
        });
        // The part, packaging, three hops of three stages, tail and listing.
        if whole.any(|spans| spans == 1 + 1 + 9 + 2) {
            return;
        }
    }
}

/// How long one look at a stream lasts: fifty parts of two tracks.
pub(super) const LOOK: Duration = Duration::from_secs(5);
