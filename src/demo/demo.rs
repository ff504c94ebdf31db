//! A running demo: its options, its start, and its banner.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::links::{DelayRange, Loss, Relay, Shape};
use super::nodes::{DemoNodes, NodePlan, Sockets, Switch};
use crate::config::Listen;
use crate::edge::EdgeAddress;
use crate::ingest::file_loop::FileLoop;
use crate::mesh::Ca;
use crate::net::Tls;
use crate::net::http_client::{HttpClient, Trust, parse_url};
use crate::node::{NodeError, listen};

/// The film that the demo loops if no other is named: fixtures/README.md tells where it comes from.
const FILM: &[u8] = include_bytes!("../../fixtures/media/plum-720p30.mp4");

/// The default port of the demo's HTTPS.
const HTTPS_PORT: u16 = 8443;

/// The delay of the link around a node, as a multiple of that through it.
const AROUND: f64 = 1.5;
/// The shortest delay of such a link, so that the line is the tree where links have no delay of their own, too.
const AROUND_MIN: Duration = Duration::from_millis(30);
/// The seed of delays and losses, so that each run has the same.
const SEED: u64 = 0xDA;
/// The longest that the banner waits for the film at the last edge.
const PLAYS_WITHIN: Duration = Duration::from_secs(5);
/// The time between two looks at the last edge.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The options of a demo.
#[derive(clap::Args, Debug, Clone)]
pub struct DemoOptions {
    /// Number of edges, one hop after the other, 1-16
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub edges: u16,
    /// Address of the last edge and its player page; the other nodes take the ports after it (port 0: any)
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub http: SocketAddr,
    /// Address of the last edge's HTTPS, with a self-signed certificate, or `off` [default: port 8443 of --http's address]
    #[arg(long, value_name = "ADDR")]
    pub https: Option<Listen>,
    /// Address for RTMP publishers
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1935")]
    pub rtmp: SocketAddr,
    /// Film to loop: an .mp4 file with H.264 and AAC [default: the one in the binary]
    #[arg(long, value_name = "FILE")]
    pub film: Option<PathBuf>,
    /// Delay that the links between the nodes add, each way, such as 20ms..80ms [default: none]
    #[arg(long, value_name = "DELAY")]
    pub link_delay: Option<DelayRange>,
    /// Share of packets that the links lose, such as 1% [default: none]
    #[arg(long, value_name = "SHARE")]
    pub loss: Option<Loss>,
}

/// A running demo.
pub struct Demo {
    edges: Vec<EdgeAddress>,
    https: Option<SocketAddr>,
    rtmp: SocketAddr,
    stop: CancellationToken,
    nodes: tokio::task::JoinHandle<()>,
}

impl Demo {
    /// Starts the nodes, one after the other, and the film.
    pub async fn start(options: DemoOptions) -> Result<Self, NodeError> {
        let film = match &options.film {
            Some(path) => FileLoop::open(path).await?,
            None => FileLoop::read("fixtures/media/plum-720p30.mp4", FILM)?,
        };
        let mut rtmp = Some(listen(options.rtmp, "rtmp").await?);
        let rtmp_addr = rtmp.as_ref().and_then(|listener| listener.local_addr().ok()).unwrap_or(options.rtmp);
        let (mut listeners, mut edges) = (Vec::new(), Vec::new());
        for (name, addr) in http_addrs(&options) {
            let listener = listen(addr, "http").await.map_err(|error| beside(error, &options, &name))?;
            let addr = listener.local_addr().unwrap_or(addr);
            edges.push(EdgeAddress { name: name.clone(), url: format!("http://{addr}") });
            listeners.push((name, addr, listener));
        }
        let https = https(&options).await?;
        let https_addr = https.as_ref().and_then(|(listener, _)| listener.local_addr().ok());
        let (mut https, mut tls) = https.unzip();
        let ca = Ca::generate()?;
        let stop = CancellationToken::new();
        let (switch, orders) = Switch::new(edges.iter().map(|edge| edge.name.clone()).collect());
        let mut nodes = DemoNodes::new(edges.clone(), film, Arc::new(switch));
        let last = listeners.len() - 1;
        let nodes_and_links = listeners.into_iter().zip(shapes(&options)).enumerate();
        for (i, ((name, addr, http), (near, around))) in nodes_and_links {
            let mut join = Vec::new();
            if let Some(target) = nodes.mesh_before(1) {
                join.push(via(target, near, i)?);
            }
            if let Some(target) = nodes.mesh_before(2) {
                join.push(via(target, Some(around), i + 0x100)?);
            }
            let plan = NodePlan {
                identity: ca.issue(&name)?,
                name,
                mesh: SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 0),
                join,
                rtmp: (i == 0).then_some(rtmp_addr),
                http: addr,
                https: https_addr.filter(|_| i == last),
                tls: tls.take_if(|_| i == last),
            };
            nodes.add(plan, Sockets { rtmp: rtmp.take(), http, https: https.take_if(|_| i == last) })?;
        }
        let nodes = tokio::spawn(nodes.run(orders, stop.clone()));
        let demo = Demo { edges, https: https_addr, rtmp: rtmp_addr, stop, nodes };
        demo.plays().await;
        Ok(demo)
    }

    /// Waits until the last edge lists the film, so that the banner comes last, and its page plays at once.
    async fn plays(&self) {
        let playlist = parse_url(&format!("{}/demo/index.m3u8", self.page()));
        let (Ok(playlist), Ok(client)) = (playlist, HttpClient::new(Trust::System)) else { return };
        let listed = async {
            while !client.get(&playlist).await.is_ok_and(|answer| answer.status().is_success()) {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        if tokio::time::timeout(PLAYS_WITHIN, listed).await.is_err() {
            tracing::warn!("the last edge doesn't list the film within {PLAYS_WITHIN:?}");
        }
    }

    /// Returns the address of the last edge, which has the player page.
    fn page(&self) -> &str {
        self.edges.last().map_or("", |edge| &edge.url)
    }

    /// Drains and stops all nodes, the ingest first, so that the edges get its last parts.
    pub async fn shutdown(self) {
        self.stop.cancel();
        if let Err(error) = self.nodes.await {
            tracing::error!(%error, "the demo's nodes weren't drained");
        }
    }
}

/// Draws the links of each node: the shape of the link to the node before, `None` if it has neither delay nor loss; and of the
/// link around that node.
fn shapes(options: &DemoOptions) -> impl Iterator<Item = (Option<Shape>, Shape)> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(SEED);
    let loss = options.loss.map_or(0.0, |loss| loss.0);
    let range = options.link_delay;
    let mut before = Duration::ZERO;
    std::iter::repeat_with(move || {
        let delay = range.map_or(Duration::ZERO, |range| {
            let span = range.to.saturating_sub(range.from);
            range.from + span.mul_f64(rng.random_range(0.0..=1.0))
        });
        let around = (before + delay).mul_f64(AROUND).max(AROUND_MIN);
        before = delay;
        let near = (!delay.is_zero() || loss > 0.0).then_some(Shape { delay, loss });
        (near, Shape { delay: around, loss })
    })
}

