//! ffmpeg and ffprobe as players.

use std::net::SocketAddr;
use std::process::Command;

/// What Debian's ffmpeg 5.1 says of any live HLS in fragmented MP4, its own muxer's included: it parses the init
/// segment again when it reloads.
const KNOWN: &str = "Found duplicated MOOV Atom. Skipped it";

/// ffprobe and ffmpeg read HLS and DASH, find both tracks, and have nothing to say.
pub(super) fn read_without_a_warning(from: SocketAddr, stream: &str) {
    for path in ["index.m3u8", "manifest.mpd"] {
        let url = format!("http://{from}/{stream}/{path}");
        let probed = quiet(Command::new("ffprobe").args(["-v", "warning", "-show_entries", "stream=codec_name", &url]));
        assert!(probed.contains("codec_name=h264") && probed.contains("codec_name=aac"), "{url}: {probed}");
        // Two segments: where one ends between its looks at the clock, it begins a track a segment later than the other.
        let read =
            ["-v", "warning", "-i", &url, "-t", "4", "-map", "0:v", "-map", "0:a", "-c", "copy", "-f", "framemd5", "-"];
        let packets = quiet(Command::new("ffmpeg").args(read));
        for track in ["0, ", "1, "] {
            let count = packets.lines().filter(|line| line.starts_with(track)).count();
            assert!(count >= 30, "{url}: {count} packets in 4 s of track {track}");
        }
    }
}

/// Runs it; what it says on stdout. It must succeed, and say nothing on stderr but what is known.
fn quiet(command: &mut Command) -> String {
    let output = command.output().expect("ffmpeg is there");
    let said = String::from_utf8_lossy(&output.stderr);
    let news: Vec<&str> = said.lines().filter(|line| !line.contains(KNOWN)).collect();
    assert!(output.status.success() && news.is_empty(), "{command:?}: {news:#?}");
    String::from_utf8(output.stdout).expect("text")
}
