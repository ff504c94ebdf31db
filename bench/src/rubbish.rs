//! `rubbish`: an edge under all that isn't a request, while a viewer follows a live stream: requests that were good once,
//! connections that say nothing, heads that never end, names that nobody has. Its memory before, at its highest, and once
//! the connections are closed; and whether the viewer has missed a part.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use damson::clock;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::cluster::{self, Cluster, Member};
use crate::http::Client;
use crate::table::{Readings, Table};
use crate::{Result, film, process};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Requests that were good once
    #[arg(long, default_value_t = 10_000)]
    fuzzed: u64,
    /// Connections that say nothing
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// Connections whose request comes byte by byte
    #[arg(long, default_value_t = 1_000)]
    slow: usize,
    /// Streams that nobody has, each asked for once
    #[arg(long, default_value_t = 1_000_000)]
    unknown: u64,
    /// How long the stream runs first, in s, until the window is full
    #[arg(long, default_value_t = 60)]
    fill: u64,
    /// How often all of it comes
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Of the chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A damson of another build
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// How many connect at a time, and the pause after them: a listener's queue has an end.
const CONNECTING: usize = 100;
const PAUSE: Duration = Duration::from_millis(5);
/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long idle connections are held open: less than the edge bears.
const IDLE: Duration = Duration::from_secs(8);
/// How long heads may trickle before that counts as a fault of the edge.
const TRICKLE_MAX: Duration = Duration::from_secs(60);
/// How many unknown names are asked for ahead on one connection, and on how many.
const AHEAD: u64 = 50;
const ASKERS: u64 = 8;
/// How long after a storm memory is read: the allocator returns what is free within 10 s.
const CALM: Duration = Duration::from_secs(12);

/// What a viewer has seen.
#[derive(Default)]
struct Seen {
    parts: u64,
    missed: u64,
    /// Between two parts, in ms.
    waits: Readings,
}

/// What is done to the edge.
#[derive(Clone, Copy)]
enum Storm {
    Fuzzed,
    Idle,
    Slow,
    Unknown,
}

const HEADINGS: [&str; 9] = [
    "what comes",
    "memory before, MiB",
    "at its highest",
    "once closed",
    "after by before",
    "answered",
    "took, s",
    "parts seen, missed",
    "from part to part, ms, p50 / longest",
];

fn row(table: &mut Table, name: String, memory: [f64; 3], answered: String, took: f64, seen: Seen) {
    table.row([
        name,
        format!("{:.1}", memory[0]),
        format!("{:.1}", memory[1]),
        format!("{:.1}", memory[2]),
        format!("{:.2}", memory[2] / memory[0]),
        answered,
        format!("{took:.0}"),
        format!("{}, {}", seen.parts, seen.missed),
        format!("{:.0} / {:.0}", seen.waits.median(), seen.waits.quantile(1.0)),
    ]);
}

/// Measures, and prints the table.
pub(crate) async fn run(options: Options) -> Result<()> {
    let damson = match &options.program {
        Some(program) => program.clone(),
        None => process::damson().await?,
    };
    let film = film::film().await?;
    let most = ["--connections", "30000", "--address-connections", "30000"];
    let cluster = Cluster::with(&damson, 2, &most).await?;
    let _push = film::push(&film, &cluster.push_url("bench")?)?;
    let edge = cluster.nodes.last().ok_or("a cluster has nodes")?;
    let playlists = cluster::until_live(edge.http, "bench", 4).await?;
    let playlist = playlists.first().ok_or("a stream has a track")?.clone();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let viewer = tokio::spawn(follow(edge.http, playlist, Arc::clone(&seen)));
    tokio::time::sleep(Duration::from_secs(options.fill)).await;
    let take = || std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));

    let mut table = Table::new(&HEADINGS);
    take();
    let first = calm(edge).await?;
    tokio::time::sleep(CALM * 2).await;
    let quiet = calm(edge).await?;
    row(&mut table, "nothing".to_owned(), [first, first.max(quiet), quiet], String::new(), 0.0, take());
    let mut before = quiet;
    for round in 1..=options.rounds {
        for storm in [Storm::Fuzzed, Storm::Idle, Storm::Slow, Storm::Unknown] {
            let began = clock::now();
            let over = AtomicBool::new(false);
            let thrown = async {
                let answered = throw(storm, &options, edge.http).await;
                over.store(true, Ordering::Relaxed);
                answered
            };
            let (answered, highest) = tokio::join!(thrown, highest(edge, &over));
            let (answered, took) = (answered?, clock::now().since(began).as_secs_f64());
            let after = calm(edge).await?;
            let name = match storm {
                Storm::Fuzzed => format!("{} fuzzed requests", options.fuzzed),
                Storm::Idle => format!("{} idle connections, {} s", options.idle, IDLE.as_secs()),
                Storm::Slow => format!("{} heads, a byte a second", options.slow),
                Storm::Unknown => format!("{} unknown streams", options.unknown),
            };
            row(&mut table, format!("{round}: {name}"), [before, highest?, after], answered.to_string(), took, take());
            before = after;
        }
    }
    let last = calm(edge).await?;
    if viewer.is_finished() {
        return Err(viewer.await?.err().unwrap_or_else(|| "the viewer's stream has ended".into()));
    }
    viewer.abort();
    println!("A node with one stream of 3 Mb/s, an edge one hop away, and a viewer of its parts.\n");
    table.print();
    println!("\nAll in all: {quiet:.1} MiB before, {last:.1} MiB after: {:.2} times as much.", last / quiet);
    Ok(())
}

