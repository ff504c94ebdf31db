//! What each departure from the papers gains, and what it costs: the same network with our rule and with the
//! paper's. A tenth of the nodes of the large cases.
//!
//! Each row is a scenario in which the rule matters; its text stands here, in the format of `fixtures/scenario/`.

use damson_sim::{Departure, Scenario};

use super::{Case, Figure, Goal, figure};

/// A network in which some departures matter, and the figures that show it.
struct Setup {
    scenario: &'static str,
    /// Each is switched back alone, or with the others of its group.
    departures: &'static [&'static [&'static str]],
    /// (of which parts, what)
    figures: &'static [(&'static str, &'static str)],
}

const REACHED: &str = "reached, %";
const RMR: &str = "RMR";
const BYTES: &str = "bytes sent / needed";
const LDH: &str = "LDH";
const LAST: &str = "last node, ms";
const MEAN: &str = "mean node, ms";
const CONTROL: &str = "control frames a node and part";
const WHOLE: &str = "one overlay with every part everywhere, s";
const FULL: &str = "active views full, %";
const ISOLATED: &str = "isolated";
const ONE_SIDED: &str = "one-sided links";
const RTT: &str = "round trip of a link, ms";

/// Small parts, first and then steady, over uneven links.
const STEADY: &str = r#"
[network]
latency = { uniform-ms = [5, 50] }
[[publish]]
name = "first"
at-s = 60
parts = 1
every-ms = 2000
bytes = 1000
[[publish]]
name = "steady"
at-s = 62
parts = 80
bytes = 1000
"#;

/// The same around the world, after neighbours had five minutes to come nearer.
const WORLD: &str = r#"
[network]
latency = { world-last-mile-ms = 2 }
[[publish]]
name = "steady"
at-s = 300
parts = 80
bytes = 1000
"#;

/// 256 KB over 200 Mb/s.
const LARGE: &str = r#"
[network]
latency = { uniform-ms = [5, 50] }
upload-mbps = 200
[[publish]]
name = "building"
at-s = 60
parts = 5
every-ms = 1000
bytes = 262144
[[publish]]
name = "steady"
at-s = 65
parts = 15
every-ms = 1000
bytes = 262144
"#;

/// Eight of ten die; dials into nothing time out.
const KILL: &str = r#"
[network]
latency = { uniform-ms = [5, 50] }
dead-dials = "time-out"
[[publish]]
name = "before"
at-s = 60
parts = 10
bytes = 1000
[[event]]
at-s = 65
kill = { percent = 80 }
[[publish]]
name = "after"
at-s = 65.1
parts = 1
bytes = 1000
[end]
whole-s = 60
"#;

/// 95 % die, and one of five bootstrap addresses lives.
const BOOTSTRAP: &str = r#"
[network]
latency = { uniform-ms = [5, 50] }
[join]
contacts = [1, 2, 3, 4, 5]
[[publish]]
name = "before"
at-s = 60
parts = 10
bytes = 1000
[[event]]
at-s = 65
kill = { percent = 95, spare = [3] }
[[publish]]
name = "after"
at-s = 65.1
parts = 1
bytes = 1000
[end]
whole-s = 60
"#;

/// A tenth dies each time, and parts go on.
const CHURN: &str = r#"
[network]
latency = { uniform-ms = [5, 50] }
[[publish]]
name = "meanwhile"
at-s = 60
parts = 100
bytes = 20000
[[event]]
at-s = 65
kill = { percent = 10 }
[[event]]
at-s = 70
kill = { percent = 10 }
[[event]]
at-s = 75
kill = { percent = 10 }
"#;

/// Half is cut off for a minute.
const HALVES: &str = r#"
[network]
latency = { uniform-ms = [5, 50] }
[[event]]
at-s = 60
cut = { nodes = { percent = 50 } }
[[publish]]
name = "while cut"
at-s = 62
parts = 50
every-ms = 1000
bytes = 1000
[[event]]
at-s = 120
heal = true
[end]
whole-s = 120
"#;

/// Everybody joins one contact at once.
const STORM: &str = r#"
[network]
latency = { uniform-ms = [5, 50] }
[join]
per-second = 0
contacts = [0]
[[event]]
at-s = 30
expect = {}
"#;

/// Lost frames, torn bodies.
const LOSS: &str = r#"
[network]
latency = { uniform-ms = [5, 50] }
loss-percent = 2
torn-percent = 2
[[publish]]
name = "lossy"
at-s = 60
parts = 80
bytes = 100000
[[event]]
at-s = 76
expect = {}
[end]
whole-s = 60
"#;

const SETUPS: [Setup; 10] = [
    Setup {
        scenario: STEADY,
        departures: &[&["time-rule"], &["lazy-start"], &["promise"]],
        figures: &[
            ("first", RMR),
            ("first", LAST),
            ("steady", RMR),
            ("steady", LDH),
            ("steady", LAST),
            ("steady", CONTROL),
        ],
    },
    Setup {
        scenario: WORLD,
        departures: &[&["nearness"], &["time-rule"]],
        figures: &[("the end", RTT), ("steady", LDH), ("steady", LAST), ("steady", MEAN), ("steady", RMR)],
    },
    Setup {
        scenario: LARGE,
        departures: &[
            &["lazy-start"],
            &["size-aware-timers"],
            &["cut-through"],
            &["receiving"],
            &["early-refusal"],
            &["upload-budget"],
        ],
        figures: &[
            ("building", BYTES),
            ("building", RMR),
            ("steady", BYTES),
            ("steady", RMR),
            ("steady", LAST),
            ("steady", CONTROL),
        ],
    },
    Setup {
        scenario: KILL,
        departures: &[&["window-offer"], &["parallel-refill"], &["patience"]],
        figures: &[("after", REACHED), ("after", LAST), ("after", RMR), ("the end", WHOLE), ("the end", FULL)],
    },
    Setup {
        scenario: BOOTSTRAP,
        departures: &[&["rebootstrap"], &["patience"]],
        figures: &[("after", REACHED), ("after", LAST), ("the end", WHOLE)],
    },
    Setup {
        scenario: CHURN,
        departures: &[&["resume"], &["not-here"], &["calm-refill"]],
        figures: &[("meanwhile", LAST), ("meanwhile", MEAN), ("meanwhile", RMR), ("meanwhile", CONTROL)],
    },
    Setup {
        scenario: HALVES,
        departures: &[&["rotation"], &["rotation", "patience", "rebootstrap"]],
        figures: &[("the end", WHOLE), ("while cut", REACHED)],
    },
    Setup {
        scenario: STORM,
        departures: &[&["admission"], &["young-shuffle"], &["parallel-refill"]],
        figures: &[("at 30 s", ISOLATED), ("at 30 s", FULL), ("at 30 s", ONE_SIDED), ("the end", WHOLE)],
    },
    Setup {
        scenario: LOSS,
        departures: &[&["digests"], &["resume"], &["not-here"]],
        figures: &[("lossy", REACHED), ("lossy", BYTES), ("lossy", LAST), ("lossy", CONTROL), ("the end", WHOLE)],
    },
    Setup {
        scenario: WORLD,
        departures: &[&["tree-links"]],
        figures: &[("steady", RMR), ("steady", LAST), ("steady", CONTROL)],
    },
];

/// The network's name in a row.
fn name(scenario: &str) -> &'static str {
    let names = [
        (STEADY, "steady"),
        (WORLD, "world"),
        (LARGE, "large bodies"),
        (KILL, "80 % killed"),
        (BOOTSTRAP, "95 % killed"),
        (CHURN, "churn"),
        (HALVES, "halves"),
        (STORM, "join storm"),
        (LOSS, "loss"),
    ];
    names.into_iter().find(|(text, _)| *text == scenario).map_or("", |(_, name)| name)
}

