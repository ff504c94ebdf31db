//! Bodies on their way in and out: heads, pieces, and what tears them.

use bytes::Bytes;

use super::deadlines::Timer;
use super::io::Output;
use super::key::Key;
use super::message::Announce;
use super::neighbours::{PeerSet, Slot};
use super::plumtree::{Plumtree, announce_of, hops_of};
use super::transfers::{ASSEMBLIES_MAX, ASSEMBLY_BYTES_MAX, Added, Assembly, Source};
use crate::model::part_header::BODY_LEN_MAX;
use crate::model::time::Time;
use crate::model::{NodeId, PartHeader, PartId, Trace};

/// A torn body is kept for this many stalls, for somebody to go on with it.
const ORPHAN_STALLS: u32 = 12;

/// While its peer sends other bodies, a body may stand still for this many stalls.
const SHARED_STALLS: u32 = 4;

impl Plumtree {
    /// Paper: "upon event Receive(GOSSIP, m, mID, round, sender)", as far as the header says.
    pub(super) fn on_head(&mut self, now: Time, from: NodeId, header: PartHeader, trace: Trace, offset: u32) {
        self.stats.heads_received += 1;
        let id = header.id;
        let key = Key::from(id);
        let Some(slot) = self.peers.slot(from) else {
            self.stats.strangers += 1;
            self.refuse(from, id);
            return;
        };
        if header.length > BODY_LEN_MAX || trace.hops.len() > Trace::HOPS_MAX || (offset > 0 && offset >= header.length)
        {
            self.refuse(from, id);
            self.drop_holder(now, key, slot);
            return;
        }
        if !self.store.wants(&key) {
            self.stats.stale += 1;
            self.refuse(from, id);
            return;
        }
        if let Some(held) = self.store.get_mut(&key) {
            held.known.insert(slot);
            let same = held.header.hash == header.hash;
            self.refuse_duplicate(now, slot, from, id, same);
            return;
        }
        if let Some(assembly) = self.assemblies.get_mut(&key) {
            let same = assembly.header == header;
            match assembly.source {
                Some(source) if source.slot != slot || !same => {
                    assembly.holders.insert(slot);
                    self.refuse_duplicate(now, slot, from, id, same);
                }
                _ if !same || offset > assembly.got => {
                    self.stats.conflicts += u64::from(!same);
                    self.refuse(from, id);
                    self.drop_holder(now, key, slot);
                }
                _ => self.resume(now, slot, key, offset),
            }
            return;
        }
        let under_way: u64 = self.assemblies.values().map(|assembly| u64::from(assembly.header.length)).sum();
        let full = self.assemblies.len() >= ASSEMBLIES_MAX
            || (under_way > 0 && under_way + u64::from(header.length) > ASSEMBLY_BYTES_MAX);
        if offset > 0 || full {
            self.stats.overloads += u64::from(full);
            self.refuse(from, id);
            self.drop_holder(now, key, slot);
            return;
        }
        self.begin(now, slot, key, header, trace);
    }

    /// Paper: "else (mID in receivedMsgs): ... trigger Send(PRUNE, sender, myself)". Departure: known
    /// from the header, the body isn't taken.
    fn refuse_duplicate(&mut self, now: Time, slot: Slot, from: NodeId, id: PartId, same: bool) {
        // Equal ids with different hashes: the first is kept, the other counted, never spliced.
        self.stats.conflicts += u64::from(!same);
        self.stats.duplicates += 1;
        if self.config.refuse_duplicates {
            self.refuse(from, id);
        }
        if self.parent != Some(slot) {
            self.prune(now, slot);
        }
    }

    fn refuse(&mut self, from: NodeId, id: PartId) {
        self.outputs.push_back(Output::BodyRefuse { from, id });
    }

