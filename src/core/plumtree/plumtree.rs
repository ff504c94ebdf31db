//! The state machine: takes the inputs, asks the owners, and sends what they return. Nothing else writes outputs.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::bodies::{Bodies, Effect, Place};
use super::config::Config;
use super::counters::{Counters, Sizes};
use super::digests::Digests;
use super::io::{BodyAction, BodyEvent, Input, Output, Sending, Serve};
use super::key::Key;
use super::lazy_queue::LazyQueue;
use super::message::{Announce, HOPS_UNKNOWN, IHAVE_IDS_MAX, Message, hops_of};
use super::neighbours::{Neighbours, PeerSet, Slot};
use super::pulls::{Missing, Offer};
use super::store::HeldBody;
use super::transfers::{Coming, Head, Piece, Transfer};
use super::tree::Tree;
use crate::model::time::Time;
use crate::model::{NodeId, PartHeader, PartId, Trace};

/// Paper: "GRAFT, node, null": it asks for the link, and for no body.
const LINK: Message = Message::Graft { id: None, offset: 0, join: true };

/// The Plumtree of one node in one swarm.
#[derive(Debug, Clone)]
pub struct Plumtree {
    me: NodeId,
    config: Config,
    neighbours: Neighbours,
    bodies: Bodies,
    tree: Tree,
    lazy: LazyQueue,
    digests: Digests,
    outputs: VecDeque<Output>,
    pub(super) counters: Counters,
}

impl Plumtree {
    /// Makes a node without neighbours. `seed` fixes all of its choices.
    pub fn new(me: NodeId, config: Config, seed: u64) -> Self {
        Plumtree {
            me,
            config,
            neighbours: Neighbours::default(),
            bodies: Bodies::default(),
            tree: Tree::default(),
            lazy: LazyQueue::default(),
            digests: Digests::new(seed),
            outputs: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Takes one input. `now` never goes back.
    pub fn handle(&mut self, now: Time, input: Input) {
        self.counters.received(&input);
        match input {
            Input::Timeout => {}
            Input::NeighborUp(peer) => self.on_neighbor_up(now, peer),
            Input::NeighborDown(peer) => self.on_neighbor_down(now, peer),
            Input::Publish { header, body, trace } => self.on_publish(now, header, body, trace),
            Input::Message { from, message } => self.on_message(now, from, message),
            Input::Body { peer, event } => self.on_body(now, peer, event),
            Input::LinkEstimate { peer, rtt_us, rate } => self.neighbours.estimate(peer, rtt_us, rate),
            Input::Forget { track, before } => {
                let effects = self.bodies.forget(track, before);
                self.act(effects);
            }
        }
        self.flush_announcements(now);
        if self.bodies.is_pull_due(now) {
            self.on_graft_timer(now);
        }
        let effects = self.bodies.on_stall_timer(now, &self.neighbours, &self.config);
        self.act(effects);
        if self.digests.is_due(now) {
            self.on_digest_timer(now);
        }
        if self.bodies.take_freed() {
            self.on_graft_timer(now);
        }
    }

    /// Returns the next output; drain until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        let next = self.outputs.pop_front();
        if next.is_none() {
            // An idle node keeps no buffer: a simulation has ten thousand of them.
            self.outputs = VecDeque::new();
        }
        next
    }

    /// Returns when [`Input::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        [self.lazy.next_due(), self.bodies.next_due(), self.digests.next_due()].into_iter().flatten().min()
    }

    /// Returns the counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Returns the neighbours, each with whether its link is eager (in the paper's eagerPushPeers).
    pub fn neighbours(&self) -> impl Iterator<Item = (NodeId, bool)> {
        self.neighbours.iter().map(|(slot, id)| (id, self.tree.eager().contains(slot)))
    }

    /// Changes settings at run time.
    pub fn configure(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
    }

    /// Returns whether the set of eager links has changed since the last call.
    pub fn tree_changed(&mut self) -> bool {
        self.tree.changed()
    }

