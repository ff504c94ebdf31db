//! Style is a test. Each rule says why it is there; a fault is printed as `path:line: what`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Folders that are built, fetched, found, or of one machine alone; git ignores them, too.
const NOT_OURS: &[&str] = &[".cargo", ".git", "target", "node_modules", "dist", "corpus", "artifacts"];

/// One text file of the repository.
struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    fn load(relative: &Path) -> Option<Source> {
        // What isn't UTF-8 is media, and has no style.
        let text = std::fs::read_to_string(root().join(relative)).ok()?;
        Some(Source { path: relative.to_owned(), text })
    }

    fn is(&self, extensions: &[&str]) -> bool {
        self.path.extension().is_some_and(|found| extensions.iter().any(|ext| found == *ext))
    }

    fn is_test(&self) -> bool {
        self.path.starts_with("tests")
            || self.path.ends_with("tests.rs")
            || self.path.iter().any(|part| part == "tests")
    }

    /// Lines of code with their numbers: comments are cut off, so that prose may name what code may not.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(n, line)| (n + 1, line.split("//").next().unwrap_or("")))
    }

    /// The line on which the unit tests start; they stand last in a file.
    fn tests_start(&self) -> usize {
        if self.is_test() {
            return 0;
        }
        let found = self.text.lines().position(|line| line.trim() == "#[cfg(test)]");
        found.map_or(usize::MAX, |n| n + 1)
    }
}

/// Every text file of the repository, sorted by path.
fn sources() -> Vec<Source> {
    fn walk(folder: &Path, out: &mut BTreeSet<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder of the repository can be read").flatten() {
            let name = entry.file_name();
            if NOT_OURS.iter().any(|skip| name == *skip) {
                continue;
            }
            let path = entry.path();
            if path.is_dir() {
                walk(&path, out);
            } else {
                let relative = path.strip_prefix(root()).expect("the walk starts at the root");
                out.insert(relative.to_owned());
            }
        }
    }
    let mut paths = BTreeSet::new();
    walk(root(), &mut paths);
    paths.iter().filter_map(|path| Source::load(path)).collect()
}

/// Faults found so far, printed together.
#[derive(Default)]
struct Faults(String);

impl Faults {
    fn add(&mut self, source: &Source, line: usize, what: impl std::fmt::Display) {
        writeln!(self.0, "{}:{line}: {what}", source.path.display()).expect("a String takes every write");
    }

    #[track_caller]
    fn check(self) {
        assert!(self.0.is_empty(), "\n{}", self.0);
    }
}

/// A file is read in one sitting; its tests move to `tests.rs` beside it first.
#[test]
fn files_are_short() {
    const LINES_MAX: usize = 600;
    let mut faults = Faults::default();
    for source in sources().iter().filter(|source| source.is(&["rs", "js", "mjs", "ts", "sh", "css", "html", "py"])) {
        let lines = source.text.lines().count();
        if lines > LINES_MAX {
            faults.add(source, lines, format_args!("{lines} lines, of at most {LINES_MAX}"));
        }
    }
    faults.check();
}

/// rustfmt leaves long strings and comments alone; readers don't.
#[test]
fn lines_are_short() {
    const CHARS_MAX: usize = 140;
    const CHARS_MAX_OF_THE_PAGE: usize = 200; // one rule of CSS, one template of HTML
    let mut faults = Faults::default();
    for source in sources().iter().filter(|source| source.is(&["rs", "toml", "yml", "js", "mjs", "css", "html"])) {
        let max = if source.is(&["rs", "toml", "yml"]) { CHARS_MAX } else { CHARS_MAX_OF_THE_PAGE };
        for (n, line) in source.text.lines().enumerate() {
            let chars = line.chars().count();
            if chars > max {
                faults.add(source, n + 1, format_args!("{chars} characters, of at most {max}"));
            }
        }
    }
    faults.check();
}

/// A test that is skipped, or that waits for a time instead of an event, is worse than none.
#[test]
fn tests_neither_sleep_nor_are_skipped() {
    let never = [
        concat!("#[", "ignore"),
        concat!("sleep", "("),
        concat!("park_", "timeout("),
        concat!("test", ".skip("),
        concat!("waitFor", "Timeout("),
    ];
    let mut faults = Faults::default();
    for source in sources().iter().filter(|source| source.is(&["rs", "js", "mjs", "ts"])) {
        let tests = source.tests_start();
        for (n, line) in source.code().filter(|(n, _)| *n >= tests) {
            for word in never.iter().filter(|word| line.contains(**word)) {
                faults.add(source, n, format_args!("`{word}` in a test"));
            }
        }
    }
    faults.check();
}

/// What is to be done stands in an issue, where it is found; and nothing of the machine on which a file
/// was made belongs in it.
#[test]
fn nothing_is_left_lying_about() {
    let never = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("/ro", "ot/"),
        concat!("/wo", "rk/"),
        concat!("/ho", "me/"),
    ];
    let mut faults = Faults::default();
    for source in sources() {
        for (n, line) in source.text.lines().enumerate() {
            for word in never.iter().filter(|word| line.contains(**word)) {
                faults.add(&source, n + 1, format_args!("`{word}`"));
            }
            // npm writes the registry that happened to answer; only the public one's name means "any".
            let resolved = line.trim().strip_prefix("\"resolved\": \"");
            if resolved.is_some_and(|url| !url.starts_with("https://registry.npmjs.org/")) {
                faults.add(
                    &source,
                    n + 1,
                    "an address of some registry: set omit-lockfile-registry-resolved in .npmrc",
                );
            }
        }
        if !source.text.is_empty() && !source.text.ends_with('\n') {
            faults.add(&source, source.text.lines().count(), "no newline at the end");
        }
    }
    faults.check();
}

/// A reader learns what a file is for before how it does it.
#[test]
fn modules_open_with_an_essay() {
    let mut faults = Faults::default();
    for source in sources().iter().filter(|source| source.is(&["rs"]) && !source.path.starts_with("tests/fuzz")) {
        let explains_itself = source.path.ends_with("tests.rs") || source.text.lines().count() <= 1;
        if !explains_itself && !source.text.starts_with("//!") {
            faults.add(source, 1, "starts without `//!`");
        }
    }
    faults.check();
}
