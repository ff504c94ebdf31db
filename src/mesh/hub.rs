//! The core that a node drives: all its swarms.

use super::node::Core;
use super::snapshot::SwarmView;
use crate::live::{NodeId, StreamName};
use crate::media::Resume;
use crate::swarm::{self, Hub, Input, Output};
use crate::units::Time;

impl Core for Hub {
    fn handle(&mut self, now: Time, input: Input) {
        Hub::handle(self, now, input);
    }

    fn poll_output(&mut self) -> Option<Output> {
        Hub::poll_output(self)
    }

    fn poll_timeout(&self) -> Option<Time> {
        Hub::poll_timeout(self)
    }

    fn resume(&self, stream: &StreamName) -> Option<Resume> {
        Hub::resume(self, stream)
    }

    fn views(&self) -> Vec<SwarmView> {
        self.swarms().map(view).collect()
    }
}

fn view(swarm: swarm::SwarmView) -> SwarmView {
    let ids = |nodes: Vec<NodeId>| nodes.iter().map(NodeId::to_string).collect();
    SwarmView {
        stream: swarm.stream.map(|stream| stream.to_string()),
        active: swarm.active.iter().map(|peer| peer.id.to_string()).collect(),
        passive: swarm.passive.iter().map(|peer| peer.id.to_string()).collect(),
        eager: ids(swarm.eager),
        lazy: ids(swarm.lazy),
    }
}
