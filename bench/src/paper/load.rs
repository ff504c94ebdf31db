//! Bodies that weigh something: uploads, slow nodes, many sources.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use damson_core::model::time::{Timescale, UnixTime};
use damson_core::model::{
    Epoch, Init, LifeId, NodeId, Period, Record, SampleAspectRatio, StreamName, SwarmId, Track, TrackId, TrackKind,
    VideoInfo,
};
use damson_core::swarm;
use damson_core::swarm::Hub;
use damson_sim::{Net, Node, Settings};

use super::world::{SECOND, World, deliveries, mean, millis, part, publish, reached, uneven};
use super::{Case, Figure, Goal, figure};

pub(crate) const ALL: [Case; 3] = [
    Case { name: "256 KB bodies, 200 Mb/s up", run: large },
    Case { name: "5 % of the nodes at 1 Mb/s", run: slow },
    Case { name: "50 streams", run: streams },
];

/// 200 Mb/s in bytes/s.
const UPLOAD: u64 = 25_000_000;
const LARGE: usize = 256 << 10;

fn large(n: u32, seed: u64) -> Vec<Figure> {
    let n = n / 5;
    // Each node has its own copy of what it holds: 10 s of it here, or 2,000 nodes would need 16 GB.
    let mut world = World { held: 2, ..World::default() };
    world.settings.upload = Some(UPLOAD);
    world.broadcast.upload = Some(UPLOAD);
    let mut net = world.settled(n, seed);
    let young = publish(&mut net, 0, 20, LARGE, SECOND);
    let parts = publish(&mut net, 20, 20, LARGE, SECOND);
    net.run(5 * SECOND);
    let (young, steady) = (deliveries(&net, &young), deliveries(&net, &parts));
    let last = mean(steady.iter().map(|d| millis(d.last)));
    let greedy = greedy_ms(n, seed);
    vec![
        figure("bytes sent / needed, building", Goal::Most(1.10), mean(young[..5].iter().map(|d| d.bytes_ratio))),
        figure("bytes sent / needed, steady", Goal::Most(1.01), mean(steady.iter().map(|d| d.bytes_ratio))),
        figure("last node, ms", Goal::None, last),
        figure("greedy schedule, ms", Goal::None, greedy),
        figure("last node over the greedy schedule", Goal::Most(1.5), last / greedy),
        figure("LDH", Goal::None, mean(steady.iter().map(|d| f64::from(d.ldh)))),
        figure("reached, %", Goal::Least(100.0), reached(&steady)),
    ]
}

/// The greedy earliest-finish schedule with whole bodies: who has it sends it on, always to whom it
/// reaches first of 32 nodes at hand, anybody to anybody.
fn greedy_ms(n: u32, seed: u64) -> f64 {
    let latency = uneven();
    let send = LARGE as u64 * 1_000_000 / UPLOAD;
    let mut lacking: Vec<u32> = (1..n).collect();
    let mut free = BinaryHeap::from([Reverse((0u64, 0u32))]);
    let mut last = 0;
    while let Some(Reverse((at, from))) = free.pop() {
        let ahead = lacking.len().saturating_sub(32);
        let nearest = (ahead..lacking.len()).min_by_key(|i| latency.between_us(seed, from, lacking[*i]));
        let Some(to) = nearest.map(|i| lacking.swap_remove(i)) else { break };
        let there = at + send + latency.between_us(seed, from, to);
        last = last.max(there);
        free.push(Reverse((at + send, from)));
        free.push(Reverse((there, to)));
    }
    last as f64 / 1_000.0
}

