//! `edge hold`: thousands of held playlist requests, answered by one part: how long after its publication each answer is
//! whole, what one costs the server, and what one that waits holds of memory. Beside a bare epoll server.
//!
//! Each round sends all requests ahead of the part that they ask for; the answer's `X-Published-At` says when that came.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use damson::clock;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::bare::PUBLISHED;
use crate::cluster::{self, Cluster};
use crate::http::Client;
use crate::process::{self, Process};
use crate::table::{Readings, Table};
use crate::{Result, film};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many requests are held at a time
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000])]
    requests: Vec<usize>,
    /// How often each server is measured, by turns
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// Parts that are waited for in a turn; one more before them isn't counted
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// A damson of another build
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// How many connect at a time, and the pause after them: a listener's queue has an end.
const CONNECTING: usize = 100;
const PAUSE: Duration = Duration::from_millis(10);
/// A round that takes longer is broken.
const ROUND_MAX: Duration = Duration::from_secs(20);

/// What one server came to with so many requests.
#[derive(Default)]
struct Figures {
    late_ms: Readings,
    cpu_us: Readings,
    resident_kb: Readings,
}

/// Who is measured.
struct Server<'a> {
    process: &'a Process,
    addr: SocketAddr,
    /// Of damson: the media playlist.
    playlist: Option<&'a str>,
    /// Without requests: CPU-seconds and MiB that come each second.
    idle: (f64, f64),
}

/// Measures, and prints the table.
pub(super) async fn run(options: &Options) -> Result<()> {
    let damson = match &options.program {
        Some(program) => program.clone(),
        None => process::damson().await?,
    };
    let film = film::film().await?;
    let most = ["--connections", "30000", "--address-connections", "30000", "--address-held", "30000"];
    let cluster = Cluster::with(&damson, 2, &most).await?;
    let _push = film::push(&film, &cluster.push_url("bench")?)?;
    let edge = cluster.nodes.last().ok_or("a cluster has nodes")?;
    let playlists = cluster::until_live(edge.http, "bench", 4).await?;
    let playlist = playlists.first().ok_or("a stream has a track")?;

    // The bare server writes what damson writes.
    let folder = tempfile::tempdir()?;
    let (mut crowd, file) = (Crowd::connect(edge.http, 1)?, folder.path().join("answer"));
    crowd.ask(&ahead(edge.http, playlist).await?)?;
    crowd.answered(&mut Readings::default())?;
    std::fs::write(&file, &crowd.last)?;
    let args = ["edge", "bare", "--answer", file.to_str().ok_or("the temporary folder's path isn't UTF-8")?];
    let mut bare = Process::start("bare", std::env::current_exe()?, args)?;
    let addr = bare.said("where it is", |line| line.strip_prefix("bare ")?.parse().ok()).await?;

    let idle = idle(&edge.process).await?;
    let servers = [
        Server { process: &edge.process, addr: edge.http, playlist: Some(playlist), idle },
        Server { process: &bare, addr, playlist: None, idle: (0.0, 0.0) },
    ];
    let mut table = Table::new(&[
        "held",
        "",
        "answer whole after publication, ms, p50 / p99",
        "p99, damson / bare, by turns",
        "CPU-us an answer",
        "resident KB a connection",
    ]);
    for &requests in &options.requests {
        let mut figures = [Figures::default(), Figures::default()];
        let mut p99 = [Readings::default(), Readings::default()];
        for turn in 0..options.turns {
            for server in 0..2 {
                let which = (turn + server) % 2;
                let late = measure(&servers[which], requests, options.rounds, turn == 0, &mut figures[which]).await?;
                p99[which].push(late.quantile(0.99));
            }
        }
        let ratio = p99[0].by(&p99[1]);
        let ratio = format!("{:.2} ({:.2}-{:.2})", ratio.median(), ratio.quantile(0.0), ratio.quantile(1.0));
        for (name, figures, ratio) in [("damson", &figures[0], ratio), ("bare epoll", &figures[1], String::new())] {
            table.row([
                requests.to_string(),
                name.to_owned(),
                figures.late_ms.p50_p99(1),
                ratio,
                format!("{:.1}", figures.cpu_us.median()),
                format!("{:.1}", figures.resident_kb.median()),
            ]);
        }
    }
    println!(
        "Answers of {} bytes over HTTP/1.1, {} turns of {} parts each. CPU is of a request and its answer; what the edge \
         takes without them ({:.1} % of a core) isn't in it.\n",
        crowd.last.len(),
        options.turns,
        options.rounds,
        idle.0 * 100.0
    );
    table.print();
    Ok(())
}

