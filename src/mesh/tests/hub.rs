//! Real hubs over real QUIC.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use damson_core::model::time::{Time, Timescale, UnixTime};
use damson_core::model::{
    AudioInfo, Init, LifeId, NodeId, PartHeader, PartId, Period, Record, StreamName, Trace, Track, TrackId, TrackKind,
};
use damson_core::swarm::{self, Entry};
use tokio::sync::mpsc;

use super::fake::{header, stream, within};
use super::{body, issue, loopback};
use crate::mesh::identity::Ca;
use crate::mesh::mesh::{Mesh, MeshConfig};
use crate::mesh::sink::Sink;

enum Told {
    Record,
    Part(PartHeader, Bytes, Trace),
    Announced,
}

struct Ears(mpsc::UnboundedSender<Told>);

impl Sink for Ears {
    fn record(&self, _: Record) {
        let _ = self.0.send(Told::Record);
    }
    fn part(&self, _: &StreamName, header: PartHeader, body: Bytes, trace: Trace, _: Time) {
        let _ = self.0.send(Told::Part(header, body, trace));
    }
    fn announced(&self, _: Entry) {
        let _ = self.0.send(Told::Announced);
    }
    fn expired(&self, _: &StreamName) {}
}

struct Node {
    mesh: Mesh,
    told: mpsc::UnboundedReceiver<Told>,
    parts: BTreeMap<PartId, (Bytes, Trace)>,
}

impl Node {
    fn start(ca: &Ca, name: &str, hub: swarm::Config) -> Node {
        let (ears, told) = mpsc::unbounded_channel();
        let config =
            MeshConfig { identity: issue(ca, name), bind: loopback(), advertise: None, hub, seed: 1, traced: true };
        let (mesh, driver) = Mesh::open(config).expect("a free port");
        driver.start(Arc::new(Ears(ears)));
        Node { mesh, told, parts: BTreeMap::new() }
    }

    async fn wait_for(&mut self, pick: impl Fn(&Told) -> bool) {
        loop {
            let told = within(self.told.recv()).await.expect("alive");
            let found = pick(&told);
            if let Told::Part(header, body, trace) = told {
                assert!(self.parts.insert(header.id, (body, trace)).is_none(), "delivered once: {header:?}");
            }
            if found {
                return;
            }
        }
    }

    /// Returns the part with this id, once it is here.
    async fn part(&mut self, id: PartId) -> &(Bytes, Trace) {
        if !self.parts.contains_key(&id) {
            self.wait_for(|told| matches!(told, Told::Part(header, ..) if header.id == id)).await;
        }
        &self.parts[&id]
    }

    fn publish(&self, msn: u32, body: &Bytes) -> PartId {
        let header = header(self.mesh.node_id(), msn, body);
        self.mesh.publish(&stream(), header, body.clone());
        header.id
    }
}

fn record(node: NodeId) -> Record {
    Record {
        stream: stream(),
        life: LifeId(1),
        epoch: header(node, 0, &Bytes::new()).id.epoch,
        revision: 1,
        first_msn: 0,
        target_duration: 2,
        part_target: Duration::from_millis(200),
        latency: Duration::from_millis(200) * 3,
        segment_duration: Duration::from_secs(2),
        messages: damson_core::model::Schemes::default(),
        availability_start: UnixTime::from_micros(0),
        tracks: vec![Track {
            id: TrackId(0),
            name: "audio".to_owned(),
            timescale: Timescale::MILLIS,
            codec: "mp4a.40.2".to_owned(),
            language: None,
            bandwidth: 0,
            average_bandwidth: 0,
            kind: TrackKind::Audio(AudioInfo { sample_rate: 48_000, channels: 2 }),
            inits: vec![Init { number: 0, bytes: Bytes::from_static(b"moov") }],
        }],
        periods: vec![Period::new(0, 0, Duration::ZERO)],
        ended: None,
    }
}

fn addrs(nodes: &[&Node]) -> Vec<SocketAddr> {
    nodes.iter().map(|node| node.mesh.local_addr()).collect()
}

#[tokio::test]
async fn a_static_line_delivers_three_hops_away() {
    let ca = Ca::generate().expect("a CA");
    let mut a = Node::start(&ca, "a", swarm::Config::fixed(Vec::new()));
    let b = Node::start(&ca, "b", swarm::Config::fixed(addrs(&[&a])));
    let c = Node::start(&ca, "c", swarm::Config::fixed(addrs(&[&b])));
    let mut d = Node::start(&ca, "d", swarm::Config::fixed(addrs(&[&c])));
    a.mesh.claim(record(a.mesh.node_id()));
    d.wait_for(|told| matches!(told, Told::Announced)).await;
    d.wait_for(|told| matches!(told, Told::Record)).await;
    for (msn, len) in (0..20).zip([1, 10_000, 100_000, 1_000_000].into_iter().cycle()) {
        let id = a.publish(msn, &body(len));
        a.part(id).await;
        let (got, trace) = d.part(id).await;
        assert!(*got == body(len), "part {msn} of {len} bytes");
        let way: Vec<_> = trace.hops.iter().map(|hop| hop.node).collect();
        assert_eq!(way, [a.mesh.node_id(), b.mesh.node_id(), c.mesh.node_id()]);
    }
    let resume = within(d.mesh.resume(&stream())).await.expect("a life is known");
    assert_eq!(resume.newest_msn, 19);
    for node in [a, b, c, d] {
        within(node.mesh.shutdown()).await;
    }
}

#[tokio::test]
async fn gossip_heals_over_the_loss_of_a_middle_node() {
    let ca = Ca::generate().expect("a CA");
    let mut nodes = vec![Node::start(&ca, "n0", swarm::Config::gossip(Vec::new()))];
    for i in 1..6 {
        let join = addrs(&[&nodes[i - 1]]);
        nodes.push(Node::start(&ca, &format!("n{i}"), swarm::Config::gossip(join)));
    }
    nodes[0].mesh.claim(record(nodes[0].mesh.node_id()));
    for node in &mut nodes[1..] {
        node.wait_for(|told| matches!(told, Told::Record)).await;
    }
    let mut ids = Vec::new();
    for msn in 0..5 {
        ids.push(nodes[0].publish(msn, &body(100_000)));
        for node in &mut nodes {
            assert!(node.part(ids[msn as usize]).await.0 == body(100_000));
        }
    }
    // Dropped without a farewell to its swarms.
    drop(nodes.remove(2));
    for msn in 5..15 {
        let id = nodes[0].publish(msn, &body(100_000));
        for node in &mut nodes {
            assert!(node.part(id).await.0 == body(100_000));
        }
    }
}
