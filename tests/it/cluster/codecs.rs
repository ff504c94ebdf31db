//! Every codec by every way in that carries it, from a newer ffmpeg to an edge one hop away.

use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::deadline::in_time;
use super::machine::unless_starved;
use super::playlist::Viewer;
use super::process::{PATIENCE, Process};
use super::{Cluster, Node, check_logs, fetch_all, http, text};
use crate::media_ffmpeg::{AV1, H264, H265, film_of, hashes_by, newer};

/// A push in real time of all that a film has, to an URL.
fn push(film: &Path, url: &str) -> Process {
    let format = if url.starts_with("rtmp") { "flv" } else { "mpegts" };
    // The libsrt in the newer one lingers for all of its time, and then goes without a word; Debian's goes when all is through.
    let mut ffmpeg = Command::new(if url.starts_with("srt") { "ffmpeg".to_owned() } else { newer() });
    ffmpeg.args(["-v", "error", "-re", "-i"]).arg(film).args(["-map", "0", "-c", "copy", "-f", format]);
    Process::spawn(
        "ffmpeg",
        ffmpeg.args(if url.starts_with("rtmps") { &["-tls_verify", "0"][..] } else { &[] }).arg(url),
    )
}

/// The address behind what a node has said it listens at.
fn listens(node: &Node, words: &str, scheme: &str) -> SocketAddr {
    let line = node.process.said(words);
    let addr = line.split(scheme).nth(1).and_then(|rest| rest.split(['/', '?', '"']).next()).expect("an URL");
    addr.parse().unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// A push, and what an edge has to have of it.
struct Case<'a> {
    stream: &'a str,
    film: &'a Path,
    /// Of each variant.
    codecs: &'a [&'a str],
    tracks: &'a [&'a str],
    languages: &'a [&'a str],
    push: Process,
}

impl Case<'_> {
    /// All that was pushed is there, in one piece.
    fn check(mut self, dir: &Path, edge: &Node) {
        let stream = self.stream;
        edge.plays(stream, 0);
        let viewers = self.tracks.iter().map(|track| (track, Viewer::start(edge.http, &format!("/{stream}/{track}"))));
        let viewers: Vec<_> = viewers.collect();
        let master = http::get(edge.http, &format!("/{stream}/index.m3u8")).text();
        let variants = master.split("CODECS=\"").skip(1).filter_map(|rest| rest.split('"').next());
        assert_eq!(variants.collect::<Vec<_>>(), self.codecs, "{master}");
        let languages = master.split("LANGUAGE=\"").skip(1).filter_map(|rest| rest.split('"').next());
        assert_eq!(languages.collect::<Vec<_>>(), self.languages, "{master}");
        let mpd = http::get(edge.http, &format!("/{stream}/manifest.mpd")).text();
        for codec in self.codecs.iter().flat_map(|codecs| codecs.split(',')) {
            assert!(mpd.contains(&format!("codecs=\"{codec}\"")), "{mpd}");
        }
        assert!(self.push.ended(PATIENCE).success(), "{stream}: {}", self.push.log());
        let ffmpeg = newer();
        for (place, (track, viewer)) in viewers.into_iter().enumerate() {
            viewer.until("an end", |seen| seen.list.ended.then_some(()));
            let seen = viewer.close();
            in_time(seen.is_whole(), || format!("{stream} {track}: {:?}", seen.list));
            let path = dir.join(format!("{stream}-{track}.mp4"));
            let bytes = fetch_all(edge.http, &format!("/{stream}/{track}"), &seen.list).concat();
            std::fs::write(&path, bytes).expect("a temporary folder can be written");
            // Pictures as they are decoded: how samples are framed differs. Sound packet by packet.
            let copy = place > 0;
            let hashes = |file: &Path, of: &str| hashes_by(&ffmpeg, file, of, copy);
            assert_eq!(hashes(&path, "0"), hashes(self.film, &format!("0:{place}")), "{stream} {track}");
        }
    }
}

