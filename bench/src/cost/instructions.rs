//! Instructions of an edge a request, counted by callgrind: two runs that differ in their number of requests alone.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use damson::clock;
use damson::edge::{Config, Edge, Standalone, Store, serve as serve_edge};
use damson::observe::Metrics;
use damson_core::model::{Hop, NodeId, NodeName, Trace};
use damson_core::testing::synthetic;
use damson_core::testing::synthetic::{AUDIO, FIRST_MSN, PARTS};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;

use super::ask;
use crate::Result;
use crate::table::Table;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Without the account
    #[arg(long)]
    off: bool,
}

/// Requests of the two runs.
const FEW: usize = 1_000;
const MANY: usize = 5_000;
/// Bytes of a part: 0.2 s of sound.
const LEN: usize = 3_000;

/// Serves a made-up stream, whose parts have passed three nodes, until the standard input ends.
pub(super) async fn serve(options: Options) -> Result<()> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    println!("port {}", listener.local_addr()?.port());
    let metrics = Arc::new(Metrics::default());
    let store = Store::new(Arc::clone(&metrics));
    let mut config = Config::new(NodeId(4), "edge3");
    config.traced = !options.off;
    let edge = Edge::new(config, store, Arc::new(Standalone), metrics);
    let record = synthetic::record("bench");
    edge.store().record(record.clone());
    let hop = |node, name: &str| Hop {
        dwell: Duration::from_micros(123),
        queue: Duration::from_micros(45),
        transit_us: 20_123,
        uncertainty: Some(Duration::from_micros(67)),
        ..Hop::by(NodeId(node), NodeName::of(name))
    };
    let hops = vec![hop(1, "ingest"), hop(2, "edge1"), hop(3, "edge2")];
    for (msn, part) in (0..3).flat_map(|segment| (0..PARTS).map(move |part| (FIRST_MSN + segment, part))) {
        for track in [synthetic::VIDEO, AUDIO] {
            let (header, body, _) = synthetic::part(&record, track, msn, part, LEN);
            let told = Trace { packaging_us: Some(33_000), hops: hops.clone() };
            let trace = if options.off { Trace::default() } else { told };
            edge.store().part(&record.stream, header, body, trace, clock::now());
        }
    }
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    tokio::select! {
        () = serve_edge(listener, edge, Default::default()) => Ok(()),
        ended = ended => Ok(ended?.map(drop)?),
    }
}

/// Counts, and prints the table.
pub(super) async fn run() -> Result<()> {
    if Command::new("valgrind").arg("--version").output().await.is_err() {
        println!("Instructions: valgrind isn't installed.");
        return Ok(());
    }
    let of = [
        ("part, again and again", format!("/bench/audio/{FIRST_MSN}.3.m4s")),
        ("segment", format!("/bench/audio/{FIRST_MSN}.m4s")),
        ("playlist", "/bench/audio/playlist.m3u8".to_owned()),
    ];
    let mut table = Table::new(&["", "with", "without", "difference"]);
    for (name, path) in of {
        let mut each = [0.0; 2];
        for (per_request, off) in each.iter_mut().zip([false, true]) {
            let (few, many) = (count(off, &path, FEW).await?, count(off, &path, MANY).await?);
            *per_request = (many - few) / (MANY - FEW) as f64;
        }
        let [on, off] = each;
        let difference = format!("{:+.0} ({:+.1} %)", on - off, (on / off - 1.0) * 100.0);
        table.row([name.to_owned(), format!("{on:.0}"), format!("{off:.0}"), difference]);
    }
    println!("Instructions of the edge a request (callgrind; without the kernel's):\n");
    table.print();
    Ok(())
}

/// Instructions of an edge that is asked so often.
async fn count(off: bool, path: &str, requests: usize) -> Result<f64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(std::env::current_exe()?);
    command.args(["cost", "served"]).args(off.then_some("--off")).kill_on_drop(true);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().ok_or("its output is piped")?;
    let mut lines = BufReader::new(stdout).lines();
    let port = loop {
        let line = lines.next_line().await?.ok_or("the edge has ended early")?;
        if let Some(port) = line.strip_prefix("port ") {
            break port.parse::<u16>()?;
        }
    };
    ask(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), path, requests).await?;
    drop(child.stdin.take());
    let mut said = String::new();
    child.stderr.take().ok_or("its words are piped")?.read_to_string(&mut said).await?;
    child.wait().await?;
    // `==123== Collected : 456789`
    let collected = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    collected.ok_or_else(|| format!("callgrind tells no count:\n{said}").into())
}
