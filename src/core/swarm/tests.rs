//! A small network of hubs in virtual time: links with a latency, and nodes that die.

mod archives;
mod rubbish;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::hyparview::DownCause;
use crate::model::time::{Time, Timescale, UnixTime};
use crate::model::{
    Epoch, Flags, Init, LifeId, NodeId, PartHeader, PartId, Peer, Period, Record, SampleAspectRatio, StreamName,
    SwarmId, Trace, Track, TrackId, TrackKind, VideoInfo,
};
use crate::plumtree::{BodyAction, BodyEvent};

const LATENCY: Duration = Duration::from_millis(1);

struct Net {
    now: Time,
    hubs: BTreeMap<NodeId, Hub>,
    events: BTreeMap<(Time, u64), (NodeId, Input)>,
    seq: u64,
    links: BTreeSet<(NodeId, NodeId)>,
    delivered: BTreeMap<NodeId, Vec<(StreamName, PartId, Bytes)>>,
    records: BTreeMap<NodeId, Vec<Record>>,
    entries: BTreeMap<(NodeId, StreamName), Entry>,
    expired: BTreeMap<NodeId, Vec<StreamName>>,
    kept: BTreeMap<(NodeId, StreamName), Vec<Keeper>>,
}

fn addr(n: u64) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], u16::try_from(1_000 + n).expect("a port")))
}

fn peer(n: u64) -> Peer {
    Peer { id: NodeId(n), addr: addr(n) }
}

fn name(text: &str) -> StreamName {
    StreamName::parse(text).expect("a name")
}

impl Net {
    fn new() -> Self {
        Net {
            now: Time::from_millis(1),
            hubs: BTreeMap::new(),
            events: BTreeMap::new(),
            seq: 0,
            links: BTreeSet::new(),
            delivered: BTreeMap::new(),
            records: BTreeMap::new(),
            entries: BTreeMap::new(),
            expired: BTreeMap::new(),
            kept: BTreeMap::new(),
        }
    }

    /// Nodes 1 to n, each naming the one before.
    fn line(n: u64) -> Self {
        let mut net = Net::new();
        for i in 1..=n {
            net.add(i, Config::fixed(if i == 1 { vec![] } else { vec![addr(i - 1)] }));
        }
        net.run(Duration::from_secs(2));
        net
    }

    fn gossip(n: u64, seed: u64) -> Self {
        let mut net = Net::new();
        for i in 1..=n {
            net.add_seeded(i, Config::gossip(vec![addr(1)]), seed);
            net.run(Duration::from_millis(100));
        }
        net.run(Duration::from_secs(10));
        net
    }

    fn add(&mut self, n: u64, config: Config) {
        self.add_seeded(n, config, 0);
    }

    fn add_seeded(&mut self, n: u64, config: Config, seed: u64) {
        self.hubs.insert(NodeId(n), Hub::new(peer(n), config, seed * 1_000 + n));
        self.handle(NodeId(n), Input::Timeout);
    }

    fn later(&mut self, after: Duration, to: NodeId, input: Input) {
        self.seq += 1;
        self.events.insert((self.now + after, self.seq), (to, input));
    }

    fn link(&mut self, a: NodeId, b: NodeId) {
        self.links.extend([(a, b), (b, a)]);
    }

    fn unlink(&mut self, a: NodeId, b: NodeId) {
        if self.links.remove(&(a, b)) {
            self.links.remove(&(b, a));
            for (at, peer) in [(a, b), (b, a)] {
                self.later(LATENCY, at, Input::LinkDown { peer, cause: DownCause::Lost });
            }
        }
    }

    fn kill(&mut self, n: u64) {
        self.hubs.remove(&NodeId(n));
        for (a, b) in self.links.clone() {
            if a == NodeId(n) {
                self.unlink(a, b);
            }
        }
    }

    fn handle(&mut self, id: NodeId, input: Input) {
        let Some(hub) = self.hubs.get_mut(&id) else { return };
        let lost = |links: &BTreeSet<_>, from: &NodeId| !links.contains(&(id, *from));
        match &input {
            // What was on its way over a link that is gone.
            Input::Control { from, .. }
            | Input::Body { peer: from, event: BodyEvent::Head { .. } | BodyEvent::Piece { .. }, .. }
                if lost(&self.links, from) =>
            {
                return;
            }
            _ => {}
        }
        hub.handle(self.now, input);
        hub.check_invariants();
        let mut outputs = Vec::new();
        while let Some(output) = hub.poll_output() {
            outputs.push(output);
        }
        for output in outputs {
            self.output(id, output);
        }
    }

