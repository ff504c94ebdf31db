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

/// Orders that may wait: more than anybody clicks while a node starts.
const ORDERS_MAX: usize = 16;

/// The settings of one node, to start it again and again the same.
pub(super) struct NodePlan {
    pub(super) name: String,
    pub(super) identity: Identity,
    /// Port 0 before the first start.
    pub(super) mesh: SocketAddr,
    pub(super) join: Vec<SocketAddr>,
    /// The address to which encoders push, at the ingest.
    pub(super) rtmp: Option<SocketAddr>,
    pub(super) http: SocketAddr,
    pub(super) https: Option<(SocketAddr, Arc<Tls>)>,
}

/// To be stopped, or started.
struct Order {
    node: usize,
    run: bool,
}

/// Stops and starts nodes for the page.
pub(super) struct Switch {
    names: Vec<String>,
    running: Vec<AtomicBool>,
    orders: mpsc::Sender<Order>,
}

/// The orders for [`DemoNodes`].
pub(super) struct Orders(mpsc::Receiver<Order>);

impl Switch {
    pub(super) fn new(names: Vec<String>) -> (Self, Orders) {
        let (orders, taken) = mpsc::channel(ORDERS_MAX);
        let running = names.iter().map(|_| AtomicBool::new(true)).collect();
        (Switch { names, running, orders }, Orders(taken))
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

/// All nodes.
pub(super) struct DemoNodes {
    edges: Vec<EdgeAddress>,
    film: FileLoop,
    switch: Arc<Switch>,
    /// The ingest first.
    nodes: Vec<(NodePlan, Option<Node>)>,
}

impl DemoNodes {
    pub(super) fn new(edges: Vec<EdgeAddress>, film: FileLoop, switch: Arc<Switch>) -> Self {
        DemoNodes { edges, film, switch, nodes: Vec::new() }
    }

    /// Returns the address of the node so many places before the next one.
    pub(super) fn mesh_before(&self, places: usize) -> Option<SocketAddr> {
        let (plan, _) = self.nodes.get(self.nodes.len().checked_sub(places)?)?;
        Some(plan.mesh)
    }

    /// Starts the next node.
    pub(super) fn add(
        &mut self,
        mut plan: NodePlan,
        rtmp: Option<TcpListener>,
        http: TcpListener,
        https: Option<TcpListener>,
    ) -> Result<(), NodeError> {
        let node = self.start(&plan, rtmp, http, https)?;
        plan.mesh = node.mesh();
        self.nodes.push((plan, Some(node)));
        Ok(())
    }

    fn start(
        &self,
        plan: &NodePlan,
        rtmp: Option<TcpListener>,
        http: TcpListener,
        https: Option<TcpListener>,
    ) -> Result<Node, NodeError> {
        let is_ingest = plan.rtmp.is_some();
        let mut config = NodeConfig::new(plan.identity.clone(), plan.name.clone());
        config.mesh.bind = plan.mesh;
        config.mesh.hub = swarm::Config::fixed(plan.join.clone());
        config.edge.edges.clone_from(&self.edges);
        config.edge.control = Some(Arc::clone(&self.switch) as Arc<dyn Control>);
        config.rtmp = rtmp;
        config.http = Some(http);
        config.https = https.zip(plan.https.as_ref().map(|(_, tls)| Arc::clone(tls)));
        let node = Node::start(config)?;
        if is_ingest {
            node.play(StreamName::parse("demo").expect("a valid name"), self.film.clone());
        }
        Ok(node)
    }

    /// Binds its sockets and starts it.
    async fn start_again(&self, plan: &NodePlan) -> Result<Node, NodeError> {
        let rtmp = match plan.rtmp {
            Some(addr) => Some(listen(addr, "rtmp").await?),
            None => None,
        };
        let https = match &plan.https {
            Some((addr, _)) => Some(listen(*addr, "https").await?),
            None => None,
        };
        self.start(plan, rtmp, listen(plan.http, "http").await?, https)
    }

    /// Does what is ordered until it is to stop; then drains all nodes, in their order.
    pub(super) async fn run(mut self, mut orders: Orders, stop: CancellationToken) {
        while let Some(Some(order)) = stop.run_until_cancelled(orders.0.recv()).await {
            self.obey(order).await;
        }
        for (_, node) in self.nodes {
            if let Some(node) = node {
                node.shutdown().await;
            }
        }
    }

    async fn obey(&mut self, Order { node: at, run }: Order) {
        let Some((plan, node)) = self.nodes.get_mut(at) else { return };
        match (run, node.take()) {
            (false, Some(running)) => {
                self.switch.running[at].store(false, Ordering::Relaxed);
                tracing::info!(node = plan.name, "stops, as the page has asked");
                running.shutdown().await;
            }
            (true, None) => {
                let (plan, _) = &self.nodes[at];
                match self.start_again(plan).await {
                    Ok(node) => {
                        tracing::info!(node = plan.name, "runs again, as the page has asked");
                        self.nodes[at].1 = Some(node);
                        self.switch.running[at].store(true, Ordering::Relaxed);
                    }
                    Err(error) => tracing::error!(node = plan.name, "can't be started again: {error}"),
                }
            }
            (_, as_it_was) => *node = as_it_was,
        }
    }
}
