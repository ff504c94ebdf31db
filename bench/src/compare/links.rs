//! Links as each crate's own driver keeps them: a message to a stranger dials, and waits for the answer.

use bytes::Bytes;
use damson_core::model::time::Time;
use damson_core::model::{Hop, NodeId, NodeName, PartHeader, StreamName, Trace};
use damson_core::swarm::Output;
use damson_sim::{Net, Node};

/// The links of a node, open and under way.
pub(crate) struct Links<F> {
    /// Messages that wait for the dial; `None`: it is up.
    links: Vec<(u32, Option<Vec<F>>)>,
}

impl<F> Links<F> {
    pub(crate) fn new() -> Self {
        Links { links: Vec::new() }
    }

    /// What is to be done to get a message to a node.
    pub(crate) fn send<N: Node>(&mut self, to: u32, frame: F) -> Option<Output<F>> {
        match self.links.iter_mut().find(|link| link.0 == to) {
            Some((_, Some(waiting))) => {
                waiting.push(frame);
                None
            }
            Some(_) => Some(Output::Control { to: id(to), frame }),
            None => {
                self.links.push((to, Some(vec![frame])));
                let peer = Net::<N>::peer(to);
                Some(Output::Dial { addr: peer.addr, peer: Some(peer.id) })
            }
        }
    }

    /// A link is up: what was waiting for it.
    pub(crate) fn up(&mut self, to: u32) -> impl Iterator<Item = Output<F>> + use<F> {
        let waiting = match self.links.iter_mut().find(|link| link.0 == to) {
            Some(link) => link.1.take().unwrap_or_default(),
            None => {
                self.links.push((to, None));
                Vec::new()
            }
        };
        waiting.into_iter().map(move |frame| Output::Control { to: id(to), frame })
    }

    /// A link is gone, or never came.
    pub(crate) fn down(&mut self, to: u32) {
        self.links.retain(|link| link.0 != to);
    }
}

/// A part that has come over so many links.
pub(crate) fn deliver<F>(header: PartHeader, body: Bytes, hops: u8) -> Output<F> {
    let hops = vec![Hop::by(NodeId(0), NodeName::default()); usize::from(hops)];
    let trace = Trace { hops, ..Trace::default() };
    let stream = StreamName::parse("compared").expect("a valid name");
    Output::Deliver { stream, header, body, trace, received: Time::ZERO }
}

/// The simulator's name of the node with this index.
pub(crate) fn id(index: u32) -> NodeId {
    NodeId(u64::from(index) + 1)
}

/// The index of a node that the simulator names.
pub(crate) fn index(id: NodeId) -> u32 {
    u32::try_from(id.0 - 1).expect("the simulator counts nodes in 32 bits")
}
