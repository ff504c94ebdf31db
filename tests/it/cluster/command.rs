//! The command as a user meets it: its errors, its settings, its end.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use super::{Cluster, Node, PATIENCE, Process, check_logs, damson, http, pki, process::until, text};

/// The demo promises to end within this after Ctrl-C; and the machine may be busy.
const DRAIN_MAX: Duration = Duration::from_secs(5 + 2);

/// Runs a command that must fail at once, and gives its last words.
fn fails(args: &[&str]) -> String {
    let mut process = Process::spawn("damson", &mut damson(args));
    let status = process.ended(PATIENCE);
    assert!(!status.success(), "{args:?}: {}", process.log());
    process.log()
}

#[test]
fn the_demo_plays_at_once_and_ends_on_ctrl_c() {
    let mut demo = Process::spawn("demo", &mut damson(&["demo", "--http", "127.0.0.1:0", "--rtmp", "127.0.0.1:0"]));
    let url = demo.said("  watch ");
    let page = url.split("http://").nth(1).expect("a URL").trim_end_matches('/').parse().expect("an address");
    assert_eq!(http::get(page, "/").status, 200);
    until("the film at the last edge", PATIENCE, || {
        let answer = http::try_get(page, "/demo/video/playlist.m3u8")?;
        (answer.status == 200 && answer.text().contains("#EXTINF")).then_some(())
    });
    demo.signal("INT");
    let status = demo.ended(DRAIN_MAX);
    assert!(status.success() && !demo.log().contains("panicked"), "{}", demo.log());
}

#[test]
fn a_taken_port_names_the_flag() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = taken.local_addr().expect("bound").port();
    let taken = format!("127.0.0.1:{port}");
    let free = "127.0.0.1:0";
    let check = |http: &str, rtmp: &str, flag: &str| {
        let said = fails(&["demo", "--http", http, "--rtmp", rtmp]);
        assert!(said.contains("can't listen on 127.0.0.1:") && said.contains(flag), "{said}");
    };
    check(&taken, free, "--http");
    check(free, &taken, "--rtmp");
    // The ingest and the edges before the last take the ports after it.
    for offset in 1..=3 {
        check(&format!("127.0.0.1:{}", port - offset), free, "with --http");
    }

    let cluster = Cluster::new();
    let identity = cluster.identity("n");
    let node = cluster.node("other", &[]);
    let said = fails(&[
        "node",
        "--identity",
        text(&identity),
        "--mesh",
        &node.mesh.to_string(),
        "--rtmp",
        free,
        "--http",
        free,
    ]);
    assert!(said.contains("--mesh") && said.contains(&node.mesh.to_string()), "{said}");
}

#[test]
fn settings_come_by_file_environment_and_flag() {
    let cluster = Cluster::new();
    let identity = cluster.identity("n");
    let file = cluster.path().join("damson.toml");
    let write = |lines: &str| std::fs::write(&file, lines).expect("a temporary folder can be written");
    write(
        "name = \"from-file\"\nmesh = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\nrtmp = \"127.0.0.1:0\"\nsegment = 4.0\n",
    );
    let check = |environment: &[(&str, &str)], flags: &[&str], name: &str| {
        let mut command = damson(&["node", "--config", text(&file), "--identity", text(&identity)]);
        let mut node = Node::start("n", command.args(flags).envs(environment.iter().copied()));
        node.process.said(&format!("damson node {name} "));
        node.process.signal("TERM");
        assert!(node.process.ended(DRAIN_MAX).success(), "{}", node.process.log());
        check_logs(&[&node]);
    };
    check(&[], &[], "from-file");
    check(&[("DAMSON_NAME", "from-environment")], &[], "from-environment");
    check(&[("DAMSON_NAME", "from-environment")], &["--name", "from-flag"], "from-flag");

    write("segmnt = 4.0\n");
    let said = fails(&["node", "--config", text(&file), "--identity", text(&identity)]);
    assert!(said.contains("damson.toml") && said.contains("segmnt"), "{said}");
    let said =
        fails(&["node", "--identity", text(&identity), "--mesh", "127.0.0.1:0", "--http", "off", "--segment", "1"]);
    assert!(said.contains("--segment") && said.contains("2 to 10"), "{said}");
    let said = fails(&["node"]);
    assert!(said.contains("--identity") && said.contains("damson pki issue"), "{said}");
    let nowhere = cluster.path().join("nowhere");
    let said = fails(&["node", "--identity", text(&nowhere)]);
    assert!(said.contains("nowhere"), "{said}");
}

#[test]
fn a_ca_is_not_overwritten() {
    let cluster = Cluster::new();
    let before = std::fs::read(cluster.ca().join("ca.key")).expect("a key");
    fails(&["pki", "init", text(&cluster.ca())]);
    assert_eq!(std::fs::read(cluster.ca().join("ca.key")).expect("a key"), before);
    pki(&["issue", text(&cluster.ca()), "once"]);
}
