//! iroh-gossip's protocol state machine as a node of the simulator, with the settings that it comes with: those of
//! the paper, timeouts of 80 and 40 ms, and an optimisation threshold of 7.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};
use damson_core::model::time::Time;
use damson_core::model::wire::Reader;
use damson_core::model::{NodeId, PartHeader, PartId, Peer};
use damson_core::swarm::{Input, Output};
use damson_sim::{Glance, Node};
use iroh_gossip::proto::state::MessageKind;
use iroh_gossip::proto::topic::{Command, Event};
use iroh_gossip::proto::{Config, DeliveryScope, InEvent, Message, OutEvent, PeerData, Scope, State, Timer, TopicId};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::links::{Links, deliver, id, index};

/// A node of iroh-gossip.
pub(crate) struct Iroh {
    state: State<u32, SmallRng>,
    /// Whom it joins when it starts.
    contacts: Option<Vec<u32>>,
    topics: u64,
    links: Links<Message<u32>>,
    active: Vec<NodeId>,
    timers: BTreeMap<(Time, u64), Timer<u32>>,
    timer_count: u64,
    delivered: BTreeSet<PartId>,
    payloads: u64,
    outputs: VecDeque<Output<Message<u32>>>,
}

impl Iroh {
    /// A node that joins at `contacts`; the parts of a source go to one of so many topics.
    pub(crate) fn new(me: u32, contacts: &[Peer], topics: u64, seed: u64) -> Self {
        Iroh {
            state: State::new(me, PeerData::default(), Config::default(), SmallRng::seed_from_u64(seed)),
            contacts: Some(contacts.iter().map(|peer| index(peer.id)).filter(|at| *at != me).collect()),
            topics,
            links: Links::new(),
            active: Vec::new(),
            timers: BTreeMap::new(),
            timer_count: 0,
            delivered: BTreeSet::new(),
            payloads: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Payload messages sent so far.
    pub(crate) fn payloads(&self) -> u64 {
        self.payloads
    }

    fn topic(number: u64) -> TopicId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        TopicId::from_bytes(bytes)
    }

    fn give(&mut self, now: Time, event: InEvent<u32>) {
        let outputs: Vec<OutEvent<u32>> = self.state.handle(event, damson::clock::instant(now).into(), None).collect();
        for output in outputs {
            match output {
                OutEvent::SendMessage(to, message) => {
                    self.payloads += u64::from(matches!(message.kind(), MessageKind::Data));
                    self.outputs.extend(self.links.send::<Self>(to, message));
                }
                OutEvent::EmitEvent(topic, event) => self.on_event(topic, event),
                OutEvent::ScheduleTimer(after, timer) => {
                    self.timer_count += 1;
                    self.timers.insert((now + after, self.timer_count), timer);
                }
                OutEvent::DisconnectPeer(peer) => {
                    self.links.down(peer);
                    self.outputs.push_back(Output::Close(id(peer)));
                }
                OutEvent::PeerData(..) => {}
            }
        }
    }

    fn on_event(&mut self, topic: TopicId, event: Event<u32>) {
        match event {
            // The first topic's view stands for all.
            Event::NeighborUp(peer) if topic == Self::topic(0) => self.active.push(id(peer)),
            Event::NeighborDown(peer) if topic == Self::topic(0) => self.active.retain(|other| *other != id(peer)),
            Event::NeighborUp(_) | Event::NeighborDown(_) => {}
            Event::Received(event) => {
                let DeliveryScope::Swarm(round) = event.scope else { return };
                // The round is opaque, but can be compared. The source sends round 0.
                let hops = (0..u8::MAX).find(|hops| round == u16::from(*hops).into()).unwrap_or(u8::MAX);
                let header = PartHeader::decode(&mut Reader::new(event.content.clone()));
                let header = header.expect("only our own parts are published");
                self.deliver(header, event.content.slice(PartHeader::WIRE_LEN..), hops.saturating_add(1));
            }
        }
    }

    fn deliver(&mut self, header: PartHeader, body: Bytes, hops: u8) {
        // What is older than its memory of ids it takes for new.
        if self.delivered.insert(header.id) {
            self.outputs.push_back(deliver(header, body, hops));
        }
    }

    fn publish(&mut self, now: Time, header: PartHeader, body: Bytes) {
        let mut content = BytesMut::with_capacity(PartHeader::WIRE_LEN + body.len());
        header.encode(&mut content);
        content.extend_from_slice(&body);
        let topic = Self::topic(header.id.epoch.node.0 % self.topics);
        self.deliver(header, body, 0);
        self.give(now, InEvent::Command(topic, Command::Broadcast(content.freeze(), Scope::Swarm)));
    }
}

impl Node for Iroh {
    type Frame = Message<u32>;

    fn handle(&mut self, now: Time, input: Input<Message<u32>>) {
        match input {
            Input::Timeout => {
                if let Some(contacts) = self.contacts.take() {
                    for topic in 0..self.topics {
                        self.give(now, InEvent::Command(Self::topic(topic), Command::Join(contacts.clone())));
                    }
                }
                while let Some(entry) = self.timers.first_entry()
                    && entry.key().0 <= now
                {
                    let timer = entry.remove();
                    self.give(now, InEvent::TimerExpired(timer));
                }
            }
            Input::LinkUp { peer, .. } => self.outputs.extend(self.links.up(index(peer.id))),
            Input::LinkDown { peer, .. } | Input::DialFailed { peer: Some(peer), .. } => {
                self.links.down(index(peer));
                self.give(now, InEvent::PeerDisconnected(index(peer)));
            }
            Input::Control { from, frame } => self.give(now, InEvent::RecvMessage(index(from), frame)),
            Input::Publish { header, body, .. } => self.publish(now, header, body),
            Input::Leave => {
                for topic in 0..self.topics {
                    self.give(now, InEvent::Command(Self::topic(topic), Command::Quit));
                }
            }
            // A message is sent whole, as a frame, payload or not; nobody measures.
            Input::DialFailed { peer: None, .. }
            | Input::LinkEstimate { .. }
            | Input::Body { .. }
            | Input::Claim(_)
            | Input::Keep { .. } => {}
        }
    }

    fn poll_output(&mut self) -> Option<Output<Message<u32>>> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.timers.first_key_value().map(|(at, _)| at.0)
    }

    fn glance(&self) -> Glance {
        Glance { active: self.active.clone(), ..Glance::default() }
    }
}
