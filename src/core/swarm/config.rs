//! The settings of a [`Hub`](super::hub::Hub).

use std::net::SocketAddr;

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
    /// How many segments of a track are kept while the record isn't known. Default 32: more than any
    /// [`Record::held_segments`](crate::model::Record::held_segments) of segments of 2 s and up.
    pub held_segments: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            join: Vec::new(),
            overlay: overlay::Config::default(),
            broadcast: broadcast::Config::default(),
            held_segments: 32,
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
