//! The README and `docs/` against the code: each command runs, each link leads somewhere, and what a page lists is what
//! there is.
//!
//! `DAMSON_BLESS=1 cargo nextest run docs` writes the generated part of docs/settings.md anew.

mod markdown;
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args as _;
use damson::config::Settings;
use damson_core::manifest::route::{self, Route};

use self::markdown::{Page, pages};
use crate::tidy::root;

const README_LINES_MAX: usize = 150;
const README_WORDS_MAX: usize = 1_200;

/// Flags of other programs that pages name in their text.
const FOREIGN_FLAGS: &[&str] =
    &["--release", "--path", "--without", "--only", "--nodes", "--seeds", "--nocapture", "--lib"];

/// Adds a test for each page whose commands are run, and lists the pages.
macro_rules! pages_with_commands {
    ($($test:ident: $path:literal,)*) => {
        /// The pages whose commands are run. The tests stand in a module of their own: .config/nextest.toml runs few at a time.
        const RUN: &[&str] = &[$($path),*];
        mod commands {
            $(#[test] fn $test() { super::run::run($path); })*
        }
    };
}

pages_with_commands! {
    readme: "README.md",
    access: "docs/publish/access.md",
    demo: "docs/demo.md",
    api: "docs/api.md",
    cluster: "docs/cluster.md",
    install: "docs/install.md",
    latency: "docs/latency.md",
    metrics: "docs/metrics.md",
    players: "docs/play/mpv-vlc-ffplay.md",
    publish_ffmpeg: "docs/publish/ffmpeg.md",
    publish_http: "docs/publish/http.md",
    publish_ladders: "docs/publish/ladders.md",
    publish_mpegts: "docs/publish/mpegts-multicast.md",
    publish_srt: "docs/publish/srt.md",
    quickstart: "docs/quickstart.md",
    settings: "docs/settings.md",
    troubleshooting: "docs/troubleshooting.md",
}

/// Collects faults and prints them together.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, page: &Page, line: usize, what: impl std::fmt::Display) {
        self.0.push(format!("{}:{line}: {what}", page.path.display()));
    }

    #[track_caller]
    fn check(self) {
        assert!(self.0.is_empty(), "\n{}", self.0.join("\n"));
    }
}

/// A README that takes longer isn't read.
#[test]
fn the_readme_is_short() {
    let readme = Page::load("README.md").text;
    let (lines, words) = (readme.lines().count(), readme.split_whitespace().count());
    assert!(lines <= README_LINES_MAX, "{lines} lines, of at most {README_LINES_MAX}");
    assert!(words <= README_WORDS_MAX, "{words} words, of at most {README_WORDS_MAX}");
}

#[test]
fn every_block_of_commands_is_run_or_says_why_not() {
    let mut faults = Faults::default();
    for page in pages().iter().filter(|page| page.is_for_users()) {
        let mut runs = false;
        for block in page.blocks() {
            match block.plan() {
                Ok(Some(plan)) => {
                    runs |= plan.no_run.is_none();
                    let fault = run::syntax(&block);
                    if !fault.is_empty() {
                        faults.add(page, block.line, fault);
                    }
                }
                Ok(None) if ["bash", "shell", "console", "zsh"].contains(&block.info.as_str()) => {
                    faults.add(page, block.line, "commands stand in blocks of `sh`, which are tested");
                }
                Ok(None) => {}
                Err(why) => faults.add(page, block.line, why),
            }
        }
        let is_run = RUN.iter().any(|path| page.path == Path::new(path));
        if runs != is_run {
            faults.add(page, 1, format_args!("it has commands to run: {runs}; tests/it/docs.rs runs it: {is_run}"));
        }
    }
    faults.check();
}

