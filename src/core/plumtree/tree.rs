//! The tree: which links are eager, and which would be better.

use std::time::Duration;

use super::config::Optimise;
use super::io::{Output, PIECE_LEN_MAX};
use super::key::Key;
use super::message::{Announce, Message};
use super::neighbours::{PeerSet, Slot};
use super::plumtree::{Plumtree, hops_of};
use super::pulls::{Missing, slow_tail};
use crate::model::time::Time;
use crate::model::{NodeId, PartId};

/// How long a neighbour that refused a GRAFT for want of upload is asked last.
const FULL_FOR: Duration = Duration::from_secs(10);

/// Who was refused, and asks again after this, has seen a part go by: earlier GRAFTs may have crossed the answer.
const INSISTS_AFTER: Duration = Duration::from_millis(500);

/// A child is told this often at most that there are too many.
const SHED_EVERY: Duration = Duration::from_secs(20);

/// How long a runner-up has to become the parent: a part comes at least each second.
const EXPECTING: Duration = Duration::from_millis(1_200);

/// A lazy neighbour that was earlier than the parent, and how often in a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    slot: Slot,
    count: u8,
}

/// How many bytes/s this stream has, for the upload budget.
#[derive(Debug, Clone, Default)]
pub(super) struct Inflow {
    since: Option<Time>,
    bytes: u64,
    rate: u64,
}

impl Inflow {
    const WINDOW: Duration = Duration::from_secs(2);

    /// In bytes/s: 0 before it was measured, and once nothing has come for some windows.
    fn rate(&self, now: Time) -> u64 {
        if self.since.is_some_and(|since| now.since(since) < 4 * Self::WINDOW) { self.rate } else { 0 }
    }

    pub(super) fn add(&mut self, now: Time, bytes: u64) {
        let since = *self.since.get_or_insert(now);
        self.bytes += bytes;
        let elapsed = now.since(since);
        if elapsed >= Self::WINDOW {
            let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
            let rate = self.bytes.saturating_mul(1_000_000) / micros.max(1);
            self.rate = if self.rate == 0 { rate } else { self.rate / 2 + rate / 2 };
            (self.since, self.bytes) = (Some(now), 0);
        }
    }
}

impl Plumtree {
    /// How many bytes/s this stream has now; 0 while it isn't known.
    pub fn inflow(&self, now: Time) -> u64 {
        self.inflow.rate(now)
    }

    /// Paper: "upon event Receive(PRUNE, sender): eagerPushPeers - {sender}; lazyPushPeers + {sender}".
    pub(super) fn on_prune(&mut self, now: Time, slot: Slot) {
        self.grafted.remove(slot);
        if let Some(peer) = self.peers.get_mut(slot) {
            peer.eager = false;
            if self.config.upload.is_some() {
                peer.full_until = now + FULL_FOR;
            }
        }
        if self.parent == Some(slot) {
            self.parent = None;
        }
    }

    /// Paper: "upon event Receive(GRAFT, mID, sender): eagerPushPeers + {sender}; lazyPushPeers -
    /// {sender}; if mID in receivedMsgs: send GOSSIP". Departures: a body that is coming in, or asked
    /// for, is passed on as it comes; what isn't here is answered; children are capped.
    pub(super) fn on_graft(&mut self, now: Time, slot: Slot, id: Option<PartId>, offset: u32, join: bool) {
        if join {
            if self.is_full(now, slot) {
                if let Some(peer) = self.peers.get_mut(slot) {
                    (peer.pruned_at, peer.eager) = (Some(now), false);
                }
                self.send_prune(slot);
            } else if let Some(peer) = self.peers.get_mut(slot) {
                peer.eager = true;
            }
        }
        let Some(id) = id else { return };
        let key = Key::from(id);
        let Some(to) = self.peers.get(slot).map(|peer| peer.id) else { return };
        if self.store.get(&key).is_some() {
            self.serve(to, Some(slot), &key, offset);
        } else if let Some(assembly) = self.assemblies.get_mut(&key) {
            if assembly.source.is_some_and(|source| source.slot == slot) || offset > assembly.got {
                self.send_not_here(slot, id);
            } else if !self.config.cut_through {
                assembly.then.insert(slot);
            } else {
                self.join_assembly(to, slot, key, offset);
            }
        } else if let Some(missing) = self.missing.get_mut(&key)
            && missing.pull.is_some_and(|(asked, _)| asked != slot)
            && self.config.promise
        {
            missing.waiters.insert(slot);
        } else {
            self.send_not_here(slot, id);
        }
    }

    /// Sends a held body, from `offset` on.
    pub(super) fn serve(&mut self, to: NodeId, slot: Option<Slot>, key: &Key, offset: u32) {
        let Some(held) = self.store.get_mut(key) else { return };
        if offset > 0 && offset >= held.header.length {
            if let Some(slot) = slot {
                self.send_not_here(slot, key.id());
            }
            return;
        }
        if let Some(slot) = slot {
            held.known.insert(slot);
            held.sent.insert(slot);
        }
        let (header, trace, received) = (held.header, held.trace(), held.received);
        let body = held.body.slice(offset as usize..);
        self.stats.heads_sent += 1;
        self.outputs.push_back(Output::BodyHead { to, header, trace, offset, received });
        for at in (0..body.len()).step_by(PIECE_LEN_MAX) {
            self.send_piece(to, key.id(), body.slice(at..body.len().min(at + PIECE_LEN_MAX)));
        }
    }