    /// Paper: "if mID not in receivedMsgs: ... if exists (id, node, r) in missing with id = mID: cancel
    /// Timer(mID); EagerPush; LazyPush; eagerPushPeers + {sender}; lazyPushPeers - {sender};
    /// Optimization".
    fn begin(&mut self, now: Time, slot: Slot, key: Key, header: PartHeader, trace: Trace) {
        let missing = self.found(&key);
        let pulled = missing.as_ref().is_some_and(|missing| missing.pull.is_some_and(|(asked, _)| asked == slot));
        let hops = hops_of(&trace);
        self.grafted.remove(slot);
        self.backoff = if pulled { 0 } else { self.backoff.saturating_sub(1) };
        if let Some(peer) = self.peers.get_mut(slot) {
            peer.bytes_at = now;
            if !pulled {
                peer.eager = true;
            }
            if peer.eager {
                self.parent = Some(slot);
            }
        }
        let mut assembly = Assembly::new(header, trace, slot, now);
        if let Some(missing) = &missing {
            assembly.holders = missing.holders;
            if !pulled {
                if let Some((_, first)) = missing.first {
                    self.lag.add(now.since(first));
                }
                self.optimise(now, slot, hops, missing);
            }
        }
        assembly.holders.insert(slot);
        let waiters = missing.map_or(PeerSet::default(), |missing| missing.waiters);
        let holders = assembly.holders;
        self.assemblies.insert(key, assembly);
        self.timers.arm(Timer::Stall, now + self.config.stall);
        if self.config.cut_through {
            self.forward(&key, holders, waiters);
            if header.length > self.config.receiving_above {
                self.tell_receiving(now, &key);
            }
        } else if let Some(assembly) = self.assemblies.get_mut(&key) {
            assembly.then = waiters;
        }
        if header.length == 0 {
            self.complete(now, key);
        }
    }

    /// Paper: "procedure EagerPush: for all p in eagerPushPeers, p != sender: Send(GOSSIP)". Departures:
    /// nothing to those who said that they have it or get it, whose link is then no tree link unless they feed us,
    /// or are about to; those who asked get it, too.
    fn forward(&mut self, key: &Key, holders: PeerSet, waiters: PeerSet) {
        let eager = self.peers.eager();
        let Some(assembly) = self.assemblies.get_mut(key) else { return };
        let source = assembly.source.map(|source| source.slot);
        let mut to = eager.minus(holders).union(waiters);
        if let Some(source) = source {
            to.remove(source);
        }
        assembly.to = to;
        let (header, trace, received) = (assembly.header, assembly.trace.clone(), assembly.received);
        let mut feeders = self.grafted;
        for feeder in [source, self.parent].into_iter().flatten() {
            feeders.insert(feeder);
        }
        for slot in eager.minus(to).minus(feeders).iter() {
            if let Some(peer) = self.peers.get_mut(slot) {
                peer.eager = false;
            }
        }
        for slot in to.iter() {
            let Some(peer) = self.peers.get(slot) else { continue };
            self.stats.heads_sent += 1;
            self.outputs.push_back(Output::BodyHead { to: peer.id, header, trace: trace.clone(), offset: 0, received });
        }
    }

    /// Departure: RECEIVING to all who neither get this body from here nor have it.
    pub(super) fn tell_receiving(&mut self, now: Time, key: &Key) {
        let all = self.peers.all();
        let (announce, tell) = if let Some(assembly) = self.assemblies.get_mut(key) {
            let tell = all.minus(assembly.to).minus(assembly.holders).minus(assembly.told);
            assembly.told = assembly.told.union(tell);
            (announce_of(now, key, &assembly.header, hops_of(&assembly.trace), assembly.received), tell)
        } else if let Some(held) = self.store.get_mut(key) {
            let tell = all.minus(held.known);
            held.known = held.known.union(tell);
            (announce_of(now, key, &held.header, held.hops, held.received), tell)
        } else {
            return;
        };
        for slot in tell.iter() {
            self.send_receiving(slot, announce);
        }
    }

    /// A neighbour gets this body from somebody else: it needn't come from here.
    pub(super) fn on_receiving(&mut self, now: Time, slot: Slot, announce: &Announce) {
        let id = announce.id;
        let key = Key::from(id);
        let Some(to) = self.peers.get(slot).map(|peer| peer.id) else { return };
        let under_way = if let Some(assembly) = self.assemblies.get_mut(&key) {
            let under_way = assembly.to.contains(slot);
            assembly.to.remove(slot);
            under_way
        } else {
            self.store.get_mut(&key).is_some_and(|held| {
                let under_way = held.sent.contains(slot);
                held.sent.remove(slot);
                under_way
            })
        };
        if under_way {
            self.outputs.push_back(Output::BodyAbort { to, id });
            // It has a parent, and it isn't this node.
            if self.parent != Some(slot)
                && !self.grafted.contains(slot)
                && let Some(peer) = self.peers.get_mut(slot)
            {
                peer.eager = false;
            }
        }
        self.on_announce(now, slot, announce);
    }

