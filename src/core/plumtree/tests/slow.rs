//! Slow neighbours, and parents that don't feed.

use super::*;

fn announce(id: PartId, length: u32, hops: u8) -> Announce {
    Announce { id, length, hops, age_us: 0 }
}

/// 0 feeds 3 over 1 or 2; returns the net and who is 3's parent, and who isn't.
fn diamond(config: &Config) -> (Net, u64, u64) {
    let mut net = Net::new(4, config);
    for (a, b) in [(0, 1), (0, 2), (1, 3), (2, 3)] {
        net.link(a, b);
    }
    for n in 0..10 {
        net.publish(0, part(0, n), 50_000);
        net.run(200);
    }
    let parent = net.nodes[&NodeId(3)].parent().expect("fed").0;
    (net, parent, 3 - parent)
}

#[test]
fn what_the_parent_announces_is_asked_for_though_another_said_so_first() {
    let (mut net, parent, other) = diamond(&Config::default());
    let id = part(1, 0);
    net.input(3, Input::Message { from: NodeId(other), message: Message::Ihave(vec![announce(id, 50_000, 2)]) });
    let grafts = |net: &Net| net.count(|message| matches!(message, Message::Graft { id: Some(of), .. } if *of == id));
    assert_eq!(grafts(&net), 0, "the parent is going to send it");
    net.input(3, Input::Message { from: NodeId(parent), message: Message::Receiving(announce(id, 50_000, 2)) });
    assert_eq!(grafts(&net), 1, "it says that it won't");
}

#[test]
fn a_part_that_never_came_by_itself_is_asked_for_with_its_link() {
    // Each part is late by more than a part's time: when it is asked for it isn't the newest any more.
    let (mut net, parent, other) =
        diamond(&Config { graft_margin_min: Duration::from_millis(500), ..Config::default() });
    net.dead.insert((NodeId(parent), NodeId(3)));
    for n in 0..20 {
        net.publish(0, part(1, n), 50_000);
        net.run(200);
    }
    assert_eq!(net.nodes[&NodeId(3)].parent(), Some(NodeId(other)));
}

#[test]
fn a_parent_that_was_often_late_is_waited_for_no_longer_than_a_live_part_has() {
    let config = Config { digest_interval: None, optimise: Optimise::Off, ..Config::default() };
    let mut net = Net::new(1, &config);
    let (parent, other) = (NodeId(1), NodeId(2));
    for peer in [parent, other] {
        net.input(0, Input::NeighborUp(peer));
    }
    let ihave = |from: NodeId, id: PartId| Input::Message { from, message: Message::Ihave(vec![announce(id, 100, 1)]) };
    net.input(0, ihave(parent, part(0, 0)));
    // The others have each part at once, the parent's copy comes by and by: sometimes soon, sometimes not.
    for (n, late) in [0, 20, 440, 20, 440].into_iter().enumerate() {
        let id = part(0, u16::try_from(n).expect("few"));
        if n > 0 {
            net.input(0, ihave(other, id));
        }
        net.run(late);
        let whole = body(id, 100);
        net.input(
            0,
            Input::Body {
                peer: parent,
                event: BodyEvent::Head { header: header(id, &whole), trace: trace(parent), offset: 0 },
            },
        );
        net.input(0, Input::Body { peer: parent, event: BodyEvent::Piece { id, bytes: whole } });
        assert!(net.has(0, id));
        net.run(500);
    }
    assert_eq!(net.nodes[&NodeId(0)].parent(), Some(parent));
    let lost = part(1, 0);
    let asked = |net: &Net| {
        net.log.iter().any(|(_, to, m)| *to == other && matches!(m, Message::Graft { id: Some(id), .. } if *id == lost))
    };
    net.input(0, ihave(other, lost));
    net.run(50);
    assert!(!asked(&net), "the parent has its time");
    net.run(250);
    assert!(asked(&net), "and no more than that");
}

#[test]
fn pulls_that_nobody_answers_grow_rarer() {
    let mut net = Net::new(3, &Config::default());
    net.link(0, 1);
    net.link(0, 2);
    net.dead.extend([(NodeId(1), NodeId(0)), (NodeId(2), NodeId(0))]);
    let parts: Vec<Announce> = (0..20).map(|n| announce(part(0, n), 20_000, 1)).collect();
    for from in [1, 2] {
        net.input(0, Input::Message { from: NodeId(from), message: Message::Ihave(parts.clone()) });
    }
    net.run(1_000);
    let early = net.stats(0).grafts_sent;
    net.run(20_000);
    let late = net.stats(0).grafts_sent - early;
    // 250 ms of patience would make 20 parts x 3 a second.
    assert!((4..100).contains(&late), "{early} GRAFTs in the first second, {late} in 20 more");
}

#[test]
fn who_can_hardly_send_is_left_by_its_children() {
    for (upload, parent) in [(None, 1), (Some(12_000), 0)] {
        let mut net = Net::new(4, &Config { optimise: Optimise::Off, ..Config::default() });
        if let Some(slow) = net.nodes.get_mut(&NodeId(1)) {
            slow.configure(|config| config.upload = upload);
        }
        for (a, b) in [(0, 1), (1, 2), (1, 3)] {
            net.link(a, b);
        }
        let publish = |net: &mut Net, msn: u32| {
            for n in 0..5 {
                net.publish(0, part(msn, n), 2_000);
                net.run(200);
            }
        };
        (0..4).for_each(|msn| publish(&mut net, msn));
        net.link(0, 2);
        net.link(0, 3);
        (4..40).for_each(|msn| publish(&mut net, msn));
        (0..40).for_each(|msn| net.all_have(part(msn, 4)));
        for child in [2, 3] {
            assert_eq!(net.nodes[&NodeId(child)].parent(), Some(NodeId(parent)), "of {child}, with {upload:?} bytes/s");
        }
    }
}

/// Plays a parent whose bodies take 300 ms from head to tail, and another neighbour that says `message` a moment after each
/// has begun; its copy has passed `hops` links. Returns the neighbour that is asked to be the parent.
fn beside_a_slow_parent(message: fn(Announce) -> Message, hops: u8) -> Option<NodeId> {
    let (mut net, parent, other) = diamond(&Config::default());
    for n in 0..8 {
        let id = part(1, n);
        let body = body(id, 50_000);
        let way = trace(NodeId(parent));
        let from = NodeId(parent);
        net.input(
            3,
            Input::Body { peer: from, event: BodyEvent::Head { header: header(id, &body), trace: way, offset: 0 } },
        );
        net.run(20);
        let message = message(announce(id, 50_000, hops));
        net.input(3, Input::Message { from: NodeId(other), message });
        for at in (0..50_000).step_by(10_000) {
            net.run(60);
            net.input(
                3,
                Input::Body { peer: from, event: BodyEvent::Piece { id, bytes: body.slice(at..at + 10_000) } },
            );
        }
        let joined = |to: u64| {
            net.log.iter().any(|(from, at, message)| {
                (from.0, at.0) == (3, to) && matches!(message, Message::Graft { id: None, join: true, .. })
            })
        };
        if joined(other) {
            return Some(NodeId(other));
        }
    }
    None
}

#[test]
fn a_slow_parent_is_left_though_its_heads_come_first() {
    let whole = |announce| Message::Ihave(vec![announce]);
    assert!(beside_a_slow_parent(whole, 1).is_some());
    // A neighbour that got it over more links, and later, may have got it from here.
    assert!(beside_a_slow_parent(whole, 9).is_none());
    // One that has only begun may be as slow.
    assert!(beside_a_slow_parent(Message::Receiving, 1).is_none());
}
