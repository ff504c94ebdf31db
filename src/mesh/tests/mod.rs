//! Links over real QUIC on loopback. Every wait is for an event; after 20 s it has hung.

mod fake;
mod hub;
mod query;
mod strangers;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use damson_core::hyparview::DownCause;
use damson_core::model::SwarmId;
use damson_core::plumtree::{BodyAction, BodyEvent};
use damson_core::swarm::{Input, Output};

use self::fake::{Habits, Node, header, stream, within};
use super::endpoint;
use super::fault::MeshError;
use super::identity::{Ca, Identity};

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

fn issue(ca: &Ca, name: &str) -> Identity {
    ca.issue(name).expect("an identity")
}

fn joining(join: &[&Node]) -> Habits {
    Habits { join: join.iter().map(|node| node.mesh.local_addr()).collect(), ..Habits::default() }
}

fn body(len: usize) -> Bytes {
    (0..len).map(|i| u8::try_from(i % 251).expect("below 256")).collect()
}

/// Two nodes with a link.
async fn pair(ca: &Ca, first: Habits, second: Habits) -> (Node, Node) {
    let mut a = Node::start(issue(ca, "a"), loopback(), first);
    let join = vec![a.mesh.local_addr()];
    let mut b = Node::start(issue(ca, "b"), loopback(), Habits { join, ..second });
    assert_eq!(a.up().await, b.mesh.node_id());
    assert_eq!(b.up().await, a.mesh.node_id());
    (a, b)
}

#[tokio::test]
async fn parts_go_both_ways() {
    let ca = Ca::generate().expect("a CA");
    let (mut a, mut b) = pair(&ca, Habits::default(), Habits::default()).await;
    for (msn, len) in [(1, 0), (2, 1), (3, 100_000), (4, 3_000_000)] {
        for _way in 0..2 {
            std::mem::swap(&mut a, &mut b);
            let (from, to) = (&mut a, &mut b);
            from.publish(msn, &body(len));
            assert_eq!(from.part().await.trace.hops, []);
            let got = within(to.parts.recv()).await.expect("the sink lives");
            assert_eq!(got.header, header(from.mesh.node_id(), msn, &body(len)));
            assert!(got.body == body(len), "{len} bytes");
            let [hop] = &got.trace.hops[..] else { panic!("one hop: {:?}", got.trace) };
            assert_eq!(hop.node, from.mesh.node_id());
            assert!(hop.dwell < Duration::from_secs(5) && hop.transit_us < 5_000_000, "{hop:?}");
        }
    }
    // A body counts as sent when the peer has acknowledged it.
    while within(a.mesh.snapshot()).await.expect("alive").links[0].counters["bodies_sent"] != 4 {
        tokio::task::yield_now().await;
    }
    let seen = within(a.mesh.snapshot()).await.expect("alive");
    let [link] = &seen.links[..] else { panic!("one link: {seen:?}") };
    assert_eq!((link.name.as_str(), link.listen), ("b", b.mesh.local_addr()));
    assert!(link.counters["bodies_sent"] == 4 && link.counters["bodies_received"] == 4, "{link:?}");
    assert_eq!(link.body_queue, 0);
}

#[tokio::test]
async fn a_part_three_hops_away_tells_its_way() {
    let ca = Ca::generate().expect("a CA");
    let (mut a, mut b) = pair(&ca, Habits::default(), Habits::default()).await;
    let mut c = Node::start(issue(&ca, "c"), loopback(), joining(&[&b]));
    assert_eq!(b.up().await, c.up_with(&b).await);
    let mut d = Node::start(issue(&ca, "d"), loopback(), joining(&[&c]));
    assert_eq!(c.up().await, d.up_with(&c).await);
    for msn in 0..5 {
        a.publish(msn, &body(100_000));
        for node in [&mut a, &mut b, &mut c] {
            node.part().await;
        }
        let got = d.part().await;
        assert!(got.body == body(100_000));
        let way: Vec<_> = got.trace.hops.iter().map(|hop| hop.node).collect();
        assert_eq!(way, [a.mesh.node_id(), b.mesh.node_id(), c.mesh.node_id()]);
    }
}

