//! What leads to what: takes the inputs, asks the owners, and sends what they say. Nobody else writes to the outputs.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::bodies::{Bodies, Place};
use super::config::Config;
use super::counters::{Counters, Sizes};
use super::deadlines::Deadlines;
use super::digests::Digests;
use super::io::{Input, Output, Sending, Serve};
use super::key::Key;
use super::lazy_queue::LazyQueue;
use super::message::{Announce, HOPS_UNKNOWN, IHAVE_IDS_MAX, Message, TrackDigest, hops_of};
use super::neighbours::{Neighbours, PeerSet, Slot};
use super::pulls::{Choice, Dropped, Missing, Offer};
use super::store::HeldBody;
use super::transfers::{Head, Piece, Transfer};
use super::tree::{Exchange, Tree};
use crate::model::time::Time;
use crate::model::{Msn, NodeId, PartHeader, PartId, Trace, TrackId};

/// Neighbours lost within this time are lost to one event, and who is left is asked as announcements come.
const SEPARATE: Duration = Duration::from_secs(3);

/// What can be due.
#[derive(Debug, Clone, Copy)]
enum Timer {
    /// Batched announcements leave.
    Announce,
    /// A missing body is grafted, or a GRAFT is given up.
    Graft,
    /// A body under way is looked at: does it move?
    Stall,
    /// The neighbours get a digest.
    Digest,
}

impl Timer {
    const ALL: [Timer; 4] = [Timer::Announce, Timer::Graft, Timer::Stall, Timer::Digest];
}

impl From<Timer> for usize {
    fn from(timer: Timer) -> usize {
        timer as usize
    }
}

/// One node's Plumtree in one swarm.
#[derive(Debug, Clone)]
pub struct Plumtree {
    me: NodeId,
    config: Config,
    rng: SmallRng,
    neighbours: Neighbours,
    bodies: Bodies,
    tree: Tree,
    lazy: LazyQueue,
    digests: Digests,
    deadlines: Deadlines<Timer, { Timer::ALL.len() }>,
    outputs: VecDeque<Output>,
    pub(super) counters: Counters,
    /// When a neighbour was last lost.
    last_down: Option<Time>,
}