/// Returns the flags in `damson COMMAND --help`, by command.
fn flags() -> BTreeMap<&'static str, BTreeSet<String>> {
    let of = |command: &str| {
        let args = command.split(' ').chain(["--help"]);
        let output = Command::new(env!("CARGO_BIN_EXE_damson")).args(args).output().expect("damson starts");
        let help = String::from_utf8(output.stdout).expect("help is text");
        let words = help.split([' ', '\n', ',']);
        words.filter(|word| word.starts_with("--")).map(str::to_owned).collect()
    };
    ["demo", "node", "trace", "key", "pki init", "pki issue"].map(|command| (command, of(command))).into()
}

/// Returns the commands of a block, a list of words each: lines are joined, and what stands behind `|`, `;` or `&` is another.
fn commands(text: &str) -> Vec<Vec<String>> {
    let joined = text.replace("\\\n", " ").replace("\"$(", " ; ");
    let words = |command: &str| command.split_whitespace().map(str::to_owned).collect();
    joined.split(['\n', '|', ';', '&']).map(words).collect()
}

/// A page that names a flag which isn't there costs its reader an hour.
#[test]
fn every_flag_in_the_pages_exists() {
    let flags = flags();
    let known = |flag: &str| flags.values().any(|flags| flags.contains(flag)) || FOREIGN_FLAGS.contains(&flag);
    let mut faults = Faults::default();
    let mut seen = 0;
    for page in &pages() {
        for block in page.blocks().iter().filter(|block| block.info.starts_with("sh")) {
            for words in commands(&block.text) {
                let Some(at) = words.iter().position(|word| word == "damson") else { continue };
                let Some((_, flags)) = flags.iter().find(|(name, _)| words[at + 1..].join(" ").starts_with(**name))
                else {
                    continue;
                };
                for word in words[at..].iter().filter(|word| word.starts_with("--")) {
                    let flag = word.split('=').next().unwrap_or(word);
                    seen += 1;
                    if !flags.contains(flag) {
                        faults.add(page, block.line, format_args!("{flag} isn't in its --help"));
                    }
                }
            }
        }
        if page.is_for_users() {
            for (line, span) in page.code_spans() {
                let words = span.split([' ', '=']).map(|word| word.trim_end_matches([',', ':', '…']));
                for word in words.filter(|word| word.starts_with("--") && word.len() > 2) {
                    if !known(word) {
                        faults.add(page, line, format_args!("{word} is no flag of damson's"));
                    }
                }
            }
        }
    }
    assert!(seen > 20, "{seen} flags were looked at");
    faults.check();
}

#[test]
fn links_lead_somewhere() {
    let mut faults = Faults::default();
    let pages = pages();
    for page in &pages {
        for (line, path, anchor) in page.links() {
            if !root().join(&path).exists() {
                faults.add(page, line, format_args!("{} isn't there", path.display()));
                continue;
            }
            let is_markdown = path.extension().is_some_and(|extension| extension == "md");
            if !anchor.is_empty() && is_markdown {
                let target = Page::load(path.to_str().expect("a path is text"));
                if !target.anchors().contains(&anchor) {
                    faults.add(page, line, format_args!("{} has no heading #{anchor}", path.display()));
                }
            }
        }
    }
    faults.check();
}

#[test]
fn every_page_is_reached_from_the_readme() {
    let pages = pages();
    let mut reached = BTreeSet::from([PathBuf::from("README.md")]);
    let mut next = vec![PathBuf::from("README.md")];
    while let Some(path) = next.pop() {
        let Some(page) = pages.iter().find(|page| page.path == path) else { continue };
        next.extend(page.links().into_iter().map(|(_, path, _)| path).filter(|path| reached.insert(path.clone())));
    }
    let lost: Vec<_> = pages.iter().map(|page| &page.path).filter(|path| !reached.contains(*path)).collect();
    assert!(lost.is_empty(), "no links lead from the README to {lost:?}");
}

/// The headings of docs/settings.md, by the first setting of each.
const GROUPS: &[(&str, &str)] = &[
    ("name", "The node and its neighbours"),
    ("rtmp", "Publishing"),
    ("publish-key", "Who may publish"),
    ("http", "Serving players"),
    ("segment", "Segments, parts and streams"),
    ("otlp", "Observing"),
    ("dvr", "DVR"),
];

