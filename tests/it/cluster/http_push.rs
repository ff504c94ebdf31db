//! HTTP ingest, pushed to by ffmpeg, and by requests written here where it has no muxer for them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::deadline::in_time;
use super::machine::unless_starved;
use super::playlist::{Seen, Viewer, to_the_end, viewers};
use super::process::{PATIENCE, Process, until};
use super::push::{Pace, film, push};
use super::{Cluster, Node, check_logs, fetch_all, http, text};
use crate::media_ffmpeg::{hashes, run, times};

/// What every node here is started with.
pub(super) const INGEST: [&str; 4] = ["--http-ingest", "127.0.0.1:0", "--linger", "1"];

/// Where it takes HTTP.
pub(super) fn ingest(node: &Node) -> SocketAddr {
    let line = node.process.said("  push  ");
    let addr = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an URL");
    addr.parse().expect("an address")
}

/// Pushes a film in real time by a muxer of ffmpeg's.
fn muxed(film: &Path, to: SocketAddr, path: &str, muxer: &[&str]) -> Process {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-re", "-i"]).arg(film).args(["-c", "copy"]).args(muxer).args(["-method", "PUT"]);
    Process::spawn("ffmpeg", ffmpeg.arg(format!("http://{to}/ingest/{path}")))
}

/// A request under way.
struct Request(TcpStream);

impl Request {
    /// Its head; the body comes in chunks.
    fn open(to: SocketAddr, head: &str) -> Request {
        let mut stream = http::connect(to).expect("it listens");
        let head = format!("{head} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("it reads");
        Request(stream)
    }

    fn chunk(&mut self, bytes: &[u8]) {
        let bytes = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
        // Who refuses has closed it by now, perhaps.
        let _ = self.0.write_all(&bytes);
    }

    /// Ends the body; status and text of the answer.
    fn end(mut self) -> (u16, String) {
        let _ = self.0.write_all(b"0\r\n\r\n");
        let mut answer = Vec::new();
        self.0.read_to_end(&mut answer).expect("an answer");
        let answer = String::from_utf8(answer).expect("text");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, answer.split("\r\n\r\n").nth(1).unwrap_or_default().trim().to_owned())
    }
}

/// A whole request.
fn request(to: SocketAddr, head: &str, body: &[u8]) -> (u16, String) {
    let mut request = Request::open(to, head);
    if !body.is_empty() {
        request.chunk(body);
    }
    request.end()
}

pub(super) fn put(to: SocketAddr, path: &str, body: &[u8]) -> (u16, String) {
    request(to, &format!("PUT /ingest/{path}"), body)
}

/// A film as another file.
pub(super) fn remuxed(film: &Path, name: &str, args: &[&str]) -> PathBuf {
    let path = film.with_file_name(name);
    run("ffmpeg", &[&["-v", "error", "-i", text(film), "-c", "copy"], args, &[text(&path)]].concat());
    path
}

/// One track of a film as CMAF: init segment, and fragments of a second.
pub(super) fn cmaf(film: &Path, kind: &str, name: &str, args: &[&str]) -> Vec<Vec<u8>> {
    let movflags = "cmaf+empty_moov+default_base_moof+delay_moov";
    let own =
        ["-map", kind, "-f", "mp4", "-movflags", movflags, "-frag_duration", "1000000", "-write_prft", "wallclock"];
    let bytes = std::fs::read(remuxed(film, name, &[&own, args].concat())).expect("written");
    let mut pieces: Vec<Vec<u8>> = vec![Vec::new()];
    let mut rest = &bytes[..];
    while let [a, b, c, d, kind @ ..] = rest {
        let (boxed, tail) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        // A fragment begins with its clock.
        if kind.starts_with(b"prft") || kind.starts_with(b"mfra") {
            pieces.push(Vec::new());
        }
        pieces.last_mut().expect("one").extend(boxed);
        rest = tail;
    }
    pieces.pop();
    let last = pieces.last_mut().expect("fragments");
    last.splice(..0, *b"\0\0\0\x18stypmsdh\0\0\0\0msdhlmsg");
    pieces
}

