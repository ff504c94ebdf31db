//! The nodes that a scenario asks for, and the parts that they publish.

use bytes::Bytes;
use damson_core::model::time::{Timescale, UnixTime};
use damson_core::model::{
    Epoch, Flags, Init, LifeId, NodeId, PartHeader, PartId, Peer, Period, Record, SampleAspectRatio, StreamName, Track,
    TrackId, TrackKind, VideoInfo,
};
use damson_core::swarm::Hub;
use damson_core::{hyparview as overlay, plumtree as broadcast, swarm};

use super::Scenario;
use crate::member::Member;
use crate::node::{Node, peer, stream_name};

/// The number of parts of a segment.
pub(crate) const PARTS: u32 = 5;

/// Returns the `n`th part of a track, [`PARTS`] to a segment.
pub(crate) fn part(epoch: Epoch, track: u8, n: u32, length: usize) -> (PartHeader, Bytes) {
    let id = PartId { epoch, track: TrackId(track), msn: n / PARTS, part: (n % PARTS) as u16 };
    let mut body = format!("{id:?}").into_bytes();
    body.resize(length, 0);
    let header = PartHeader {
        id,
        decode_time: u64::from(n),
        duration: 1,
        program_date_time: UnixTime::from_micros(0),
        ingested: UnixTime::from_micros(0),
        init: 0,
        discontinuity: 0,
        flags: Flags { independent: true, last: n % PARTS == PARTS - 1, ..Flags::default() },
        length: u32::try_from(length).unwrap_or(u32::MAX),
        hash: *blake3::hash(&body).as_bytes(),
    };
    (header, body.into())
}

/// Returns the record of a stream with one video track.
pub(crate) fn record(stream: StreamName, epoch: Epoch) -> Record {
    Record {
        stream,
        life: LifeId(1),
        epoch,
        revision: 1,
        first_msn: 0,
        target_duration: 2,
        part_target: std::time::Duration::from_millis(202),
        latency: std::time::Duration::from_millis(202) * 3,
        segment_duration: std::time::Duration::from_secs(2),
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
            inits: vec![Init { number: 0, bytes: Bytes::from_static(b"moov") }],
        }],
        periods: vec![Period::new(0, 0, std::time::Duration::ZERO)],
        ended: None,
    }
}

/// A core that a scenario can be played with.
pub(super) trait Cast: Node {
    /// Makes a node.
    fn make(scene: &Scenario, me: Peer, contacts: Vec<Peer>, seed: u64) -> Self;

    /// Returns the name, epoch and track of the stream that a node publishes. No two parts have one id.
    fn stream(stream: u8, from: u32) -> (StreamName, Epoch, u8);
}

/// Returns the settings of every node's cores.
pub(super) fn configs(scene: &Scenario) -> (overlay::Config, broadcast::Config) {
    let mut overlay = overlay::Config::default();
    let mut broadcast = broadcast::Config { upload: scene.network.upload, ..broadcast::Config::default() };
    for departure in &scene.paper {
        departure.switch_back(&mut overlay, &mut broadcast);
    }
    (overlay, broadcast)
}

impl Cast for Member {
    fn make(scene: &Scenario, me: Peer, contacts: Vec<Peer>, seed: u64) -> Self {
        let (overlay, broadcast) = configs(scene);
        Member::new(me, contacts, scene.held_segments.unwrap_or(u32::MAX), overlay, broadcast, seed)
    }

    /// All streams are tracks of one, whose epoch all publishers share.
    fn stream(stream: u8, _from: u32) -> (StreamName, Epoch, u8) {
        (stream_name(), Epoch { counter: 1, node: NodeId(1) }, stream)
    }
}

impl Cast for Hub {
    fn make(scene: &Scenario, me: Peer, contacts: Vec<Peer>, seed: u64) -> Self {
        let (overlay, broadcast) = configs(scene);
        let mut config = swarm::Config::gossip(contacts.into_iter().map(|peer| peer.addr).collect());
        (config.overlay, config.broadcast) = (overlay, broadcast);
        config.held_segments = scene.held_segments.unwrap_or(config.held_segments);
        Hub::new(me, config, seed)
    }

    /// Each stream has an epoch of its own.
    fn stream(stream: u8, from: u32) -> (StreamName, Epoch, u8) {
        let other = || StreamName::parse(&format!("s{stream}")).expect("a valid name");
        let name = if stream == 0 { stream_name() } else { other() };
        (name, Epoch { counter: u32::from(stream) + 1, node: peer(from).id }, 0)
    }
}
