//! One link a pair: which of several connections to a peer is the link.
//!
//! Both ends of a connection must decide alike, and no connection that has carried a control frame may give way to
//! another. So a hello each way makes a connection a link, and its *accepting* end decides when the dialler's hello comes
//! in:
//!
//! ```text
//!  dialler                                accepting end
//!     |-- hello ------------------------------>|  a link is up, on a newer hello of the dialler: refuse
//!     |                                        |  a link is up, on an older one: the dialler has given it
//!     |                                        |     up (it says no hello while it has a link): replace it
//!     |                                        |  our own hello to it is under way: the lower NodeId's dial stays
//!     |                                        |  else: accept
//!     |<------------- hello, or close(DUPLICATE)  the link is up here
//!  the link is up there
//! ```
//!
//! No frame follows a hello before the answer, so a refused connection loses nothing. Two dials that cross make one link
//! and one `LinkUp`.

use std::collections::BTreeMap;

use crate::model::NodeId;

/// The number of a connection, in the order in which the node made them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkNo(pub u64);

/// The verdict of the accepting end on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the link now.
    Up,
    /// It is the link now. The peer has given the former one up.
    Replaces(LinkNo),
    /// Another connection is the link, or will be.
    Duplicate,
}

/// The links of a node, by peer.
#[derive(Debug)]
pub struct Pairing {
    me: NodeId,
    peers: BTreeMap<NodeId, Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    /// The link, and the stamp of the peer's hello.
    up: Option<(LinkNo, u64)>,
    /// Our hello on this connection is unanswered.
    greeting: Option<LinkNo>,
}

impl Pairing {
    /// Makes the table of the node `me`.
    pub fn new(me: NodeId) -> Self {
        Pairing { me, peers: BTreeMap::new() }
    }

    /// Returns the link to `peer`.
    pub fn link(&self, peer: NodeId) -> Option<LinkNo> {
        self.peers.get(&peer)?.up.map(|(no, _)| no)
    }

    /// Handles a dial that has found `peer`. Returns whether to say hello; if not, there is or will be another link.
    pub fn dialled(&mut self, peer: NodeId, no: LinkNo) -> bool {
        let slot = self.peers.entry(peer).or_default();
        let free = slot.up.is_none() && slot.greeting.is_none() && peer != self.me;
        if free {
            slot.greeting = Some(no);
        }
        self.tidy(peer);
        free
    }

    /// Handles the answer of `peer` to our hello on `no`, with its stamp. Returns whether that is the link now.
    pub fn answered(&mut self, peer: NodeId, no: LinkNo, stamp: u64) -> bool {
        let Some(slot) = self.peers.get_mut(&peer) else { return false };
        if slot.greeting != Some(no) {
            return false;
        }
        slot.greeting = None;
        slot.up = Some((no, stamp));
        true
    }

    /// Handles a hello of `peer` with this stamp, on a connection that it dialled.
    pub fn greeted(&mut self, peer: NodeId, no: LinkNo, stamp: u64) -> Verdict {
        if peer == self.me {
            return Verdict::Duplicate;
        }
        let slot = self.peers.entry(peer).or_default();
        let replaced = match slot.up {
            Some((_, newest)) if stamp <= newest => return Verdict::Duplicate,
            Some((old, _)) => Some(old),
            None => None,
        };
        if slot.greeting.is_some() && self.me < peer {
            return Verdict::Duplicate;
        }
        // If we dial, too, the peer refuses our dial by the same rules.
        slot.greeting = None;
        slot.up = Some((no, stamp));
        replaced.map_or(Verdict::Up, Verdict::Replaces)
    }

    /// Handles the end of a connection, or a hello without an answer. Returns whether it was the link.
    pub fn ended(&mut self, peer: NodeId, no: LinkNo) -> bool {
        let Some(slot) = self.peers.get_mut(&peer) else { return false };
        if slot.greeting == Some(no) {
            slot.greeting = None;
        }
        let was_up = slot.up.is_some_and(|(up, _)| up == no);
        if was_up {
            slot.up = None;
        }
        self.tidy(peer);
        was_up
    }

    fn tidy(&mut self, peer: NodeId) {
        if self.peers.get(&peer).is_some_and(|slot| slot.up.is_none() && slot.greeting.is_none()) {
            self.peers.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOW: NodeId = NodeId(1);
    const HIGH: NodeId = NodeId(2);

    #[test]
    fn of_crossing_dials_the_lower_nodes_stays() {
        let (mut low, mut high) = (Pairing::new(LOW), Pairing::new(HIGH));
        assert!(low.dialled(HIGH, LinkNo(0)));
        assert!(high.dialled(LOW, LinkNo(0)));
        // The hellos cross.
        assert_eq!(low.greeted(HIGH, LinkNo(1), 200), Verdict::Duplicate);
        assert_eq!(high.greeted(LOW, LinkNo(1), 100), Verdict::Up);
        // The answers come in.
        assert!(!high.ended(LOW, LinkNo(0)), "high's own dial was never the link");
        assert!(low.answered(HIGH, LinkNo(0), 201));
        assert_eq!((low.link(HIGH), high.link(LOW)), (Some(LinkNo(0)), Some(LinkNo(1))));
    }

    #[test]
    fn an_answer_may_overtake_the_other_hello() {
        let (mut low, mut high) = (Pairing::new(LOW), Pairing::new(HIGH));
        assert!(low.dialled(HIGH, LinkNo(0)));
        assert!(high.dialled(LOW, LinkNo(0)));
        assert_eq!(high.greeted(LOW, LinkNo(1), 100), Verdict::Up);
        assert!(low.answered(HIGH, LinkNo(0), 201));
        // High's hello, sent before it accepted low's, comes last.
        assert_eq!(low.greeted(HIGH, LinkNo(1), 200), Verdict::Duplicate);
        assert_eq!(low.link(HIGH), Some(LinkNo(0)));
    }

    #[test]
    fn a_peer_that_comes_back_replaces_its_dead_link() {
        let mut node = Pairing::new(LOW);
        assert_eq!(node.greeted(HIGH, LinkNo(0), 100), Verdict::Up);
        assert_eq!(node.greeted(HIGH, LinkNo(1), 300), Verdict::Replaces(LinkNo(0)));
        assert!(!node.ended(HIGH, LinkNo(0)), "the end of the old one is no news");
        assert!(node.ended(HIGH, LinkNo(1)));
        assert_eq!(node.link(HIGH), None);
    }

    #[test]
    fn no_second_hello_while_one_is_out_or_a_link_is_up() {
        let mut node = Pairing::new(LOW);
        assert!(!node.dialled(LOW, LinkNo(0)), "itself");
        assert!(node.dialled(HIGH, LinkNo(1)));
        assert!(!node.dialled(HIGH, LinkNo(2)), "by another address");
        assert!(node.answered(HIGH, LinkNo(1), 5));
        assert!(!node.dialled(HIGH, LinkNo(3)), "a link is up");
        assert!(node.ended(HIGH, LinkNo(1)));
        assert!(node.dialled(HIGH, LinkNo(4)));
        assert!(!node.ended(HIGH, LinkNo(4)));
        assert!(node.dialled(HIGH, LinkNo(5)), "an unanswered hello frees the way");
    }
}