/// All that was pushed is there, in one piece. What is numbered until the end is a gap.
pub(super) fn check_all(dir: &Path, edge: &Node, stream: &str, seen: &[Seen; 2], films: [&Path; 2]) {
    for ((film, (track, kind)), seen) in films.into_iter().zip([("video", "0:v"), ("audio", "0:a")]).zip(seen) {
        let mut list = seen.list.clone();
        let gaps = list.segments.split_off(list.segments.len() - list.gaps.len());
        in_time(gaps == list.gaps && seen.discontinuities.is_empty(), || format!("{stream} {track}: {:?}", seen.list));
        let bytes = fetch_all(edge.http, &format!("/{stream}/{track}"), &list).concat();
        let file = dir.join(format!("{stream}-{track}.mp4"));
        std::fs::write(&file, bytes).expect("written");
        assert!(hashes(&file, "0", true) == hashes(film, kind, true), "{stream}: packets of {track}");
        if track == "video" {
            assert!(hashes(&file, "0", false) == hashes(film, kind, false), "{stream}: pictures");
            // Within the rounding of the muxer's clock.
            let (got, all) = (times(&file, "v"), times(film, "v"));
            let near = |(a, b): (&(i64, i64), &(i64, i64))| (a.0 - b.0).abs() <= 1 && (a.1 - b.1).abs() <= 1;
            // ffmpeg 5.1 shows the first picture of each segment as it is decoded, where it writes a fragment a frame.
            let own = |n: usize| stream == "ldash" && n.is_multiple_of(60);
            let wrong = got.iter().zip(&all).enumerate().find(|(n, pair)| !own(*n) && !near(*pair));
            assert!(wrong.is_none(), "{stream}: {wrong:?}");
        }
    }
}

/// The pictures' hashes, of a stream that has ended.
fn pictures(dir: &Path, edge: &Node, stream: &str, seen: &Seen) -> Vec<String> {
    let file = dir.join(format!("{stream}-pictures.mp4"));
    let mut list = seen.list.clone();
    list.segments.retain(|msn| !list.gaps.contains(msn));
    std::fs::write(&file, fetch_all(edge.http, &format!("/{stream}/video"), &list).concat()).expect("written");
    hashes(&file, "0:v", true)
}

fn counted(node: &Node, name: &str) -> u64 {
    let text = http::get(node.http, "/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("damson_ingest_{name}_total ")));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name}: {text}"))
}

#[test]
fn every_muxers_push_comes_out_as_it_went_in() {
    unless_starved(|| {
        let cluster = Cluster::new();
        let film = film(cluster.path(), 6);
        let ingest_node = cluster.node("a", &[&["--topology", "static"], &INGEST[..]].concat());
        let join = ingest_node.mesh.to_string();
        let edge = cluster.node("d", &["--topology", "static", "--join", &join]);
        let to = ingest(&ingest_node);
        let hls = |kind| {
            [
                "-f",
                "hls",
                "-hls_time",
                "2",
                "-hls_list_size",
                "3",
                "-hls_flags",
                "delete_segments",
                "-hls_segment_type",
                kind,
            ]
        };
        let dash = ["-f", "dash", "-seg_duration", "2", "-window_size", "3"];
        let ldash = [&dash[..], &["-streaming", "1", "-ldash", "1", "-frag_type", "every_frame"]].concat();
        let fragments = ["-f", "mp4", "-movflags", "frag_keyframe+empty_moov+default_base_moof+delay_moov"];
        let pushes = [
            ("ts", muxed(&film, to, "ts", &["-f", "mpegts"])),
            ("fmp4", muxed(&film, to, "fmp4", &fragments)),
            ("hls-ts", muxed(&film, to, "hls-ts/out.m3u8", &hls("mpegts"))),
            ("hls-fmp4", muxed(&film, to, "hls-fmp4/a/out.m3u8", &hls("fmp4"))),
            ("dash", muxed(&film, to, "dash/out.mpd", &dash)),
            ("ldash", muxed(&film, to, "ldash/out.mpd", &ldash)),
        ];
        // Files, at once: played at their own pace all the same.
        let plain = remuxed(&film, "plain.mp4", &["-movflags", "+faststart"]);
        assert_eq!(put(to, "plain", &std::fs::read(plain).expect("written")).0, 200);
        let late = remuxed(&film, "moov-last.mp4", &[]);
        let (status, why) = put(to, "moov-last", &std::fs::read(late).expect("written"));
        assert!(status == 412 && why.contains("-movflags +faststart"), "{status} {why}");
        let watched: Vec<_> = ["ts", "fmp4", "hls-ts", "hls-fmp4", "dash", "ldash", "plain"]
            .map(|stream| (stream, viewers(&edge, stream)))
            .into_iter()
            .collect();
        for (stream, mut push) in pushes {
            assert!(push.ended(PATIENCE).success(), "{stream}: {}", push.log());
        }
        for (stream, viewers) in watched {
            check_all(cluster.path(), &edge, stream, &to_the_end(viewers), [&film, &film]);
        }
        assert_eq!(counted(&ingest_node, "http_units_dropped"), 0);
        check_logs(&[&ingest_node, &edge]);
    });
}

