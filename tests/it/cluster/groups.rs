//! IP multicast between hosts: a sender and two ingests, each in a network namespace, on one bridge.
//!
//! It needs root and iproute2, as on a runner of CI; elsewhere it says that it was skipped.

use std::path::Path;

use super::hosts::Hosts;
use super::machine::{skip, unless_starved};
use super::playlist::Playlist;
use super::process::{PATIENCE, Process, until};
use super::push::film;
use super::{Cluster, Node, check_logs, text};

/// The group, and as `/proc/net/igmp` writes it on a machine of either byte order.
const GROUP: &str = "232.71.0.19";
fn listed() -> String {
    format!("{:08X}", u32::from_ne_bytes([232, 71, 0, 19]))
}

impl Hosts {
    fn is_member(&self, host: usize) -> bool {
        self.says(host, "cat", &["/proc/net/igmp"]).lines().any(|line| line.trim_start().starts_with(&listed()))
    }

    fn ingest(&self, cluster: &Cluster, host: usize, name: &str, args: &[&str]) -> Node {
        let mesh = format!("10.71.0.{}:4900", host + 1);
        let source = format!("cam1=udp://{GROUP}:5000?interface=10.71.0.{}&source=10.71.0.1", host + 1);
        let mut command = self.at(host, env!("CARGO_BIN_EXE_damson"));
        command.args(["node", "--identity", text(&cluster.identity(name)), "--mesh", &mesh, "--udp", &source]);
        Node::start(name, command.args(["--rtmp", "127.0.0.1:0", "--http", "127.0.0.1:8080"]).args(args))
    }

    /// The playlist at a host.
    fn playlist(&self, host: usize) -> Option<Playlist> {
        let fetch = "exec 3<>/dev/tcp/127.0.0.1/8080 && \
                     printf 'GET /cam1/video/playlist.m3u8 HTTP/1.0\\r\\nHost: x\\r\\n\\r\\n' >&3 && cat <&3";
        let answer = self.says(host, "bash", &["-c", fetch]);
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.contains(" 200 ").then(|| Playlist::parse(body))
    }

    fn send(&self, film: &Path) -> Process {
        let mut ffmpeg = self.at(0, "ffmpeg");
        ffmpeg.args(["-v", "error", "-re", "-stream_loop", "-1", "-i"]).arg(film).args(["-c", "copy", "-f", "mpegts"]);
        Process::spawn("ffmpeg", ffmpeg.arg(format!("udp://{GROUP}:5000?pkt_size=1316&localaddr=10.71.0.1")))
    }
}

#[test]
fn two_hosts_take_one_group_from_one_source_and_leave_it() {
    unless_starved(|| {
        let hosts = match Hosts::new(2) {
            Ok(hosts) => hosts,
            Err(refused) => {
                return skip(&format!("no network namespaces here (root, and iproute2, are needed): {refused}"));
            }
        };
        let cluster = Cluster::new();
        let film = film(cluster.path(), 6);
        let first = hosts.ingest(&cluster, 1, "a", &[]);
        let second = hosts.ingest(&cluster, 2, "b", &["--join", "10.71.0.2:4900"]);
        let mut nodes = [first, second];
        for node in &nodes {
            node.process.said("waiting for MPEG-TS");
        }
        assert!(hosts.is_member(1) && hosts.is_member(2) && !hosts.is_member(0));
        let _sender = hosts.send(&film);
        for node in &nodes {
            node.process.said("UDP: first datagram of a sender from=10.71.0.1:");
        }
        // One publishes; both serve what it makes.
        let standing = until("one that stands by", PATIENCE, || {
            nodes.iter().position(|node| node.process.log().contains("UDP: on standby"))
        });
        let list = until("segments at both", PATIENCE, || {
            let [a, b] = [1, 2].map(|host| hosts.playlist(host).filter(|list| list.segments.len() > 1));
            a.zip(b).map(|(a, _)| a)
        });
        let active = 1 - standing;
        nodes[active].process.signal("TERM");
        assert!(nodes[active].process.ended(PATIENCE).success());
        assert!(!hosts.is_member(active + 1) && hosts.is_member(standing + 1), "membership goes with the node");
        nodes[standing].process.said("publishes stream=cam1");
        until("new segments", PATIENCE, || hosts.playlist(standing + 1).filter(|now| now.last() > list.last() + 1));
        check_logs(&nodes.each_ref());
    });
}
