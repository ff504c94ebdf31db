//! The controller in virtual time: both ends of quinn's sans-IO core, over a link that delays, queues, loses and stands still, with a
//! live stream on it.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig};
use quinn::{ClientConfig, EndpointConfig, ServerConfig, TransportConfig};
use quinn_proto::{Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, Event, StreamEvent, StreamId, Transmit};

use super::super::identity::Ca;
use super::super::tls;
use super::{LAST, LossTolerant, Path};

/// A link's effect on datagrams, the same both ways.
#[derive(Clone, Copy)]
struct Link {
    /// The delay of one way.
    delay: Duration,
    /// Datagrams lost, of a thousand.
    loss: u64,
    /// The rate in bits per second, and the bytes of the queue before it.
    rate: u64,
    queue: u64,
    /// The link stands still now and then, for at most this long.
    freeze: Duration,
}

const MS: Duration = Duration::from_millis(1);

impl Default for Link {
    fn default() -> Self {
        Link { delay: 40 * MS, loss: 0, rate: 1_000_000_000, queue: 1 << 30, freeze: Duration::ZERO }
    }
}

/// One direction of a link.
struct Way {
    link: Link,
    chance: u64,
    /// The time at which the link has sent what waits.
    free: Instant,
    /// The next or present standstill.
    freeze: (Instant, Instant),
    dropped: u64,
    arrives: VecDeque<(Instant, BytesMut)>,
}

impl Way {
    fn new(link: Link, now: Instant, seed: u64) -> Way {
        let mut way = Way { link, chance: seed, free: now, freeze: (now, now), dropped: 0, arrives: VecDeque::new() };
        for _ in 0..8 {
            way.dice();
        }
        way
    }

    /// xorshift64*.
    fn dice(&mut self) -> u64 {
        self.chance ^= self.chance >> 12;
        self.chance ^= self.chance << 25;
        self.chance ^= self.chance >> 27;
        self.chance.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33
    }

    fn send(&mut self, now: Instant, bytes: &[u8]) {
        let wire = |len: u64| Duration::from_secs_f64(len as f64 * 8.0 / self.link.rate as f64);
        let waits = self.free.saturating_duration_since(now);
        if waits > wire(self.link.queue) {
            self.dropped += 1;
            return;
        }
        self.free = now.max(self.free) + wire(bytes.len() as u64);
        if self.dice() % 1_000 < self.link.loss {
            return;
        }
        let mut at = self.free + self.link.delay;
        if !self.link.freeze.is_zero() {
            while self.freeze.1 < at {
                let from = self.freeze.1 + Duration::from_millis(self.dice() % 3_000);
                self.freeze = (from, from + self.link.freeze.mul_f64((self.dice() % 1_000) as f64 / 1_000.0));
            }
            if self.freeze.0 <= at {
                at = self.freeze.1;
            }
        }
        // Datagrams stay in order.
        let at = self.arrives.back().map_or(at, |(last, _)| at.max(*last));
        self.arrives.push_back((at, BytesMut::from(bytes)));
    }
}

/// One end of the link.
struct End {
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Connection)>,
    peer: SocketAddr,
}

impl End {
    fn take(&mut self, now: Instant, bytes: BytesMut, out: &mut Way) {
        let mut buffer = Vec::new();
        match self.endpoint.handle(now, self.peer, None, None, bytes, &mut buffer) {
            Some(DatagramEvent::NewConnection(incoming)) => {
                let accepted = self.endpoint.accept(incoming, now, &mut buffer, None);
                self.connection = Some(accepted.unwrap_or_else(|error| panic!("{:?}", error.cause)));
            }
            Some(DatagramEvent::ConnectionEvent(_, event)) => self.connection().handle_event(event),
            Some(DatagramEvent::Response(transmit)) => out.send(now, &buffer[..transmit.size]),
            None => {}
        }
    }

    fn connection(&mut self) -> &mut Connection {
        &mut self.connection.as_mut().expect("there is one").1
    }

