//! The parts of an edge: its settings, its node, and what it answers requests from.

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

/// The node of an edge. The default answers are those of a node without a mesh.
pub trait Host: fmt::Debug + Send + Sync {
    /// Returns the body of `/api/v1/swarm`, at most a second old: a `mesh::Snapshot`, and `nodes`, `{"node", "name"}`
    /// of every node that this node has met. A node knows its own links and, in `swarms`, its own branches of each
    /// stream's tree (`eager`, `lazy`, `parent`). For the whole tree, ask each of `/api/v1/edges`. The body is `null`
    /// before the node joins the mesh.
    fn swarm(&self) -> serde_json::Value {
        serde_json::json!({ "nodes": [], "links": [] })
    }
    /// Returns true once the node has joined its mesh, if it has one.
    fn is_ready(&self) -> bool {
        true
    }
    /// Returns the name of a node, if it is known.
    fn node_name(&self, _node: NodeId) -> Option<String> {
        None
    }
}

/// Stops and starts the nodes of a demo.
pub trait Control: fmt::Debug + Send + Sync {
    /// Returns each node's name, and whether it runs.
    fn nodes(&self) -> Vec<(String, bool)>;
    /// Queues an order to start or stop a node.
    ///
    /// # Errors
    /// There is no such node, or the queue is full.
    fn set(&self, name: &str, run: bool) -> Result<(), HttpError>;
}

/// A node without a mesh, for tests and benches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Standalone;

impl Host for Standalone {}

/// An edge of the cluster, as the player page lists it.
#[derive(Debug, Clone, Serialize)]
pub struct EdgeAddress {
    /// The name of the edge.
    pub name: String,
    /// `http://host:port`.
    pub url: String,
}

/// An edge's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The id of this node.
    pub node: NodeId,
    /// The name of this node.
    pub name: String,
    /// The way in which the MPD names segments.
    pub timing: Timing,
    /// The edges that `/api/v1/edges` lists.
    pub edges: Vec<EdgeAddress>,
    /// The limits of connections and requests.
    pub limits: Limits,
    /// Enables timing of requests, and the latency of each hop in responses.
    pub traced: bool,
    /// Starts and stops nodes; of a demo only.
    pub control: Option<Arc<dyn Control>>,
}

impl Config {
    /// Returns the default settings of a node.
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

/// Everything that requests are answered from.
#[derive(Debug)]
pub struct Edge {
    config: Config,
    /// The node's name, in characters that a header can carry.
    name: String,
    store: Arc<Store>,
    host: Arc<dyn Host>,
    metrics: Arc<Metrics>,
    addresses: Arc<Addresses>,
    /// Places for live traces.
    feeds: Semaphore,
}

impl Edge {
    /// Makes an edge that serves the streams of `store`.
    pub fn new(config: Config, store: Arc<Store>, host: Arc<dyn Host>, metrics: Arc<Metrics>) -> Arc<Self> {
        let name = plain(&config.name);
        let feeds = Semaphore::new(FEEDS_MAX);
        Arc::new(Edge { config, name, store, host, metrics, addresses: Arc::default(), feeds })
    }

    /// Returns the settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the streams of the node.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Returns the number of connections.
    pub fn connections(&self) -> usize {
        self.addresses.connections()
    }

    /// Takes a place for one more connection of `ip`, if the address has one left.
    pub(crate) fn admit(&self, ip: IpAddr) -> Option<Visitor> {
        self.addresses.admit(ip, &self.config.limits)
    }

    /// Takes a place for one more live trace, if one is left.
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

    /// Returns the name of a node, in characters that a header can carry; its id if the name isn't known.
    pub(crate) fn node_name(&self, node: NodeId) -> String {
        if node == self.config.node {
            return self.name.clone();
        }
        self.host.node_name(node).map_or_else(|| node.to_string(), |name| plain(&name))
    }
}

/// Replaces characters that would end a quoted string.
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
