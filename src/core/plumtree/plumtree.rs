//! The state, and what leads where.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::config::Config;
use super::counters::Stats;
use super::deadlines::{Timer, Timers};
use super::io::{Input, Output};
use super::key::Key;
use super::message::{Announce, HOPS_UNKNOWN, IHAVE_IDS_MAX, Message};
use super::neighbours::{PeerSet, Peers, Slot};
use super::pulls::{Lag, Missing};
use super::store::{Held, Store};
use super::transfers::Assembly;
use super::tree::{Candidate, Inflow};
use crate::model::time::Time;
use crate::model::{Msn, NodeId, PartHeader, Trace, TrackId};

/// Most bodies whose announcement waits; the oldest are left to the digests.
pub const ANNOUNCE_MAX: usize = 1_024;

/// Neighbours lost within this time are lost to one event, and who is left is asked as announcements come.
const SEPARATE: std::time::Duration = std::time::Duration::from_secs(3);

/// One node's Plumtree in one swarm.
#[derive(Debug, Clone)]
pub struct Plumtree {
    pub(super) me: NodeId,
    pub(super) config: Config,
    pub(super) rng: SmallRng,
    /// The paper's eagerPushPeers and lazyPushPeers.
    pub(super) peers: Peers,
    /// The paper's receivedMsgs, with the messages.
    pub(super) store: Store,
    /// Bodies coming in.
    pub(super) assemblies: BTreeMap<Key, Assembly>,
    /// The paper's missing set.
    pub(super) missing: BTreeMap<Key, Missing>,
    /// The paper's lazyQueues: bodies that some neighbours are to be told of.
    announce: VecDeque<Key>,
    /// The neighbour that feeds us: whose copy of a body came first, over an eager link.
    pub(super) parent: Option<Slot>,
    /// Neighbours that were asked to feed us, and have neither sent a body nor refused since.
    pub(super) grafted: PeerSet,
    pub(super) candidate: Option<Candidate>,
    /// The neighbour that announced the newest part first: it takes the place of a parent that is lost.
    pub(super) runner_up: Option<(Key, Slot)>,
    /// It was asked to, and has until then to show that it does.
    pub(super) expecting_until: Time,
    /// When a neighbour was last lost.
    last_down: Option<Time>,
    pub(super) lag: Lag,
    /// How often the patience with pulls was doubled, and until when it isn't again.
    pub(super) backoff: u8,
    pub(super) backoff_until: Time,
    pub(super) inflow: Inflow,
    /// What [`Plumtree::tree_changed`] saw last.
    told_eager: Option<PeerSet>,
    /// A pull has ended: another may begin.
    pub(super) pull_freed: bool,
    /// Whether digests go round at all.
    pub(super) digest_armed: bool,
    /// Whose turn it is to get one.
    pub(super) digest_turn: u8,
    /// How many digest rounds ago anything changed.
    pub(super) idle_rounds: u8,
    pub(super) timers: Timers,
    pub(super) outputs: VecDeque<Output>,
    pub(super) stats: Stats,
}