#[test]
fn every_codec_comes_through_to_an_edge() {
    unless_starved(|| {
        let cluster = Cluster::new();
        let film = |name: &str, pictures: &[&str], sounds: &[&[&str]]| -> PathBuf {
            let path = cluster.path().join(format!("{name}.mkv"));
            film_of(&path, pictures, sounds);
            path
        };
        let h265 = film("h265", H265, &[&["-c:a", "libopus"]]);
        let av1 = film("av1", AV1, &[&["-c:a", "ac3"]]);
        let two = film(
            "two",
            H264,
            &[
                &["-c:a:0", "eac3", "-metadata:s:a:0", "language=eng"],
                &["-c:a:1", "aac", "-metadata:s:a:1", "language=deu"],
            ],
        );
        // A node's own certificate is as good as any: nobody asks who has signed it.
        let identity = cluster.identity("a");
        let (cert, key) = (identity.join("node.pem"), identity.join("node.key"));
        let tls = ["--rtmps", "127.0.0.1:0", "--tls-cert", text(&cert), "--tls-key", text(&key)];
        let args = ["--topology", "static", "--linger", "1", "--udp", "twoudp=udp://127.0.0.1:0"];
        let ingest = cluster.node("a", &[&args[..], &["--srt", "127.0.0.1:0", "--srt-latency", "1"], &tls].concat());
        let join = ingest.mesh.to_string();
        let edge = cluster.node("d", &["--topology", "static", "--join", &join]);
        let (rtmp, rtmps) = (ingest.rtmp, listens(&ingest, "  rtmps ", "rtmps://"));
        let (srt, udp) = (listens(&ingest, "  srt   ", "srt://"), listens(&ingest, "waiting for MPEG-TS", "udp://"));
        let case = |stream, film, codecs, tracks, url: String| {
            let push = push(film, &url);
            // FLV has no word for a language.
            let languages: &[&str] = if stream == "twoudp" { &["en", "de"] } else { &[] };
            Case { stream, film, codecs, tracks, languages, push }
        };
        let h265_opus: &[&str] = &["hvc1.1.6.L60.90,opus"];
        let two_sounds: &[&str] = &["avc1.42c00d,ec-3", "avc1.42c00d,mp4a.40.2"];
        let (plain, both): (&[&str], &[&str]) = (&["video", "audio"], &["video", "audio", "audio1"]);
        let cases = [
            case("h265", &h265, h265_opus, plain, format!("rtmp://{rtmp}/live/h265")),
            case("h265srt", &h265, h265_opus, plain, format!("srt://{srt}?streamid=h265srt&linger=5")),
            case("av1", &av1, &["av01.0.00M.08,ac-3"], plain, format!("rtmps://{rtmps}/live/av1")),
            case("two", &two, two_sounds, both, format!("rtmp://{rtmp}/live/two")),
            case("twoudp", &two, two_sounds, both, format!("udp://{udp}?pkt_size=1316")),
        ];
        std::thread::scope(|scope| {
            let (dir, edge) = (cluster.path(), &edge);
            let checks = cases.map(|case| scope.spawn(move || case.check(dir, edge)));
            for check in checks {
                check.join().unwrap_or_else(|panic| resume_unwind(panic));
            }
        });
        let log = ingest.process.log();
        assert!(log.contains("publishes stream=av1") && log.contains("protocol=\"rtmps\""), "{log}");
        check_logs(&[&ingest, &edge]);
    });
}

#[test]
fn what_is_not_carried_is_refused_by_name() {
    unless_starved(|| {
        let cluster = Cluster::new();
        let mp3 = cluster.path().join("mp3.mkv");
        film_of(&mp3, H264, &[&["-c:a", "libmp3lame"]]);
        let vp9 = cluster.path().join("vp9.mkv");
        film_of(&vp9, &["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"], &[&["-c:a", "aac"]]);
        let node = cluster.node("a", &[]);
        let mut pushes = [
            push(&mp3, &format!("rtmp://{}/live/mp3", node.rtmp)),
            push(&vp9, &format!("rtmp://{}/live/vp9", node.rtmp)),
        ];
        let why = [
            "MP3 audio isn't supported over RTMP; set the encoder to AAC, Opus, AC-3 or E-AC-3",
            "VP9 video isn't supported over RTMP; set the encoder to H.264, H.265 or AV1",
        ];
        for (push, why) in pushes.iter_mut().zip(why) {
            node.process.said(why);
            assert!(!push.ended(PATIENCE).success(), "{why}");
        }
        check_logs(&[&node]);
    });
}
