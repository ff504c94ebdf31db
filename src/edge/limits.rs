//! What one player, and one address, may take of an edge.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use damson_core::manifest::HttpError;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The longest request head, in bytes: a path of [`TARGET_LEN_MAX`](damson_core::manifest::route::TARGET_LEN_MAX) fits. Of an HTTP/2
/// request, as RFC 9113 6.5.2 counts it.
pub const HEAD_LEN_MAX: u32 = 16 << 10;

/// Most streams of an HTTP/2 connection at a time: what RFC 9113 6.5.2 recommends as the least. A player has two
/// requests held and two under way for each track.
pub const STREAMS_MAX: u32 = 100;

/// Most streams that a client may have reset before they were looked at (h2's own default), and most that it may make
/// invalid; then the connection ends (CVE-2023-44487, "rapid reset"; CVE-2025-8671, "made you reset").
pub const STREAM_RESETS_MAX: usize = 20;

/// How many more requests a client may take back unanswered than it lets be answered, on one HTTP/2 connection. A
/// player that changes its rendition takes back two or three.
pub const TAKEN_BACK_MAX: u64 = 100;

/// Most live traces (WebSockets) at a time: for people who look, not for players.
pub const FEEDS_MAX: usize = 256;

/// What can be chosen. The times are guesses, but for what they say.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Most connections at a time; more wait in the listener's queue.
    pub connections: usize,
    /// Most of one address (IPv6: of one /64); more are closed at once. Three quarters of all: a household, an office
    /// behind one address or a proxy may well fill an edge, and one address alone doesn't shut out the others.
    pub connections_of_address: usize,
    /// Most requests held of one address; the next is answered 503.
    pub held_of_address: usize,
    /// How long a TLS handshake, or what tells HTTP/1 from 2, may take.
    pub handshake: Duration,
    /// How long an HTTP/1 request's head may take, from its first byte to its last; however often another byte comes.
    pub head: Duration,
    /// An HTTP/1 connection without a request for so long is closed. hyper's own default.
    pub quiet: Duration,
    /// A client that takes no byte of what waits for it for so long is dropped; on an HTTP/2 connection, that takes none
    /// of some stream's. No player pauses in the middle of a part.
    pub stall: Duration,
    /// An HTTP/2 connection without a request for so long is closed.
    pub idle: Duration,
    /// How long responses under way may take when the node goes down.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 16_384,
            connections_of_address: 12_288,
            held_of_address: 12_288,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(20),
            quiet: Duration::from_secs(30),
            stall: Duration::from_secs(20),
            idle: Duration::from_secs(120),
            drain: Duration::from_secs(3),
        }
    }
}

/// The connections of each address.
#[derive(Debug, Default)]
pub(crate) struct Addresses(Mutex<BTreeMap<IpAddr, AddressPlaces>>);

/// What the connections of one address share.
#[derive(Debug)]
struct AddressPlaces {
    connections: usize,
    /// Places for held requests.
    held: Arc<Semaphore>,
}

/// One connection's place at its address; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Visitor {
    addresses: Arc<Addresses>,
    address: IpAddr,
    held: Arc<Semaphore>,
}

impl Addresses {
    /// Takes a place for one more connection of `ip`; `None` if all places of the address are taken.
    pub(crate) fn admit(self: &Arc<Self>, ip: IpAddr, limits: &Limits) -> Option<Visitor> {
        let address = network(ip);
        let mut all = self.0.lock();
        let places = all.entry(address).or_insert_with(|| {
            let held = Semaphore::new(limits.held_of_address.min(Semaphore::MAX_PERMITS));
            AddressPlaces { connections: 0, held: Arc::new(held) }
        });
        if places.connections >= limits.connections_of_address {
            return None;
        }
        places.connections += 1;
        Some(Visitor { addresses: Arc::clone(self), address, held: Arc::clone(&places.held) })
    }

    /// Returns the number of connections.
    pub(crate) fn connections(&self) -> usize {
        self.0.lock().values().map(|places| places.connections).sum()
    }
}

impl Visitor {
    /// Takes a place for one more held request; dropping it gives the place back.
    pub(crate) fn hold(&self) -> Result<OwnedSemaphorePermit, HttpError> {
        let too_many = |_| HttpError::new(503, "edge: too many requests of this address are held already");
        Arc::clone(&self.held).try_acquire_owned().map_err(too_many)
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        let mut all = self.addresses.0.lock();
        let Some(places) = all.get_mut(&self.address) else { return };
        places.connections -= 1;
        if places.connections == 0 {
            all.remove(&self.address);
        }
    }
}

/// Returns the network that an address belongs to: whoever has one address of IPv6 has its /64.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & (u128::MAX << 64)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_places() {
        let addresses = Arc::new(Addresses::default());
        let limits = Limits { connections_of_address: 2, held_of_address: 1, ..Limits::default() };
        let admit = |ip: &str| addresses.admit(ip.parse().expect("an address"), &limits);
        let (first, second) = (admit("192.0.2.1"), admit("::ffff:192.0.2.1"));
        assert!(first.is_some() && second.is_some());
        assert!(admit("192.0.2.1").is_none() && admit("192.0.2.2").is_some());
        let held = second.as_ref().and_then(|visitor| visitor.hold().ok());
        assert!(
            held.is_some() && first.as_ref().and_then(|visitor| visitor.hold().ok()).is_none(),
            "of both connections"
        );
        drop(held);
        assert!(first.as_ref().and_then(|visitor| visitor.hold().ok()).is_some());
        drop((first, second));
        assert!(addresses.0.lock().is_empty(), "who has gone is forgotten");
        let of_a_network = (admit("2001:db8::1"), admit("2001:db8::2:0:0:1"));
        assert!(of_a_network.0.is_some() && of_a_network.1.is_some());
        assert!(admit("2001:db8::3").is_none() && admit("2001:db8:0:1::1").is_some());
    }
}