/// Renders the settings of a node from their flags.
fn settings() -> String {
    let command = Settings::augment_args(clap::Command::new("node"));
    let mut out = String::new();
    let mut groups = 0;
    for argument in command.get_arguments() {
        let Some(flag) = argument.get_long().filter(|flag| *flag != "help") else { continue };
        let env = argument.get_env().and_then(|name| name.to_str()).unwrap_or_default();
        assert_eq!(env, format!("DAMSON_{}", flag.to_uppercase().replace('-', "_")), "--{flag}");
        let unknown = toml::from_str::<Settings>(&format!("{flag} = \"\"")).err().map(|error| error.to_string());
        assert!(unknown.is_none_or(|error| !error.contains("unknown field")), "{flag} is no setting in a file");
        if let Some((_, title)) = GROUPS.iter().find(|(first, _)| *first == flag) {
            groups += 1;
            out += &format!("\n## {title}\n\n| setting | value | meaning |\n|---|---|---|\n");
        }
        let values = argument.get_possible_values();
        let value = match &values[..] {
            [] => argument.get_value_names().unwrap_or_default().join(" "),
            values => values.iter().map(|value| value.get_name()).collect::<Vec<_>>().join(", "),
        };
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let (help, default) = help.split_once(" [default: ").unwrap_or((&help, "none]"));
        let row = format!("| `{flag}` | `{value}` | {help}. Default: {} |\n", default.trim_end_matches(']'));
        out += &row.replace("<", "&lt;");
    }
    assert_eq!(groups, GROUPS.len(), "each heading has its first setting");
    out
}

#[test]
fn settings_are_those_of_the_command() {
    const BEGIN: &str = "<!-- generated: DAMSON_BLESS=1 cargo nextest run docs -->\n";
    const END: &str = "\n<!-- end of the generated part -->";
    let page = Page::load("docs/settings.md").text;
    let (head, rest) = page.split_once(BEGIN).expect("the page has a generated part");
    let (found, tail) = rest.split_once(END).expect("the generated part ends");
    let expect = settings();
    if std::env::var_os("DAMSON_BLESS").is_some() {
        let path = root().join("docs/settings.md");
        std::fs::write(path, format!("{head}{BEGIN}{expect}{END}{tail}")).expect("the page can be written");
    } else {
        assert_eq!(found, expect, "docs/settings.md differs from the flags; DAMSON_BLESS=1 writes it anew");
    }
}

#[test]
fn the_example_settings_are_valid() {
    let settings =
        Settings::from_file(&root().join("deploy/damson.toml")).expect("valid TOML with settings that exist");
    settings.segment().expect("in range");
    settings.part().expect("in range");
    settings.dvr().expect("in range");
    settings.bit_rate_max().expect("in range");
    settings.srt().expect("in range");
    settings.http_ingest().expect("in range");
    // A line that is commented out is a setting, too.
    let text = std::fs::read_to_string(root().join("deploy/damson.toml")).expect("text");
    let all: String = text
        .lines()
        .map(|line| line.strip_prefix("#: ").unwrap_or(line))
        .fold(String::new(), |all, line| all + line + "\n");
    toml::from_str::<Settings>(&all).expect("each commented setting is valid, too");
}

#[test]
fn metrics_are_those_of_the_node() {
    let page = Page::load("docs/metrics.md");
    let cells = page.first_cells().into_iter().map(|(_, _, cell)| cell.trim_matches('`').to_owned());
    let is_name =
        |cell: &String| cell.starts_with("damson_") && cell.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let listed: BTreeSet<String> = cells.filter(is_name).collect();
    let exposed = crate::dashboard::exposition();
    let families = exposed.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let families =
        families.map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() });
    let families: BTreeSet<String> = families.collect();
    let missing: Vec<_> = families.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&families).collect();
    assert!(missing.is_empty() && gone.is_empty(), "docs/metrics.md lacks {missing:?}; the node has no {gone:?}");
}

