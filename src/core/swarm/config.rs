//! The settings of a [`Hub`](super::hub::Hub).

use std::net::SocketAddr;
use std::time::Duration;

use crate::{hyparview as overlay, plumtree as broadcast};

/// The settings of a [`Hub`](super::hub::Hub).
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The addresses to join at: bootstrap nodes, or, in a static topology, the peers named.
    pub join: Vec<SocketAddr>,
    /// The settings of each overlay; its topology says whether this is a static one.
    pub overlay: overlay::Config,
    /// The settings of each broadcast; `upload` is the node's, and shared by its streams.
    pub broadcast: broadcast::Config,
    /// How often an ingest refreshes its entries. Default 5 s, DESIGN's.
    pub refresh_interval: Duration,
    /// When an entry without a refresh is dead. Default 15 s, DESIGN's: three refreshes.
    pub dead_after: Duration,
    /// How long the entry of an ended life is refreshed, so that late viewers see ENDLIST. Default 5 min, a guess.
    pub ended_linger: Duration,
    /// How long a swarm outlives its entry, so that a restarted ingest finds the record and goes on. Default
    /// 60 s: twice the 30 s that a life lingers without its publisher.
    pub swarm_linger: Duration,
    /// How long a link is kept that no swarm needs. Default 10 s: a refused request is repeated within 8 s.
    pub link_linger: Duration,
    /// When a dial's missing answer is given up. Default 30 s: above any driver's own timeout.
    pub dial_patience: Duration,
    /// A contact that can't be reached is dialled again after this, doubling up to `contact_max`. Default
    /// 250 ms, a guess.
    pub contact_first: Duration,
    /// See `contact_first`. Default 5 s.
    pub contact_max: Duration,
    /// Most streams. Default 10,000.
    pub entries_max: usize,
    /// How many segments of a track are kept while the record isn't known. Default 32: more than any
    /// [`Record::held_segments`](crate::model::Record::held_segments) of segments of 2 s and up.
    pub held_segments: u32,
    /// A body is worth nothing to a slow peer after this, where TARGETDURATION isn't known; else 3 x
    /// TARGETDURATION (HOLD-BACK), at least this. Default 6 s.
    pub fresh: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            join: Vec::new(),
            overlay: overlay::Config::default(),
            broadcast: broadcast::Config::default(),
            refresh_interval: Duration::from_secs(5),
            dead_after: Duration::from_secs(15),
            ended_linger: Duration::from_secs(300),
            swarm_linger: Duration::from_secs(60),
            link_linger: Duration::from_secs(10),
            dial_patience: Duration::from_secs(30),
            contact_first: Duration::from_millis(250),
            contact_max: Duration::from_secs(5),
            entries_max: 10_000,
            held_segments: 32,
            fresh: Duration::from_secs(6),
        }
    }
}

impl Config {
    /// HyParView, joining at these addresses.
    pub fn gossip(join: Vec<SocketAddr>) -> Self {
        Config { join, ..Config::default() }
    }

    /// Links to the nodes at these addresses, and to those that name us; no others.
    pub fn fixed(join: Vec<SocketAddr>) -> Self {
        Config { join, overlay: overlay::Config::fixed(Vec::new()), ..Config::default() }
    }

    /// Whether the topology is a static one.
    pub fn is_static(&self) -> bool {
        matches!(self.overlay.topology, overlay::Topology::Static { .. })
    }
}
