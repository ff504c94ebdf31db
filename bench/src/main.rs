//! damson's figures, each with the command that makes it.
//!
//! ```text
//! cargo run --release -p damson-bench -- hops    added latency of each hop, beside plain quinn and plain TCP
//! cargo run --release -p damson-bench -- mesh    eight nodes over QUIC: delivery, and CPU per GB
//! cargo run --release -p damson-bench -- edge    HTTP: rate and CPU for segment, part, playlist, beside nginx and Varnish
//! cargo run --release -p damson-bench -- edge hold    thousands of held requests, beside a bare epoll server
//! cargo run --release -p damson-bench -- age     age of a part's last frame when a client has it
//! cargo run --release -p damson-bench -- glass   glass to glass by machine, for each player in a browser
//! cargo run --release -p damson-bench -- node    memory and CPU of a node
//! cargo run --release -p damson-bench -- push    CPU and memory of a push, beside nginx-rtmp
//! cargo run --release -p damson-bench -- rubbish memory of an edge under rubbish, and what a viewer sees of it
//! cargo run --release -p damson-bench -- paper   overlay and broadcast at 10,000 nodes, simulated
//! cargo run --release -p damson-bench -- compare the same beside iroh-gossip, and plumtree with hyparview
//! cargo run --release -p damson-bench -- report  both, and the papers' curves: bench/report/README.md
//! cargo run --release -p damson-bench -- scenario FILE   a scenario of fixtures/scenario/, simulated
//! ```
//!
//! Each prints what machine it ran on and a Markdown table. Peers are measured in the same run, by turns, so
//! that what else the machine does falls on all alike; figures are medians.

#![expect(clippy::print_stdout, reason = "the tables are what the user asked for")]

mod age;
mod cluster;
mod compare;
mod cost;
mod edge;
mod film;
mod glass;
mod hops;
mod http;
mod machine;
mod mesh;
mod node;
mod nodes;
mod paper;
mod process;
mod push;
mod report;
mod rubbish;
mod scenario;
mod table;

use clap::{Parser, Subcommand};

/// What can go wrong is told to whoever started the bench, and ends it.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// damson's figures, measured on this machine.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    figure: Figure,
}

#[derive(Subcommand)]
enum Figure {
    /// The added latency of each hop, beside plain quinn and a plain TCP echo
    Hops(hops::Options),
    /// Eight nodes over QUIC in one process: time of delivery, and CPU per GB
    Mesh(mesh::Options),
    /// An edge's HTTP beside nginx: requests/s, GB/s, CPU per GB and per 1,000 requests
    Edge(edge::Options),
    /// The age of a part's last frame when a client has its last byte, at the ingest and three hops away
    Age(age::Options),
    /// Glass to glass, read from the picture by machine: each player in headless Chromium, three hops away
    Glass(glass::Options),
    /// What the account of parts and requests costs: each with it and without it, in turns
    Cost(cost::Options),
    /// Memory of a node with 10 streams, CPU of an ingest of one
    Node(node::Options),
    /// CPU and memory of a push of 3 Mb/s, beside nginx-rtmp that takes the same ones
    Push(push::Options),
    /// Memory of an edge under fuzzed requests, idle and slow connections and unknown names, and what a viewer sees of it
    Rubbish(rubbish::Options),
    /// The protocols' figures, from the node's own cores in the simulator
    Paper(paper::Options),
    /// The same network with iroh-gossip, and with plumtree and hyparview, as its nodes
    Compare(compare::Options),
    /// One report of all that is simulated, with plots
    Report(report::Options),
    /// One scenario of fixtures/scenario/, simulated: its figures beside their bounds
    Scenario(scenario::Options),
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    if matches!(cli.figure, Figure::Paper(_) | Figure::Compare(_) | Figure::Report(_) | Figure::Scenario(_)) {
        process::with_huge_pages()?;
    }
    println!("{}\n", machine::describe());
    match cli.figure {
        Figure::Hops(options) => hops::run(options).await,
        Figure::Mesh(options) => mesh::run(options).await,
        Figure::Edge(options) => edge::run(options).await,
        Figure::Age(options) => age::run(options).await,
        Figure::Glass(options) => glass::run(options).await,
        Figure::Cost(options) => cost::run(options).await,
        Figure::Node(options) => node::run(options).await,
        Figure::Push(options) => push::run(options).await,
        Figure::Rubbish(options) => rubbish::run(options).await,
        Figure::Paper(options) => paper::run(&options),
        Figure::Compare(options) => compare::run(&options),
        Figure::Report(options) => report::run(&options),
        Figure::Scenario(options) => scenario::run(&options),
    }
}
