//! Links with delay and loss, for a demo on one machine: a UDP relay in front of a node's mesh socket.
//!
//! ```text
//!   dialling node --> relay's socket (delay, loss) --> node that listens
//!                 <--        (delay, loss)        <--
//! ```
//!
//! Packets keep their order, and the relay doesn't read them.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use crate::clock;

/// The most packets in flight in one direction; further ones are lost, as in a router's full queue.
const QUEUE_MAX: usize = 4_096;
/// The longest datagram there is, in bytes.
const DATAGRAM_MAX: usize = 65_535;
/// The longest datagram that is relayed: Ethernet's 1,500 bytes less the headers of IPv4 and UDP. Loopback takes longer ones,
/// of which fewer would be lost than on a real path.
const PACKET_MAX: usize = 1_472;
/// The buffers of each socket, in bytes: large, so that a burst isn't lost there.
const BUFFER: usize = 4 << 20;
/// The most packets that are read from a socket at once.
const BURST: usize = 64;

/// The range of the links' delays, each way: `20ms..80ms`, or `50ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DelayRange {
    /// The shortest.
    pub from: Duration,
    /// The longest.
    pub to: Duration,
}

impl FromStr for DelayRange {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let millis = |text: &str| {
            let number = text.strip_suffix("ms").unwrap_or(text).parse::<u64>().ok();
            number.filter(|&ms| ms <= 2_000).map(Duration::from_millis)
        };
        let (from, to) = text.split_once("..").unwrap_or((text, text));
        match (millis(from), millis(to)) {
            (Some(from), Some(to)) if from <= to => Ok(DelayRange { from, to }),
            _ => Err(format!("{text:?} isn't a delay such as 50ms or 20ms..80ms, up to 2000ms")),
        }
    }
}

/// The share of packets that is lost: `1%`, or `0.01`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss(pub f64);

impl FromStr for Loss {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let share = match text.strip_suffix('%') {
            Some(percent) => percent.parse::<f64>().ok().map(|percent| percent / 100.0),
            None => text.parse::<f64>().ok(),
        };
        let share = share.filter(|share| (0.0..=0.5).contains(share));
        share.map(Loss).ok_or_else(|| format!("{text:?} isn't a share such as 1% or 0.01, up to 50%"))
    }
}

/// A link's delay and loss, each way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// The delay of each packet.
    pub(super) delay: Duration,
    /// The share of packets that is lost.
    pub(super) loss: f64,
}

/// One direction of a link.
struct Direction {
    shape: Shape,
    rng: Xoshiro256PlusPlus,
    /// The packets, each with the time at which it is due.
    packets: VecDeque<(Instant, Box<[u8]>)>,
}

impl Direction {
    fn new(shape: Shape, seed: u64) -> Self {
        Direction { shape, rng: Xoshiro256PlusPlus::seed_from_u64(seed), packets: VecDeque::new() }
    }

    fn take(&mut self, now: Instant, packet: &[u8]) {
        let lost = self.shape.loss > 0.0 && self.rng.random_bool(self.shape.loss);
        if !lost && packet.len() <= PACKET_MAX && self.packets.len() < QUEUE_MAX {
            self.packets.push_back((now + self.shape.delay, packet.into()));
        }
    }

    fn due(&self) -> Option<Instant> {
        self.packets.front().map(|(due, _)| *due)
    }

    /// Sends the packets that are due; a send that fails loses the packet.
    fn release(&mut self, now: Instant, mut send: impl FnMut(&[u8])) {
        while self.due().is_some_and(|due| due <= now) {
            if let Some((_, packet)) = self.packets.pop_front() {
                send(&packet);
            }
        }
    }
}

/// A relay's two sockets.
pub(super) struct Relay {
    near: UdpSocket,
    far: UdpSocket,
    there: Direction,
    back: Direction,
}

