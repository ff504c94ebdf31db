//! The crates plumtree and hyparview as a node of the simulator. Their views are set to the paper's sizes, as
//! the others' are; what is to be done now and then is done as often as their own driver, plumcast, does it, but
//! for the SHUFFLE, which comes once a minute as everybody's.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use damson_core::model::time::Time;
use damson_core::model::{PartHeader, PartId, Peer};
use damson_core::swarm::{Input, Output};
use damson_sim::{Glance, Node};
use hyparview::message::ProtocolMessage as OverlayMessage;
use plumtree::message::{Message, ProtocolMessage as TreeMessage};
use rand_for_hyparview::rngs::SmallRng;
use rand_for_hyparview::{Rng, SeedableRng};

use super::links::{Links, deliver, id, index};

/// plumcast's.
const SYNC: Duration = Duration::from_secs(60);
const FILL: Duration = Duration::from_secs(30);
/// Everybody's here.
const SHUFFLE: Duration = Duration::from_secs(60);
/// How long a message is kept: as the others keep theirs. The crate leaves it to its user.
const KEPT: Duration = Duration::from_secs(30);

struct System;

impl plumtree::System for System {
    type NodeId = u32;
    type MessageId = PartId;
    type MessagePayload = Arc<(PartHeader, Bytes)>;
}

/// What goes over a link.
#[derive(Clone)]
pub(crate) struct Frame(Arc<Either>);

enum Either {
    Overlay(OverlayMessage<u32>),
    Tree(TreeMessage<System>),
}

/// A node of plumtree and hyparview.
pub(crate) struct Sile {
    me: u32,
    contacts: Option<Vec<u32>>,
    overlay: hyparview::Node<u32, SmallRng>,
    tree: plumtree::Node<System>,
    chance: SmallRng,
    links: Links<Frame>,
    born: Time,
    sync_at: Time,
    fill_at: Time,
    shuffle_at: Time,
    kept: VecDeque<(Time, PartId)>,
    delivered: BTreeSet<PartId>,
    payloads: u64,
    outputs: VecDeque<Output<Frame>>,
}

impl Sile {
    /// A node that joins at `contacts`.
    pub(crate) fn new(me: u32, contacts: &[Peer], seed: u64) -> Self {
        let options = hyparview::NodeOptions {
            max_active_view_size: 5,
            max_passive_view_size: 30,
            shuffle_active_view_size: 3,
            shuffle_passive_view_size: 4,
            active_random_walk_len: 6,
            passive_random_walk_len: 3,
        };
        Sile {
            me,
            contacts: Some(contacts.iter().map(|peer| index(peer.id)).filter(|at| *at != me).collect()),
            overlay: hyparview::Node::with_options(me, SmallRng::seed_from_u64(seed), options),
            tree: plumtree::Node::new(me),
            chance: SmallRng::seed_from_u64(!seed),
            links: Links::new(),
            born: Time::from_micros(0),
            sync_at: Time::from_micros(0),
            fill_at: Time::from_micros(0),
            shuffle_at: Time::from_micros(0),
            kept: VecDeque::new(),
            delivered: BTreeSet::new(),
            payloads: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Payload messages sent so far.
    pub(crate) fn payloads(&self) -> u64 {
        self.payloads
    }

    /// About that time from now, so that not all do it at once.
    fn about(&mut self, now: Time, interval: Duration) -> Time {
        let half = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX) / 2;
        now + Duration::from_micros(half + self.chance.gen_range(0, 2 * half))
    }

    fn start(&mut self, now: Time, contacts: Vec<u32>) {
        self.born = now;
        (self.sync_at, self.fill_at) = (self.about(now, SYNC), self.about(now, FILL));
        self.shuffle_at = self.about(now, SHUFFLE);
        for contact in contacts {
            self.overlay.join(contact);
        }
    }

    fn on_time(&mut self, now: Time) {
        if self.sync_at <= now {
            self.overlay.sync_active_view();
            self.sync_at = self.about(now, SYNC);
        }
        if self.fill_at <= now {
            self.overlay.fill_active_view();
            self.fill_at = self.about(now, FILL);
        }
        if self.shuffle_at <= now {
            self.overlay.shuffle_passive_view();
            self.shuffle_at = self.about(now, SHUFFLE);
        }
        while let Some((until, id)) = self.kept.front().copied()
            && until <= now
        {
            self.tree.forget_message(&id);
            self.kept.pop_front();
        }
    }

    /// Does what the two want. They keep hashed sets, so what they want at once is put in an order of its own: the
    /// same seed gives the same run.
    fn pump(&mut self, now: Time, hops: u8) {
        let clock = self.tree.clock().now().as_duration();
        self.tree.clock_mut().tick(now.since(self.born).saturating_sub(clock));
        loop {
            let mut moved = false;
            while let Some(action) = self.overlay.poll_action() {
                moved = true;
                match action {
                    hyparview::Action::Send { destination, message } => {
                        let frame = Frame(Arc::new(Either::Overlay(message)));
                        self.outputs.extend(self.links.send::<Self>(destination, frame));
                    }
                    hyparview::Action::Disconnect { node } => {
                        self.links.down(node);
                        self.outputs.push_back(Output::Close(id(node)));
                    }
                    hyparview::Action::Notify { event: hyparview::Event::NeighborUp { node } } => {
                        self.tree.handle_neighbor_up(&node);
                    }
                    hyparview::Action::Notify { event: hyparview::Event::NeighborDown { node } } => {
                        self.tree.handle_neighbor_down(&node);
                    }
                }
            }
            let mut sends = Vec::new();
            while let Some(action) = self.tree.poll_action() {
                moved = true;
                match action {
                    plumtree::Action::Deliver { message } => self.deliver(now, &message, hops),
                    plumtree::Action::Send { destination, message } => sends.push((destination, message)),
                }
            }
            sends.sort_by_key(|(to, message)| (*to, about_what(message)));
            for (to, message) in sends {
                self.payloads += u64::from(matches!(message, TreeMessage::Gossip(_)));
                let frame = Frame(Arc::new(Either::Tree(message)));
                self.outputs.extend(self.links.send::<Self>(to, frame));
            }
            if !moved {
                return;
            }
        }
    }

    fn deliver(&mut self, now: Time, message: &Message<System>, hops: u8) {
        self.kept.push_back((now + KEPT, message.id));
        // What it has forgotten it takes for new.
        if self.delivered.insert(message.id) {
            let (header, body) = (*message.payload).clone();
            self.outputs.push_back(deliver(header, body, hops));
        }
    }
}

/// The part that a message is about, if it is about one.
fn about_what(message: &TreeMessage<System>) -> Option<PartId> {
    match message {
        TreeMessage::Gossip(gossip) => Some(gossip.message.id),
        TreeMessage::Ihave(ihave) => Some(ihave.message_id),
        TreeMessage::Graft(graft) => graft.message_id,
        TreeMessage::Prune(_) => None,
    }
}

impl Node for Sile {
    type Frame = Frame;

