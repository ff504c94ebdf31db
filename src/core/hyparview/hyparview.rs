//! One node's part in an overlay: takes what happens, asks the owners of its parts, and sends. Quoted lines are the
//! paper's Algorithm 1 and its section 4; "Departure" marks what isn't in it.

use std::collections::VecDeque;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus as Rng;
use rand::{RngExt, SeedableRng};

use super::config::Config;
use super::departures::{Admissions, Calm, Nearness, Pong};
use super::io::{Counters, DownCause, Input, Output};
use super::join::Bootstrap;
use super::message::{Message, Priority};
use super::neighbor::{Answer, Ask, Requests};
use super::shuffle::Shuffles;
use super::timers::{Timer, Timers};
use super::views::Views;
use super::{departures, neighbor, shuffle};
use crate::model::time::Time;
use crate::model::{NodeId, Peer};

/// While passive peers are suspects, a link is exchanged after about this time: are they back? Guess: half of the 10 s in
/// which a healed partition should be one overlay again.
const ROTATE_SUSPECT: Duration = Duration::from_secs(5);

/// One node's part in the overlay of one swarm.
#[derive(Debug, Clone)]
pub struct HyParView {
    me: Peer,
    config: Config,
    rng: Rng,
    views: Views,
    requests: Requests,
    bootstrap: Bootstrap,
    shuffles: Shuffles,
    calm: Calm,
    admissions: Admissions,
    nearness: Nearness,
    timers: Timers,
    outputs: VecDeque<Output>,
    left: bool,
    counters: Counters,
}

impl HyParView {
    /// Makes an overlay of one: the first [`Input::Timeout`] asks for the bootstrap addresses.
    pub fn new(me: Peer, config: Config, seed: u64) -> Self {
        let views = Views::new(me.id, &config);
        let mut timers = Timers::default();
        timers.set(if views.is_static() { Timer::Refill } else { Timer::Bootstrap }, Time::ZERO);
        HyParView {
            me,
            rng: Rng::seed_from_u64(seed),
            views,
            requests: Requests::default(),
            bootstrap: Bootstrap::new(),
            shuffles: Shuffles::new(&config),
            calm: Calm::default(),
            admissions: Admissions::new(&config),
            nearness: Nearness::default(),
            timers,
            outputs: VecDeque::new(),
            left: false,
            counters: Counters::default(),
            config,
        }
    }

    /// Returns the neighbours.
    pub fn active(&self) -> impl Iterator<Item = Peer> {
        self.views.active().iter().map(|m| m.peer)
    }

    /// Returns the passive view.
    pub fn passive(&self) -> impl Iterator<Item = Peer> {
        self.views.passive().iter().map(|m| m.peer)
    }

    /// Returns all nodes whose addresses it knows: both views and the contact cache.
    pub fn known(&self) -> impl Iterator<Item = Peer> {
        self.views.known()
    }

    /// Returns whether `id` is a neighbour.
    pub fn is_neighbor(&self, id: NodeId) -> bool {
        self.views.is_neighbor(id)
    }

    /// Returns whether a link to `id` is needed: it is a neighbour, or something is under way with it.
    pub fn needs_link(&self, id: NodeId) -> bool {
        self.views.is_neighbor(id) || self.requests.contains(id) || self.nearness.is_measuring(id)
    }

    /// Notes whether the broadcast tree runs over the link to a neighbour; such a link is exchanged last.
    pub fn set_carries(&mut self, id: NodeId, carries: bool) {
        self.views.set_carries(id, carries && self.config.spare_tree_links);
    }

