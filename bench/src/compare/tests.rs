use super::contender::{Contender, Links, Pace, publish, settled, spread};
use super::*;
use crate::paper::world::SECOND;

/// Each adapter does what its core wants: a small network settles, and every message reaches everybody.
fn delivers_to_all<C: Contender>() {
    let pace = Pace { joins: 10, settle: 30 * SECOND };
    let mut net = settled::<C>(50, 1, Links::Uneven, &[], pace);
    assert_eq!(net.islands(), [50], "{}", C::NAME);
    let first = publish(&mut net, 0, 0, 5, SECOND);
    let later = publish(&mut net, 49, 5, 5, SECOND);
    for parts in [first, later] {
        let spread = spread(&net, &parts, 0);
        assert!((spread.reached - 100.0).abs() < f64::EPSILON, "{}: {} %", C::NAME, spread.reached);
        assert!(spread.ldh >= 2.0, "{}: {} hops", C::NAME, spread.ldh);
    }
}

#[test]
fn damson_delivers_to_all() {
    delivers_to_all::<Member>();
}

#[test]
fn iroh_gossip_delivers_to_all() {
    delivers_to_all::<Iroh>();
}

#[test]
fn plumtree_and_hyparview_deliver_to_all() {
    delivers_to_all::<Sile>();
}

/// The first message goes over every link there is; a tree's later ones over few that aren't needed.
#[test]
fn payloads_are_counted() {
    for figures in [cases::uneven::<Iroh>(50, 1), cases::uneven::<Sile>(50, 1)] {
        let figure = |name: &str| figures.iter().find(|(what, _)| what == name).map_or(f64::NAN, |(_, value)| *value);
        assert!(figure("first message: RMR") > 0.5, "{figures:?}");
        assert!(figure("RMR") < 0.5, "{figures:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_table() {
    let table = |nodes| {
        let options = Options { only: "equal links".to_owned(), ..Options::all(nodes, 1) };
        let results = measure(&options).expect("no process is started");
        results.rows.iter().map(Row::markdown).collect::<Vec<_>>()
    };
    let first = table(50);
    assert_eq!(first, table(50));
    assert_ne!(first, table(51), "the figures are those of a network of that size");
}