    /// Departure: a late eager peer joins in out of the assembly's pieces.
    fn join_assembly(&mut self, to: NodeId, slot: Slot, key: Key, offset: u32) {
        let Some(assembly) = self.assemblies.get_mut(&key) else { return };
        assembly.told.insert(slot);
        let again = assembly.to.contains(slot);
        assembly.to.insert(slot);
        let (header, trace, received) = (assembly.header, assembly.trace.clone(), assembly.received);
        let pieces = assembly.pieces.clone();
        if again {
            // It has lost the transfer, and asks anew.
            self.outputs.push_back(Output::BodyAbort { to, id: key.id() });
        }
        self.stats.heads_sent += 1;
        self.outputs.push_back(Output::BodyHead { to, header, trace, offset, received });
        let mut skip = offset as usize;
        for piece in pieces {
            if skip >= piece.len() {
                skip -= piece.len();
                continue;
            }
            self.send_piece(to, key.id(), piece.slice(skip..));
            skip = 0;
        }
    }

    pub(super) fn send_piece(&mut self, to: NodeId, id: PartId, bytes: bytes::Bytes) {
        self.stats.bytes_sent += bytes.len() as u64;
        self.outputs.push_back(Output::BodyPiece { to, id, bytes });
    }

    /// Departure: eager children are capped to what the upload budget feeds in half of the time, so that a slow
    /// node is a leaf. Who asks again has found nobody better: then to what the budget feeds at all.
    fn is_full(&self, now: Time, asking: Slot) -> bool {
        let refused = self.peers.get(asking).and_then(|peer| peer.pruned_at).map(|at| now.since(at));
        let again = refused.is_some_and(|since| since >= INSISTS_AFTER && since < FULL_FOR);
        let Some(budget) = self.children_max() else { return false };
        let most = if again { budget.max(1) } else { budget / 2 };
        self.children().minus(PeerSet::one(asking)).len() >= most
    }

    /// How many children the upload budget feeds, once this stream's rate is known.
    fn children_max(&self) -> Option<usize> {
        let children = self.config.upload?.checked_div(self.inflow.rate)?;
        Some(usize::try_from(children).unwrap_or(usize::MAX))
    }

    fn children(&self) -> PeerSet {
        let mut children = self.peers.eager();
        if let Some(parent) = self.parent {
            children.remove(parent);
        }
        children
    }

    /// Departure: a child too many, one that hasn't been told so lately, is sent elsewhere.
    pub(super) fn shed(&mut self, now: Time) {
        let Some(budget) = self.children_max() else { return };
        let children = self.children();
        if children.len() <= budget / 2 {
            return;
        }
        let told = |slot: &Slot| {
            self.peers.get(*slot).and_then(|peer| peer.pruned_at).is_some_and(|at| now.since(at) < SHED_EVERY)
        };
        let Some(slot) = children.iter().find(|slot| !told(slot)) else { return };
        if let Some(peer) = self.peers.get_mut(slot) {
            (peer.pruned_at, peer.eager) = (Some(now), false);
        }
        self.send_prune(slot);
    }

    /// Paper: "if mID in receivedMsgs: eagerPushPeers - {sender}; lazyPushPeers + {sender}; send
    /// PRUNE". Departures: not twice within `prune_interval`, and `eager_min` links stay.
    pub(super) fn prune(&mut self, now: Time, slot: Slot) {
        let others = self.peers.eager().minus(PeerSet::one(slot)).len();
        let Some(peer) = self.peers.get_mut(slot) else { return };
        if others < self.config.eager_min || peer.pruned_at.is_some_and(|at| now.since(at) < self.config.prune_interval)
        {
            return;
        }
        peer.pruned_at = Some(now);
        peer.eager = false;
        self.grafted.remove(slot);
        if self.parent == Some(slot) {
            self.parent = None;
        }
        self.send_prune(slot);
    }

    fn send_prune(&mut self, slot: Slot) {
        let Some(to) = self.peers.get(slot).map(|peer| peer.id) else { return };
        self.stats.prunes_sent += 1;
        self.outputs.push_back(Output::Send { to, message: Message::Prune });
    }

