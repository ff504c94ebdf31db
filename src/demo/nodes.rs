//! The demo's nodes, which can be stopped and started again one by one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use damson_core::manifest::HttpError;
use damson_core::model::StreamName;
use damson_core::swarm;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::edge::{Control, EdgeAddress};
use crate::ingest::file_loop::FileLoop;
use crate::mesh::Identity;
use crate::net::Tls;
use crate::node::{Node, NodeConfig, NodeError, listen};

/// The most orders that wait: more than a user clicks while a node starts.
const ORDERS_MAX: usize = 16;

/// The settings of one node, with which it starts each time.
pub(super) struct NodePlan {
    pub(super) name: String,
    pub(super) identity: Identity,
    /// The mesh address, with port 0 before the first start.
    pub(super) mesh: SocketAddr,
    pub(super) join: Vec<SocketAddr>,
    /// The address for RTMP publishers, at the ingest.
    pub(super) rtmp: Option<SocketAddr>,
    pub(super) http: SocketAddr,
    /// The address of HTTPS, at the last edge.
    pub(super) https: Option<SocketAddr>,
    pub(super) tls: Option<Arc<Tls>>,
}

/// The bound sockets of a node.
pub(super) struct Sockets {
    pub(super) rtmp: Option<TcpListener>,
    pub(super) http: TcpListener,
    pub(super) https: Option<TcpListener>,
}

impl Sockets {
    async fn bind(plan: &NodePlan) -> Result<Self, NodeError> {
        Ok(Sockets {
            rtmp: listen_on(plan.rtmp, "rtmp").await?,
            http: listen(plan.http, "http").await?,
            https: listen_on(plan.https, "https").await?,
        })
    }
}

async fn listen_on(addr: Option<SocketAddr>, flag: &'static str) -> Result<Option<TcpListener>, NodeError> {
    match addr {
        Some(addr) => listen(addr, flag).await.map(Some),
        None => Ok(None),
    }
}

/// An order of the page to stop or start a node.
pub(super) struct Order {
    node: usize,
    run: bool,
}

/// Stops and starts nodes for the page.
#[derive(Debug)]
pub(super) struct Switch {
    names: Vec<String>,
    running: Vec<AtomicBool>,
    orders: mpsc::Sender<Order>,
}

impl Switch {
    /// Returns the switch, and the orders for [`DemoNodes::run`].
    pub(super) fn new(names: Vec<String>) -> (Self, mpsc::Receiver<Order>) {
        let (orders, receiver) = mpsc::channel(ORDERS_MAX);
        let running = names.iter().map(|_| AtomicBool::new(true)).collect();
        (Switch { names, running, orders }, receiver)
    }
}

impl Control for Switch {
    fn nodes(&self) -> Vec<(String, bool)> {
        let running = self.running.iter().map(|running| running.load(Ordering::Relaxed));
        self.names.iter().cloned().zip(running).collect()
    }

    fn set(&self, name: &str, run: bool) -> Result<(), HttpError> {
        let node = self.names.iter().position(|known| known == name);
        let node = node.ok_or_else(|| HttpError::new(404, "request: the demo has no such node"))?;
        let order = self.orders.try_send(Order { node, run });
        order.map_err(|_| HttpError::new(503, "edge: the demo is busy with earlier orders"))
    }
}

/// The nodes of the demo.
pub(super) struct DemoNodes {
    edges: Vec<EdgeAddress>,
    film: FileLoop,
    switch: Arc<Switch>,
    /// The nodes in the order of the line, the ingest first.
    nodes: Vec<(NodePlan, Option<Node>)>,
}

impl DemoNodes {
    pub(super) fn new(edges: Vec<EdgeAddress>, film: FileLoop, switch: Arc<Switch>) -> Self {
        DemoNodes { edges, film, switch, nodes: Vec::new() }
    }

    /// Returns the mesh address of the node that is this many places before the next one.
    pub(super) fn mesh_before(&self, places: usize) -> Option<SocketAddr> {
        let (plan, _) = self.nodes.get(self.nodes.len().checked_sub(places)?)?;
        Some(plan.mesh)
    }

    /// Starts the next node.
    pub(super) fn add(&mut self, mut plan: NodePlan, sockets: Sockets) -> Result<(), NodeError> {
        let node = self.start(&plan, sockets)?;
        plan.mesh = node.mesh();
        self.nodes.push((plan, Some(node)));
        Ok(())
    }

    fn start(&self, plan: &NodePlan, sockets: Sockets) -> Result<Node, NodeError> {
        let mut config = NodeConfig::new(plan.identity.clone(), plan.name.clone());
        config.mesh.bind = plan.mesh;
        config.mesh.hub = swarm::Config::fixed(plan.join.clone());
        config.edge.edges.clone_from(&self.edges);
        config.edge.control = Some(Arc::clone(&self.switch) as Arc<dyn Control>);
        config.rtmp = sockets.rtmp;
        config.http = Some(sockets.http);
        config.https = sockets.https.zip(plan.tls.clone());
        let node = Node::start(config)?;
        if plan.rtmp.is_some() {
            node.play(StreamName::parse("demo").expect("a valid name"), self.film.clone());
        }
        Ok(node)
    }

    /// Obeys orders until `stop`; then drains all nodes, in the order of the line.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>, stop: CancellationToken) {
        while let Some(Some(order)) = stop.run_until_cancelled(orders.recv()).await {
            self.obey(order).await;
        }
        for node in self.nodes.into_iter().filter_map(|(_, node)| node) {
            node.shutdown().await;
        }
    }

    async fn obey(&mut self, Order { node: at, run }: Order) {
        let Some((plan, node)) = self.nodes.get_mut(at) else { return };
        match (run, node.take()) {
            (false, Some(running)) => {
                self.switch.running[at].store(false, Ordering::Relaxed);
                tracing::info!(node = plan.name, "node stopped from the page");
                running.shutdown().await;
            }
            (true, None) => {
                let (plan, _) = &self.nodes[at];
                match Sockets::bind(plan).await.and_then(|sockets| self.start(plan, sockets)) {
                    Ok(node) => {
                        tracing::info!(node = plan.name, "node started again from the page");
                        self.nodes[at].1 = Some(node);
                        self.switch.running[at].store(true, Ordering::Relaxed);
                    }
                    Err(error) => tracing::error!(node = plan.name, "node can't start again: {error}"),
                }
            }
            (_, as_it_was) => *node = as_it_was,
        }
    }
}