/// One turn of one server; how late its answers were, in ms.
async fn measure(
    server: &Server<'_>,
    requests: usize,
    rounds: usize,
    is_first: bool,
    figures: &mut Figures,
) -> Result<Readings> {
    let (before, began) = (server.process.memory_mib()?.0, clock::now());
    let mut crowd = tokio::task::block_in_place(|| Crowd::connect(server.addr, requests))?;
    let mut late = Readings::default();
    for round in 0..=rounds {
        let request = match server.playlist {
            Some(playlist) => ahead(server.addr, playlist).await?,
            None => b"GET / HTTP/1.1\r\nHost: bare\r\nAccept-Encoding: gzip\r\n\r\n".to_vec(),
        };
        let (cpu, asked) = (server.process.cpu_exact()?, clock::now());
        tokio::task::block_in_place(|| crowd.ask(&request))?;
        // Until all are held.
        tokio::time::sleep(Duration::from_millis(300)).await;
        if is_first && round == rounds {
            let grown = server.idle.1 * clock::now().since(began).as_secs_f64();
            let mib = server.process.memory_mib()?.0 - before - grown;
            figures.resident_kb.push(mib * 1024.0 / requests as f64);
        }
        let mut readings = Readings::default();
        tokio::task::block_in_place(|| crowd.answered(&mut readings))?;
        if round > 0 {
            let idle = server.idle.0 * clock::now().since(asked).as_secs_f64();
            figures.cpu_us.push((server.process.cpu_exact()? - cpu - idle) * 1e6 / requests as f64);
            late.extend(&readings);
        }
    }
    figures.late_ms.extend(&late);
    Ok(late)
}

/// CPU-seconds and MiB that a server takes in a second by itself.
async fn idle(process: &Process) -> Result<(f64, f64)> {
    const SECONDS: f64 = 6.0;
    let (cpu, memory) = (process.cpu_exact()?, process.memory_mib()?.0);
    tokio::time::sleep(Duration::from_secs_f64(SECONDS)).await;
    Ok(((process.cpu_exact()? - cpu) / SECONDS, (process.memory_mib()?.0 - memory) / SECONDS))
}

