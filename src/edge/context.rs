//! What an edge is made of: its settings, the node that it is part of, and what its requests are answered from.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use damson_core::manifest::HttpError;
use damson_core::manifest::dash::Timing;
use damson_core::model::NodeId;
use serde::Serialize;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::limits::{Addresses, FEEDS_MAX, Limits, Visitor};
use crate::edge::streams::Store;
use crate::observe::Metrics;

/// The node that an edge is part of. The default answers are those of a node without a mesh.
pub trait Host: fmt::Debug + Send + Sync {
    /// Returns the body of `/api/v1/swarm`: the mesh as this node sees it. A `mesh::Snapshot`, and
    /// `nodes`: `{"node", "name"}` of all that this node has met. Each node knows its own links and, in `swarms`, its own
    /// branches of each stream's tree (`eager`, `lazy`, `parent`): who wants the whole tree asks each of `/api/v1/edges`,
    /// and puts together what they say. As old as a second. `null` before the mesh is joined.
    fn swarm(&self) -> serde_json::Value {
        serde_json::json!({ "nodes": [], "links": [] })
    }
    /// Whether the mesh is joined, or there is none to join.
    fn is_ready(&self) -> bool {
        true
    }
    /// Returns what a node is called, if that is known.
    fn node_name(&self, _node: NodeId) -> Option<String> {
        None
    }
}

/// Stops and starts the nodes of a demo.
pub trait Control: fmt::Debug + Send + Sync {
    /// Returns each node's name, and whether it runs.
    fn nodes(&self) -> Vec<(String, bool)>;
    /// Has a node stopped or started, soon.
    ///
    /// # Errors
    /// There is no such node, or too much to do already.
    fn set(&self, name: &str, run: bool) -> Result<(), HttpError>;
}

/// A node without a mesh: for tests and bench.
#[derive(Debug, Clone, Copy, Default)]
pub struct Standalone;

impl Host for Standalone {}

/// An edge of the cluster, as the player page lists it.
#[derive(Debug, Clone, Serialize)]
pub struct EdgeAddress {
    /// What it is called.
    pub name: String,
    /// `http://host:port`.
    pub url: String,
}

/// An edge's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// What it is called.
    pub name: String,
    /// How the MPD names segments.
    pub timing: Timing,
    /// What `/api/v1/edges` lists.
    pub edges: Vec<EdgeAddress>,
    /// What one player may take.
    pub limits: Limits,
    /// Whether requests are timed, and answers tell of the way of parts.
    pub traced: bool,
    /// Stops and starts nodes, in a demo.
    pub control: Option<Arc<dyn Control>>,
}

impl Config {
    /// Returns the defaults, for this node.
    pub fn new(node: NodeId, name: impl Into<String>) -> Self {
        Config {
            node,
            name: name.into(),
            timing: Timing::default(),
            edges: Vec::new(),
            limits: Limits::default(),
            traced: true,
            control: None,
        }
    }
}

/// What requests are answered from.
#[derive(Debug)]
pub struct Edge {
    config: Config,
    /// The name, as a header can carry it.
    name: String,
    store: Arc<Store>,
    host: Arc<dyn Host>,
    metrics: Arc<Metrics>,
    addresses: Arc<Addresses>,
    /// Room for live traces.
    feeds: Semaphore,
}

impl Edge {
    /// Makes an edge over what `store` holds.
    pub fn new(config: Config, store: Arc<Store>, host: Arc<dyn Host>, metrics: Arc<Metrics>) -> Arc<Self> {
        let name = plain(&config.name);
        let feeds = Semaphore::new(FEEDS_MAX);
        Arc::new(Edge { config, name, store, host, metrics, addresses: Arc::default(), feeds })
    }

    /// Returns its settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns what the node holds.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Returns how many players are connected.
    pub fn connections(&self) -> usize {
        self.addresses.connections()
    }

    /// Gives one more connection of `ip` its place, if there is one.
    pub(crate) fn admit(&self, ip: IpAddr) -> Option<Visitor> {
        self.addresses.admit(ip, &self.config.limits)
    }

    /// Gives one more live trace its place, if there is one.
    pub(crate) fn admit_live(&self) -> Option<SemaphorePermit<'_>> {
        self.feeds.try_acquire().ok()
    }

    pub(crate) fn host(&self) -> &dyn Host {
        &*self.host
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns what a node is called, as a header can carry it; its id where nobody knows.
    pub(crate) fn node_name(&self, node: NodeId) -> String {
        if node == self.config.node {
            return self.name.clone();
        }
        self.host.node_name(node).map_or_else(|| node.to_string(), |name| plain(&name))
    }
}

/// Replaces what would end a quoted string.
fn plain(name: &str) -> String {
    let fits = |c: char| (c.is_ascii_graphic() || c == ' ') && c != '"' && c != '\\';
    name.chars().map(|c| if fits(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Named;

    impl Host for Named {
        fn swarm(&self) -> serde_json::Value {
            serde_json::Value::Null
        }
        fn is_ready(&self) -> bool {
            false
        }
        fn node_name(&self, node: NodeId) -> Option<String> {
            (node == NodeId(2)).then(|| "caf\u{e9} \"x\"".to_owned())
        }
    }

    #[test]
    fn a_nodes_name_fits_in_a_header() {
        let metrics = Arc::new(Metrics::default());
        let store = Store::new(Arc::clone(&metrics));
        let edge = Edge::new(Config::new(NodeId(1), "a\\b\n"), store, Arc::new(Named), metrics);
        let names = [1, 2, 3].map(|n| edge.node_name(NodeId(n)));
        assert_eq!(names, ["a_b_".to_owned(), "caf_ _x_".to_owned(), NodeId(3).to_string()]);
        assert_eq!(edge.name(), names[0]);
    }
}
