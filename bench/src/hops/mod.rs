//! `hops`: what one hop adds to a part's way.
//!
//! Five nodes stand in a line in this process, each with its own sockets on loopback, as four links. Node 0
//! publishes a part; the time from there to the whole, checked part at each node is taken on the one clock
//! there is. Beside it, by turns: a plain quinn echo and a plain TCP echo of the same size (a stream a message
//! in quinn's case; half the time there and back counts as a hop).
//!
//! Messages go one at a time with a pause between them, as a live stream's do.

mod echo;

use std::time::Duration;

use crate::Result;
use crate::nodes::{Nodes, Shape, body};
use crate::table::{Readings, Table};

/// As the issue asks.
const SIZES: [(&str, usize); 3] = [("10 KB", 10_000), ("100 KB", 100_000), ("1 MB", 1_000_000)];
/// The nodes of the line, less one.
const HOPS: usize = 4;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Messages of each size, through damson and through each peer
    #[arg(long, default_value_t = 300)]
    messages: usize,
    /// They go in so many turns
    #[arg(long, default_value_t = 6)]
    turns: usize,
    /// The pause before each, in ms
    #[arg(long, default_value_t = 10)]
    pause: u64,
}

/// What was measured of one size, in milliseconds.
#[derive(Default)]
struct Figures {
    /// From one node to the next.
    hops: [Readings; HOPS],
    /// From the first node to the last.
    whole: Readings,
    quinn: Readings,
    tcp: Readings,
}

/// Measures, and prints the table.
pub(crate) async fn run(options: Options) -> Result<()> {
    let mut line = Nodes::start(HOPS + 1, Shape::Line).await?;
    let mut quinn = echo::Quinn::start().await?;
    let mut tcp = echo::Tcp::start().await?;
    let pause = Duration::from_millis(options.pause);
    let per_turn = options.messages.div_ceil(options.turns);

    let mut table = Table::new(&[
        "part",
        "hop 1",
        "hop 2",
        "hop 3",
        "hop 4",
        "4 hops",
        "a hop (mean)",
        "quinn",
        "TCP",
        "a hop / quinn",
        "a hop / TCP",
    ]);
    for (name, size) in SIZES {
        let mut figures = Figures::default();
        for turn in 0..options.turns {
            for n in 0..per_turn {
                tokio::time::sleep(pause).await;
                let arrivals = line.send(body(size, (turn * per_turn + n) as u64)).await?;
                for (hop, pair) in arrivals.windows(2).enumerate() {
                    // Cut-through: the last bytes may be at two nodes within a microsecond of each other.
                    figures.hops[hop].push((pair[1].as_micros() as f64 - pair[0].as_micros() as f64) / 1e3);
                }
                figures.whole.push_ms(arrivals[HOPS].since(arrivals[0]));
            }
            for _ in 0..per_turn {
                tokio::time::sleep(pause).await;
                figures.quinn.push_ms(quinn.round_trip(body(size, 0)).await? / 2);
            }
            for _ in 0..per_turn {
                tokio::time::sleep(pause).await;
                figures.tcp.push_ms(tcp.round_trip(body(size, 0)).await? / 2);
            }
        }
        let mean = figures.whole.median() / HOPS as f64;
        let hop = |n: usize| figures.hops[n].p50_p99(2);
        table.row([
            name.to_owned(),
            hop(0),
            hop(1),
            hop(2),
            hop(3),
            figures.whole.p50_p99(2),
            format!("{mean:.2}"),
            figures.quinn.p50_p99(2),
            figures.tcp.p50_p99(2),
            format!("{:.2}", mean / figures.quinn.median()),
            format!("{:.2}", mean / figures.tcp.median()),
        ]);
    }
    println!("Added latency in ms, p50 / p99 of {} parts of each size, on loopback:\n", options.messages);
    table.print();
    line.stop().await;
    Ok(())
}