    fn output(&mut self, from: NodeId, output: Output) {
        match output {
            Output::Dial { addr, peer: expected } => {
                assert!(!addr.ip().is_unspecified(), "a dial to nowhere");
                let there = self.hubs.keys().map(|id| peer(id.0)).find(|peer| peer.addr == addr);
                match there.filter(|there| expected.is_none_or(|id| id == there.id)) {
                    Some(there) => {
                        self.link(from, there.id);
                        self.later(LATENCY * 2, from, Input::LinkUp { peer: there, dialled: Some(addr) });
                        self.later(LATENCY, there.id, Input::LinkUp { peer: peer(from.0), dialled: None });
                    }
                    None => {
                        let input = Input::DialFailed { addr, peer: expected, cause: DownCause::Refused };
                        self.later(LATENCY * 2, from, input);
                    }
                }
            }
            Output::Close(peer) => {
                self.links.remove(&(from, peer));
                if self.links.remove(&(peer, from)) {
                    self.later(LATENCY, peer, Input::LinkDown { peer: from, cause: DownCause::Lost });
                }
            }
            Output::Control { to, frame } => {
                assert!(SwarmFrame::decode(frame.clone()).expect("our own frame").is_some());
                self.later(LATENCY, to, Input::Control { from, frame });
            }
            Output::Body { peer: to, swarm, action: BodyAction::Head { header, trace, offset, .. }, expires } => {
                assert!(expires > self.now);
                self.later(
                    LATENCY,
                    to,
                    Input::Body { peer: from, swarm, event: BodyEvent::Head { header, trace, offset } },
                );
            }
            Output::Body { peer: to, swarm, action: BodyAction::Piece { id, bytes }, .. } => {
                self.later(LATENCY, to, Input::Body { peer: from, swarm, event: BodyEvent::Piece { id, bytes } });
            }
            Output::Body { peer: to, swarm, action: BodyAction::Abort(id), .. } => {
                self.later(LATENCY, to, Input::Body { peer: from, swarm, event: BodyEvent::Torn(id) })
            }
            Output::Body { peer: to, swarm, action: BodyAction::Refuse(id), .. } => {
                self.later(LATENCY, to, Input::Body { peer: from, swarm, event: BodyEvent::Stopped(id) });
            }
            Output::Record(record) => self.records.entry(from).or_default().push(*record),
            Output::Deliver { stream, header, body, .. } => {
                assert!(header.matches(&body));
                self.delivered.entry(from).or_default().push((stream, header.id, body));
            }
            Output::Announced(entry) => {
                self.entries.insert((from, entry.stream.clone()), entry);
            }
            Output::Kept { stream, keepers } => {
                self.kept.insert((from, stream), keepers);
            }
            Output::Expired(stream) => {
                self.entries.remove(&(from, stream.clone()));
                self.expired.entry(from).or_default().push(stream);
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let event = self.events.first_key_value().map(|(key, _)| key.0);
            let timeout = self.hubs.iter().filter_map(|(id, hub)| Some((hub.poll_timeout()?, *id))).min();
            match (event, timeout) {
                (event, Some((at, id))) if event.is_none_or(|event| at < event) && at <= end => {
                    self.now = self.now.max(at);
                    self.handle(id, Input::Timeout);
                    let next = self.hubs.get(&id).and_then(Hub::poll_timeout);
                    assert!(next.is_none_or(|next| next > self.now), "a timer that is due was left");
                }
                (Some(at), _) if at <= end => {
                    self.now = at;
                    if let Some((_, (to, input))) = self.events.pop_first() {
                        self.handle(to, input);
                    }
                }
                _ => break,
            }
        }
        self.now = end;
    }

    /// Publishes `parts` parts, one each 100 ms, five to a segment.
    fn publish(&mut self, at: u64, stream: &str, from: u32, parts: u32) {
        let record = record(stream, at, 0);
        for n in from..from + parts {
            let (header, body) = part(&record, n);
            self.handle(
                NodeId(at),
                Input::Publish { stream: record.stream.clone(), header, body, trace: Trace::default() },
            );
            self.run(Duration::from_millis(100));
        }
    }

    fn parts_at(&self, n: u64) -> Vec<PartId> {
        let mut ids: Vec<_> = self.delivered.get(&NodeId(n)).into_iter().flatten().map(|(_, id, _)| *id).collect();
        ids.sort();
        ids
    }

    fn check_mutual(&self) {
        for (id, hub) in &self.hubs {
            for view in hub.swarms() {
                for other in &view.active {
                    let theirs = self.hubs.get(&other.id).and_then(|hub| hub.swarms().find(|v| v.id == view.id));
                    let mutual = theirs.is_some_and(|view| view.active.iter().any(|peer| peer.id == *id));
                    assert!(mutual, "{id:?} has {other:?} in {:?}", view.id);
                }
            }
        }
    }
}

fn record(stream: &str, owner: u64, revision: u32) -> Record {
    Record {
        stream: name(stream),
        life: LifeId(1),
        epoch: Epoch { counter: 1, node: NodeId(owner) },
        revision,
        first_msn: 1_000,
        target_duration: 2,
        part_target: Duration::from_millis(100),
        latency: Duration::from_millis(100) * 3,
        segment_duration: Duration::from_millis(500),
        messages: crate::model::Schemes::default(),
        availability_start: UnixTime::from_micros(7),
        tracks: vec![Track {
            id: TrackId(0),
            name: "video".to_owned(),
            timescale: Timescale::MPEG,
            codec: "avc1.64001f".to_owned(),
            language: None,
            bandwidth: 1,
            average_bandwidth: 1,
            kind: TrackKind::Video(VideoInfo {
                width: 2,
                height: 2,
                frame_rate_milli: 30_000,
                transfer: 2,
                sar: SampleAspectRatio::SQUARE,
            }),
            inits: vec![Init { number: 0, bytes: Bytes::from_static(b"moov") }],
        }],
        periods: vec![Period::new(1_000, 3, Duration::ZERO)],
        ended: None,
    }
}

fn part(record: &Record, n: u32) -> (PartHeader, Bytes) {
    let body = Bytes::from(n.to_be_bytes().repeat(1 + 5_000 * (n as usize % 5)));
    let id = PartId {
        epoch: record.epoch,
        track: TrackId(0),
        msn: record.first_msn + n / 5,
        part: u16::try_from(n % 5).expect("small"),
    };
    let header = PartHeader {
        id,
        decode_time: u64::from(n) * 9_000,
        duration: 9_000,
        program_date_time: UnixTime::from_micros(u64::from(n)),
        ingested: UnixTime::from_micros(u64::from(n)),
        init: 0,
        discontinuity: 3,
        flags: Flags { last: n % 5 == 4, ..Flags::default() },
        length: u32::try_from(body.len()).expect("small"),
        hash: *blake3::hash(&body).as_bytes(),
    };
    (header, body)
}

#[test]
fn a_part_published_at_one_end_of_a_static_line_is_delivered_at_the_other() {
    let mut net = Net::line(4);
    net.handle(NodeId(1), Input::Claim(record("cam1", 1, 0)));
    net.run(Duration::from_secs(1));
    net.publish(1, "cam1", 0, 50);
    net.run(Duration::from_secs(1));
    let ids = net.parts_at(1);
    assert_eq!(ids.len(), 50);
    for n in 2..=4 {
        assert_eq!(net.parts_at(n), ids, "at {n}");
        assert_eq!(net.records[&NodeId(n)], vec![record("cam1", 1, 0)]);
        assert_eq!(net.entries[&(NodeId(n), name("cam1"))].ingest, peer(1));
    }
    // Only the links of the line.
    assert!(net.links.iter().all(|(a, b)| a.0.abs_diff(b.0) == 1));
    net.check_mutual();
}

#[test]
fn the_first_part_is_not_late_though_the_stream_is_new_everywhere() {
    let mut net = Net::line(4);
    net.handle(NodeId(1), Input::Claim(record("cam1", 1, 0)));
    let (header, body) = part(&record("cam1", 1, 0), 0);
    net.handle(NodeId(1), Input::Publish { stream: name("cam1"), header, body, trace: Trace::default() });
    net.run(Duration::from_millis(200));
    assert_eq!(net.parts_at(4).len(), 1);
}

#[test]
fn who_comes_late_gets_the_record_and_the_whole_window() {
    let mut net = Net::line(3);
    net.handle(NodeId(1), Input::Claim(record("cam1", 1, 0)));
    net.publish(1, "cam1", 0, 600);
    net.add(4, Config::fixed(vec![addr(3)]));
    net.run(Duration::from_secs(2));
    let held = record("cam1", 1, 0).held_segments();
    let newest = 1_000 + 599 / 5;
    let expect: Vec<_> = net.parts_at(1).into_iter().filter(|id| id.msn > newest - held).collect();
    assert_eq!(expect.len(), held as usize * 5);
    assert_eq!(net.parts_at(4), expect);
    assert_eq!(net.records[&NodeId(4)].len(), 1);
    let resume = net.hubs[&NodeId(4)].resume(&name("cam1")).expect("a life");
    assert_eq!((resume.newest_msn, resume.discontinuity), (newest, 3));
    assert_eq!(resume.ends, vec![(TrackId(0), 600 * 9_000)]);
}

#[test]
fn newer_records_replace_older_ones_everywhere() {
    let mut net = Net::line(3);
    for revision in 0..5 {
        net.handle(NodeId(1), Input::Claim(record("cam1", 1, revision)));
        net.run(Duration::from_millis(300));
    }
    // A takeover at the other end.
    let mut next = record("cam1", 3, 0);
    next.epoch.counter = 2;
    net.handle(NodeId(3), Input::Claim(next.clone()));
    net.run(Duration::from_secs(20));
    for n in 1..=3 {
        let revisions: Vec<_> = net.records[&NodeId(n)].iter().map(|r| (r.epoch.counter, r.revision)).collect();
        assert_eq!(revisions, [(1, 0), (1, 1), (1, 2), (1, 3), (1, 4), (2, 0)], "at {n}");
        assert_eq!(net.records[&NodeId(n)].last(), Some(&next));
        assert_eq!(net.entries[&(NodeId(n), name("cam1"))].ingest, peer(3));
    }
}

#[test]
fn an_entry_dies_with_its_ingest() {
    let mut net = Net::line(3);
    net.handle(NodeId(1), Input::Claim(record("cam1", 1, 0)));
    net.run(Duration::from_secs(60));
    assert!(net.entries.contains_key(&(NodeId(3), name("cam1"))));
    net.kill(1);
    net.run(Duration::from_secs(9));
    assert!(net.expired.is_empty());
    net.run(Duration::from_secs(7));
    for n in [2, 3] {
        assert_eq!(net.expired[&NodeId(n)], vec![name("cam1")]);
        // The record outlives the entry, so that a restarted ingest can go on.
        assert!(net.hubs[&NodeId(n)].resume(&name("cam1")).is_some());
    }
    // Somebody who comes now isn't told of the dead.
    net.add(4, Config::fixed(vec![addr(3)]));
    net.run(Duration::from_secs(60));
    assert!(!net.entries.contains_key(&(NodeId(4), name("cam1"))));
    assert!(net.hubs[&NodeId(3)].resume(&name("cam1")).is_none());
    assert_eq!(net.hubs[&NodeId(3)].swarms().count(), 1);
}

#[test]
fn a_restarted_ingest_learns_where_to_go_on() {
    let mut net = Net::line(3);
    net.handle(NodeId(1), Input::Claim(record("cam1", 1, 0)));
    net.publish(1, "cam1", 0, 20);
    net.kill(1);
    net.run(Duration::from_secs(3));
    net.add(1, Config::fixed(vec![]));
    net.run(Duration::from_secs(6));
    let resume = net.hubs[&NodeId(1)].resume(&name("cam1")).expect("the swarm holds the life");
    assert_eq!(resume.newest_msn, 1_003);
    assert_eq!(resume.ends, vec![(TrackId(0), 20 * 9_000)]);
}

#[test]
fn an_ended_life_stays_announced_for_a_while() {
    let mut net = Net::line(2);
    let ended = Record { ended: Some(1_003), revision: 1, ..record("cam1", 1, 0) };
    net.handle(NodeId(1), Input::Claim(record("cam1", 1, 0)));
    net.handle(NodeId(1), Input::Claim(ended.clone()));
    net.run(Duration::from_secs(200));
    net.add(3, Config::fixed(vec![addr(2)]));
    net.run(Duration::from_secs(2));
    assert_eq!(net.records[&NodeId(3)], vec![ended]);
    net.run(Duration::from_secs(200));
    assert!(net.entries.is_empty());
}

#[test]
fn twenty_nodes_gossip_several_streams() {
    for seed in 0..2 {
        let mut net = Net::gossip(20, seed);
        for (n, stream) in [(1, "a"), (7, "b"), (20, "c")] {
            net.handle(NodeId(n), Input::Claim(record(stream, n, 0)));
        }
        net.run(Duration::from_secs(3));
        for k in 0..10 {
            for (n, stream) in [(1, "a"), (7, "b"), (20, "c")] {
                net.publish(n, stream, k * 2, 2);
            }
        }
        net.run(Duration::from_secs(2));
        let ids = net.parts_at(1);
        assert_eq!(ids.len(), 60);
        for n in 1..=20 {
            assert_eq!(net.parts_at(n), ids, "at {n}, seed {seed}");
            assert_eq!(net.hubs[&NodeId(n)].swarms().count(), 4);
        }
        // A node in the middle dies: everybody else still gets everything.
        net.kill(3);
        net.kill(4);
        net.publish(7, "b", 20, 20);
        net.run(Duration::from_secs(3));
        for n in (1..=20).filter(|n| ![3, 4].contains(n)) {
            assert_eq!(net.parts_at(n).len(), 80, "at {n}, seed {seed}");
        }
    }
}

/// Three streams of 400 KB/s at one ingest, and 2.6 MB/s to send: that feeds two children a stream.
#[test]
fn who_has_little_upload_feeds_no_more_children_than_fit() {
    let fed = |upload: Option<u64>| {
        let mut net = Net::new();
        for i in 1..=12 {
            let mut config = Config::gossip(vec![addr(1)]);
            config.broadcast.upload = upload.filter(|_| i == 1);
            net.add(i, config);
            net.run(Duration::from_millis(100));
        }
        let records = ["a", "b", "c"].map(|stream| record(stream, 1, 0));
        for record in &records {
            net.handle(NodeId(1), Input::Claim(record.clone()));
        }
        net.run(Duration::from_secs(5));
        for n in 0..200 {
            for record in &records {
                let (header, body) = part(record, n);
                net.handle(
                    NodeId(1),
                    Input::Publish { stream: record.stream.clone(), header, body, trace: Trace::default() },
                );
            }
            net.run(Duration::from_millis(100));
        }
        net.run(Duration::from_secs(2));
        for n in 2..=12 {
            assert_eq!(net.parts_at(n).len(), 600, "at {n}");
        }
        net.hubs[&NodeId(1)].swarms().filter(|view| view.stream.is_some()).map(|view| view.eager.len()).collect()
    };
    let free: Vec<usize> = fed(None);
    assert!(free.iter().all(|children| *children > 2), "{free:?} without a cap");
    let capped: Vec<usize> = fed(Some(2_600_000));
    assert!(capped.iter().all(|children| (1..=2).contains(children)), "{capped:?} of {free:?} without a cap");
}

#[test]
fn nodes_that_listen_everywhere_are_found_at_the_address_their_links_show() {
    let mut net = Net::new();
    for n in 1..=12 {
        let me = Peer { addr: SocketAddr::from(([0, 0, 0, 0], addr(n).port())), ..peer(n) };
        net.hubs.insert(NodeId(n), Hub::new(me, Config::gossip(vec![addr(1)]), n));
        net.handle(NodeId(n), Input::Timeout);
        net.run(Duration::from_millis(100));
    }
    net.run(Duration::from_secs(60));
    net.handle(NodeId(5), Input::Claim(record("cam1", 5, 0)));
    net.publish(5, "cam1", 0, 5);
    net.run(Duration::from_secs(5));
    for n in 1..=12 {
        assert_eq!(net.parts_at(n).len(), 5, "at {n}");
    }
}

#[test]
fn links_that_no_swarm_needs_are_closed() {
    let mut net = Net::gossip(20, 1);
    net.run(Duration::from_secs(600));
    // Beside the 5 neighbours: a few that a shuffle, a measurement or an exchange has just used.
    let links = net.links.len();
    assert!(links <= 20 * 8, "{links} links");
}

#[test]
fn who_leaves_is_forgotten_at_once() {
    let mut net = Net::gossip(8, 1);
    net.handle(NodeId(3), Input::Leave);
    net.run(LATENCY * 3);
    for (id, hub) in &net.hubs {
        for view in hub.swarms() {
            assert!(!view.active.iter().any(|peer| peer.id == NodeId(3)));
            assert!(!view.passive.iter().any(|peer| peer.id == NodeId(3)) || *id == NodeId(3));
        }
    }
}