impl Plumtree {
    /// A node without neighbours. `seed` fixes all of its choices.
    pub fn new(me: NodeId, config: Config, seed: u64) -> Self {
        Plumtree {
            me,
            config,
            rng: SmallRng::seed_from_u64(seed),
            peers: Peers::default(),
            store: Store::default(),
            assemblies: BTreeMap::new(),
            missing: BTreeMap::new(),
            announce: VecDeque::new(),
            parent: None,
            grafted: PeerSet::default(),
            candidate: None,
            runner_up: None,
            expecting_until: Time::ZERO,
            last_down: None,
            lag: Lag::default(),
            backoff: 0,
            backoff_until: Time::ZERO,
            inflow: Inflow::default(),
            told_eager: None,
            pull_freed: false,
            digest_armed: false,
            digest_turn: 0,
            idle_rounds: 0,
            timers: Timers::default(),
            outputs: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// Takes one input at `now`, which never goes back.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Timeout => {}
            Input::NeighborUp(peer) => self.on_neighbor_up(now, peer),
            Input::NeighborDown(peer) => self.on_neighbor_down(now, peer),
            Input::Publish { header, body, trace } => self.on_publish(now, header, body, trace),
            Input::Message { from, message } => self.on_message(now, from, message),
            Input::BodyHead { from, header, trace, offset } => self.on_head(now, from, header, trace, offset),
            Input::BodyPiece { from, id, bytes } => self.on_piece(now, from, id, bytes),
            Input::BodyTorn { from, id } => self.on_torn(now, from, id),
            Input::BodyStopped { to, id } => self.on_stopped(now, to, id),
            Input::LinkEstimate { peer, rtt_us, rate } => {
                if let Some(peer) = self.peers.slot(peer).and_then(|slot| self.peers.get_mut(slot)) {
                    (peer.rtt_us, peer.rate) = (rtt_us, rate);
                }
            }
            Input::Forget { track, before } => self.on_forget(track, before),
        }
        for timer in Timer::ALL {
            if self.timers.expired(timer, now) {
                match timer {
                    Timer::Announce => self.flush_announcements(now),
                    Timer::Graft => self.on_graft_timer(now),
                    Timer::Stall => self.on_stall_timer(now),
                    Timer::Digest => self.on_digest_timer(now),
                }
            }
        }
        if std::mem::take(&mut self.pull_freed) && !self.missing.is_empty() {
            self.on_graft_timer(now);
        }
    }

