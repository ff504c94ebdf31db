//! MPEG-TS, pushed by ffmpeg over SRT and UDP, through networks that lose, to an edge one hop away.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::deadline::in_time;
use super::line::check_frames;
use super::lossy::{Loss, Lossy};
use super::machine::unless_starved;
use super::playlist::{Seen, to_the_end, viewers};
use super::process::{PATIENCE, Process, until};
use super::push::film;
use super::{Cluster, Node, check_logs, fetch_all, http};
use crate::media_ffmpeg::{hashes, make_by};

/// An ingest with these settings, and an edge that follows it.
fn pair(cluster: &Cluster, args: &[&str]) -> [Node; 2] {
    let ingest = cluster.node("a", &[&["--topology", "static"], args].concat());
    let join = ingest.mesh.to_string();
    [ingest, cluster.node("d", &["--topology", "static", "--join", &join])]
}

/// Where the ingest takes SRT.
fn srt(node: &Node) -> SocketAddr {
    let line = node.process.said("  srt   ");
    let addr = line.split("srt://").nth(1).and_then(|rest| rest.split('?').next()).expect("an URL");
    addr.parse().expect("an address")
}

/// Where it takes datagrams for a stream.
fn udp(node: &Node, stream: &str) -> SocketAddr {
    let line = node.process.said(&format!("waiting for MPEG-TS stream={stream} "));
    let addr = line.split("udp://").nth(1).expect("an URL").trim_end_matches('"');
    addr.parse().expect("an address")
}

/// Pushes a film as MPEG-TS in real time.
fn push(film: &Path, url: &str, args: &[&str]) -> Process {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "warning", "-re", "-i"]).arg(film).args(["-c", "copy"]).args(args);
    Process::spawn("ffmpeg", ffmpeg.args(["-f", "mpegts", url]))
}

fn push_srt(film: &Path, to: SocketAddr, query: &str) -> Process {
    // Without `linger` ffmpeg leaves at its end what it hasn't sent yet.
    push(film, &format!("srt://{to}?linger=5&streamid={query}"), &[])
}

fn push_udp(film: &Path, to: SocketAddr, args: &[&str]) -> Process {
    push(film, &format!("udp://{to}?pkt_size=1316"), args)
}

/// All that was pushed is there, in one piece.
fn check_all(dir: &Path, edge: &Node, stream: &str, seen: &[Seen; 2], film: &Path) {
    for ((track, kind), seen) in [("video", "0:v"), ("audio", "0:a")].into_iter().zip(seen) {
        in_time(seen.is_whole(), || format!("{stream} {track}: {:?}", seen.list));
        let bytes = fetch_all(edge.http, &format!("/{stream}/{track}"), &seen.list).concat();
        check_frames(&dir.join(format!("{stream}-{track}.mp4")), &bytes, film, kind);
    }
}

/// A counter of `/metrics`.
fn counted(node: &Node, name: &str) -> u64 {
    let text = http::get(node.http, "/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("damson_ingest_{name}_total ")));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name}: {text}"))
}

#[test]
fn srt_loses_nothing_through_one_and_five_percent() {
    unless_starved(|| {
        let cluster = Cluster::new();
        let film = film(cluster.path(), 12);
        let default = ["--srt-default", "live/cam0"];
        let srt_args = ["--srt", "127.0.0.1:0", "--linger", "1", "--srt-latency", "2"];
        let nodes = pair(&cluster, &[&srt_args[..], &default].concat());
        let [ingest, edge] = &nodes;
        let to = srt(ingest);
        let networks = [1, 5].map(|percent| Lossy::start(to, Loss::Percent(percent)));
        let mut pushes = [
            push_srt(&film, to, ""),
            push_srt(&film, networks[0].addr, "#!::r=cam1,m=publish"),
            push_srt(&film, networks[1].addr, "cam5"),
        ];
        let watched = ["cam0", "cam1", "cam5"].map(|stream| (stream, viewers(edge, stream)));
        for push in &mut pushes {
            assert!(push.ended(PATIENCE).success(), "{}", push.log());
        }
        for (stream, viewers) in watched {
            check_all(cluster.path(), edge, stream, &to_the_end(viewers), &film);
        }
        assert!(networks.iter().all(|network| network.lost() > 5), "{:?}", networks.each_ref().map(Lossy::lost));
        assert_eq!((counted(ingest, "ts_lost"), counted(ingest, "srt_lost")), (0, 0));
        check_logs(&nodes.each_ref());
    });
}

