//! A running demo: what can be chosen of it, and what it tells its user.

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
use super::nodes::{DemoNodes, NodePlan, Switch};
use crate::config::Listen;
use crate::edge::EdgeAddress;
use crate::ingest::file_loop::FileLoop;
use crate::mesh::Ca;
use crate::net::Tls;
use crate::node::{NodeError, listen};

/// The film that the demo loops if no other is named: fixtures/README.md tells where it comes from.
const FILM: &[u8] = include_bytes!("../../fixtures/media/plum-720p30.mp4");

/// The port of a demo's HTTPS if nothing is said.
pub const HTTPS_PORT: u16 = 8443;

/// How much longer the way around a node is than the way through it.
const AROUND: f64 = 1.5;
/// And by this much at least: the line is the tree where links have no delay of their own, too.
const AROUND_MIN: Duration = Duration::from_millis(30);
/// The same delays and losses each time.
const SEED: u64 = 0xDA;

/// The settings of a demo.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// The number of edges, one hop after the other.
    pub edges: u16,
    /// The address of the last edge; the ingest and the other edges take the ports after it.
    pub http: SocketAddr,
    /// The address of the last edge's HTTPS, with a certificate of its own making; port [`HTTPS_PORT`] beside `http` if
    /// nothing is said.
    pub https: Option<Listen>,
    /// The address to which encoders push.
    pub rtmp: SocketAddr,
    /// The film to loop, if not our own.
    pub film: Option<PathBuf>,
    /// The range of the links' delays, each way.
    pub link_delay: Option<DelayRange>,
    /// The share of packets that links lose.
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
            listeners.push((name, listener));
        }
        let mut https = https(&options).await?;
        let https_addr = https.as_ref().and_then(|(listener, _)| listener.local_addr().ok());
        let ca = Ca::generate()?;
        let stop = CancellationToken::new();
        let (switch, orders) = Switch::new(edges.iter().map(|edge| edge.name.clone()).collect());
        let mut nodes = DemoNodes::new(edges.clone(), film, Arc::new(switch));
        let mut delays =
            Delays { rng: Xoshiro256PlusPlus::seed_from_u64(SEED), options: &options, before: Duration::ZERO };
        let last = listeners.len() - 1;
        for (i, (name, http)) in listeners.into_iter().enumerate() {
            let mut join = Vec::new();
            let (near, around) = delays.next();
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
                http: http.local_addr().map_err(NodeError::Runtime)?,
                https: https
                    .as_ref()
                    .filter(|_| i == last)
                    .zip(https_addr)
                    .map(|((_, tls), addr)| (addr, Arc::clone(tls))),
            };
            let secure = https.take_if(|_| i == last).map(|(listener, _)| listener);
            nodes.add(plan, rtmp.take(), http, secure)?;
        }
        let nodes = tokio::spawn(nodes.run(orders, stop.clone()));
        Ok(Demo { edges, https: https_addr, rtmp: rtmp_addr, stop, nodes })
    }

    /// Returns each node's name and address, the ingest first.
    pub fn edges(&self) -> &[EdgeAddress] {
        &self.edges
    }

    /// Drains and stops all nodes, the ingest first, so that the edges get its last parts.
    pub async fn shutdown(self) {
        self.stop.cancel();
        if let Err(error) = self.nodes.await {
            tracing::error!(%error, "the demo's nodes were not drained");
        }
    }
}

/// Draws what the links of each node do.
struct Delays<'a> {
    rng: Xoshiro256PlusPlus,
    options: &'a DemoOptions,
    /// The delay of the link before.
    before: Duration,
}

impl Delays<'_> {
    /// Returns the shape of the link to the node before, `None` if it does nothing; and of the link around it.
    fn next(&mut self) -> (Option<Shape>, Shape) {
        let loss = self.options.loss.map_or(0.0, |loss| loss.0);
        let delay = self.options.link_delay.map_or(Duration::ZERO, |range| {
            let span = range.to.saturating_sub(range.from);
            range.from + span.mul_f64(self.rng.random_range(0.0..=1.0))
        });
        let around = ((self.before + delay).mul_f64(AROUND)).max(AROUND_MIN);
        self.before = delay;
        let near = (!delay.is_zero() || loss > 0.0).then_some(Shape { delay, loss });
        (near, Shape { delay: around, loss })
    }
}

/// Returns the address through which a node is dialled: its own, or that of a relay.
fn via(target: SocketAddr, shape: Option<Shape>, seed: usize) -> Result<SocketAddr, NodeError> {
    let Some(shape) = shape else { return Ok(target) };
    let relay = Relay::open(target, shape, seed as u64).map_err(NodeError::Runtime)?;
    let addr = relay.addr().map_err(NodeError::Runtime)?;
    // It outlives the nodes, which say goodbye through it, and ends with the process.
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
        // Nobody asked for it.
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

/// Says where the port of another node than the last edge comes from: the user didn't name it.
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
        let page = self.edges.last().map_or("", |edge| &edge.url);
        let line: Vec<&str> = self.edges.iter().map(|edge| edge.name.as_str()).collect();
        writeln!(f, "damson demo: {}\n", line.join(" ==> "))?;
        writeln!(f, "  watch      {page}/")?;
        writeln!(f, "  HLS        {page}/demo/index.m3u8")?;
        writeln!(f, "  DASH       {page}/demo/manifest.mpd\n")?;
        if let Some(https) = self.https {
            writeln!(f, "  HTTPS      https://{https}/  (HTTP/2; nobody vouches for its certificate)\n")?;
        }
        for EdgeAddress { name, url } in &self.edges {
            writeln!(f, "  {name:<10} {url}/")?;
        }
        writeln!(f, "\n  push a stream of your own, and watch it as cam1 on the page:\n")?;
        writeln!(
            f,
            "  ffmpeg -re -f lavfi -i testsrc2=size=1280x720:rate=30 -f lavfi -i sine=frequency=440 \\\n    \
             -c:v libx264 -preset veryfast -tune zerolatency -pix_fmt yuv420p -g 60 -b:v 3M -c:a aac \\\n    \
             -f flv rtmp://{}/live/cam1\n",
            self.rtmp
        )?;
        write!(f, "Ctrl-C ends it.")
    }
}
