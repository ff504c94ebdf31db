//! Rubbish at an edge's HTTP port is answered or dropped. It leaves no memory behind, and doesn't disturb players.

use std::time::Duration;

use damson::clock;
use damson::edge::Limits;
use damson::net::Tls;
use damson_core::testing::synthetic;
use damson_core::testing::synthetic::{FIRST_MSN, PARTS, VIDEO};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::edge_server::{PLAYLIST, Server};

/// A random generator (Marsaglia's xorshift), the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // It is less than n, which is a usize.
        (self.0 % n as u64) as usize
    }
}

async fn server(limits: Limits) -> Server {
    Server::with(limits, Tls::self_signed(["localhost".to_owned()]).expect("a name")).await
}

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(("127.0.0.1", server.port)).await.expect("the edge listens")
}

/// Sends `bytes`, and waits until the edge has answered and closed.
async fn throw(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let (mut stream, mut answer) = (connect(server).await, Vec::new());
    // The edge may be the first to close.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

/// Valid requests, which the fuzzer changes.
fn fuzzed(chance: &mut Chance) -> Vec<u8> {
    let seeds: [&[u8]; 6] = [
        b"GET /cam1/video/playlist.m3u8?_HLS_msn=5&_HLS_part=3 HTTP/1.1\r\nHost: edge\r\n\r\n",
        b"GET /cam1/video/1795359753.m4s HTTP/1.1\r\nHost: edge\r\nRange: bytes=0-10\r\n\r\n",
        b"HEAD /cam1/index.m3u8 HTTP/1.1\r\nHost: edge\r\nIf-None-Match: \"x\"\r\nAccept-Encoding: gzip\r\n\r\n",
        b"POST /api/v1/streams HTTP/1.1\r\nHost: edge\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x05\x01\x05\0\0\0\x01\x82\x86\x84\x41\x00",
        b"OPTIONS * HTTP/1.0\r\nContent-Length: 99999999999999999999\r\n\r\n",
    ];
    let mut bytes = seeds[chance.below(seeds.len())].to_vec();
    for _ in 0..=chance.below(6) {
        let at = chance.below(bytes.len());
        match chance.below(5) {
            0 => bytes[at] = chance.below(256) as u8,
            1 => bytes.truncate(at + 1),
            2 => bytes.insert(at, chance.below(256) as u8),
            3 => bytes.extend_from_within(at..),
            _ => drop(bytes.drain(at..=at)),
        }
        if bytes.is_empty() {
            bytes.push(b'G');
        }
    }
    bytes
}

/// Returns the resident memory of this process, in KiB.
#[cfg(target_os = "linux")]
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS is there");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[tokio::test]
async fn fuzzed_requests_harm_nobody() {
    let server =
        server(Limits { head: Duration::from_millis(500), quiet: Duration::from_millis(500), ..Limits::default() })
            .await;
    server.feed(3, 10_000);
    let mut chance = Chance(0x2545_f491_4f6c_dd1d);
    let mut answered = 0;
    for _ in 0..10_000 {
        let bytes = fuzzed(&mut chance);
        let answer = throw(&server, &bytes).await;
        let known = answer.is_empty() || answer.starts_with(b"HTTP/1.") || answer[3] == 4;
        assert!(known, "{} became {}", bytes.escape_ascii(), answer.escape_ascii());
        answered += usize::from(!answer.is_empty());
    }
    assert!(answered > 1_000, "{answered} answers");
    server.is_alone().await;
    server.holds(0).await;
    assert!(throw(&server, b"GET /healthz HTTP/1.0\r\n\r\n").await.ends_with(b"ok\n"));
}

/// Heads that never end, and clients that never read, are dropped at their timeout; connections beyond the limit of an
/// address, at once.
#[tokio::test]
async fn the_slow_are_dropped() {
    let soon = Duration::from_millis(300);
    let server = server(Limits { head: soon, quiet: soon, handshake: soon, stall: soon, ..Limits::default() }).await;
    server.feed(3, 1_000_000);
    let mut slow = Vec::new();
    for bytes in [&b""[..], b"P", b"PRI * HTTP/2", b"GET /cam1/vid", b"GET / HTTP/1.1\r\nX-A: 1\r\nX-B"] {
        let mut stream = connect(&server).await;
        stream.write_all(bytes).await.expect("the edge reads");
        slow.push(stream);
    }
    slow.push(TcpStream::connect(("127.0.0.1", server.https)).await.expect("the edge listens"));
    // 10 MB fit into no socket's buffers.
    let mut reader = connect(&server).await;
    for segment in 0..2 {
        let request = format!("GET /cam1/video/{}.m4s HTTP/1.1\r\nHost: edge\r\n\r\n", FIRST_MSN + segment);
        reader.write_all(request.as_bytes()).await.expect("the edge reads");
    }
    server.is_alone().await;
    for mut stream in slow {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", answer.escape_ascii());
    }
    let mut got = Vec::new();
    let _ = reader.read_to_end(&mut got).await;
    assert!(got.len() < 2 * usize::from(PARTS) * 1_000_000, "it was broken off");
}

#[tokio::test]
async fn one_address_has_so_many_connections() {
    let server = server(Limits { connections_of_address: 3, ..Limits::default() }).await;
    let mut kept = Vec::new();
    for n in 1..=3 {
        kept.push(connect(&server).await);
        while server.edge.connections() < n {
            tokio::task::yield_now().await;
        }
    }
    assert!(throw(&server, b"GET /healthz HTTP/1.0\r\n\r\n").await.is_empty(), "refused");
    drop(kept.pop());
    while server.edge.connections() > 2 {
        tokio::task::yield_now().await;
    }
    assert!(throw(&server, b"GET /healthz HTTP/1.0\r\n\r\n").await.ends_with(b"ok\n"));
}

/// A thousand silent connections and thousands of unknown streams: memory comes back, and a live viewer gets each part.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn crowds_leave_no_memory_behind() {
    const CROWD: usize = 1_000;
    let server = server(Limits { connections_of_address: 4 * CROWD, ..Limits::default() }).await;
    let record = server.feed(0, 10_000);
    let mut viewer = server.connect().await;
    let round = async || {
        let mut crowd = Vec::new();
        for _ in 0..CROWD {
            let mut stream = connect(&server).await;
            stream.write_all(b"GET /").await.expect("the edge reads");
            crowd.push(stream);
        }
        let mut asker = connect(&server).await;
        for n in 0..2_000 {
            let request = format!("GET /nobody{n}/video/playlist.m3u8 HTTP/1.1\r\nHost: edge\r\n\r\n");
            asker.write_all(request.as_bytes()).await.expect("the edge reads");
            let (mut buf, mut len) = ([0; 2_048], 0);
            while !buf[..len].ends_with(format!("nobody{n}\n").as_bytes()) {
                len += asker.read(&mut buf[len..]).await.expect("an answer");
            }
            assert!(buf.starts_with(b"HTTP/1.1 404"));
        }
        drop((crowd, asker));
        while server.edge.connections() > 1 {
            tokio::task::yield_now().await;
        }
        resident()
    };
    let mut parts = (2..).flat_map(|segment| (0..PARTS).map(move |part| (FIRST_MSN + segment, part)));
    let mut after_each = Vec::new();
    while after_each.len() < 4 {
        let watch = async {
            for (msn, part) in parts.by_ref().take(200) {
                viewer.send("GET", &format!("{PLAYLIST}?_HLS_msn={msn}&_HLS_part={part}"), &[]).await;
                server.holds(1).await;
                // Small ones, since segments that have left the window take memory, too.
                let (header, body, trace) = synthetic::part(&record, VIDEO, msn, part, 10);
                server.edge.store().part(&record.stream, header, body, trace, clock::now());
                let answer = viewer.answer().await;
                assert!(answer.text().contains(&format!("{msn}.{part}.m4s")), "{}", answer.text());
            }
        };
        after_each.push(tokio::join!(round(), watch).0);
    }
    // The allocator keeps the memory of the first crowds for the next ones.
    let (before, after) = (after_each[1], after_each[3]);
    assert!(after <= before + before / 10, "{before} KiB became {after} KiB");
}