    fn handle(&mut self, now: Time, input: Input<Frame>) {
        let mut hops = 0;
        match input {
            Input::Timeout => match self.contacts.take() {
                Some(contacts) => self.start(now, contacts),
                None => self.on_time(now),
            },
            Input::LinkUp { peer, .. } => self.outputs.extend(self.links.up(index(peer.id))),
            Input::LinkDown { peer, .. } | Input::DialFailed { peer: Some(peer), .. } => {
                self.links.down(index(peer));
                self.overlay.disconnect(&index(peer), false);
            }
            Input::Control { frame, .. } => match &*frame.0 {
                Either::Overlay(message) => self.overlay.handle_protocol_message(message.clone()),
                Either::Tree(message) => {
                    if let TreeMessage::Gossip(gossip) = message {
                        hops = u8::try_from(gossip.round).unwrap_or(u8::MAX);
                    }
                    self.tree.handle_protocol_message(message.clone());
                }
            },
            Input::Publish { header, body, .. } => {
                self.tree.broadcast_message(Message::new(header.id, Arc::new((header, body))));
            }
            Input::Leave => {
                for peer in self.overlay.active_view().to_vec() {
                    let message = hyparview::message::DisconnectMessage { sender: self.me, alive: false };
                    let frame = Frame(Arc::new(Either::Overlay(OverlayMessage::Disconnect(message))));
                    self.outputs.extend(self.links.send::<Self>(peer, frame));
                }
            }
            // A message is sent whole, as a frame, payload or not; nobody measures.
            Input::DialFailed { peer: None, .. }
            | Input::LinkEstimate { .. }
            | Input::Body { .. }
            | Input::Claim(_)
            | Input::Keep { .. } => {}
        }
        self.pump(now, hops);
    }

    fn poll_output(&mut self) -> Option<Output<Frame>> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Time> {
        let graft = self.tree.next_expiry_time().map(|at| self.born + at.as_duration());
        let forget = self.kept.front().map(|(until, _)| *until);
        [graft, forget, Some(self.sync_at.min(self.fill_at).min(self.shuffle_at))].into_iter().flatten().min()
    }

    fn glance(&self) -> Glance {
        Glance {
            active: self.overlay.active_view().iter().map(|peer| id(*peer)).collect(),
            eager: self.tree.eager_push_peers().iter().map(|peer| id(*peer)).collect(),
            ..Glance::default()
        }
    }
}