#[tokio::test]
async fn what_passes_a_node_without_accounts_has_none() {
    let ca = Ca::generate().expect("a CA");
    let silent = Habits { traced: false, ..Habits::default() };
    let (mut a, mut b) = pair(&ca, Habits::default(), silent).await;
    let mut c = Node::start(issue(&ca, "c"), loopback(), joining(&[&b]));
    assert_eq!(b.up().await, c.up_with(&b).await);
    a.publish(1, &body(1_000));
    assert!(a.part().await.trace.is_begun());
    for node in [&mut b, &mut c] {
        let got = node.part().await;
        assert!(got.body == body(1_000) && !got.trace.is_begun(), "{:?}", got.trace);
    }
}

impl Node {
    /// Waits for the link to `other`. Returns this node's id.
    async fn up_with(&mut self, other: &Node) -> damson_core::model::NodeId {
        assert_eq!(self.up().await, other.mesh.node_id());
        self.mesh.node_id()
    }
}

#[tokio::test]
async fn control_frames_come_in_order() {
    let ca = Ca::generate().expect("a CA");
    let (a, mut b) = pair(&ca, Habits::default(), Habits::default()).await;
    let to = b.mesh.node_id();
    let frames: Vec<Bytes> = (0..1_000u32).map(|i| Bytes::from(i.to_be_bytes().repeat(i as usize % 9))).collect();
    a.put_out(frames.iter().map(|frame| Output::Control { to, frame: frame.clone() }));
    for frame in frames {
        let got = b.hear(|input| if let Input::Control { frame, .. } = input { Some(frame.clone()) } else { None });
        assert_eq!(got.await, frame);
    }
}

#[tokio::test]
async fn dials_that_cross_make_one_link() {
    let ca = Ca::generate().expect("a CA");
    for round in 0..8 {
        let mut nodes = ["a", "b"].map(|name| Node::start(issue(&ca, name), loopback(), Habits::default()));
        let [a, b] = &nodes;
        a.put_out([Output::Dial { addr: b.mesh.local_addr(), peer: Some(b.mesh.node_id()) }]);
        b.put_out([Output::Dial { addr: a.mesh.local_addr(), peer: Some(a.mesh.node_id()) }]);
        let ids = [b.mesh.node_id(), a.mesh.node_id()];
        for (node, id) in nodes.iter_mut().zip(ids) {
            assert_eq!(node.up().await, id);
            node.put_out([Output::Control { to: id, frame: Bytes::from_static(b"graft") }]);
        }
        for node in &mut nodes {
            let flapped = node.hear(|input| match input {
                Input::Control { .. } => Some(false),
                Input::LinkDown { .. } | Input::DialFailed { .. } => Some(true),
                _ => None,
            });
            assert!(!flapped.await, "round {round}");
            assert_eq!(within(node.mesh.snapshot()).await.expect("alive").links.len(), 1);
        }
    }
}

#[tokio::test]
async fn a_refused_body_stops_its_sender() {
    let ca = Ca::generate().expect("a CA");
    let refusing = Habits { refuse: true, ..Habits::default() };
    let (mut a, b) = pair(&ca, Habits::default(), refusing).await;
    let body = body(8_000_000);
    a.publish(1, &body);
    let id = header(a.mesh.node_id(), 1, &body).id;
    let stopped = a.hear(|input| match input {
        Input::Body { peer: to, swarm, event: BodyEvent::Stopped(id) } => Some((*to, *swarm, *id)),
        _ => None,
    });
    assert_eq!(stopped.await, (b.mesh.node_id(), SwarmId::of(&stream()), id));
    let seen = within(b.mesh.snapshot()).await.expect("alive");
    assert!(seen.links[0].counters["body_bytes_received"].as_u64() < Some(8_000_000), "{seen:?}");
}

