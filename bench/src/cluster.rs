//! damson nodes as separate processes: the first is the ingest; in a line each joins the one before it.

use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;

use crate::Result;
use crate::http::Client;
use crate::process::Process;

/// One node.
pub(crate) struct Member {
    /// Its process.
    pub(crate) process: Process,
    /// Where it serves HTTP.
    pub(crate) http: SocketAddr,
    /// Where it serves HTTPS, if it was told to.
    pub(crate) https: Option<SocketAddr>,
    /// Where it takes RTMP; the ingest alone.
    pub(crate) rtmp: Option<SocketAddr>,
}

/// Whom a node joins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Joins {
    TheOneBefore,
    TheFirst,
}

/// Nodes, in a line or around the first; killed when dropped.
pub(crate) struct Cluster {
    /// The nodes, the ingest first.
    pub(crate) nodes: Vec<Member>,
    _identities: TempDir,
}

impl Cluster {
    /// Starts `n` nodes.
    pub(crate) async fn start(damson: &Path, n: usize) -> Result<Self> {
        Cluster::with(damson, n, &[]).await
    }

    /// Starts `n` nodes, the last with `more` arguments.
    pub(crate) async fn with(damson: &Path, n: usize, more: &[&str]) -> Result<Self> {
        let more: Vec<&[&str]> = (1..=n).map(|node| if node == n { more } else { &[] }).collect();
        Cluster::joined(damson, &more, Joins::TheOneBefore).await
    }

    /// Starts an ingest, and an edge beside each other for each of `edges`, with its arguments.
    pub(crate) async fn around(damson: &Path, edges: &[&[&str]]) -> Result<Self> {
        let more: Vec<&[&str]> = std::iter::once(&[] as &[&str]).chain(edges.iter().copied()).collect();
        Cluster::joined(damson, &more, Joins::TheFirst).await
    }

    async fn joined(damson: &Path, more: &[&[&str]], joins: Joins) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let ca = folder.path().to_str().ok_or("the temporary folder's path isn't UTF-8")?;
        finish(damson, &["pki", "init", ca]).await?;
        let mut nodes = Vec::new();
        let mut before: Option<SocketAddr> = None;
        for (index, more) in more.iter().enumerate() {
            let name = format!("node{index}");
            finish(damson, &["pki", "issue", ca, &name]).await?;
            let mut args = vec!["node".to_owned(), "--name".to_owned(), name.clone()];
            args.extend([
                "--identity".to_owned(),
                format!("{ca}/{name}"),
                "--topology".to_owned(),
                "static".to_owned(),
            ]);
            args.extend(["--mesh", "127.0.0.1:0", "--http", "127.0.0.1:0", "--rtmp"].map(str::to_owned));
            args.push(if index == 0 { "127.0.0.1:0" } else { "off" }.to_owned());
            if let Some(before) = before {
                args.extend(["--join".to_owned(), before.to_string()]);
            }
            args.extend(more.iter().map(|&arg| arg.to_owned()));
            let mut process = Process::start(&name, damson, args)?;
            let http = process.said("http", |line| address(line, "http", "http://")).await?;
            let mesh = process.said("mesh", |line| address(line, "mesh", "")).await?;
            before = before.filter(|_| joins == Joins::TheFirst).or(Some(mesh));
            let rtmp = match index {
                0 => Some(process.said("rtmp", |line| address(line, "rtmp", "rtmp://")).await?),
                _ => None,
            };
            let https = match more.contains(&"--https") {
                true => Some(process.said("https", |line| address(line, "https", "https://")).await?),
                false => None,
            };
            nodes.push(Member { process, http, https, rtmp });
        }
        Ok(Cluster { nodes, _identities: folder })
    }

    /// Where to push `stream`.
    pub(crate) fn push_url(&self, stream: &str) -> Result<String> {
        let rtmp = self.nodes.first().and_then(|node| node.rtmp).ok_or("the first node takes no RTMP")?;
        Ok(format!("rtmp://{rtmp}/live/{stream}"))
    }
}

/// Waits until `edge` lists `segments` whole segments of every track of `stream`, and gives its media playlists' paths.
pub(crate) async fn until_live(edge: SocketAddr, stream: &str, segments: usize) -> Result<Vec<String>> {
    let mut client = Client::connect(edge).await?;
    let again = std::time::Duration::from_millis(200);
    for _ in 0..300 {
        if let Ok(index) = client.text(&format!("/{stream}/index.m3u8")).await {
            let paths = playlists(stream, &index);
            let mut ready = !paths.is_empty();
            for path in &paths {
                ready &= client.text(path).await.is_ok_and(|text| text.matches("#EXTINF").count() >= segments);
            }
            if ready {
                return Ok(paths);
            }
        }
        tokio::time::sleep(again).await;
    }
    Err(format!("{stream} never had {segments} segments at {edge}").into())
}

/// The media playlists that a multivariant playlist names, the variants (video) first.
fn playlists(stream: &str, index: &str) -> Vec<String> {
    let variants = index.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(str::to_owned);
    let renditions = index.lines().filter_map(|line| attribute(line, "URI"));
    let mut paths: Vec<String> = Vec::new();
    for name in variants.chain(renditions) {
        let path = if name.starts_with('/') { name } else { format!("/{stream}/{name}") };
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

/// The value of a quoted attribute of an HLS tag.
pub(crate) fn attribute(line: &str, name: &str) -> Option<String> {
    let (_, rest) = line.split_once(&format!("{name}=\""))?;
    rest.split_once('"').map(|(value, _)| value.to_owned())
}

/// `  http  http://127.0.0.1:1234/`, as a node says it at its start.
fn address(line: &str, name: &str, scheme: &str) -> Option<SocketAddr> {
    let rest = line.trim().strip_prefix(name)?.trim().strip_prefix(scheme)?;
    rest.split(['/', ' ']).next()?.parse().ok()
}

/// Runs damson to its end.
async fn finish(damson: &Path, args: &[&str]) -> Result<()> {
    let out = tokio::process::Command::new(damson).args(args).output().await?;
    if out.status.success() {
        Ok(())
    } else {
        Err(format!("damson {args:?}: {}", String::from_utf8_lossy(&out.stderr)).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_words_are_understood() {
        let check = |line: &str, name: &str, scheme: &str, expect: Option<u16>| {
            assert_eq!(address(line, name, scheme).map(|addr| addr.port()), expect, "{line}");
        };
        check("  http  http://127.0.0.1:80/", "http", "http://", Some(80));
        check("  mesh  127.0.0.1:4900 (udp)", "mesh", "", Some(4900));
        check("  rtmp  rtmp://127.0.0.1:1935/live/STREAM", "rtmp", "rtmp://", Some(1935));
        check("  rtmp  off", "rtmp", "rtmp://", None);
    }
}
