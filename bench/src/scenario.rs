//! `damson-bench scenario`: plays a scenario file and prints its figures.

use std::path::PathBuf;

use clap::Args;
use damson_sim::{Departure, Scenario};

use crate::Result;

/// Which scenario, and what of it is to be different.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// A file as those in fixtures/scenario/
    file: PathBuf,
    /// Another seed than the file's
    #[arg(long)]
    seed: Option<u64>,
    /// Departures to switch back to the paper's rule, by name; may be repeated
    #[arg(long, value_name = "DEPARTURE", value_parser = departure)]
    without: Vec<Departure>,
    /// Seeds to play after the first one, in order
    #[arg(long, default_value_t = 0)]
    more: u64,
}

fn departure(name: &str) -> std::result::Result<Departure, String> {
    let names = || Departure::ALL.map(Departure::name).join(", ");
    Departure::parse(name).ok_or_else(|| format!("there are: {}", names()))
}

/// Plays it; an error where a bound or a checker says so.
pub(crate) fn run(options: &Options) -> Result<()> {
    let file = options.file.display().to_string();
    let text = std::fs::read_to_string(&options.file).map_err(|error| format!("{file}: {error}"))?;
    let mut scenario = Scenario::parse(&file, &text)?;
    scenario.seed = options.seed.unwrap_or(scenario.seed);
    scenario.paper.extend(&options.without);
    println!("{}\n", scenario.about);
    let first = scenario.seed;
    let mut bad = Vec::new();
    for seed in first..=first + options.more {
        scenario.seed = seed;
        let began = damson::clock::now();
        let outcome = scenario.run(&file);
        println!("{outcome}({:.1} s)\n", damson::clock::now().since(began).as_secs_f64());
        if !outcome.is_good() {
            bad.push(seed.to_string());
        }
    }
    if bad.is_empty() { Ok(()) } else { Err(format!("not as it should be with seed {}", bad.join(", ")).into()) }
}
