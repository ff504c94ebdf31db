//! The Markdown pages of the repository: their code blocks, tables, headings and links.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use crate::tidy::root;

/// Folders with pages for readers. Pages elsewhere (`src/`, `fixtures/`) are only link targets.
const FOLDERS: &[&str] = &["docs", "docs/publish", "docs/play"];
/// Pages outside of these folders.
const PAGES: &[&str] = &[
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "bench/README.md",
    "bench/report/README.md",
    "fixtures/README.md",
    "tests/README.md",
];

/// A page, by its path from the root.
pub(super) struct Page {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// A fenced code block.
pub(super) struct Block {
    /// The line of its opening fence.
    pub(super) line: usize,
    /// The text behind the opening fence: `sh background until=http://127.0.0.1:8080/`.
    pub(super) info: String,
    pub(super) text: String,
}

impl Page {
    pub(super) fn load(path: &str) -> Page {
        let text = std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        Page { path: path.into(), text }
    }

    /// Returns whether a page is for users, whose commands are run: the README, and `docs/`.
    pub(super) fn is_for_users(&self) -> bool {
        self.path.as_path() == Path::new("README.md") || self.path.starts_with("docs")
    }

    pub(super) fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        for (n, line) in self.text.lines().enumerate() {
            match (line.strip_prefix("```"), open.take()) {
                (Some(_), Some(block)) => blocks.push(block),
                (Some(info), None) => {
                    open = Some(Block { line: n + 1, info: info.trim().to_owned(), text: String::new() });
                }
                (None, Some(mut block)) => {
                    block.text += line;
                    block.text.push('\n');
                    open = Some(block);
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a code block isn't closed", self.path.display());
        blocks
    }

    /// Returns the lines outside of code blocks, with their numbers.
    pub(super) fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut inside = false;
        self.text.lines().enumerate().filter_map(move |(n, line)| {
            let is_fence = line.starts_with("```");
            inside ^= is_fence;
            (!inside && !is_fence).then_some((n + 1, line))
        })
    }

    /// Returns the code spans of the prose: what stands between single backticks.
    pub(super) fn code_spans(&self) -> impl Iterator<Item = (usize, &str)> {
        self.prose().flat_map(|(n, line)| line.split('`').skip(1).step_by(2).map(move |span| (n, span)))
    }

    /// Returns the first cells of all table rows, with the heading above each table.
    pub(super) fn first_cells(&self) -> Vec<(usize, String, String)> {
        let mut heading = String::new();
        let mut cells = Vec::new();
        for (n, line) in self.prose() {
            if let Some((_, title)) = line.split_once("# ").filter(|(marks, _)| marks.chars().all(|c| c == '#')) {
                heading = title.to_owned();
            }
            let row = line.strip_prefix("| ").filter(|row| !row.starts_with("---"));
            if let Some(cell) = row.and_then(|row| row.split(" |").next()) {
                cells.push((n, heading.clone(), cell.trim().to_owned()));
            }
        }
        cells
    }

    /// Returns the anchors of all headings, as GitHub makes them.
    pub(super) fn anchors(&self) -> Vec<String> {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut anchors = Vec::new();
        for (_, line) in self.prose() {
            let title = line.trim_start_matches('#');
            if title.len() == line.len() || !title.starts_with(' ') {
                continue;
            }
            let kept = |c: char| c.is_alphanumeric() || c == '-' || c == '_' || c == ' ';
            let slug: String = title.trim().to_lowercase().chars().filter(|c| kept(*c)).collect();
            let slug = slug.replace(' ', "-");
            let count = seen.entry(slug.clone()).or_default();
            anchors.push(if *count == 0 { slug.clone() } else { format!("{slug}-{count}") });
            *count += 1;
        }
        anchors
    }

    /// Returns the targets of all links and pictures that lead to a file of the repository: line, path, anchor.
    pub(super) fn links(&self) -> Vec<(usize, PathBuf, String)> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let mut links = Vec::new();
        for (n, line) in self.prose() {
            for rest in line.split("](").skip(1) {
                let target = rest.split([')', ' ']).next().unwrap_or_default();
                if target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
                let path = if path.is_empty() { self.path.clone() } else { plain(&folder.join(path)) };
                links.push((n, path, anchor.to_owned()));
            }
        }
        links
    }
}

/// Takes `.` and `..` out of a path.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(out.pop(), "{}: leaves the repository", path.display()),
            Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}

/// Returns all pages, sorted by path.
pub(super) fn pages() -> Vec<Page> {
    let mut paths: Vec<String> = PAGES.iter().map(|path| (*path).to_owned()).collect();
    for folder in FOLDERS {
        let entries = std::fs::read_dir(root().join(folder)).unwrap_or_else(|e| panic!("{folder}: {e}")).flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        paths.extend(names.filter(|name| name.ends_with(".md")).map(|name| format!("{folder}/{name}")));
    }
    paths.sort();
    paths.iter().map(|path| Page::load(path)).collect()
}