/// Returns the names of all routes, as the source has them.
fn routes() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("src/core/manifest/route.rs")).expect("the routes' file");
    let file = syn::parse_file(&text).expect("Rust");
    let route = file.items.iter().find_map(|item| match item {
        syn::Item::Enum(found) if found.ident == "Route" => Some(found),
        _ => None,
    });
    route.expect("enum Route").variants.iter().map(|variant| variant.ident.to_string()).collect()
}

#[test]
fn routes_are_those_of_the_edge() {
    let page = Page::load("docs/api.md");
    let mut faults = Faults::default();
    let mut listed = BTreeSet::new();
    for (line, _, cell) in page.first_cells() {
        let Some(path) = cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`')) else { continue };
        let Some(path) = path.strip_prefix("GET ").or(path.strip_prefix("POST ")) else { continue };
        let examples = [
            ("{stream}", "cam1"),
            ("{track}", "video"),
            ("{msn}", "7"),
            ("{part}", "0"),
            ("{n}", "0"),
            ("{node}", "edge1"),
        ];
        let example = examples.iter().fold(path.to_owned(), |path, (name, value)| path.replace(name, value));
        let (path, query) = example.split_once('?').map_or((&example[..], None), |(path, query)| (path, Some(query)));
        let path = route::normalize(path).expect("an example is a path");
        match Route::parse(&path, query) {
            Ok(route) => {
                let debug = format!("{route:?}");
                listed.insert(debug.split([' ', '(', '{']).next().unwrap_or_default().to_owned());
            }
            Err(fault) => faults.add(&page, line, fault),
        }
    }
    faults.check();
    let all = routes();
    assert_eq!(
        listed, all,
        "docs/api.md names exactly the routes of the edge (left: named, right: those that there are)"
    );
}

/// Returns the sources of all crates, with their paths.
fn sources() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, out: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(folder).expect("a folder of sources").flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source is UTF-8");
                out.push((path, text));
            }
        }
    }
    let mut out = Vec::new();
    walk(&root().join("src"), &mut out);
    out
}

/// Returns the string literals of all sources, with `…` for what is filled in.
fn literals() -> Vec<String> {
    sources().iter().flat_map(|(_, text)| strings(text)).map(|literal| filled(&literal)).collect()
}

/// Returns the string literals of a source.
fn strings(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['"', '\'', '/']) {
        let (found, after) = rest.split_at(at);
        rest = &after[1..];
        if after.starts_with("//") {
            rest = after.split_once('\n').map_or("", |(_, rest)| rest);
        } else if after.starts_with("'\"'") || after.starts_with("'\\") {
            rest = &after[3..];
        } else if after.starts_with('"') && !found.ends_with('#') {
            let mut literal = String::new();
            let mut chars = rest.char_indices();
            while let Some((n, c)) = chars.next() {
                match c {
                    '"' => {
                        rest = &rest[n + 1..];
                        break;
                    }
                    '\\' => match chars.next() {
                        // A line goes on behind its indentation.
                        Some((n, '\n')) => {
                            let indent = rest[n + 1..].len() - rest[n + 1..].trim_start().len();
                            chars.by_ref().take(indent).for_each(drop);
                        }
                        Some((_, 'n')) => literal.push('\n'),
                        Some((_, c)) => literal.push(c),
                        None => break,
                    },
                    c => literal.push(c),
                }
            }
            out.push(literal);
        }
    }
    out
}

/// Puts `…` in the place of each `{...}`.
fn filled(literal: &str) -> String {
    let mut out = String::new();
    let mut depth = 0;
    for c in literal.chars() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    out.push('…');
                }
            }
            c if depth <= 0 => out.push(c),
            _ => {}
        }
    }
    out
}

/// Returns the literal that has most words in common with a message.
fn nearest<'a>(message: &str, literals: &'a [String]) -> &'a str {
    let words = |text: &str| text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase).collect::<BTreeSet<_>>();
    let wanted = words(message);
    let share = |literal: &&String| {
        let found = words(literal);
        1_000 * wanted.intersection(&found).count() / wanted.union(&found).count().max(1)
    };
    literals.iter().max_by_key(share).map_or("", String::as_str)
}

/// An operator searches a page for the words that he sees: they are the words of the sources, with `…` for what varies.
#[test]
fn messages_are_those_of_the_sources() {
    check_messages("docs/troubleshooting.md");
    check_messages("docs/inputs.md");
}

fn check_messages(path: &str) {
    let page = Page::load(path);
    let literals = literals();
    let mut faults = Faults::default();
    let mut seen = 0;
    for (line, heading, cell) in page.first_cells() {
        let message = cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`'));
        let Some(message) = message.filter(|_| !heading.starts_with("Messages of other programs")) else { continue };
        seen += 1;
        // A message that begins or ends with what varies is told by the rest.
        let known = filled(message);
        let known = known.trim_matches('…').trim();
        if !literals.iter().any(|literal| literal.contains(known)) {
            faults.add(
                &page,
                line,
                format_args!("no source says {message:?}; nearest: {:?}", nearest(message, &literals)),
            );
        }
    }
    assert!(seen > 20, "{path}: {seen} messages");
    faults.check();
}

