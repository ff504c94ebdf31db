//! Rules, one test each, and lists of operations.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::model::time::{Time, UnixTime};
use crate::model::{Epoch, Flags, Hop, Msn, NodeId, NodeName, PartHeader, PartId, Trace, TrackId};

mod exhaustive;
mod net;
mod owners;
mod slow;
mod tree;

use self::net::*;

#[test]
fn a_late_joiner_gets_the_whole_window_at_once_and_the_newest_first() {
    let mut net = Net::new(3, &Config::default());
    net.link(0, 1);
    for n in 0..300u32 {
        for track in 0..2 {
            net.publish(0, PartId { track: TrackId(track), ..part(n / 5, (n % 5) as u16) }, 2_000);
        }
        net.run(20);
    }
    net.publish(0, PartId { track: TrackId::RECORD, msn: 7, ..part(0, 0) }, 5_000);
    net.run(500);
    let heads = net.heads;
    net.link(1, 2);
    net.link(0, 2);
    let start = net.now;
    net.run(1_000);
    let had = &net.delivered[&NodeId(2)];
    assert_eq!(had.len(), 601);
    assert_eq!(net.heads - heads, 601, "each body once");
    let last = had.values().map(|(at, _)| *at).max().unwrap().since(start);
    assert!(last <= Duration::from_millis(700), "{last:?}");
    let at = |id: PartId| had[&id].0;
    assert!(at(PartId { track: TrackId::RECORD, msn: 7, ..part(0, 0) }) <= at(part(59, 0)));
    assert!(at(part(59, 4)) < at(part(0, 0)));
}

#[test]
fn equal_ids_with_different_hashes_keep_the_first() {
    let mut net = Net::full(2, &Config::default());
    net.publish(0, part(0, 0), 100);
    net.run(100);
    let other = Bytes::from_static(b"another body");
    net.input(
        1,
        Input::Body {
            peer: NodeId(0),
            event: BodyEvent::Head { header: header(part(0, 0), &other), trace: trace(NodeId(0)), offset: 0 },
        },
    );
    assert_eq!(net.stats(1).conflicts, 1);
    assert_eq!(net.delivered[&NodeId(1)][&part(0, 0)].1, body(part(0, 0), 100));
}

#[test]
fn a_body_that_isnt_what_its_header_says_is_not_delivered_and_is_fetched_elsewhere() {
    let mut net = Net::full(3, &Config::default());
    let good = body(part(0, 0), 100);
    let from = NodeId(9);
    net.input(1, Input::NeighborUp(from));
    net.input(
        1,
        Input::Body {
            peer: from,
            event: BodyEvent::Head { header: header(part(0, 0), &good), trace: trace(from), offset: 0 },
        },
    );
    let bad = body(part(0, 1), 100);
    net.publish(0, part(0, 0), 100);
    net.run(15);
    net.input(1, Input::Body { peer: from, event: BodyEvent::Piece { id: part(0, 0), bytes: bad } });
    assert_eq!(net.stats(1).hash_mismatches, 1);
    assert!(!net.has(1, part(0, 0)));
    net.run(1_000);
    assert!(net.has(1, part(0, 0)));
}

#[test]
fn the_higher_epoch_takes_over_from_its_first_segment_on() {
    let config = Config::default();
    let mut net = Net::full(2, &config);
    let new = |msn, n| PartId { epoch: epoch(2), ..part(msn, n) };
    for msn in 0..4 {
        net.publish(0, part(msn, 0), 100);
    }
    net.publish(1, new(3, 0), 100);
    net.run(2_000);
    net.publish(1, new(4, 0), 100);
    net.run(2_000);
    assert!(net.has(0, new(3, 0)) && net.has(1, part(2, 0)), "before the takeover both are one stream");
    net.publish(0, part(5, 0), 100);
    net.run(2_000);
    assert!(!net.has(1, part(5, 0)) && !net.has(0, part(5, 0)), "a superseded publisher isn't heard");
    let stale = body(part(3, 0), 100);
    net.input(
        1,
        Input::Body {
            peer: NodeId(0),
            event: BodyEvent::Head { header: header(part(3, 0), &stale), trace: trace(NodeId(0)), offset: 0 },
        },
    );
    assert_eq!(net.stats(1).stale, 1);
}

