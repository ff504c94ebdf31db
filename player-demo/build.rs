//! Puts the page and its players into the crate.
//!
//! The page (`page/`) is plain ES modules and needs no build. The players come from npm, at the versions
//! and hashes of `package-lock.json`, and are taken from the first of these that has them:
//!
//! 1. `node_modules/` beside this file, if `npm ci` was run there;
//! 2. `npm ci` in `OUT_DIR`, so that a build leaves the source tree alone (about 6 s and a few MB, once a target directory);
//! 3. nowhere: the page then loads them from a public CDN, and says so; the build warns.
//!
//! `DAMSON_PLAYER=cdn` chooses 3. `CARGO_NET_OFFLINE=true` keeps npm to its cache.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use flate2::{Compression, Crc, write::GzEncoder};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The npm package, its licence, the file of it that a page loads, and the name the page knows it by.
/// `page/sources.js` has the same files, for the CDN.
const PLAYERS: [(&str, &str, &str, &str); 3] = [
    ("hls.js", "LICENSE", "dist/hls.min.js", "hls.js"),
    ("shaka-player", "LICENSE", "dist/shaka-player.compiled-es2021.js", "shaka.js"),
    ("dashjs", "LICENSE.md", "dist/modern/umd/dash.mediaplayer.min.js", "dash.js"),
];

fn main() -> Result<()> {
    for path in ["build.rs", "package.json", "package-lock.json", ".npmrc", "page"] {
        println!("cargo:rerun-if-changed={path}");
    }
    for name in ["DAMSON_PLAYER", "CARGO_NET_OFFLINE"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let assets = out.join("assets");
    remove(&assets)?;
    fs::create_dir_all(&assets)?;

    let embedded = match players(&here, &out, &assets) {
        Ok(()) => true,
        Err(why) => {
            println!(
                "cargo:warning=the players are not in this binary, the page will load them from a public CDN: {why} \
                 (to try again: cd player-demo && npm ci && touch build.rs)"
            );
            false
        }
    };

    let mut table = Table::default();
    for entry in sorted(&here.join("page"))? {
        let name = entry.file_name().ok_or("a file without a name")?.to_string_lossy().into_owned();
        let url = if name == "index.html" { "/".to_owned() } else { format!("/player/{name}") };
        table.add(url, &entry, &out)?;
    }
    let build_js = assets.join("build.js");
    fs::write(&build_js, format!("// Written by build.rs.\nexport const EMBEDDED = {embedded};\n"))?;
    table.add("/player/build.js".to_owned(), &build_js, &out)?;
    if embedded {
        for (.., name) in PLAYERS {
            table.add(format!("/player/lib/{name}"), &assets.join(name), &out)?;
        }
        table.add("/player/lib/LICENSES.txt".to_owned(), &assets.join("LICENSES.txt"), &out)?;
    }
    table.write(embedded, &out.join("assets.rs"))
}

/// Copies the players, and the licences they are given under, to `assets`.
fn players(here: &Path, out: &Path, assets: &Path) -> Result<()> {
    if env::var("DAMSON_PLAYER").is_ok_and(|v| v == "cdn") {
        return Err("DAMSON_PLAYER=cdn".into());
    }
    let wanted = fs::read_to_string(here.join("package.json"))?;
    if copy_players(&here.join("node_modules"), &wanted, assets).is_ok() {
        return Ok(());
    }
    let work = out.join("npm");
    remove(&work)?;
    fs::create_dir_all(&work)?;
    for name in ["package.json", "package-lock.json", ".npmrc"] {
        fs::copy(here.join(name), work.join(name))?;
    }
    let mut npm = Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" });
    // No script of a package is run, and a network that is away is noticed soon.
    npm.args(["ci", "--ignore-scripts", "--omit=dev", "--prefer-offline", "--no-audit", "--no-fund"]);
    npm.args(["--loglevel=error", "--fetch-retries=1", "--fetch-timeout=30000"]);
    if env::var("CARGO_NET_OFFLINE").is_ok_and(|v| v == "true") {
        npm.arg("--offline");
    }
    let ran = npm.current_dir(&work).output().map_err(|e| format!("npm does not run: {e}"))?;
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr);
        let line = said.lines().find(|l| !l.trim().is_empty()).unwrap_or("no message");
        return Err(format!("npm ci failed ({}): {line}", ran.status).into());
    }
    copy_players(&work.join("node_modules"), &wanted, assets)?;
    remove(&work) // a quarter of a gigabyte, of which three files were wanted
}

