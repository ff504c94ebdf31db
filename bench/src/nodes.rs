//! Nodes in this process: real links over loopback, the real hub, and a sink that looks at the clock.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use damson::clock;
use damson::mesh::{Ca, Mesh, MeshConfig, Sink};
use damson_core::model::time::{Time, Timescale};
use damson_core::model::{
    Epoch, Flags, Init, LifeId, NodeId, PartHeader, PartId, Period, Record, SampleAspectRatio, StreamName, Trace,
    Track, TrackId, TrackKind, VideoInfo,
};
use damson_core::swarm::{Config, Entry};
use tokio::sync::mpsc;

use crate::Result;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Ticks of a part: 0.2 s.
const PART_TICKS: u32 = 18_000;
const PARTS_A_SEGMENT: u64 = 10;
/// A part that isn't everywhere within this is lost.
const ARRIVES_WITHIN: Duration = Duration::from_secs(10);
/// How long the line may take to form, and how often it is tried.
const FORMS_WITHIN: Duration = Duration::from_secs(15);
const TRIED_EVERY: Duration = Duration::from_millis(300);

/// Where a part has come, and when.
struct Arrival {
    node: usize,
    id: PartId,
    at: Time,
}

/// Tells the moment at which its node has a whole, checked part.
struct Watch {
    node: usize,
    arrivals: mpsc::UnboundedSender<Arrival>,
}

impl Sink for Watch {
    fn record(&self, _record: Record) {}

    fn part(&self, _stream: &StreamName, header: PartHeader, _body: Bytes, _trace: Trace, _received: Time) {
        // Nobody listens any more once the bench is over.
        let _ = self.arrivals.send(Arrival { node: self.node, id: header.id, at: clock::now() });
    }

    fn announced(&self, _entry: Entry) {}

    fn expired(&self, _stream: &StreamName) {}
}

/// How the nodes are linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Each to the one before it.
    Line,
    /// As HyParView chooses; all join the first.
    Swarm,
}

/// The nodes; the first publishes.
pub(crate) struct Nodes {
    nodes: Vec<Mesh>,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
    record: Record,
    published: u64,
}

impl Nodes {
    /// `count` nodes, and parts through all of them until the tree has settled.
    pub(crate) async fn start(count: usize, shape: Shape) -> Result<Self> {
        Nodes::with(count, shape, true).await
    }

    /// The same; `traced` says whether parts carry their account.
    pub(crate) async fn with(count: usize, shape: Shape, traced: bool) -> Result<Self> {
        let ca = Ca::generate()?;
        let (tx, arrivals) = mpsc::unbounded_channel();
        let mut nodes: Vec<Mesh> = Vec::new();
        for node in 0..count {
            let identity = ca.issue(&format!("node{node}"))?;
            let hub = match shape {
                Shape::Line => Config::fixed(nodes.last().map(Mesh::local_addr).into_iter().collect()),
                Shape::Swarm => Config::gossip(nodes.first().map(Mesh::local_addr).into_iter().collect()),
            };
            let config = MeshConfig { identity, bind: LOOPBACK, advertise: None, hub, seed: node as u64, traced };
            let (mesh, driver) = Mesh::open(config)?;
            driver.start(Arc::new(Watch { node, arrivals: tx.clone() }));
            nodes.push(mesh);
        }
        let record = record(nodes.first().map(Mesh::node_id).ok_or("no node is no line")?)?;
        let mut nodes = Nodes { nodes, arrivals, record, published: 0 };
        nodes.nodes[0].claim(nodes.record.clone());
        // A part that is published before the nodes are linked comes late, or never; the first that comes in
        // time shows that they are. Some more let the tree settle.
        let until = clock::now() + FORMS_WITHIN;
        while tokio::time::timeout(TRIED_EVERY, nodes.send(body(1_000, 0))).await.is_err() {
            if clock::now() > until {
                return Err("the nodes don't link".into());
            }
        }
        for seed in 0..20 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            nodes.send(body(200_000, seed)).await?;
        }
        Ok(nodes)
    }

    /// Publishes `body`, and says when it was published, and when each node after the first had it.
    pub(crate) async fn send(&mut self, body: Bytes) -> Result<Vec<Time>> {
        let header = self.header(&body)?;
        let mut times = vec![None; self.nodes.len()];
        let began = clock::now();
        self.nodes[0].publish(&self.record.stream, header, body);
        let everywhere = async {
            while times.iter().any(Option::is_none) {
                let Some(arrival) = self.arrivals.recv().await else { return };
                if arrival.id == header.id {
                    times[arrival.node] = Some(arrival.at);
                }
            }
        };
        if tokio::time::timeout(ARRIVES_WITHIN, everywhere).await.is_err() {
            return Err(format!("part {:?} never came to all nodes: {times:?}", header.id).into());
        }
        times[0] = Some(began);
        Ok(times.into_iter().flatten().collect())
    }

    pub(crate) async fn stop(self) {
        for node in &self.nodes {
            node.shutdown().await;
        }
    }

    /// The next part's header.
    fn header(&mut self, body: &[u8]) -> Result<PartHeader> {
        let n = self.published;
        self.published += 1;
        let part = n % PARTS_A_SEGMENT;
        let wall = clock::wall();
        Ok(PartHeader {
            id: PartId {
                epoch: self.record.epoch,
                track: TrackId(0),
                msn: self.record.first_msn + u32::try_from(n / PARTS_A_SEGMENT)?,
                part: u16::try_from(part)?,
            },
            decode_time: n * u64::from(PART_TICKS),
            duration: PART_TICKS,
            program_date_time: wall,
            ingested: wall,
            init: 0,
            discontinuity: 0,
            flags: Flags { independent: part == 0, last: part + 1 == PARTS_A_SEGMENT, ..Flags::default() },
            length: u32::try_from(body.len())?,
            hash: *blake3::hash(body).as_bytes(),
        })
    }
}

/// The life of a stream with one video track.
fn record(ingest: NodeId) -> Result<Record> {
    let wall = clock::wall();
    let first_msn = u32::try_from(wall.as_secs())?;
    let video = Track {
        id: TrackId(0),
        name: "video".to_owned(),
        timescale: Timescale::MPEG,
        codec: "avc1.64001f".to_owned(),
        language: None,
        bandwidth: 3_000_000,
        average_bandwidth: 3_000_000,
        kind: TrackKind::Video(VideoInfo {
            width: 1280,
            height: 720,
            frame_rate_milli: 30_000,
            transfer: 2,
            sar: SampleAspectRatio::SQUARE,
        }),
        inits: vec![Init { number: 0, bytes: Bytes::from_static(b"init") }],
    };
    Ok(Record {
        stream: StreamName::parse("bench")?,
        life: LifeId(wall.as_micros()),
        epoch: Epoch { counter: 1, node: ingest },
        revision: 0,
        first_msn,
        target_duration: 2,
        part_target: Duration::from_millis(202),
        latency: Duration::from_millis(202) * 3,
        segment_duration: Duration::from_secs(2),
        messages: damson_core::model::Schemes::default(),
        availability_start: wall,
        tracks: vec![video],
        periods: vec![Period::new(first_msn, 0, Duration::ZERO)],
        ended: None,
    })
}

/// `size` bytes that differ from those of another `seed`.
pub(crate) fn body(size: usize, seed: u64) -> Bytes {
    let mut bytes = vec![0x5a; size];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    Bytes::from(bytes)
}
