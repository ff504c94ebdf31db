//! damson's cores beside those of others, as nodes of the same simulated network: the same seeds, link delays, joins,
//! failures and messages.
//!
//! - `damson`: [`damson_sim::Member`], the node's own overlay and broadcast with the settings it ships with.
//! - `iroh-gossip`: its protocol state machine, with the settings it ships with.
//! - `plumtree + hyparview`: the two crates, with views as large as the others'.
//!
//! Messages are small (100 bytes) and links have no limit of bandwidth, since the others know no pieces: a payload
//! message of theirs is a frame. RMR counts payload messages sent, those to nodes that had one already included.

mod cases;
mod contender;
mod iroh;
mod links;
mod sile;

#[cfg(test)]
mod tests;

use clap::Args;
use damson_sim::Member;

use self::cases::Figures;
use self::iroh::Iroh;
use self::sile::Sile;
use crate::Result;
use crate::paper::report::number;

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
    /// One seed of one contender, figures by tab: how a case is measured in a process of its own
    #[arg(long, hide = true)]
    alone: Option<String>,
    #[arg(long, hide = true, default_value_t = 1)]
    seed: u64,
}

impl Options {
    /// Every case.
    pub(crate) fn all(nodes: u32, seeds: u64) -> Self {
        Options { nodes, seeds, only: String::new(), alone: None, seed: 1 }
    }
}

/// Who is compared, in the order of the columns.
pub(crate) const WHO: [&str; 3] = ["damson", "iroh-gossip", "plumtree + hyparview"];

type Run = fn(u32, u64) -> Figures;

struct Case {
    name: &'static str,
    /// It runs with so many times fewer nodes.
    share: u32,
    /// By contender.
    run: [Option<Run>; 3],
    /// In a process of its own, whose memory nobody else has touched.
    alone: bool,
}

macro_rules! all {
    ($case:ident) => {
        [Some(cases::$case::<Member> as Run), Some(cases::$case::<Iroh> as Run), Some(cases::$case::<Sile> as Run)]
    };
}

const fn case(name: &'static str, share: u32, run: [Option<Run>; 3]) -> Case {
    Case { name, share, run, alone: false }
}

const ALL: [Case; 11] = [
    case("steady, equal links", 1, all!(equal)),
    case("steady, links U(5,50) ms", 1, all!(uneven)),
    case("steady, a world of regions", 1, all!(world)),
    // damson has a tree for each stream, and its figure is the paper bench's ("50 streams").
    case("50 senders in one swarm", 10, [None, Some(cases::senders::<Iroh>), Some(cases::senders::<Sile>)]),
    case("50 senders, a topic each", 50, [None, Some(cases::topics), None]),
    case("mass kill, dials refused", 5, all!(kill_refused)),
    case("mass kill, dials time out", 5, all!(kill_silent)),
    case("95 % killed, one of 5 bootstrap addresses lives", 5, all!(kill_most)),
    case("all join one contact at once", 1, all!(storm)),
    case("halves cut for 60 s", 5, all!(halves)),
    Case { name: "scale", share: 1, run: all!(cost), alone: true },
];

/// A figure of each contender, by seed.
pub(crate) struct Row {
    pub(crate) case: String,
    pub(crate) nodes: u32,
    pub(crate) what: String,
    /// By contender.
    pub(crate) values: [Vec<f64>; 3],
}

/// All figures.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) rows: Vec<Row>,
}

/// Runs the cases and prints the table as it grows.
pub(crate) fn run(options: &Options) -> Result<()> {
    match &options.alone {
        Some(who) => alone(options, who),
        None => {
            println!("{HEAD}");
            measure(options).map(|_| ())
        }
    }
}

