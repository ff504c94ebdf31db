//! `glass`: glass to glass, as a camera before a screen would see it.
//!
//! ffmpeg draws the time into the picture (fixtures/timecode.sh) and pushes it; four nodes carry it over three hops; headless
//! Chromium plays it with each player in its turn, and the page reads the time from the picture on screen. Beside what the
//! eye sees stands what the account of the parts and the player's wait make. Browser and page are driven by
//! tests/browser/glass.mjs, whose npm packages are put in place first.

use std::path::Path;

use tokio::process::Command;

use crate::{Result, process};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long each player is watched, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Which players, by the names that the page has for them
    #[arg(long, default_value = "hls,shaka-hls,shaka-dash,dash")]
    players: String,
}

pub(crate) async fn run(options: Options) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/browser");
    let damson = process::damson().await?;
    if !folder.join("node_modules").is_dir() {
        let installed = Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder).status().await;
        if !installed.map_err(|error| format!("npm: {error}; Node.js 20 is needed"))?.success() {
            return Err("npm ci failed in tests/browser".into());
        }
    }
    let mut node = Command::new("node");
    node.arg("glass.mjs").arg(options.seconds.to_string()).arg(options.players).current_dir(&folder);
    let ended = node.env("DAMSON_BIN", damson).kill_on_drop(true).status().await;
    match ended.map_err(|error| format!("node: {error}; Node.js 20 is needed"))?.success() {
        true => Ok(()),
        false => Err("glass.mjs failed; what it said is above".into()),
    }
}
