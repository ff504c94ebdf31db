//! Pushes over TCP through a network that loses packets: what is pushed arrives whole.
//!
//! A bridge between the pushers and the ingest loses what a classifier of the kernel's picks out (tc-bpf(8)), both ways. Neither end
//! is told: what its own queue drops TCP sends again at once. It needs root, iproute2, HTB and cls_bpf; elsewhere the tests say that
//! they were skipped.

use super::hosts::{Hosts, done};
use super::http_push::check_all;
use super::machine::{skip, unless_starved};
use super::playlist::{to_the_end, viewers};
use super::process::{PATIENCE, Process};
use super::push::film;
use super::{Cluster, Node, check_logs, text};

/// Of a hundred packets so many are lost, each way, of one pusher and of the other.
const LOST: [u64; 2] = [1, 5];
/// At which host of the network the ingest is; the pushers are at the next ones.
const INGEST: usize = 1;

/// Where in a frame the source and the destination of IPv4 stand (RFC 791, 3.1), behind Ethernet's 14 bytes.
const SOURCE: u32 = 14 + 12;
const DESTINATION: u32 = 14 + 16;

struct Network {
    hosts: Hosts,
    /// Where the ingest can be reached from here, without loss.
    ingest: String,
}

impl Network {
    fn new() -> Result<Network, String> {
        let hosts = Hosts::new(1 + LOST.len())?;
        for host in INGEST..=INGEST + LOST.len() {
            // Packets of a wire's size, and not of 64 KB.
            hosts.tool("ip", host, &["link", "set", "dev", "eth0", "gso_max_segs", "1"])?;
            let port = format!("port{host}");
            hosts.tool("tc", 0, &["qdisc", "add", "dev", &port, "root", "handle", "1:", "htb", "default", "1"])?;
            hosts.class(&port, 1)?;
        }
        for (n, percent) in LOST.into_iter().enumerate() {
            let host = INGEST + 1 + n;
            hosts.lose(percent, &format!("port{INGEST}"), SOURCE, host)?;
            hosts.lose(percent, &format!("port{host}"), DESTINATION, host)?;
        }
        let ingest = hosts.reach(INGEST)?;
        Ok(Network { hosts, ingest })
    }

    fn node(&self, cluster: &Cluster) -> Node {
        let mut command = self.hosts.at(INGEST, env!("CARGO_BIN_EXE_damson"));
        // Longer than TCP takes to send a SYN twice again: else a segment that is so late finds the stream ended.
        command.args(["node", "--identity", text(&cluster.identity("a")), "--mesh", "127.0.0.1:4900", "--linger", "5"]);
        let lossy = |port: u16| format!("{}:{port}", Hosts::addr(INGEST));
        command.args(["--rtmp", &lossy(1_935), "--http-ingest", &lossy(8_081)]);
        Node::start("a", command.args(["--http", &format!("{}:8080", self.ingest)]))
    }
}

impl Hosts {
    fn addr(host: usize) -> String {
        format!("10.71.0.{}", host + 1)
    }

    /// `ip` or `tc` for a host.
    fn tool(&self, tool: &str, host: usize, args: &[&str]) -> Result<(), String> {
        done(tool, &[&["-n", self.name(host)], args].concat())
    }

    fn class(&self, port: &str, number: usize) -> Result<(), String> {
        let class = format!("1:{number}");
        // Faster than anything here; a quantum, for HTB says that its own would be big.
        let rate = ["htb", "rate", "1gbit", "quantum", "1514"];
        self.tool("tc", 0, &[&["class", "add", "dev", port, "parent", "1:", "classid", &class], &rate[..]].concat())
    }