pub(crate) const ALL: [Case; 1] = [Case { name: "departures", run }];

fn run(n: u32, seed: u64) -> Vec<Figure> {
    let mut rows = Vec::new();
    for setup in &SETUPS {
        let network = name(setup.scenario);
        let play = |paper: &[&str]| {
            let text = format!("about = \"{network}\"\nnodes = {}\nseed = {seed}\n{}", n / 10, setup.scenario);
            let mut scenario = Scenario::parse(network, &text).expect("our own text");
            scenario.paper.extend(paper.iter().filter_map(|name| Departure::parse(name)));
            scenario.run(network)
        };
        let ours = play(&[]);
        for departures in setup.departures {
            let papers = play(departures);
            for (of, what) in setup.figures {
                let row = format!("{}, {network}: {of}: {what}", departures.join(" + "));
                let value = |outcome: &damson_sim::Outcome| outcome.figure(of, what).unwrap_or(f64::NAN);
                rows.push(figure(format!("{row}: ours"), Goal::None, value(&ours)));
                rows.push(figure(format!("{row}: the paper's"), Goal::None, value(&papers)));
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_departure_is_measured_by_figures_that_there_are() {
        let measured: BTreeSet<&str> = SETUPS.iter().flat_map(|setup| setup.departures.concat()).collect();
        assert_eq!(measured, Departure::ALL.iter().map(|departure| departure.name()).collect());
        for setup in &SETUPS {
            let text = format!("about = \"\"\nnodes = 20\nseed = 1\n{}", setup.scenario);
            let outcome = Scenario::parse(name(setup.scenario), &text).expect("our own text").run("");
            for (of, what) in setup.figures {
                assert!(outcome.figure(of, what).is_some(), "{}: {of}, {what}", name(setup.scenario));
            }
        }
    }
}
