//! An edge on free ports with a made-up stream, and an HTTP/1.1 client that shows everything.

use std::sync::Arc;

use damson::clock;
use damson::edge::{Config, Edge, Limits, Standalone, Store, serve};
use damson::net::{Listeners, Tls};
use damson::observe::Metrics;
use damson_core::model::{Msn, NodeId, Record, TrackId};
use damson_core::testing::synthetic;
use damson_core::testing::synthetic::{AUDIO, FIRST_MSN, PARTS, VIDEO};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// The bytes of a part's body.
pub(crate) const LEN: usize = 10_000;

/// An edge on a free port, with HTTP and HTTPS.
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) https: u16,
    pub(crate) edge: Arc<Edge>,
    pub(crate) tls: Arc<Tls>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let tls = Tls::self_signed(["localhost".to_owned()]).expect("a name");
        Server::with(Limits::default(), tls).await
    }

    pub(crate) async fn with(limits: Limits, tls: Tls) -> Self {
        Server::as_set(Config { limits, ..Config::new(NodeId(7), "edge7") }, tls).await
    }

    pub(crate) async fn as_set(config: Config, tls: Tls) -> Self {
        let listen = async || {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let port = listener.local_addr().expect("bound").port();
            (listener, port)
        };
        let ((http, port), (secure, https), tls) = (listen().await, listen().await, Arc::new(tls));
        let metrics = Arc::new(Metrics::default());
        let store = Store::new(Arc::clone(&metrics));
        let edge = Edge::new(config, store, Arc::new(Standalone), metrics);
        let shutdown = CancellationToken::new();
        let listeners = Listeners { plain: Some(http), tls: Some((secure, Arc::clone(&tls))) };
        let task = tokio::spawn(serve(listeners, Arc::clone(&edge), shutdown.clone()));
        Server { port, https, edge, tls, shutdown, task }
    }

    pub(crate) async fn live(more: u16) -> (Self, Record) {
        let server = Server::start().await;
        let record = server.feed(more, LEN);
        (server, record)
    }

    /// Starts one with `cam1`: two whole segments, and `more` parts of the third, each of `len` bytes.
    pub(crate) fn feed(&self, more: u16, len: usize) -> Record {
        let record = synthetic::record("cam1");
        self.edge.store().record(record.clone());
        for segment in 0..3 {
            for part in 0..if segment < 2 { PARTS } else { more } {
                for track in [VIDEO, AUDIO] {
                    let (header, body, trace) = synthetic::part(&record, track, FIRST_MSN + segment, part, len);
                    self.edge.store().part(&record.stream, header, body, trace, clock::now());
                }
            }
        }
        record
    }

    pub(crate) fn part(&self, record: &Record, track: TrackId, msn: Msn, part: u16) {
        let (header, body, trace) = synthetic::part(record, track, msn, part, LEN);
        self.edge.store().part(&record.stream, header, body, trace, clock::now());
    }

    /// Returns once this many requests are held.
    pub(crate) async fn holds(&self, requests: usize) {
        while self.edge.store().waiting() != requests {
            tokio::task::yield_now().await;
        }
    }

    /// Returns once there are no connections.
    pub(crate) async fn is_alone(&self) {
        while self.edge.connections() > 0 {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn connect(&self) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.expect("the edge listens");
        Client { stream: BufReader::new(stream) }
    }

    pub(crate) async fn get(&self, target: &str) -> Response {
        self.connect().await.ask("GET", target, &[]).await
    }

    /// Starts a request, and returns once the edge holds it.
    pub(crate) async fn held(&self, target: &str) -> Client {
        let before = self.edge.store().waiting();
        let mut client = self.connect().await;
        client.send("GET", target, &[]).await;
        while self.edge.store().waiting() == before {
            tokio::task::yield_now().await;
        }
        client
    }
}

/// A keep-alive connection.
pub(crate) struct Client {
    pub(crate) stream: BufReader<TcpStream>,
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body ended as its framing says.
    pub(crate) whole: bool,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }
}

impl Client {
    pub(crate) async fn send(&mut self, method: &str, target: &str, headers: &[(&str, &str)]) {
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: edge\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        self.stream.write_all(request.as_bytes()).await.expect("the edge reads");
    }

    pub(crate) async fn ask(&mut self, method: &str, target: &str, headers: &[(&str, &str)]) -> Response {
        self.send(method, target, headers).await;
        let mut response = self.head().await;
        if method != "HEAD" {
            self.body(&mut response).await;
        }
        response
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.expect("a line");
        line.trim_end().to_owned()
    }

    pub(crate) async fn head(&mut self) -> Response {
        let status = self.line().await;
        let status = status.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status line");
        let mut headers = Vec::new();
        loop {
            let line = self.line().await;
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        Response { status, headers, body: Vec::new(), whole: true }
    }

    async fn body(&mut self, response: &mut Response) {
        if response.header("transfer-encoding") == "chunked" {
            while let Some(chunk) = self.chunk().await {
                if chunk.is_empty() {
                    return;
                }
                response.body.extend(chunk);
            }
            response.whole = false;
        } else if !matches!(response.status, 204 | 304) {
            let length = response.header("content-length").parse().expect("a length");
            response.body = vec![0; length];
            self.stream.read_exact(&mut response.body).await.expect("the body");
        }
    }

    /// Returns the next chunk, which is empty at the end; `None` if the connection breaks off.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut size = String::new();
        if self.stream.read_line(&mut size).await.ok()? == 0 {
            return None;
        }
        let mut chunk = vec![0; usize::from_str_radix(size.trim_end(), 16).ok()? + 2];
        self.stream.read_exact(&mut chunk).await.ok()?;
        chunk.truncate(chunk.len() - 2);
        Some(chunk)
    }

    pub(crate) async fn answer(&mut self) -> Response {
        let mut response = self.head().await;
        self.body(&mut response).await;
        response
    }
}

pub(crate) fn body(record: &Record, track: TrackId, msn: Msn, part: u16) -> Vec<u8> {
    synthetic::part(record, track, msn, part, LEN).1.to_vec()
}

pub(crate) const PLAYLIST: &str = "/cam1/video/playlist.m3u8";
/// The MSN of the segment under way in [`Server::live`].
pub(crate) const NOW: Msn = FIRST_MSN + 2;
