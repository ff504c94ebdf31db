//! What comes in without a push, or only with a key: groups, files, publish keys.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::deadline::in_time;
use super::machine::unless_starved;
use super::playlist::Viewer;
use super::process::{PATIENCE, Process, until};
use super::push::{Pace, film, push};
use super::{Cluster, Node, check_logs, damson, http, text};

/// Whether this machine is a member of a group (IPv4), as the kernel tells it.
fn is_member(group: [u8; 4]) -> bool {
    let listed = std::fs::read_to_string("/proc/net/igmp").expect("Linux");
    // In the byte order of the machine.
    let name = format!("{:08X}", u32::from_ne_bytes(group));
    listed.lines().any(|line| line.trim_start().starts_with(&name))
}

/// Sends a film to a group on loopback, again and again.
fn send(film: &Path, to: &str) -> Process {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-re", "-stream_loop", "-1", "-i"]).arg(film).args(["-c", "copy", "-f", "mpegts"]);
    Process::spawn("ffmpeg", ffmpeg.arg(format!("udp://{to}?pkt_size=1316&localaddr=127.0.0.1&ttl=0")))
}

#[test]
fn two_nodes_take_one_group_and_the_other_goes_on_when_one_stops() {
    unless_starved(|| {
        const GROUP: [u8; 4] = [239, 255, 71, 19];
        let cluster = Cluster::new();
        let film = film(cluster.path(), 6);
        let source = |port: u16| format!("cam1=udp://239.255.71.19:{port}?interface=127.0.0.1&source=127.0.0.1");
        assert!(!is_member(GROUP));
        let edge = cluster.node("d", &[]);
        let join = edge.mesh.to_string();
        let first = cluster.node("a", &["--join", &join, "--udp", &source(0)]);
        let line = first.process.said("waiting for MPEG-TS");
        let addr: SocketAddr =
            line.split("udp://").nth(1).and_then(|rest| rest.trim_end_matches('"').parse().ok()).expect("an address");
        let second = cluster.node("b", &["--join", &join, "--udp", &source(addr.port())]);
        second.process.said("waiting for MPEG-TS");
        assert!(is_member(GROUP));
        let sender = send(&film, &addr.to_string());
        let list = edge.plays("cam1", 1);
        // Whoever came first goes on; the other stands by.
        let stands_by = |node: &Node| node.process.log().contains("UDP: on standby");
        let standing = until("one that stands by", PATIENCE, || {
            [&first, &second]
                .iter()
                .position(|node| stands_by(node))
                .filter(|_| edge.plays("cam1", 1).segments.len() > 1)
        });
        let mut nodes = [first, second];
        let active = 1 - standing;
        nodes[active].process.kill();
        nodes[standing].process.said("publishes stream=cam1");
        let last = list.last();
        until("the other's segments", PATIENCE, || {
            let list = edge.plays("cam1", 1);
            (list.discontinuities.last()? > &last && list.last() > *list.discontinuities.last()?).then_some(())
        });
        assert!(is_member(GROUP));
        nodes[standing].process.signal("TERM");
        assert!(nodes[standing].process.ended(PATIENCE).success());
        assert!(!is_member(GROUP), "the group is left");
        drop(sender);
        check_logs(&[&edge, &nodes[standing]]);
    });
}

#[test]
fn a_looped_file_goes_on_without_a_seam() {
    unless_starved(|| {
        let cluster = Cluster::new();
        // Of which the sound is longer than the pictures, and the seam every 4 s.
        let flv = film(cluster.path(), 4);
        let file = cluster.path().join("loop.mp4");
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-i"]).arg(&flv).args([
            "-f",
            "lavfi",
            "-i",
            "sine=r=48000:d=4.4",
            "-map",
            "0:v",
            "-map",
            "1",
        ]);
        let made = ffmpeg.args(["-c:v", "copy", "-c:a", "aac"]).arg(&file).status().expect("ffmpeg starts");
        assert!(made.success());
        let node = cluster.node("a", &["--loop", &format!("film={}", text(&file))]);
        let viewers = ["video", "audio"].map(|track| {
            node.plays("film", 0);
            Viewer::start(node.http, &format!("/film/{track}"))
        });
        for viewer in viewers {
            // Four passes.
            viewer.until("8 segments", |seen| (seen.list.segments.len() >= 8).then_some(()));
            let seen = viewer.close();
            in_time(seen.is_whole(), || format!("{:?}", seen.list));
        }
        check_logs(&[&node]);
    });
}

#[test]
fn a_stream_with_a_key_takes_who_knows_it() {
    unless_starved(|| {
        let cluster = Cluster::new();
        let film = film(cluster.path(), 4);
        let made = damson(&["key", "cam1"]).output().expect("damson starts");
        let said = String::from_utf8(made.stdout).expect("text");
        let word = |name: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("{said}")).trim().to_owned()
        };
        let (key, entry) = (word("key "), word("entry "));
        let node = cluster.node("a", &["--publish-key", &entry, "--srt", "127.0.0.1:0", "--srt-default", "cam1"]);
        let line = node.process.said("  srt   ");
        let srt: SocketAddr =
            line.split("srt://").nth(1).and_then(|rest| rest.split('?').next()?.parse().ok()).expect("an address");
        let over_srt = |id: &str| {
            let mut ffmpeg = Command::new("ffmpeg");
            ffmpeg.args(["-v", "error", "-re", "-i"]).arg(&film).args(["-c", "copy", "-f", "mpegts"]);
            Process::spawn("ffmpeg", ffmpeg.arg(format!("srt://{srt}?streamid={id}")))
        };
        let mut refused = [
            push(&film, node.rtmp, "cam1", Pace::RealTime),
            push(&film, node.rtmp, "cam1?key=plum", Pace::RealTime),
            over_srt("#!::r=cam1,m=publish,key=plum"),
            over_srt(""),
        ];
        for push in &mut refused {
            assert!(!push.ended(PATIENCE).success(), "{}", push.log());
        }
        node.process.said("refused: stream cam1 needs a publish key: add ?key=KEY to the URL");
        node.process.said("refused: key rejected for stream cam1");
        let metrics = http::get(node.http, "/metrics").text();
        assert!(metrics.contains("damson_ingest_keys_refused_total 4"), "{metrics}");
        // A stream without a key is open, as before.
        let open = push(&film, node.rtmp, "cam2", Pace::RealTime);
        let rtmp = push(&film, node.rtmp, &format!("cam1?key={key}"), Pace::RealTime);
        node.process.said("publishes stream=cam1");
        drop((rtmp, open));
        let again = over_srt(&format!("#!::r=cam1,m=publish,key={key}"));
        until("the push over SRT", PATIENCE, || node.process.log().contains("protocol=\"srt\"").then_some(()));
        drop(again);
        let log = node.process.log();
        assert!(!log.contains(&key) && !log.contains("plum"), "{log}");
        check_logs(&[&node]);
    });
}
