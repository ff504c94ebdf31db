//! The table: mean and worst of each figure over the seeds.

use std::fmt::Write as _;

use super::{Figure, Goal};

/// A figure, by seed.
pub(crate) struct Row {
    pub(crate) case: &'static str,
    pub(crate) what: String,
    pub(crate) goal: Goal,
    pub(crate) values: Vec<f64>,
}

/// All figures so far.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) rows: Vec<Row>,
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
    pub(crate) fn markdown(&self) -> String {
        let mean = self.values.iter().sum::<f64>() / self.values.len().max(1) as f64;
        let Row { case, what, goal, values } = self;
        let met = match goal {
            Goal::None => "",
            _ if goal.met(values) => "yes",
            _ => "no",
        };
        format!("| {case} | {what} | {goal} | {} | {} | {met} |", number(mean), number(goal.worst(values)))
    }
}

/// Four digits that matter.
pub(crate) fn number(value: f64) -> String {
    if value.is_infinite() {
        return "never".to_owned();
    }
    let digits = if value == 0.0 { 0 } else { (3 - value.abs().log10().floor() as i32).clamp(0, 6) };
    format!("{value:.*}", digits as usize)
}
