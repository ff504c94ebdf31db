//! The state, its inputs and timers, and the two views. Quoted lines are the paper's Algorithm 1 and its section 4;
//! "Departure" marks what isn't in it.

use std::collections::VecDeque;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::config::{Config, Topology};
use super::contact_cache::ContactCache;
use super::deadlines::Deadlines;
use super::io::{Counters, DownCause, Input, Output};
use super::message::Message;
use super::views::{Active, Passive, View};
use crate::model::NodeId;
use crate::model::Peer;
use crate::model::time::Time;

/// What a deadline is for. Those that are due together are handled in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Ask the bootstrap addresses again.
    Bootstrap,
    /// A request is due for its hedge or has gone without an answer, or a passive peer may be asked again.
    Refill,
    /// Look for a node with a free slot.
    Seek,
    /// Send a SHUFFLE.
    Shuffle,
    /// Exchange a link.
    Rotate,
    /// Ask a neighbour whether it is one.
    Audit,
    /// Look for a nearer neighbour.
    Optimise,
}

/// Why a peer was asked to be a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// It is our contact.
    Join,
    /// A slot is free.
    Fill,
    /// It is new, and its walk ended here.
    Place,
    /// To exchange a link.
    Rotate,
    /// To exchange our farthest link.
    Near,
}

/// A request under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    pub(super) peer: Peer,
    pub(super) ask: Ask,
    /// From here on it holds up no other request.
    pub(super) hedge_at: Time,
    /// From here on the peer has timed out.
    pub(super) deadline: Time,
}

/// A candidate whose round trip is being measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measure {
    pub(super) peer: Peer,
    pub(super) stamp: u64,
    pub(super) sent: Time,
    /// The first ping may include a dial; the second one counts.
    pub(super) warm: bool,
}

/// One node's part in the overlay of one swarm.
#[derive(Debug, Clone)]
pub struct HyParView {
    pub(super) me: Peer,
    pub(super) config: Config,
    pub(super) rng: Xoshiro256PlusPlus,
    deadlines: Deadlines<Timer>,
    pub(super) outputs: VecDeque<Output>,
    pub(super) active: View<Active>,
    pub(super) passive: View<Passive>,
    pub(super) contacts: ContactCache,
    pub(super) pending: Vec<Pending>,
    /// What our last SHUFFLE carried.
    pub(super) shuffled: Vec<NodeId>,
    /// The peers of a static topology.
    pub(super) named: Vec<NodeId>,
    pub(super) measure: Option<Measure>,
    /// No slot is filled before this.
    pub(super) calm_until: Time,
    /// Refusals since a neighbour was lost.
    pub(super) misses: u32,
    /// Requests that failed since one was answered.
    pub(super) misfires: usize,
    bootstrap_every: Duration,
    seek_every: Duration,
    shuffle_every: Duration,
    /// Tokens for admissions that cost a neighbour its place, and when the last one was added.
    pub(super) admissions: (usize, Time),
    pub(super) left: bool,
    /// A contact has answered our JOIN, or is our neighbour.
    pub(super) anchored: bool,
    pub(super) counters: Counters,
}

impl HyParView {
    /// An overlay of one: the first [`Input::Timeout`] asks for the bootstrap addresses.
    pub fn new(me: Peer, config: Config, seed: u64) -> Self {
        let mut overlay = HyParView {
            me,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            deadlines: Deadlines::new(),
            outputs: VecDeque::new(),
            active: View::new(),
            passive: View::new(),
            contacts: ContactCache::default(),
            pending: Vec::new(),
            shuffled: Vec::new(),
            named: Vec::new(),
            measure: None,
            calm_until: Time::ZERO,
            misses: 0,
            misfires: 0,
            bootstrap_every: config.bootstrap_first,
            seek_every: config.seek_first,
            shuffle_every: config.shuffle_first,
            admissions: (config.active_max, Time::ZERO),
            left: false,
            anchored: false,
            counters: Counters::default(),
            config,
        };
        match overlay.config.topology.clone() {
            Topology::Gossip => overlay.deadlines.set(Timer::Bootstrap, Time::ZERO),
            Topology::Static { peers } => {
                overlay.deadlines.set(Timer::Refill, Time::ZERO);
                for peer in peers {
                    overlay.name(peer);
                }
            }
        }
        overlay
    }

