//! The `damson` command.

#![expect(clippy::print_stdout, reason = "what the user asked for goes to stdout; all else is traced to stderr")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use damson::cli::trace;
use damson::config::{Listen, Settings};
use damson::demo::Demo;
use damson::ingest::keys::KeyEntry;
use damson::mesh::Ca;
use damson::net::http_client::{Trust, parse_url};
use damson::node::{Node, NodeConfig, NodeError};
use damson::{demo, observe};
use damson_core::model::StreamName;
use tikv_jemallocator::Jemalloc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use url::Url;

/// Returns a crowd's memory to the system within 10 s, by a thread in the background; glibc's allocator keeps it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

type Failure = Box<dyn std::error::Error>;

/// All that a node has to finish after Ctrl-C fits in this.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// A live video segment relay: RTMP in, CMAF over an epidemic broadcast tree, HLS and DASH out.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One process, an ingest and edges in a line on loopback, a looped film, the player page
    Demo(DemoArgs),
    /// One node of a cluster
    Node(Box<NodeArgs>),
    /// Where the time of a stream's parts goes, stage by stage: a table, each second anew
    Trace(TraceArgs),
    /// A publish key: the key for the encoder, and its entry for --publish-key
    Key {
        /// The stream, or `*` for all that have none of their own
        stream: String,
        /// Read the key from stdin, and don't make one
        #[arg(long)]
        stdin: bool,
    },
    /// A cluster's CA and its nodes' identities
    #[command(subcommand)]
    Pki(Pki),
}

#[derive(clap::Args)]
struct DemoArgs {
    /// How many edges, one hop after the other, 1-16
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=16))]
    edges: u16,
    /// Where the last edge and its player page are; the other nodes take the ports after it (port 0: any)
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    http: SocketAddr,
    /// Where the last edge serves HTTPS with a certificate of its own making, or `off` [default: port 8443 of --http's
    /// address]
    #[arg(long, value_name = "ADDR")]
    https: Option<Listen>,
    /// Where encoders push RTMP
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1935")]
    rtmp: SocketAddr,
    /// The film to loop: an .mp4 file with H.264 and AAC [default: the one in the binary]
    #[arg(long, value_name = "FILE")]
    film: Option<PathBuf>,
    /// What the links between the nodes add, each way, such as 20ms..80ms
    #[arg(long, value_name = "DELAY")]
    link_delay: Option<demo::DelayRange>,
    /// The share of packets that the links lose, such as 1%
    #[arg(long, value_name = "SHARE")]
    loss: Option<demo::Loss>,
}

#[derive(clap::Args)]
struct NodeArgs {
    /// A file with settings (TOML), named as the flags are
    #[arg(long, env = "DAMSON_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(clap::Args)]
struct TraceArgs {
    /// An edge, or a stream at an edge: `http://127.0.0.1:8080/demo`; its only stream without a path
    #[arg(value_parser = parse_url)]
    url: Url,
    /// The track [default: all]
    #[arg(long, value_name = "NAME")]
    track: Option<String>,
    /// How many seconds are summed up: 1, 10 or 60
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = window)]
    window: u64,
    /// What the edge says, as one line of JSON each second, in place of the table
    #[arg(long)]
    json: bool,
    /// End after so many
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// By HTTPS, take any certificate: a demo makes its own
    #[arg(long)]
    insecure: bool,
}

fn window(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(seconds @ (1 | 10 | 60)) => Ok(seconds),
        _ => Err("it must be 1, 10 or 60".to_owned()),
    }
}

#[derive(Subcommand)]
enum Pki {
    /// Make a cluster's CA: DIR/ca.pem and DIR/ca.key
    Init {
        /// The folder to make it in
        dir: PathBuf,
    },
    /// Issue a node's identity: DIR/NAME/ with ca.pem, node.pem and node.key
    Issue {
        /// The CA's folder
        dir: PathBuf,
        /// The node's name
        name: String,
    },
}