fn slow(n: u32, seed: u64) -> Vec<Figure> {
    let n = n / 10;
    let run = |slowed: bool| {
        let mut world = World::default();
        world.settings.upload = Some(UPLOAD);
        let mut net = world.settled(n, seed);
        let slow: Vec<u32> = (1..n).filter(|at| at % 20 == 7).collect();
        for at in slow.iter().filter(|_| slowed) {
            net.set_rates(*at, Some(125_000), Some(125_000));
            net.with_node(*at, |node, _| node.set_upload(Some(125_000)));
        }
        // 20 KB each 200 ms: 0.8 Mb/s.
        publish(&mut net, 0, 100, 20_000, SECOND / 5);
        let parts = publish(&mut net, 100, 100, 20_000, SECOND / 5);
        net.run(10 * SECOND);
        let healthy: Vec<u32> = (0..n).filter(|at| !slow.contains(at)).collect();
        let all = deliveries(&net, &parts);
        let last = parts.iter().map(|part| millis(net.ledger().delivery(*part, healthy.iter().copied()).last));
        (mean(last), reached(&all))
    };
    let (with, reached) = run(true);
    let (without, _) = run(false);
    vec![
        figure("last healthy node, ms", Goal::None, with),
        figure("last healthy node over the run without", Goal::Most(1.2), with / without),
        figure("reached, %", Goal::Least(100.0), reached),
    ]
}

/// 50 nodes publish a stream each; hubs with all their swarms.
fn streams(n: u32, seed: u64) -> Vec<Figure> {
    let n = n / 100;
    let settings = Settings { latency: uneven(), ..World::default().settings };
    let mut net: Net<Hub> = Net::new(settings, seed);
    for at in 0..n {
        let mut config = swarm::Config::gossip(vec![Net::<Hub>::peer(0).addr]);
        config.held_segments = 4;
        let hub = Hub::new(net.next_peer(), config, seed << 32 | u64::from(at));
        net.add(hub);
        net.run(SECOND / 50);
    }
    net.run(20 * SECOND);
    let name = |source: u32| StreamName::parse(&format!("s{source}")).expect("a name");
    for source in 0..50.min(n) {
        let record = record(name(source), u64::from(source) + 1);
        net.with_node(source, |hub, now| hub.handle(now, swarm::Input::Claim(record)));
        net.run(SECOND / 10);
    }
    net.run(20 * SECOND);
    let mut parts = Vec::new();
    for k in 0..15 {
        for source in 0..50.min(n) {
            let (header, body) = part(source, k, 1_000);
            let number = net.publish_in(name(source), source, header, body);
            net.run(SECOND / 50);
            if k >= 10 {
                parts.push(number);
            }
        }
    }
    net.run(5 * SECOND);
    let spread: Vec<_> = parts.iter().map(|part| net.ledger().delivery(*part, 0..n)).collect();
    let swarm = SwarmId::of(&name(0));
    let held = net.node(1).and_then(|hub| hub.sizes(swarm)).map_or(0, |sizes| sizes.held);
    vec![
        figure("RMR", Goal::Most(0.01), mean(spread.iter().map(|d| d.rmr))),
        figure("reached, %", Goal::Least(100.0), reached(&spread)),
        figure("bodies held of a stream", Goal::None, held as f64),
    ]
}

fn record(stream: StreamName, source: u64) -> Record {
    Record {
        stream,
        life: LifeId(1),
        epoch: Epoch { counter: 1, node: NodeId(source) },
        revision: 1,
        first_msn: 0,
        target_duration: 2,
        part_target: Duration::from_millis(202),
        latency: Duration::from_millis(202) * 3,
        segment_duration: 2 * SECOND,
        messages: damson_core::model::Schemes::default(),
        availability_start: UnixTime::from_micros(0),
        tracks: vec![Track {
            id: TrackId(0),
            name: "video".to_owned(),
            timescale: Timescale::MPEG,
            codec: "avc1.64001f".to_owned(),
            language: None,
            bandwidth: 0,
            average_bandwidth: 0,
            kind: TrackKind::Video(VideoInfo {
                width: 1_280,
                height: 720,
                frame_rate_milli: 30_000,
                transfer: 2,
                sar: SampleAspectRatio::SQUARE,
            }),
            inits: vec![Init { number: 0, bytes: bytes::Bytes::from_static(b"moov") }],
        }],
        periods: vec![Period::new(0, 0, Duration::ZERO)],
        ended: None,
    }
}

/// What this process has in memory, in KB.
pub(crate) fn memory_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).unwrap_or(0)
}
