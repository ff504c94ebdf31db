//! A load: connections that ask for one path again and again.

use std::net::SocketAddr;
use std::time::Duration;

use damson::clock;

use crate::Result;
use crate::http::Client;

/// What a load came to.
#[derive(Default)]
pub(super) struct Load {
    pub(super) requests: u64,
    pub(super) bytes: u64,
    pub(super) elapsed: Duration,
}

/// Asks `server` for `path` on `connections` at once for `time`. An answer other than 200 is an error.
pub(super) async fn run(server: SocketAddr, path: &str, connections: usize, time: Duration) -> Result<Load> {
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
