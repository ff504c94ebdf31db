//! `edge`: what serving costs, beside nginx serving the very same bytes from a tmpfs.
//!
//! Two damson processes: an ingest that takes one push of 3 Mb/s, and an edge one hop away, which is the one
//! measured, live stream and all. Each turn fetches the newest segment, part and playlist from it, lays them into
//! nginx's folder, and loads first the one and then the other (the next turn the other way round).
//!
//! On loopback the client's way of reading changes the server's cost, since the kernel does a good deal of the
//! receiver's work in the sender's name. So wrk, where it is installed, asks the same again, and stands in the
//! table beside the bench's own client.

mod load;
mod nginx;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::cluster::{self, Cluster};
use crate::http::Client;
use crate::process::{self, Process};
use crate::table::{Readings, Table};
use crate::{Result, film};
use nginx::Nginx;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How often each is measured
    #[arg(long, default_value_t = 7)]
    turns: usize,
    /// For how long each time, in s
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Connections at once
    #[arg(long, default_value_t = 16)]
    connections: usize,
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
    tool: load::Tool,
    kind: Kind,
    name: &'static str,
    size: usize,
    ours: Figures,
    theirs: Figures,
}

/// Measures, and prints the table.
pub(crate) async fn run(options: Options) -> Result<()> {
    let nginx = Nginx::start().await?;
    let measured = measure(options, &nginx).await;
    nginx.stop().await?;
    measured
}

async fn measure(options: Options, nginx: &Nginx) -> Result<()> {
    let damson = process::damson().await?;
    let film = film::film().await?;
    let cluster = Cluster::start(&damson, 2).await?;
    let _push = film::push(&film, &cluster.push_url("bench")?)?;
    let edge = cluster.nodes.last().ok_or("a cluster has nodes")?;
    let playlists = cluster::until_live(edge.http, "bench", 4).await?;
    let playlist = playlists.first().ok_or("a stream has a track")?;

    let idle = idle_cpu(&edge.process).await?;
    let time = Duration::from_secs(options.seconds);
    let tools = load::Tool::installed().await;
    let mut rows: Vec<Row> = Vec::new();
    for tool in tools {
        rows.extend(KINDS.map(|(kind, name)| Row { tool, kind, name, ..Row::default() }));
    }
    for turn in 0..options.turns {
        for row in &mut rows {
            let (path, body) = newest(edge.http, playlist, row.kind).await?;
            row.size = body.len();
            nginx.lay(&path, &body)?;
            for server in 0..2 {
                let (addr, process, figures) = match (turn + server) % 2 {
                    0 => (edge.http, &edge.process, &mut row.ours),
                    _ => (nginx.http, &nginx.process, &mut row.theirs),
                };
                let before = process.cpu_seconds()?;
                let load = row.tool.run(addr, &path, options.connections, time).await?;
                figures.push(&load, process.cpu_seconds()? - before);
            }
        }
    }

    let mut table = Table::new(&[
        "",
        "bytes",
        "asked by",
        "",
        "requests/s",
        "GB/s",
        "CPU-s/GB",
        "CPU-ms/1,000 requests",
        "CPU, damson / nginx (lowest-highest)",
    ]);
    for row in &rows {
        // Each turn's two loads stand side by side, so their ratio says more than that of the medians.
        let ratios = row.ours.cpu_ms_per_thousand.by(&row.theirs.cpu_ms_per_thousand);
        let ratio = format!("{:.2} ({:.2}-{:.2})", ratios.median(), ratios.quantile(0.0), ratios.quantile(1.0));
        for (server, figures, ratio) in [("damson", &row.ours, ratio), ("nginx", &row.theirs, String::new())] {
            table.row([
                row.name.to_owned(),
                row.size.to_string(),
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
    println!(
        "{}; HTTP/1.1, {} connections, medians of {} turns of {} s each.",
        nginx.version, options.connections, options.turns, options.seconds
    );
    println!("Idle, with its live stream, the edge uses {:.1} % of a core; that is in its figures.\n", idle * 100.0);
    table.print();
    Ok(())
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