#[test]
fn of_the_record_only_the_newest_revision_is_kept() {
    let mut net = Net::full(2, &Config::default());
    let record = |counter, msn| PartId { epoch: epoch(counter), track: TrackId::RECORD, msn, part: 0 };
    for id in [record(1, 1), record(1, 2), record(2, 1)] {
        net.publish(0, id, 100);
        net.run(300);
        net.all_have(id);
        assert_eq!(net.nodes[&NodeId(1)].sizes().held, 1);
    }
    net.publish(1, record(1, 9), 100);
    net.run(300);
    assert!(!net.has(0, record(1, 9)));
}

#[test]
fn what_is_full_makes_room_for_the_newest() {
    let mut net = Net::full(1, &Config { held_bytes_max: 1_000, ..Config::default() });
    let mut then = |id, length, held| {
        net.publish(0, id, length);
        let sizes = net.nodes[&NodeId(0)].sizes();
        assert_eq!((sizes.held, sizes.held_bytes), held, "{id:?}");
    };
    let record = PartId { track: TrackId::RECORD, ..part(1, 0) };
    for msn in 1..=5 {
        then(part(msn, 0), 200, (usize::try_from(msn).expect("few"), 200 * u64::from(msn)));
    }
    // The oldest goes for the record, and then for the next part; the record stays.
    then(record, 100, (5, 900));
    then(part(6, 0), 200, (5, 900));
    // What is numbered last makes room, too.
    then(part(Msn::MAX, 0), 400, (4, 900));
    then(part(Msn::MAX, 1), 800, (2, 900));
}

#[test]
fn a_lost_announcement_loses_no_part() {
    let mut net = Net::full(2, &Config::default());
    net.drop = |message| matches!(message, Message::Ihave(_) | Message::Receiving(_));
    for n in 0..3 {
        net.publish(0, part(0, n), 100);
    }
    net.run(300);
    assert!(!net.has(1, part(0, 0)));
    net.drop = |_| false;
    net.run(2_500);
    for n in 0..3 {
        net.all_have(part(0, n));
    }
}

#[test]
fn a_graft_for_what_isnt_here_is_answered_and_the_next_holder_is_asked() {
    let mut net = Net::full(2, &Config::default());
    let id = part(3, 3);
    for liar in [7, 8] {
        net.input(1, Input::NeighborUp(NodeId(liar)));
        let announce = Announce { id, length: 10, hops: 1, age_us: 0 };
        net.input(1, Input::Message { from: NodeId(liar), message: Message::Ihave(vec![announce]) });
    }
    let asked = |net: &Net| -> Vec<u64> {
        let grafts = net.log.iter().filter(|(_, _, message)| matches!(message, Message::Graft { .. }));
        grafts.map(|(_, to, _)| to.0).collect()
    };
    assert_eq!(asked(&net), [7]);
    net.input(1, Input::Message { from: NodeId(7), message: Message::NotHere { id } });
    assert_eq!(asked(&net), [7, 8]);
    net.input(1, Input::Message { from: NodeId(8), message: Message::NotHere { id } });
    assert_eq!(net.nodes[&NodeId(1)].sizes().missing, 0);
    assert_eq!(net.stats(1).lost, 1);
    // And the other way: this node's answer.
    net.input(0, Input::Message { from: NodeId(1), message: Message::Graft { id: Some(id), offset: 0, join: true } });
    assert_eq!(net.stats(0).not_here_sent, 1);
}

#[test]
fn a_torn_transfer_goes_on_elsewhere_at_its_offset() {
    let mut net = Net::new(3, &Config::default());
    net.link(0, 1);
    net.link(0, 2);
    net.link(1, 2);
    let id = part(0, 0);
    let whole = body(id, 300_000);
    let from = NodeId(9);
    net.input(2, Input::NeighborUp(from));
    net.input(
        2,
        Input::Body {
            peer: from,
            event: BodyEvent::Head { header: header(id, &whole), trace: trace(from), offset: 0 },
        },
    );
    net.input(2, Input::Body { peer: from, event: BodyEvent::Piece { id, bytes: whole.slice(..60_000) } });
    net.publish(0, id, 300_000);
    net.run(200);
    net.input(2, Input::Body { peer: from, event: BodyEvent::Torn(id) });
    net.run(200);
    net.all_have(id);
    assert_eq!((net.stats(2).torn, net.stats(2).resumed), (1, 1));
    let resumed = |message: &Message| matches!(message, Message::Graft { offset: 60_000, .. });
    assert_eq!(net.count(resumed), 1);
}