/// Memory once nothing happens any more, in MiB: the median of a few readings.
async fn calm(edge: &Member) -> Result<f64> {
    tokio::time::sleep(CALM).await;
    let mut readings = Readings::default();
    for _ in 0..15 {
        readings.push(edge.process.memory_mib()?.0);
        tokio::time::sleep(LOOK).await;
    }
    Ok(readings.median())
}

async fn highest(edge: &Member, over: &AtomicBool) -> Result<f64> {
    let mut highest = 0.0_f64;
    while !over.load(Ordering::Relaxed) {
        highest = highest.max(edge.process.memory_mib()?.0);
        tokio::time::sleep(LOOK).await;
    }
    Ok(highest)
}

/// How many were answered.
async fn throw(storm: Storm, options: &Options, edge: SocketAddr) -> Result<u64> {
    match storm {
        Storm::Fuzzed => fuzzed(options, edge).await,
        Storm::Idle => idle(options.idle, edge).await,
        Storm::Slow => slow(options.slow, edge).await,
        Storm::Unknown => unknown(options.unknown, edge).await,
    }
}

async fn fuzzed(options: &Options, edge: SocketAddr) -> Result<u64> {
    const AT_ONCE: u64 = 50;
    let mut throwers = JoinSet::new();
    for n in 0..AT_ONCE {
        let (count, mut rng) = (options.fuzzed / AT_ONCE, Xoshiro256PlusPlus::seed_from_u64(options.seed ^ (n << 32)));
        throwers.spawn(async move {
            let mut answered = 0;
            for _ in 0..count {
                let (bytes, mut answer) = (mutilated(&mut rng), Vec::new());
                let mut stream = TcpStream::connect(edge).await?;
                // The edge may be the first to close.
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                let _ = stream.read_to_end(&mut answer).await;
                answered += u64::from(!answer.is_empty());
            }
            Ok::<_, std::io::Error>(answered)
        });
    }
    let mut answered = 0;
    while let Some(done) = throwers.join_next().await {
        answered += done??;
    }
    Ok(answered)
}

/// A request that was good once.
fn mutilated(rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let seeds: [&[u8]; 6] = [
        b"GET /bench/video/playlist.m3u8?_HLS_msn=5&_HLS_part=3 HTTP/1.1\r\nHost: edge\r\n\r\n",
        b"GET /bench/video/1795359753.m4s HTTP/1.1\r\nHost: edge\r\nRange: bytes=0-10\r\n\r\n",
        b"HEAD /bench/index.m3u8 HTTP/1.1\r\nHost: edge\r\nIf-None-Match: \"x\"\r\nAccept-Encoding: gzip\r\n\r\n",
        b"POST /api/v1/streams HTTP/1.1\r\nHost: edge\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x05\x01\x05\0\0\0\x01\x82\x86\x84\x41\x00",
        b"OPTIONS * HTTP/1.0\r\nContent-Length: 99999999999999999999\r\n\r\n",
    ];
    let mut bytes = seeds[rng.random_range(0..seeds.len())].to_vec();
    for _ in 0..rng.random_range(1..7) {
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..5) {
            0 => bytes[at] = rng.random(),
            1 => bytes.truncate(at + 1),
            2 => bytes.insert(at, rng.random()),
            3 => bytes.extend_from_within(at..),
            _ => drop(bytes.drain(at..=at)),
        }
        if bytes.is_empty() {
            bytes.push(b'G');
        }
    }
    bytes
}

