//! A lean node: one swarm's HyParView and Plumtree, joined as [`Hub`](damson_core::swarm::Hub) joins them, but without
//! the directory, records and other swarms. A thousand hubs take five times as long as a thousand of these.

use std::collections::VecDeque;
use std::time::Duration;

use damson_core::hyparview::HyParView;
use damson_core::model::time::Time;
use damson_core::model::{NodeId, Peer, SwarmId, TrackId};
use damson_core::plumtree::{BodyEvent, Plumtree};
use damson_core::swarm::{FrameBody, Input, Output};
use damson_core::{hyparview as overlay, plumtree as broadcast};

use crate::node::{Glance, Node, stream_name};

/// The one swarm.
const SWARM: SwarmId = SwarmId(1);

/// As the hub's `link_linger`.
const LINK_LINGER: Duration = Duration::from_secs(10);

/// As the hub's `fresh`.
const FRESH: Duration = Duration::from_secs(6);

#[derive(Debug, Clone)]
struct Link {
    peer: Peer,
    /// The frames that wait for the dial; `None`: the link is up.
    waiting: Option<Vec<FrameBody>>,
    idle_since: Option<Time>,
}

/// One node of one swarm.
#[derive(Debug, Clone)]
pub struct Member {
    overlay: HyParView,
    tree: Plumtree,
    links: Vec<Link>,
    /// The bootstrap addresses.
    contacts: Vec<Peer>,
    asked: usize,
    sweep_at: Option<Time>,
    /// The number of segments of a track that are held; `u32::MAX`: all.
    held: u32,
    outputs: VecDeque<Output<FrameBody>>,
}

impl Member {
    /// Makes a node that joins at `contacts`, two at a time, and holds `held` segments of each track.
    pub fn new(
        me: Peer,
        contacts: Vec<Peer>,
        held: u32,
        overlay: overlay::Config,
        broadcast: broadcast::Config,
        seed: u64,
    ) -> Self {
        Member {
            overlay: HyParView::new(me, overlay, seed),
            tree: Plumtree::new(me.id, broadcast, seed.rotate_left(17)),
            links: Vec::new(),
            contacts: contacts.into_iter().filter(|peer| peer.id != me.id).collect(),
            asked: 0,
            sweep_at: None,
            held,
            outputs: VecDeque::new(),
        }
    }

    /// Changes the tree's rule of optimisation.
    pub fn set_optimise(&mut self, optimise: broadcast::Optimise) {
        self.tree.configure(|config| config.optimise = optimise);
    }

    /// Returns all nodes whose addresses it knows.
    pub fn known(&self) -> impl Iterator<Item = NodeId> {
        self.overlay.known().map(|peer| peer.id)
    }

    fn link(&mut self, id: NodeId) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.peer.id == id)
    }

    fn send(&mut self, to: Peer, frame: FrameBody, dial: bool) {
        match self.link(to.id) {
            Some(Link { waiting: Some(waiting), .. }) => waiting.push(frame),
            Some(_) => self.outputs.push_back(Output::Control { to: to.id, frame }),
            None if dial => {
                self.links.push(Link { peer: to, waiting: Some(vec![frame]), idle_since: None });
                self.outputs.push_back(Output::Dial { addr: to.addr, peer: Some(to.id) });
            }
            None => {}
        }
    }

    /// Takes the outputs of both cores until there are none. Looks at the overlay only if it had an input: with ten
    /// thousand nodes each look is a cache miss.
    fn pump(&mut self, now: Time, overlay: bool) {
        loop {
            if overlay && let Some(output) = self.overlay.poll_output() {
                self.on_overlay_output(now, output);
            } else if let Some(output) = self.tree.poll_output() {
                self.on_tree_output(now, output);
            } else {
                break;
            }
        }
        if self.tree.tree_changed() {
            for (id, eager) in self.tree.neighbours() {
                self.overlay.set_carries(id, eager);
            }
        }
        if overlay && self.sweep_at.is_none() && self.links.iter().any(|link| !self.overlay.needs_link(link.peer.id)) {
            self.sweep_at = Some(now + LINK_LINGER / 4);
        }
    }

    fn on_overlay_output(&mut self, now: Time, output: overlay::Output) {
        match output {
            overlay::Output::Send { to, message } => {
                let dial = message.wants_dial();
                self.send(to, FrameBody::Overlay(message), dial);
            }
            overlay::Output::NeighborUp(peer) => self.tree.handle(now, broadcast::Input::NeighborUp(peer.id)),
            overlay::Output::NeighborDown(peer) => self.tree.handle(now, broadcast::Input::NeighborDown(peer)),
            overlay::Output::Bootstrap => {
                for _ in 0..self.contacts.len().min(2) {
                    let contact = self.contacts[self.asked % self.contacts.len()];
                    self.asked += 1;
                    self.overlay.handle(now, overlay::Input::Join(contact));
                }
            }
        }
    }

    fn on_tree_output(&mut self, now: Time, output: broadcast::Output) {
        match output {
            broadcast::Output::Send { to, message } => {
                if self.link(to).is_some_and(|link| link.waiting.is_none()) {
                    self.outputs.push_back(Output::Control { to, frame: FrameBody::Broadcast(message) });
                }
            }
            broadcast::Output::Body { peer, action } => {
                self.outputs.push_back(Output::Body { peer, swarm: SWARM, action, expires: now + FRESH });
            }
            broadcast::Output::Deliver { header, body, trace, received } => {
                let id = header.id;
                if self.held < u32::MAX && id.track != TrackId::RECORD {
                    let before = id.msn.saturating_sub(self.held - 1);
                    self.tree.handle(now, broadcast::Input::Forget { track: id.track, before });
                }
                self.outputs.push_back(Output::Deliver { stream: stream_name(), header, body, trace, received });
            }
        }
    }

    /// Gives the tree an input that doesn't concern the overlay.
    fn feed_tree(&mut self, now: Time, input: broadcast::Input) {
        self.tree.handle(now, input);
        self.pump(now, false);
    }

    fn peer_down(&mut self, now: Time, peer: NodeId, cause: overlay::DownCause) {
        self.links.retain(|link| link.peer.id != peer);
        self.overlay.handle(now, overlay::Input::PeerDown { peer, cause });
    }

    fn sweep(&mut self, now: Time) {
        self.sweep_at = None;
        let Member { links, overlay, outputs, .. } = self;
        links.retain_mut(|link| {
            if link.waiting.is_some() || overlay.needs_link(link.peer.id) {
                link.idle_since = None;
                return true;
            }
            let keep = *link.idle_since.get_or_insert(now) + LINK_LINGER > now;
            if !keep {
                outputs.push_back(Output::Close(link.peer.id));
            }
            keep
        });
    }
}