/// What docs/inputs.md says of repairs is proved by the test that stands in the row.
#[test]
fn repairs_have_their_tests() {
    let page = Page::load("docs/inputs.md");
    let sources = sources();
    let mut faults = Faults::default();
    let mut seen = 0;
    for (line, row) in page.prose().skip_while(|(_, row)| *row != "## What is repaired") {
        if row == "## What is refused" {
            break;
        }
        let Some((_, test)) = row.strip_suffix("` |").and_then(|row| row.rsplit_once("| `")) else { continue };
        seen += 1;
        let is_there = |(_, text): &(PathBuf, String)| text.contains(&format!("fn {test}("));
        if !sources.iter().any(is_there) {
            faults.add(&page, line, format_args!("there is no test {test}"));
        }
    }
    assert!(seen > 10, "{seen} repairs");
    faults.check();
}

/// A comment that cites the architecture names a section that is there.
#[test]
fn cited_sections_exist() {
    let sections = Page::load("docs/architecture.md");
    let sections: Vec<&str> = sections.text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let mut lost = Vec::new();
    for (path, text) in sources() {
        for cited in text.split("docs/architecture.md, ").skip(1) {
            let cited = cited.split([')', ':', '.', ',', ';', '\n']).next().unwrap_or_default().trim();
            if !sections.contains(&cited) {
                lost.push(format!("{}: {cited:?}", path.display()));
            }
        }
    }
    assert!(lost.is_empty(), "docs/architecture.md has no sections\n{}", lost.join("\n"));
}

/// The README's push command is the one that the demo prints.
#[test]
fn the_push_command_is_the_same_everywhere() {
    let plain = |text: &str| text.replace('\\', " ").split_whitespace().collect::<Vec<_>>().join(" ");
    let blocks = Page::load("README.md").blocks();
    let command = blocks.iter().find(|block| block.text.starts_with("ffmpeg ")).expect("the README pushes with ffmpeg");
    let command = plain(&command.text).replace("127.0.0.1:1935", "…");
    let printed = literals();
    assert!(printed.iter().any(|text| plain(text).contains(&command)), "the demo doesn't print: {command}");
    let page = std::fs::read_to_string(root().join("player-demo/page/main.js")).expect("the page's script");
    let (media, _) = command.split_once(" rtmp://").expect("a URL at its end");
    assert!(plain(&page.replace("\"\n  + \"", "")).contains(media), "the page doesn't show: {media}");
}

#[test]
fn literals_are_found_in_sources() {
    let text = r#"let a = "one {x} two"; // "not this"
        let b = '"'; format!("three \
            four {}", 'c'); "#;
    let found: Vec<_> = strings(text).iter().map(|literal| filled(literal)).collect();
    assert_eq!(found, ["one … two", "three four …"]);
}
