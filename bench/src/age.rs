//! `age`: how old a part's last frame is when a client has its last byte.
//!
//! ffmpeg pushes at 30 fps in real time, through a tap in this process: what it sends is passed on and parsed at
//! once, so that the moment at which each frame left ffmpeg is known. A client at the ingest's own edge and one
//! three hops away ask for the part that the playlist hints at, and wait for it. The last frame of a part is found
//! again by its bytes, which damson doesn't change.
//!
//! The slowest parts are printed with their ways, as `Server-Timing` tells them: a dwell or transit as long as the age
//! is the mesh's; where none is, and `held` is shorter than a part, the client itself came late (its own task, or
//! ffmpeg's, had no processor).

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use damson::clock;
use damson_core::demux::rtmp::{Limits, Output, RtmpSession};
use damson_core::model::time::Time;
use damson_core::packager::Input;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::cluster::{self, Cluster};
use crate::http::Client;
use crate::table::{Readings, Table};
use crate::{Result, film, process};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Parts to fetch at each edge
    #[arg(long, default_value_t = 600)]
    parts: usize,
    /// The slowest of them to show at each edge
    #[arg(long, default_value_t = 8)]
    slowest: usize,
}

/// One part at one client.
struct Sample {
    part: String,
    /// Since the first part at this client.
    at: Duration,
    age: Duration,
    /// Since the part before it, by the clock of the client, who had both whole.
    after: Duration,
    /// `Server-Timing`.
    way: String,
}

/// Frames that are remembered: some seconds of them.
const FRAMES_MAX: usize = 300;
/// A frame is known by its last bytes; noise in the film makes them its own.
const TAIL_LEN: usize = 64;

/// When the newest frames left ffmpeg, by their last bytes.
#[derive(Clone, Default)]
struct Frames(Arc<Mutex<VecDeque<(Bytes, Time)>>>);

impl Frames {
    fn push(&self, data: &Bytes, at: Time) {
        let mut frames = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if frames.len() == FRAMES_MAX {
            frames.pop_front();
        }
        frames.push_back((data.slice(data.len().saturating_sub(TAIL_LEN)..), at));
    }

    /// When the frame with which `body` ends left ffmpeg.
    fn last_of(&self, body: &[u8]) -> Option<Time> {
        let frames = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        frames.iter().rev().find(|(tail, _)| body.ends_with(tail)).map(|(_, at)| *at)
    }
}

/// Measures, and prints the table.
pub(crate) async fn run(options: Options) -> Result<()> {
    let damson = process::damson().await?;
    let film = film::film().await?;
    let cluster = Cluster::start(&damson, 4).await?;
    let ingest = cluster.nodes.first().and_then(|node| node.rtmp).ok_or("the first node takes no RTMP")?;
    let frames = Frames::default();
    let tap = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("rtmp://{}/live/bench", tap.local_addr()?);
    tokio::spawn(pass_on(tap, ingest, frames.clone()));
    let _push = film::push(&film, &url)?;

    let mut table = Table::new(&["edge", "parts", "age in ms, p50", "p99"]);
    let mut watchers = Vec::new();
    for (node, name) in [(0, "the ingest's own"), (3, "three hops away")] {
        let edge = cluster.nodes.get(node).ok_or("four nodes were started")?.http;
        let playlists = cluster::until_live(edge, "bench", 2).await?;
        let playlist = playlists.first().ok_or("a stream has a track")?.clone();
        watchers.push((name, tokio::spawn(watch(edge, playlist, options.parts, frames.clone()))));
    }
    let mut slowest = Table::new(&["edge", "part", "at, s", "age, ms", "ms after the one before it", "its way, ms"]);
    for (name, watcher) in watchers {
        let mut samples = watcher.await??;
        let mut ages = Readings::default();
        samples.iter().for_each(|sample| ages.push_ms(sample.age));
        samples.sort_by_key(|sample| std::cmp::Reverse(sample.age));
        for sample in samples.iter().take(options.slowest) {
            slowest.row([
                name.to_owned(),
                sample.part.clone(),
                format!("{:.1}", sample.at.as_secs_f64()),
                format!("{:.1}", sample.age.as_secs_f64() * 1e3),
                format!("{:.1}", sample.after.as_secs_f64() * 1e3),
                brief(&sample.way),
            ]);
        }
        table.row([
            name.to_owned(),
            ages.len().to_string(),
            format!("{:.1}", ages.median()),
            format!("{:.1}", ages.quantile(0.99)),
        ]);
    }
    println!(
        "Age of a part's last video frame, from ffmpeg's last byte of it to the client's last byte of the part:\n"
    );
    table.print();
    println!("The slowest:\n");
    slowest.print();
    Ok(())
}

