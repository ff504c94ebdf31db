//! A ladder: renditions that are pushed apart, each by an ffmpeg of its own, on one clock.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use damson::clock;
use damson_core::model::time::Time;

use super::deadline::in_time;
use super::machine::unless_starved;
use super::playlist::Viewer;
use super::process::{PATIENCE, Process, until};
use super::{Cluster, Node, check_logs, http, text};
use crate::media_ffmpeg::{make_by, run};

/// The same programme in three sizes, and its sound in German, made by one encoder: a keyframe every second.
fn films(dir: &Path) -> Vec<(&'static str, PathBuf)> {
    let all = dir.join("all.mkv");
    let inputs = ["-v", "error", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=30", "-f", "lavfi", "-i", "sine=r=48000"];
    let sizes = ["-filter_complex", "[0]split=3[a][b][c];[b]scale=160:90[b];[c]scale=96:54[c]"];
    let maps = ["-map", "[a]", "-map", "[b]", "-map", "[c]", "-map", "1", "-t", "90"];
    let video = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "30", "-pix_fmt", "yuv420p"];
    make_by("ffmpeg", &[&inputs[..], &sizes, &maps, &video, &["-sc_threshold", "0", "-c:a", "aac"]].concat(), &all);
    let film = |(name, tracks): (&'static str, &[&str])| {
        let path = dir.join(format!("{name}.flv"));
        let maps: Vec<&str> = tracks.iter().flat_map(|track| ["-map", track]).collect();
        let as_flv = ["-c", "copy", "-output_ts_offset", "1", "-flvflags", "no_duration_filesize", text(&path)];
        run("ffmpeg", &[&["-v", "error", "-i", text(&all)], &maps[..], &as_flv].concat());
        (name, path)
    };
    let renditions: [(_, &[&str]); 4] =
        [("360p", &["0:v:0", "0:a"]), ("180p", &["0:v:1", "0:a"]), ("90p", &["0:v:2", "0:a"]), ("audio_de", &["0:a"])];
    renditions.into_iter().map(film).collect()
}

/// Pushes a rendition in real time, from `from` seconds on, its timestamps `off` seconds later than they are.
fn push(film: &(&str, PathBuf), to: SocketAddr, from: u64, off: f64) -> Process {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "warning", "-re", "-copyts", "-ss", &from.to_string(), "-i"]).arg(&film.1);
    ffmpeg.args(["-c", "copy", "-output_ts_offset", &off.to_string(), "-f", "flv"]);
    Process::spawn(film.0, ffmpeg.arg(format!("rtmp://{to}/live/cam/{}", film.0)))
}

/// The tracks that the multivariant playlist offers.
fn offered(node: &Node) -> Vec<String> {
    let text = http::get(node.http, "/cam/index.m3u8").text();
    text.lines().filter_map(|line| line.strip_suffix("/playlist.m3u8")).map(str::to_owned).collect()
}

fn offers(node: &Node, expect: &[&str]) {
    until(&format!("{expect:?} on offer"), PATIENCE, || (offered(node) == expect).then_some(()));
}

/// PROGRAM-DATE-TIME of each whole segment of a track.
fn dates(node: &Node, track: &str) -> Vec<(String, String)> {
    let text = http::get(node.http, &format!("/cam/{track}/playlist.m3u8")).text();
    let mut date = String::new();
    let mut out = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:") {
            Some(said) => said.clone_into(&mut date),
            None if !line.starts_with('#') => out.push((line.to_owned(), date.clone())),
            None => {}
        }
    }
    out
}

