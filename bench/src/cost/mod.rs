//! `cost`: what the account of parts and requests costs, by `--tracing on` and `off` in turns. The goal: less than 3 %.
//!
//! - **Edge CPU a request**: around one ingest stand two edges, one with the account and one without, with the same live
//!   stream. They are asked in turns for the same bytes, so often each; a turn's ratio is of CPU that the scheduler has counted
//!   to the nanosecond. Processes differ by where their memory lies, so each round has new ones.
//! - **A hop**: two lines of nodes in this process, with and without, through which parts go by turns, one at a time. The
//!   dwell that a node tells of itself can't be had without the account; the time from node to node can.
//! - **Instructions** ([`instructions`], where valgrind is installed): those of an edge a request, counted by callgrind.
//!   They don't depend on what else the machine does; what the kernel does isn't in them.

mod instructions;

use std::time::Duration;

use crate::cluster::{self, Cluster};
use crate::http::Client;
use crate::nodes::{Nodes, Shape, body};
use crate::table::{Readings, Table};
use crate::{Result, film, process};

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    served: Option<Served>,
    /// Rounds with new edges
    #[arg(long, default_value_t = 4)]
    rounds: usize,
    /// How often both are asked in a round
    #[arg(long, default_value_t = 12)]
    turns: usize,
    /// Requests of each kind in a turn
    #[arg(long, default_value_t = 10_000)]
    requests: usize,
    /// Parts through each line of nodes
    #[arg(long, default_value_t = 4_800)]
    messages: usize,
    /// Only these, of `edge`, `hop` and `instructions`
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

#[derive(clap::Subcommand)]
enum Served {
    /// The edge whose instructions are counted
    #[command(hide = true)]
    Served(instructions::Options),
}

/// The nodes of a line, less one.
const HOPS: usize = 3;
/// The size of the parts that go through it: a 0.2 s part of 3 Mb/s.
const PART_LEN: usize = 75_000;
/// They go in so many rounds, with new lines, of so many turns.
const HOP_ROUNDS: usize = 6;
const HOP_TURNS: usize = 8;
/// Before each.
const PAUSE: Duration = Duration::from_millis(5);
/// Connections that ask at once.
const CONNECTIONS: usize = 4;

/// Measures, and prints the tables.
pub(crate) async fn run(options: Options) -> Result<()> {
    if let Some(Served::Served(options)) = options.served {
        return instructions::serve(options).await;
    }
    let wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    if wanted("edge") {
        edge(&options).await?;
    }
    if wanted("hop") {
        hop(options.messages).await?;
    }
    if wanted("instructions") {
        instructions::run().await?;
    }
    Ok(())
}

/// Readings with and without the account.
#[derive(Default)]
struct Pair {
    on: Readings,
    off: Readings,
}

impl Pair {
    /// `with`, `without`, and their ratio, turn by turn, with its 95 % interval.
    fn cells(&self, decimals: usize) -> [String; 3] {
        let ratios = self.on.by(&self.off);
        let percent = |ratio: f64| (ratio - 1.0) * 100.0;
        let (low, high) = ratios.median_between();
        [
            format!("{:.decimals$}", self.on.median()),
            format!("{:.decimals$}", self.off.median()),
            format!("{:+.1} % ({:+.1} to {:+.1})", percent(ratios.median()), percent(low), percent(high)),
        ]
    }
}

/// What is asked for.
const KINDS: [&str; 4] = ["part of sound", "part of pictures", "segment of sound", "playlist"];

async fn edge(options: &Options) -> Result<()> {
    let damson = process::damson().await?;
    let film = film::film().await?;
    let mut readings: [Pair; KINDS.len()] = Default::default();
    let mut sizes = [0; KINDS.len()];
    for round in 0..options.rounds {
        let settings: [&[&str]; 2] = [&["--tracing", "on"], &["--tracing", "off"]];
        // In turns, too, who is the first.
        let first_is_on = round % 2 == 0;
        let edges = if first_is_on { settings } else { [settings[1], settings[0]] };
        let cluster = Cluster::around(&damson, &edges).await?;
        let _push = film::push(&film, &cluster.push_url("bench")?)?;
        let [_, one, other] = &cluster.nodes[..] else { return Err("three nodes were started".into()) };
        let (on, off) = if first_is_on { (one, other) } else { (other, one) };
        for edge in [on, off] {
            cluster::until_live(edge.http, "bench", 3).await?;
        }
        for turn in 0..options.turns {
            for (kind, pair) in readings.iter_mut().enumerate() {
                let path = newest(on.http, kind).await?;
                let mut servers = [(on, &mut pair.on), (off, &mut pair.off)];
                if turn % 2 == 1 {
                    servers.reverse();
                }
                for (edge, readings) in servers {
                    // Its first answer is rendered, and a part must have come here, too.
                    sizes[kind] = ask(edge.http, &path, CONNECTIONS).await?;
                    let before = edge.process.cpu_exact()?;
                    ask(edge.http, &path, options.requests).await?;
                    readings.push((edge.process.cpu_exact()? - before) * 1e6 / options.requests as f64);
                }
            }
        }
    }
    let mut table = Table::new(&["", "bytes", "with, us", "without, us", "difference (95 %)"]);
    for ((name, size), pair) in KINDS.iter().zip(sizes).zip(&readings) {
        let [on, off, difference] = pair.cells(2);
        table.row([(*name).to_owned(), size.to_string(), on, off, difference]);
    }
    let (rounds, turns, requests) = (options.rounds, options.turns, options.requests);
    println!(
        "Edge CPU a request: medians of {rounds} x {turns} turns of {requests} requests on {CONNECTIONS} connections.\n"
    );
    table.print();
    println!();
    Ok(())
}

