//! Four processes in a line: what the last one serves is what the first one made, and what was pushed.

use super::deadline::in_time;
use super::machine::unless_starved;
use super::playlist::{At, Seen, Viewer};
use super::push::{Pace, film, push};
use super::{Cluster, PATIENCE, Path, check_logs, fetch_all, http, players, process::until};
use crate::media_ffmpeg::{hashes, times};

/// How long the film is: the whole of it stays in the window.
const SECONDS: u32 = 12;

#[test]
fn four_in_a_line_serve_the_same_bytes_and_every_frame() {
    unless_starved(|| {
        let cluster = Cluster::new();
        let film = film(cluster.path(), SECONDS);
        // It ends before the silence would be numbered as gaps.
        let nodes = cluster.line(&["a", "b", "c", "d"], &["--linger", "1"]);
        let [a, .., d] = &nodes[..] else { unreachable!("four nodes") };
        let mut ffmpeg = push(&film, a.rtmp, "cam", Pace::RealTime);
        a.plays("cam", 0);
        let follow =
            |node: &super::Node| ["video", "audio"].map(|track| Viewer::start(node.http, &format!("/cam/{track}")));
        let at_a = follow(a);
        d.plays("cam", 0);
        let at_d = follow(d);
        players::read_without_a_warning(d.http, "cam");
        assert!(ffmpeg.ended(PATIENCE).success(), "{}", ffmpeg.log());

        for ((track, kind), (at_a, at_d)) in
            [("video", "0:v"), ("audio", "0:a")].into_iter().zip(at_a.into_iter().zip(at_d))
        {
            for viewer in [&at_a, &at_d] {
                viewer.until("an end", |seen| seen.list.ended.then_some(()));
            }
            let (at_a, at_d) = (at_a.close(), at_d.close());
            check_equal(&at_a, &at_d);
            let folder = format!("/cam/{track}");
            let whole = [a, d].map(|node| fetch_all(node.http, &folder, &at_d.list));
            assert!(whole[0] == whole[1], "{track}: init segments and segments differ");
            check_parts(&at_d, |msn| http::fetch(d.http, &format!("{folder}/{msn}.m4s")));
            check_frames(&cluster.path().join(format!("{track}.mp4")), &whole[1].concat(), &film, kind);
        }
        for node in [a, d] {
            in_time(node.stream("cam")["gaps"] == 0, || format!("{}: gaps", node.name));
        }
        let ended = |node: &super::Node| String::from_utf8(http::fetch(node.http, "/cam/manifest.mpd")).expect("text");
        until("a static MPD", PATIENCE, || ended(d).contains("type=\"static\"").then_some(()));
        check_logs(&nodes.iter().collect::<Vec<_>>());
    });
}

/// Wherever both stood at the same part, they said the same; and each part has the same bytes.
fn check_equal(a: &Seen, d: &Seen) {
    let mut common = 0;
    for (at, text) in a.texts.iter().filter_map(|(at, text)| Some((at, (text, d.texts.get(at)?)))) {
        assert_eq!(text.0, text.1, "playlists at {at:?}");
        common += 1;
    }
    in_time(common >= 5, || format!("the two stood at the same part {common} times only"));
    in_time(a.gaps.is_empty() && d.gaps.is_empty(), || format!("gaps {:?} {:?}", a.gaps, d.gaps));
    assert!(a.discontinuities.is_empty(), "{:?}", a.discontinuities);
    let mut common: Vec<At> = Vec::new();
    for (at, body) in &a.bodies {
        if let Some(other) = d.bodies.get(at) {
            assert!(body == other, "part {at:?} differs");
            common.push(*at);
        }
    }
    // Who starts to follow a little later doesn't see the first ones.
    let enough = common.len() * 10 > a.bodies.len() * 8;
    in_time(enough, || format!("only {} of {} parts were seen at both", common.len(), a.bodies.len()));
}

/// A segment is its parts, one after the other.
fn check_parts(seen: &Seen, segment: impl Fn(u64) -> Vec<u8>) {
    for msn in seen.list.segments.iter().filter(|msn| seen.bodies.contains_key(&(**msn, 0))) {
        let parts = seen.bodies.range((*msn, 0)..(*msn + 1, 0));
        let joined: Vec<u8> = parts.flat_map(|(_, body)| body.iter().copied()).collect();
        assert!(joined == segment(*msn), "segment {msn} isn't its parts");
    }
}

/// No access unit is lost, none doubled; pictures are the same, and where they were.
pub(super) fn check_frames(path: &Path, bytes: &[u8], film: &Path, kind: &str) {
    std::fs::write(path, bytes).expect("a temporary folder can be written");
    assert_eq!(hashes(path, "0", true), hashes(film, kind, true), "packets of {kind}");
    if kind == "0:v" {
        assert_eq!(hashes(path, "0", false), hashes(film, kind, false), "pictures");
        assert_eq!(times(path, "v"), times(film, "v"), "times of pictures");
    } else {
        // Samples, whatever the frames they are handed out in.
        assert_eq!(samples(path), samples(film), "samples");
    }
}

/// The MD5 of all decoded samples.
fn samples(file: &Path) -> String {
    let args = ["-v", "warning", "-i", super::text(file), "-map", "0:a", "-f", "md5", "-"];
    crate::media_ffmpeg::run("ffmpeg", &args)
}
