//! Films, made by ffmpeg, and their pushes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::Process;
use crate::media_ffmpeg::make_by;

/// An FLV of `seconds` with H.264 (B-frames, a keyframe every 2 s) and AAC.
pub(crate) fn film(dir: &Path, seconds: u32) -> PathBuf {
    let path = dir.join(format!("film-{seconds}.flv"));
    let seconds = seconds.to_string();
    let inputs = ["-v", "error", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=30", "-f", "lavfi", "-i", "sine=r=48000"];
    let video = ["-t", &seconds, "-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "60"];
    let audio = ["-sc_threshold", "0", "-pix_fmt", "yuv420p", "-c:a", "aac", "-ac", "2"];
    let args = [&inputs[..], &video, &audio, &["-flvflags", "no_duration_filesize"]].concat();
    make_by("ffmpeg", &args, &path);
    path
}

/// How fast a film is pushed.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// As an encoder does.
    RealTime,
    /// So many times as fast.
    Times(u8),
}

/// Pushes a film as it is.
pub(crate) fn push(film: &Path, to: SocketAddr, stream: &str, pace: Pace) -> Process {
    let rate = match pace {
        Pace::RealTime => "1".to_owned(),
        Pace::Times(n) => n.to_string(),
    };
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "warning", "-readrate", &rate, "-i"]).arg(film).args(["-c", "copy", "-f", "flv"]);
    Process::spawn("ffmpeg", ffmpeg.arg(format!("rtmp://{to}/live/{stream}")))
}