    /// Returns the neighbour that feeds this node, if known.
    pub fn parent(&self) -> Option<NodeId> {
        self.tree.parent().and_then(|slot| self.neighbours.id(slot))
    }

    /// Returns the rate of this stream in bytes/s; 0 while it isn't known.
    pub fn inflow(&self, now: Time) -> u64 {
        self.tree.inflow(now)
    }

    /// Returns how much this node remembers.
    pub fn sizes(&self) -> Sizes {
        Sizes { announcements: self.lazy.len(), ..self.bodies.sizes() }
    }

    /// Paper: "upon event NeighborUp(node): eagerPushPeers + {node}". Departures: the link starts lazy, and all bodies are
    /// announced.
    fn on_neighbor_up(&mut self, now: Time, id: NodeId) {
        if id == self.me {
            return;
        }
        let Some(slot) = self.neighbours.add(id) else {
            self.counters.bounds_hit += u64::from(self.neighbours.slot(id).is_none());
            return;
        };
        if !self.config.lazy_start {
            self.tree.add(slot);
        }
        if self.config.offer_window {
            let offer = self.bodies.offer(slot);
            self.send_ihaves(slot, &offer);
        }
        self.digests.arm(now, self.config.digest_interval);
    }

    /// Paper: "upon event NeighborDown(node): eagerPushPeers - {node}; lazyPushPeers - {node}; for all
    /// (i, n, r) in missing with n = node: missing - {(i, n, r)}".
    fn on_neighbor_down(&mut self, now: Time, id: NodeId) {
        let Some(slot) = self.neighbours.slot(id) else { return };
        let parent = self.tree.without(slot);
        let effects = self.bodies.without(now, slot, parent, &self.config);
        self.act(effects);
        self.digests.without(slot);
        self.neighbours.remove(slot);
    }

    fn on_message(&mut self, now: Time, from: NodeId, message: Message) {
        let Some(slot) = self.neighbours.slot(from) else {
            // A node that is no neighbour (or only on its own side, for the moment) enters no set. Its GRAFT gets an
            // answer, since it may be waiting.
            self.counters.strangers += 1;
            if let Message::Graft { id: Some(id), offset, .. } = message {
                self.serve(from, None, id, offset);
            }
            return;
        };
        match message {
            Message::Ihave(announces) => {
                for announce in announces.iter().take(IHAVE_IDS_MAX) {
                    self.on_announce(now, slot, announce, true);
                }
            }
            Message::Graft { id, offset, join } => {
                if join && !self.tree.grafted_by(now, slot, self.config.upload) {
                    self.send(slot, Message::Prune);
                }
                if let Some(id) = id {
                    self.serve(from, Some(slot), id, offset);
                }
            }
            // Paper: "upon event Receive(PRUNE, sender): eagerPushPeers - {sender}; lazyPushPeers + {sender}".
            Message::Prune => self.tree.pruned_by(now, slot, self.config.upload.is_some()),
            Message::NotHere { id } => {
                // Departure: asks the next holder at once.
                self.counters.not_here_received += 1;
                let key = Key::from(id);
                let effects = self.bodies.not_held_by(now, &key, slot);
                self.act(effects);
            }
            Message::Receiving(announce) => {
                // It gets this body from another neighbour, so the transfer from here ends.
                if self.bodies.stop(&Key::from(announce.id), slot) {
                    self.act_on_links(PeerSet::one(slot), &BodyAction::Abort(announce.id));
                    self.tree.fed_elsewhere(slot);
                }
                self.on_announce(now, slot, &announce, false);
            }
            Message::Digest(tracks) => match self.bodies.lacking(now, slot, &tracks) {
                // Announces what the neighbour lacks and is here.
                Some(lacking) => self.send_ihaves(slot, &lacking),
                None => self.digests.agrees(slot),
            },
        }
    }

