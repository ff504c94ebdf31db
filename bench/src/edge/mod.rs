//! `edge`: what serving costs, beside nginx serving the very same bytes from a tmpfs, and Varnish from its cache.
//!
//! Two damson processes: an ingest that takes one push of 3 Mb/s, and an edge one hop away, which is the one
//! measured, live stream and all. Each turn fetches the newest segment, part and playlist from it, lays them into
//! nginx's folder, and loads first the one and then the other (the next turn the other way round).
//!
//! On loopback the client's way of reading changes the server's cost, since the kernel does a good deal of the
//! receiver's work in the sender's name. So wrk, where it is installed, asks the same again, and stands in the
//! table beside the bench's own client. Over TLS it is h2load that asks. Varnish, which has no TLS, is asked in the clear.
//!
//! [`hold`] is about requests that wait.

mod bare;
mod hold;
mod load;
mod nginx;
mod varnish;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use load::{Tool, Transport};
use nginx::Nginx;
use tempfile::TempDir;
use varnish::Varnish;

use crate::cluster::{self, Cluster};
use crate::http::Client;
use crate::process::{self, Process};
use crate::table::{Readings, Table};
use crate::{Result, film};

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    figure: Option<Figure>,
    /// How often each is measured
    #[arg(long, default_value_t = 7)]
    turns: usize,
    /// For how long each time, in s
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Connections at once
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Only these, of h1, h1+TLS and h2+TLS
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// A damson of another build
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Figure {
    /// Thousands of held playlist requests, beside a bare epoll server
    Hold(hold::Options),
    /// That server
    #[command(hide = true)]
    Bare(bare::Options),
}

/// A certificate and its key, in PEM.
struct Pair {
    cert: PathBuf,
    key: PathBuf,
    _folder: TempDir,
}

impl Pair {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&cert, made.cert.pem())?;
        std::fs::write(&key, made.signing_key.serialize_pem())?;
        Ok(Pair { cert, key, _folder: folder })
    }
}

/// What is fetched.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Kind {
    #[default]
    Segment,
    Part,
    Playlist,
}

const KINDS: [(Kind, &str); 3] = [(Kind::Segment, "segment"), (Kind::Part, "part"), (Kind::Playlist, "playlist")];

/// One server's readings of one kind.
#[derive(Default)]
struct Figures {
    rate: Readings,
    gigabytes: Readings,
    cpu_per_gigabyte: Readings,
    cpu_ms_per_thousand: Readings,
}

impl Figures {
    fn push(&mut self, load: &load::Load, cpu_seconds: f64) {
        let (requests, bytes, seconds) = (load.requests as f64, load.bytes as f64, load.elapsed.as_secs_f64());
        self.rate.push(requests / seconds);
        self.gigabytes.push(bytes / 1e9 / seconds);
        self.cpu_per_gigabyte.push(cpu_seconds / (bytes / 1e9));
        self.cpu_ms_per_thousand.push(cpu_seconds * 1e3 / (requests / 1e3));
    }
}

/// One kind, asked for by one tool.
#[derive(Default)]
struct Row {
    tool: Tool,
    transport: Transport,
    kind: Kind,
    name: &'static str,
    size: usize,
    ours: Figures,
    theirs: Figures,
    /// Of Varnish, where it is asked.
    cached: Figures,
}

/// Measures, and prints the table.
pub(crate) async fn run(options: Options) -> Result<()> {
    match &options.figure {
        Some(Figure::Hold(options)) => return hold::run(options).await,
        Some(Figure::Bare(options)) => return bare::run(options),
        None => {}
    }
    let pair = Pair::new()?;
    let nginx = Nginx::start(&pair).await?;
    let measured = measure(options, &nginx, &pair).await;
    nginx.stop().await?;
    measured
}

