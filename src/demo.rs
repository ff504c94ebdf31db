//! The demo: one process, an ingest and edges as full nodes in a line, each with its own sockets on
//! loopback, under a CA that lives in memory.
//!
//! ```text
//!   film, RTMP --> ingest ==hop==> edge1 ==hop==> edge2 ==hop==> edge3 --> http://127.0.0.1:8080/
//! ```

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::config::{Dash, Listen, Takeover, Topology};
use crate::edge::{EdgeAddress, Limits, Tls};
use crate::ingest::file::FileLoop;
use crate::live::StreamName;
use crate::media;
use crate::mesh::Ca;
use crate::node::{Inputs, Node, NodeConfig, NodeError, listen};

/// The film that the demo loops if no other is named: fixtures/README.md tells where it comes from.
const FILM: &[u8] = include_bytes!("../fixtures/media/plum-720p30.mp4");

/// Where a demo serves HTTPS if nothing is said.
pub const HTTPS_PORT: u16 = 8443;

/// What can be chosen of a demo.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many edges, one hop after the other.
    pub edges: u16,
    /// Where the last edge serves; the ingest and the other edges take the ports after it.
    pub http: SocketAddr,
    /// Where the last edge serves HTTPS, with a certificate of its own making; port [`HTTPS_PORT`] beside `http` if
    /// nothing is said.
    pub https: Option<Listen>,
    /// Where encoders push.
    pub rtmp: SocketAddr,
    /// The film to loop, if not our own.
    pub film: Option<PathBuf>,
}

/// A running demo.
pub struct Demo {
    /// The ingest first.
    nodes: Vec<Node>,
    edges: Vec<EdgeAddress>,
    https: Option<SocketAddr>,
    rtmp: SocketAddr,
}

impl Demo {
    /// Starts the nodes, one after the other, and the film.
    pub async fn start(options: Options) -> Result<Self, NodeError> {
        let film = match &options.film {
            Some(path) => FileLoop::open(path).await?,
            None => FileLoop::read("fixtures/media/plum-720p30.mp4", FILM)?,
        };
        let rtmp = listen(options.rtmp, "rtmp").await?;
        let rtmp_addr = rtmp.local_addr().unwrap_or(options.rtmp);
        let mut rtmp = Some(rtmp);
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
        let mut nodes: Vec<Node> = Vec::new();
        for (i, (name, http)) in listeners.into_iter().enumerate() {
            let is_last = i == usize::from(options.edges);
            let config = NodeConfig {
                identity: ca.issue(&name)?,
                name,
                mesh: SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 0),
                advertise: None,
                join: nodes.last().map(Node::mesh).into_iter().collect(),
                topology: Topology::Static,
                upload: None,
                rtmp: rtmp.take(),
                inputs: Inputs::default(),
                http: Some(http),
                https: https.take_if(|_| is_last),
                limits: Limits::default(),
                media: media::Settings::default(),
                takeover: Takeover::default(),
                dash: Dash::default(),
                dvr: None,
                otlp: None,
                edges: edges.clone(),
            };
            nodes.push(Node::start(config)?);
        }
        if let Some(ingest) = nodes.first() {
            ingest.play(StreamName::parse("demo").expect("a valid name"), film);
        }
        Ok(Demo { nodes, edges, https: https_addr, rtmp: rtmp_addr })
    }

    /// Where each node serves, by name, the ingest first.
    pub fn edges(&self) -> &[EdgeAddress] {
        &self.edges
    }

    /// Drains and stops all nodes, the ingest first, so that the edges get its last parts.
    pub async fn shutdown(self) {
        for node in self.nodes {
            node.shutdown().await;
        }
    }
}

/// The last edge's HTTPS.
async fn https(options: &Options) -> Result<Option<(TcpListener, Arc<Tls>)>, NodeError> {
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

/// The nodes' names in the order of the line, and where each serves: the last edge at the address
/// asked for, the others at the ports after it.
fn http_addrs(options: &Options) -> Vec<(String, SocketAddr)> {
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

/// The port of another node than the last edge wasn't named by anybody: says where it comes from.
fn beside(error: NodeError, options: &Options, node: &str) -> NodeError {
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
