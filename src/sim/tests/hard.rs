//! Hard times: most nodes die, some are slow.

use super::*;

/// `n` nodes that joined at a random earlier one each.
fn strewn(n: u32, settings: Settings, overlay: &overlay::Config) -> Net<Member> {
    let mut net = Net::new(settings, seed());
    for at in 0..n {
        let contact = net.random() % u64::from(at.max(1));
        let contacts = if at == 0 { vec![] } else { vec![Net::<Member>::peer(contact as u32)] };
        let me = net.next_peer();
        let core = seed() << 32 | u64::from(at);
        net.add(Member::new(me, contacts, 6, overlay.clone(), broadcast::Config::default(), core));
        net.run(Duration::from_millis(5));
    }
    net.run(40 * SECOND);
    net
}

/// How many of the 50 who are left have the first message after the death of the others, and when the last had it.
fn after_the_death_of_nine_in_ten(dead_dials: DeadDials, overlay: &overlay::Config) -> (usize, Duration) {
    let mut net = strewn(500, Settings { dead_dials, ..Settings::default() }, overlay);
    for n in 0..5 {
        publish(&mut net, 0, n, 1_000);
        net.run(SECOND / 5);
    }
    let mut victims: Vec<u32> = (1..500).collect();
    while victims.len() > 49 {
        let at = net.random() as usize % victims.len();
        net.kill(victims.swap_remove(at));
    }
    let part = publish(&mut net, 0, 5, 1_000);
    net.run(20 * SECOND);
    let survivors: Vec<u32> = net.alive().collect();
    let delivery = net.ledger().delivery(part, survivors);
    (delivery.reached, delivery.last)
}

#[test]
fn the_contact_book_keeps_one_in_ten_together() {
    // Dead links are noticed after 1.5 s at the latest; the goal is 1.5 s and 3 s after that.
    for (dead_dials, most) in [(DeadDials::Refused, 3), (DeadDials::TimeOut, 4)] {
        let (reached, last) = after_the_death_of_nine_in_ten(dead_dials, &overlay::Config::default());
        assert_eq!(reached, 50, "{dead_dials:?}");
        assert!(last <= most * SECOND, "{dead_dials:?}: {last:?}");
    }
}

#[test]
fn slow_nodes_sink_to_leaves() {
    // 20 KB each 200 ms, 200 Mb/s up; one node in 20 has 1 Mb/s, of which the stream takes 0.8.
    let run = |slowed: bool| {
        let settings = Settings { upload: Some(25_000_000), ..Settings::default() };
        let mut net = strewn(120, settings, &overlay::Config::default());
        let slow: Vec<u32> = (1..120).filter(|at| at % 20 == 7).collect();
        for at in slow.iter().filter(|_| slowed) {
            net.set_rates(*at, Some(125_000), Some(125_000));
            net.with_node(*at, |node, _| node.set_upload(Some(125_000)));
        }
        for n in 0..120 {
            publish(&mut net, 0, n, 20_000);
            net.run(SECOND / 5);
        }
        net.run(5 * SECOND);
        net.check_delivered(80..120);
        let healthy: Vec<u32> = (0..120).filter(|at| !slow.contains(at)).collect();
        let last = |part| net.ledger().delivery(part, healthy.iter().copied()).last;
        (80..120).map(last).sum::<Duration>() / 40
    };
    let (with, without) = (run(true), run(false));
    assert!(with <= without * 13 / 10, "{with:?} with slow nodes, {without:?} without");
}
