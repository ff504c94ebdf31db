//! The result of a scenario: its figures with the bounds that the file sets, and the faults that the checkers found.

use std::fmt;

/// The bound of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// At most this.
    Most(f64),
    /// At least this.
    Least(f64),
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// The run of parts, or the time, that it belongs to.
    pub of: String,
    /// What is measured, with the unit.
    pub what: &'static str,
    /// The value.
    pub value: f64,
    /// The bound that the file sets.
    pub bound: Option<Bound>,
}

impl Figure {
    /// Returns whether the value is within its bound.
    pub fn holds(&self) -> bool {
        match self.bound {
            Some(Bound::Most(most)) => self.value <= most,
            Some(Bound::Least(least)) => self.value >= least,
            None => true,
        }
    }
}

/// The result of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// The seed of the run.
    pub seed: u64,
    /// The command that repeats the run.
    pub repeat: String,
    /// The figures.
    pub figures: Vec<Figure>,
    /// The faults that the checkers found.
    pub faults: Vec<String>,
    /// A hash of all events: equal for equal seeds.
    pub trace_hash: u64,
    /// The number of events.
    pub events: u64,
    /// The virtual time that passed, in seconds.
    pub virtual_s: f64,
}

impl Outcome {
    /// Returns whether every figure is within its bound and the checkers found no fault.
    pub fn is_good(&self) -> bool {
        self.faults.is_empty() && self.figures.iter().all(Figure::holds)
    }

    /// Returns the figure of this name.
    pub fn figure(&self, of: &str, what: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.of == of && figure.what == what).map(|figure| figure.value)
    }

    pub(super) fn add(&mut self, of: &str, what: &'static str, value: f64, bound: Option<Bound>) {
        self.figures.push(Figure { of: of.to_owned(), what, value, bound });
    }
}

/// Writes a Markdown table, then the faults and the command that repeats the run.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| of | figure | value | bound | holds |\n|---|---|---|---|---|")?;
        for figure in &self.figures {
            let (bound, holds) = match figure.bound {
                Some(Bound::Most(most)) => (format!("<= {most}"), if figure.holds() { "yes" } else { "NO" }),
                Some(Bound::Least(least)) => (format!(">= {least}"), if figure.holds() { "yes" } else { "NO" }),
                None => (String::new(), ""),
            };
            let value = (figure.value * 1_000.0).round() / 1_000.0;
            writeln!(f, "| {} | {} | {value} | {bound} | {holds} |", figure.of, figure.what)?;
        }
        writeln!(f, "\nseed {}, {} events in {:.1} s", self.seed, self.events, self.virtual_s)?;
        for fault in &self.faults {
            writeln!(f, "fault: {fault}")?;
        }
        if !self.is_good() {
            writeln!(f, "repeat: {}", self.repeat)?;
        }
        Ok(())
    }
}
