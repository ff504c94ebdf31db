//! Publishers and ingests that die, return, move and take over: one life goes on, and after its end another begins.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::deadline::in_time;
use super::machine::unless_starved;
use super::playlist::Viewer;
use super::push::{Pace, film, push};
use super::{Cluster, PATIENCE, check_logs, http, process::until};

const VIDEO: &str = "/cam/video";

/// Waits for the first segment after the `nth` discontinuity to be whole, and two more.
fn goes_on(viewer: &Viewer, nth: usize) {
    viewer.until("two segments after the discontinuity", |seen| {
        let msn = seen.discontinuities.get(nth.checked_sub(1)?)?;
        seen.list.segments.contains(&(msn + 2)).then_some(())
    });
}

#[test]
fn a_publisher_that_returns_goes_on_with_one_discontinuity() {
    unless_starved(|| {
        let cluster = Cluster::new();
        let film = film(cluster.path(), 60);
        let nodes = cluster.line(&["a", "d"], &[]);
        let mut first = push(&film, nodes[0].rtmp, "cam", Pace::RealTime);
        let begun = nodes[1].plays("cam", 2);
        let viewer = Viewer::start(nodes[1].http, VIDEO);
        viewer.until("a part", |seen| seen.list.hint);
        first.kill();
        nodes[0].process.said("RTMP: closed");
        // Fast, so that the discontinuity leaves the window in this test's time: the viewer checks that
        // EXT-X-DISCONTINUITY-SEQUENCE counts it then.
        let second = push(&film, nodes[0].rtmp, "cam", Pace::Times(4));
        goes_on(&viewer, 1);
        viewer.until("a window without it", |seen| {
            (seen.list.discontinuity_sequence > begun.discontinuity_sequence).then_some(())
        });
        let seen = viewer.close();
        assert_eq!(seen.discontinuities.len(), 1, "{:?}", seen.discontinuities);
        let at = seen.discontinuities[0];
        assert_eq!(seen.list.discontinuity_sequence, begun.discontinuity_sequence + 1);
        assert!(at > begun.last(), "back at {at}, behind {begun:?}");
        in_time(seen.gaps.iter().all(|msn| *msn < at), || format!("gaps {:?}, back at {at}", seen.gaps));
        // The other track says the same.
        let audio = Viewer::start(nodes[1].http, "/cam/audio");
        audio.until("a playlist without it", |seen| {
            (seen.list.discontinuity_sequence == begun.discontinuity_sequence + 1).then_some(())
        });
        drop(second);
        check_logs(&nodes.iter().collect::<Vec<_>>());
    });
}

#[test]
fn a_second_push_takes_over_from_its_own_address_only() {
    unless_starved(|| {
        let cluster = Cluster::new();
        let film = film(cluster.path(), 30);
        let nodes = cluster.line(&["a", "d"], &[]);
        let mut first = push(&film, nodes[0].rtmp, "cam", Pace::RealTime);
        nodes[1].plays("cam", 1);
        let viewer = Viewer::start(nodes[1].http, VIDEO);
        viewer.until("a part", |seen| seen.list.hint);

        let stranger = proxy(nodes[0].rtmp, Ipv4Addr::new(127, 0, 0, 2));
        let mut refused = push(&film, stranger, "cam", Pace::RealTime);
        assert!(!refused.ended(PATIENCE).success(), "{}", refused.log());
        let said = nodes[0].process.said("refused: the stream is busy");
        assert!(said.contains("127.0.0.2") && said.contains("127.0.0.1"), "{said}");
        assert!(first.is_running(), "the publisher was disturbed: {}", first.log());

        let mut second = push(&film, nodes[0].rtmp, "cam", Pace::RealTime);
        nodes[0].process.said("takes the stream over");
        assert!(!first.ended(PATIENCE).success(), "two publishers: {}", first.log());
        goes_on(&viewer, 1);
        assert!(second.is_running(), "{}", second.log());
        let seen = viewer.close();
        assert_eq!(seen.discontinuities.len(), 1, "{:?}", seen.discontinuities);
        in_time(seen.gaps.is_empty(), || format!("gaps {:?}", seen.gaps));
        check_logs(&nodes.iter().collect::<Vec<_>>());
    });
}