#[test]
fn who_gets_a_large_body_tells_the_others_and_is_not_sent_it_twice() {
    let mut net = Net::full(4, &Config::default());
    net.publish(0, part(0, 0), 20_000);
    net.run(500);
    for n in 1..4 {
        let (heads, receivings) = (net.heads, net.count(|message| matches!(message, Message::Receiving(_))));
        net.publish(0, part(0, n), if n == 3 { 1_000 } else { 20_000 });
        net.run(500);
        assert_eq!(net.heads - heads, 3);
        let more = net.count(|message| matches!(message, Message::Receiving(_))) > receivings;
        assert_eq!(more, n != 3, "only above 16 KiB");
    }
}

#[test]
fn a_second_copy_is_refused_at_its_header_and_the_link_pruned() {
    let mut net = Net::full(2, &Config::default());
    net.publish(0, part(0, 0), 1_000);
    net.run(500);
    net.input(1, Input::NeighborUp(NodeId(9)));
    let copy = body(part(0, 0), 1_000);
    let from = NodeId(9);
    net.input(
        1,
        Input::Body {
            peer: from,
            event: BodyEvent::Head { header: header(part(0, 0), &copy), trace: trace(from), offset: 0 },
        },
    );
    assert_eq!(net.stats(1).duplicates, 1);
    assert_eq!(net.log.last().map(|(_, to, message)| (to.0, message.clone())), Some((9, Message::Prune)));
}

#[test]
fn when_the_parent_dies_the_others_are_asked_at_once() {
    let mut net = Net::new(4, &Config::default());
    for (a, b) in [(0, 1), (0, 2), (1, 3), (2, 3)] {
        net.link(a, b);
    }
    for n in 0..10 {
        net.publish(0, part(0, n), 50_000);
        net.run(200);
    }
    let parent = net.nodes[&NodeId(3)].parent().expect("fed").0;
    net.kill(parent);
    net.publish(0, part(1, 0), 50_000);
    let start = net.now;
    net.run(500);
    net.all_have(part(1, 0));
    let took = net.delivered[&NodeId(3)][&part(1, 0)].0.since(start);
    assert!(took < Duration::from_millis(100), "{took:?}");
}

/// A late joiner fetches the window from all its neighbours, and is fed by the one that it asked for the newest part:
/// also where an older part comes in first, from another neighbour, and the feeder-to-be has announced that one as well.
#[test]
fn a_feeder_whose_graft_is_under_way_stays_one() {
    let mut net = Net::new(1, &Config::default());
    net.input(0, Input::NeighborUp(NodeId(1)));
    net.input(0, Input::NeighborUp(NodeId(2)));
    let offer = |from: u64, n| {
        let announce = Announce { id: part(0, n), length: 100, hops: HOPS_UNKNOWN, age_us: 0 };
        Input::Message { from: NodeId(from), message: Message::Ihave(vec![announce]) }
    };
    for (from, n) in [(1, 1), (2, 0), (1, 0)] {
        net.input(0, offer(from, n));
    }
    let graft = |n, join| Message::Graft { id: Some(part(0, n)), offset: 0, join };
    let asked: Vec<_> = net.log.iter().filter(|(_, _, it)| matches!(it, Message::Graft { .. })).cloned().collect();
    let me = NodeId(0);
    assert_eq!(asked, [(me, NodeId(1), graft(1, true)), (me, NodeId(2), graft(0, false))]);
    for (from, n) in [(2, 0), (1, 1)] {
        let (from, id, whole) = (NodeId(from), part(0, n), body(part(0, n), 100));
        net.input(
            0,
            Input::Body {
                peer: from,
                event: BodyEvent::Head { header: header(id, &whole), trace: trace(from), offset: 0 },
            },
        );
        net.input(0, Input::Body { peer: from, event: BodyEvent::Piece { id, bytes: whole } });
    }
    let node = &net.nodes[&me];
    assert_eq!(node.parent(), Some(NodeId(1)));
    assert_eq!(node.neighbours().collect::<Vec<_>>(), [(NodeId(1), true), (NodeId(2), false)]);
    // So the next part isn't asked of the neighbour that happens to announce it before the feeder's copy.
    net.log.clear();
    net.input(0, offer(2, 2));
    assert_eq!(net.count(|message| matches!(message, Message::Graft { .. })), 0);
}

