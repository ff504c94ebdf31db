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

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Tool {
    /// The client of this bench, which reads in large pieces.
    #[default]
    Own,
    /// wrk, which reads in small ones: an opinion from outside.
    Wrk,
}

impl Tool {
    /// Those that are here.
    pub(super) async fn installed() -> Vec<Tool> {
        // It has no option that only says that it is there; any answer will do.
        match Command::new("wrk").arg("--version").output().await {
            Ok(_) => vec![Tool::Own, Tool::Wrk],
            Err(_) => vec![Tool::Own],
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Tool::Own => "own client",
            Tool::Wrk => "wrk",
        }
    }

    /// Asks `server` for `path` on `connections` at once for `time`. An answer other than 200 is an error.
    pub(super) async fn run(self, server: SocketAddr, path: &str, connections: usize, time: Duration) -> Result<Load> {
        match self {
            Tool::Own => own(server, path, connections, time).await,
            Tool::Wrk => wrk(server, path, connections, time).await,
        }
    }
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
