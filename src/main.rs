//! The `damson` command.

#![expect(clippy::print_stdout, reason = "the result of a command goes to stdout, the log to stderr")]

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use damson::cli::trace;
use damson::config::Settings;
use damson::demo::{Demo, DemoOptions};
use damson::ingest::keys::KeyEntry;
use damson::mesh::Ca;
use damson::node::{Node, NodeConfig, NodeError};
use damson::observe;
use damson_core::model::StreamName;
use tikv_jemallocator::Jemalloc;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Returns a crowd's memory to the system within 10 s, by a thread in the background; glibc's allocator keeps it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

type Failure = Box<dyn std::error::Error>;

/// The longest time from Ctrl-C to the end of the process.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// A live video segment relay: RTMP, SRT, UDP or HTTP in, HLS and DASH out
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a demo: an ingest node and a line of edges on loopback, a looped film, and the player page
    Demo(DemoOptions),
    /// Run a node of a cluster
    Node(Box<NodeArgs>),
    /// Show the latency of a stream, stage by stage, as a table that is updated each second
    Trace(trace::Options),
    /// Create a publish key: the key for the encoder, and its entry for --publish-key
    Key {
        /// Name of the stream, or `*` for all streams that have no key of their own
        stream: String,
        /// Read the key from stdin instead of creating one
        #[arg(long)]
        stdin: bool,
    },
    /// Create a cluster's CA and its nodes' identities
    #[command(subcommand)]
    Pki(Pki),
}

#[derive(clap::Args)]
struct NodeArgs {
    /// File with settings (TOML), which have the names of the flags
    #[arg(long, env = "DAMSON_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Subcommand)]
enum Pki {
    /// Create a cluster's CA: DIR/ca.pem and DIR/ca.key
    Init {
        /// Folder of the CA
        dir: PathBuf,
    },
    /// Issue a node's identity: DIR/NAME/ with ca.pem, node.pem and node.key
    Issue {
        /// Folder of the CA
        dir: PathBuf,
        /// Name of the node
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

/// Reads the command line, and the settings file that it may name.
fn command() -> Result<Command, Failure> {
    let mut cli = Cli::parse();
    if let Command::Node(args) = &mut cli.command
        && let Some(file) = &args.config
    {
        args.settings = Settings::from_file(file)?;
        // Flags and the environment beat the file.
        cli.update_from(std::env::args_os());
    }
    Ok(cli.command)
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Pki(Pki::Init { dir }) => {
            Ca::generate()?.save(&dir)?;
            println!("The cluster's CA is in {}. Keep ca.key secret; nodes don't need it.", dir.display());
            Ok(())
        }
        Command::Pki(Pki::Issue { dir, name }) => {
            let identity = Ca::load(&dir)?.issue(&name)?;
            let into = dir.join(&name);
            identity.save(&into)?;
            let (id, into) = (identity.id(), into.display());
            println!("{into}: node {id} ({name}). Start it with damson node --identity {into}");
            Ok(())
        }
        Command::Key { stream, stdin } => {
            let (key, entry) = publish_key(&stream, stdin)?;
            println!("key    {key}\nentry  {entry}");
            println!("Push with ?key=KEY after the stream's name. Start the node with --publish-key ENTRY.");
            Ok(())
        }
        Command::Trace(options) => block_on(async {
            let stop = Stop::listen()?;
            let mut out = std::io::stdout();
            let clear = std::io::IsTerminal::is_terminal(&out);
            tokio::select! {
                () = stop.requested() => Ok(()),
                ended = trace::run(&options, clear, &mut out) => Ok(ended?),
            }
        }),
        Command::Demo(options) => block_on(async {
            let stop = Stop::listen()?;
            let demo = Demo::start(options).await?;
            serve(stop, demo, Demo::shutdown).await
        }),
        Command::Node(args) => block_on(async {
            let stop = Stop::listen()?;
            let node = Node::start(NodeConfig::from_settings(&args.settings).await?)?;
            serve(stop, node, Node::shutdown).await
        }),
    }
}

/// Prints where a node or demo serves, runs it until it is stopped, and drains it.
async fn serve<N: Display>(stop: Stop, node: N, shutdown: impl AsyncFnOnce(N)) -> Result<(), Failure> {
    println!("{node}");
    stop.requested().await;
    tracing::info!("shutting down");
    if tokio::time::timeout(DRAIN_MAX - Duration::from_millis(500), shutdown(node)).await.is_err() {
        tracing::warn!("stopped before everything was drained");
    }
    Ok(())
}

/// Returns a key and its entry.
fn publish_key(stream: &str, stdin: bool) -> Result<(String, KeyEntry), NodeError> {
    let stream = match stream {
        "*" => None,
        name => Some(StreamName::parse(name).map_err(NodeError::Name)?),
    };
    // The generator of TLS's keys.
    let provider = rustls::crypto::ring::default_provider();
    let random = |bytes: &mut [u8]| provider.secure_random.fill(bytes).expect("the system has random numbers");
    if !stdin {
        return Ok(KeyEntry::generate(stream, random));
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(NodeError::Runtime)?;
    let key = line.trim();
    let mut salt = [0; 16];
    random(&mut salt);
    Ok((key.to_owned(), KeyEntry::new(stream, key, salt)))
}

fn block_on(task: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    observe::logging::start("damson=info,srt_protocol=error,warn")?;
    take_all_descriptors();
    let runtime = tokio::runtime::Runtime::new().map_err(NodeError::Runtime)?;
    let result = runtime.block_on(task);
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

/// Raises the soft limit of open files, mostly 1,024, to the hard one: each player takes a descriptor.
fn take_all_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, soft = limit.current, hard = limit.maximum, "can't raise the limit of open files");
    }
}

/// Ctrl-C and SIGTERM. The handlers are set before the node starts, so that it can be stopped as soon as it prints.
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