#[test]
fn srt_takes_its_passphrase_alone_and_publishers_alone() {
    unless_starved(|| {
        let cluster = Cluster::new();
        let film = film(cluster.path(), 4);
        let nodes = pair(
            &cluster,
            &["--srt", "127.0.0.1:0", "--linger", "1", "--srt-latency", "2", "--srt-passphrase", "plums are blue"],
        );
        let [ingest, edge] = &nodes;
        let to = srt(ingest);
        let refused = |query: &str, why: &str| {
            let mut push = push_srt(&film, to, query);
            assert!(!push.ended(PATIENCE).success(), "{query}");
            ingest.process.said(why);
        };
        refused("cam1", "the encoder doesn't encrypt; set the node's --srt-passphrase there");
        refused("cam1&passphrase=plums are red", "another passphrase");
        let request = "#!::r=cam1,m=request&passphrase=plums are blue";
        refused(request, "m=request is not supported: an SRT caller can only publish");
        let mut push = push_srt(&film, to, "cam1&pbkeylen=32&passphrase=plums are blue");
        let viewers = viewers(edge, "cam1");
        assert!(push.ended(PATIENCE).success(), "{}", push.log());
        check_all(cluster.path(), edge, "cam1", &to_the_end(viewers), &film);
        check_logs(&nodes.each_ref());
    });
}

#[test]
fn datagrams_across_the_wrap_arrive_plain_and_in_rtp() {
    unless_starved(|| {
        let cluster = Cluster::new();
        let film = film(cluster.path(), 12);
        let sources = ["--udp", "cam1=udp://127.0.0.1:0", "--udp", "cam2=rtp://127.0.0.1:0?source=127.0.0.1"];
        let nodes = pair(&cluster, &[&sources[..], &["--linger", "1"]].concat());
        let [ingest, edge] = &nodes;
        // 2^33 ticks of 90 kHz are 95,443.7 s.
        let wrap = ["-output_ts_offset", "95438"];
        let mut plain = push_udp(&film, udp(ingest, "cam1"), &wrap);
        let to = udp(ingest, "cam2");
        let mut rtp = Command::new("ffmpeg");
        rtp.args(["-v", "warning", "-re", "-i"]).arg(&film).args(["-c", "copy", "-f", "rtp_mpegts"]);
        let mut rtp = Process::spawn("ffmpeg", rtp.arg(format!("rtp://{to}?pkt_size=1316")));
        let watched = ["cam1", "cam2"].map(|stream| (stream, viewers(edge, stream)));
        assert!(plain.ended(PATIENCE).success() && rtp.ended(PATIENCE).success(), "{} {}", plain.log(), rtp.log());
        let [(_, plain), (_, rtp)] = watched;
        check_all(cluster.path(), edge, "cam1", &to_the_end(plain), &film);
        let seen = to_the_end(rtp);
        let frames = |track: &str, seen: &Seen| {
            let path = cluster.path().join(format!("cam2-{track}.mp4"));
            std::fs::write(&path, fetch_all(edge.http, &format!("/cam2/{track}"), &seen.list).concat())
                .expect("written");
            hashes(&path, "0", true)
        };
        assert_eq!(frames("video", &seen[0]), hashes(&film, "0:v", true));
        // ffmpeg's rtp_mpegts never sends the sound that it has begun to pack.
        let (sound, pushed) = (frames("audio", &seen[1]), hashes(&film, "0:a", true));
        assert!(pushed.starts_with(&sound) && sound.len() + 20 > pushed.len(), "{} of {}", sound.len(), pushed.len());
        assert_eq!((counted(ingest, "ts_lost"), counted(ingest, "rtp_lost")), (0, 0));
        check_logs(&nodes.each_ref());
    });
}

/// The MD5s of the pictures that are to be seen, gaps left out.
fn pictures(dir: &Path, edge: &Node, stream: &str, seen: &Seen) -> Vec<String> {
    let path = dir.join(format!("{stream}-pictures.mp4"));
    std::fs::write(&path, fetch_all(edge.http, &format!("/{stream}/video"), &seen.list).concat()).expect("written");
    hashes(&path, "0", false)
}