impl Plumtree {
    /// A node without neighbours. `seed` fixes all of its choices.
    pub fn new(me: NodeId, config: Config, seed: u64) -> Self {
        Plumtree {
            me,
            config,
            rng: SmallRng::seed_from_u64(seed),
            neighbours: Neighbours::default(),
            bodies: Bodies::default(),
            tree: Tree::default(),
            lazy: LazyQueue::default(),
            digests: Digests::default(),
            deadlines: Deadlines::default(),
            outputs: VecDeque::new(),
            counters: Counters::default(),
            last_down: None,
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
            Input::LinkEstimate { peer, rtt_us, rate } => self.neighbours.estimate(peer, rtt_us, rate),
            Input::Forget { track, before } => self.on_forget(track, before),
        }
        for timer in Timer::ALL {
            if self.deadlines.expired(timer, now) {
                match timer {
                    Timer::Announce => self.flush_announcements(now),
                    Timer::Graft => self.on_graft_timer(now),
                    Timer::Stall => self.on_stall_timer(now),
                    Timer::Digest => self.on_digest_timer(now),
                }
            }
        }
        if self.bodies.take_freed() {
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
        self.deadlines.next()
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The neighbours, with whether the link is eager (in the paper's eagerPushPeers).
    pub fn neighbours(&self) -> impl Iterator<Item = (NodeId, bool)> {
        self.neighbours.iter().map(|(slot, id)| (id, self.tree.eager().contains(slot)))
    }

    /// Changes settings while it runs.
    pub fn configure(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
    }

    /// Whether other links than when this was last asked are eager.
    pub fn tree_changed(&mut self) -> bool {
        self.tree.changed()
    }

    /// The neighbour that feeds this node, as far as it is known.
    pub fn parent(&self) -> Option<NodeId> {
        self.tree.parent().and_then(|slot| self.neighbours.id(slot))
    }

    /// How many bytes/s this stream has now; 0 while it isn't known.
    pub fn inflow(&self, now: Time) -> u64 {
        self.tree.inflow(now)
    }

    /// How much is remembered.
    pub fn sizes(&self) -> Sizes {
        Sizes { announcements: self.lazy.len(), ..self.bodies.sizes() }
    }

    /// Paper: "upon event NeighborUp(node): eagerPushPeers + {node}". Departures: the link starts lazy,
    /// and all that is held is announced.
    fn on_neighbor_up(&mut self, now: Time, id: NodeId) {
        if id == self.me {
            return;
        }
        let Some(slot) = self.neighbours.add(id) else {
            self.counters.bounds_hit += u64::from(self.neighbours.slot(id).is_none());
            return;
        };
        self.tree.add(slot, !self.config.lazy_start);
        if self.config.offer_window {
            let offer = self.bodies.offer(slot);
            self.send_ihaves(slot, &offer);
        }
        self.arm_digest(now);
    }

    /// Paper: "upon event NeighborDown(node): eagerPushPeers - {node}; lazyPushPeers - {node}; for all
    /// (i, n, r) in missing with n = node: missing - {(i, n, r)}".
    fn on_neighbor_down(&mut self, now: Time, id: NodeId) {
        let Some(slot) = self.neighbours.slot(id) else { return };
        let parent = self.tree.without(slot);
        for ended in self.bodies.transfers_without(slot) {
            // The link may outlive the neighbourhood: other swarms use it.
            if ended.sending {
                self.outputs.push_back(Output::BodyAbort { to: id, id: ended.key.id() });
            }
            if ended.receiving {
                self.refuse(id, ended.key.id());
                self.tear(now, ended.key, slot);
            }
        }
        for (key, missing) in self.bodies.pulls_without(now, slot, parent && self.config.lazy_start) {
            self.lose(&key, &missing);
        }
        self.deadlines.hasten(Timer::Graft, now);
        self.digests.without(slot);
        self.neighbours.remove(slot);
        let alone = self.last_down.is_none_or(|last| now.since(last) > SEPARATE);
        self.last_down = Some(now);
        // Departure: the runner-up takes the parent's place.
        if parent
            && alone
            && self.config.replace_parent
            && let Some(slot) = self.tree.replace_parent(now)
        {
            self.send_graft(slot, None, 0, true);
        }
    }

    fn on_message(&mut self, now: Time, from: NodeId, message: Message) {
        if matches!(message, Message::Graft { .. }) {
            self.counters.grafts_received += 1;
        }
        let Some(slot) = self.neighbours.slot(from) else {
            // A node that is no neighbour (or is one on its side only, for the moment) enters no set. Its
            // GRAFT is answered, since it may be waiting.
            self.counters.strangers += 1;
            if let Message::Graft { id: Some(id), offset, .. } = message {
                self.serve(from, None, id, offset);
            }
            return;
        };
        match message {
            Message::Ihave(announces) => {
                for announce in announces.iter().take(IHAVE_IDS_MAX) {
                    self.on_announce(now, slot, announce);
                }
            }
            Message::Graft { id, offset, join } => self.on_graft(now, from, slot, id, offset, join),
            // Paper: "upon event Receive(PRUNE, sender): eagerPushPeers - {sender}; lazyPushPeers + {sender}".
            Message::Prune => self.tree.pruned_by(now, slot, self.config.upload.is_some()),
            Message::NotHere { id } => {
                // Departure: the next holder is asked at once.
                self.counters.not_here_received += 1;
                let key = Key::from(id);
                let dropped = self.bodies.not_held_by(now, &key, slot);
                self.on_dropped(now, &key, dropped);
            }
            Message::Receiving(announce) => self.on_receiving(now, from, slot, &announce),
            Message::Digest(tracks) => self.on_digest(now, slot, &tracks),
        }
    }

    /// Paper: "upon event Broadcast(m): mID <- hash(m + myself); EagerPush(m, mID, 0, myself);
    /// LazyPush(m, mID, 0, myself); Deliver(m); receivedMsgs + {mID}". Departure: ids are positions.
    fn on_publish(&mut self, now: Time, header: PartHeader, body: Bytes, trace: Trace) {
        let key = Key::from(header.id);
        // The ingest has just hashed this body; hashing it again would cost the first hop its time.
        let fits = body.len() == header.length as usize;
        if !fits || self.bodies.is_held(&key) || !self.bodies.wants(&key) {
            self.counters.conflicts += 1;
            return;
        }
        self.counters.published += 1;
        if let Some(transfer) = self.bodies.take(&key) {
            self.drop_transfer(&transfer);
        }
        if let Some(missing) = self.found(&key) {
            self.counters.conflicts += 1;
            self.send_not_here(missing.waiters, key.id());
        }
        let nobody = PeerSet::default();
        let held = HeldBody::new(header, body.clone(), &trace, now, nobody, nobody);
        self.keep(now, held, self.tree.eager(), Output::Deliver { header, body, trace, received: now });
    }

    /// Paper: "upon event Receive(GRAFT, mID, sender): eagerPushPeers + {sender}; lazyPushPeers -
    /// {sender}; if mID in receivedMsgs: send GOSSIP". Departures: a body that is coming in, or asked
    /// for, is passed on as it comes; what isn't here is answered; children are capped.
    fn on_graft(&mut self, now: Time, from: NodeId, slot: Slot, id: Option<PartId>, offset: u32, join: bool) {
        if join && !self.tree.grafted_by(now, slot, self.config.upload) {
            self.send_prune(slot);
        }
        if let Some(id) = id {
            self.serve(from, Some(slot), id, offset);
        }
    }

    fn serve(&mut self, to: NodeId, slot: Option<Slot>, id: PartId, offset: u32) {
        match self.bodies.serve(&Key::from(id), slot, offset, &self.config) {
            Serve::Send(sending) => self.send_body(to, sending, offset),
            Serve::Wait => {}
            Serve::NotHere => self.send_not_here_to(to, id),
        }
    }

    /// A neighbour gets this body from somebody else: it needn't come from here.
    fn on_receiving(&mut self, now: Time, from: NodeId, slot: Slot, announce: &Announce) {
        if self.bodies.stop(&Key::from(announce.id), slot) {
            self.outputs.push_back(Output::BodyAbort { to: from, id: announce.id });
            self.tree.fed_elsewhere(slot);
        }
        self.on_announce(now, slot, announce);
    }

    /// Paper: "upon event Receive(IHAVE, mID, round, sender): if mID not in receivedMsgs: if no timer
    /// for mID: setup Timer(mID, timeout_1); missing <- missing + {(mID, sender, round)}".
    fn on_announce(&mut self, now: Time, slot: Slot, announce: &Announce) {
        let key = Key::from(announce.id);
        if !self.bodies.wants(&key) {
            return;
        }
        let known = announce.hops != HOPS_UNKNOWN;
        if known {
            self.tree.announced(key, slot, announce.hops, self.bodies.hops(&key));
        }
        let holders = match self.bodies.held_by(&key, slot) {
            Place::Held => return,
            Place::Coming(coming) => {
                if known {
                    let (neighbours, config) = (&self.neighbours, &self.config);
                    let exchange = self.tree.too_slow(now, coming, slot, announce, neighbours, config);
                    self.exchange(exchange);
                }
                return;
            }
            Place::Away(holders) => holders,
        };
        let slow = !self.neighbours.slow_tail(slot, announce.length).is_zero();
        let offer = Offer {
            slot,
            length: announce.length,
            had: known.then(|| (now - Duration::from_micros(u64::from(announce.age_us)), announce.hops)),
            poor: slow || self.tree.is_full(now, slot),
            unsent: self.tree.is_parent(slot) && self.config.lazy_start,
        };
        match self.bodies.announced(now, &key, &offer, &self.neighbours) {
            Some(true) => self.deadlines.hasten(Timer::Graft, now),
            Some(false) => {}
            None => {
                let awaited = !self.config.lazy_start || (self.tree.expects(now, slot) && self.bodies.is_newer(&key));
                let due = match (awaited, offer.poor) {
                    (true, _) => now + self.tree.timeout_1(offer.length, &self.neighbours, &self.config),
                    // Somebody better may be about to announce it.
                    (false, true) => now + self.config.graft_margin_min,
                    (false, false) => now,
                };
                self.miss(key, Missing::new(&offer, holders, due, awaited), due);
            }
        }
    }

    /// Remembers a missing body.
    fn miss(&mut self, key: Key, missing: Missing, due: Time) {
        self.deadlines.hasten(Timer::Graft, due);
        if let Some((key, lost)) = self.bodies.miss(key, missing) {
            self.counters.bounds_hit += 1;
            self.lose(&key, &lost);
        }
    }

    /// A body that was under way is missing again.
    fn miss_again(&mut self, now: Time, key: Key, length: u32, holders: PeerSet, failed: Slot) {
        if holders.is_empty() {
            // Somebody has it: the digests will tell.
            self.deadlines.hasten(Timer::Digest, now);
        } else {
            self.miss(key, Missing::again(now, length, holders, failed), now);
        }
    }

    /// A missing body is given up; those who waited for it here are told.
    fn lose(&mut self, key: &Key, missing: &Missing) {
        self.counters.lost += u64::from(!self.bodies.is_coming(key));
        self.send_not_here(missing.waiters, key.id());
    }

    /// A body is missing no longer.
    fn found(&mut self, key: &Key) -> Option<Missing> {
        let missing = self.bodies.found(key)?;
        if self.bodies.none_is_missing() {
            self.deadlines.set(Timer::Graft, None);
        }
        Some(missing)
    }

    fn drop_holder(&mut self, now: Time, key: &Key, slot: Slot) {
        let dropped = self.bodies.drop_holder(now, key, slot);
        self.on_dropped(now, key, dropped);
    }

    fn on_dropped(&mut self, now: Time, key: &Key, dropped: Dropped) {
        if dropped.retry {
            self.deadlines.hasten(Timer::Graft, now);
        }
        if let Some(missing) = dropped.lost {
            self.lose(key, &missing);
        }
    }

    /// Paper: "upon event Timer(mID): send GRAFT to the first announcer in missing, setup
    /// Timer(mID, timeout_2)". Due pulls are begun, late ones given up.
    fn on_graft_timer(&mut self, now: Time) {
        let (due, mut next) = self.bodies.due(now, &self.neighbours, &self.config);
        for key in due {
            next = next.min(self.pull(now, &key));
        }
        if next < Time::MAX {
            self.deadlines.hasten(Timer::Graft, next);
        }
    }

    /// Asks the best holder; returns when to look again.
    fn pull(&mut self, now: Time, key: &Key) -> Time {
        let links = self.tree.links(now);
        let ask = match self.bodies.choose(now, key, links, &self.neighbours, &self.config) {
            Choice::Ask(ask) => ask,
            Choice::At(at) => return at,
            Choice::Busy => return Time::MAX,
        };
        let join = ask.live || !self.config.lazy_start;
        let offset = if self.config.resume { self.bodies.got(key) } else { 0 };
        if join {
            self.tree.graft(ask.slot);
        }
        self.send_graft(ask.slot, Some(key.id()), offset, join);
        if ask.live && ask.first && self.config.promise && self.tree.parent().is_none() {
            // Departure: while nobody feeds us, others learn at once that we are about to have it, and may
            // ask in turn: the grafts go up as the announcements come down, and the body then comes at one
            // link delay a hop.
            let announce = Announce::bare(key.id(), ask.length);
            self.send_receiving(self.neighbours.all().minus(ask.holders), announce);
        }
        ask.due
    }

    /// Paper: "upon event Receive(GOSSIP, m, mID, round, sender)", as far as the header says.
    fn on_head(&mut self, now: Time, from: NodeId, header: PartHeader, trace: Trace, offset: u32) {
        self.counters.heads_received += 1;
        let id = header.id;
        let key = Key::from(id);
        let Some(slot) = self.neighbours.slot(from) else {
            self.counters.strangers += 1;
            self.refuse(from, id);
            return;
        };
        match self.bodies.head(slot, &header, &trace, offset) {
            Head::Begin => self.begin(now, slot, key, header, trace),
            Head::Resume => self.resume(now, slot, key, offset),
            Head::Duplicate { same } => self.refuse_duplicate(now, slot, from, id, same),
            Head::Stale => {
                self.counters.stale += 1;
                self.refuse(from, id);
            }
            head => {
                self.counters.conflicts += u64::from(head == Head::Wrong { conflict: true });
                self.counters.overloads += u64::from(head == Head::Full);
                self.refuse(from, id);
                self.drop_holder(now, &key, slot);
            }
        }
    }

    /// Paper: "else (mID in receivedMsgs): eagerPushPeers - {sender}; lazyPushPeers + {sender}; trigger Send(PRUNE,
    /// sender, myself)". Departure: known from the header, the body isn't taken.
    fn refuse_duplicate(&mut self, now: Time, slot: Slot, from: NodeId, id: PartId, same: bool) {
        // Equal ids with different hashes: the first is kept, the other counted, never spliced.
        self.counters.conflicts += u64::from(!same);
        self.counters.duplicates += 1;
        if self.config.refuse_duplicates {
            self.refuse(from, id);
        }
        if !self.tree.is_parent(slot) && self.tree.prune(now, slot, &self.config) {
            self.send_prune(slot);
        }
    }

    /// Paper: "if mID not in receivedMsgs: ... if exists (id, node, r) in missing with id = mID: cancel
    /// Timer(mID); EagerPush; LazyPush; eagerPushPeers + {sender}; lazyPushPeers - {sender};
    /// Optimization".
    fn begin(&mut self, now: Time, slot: Slot, key: Key, header: PartHeader, trace: Trace) {
        let missing = self.found(&key);
        let pulled = missing.as_ref().is_some_and(|missing| missing.is_asked_of(slot));
        self.tree.began(slot, pulled);
        self.neighbours.moved(now, slot);
        if let Some(missing) = missing.as_ref().filter(|_| !pulled) {
            let exchange = self.tree.came(now, slot, hops_of(&trace), missing, &self.neighbours, &self.config);
            self.exchange(exchange);
        }
        let (holders, waiters) = missing.map(|missing| (missing.holders, missing.waiters)).unwrap_or_default();
        let then = if self.config.cut_through { PeerSet::default() } else { waiters };
        let transfer = Transfer::new(now, slot, header, trace.clone(), holders, then);
        let holders = transfer.holders;
        self.bodies.begin(key, transfer, pulled);
        self.deadlines.hasten(Timer::Stall, now + self.config.stall);
        if self.config.cut_through {
            // Paper: "procedure EagerPush: for all p in eagerPushPeers, p != sender: Send(GOSSIP)". Departures:
            // nothing to those who said that they have it or get it; those who asked get it, too.
            let to = self.tree.targets(slot, holders, waiters);
            self.bodies.forward(&key, to);
            self.send_heads(to, header, trace, now);
            if header.length > self.config.receiving_above {
                self.tell_receiving(now, &key);
            }
        }
        if header.length == 0 {
            self.complete(now, key);
        }
    }

    /// Moves the tree: the paper's "trigger Send(GRAFT, node, null, myself); trigger Send(PRUNE, sender, myself)".
    fn exchange(&mut self, exchange: Option<Exchange>) {
        let Some(Exchange { graft, prune }) = exchange else { return };
        self.send_graft(graft, None, 0, true);
        if let Some(slot) = prune {
            self.send_prune(slot);
        }
        self.counters.optimisations += 1;
    }

    fn resume(&mut self, now: Time, slot: Slot, key: Key, offset: u32) {
        let holders = self.found(&key).map(|missing| missing.holders).unwrap_or_default();
        self.bodies.resume(now, &key, slot, offset, holders);
        self.counters.resumed += 1;
        self.neighbours.moved(now, slot);
        self.tree.went_on(slot);
        self.deadlines.hasten(Timer::Stall, now + self.config.stall);
    }

    fn on_piece(&mut self, now: Time, from: NodeId, id: PartId, bytes: Bytes) {
        self.counters.bytes_received += bytes.len() as u64;
        let Some(slot) = self.neighbours.slot(from) else { return };
        let key = Key::from(id);
        let piece = self.bodies.piece(now, slot, &key, bytes);
        if piece != Piece::Ignored {
            self.neighbours.moved(now, slot);
        }
        match piece {
            Piece::Ignored | Piece::Known => {}
            Piece::Wrong => {
                self.refuse(from, id);
                self.tear(now, key, slot);
            }
            Piece::New { bytes, to, last } => {
                for to in to.iter().filter_map(|slot| self.neighbours.id(slot)) {
                    self.counters.bytes_sent += bytes.len() as u64;
                    self.outputs.push_back(Output::BodyPiece { to, id, bytes: bytes.clone() });
                }
                if last {
                    self.complete(now, key);
                }
            }
        }
    }

    /// The last byte is here.
    fn complete(&mut self, now: Time, key: Key) {
        let Some(transfer) = self.bodies.take(&key) else { return };
        if self.bodies.none_comes() {
            self.deadlines.set(Timer::Stall, None);
        }
        let body = transfer.whole();
        let (header, received, sent) = (transfer.header, transfer.received, transfer.to);
        let mut holders = transfer.holders;
        let source = transfer.source().unwrap_or_default();
        if !header.matches(&body) {
            // Departure: the hash is checked before the body is used. Those who got its pieces find
            // out themselves; who of its senders is to blame can't be told apart, the last is asked last.
            self.counters.hash_mismatches += 1;
            self.abort_children(&transfer);
            holders.remove(source);
            self.miss_again(now, key, header.length, holders, source);
            return;
        }
        self.neighbours.measure(source, header.length, now.since(received));
        let to = if self.config.cut_through {
            PeerSet::default()
        } else {
            self.tree.eager().minus(holders).union(transfer.then)
        };
        let known = holders.union(transfer.told).union(sent).minus(to);
        let trace = transfer.trace;
        let held = HeldBody::new(header, body.clone(), &trace, received, known, sent);
        self.keep(now, held, to, Output::Deliver { header, body, trace, received });
    }

    /// EagerPush of a whole body to `to`, LazyPush, Deliver.
    fn keep(&mut self, now: Time, held: HeldBody, to: PeerSet, deliver: Output) {
        let (header, published) = (*held.header(), held.hops() == 0);
        let key = Key::from(header.id);
        self.counters.delivered += 1;
        self.tree.add_inflow(now, u64::from(header.length));
        if let Some(slot) = self.tree.shed(now, self.config.upload) {
            self.send_prune(slot);
        }
        self.digests.news();
        if self.bodies.keep(key, held, self.config.held_bytes_max) {
            self.drop_unwanted();
        }
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
        self.arm_digest(now);
        self.outputs.push_back(deliver);
    }

    /// Departure: RECEIVING to all who neither get this body from here nor have it.
    fn tell_receiving(&mut self, now: Time, key: &Key) {
        if let Some((announce, to)) = self.bodies.tell_all(now, key, self.neighbours.all()) {
            self.send_receiving(to, announce);
        }
    }

    /// Paper: "procedure LazyPush: lazyQueues + {(mID, round, p)}; dispatch()".
    fn announce(&mut self, now: Time, key: Key) {
        if !self.bodies.is_news(&key, self.neighbours.all()) {
            return;
        }
        self.counters.bounds_hit += u64::from(self.lazy.push(key));
        // Where nobody is fed from here the announcement is what spreads the body.
        let delay = if self.tree.children().is_empty() { Duration::ZERO } else { self.config.ihave_delay };
        self.deadlines.hasten(Timer::Announce, now + delay);
    }

    /// Paper: "dispatch: the IHAVE messages of the lazy queues are sent, aggregated by the policy".
    /// Departure: nothing to those who have told that they have it.
    fn flush_announcements(&mut self, now: Time) {
        let queue = self.lazy.take();
        for slot in self.neighbours.all().iter() {
            let announces: Vec<Announce> = queue.iter().filter_map(|key| self.bodies.tell(now, key, slot)).collect();
            self.send_ihaves(slot, &announces);
        }
    }

    fn on_torn(&mut self, now: Time, from: NodeId, id: PartId) {
        let Some(slot) = self.neighbours.slot(from) else { return };
        let key = Key::from(id);
        if self.bodies.comes_from(&key, slot) {
            self.tear(now, key, slot);
        } else {
            // Asked for, and expired before it began.
            self.drop_holder(now, &key, slot);
        }
    }

    /// The transfer from `slot` has ended early. Departure: it goes on at its offset, elsewhere.
    fn tear(&mut self, now: Time, key: Key, slot: Slot) {
        self.counters.torn += 1;
        let Some(torn) = self.bodies.tear(&key, slot, self.config.resume) else { return };
        if let Some(transfer) = torn.dropped {
            self.abort_children(&transfer);
        }
        self.miss_again(now, key, torn.length, torn.holders, slot);
        self.deadlines.hasten(Timer::Stall, now + self.config.stall);
    }

    /// Nobody wants a body any more that was coming in.
    fn drop_transfer(&mut self, transfer: &Transfer) {
        if let Some(from) = transfer.source().and_then(|slot| self.neighbours.id(slot)) {
            self.refuse(from, transfer.header.id);
        }
        self.abort_children(transfer);
    }

    fn abort_children(&mut self, transfer: &Transfer) {
        let id = transfer.header.id;
        for to in transfer.to.iter().filter_map(|slot| self.neighbours.id(slot)) {
            self.outputs.push_back(Output::BodyAbort { to, id });
        }
        self.send_not_here(transfer.then, id);
    }

    /// A peer has refused a body of ours, or the link's queue has dropped it. If it was dropped, the
    /// peer has yet to learn of it.
    fn on_stopped(&mut self, now: Time, to: NodeId, id: PartId) {
        self.counters.stopped += 1;
        let Some(slot) = self.neighbours.slot(to) else { return };
        let key = Key::from(id);
        if self.bodies.stopped(&key, slot) {
            self.announce(now, key);
        }
    }

    fn on_forget(&mut self, track: TrackId, before: Msn) {
        self.bodies.forget(track, before);
        self.drop_unwanted();
    }

    /// The store wants less than before: what is under way is dropped accordingly.
    fn drop_unwanted(&mut self) {
        let (transfers, missing) = self.bodies.take_unwanted();
        for transfer in &transfers {
            self.drop_transfer(transfer);
        }
        for (key, missing) in &missing {
            self.lose(key, missing);
        }
    }

    /// Bodies that stand still are asked for elsewhere; torn ones that nobody goes on with are dropped.
    fn on_stall_timer(&mut self, now: Time) {
        let stalled = self.bodies.stalled(now, &self.neighbours, &self.config);
        for (key, slot) in stalled.stuck {
            if let Some(from) = self.neighbours.id(slot) {
                self.refuse(from, key.id());
            }
            self.tear(now, key, slot);
        }
        for key in stalled.orphans {
            if let Some(transfer) = self.bodies.take(&key) {
                self.drop_transfer(&transfer);
            }
        }
        if !self.bodies.none_comes() {
            self.deadlines.hasten(Timer::Stall, stalled.next);
        }
    }

    fn arm_digest(&mut self, now: Time) {
        let Some(interval) = self.config.digest_interval else { return };
        if let Some(at) = self.digests.arm(now, interval, &mut self.rng) {
            self.deadlines.hasten(Timer::Digest, at);
        }
    }

    fn on_digest_timer(&mut self, now: Time) {
        let Some(interval) = self.config.digest_interval else { return };
        let (all, parent) = (self.neighbours.all(), self.tree.parent());
        let Some(to) = self.digests.round(all, parent, self.config.digest_fanout) else { return };
        if !to.is_empty() {
            let tracks = self.bodies.digest();
            for slot in to {
                self.counters.digests_sent += 1;
                self.send(slot, Message::Digest(tracks.clone()));
            }
        }
        self.deadlines.hasten(Timer::Digest, self.digests.next(now, interval));
    }

    /// What the neighbour lacks and is here is announced to it.
    fn on_digest(&mut self, now: Time, slot: Slot, tracks: &[TrackDigest]) {
        match self.bodies.lacking(now, slot, tracks) {
            Some(lacking) => self.send_ihaves(slot, &lacking),
            None => self.digests.agrees(slot),
        }
    }

    fn send(&mut self, slot: Slot, message: Message) {
        if let Some(to) = self.neighbours.id(slot) {
            self.outputs.push_back(Output::Send { to, message });
        }
    }

    fn send_ihaves(&mut self, slot: Slot, announces: &[Announce]) {
        for batch in announces.chunks(IHAVE_IDS_MAX) {
            self.counters.ihaves_sent += 1;
            self.counters.announces_sent += batch.len() as u64;
            self.send(slot, Message::Ihave(batch.to_vec()));
        }
    }

    fn send_receiving(&mut self, to: PeerSet, announce: Announce) {
        for slot in to.iter() {
            self.counters.receivings_sent += 1;
            self.send(slot, Message::Receiving(announce));
        }
    }

    fn send_graft(&mut self, slot: Slot, id: Option<PartId>, offset: u32, join: bool) {
        self.counters.grafts_sent += 1;
        self.send(slot, Message::Graft { id, offset, join });
    }

    fn send_prune(&mut self, slot: Slot) {
        self.counters.prunes_sent += 1;
        self.send(slot, Message::Prune);
    }

    fn send_not_here(&mut self, to: PeerSet, id: PartId) {
        for slot in to.iter() {
            if let Some(to) = self.neighbours.id(slot) {
                self.send_not_here_to(to, id);
            }
        }
    }

    fn send_not_here_to(&mut self, to: NodeId, id: PartId) {
        if self.config.not_here {
            self.counters.not_here_sent += 1;
            self.outputs.push_back(Output::Send { to, message: Message::NotHere { id } });
        }
    }

    fn refuse(&mut self, from: NodeId, id: PartId) {
        self.outputs.push_back(Output::BodyRefuse { from, id });
    }

    fn send_heads(&mut self, to: PeerSet, header: PartHeader, trace: Trace, received: Time) {
        for to in to.iter().filter_map(|slot| self.neighbours.id(slot)) {
            self.counters.heads_sent += 1;
            self.outputs.push_back(Output::BodyHead { to, header, trace: trace.clone(), offset: 0, received });
        }
    }

    fn send_body(&mut self, to: NodeId, sending: Sending, offset: u32) {
        let Sending { header, trace, received, pieces, again } = sending;
        let id = header.id;
        if again {
            self.outputs.push_back(Output::BodyAbort { to, id });
        }
        self.counters.heads_sent += 1;
        self.outputs.push_back(Output::BodyHead { to, header, trace, offset, received });
        for bytes in pieces {
            self.counters.bytes_sent += bytes.len() as u64;
            self.outputs.push_back(Output::BodyPiece { to, id, bytes });
        }
    }
}