    /// Paper, "Optimization": on the first copy of a message, a lazy neighbour that announced it over
    /// a shorter way takes the sender's place. Departure: on measured time.
    pub(super) fn optimise(&mut self, now: Time, slot: Slot, hops: u8, missing: &Missing) {
        let better = match self.config.optimise {
            Optimise::Off => None,
            // Paper: "if exists (id, node, r) in missing with id = mID, r < round and round - r >=
            // threshold". Our `hops` counts the last link, too.
            Optimise::Hops { threshold } => missing
                .nearest
                .filter(|(_, r)| hops.saturating_sub(1).saturating_sub(*r) >= threshold)
                .map(|(node, _)| node),
            Optimise::Time { margin, samples } => {
                let tail = |slot: Slot| slow_tail(missing.length, self.peers.get(slot).map_or(0, |peer| peer.rate));
                let whole = now + tail(slot);
                let earlier = missing.first.filter(|(node, at)| whole.since(*at + tail(*node)) >= margin);
                let earlier = earlier.map(|(node, _)| node);
                self.candidate = earlier.map(|node| match self.candidate {
                    Some(candidate) if candidate.slot == node => {
                        Candidate { slot: node, count: candidate.count.saturating_add(1) }
                    }
                    _ => Candidate { slot: node, count: 1 },
                });
                self.candidate.filter(|candidate| candidate.count >= samples).map(|candidate| candidate.slot)
            }
        };
        if let Some(better) = better.filter(|better| *better != slot) {
            self.exchange_parent(now, slot, better);
        }
    }

    /// Departure: a body comes slowly, and another neighbour has it as well. One that is likely to have brought it
    /// whole by then becomes the parent, before this one makes all bodies late. Not one below us in the tree: its
    /// copy has passed more links than ours, and begun later.
    pub(super) fn leave_slow_parent(&mut self, now: Time, key: &Key, slot: Slot, other: Slot, announce: &Announce) {
        let Optimise::Time { margin, .. } = self.config.optimise else { return };
        let Some(assembly) = self.assemblies.get(key).filter(|_| self.parent == Some(slot)) else { return };
        let (received, hops) = (assembly.received, hops_of(&assembly.trace));
        let link = Duration::from_micros(self.peers.get(other).map_or(0, |peer| u64::from(peer.rtt_us)) / 2);
        let began = now - Duration::from_micros(u64::from(announce.age_us)) - link;
        if announce.hops > hops && began >= received {
            return;
        }
        let tail = |slot: Slot| slow_tail(announce.length, self.peers.get(slot).map_or(0, |peer| peer.rate));
        let age = Duration::from_micros(u64::from(announce.age_us));
        let (here, there) = (tail(slot), tail(other));
        if !here.is_zero() && now - age + there + margin <= received + here {
            self.exchange_parent(now, slot, other);
        }
    }

    fn exchange_parent(&mut self, now: Time, slot: Slot, better: Slot) {
        let Some(peer) = self.peers.get_mut(better) else { return };
        if peer.full_until > now {
            return;
        }
        // Paper: "trigger Send(GRAFT, node, null, myself); trigger Send(PRUNE, sender, myself)".
        peer.eager = true;
        let to = peer.id;
        self.grafted.insert(better);
        self.send_graft(to, None, 0, true);
        self.prune(now, slot);
        self.candidate = None;
        self.stats.optimisations += 1;
        self.parent = Some(better);
    }

    /// A neighbour is gone or its slot is reused: nothing points there any more.
    pub(super) fn tree_without(&mut self, slot: Slot) {
        self.grafted.remove(slot);
        if self.parent == Some(slot) {
            self.parent = None;
        }
        if self.candidate.is_some_and(|candidate| candidate.slot == slot) {
            self.candidate = None;
        }
        if self.runner_up.is_some_and(|(_, runner_up)| runner_up == slot) {
            self.runner_up = None;
        }
    }

    /// Remembers who announced the newest part first. Not a node below us in the tree: its copy has
    /// passed more links than ours.
    pub(super) fn note_runner_up(&mut self, key: Key, slot: Slot, hops: u8) {
        let ours = match (self.store.get(&key), self.assemblies.get(&key)) {
            (Some(held), _) => held.hops,
            (None, Some(assembly)) => hops_of(&assembly.trace),
            (None, None) => u8::MAX,
        };
        let newer = self.runner_up.is_none_or(|(old, _)| key.position() > old.position());
        if newer && hops <= ours && self.parent != Some(slot) {
            self.runner_up = Some((key, slot));
        }
    }

    /// Departure: when the parent is lost, its runner-up is grafted at once, and the next part comes
    /// without anybody's asking.
    pub(super) fn replace_parent(&mut self, now: Time) {
        if !self.config.replace_parent {
            return;
        }
        let Some((_, slot)) = self.runner_up else { return };
        let Some(peer) = self.peers.get_mut(slot).filter(|peer| peer.full_until <= now) else { return };
        peer.eager = true;
        let to = peer.id;
        self.grafted.insert(slot);
        self.send_graft(to, None, 0, true);
        self.expecting_until = now + EXPECTING;
    }

    pub(super) fn send_not_here(&mut self, slot: Slot, id: PartId) {
        if let Some(to) = self.peers.get(slot).map(|peer| peer.id) {
            self.send_not_here_to(to, id);
        }
    }

    pub(super) fn send_not_here_to(&mut self, to: NodeId, id: PartId) {
        if self.config.not_here {
            self.stats.not_here_sent += 1;
            self.outputs.push_back(Output::Send { to, message: Message::NotHere { id } });
        }
    }
}
