//! `push`: what a push costs the node that takes it, beside nginx-rtmp taking the very same ones.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::cluster::{self, Cluster};
use crate::process::{self, Process};
use crate::table::{Readings, Table};
use crate::{Result, film};

/// A tmpfs on every Linux.
const TMPFS: &str = "/dev/shm";
/// Where Debian puts the module.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";
/// Steps of the measurement; the figure is their median.
const STEPS: u64 = 6;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Pushes of 3 Mb/s at a time
    #[arg(long, default_value_t = 20)]
    pushes: usize,
    /// For how long they run before anything is measured, in s: until the windows are full (30 s and 4 segments of 2 s)
    #[arg(long, default_value_t = 45)]
    fill: u64,
    /// For how long their CPU is measured, in s
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Who takes the pushes.
struct Taker {
    name: &'static str,
    before_mib: f64,
    cpu: Readings,
}

/// Measures, and prints the table.
pub(crate) async fn run(options: Options) -> Result<()> {
    let damson = process::damson().await?;
    let film = film::film().await?;
    let cluster = Cluster::start(&damson, 1).await?;
    let alone = NginxRtmp::start("").await?;
    let packaging = NginxRtmp::start("hls on; hls_path hls; hls_fragment 2s; hls_playlist_length 30s;").await?;
    let node = cluster.nodes.first().ok_or("a node was started")?;
    let processes = [&node.process, &alone.process, &packaging.process];
    let names = [
        "damson: HLS, LL-HLS, DASH, LL-DASH from memory",
        "nginx-rtmp: RTMP alone",
        "nginx-rtmp: HLS in files on a tmpfs",
    ];
    let mut takers = Vec::new();
    for (name, process) in names.into_iter().zip(processes) {
        takers.push(Taker { name, before_mib: process.memory_mib()?.0, cpu: Readings::default() });
    }

    let mut pushes = Vec::new();
    for n in 0..options.pushes {
        let stream = format!("bench{n}");
        let urls = [cluster.push_url(&stream)?, alone.push_url(&stream), packaging.push_url(&stream)];
        pushes.push(push(&film, &urls)?);
    }
    for n in 0..options.pushes {
        cluster::until_live(node.http, &format!("bench{n}"), 2).await?;
    }
    packaging.until_packaged(options.pushes).await?;
    tokio::time::sleep(Duration::from_secs(options.fill)).await;
    let step = Duration::from_secs(options.seconds.div_ceil(STEPS));
    for _ in 0..STEPS {
        let before = processes.iter().map(|process| process.cpu_exact()).collect::<Result<Vec<_>>>()?;
        tokio::time::sleep(step).await;
        for ((taker, process), before) in takers.iter_mut().zip(processes).zip(before) {
            taker.cpu.push((process.cpu_exact()? - before) / step.as_secs_f64() / options.pushes as f64 * 100.0);
        }
    }

    let mut table = Table::new(&["taken by", "CPU a push, % of a core", "over nginx-rtmp's HLS", "memory a push, MiB"]);
    let of_peer = takers.last().map(|peer| peer.cpu.clone()).unwrap_or_default();
    for (taker, process) in takers.iter().zip(processes) {
        table.row([
            taker.name.to_owned(),
            format!("{:.2}", taker.cpu.median()),
            format!("{:.2}", taker.cpu.by(&of_peer).median()),
            format!("{:.1}", (process.memory_mib()?.0 - taker.before_mib) / options.pushes as f64),
        ]);
    }
    println!(
        "{} pushes of 3 Mb/s, each by one ffmpeg to all three at once; no viewers; {}; CPU in {STEPS} steps over {} s.\n",
        options.pushes, alone.version, options.seconds
    );
    table.print();
    Ok(())
}

/// ffmpeg pushing `film` to all `urls` in real time, for ever.
fn push(film: &Path, urls: &[String]) -> Result<Process> {
    let film = film.to_str().ok_or("the target folder's path isn't UTF-8")?;
    let to = urls.iter().map(|url| format!("[f=flv]{url}")).collect::<Vec<_>>().join("|");
    let args = ["-hide_banner", "-loglevel", "warning", "-nostdin", "-re", "-stream_loop", "-1", "-i", film];
    let args = args.into_iter().chain(["-map", "0", "-c", "copy", "-flags", "+global_header", "-f", "tee", &to]);
    Process::start("ffmpeg", "ffmpeg", args)
}

/// nginx with Debian's RTMP module, as one process.
struct NginxRtmp {
    process: Process,
    rtmp: SocketAddr,
    version: String,
    folder: TempDir,
}

impl NginxRtmp {
    /// Starts it; `more` is what its application does besides relaying.
    async fn start(more: &str) -> Result<Self> {
        let missing =
            |what| format!("{what}, the peer of this figure, isn't there (apt install nginx-light libnginx-mod-rtmp)");
        if !Path::new(MODULE).exists() {
            return Err(missing(MODULE).into());
        }
        let version = tokio::process::Command::new("nginx").arg("-v").output().await.map_err(|_| missing("nginx"))?;
        let version = String::from_utf8_lossy(&version.stderr).trim().replace("nginx version: ", "");
        let folder = tempfile::tempdir_in(TMPFS)?;
        let rtmp = process::free_port().await?;
        fs::create_dir(folder.path().join("hls"))?;
        let at = folder.path().display();
        let more = more.replace("hls_path hls", &format!("hls_path {at}/hls"));
        let config = format!(
            "load_module {MODULE};
            user root;
            daemon off;
            master_process off;
            pid {at}/nginx.pid;
            error_log stderr warn;
            events {{ worker_connections 1024; }}
            rtmp {{ server {{ listen {rtmp}; chunk_size 4096; access_log off;
                application live {{ live on; {more} }} }} }}"
        );
        fs::write(folder.path().join("nginx.conf"), config)?;
        let prefix = at.to_string();
        let process = Process::start("nginx", "nginx", ["-e", "stderr", "-p", &prefix, "-c", "nginx.conf"])?;
        for _ in 0..100 {
            if TcpStream::connect(rtmp).await.is_ok() {
                return Ok(NginxRtmp { process, rtmp, version, folder });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(format!("nginx doesn't answer at {rtmp}").into())
    }

    fn push_url(&self, stream: &str) -> String {
        format!("rtmp://{}/live/{stream}", self.rtmp)
    }

    /// Waits until each of so many pushes has a playlist: it takes them all.
    async fn until_packaged(&self, pushes: usize) -> Result<()> {
        for _ in 0..300 {
            let files = fs::read_dir(self.folder.path().join("hls"))?;
            let playlists = files.flatten().filter(|file| file.path().extension().is_some_and(|e| e == "m3u8")).count();
            if playlists == pushes {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Err("nginx-rtmp doesn't package all pushes".into())
    }
}
