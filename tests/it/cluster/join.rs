//! An edge that joins a running stream has all of the playlist at once.

use std::time::Duration;

use damson::clock;

use super::deadline::in_time;
use super::machine::unless_starved;
use super::playlist::Playlist;
use super::push::{Pace, film, push};
use super::{Cluster, Node, check_logs, http, process::until};

/// The time that docs/architecture.md promises, from the start of the process. No other test runs beside (.config/nextest.toml).
const JOIN_MAX: Duration = Duration::from_secs(2);

/// The playlists of both tracks, if the edge has them.
fn playlists(node: &Node) -> Option<Vec<Playlist>> {
    let list = |track| {
        let answer = http::try_get(node.http, &format!("/cam/{track}/playlist.m3u8"))?;
        (answer.status == 200).then(|| Playlist::parse(&answer.text()))
    };
    ["video", "audio"].into_iter().map(list).collect()
}

fn check(topology: &str, pace: Pace, seconds: u32, segments: usize) {
    let cluster = Cluster::new();
    let film = film(cluster.path(), seconds);
    let topology = ["--topology", topology];
    let a = cluster.node("a", &topology);
    let b = cluster.node("b", &[&topology[..], &["--join", &a.mesh.to_string()]].concat());
    let mut ffmpeg = push(&film, a.rtmp, "cam", pace);
    a.plays("cam", segments);
    // Its identity is made ahead.
    cluster.identity("edge");
    let edge = cluster.node("edge", &[&topology[..], &["--join", &b.mesh.to_string()]].concat());
    let up = clock::now();
    let joined = until("a playlist", JOIN_MAX, || playlists(&edge));
    let took = clock::now().since(up);
    let source = playlists(&a).expect("it is the ingest");
    for (joined, source) in joined.iter().zip(&source) {
        // A push that a busy machine holds up has gaps of its own; joining makes none.
        let as_at_the_source = joined.gaps.iter().all(|gap| source.gaps.contains(gap));
        assert!(joined.first <= source.first && as_at_the_source, "{joined:?}\nof {source:?}");
        in_time(joined.last() + 1 >= source.last(), || format!("{joined:?}\nis behind {source:?}"));
        assert!(joined.segments.len() + 1 >= segments, "{joined:?}\nof {source:?}");
    }
    in_time(took <= JOIN_MAX, || format!("it took {took:?}"));
    eprintln!("joined in {took:?}");
    assert!(ffmpeg.is_running(), "it was to join mid-stream: {}", ffmpeg.log());
    until("the same parts", JOIN_MAX, || (edge.stream("cam")["gaps"] == 0).then_some(()));
    check_logs(&[&a, &b, &edge]);
}

#[test]
fn gossip() {
    unless_starved(|| {
        check("gossip", Pace::RealTime, 30, 4);
    });
}

#[test]
fn fixed_and_a_window_that_has_moved_on() {
    unless_starved(|| {
        // 30 s are a playlist of 2 s segments: the first ones have left it.
        check("static", Pace::Times(4), 90, 15);
    });
}