/// Pushes CMAF tracks a fragment a request, and each request so many `times`: the first fragment of each track, then the second of
/// each, as encoders do.
pub(super) fn tracks(
    to: SocketAddr,
    stream: &'static str,
    tracks: Vec<(&'static str, Vec<Vec<u8>>)>,
    times: usize,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for n in 0..tracks.iter().map(|(_, pieces)| pieces.len()).max().unwrap_or_default() {
            for (name, pieces) in &tracks {
                let path = format!("{stream}/Streams({name})");
                for piece in pieces.get(n).into_iter().cycle().take(times) {
                    assert_eq!(put(to, &path, piece), (200, "ok".to_owned()), "{path} {n}");
                }
            }
        }
    })
}

#[test]
fn cmaf_tracks_of_separate_requests_make_one_life() {
    unless_starved(|| {
        let cluster = Cluster::new();
        let film = film(cluster.path(), 6);
        let node = cluster.node("a", &[&INGEST[..], &["--http-ingest-grace", "120"]].concat());
        let to = ingest(&node);
        let video = cmaf(&film, "0:v", "v.mp4", &[]);
        let audio = cmaf(&film, "0:a", "a.mp4", &["-metadata:s:a:0", "language=eng"]);
        let french = cmaf(&film, "0:a", "f.mp4", &["-metadata:s:a:0", "language=fra"]);
        // Whether it would be let in, and the ways in which it isn't.
        assert_eq!(put(to, "cam1/Streams(v.cmfv)", &[]).0, 200);
        assert_eq!(request(to, "OPTIONS /ingest/cam1", &[]).0, 204);
        assert_eq!(request(to, "DELETE /ingest/cam1/1.m4s", &[]).0, 200);
        let refused = |head: &str, body: &[u8], status: u16, why: &str| {
            let (got, said) = request(to, head, body);
            assert!(got == status && said.contains(why), "{head}: {got} {said}");
        };
        refused("PUT /elsewhere", &video[0], 404, "push to /ingest/STREAM");
        refused("PUT /ingest/api", &video[0], 403, "a path of the edge itself");
        request(to, "PUT /ingest/my cam", &[]);
        node.process.said("HTTP: refused: the request can't be read");
        refused("PATCH /ingest/cam1", &video[0], 405, "PUT or POST");
        refused("PUT /ingest/cam1", b"GIF89a, which is no film", 415, "neither MPEG-TS nor MP4");
        refused("PUT /ingest/cam1/Streams(v.cmfv)", &video[1], 412, "init segment");
        let mut long = video[0].clone();
        long.extend([0x7f, 0, 0, 0]);
        long.extend(b"moof");
        refused("PUT /ingest/cam1/Streams(v.cmfv)", &long, 413, "the moof box has");
        // Headers first; the first sound is the stream's own.
        for (name, pieces) in [("v.cmfv", &video), ("a.cmfa", &audio), ("f.cmfa", &french)] {
            assert_eq!(put(to, &format!("cam1/Streams({name})"), &pieces[0]).0, 200);
        }
        // Two encoders that send the same, or one that sends all twice.
        let sent: usize = video.len();
        let thread = tracks(to, "cam1", vec![("v.cmfv", video), ("a.cmfa", audio), ("f.cmfa", french)], 2);
        let seen = viewers(&node, "cam1");
        // It joins with a segment.
        until("the second language", PATIENCE, || {
            http::try_get(node.http, "/cam1/audio_fra/playlist.m3u8").filter(|answer| answer.status == 200)
        });
        let french = Viewer::start(node.http, "/cam1/audio_fra");
        thread.join().expect("each is taken");
        let of = |name| cluster.path().join(name);
        check_all(cluster.path(), &node, "cam1", &to_the_end(seen), [&of("v.mp4"), &of("a.mp4")]);
        // All have said which was their last.
        node.process.said("push ended stream=cam1");
        french.until("an end", |seen| seen.list.ended.then_some(()));
        let list = french.close().list;
        in_time(list.gaps.len() <= 1, || format!("{list:?}"));
        let master = http::get(node.http, "/cam1/index.m3u8").text();
        assert!(["eng", "fra"].iter().all(|tag| master.contains(&format!("LANGUAGE=\"{tag}\""))), "{master}");
        assert!(counted(&node, "http_units_repeated") as usize > 6 * 30 && sent > 5);
        assert!(counted(&node, "http_references") > 5);
        check_logs(&[&node]);
    });
}

