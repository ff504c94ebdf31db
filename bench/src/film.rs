//! What the bench pushes: one minute at 3 Mb/s, made once with ffmpeg, and pushed without encoding anew.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::Result;
use crate::process::Process;

/// 720p30, H.264 High with B-frames, GOPs of 2 s, 2.9 Mb/s (noise keeps the rate up) and AAC at 128 kb/s. 32 s are
/// a whole number of GOPs and of AAC frames. It is kept in the target folder.
pub(crate) async fn film() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let folder = here.ancestors().nth(2).ok_or("the bench isn't in a target folder")?;
    let path = folder.join("bench-3mbit.flv");
    if path.exists() {
        return Ok(path);
    }
    let unfinished = path.with_extension("tmp");
    let video =
        ["-c:v", "libx264", "-preset", "veryfast", "-profile:v", "high", "-bf", "2", "-g", "60", "-keyint_min", "60"];
    let rate = [
        "-sc_threshold",
        "0",
        "-b:v",
        "2900k",
        "-minrate",
        "2900k",
        "-maxrate",
        "2900k",
        "-bufsize",
        "1450k",
        "-nal-hrd",
        "cbr",
    ];
    let status = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y"])
        .args(["-f", "lavfi", "-t", "32", "-i", "testsrc2=s=1280x720:r=30,noise=alls=12:allf=t"])
        .args(["-f", "lavfi", "-t", "32", "-i", "sine=frequency=220:sample_rate=48000"])
        .args(video)
        .args(rate)
        .args(["-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "128k", "-f", "flv"])
        .arg(&unfinished)
        .status()
        .await?;
    if !status.success() {
        return Err("ffmpeg couldn't make the film".into());
    }
    std::fs::rename(unfinished, &path)?;
    Ok(path)
}

/// ffmpeg pushing `film` to `url` in real time, for ever.
pub(crate) fn push(film: &Path, url: &str) -> Result<Process> {
    let film = film.to_str().ok_or("the target folder's path isn't UTF-8")?;
    let before = ["-hide_banner", "-loglevel", "warning", "-nostdin", "-re", "-stream_loop", "-1", "-i", film];
    Process::start("ffmpeg", "ffmpeg", before.into_iter().chain(["-c", "copy", "-f", "flv", url]))
}