#[test]
fn when_the_parent_falls_silent_the_timer_finds_another() {
    let mut net = Net::new(4, &Config::default());
    for (a, b) in [(0, 1), (0, 2), (1, 3), (2, 3)] {
        net.link(a, b);
    }
    for n in 0..10 {
        net.publish(0, part(0, n), 50_000);
        net.run(200);
    }
    let parent = net.nodes[&NodeId(3)].parent().expect("fed");
    net.dead.insert((parent, NodeId(3)));
    for n in 0..10 {
        net.publish(0, part(1, n), 50_000);
        net.run(200);
    }
    net.run(2_000);
    net.all_have(part(1, 9));
    assert_ne!(net.nodes[&NodeId(3)].parent(), Some(parent));
}

#[test]
fn the_tree_moves_to_the_earlier_neighbour() {
    // 0 feeds 3 over 1 and 2; then 3 learns of 0 itself.
    for (optimise, moves) in [
        (Optimise::Off, false),
        (Optimise::Hops { threshold: 2 }, true),
        (Optimise::Time { margin: Duration::from_millis(3), samples: 2 }, true),
    ] {
        let mut net = Net::line(4, &Config { optimise, ihave_delay: Duration::ZERO, ..Config::default() });
        for n in 0..10 {
            net.publish(0, part(0, n), 1_000);
            net.run(200);
        }
        net.link(0, 3);
        for n in 0..10 {
            net.publish(0, part(1, n), 1_000);
            net.run(200);
        }
        assert_eq!(net.nodes[&NodeId(3)].parent() == Some(NodeId(0)), moves, "{optimise:?}");
        net.all_have(part(1, 9));
        assert!(net.heads <= 3 * 20 + 1);
    }
}

#[test]
fn eager_children_are_capped_by_the_upload_budget() {
    let config = Config { upload: Some(30_000), ..Config::default() };
    let mut net = Net::new(6, &config);
    for other in 1..6 {
        net.link(0, other);
        for another in 1..other {
            net.link(another, other);
        }
    }
    for n in 0..50 {
        net.publish(0, part(n, 0), 2_000);
        net.run(200);
    }
    for n in 0..50 {
        net.all_have(part(n, 0));
    }
    // 10 KB/s go three times into 30 KB/s. A link made before the rate was known may stay.
    net.input(0, Input::NeighborUp(NodeId(99)));
    let before = net.stats(0).prunes_sent;
    for peer in [1, 2, 3, 4, 5, 99] {
        let message = Message::Graft { id: None, offset: 0, join: true };
        net.input(0, Input::Message { from: NodeId(peer), message });
    }
    assert!(net.stats(0).prunes_sent > before);
}

#[test]
fn strangers_enter_no_set_and_are_answered() {
    let mut net = Net::full(2, &Config::default());
    net.publish(0, part(0, 0), 100);
    net.run(100);
    let announce = Announce { id: part(5, 0), length: 10, hops: 1, age_us: 0 };
    let from = NodeId(77);
    let sizes = net.nodes[&NodeId(0)].sizes();
    for message in [
        Message::Ihave(vec![announce]),
        Message::Receiving(announce),
        Message::Prune,
        Message::NotHere { id: part(0, 0) },
        Message::Digest(vec![]),
        Message::Graft { id: Some(part(9, 9)), offset: 0, join: true },
        Message::Graft { id: Some(part(0, 0)), offset: 0, join: true },
    ] {
        net.input(0, Input::Message { from, message });
    }
    let heads = net.heads;
    let other = body(part(6, 0), 10);
    net.input(
        0,
        Input::Body {
            peer: from,
            event: BodyEvent::Head { header: header(part(6, 0), &other), trace: trace(from), offset: 0 },
        },
    );
    net.input(0, Input::Body { peer: from, event: BodyEvent::Piece { id: part(6, 0), bytes: other } });
    assert_eq!(net.nodes[&NodeId(0)].sizes(), sizes);
    assert_eq!(net.nodes[&NodeId(0)].neighbours().count(), 1);
    assert_eq!((heads, net.stats(0).not_here_sent, net.stats(0).strangers), (2, 1, 8));
}

