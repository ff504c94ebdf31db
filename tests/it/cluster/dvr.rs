//! Seeking back at an edge, and at the same edge after it was killed.

use std::collections::BTreeMap;

use super::process::until;
use super::push::{Pace, film, push};
use super::{Cluster, Node, PATIENCE, check_logs, http, text};

/// An answer's head, and its body.
fn ask(node: &Node, method: &str, path: &str, more: &str) -> (String, Vec<u8>) {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n");
    let answer = http::exchange(node.http, request.as_bytes()).expect("an answer");
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
    (String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase(), answer[end + 4..].to_vec())
}

fn etag(head: &str) -> &str {
    head.lines().find_map(|line| line.strip_prefix("etag: ")).expect("an ETag")
}

#[test]
fn an_edge_is_killed_and_its_viewers_seek_back() {
    let cluster = Cluster::new();
    let film = film(cluster.path(), 360);
    let ingest = cluster.node("ingest", &["--topology", "static"]);
    let (join, folder) = (ingest.mesh.to_string(), cluster.path().join("dvr"));
    let start = || {
        let dvr = ["--dvr", "60s", "--dvr-memory", "1M", "--dvr-dir", text(&folder)];
        cluster.node("edge", &[&["--topology", "static", "--join", &join], &dvr[..]].concat())
    };
    let mut edge = start();
    let ffmpeg = push(&film, ingest.rtmp, "cam", Pace::Times(4));
    // A live playlist has 15 or 16.
    let list = edge.plays("cam", 25);
    let folder_of = |track: &str| format!("/cam/{track}");
    let mut bodies = BTreeMap::new();
    for (msn, track) in list.segments.iter().flat_map(|msn| [(*msn, "video"), (*msn, "audio")]) {
        let path = format!("{}/{msn}.m4s", folder_of(track));
        bodies.insert((msn, path.clone()), http::fetch(edge.http, &path));
    }
    let oldest = format!("/cam/video/{}.m4s", list.first);
    assert!(ingest.plays("cam", 1).first > list.first, "the ingest has no DVR");
    let newest = format!("/cam/video/{}.m4s", list.segments[list.segments.len() - 2]);
    assert_eq!(http::fetch(ingest.http, &newest), http::fetch(edge.http, &newest));
    let (head, body) = ask(&edge, "GET", &oldest, "");
    let tag = etag(&head).to_owned();
    let mpd = String::from_utf8(http::fetch(edge.http, "/cam/manifest.mpd")).expect("text");
    let depth = mpd.split("timeShiftBufferDepth=\"PT").nth(1).and_then(|rest| rest.split('S').next());
    assert!(depth.and_then(|s| s.parse().ok()).is_some_and(|s: u32| s > 45), "{mpd}");

    edge.process.kill();
    let edge = start();
    let again = until("the archive and the window", PATIENCE, || {
        let list = edge.plays("cam", 25);
        (list.segments.len() >= 29).then_some(list)
    });
    assert!(again.first >= list.first && again.first <= *list.segments.last().expect("some"), "{again:?}");
    assert_eq!(again.gaps, [0_u64; 0], "what came meanwhile, the swarm has");
    let mut both = 0;
    for ((msn, path), before) in bodies.iter().filter(|((msn, _), _)| *msn >= again.first) {
        assert_eq!(&http::fetch(edge.http, path), before, "{msn}: {path}");
        both += 1;
    }
    assert!(both > 0);
    // What left the playlist stays for those who had it (rfc8216bis 6.2.2), with all that HTTP has.
    let (head, whole) = ask(&edge, "GET", &oldest, "");
    assert_eq!((etag(&head), &whole), (tag.as_str(), &body));
    let (head, part) = ask(&edge, "GET", &oldest, "Range: bytes=100-199\r\n");
    assert!(head.starts_with("http/1.1 206") && part == body[100..200], "{head}");
    let (head, none) = ask(&edge, "HEAD", &oldest, "");
    assert!(head.contains(&format!("content-length: {}", body.len())) && none.is_empty(), "{head}");
    let (head, _) = ask(&edge, "GET", &oldest, &format!("If-None-Match: {tag}\r\n"));
    assert!(head.starts_with("http/1.1 304"), "{head}");
    // It stays 60 s long.
    let later = until("a full DVR that moves on", PATIENCE, || {
        let list = edge.plays("cam", 25);
        (list.first > again.first + 3).then_some(list)
    });
    assert!((29..=32).contains(&later.segments.len()), "{later:?}");
    assert_eq!(later.gaps, [0_u64; 0]);
    let metrics = String::from_utf8(http::fetch(edge.http, "/metrics")).expect("text");
    let says = |line: &str| metrics.lines().any(|l| l == line);
    assert!(!says("damson_dvr_reads_total 0"), "the new process had none of it in memory");
    assert!(says("damson_dvr_lost_total 0") && says("damson_dvr_failures_total 0"), "{metrics}");
    drop(ffmpeg);
    check_logs(&[&ingest, &edge]);
}
