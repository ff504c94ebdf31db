//! Every scenario of fixtures/scenario/, simulated; and those of its folder rules/, each of which fails where a rule of ours that
//! the papers don't have is switched off.

use std::collections::BTreeSet;

use damson_sim::{Departure, Scenario};

use crate::tidy::root;

const FOLDER: &str = "fixtures/scenario";

fn load(name: &str) -> (String, Scenario) {
    let file = format!("{FOLDER}/{name}.toml");
    let text = std::fs::read_to_string(root().join(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let scenario = Scenario::parse(&file, &text).unwrap_or_else(|error| panic!("{error}"));
    (file, scenario)
}

fn check(name: &str) {
    let (file, scenario) = load(name);
    let outcome = scenario.run(&file);
    assert!(outcome.is_good(), "{file}\n{outcome}");
}

/// One test each, so that they run beside one another.
macro_rules! scenarios {
    ($($test:ident = $file:literal),+ $(,)?) => {
        $(#[test]
        fn $test() {
            check($file);
        })+

        #[test]
        fn every_file_of_the_folder_is_played() {
            let files = std::fs::read_dir(root().join(FOLDER)).expect("the folder is there");
            let files = files.flatten().map(|file| file.file_name().to_string_lossy().into_owned());
            let files: BTreeSet<String> = files.filter(|name| name.ends_with(".toml")).collect();
            let played: BTreeSet<String> = [$($file),+].iter().map(|name| format!("{name}.toml")).collect();
            assert_eq!(files, played);
        }
    };
}

scenarios! {
    steady = "steady",
    world = "world",
    loss = "loss",
    mass_kill = "mass-kill",
    bootstrap = "bootstrap",
    join_storm = "join-storm",
    halves = "halves",
    flapping = "flapping",
    slow_nodes = "slow-nodes",
    large_bodies = "large-bodies",
    many_streams = "many-streams",
    asymmetric_cut = "asymmetric-cut",
    clock_skew = "clock-skew",
}

/// The scenario holds, and fails without any one of these rules.
fn proves(name: &str, rules: &[&str]) {
    check(name);
    for rule in rules {
        let (file, mut scenario) = load(name);
        scenario.paper.extend(Departure::parse(rule));
        let outcome = scenario.run(&file);
        assert!(!outcome.is_good(), "{file} doesn't notice that {rule} is gone\n{outcome}");
        assert!(outcome.repeat.contains("--seed 1 --without"), "{}", outcome.repeat);
    }
}

/// Rules that no scenario proves.
const UNPROVEN: &[&str] = &["not-here", "receiving", "upload-budget"];

macro_rules! rules {
    ($($test:ident: $file:literal $rules:tt),+ $(,)?) => {
        $(#[test]
        fn $test() {
            proves($file, &$rules);
        })+

        #[test]
        fn a_rule_is_proven_or_named_as_unproven() {
            let mut named = [$(&$rules[..]),+, UNPROVEN].concat();
            named.sort_unstable();
            let mut all = Departure::ALL.map(Departure::name);
            all.sort_unstable();
            assert_eq!(named, all, "each in one place");
        }
    };
}

rules! {
    rule_admission: "rules/admission" ["admission"],
    rule_calm_refill: "rules/calm-refill" ["calm-refill"],
    rule_cut_through: "rules/cut-through" ["cut-through"],
    rule_digests: "rules/digests" ["digests"],
    rules_of_the_first_part: "rules/first-part" ["lazy-start", "promise"],
    rule_parallel_refill: "rules/parallel-refill" ["parallel-refill"],
    rule_patience: "rules/patience" ["patience"],
    rules_of_torn_bodies: "rules/resume" ["resume", "early-refusal"],
    rule_rotation: "rules/rotation" ["rotation"],
    rule_size_aware_timers: "rules/size-aware-timers" ["size-aware-timers"],
    rule_time_rule: "rules/time-rule" ["time-rule"],
    a_neighbour_that_has_begun_is_no_better_parent: "rules/thin-links" [],
    rule_tree_links: "rules/tree-links" ["tree-links"],
    rule_window_offer: "mass-kill" ["window-offer", "young-shuffle"],
    rule_rebootstrap: "bootstrap" ["rebootstrap"],
    rule_nearness: "rules/nearness" ["nearness"],
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let (file, mut scenario) = load("flapping");
    let text = std::fs::read_to_string(root().join(&file)).expect("it is there").replace("nodes = 500", "nodes = 60");
    scenario = Scenario::parse(&file, &text).unwrap_or_else(|error| panic!("{error}, {}", scenario.about));
    let first = scenario.run(&file);
    assert_eq!(first, scenario.run(&file));
    scenario.seed += 1;
    assert_ne!(first.trace_hash, scenario.run(&file).trace_hash);
}
