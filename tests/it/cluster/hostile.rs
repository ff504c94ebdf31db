//! Rubbish at every port while a stream runs: who sent it is told, nobody panics, and the stream has no gap.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

use super::deadline::in_time;
use super::machine::unless_starved;
use super::playlist::Viewer;
use super::push::{Pace, film, push};
use super::{Cluster, Node, check_logs, damson, http, process::Process};

/// Bytes that look like nothing, the same in each run (Marsaglia's xorshift).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// Runs `attack` beside a stream over two nodes.
fn check(attack: impl FnOnce(&Cluster, &[Node])) {
    let cluster = Cluster::new();
    let film = film(cluster.path(), 40);
    let nodes = cluster.line(&["a", "d"], &[]);
    let mut ffmpeg = push(&film, nodes[0].rtmp, "cam", Pace::RealTime);
    nodes[1].plays("cam", 1);
    let viewer = Viewer::start(nodes[1].http, "/cam/video");
    let before = viewer.until("a part", |seen| seen.list.hint);
    attack(&cluster, &nodes);
    viewer.until("a segment after it", |seen| (seen.list.hint > Some((before.0 + 1, u16::MAX))).then_some(()));
    let seen = viewer.close();
    in_time(seen.is_whole(), || format!("{:?}", seen.list));
    assert!(ffmpeg.is_running(), "{}", ffmpeg.log());
    check_logs(&nodes.iter().collect::<Vec<_>>());
}

/// What is sent to the RTMP port, and what the log says of it.
fn rtmp_is_told(node: &Node, bytes: &[u8], why: &str) {
    let mut stream = http::connect(node.rtmp).expect("it listens");
    let from = stream.local_addr().expect("connected");
    let sent = stream.write_all(bytes).and_then(|()| stream.shutdown(std::net::Shutdown::Write));
    // The node may be the first to close.
    let _ = sent.and_then(|()| stream.read_to_end(&mut Vec::new()));
    let said = node.process.said(&format!("remote={from}"));
    assert!(said.contains("RTMP: closed") && said.contains("byte=") && said.contains(why), "{said}");
}

/// C0, C1, C2 of RTMP 1.0, 5.2.
fn handshake() -> Vec<u8> {
    let mut bytes = vec![3];
    bytes.extend([0; 8]);
    bytes.extend(noise(1_528));
    bytes.extend(vec![0; 1_536]);
    bytes
}

#[test]
fn at_the_rtmp_port() {
    unless_starved(|| {
        check(|_, nodes| {
            let a = &nodes[0];
            rtmp_is_told(a, b"GET / HTTP/1.1\r\n\r\n", "WARN");
            rtmp_is_told(a, &noise(8_192), "WARN");
            rtmp_is_told(a, &[&handshake()[..], &noise(20_000)].concat(), "WARN");
            // A message of 16 MiB is announced in its first chunk.
            rtmp_is_told(a, &[&handshake()[..], &[3, 0, 0, 0, 0xff, 0xff, 0xff, 20, 1, 0, 0, 0]].concat(), "WARN");
            rtmp_is_told(a, &handshake()[..1_000], "");
        });
    });
}

#[test]
fn a_truncated_film() {
    unless_starved(|| {
        check(|cluster, nodes| {
            // A push whose FLV ends in the middle of a frame, cut by what carries it.
            let film = film(cluster.path(), 8);
            let bytes = std::fs::read(&film).expect("ffmpeg wrote it");
            let torn = cluster.path().join("torn.flv");
            std::fs::write(&torn, &bytes[..bytes.len() / 2]).expect("a temporary folder can be written");
            let mut ffmpeg = push(&torn, nodes[0].rtmp, "torn", Pace::Times(8));
            let _ = ffmpeg.ended(super::PATIENCE);
            nodes[1].plays("torn", 1);
        });
    });
}

