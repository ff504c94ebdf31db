//! The tree that the first parts build.

use super::net::*;
use super::*;

#[test]
fn a_line_of_four_carries_all_parts_with_no_copy_too_many() {
    let mut net = Net::line(4, &Config::default());
    for n in 0..20 {
        net.publish(0, part(n / 5, (n % 5) as u16), 200_000);
        net.run(200);
    }
    for n in 0..20 {
        net.all_have(part(n / 5, (n % 5) as u16));
    }
    assert_eq!(net.heads, 3 * 20);
}

#[test]
fn the_first_message_builds_a_tree_at_about_a_link_delay_a_hop() {
    for (config, redundant) in [(Config::default(), false), (Config::paper(), true)] {
        let mut net = Net::full(6, &config);
        net.publish(0, part(0, 0), 1_000);
        net.run(1_000);
        net.all_have(part(0, 0));
        assert_eq!(net.heads > 5, redundant, "{} copies for 5 nodes", net.heads);
        let heads = net.heads;
        for n in 1..5 {
            net.publish(0, part(0, n), 1_000);
            net.run(1_000);
            net.all_have(part(0, n));
        }
        assert_eq!(net.heads - heads, 5 * 4, "the tree stands");
    }
    // 7 hops at 10 ms, and the first hop's IHAVE and GRAFT: the promises run ahead of the body.
    let mut net = Net::line(8, &Config::default());
    net.publish(0, part(0, 0), 1_000);
    net.run(1_000);
    let took = net.delivered[&NodeId(7)][&part(0, 0)].0.since(Time::from_millis(1_000));
    assert!(took <= DELAY * 10, "{took:?}");
}
