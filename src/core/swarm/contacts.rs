//! The addresses to join at, whose identities are learnt from their links.

use std::net::SocketAddr;
use std::time::Duration;

use super::config::Config;
use crate::model::NodeId;
use crate::model::Peer;
use crate::model::time::Time;

#[derive(Debug)]
struct Contact {
    addr: SocketAddr,
    /// Who was found there last.
    peer: Option<Peer>,
    /// A dial is under way, or to be repeated.
    wanted: bool,
    /// When it is dialled next; while a dial is under way: when its answer must have been lost.
    at: Time,
    delay: Duration,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Contacts {
    contacts: Vec<Contact>,
    first: Duration,
    max: Duration,
    patience: Duration,
    /// A static topology's peers are dialled until they are there; others once, each time they are asked.
    insistent: bool,
}

impl Contacts {
    pub(super) fn new(me: SocketAddr, config: &Config) -> Self {
        let insistent = config.is_static();
        let contact = |addr: &SocketAddr| Contact {
            addr: *addr,
            peer: None,
            wanted: insistent,
            at: Time::ZERO,
            delay: config.contact_first,
        };
        Contacts {
            contacts: config.join.iter().filter(|addr| **addr != me).map(contact).collect(),
            first: config.contact_first,
            max: config.contact_max,
            patience: config.dial_patience,
            insistent,
        }
    }

    /// The contacts whose identity is known.
    pub(super) fn known(&self) -> Vec<Peer> {
        self.contacts.iter().filter_map(|contact| contact.peer).collect()
    }

    /// Asks for all of them; returns those that have a link by `linked`, the others are dialled when due.
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

    /// The addresses to dial now.
    pub(super) fn due(&mut self, now: Time) -> Vec<SocketAddr> {
        let due = self.contacts.iter_mut().filter(|contact| contact.wanted && contact.at <= now);
        due.map(|contact| {
            contact.at = now + self.patience;
            contact.addr
        })
        .collect()
    }

    pub(super) fn next(&self) -> Option<Time> {
        self.contacts.iter().filter(|contact| contact.wanted).map(|contact| contact.at).min()
    }

    /// A link is up. Whether it leads to a contact that was asked for.
    pub(super) fn found(&mut self, peer: Peer, dialled: Option<SocketAddr>) -> bool {
        let mut wanted = false;
        for contact in &mut self.contacts {
            if dialled == Some(contact.addr) || peer.addr == contact.addr {
                wanted |= contact.wanted;
                contact.peer = Some(peer);
                contact.wanted = false;
                contact.delay = self.first;
            }
        }
        wanted
    }

    /// A dial to `addr` has failed: whoever was there isn't any more, as far as we know.
    pub(super) fn failed(&mut self, now: Time, addr: SocketAddr) {
        for contact in self.contacts.iter_mut().filter(|contact| contact.addr == addr) {
            contact.peer = None;
            contact.wanted = self.insistent;
            contact.at = now + contact.delay;
            contact.delay = (contact.delay * 2).min(self.max);
        }
    }
}