/// `dwell0;dur=0.210;desc="node0", ...` as `dwell0 0.210, ...`.
fn brief(server_timing: &str) -> String {
    let entries = server_timing.split(", ").map(|entry| {
        let mut fields = entry.split(';');
        let (name, duration) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
        format!("{name} {}", duration.trim_start_matches("dur="))
    });
    entries.collect::<Vec<_>>().join(", ")
}

/// Fetches hinted parts.
async fn watch(edge: SocketAddr, playlist: String, parts: usize, frames: Frames) -> Result<Vec<Sample>> {
    let mut client = Client::connect(edge).await?;
    let folder = playlist.rsplit_once('/').map_or("", |(folder, _)| folder);
    let (mut samples, mut unknown, mut last) = (Vec::new(), 0, String::new());
    let began = clock::now();
    let mut before = began;
    while samples.len() < parts {
        let text = client.text(&playlist).await?;
        let hint = text
            .lines()
            .find(|line| line.starts_with("#EXT-X-PRELOAD-HINT:"))
            .and_then(|line| cluster::attribute(line, "URI"));
        let hint = hint.ok_or_else(|| format!("no hint in {playlist}:\n{text}"))?;
        if hint == last {
            return Err(format!("the hint {hint} stands although it has been fetched").into());
        }
        let (status, body) = client.get(&format!("{folder}/{hint}")).await?;
        let now = clock::now();
        match frames.last_of(&body) {
            Some(left) if status == 200 => samples.push(Sample {
                part: hint.clone(),
                at: now.since(began),
                age: now.since(left),
                after: now.since(before),
                way: client.header("server-timing").unwrap_or("").to_owned(),
            }),
            _ => unknown += 1,
        }
        if unknown > parts {
            return Err(format!(
                "{unknown} of the parts end with no frame that ffmpeg sent (last: {hint}, HTTP {status})"
            )
            .into());
        }
        (last, before) = (hint, now);
    }
    Ok(samples)
}

/// The tap: one connection from ffmpeg is passed on to `ingest`, and listened to.
async fn pass_on(tap: TcpListener, ingest: SocketAddr, frames: Frames) -> Result<()> {
    let (from, _) = tap.accept().await?;
    let to = TcpStream::connect(ingest).await?;
    from.set_nodelay(true)?;
    to.set_nodelay(true)?;
    let (mut encoder_out, mut encoder_in) = from.into_split();
    let (mut ingest_out, mut ingest_in) = to.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut ingest_out, &mut encoder_in).await });
    let mut session = RtmpSession::new(Limits::default());
    let mut buf = vec![0; 64 << 10];
    loop {
        let n = encoder_out.read(&mut buf).await?;
        if n == 0 {
            return Ok(());
        }
        let at = clock::now();
        ingest_in.write_all(&buf[..n]).await?;
        session.handle(&buf[..n])?;
        while let Some(output) = session.poll_output() {
            match output {
                Output::PublishRequested(_) => session.accept_publish()?,
                Output::Input(Input::Unit(unit)) => frames.push(&unit.data, at),
                _ => {}
            }
        }
    }
}
