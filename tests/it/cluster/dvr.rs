//! The DVR: of an edge that is killed and starts again, and of edges that have no archive themselves.

use std::collections::BTreeMap;

use super::deadline::in_time;
use super::machine::unless_starved;
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

/// The MPD's timeShiftBufferDepth, in whole seconds.
fn depth(node: &Node) -> u32 {
    let mpd = String::from_utf8(http::fetch(node.http, "/cam/manifest.mpd")).expect("text");
    let depth = mpd.split("timeShiftBufferDepth=\"PT").nth(1).and_then(|rest| rest.split(['.', 'S']).next());
    depth.and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("{mpd}"))
}

#[test]
fn an_edge_is_killed_and_its_viewers_seek_back() {
    unless_starved(|| {
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
        // A live playlist has 15 or 16 segments.
        let list = edge.plays("cam", 25);
        let folder_of = |track: &str| format!("/cam/{track}");
        let mut bodies = BTreeMap::new();
        for (msn, track) in list.segments.iter().flat_map(|msn| [(*msn, "video"), (*msn, "audio")]) {
            let path = format!("{}/{msn}.m4s", folder_of(track));
            bodies.insert((msn, path.clone()), http::fetch(edge.http, &path));
        }
        let oldest = format!("/cam/video/{}.m4s", list.first);
        assert!(ingest.plays("cam", 25).first <= list.first + 2, "who keeps nothing shows what others keep");
        let newest = format!("/cam/video/{}.m4s", list.segments[list.segments.len() - 2]);
        assert_eq!(http::fetch(ingest.http, &newest), http::fetch(edge.http, &newest));
        let (head, body) = ask(&edge, "GET", &oldest, "");
        let tag = etag(&head).to_owned();
        assert!(depth(&edge) > 45);

        edge.process.kill();
        let edge = start();
        let again = until("the archive and the window", PATIENCE, || {
            let list = edge.plays("cam", 25);
            (list.segments.len() >= 29).then_some(list)
        });
        assert!(again.first >= list.first && again.first <= *list.segments.last().expect("some"), "{again:?}");
        // What came meanwhile, the swarm has.
        in_time(again.gaps.is_empty(), || format!("gaps: {again:?}"));
        let mut both = 0;
        for ((msn, path), before) in bodies.iter().filter(|((msn, _), _)| *msn >= again.first) {
            assert_eq!(&http::fetch(edge.http, path), before, "{msn}: {path}");
            both += 1;
        }
        assert!(both > 0);
        // A segment that has left the playlist can still be fetched (rfc8216bis 6.2.2), with all that HTTP offers.
        let (head, whole) = ask(&edge, "GET", &oldest, "");
        assert_eq!((etag(&head), &whole), (tag.as_str(), &body));
        let (head, part) = ask(&edge, "GET", &oldest, "Range: bytes=100-199\r\n");
        assert!(head.starts_with("http/1.1 206") && part == body[100..200], "{head}");
        let (head, none) = ask(&edge, "HEAD", &oldest, "");
        assert!(head.contains(&format!("content-length: {}", body.len())) && none.is_empty(), "{head}");
        let (head, _) = ask(&edge, "GET", &oldest, &format!("If-None-Match: {tag}\r\n"));
        assert!(head.starts_with("http/1.1 304"), "{head}");
        // The DVR stays 60 s long.
        let later = until("a full DVR that moves on", PATIENCE, || {
            let list = edge.plays("cam", 25);
            (list.first > again.first + 3).then_some(list)
        });
        assert!((29..=32).contains(&later.segments.len()), "{later:?}");
        in_time(later.gaps.is_empty(), || format!("gaps: {later:?}"));
        let metrics = String::from_utf8(http::fetch(edge.http, "/metrics")).expect("text");
        let says = |line: &str| metrics.lines().any(|l| l == line);
        assert!(!says("damson_dvr_reads_total 0"), "the new process had none of it in memory");
        assert!(says("damson_dvr_lost_total 0") && says("damson_dvr_failures_total 0"), "{metrics}");
        drop(ffmpeg);
        check_logs(&[&ingest, &edge]);
    });
}

fn status(node: &Node, path: &str) -> u16 {
    http::get(node.http, path).status
}

/// What a node needs to keep an archive in memory alone.
const IN_MEMORY: [&str; 4] = ["--dvr", "10m", "--dvr-memory", "100M"];

/// Starts a node that joins at another.
fn join(cluster: &Cluster, name: &str, to: &Node, args: &[&str]) -> Node {
    let mesh = to.mesh.to_string();
    cluster.node(name, &[&["--topology", "static", "--join", &mesh], args].concat())
}

