//! The addresses to join at. Their links tell which node is there.

use std::net::SocketAddr;
use std::time::Duration;

use super::config::Config;
use super::io::Output;
use super::links::DIAL_PATIENCE;
use crate::model::time::Time;
use crate::model::{NodeId, Peer};

/// A contact that can't be reached is dialled again after this. Doubles with each failure. A guess.
const FIRST: Duration = Duration::from_millis(250);

/// The longest wait between two dials of a contact.
const LONGEST: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Contact {
    addr: SocketAddr,
    /// The node found there last.
    peer: Option<Peer>,
    /// A dial is under way, or to be repeated.
    wanted: bool,
    /// The time of the next dial; during a dial, the time at which its answer counts as lost.
    at: Time,
    delay: Duration,
}

/// All contacts of a node.
#[derive(Debug)]
pub(super) struct Contacts {
    contacts: Vec<Contact>,
    /// The hub dials a static topology's peers until they answer, and other contacts once each time it needs them.
    insistent: bool,
}

impl Contacts {
    pub(super) fn new(me: SocketAddr, config: &Config) -> Self {
        let insistent = config.is_static();
        let contact =
            |addr: &SocketAddr| Contact { addr: *addr, peer: None, wanted: insistent, at: Time::ZERO, delay: FIRST };
        Contacts { contacts: config.join.iter().filter(|addr| **addr != me).map(contact).collect(), insistent }
    }

    /// Returns the contacts that a link has identified.
    pub(super) fn known(&self) -> Vec<Peer> {
        self.contacts.iter().filter_map(|contact| contact.peer).collect()
    }

    /// Asks for all contacts. Returns those that have a link by `linked`; [`Contacts::due`] dials the others.
    pub(super) fn ask(&mut self, now: Time, linked: impl Fn(NodeId) -> bool) -> Vec<Peer> {
        let mut there = Vec::new();
        for contact in &mut self.contacts {
            match contact.peer.filter(|peer| linked(peer.id)) {
                Some(peer) => there.push(peer),
                None if !contact.wanted => (contact.wanted, contact.at) = (true, now),
                None => {}
            }
        }
        there
    }

    /// Returns the dials that are due.
    pub(super) fn due(&mut self, now: Time) -> impl Iterator<Item = Output> {
        let due = self.contacts.iter_mut().filter(move |contact| contact.wanted && contact.at <= now);
        due.map(move |contact| {
            contact.at = now + DIAL_PATIENCE;
            Output::Dial { addr: contact.addr, peer: None }
        })
    }

    /// Returns when the next dial is due.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.contacts.iter().filter(|contact| contact.wanted).map(|contact| contact.at).min()
    }

    /// Notes that a link is up. Returns whether the overlay joins there: it asked for this contact, or the topology is
    /// static.
    pub(super) fn found(&mut self, peer: Peer, dialled: Option<SocketAddr>) -> bool {
        let mut wanted = false;
        for contact in &mut self.contacts {
            if dialled == Some(contact.addr) || peer.addr == contact.addr {
                wanted |= contact.wanted;
                contact.peer = Some(peer);
                contact.wanted = false;
                contact.delay = FIRST;
            }
        }
        wanted || self.insistent && self.contacts.iter().any(|contact| contact.peer == Some(peer))
    }

    /// Notes that a dial to `addr` has failed: the node that was there may be gone.
    pub(super) fn failed(&mut self, now: Time, addr: SocketAddr) {
        for contact in self.contacts.iter_mut().filter(|contact| contact.addr == addr) {
            contact.peer = None;
            contact.wanted = self.insistent;
            contact.at = now + contact.delay;
            contact.delay = (contact.delay * 2).min(LONGEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Time = Time::from_millis(100_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn addr(n: u64) -> SocketAddr {
        ([127, 0, 0, 1], 4_900 + n as u16).into()
    }

    fn peer(n: u64) -> Peer {
        Peer { id: NodeId(n), addr: addr(n) }
    }

    fn dials(contacts: &mut Contacts, now: Time) -> Vec<SocketAddr> {
        let addr = |output| match output {
            Output::Dial { addr, peer: None } => addr,
            other => panic!("{other:?}"),
        };
        contacts.due(now).map(addr).collect()
    }

    #[test]
    fn contacts_are_dialled_each_time_they_are_asked_and_have_no_link() {
        let mut contacts = Contacts::new(addr(9), &Config::gossip(vec![addr(1), addr(9), addr(2)]));
        assert_eq!(contacts.poll_timeout(), None);
        assert_eq!(contacts.ask(T, |_| true), [], "nobody is known");
        assert_eq!(contacts.poll_timeout(), Some(T));
        assert_eq!(dials(&mut contacts, T), [addr(1), addr(2)], "but not this node itself");
        assert_eq!(dials(&mut contacts, T + SECOND), [], "they are under way");
        // One answers with another address than the one dialled.
        assert!(contacts.found(peer(5), Some(addr(1))));
        contacts.failed(T, addr(2));
        assert_eq!(contacts.known(), [peer(5)]);
        assert_eq!(contacts.poll_timeout(), None, "who failed is asked again first");
        assert_eq!(contacts.ask(T, |id| id == NodeId(5)), [peer(5)]);
        assert_eq!(dials(&mut contacts, T), [addr(2)]);
        assert!(!contacts.found(peer(5), None), "it was found before");
    }

    #[test]
    fn static_contacts_are_dialled_until_they_are_there() {
        let mut contacts = Contacts::new(addr(9), &Config::fixed(vec![addr(1)]));
        for after in [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000] {
            assert_eq!(dials(&mut contacts, T), [addr(1)]);
            contacts.failed(T, addr(1));
            let at = T + Duration::from_millis(after);
            assert_eq!(contacts.poll_timeout(), Some(at));
            contacts.contacts[0].at = T;
        }
        assert!(contacts.found(peer(1), None));
        assert!(contacts.found(peer(1), None), "whenever its link is up it is to be a neighbour");
        assert!(!contacts.found(peer(2), None));
        assert_eq!(dials(&mut contacts, T + 60 * SECOND), []);
    }

    #[test]
    fn a_dial_without_an_answer_is_repeated() {
        let mut contacts = Contacts::new(addr(9), &Config::fixed(vec![addr(1)]));
        assert_eq!(dials(&mut contacts, T), [addr(1)]);
        assert_eq!(dials(&mut contacts, T + 29 * SECOND), []);
        assert_eq!(dials(&mut contacts, T + 30 * SECOND), [addr(1)]);
    }
}