    /// Handles all timeouts that are due.
    fn drive(&mut self, now: Instant, out: &mut Way) {
        let Some((handle, connection)) = &mut self.connection else { return };
        if connection.poll_timeout().is_some_and(|at| at <= now) {
            connection.handle_timeout(now);
        }
        while let Some(event) = connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(*handle, event) {
                connection.handle_event(event);
            }
        }
        let mut buffer = Vec::new();
        while let Some(Transmit { size, segment_size, .. }) = connection.poll_transmit(now, 10, &mut buffer) {
            buffer[..size].chunks(segment_size.unwrap_or(size)).for_each(|datagram| out.send(now, datagram));
            buffer.clear();
        }
    }
}

fn transport(controller: Factory) -> Arc<TransportConfig> {
    let mut config = super::super::endpoint::transport();
    // The usual MTU of a path.
    config.mtu_discovery_config(None).initial_mtu(1_452).congestion_controller_factory(controller);
    Arc::new(config)
}

/// The result of a stream.
#[derive(Debug)]
struct Seen {
    /// Parts that were whole at the other end later than this after they were made.
    late: usize,
    /// The 99th percentile of their delays, in ms.
    p99: u128,
    /// Datagrams for which the queue had no room.
    dropped: u64,
}

/// The longest delay for which a player waits: three parts, less the other delays.
const LATE: Duration = Duration::from_millis(450);

/// The parts of a minute.
const PARTS: usize = 300;

/// Both ends of a connection, the first of which dials the other.
fn ends(began: Instant, controller: &Factory, seed: u64) -> [End; 2] {
    let ca = Ca::generate().expect("a key");
    let addrs = [4_900, 4_901].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    [0, 1].map(|n| {
        let identity = ca.issue("end").expect("a certificate");
        let mut server = ServerConfig::with_crypto(Arc::new(tls::server(&identity).expect("its own CA's")));
        server.transport_config(transport(Arc::clone(controller)));
        let mut config = EndpointConfig::default();
        config.rng_seed(Some([seed as u8; 32]));
        let mut endpoint = Endpoint::new(Arc::new(config), Some(Arc::new(server)), false, None);
        let mut client = ClientConfig::new(Arc::new(tls::client(&identity, tls::ALPN).expect("its own CA's")));
        client.transport_config(transport(Arc::clone(controller)));
        let peer = addrs[1 - n];
        let connection = (n == 0).then(|| endpoint.connect(began, client, peer, "damson").expect("the two can talk"));
        End { endpoint, connection, peer }
    })
}

/// Sends what is unsent, as far as the connection takes it.
fn send(connection: &mut Connection, unsent: &mut VecDeque<(StreamId, usize)>) {
    while let Some((id, left)) = unsent.front_mut() {
        let mut stream = connection.send_stream(*id);
        *left -= stream.write(&vec![7; *left]).unwrap_or(0);
        if *left > 0 {
            break;
        }
        stream.finish().expect("it is open");
        unsent.pop_front();
    }
}