impl Relay {
    /// Opens a relay to `target`, with a port of its own on loopback.
    ///
    /// # Errors
    /// A socket can't be bound.
    pub(super) fn open(target: SocketAddr, shape: Shape, seed: u64) -> io::Result<Self> {
        let loopback = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 0);
        let far = socket(loopback)?;
        far.connect(&target.into())?;
        let (near, far) = (UdpSocket::from_std(socket(loopback)?.into())?, UdpSocket::from_std(far.into())?);
        Ok(Relay { near, far, there: Direction::new(shape, seed), back: Direction::new(shape, !seed) })
    }

    /// Returns the address to dial instead of the target's.
    ///
    /// # Errors
    /// The system doesn't return the address.
    pub(super) fn addr(&self) -> io::Result<SocketAddr> {
        self.near.local_addr()
    }

    /// Relays until it is dropped. Replies go to the last sender, since one node dials one relay.
    pub(super) async fn run(mut self) {
        let mut client = None;
        let mut buffer = vec![0; DATAGRAM_MAX];
        loop {
            let due = [self.there.due(), self.back.due()].into_iter().flatten().min();
            tokio::select! {
                _ = self.near.readable() => {
                    let now = clock::timers();
                    for _ in 0..BURST {
                        let Ok((length, from)) = self.near.try_recv_from(&mut buffer) else { break };
                        client = Some(from);
                        self.there.take(now, &buffer[..length]);
                    }
                }
                _ = self.far.readable() => {
                    let now = clock::timers();
                    for _ in 0..BURST {
                        // A stopped node refuses packets, which ends the loop.
                        let Ok(length) = self.far.try_recv(&mut buffer) else { break };
                        self.back.take(now, &buffer[..length]);
                    }
                }
                () = async { tokio::time::sleep_until(due.unwrap_or_else(clock::timers)).await }, if due.is_some() => {}
            }
            let now = clock::timers();
            let (near, far) = (&self.near, &self.far);
            self.there.release(now, |packet| drop(far.try_send(packet)));
            self.back.release(now, |packet| {
                if let Some(client) = client {
                    drop(near.try_send_to(packet, client));
                }
            });
        }
    }
}

fn socket(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // The system may grant less.
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
    socket.bind(&addr.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_and_losses_are_read() {
        let ms = Duration::from_millis;
        let check =
            |text: &str, from, to| assert_eq!(text.parse(), Ok(DelayRange { from: ms(from), to: ms(to) }), "{text}");
        check("20ms..80ms", 20, 80);
        check("50ms", 50, 50);
        check("0..5", 0, 5);
        for text in ["80ms..20ms", "fast", "-1ms", "3000ms", "1ms..", ""] {
            assert!(text.parse::<DelayRange>().is_err(), "{text}");
        }
        assert_eq!(("1%".parse(), "0.25".parse()), (Ok(Loss(0.01)), Ok(Loss(0.25))));
        for text in ["51%", "-1%", "NaN", "%", "much"] {
            assert!(text.parse::<Loss>().is_err(), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn packets_keep_their_order_and_take_their_time() {
        let mut way = Direction::new(Shape { delay: Duration::from_millis(40), loss: 0.0 }, 1);
        let start = clock::timers();
        for n in 0..3_u64 {
            way.take(start + Duration::from_millis(n), &[n as u8]);
        }
        let mut came = Vec::new();
        for at in [39, 40, 41, 42] {
            way.release(start + Duration::from_millis(at), |packet| came.push((at, packet.to_vec())));
        }
        assert_eq!(came, [(40, vec![0]), (41, vec![1]), (42, vec![2])]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_is_lost_and_the_queue_has_an_end() {
        let now = clock::timers();
        let mut way = Direction::new(Shape { delay: Duration::ZERO, loss: 0.25 }, 7);
        (0..4_000).for_each(|_| way.take(now, &[0]));
        assert!((2_900..3_100).contains(&way.packets.len()), "{} of 4,000", way.packets.len());
        (0..4_000).for_each(|_| way.take(now, &[0]));
        assert_eq!(way.packets.len(), QUEUE_MAX);
    }
}