    /// The neighbours.
    pub fn active(&self) -> impl Iterator<Item = Peer> {
        self.active.iter().map(|m| m.peer)
    }

    /// The passive view.
    pub fn passive(&self) -> impl Iterator<Item = Peer> {
        self.passive.iter().map(|m| m.peer)
    }

    /// Everybody it knows an address of: both views, and who was met besides.
    pub fn known(&self) -> impl Iterator<Item = Peer> {
        self.active().chain(self.passive()).chain(self.contacts.iter())
    }

    /// Whether `id` is a neighbour.
    pub fn is_neighbor(&self, id: NodeId) -> bool {
        self.active.contains(id)
    }

    /// Whether a link to `id` is needed: it is a neighbour, or something is under way with it.
    pub fn needs_link(&self, id: NodeId) -> bool {
        self.active.contains(id) || self.is_pending(id) || self.measure.is_some_and(|m| m.peer.id == id)
    }

    /// Says whether the broadcast tree runs over the link to a neighbour: such a link is the last to be
    /// exchanged for another.
    pub fn set_carries(&mut self, id: NodeId, carries: bool) {
        if let Some(member) = self.active.get_mut(id) {
            member.carries = carries && self.config.spare_tree_links;
        }
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Takes what has happened.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Timeout => self.on_timeout(now),
            Input::Join(contact) => self.on_contact(now, contact),
            Input::Message { from, message } => self.on_message(now, from, message),
            Input::PeerDown { peer, cause } => self.on_peer_down(now, peer, cause),
            Input::Rtt { peer, rtt_us } => {
                if let Some(member) = self.active.get_mut(peer) {
                    member.rtt_us = rtt_us;
                }
            }
            Input::Leave => self.on_leave(),
        }
        self.refill(now);
        self.rearm(now);
    }

    /// The next thing to do; drain until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        let next = self.outputs.pop_front();
        if next.is_none() {
            self.outputs = VecDeque::new();
        }
        next
    }

    /// When [`Input::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.deadlines.next()
    }

    // --- leaving and failing ---

    fn on_disconnect(&mut self, now: Time, from: Peer) {
        // "if peer in activeView then activeView <- activeView \ {peer}; addNodePassiveView(peer)"
        if self.active.remove(from.id).is_some() {
            self.counters.drops += 1;
            self.outputs.push_back(Output::NeighborDown(from.id));
            self.forget_busy();
            if self.active.len() >= self.config.active_min.max(1) {
                self.calm_until = now + self.config.refill_calm;
            }
            self.add_passive(Passive::new(from), &mut Vec::new());
            self.busy(now, from.id);
        }
    }

    fn on_peer_down(&mut self, now: Time, id: NodeId, cause: DownCause) {
        let asked = self.take_pending(id).is_some();
        self.counters.failures += u64::from(asked);
        self.misfires += usize::from(asked);
        if cause == DownCause::Left {
            self.contacts.remove(id);
        }
        if self.measure.is_some_and(|m| m.peer.id == id) {
            self.measure = None;
        }
        let lost = self.active.remove(id);
        if cause == DownCause::Lost && lost.is_none() && !asked {
            return; // A link that nobody needed any more.
        }
        if let Some(lost) = lost {
            self.counters.losses += 1;
            self.calm_until = now;
            self.outputs.push_back(Output::NeighborDown(id));
            self.forget_busy();
            self.contacts.open();
            self.add_passive(Passive::new(lost.peer), &mut Vec::new());
            // Departure: who has lost a neighbour shuffles like a young node, since its passive view may be as stale.
            if self.config.shuffle_first < self.config.shuffle_interval && !self.active.is_empty() {
                self.shuffle_every = self.config.shuffle_first;
                let at = now + self.around(self.shuffle_every);
                self.deadlines.hasten(Timer::Shuffle, at);
            }
        }
        self.suspect(now, id, cause);
    }

    /// "If the connection fails to establish, node q is considered failed and removed from p's passive view"
    ///
    /// Departure: not on the first failure, lest a netsplit drain the passive view for good.
    fn suspect(&mut self, now: Time, id: NodeId, cause: DownCause) {
        let named = self.named.contains(&id);
        let Some(member) = self.passive.get_mut(id) else { return };
        let weight = match cause {
            DownCause::Left if !named => u8::MAX,
            // Somebody answered that nobody is there: three of these are enough.
            DownCause::Refused => (self.config.fails_max / 3).max(1),
            DownCause::TimedOut | DownCause::Lost | DownCause::Left => 1,
        };
        member.fails = member.fails.saturating_add(weight);
        if named {
            member.fails = member.fails.min(8);
        } else if member.fails > self.config.fails_max {
            self.passive.remove(id);
            return;
        }
        member.retry_at = now + doubled(self.config.fail_first, member.fails, self.config.fail_max);
        if self.config.rotate_interval.is_some() {
            let at = now + self.around(self.config.rotate_suspect);
            self.deadlines.hasten(Timer::Rotate, at);
        }
    }

    fn on_leave(&mut self) {
        for peer in self.active().collect::<Vec<_>>() {
            self.active.remove(peer.id);
            self.outputs.push_back(Output::NeighborDown(peer.id));
            self.send(peer, Message::Disconnect);
        }
        self.pending.clear();
        self.measure = None;
        self.deadlines = Deadlines::new();
        self.left = true;
    }

    // --- messages and timers ---

    fn on_message(&mut self, now: Time, from: Peer, message: Message) {
        if from.id == self.me.id {
            return;
        }
        if self.left {
            if matches!(message, Message::Join | Message::Neighbor { .. }) {
                self.send(from, Message::NeighborReply { accepted: false, others: Vec::new() });
            }
            return;
        }
        // Whoever speaks is alive, and its link knows its address best.
        if let Some(member) = self.active.get_mut(from.id) {
            member.peer = from;
        } else if let Some(member) = self.passive.get_mut(from.id) {
            member.peer = from;
            member.fails = 0;
        } else if matches!(message, Message::Ping { .. }) && self.has_room() {
            self.add_passive(Passive::new(from), &mut Vec::new());
        }
        match message {
            Message::Join => self.on_join(now, from),
            Message::ForwardJoin { peer, ttl } => self.on_forward_join(now, from, peer, ttl),
            Message::Neighbor { priority } => self.on_neighbor(now, from, priority),
            Message::NeighborReply { accepted, others } => self.on_neighbor_reply(now, from, accepted, others),
            Message::Disconnect => self.on_disconnect(now, from),
            Message::Shuffle { origin, ttl, nodes } => self.on_shuffle(from, origin, ttl, nodes),
            Message::ShuffleReply { nodes } => {
                if !self.shuffled.is_empty() && !self.is_static() {
                    let mut sent = std::mem::take(&mut self.shuffled);
                    self.integrate(nodes, &mut sent);
                }
            }
            Message::Seek { peer, ttl } => self.on_seek(now, from, peer, ttl),
            Message::Ping { stamp } => self.send(from, Message::Pong { stamp }),
            Message::Pong { stamp } => self.on_pong(now, from, stamp),
        }
    }

    fn on_timeout(&mut self, now: Time) {
        while let Some(timer) = self.deadlines.pop_due(now) {
            match timer {
                Timer::Bootstrap => {
                    self.outputs.push_back(Output::Bootstrap);
                    self.contacts.open();
                    self.bootstrap_every = (self.bootstrap_every * 2).min(self.config.bootstrap_max);
                }
                Timer::Refill => self.expire_pending(now),
                Timer::Seek => {
                    self.seek();
                    self.seek_every = (self.seek_every * 2).min(self.config.seek_max);
                }
                Timer::Shuffle => {
                    self.shuffle();
                    self.shuffle_every = (self.shuffle_every * 2).min(self.config.shuffle_interval);
                }
                Timer::Rotate => self.rotate(now),
                Timer::Audit => self.audit(now),
                Timer::Optimise => self.optimise(now),
            }
        }
    }

    fn expire_pending(&mut self, now: Time) {
        while let Some(late) = self.pending.iter().find(|p| p.deadline <= now).map(|p| p.peer.id) {
            self.take_pending(late);
            self.counters.failures += 1;
            self.misfires += 1;
            self.suspect(now, late, DownCause::TimedOut);
        }
    }

    /// Arms what is needed and not armed.
    fn rearm(&mut self, now: Time) {
        if self.left {
            return;
        }
        // Departure: until a contact has answered, this may be an island that began with a lost JOIN.
        let busy = self.active.len() >= self.config.active_min && (self.anchored || self.config.active_min == 0);
        if busy {
            self.bootstrap_every = self.config.bootstrap_first;
            // The first question is always asked: a node that starts can't know what it is missing.
            if self.counters.requests > 0 {
                self.deadlines.cancel(Timer::Bootstrap);
            }
        } else if !self.deadlines.is_set(Timer::Bootstrap) {
            let at = now + self.around(self.bootstrap_every);
            self.deadlines.set(Timer::Bootstrap, at);
        }
        let room = self.has_room();
        let pending = self.pending.iter().map(|p| if room && now < p.hedge_at { p.hedge_at } else { p.deadline }).min();
        let idle = |m: &&Passive| !self.is_pending(m.peer.id);
        let retry_at = self.passive.iter().filter(idle).map(|m| m.retry_at.max(self.calm_until));
        let retry = retry_at.filter(|at| *at > now).min().filter(|_| room);
        match pending.into_iter().chain(retry).min() {
            Some(at) => self.deadlines.set(Timer::Refill, at),
            None => self.deadlines.cancel(Timer::Refill),
        }
        if self.active.is_empty() {
            for timer in [Timer::Seek, Timer::Shuffle, Timer::Rotate, Timer::Audit, Timer::Optimise] {
                self.deadlines.cancel(timer);
            }
            return;
        }
        let suspects = self.passive.iter().any(|m| m.fails > 0);
        let rotate = if suspects { Some(self.config.rotate_suspect) } else { self.config.rotate_interval };
        let gossip = !self.is_static();
        if !room {
            self.deadlines.cancel(Timer::Seek);
        } else if gossip && self.config.seek_ttl > 0 {
            self.arm(now, Timer::Seek, Some(self.seek_every));
        }
        self.arm(now, Timer::Shuffle, Some(self.shuffle_every).filter(|_| gossip));
        self.arm(now, Timer::Rotate, rotate.filter(|_| self.config.rotate_interval.is_some()));
        self.arm(now, Timer::Audit, self.config.audit_interval);
        self.arm(now, Timer::Optimise, self.config.optimise_interval);
    }

    fn arm(&mut self, now: Time, timer: Timer, interval: Option<Duration>) {
        if let Some(interval) = interval
            && !self.deadlines.is_set(timer)
        {
            let at = now + self.around(interval);
            self.deadlines.set(timer, at);
        }
    }

    // --- the views ---

    pub(super) fn has_room(&self) -> bool {
        self.active.len() < self.config.active_max
    }

    pub(super) fn is_static(&self) -> bool {
        matches!(self.config.topology, Topology::Static { .. })
    }

    pub(super) fn is_pending(&self, id: NodeId) -> bool {
        self.pending.iter().any(|p| p.peer.id == id)
    }

    pub(super) fn take_pending(&mut self, id: NodeId) -> Option<Ask> {
        let at = self.pending.iter().position(|p| p.peer.id == id)?;
        Some(self.pending.swap_remove(at).ask)
    }

    /// "addNodeActiveView(node)", where there is room.
    pub(super) fn add_active(&mut self, now: Time, peer: Peer, near: bool) {
        debug_assert!(self.has_room() && peer.id != self.me.id, "the caller makes room");
        self.passive.remove(peer.id);
        self.take_pending(peer.id);
        self.active.push(Active { peer, since: now, rtt_us: 0, near, audited: Time::ZERO, carries: false });
        self.counters.ups += 1;
        self.outputs.push_back(Output::NeighborUp(peer));
    }

    /// "dropRandomElementFromActiveView", of those that `want` takes.
    pub(super) fn drop_random(&mut self, now: Time, want: impl Fn(&Active) -> bool) -> Option<Peer> {
        let id = self.pick_spare(want)?.id;
        self.drop_active(now, id)
    }

    /// Whether there is a link that carries nobody's parts: only such a one is worth an exchange.
    pub(super) fn has_spare(&self) -> bool {
        self.active.iter().any(|m| !m.carries)
    }

    /// A random neighbour. Departure: one whose link carries nobody's parts, if there is one.
    pub(super) fn pick_spare(&mut self, want: impl Fn(&Active) -> bool) -> Option<Peer> {
        let spare = self.active.pick(&mut self.rng, |m| !m.carries && want(m)).map(|m| m.peer);
        spare.or_else(|| self.active.pick(&mut self.rng, want).map(|m| m.peer))
    }

    /// "Send(DISCONNECT, n, myself); activeView <- activeView \ {n}; addNodePassiveView(n)"
    pub(super) fn drop_active(&mut self, now: Time, id: NodeId) -> Option<Peer> {
        let member = self.active.remove(id)?;
        self.counters.drops += 1;
        self.outputs.push_back(Output::NeighborDown(id));
        self.send(member.peer, Message::Disconnect);
        self.add_passive(Passive::new(member.peer), &mut Vec::new());
        self.busy(now, id);
        Some(member.peer)
    }

    /// "addNodePassiveView(node)". In a full view one of `sent` goes first ("will first remove the
    /// identifiers that it has sent to the peer"); departure: a suspect goes before them.
    pub(super) fn add_passive(&mut self, member: Passive, sent: &mut Vec<NodeId>) {
        let id = member.peer.id;
        let known = id == self.me.id || self.active.contains(id) || self.passive.contains(id);
        if known || !member.peer.can_be_dialled() {
            return;
        }
        if self.is_static() && !self.named.contains(&id) {
            return;
        }
        if self.passive.len() >= self.config.passive_max {
            let worst = self.passive.iter().filter(|m| m.fails > 0).max_by_key(|m| m.fails).map(|m| m.peer.id);
            let sent = std::iter::from_fn(|| sent.pop()).find(|id| self.passive.contains(*id));
            let gone = match worst.or(sent) {
                Some(id) => Some(id),
                None => self.passive.pick(&mut self.rng, |_| true).map(|m| m.peer.id),
            };
            if let Some(gone) = gone.and_then(|gone| self.passive.remove(gone)) {
                self.contacts.note(&mut self.rng, gone.peer, self.config.book_max);
            }
        }
        if self.passive.len() < self.config.passive_max {
            self.passive.push(member);
        }
    }

    /// We have lost a neighbour: others may have, too.
    fn forget_busy(&mut self) {
        self.misses = 0;
        self.seek_every = self.config.seek_first;
        for member in self.passive.iter_mut().filter(|m| m.fails == 0) {
            (member.busy, member.retry_at) = (0, Time::ZERO);
        }
    }

    /// A passive peer has no slot for us; it is asked again later.
    pub(super) fn busy(&mut self, now: Time, id: NodeId) {
        let Config { busy_first, busy_max, .. } = self.config;
        let Some(member) = self.passive.get_mut(id) else { return };
        member.busy = member.busy.saturating_add(1);
        member.retry_at = now + doubled(busy_first, member.busy, busy_max);
    }

    /// A node that isn't our neighbour speaks as if it were: it has missed our DISCONNECT.
    pub(super) fn disown(&mut self, from: Peer) {
        self.send(from, Message::Disconnect);
    }

    pub(super) fn send(&mut self, to: Peer, message: Message) {
        self.outputs.push_back(Output::Send { to, message });
    }

    /// `interval`, give or take a quarter, lest the nodes act in step.
    fn around(&mut self, interval: Duration) -> Duration {
        interval * self.rng.random_range(75..=125) / 100
    }

    /// Panics where a promise of the views is broken.
    pub fn check_invariants(&self) {
        assert!(self.active.len() <= self.config.active_max, "active view above its bound");
        assert!(self.passive.len() <= self.config.passive_max, "passive view above its bound");
        assert!(self.contacts.len() <= self.config.book_max, "contact cache above its bound");
        assert!(self.pending.len() <= self.config.pending_max, "pending requests above their bound");
        assert!(!self.active.contains(self.me.id) && !self.passive.contains(self.me.id), "a view contains its node");
        for member in self.active.iter() {
            assert!(!self.passive.contains(member.peer.id), "{} is in both views", member.peer.id);
            assert!(!self.is_pending(member.peer.id), "{} is a neighbour and asked to be one", member.peer.id);
        }
    }
}

/// `first`, doubled with each of `times` after the first, at most `max`.
fn doubled(first: Duration, times: u8, max: Duration) -> Duration {
    (first * (1 << times.clamp(1, 16).saturating_sub(1))).min(max)
}

pub(super) fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