/// Kills the archive on disk. What the other one keeps by now is still there; an answer says of the rest that it is away,
/// until the archive is back. Returns the nodes that were started.
fn an_archive_dies_and_comes_back(
    cluster: &Cluster,
    [ingest, memory, late]: [&Node; 3],
    (mut disk, on_disk): (Node, &[&str]),
    (away, body): (&str, &[u8]),
) -> [Node; 2] {
    let mesh = disk.mesh.to_string();
    let newest = memory.plays("cam", 40).segments.last().copied().expect("some");
    let here = until("the memory has what the window hasn't", PATIENCE, || {
        let list = memory.plays("cam", 30);
        (list.segments.last()? > &(newest + 20)).then_some(newest)
    });
    let kept = format!("/cam/video/{here}.m4s");
    let before = http::fetch(disk.http, &kept);
    disk.process.kill();
    let late_too = join(cluster, "late2", ingest, &[]);
    until("the list of what memory has", PATIENCE, || (late_too.plays("cam", 20).first <= here).then_some(()));
    assert!(http::fetch(late_too.http, &kept) == before);
    // `late` still lists the other segment, which it never had.
    let (head, _) = ask(late, "GET", away, "");
    assert!(head.starts_with("http/1.1 503") && head.contains("cache-control: no-store"), "{head}");

    // The archive comes back, with all that it had.
    let disk = join(cluster, "disk", ingest, &[&["--mesh", &mesh], on_disk].concat());
    until("an answer of the archive that is back", PATIENCE, || (status(late, away) == 200).then_some(()));
    assert!(http::fetch(late.http, away) == body);
    [disk, late_too]
}

/// ```text
///  ingest -- archive on disk -- edge        (a line; `edge` and `late` have no archive)
///     |  `-- archive in memory
///     `----- late
/// ```
#[test]
fn edges_show_what_others_keep() {
    unless_starved(|| {
        let cluster = Cluster::new();
        let film = film(cluster.path(), 360);
        let ingest = cluster.node("ingest", &["--topology", "static"]);
        let folder = cluster.path().join("dvr");
        let on_disk = ["--dvr", "10m", "--dvr-memory", "1M", "--dvr-dir", text(&folder)];
        let disk = join(&cluster, "disk", &ingest, &on_disk);
        let mut memory = join(&cluster, "memory", &ingest, &IN_MEMORY);
        let mut edge = join(&cluster, "edge", &disk, &[]);
        let ffmpeg = push(&film, ingest.rtmp, "cam", Pace::Times(4));
        let first = disk.plays("cam", 30).first;
        // Each of them lists from the first segment on, and so does a node that joins late.
        let late = join(&cluster, "late", &ingest, &[]);
        let all = [&ingest, &disk, &memory, &edge, &late];
        for node in all {
            assert_eq!(node.plays("cam", 30).first, first, "{}", node.name);
        }
        let reference = |msn: u64, track: &str| http::fetch(disk.http, &format!("/cam/{track}/{msn}.m4s"));
        let made: BTreeMap<_, _> = (first..first + 15)
            .flat_map(|msn| ["video", "audio"].map(|track| (format!("/cam/{track}/{msn}.m4s"), reference(msn, track))))
            .collect();
        let same = |node: &Node, paths: usize| {
            for (path, body) in made.iter().take(paths) {
                assert!(http::fetch(node.http, path) == *body, "{path} at {}", node.name);
            }
        };
        same(&late, 12);
        let (head, _) = ask(&late, "GET", &format!("/cam/video/{first}.m4s"), "");
        let (kept, _) = ask(&disk, "GET", &format!("/cam/video/{first}.m4s"), "");
        assert_eq!(etag(&head), etag(&kept));
        assert!(depth(&late) >= 58);
        assert_eq!(status(&late, &format!("/cam/video/{}.m4s", first - 1)), 404);

        // An edge dies, and so does a node with an archive in memory alone: both show everything again, from the other archives.
        edge.process.kill();
        memory.process.kill();
        let edge = join(&cluster, "edge", &disk, &[]);
        let memory = join(&cluster, "memory", &ingest, &IN_MEMORY);
        for node in [&edge, &memory] {
            assert_eq!(node.plays("cam", 30).first, first, "{}", node.name);
            same(node, 30);
        }

        let away = format!("/cam/video/{}.m4s", first + 3);
        let nodes = [&ingest, &memory, &late];
        let [disk, late_too] = an_archive_dies_and_comes_back(&cluster, nodes, (disk, &on_disk), (&away, &made[&away]));
        drop(ffmpeg);
        check_logs(&[&ingest, &disk, &memory, &edge, &late, &late_too]);
    });
}