    /// Has a port of the bridge lose packets with a host's address: a class takes them whose queue has no place.
    ///
    /// Which is decided by their identification, that TCP counts up from anywhere: Fibonacci hashing spreads them evenly. The 0 of
    /// a SYN-ACK is none of them, or each would be.
    fn lose(&self, percent: u64, port: &str, field: u32, host: usize) -> Result<(), String> {
        self.class(port, host)?;
        let class = format!("1:{host}");
        self.tool(
            "tc",
            0,
            &["qdisc", "add", "dev", port, "parent", &class, "handle", &format!("{host}:"), "pfifo", "limit", "0"],
        )?;
        let addr = u32::from_be_bytes([10, 71, 0, u8::try_from(host + 1).expect("few hosts")]);
        // ld [field]; jne addr, no; ldh [identification]; mul; rsh 16; mod 100; jlt 100 - percent, no; ret -1; no: ret 0
        let code = format!(
            "9,32 0 0 {field},21 0 6 {addr},40 0 0 18,36 0 0 2654435769,116 0 0 16,148 0 0 100,53 0 1 {},6 0 0 4294967295,6 0 0 0",
            100 - percent
        );
        let filter = ["filter", "add", "dev", port, "parent", "1:", "protocol", "ip", "bpf", "bytecode", &code];
        self.tool("tc", 0, &[&filter[..], &["flowid", &class]].concat())
    }

    /// How many packets with a host's address a port has lost, and how many of all it has let pass.
    fn lost(&self, port: &str, host: usize) -> (u64, u64) {
        let of = |kind: &str, begins: &str, before: &str| {
            let said = self.says(0, "tc", &["-s", kind, "show", "dev", port]);
            let counts = said.split(begins).nth(1).and_then(|rest| rest.split(before).nth(1));
            let digits = counts.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
            digits.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("{said}"))
        };
        (of("qdisc", &format!("qdisc pfifo {host}: "), "dropped "), of("class", "class htb 1:1 ", " bytes "))
    }
}

/// Pushes a film by each of these muxers, `STREAM` being the stream's name, through each loss at the same time.
fn check(pushes: &[(&str, &[&str], &str)]) {
    unless_starved(|| {
        let network = match Network::new() {
            Ok(network) => network,
            Err(refused) => return skip(&format!("no network that loses packets here: {refused}")),
        };
        let cluster = Cluster::new();
        let film = film(cluster.path(), 12);
        let node = network.node(&cluster);
        let mut under_way = Vec::new();
        for (name, muxer, url) in pushes {
            for (n, percent) in LOST.into_iter().enumerate() {
                let stream = format!("{name}{percent}");
                let mut ffmpeg = network.hosts.at(INGEST + 1 + n, "ffmpeg");
                ffmpeg.args(["-v", "error", "-re", "-i"]).arg(&film).args(["-c", "copy"]).args(*muxer);
                let url = url.replace("HOST", &Hosts::addr(INGEST)).replace("STREAM", &stream);
                under_way.push((stream, Process::spawn("ffmpeg", ffmpeg.arg(url))));
            }
        }
        let watched: Vec<_> = under_way.iter().map(|(stream, _)| viewers(&node, stream)).collect();
        for ((stream, mut push), viewers) in under_way.into_iter().zip(watched) {
            assert!(push.ended(PATIENCE).success(), "{stream}: {}", push.log());
            check_all(cluster.path(), &node, &stream, &to_the_end(viewers), [&film, &film]);
        }
        for (n, percent) in LOST.into_iter().enumerate() {
            let host = INGEST + 1 + n;
            // What goes there is beside the other pusher's; what comes back is alone.
            let (there, _) = network.hosts.lost(&format!("port{INGEST}"), host);
            let (back, passed) = network.hosts.lost(&format!("port{host}"), host);
            let share = 100.0 * back as f64 / (back + passed) as f64;
            eprintln!("{percent} %: there {there} packets were lost, back {back} of {}, {share:.1} %", back + passed);
            let wanted = percent as f64;
            assert!(there >= percent && (wanted / 4.0..wanted * 4.0).contains(&share), "{percent} %: {there}, {share}");
        }
        check_logs(&[&node]);
    });
}

#[test]
fn rtmp_arrives_whole_through_one_and_five_percent() {
    check(&[("rtmp", &["-f", "flv"], "rtmp://HOST:1935/live/STREAM")]);
}

#[test]
fn http_arrives_whole_through_one_and_five_percent() {
    let segments = ["-f", "hls", "-hls_time", "2", "-hls_list_size", "3", "-method", "PUT"];
    check(&[
        ("ts", &["-f", "mpegts", "-method", "PUT"], "http://HOST:8081/ingest/STREAM"),
        // Each segment and each playlist by a connection of its own.
        ("hls", &segments, "http://HOST:8081/ingest/STREAM/out.m3u8"),
    ]);
}