fn copy_players(modules: &Path, wanted: &str, assets: &Path) -> Result<()> {
    let mut licences = String::new();
    for (package, licence, file, name) in PLAYERS {
        let dir = modules.join(package);
        let manifest = fs::read_to_string(dir.join("package.json"))?;
        let (has, wants) = (json_string(&manifest, "version"), json_string(wanted, package));
        if has.is_none() || has != wants {
            return Err(format!("{package} is {has:?}, package.json wants {wants:?}").into());
        }
        let mut copyright = fs::read_to_string(dir.join(licence))?;
        if let Ok(inner) = fs::read_to_string(dir.join(format!("{file}.LICENSE.txt"))) {
            write!(copyright, "\n{inner}")?;
        }
        write!(licences, "==== {package} {} ====\n\n{copyright}\n\n", has.unwrap_or_default())?;
        // The source maps are not carried, so the page must not ask for them.
        let script = fs::read_to_string(dir.join(file))?;
        let kept: Vec<&str> = script.lines().filter(|l| !l.starts_with("//# sourceMappingURL=")).collect();
        fs::write(assets.join(name), kept.join("\n"))?;
    }
    Ok(fs::write(assets.join("LICENSES.txt"), licences)?)
}

/// The value of the first `"key": "value"` of a JSON text. Enough for npm's own, flat files.
fn json_string<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let rest = text.split_once(&format!("\"{key}\":"))?.1.trim_start().strip_prefix('"')?;
    Some(rest.split_once('"')?.0)
}

/// The asset table of `lib.rs`, as Rust.
#[derive(Default)]
struct Table {
    rows: Vec<(String, String)>,
}

impl Table {
    fn add(&mut self, url: String, file: &Path, out: &Path) -> Result<()> {
        let bytes = fs::read(file)?;
        let mut crc = Crc::new();
        crc.update(&bytes);
        let etag = format!("{:08x}-{:x}", crc.sum(), bytes.len());
        let packed = out.join("assets").join(format!("{etag}.gz"));
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&bytes)?;
        fs::write(&packed, gzip.finish()?)?;
        let content_type = match file.extension().and_then(|e| e.to_str()) {
            Some("html") => "text/html; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("svg") => "image/svg+xml",
            Some("txt") => "text/plain; charset=utf-8",
            other => return Err(format!("{}: no content type for {other:?}", file.display()).into()),
        };
        let row = format!(
            "Asset {{ bytes: include_bytes!({file:?}), gzip: include_bytes!({packed:?}), \
             content_type: {content_type:?}, etag: \"\\\"{etag}\\\"\" }}"
        );
        self.rows.push((url, row));
        Ok(())
    }

    fn write(mut self, embedded: bool, to: &Path) -> Result<()> {
        self.rows.sort();
        let mut rust = format!("const EMBEDDED_HERE: bool = {embedded};\nstatic ASSETS: &[(&str, Asset)] = &[\n");
        for (url, row) in &self.rows {
            writeln!(rust, "    ({url:?}, {row}),")?;
        }
        rust.push_str("];\n");
        Ok(fs::write(to, rust)?)
    }
}

fn sorted(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if path.is_file() && !hidden && !path.to_string_lossy().ends_with('~') {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn remove(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    Ok(())
}
