//! The swarms that this node is in, and the next deadline of each.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::config::Config;
use super::io::Output;
use super::member::{Action, Member, Stream};
use crate::hyparview::HyParView;
use crate::model::time::Time;
use crate::model::{Peer, StreamName, SwarmId};
use crate::plumtree::Plumtree;

/// The streams' shares of the upload are computed this often: as often as a stream's rate is measured.
const SHARE_EVERY: Duration = Duration::from_secs(2);

/// A swarm outlives its entry by this, so that a restarted ingest node finds the record and goes on: twice the 30 s that a
/// presentation waits for its publisher.
const SWARM_LINGER: Duration = Duration::from_secs(60);

/// A swarm, and its deadline in `due`.
#[derive(Debug)]
struct Scheduled {
    member: Member,
    at: Option<Time>,
}

/// All swarms of a node. After every change to one, call [`Members::poll`] until it returns `None`.
#[derive(Debug)]
pub(super) struct Members {
    me: Peer,
    config: Config,
    seed: u64,
    members: BTreeMap<SwarmId, Scheduled>,
    due: BTreeSet<(Time, SwarmId)>,
    /// The first part after this time has the upload shared anew.
    share_at: Option<Time>,
}

impl Members {
    /// Makes a node in the directory's swarm alone.
    pub(super) fn new(me: Peer, config: Config, seed: u64) -> Self {
        let (members, due, share_at) = Default::default();
        let mut members = Members { me, config, seed, members, due, share_at };
        members.add(SwarmId::DIRECTORY, None);
        members
    }

    fn add(&mut self, id: SwarmId, stream: Option<Stream>) {
        // Each swarm has its own randomness, from the one seed.
        let overlay = HyParView::new(self.me, self.config.overlay.clone(), self.seed ^ id.0.rotate_left(1));
        self.members.insert(id, Scheduled { member: Member::new(id, overlay, stream), at: None });
        self.reschedule(id);
    }

    pub(super) fn get(&self, id: SwarmId) -> Option<&Member> {
        self.members.get(&id).map(|scheduled| &scheduled.member)
    }