    fn resume(&mut self, now: Time, slot: Slot, key: Key, offset: u32) {
        let missing = self.found(&key);
        let Some(assembly) = self.assemblies.get_mut(&key) else { return };
        if let Some(missing) = missing {
            assembly.holders = assembly.holders.union(missing.holders);
        }
        assembly.holders.insert(slot);
        assembly.source = Some(Source { slot, at: offset, moved: now });
        self.stats.resumed += 1;
        if let Some(peer) = self.peers.get_mut(slot) {
            peer.bytes_at = now;
            if peer.eager {
                self.parent = Some(slot);
            }
        }
        self.timers.arm(Timer::Stall, now + self.config.stall);
    }

    pub(super) fn on_piece(&mut self, now: Time, from: NodeId, id: PartId, bytes: Bytes) {
        self.stats.bytes_received += bytes.len() as u64;
        let Some(slot) = self.peers.slot(from) else { return };
        let key = Key::from(id);
        // Pieces of a refused body are on their way until the refusal has arrived.
        let Some(assembly) = self.assemblies.get_mut(&key) else { return };
        if assembly.source.is_none_or(|source| source.slot != slot) {
            return;
        }
        if let Some(peer) = self.peers.get_mut(slot) {
            peer.bytes_at = now;
        }
        let (new, whole) = match assembly.add(now, bytes) {
            Added::Known => return,
            Added::More(new) => (new, false),
            Added::Last(new) => (new, true),
            Added::Absurd => {
                self.refuse(from, id);
                self.tear(now, key, slot);
                return;
            }
        };
        for child in assembly.to.iter() {
            let Some(to) = self.peers.get(child).map(|peer| peer.id) else { continue };
            self.stats.bytes_sent += new.len() as u64;
            self.outputs.push_back(Output::BodyPiece { to, id, bytes: new.clone() });
        }
        if whole {
            self.complete(now, key);
        }
    }

    /// The last byte is here.
    fn complete(&mut self, now: Time, key: Key) {
        let Some(assembly) = self.assemblies.remove(&key) else { return };
        if self.assemblies.is_empty() {
            self.timers.cancel(Timer::Stall);
        }
        let body = assembly.join();
        if !assembly.header.matches(&body) {
            // Departure: the hash is checked before the body is used. Those who got its pieces find
            // out themselves; who of its senders is to blame can't be told apart, the last is asked last.
            self.stats.hash_mismatches += 1;
            self.abort_children(&assembly);
            let mut holders = assembly.holders;
            let failed = assembly.source.map_or(0, |source| source.slot);
            holders.remove(failed);
            self.miss_again(now, key, assembly.header.length, holders, failed);
            return;
        }
        if let Some(source) = assembly.source {
            self.measure(now, source.slot, &assembly);
        }
        let known = assembly.holders.union(assembly.told).union(assembly.to);
        let to = if self.config.cut_through {
            PeerSet::default()
        } else {
            self.peers.eager().minus(assembly.holders).union(assembly.then)
        };
        let sent = assembly.to;
        self.keep(now, key, assembly.header, body, assembly.trace, assembly.received, known.minus(to), to);
        if let Some(held) = self.store.get_mut(&key) {
            held.sent = held.sent.union(sent);
        }
    }

    /// What a body's way from its first byte to its last says of the neighbour that sent it.
    fn measure(&mut self, now: Time, slot: Slot, assembly: &Assembly) {
        let Ok(took @ 1..) = u64::try_from(now.since(assembly.received).as_micros()) else { return };
        let rate = u64::from(assembly.header.length) * 1_000_000 / took;
        if let Some(peer) = self.peers.get_mut(slot) {
            // The mean of the time a byte takes, not of the rate: one slow body counts for what it costs.
            let old = u128::from(peer.rate);
            let mean = 4 * old * u128::from(rate) / (3 * u128::from(rate) + old).max(1);
            peer.rate = if peer.rate == 0 { rate } else { u64::try_from(mean).unwrap_or(u64::MAX) };
        }
    }

    fn abort_children(&mut self, assembly: &Assembly) {
        for slot in assembly.to.iter() {
            if let Some(to) = self.peers.get(slot).map(|peer| peer.id) {
                self.outputs.push_back(Output::BodyAbort { to, id: assembly.header.id });
            }
        }
        for slot in assembly.then.iter() {
            self.send_not_here(slot, assembly.header.id);
        }
    }

    /// Drops a body that is coming in: nobody wants it any more.
    pub(super) fn drop_assembly(&mut self, key: &Key) {
        let Some(assembly) = self.assemblies.remove(key) else { return };
        if let Some(from) = assembly.source.and_then(|source| self.peers.get(source.slot)).map(|peer| peer.id) {
            self.refuse(from, key.id());
        }
        self.abort_children(&assembly);
    }