/// Returns the address through which a node is dialled: its own, or that of a relay.
fn via(target: SocketAddr, shape: Option<Shape>, seed: usize) -> Result<SocketAddr, NodeError> {
    let Some(shape) = shape else { return Ok(target) };
    let relay = Relay::open(target, shape, seed as u64).map_err(NodeError::Runtime)?;
    let addr = relay.addr().map_err(NodeError::Runtime)?;
    // The relay outlives the nodes, which say goodbye through it, and ends with the process.
    tokio::spawn(relay.run());
    Ok(addr)
}

/// Binds the last edge's HTTPS.
async fn https(options: &DemoOptions) -> Result<Option<(TcpListener, Arc<Tls>)>, NodeError> {
    let beside = |port| SocketAddr::new(options.http.ip(), port);
    let addr = match (options.https, options.http.port()) {
        (Some(https), _) => https.addr(),
        (None, 0) => Some(beside(0)),
        (None, _) => Some(beside(HTTPS_PORT)),
    };
    let Some(addr) = addr else { return Ok(None) };
    let listener = match listen(addr, "https").await {
        Ok(listener) => listener,
        Err(error) if options.https.is_some() => return Err(error),
        // The user didn't ask for HTTPS.
        Err(error) => {
            tracing::warn!("{error}; this demo serves no HTTPS");
            return Ok(None);
        }
    };
    let names = ["localhost".to_owned(), addr.ip().to_string()];
    Ok(Some((listener, Arc::new(Tls::self_signed(names)?))))
}

/// Returns the nodes' names in the order of the line, and where each serves: the last edge at the address
/// asked for, the others at the ports after it.
fn http_addrs(options: &DemoOptions) -> Vec<(String, SocketAddr)> {
    let port = |offset: u16| match options.http.port() {
        0 => 0,
        port => port.saturating_add(offset),
    };
    let node = |i: u16| {
        let name = if i == 0 { "ingest".to_owned() } else { format!("edge{i}") };
        let offset = if i == options.edges { 0 } else { i + 1 };
        (name, SocketAddr::new(options.http.ip(), port(offset)))
    };
    (0..=options.edges).map(node).collect()
}

/// Explains an error of another port than that of the last edge, which the user didn't name.
fn beside(error: NodeError, options: &DemoOptions, node: &str) -> NodeError {
    match error {
        NodeError::Listen { addr, source, .. } if addr != options.http => {
            NodeError::Beside { node: node.to_owned(), addr, source, ports: options.edges + 1 }
        }
        error => error,
    }
}

impl fmt::Display for Demo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (page, rtmp) = (self.page(), self.rtmp);
        let line: Vec<&str> = self.edges.iter().map(|edge| edge.name.as_str()).collect();
        writeln!(f, "\ndamson demo: {}\n", line.join(" ==> "))?;
        for EdgeAddress { name, url } in &self.edges {
            writeln!(f, "  {name:<10} {url}/")?;
        }
        writeln!(f, "\n  HLS        {page}/demo/index.m3u8\n  DASH       {page}/demo/manifest.mpd")?;
        if let Some(https) = self.https {
            writeln!(f, "  HTTPS      https://{https}/  (HTTP/2, self-signed certificate)")?;
        }
        write!(
            f,
            "
  watch      {page}/
  push       a stream of your own, which the page shows as cam1:

  ffmpeg -re -f lavfi -i testsrc2=size=1280x720:rate=30 -f lavfi -i sine=frequency=440 \\
    -c:v libx264 -preset veryfast -tune zerolatency -pix_fmt yuv420p -g 60 -b:v 3M -c:a aac \\
    -f flv rtmp://{rtmp}/live/cam1

  stop       Ctrl-C"
        )
    }
}