    pub(super) fn get_mut(&mut self, id: SwarmId) -> Option<&mut Member> {
        self.members.get_mut(&id).map(|scheduled| &mut scheduled.member)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Member> {
        self.members.values().map(|scheduled| &scheduled.member)
    }

    fn reschedule(&mut self, id: SwarmId) {
        let Some(Scheduled { member, at }) = self.members.get_mut(&id) else { return };
        let next = member.poll_timeout();
        if next != *at {
            if let Some(at) = std::mem::replace(at, next) {
                self.due.remove(&(at, id));
            }
            self.due.extend(next.map(|at| (at, id)));
        }
    }

    // --- what happens to them ---

    /// Joins a stream's swarm, or learns of more members of it. Returns whether the swarm is new here.
    pub(super) fn join(&mut self, name: &StreamName, contacts: impl IntoIterator<Item = Peer>) -> bool {
        let (id, me) = (SwarmId::of(name), self.me.id);
        let fresh = !self.members.contains_key(&id);
        if fresh {
            let tree = Plumtree::new(me, self.config.broadcast.clone(), self.seed ^ id.0);
            self.add(id, Some(Stream::new(name.clone(), tree)));
        }
        let contacts = contacts.into_iter().filter(|peer| peer.id != me && peer.can_be_dialled()).collect();
        if let Some(member) = self.get_mut(id) {
            member.stay(name, contacts);
        }
        fresh
    }

    /// Notes that a stream's entry is gone: this node leaves its swarm after a while.
    pub(super) fn let_go(&mut self, now: Time, name: &StreamName) {
        let (id, at) = (SwarmId::of(name), now + SWARM_LINGER);
        if let Some(member) = self.get_mut(id) {
            member.leave_at(at);
        }
        self.reschedule(id);
    }

    /// Forgets a swarm.
    pub(super) fn remove(&mut self, id: SwarmId) {
        if let Some(Scheduled { at: Some(at), .. }) = self.members.remove(&id) {
            self.due.remove(&(at, id));
        }
    }

    /// Returns the next thing that a swarm wants done.
    pub(super) fn poll(&mut self, now: Time, id: SwarmId) -> Option<Action> {
        let Members { members, config, .. } = self;
        let action = members.get_mut(&id).and_then(|scheduled| scheduled.member.poll(now, config));
        match &action {
            None => self.reschedule(id),
            Some(Action::Output(Output::Deliver { .. })) => self.share_upload(now),
            Some(_) => {}
        }
        action
    }

    /// Gives each stream its share of [`crate::plumtree::Config::upload`], by rate: then every tree has as many children
    /// here. A stream takes what it needs until its rate is known.
    fn share_upload(&mut self, now: Time) {
        let Some(upload) = self.config.broadcast.upload else { return };
        if self.share_at.is_some_and(|at| now < at) {
            return;
        }
        self.share_at = Some(now + SHARE_EVERY);
        let all: u64 = self.all().map(|member| member.inflow(now)).sum();
        let share = |rate: u64| {
            let share = u128::from(upload) * u128::from(rate) / u128::from(all.max(1));
            if rate == 0 { upload } else { u64::try_from(share).unwrap_or(u64::MAX) }
        };
        for scheduled in self.members.values_mut() {
            scheduled.member.set_upload(share, now);
        }
    }

    /// Chooses members of a stream's swarm to join through.
    pub(super) fn choose_contacts(&mut self, id: SwarmId) -> Vec<Peer> {
        let (me, near) = (self.me.id, self.neighbours().collect());
        self.get_mut(id).map(|member| member.choose_contacts(me, near)).unwrap_or_default()
    }

    // --- what can be seen ---

    /// Returns the ids of all swarms, the directory's first.
    pub(super) fn ids(&self) -> Vec<SwarmId> {
        self.members.keys().copied().collect()
    }

    /// Returns the swarms that are due.
    pub(super) fn due(&self, now: Time) -> Vec<SwarmId> {
        self.due.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect()
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Returns the neighbours in the directory's swarm.
    pub(super) fn neighbours(&self) -> impl Iterator<Item = Peer> {
        self.get(SwarmId::DIRECTORY).into_iter().flat_map(Member::active)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::frame::FrameBody;
    use super::*;
    use crate::hyparview::{Message, Priority};
    use crate::model::time::UnixTime;
    use crate::model::{Epoch, Flags, NodeId, PartHeader, PartId, Trace, TrackId};
    use crate::{hyparview as overlay, plumtree as broadcast};

    const T: Time = Time::from_millis(100_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn peer(n: u64) -> Peer {
        Peer { id: NodeId(n), addr: ([127, 0, 0, 1], 4_900 + n as u16).into() }
    }

    fn name(text: &str) -> StreamName {
        StreamName::parse(text).expect("a name")
    }

    fn members() -> Members {
        Members::new(peer(1), Config::gossip(Vec::new()), 7)
    }

    fn drain(members: &mut Members, now: Time, id: SwarmId) -> Vec<Action> {
        std::iter::from_fn(|| members.poll(now, id)).collect()
    }

    fn feed_overlay(members: &mut Members, id: SwarmId, input: overlay::Input) {
        members.get_mut(id).expect("a swarm").feed_overlay(T, input);
    }

    fn expire(members: &mut Members, now: Time, id: SwarmId) -> bool {
        members.get_mut(id).expect("a swarm").expire(now)
    }

    /// A neighbour asks with priority, which is never refused.
    fn add_neighbour(members: &mut Members, id: SwarmId, n: u64) -> Vec<Action> {
        let message = Message::Neighbor { priority: Priority::High };
        feed_overlay(members, id, overlay::Input::Message { from: peer(n), message });
        drain(members, T, id)
    }

    #[test]
    fn a_stream_is_joined_once_and_left_after_a_while() {
        let (mut members, id) = (members(), SwarmId::of(&name("a")));
        assert!(members.get(id).is_none());
        assert!(members.join(&name("a"), []));
        assert!(!members.join(&name("a"), []), "it is there");
        assert_eq!(members.ids(), [SwarmId::DIRECTORY, id]);
        members.let_go(T, &name("a"));
        members.join(&name("a"), []);
        let late = T + 60 * SECOND;
        assert!(!expire(&mut members, late, id), "it came back");
        drain(&mut members, late, id);
        members.let_go(T, &name("a"));
        assert!(members.due(late).contains(&id));
        assert!(expire(&mut members, late, id));
        members.remove(id);
        assert_eq!((members.ids(), members.due(late).contains(&id)), (vec![SwarmId::DIRECTORY], false));
    }

    #[test]
    fn a_swarm_that_has_had_its_turn_is_due_later() {
        let mut members = members();
        assert_eq!(members.due(T), [SwarmId::DIRECTORY], "its first deadline is at once");
        assert!(!expire(&mut members, T, SwarmId::DIRECTORY));
        assert_eq!(drain(&mut members, T, SwarmId::DIRECTORY), [Action::Bootstrap]);
        assert_eq!(members.due(T), []);
        assert!(members.poll_timeout().is_some_and(|at| at > T));
    }

    #[test]
    fn only_the_directory_welcomes_its_neighbours() {
        let mut members = members();
        members.join(&name("a"), []);
        let welcomed = |actions: Vec<Action>| actions.contains(&Action::Welcome(peer(2)));
        assert!(welcomed(add_neighbour(&mut members, SwarmId::DIRECTORY, 2)));
        let id = SwarmId::of(&name("a"));
        assert!(!welcomed(add_neighbour(&mut members, id, 2)));
        assert_eq!(members.neighbours().collect::<Vec<_>>(), [peer(2)]);
        assert!(members.all().any(|member| member.needs_link(NodeId(2))));
        let view = members.all().map(Member::view).find(|view| view.id == id).expect("it is joined");
        assert_eq!(view.active, [peer(2)]);
        assert_eq!([view.eager, view.lazy].concat(), [NodeId(2)], "Plumtree knows it, too");
    }

    #[test]
    fn two_contacts_are_chosen_and_others_the_next_time() {
        let mut members = members();
        add_neighbour(&mut members, SwarmId::DIRECTORY, 5);
        let nowhere = Peer { addr: ([0, 0, 0, 0], 1).into(), ..peer(4) };
        members.join(&name("a"), [peer(1), peer(2), peer(3), nowhere]);
        let id = SwarmId::of(&name("a"));
        assert_eq!(members.choose_contacts(id), [peer(2), peer(3)]);
        assert_eq!(members.choose_contacts(id), [peer(5), peer(2)]);
        add_neighbour(&mut members, id, 3);
        assert_eq!(members.choose_contacts(id), [peer(5), peer(2)], "a neighbour isn't asked");
        assert_eq!(members.choose_contacts(SwarmId::DIRECTORY), []);
    }

    #[test]
    fn the_upload_is_shared_once_a_part_is_delivered() {
        let mut config = Config::gossip(Vec::new());
        config.broadcast.upload = Some(1_000);
        let mut members = Members::new(peer(1), config, 7);
        members.join(&name("a"), []);
        let id = SwarmId::of(&name("a"));
        let body = Bytes::from_static(b"part");
        let header = PartHeader {
            id: PartId { epoch: Epoch { counter: 1, node: NodeId(1) }, track: TrackId(0), msn: 0, part: 0 },
            decode_time: 0,
            duration: 1,
            program_date_time: UnixTime::from_micros(0),
            ingested: UnixTime::from_micros(0),
            init: 0,
            discontinuity: 0,
            flags: Flags::default(),
            length: 4,
            hash: *blake3::hash(&body).as_bytes(),
        };
        assert_eq!(members.share_at, None);
        let publish = broadcast::Input::Publish { header, body, trace: Trace::default() };
        assert!(members.get_mut(id).is_some_and(|member| member.feed_tree(T, publish)));
        let actions = drain(&mut members, T, id);
        assert!(matches!(&actions[..], [Action::Output(Output::Deliver { .. })]), "{actions:?}");
        assert_eq!(members.share_at, Some(T + SHARE_EVERY));
    }

    #[test]
    fn what_an_overlay_asks_is_worth_a_dial() {
        let mut members = members();
        feed_overlay(&mut members, SwarmId::DIRECTORY, overlay::Input::Join(peer(2)));
        let actions = drain(&mut members, T, SwarmId::DIRECTORY);
        let asks = Action::Send { to: peer(2), body: FrameBody::Overlay(Message::Join), dial: true };
        assert!(actions.contains(&asks), "{actions:?}");
    }
}
