//! The table: mean and worst of each figure over the seeds.

use std::fmt::Write as _;

use super::{Figure, Goal};

struct Row {
    case: &'static str,
    what: String,
    goal: Goal,
    values: Vec<f64>,
}

/// All figures so far.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

impl Table {
    pub(crate) fn add(&mut self, case: &'static str, figure: &Figure) {
        match self.rows.iter_mut().find(|row| row.case == case && row.what == figure.what) {
            Some(row) => row.values.push(figure.value),
            None => {
                let Figure { what, goal, value } = figure.clone();
                self.rows.push(Row { case, what, goal, values: vec![value] });
            }
        }
    }

    /// The rows of the case that came last.
    pub(crate) fn last_case(&self) -> String {
        let last = self.rows.last().map_or("", |row| row.case);
        let rows: Vec<String> = self.rows.iter().filter(|row| row.case == last).map(Row::markdown).collect();
        rows.join("\n")
    }

    pub(crate) fn markdown(&self, nodes: u32, seeds: u64) -> String {
        let mut out = format!(
            "# Overlay and broadcast in figures\n\n\
             Made by `cargo run --release -p damson-bench -- paper --nodes {nodes} --seeds {seeds} --out ...`: the node's own\n\
             cores in the simulator (`src/sim/`). Means and worsts of {seeds} seeds.\n\n\
             | case | figure | goal | mean | worst | met |\n|---|---|---|---|---|---|\n"
        );
        for row in &self.rows {
            let _ = writeln!(out, "{}", row.markdown());
        }
        out
    }
}

impl Row {
    fn markdown(&self) -> String {
        let mean = self.values.iter().sum::<f64>() / self.values.len().max(1) as f64;
        let largest = self.values.iter().copied().fold(f64::MIN, f64::max);
        let least = self.values.iter().copied().fold(f64::MAX, f64::min);
        let (goal, worst, met) = match self.goal {
            Goal::Most(goal) => (format!("<= {goal}"), largest, if largest <= goal { "yes" } else { "no" }),
            Goal::Least(goal) => (format!(">= {goal}"), least, if least >= goal { "yes" } else { "no" }),
            Goal::None => (String::new(), largest, ""),
        };
        let Row { case, what, .. } = self;
        format!("| {case} | {what} | {goal} | {} | {} | {met} |", number(mean), number(worst))
    }
}

/// Four digits that matter.
fn number(value: f64) -> String {
    let digits = if value == 0.0 { 0 } else { (3 - value.abs().log10().floor() as i32).clamp(0, 6) };
    format!("{value:.*}", digits as usize)
}
