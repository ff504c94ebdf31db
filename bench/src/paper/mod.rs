//! `damson-bench paper`: the protocols' figures, from the node's own cores in the simulator.
//!
//! Each case runs with some seeds and gives figures beside their goals; the report is one Markdown table
//! of means and worsts. Virtual time: what the machine does meanwhile changes nothing but `scale`.

mod cases;
mod departures;
mod failures;
pub(crate) mod load;
pub(crate) mod report;
pub(crate) mod world;

use std::path::PathBuf;

use clap::Args;

use crate::Result;

/// Which cases, how large, how often.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// Nodes of the large cases
    #[arg(long, default_value_t = 10_000)]
    pub(crate) nodes: u32,
    /// Seeds of each case: 1 to this
    #[arg(long, default_value_t = 4)]
    pub(crate) seeds: u64,
    /// Only cases whose name contains this
    #[arg(long, default_value = "")]
    pub(crate) only: String,
    /// How many seeds run at a time, a core each
    #[arg(long, default_value_t = 1)]
    pub(crate) jobs: usize,
    /// Where the report goes; only printed without it
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

/// A figure's goal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    /// At most so much.
    Most(f64),
    /// At least so much.
    Least(f64),
    /// Shown for comparison.
    None,
}

impl Goal {
    /// As it is displayed.
    pub(crate) fn parse(text: &str) -> Self {
        let number = |text: &str| text.trim().parse().ok();
        let most = text.strip_prefix("<=").and_then(number).map(Goal::Most);
        most.or_else(|| text.strip_prefix(">=").and_then(number).map(Goal::Least)).unwrap_or(Goal::None)
    }

    /// The reading farthest on the wrong side; the largest where there is no goal.
    pub(crate) fn worst(self, values: &[f64]) -> f64 {
        match self {
            Goal::Least(_) => values.iter().copied().fold(f64::INFINITY, f64::min),
            Goal::Most(_) | Goal::None => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }

    /// Whether each reading meets it.
    pub(crate) fn met(self, values: &[f64]) -> bool {
        match self {
            Goal::Most(goal) => self.worst(values) <= goal,
            Goal::Least(goal) => self.worst(values) >= goal,
            Goal::None => true,
        }
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Goal::Most(goal) => write!(f, "<= {goal}"),
            Goal::Least(goal) => write!(f, ">= {goal}"),
            Goal::None => Ok(()),
        }
    }
}

/// One figure of one run.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) what: String,
    pub(crate) goal: Goal,
    pub(crate) value: f64,
}

/// Makes figures.
pub(crate) fn figure(what: impl Into<String>, goal: Goal, value: f64) -> Figure {
    Figure { what: what.into(), goal, value }
}

/// A case: its name, and what it gives for a number of nodes and a seed.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn(u32, u64) -> Vec<Figure>,
}

/// The one case whose figures are the machine's: it runs alone.
const SCALE: &str = "scale";

/// Runs the cases, and writes the report.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut table = report::Table::default();
    measure(options, |case| {
        table.rows.extend(case.rows);
        Ok(())
    })?;
    if let Some(path) = &options.out {
        std::fs::write(path, table.markdown(options.nodes, options.seeds))?;
    }
    Ok(())
}

/// Runs the cases, prints their rows as they come, and hands on each case's table.
pub(crate) fn measure(options: &Options, mut done: impl FnMut(report::Table) -> Result<()>) -> Result<()> {
    for case in cases::ALL.iter().chain(&failures::ALL).chain(&load::ALL).chain(&departures::ALL) {
        if !case.name.contains(&options.only) {
            continue;
        }
        let at_once = if case.name == SCALE { 1 } else { options.jobs.max(1) };
        let seeds: Vec<u64> = (1..=options.seeds).collect();
        let mut table = report::Table::default();
        for seeds in seeds.chunks(at_once) {
            let figures: Vec<Vec<Figure>> = std::thread::scope(|scope| {
                let runs: Vec<_> = seeds.iter().map(|seed| scope.spawn(|| (case.run)(options.nodes, *seed))).collect();
                let figures = runs.into_iter().map(|run| run.join().map_err(|_| format!("{} fails", case.name)));
                figures.collect::<std::result::Result<_, String>>()
            })?;
            for figure in figures.iter().flatten() {
                table.add(case.name, figure);
            }
        }
        println!("{}", table.rows.iter().map(report::Row::markdown).collect::<Vec<_>>().join("\n"));
        done(table)?;
    }
    Ok(())
}
