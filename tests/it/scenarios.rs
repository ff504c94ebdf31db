//! Every scenario of fixtures/scenario/, simulated; and that each would notice it if a rule of ours were gone.

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
            let files: BTreeSet<String> =
                files.flatten().map(|file| file.file_name().to_string_lossy().into_owned()).collect();
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

#[test]
fn a_rule_that_is_gone_breaks_a_scenario() {
    let check = |name: &str, without: &[Departure]| {
        let (file, mut scenario) = load(name);
        scenario.paper.extend(without);
        let outcome = scenario.run(&file);
        let names: Vec<&str> = without.iter().map(|departure| departure.name()).collect();
        assert!(!outcome.is_good(), "{file} doesn't notice that {names:?} is gone\n{outcome}");
        assert!(outcome.repeat.contains("--seed 1 --without"), "{}", outcome.repeat);
    };
    check("mass-kill", &[Departure::WindowOffer]);
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
