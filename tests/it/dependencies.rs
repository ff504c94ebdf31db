//! What damson stands on: licences, sources and bans, and a reason for each crate in docs/dependencies.md.
//!
//! This reads `cargo metadata`, so that a clone needs no further tool. Known vulnerabilities change
//! from day to day and need the network; CI asks for them once a week (.github/workflows/ci.yml).

use std::process::Command;

use serde_json::Value;

use crate::tidy::root;

/// Licences that may be linked into a program under MIT OR Apache-2.0 without asking anything of its users
/// but the notice.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates that must not come in, and why.
const BANNED: &[(&str, &str)] = &[
    ("openssl-sys", "one TLS stack: rustls"),
    ("native-tls", "one TLS stack: rustls"),
    ("aws-lc-sys", "one crypto provider, and it builds without cmake: ring"),
    ("async-std", "one runtime: tokio"),
];

fn metadata() -> Value {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--filter-platform=x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .expect("cargo starts");
    assert!(out.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("cargo writes JSON")
}

fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    let used = |id: &Value| {
        metadata["resolve"]["nodes"].as_array().is_some_and(|nodes| nodes.iter().any(|node| node["id"] == *id))
    };
    metadata["packages"].as_array().expect("packages is a list").iter().filter(move |package| used(&package["id"]))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("")
}

/// Whether an SPDX expression (SPDX 2.3, annex D) can be met with [`LICENCES`]. The older `MIT/Apache-2.0` means OR.
fn is_allowed(expression: &str) -> bool {
    let mut depth = 0;
    let mut is_top = |c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth == 0
    };
    let expression = expression.trim();
    let top: String = expression.chars().map(|c| if is_top(c) { c } else { '\u{0}' }).collect();
    let split =
        |separator: &str| top.find(separator).map(|at| (&expression[..at], &expression[at + separator.len()..]));
    // OR binds weakest, then AND.
    if let Some((left, right)) = split(" OR ").or_else(|| split("/")) {
        is_allowed(left) || is_allowed(right)
    } else if let Some((left, right)) = split(" AND ") {
        is_allowed(left) && is_allowed(right)
    } else if let Some(inner) = expression.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        is_allowed(inner)
    } else {
        LICENCES.contains(&expression)
    }
}

#[test]
fn licence_expressions_are_understood() {
    let check = |expression: &str, expect: bool| assert_eq!(is_allowed(expression), expect, "{expression}");
    check("MIT", true);
    check("GPL-3.0-only", false);
    check("GPL-3.0-only OR MIT", true);
    check("MIT/Apache-2.0", true);
    check("(MIT OR GPL-2.0-only) AND Unicode-3.0", true);
    check("(MIT OR Apache-2.0) AND GPL-2.0-only", false);
    check("Apache-2.0 WITH LLVM-exception", true);
    check("", false);
}

#[test]
fn every_licence_source_and_name_is_allowed() {
    let metadata = metadata();
    let mut faults = Vec::new();
    for package in packages(&metadata) {
        let (name, source, licence) = (text(package, "name"), text(package, "source"), text(package, "license"));
        // Crates of the workspace have no source.
        if !source.is_empty() && !source.starts_with("registry+https://github.com/rust-lang/crates.io-index") {
            faults.push(format!("{name}: comes from {source}, not from crates.io"));
        }
        if !is_allowed(licence) {
            faults.push(format!("{name}: licence {licence:?} is not in the list"));
        }
        if let Some((_, why)) = BANNED.iter().find(|(banned, _)| *banned == name) {
            faults.push(format!("{name}: banned ({why})"));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// A crate that nobody can give a reason for isn't needed.
#[test]
fn every_direct_dependency_has_its_reason() {
    let page = std::fs::read_to_string(root().join("docs/dependencies.md")).expect("the page is UTF-8");
    let metadata = metadata();
    let mut faults = Vec::new();
    let mut used = std::collections::BTreeSet::new();
    for package in packages(&metadata).filter(|package| package["source"].is_null()) {
        used.insert(text(package, "name"));
        for dependency in package["dependencies"].as_array().expect("dependencies is a list") {
            let name = text(dependency, "name");
            used.insert(name);
            if dependency["source"].is_string() && !page.contains(&format!("`{name}`")) {
                faults.push(format!("{name}, used by {}, has no reason", text(package, "name")));
            }
        }
    }
    // And what has a reason is used.
    for row in page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" |")) {
        let names = row.0.split('`').step_by(2).filter(|name| !name.is_empty());
        faults.extend(names.filter(|name| !used.contains(name)).map(|name| format!("{name} is used by nothing")));
    }
    assert!(faults.is_empty(), "docs/dependencies.md:\n{}", faults.join("\n"));
}
