//! A node in the middle of the tree dies, and no edge loses a part.

use damson::clock;

use super::deadline::in_time;
use super::machine::unless_starved;
use super::playlist::{At, Viewer};
use super::push::{Pace, film, push};
use super::{Cluster, Node, PATIENCE, REPAIR_MAX, check_logs, process::until};

/// Kills the node with the most branches that isn't the ingest (the first), and watches the others.
fn check(cluster: &Cluster, mut nodes: Vec<Node>) {
    let film = film(cluster.path(), 40);
    let mut ffmpeg = push(&film, nodes[0].rtmp, "cam", Pace::RealTime);
    for node in &nodes {
        node.plays("cam", 1);
    }
    // All stand in one tree, and its branches have been pruned.
    let ids: Vec<String> = nodes.iter().map(Node::id).collect();
    let edges = nodes.len() - 1;
    let middle = until("a tree", PATIENCE, || {
        let eager: Vec<Vec<String>> = nodes.iter().map(|node| node.swarm(Some("cam"), "eager")).collect();
        let branches = eager.iter().map(Vec::len);
        let pruned = branches.clone().all(|n| n > 0) && branches.sum::<usize>() <= 2 * edges + 2;
        // Who is fed by whom isn't told: of those on whom somebody hangs, the one with the most branches.
        let hang_on = |i: &usize| eager.iter().filter(|of| of.contains(&ids[*i])).count();
        pruned.then(|| (1..nodes.len()).filter(|i| hang_on(i) > 0).max_by_key(|i| eager[*i].len())).flatten()
    });

    let mut dead = nodes.remove(middle);
    let viewers: Vec<Viewer> = nodes.iter().map(|node| Viewer::start(node.http, "/cam/video")).collect();
    for viewer in &viewers {
        viewer.until("a part", |seen| seen.list.hint);
    }
    dead.process.kill();
    let killed = clock::now();
    // The newest part that the ingest publishes while the tree is broken.
    let hint = |seen: &super::playlist::Seen| seen.list.hint;
    let at: At = viewers[0].until("a hint", hint);
    let wanted = viewers[0]
        .until("a second more", |seen| seen.list.hint.filter(|hint| *hint > (at.0, at.1 + 5) || hint.0 > at.0));
    for (node, viewer) in nodes.iter().zip(&viewers) {
        viewer.until("the parts made meanwhile", |seen| (seen.list.hint >= Some(wanted)).then_some(()));
        let took = clock::now().since(killed);
        in_time(took <= REPAIR_MAX, || format!("{}: {took:?} after the kill", node.name));
    }
    let end = viewers[0].until("a hint", hint).0 + 2;
    for viewer in &viewers {
        viewer.until("two segments more", |seen| (seen.list.last() > end).then_some(()));
    }
    let seen: Vec<_> = viewers.into_iter().map(Viewer::close).collect();
    for (node, seen) in nodes.iter().zip(&seen) {
        in_time(seen.gaps.is_empty(), || format!("{}: gaps {:?}", node.name, seen.gaps));
        in_time(node.stream("cam")["gaps"] == 0, || format!("{}: gaps", node.name));
    }
    // The viewers start at the same segment or so; from the first part that both have seen on, none is missing.
    let ingest = &seen[0].bodies;
    for (node, seen) in nodes.iter().zip(&seen).skip(1) {
        let from = ingest.keys().next().max(seen.bodies.keys().next()).expect("parts");
        let to = ingest.keys().next_back().min(seen.bodies.keys().next_back()).expect("parts");
        let (made, got) = (ingest.range(*from..=*to), seen.bodies.range(*from..=*to));
        assert!(made.eq(got), "{}: not the ingest's parts from {from:?} to {to:?}", node.name);
    }
    assert!(ffmpeg.is_running(), "{}", ffmpeg.log());
    check_logs(&nodes.iter().collect::<Vec<_>>());
}

#[test]
fn gossip() {
    unless_starved(|| {
        let cluster = Cluster::new();
        let mut nodes = vec![cluster.node("n1", &[])];
        for name in ["n2", "n3", "n4", "n5", "n6"] {
            nodes.push(cluster.node(name, &["--join", &nodes[0].mesh.to_string()]));
        }
        check(&cluster, nodes);
    });
}

/// An ingest, two nodes below it, and three edges below both of these.
#[test]
fn fixed_with_redundant_links() {
    unless_starved(|| {
        let cluster = Cluster::new();
        let fixed = ["--topology", "static", "--join"];
        let ingest = cluster.node("ingest", &fixed[..2]);
        let join = ingest.mesh.to_string();
        let middle = ["left", "right"].map(|name| cluster.node(name, &[&fixed[..], &[&join]].concat()));
        let join = format!("{},{}", middle[0].mesh, middle[1].mesh);
        let edges = ["e1", "e2", "e3"].map(|name| cluster.node(name, &[&fixed[..], &[&join]].concat()));
        check(&cluster, [ingest].into_iter().chain(middle).chain(edges).collect());
    });
}
