//! One report of everything that the simulator measures: Markdown, and SVG plots beside it.
//!
//! ```text
//!   paper, compare, curves, gossip --> figures.tsv --> README.md, *.svg
//! ```

mod curves;
mod gossip;
mod page;
mod plot;
mod record;

use std::path::PathBuf;
use std::process::Command;

use clap::Args;

use self::plot::Line;
use self::record::Record;
use crate::{Result, compare, machine, paper};

/// What is measured, how large, how often.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// Nodes of the large cases
    #[arg(long, default_value_t = 10_000)]
    nodes: u32,
    /// Seeds of each case: 1 to this
    #[arg(long, default_value_t = 4)]
    seeds: u64,
    /// The parts to measure again; those left out stay as they are in the folder. `none`: only draw
    #[arg(long, value_delimiter = ',', default_values = PARTS)]
    parts: Vec<String>,
    /// Of the part `paper`, only cases whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// How many seeds of the part `paper` run at a time, a core each
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Where the report goes
    #[arg(long, default_value = "bench/report")]
    dir: PathBuf,
}

/// The parts of the report, in the order in which they are measured.
const PARTS: [&str; 5] = ["gossip", "sampling", "curves", "compare", "paper"];
/// Messages of the models that cost next to nothing.
const GOSSIP_RUNS: u64 = 20;

/// Measures, part by part; what is there so far is a whole report each time.
pub(crate) fn run(options: &Options) -> Result<()> {
    std::fs::create_dir_all(&options.dir)?;
    let mut records = record::read(&options.dir)?;
    for part in PARTS.iter().filter(|part| options.parts.iter().any(|wanted| wanted == *part)) {
        let began = damson::clock::now();
        let mut name = (*part).to_owned();
        if *part == "paper" {
            name = if options.only.is_empty() { name } else { format!("{part}, {}", options.only) };
            measure_paper(options, &mut records)?;
        } else {
            let measured = measure(part, options)?;
            records.retain(|record| record.part != *part);
            records.extend(measured);
        }
        let seconds = damson::clock::now().since(began).as_secs_f64();
        records.retain(|record| !(record.part == "made" && record.case.starts_with(&name)));
        records.push(Record {
            part: "made".to_owned(),
            case: name,
            nodes: options.nodes,
            what: format!("{} Commit {}.", machine::describe(), commit()),
            goal: String::new(),
            who: String::new(),
            key: options.seeds as f64,
            value: seconds.round(),
        });
        record::write(&options.dir, &records)?;
        page::write(&options.dir, &records)?;
    }
    page::write(&options.dir, &records)
}

/// The part `paper`, written case by case: the whole takes long.
fn measure_paper(options: &Options, records: &mut Vec<Record>) -> Result<()> {
    let Options { nodes, seeds, jobs, dir, .. } = options;
    let paper = paper::Options { nodes: *nodes, seeds: *seeds, only: options.only.clone(), jobs: *jobs, out: None };
    paper::measure(&paper, |table| {
        records.retain(|old| old.part != "paper" || table.rows.iter().all(|row| row.case != old.case));
        for row in &table.rows {
            records.extend((1..).zip(&row.values).map(|(seed, value)| Record {
                part: "paper".to_owned(),
                case: row.case.to_owned(),
                nodes: *nodes,
                what: row.what.clone(),
                goal: row.goal.to_string(),
                who: "damson".to_owned(),
                key: f64::from(seed),
                value: *value,
            }));
        }
        record::write(dir, records)?;
        page::write(dir, records)
    })
}

fn measure(part: &str, options: &Options) -> Result<Vec<Record>> {
    let Options { nodes, seeds, .. } = *options;
    Ok(match part {
        "gossip" => lines(part, nodes, gossip::by_fanout(nodes, GOSSIP_RUNS)),
        "sampling" => gossip::sampling(nodes, GOSSIP_RUNS),
        "curves" => {
            let mut all = lines(part, nodes, curves::over_cycles(nodes, 1));
            all.extend(lines(part, nodes, curves::over_failures(nodes, 1)));
            all
        }
        _ => {
            println!("{}", compare::HEAD);
            let results = compare::measure(&compare::Options::all(nodes, seeds))?;
            let row = |row: &compare::Row| {
                let values = compare::WHO
                    .iter()
                    .zip(&row.values)
                    .flat_map(|(who, values)| (1..).zip(values).map(move |at| (who, at)));
                values
                    .map(|(who, (seed, value))| Record {
                        part: part.to_owned(),
                        case: row.case.to_owned(),
                        nodes: row.nodes,
                        what: row.what.clone(),
                        goal: String::new(),
                        who: (*who).to_owned(),
                        key: f64::from(seed),
                        value: *value,
                    })
                    .collect::<Vec<_>>()
            };
            results.rows.iter().flat_map(row).collect()
        }
    })
}

fn lines(part: &str, nodes: u32, lines: Vec<Line>) -> Vec<Record> {
    let record = |line: &Line, (x, y): (f64, f64)| Record {
        part: part.to_owned(),
        case: line.file.to_owned(),
        nodes,
        what: String::new(),
        goal: String::new(),
        who: line.curve.clone(),
        key: x,
        value: y,
    };
    lines.iter().flat_map(|line| line.points.iter().map(move |point| record(line, *point))).collect()
}

/// What was measured.
fn commit() -> String {
    let out = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let text = out.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default();
    if text.is_empty() { "unknown".to_owned() } else { text }
}