#[test]
fn a_push_that_breaks_or_begins_anew_goes_on() {
    unless_starved(|| {
        let cluster = Cluster::new();
        let film = film(cluster.path(), 8);
        let node = cluster.node("a", &["--http-ingest", "127.0.0.1:0", "--linger", "5"]);
        let to = ingest(&node);
        // Eight hours on, and one request a track: both are cut in the middle of a fragment, and sent again from there.
        let offset = ["-output_ts_offset", "28800"];
        let (video, audio) = (cmaf(&film, "0:v", "v.mp4", &offset), cmaf(&film, "0:a", "a.mp4", &offset));
        let open = |name: &str| Request::open(to, &format!("POST /ingest/cut/Streams({name})"));
        let (mut pictures_of, mut sound) = (open("v.cmfv"), open("a.cmfa"));
        for n in 0..4 {
            pictures_of.chunk(&video[n]);
            sound.chunk(&audio[n]);
        }
        pictures_of.chunk(&video[4][..video[4].len() / 2]);
        let cut = viewers(&node, "cut");
        drop(pictures_of);
        node.process.said("a fragment was truncated");
        node.process.said("the request was cut off");
        let mut again = open("v.cmfv");
        (4..video.len()).for_each(|n| again.chunk(&video[n]));
        (4..audio.len()).for_each(|n| sound.chunk(&audio[n]));
        assert_eq!((again.end().0, sound.end().0), (200, 200));

        // Killed, and back from the beginning of its timestamps.
        let dash = ["-f", "dash", "-seg_duration", "1"];
        let mut first = muxed(&film, to, "back/out.mpd", &dash);
        node.plays("back", 2);
        first.kill();
        let mut second = muxed(&film, to, "back/out.mpd", &dash);
        let back = Viewer::start(node.http, "/back/video");

        // A second push of the same address takes over; rubbish doesn't.
        let holds = muxed(&film, to, "two", &["-f", "mpegts"]);
        node.process.said("publishes stream=two");
        assert_eq!(put(to, "two", b"GIF89a, which begins as a transport packet does, and is none").0, 415);
        let over = push(&film, node.rtmp, "two", Pace::RealTime);
        node.process.said("takes the stream over stream=two");
        node.process.said("another connection has taken the stream over");
        drop((holds, over));

        let of = |name| cluster.path().join(name);
        check_all(cluster.path(), &node, "cut", &to_the_end(cut), [&of("v.mp4"), &of("a.mp4")]);
        assert!(second.ended(PATIENCE).success(), "{}", second.log());
        back.until("an end", |seen| seen.list.ended.then_some(()));
        let seen = back.close();
        let (got, all) = (pictures(cluster.path(), &node, "back", &seen), hashes(&film, "0:v", true));
        assert!(got.ends_with(&all), "the second push is there whole: {} of {}", got.len(), all.len());
        assert!(!seen.discontinuities.is_empty(), "{:?}", seen.list);
        check_logs(&[&node]);
    });
}

