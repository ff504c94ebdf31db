//! `node`: what a node costs.

use std::time::Duration;

use crate::cluster::{self, Cluster, Member};
use crate::table::Table;
use crate::{Result, film, process};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Streams of 3 Mb/s for the memory
    #[arg(long, default_value_t = 10)]
    streams: usize,
    /// For how long they run before the memory is read, in s: until the windows are full (30 s and 4 segments of 2 s)
    #[arg(long, default_value_t = 60)]
    fill: u64,
    /// For how long the CPU of one push is measured, in s
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

/// Measures, and prints the table.
pub(crate) async fn run(options: Options) -> Result<()> {
    let damson = process::damson().await?;
    let film = film::film().await?;
    let mut table =
        Table::new(&["node", "streams of 3 Mb/s", "memory, MiB", "at its highest, MiB", "CPU, % of a core"]);
    for streams in [1, options.streams] {
        let cluster = Cluster::start(&damson, 2).await?;
        let mut pushes = Vec::new();
        for n in 0..streams {
            pushes.push(film::push(&film, &cluster.push_url(&format!("bench{n}"))?)?);
        }
        let edge = cluster.nodes.last().ok_or("two nodes were started")?;
        for n in 0..streams {
            cluster::until_live(edge.http, &format!("bench{n}"), 2).await?;
        }
        if streams > 1 {
            tokio::time::sleep(Duration::from_secs(options.fill)).await;
        }
        let cpu = |node: &Member| node.process.cpu_seconds();
        let before = cluster.nodes.iter().map(cpu).collect::<Result<Vec<_>>>()?;
        tokio::time::sleep(Duration::from_secs(options.seconds)).await;
        for ((node, before), name) in
            cluster.nodes.iter().zip(before).zip(["ingest, with one neighbour", "edge, one hop away"])
        {
            let used = (cpu(node)? - before) / options.seconds as f64;
            let (now, highest) = node.process.memory_mib()?;
            table.row([
                name.to_owned(),
                streams.to_string(),
                format!("{now:.0}"),
                format!("{highest:.0}"),
                format!("{:.1}", used * 100.0),
            ]);
        }
    }
    println!("No viewers. CPU over {} s.\n", options.seconds);
    table.print();
    Ok(())
}