    /// Paper: "upon event Broadcast(m): mID <- hash(m + myself); EagerPush(m, mID, 0, myself);
    /// LazyPush(m, mID, 0, myself); Deliver(m); receivedMsgs + {mID}". Departure: ids are positions.
    fn on_publish(&mut self, now: Time, header: PartHeader, body: Bytes, trace: Trace) {
        let key = Key::from(header.id);
        // The packager has just hashed this body; another hash would delay the first hop.
        let fits = body.len() == header.length as usize;
        if !fits || self.bodies.is_held(&key) || !self.bodies.wants(&key) {
            self.counters.conflicts += 1;
            return;
        }
        self.counters.published += 1;
        let effects = self.bodies.supersede(&key);
        self.act(effects);
        let held = HeldBody::new(header, body.clone(), &trace, now);
        self.keep(now, held, self.tree.eager(), Output::Deliver { header, body, trace, received: now });
    }

    /// Paper: "upon event Receive(GRAFT, mID, sender): ... if mID in receivedMsgs: send GOSSIP". Departures: a body
    /// that is coming in, or asked for, goes on as it comes; for other bodies the answer is NOT-HERE.
    fn serve(&mut self, to: NodeId, slot: Option<Slot>, id: PartId, offset: u32) {
        match self.bodies.serve(&Key::from(id), slot, offset, &self.config) {
            Serve::Send(sending) => self.send_body(to, sending, offset),
            Serve::NotHere if self.config.not_here => self.push(Output::Send { to, message: Message::NotHere { id } }),
            Serve::Wait | Serve::NotHere => {}
        }
    }

    /// Paper: "upon event Receive(IHAVE, mID, round, sender): if mID not in receivedMsgs: if no timer
    /// for mID: setup Timer(mID, timeout_1); missing <- missing + {(mID, sender, round)}". `whole`: the neighbour has all
    /// of the body, rather than its first bytes.
    fn on_announce(&mut self, now: Time, slot: Slot, announce: &Announce, whole: bool) {
        let key = Key::from(announce.id);
        if !self.bodies.wants(&key) {
            return;
        }
        let slow = !self.neighbours.slow_tail(slot, announce.length).is_zero();
        let age = Duration::from_micros(u64::from(announce.age_us));
        let offer = Offer {
            slot,
            length: announce.length,
            had: (announce.hops != HOPS_UNKNOWN).then(|| (now - age, announce.hops)),
            poor: slow || self.tree.is_full(now, slot),
            unsent: self.tree.is_parent(slot) && self.config.lazy_start,
        };
        let holders = match self.bodies.held_by(&key, slot) {
            Place::Held => return,
            // A neighbour that has only begun to receive may be as slow: over thin links all of them are.
            Place::Coming(_) if !whole => return,
            Place::Coming(coming) => {
                let better = self.tree.too_slow(now, coming, &offer, &self.neighbours, &self.config);
                self.exchange(coming.slot, better);
                return;
            }
            Place::Away(holders) => holders,
        };
        if self.bodies.announced(now, &key, &offer, &self.neighbours) {
            return;
        }
        let awaited = !self.config.lazy_start || (self.tree.expects(slot) && self.bodies.is_newer(&key));
        let due = match (awaited, offer.poor) {
            (true, _) => now + self.tree.timeout_1(offer.length, &self.neighbours, &self.config),
            // A better neighbour may be about to announce it.
            (false, true) => now + self.config.graft_margin_min,
            (false, false) => now,
        };
        let effects = self.bodies.miss(key, Missing::new(&offer, holders, due, awaited));
        self.act(effects);
    }

    /// Paper: "upon event Timer(mID): send GRAFT to the first announcer in missing, setup
    /// Timer(mID, timeout_2)". Begins due pulls, and gives late ones up.
    fn on_graft_timer(&mut self, now: Time) {
        for key in self.bodies.due(now, &self.neighbours, &self.config) {
            self.pull(now, &key);
        }
    }