async fn measure(options: Options, nginx: &Nginx, pair: &Pair) -> Result<()> {
    let damson = match options.program {
        Some(program) => program,
        None => process::damson().await?,
    };
    let film = film::film().await?;
    let (cert, key) = (pair.cert.display().to_string(), pair.key.display().to_string());
    let https = ["--https", "127.0.0.1:0", "--tls-cert", &cert, "--tls-key", &key];
    let cluster = Cluster::with(&damson, 2, &https).await?;
    let _push = film::push(&film, &cluster.push_url("bench")?)?;
    let edge = cluster.nodes.last().ok_or("a cluster has nodes")?;
    let playlists = cluster::until_live(edge.http, "bench", 4).await?;
    let playlist = playlists.first().ok_or("a stream has a track")?;
    let varnish = Varnish::start(nginx.http).await?;

    let idle = idle_cpu(&edge.process).await?;
    let time = Duration::from_secs(options.seconds);
    let mut rows: Vec<Row> = Vec::new();
    for (tool, transport) in Tool::installed().await {
        if options.only.is_empty() || options.only.iter().any(|name| name == transport.name()) {
            rows.extend(KINDS.map(|(kind, name)| Row { tool, transport, kind, name, ..Row::default() }));
        }
    }
    for turn in 0..options.turns {
        for row in &mut rows {
            let (path, body) = newest(edge.http, playlist, row.kind).await?;
            row.size = body.len();
            nginx.lay(&path, &body)?;
            let (ours, theirs) = match row.transport {
                Transport::Plain => (edge.http, nginx.http),
                _ => (edge.https.ok_or("the edge serves HTTPS")?, nginx.https),
            };
            let mut servers = vec![(ours, &edge.process, &mut row.ours), (theirs, &nginx.process, &mut row.theirs)];
            if let Some(varnish) = varnish.as_ref().filter(|_| row.tool == Tool::Own) {
                servers.push((varnish.http, &varnish.process, &mut row.cached));
            }
            let first = turn % servers.len();
            servers.rotate_left(first);
            for (addr, process, figures) in servers {
                let before = process.cpu_seconds()?;
                let load = row.tool.run(row.transport, addr, &path, options.connections, time).await?;
                figures.push(&load, process.cpu_seconds()? - before);
            }
        }
    }
    println!(
        "{}; {} connections, medians of {} turns of {} s each.",
        nginx.version, options.connections, options.turns, options.seconds
    );
    println!("Idle, with its live stream, the edge uses {:.1} % of a core; that is in its figures.\n", idle * 100.0);
    print(&rows);
    Ok(())
}

fn print(rows: &[Row]) {
    let mut table = Table::new(&[
        "",
        "bytes",
        "by",
        "asked by",
        "",
        "requests/s",
        "GB/s",
        "CPU-s/GB",
        "CPU-us a request",
        "CPU, damson / this (lowest-highest)",
    ]);
    for row in rows {
        // A turn's loads stand side by side, so their ratio says more than that of the medians.
        let ratio = |theirs: &Figures| {
            let ratios = row.ours.cpu_ms_per_thousand.by(&theirs.cpu_ms_per_thousand);
            format!("{:.2} ({:.2}-{:.2})", ratios.median(), ratios.quantile(0.0), ratios.quantile(1.0))
        };
        let theirs = [("nginx", &row.theirs), ("Varnish", &row.cached)].map(|(name, f)| (name, f, ratio(f)));
        for (server, figures, ratio) in [("damson", &row.ours, String::new())].into_iter().chain(theirs) {
            if figures.rate.len() == 0 {
                continue;
            }
            table.row([
                row.name.to_owned(),
                row.size.to_string(),
                row.transport.name().to_owned(),
                row.tool.name().to_owned(),
                server.to_owned(),
                format!("{:.0}", figures.rate.median()),
                format!("{:.2}", figures.gigabytes.median()),
                format!("{:.2}", figures.cpu_per_gigabyte.median()),
                format!("{:.1}", figures.cpu_ms_per_thousand.median()),
                ratio,
            ]);
        }
    }
    table.print();
}

/// CPU-seconds a second of a server that nobody asks.
async fn idle_cpu(process: &Process) -> Result<f64> {
    const SECONDS: u64 = 5;
    let before = process.cpu_seconds()?;
    tokio::time::sleep(Duration::from_secs(SECONDS)).await;
    Ok((process.cpu_seconds()? - before) / SECONDS as f64)
}

/// The path and bytes of the newest thing of its kind in a media playlist.
async fn newest(edge: SocketAddr, playlist: &str, kind: Kind) -> Result<(String, Bytes)> {
    let mut client = Client::connect(edge).await?;
    let text = client.text(playlist).await?;
    let name = match kind {
        Kind::Playlist => return Ok((playlist.to_owned(), Bytes::from(text))),
        Kind::Segment => text.lines().rev().find(|line| !line.starts_with('#') && !line.is_empty()).map(str::to_owned),
        // The first part of a segment has the keyframe; the newest of all may be a segment's short last one.
        Kind::Part => {
            let parts: Vec<&str> = text.lines().filter(|line| line.starts_with("#EXT-X-PART:")).collect();
            parts
                .iter()
                .rev()
                .find(|line| !line.contains("INDEPENDENT"))
                .and_then(|line| cluster::attribute(line, "URI"))
        }
    };
    let name = name.ok_or_else(|| format!("nothing to fetch in {playlist}:\n{text}"))?;
    let folder = playlist.rsplit_once('/').map_or("", |(folder, _)| folder);
    let path = if name.starts_with('/') { name } else { format!("{folder}/{name}") };
    match client.get(&path).await? {
        (200, body) => Ok((path, body)),
        (status, _) => Err(format!("{path}: HTTP {status}").into()),
    }
}
