//! Who keeps what, over a line of hubs.

use std::time::Duration;

use super::{Net, addr, name, peer};
use crate::model::{LifeId, NodeId};
use crate::swarm::archives::Kept;
use crate::swarm::config::Config;
use crate::swarm::io::Input;

/// Notices go where the directory goes, to those who come late too; and they die with their keeper.
#[test]
fn everybody_knows_who_keeps_what() {
    let mut net = Net::line(3);
    let kept = |from| Kept {
        stream: name("cam1"),
        life: LifeId(7),
        from,
        listed_from: from + 1,
        depth: Duration::from_secs(60),
    };
    let keep = |net: &mut Net, from| {
        let stamp = net.now.as_micros();
        net.handle(NodeId(1), Input::Keep { kept: vec![kept(from)], stamp });
        net.run(Duration::from_secs(5));
    };
    keep(&mut net, 100);
    net.add(4, Config::fixed(vec![addr(3)]));
    keep(&mut net, 101);
    let known = |net: &Net, n| net.kept.get(&(NodeId(n), name("cam1"))).cloned().unwrap_or_default();
    for n in 2..=4 {
        let [keeper] = &known(&net, n)[..] else { panic!("one keeper, at {n}") };
        assert_eq!((keeper.node, &keeper.kept), (peer(1), &kept(101)), "at {n}");
    }
    assert_eq!(known(&net, 1), [], "it needn't be told of itself");
    net.kill(1);
    net.run(Duration::from_secs(16));
    for n in 2..=4 {
        assert_eq!(known(&net, n), [], "at {n}");
    }
}