impl Node for Member {
    /// A control frame, not encoded: that would cost more than all the rest.
    type Frame = FrameBody;

    fn handle(&mut self, now: Time, input: Input<FrameBody>) {
        let mut overlay = true;
        match input {
            Input::Timeout => {
                overlay = self.overlay.poll_timeout().is_some_and(|at| at <= now);
                if overlay {
                    self.overlay.handle(now, overlay::Input::Timeout);
                }
                if self.tree.poll_timeout().is_some_and(|at| at <= now) {
                    self.tree.handle(now, broadcast::Input::Timeout);
                }
                if self.sweep_at.is_some_and(|at| at <= now) {
                    self.sweep(now);
                    overlay = true;
                }
            }
            Input::LinkUp { peer, .. } => match self.link(peer.id) {
                Some(link) => {
                    for frame in link.waiting.take().unwrap_or_default() {
                        self.outputs.push_back(Output::Control { to: peer.id, frame });
                    }
                }
                None => self.links.push(Link { peer, waiting: None, idle_since: None }),
            },
            Input::LinkDown { peer, cause } => self.peer_down(now, peer, cause),
            Input::DialFailed { addr, peer, cause } => {
                // Not a link that has come up meanwhile, dialled by the other end.
                let of = |link: &Link| link.peer.addr == addr || Some(link.peer.id) == peer;
                let dialled = |link: &&Link| link.waiting.is_some() && of(link);
                if let Some(peer) = self.links.iter().find(dialled).map(|link| link.peer.id) {
                    self.peer_down(now, peer, cause);
                }
            }
            Input::LinkEstimate { peer, rtt_us, rate } => {
                self.overlay.handle(now, overlay::Input::Rtt { peer, rtt_us });
                self.tree.handle(now, broadcast::Input::LinkEstimate { peer, rtt_us, rate });
            }
            Input::Control { from, frame: FrameBody::Overlay(message) } => {
                if let Some(from) = self.link(from).map(|link| link.peer) {
                    self.overlay.handle(now, overlay::Input::Message { from, message });
                }
            }
            Input::Control { from, frame: FrameBody::Broadcast(message) } => {
                return self.feed_tree(now, broadcast::Input::Message { from, message });
            }
            Input::Body { peer, event, .. } => {
                let ended = matches!(event, BodyEvent::Torn(_) | BodyEvent::Stopped(_));
                if !ended {
                    return self.feed_tree(now, broadcast::Input::Body { peer, event });
                }
                self.tree.handle(now, broadcast::Input::Body { peer, event });
            }
            Input::Publish { header, body, trace, .. } => {
                return self.feed_tree(now, broadcast::Input::Publish { header, body, trace });
            }
            Input::Control { .. } | Input::Claim(_) | Input::Keep { .. } => overlay = false,
            Input::Leave => self.overlay.handle(now, overlay::Input::Leave),
        }
        self.pump(now, overlay);
    }

    fn poll_output(&mut self) -> Option<Output<FrameBody>> {
        let next = self.outputs.pop_front();
        if next.is_none() {
            self.outputs = VecDeque::new();
        }
        next
    }

    fn poll_timeout(&self) -> Option<Time> {
        [self.overlay.poll_timeout(), self.tree.poll_timeout(), self.sweep_at].into_iter().flatten().min()
    }

    fn glance(&self) -> Glance {
        Glance {
            active: self.overlay.active().map(|peer| peer.id).collect(),
            eager: self.tree.neighbours().filter(|(_, eager)| *eager).map(|(id, _)| id).collect(),
            sizes: Some(self.tree.sizes()),
            stats: Some(*self.tree.counters()),
        }
    }

    fn set_contacts(&mut self, contacts: Vec<Peer>) {
        self.contacts = contacts;
    }

    fn set_upload(&mut self, upload: Option<u64>) {
        self.tree.configure(|config| config.upload = upload);
    }

    fn check_invariants(&self) {
        self.overlay.check_invariants();
    }
}