    /// Sends a GRAFT to the best holder.
    fn pull(&mut self, now: Time, key: &Key) {
        let links = self.tree.links(now, &self.neighbours);
        let Some(ask) = self.bodies.choose(now, key, links, &self.config) else { return };
        let join = ask.live || !self.config.lazy_start;
        let offset = if self.config.resume { self.bodies.got(key) } else { 0 };
        if join {
            self.tree.graft(ask.slot);
        }
        self.send(ask.slot, Message::Graft { id: Some(key.id()), offset, join });
        if ask.live && ask.is_first && self.config.promise && self.tree.parent().is_none() {
            // Departure: while this node has no parent, its other neighbours learn at once that it is about to have the
            // body, and may ask in turn. Grafts go up as announcements come down, and the body takes one link delay a hop.
            let message = Message::Receiving(Announce::bare(key.id(), ask.length));
            self.send_all(self.neighbours.all().minus(ask.holders), &message);
        }
    }

    fn on_body(&mut self, now: Time, from: NodeId, event: BodyEvent) {
        match (event, self.neighbours.slot(from)) {
            (BodyEvent::Head { header, trace, offset }, Some(slot)) => self.on_head(now, slot, header, trace, offset),
            (BodyEvent::Head { header, .. }, None) => {
                self.counters.strangers += 1;
                self.push(Output::Body { peer: from, action: BodyAction::Refuse(header.id) });
            }
            (BodyEvent::Piece { id, bytes }, Some(slot)) => self.on_piece(now, slot, id, bytes),
            (BodyEvent::Torn(id), Some(slot)) => {
                let effects = self.bodies.torn(now, Key::from(id), slot, &self.config);
                self.act(effects);
            }
            (BodyEvent::Stopped(id), Some(slot)) => {
                let key = Key::from(id);
                if self.bodies.stopped(&key, slot) {
                    self.announce(now, key);
                }
            }
            (_, None) => {}
        }
    }

    /// Paper: "upon event Receive(GOSSIP, m, mID, round, sender)", as far as the header says.
    fn on_head(&mut self, now: Time, slot: Slot, header: PartHeader, trace: Trace, offset: u32) {
        let id = header.id;
        let key = Key::from(id);
        match self.bodies.head(slot, &header, &trace, offset) {
            Head::Begin => self.begin(now, slot, key, header, trace),
            Head::Resume => {
                self.counters.resumed += 1;
                self.bodies.resume(now, &key, slot, offset);
                self.neighbours.moved(now, slot);
                self.tree.went_on(slot);
            }
            Head::Duplicate { same } => self.refuse_duplicate(now, slot, id, same),
            Head::Stale => {
                self.counters.stale += 1;
                self.refuse(slot, id);
            }
            head => {
                self.counters.conflicts += u64::from(head == Head::Wrong { conflict: true });
                self.counters.overloads += u64::from(head == Head::Full);
                self.refuse(slot, id);
                let effects = self.bodies.drop_holder(now, &key, slot);
                self.act(effects);
            }
        }
    }

    /// Paper: "else (mID in receivedMsgs): eagerPushPeers - {sender}; lazyPushPeers + {sender}; trigger Send(PRUNE,
    /// sender, myself)". Departure: the header tells, and the body isn't taken.
    fn refuse_duplicate(&mut self, now: Time, slot: Slot, id: PartId, same: bool) {
        // Of two bodies with one id and different hashes the first stays. The other is counted, and never spliced in.
        self.counters.conflicts += u64::from(!same);
        self.counters.duplicates += 1;
        if self.config.refuse_duplicates {
            self.refuse(slot, id);
        }
        if !self.tree.is_parent(slot) {
            self.tree.prune(now, slot);
            self.send(slot, Message::Prune);
        }
    }

