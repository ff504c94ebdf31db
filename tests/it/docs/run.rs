//! Runs the `sh` blocks of a page as a reader would: one after the other, in one shell, in a folder with `film.mp4` and the
//! repository's `fixtures/` and `deploy/`.
//!
//! Each page has a network of its own (a network namespace), so that the commands keep the ports that they name. The words
//! behind ```` ```sh ```` say how a block is run; GitHub doesn't show them:
//!
//! | words | the block |
//! |---|---|
//! | (none) | runs, and succeeds |
//! | `fails` | runs, and fails: what the page explains is the error |
//! | `background` | goes on while the next blocks run |
//! | `until=URL` | after it, the URL answers 2xx in some seconds |
//! | `fresh` | before it, everything that runs in the background is stopped |
//! | `ffmpeg=new` | needs an ffmpeg of 6.1 or newer |
//! | `instead="COMMAND"` | builds first: the test runs COMMAND, which needs no build |
//! | `no-run="REASON"` | isn't run; its syntax and its flags are checked all the same |

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::markdown::{Block, Page};
use crate::media_ffmpeg::newer;
use crate::tidy::root;

/// A page takes less than half of this on two cores that do nothing else.
const PAGE_MAX: Duration = Duration::from_secs(200);

/// How a block is run.
#[derive(Default, Debug, PartialEq)]
pub(super) struct Plan {
    fails: bool,
    background: bool,
    fresh: bool,
    new_ffmpeg: bool,
    until: Option<String>,
    instead: Option<String>,
    pub(super) no_run: Option<String>,
}

impl Block {
    /// Returns how the block is run; `None` if it is no `sh` block.
    pub(super) fn plan(&self) -> Result<Option<Plan>, String> {
        let Some(mut rest) = self.info.strip_prefix("sh") else { return Ok(None) };
        let mut plan = Plan::default();
        while !rest.trim().is_empty() {
            rest = rest.trim_start();
            let word = rest.split([' ', '=']).next().unwrap_or_default();
            rest = &rest[word.len()..];
            let mut value = None;
            if let Some(quoted) = rest.strip_prefix("=\"") {
                let (inside, after) = quoted.split_once('"').ok_or("a quote isn't closed")?;
                (value, rest) = (Some(inside.to_owned()), after);
            } else if let Some(bare) = rest.strip_prefix('=') {
                let (inside, after) = bare.split_once(' ').unwrap_or((bare, ""));
                (value, rest) = (Some(inside.to_owned()), after);
            }
            match (word, value) {
                ("fails", None) => plan.fails = true,
                ("background", None) => plan.background = true,
                ("fresh", None) => plan.fresh = true,
                ("ffmpeg", Some(which)) if which == "new" => plan.new_ffmpeg = true,
                ("until", Some(url)) => plan.until = Some(url),
                ("instead", Some(command)) => plan.instead = Some(command),
                ("no-run", Some(reason)) if reason.len() > 10 => plan.no_run = Some(reason),
                (word, value) => return Err(format!("{word:?} {value:?} is nothing that the test of the pages knows")),
            }
        }
        Ok(Some(plan))
    }
}

/// Returns the session of a page as a script of bash, `None` if nothing of it is run.
fn session(page: &Page) -> Option<String> {
    let mut script = String::new();
    let mut blocks = 0;
    for block in page.blocks() {
        let place = format!("{}:{}", page.path.display(), block.line);
        let plan = block.plan().unwrap_or_else(|why| panic!("{place}: {why}"));
        let Some(plan) = plan.filter(|plan| plan.no_run.is_none()) else { continue };
        blocks += 1;
        if plan.fresh {
            script += "stop_all\n";
        }
        let text = plan.instead.as_ref().unwrap_or(&block.text);
        let ffmpeg = if plan.new_ffmpeg { "PATH=$NEW:$PATH" } else { "" };
        let mut write = |line: std::fmt::Arguments<'_>| script.write_fmt(line).expect("a String takes every write");
        write(format_args!("at={place}\necho \"--- $at\" >&2\n"));
        match (plan.background, plan.fails) {
            (true, _) => write(format_args!("(\n{ffmpeg}\n{text}\n) >{blocks}.log 2>&1 </dev/null &\n")),
            (_, true) => write(format_args!("if (\n{ffmpeg}\n{text}\n) </dev/null; then fault 'it succeeds'; fi\n")),
            _ if plan.new_ffmpeg => write(format_args!("(\n{ffmpeg}\n{text}\n) </dev/null\n")),
            _ => write(format_args!("{{\n{text}\n}} </dev/null\n")),
        }
        if let Some(url) = &plan.until {
            write(format_args!("wait_for '{url}'\n"));
        }
    }
    (blocks > 0).then_some(script)
}

