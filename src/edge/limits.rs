//! Limits of one player and of one address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use damson_core::manifest::HttpError;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The longest request head, in bytes. A path of [`TARGET_LEN_MAX`](damson_core::manifest::route::TARGET_LEN_MAX) fits.
/// HTTP/2 requests are counted as in RFC 9113 6.5.2.
pub const HEAD_LEN_MAX: u32 = 16 << 10;

/// Most concurrent streams of an HTTP/2 connection: the least that RFC 9113 6.5.2 recommends. A player has two requests
/// held and two under way for each track.
pub const STREAMS_MAX: u32 = 100;

/// Most streams that a client may reset before the edge has accepted them (h2's own default), and most that it may make
/// invalid. Beyond that the connection ends (CVE-2023-44487, "rapid reset"; CVE-2025-8671, "made you reset").
pub const STREAM_RESETS_MAX: usize = 20;

/// Most requests of an HTTP/2 connection that the client may cancel before they are answered, above the number of those
/// that are answered. A player that changes its rendition cancels two or three.
pub const TAKEN_BACK_MAX: u64 = 100;

/// Most live traces (WebSockets) at a time. They are for people, not for players.
pub const FEEDS_MAX: usize = 256;

/// The limits that can be set. The times are guesses, unless a comment gives a source.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Most connections at a time. More wait in the listener's queue.
    pub connections: usize,
    /// Most connections of one address (of one /64 with IPv6). More are closed at once. Three quarters of all by
    /// default: many players may share the address of an office or a proxy, but one address alone can't lock out the
    /// others.
    pub connections_of_address: usize,
    /// Most held requests of one address. The next one is answered 503.
    pub held_of_address: usize,
    /// Timeout of a TLS handshake, or of the first bytes, which tell HTTP/1 from HTTP/2.
    pub handshake: Duration,
    /// Timeout of the head of an HTTP/1 request, from its first byte to its last.
    pub head: Duration,
    /// Idle timeout of an HTTP/1 connection, between requests. hyper's own default.
    pub quiet: Duration,
    /// Timeout of a client that takes no data; with HTTP/2, no data of one of its streams. No player pauses in the
    /// middle of a part.
    pub stall: Duration,
    /// Idle timeout of an HTTP/2 connection.
    pub idle: Duration,
    /// Time that responses under way have to finish when the node shuts down.
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

/// The state that the connections of one address share.
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

    /// Returns the number of connections of all addresses.
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

/// Returns the network of an address: with IPv6, its /64, since a client may use all of its addresses.
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
