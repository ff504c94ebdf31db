//! Files that are wrong, and where they say so.

use super::*;

const GOOD: &str = r#"
about = "Few nodes, one part."
nodes = 12
seed = 3

[network]
latency = { constant-ms = 10 }

[[publish]]
name = "one"
at-s = 10
parts = 1
bytes = 1000
expect = { reached-percent = 100, last-ms = 500 }

[[event]]
at-s = 11
kill = { count = 2 }
"#;

fn parse(text: &str) -> Result<Scenario, ScenarioError> {
    Scenario::parse("few.toml", text)
}

#[test]
fn a_wrong_file_is_refused_at_its_line_and_key() {
    let check = |from: &str, to: &str, line: usize, key: &str, what: &str| {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{from}");
        let error = parse(&text).expect_err("refused");
        assert!(error.what.contains(what), "{error}");
        assert_eq!((error.line, error.key.as_str()), (line, key), "{error}");
        assert!(error.to_string().starts_with(&format!("few.toml:{line}: {key}: ")), "{error}");
    };
    assert!(parse(GOOD).is_ok());
    check("seed = 3", "sead = 3", 4, "sead", "unknown field");
    check("seed = 3", "seed = -3", 4, "seed", "invalid value");
    check("nodes = 12", "nodes = 1", 3, "nodes", "1 nodes");
    check(
        "latency = { constant-ms = 10 }",
        "latency = { constant-ms = \"ten\" }",
        7,
        "network.latency",
        "invalid type",
    );
    check("at-s = 10", "at-s = -10", 11, "publish.at-s", "not between");
    check("last-ms", "latest-ms", 14, "publish.expect", "unknown field");
    check("parts = 1", "parts = 0", 12, "parts", "0 parts");
    check("bytes = 1000", "bytes = 99999999", 13, "bytes", "99999999 bytes");
    check("bytes = 1000", "bytes = 1000\nfrom = 12", 14, "from", "node 12, of 12");
    check("kill = { count = 2 }", "kill = {}", 18, "kill", "needs one of");
    check("kill = { count = 2 }", "kill = { nodes = [1, 77] }", 18, "kill", "node 77");
    check("kill = { count = 2 }", "heal = true\nkill = { count = 2 }", 16, "event", "2 things happen");
    check("at-s = 11\n", "", 16, "event", "missing field `at-s`");
    check("kill = { count = 2 }", "paper = 1", 18, "event.paper", "unknown field");
}

#[test]
fn figures_beyond_their_bounds_are_told_with_the_command_that_repeats_the_run() {
    let good = parse(GOOD).expect("a good file").run("few.toml");
    assert!(good.is_good(), "{good}");
    assert_eq!(good.figure("one", "reached, %"), Some(100.0));
    let bad = parse(&GOOD.replace("last-ms = 500", "last-ms = 5")).expect("a good file").run("few.toml");
    assert!(!bad.is_good());
    let text = bad.to_string();
    assert!(text.contains("| <= 5 | NO |"), "{text}");
    assert!(text.contains("repeat: cargo run --release -p damson-bench -- scenario few.toml --seed 3"), "{text}");
}