/// The request for a part that comes in 1.4 to 2 s: time enough to ask for it thousands of times.
async fn ahead(edge: SocketAddr, playlist: &str) -> Result<Vec<u8>> {
    let mut client = Client::connect(edge).await?;
    loop {
        let text = client.text(playlist).await?;
        let hint = text.lines().find(|line| line.starts_with("#EXT-X-PRELOAD-HINT")).ok_or("no hint")?;
        let name = cluster::attribute(hint, "URI").ok_or("a hint without a URI")?;
        let mut numbers = name.split('.').map(str::parse::<u32>);
        let (Some(Ok(msn)), Some(Ok(part))) = (numbers.next(), numbers.next()) else {
            return Err(format!("a hint of another kind: {hint}").into());
        };
        if (2..=5).contains(&part) {
            let path = format!("{playlist}?_HLS_msn={}&_HLS_part=1", msn + 1);
            let request = format!("GET {path} HTTP/1.1\r\nHost: {edge}\r\nAccept-Encoding: gzip\r\n\r\n");
            return Ok(request.into_bytes());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Many connections, each with one request at a time.
struct Crowd {
    poll: Poll,
    events: Events,
    players: Vec<Player>,
    /// The last answer that was whole.
    last: Vec<u8>,
}

struct Player {
    stream: TcpStream,
    got: usize,
    /// Bytes of the whole answer, once its head is there.
    length: usize,
    published: u64,
}

impl Crowd {
    fn connect(addr: SocketAddr, n: usize) -> Result<Self> {
        let mut crowd =
            Crowd { poll: Poll::new()?, events: Events::with_capacity(1_024), players: Vec::new(), last: Vec::new() };
        while crowd.players.len() < n {
            let batch = CONNECTING.min(n - crowd.players.len());
            for _ in 0..batch {
                let mut stream = TcpStream::connect(addr)?;
                let token = Token(crowd.players.len());
                crowd.poll.registry().register(&mut stream, token, Interest::WRITABLE)?;
                crowd.players.push(Player { stream, got: 0, length: 0, published: 0 });
            }
            let mut left = batch;
            while left > 0 {
                crowd.poll.poll(&mut crowd.events, Some(ROUND_MAX))?;
                for event in crowd.events.iter().filter(|event| event.is_writable()) {
                    let stream = &mut crowd.players[event.token().0].stream;
                    crowd.poll.registry().reregister(stream, event.token(), Interest::READABLE)?;
                    left = left.saturating_sub(1);
                }
                if crowd.events.is_empty() {
                    return Err("connections don't come about".into());
                }
            }
            crowd.poll.poll(&mut crowd.events, Some(PAUSE))?;
        }
        for player in &crowd.players {
            player.stream.set_nodelay(true)?;
        }
        Ok(crowd)
    }

    fn ask(&mut self, request: &[u8]) -> Result<()> {
        for player in &mut self.players {
            (player.got, player.length) = (0, 0);
            if player.stream.write(request)? != request.len() {
                return Err("a request doesn't fit into a socket".into());
            }
        }
        Ok(())
    }

    /// Waits for all answers; into `late`, for how long after the publication, in ms.
    fn answered(&mut self, late: &mut Readings) -> Result<()> {
        let mut buf = [0; 64 << 10];
        let (mut left, end) = (self.players.len(), clock::now() + ROUND_MAX);
        while left > 0 {
            self.poll.poll(&mut self.events, Some(ROUND_MAX))?;
            if clock::now() > end {
                return Err(format!("{left} of {} requests aren't answered", self.players.len()).into());
            }
            for event in &self.events {
                let Token(number) = event.token();
                let player = &mut self.players[number];
                let n = match player.stream.read(&mut buf) {
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => continue,
                    n => n?,
                };
                if player.got == 0 {
                    (player.length, player.published) = head(&buf[..n])?;
                }
                player.got += n;
                if player.got >= player.length {
                    left -= 1;
                    late.push(clock::wall().as_micros().saturating_sub(player.published) as f64 / 1e3);
                    if left == 0 && n == player.length {
                        self.last = buf[..n].to_vec();
                    }
                }
            }
        }
        Ok(())
    }
}

/// How long an answer is in all, and when what it tells was published, by its head, which comes in one piece.
fn head(bytes: &[u8]) -> Result<(usize, u64)> {
    let find = |what: &[u8]| bytes.windows(what.len()).position(|window| window == what).map(|at| at + what.len());
    let number = |after: &[u8]| {
        let digits = bytes.get(find(after)?..)?.iter().take_while(|b| b.is_ascii_digit());
        Some(digits.fold(0_u64, |n, digit| n * 10 + u64::from(digit - b'0')))
    };
    let is_ok = bytes.starts_with(b"HTTP/1.1 200 ");
    let (end, length, published) = (find(b"\r\n\r\n"), number(b"content-length: "), number(PUBLISHED));
    match (end, length, published) {
        (Some(end), Some(length), Some(published)) if is_ok => Ok((end + usize::try_from(length)?, published)),
        _ => Err(format!("no answer to a held request:\n{}", String::from_utf8_lossy(bytes)).into()),
    }
}
