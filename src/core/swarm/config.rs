//! The settings of a [`Hub`](super::hub::Hub).

use std::net::SocketAddr;

use crate::{hyparview as overlay, plumtree as broadcast};

/// The settings of a [`Hub`](super::hub::Hub).
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The addresses to join at: bootstrap nodes, or the peers of a static topology.
    pub join: Vec<SocketAddr>,
    /// The settings of each overlay; its topology says whether this is a static one.
    pub overlay: overlay::Config,
    /// The settings of each broadcast. Its streams share `upload`.
    pub broadcast: broadcast::Config,
    /// The number of segments of a track to hold while the record isn't known. Default 32: more than any
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
    /// Returns settings that join an overlay at these addresses.
    pub fn gossip(join: Vec<SocketAddr>) -> Self {
        Config { join, ..Config::default() }
    }

    /// Returns settings of a static topology: links to the nodes at these addresses and to those that name us alone.
    pub fn fixed(join: Vec<SocketAddr>) -> Self {
        Config { join, overlay: overlay::Config::fixed(Vec::new()), ..Config::default() }
    }

    /// Returns whether the topology is static.
    pub fn is_static(&self) -> bool {
        matches!(self.overlay.topology, overlay::Topology::Static { .. })
    }
}