    /// Returns the counters.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Takes an input.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Timeout => self.on_timeout(now),
            Input::Join(contact) => self.on_contact(now, contact),
            Input::Message { from, message } => self.on_message(now, from, message),
            Input::PeerDown { peer, cause } => self.on_peer_down(now, peer, cause),
            Input::Rtt { peer, rtt_us } => self.views.set_rtt(peer, rtt_us),
            Input::Leave => self.on_leave(),
        }
        self.refill(now);
        self.rearm(now);
    }

    /// Returns the next output; drain until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when [`Input::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Panics where an invariant of the views or the requests is broken.
    pub fn check_invariants(&self) {
        self.views.check_invariants();
        self.requests.check_invariants(self.views.active());
    }

    // --- inputs ---

    fn on_contact(&mut self, now: Time, contact: Peer) {
        if self.left || contact.id == self.me.id {
            return;
        }
        if self.views.is_static() {
            return self.views.name(contact);
        }
        if self.views.is_neighbor(contact.id) {
            return self.bootstrap.anchor();
        }
        // "upon init do Send(JOIN, contactNode, myself)"
        // Departure: an island that is content with itself exchanges a link for one to the contact.
        let ask = if self.views.has_room() { Ask::Join } else { Ask::Rotate };
        if !self.requests.contains(contact.id) {
            self.ask(now, contact, ask);
        }
    }

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
        if !self.views.heard(from) && matches!(message, Message::Ping { .. }) && self.views.has_room() {
            self.add_passive(from);
        }
        match message {
            Message::Join => self.on_join(now, from),
            Message::ForwardJoin { peer, ttl } => self.on_forward_join(now, from, peer, ttl),
            Message::Neighbor { priority } => self.on_neighbor(now, from, priority),
            Message::NeighborReply { accepted, others } => self.on_neighbor_reply(now, from, accepted, others),
            Message::Disconnect => self.on_disconnect(now, from),
            Message::Shuffle { origin, ttl, nodes } => self.on_shuffle(from, origin, ttl, nodes),
            Message::ShuffleReply { nodes } => self.on_shuffle_reply(nodes),
            Message::Ping { stamp } => self.send(from, Message::Pong { stamp }),
            Message::Pong { stamp } => self.on_pong(now, from, stamp),
        }
    }

    /// Returns whether to take a walk on. A sender that isn't our neighbour has missed our DISCONNECT.
    fn takes_walk(&mut self, from: Peer, subject: Peer) -> bool {
        let known = self.views.is_neighbor(from.id);
        if !known {
            self.send(from, Message::Disconnect);
        }
        known && subject.id != self.me.id && !self.views.is_static()
    }

    fn on_peer_down(&mut self, now: Time, id: NodeId, cause: DownCause) {
        let asked = self.requests.failed(id);
        self.counters.failures += u64::from(asked);
        if cause == DownCause::Left {
            self.views.forget_contact(id);
        }
        self.nearness.forget(id);
        match self.views.remove_active(id) {
            Some(lost) => self.on_lost(now, lost),
            None if cause == DownCause::Lost && !asked => return, // A link that nobody needed any more.
            None => {}
        }
        self.suspect(now, id, cause);
    }

    fn on_lost(&mut self, now: Time, lost: Peer) {
        self.counters.losses += 1;
        self.outputs.push_back(Output::NeighborDown(lost.id));
        self.calm = Calm::default();
        self.views.forget_busy();
        self.views.open_contacts();
        self.add_passive(lost);
        // Departure: a node that has lost a neighbour shuffles like a young one, since its passive view may be as stale.
        let gossips = !self.views.is_static() && !self.views.active().is_empty();
        if gossips && self.config.shuffle_first < self.config.shuffle_interval {
            self.shuffles.hurry(&self.config);
            self.timers.hasten_about(&mut self.rng, now, Timer::Shuffle, self.shuffles.interval());
        }
    }

    fn suspect(&mut self, now: Time, id: NodeId, cause: DownCause) {
        if self.views.suspect(now, id, cause, &self.config) && self.config.rotate_interval.is_some() {
            self.timers.hasten_about(&mut self.rng, now, Timer::Rotate, ROTATE_SUSPECT);
        }
    }

    fn on_leave(&mut self) {
        for peer in self.active().collect::<Vec<_>>() {
            self.views.remove_active(peer.id);
            self.outputs.push_back(Output::NeighborDown(peer.id));
            self.send(peer, Message::Disconnect);
        }
        self.requests = Requests::default();
        self.nearness = Nearness::default();
        self.timers = Timers::default();
        self.left = true;
    }

    // --- timers ---

    fn on_timeout(&mut self, now: Time) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Bootstrap => {
                    self.outputs.push_back(Output::Bootstrap);
                    self.views.open_contacts();
                    self.bootstrap.asked();
                }
                Timer::Refill => {
                    while let Some(late) = self.requests.expire(now) {
                        self.counters.failures += 1;
                        self.suspect(now, late, DownCause::TimedOut);
                    }
                }
                Timer::Shuffle => self.shuffle(),
                Timer::Rotate => self.rotate(now),
                Timer::Optimise => self.optimise(now),
            }
        }
    }

    /// Arms what is needed and not armed.
    fn rearm(&mut self, now: Time) {
        if self.left {
            return;
        }
        let bootstrap = self.bootstrap.due(self.views.active().len(), &self.config);
        // The first question is always asked: a node that starts can't know what it is missing.
        if bootstrap.is_none() && self.counters.requests > 0 {
            self.timers.cancel(Timer::Bootstrap);
        }
        self.timers.arm(&mut self.rng, now, Timer::Bootstrap, bootstrap);
        let room = self.views.has_room();
        let idle = |id| !self.requests.contains(id);
        let retry = if room { self.views.next_retry(now, self.calm.until(), idle) } else { None };
        match self.requests.next(now, room).into_iter().chain(retry).min() {
            Some(at) => self.timers.set(Timer::Refill, at),
            None => self.timers.cancel(Timer::Refill),
        }
        let suspects = self.views.passive().iter().any(|m| m.fails > 0);
        let rotate = self.config.rotate_interval.map(|calm| if suspects { ROTATE_SUSPECT } else { calm });
        let gossip = !self.views.is_static();
        let repeated = [
            (Timer::Shuffle, gossip.then_some(self.shuffles.interval())),
            (Timer::Rotate, rotate),
            (Timer::Optimise, self.config.optimise_interval),
        ];
        for (timer, interval) in repeated {
            if self.views.active().is_empty() {
                self.timers.cancel(timer);
            } else {
                self.timers.arm(&mut self.rng, now, timer, interval);
            }
        }
    }

    // --- joining ---

    fn on_join(&mut self, now: Time, from: Peer) {
        if self.views.is_static() {
            return self.on_neighbor(now, from, Priority::Low);
        }
        let known = self.views.is_neighbor(from.id);
        // Departure: in a storm not every JOIN evicts a neighbour (which may be as new as the next one).
        let admitted = known || self.views.has_room() || self.admissions.admit(now, &self.config);
        let others = departures::referrals(&mut self.rng, &self.views, &self.config, from.id);
        let walk = Message::ForwardJoin { peer: from, ttl: self.config.arwl };
        if !admitted {
            if let Some(n) = self.views.active().pick_except(&mut self.rng, &[from.id]) {
                self.send(n, walk);
            }
            self.send(from, Message::NeighborReply { accepted: false, others });
            self.add_passive(from);
            return;
        }
        // "if isfull(activeView) then trigger dropRandomElementFromActiveView; addNodeActiveView(newNode)"
        if !known {
            if !self.views.has_room()
                && let Some(gone) = self.views.active().pick_spare(&mut self.rng, |_| true)
            {
                self.drop_active(now, gone.id);
            }
            self.add_active(now, from, false);
        }
        self.send(from, Message::NeighborReply { accepted: true, others });
        // "foreach n in activeView and n != newNode do Send(FORWARDJOIN, n, newNode, ARWL, myself)"
        for n in self.active().filter(|n| n.id != from.id).collect::<Vec<_>>() {
            self.send(n, walk.clone());
        }
    }

    fn on_forward_join(&mut self, now: Time, from: Peer, peer: Peer, ttl: u8) {
        if !self.takes_walk(from, peer) {
            return;
        }
        // "if timeToLive == 0 || #activeView == 1 then addNodeActiveView(newNode)"
        let alone = self.views.active().len() == 1;
        let Some(next) = ttl.min(self.config.arwl).checked_sub(1).filter(|_| !alone) else {
            return self.place(now, peer);
        };
        // "if timeToLive == PRWL then addNodePassiveView(newNode)"
        if next + 1 == self.config.prwl {
            self.add_passive(peer);
        }
        // "n <- n in activeView and n != sender". Departure: nor the new node itself, which would end its own walk.
        match self.views.active().pick_except(&mut self.rng, &[from.id, peer.id]) {
            Some(n) => self.send(n, Message::ForwardJoin { peer, ttl: next }),
            None => self.place(now, peer),
        }
    }

    /// "addNodeActiveView(newNode)" at the end of its walk. The new node is asked, and added when it accepts.
    fn place(&mut self, now: Time, peer: Peer) {
        if self.views.is_neighbor(peer.id) || self.requests.contains(peer.id) {
            return;
        }
        let full = self.requests.is_full();
        if full || !(self.views.has_room() || self.admissions.admit(now, &self.config)) {
            return self.add_passive(peer);
        }
        self.ask(now, peer, Ask::Place);
    }

    // --- becoming neighbours, and ceasing to be ---

    fn on_neighbor(&mut self, now: Time, from: Peer, priority: Priority) {
        let HyParView { rng, views, admissions, config, .. } = self;
        let answer = neighbor::answer(rng, now, from.id, priority, views, admissions, config);
        let Answer { accepted, displaced, others } = answer;
        if let Some(displaced) = displaced {
            self.drop_active(now, displaced.id);
        }
        if accepted && !self.views.is_neighbor(from.id) {
            self.add_active(now, from, displaced.is_some() && matches!(priority, Priority::Near { .. }));
        }
        self.send(from, Message::NeighborReply { accepted, others });
    }

    fn on_neighbor_reply(&mut self, now: Time, from: Peer, accepted: bool, others: Vec<Peer>) {
        let ask = self.requests.answered(from.id);
        if ask == Some(Ask::Join) || (accepted && ask == Some(Ask::Rotate)) {
            self.bootstrap.anchor();
        }
        let displaced = others.first().copied();
        if ask.is_some() {
            self.views.integrate(&mut self.rng, others, &mut Vec::new());
        }
        match (accepted, self.views.is_neighbor(from.id)) {
            (true, true) => {}
            (true, false) => self.on_accepted(now, from, ask, displaced),
            (false, true) => {
                // Two requests crossed, and one was refused: the DISCONNECT keeps the views symmetric.
                self.counters.refusals += u64::from(ask.is_some());
                self.counters.one_sided += u64::from(ask.is_none());
                self.drop_active(now, from.id);
            }
            (false, false) => self.on_refused(now, from, ask),
        }
    }

    /// "the initiator will select another node from its passive view and repeat the whole procedure"
    fn on_refused(&mut self, now: Time, from: Peer, ask: Option<Ask>) {
        let Some(ask) = ask else { return };
        self.counters.refusals += 1;
        self.add_passive(from);
        self.views.set_busy(now, from.id);
        if ask == Ask::Fill && self.views.has_enough(&self.config) {
            self.calm.refused(now, &self.config);
        }
    }

    fn on_accepted(&mut self, now: Time, from: Peer, ask: Option<Ask>, displaced: Option<Peer>) {
        if !self.views.has_room()
            && let Some(gone) = neighbor::given_up(&mut self.rng, ask, self.views.active())
        {
            // Both ends of an exchange drop somebody: the two are brought together, as X-BOT's four
            // nodes are, so that the exchange leaves no slot free.
            let displaced =
                displaced.filter(|d| d.id != gone.id && matches!(ask, Some(Ask::Rotate | Ask::Near { .. })));
            if let Some(peer) = displaced {
                self.send(gone, Message::ForwardJoin { peer, ttl: 0 });
            }
            self.drop_active(now, gone.id);
        }
        if self.views.has_room() {
            self.add_active(now, from, matches!(ask, Some(Ask::Near { .. })));
        } else {
            self.send(from, Message::Disconnect);
            self.add_passive(from);
        }
    }

    fn on_disconnect(&mut self, now: Time, from: Peer) {
        // "if peer in activeView then activeView <- activeView \ {peer}; addNodePassiveView(peer)"
        if !self.views.is_neighbor(from.id) {
            return;
        }
        self.counters.drops += 1;
        self.outputs.push_back(Output::NeighborDown(from.id));
        self.calm.forget();
        self.views.forget_busy();
        self.views.demote(&mut self.rng, now, from.id);
        if self.views.has_enough(&self.config) {
            self.calm.dropped(now, &self.config);
        }
    }

    /// Asks passive peers as long as slots are free.
    fn refill(&mut self, now: Time) {
        let room = self.views.room();
        if self.left || room == 0 || now < self.calm.until() {
            return;
        }
        let few = self.views.active().len() < self.config.active_min || self.requests.mostly_fail(&self.config);
        while self.requests.may_fill(now, room, &self.config) {
            let idle = |id| !self.requests.contains(id);
            let Some(peer) = self.views.candidate(&mut self.rng, now, few, idle) else { return };
            self.ask(now, peer, Ask::Fill);
        }
    }

    fn ask(&mut self, now: Time, peer: Peer, ask: Ask) {
        if self.requests.begin(now, peer.id, ask, &self.config) {
            self.counters.requests += 1;
            self.send(peer, ask.message(self.views.active().is_empty()));
        }
    }

    // --- shuffling ---

    fn shuffle(&mut self) {
        let sent = self.shuffles.begin(&mut self.rng, self.me, &self.views, &self.config);
        self.counters.shuffles += u64::from(sent.is_some());
        self.send_any(sent);
    }

    fn on_shuffle(&mut self, from: Peer, origin: Peer, ttl: u8, nodes: Vec<Peer>) {
        if self.takes_walk(from, origin) {
            let HyParView { rng, views, config, .. } = self;
            let answer = shuffle::take(rng, views, config, from, origin, ttl, nodes);
            self.send_any(answer);
        }
    }

    fn on_shuffle_reply(&mut self, nodes: Vec<Peer>) {
        if let Some(mut sent) = self.shuffles.take_sent() {
            self.views.integrate(&mut self.rng, nodes, &mut sent);
        }
    }

    // --- departures ---

    /// Exchanges a link for one to a passive peer.
    fn rotate(&mut self, now: Time) {
        let room = self.views.has_room();
        if !room && self.views.active().has_spare() {
            let idle = |id| !self.requests.contains(id);
            if let Some(peer) = departures::exchange(&mut self.rng, now, self.views.passive(), idle) {
                self.ask(now, peer, Ask::Rotate);
            }
        }
        // After a mass failure a contact may live and know no other live node. It asks us for a link when it hears the PING.
        let contacts = std::iter::from_fn(|| self.views.next_contact()).take(departures::PROBES);
        self.outputs.extend(contacts.map(|to| Output::Send { to, message: Message::Ping { stamp: 0 } }));
        // Two islands that never knew of each other can only learn of it where both began. A small one
        // is full of nodes with room.
        if self.config.active_min > 0 && (room || self.rng.random_range(0..2) == 0) {
            self.outputs.push_back(Output::Bootstrap);
        }
    }

    /// Measures a passive peer: is it nearer than a neighbour?
    fn optimise(&mut self, now: Time) {
        let ping = self.nearness.begin(&mut self.rng, now, &self.views, &self.config);
        self.send_any(ping);
    }

    fn on_pong(&mut self, now: Time, from: Peer, stamp: u64) {
        match self.nearness.on_pong(&mut self.rng, now, from.id, stamp) {
            Pong::Stray => {}
            Pong::Again(ping) => self.send(from, ping),
            Pong::Rtt(rtt_us) => {
                let known = self.views.is_neighbor(from.id) || self.requests.contains(from.id);
                let nearer = departures::farther_than(self.views.active(), rtt_us).is_some();
                if nearer && !known && !self.views.has_room() {
                    self.ask(now, from, Ask::Near { rtt_us });
                }
            }
        }
    }

    // --- the views, told to the outside ---

    /// "addNodeActiveView(node)", where there is room.
    fn add_active(&mut self, now: Time, peer: Peer, near: bool) {
        self.requests.take(peer.id);
        self.views.add_active(now, peer, near);
        self.counters.ups += 1;
        self.outputs.push_back(Output::NeighborUp(peer));
    }

    /// "Send(DISCONNECT, n, myself); activeView <- activeView \ {n}; addNodePassiveView(n)"
    fn drop_active(&mut self, now: Time, id: NodeId) {
        if let Some(peer) = self.views.demote(&mut self.rng, now, id) {
            self.counters.drops += 1;
            self.outputs.push_back(Output::NeighborDown(id));
            self.send(peer, Message::Disconnect);
        }
    }

    fn add_passive(&mut self, peer: Peer) {
        self.views.add_passive(&mut self.rng, peer, &mut Vec::new());
    }

    fn send_any(&mut self, sent: Option<(Peer, Message)>) {
        self.outputs.extend(sent.map(|(to, message)| Output::Send { to, message }));
    }

    fn send(&mut self, to: Peer, message: Message) {
        self.outputs.push_back(Output::Send { to, message });
    }
}
