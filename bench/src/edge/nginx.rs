//! nginx, serving files from a tmpfs.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::Pair;
use crate::Result;
use crate::http::Client;
use crate::process::{Process, free_port};

/// A tmpfs on every Linux.
const TMPFS: &str = "/dev/shm";

/// One nginx. Dropped, its master is killed, which leaves the workers alone in the world: [`stop`](Nginx::stop) it.
pub(super) struct Nginx {
    pub(super) process: Process,
    pub(super) http: SocketAddr,
    pub(super) https: SocketAddr,
    pub(super) version: String,
    folder: TempDir,
}

impl Nginx {
    /// Starts it as its own documentation would tune it for this: sendfile, open files cached, no log. `pair` is a
    /// certificate and its key, both in PEM.
    pub(super) async fn start(pair: &Pair) -> Result<Self> {
        let folder = tempfile::tempdir_in(TMPFS)?;
        // Workers change to another user, who has to get in.
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let (http, https) = (free_port().await?, free_port().await?);
        let version = tokio::process::Command::new("nginx").arg("-v").output().await.map_err(|error| {
            format!("nginx, the peer of this figure, doesn't start (apt install nginx-light): {error}")
        })?;
        let version = String::from_utf8_lossy(&version.stderr).trim().replace("nginx version: ", "");
        fs::create_dir(folder.path().join("www"))?;
        fs::write(folder.path().join("nginx.conf"), config(folder.path(), http, https, pair))?;
        fs::write(folder.path().join("www/ready"), "yes")?;
        let mut args = vec!["-e".to_owned(), "stderr".to_owned()];
        args.extend(["-p".to_owned(), folder.path().display().to_string(), "-c".to_owned(), "nginx.conf".to_owned()]);
        let process = Process::start("nginx", "nginx", args)?;
        for _ in 0..100 {
            if let Ok(mut client) = Client::connect(http).await
                && client.text("/ready").await.is_ok()
            {
                return Ok(Nginx { process, http, https, version, folder });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(format!("nginx doesn't answer at {http}").into())
    }

    /// Has the master end its workers and itself.
    pub(super) async fn stop(mut self) -> Result<()> {
        let mut stop = tokio::process::Command::new("nginx");
        stop.arg("-p").arg(self.folder.path()).args(["-e", "stderr", "-c", "nginx.conf", "-s", "stop"]);
        stop.status().await?;
        self.process.ended().await
    }

    /// Puts `body` where `path` finds it.
    pub(super) fn lay(&self, path: &str, body: &[u8]) -> Result<()> {
        let file = self.folder.path().join("www").join(path.trim_start_matches('/'));
        fs::create_dir_all(file.parent().ok_or("a path has a folder")?)?;
        // A new file under the old name: what nginx has open stays whole.
        let unfinished = file.with_extension("tmp");
        fs::write(&unfinished, body)?;
        Ok(fs::rename(unfinished, file)?)
    }
}

fn config(folder: &Path, http: SocketAddr, https: SocketAddr, pair: &Pair) -> String {
    let (cert, key) = (pair.cert.display(), pair.key.display());
    let folder = folder.display();
    format!(
        "daemon off;
        worker_processes auto;
        pid {folder}/nginx.pid;
        error_log stderr warn;
        events {{ worker_connections 1024; }}
        http {{
            access_log off;
            sendfile on;
            tcp_nopush off;                 # on, it holds a small body's tail for 40 ms
            tcp_nodelay on;
            keepalive_requests 1000000000;
            open_file_cache max=1000 inactive=60s;
            open_file_cache_valid 1s;
            types {{ video/mp4 m4s mp4; application/vnd.apple.mpegurl m3u8; }}
            client_body_temp_path {folder}/body;
            proxy_temp_path {folder}/proxy;
            fastcgi_temp_path {folder}/fastcgi;
            uwsgi_temp_path {folder}/uwsgi;
            scgi_temp_path {folder}/scgi;
            ssl_protocols TLSv1.2 TLSv1.3;  # the second isn't in the defaults of 1.22
            ssl_certificate {cert};
            ssl_certificate_key {key};
            server {{ listen {http}; listen {https} ssl http2; root {folder}/www; }}
        }}"
    )
}