fn main() -> ExitCode {
    match command().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("damson: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Reads the command line, and the file that it may name.
fn command() -> Result<Command, Failure> {
    let mut cli = Cli::parse();
    if let Command::Node(args) = &mut cli.command
        && let Some(file) = &args.config
    {
        args.settings = Settings::from_file(file)?;
        // Flags and the environment count more than the file.
        cli.update_from(std::env::args_os());
    }
    Ok(cli.command)
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Pki(Pki::Init { dir }) => {
            Ca::generate()?.save(&dir)?;
            println!("The cluster's CA is in {}. Keep ca.key to yourself; nodes don't need it.", dir.display());
            Ok(())
        }
        Command::Pki(Pki::Issue { dir, name }) => {
            let identity = Ca::load(&dir)?.issue(&name)?;
            let into = dir.join(&name);
            identity.save(&into)?;
            println!(
                "{}: node {} ({name}). Start it with --identity {}",
                into.display(),
                identity.id(),
                into.display()
            );
            Ok(())
        }
        Command::Trace(args) => {
            let TraceArgs { url, track, window, json, count, insecure } = args;
            let trust = if insecure { Trust::Anyone } else { Trust::System };
            let options = trace::Options { url, track, window, json, count, trust };
            block_on(async {
                let stop = Stop::listen()?;
                let mut out = std::io::stdout();
                let clear = std::io::IsTerminal::is_terminal(&out);
                tokio::select! {
                    () = stop.requested() => Ok(()),
                    ended = trace::run(&options, clear, &mut out) => Ok(ended?),
                }
            })
        }
        Command::Key { stream, stdin } => {
            let (key, entry) = publish_key(&stream, stdin)?;
            println!("key    {key}\nentry  {entry}");
            println!(
                "The encoder pushes with ?key=KEY behind the stream's name. The node is told --publish-key ENTRY."
            );
            Ok(())
        }
        Command::Demo(args) => block_on(async {
            let stop = Stop::listen()?;
            let DemoArgs { edges, http, https, rtmp, film, link_delay, loss } = args;
            let demo = Demo::start(demo::DemoOptions { edges, http, https, rtmp, film, link_delay, loss }).await?;
            println!("{demo}");
            stop.requested().await;
            tracing::info!("draining");
            drained(demo.shutdown()).await;
            Ok(())
        }),
        Command::Node(args) => block_on(async {
            let stop = Stop::listen()?;
            let node = Node::start(NodeConfig::from_settings(&args.settings).await?)?;
            println!("{node}");
            stop.requested().await;
            tracing::info!("draining");
            drained(node.shutdown()).await;
            Ok(())
        }),
    }
}

/// A key and its entry.
fn publish_key(stream: &str, stdin: bool) -> Result<(String, KeyEntry), NodeError> {
    let stream = match stream {
        "*" => None,
        name => Some(StreamName::parse(name).map_err(NodeError::Name)?),
    };
    // The generator that TLS has its keys from.
    let provider = rustls::crypto::ring::default_provider();
    let random = |bytes: &mut [u8]| provider.secure_random.fill(bytes).expect("the system gives random numbers");
    let (made, entry) = KeyEntry::generate(stream.clone(), random);
    if !stdin {
        return Ok((made, entry));
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(NodeError::Runtime)?;
    let key = line.trim();
    let mut salt = [0; 16];
    random(&mut salt);
    Ok((key.to_owned(), KeyEntry::new(stream, key, salt)))
}

fn block_on(task: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    observe::logging::start("damson=info,srt_protocol=error,warn", observe::logging::Format::Text)?;
    take_all_descriptors();
    let runtime = tokio::runtime::Runtime::new().map_err(NodeError::Runtime)?;
    let result = runtime.block_on(task);
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

/// Each player is a descriptor, and the soft limit is mostly 1,024: what the hard one allows is taken.
fn take_all_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, soft = limit.current, hard = limit.maximum, "the limit of open files stays as it is");
    }
}

/// Ctrl-C and SIGTERM. Listened for before anything starts: who is told of a node's addresses may stop it at once.
struct Stop([Signal; 2]);

impl Stop {
    fn listen() -> Result<Self, NodeError> {
        let listen = |kind| signal(kind).map_err(NodeError::Runtime);
        Ok(Stop([listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?]))
    }

    async fn requested(self) {
        let [mut interrupt, mut terminate] = self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

async fn drained(shutdown: impl Future<Output = ()>) {
    if tokio::time::timeout(DRAIN_MAX - Duration::from_millis(500), shutdown).await.is_err() {
        tracing::warn!("not everything was drained in time");
    }
}