/// A server that answers questions of `on_publish`, and hands on what it was asked.
fn decider() -> (SocketAddr, mpsc::Receiver<serde_json::Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("bound");
    let (sender, asked) = mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut bytes = Vec::new();
            let question = loop {
                let mut more = [0; 4_096];
                let len = stream.read(&mut more).expect("it asks");
                bytes.extend(&more[..len]);
                let body = bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| &bytes[at + 4..]);
                if let Some(question) = body.and_then(|body| serde_json::from_slice::<serde_json::Value>(body).ok()) {
                    break question;
                }
                assert!(len > 0, "{}", String::from_utf8_lossy(&bytes));
            };
            let answer: &[u8] = match question["key"].as_str() {
                Some("plum") => b"HTTP/1.1 204 No Content\r\n\r\n",
                _ => b"HTTP/1.1 403 Forbidden\r\nContent-Length: 25\r\n\r\nno such customer\nat line 1",
            };
            stream.write_all(answer).expect("it listens");
            if sender.send(question).is_err() {
                return;
            }
        }
    });
    (addr, asked)
}

#[test]
fn who_is_asked_decides() {
    unless_starved(|| {
        let cluster = Cluster::new();
        let film = film(cluster.path(), 4);
        let (decider, asked) = decider();
        let url = format!("http://{decider}/decide");
        let node = cluster.node("a", &["--http-ingest", "127.0.0.1:0", "--on-publish", &url]);
        let to = ingest(&node);
        let ts = std::fs::read(remuxed(&film, "film.ts", &[])).expect("written");
        assert_eq!(put(to, "cam1", &ts), (401, "not allowed: no such customer".to_owned()));
        assert_eq!(put(to, "cam1?key=pear", &ts), (403, "not allowed: no such customer".to_owned()));
        let mut ffmpeg = push(&film, node.rtmp, "cam2?key=pear", Pace::RealTime);
        assert!(!ffmpeg.ended(PATIENCE).success(), "{}", ffmpeg.log());
        let head = "PUT /ingest/cam1 HTTP/1.1\r\nAuthorization: Bearer plum\r\nX-Rest:";
        let mut allowed = Request::open(to, head);
        allowed.chunk(&ts);
        assert_eq!(allowed.end().0, 200);
        node.process.said("publishes stream=cam1");
        let questions: Vec<_> = asked.try_iter().collect();
        let of = |n: usize| {
            let text = |name: &str| questions[n][name].as_str().unwrap_or("-").to_owned();
            [text("stream"), text("protocol"), text("app"), text("key")].join(" ")
        };
        assert_eq!(
            (0..questions.len()).map(of).collect::<Vec<_>>(),
            ["cam1 http live -", "cam1 http live pear", "cam2 rtmp live pear", "cam1 http live plum",]
        );
        let address = questions[0]["address"].as_str().expect("an address");
        assert!(address.starts_with("127.0.0.1:") && questions[0]["rendition"].is_null(), "{}", questions[0]);
        let log = node.process.log();
        assert!(!log.contains("pear") && !log.contains("plum"), "{log}");
        // Nobody there to be asked is a no.
        let nobody = cluster.node("b", &["--http-ingest", "127.0.0.1:0", "--on-publish", "http://127.0.0.1:9/"]);
        assert_eq!(put(ingest(&nobody), "cam1", &ts), (401, "not allowed: on_publish can't be reached".to_owned()));
        until("a word to the operator", PATIENCE, || {
            nobody.process.log().contains("all pushes are refused").then_some(())
        });
        check_logs(&[&node, &nobody]);
    });
}
