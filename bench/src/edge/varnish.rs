//! Varnish, with what nginx serves in its cache.

use std::net::SocketAddr;
use std::time::Duration;

use tempfile::TempDir;

use crate::Result;
use crate::http::Client;
use crate::process::{Process, free_port};

/// One Varnish; its child ends with it.
pub(super) struct Varnish {
    pub(super) process: Process,
    pub(super) http: SocketAddr,
    _folder: TempDir,
}

impl Varnish {
    /// Starts it before `backend`; `None` where it isn't installed. What it has it keeps for a minute.
    pub(super) async fn start(backend: SocketAddr) -> Result<Option<Self>> {
        if tokio::process::Command::new("varnishd").arg("-V").output().await.is_err() {
            return Ok(None);
        }
        let (folder, http) = (tempfile::tempdir()?, free_port().await?);
        let dir = folder.path().display().to_string();
        let (listen, backend) = (http.to_string(), backend.to_string());
        let args = ["-F", "-j", "none", "-a", &listen, "-b", &backend, "-n", &dir, "-s", "malloc,256m", "-t", "60"];
        let process = Process::start("varnishd", "varnishd", args)?;
        for _ in 0..200 {
            if let Ok(mut client) = Client::connect(http).await
                && client.text("/ready").await.is_ok()
            {
                return Ok(Some(Varnish { process, http, _folder: folder }));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(format!("varnishd doesn't answer at {http}").into())
    }
}
