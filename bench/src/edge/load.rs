//! A load: connections that ask for one path again and again.

use std::net::SocketAddr;
use std::time::Duration;

use damson::clock;
use tokio::process::Command;

use crate::Result;
use crate::http::Client;

/// What a load came to.
#[derive(Default)]
pub(super) struct Load {
    pub(super) requests: u64,
    pub(super) bytes: u64,
    pub(super) elapsed: Duration,
}

/// How.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Transport {
    /// HTTP/1.1 in the clear.
    #[default]
    Plain,
    /// HTTP/1.1 over TLS.
    Tls,
    /// HTTP/2 over TLS, [`STREAMS`] requests at a time on each connection.
    H2,
}

impl Transport {
    pub(super) fn name(self) -> &'static str {
        match self {
            Transport::Plain => "h1",
            Transport::Tls => "h1+TLS",
            Transport::H2 => "h2+TLS",
        }
    }
}

/// A player's: a playlist that is held, and a part of each track.
const STREAMS: &str = "3";

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Tool {
    /// The client of this bench, which reads in large pieces.
    #[default]
    Own,
    /// wrk, which reads in small ones: an opinion from outside.
    Wrk,
    /// nghttp2's h2load, for all that is over TLS.
    H2load,
}

impl Tool {
    /// Those that are here.
    pub(super) async fn installed() -> Vec<(Tool, Transport)> {
        let mut tools = vec![(Tool::Own, Transport::Plain)];
        // It has no option that only says that it is there; any answer will do.
        if Command::new("wrk").arg("--version").output().await.is_ok() {
            tools.push((Tool::Wrk, Transport::Plain));
        }
        if Command::new("h2load").arg("--version").output().await.is_ok() {
            tools.extend([(Tool::H2load, Transport::Tls), (Tool::H2load, Transport::H2)]);
        }
        tools
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Tool::Own => "own client",
            Tool::Wrk => "wrk",
            Tool::H2load => "h2load",
        }
    }

    /// Asks `server` for `path` on `connections` at once for `time`. An answer other than 200 is an error.
    pub(super) async fn run(
        self,
        transport: Transport,
        server: SocketAddr,
        path: &str,
        connections: usize,
        time: Duration,
    ) -> Result<Load> {
        match self {
            Tool::Own => own(server, path, connections, time).await,
            Tool::Wrk => wrk(server, path, connections, time).await,
            Tool::H2load => h2load(transport, server, path, connections, time).await,
        }
    }
}

async fn h2load(
    transport: Transport,
    server: SocketAddr,
    path: &str,
    connections: usize,
    time: Duration,
) -> Result<Load> {
    let mut command = Command::new("h2load");
    command.args(["-t", "1", "-c", &connections.to_string(), "-D", &time.as_secs().to_string()]);
    match transport {
        Transport::H2 => command.args(["-m", STREAMS]),
        _ => command.arg("--h1"),
    };
    let out = command.arg(format!("https://{server}{path}")).output().await?;
    let text = String::from_utf8_lossy(&out.stdout);
    // `requests: 1 total, 1 started, 1 done, 1 succeeded, 0 failed, 0 errored, 0 timeout`
    // `traffic: 3.4MB (3571712) total, 1.1KB (1131) headers (space savings 0.00%), 3.4MB (3567616) data`
    let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or("").to_owned();
    let (requests, traffic) = (line("requests: "), line("traffic: "));
    let number = |text: &str, unit: &str| -> Option<u64> {
        text.split(", ").find_map(|part| part.trim_start_matches("requests: ").strip_suffix(unit)?.parse().ok())
    };
    let bytes = traffic.rsplit_once('(').and_then(|(_, rest)| rest.split(')').next()?.parse().ok());
    let load = number(&requests, " succeeded").zip(bytes).filter(|_| number(&requests, " failed") == Some(0));
    let (requests, bytes) = load.ok_or_else(|| format!("errors under load:\n{text}"))?;
    Ok(Load { requests, bytes, elapsed: time })
}

async fn wrk(server: SocketAddr, path: &str, connections: usize, time: Duration) -> Result<Load> {
    let length = Client::connect(server).await?.get(path).await?.1.len() as u64;
    let out = Command::new("wrk")
        .args([
            "-t2",
            &format!("-c{connections}"),
            &format!("-d{}s", time.as_secs()),
            &format!("http://{server}{path}"),
        ])
        .output()
        .await?;
    let text = String::from_utf8_lossy(&out.stdout);
    // `  79256 requests in 3.01s, 18.01GB read`; its own bytes count heads, too.
    let counted = text.lines().find_map(|line| line.trim().split_once(" requests in "));
    let (requests, rest) = counted.ok_or_else(|| format!("wrk says nothing of requests:\n{text}"))?;
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        return Err(format!("errors under load:\n{text}").into());
    }
    let seconds: f64 = rest.split_once("s,").ok_or("wrk names no time")?.0.parse()?;
    let requests: u64 = requests.parse()?;
    Ok(Load { requests, bytes: requests * length, elapsed: Duration::from_secs_f64(seconds) })
}

async fn own(server: SocketAddr, path: &str, connections: usize, time: Duration) -> Result<Load> {
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Client::connect(server).await?);
    }
    let began = clock::now();
    let end = began + time;
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let request = client.request(path);
            tokio::spawn(async move {
                let (mut requests, mut bytes) = (0, 0);
                while clock::now() < end {
                    let (status, length) = client.discard(&request).await?;
                    if status != 200 {
                        return Err(format!("HTTP {status} under load").into());
                    }
                    requests += 1;
                    bytes += length as u64;
                }
                Result::Ok((requests, bytes))
            })
        })
        .collect();
    let mut load = Load::default();
    for task in tasks {
        let (requests, bytes) = task.await??;
        load.requests += requests;
        load.bytes += bytes;
    }
    load.elapsed = clock::now().since(began);
    Ok(load)
}