    /// Paper: "if mID not in receivedMsgs: ... if exists (id, node, r) in missing with id = mID: cancel Timer(mID);
    /// EagerPush; LazyPush; eagerPushPeers + {sender}; lazyPushPeers - {sender}; Optimization".
    fn begin(&mut self, now: Time, slot: Slot, key: Key, header: PartHeader, trace: Trace) {
        let missing = self.bodies.found(&key);
        let pulled = missing.as_ref().is_some_and(|missing| missing.is_asked_of(slot));
        self.tree.began(slot, pulled);
        self.neighbours.moved(now, slot);
        if let Some(missing) = missing.as_ref().filter(|_| !pulled) {
            let coming = Coming { slot, received: now, hops: hops_of(&trace) };
            let better = self.tree.came(coming, missing, &self.neighbours, &self.config);
            self.exchange(slot, better);
        }
        let (mut holders, waiters) = missing.map(|missing| (missing.holders, missing.waiters)).unwrap_or_default();
        holders.insert(slot);
        // Paper: "procedure EagerPush: for all p in eagerPushPeers, p != sender: Send(GOSSIP)". Departures: nothing to
        // those who said that they have it or get it; those who asked get it, too.
        let (to, then) = match self.config.cut_through {
            true => (self.tree.targets(slot, holders, waiters), PeerSet::default()),
            false => (PeerSet::default(), waiters),
        };
        let transfer = Transfer::new(now, slot, header, trace.clone(), holders, to, then);
        self.bodies.begin(key, transfer, pulled);
        self.act_on_links(to, &BodyAction::Head { header, trace, offset: 0, received: now });
        if self.config.cut_through && header.length > self.config.receiving_above {
            self.tell_receiving(now, &key);
        }
        if header.length == 0 {
            self.complete(now, key);
        }
    }

    /// Moves the tree: the paper's "trigger Send(GRAFT, node, null, myself); trigger Send(PRUNE, sender, myself)".
    fn exchange(&mut self, parent: Slot, better: Option<Slot>) {
        if let Some(better) = better {
            self.send(better, LINK);
            self.send(parent, Message::Prune);
            self.counters.optimisations += 1;
        }
    }

    fn on_piece(&mut self, now: Time, slot: Slot, id: PartId, bytes: Bytes) {
        let key = Key::from(id);
        let piece = self.bodies.piece(now, slot, &key, bytes);
        if piece != Piece::Ignored {
            self.neighbours.moved(now, slot);
        }
        match piece {
            Piece::Ignored | Piece::Known => {}
            Piece::Wrong => {
                self.refuse(slot, id);
                let effects = self.bodies.tear(now, key, slot, &self.config);
                self.act(effects);
            }
            Piece::New { bytes, to, last } => {
                self.act_on_links(to, &BodyAction::Piece { id, bytes });
                if last {
                    self.complete(now, key);
                }
            }
        }
    }

    /// Handles a body whose last byte is here.
    fn complete(&mut self, now: Time, key: Key) {
        let Some(transfer) = self.bodies.complete(&key) else { return };
        let body = transfer.whole();
        if !transfer.header.matches(&body) {
            // Departure: checks the hash before any use of the body.
            self.counters.hash_mismatches += 1;
            let effects = self.bodies.spoiled(now, &transfer);
            self.act(effects);
            return;
        }
        if let Some(source) = transfer.source() {
            self.neighbours.measure(source, transfer.header.length, now.since(transfer.received));
        }
        let to = if self.config.cut_through {
            PeerSet::default()
        } else {
            self.tree.eager().minus(transfer.holders).union(transfer.then)
        };
        let held = HeldBody::of(&transfer, body.clone(), to);
        let Transfer { header, trace, received, .. } = transfer;
        self.keep(now, held, to, Output::Deliver { header, body, trace, received });
    }

    /// EagerPush of a whole body to `to`, LazyPush, Deliver.
    fn keep(&mut self, now: Time, held: HeldBody, to: PeerSet, deliver: Output) {
        let (header, published) = (held.header, held.is_own());
        let key = Key::from(header.id);
        self.tree.add_inflow(now, u64::from(header.length));
        if let Some(slot) = self.tree.shed(now, self.config.upload) {
            self.send(slot, Message::Prune);
        }
        self.digests.news();
        let effects = self.bodies.keep(key, held, self.config.held_bytes_max);
        self.act(effects);
        for slot in to.iter() {
            if let Some(id) = self.neighbours.id(slot)
                && let Serve::Send(sending) = self.bodies.serve(&key, Some(slot), 0, &self.config)
            {
                self.send_body(id, sending, 0);
            }
        }
        if header.length > self.config.receiving_above && published {
            self.tell_receiving(now, &key);
        }
        self.announce(now, key);
        self.digests.arm(now, self.config.digest_interval);
        self.push(deliver);
    }

