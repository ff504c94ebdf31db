//! `mesh`: eight nodes over QUIC, linked as HyParView chooses.
//!
//! All are in this process, with sockets of their own on loopback. The first publishes bodies at a live stream's
//! pace; the time from there to the whole, checked part at each other node is taken on the one clock there is. CPU
//! is the whole process's, the publisher's hashing included, over the bytes that were delivered.

use std::time::Duration;

use crate::Result;
use crate::nodes::{Nodes, Shape, body};
use crate::process::cpu_seconds_of;
use crate::table::{Readings, Table};

/// What is published: its name, bytes, the time between two, and the goals: ms at the median, CPU-s per GB.
const LOADS: [(&str, usize, Duration, f64, f64); 2] = [
    ("100 KB every 100 ms", 100_000, Duration::from_millis(100), 1.5, 4.0),
    ("1 MB every 500 ms", 1_000_000, Duration::from_millis(500), 8.0, 4.0),
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Nodes, one of which publishes
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(2..=64))]
    nodes: u16,
    /// Seconds of each load
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

/// Measures, and prints the table.
pub(crate) async fn run(options: Options) -> Result<()> {
    let mut nodes = Nodes::start(usize::from(options.nodes), Shape::Swarm).await?;
    let heads =
        ["load", "parts", "delivery, ms, p50 / p99", "goal", "last node, ms, p50 / p99", "CPU-s per GB", "goal"];
    let mut table = Table::new(&heads);
    let used = cpu_seconds_of(std::process::id())?;
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    let idle = (cpu_seconds_of(std::process::id())? - used) / options.seconds as f64;
    for (name, size, every, ms, cpu) in LOADS {
        let parts = (Duration::from_secs(options.seconds).as_micros() / every.as_micros()).max(1) as u64;
        let (mut each, mut last) = (Readings::default(), Readings::default());
        let used = cpu_seconds_of(std::process::id())?;
        let mut due = tokio::time::interval(every);
        for seed in 0..parts {
            let body = body(size, seed);
            due.tick().await;
            let times = nodes.send(body).await?;
            let began = times[0];
            times[1..].iter().for_each(|at| each.push_ms(at.since(began)));
            last.push_ms(times[1..].iter().max().map_or(Duration::ZERO, |at| at.since(began)));
        }
        let used = cpu_seconds_of(std::process::id())? - used;
        let gigabytes = each.len() as f64 * size as f64 / 1e9;
        table.row([
            name.to_owned(),
            parts.to_string(),
            each.p50_p99(2),
            format!("{ms}"),
            last.p50_p99(2),
            format!("{:.1}", used / gigabytes),
            format!("{cpu}"),
        ]);
    }
    println!("{} nodes in one process, over QUIC on loopback:\n", options.nodes);
    table.print();
    println!("\nBefore these, with nothing published, all of them took {:.1} % of a core.", 100.0 * idle);
    nodes.stop().await;
    Ok(())
}