#[tokio::test]
async fn a_body_given_up_is_torn_at_the_peer() {
    let ca = Ca::generate().expect("a CA");
    let (a, mut b) = pair(&ca, Habits::default(), Habits::default()).await;
    let (to, swarm) = (b.mesh.node_id(), SwarmId::of(&stream()));
    let header = header(a.mesh.node_id(), 1, &body(1_000));
    let now = crate::clock::now();
    let trace = damson_core::model::Trace::default();
    let expires = now + Duration::from_secs(9);
    a.put_out([
        Output::Body { peer: to, swarm, action: BodyAction::Head { header, trace, offset: 0, received: now }, expires },
        Output::Body { peer: to, swarm, action: BodyAction::Piece { id: header.id, bytes: body(10) }, expires },
    ]);
    let piece = b.hear(|input| {
        if let Input::Body { event: BodyEvent::Piece { bytes, .. }, .. } = input { Some(bytes.clone()) } else { None }
    });
    assert_eq!(piece.await, body(10));
    a.put_out([Output::Body { peer: to, swarm, action: BodyAction::Abort(header.id), expires }]);
    let torn =
        b.hear(|input| if let Input::Body { event: BodyEvent::Torn(id), .. } = input { Some(*id) } else { None });
    assert_eq!(torn.await, header.id);
}

#[tokio::test]
async fn a_node_that_leaves_says_so() {
    let ca = Ca::generate().expect("a CA");
    let (a, mut b) = pair(&ca, Habits::default(), Habits::default()).await;
    a.put_out([Output::Control { to: b.mesh.node_id(), frame: Bytes::from_static(b"disconnect") }]);
    within(a.mesh.shutdown()).await;
    assert_eq!(within(a.mesh.snapshot()).await, None);
    let mut frames = 0;
    let cause = b.hear(|input| match input {
        Input::Control { .. } => {
            frames += 1;
            None
        }
        Input::LinkDown { cause, .. } => Some(*cause),
        _ => None,
    });
    assert_eq!(cause.await, DownCause::Left);
    assert_eq!(frames, 1, "what was queued goes out first");
}

#[test]
fn a_killed_node_is_missed_and_found_again() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let (mine, theirs) = (runtime().expect("a runtime"), runtime().expect("a runtime"));
    let ca = Ca::generate().expect("a CA");
    let identity = issue(&ca, "b");
    let b = {
        let _in = theirs.enter();
        Node::start(identity.clone(), loopback(), Habits::default())
    };
    let (id, addr) = (b.mesh.node_id(), b.mesh.local_addr());
    let mut a = {
        let _in = mine.enter();
        Node::start(issue(&ca, "a"), loopback(), Habits { redial: true, ..joining(&[&b]) })
    };
    mine.block_on(async {
        assert_eq!(a.up().await, id);
        // As with SIGKILL: no farewell, and the socket is gone.
        theirs.shutdown_background();
        let cause = a.hear(|input| if let Input::LinkDown { cause, .. } = input { Some(*cause) } else { None });
        assert_eq!(cause.await, DownCause::TimedOut);
        let _again = Node::start(identity, addr, Habits::default());
        assert_eq!(a.up().await, id);
    });
}

#[tokio::test]
async fn a_taken_port_is_told() {
    let ca = Ca::generate().expect("a CA");
    let a = Node::start(issue(&ca, "a"), loopback(), Habits::default());
    let taken = endpoint::open(&issue(&ca, "b"), a.mesh.local_addr()).map(|_| ());
    assert!(matches!(taken, Err(MeshError::Bind { addr, .. }) if addr == a.mesh.local_addr()), "{taken:?}");
}

#[tokio::test]
async fn a_dial_to_nobody_fails() {
    let ca = Ca::generate().expect("a CA");
    let mut a = Node::start(issue(&ca, "a"), loopback(), Habits::default());
    let silent = tokio::net::UdpSocket::bind(loopback()).await.expect("a free port");
    let addr = silent.local_addr().expect("bound");
    a.put_out([Output::Dial { addr, peer: None }, Output::Dial { addr: a.mesh.local_addr(), peer: None }]);
    let mut failed = Vec::new();
    while failed.len() < 2 {
        let one = a.hear(|input| match input {
            Input::DialFailed { addr, cause, .. } => Some((*addr, *cause)),
            _ => None,
        });
        failed.push(one.await);
    }
    failed.sort_by_key(|(to, _)| *to == addr);
    // It dials itself, and then nobody.
    assert_eq!(failed, [(a.mesh.local_addr(), DownCause::Refused), (addr, DownCause::TimedOut)]);
}