#[test]
fn what_is_forgotten_stays_so() {
    let mut net = Net::full(2, &Config::default());
    for msn in 0..4 {
        net.publish(0, part(msn, 0), 100);
        net.run(200);
    }
    net.input(1, Input::Forget { track: TrackId(0), before: 3 });
    assert_eq!(net.nodes[&NodeId(1)].sizes().held, 1);
    net.run(5_000);
    assert_eq!(net.nodes[&NodeId(1)].sizes().held, 1, "no digest brings it back");
    let old = body(part(1, 0), 100);
    net.input(
        1,
        Input::Body {
            peer: NodeId(0),
            event: BodyEvent::Head { header: header(part(1, 0), &old), trace: trace(NodeId(0)), offset: 0 },
        },
    );
    assert_eq!(net.stats(1).stale, 1);
}

/// What a neighbour, a former one or a stranger may do.
#[derive(Debug, Clone)]
enum Op {
    Up(u64),
    Down(u64),
    Publish(PartId, usize),
    Ihave(u64, PartId, bool),
    Graft(u64, PartId, u32, bool),
    Prune(u64),
    NotHere(u64, PartId),
    Digest(u64, PartId),
    Head(u64, PartId, u32, bool),
    Piece(u64, PartId, usize),
    Torn(u64, PartId),
    Stopped(u64, PartId),
    Forget(Msn),
    /// One of the node's own messages comes back, from anybody: again, or out of its turn.
    Echo(u64, usize),
    Wait(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let node = 0..6u64;
    let id = (1..3u32, 0..3u8, 0..4u32, 0..3u16).prop_map(|(counter, track, msn, part)| PartId {
        epoch: epoch(counter),
        track: if track == 2 { TrackId::RECORD } else { TrackId(track) },
        msn,
        part,
    });
    let op = prop_oneof![
        3 => node.clone().prop_map(Op::Up),
        1 => node.clone().prop_map(Op::Down),
        1 => (id.clone(), 0..100_000usize).prop_map(|(id, n)| Op::Publish(id, n)),
        4 => (node.clone(), id.clone(), any::<bool>()).prop_map(|(n, id, b)| Op::Ihave(n, id, b)),
        2 => (node.clone(), id.clone(), 0..3u32, any::<bool>()).prop_map(|(n, id, o, j)| Op::Graft(n, id, o * 500, j)),
        1 => node.clone().prop_map(Op::Prune),
        2 => (node.clone(), id.clone()).prop_map(|(n, id)| Op::NotHere(n, id)),
        1 => (node.clone(), id.clone()).prop_map(|(n, id)| Op::Digest(n, id)),
        6 => (node.clone(), id.clone(), 0..3u32, any::<bool>()).prop_map(|(n, id, o, b)| Op::Head(n, id, o * 500, b)),
        8 => (node.clone(), id.clone(), 0..2_000usize).prop_map(|(n, id, l)| Op::Piece(n, id, l)),
        1 => (node.clone(), id.clone()).prop_map(|(n, id)| Op::Torn(n, id)),
        1 => (node.clone(), id.clone()).prop_map(|(n, id)| Op::Stopped(n, id)),
        1 => (0..4u32).prop_map(Op::Forget),
        2 => (node.clone(), 0..200usize).prop_map(|(n, said)| Op::Echo(n, said)),
        2 => (0..3_000u64).prop_map(Op::Wait),
    ];
    proptest::collection::vec(op, 0..200)
}

proptest! {
    /// Whatever anybody says in whatever order: no panic, at most one delivery an id, the right bytes
    /// (both checked by [`Net::input`]), bounded sets, and nothing is left to wait for for good.
    #[test]
    fn anything_may_come_from_anybody(ops in ops(), paper in any::<bool>()) {
        let config = if paper { Config::paper() } else { Config::default() };
        let mut net = Net::new(1, &config);
        let length = 1_200;
        for op in ops {
            let message = |from, message| Input::Message { from: NodeId(from), message };
            let input = match op {
                Op::Up(n) => Input::NeighborUp(NodeId(n + 1)),
                Op::Down(n) => Input::NeighborDown(NodeId(n + 1)),
                Op::Publish(id, n) => {
                    let body = body(id, n);
                    Input::Publish { header: header(id, &body), body, trace: Trace::default() }
                }
                Op::Ihave(n, id, receiving) => {
                    let announce = Announce { id, length, hops: n as u8, age_us: 5 };
                    let it = if receiving { Message::Receiving(announce) } else { Message::Ihave(vec![announce]) };
                    message(n + 1, it)
                }
                Op::Graft(n, id, offset, join) => message(n + 1, Message::Graft { id: Some(id), offset, join }),
                Op::Prune(n) => message(n + 1, Message::Prune),
                Op::NotHere(n, id) => message(n + 1, Message::NotHere { id }),
                Op::Digest(n, id) => {
                    let newest = Some((id.epoch, (id.msn, id.part)));
                    message(n + 1, Message::Digest(vec![TrackDigest { track: id.track, newest, holes: vec![] }]))
                }
                Op::Head(n, id, offset, good) => {
                    let body = body(if good { id } else { part(99, 0) }, length as usize);
                    let (peer, header) = (NodeId(n + 1), header(id, &body));
                    Input::Body { peer, event: BodyEvent::Head { header, trace: trace(peer), offset } }
                }
                Op::Piece(n, id, len) => {
                    let whole = body(id, length as usize);
                    let at = whole.len().saturating_sub(len);
                    Input::Body { peer: NodeId(n + 1), event: BodyEvent::Piece { id, bytes: whole.slice(at..) } }
                }
                Op::Torn(n, id) => Input::Body { peer: NodeId(n + 1), event: BodyEvent::Torn(id) },
                Op::Stopped(n, id) => Input::Body { peer: NodeId(n + 1), event: BodyEvent::Stopped(id) },
                Op::Forget(before) => Input::Forget { track: TrackId(0), before },
                Op::Echo(n, said) => match net.log.get(said) {
                    Some((_, _, said)) => message(n + 1, said.clone()),
                    None => continue,
                },
                Op::Wait(millis) => {
                    net.run(millis);
                    continue;
                }
            };
            net.input(0, input);
            let sizes = net.nodes[&NodeId(0)].sizes();
            prop_assert!(sizes.missing <= MISSING_MAX && sizes.transfers <= TRANSFERS_MAX);
            prop_assert!(sizes.held <= HELD_MAX && sizes.announcements <= ANNOUNCE_MAX);
            prop_assert!(sizes.held_bytes <= config.held_bytes_max);
            prop_assert!(net.nodes[&NodeId(0)].neighbours().count() <= NEIGHBOURS_MAX);
        }
        for n in 1..7 {
            net.input(0, Input::NeighborDown(NodeId(n)));
        }
        net.run(60_000);
        let sizes = net.nodes[&NodeId(0)].sizes();
        prop_assert_eq!((sizes.missing, sizes.transfers), (0, 0));
        prop_assert_eq!(net.nodes[&NodeId(0)].poll_timeout(), None);
    }

    /// In a connected swarm nothing is missing in the end, whatever control messages are lost.
    #[test]
    fn lost_control_messages_lose_no_part(seed in any::<u64>(), loss in 0..40u64) {
        let mut net = Net::full(5, &Config::default());
        let mut dice = seed | 1;
        for n in 0..40u32 {
            net.publish(0, part(n / 5, (n % 5) as u16), 30_000);
            for _ in 0..10 {
                net.run(20);
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let lost = dice >> 33;
                net.queue.retain(|key, (_, _, frame)| {
                    !matches!(frame, Frame::Message(_)) || (lost ^ key.1.wrapping_mul(2_654_435_761)) % 100 >= loss
                });
            }
        }
        net.run(6_000);
        for n in 0..40u32 {
            net.all_have(part(n / 5, (n % 5) as u16));
        }
    }
}