    pub(super) fn on_torn(&mut self, now: Time, from: NodeId, id: PartId) {
        let Some(slot) = self.peers.slot(from) else { return };
        let key = Key::from(id);
        if self.assemblies.get(&key).is_some_and(|assembly| assembly.source.is_some_and(|at| at.slot == slot)) {
            self.tear(now, key, slot);
        } else {
            // Asked for, and expired before it began.
            self.drop_holder(now, key, slot);
        }
    }

    /// The transfer from `slot` has ended early. Departure: it goes on at its offset, elsewhere.
    fn tear(&mut self, now: Time, key: Key, slot: Slot) {
        self.stats.torn += 1;
        let Some(assembly) = self.assemblies.get_mut(&key) else { return };
        assembly.source = None;
        assembly.holders.remove(slot);
        let (length, holders) = (assembly.header.length, assembly.holders);
        if !self.config.resume
            && let Some(assembly) = self.assemblies.remove(&key)
        {
            self.abort_children(&assembly);
        }
        self.miss_again(now, key, length, holders, slot);
        self.timers.arm(Timer::Stall, now + self.config.stall);
    }

    /// A neighbour is gone, and its transfers both ways with it.
    pub(super) fn assemblies_without(&mut self, now: Time, slot: Slot) {
        let keys: Vec<Key> = self.assemblies.keys().copied().collect();
        for key in keys {
            let Some(assembly) = self.assemblies.get_mut(&key) else { continue };
            let sending = assembly.to.contains(slot);
            assembly.to.remove(slot);
            assembly.then.remove(slot);
            assembly.told.remove(slot);
            assembly.holders.remove(slot);
            let receiving = assembly.source.is_some_and(|source| source.slot == slot);
            // The link may outlive the neighbourhood: other swarms use it.
            let Some(peer) = self.peers.get(slot).map(|peer| peer.id) else { continue };
            if sending {
                self.outputs.push_back(Output::BodyAbort { to: peer, id: key.id() });
            }
            if receiving {
                self.refuse(peer, key.id());
                self.tear(now, key, slot);
            }
        }
    }

    /// A peer has refused a body of ours, or the link's queue has dropped it. If it was dropped, the
    /// peer has yet to learn of it.
    pub(super) fn on_stopped(&mut self, now: Time, to: NodeId, id: PartId) {
        self.stats.stopped += 1;
        let Some(slot) = self.peers.slot(to) else { return };
        let key = Key::from(id);
        if let Some(assembly) = self.assemblies.get_mut(&key) {
            assembly.to.remove(slot);
            assembly.told.remove(slot);
        } else if let Some(held) = self.store.get_mut(&key) {
            held.sent.remove(slot);
            held.known.remove(slot);
            self.announce(now, key);
        }
    }

    /// Bodies that stand still are asked for elsewhere; torn ones that nobody goes on with are dropped.
    pub(super) fn on_stall_timer(&mut self, now: Time) {
        let stall = self.config.stall;
        let mut stuck: Vec<(Key, Slot)> = Vec::new();
        let mut orphans: Vec<Key> = Vec::new();
        let mut next = Time::MAX;
        for (key, assembly) in &self.assemblies {
            let due = match assembly.source {
                Some(source) => {
                    let peer_moved = self.peers.get(source.slot).map_or(Time::ZERO, |peer| peer.bytes_at);
                    let due = (peer_moved + stall).min(source.moved + stall * SHARED_STALLS);
                    let due = due.max(source.moved + stall);
                    let elsewhere = assembly.holders.minus(PeerSet::one(source.slot));
                    if due <= now && !elsewhere.is_empty() {
                        stuck.push((*key, source.slot));
                    }
                    if due <= now { now + stall } else { due }
                }
                None => {
                    let due = assembly.received + stall * ORPHAN_STALLS;
                    if due <= now && !self.missing.contains_key(key) {
                        orphans.push(*key);
                    }
                    if due <= now { now + stall } else { due }
                }
            };
            next = next.min(due);
        }
        for (key, slot) in stuck {
            if let Some(from) = self.peers.get(slot).map(|peer| peer.id) {
                self.refuse(from, key.id());
            }
            self.tear(now, key, slot);
        }
        for key in orphans {
            self.drop_assembly(&key);
        }
        if !self.assemblies.is_empty() {
            self.timers.arm(Timer::Stall, next);
        }
    }
}
