//! Clusters of real processes under a CA of their own, pushed to by ffmpeg, on free ports of loopback.
//!
//! A node says on stdout where it listens; the next one is told. What a test waits for is a line of a log, a
//! blocking reload, or, where neither tells, an answer that is asked for again.

mod codecs;
mod command;
mod crash;
mod deadline;
mod dvr;
mod groups;
mod hostile;
mod hosts;
mod http;
mod http_push;
mod inputs;
mod join;
mod ladder;
mod line;
mod loss;
mod lossy;
mod machine;
mod metadata;
mod namespaces;
mod players;
mod playlist;
mod process;
mod publisher;
mod push;
mod trace;
mod ts;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use process::{PATIENCE, Process, until};

/// The command, as a user types it.
fn damson(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_damson"));
    command.args(args).env("NO_COLOR", "1").env_remove("RUST_LOG");
    command
}

/// A CA, and a folder for all that a test makes.
struct Cluster {
    dir: tempfile::TempDir,
}

impl Cluster {
    fn new() -> Cluster {
        let cluster = Cluster { dir: tempfile::tempdir().expect("a temporary folder") };
        pki(&["init", text(&cluster.ca())]);
        cluster
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn ca(&self) -> PathBuf {
        self.path().join("ca")
    }

    /// The folder of a node's key and certificate.
    fn identity(&self, name: &str) -> PathBuf {
        let identity = self.ca().join(name);
        if !identity.exists() {
            pki(&["issue", text(&self.ca()), name]);
        }
        identity
    }

    /// A node of its own process: on free ports, but for those that `args` name.
    fn node(&self, name: &str, args: &[&str]) -> Node {
        let identity = self.identity(name);
        let free = "127.0.0.1:0";
        let mut command = damson(&["node", "--identity", text(&identity)]);
        for flag in ["--mesh", "--rtmp", "--http"] {
            if !args.contains(&flag) {
                command.args([flag, free]);
            }
        }
        Node::start(name, command.args(args))
    }

    /// Nodes in a line, the first first.
    fn line(&self, names: &[&str], args: &[&str]) -> Vec<Node> {
        let mut nodes: Vec<Node> = Vec::new();
        for name in names {
            let join = nodes.last().map(|node| node.mesh.to_string());
            let join = join.iter().flat_map(|addr| ["--join", addr]);
            let args: Vec<&str> =
                ["--topology", "static"].into_iter().chain(join).chain(args.iter().copied()).collect();
            nodes.push(self.node(name, &args));
        }
        nodes
    }
}

/// Runs `damson pki`.
fn pki(args: &[&str]) {
    let output = damson(&["pki"]).args(args).output().expect("damson starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is text")
}

/// A running node, and where it listens.
struct Node {
    process: Process,
    name: String,
    mesh: SocketAddr,
    rtmp: SocketAddr,
    http: SocketAddr,
}

impl Node {
    fn start(name: &str, command: &mut Command) -> Node {
        let process = Process::spawn(name, command);
        let addr = |words: &str, from: &str, to: &str| {
            let line = process.said(words);
            let addr = line.split(from).nth(1).and_then(|rest| rest.split(to).next()).expect("an address");
            addr.trim().parse().unwrap_or_else(|e| panic!("{line}: {e}"))
        };
        let mesh = addr("  mesh  ", "  mesh  ", "\n");
        let rtmp = addr("  rtmp  ", "rtmp://", "/");
        let http = addr("  http  ", "http://", "/");
        Node { process, name: name.to_owned(), mesh, rtmp, http }
    }

    /// The entry of `stream` in `/api/v1/streams`.
    fn stream(&self, stream: &str) -> serde_json::Value {
        http::json(self.http, &format!("/api/v1/streams/{stream}"))
    }

    /// Waits until the stream has a playlist with so many segments here, and gives it.
    fn plays(&self, stream: &str, segments: usize) -> playlist::Playlist {
        until(&format!("{segments} segments of {stream} at {}", self.name), PATIENCE, || {
            let answer = http::try_get(self.http, &format!("/{stream}/video/playlist.m3u8"))?;
            let list = (answer.status == 200).then(|| playlist::Playlist::parse(&answer.text()))?;
            (list.segments.len() >= segments).then_some(list)
        })
    }

    /// How many neighbours it has in the swarm of `stream`, or in the directory.
    fn swarm(&self, stream: Option<&str>, field: &str) -> Vec<String> {
        let swarm = http::json(self.http, "/api/v1/swarm");
        let swarms = swarm["swarms"].as_array().cloned().unwrap_or_default();
        let found = swarms.iter().find(|s| s["stream"].as_str() == stream);
        let peers = found.and_then(|s| s[field].as_array().cloned()).unwrap_or_default();
        peers.iter().filter_map(|p| p.as_str().map(str::to_owned)).collect()
    }

    /// Its id, as others name it.
    fn id(&self) -> String {
        let swarm = || http::json(self.http, "/api/v1/swarm")["node"].as_str().map(str::to_owned);
        until("the first view of the mesh", PATIENCE, swarm)
    }
}

/// After a test: nobody has panicked, and nobody was at fault.
fn check_logs(nodes: &[&Node]) {
    for node in nodes {
        let log = node.process.log();
        assert!(!log.contains("panicked"), "{}: {log}", node.name);
    }
}

/// A track's init segments and segments, in the order of its playlist.
fn fetch_all(from: SocketAddr, folder: &str, list: &playlist::Playlist) -> Vec<Vec<u8>> {
    let names = list.maps.iter().cloned().chain(list.segments.iter().map(|msn| format!("{msn}.m4s")));
    names.map(|name| http::fetch(from, &format!("{folder}/{name}"))).collect()
}

/// As long as players wait for a part before they stall.
const REPAIR_MAX: Duration = Duration::from_secs(3);
