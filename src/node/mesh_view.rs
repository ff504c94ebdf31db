//! The mesh as the API shows it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use damson_core::model::{NodeId, NodeName, Trace};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::edge::Host;
use crate::mesh::{Mesh, Snapshot};

/// The greatest age of `/api/v1/swarm`.
const VIEW_INTERVAL: Duration = Duration::from_secs(1);
/// The most nodes whose names are kept.
const NAMES_MAX: usize = 10_000;

/// This node's knowledge of the mesh.
#[derive(Debug, Default)]
pub(super) struct MeshView {
    /// The newest snapshot, taken each second.
    snapshot: watch::Sender<Option<Snapshot>>,
    /// The names of nodes, learned from the traces of parts.
    names: Mutex<BTreeMap<NodeId, NodeName>>,
}

impl MeshView {
    /// Learns the names of the nodes that a part has passed.
    pub(super) fn learn(&self, trace: &Trace) {
        let mut names = self.names.lock();
        for hop in &trace.hops {
            if names.len() < NAMES_MAX || names.contains_key(&hop.node) {
                names.insert(hop.node, hop.name);
            }
        }
    }

    /// Takes a snapshot of the mesh each second, for ever.
    pub(super) async fn watch(self: Arc<Self>, mesh: Mesh) {
        let mut each = tokio::time::interval(VIEW_INTERVAL);
        loop {
            each.tick().await;
            self.snapshot.send_replace(mesh.snapshot().await);
        }
    }
}

impl Host for MeshView {
    fn swarm(&self) -> Value {
        let Some(snapshot) = self.snapshot.borrow().clone() else { return Value::Null };
        // This node, its neighbours, and the nodes that parts have passed.
        let mut nodes = BTreeMap::from([(snapshot.node.clone(), snapshot.name.clone())]);
        nodes.extend(self.names.lock().iter().map(|(node, name)| (node.to_string(), name.as_str().to_owned())));
        nodes.extend(snapshot.links.iter().map(|link| (link.peer.clone(), link.name.clone())));
        let nodes: Vec<_> = nodes.iter().map(|(node, name)| json!({ "node": node, "name": name })).collect();
        let mut value = serde_json::to_value(snapshot).unwrap_or_default();
        value["nodes"] = nodes.into();
        value
    }

    fn is_ready(&self) -> bool {
        self.snapshot.borrow().is_some()
    }

    fn node_name(&self, node: NodeId) -> Option<String> {
        self.names.lock().get(&node).map(|name| name.as_str().to_owned()).filter(|name| !name.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use damson_core::model::Hop;

    #[test]
    fn nodes_on_the_way_of_parts_are_known_by_name() {
        let view = MeshView::default();
        assert!(!view.is_ready() && view.swarm().is_null(), "the mesh isn't joined");
        let hop = |id, name| Hop::by(NodeId(id), NodeName::of(name));
        view.learn(&Trace { packaging_us: Some(1), hops: vec![hop(1, "ingest"), hop(2, "")] });
        let addr = ([127, 0, 0, 1], 1).into();
        let (node, name) = (NodeId(3).to_string(), "edge".to_owned());
        let snapshot = Snapshot { node, name, addr, refused: 0, links: Vec::new(), swarms: Vec::new() };
        view.snapshot.send_replace(Some(snapshot));
        assert!(view.is_ready());
        assert_eq!(view.node_name(NodeId(1)).as_deref(), Some("ingest"));
        assert_eq!((view.node_name(NodeId(2)), view.node_name(NodeId(9))), (None, None));
        let names: Vec<_> =
            view.swarm()["nodes"].as_array().expect("a list").iter().map(|n| n["name"].clone()).collect();
        assert_eq!(names, ["ingest", "", "edge"], "by id");
    }
}