/// Carries TCP connections to `to`, from another address of this machine.
fn proxy(to: SocketAddr, from: Ipv4Addr) -> SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
            tell.send(listener.local_addr().expect("bound")).expect("the test waits");
            while let Ok((mut client, _)) = listener.accept().await {
                let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
                socket.bind((IpAddr::V4(from), 0).into()).expect("all of 127.0.0.0/8 is this machine's");
                let mut server = socket.connect(to).await.expect("the node listens");
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        });
    });
    told.recv().expect("the proxy listens")
}

#[test]
fn a_life_survives_its_ingest_and_moves_to_another() {
    unless_starved(|| {
        let cluster = Cluster::new();
        let film = film(cluster.path(), 40);
        let mut nodes = cluster.line(&["a", "b", "d"], &[]);
        let life = |node: &super::Node| node.stream("cam")["life"].clone();
        let first = push(&film, nodes[0].rtmp, "cam", Pace::RealTime);
        nodes[2].plays("cam", 1);
        let born = life(&nodes[2]);
        let viewer = Viewer::start(nodes[2].http, VIDEO);
        viewer.until("a part", |seen| seen.list.hint);

        // The ingest dies and comes back: same key, same port, and it knows a neighbour.
        let old = nodes.remove(0);
        let (mesh, join) = (old.mesh.to_string(), nodes[0].mesh.to_string());
        let mut old = old;
        old.process.kill();
        check_logs(&[&old]);
        drop(first);
        let a = cluster.node("a", &["--topology", "static", "--mesh", &mesh, "--join", &join]);
        let second = push(&film, a.rtmp, "cam", Pace::RealTime);
        goes_on(&viewer, 1);
        assert_eq!(life(&nodes[1]), born, "the restarted ingest has begun a life of its own");

        // The publisher moves to the other end of the line.
        drop(second);
        a.process.said("RTMP: closed");
        let third = push(&film, nodes[1].rtmp, "cam", Pace::RealTime);
        goes_on(&viewer, 2);
        let ingest = nodes[1].id();
        for node in [&a, &nodes[0], &nodes[1]] {
            until("one life, and the new ingest", PATIENCE, || {
                let stream = node.stream("cam");
                (stream["life"] == born && stream["ingest"] == ingest).then_some(())
            });
        }
        let seen = viewer.close();
        assert_eq!(seen.discontinuities.len(), 2, "{:?}", seen.discontinuities);
        drop(third);
        check_logs(&[&a, &nodes[0], &nodes[1]]);
    });
}

#[test]
fn a_push_after_the_end_is_a_new_life() {
    unless_starved(|| {
        let cluster = Cluster::new();
        let film = film(cluster.path(), 6);
        let nodes = cluster.line(&["a", "d"], &["--linger", "1"]);
        let mpd = |node: &super::Node| http::get(node.http, "/cam/manifest.mpd").text();
        let mut before: Option<super::playlist::Playlist> = None;
        for life in 1..=2 {
            let mut ffmpeg = push(&film, nodes[0].rtmp, "cam", Pace::Times(2));
            assert!(ffmpeg.ended(PATIENCE).success(), "{}", ffmpeg.log());
            for node in &nodes {
                let list = until("ENDLIST", PATIENCE, || {
                    let list = node.plays("cam", 3);
                    (list.ended && before.as_ref().is_none_or(|b| list.first > b.first)).then_some(list)
                });
                assert_eq!(list.segments.len(), 3, "life {life}: {list:?}");
                assert!(list.hint.is_none(), "life {life}: {list:?}");
                in_time(list.gaps.is_empty(), || format!("life {life}: {list:?}"));
                let mpd =
                    until("a static MPD", PATIENCE, || Some(mpd(node)).filter(|mpd| mpd.contains("type=\"static\"")));
                assert!(mpd.contains("mediaPresentationDuration=\"PT6"), "{mpd}");
                if let Some(before) = &before {
                    assert!(list.first > before.last(), "MSN: {list:?} after {before:?}");
                    assert!(list.discontinuity_sequence > before.discontinuity_sequence, "{list:?} after {before:?}");
                }
            }
            before = Some(nodes[0].plays("cam", 3));
        }
        check_logs(&nodes.iter().collect::<Vec<_>>());
    });
}