#[test]
fn at_the_mesh_port() {
    unless_starved(|| {
        check(|_, nodes| {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
            let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            socket.bind(&local.into()).expect("a free port");
            for node in nodes {
                for length in [0, 1, 20, 1_200, 1_472] {
                    let mut datagram = noise(length);
                    // A long header of QUIC version 1 (RFC 9000, 17.2), and then rubbish.
                    for first in [0x00, 0xc0, 0xff] {
                        if let Some(byte) = datagram.first_mut() {
                            *byte = first;
                        }
                        if let Some(version) = datagram.get_mut(1..5) {
                            version.copy_from_slice(&[0, 0, 0, 1]);
                        }
                        socket.send_to(&datagram, &node.mesh.into()).expect("loopback takes it");
                    }
                }
            }
            // A node of another cluster: both say why.
            let other = Cluster::new();
            let stranger = other.node("stranger", &["--topology", "static", "--join", &nodes[0].mesh.to_string()]);
            let said = stranger.process.said("no link with the node");
            assert!(said.contains(&nodes[0].mesh.to_string()), "{said}");
            let said = nodes[0].process.said(&stranger.mesh.to_string());
            assert!(said.contains("WARN"), "{said}");
            // Neither knows the other's streams.
            assert_eq!(http::get(stranger.http, "/cam/index.m3u8").status, 404);
        });
    });
}

#[test]
fn at_the_http_port() {
    unless_starved(|| {
        check(|_, nodes| {
            let d = &nodes[1];
            let mut headers = String::from("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
            for n in 0..150 {
                let _ = write!(headers, "X-{n}: {n}\r\n");
            }
            let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let cases: &[(String, &[u16])] = &[
            (ask(&format!("/{}", "a".repeat(9_000))), &[414, 431]),
            (ask("/../../../etc/passwd"), &[400, 404]),
            (ask("/cam/video/%2e%2e/%2e%2e/etc/passwd"), &[400, 404]),
            (ask("/cam/video/%00.m4s"), &[400]),
            (ask("/cam/video/99999999999999999999999.m4s"), &[400, 404]),
            (ask("/cam/video/playlist.m3u8?_HLS_msn=18446744073709551615"), &[400]),
            (ask("/cam/video/playlist.m3u8?_HLS_part=1"), &[400]),
            (ask("/cam/video/playlist.m3u8?_HLS_msn=-1&_HLS_part=x"), &[400]),
            (format!("{headers}\r\n"), &[400, 431]),
            (
                "POST /cam/video/playlist.m3u8 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    .into(),
                &[405],
            ),
            ("\u{0}\u{1}\u{2} nonsense\r\n\r\n".into(), &[400]),
        ];
            for (request, expect) in cases {
                let answer = http::exchange(d.http, request.as_bytes()).unwrap_or_default();
                let line = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
                let status = line.split(' ').nth(1).and_then(|s| s.parse().ok());
                let begin = request.chars().take(60).collect::<String>();
                assert!(status.is_some_and(|s: u16| expect.contains(&s)), "{begin:?}: {line:?}");
            }
            // So much that the connection is broken off before all of it is read; an answer may be lost on its way.
            let _ = http::exchange(d.http, ask(&format!("/{}", "a".repeat(1_000_000))).as_bytes());
            // Slow readers and slow writers hold connections, and hold up nobody.
            let slow: Vec<_> = (0..200)
                .map(|_| {
                    let mut stream = http::connect(d.http).expect("it listens");
                    stream.write_all(b"GET /cam/video/playl").expect("it reads");
                    stream
                })
                .collect();
            assert_eq!(http::get(d.http, "/healthz").status, 200);
            drop(slow);
        });
    });
}

#[test]
fn an_identity_that_is_none() {
    unless_starved(|| {
        let cluster = Cluster::new();
        let identity = cluster.identity("n");
        std::fs::write(identity.join("node.pem"), "rubbish").expect("a temporary folder can be written");
        let mut process = Process::spawn("damson", &mut damson(&["node", "--identity", super::text(&identity)]));
        assert!(!process.ended(super::PATIENCE).success());
        let said = process.log();
        assert!(said.contains("node.pem") && !said.contains("panicked"), "{said}");
    });
}