/// What stands before each session: the network, and what the words behind ```` ```sh ```` need.
const PRELUDE: &str = r#"
set -Eeuo pipefail -m
fault() { trap - ERR; tail -n 30 ./*.log >&2 || true; echo "FAULT at $at: $1" >&2; exit 1; }
trap 'fault "it fails"' ERR
wait_for() {
    curl -sSk --fail --retry 60 --retry-all-errors --retry-delay 1 -o /dev/null "$1" 2>curl.err || fault "$1 doesn't answer"
}
stop_all() { # each job is a process group, whose shell ends before its programs
    local job
    for job in $(jobs -p); do
        kill -TERM -- "-$job" 2>/dev/null || true
        while kill -0 -- "-$job" 2>/dev/null; do sleep 0.1; done
    done
}
at=network
ip link set lo up multicast on
ip route add default dev lo
"#;

/// Runs all blocks of a page, and panics with what they have printed if one doesn't do what it should.
pub(super) fn run(path: &str) {
    let page = Page::load(path);
    let Some(session) = session(&page) else { panic!("{path}: there is nothing to run") };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| dir.path().join(name);
    std::fs::copy(root().join("fixtures/media/plum-720p30.mp4"), at("film.mp4")).expect("a film");
    std::fs::create_dir(at("new")).expect("a folder");
    for folder in ["fixtures", "deploy"] {
        std::os::unix::fs::symlink(root().join(folder), at(folder)).expect("a link");
    }
    if session.contains("PATH=$NEW") {
        std::os::unix::fs::symlink(newer(), at("new/ffmpeg")).expect("a link");
    }
    std::fs::write(at("session.sh"), format!("{PRELUDE}{session}")).expect("a script");
    let damson = Path::new(env!("CARGO_BIN_EXE_damson")).parent().expect("a folder");
    let search = std::env::var("PATH").unwrap_or_default();
    let mut command = isolated(&["bash", "session.sh"]);
    command.current_dir(dir.path()).env("PATH", format!("{}:{search}", damson.display())).env("NEW", at("new"));
    command.env("NO_COLOR", "1").env_remove("RUST_LOG").stdin(Stdio::null());
    let output = command.output().expect("timeout and unshare are everywhere");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{path}: {}\n{}\n{}", output.status, said[0], said[1]);
}

/// Returns a command in a network and a process namespace of its own: all that it starts ends with it, after a time at the
/// latest. That needs root.
fn isolated(args: &[&str]) -> Command {
    let id = Command::new("id").arg("-u").output().expect("id is everywhere");
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", &PAGE_MAX.as_secs().to_string()]);
    if id.stdout != b"0\n" {
        let search = std::env::var("PATH").unwrap_or_default();
        command.args(["sudo", "-n", "-E", "env", &format!("PATH={search}")]);
    }
    command.args(["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]).args(args);
    command
}

/// Returns what bash says about the syntax of a block; nothing if it is right.
pub(super) fn syntax(block: &Block) -> String {
    let output = Command::new("bash").args(["-n", "-c", &block.text]).stdin(Stdio::null()).output();
    String::from_utf8_lossy(&output.expect("bash starts").stderr).into_owned()
}

#[test]
fn the_words_behind_a_fence_are_read() {
    let block = |info: &str| Block { line: 1, info: info.to_owned(), text: String::new() };
    let check = |info: &str, expect: Plan| assert_eq!(block(info).plan(), Ok(Some(expect)), "{info}");
    check("sh", Plan::default());
    check("sh fails", Plan { fails: true, ..Plan::default() });
    let until = Some("http://127.0.0.1/".to_owned());
    check("sh background until=http://127.0.0.1/", Plan { background: true, until, ..Plan::default() });
    let no_run = Some("needs a camera".to_owned());
    check("sh no-run=\"needs a camera\" ffmpeg=new", Plan { no_run, new_ffmpeg: true, ..Plan::default() });
    assert_eq!(block("json").plan(), Ok(None));
    assert!(block("sh skip").plan().is_err(), "an unknown word");
    assert!(block("sh no-run=\"later\"").plan().is_err(), "no reason");
}