/// Asks so often, on a few connections at once; the length of an answer.
async fn ask(server: std::net::SocketAddr, path: &str, requests: usize) -> Result<usize> {
    let each = requests.div_ceil(CONNECTIONS);
    let mut tasks = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = Client::connect(server).await?;
        let request = client.request(path);
        tasks.push(tokio::spawn(async move {
            let mut length = 0;
            for _ in 0..each {
                let (status, len) = client.discard(&request).await?;
                if status != 200 {
                    return Err(format!("HTTP {status} under load").into());
                }
                length = len;
            }
            Result::Ok(length)
        }));
    }
    let mut length = 0;
    for task in tasks {
        length = task.await??;
    }
    Ok(length)
}

/// The path of the newest of its kind.
async fn newest(edge: std::net::SocketAddr, kind: usize) -> Result<String> {
    let mut client = Client::connect(edge).await?;
    let track = if KINDS[kind].ends_with("sound") { "audio" } else { "video" };
    let playlist = format!("/bench/{track}/playlist.m3u8");
    if kind == 3 {
        return Ok(playlist);
    }
    let text = client.text(&playlist).await?;
    let mut segments = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    // The newest but one of the parts: the other edge has it, too.
    let parts = text.lines().filter(|line| line.starts_with("#EXT-X-PART:"));
    let parts = parts.filter_map(|line| cluster::attribute(line, "URI"));
    let name = match kind {
        2 => segments.next_back().map(str::to_owned),
        _ => parts.collect::<Vec<_>>().into_iter().rev().nth(1),
    };
    let name = name.ok_or_else(|| format!("nothing to ask for in {playlist}:\n{text}"))?;
    let folder = playlist.trim_end_matches("playlist.m3u8");
    Ok(if name.starts_with('/') { name } else { format!("{folder}{name}") })
}

async fn hop(messages: usize) -> Result<()> {
    let mut pair = Pair::default();
    let (mut all_on, mut all_off) = (Readings::default(), Readings::default());
    for round in 0..HOP_ROUNDS {
        // In turns, too, which line is made first: the second of two equal ones has other memory and other threads.
        let (mut on, mut off);
        if round % 2 == 0 {
            on = Nodes::with(HOPS + 1, Shape::Line, true).await?;
            off = Nodes::with(HOPS + 1, Shape::Line, false).await?;
        } else {
            off = Nodes::with(HOPS + 1, Shape::Line, false).await?;
            on = Nodes::with(HOPS + 1, Shape::Line, true).await?;
        }
        for turn in 0..HOP_TURNS {
            let (mut with, mut without) = (Readings::default(), Readings::default());
            for n in 0..messages.div_ceil(HOP_ROUNDS * HOP_TURNS) {
                let seed = (turn * messages + n) as u64;
                let mut lines = [(&mut on, &mut with), (&mut off, &mut without)];
                if n % 2 == 1 {
                    lines.reverse();
                }
                for (line, readings) in lines {
                    tokio::time::sleep(PAUSE).await;
                    let arrivals = line.send(body(PART_LEN, seed)).await?;
                    let (first, last) = (arrivals.first().copied(), arrivals.last().copied());
                    let whole = first.zip(last).ok_or("a line has nodes")?;
                    readings.push(whole.1.since(whole.0).as_secs_f64() * 1e6 / HOPS as f64);
                }
            }
            pair.on.push(with.median());
            pair.off.push(without.median());
            all_on.extend(&with);
            all_off.extend(&without);
        }
        on.stop().await;
        off.stop().await;
    }
    let [_, _, difference] = pair.cells(0);
    let mut table = Table::new(&["a hop of 75 KB, us, p50 / p99", "with", "without", "difference of p50 (95 %)"]);
    table.row(["".to_owned(), all_on.p50_p99(0), all_off.p50_p99(0), difference]);
    println!(
        "A hop, whole part to whole part, mean of {HOPS}: {messages} parts each, medians of {HOP_ROUNDS} x {HOP_TURNS} turns.\n"
    );
    table.print();
    println!();
    Ok(())
}