    /// Departure: sends RECEIVING to all neighbours that neither get this body from here nor have it.
    fn tell_receiving(&mut self, now: Time, key: &Key) {
        if let Some((announce, to)) = self.bodies.tell_all(now, key, self.neighbours.all()) {
            self.send_all(to, &Message::Receiving(announce));
        }
    }

    /// Paper: "procedure LazyPush: lazyQueues + {(mID, round, p)}; dispatch()".
    fn announce(&mut self, now: Time, key: Key) {
        if !self.bodies.is_news(&key, self.neighbours.all()) {
            return;
        }
        // Without children the announcement alone spreads the body.
        let delay = if self.tree.children().is_empty() { Duration::ZERO } else { self.config.ihave_delay };
        self.counters.bounds_hit += u64::from(self.lazy.push(key, now + delay));
    }

    /// Paper: "dispatch: the IHAVE messages of the lazy queues are sent, aggregated by the policy".
    /// Departure: none goes to a neighbour that has said that it has the body.
    fn flush_announcements(&mut self, now: Time) {
        let queue = self.lazy.take_due(now);
        if queue.is_empty() {
            return;
        }
        for slot in self.neighbours.all().iter() {
            let announces: Vec<Announce> = queue.iter().filter_map(|key| self.bodies.tell(now, key, slot)).collect();
            self.send_ihaves(slot, &announces);
        }
    }

    fn on_digest_timer(&mut self, now: Time) {
        let to = self.digests.round(now, self.neighbours.all(), self.tree.parent(), self.config.digest_interval);
        if to.is_empty() {
            return;
        }
        let message = Message::Digest(self.bodies.digest());
        for slot in to {
            self.send(slot, message.clone());
        }
    }

    /// Carries out what follows from a change to the bodies.
    fn act(&mut self, effects: impl IntoIterator<Item = Effect>) {
        for effect in effects {
            match effect {
                Effect::Link(to, action) => self.act_on_links(to, &action),
                Effect::NotHere { to, id, lost } => {
                    self.counters.lost += u64::from(lost);
                    if self.config.not_here {
                        self.send_all(to, &Message::NotHere { id });
                    }
                }
                Effect::Torn => self.counters.torn += 1,
                Effect::Full => self.counters.bounds_hit += 1,
                Effect::Conflict => self.counters.conflicts += 1,
                Effect::Compare => self.digests.hasten(Time::ZERO),
            }
        }
    }

    fn send_ihaves(&mut self, slot: Slot, announces: &[Announce]) {
        for batch in announces.chunks(IHAVE_IDS_MAX) {
            self.send(slot, Message::Ihave(batch.to_vec()));
        }
    }

    fn send(&mut self, slot: Slot, message: Message) {
        if let Some(to) = self.neighbours.id(slot) {
            self.push(Output::Send { to, message });
        }
    }

    fn send_all(&mut self, to: PeerSet, message: &Message) {
        for slot in to.iter() {
            self.send(slot, message.clone());
        }
    }

    fn send_body(&mut self, peer: NodeId, sending: Sending, offset: u32) {
        let Sending { header, trace, received, pieces, again } = sending;
        let id = header.id;
        if again {
            self.push(Output::Body { peer, action: BodyAction::Abort(id) });
        }
        self.push(Output::Body { peer, action: BodyAction::Head { header, trace, offset, received } });
        for bytes in pieces {
            self.push(Output::Body { peer, action: BodyAction::Piece { id, bytes } });
        }
    }

    fn refuse(&mut self, slot: Slot, id: PartId) {
        self.act_on_links(PeerSet::one(slot), &BodyAction::Refuse(id));
    }

    fn act_on_links(&mut self, to: PeerSet, action: &BodyAction) {
        for slot in to.iter() {
            if let Some(peer) = self.neighbours.id(slot) {
                self.push(Output::Body { peer, action: action.clone() });
            }
        }
    }

    fn push(&mut self, output: Output) {
        self.counters.sent(&output);
        self.outputs.push_back(output);
    }
}