#[test]
fn a_lost_datagram_costs_one_gop_at_most_and_nobody_sees_a_broken_picture() {
    unless_starved(|| {
        let cluster = Cluster::new();
        let film = film(cluster.path(), 12);
        let streams = ["one=udp://127.0.0.1:0", "cam1=udp://127.0.0.1:0", "cam5=udp://127.0.0.1:0"];
        let sources: Vec<&str> = streams.iter().flat_map(|source| ["--udp", source]).chain(["--linger", "1"]).collect();
        let nodes = pair(&cluster, &sources);
        let [ingest, edge] = &nodes;
        let all = hashes(&film, "0:v", false);
        let runs =
            [("one", Loss::One(70)), ("cam1", Loss::Percent(1)), ("cam5", Loss::Percent(5))].map(|(stream, loss)| {
                let network = Lossy::start(udp(ingest, stream), loss);
                (stream, push_udp(&film, network.addr, &[]), network)
            });
        let watched = runs.map(|(stream, push, network)| (stream, push, network, viewers(edge, stream)));
        for (stream, mut push, network, viewers) in watched {
            assert!(push.ended(PATIENCE).success(), "{}", push.log());
            let [video, _] = to_the_end(viewers);
            let got = pictures(cluster.path(), edge, stream, &video);
            // Each is one of those that were pushed, in their order.
            let mut rest = all.iter().enumerate();
            let places: Vec<usize> =
                got.iter().map_while(|hash| rest.find(|(_, pushed)| *pushed == hash).map(|(n, _)| n)).collect();
            assert_eq!(places.len(), got.len(), "{stream}: a picture that wasn't pushed, behind {:?}", places.last());
            let mut holes: Vec<(usize, usize)> = Vec::new();
            for pair in places.windows(2).filter(|pair| pair[1] > pair[0] + 1) {
                match holes.last_mut() {
                    // One of the pictures shown before the lost one was sent before it, another wasn't.
                    Some((_, to)) if pair[0] + 1 - *to < 3 => *to = pair[1],
                    _ => holes.push((pair[0] + 1, pair[1])),
                }
            }
            // GOPs have 60 pictures: after each hole the first is a key picture.
            assert!(holes.iter().all(|(_, to)| to % 60 == 0), "{stream}: {holes:?}");
            if stream == "one" {
                assert_eq!((holes.len(), network.lost()), (1, 1), "{holes:?}");
                assert!(holes[0].1 - holes[0].0 < 60, "{holes:?}");
            }
            assert!(network.lost() > 0 && !holes.is_empty(), "{stream}: nothing was lost");
        }
        assert!(counted(ingest, "ts_lost") > 0 && counted(ingest, "ts_continuity_errors") > 0);
        check_logs(&nodes.each_ref());
    });
}

/// A film whose sound begins `late` seconds after its pictures, or never.
fn film_of(dir: &Path, late: Option<u32>) -> PathBuf {
    let path = dir.join(format!("late-{late:?}.ts"));
    let (late, maps) = match late {
        Some(late) => (late.to_string(), &["-map", "0", "-map", "1"][..]),
        None => ("0".to_owned(), &["-map", "0"][..]),
    };
    let inputs =
        ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=30", "-itsoffset", &late, "-f", "lavfi", "-i", "sine=r=48000"];
    let codecs =
        ["-c:v", "libx264", "-preset", "veryfast", "-g", "30", "-pix_fmt", "yuv420p", "-c:a", "aac", "-t", "12"];
    make_by("ffmpeg", &[&["-v", "error"][..], &inputs, maps, &codecs, &["-f", "mpegts"]].concat(), &path);
    path
}

#[test]
fn sound_that_begins_late_or_never() {
    unless_starved(|| {
        let cluster = Cluster::new();
        let (late, never) = (film_of(cluster.path(), Some(3)), film_of(cluster.path(), None));
        let nodes = pair(&cluster, &["--srt", "127.0.0.1:0", "--linger", "1", "--srt-latency", "2"]);
        let [ingest, edge] = &nodes;
        let to = srt(ingest);
        let mut pushes = [push_srt(&late, to, "late"), push_srt(&never, to, "never")];
        edge.plays("never", 1);
        let viewers = viewers(edge, "late");
        for push in &mut pushes {
            assert!(push.ended(PATIENCE).success(), "{}", push.log());
        }
        let [video, audio] = to_the_end(viewers);
        in_time(video.gaps.is_empty(), || format!("{:?}", video.list));
        // All of its sound, some of it behind a gap.
        let units = |path: &Path, kind: &str| hashes(path, kind, true).len();
        let file = cluster.path().join("late-audio.mp4");
        std::fs::write(&file, fetch_all(edge.http, "/late/audio", &audio.list).concat()).expect("written");
        assert_eq!(units(&file, "0:a"), units(&late, "0:a"));
        // And where it belongs: the parts before it are gaps.
        let gaps = audio.list.gaps.len();
        assert!((1..=2).contains(&gaps), "{:?}", audio.list);
        let master = http::get(edge.http, "/never/index.m3u8").text();
        assert!(!master.contains("mp4a") && master.contains("avc1"), "{master}");
        check_logs(&nodes.each_ref());
    });
}

#[test]
fn a_source_that_stops_and_returns_goes_on_behind_a_discontinuity() {
    unless_starved(|| {
        let cluster = Cluster::new();
        let film = film(cluster.path(), 30);
        let nodes = pair(&cluster, &["--udp", "cam1=udp://127.0.0.1:0"]);
        let [ingest, edge] = &nodes;
        let to = udp(ingest, "cam1");
        let mut first = push_udp(&film, to, &[]);
        edge.plays("cam1", 1);
        first.kill();
        ingest.process.said("no datagram for 3s");
        let second = push_udp(&film, to, &[]);
        let list = until("segments behind a discontinuity", PATIENCE, || {
            let list = edge.plays("cam1", 2);
            let from = *list.discontinuities.last()?;
            (list.segments.last() > Some(&(from + 1))).then_some(list)
        });
        assert!(list.segments.windows(2).all(|pair| pair[1] == pair[0] + 1), "{list:?}");
        drop(second);
        check_logs(&nodes.each_ref());
    });
}
