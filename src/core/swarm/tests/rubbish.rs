//! Frames that no honest node sends.

use proptest::prelude::*;

use super::*;

#[test]
fn a_corrupt_announcement_goes_no_further() {
    let mut net = Net::line(3);
    let entry = Entry {
        stream: name("cam1"),
        life: LifeId(1),
        epoch: Epoch { counter: 1, node: NodeId(9) },
        refresh: 1,
        ingest: peer(9),
    };
    let send = |net: &mut Net, announcement: Announcement<Entry>| {
        let body = FrameBody::Directory(vec![announcement]);
        let frame = SwarmFrame { swarm: SwarmId::DIRECTORY, body }.encode();
        net.handle(NodeId(2), Input::Control { from: NodeId(1), frame });
        net.run(Duration::from_millis(10));
        net.entries.range((NodeId(3), name("a"))..(NodeId(4), name("a"))).count()
    };
    let good = Announcement::new(entry.clone());
    assert_eq!(send(&mut net, Announcement { checksum: good.checksum ^ 1, ..good.clone() }), 0);
    assert_eq!(send(&mut net, Announcement::new(Entry { ingest: peer(8), ..entry })), 0);
    assert_eq!(send(&mut net, good), 1);
}

#[test]
fn frames_of_unknown_kinds_and_swarms_change_nothing() {
    let mut net = Net::line(2);
    let control = |net: &mut Net, frame: &[u8]| {
        net.handle(NodeId(2), Input::Control { from: NodeId(1), frame: Bytes::copy_from_slice(frame) });
    };
    control(&mut net, &[0, 0, 0, 0, 0, 0, 0, 0, 77, 1, 2, 3]);
    control(&mut net, &[0, 0, 0]);
    let frame = |body| SwarmFrame { swarm: SwarmId(5), body }.encode();
    control(&mut net, &frame(FrameBody::Overlay(crate::hyparview::Message::Join)));
    control(&mut net, &frame(FrameBody::Broadcast(crate::plumtree::Message::Prune)));
    let (header, _) = part(&record("cam1", 1, 0), 0);
    net.handle(
        NodeId(2),
        Input::Body {
            peer: NodeId(1),
            swarm: SwarmId(5),
            event: BodyEvent::Head { header, trace: Trace::default(), offset: 0 },
        },
    );
    let hub = net.hubs.get_mut(&NodeId(2)).expect("it lives");
    hub.handle(net.now, Input::Control { from: NodeId(99), frame: frame(FrameBody::Leave) });
    assert_eq!(hub.bad_frames().0, 1);
    assert_eq!(net.hubs[&NodeId(2)].swarms().count(), 1);
}

proptest! {
    #[test]
    fn rubbish_frames_are_refused_without_a_panic(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..20),
    ) {
        let mut hub = Hub::new(peer(1), Config::gossip(vec![]), 1);
        let now = Time::from_millis(5);
        hub.handle(now, Input::LinkUp { peer: peer(2), dialled: None });
        for mut frame in frames {
            // Half of them about a swarm that exists, of a kind that does.
            if let [first, .., kind] = frame.as_mut_slice() && *first % 2 == 0 {
                let kind = *kind % 5;
                frame.splice(0..0, [0, 0, 0, 0, 0, 0, 0, 0, kind]);
            }
            hub.handle(now, Input::Control { from: NodeId(2), frame: Bytes::from(frame) });
            hub.check_invariants();
            while hub.poll_output().is_some() {}
        }
    }
}