#[test]
fn renditions_come_late_go_and_return_in_step_and_misaligned_ones_are_refused() {
    unless_starved(|| {
        let cluster = Cluster::new();
        let films = films(cluster.path());
        let nodes = cluster.line(&["a", "d"], &[]);
        let (ingest, edge) = (&nodes[0], &nodes[1]);
        let began = clock::now();
        // Where the programme is when a push has connected: half a second from now.
        let position = |now: Time| now.since(began).as_secs() + 1;
        let high = push(&films[0], ingest.rtmp, 0, 0.0);
        ingest.process.said("rendition=360p");
        let mut low = push(&films[1], ingest.rtmp, 0, 0.0);
        let german = push(&films[3], ingest.rtmp, 0, 0.0);
        offers(edge, &["360p", "180p"]);
        let master = http::get(edge.http, "/cam/index.m3u8").text();
        assert!(master.contains("NAME=\"de\",LANGUAGE=\"de\",DEFAULT=NO"), "{master}");
        assert!(master.contains("RESOLUTION=320x180") && master.contains("RESOLUTION=160x90"), "{master}");
        let viewer = Viewer::start(edge.http, "/cam/360p");
        let low_viewer = Viewer::start(edge.http, "/cam/180p");
        viewer.until("two segments", |seen| (seen.list.segments.len() >= 2).then_some(()));

        // Its keyframes are 300 ms late: it is told so, and nobody else is disturbed.
        let mut wrong = push(&films[2], ingest.rtmp, position(clock::now()), 0.3);
        let said = ingest.process.said("is refused");
        assert!(said.contains("keyframes are 300.0 ms after"), "{said}");
        wrong.said("keyframes are 300.0 ms after");
        wrong.kill();

        // In step, it joins the life at a segment's start.
        let third = push(&films[2], ingest.rtmp, position(clock::now()), 0.0);
        offers(edge, &["360p", "180p", "90p"]);
        let third_viewer = Viewer::start(edge.http, "/cam/90p");
        third_viewer.until("two segments", |seen| (seen.list.segments.len() >= 2).then_some(()));
        let mpd = http::get(edge.http, "/cam/manifest.mpd").text();
        let periods: Vec<&str> = mpd.split("<Period ").skip(1).collect();
        let has = |period: &&str| period.contains("<Representation id=\"90p\"");
        assert!(periods.last().is_some_and(has) && !periods.first().is_some_and(has), "{mpd}");

        // One stops: gaps in step, and it isn't offered. It returns without a discontinuity.
        low.kill();
        let gap = low_viewer.until("a gap", |seen| seen.gaps.first().copied());
        offers(edge, &["360p", "90p"]);
        low_viewer.until("a whole gap segment", |seen| seen.list.gaps.contains(&(gap + 1)).then_some(()));
        let back = push(&films[1], ingest.rtmp, position(clock::now()), 0.0);
        low_viewer.until("two segments after the gap", |seen| {
            let last = *seen.list.gaps.last()?;
            (seen.list.segments.contains(&(last + 2)) && last > gap).then_some(())
        });
        offers(edge, &["360p", "180p", "90p"]);
        let mpd = http::get(edge.http, "/cam/manifest.mpd").text();

        let (of_high, of_low, of_third) = (dates(edge, "360p"), dates(edge, "180p"), dates(edge, "90p"));
        for said in of_low.iter().chain(&of_third) {
            let same = of_high.iter().find(|high| high.0 == said.0);
            // A gap's start is known to the millisecond that its track's timescale says.
            assert!(same.is_none_or(|same| same.1 == said.1), "{said:?} isn't {same:?}");
        }
        let seen = viewer.close();
        in_time(seen.is_whole(), || format!("{:?} {:?}", seen.gaps, seen.discontinuities));
        let sound = http::get(edge.http, "/cam/audio_de/playlist.m3u8").text();
        in_time(!sound.contains("GAP"), || sound.clone());
        let seen = third_viewer.close();
        in_time(seen.is_whole(), || format!("{:?} {:?}", seen.gaps, seen.discontinuities));
        assert!(low_viewer.close().discontinuities.is_empty());
        assert!(mpd.contains("urn:mpeg:dash:period-continuity:2015"), "{mpd}");
        drop((high, third, german, back));
        check_logs(&nodes.iter().collect::<Vec<_>>());
    });
}