async fn crowd(n: usize, edge: SocketAddr) -> Result<Vec<TcpStream>> {
    let mut crowd = Vec::with_capacity(n);
    while crowd.len() < n {
        for _ in 0..CONNECTING.min(n - crowd.len()) {
            crowd.push(TcpStream::connect(edge).await?);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(crowd)
}

async fn idle(n: usize, edge: SocketAddr) -> Result<u64> {
    let crowd = crowd(n, edge).await?;
    tokio::time::sleep(IDLE).await;
    drop(crowd);
    Ok(0)
}

/// Until all are dropped; how many were told why.
async fn slow(n: usize, edge: SocketAddr) -> Result<u64> {
    let mut clients = JoinSet::new();
    for mut stream in crowd(n, edge).await? {
        clients.spawn(async move {
            let (mut read, mut write) = stream.split();
            let mut answer = Vec::new();
            let trickle = async {
                let mut bytes = b"GET / HTTP/1.1\r\nX-".iter().copied().chain(std::iter::repeat(b'a'));
                while write.write_all(&[bytes.next().unwrap_or(b'a')]).await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            };
            tokio::select! {
                _ = read.read_to_end(&mut answer) => {}
                () = async { trickle.await; std::future::pending::<()>().await } => {}
            }
            u64::from(!answer.is_empty())
        });
    }
    let all = async {
        let mut answered = 0;
        while let Some(done) = clients.join_next().await {
            answered += done?;
        }
        Ok::<_, tokio::task::JoinError>(answered)
    };
    match tokio::time::timeout(TRICKLE_MAX, all).await {
        Ok(answered) => Ok(answered?),
        Err(_) => Err("heads that trickle aren't dropped".into()),
    }
}

async fn unknown(n: u64, edge: SocketAddr) -> Result<u64> {
    let mut askers = JoinSet::new();
    for asker in 0..ASKERS {
        askers.spawn(async move {
            let mut stream = TcpStream::connect(edge).await?;
            let (mut answered, mut buf, mut tail) = (0, vec![0; 64 << 10], Vec::new());
            let names: Vec<u64> = (0..n).skip(usize::try_from(asker)?).step_by(usize::try_from(ASKERS)?).collect();
            for batch in names.chunks(usize::try_from(AHEAD)?) {
                let ask = |n: &u64| format!("GET /nobody{n}/video/playlist.m3u8 HTTP/1.1\r\nHost: edge\r\n\r\n");
                stream.write_all(batch.iter().map(ask).collect::<String>().as_bytes()).await?;
                let mut left = batch.len();
                while left > 0 {
                    let n = stream.read(&mut buf).await?;
                    if n == 0 {
                        return Err("the edge closed".into());
                    }
                    // A status line may be cut between two reads.
                    tail.extend_from_slice(&buf[..n]);
                    let found = tail.windows(12).filter(|w| *w == b"HTTP/1.1 404").count();
                    answered += found as u64;
                    left = left.saturating_sub(found);
                    tail.drain(..tail.len().saturating_sub(11));
                }
            }
            Ok::<u64, Box<dyn std::error::Error + Send + Sync>>(answered)
        });
    }
    let mut answered = 0;
    while let Some(done) = askers.join_next().await {
        answered += done??;
    }
    Ok(answered)
}

/// Follows a playlist by blocking reload, and fetches each part, as LL players do.
async fn follow(edge: SocketAddr, playlist: String, seen: Arc<Mutex<Seen>>) -> Result<()> {
    let folder = playlist.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
    let (mut lists, mut parts) = (Client::connect(edge).await?, Client::connect(edge).await?);
    let mut next = shown(&lists.text(&playlist).await?).last().copied().ok_or("no part is hinted at")?;
    let mut before = None;
    loop {
        let (msn, part) = next;
        let text = lists.text(&format!("{playlist}?_HLS_msn={msn}&_HLS_part={part}")).await?;
        let (status, _) = parts.get(&format!("{folder}/{msn}.{part}.m4s")).await?;
        let now = clock::now();
        let after = shown(&text).into_iter().find(|shown| *shown > next).ok_or("no part is hinted at")?;
        let follows = after == (msn, part + 1) || after == (msn + 1, 0);
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.parts += 1;
        seen.missed += u64::from(status != 200) + u64::from(!follows);
        if let Some(before) = before.replace(now) {
            seen.waits.push_ms(now.since(before));
        }
        next = after;
    }
}

/// The parts that a playlist lists, and the one that it hints at, in order.
fn shown(playlist: &str) -> Vec<(u32, u16)> {
    let lines =
        playlist.lines().filter(|line| line.starts_with("#EXT-X-PART:") || line.starts_with("#EXT-X-PRELOAD-HINT"));
    let parts = lines.filter_map(|line| {
        let name = cluster::attribute(line, "URI")?;
        let (msn, part) = name.strip_suffix(".m4s")?.split_once('.')?;
        Some((msn.parse().ok()?, part.parse().ok()?))
    });
    let mut parts: Vec<_> = parts.collect();
    parts.sort_unstable();
    parts
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_viewer_knows_the_parts() {
        let text = "#EXTM3U\n#EXT-X-PART:DURATION=0.2,URI=\"7.8.m4s\"\n#EXTINF:2,\n7.m4s\n#EXT-X-PART:DURATION=0.2,URI=\"8.0.m4s\"\n\
                    #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"8.1.m4s\"\n";
        assert_eq!(super::shown(text), [(7, 8), (8, 0), (8, 1)]);
    }
}