fn alone(options: &Options, who: &str) -> Result<()> {
    let case = ALL.iter().find(|case| case.name == options.only).ok_or("no such case")?;
    let column = WHO.iter().position(|name| *name == who).ok_or("no such contender")?;
    let run = case.run[column].ok_or("it takes no part in this case")?;
    for (what, value) in run(options.nodes / case.share, options.seed) {
        println!("{what}\t{value}");
    }
    Ok(())
}

/// Runs the cases; prints each row.
pub(crate) fn measure(options: &Options) -> Result<Results> {
    let mut results = Results::default();
    for case in ALL.iter().filter(|case| case.name.contains(&options.only)) {
        for seed in 1..=options.seeds {
            for (column, run) in case.run.iter().enumerate() {
                let Some(run) = run else { continue };
                let figures = if case.alone {
                    child(case, WHO[column], options.nodes, seed)?
                } else {
                    run(options.nodes / case.share, seed)
                };
                for (what, value) in figures {
                    results.add(case.name, options.nodes / case.share, column, &what, value);
                }
            }
        }
        for row in results.rows.iter().filter(|row| row.case == case.name) {
            println!("{}", row.markdown());
        }
    }
    Ok(results)
}

/// One run in a process of its own.
fn child(case: &Case, who: &str, nodes: u32, seed: u64) -> Result<Figures> {
    let (nodes, seed) = (nodes.to_string(), seed.to_string());
    let out = std::process::Command::new(std::env::current_exe()?)
        .args(["compare", "--only", case.name, "--alone", who, "--nodes", &nodes, "--seed", &seed])
        .output()?;
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).into_owned().into());
    }
    let text = String::from_utf8(out.stdout)?;
    let figure =
        |line: &str| line.split_once('\t').and_then(|(what, value)| Some((what.to_owned(), value.parse().ok()?)));
    Ok(text.lines().filter_map(figure).collect())
}

/// The table's head.
pub(crate) const HEAD: &str = "| case | nodes | figure | damson | iroh-gossip | plumtree + hyparview | damson / iroh-gossip |\n\
                               |---|---|---|---|---|---|---|";

impl Results {
    /// From figures: case, nodes, figure, contender, value.
    pub(crate) fn of<'a>(figures: impl Iterator<Item = (&'a str, u32, &'a str, &'a str, f64)>) -> Self {
        let mut results = Results::default();
        for (case, nodes, what, who, value) in figures {
            if let Some(column) = WHO.iter().position(|name| *name == who) {
                results.add(case, nodes, column, what, value);
            }
        }
        results
    }

    fn add(&mut self, case: &str, nodes: u32, column: usize, what: &str, value: f64) {
        let at = match self.rows.iter().position(|row| row.case == case && row.what == what) {
            Some(at) => at,
            None => {
                let (case, what) = (case.to_owned(), what.to_owned());
                self.rows.push(Row { case, nodes, what, values: Default::default() });
                self.rows.len() - 1
            }
        };
        self.rows[at].values[column].push(value);
    }
}

impl Row {
    /// Mean, and the worst of the seeds in brackets.
    pub(crate) fn markdown(&self) -> String {
        let cell = |values: &Vec<f64>| match mean(values) {
            None => "-".to_owned(),
            Some(mean) => format!("{} ({})", number(mean), number(self.worst(values))),
        };
        let ratio = match (mean(&self.values[0]), mean(&self.values[1])) {
            (Some(ours), Some(theirs)) if theirs > 0.0 && (ours / theirs).is_finite() => number(ours / theirs),
            _ => "-".to_owned(),
        };
        let [ours, iroh, sile] = &self.values;
        let (case, nodes, what) = (&self.case, self.nodes, &self.what);
        format!("| {case} | {nodes} | {what} | {} | {} | {} | {ratio} |", cell(ours), cell(iroh), cell(sile))
    }

    /// Shares are good when large, all else when small.
    fn worst(&self, values: &[f64]) -> f64 {
        if self.what.ends_with('%') {
            values.iter().copied().fold(f64::INFINITY, f64::min)
        } else {
            values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
        }
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