/// Reads what has come of a stream. Returns whether that was the last of it.
fn is_whole(connection: &mut Connection, id: StreamId) -> bool {
    let mut stream = connection.recv_stream(id);
    let Ok(mut chunks) = stream.read(true) else { return false };
    let whole = loop {
        match chunks.next(usize::MAX) {
            Ok(Some(_)) => {}
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    let _ = chunks.finalize();
    whole
}

/// A minute of a stream with this bit rate, in parts of 200 ms: the first of ten has three times the bytes of the others.
fn stream(link: Link, bits: u64, controller: Factory, seed: u64) -> Seen {
    const PART: Duration = Duration::from_millis(200);
    #[expect(clippy::disallowed_methods, reason = "where virtual time begins")]
    let began = Instant::now();
    let mut ends = ends(began, &controller, seed);
    let mut ways = [1, 2].map(|n| Way::new(link, began, seed * 2 + n));

    let mut now = began;
    let mut made: BTreeMap<StreamId, Instant> = BTreeMap::new();
    let mut unsent: VecDeque<(StreamId, usize)> = VecDeque::new();
    let mut took: Vec<Duration> = Vec::new();
    let (mut next, mut count) = (None, 0);
    while took.len() < PARTS {
        assert!(now < began + Duration::from_secs(900), "{} of {PARTS} parts came", took.len());
        let [near, far] = &mut ends;
        near.drive(now, &mut ways[0]);
        far.drive(now, &mut ways[1]);
        while let Some(event) = near.connection().poll() {
            match event {
                Event::Connected => next = Some(now),
                Event::ConnectionLost { reason } => panic!("{reason}"),
                _ => {}
            }
        }
        if count < PARTS && next.is_some_and(|at| at <= now) {
            next = Some(now + PART);
            let mean = (bits / 8) as usize / 5;
            let len = if count % 10 == 0 { mean * 30 / 12 } else { mean * 10 / 12 };
            count += 1;
            match near.connection().streams().open(Dir::Uni) {
                Some(id) => {
                    unsent.push_back((id, len));
                    made.insert(id, now);
                }
                None => took.push(Duration::from_secs(999)),
            }
        }
        send(near.connection(), &mut unsent);
        near.drive(now, &mut ways[0]);
        if let Some((_, connection)) = &mut far.connection {
            while let Some(event) = connection.poll() {
                let Event::Stream(StreamEvent::Opened { .. } | StreamEvent::Readable { .. }) = event else { continue };
                while connection.streams().accept(Dir::Uni).is_some() {}
            }
            made.retain(|id, at| {
                let whole = is_whole(connection, *id);
                if whole {
                    took.push(now.duration_since(*at));
                }
                !whole
            });
            far.drive(now, &mut ways[1]);
        }
        // The node goes on with the next event.
        let timeouts = ends.iter_mut().filter_map(|end| end.connection.as_mut()?.1.poll_timeout());
        let arrivals = ways.iter().filter_map(|way| way.arrives.front()).map(|(at, _)| *at);
        let making = next.filter(|_| count < PARTS);
        now = timeouts.chain(arrivals).chain(making).min().expect("something is due").max(now);
        for n in [0, 1] {
            while ways[n].arrives.front().is_some_and(|(at, _)| *at <= now) {
                let (_, bytes) = ways[n].arrives.pop_front().expect("it was there");
                let [near, far] = &mut ends;
                if n == 0 { far.take(now, bytes, &mut ways[1]) } else { near.take(now, bytes, &mut ways[0]) }
            }
        }
    }
    let late = took.iter().filter(|took| **took > LATE).count();
    took.sort_unstable();
    Seen { late, p99: took[PARTS * 99 / 100].as_millis(), dropped: ways[0].dropped }
}

type Factory = Arc<dyn ControllerFactory + Send + Sync>;

fn own() -> Factory {
    Arc::new(LossTolerant::default())
}

fn cubic() -> Factory {
    Arc::new(CubicConfig::default())
}

/// The results of 3 Mb/s over a link: ours, Cubic, BBR.
fn compared(name: &str, link: Link) -> [Seen; 3] {
    let controllers: [(_, Factory); 3] = [("ours", own()), ("Cubic", cubic()), ("BBR", Arc::new(BbrConfig::default()))];
    controllers.map(|(controller, factory)| {
        let seen = stream(link, 3_000_000, factory, 1);
        eprintln!("{name}, {controller}: {seen:?}");
        seen
    })
}

#[test]
fn chance_is_not_taken_for_a_full_queue() {
    let lossy = |loss| Link { loss, ..Link::default() };
    for (name, link) in
        [("1 %", lossy(10)), ("5 %", lossy(50)), ("1 %, held up", Link { freeze: 300 * MS, ..lossy(10) })]
    {
        let [ours, cubic, _] = compared(name, link);
        assert!(ours.late <= 3 && ours.p99 < LATE.as_millis(), "{name}: {ours:?}");
        // If BBR ever does as well, ours isn't needed.
        assert!(cubic.late > PARTS / 2, "{name}: {cubic:?}");
    }
    // A packet lost twice is late over 80 ms: one in 2,500, and a part has dozens.
    let far = Link { delay: 80 * MS, rate: 20_000_000, queue: 200_000, ..lossy(20) };
    let [ours, cubic, _] = compared("2 %, 80 ms", far);
    assert!(ours.late <= PARTS / 20 && cubic.late > PARTS / 2, "{ours:?}, {cubic:?}");
    let fast = Link { delay: 10 * MS, rate: 100_000_000, queue: 250_000, ..lossy(10) };
    let seen = stream(fast, 50_000_000, own(), 1);
    assert_eq!(seen.late, 0, "50 Mb/s: {seen:?}");
}

#[test]
fn a_full_queue_is_seen_as_cubic_sees_it() {
    let narrow = |queue| Link { rate: 5_000_000, queue, ..Link::default() };
    let [ours, cubic, _] = compared("a queue of 60 KB", narrow(60_000));
    assert!(ours.late <= cubic.late + 3 && ours.dropped < cubic.dropped * 3 / 2, "{ours:?}, {cubic:?}");
    let held_up = Link { freeze: 300 * MS, ..narrow(60_000) };
    let [ours, cubic, _] = compared("a queue of 60 KB, held up", held_up);
    assert!(ours.late <= cubic.late + 3 && ours.dropped < cubic.dropped * 3 / 2, "{ours:?}, {cubic:?}");
    // A queue too short to be seen, and for a part: more packets are lost than with Cubic, below the share that shows a full queue, and
    // fewer parts are late.
    let [ours, cubic, bbr] = compared("a queue of 15 KB", narrow(15_000));
    assert!(ours.late < cubic.late / 2 && ours.dropped < bbr.dropped / 2, "{ours:?}, {cubic:?}, {bbr:?}");
    // More than the link can carry: parts are late, but the queue isn't flooded.
    let overload = Link { rate: 2_500_000, ..narrow(60_000) };
    let (ours, cubic) = (stream(overload, 3_000_000, own(), 1), stream(overload, 3_000_000, self::cubic(), 1));
    assert!(ours.dropped < cubic.dropped * 2, "{ours:?}, {cubic:?}");
}

#[test]
fn a_longer_way_is_learnt() {
    #[expect(clippy::disallowed_methods, reason = "where virtual time begins")]
    let began = Instant::now();
    let mut path = Path::default();
    let at = |seconds: u64| began + Duration::from_secs(seconds);
    let acknowledged = |path: &mut Path, from: u64, to: u64, rtt: Duration| {
        (from..to).for_each(|second| path.acknowledged(at(second), 1_200, rtt));
    };
    acknowledged(&mut path, 0, 10, 20 * MS);
    assert!(!path.queues());
    acknowledged(&mut path, 10, 20, 60 * MS);
    assert!(path.queues(), "40 ms more than it was");
    acknowledged(&mut path, 20, 180, 60 * MS);
    assert!(!path.queues(), "two minutes later that is how long it is");
}

#[test]
fn one_packet_held_up_is_no_queue_and_one_that_passed_clears_it() {
    #[expect(clippy::disallowed_methods, reason = "where virtual time begins")]
    let now = Instant::now();
    let mut path = Path::default();
    for _ in 0..LAST {
        path.acknowledged(now, 1_200, 40 * MS);
    }
    path.acknowledged(now, 1_200, 400 * MS);
    assert!(!path.queues() && !path.lost(now, now, 1_200));
    for _ in 0..LAST {
        path.acknowledged(now, 1_200, 400 * MS);
    }
    assert!(path.queues());
    // A loss alone is left open until a round trip later; the next one isn't.
    assert!(!path.lost(now, now, 1_200) && path.judged(now).is_none());
    assert!(path.judged(now + 50 * MS).is_some() && path.judged(now + 50 * MS).is_none());
    assert!(!path.lost(now, now, 1_200) && path.lost(now, now, 1_200));
    assert!(!path.lost(now, now, 1_200));
    path.acknowledged(now, 1_200, 40 * MS);
    assert!(path.judged(now + 50 * MS).is_none(), "it has passed");
}

#[test]
fn so_many_lost_are_a_full_queue_though_none_is_seen() {
    #[expect(clippy::disallowed_methods, reason = "where virtual time begins")]
    let now = Instant::now();
    let judged = |one_of: u64| {
        let mut path = Path::default();
        (1..2_000_u64).any(|n| {
            if n.is_multiple_of(one_of) {
                return path.lost(now, now, 1_200);
            }
            path.acknowledged(now, 1_200, 40 * MS);
            false
        })
    };
    assert!(!judged(10) && judged(5));
}
