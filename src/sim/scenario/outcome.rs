//! What came of a scenario: figures, the bounds that the file sets them, and what the checkers found.

use std::fmt;

/// What a figure must be.
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
    /// Of which parts, or when.
    pub of: String,
    /// What, with its unit.
    pub what: &'static str,
    /// How much.
    pub value: f64,
    /// What it must be.
    pub bound: Option<Bound>,
}

impl Figure {
    /// Whether it is as it must be.
    pub fn holds(&self) -> bool {
        match self.bound {
            Some(Bound::Most(most)) => self.value <= most,
            Some(Bound::Least(least)) => self.value >= least,
            None => true,
        }
    }
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// The command that repeats it.
    pub repeat: String,
    /// Its figures.
    pub figures: Vec<Figure>,
    /// What the checkers found.
    pub faults: Vec<String>,
    /// A hash of all that happened: equal for equal seeds.
    pub trace_hash: u64,
    /// How many events there were.
    pub events: u64,
    /// How much virtual time passed, in seconds.
    pub virtual_s: f64,
}

impl Outcome {
    /// Whether every figure holds and the checkers found nothing.
    pub fn is_good(&self) -> bool {
        self.faults.is_empty() && self.figures.iter().all(Figure::holds)
    }

    /// The figure of this name.
    pub fn figure(&self, of: &str, what: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.of == of && figure.what == what).map(|figure| figure.value)
    }

    pub(super) fn add(&mut self, of: &str, what: &'static str, value: f64, bound: Option<Bound>) {
        self.figures.push(Figure { of: of.to_owned(), what, value, bound });
    }
}

/// A Markdown table, and below it what is wrong and how to repeat that.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| of | figure | value | bound | holds |\n|---|---|---|---|---|")?;
        for figure in &self.figures {
            let bound = match figure.bound {
                Some(Bound::Most(most)) => format!("<= {most}"),
                Some(Bound::Least(least)) => format!(">= {least}"),
                None => String::new(),
            };
            let holds = match (figure.bound, figure.holds()) {
                (None, _) => "",
                (_, true) => "yes",
                (_, false) => "NO",
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