    /// The next thing to do, until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        let next = self.outputs.pop_front();
        if next.is_none() {
            // Ten thousand idle nodes' buffers are memory, and cold.
            self.outputs = VecDeque::new();
        }
        next
    }

    /// When [`Input::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.next()
    }

    /// What was counted.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The neighbours, with whether the link is eager (in the paper's eagerPushPeers).
    pub fn neighbours(&self) -> impl Iterator<Item = (NodeId, bool)> {
        self.peers.all().iter().filter_map(|slot| self.peers.get(slot).map(|peer| (peer.id, peer.eager)))
    }

    /// Changes settings while it runs.
    pub fn configure(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
    }

    /// Whether other links than when this was last asked are eager.
    pub fn tree_changed(&mut self) -> bool {
        let eager = self.peers.eager();
        self.told_eager.replace(eager) != Some(eager)
    }

    /// The neighbour that feeds this node, as far as it is known.
    pub fn parent(&self) -> Option<NodeId> {
        self.parent.and_then(|slot| self.peers.get(slot)).map(|peer| peer.id)
    }

    /// How much is remembered: bodies held, their bytes, bodies coming in, bodies missing.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            held: self.store.len(),
            held_bytes: self.store.bytes(),
            assemblies: self.assemblies.len(),
            missing: self.missing.len(),
            announcements: self.announce.len(),
        }
    }

    /// Paper: "upon event NeighborUp(node): eagerPushPeers + {node}". Departures: the link starts lazy,
    /// and all that is held is announced.
    fn on_neighbor_up(&mut self, now: Time, id: NodeId) {
        if id == self.me {
            return;
        }
        let Some(slot) = self.peers.add(id, !self.config.lazy_start) else {
            self.stats.bounds_hit += u64::from(self.peers.slot(id).is_none());
            return;
        };
        if self.config.offer_window {
            let coming = self.assemblies.iter().map(|(key, assembly)| (*key, assembly.header.length, now));
            let held = self.store.iter().map(|(key, held)| (*key, held.header.length, held.received));
            let mut offer: Vec<(Key, u32, Time)> = held.chain(coming).collect();
            offer.sort_by_key(|(key, ..)| key.urgency());
            // Nothing of an offer says when a body was had first: it is no candidate for optimisation.
            let offer: Vec<Announce> = offer
                .into_iter()
                .map(|(key, length, _)| Announce { id: key.id(), length, hops: HOPS_UNKNOWN, age_us: 0 })
                .collect();
            self.send_ihaves(slot, &offer);
            for (_, held) in self.store.iter_mut() {
                held.known.insert(slot);
            }
            for assembly in self.assemblies.values_mut() {
                assembly.told.insert(slot);
            }
        }
        self.arm_digest(now);
    }

    /// Paper: "upon event NeighborDown(node): eagerPushPeers - {node}; lazyPushPeers - {node}; for all
    /// (i, n, r) in missing with n = node: missing - {(i, n, r)}".
    fn on_neighbor_down(&mut self, now: Time, id: NodeId) {
        let Some(slot) = self.peers.slot(id) else { return };
        let parent = self.parent == Some(slot);
        self.tree_without(slot);
        self.assemblies_without(now, slot);
        self.missing_without(now, slot, parent);
        self.store.clear_peer(slot);
        self.peers.remove(slot);
        self.told_eager = None;
        let alone = self.last_down.is_none_or(|last| now.since(last) > SEPARATE);
        self.last_down = Some(now);
        self.expecting_until = Time::ZERO;
        if parent && alone {
            self.replace_parent(now);
        }
    }

    fn on_message(&mut self, now: Time, from: NodeId, message: Message) {
        if matches!(message, Message::Graft { .. }) {
            self.stats.grafts_received += 1;
        }
        let Some(slot) = self.peers.slot(from) else {
            self.on_stranger(from, message);
            return;
        };
        match message {
            Message::Ihave(announces) => {
                for announce in announces.iter().take(IHAVE_IDS_MAX) {
                    self.on_announce(now, slot, announce);
                }
            }
            Message::Graft { id, offset, join } => self.on_graft(now, slot, id, offset, join),
            Message::Prune => self.on_prune(now, slot),
            Message::NotHere { id } => self.on_not_here(now, slot, id),
            Message::Receiving(announce) => self.on_receiving(now, slot, &announce),
            Message::Digest(tracks) => self.on_digest(now, slot, &tracks),
        }
    }

    /// A node that is no neighbour (or is one on its side only, for the moment) enters no set. Its
    /// GRAFT is answered, since it may be waiting.
    fn on_stranger(&mut self, from: NodeId, message: Message) {
        self.stats.strangers += 1;
        if let Message::Graft { id: Some(id), offset, .. } = message {
            let key = Key::from(id);
            if self.store.get(&key).is_some_and(|held| offset == 0 || offset < held.header.length) {
                self.serve(from, None, &key, offset);
            } else {
                self.send_not_here_to(from, id);
            }
        }
    }

    /// Paper: "upon event Broadcast(m): mID <- hash(m + myself); EagerPush(m, mID, 0, myself);
    /// LazyPush(m, mID, 0, myself); Deliver(m); receivedMsgs + {mID}". Departure: ids are positions.
    fn on_publish(&mut self, now: Time, header: PartHeader, body: Bytes, trace: Trace) {
        let key = Key::from(header.id);
        // The ingest has just hashed this body; hashing it again would cost the first hop its time.
        let fits = body.len() == header.length as usize;
        if !fits || self.store.get(&key).is_some() || !self.store.wants(&key) {
            self.stats.conflicts += 1;
            return;
        }
        self.stats.published += 1;
        if self.assemblies.contains_key(&key) {
            self.drop_assembly(&key);
        }
        if let Some(missing) = self.found(&key) {
            self.stats.conflicts += 1;
            for slot in missing.waiters.iter() {
                self.send_not_here(slot, key.id());
            }
        }
        let targets = self.peers.eager();
        self.keep(now, key, header, body, trace, now, PeerSet::default(), targets);
    }

    /// EagerPush of a whole body to `to`, LazyPush, Deliver.
    #[expect(clippy::too_many_arguments, reason = "a body and what is known of it, once")]
    pub(super) fn keep(
        &mut self,
        now: Time,
        key: Key,
        header: PartHeader,
        body: Bytes,
        trace: Trace,
        received: Time,
        known: PeerSet,
        to: PeerSet,
    ) {
        self.stats.delivered += 1;
        self.inflow.add(now, body.len() as u64);
        self.shed(now);
        self.idle_rounds = 0;
        let held = Held::new(header, body.clone(), &trace, received, known);
        if self.store.insert(key, held, self.config.held_bytes_max) {
            self.drop_unwanted();
        }
        for slot in to.minus(known).iter() {
            if let Some(id) = self.peers.get(slot).map(|peer| peer.id) {
                self.serve(id, Some(slot), &key, 0);
            }
        }
        if header.length > self.config.receiving_above && trace.hops.is_empty() {
            self.tell_receiving(now, &key);
        }
        self.announce(now, key);
        self.arm_digest(now);
        self.outputs.push_back(Output::Deliver { header, body, trace, received });
    }

    /// Paper: "procedure LazyPush: lazyQueues + {(mID, round, p)}; dispatch()".
    pub(super) fn announce(&mut self, now: Time, key: Key) {
        let Some(held) = self.store.get(&key) else { return };
        if self.peers.all().minus(held.known).is_empty() {
            return;
        }
        self.announce.push_back(key);
        if self.announce.len() > ANNOUNCE_MAX {
            self.stats.bounds_hit += 1;
            self.announce.pop_front();
        }
        // Where nobody is fed from here the announcement is what spreads the body.
        let fed = self.peers.eager().iter().any(|slot| Some(slot) != self.parent);
        let delay = if fed { self.config.ihave_delay } else { std::time::Duration::ZERO };
        self.timers.arm(Timer::Announce, now + delay);
    }

    /// Paper: "dispatch: the IHAVE messages of the lazy queues are sent, aggregated by the policy".
    /// Departure: nothing to those who have told that they have it.
    fn flush_announcements(&mut self, now: Time) {
        let queue = std::mem::take(&mut self.announce);
        for slot in self.peers.all().iter() {
            let mut announces = Vec::new();
            for key in &queue {
                if let Some(held) = self.store.get_mut(key)
                    && !held.known.contains(slot)
                {
                    held.known.insert(slot);
                    announces.push(announce_of(now, key, &held.header, held.hops, held.received));
                }
            }
            self.send_ihaves(slot, &announces);
        }
    }

    pub(super) fn send_ihaves(&mut self, slot: Slot, announces: &[Announce]) {
        let Some(to) = self.peers.get(slot).map(|peer| peer.id) else { return };
        for batch in announces.chunks(IHAVE_IDS_MAX) {
            self.stats.ihaves_sent += 1;
            self.stats.announces_sent += batch.len() as u64;
            self.outputs.push_back(Output::Send { to, message: Message::Ihave(batch.to_vec()) });
        }
    }

    pub(super) fn send_receiving(&mut self, slot: Slot, announce: Announce) {
        let Some(to) = self.peers.get(slot).map(|peer| peer.id) else { return };
        self.stats.receivings_sent += 1;
        self.outputs.push_back(Output::Send { to, message: Message::Receiving(announce) });
    }

    fn on_forget(&mut self, track: TrackId, before: Msn) {
        self.store.forget(track, before);
        self.drop_unwanted();
    }

    /// The store wants less than before: what is under way is dropped accordingly.
    pub(super) fn drop_unwanted(&mut self) {
        let assemblies: Vec<Key> = self.assemblies.keys().filter(|key| !self.store.wants(key)).copied().collect();
        for key in assemblies {
            self.drop_assembly(&key);
        }
        let missing: Vec<Key> = self.missing.keys().filter(|key| !self.store.wants(key)).copied().collect();
        for key in missing {
            self.give_up(&key);
        }
    }

    pub(super) fn random(&mut self, range: std::ops::Range<u64>) -> u64 {
        self.rng.random_range(range)
    }
}

/// What a node says of a body that it has, or begins to have.
pub(super) fn announce_of(now: Time, key: &Key, header: &PartHeader, hops: u8, received: Time) -> Announce {
    Announce {
        id: key.id(),
        length: header.length,
        hops,
        age_us: u32::try_from(now.since(received).as_micros()).unwrap_or(u32::MAX),
    }
}

/// How many links a copy has passed, below [`HOPS_UNKNOWN`].
pub(super) fn hops_of(trace: &Trace) -> u8 {
    u8::try_from(trace.hops.len()).unwrap_or(u8::MAX).min(u8::MAX - 1)
}

/// How much a [`Plumtree`] remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Bodies held.
    pub held: usize,
    /// Their bytes.
    pub held_bytes: u64,
    /// Bodies coming in.
    pub assemblies: usize,
    /// Bodies announced that haven't come.
    pub missing: usize,
    /// Bodies whose announcement waits.
    pub announcements: usize,
}
