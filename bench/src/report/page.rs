//! The report's page, from the figures alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::plot::{Line, Plot};
use super::record::Record;
use crate::Result;
use crate::paper::Goal;
use crate::paper::report::number;

const CYCLES: [Plot; 5] = [
    cycles("rmr.svg", "Relative message redundancy over cycles", "RMR", "RMR"),
    cycles("ldh.svg", "Last delivery hop over cycles", "LDH", "hops"),
    cycles("reliability.svg", "Reliability over cycles", "reliability, %", "% of the living"),
    cycles("payload.svg", "Payload messages a cycle", "payload", "messages"),
    cycles("control.svg", "Control messages a cycle", "control", "messages"),
];

const KILLED: [Plot; 4] = [
    killed("killed-reliability.svg", "Reliability after a mass failure", "reached, %", "% of the survivors"),
    killed("killed-rmr.svg", "RMR 20-30 s after a mass failure", "RMR", "RMR"),
    killed("killed-ldh.svg", "Last delivery hop 20-30 s after a mass failure", "LDH", "hops"),
    killed("killed-recovery.svg", "Until every message reaches all within 2 s (40: not in 30 s)", "recovered, s", "s"),
];

const GOSSIP: [Plot; 4] = [
    fanout("gossip-reliability.svg", "Plain gossip: nodes reached", "reached, %", "%"),
    fanout("gossip-atomic.svg", "Plain gossip: messages that reach all", "reached all, %", "%"),
    fanout("gossip-rmr.svg", "Plain gossip: redundancy", "RMR", "RMR"),
    fanout("gossip-ldh.svg", "Plain gossip: last delivery hop", "LDH", "hops"),
];

const fn cycles(file: &'static str, title: &'static str, short: &'static str, y: &'static str) -> Plot {
    Plot { file, title, short, x: "cycle (50 nodes killed at 100)", y }
}

const fn killed(file: &'static str, title: &'static str, short: &'static str, y: &'static str) -> Plot {
    Plot { file, title, short, x: "% of the nodes killed at once", y }
}

const fn fanout(file: &'static str, title: &'static str, short: &'static str, y: &'static str) -> Plot {
    Plot { file, title, short, x: "fanout", y }
}

/// Where iroh-gossip's figure has another name in `compare` than damson's in `paper`: case and figure of both.
const SAME: [[&str; 4]; 9] = [
    [UNEVEN, "time rule: RMR", UNEVEN, "RMR"],
    [UNEVEN, "hop rule: RMR", UNEVEN, "RMR"],
    [UNEVEN, "hop rule: LDH", UNEVEN, "LDH"],
    [UNEVEN, "time rule: last node, ms", UNEVEN, "last node, ms"],
    [UNEVEN, "time rule: reached, %", UNEVEN, "reached, %"],
    ["50 streams", "RMR", "50 senders in one swarm", "RMR"],
    [
        "95 % killed",
        "one of 5 bootstrap addresses lives: first message in 10 s, %",
        KILLED_MOST,
        "first message in 10 s, %",
    ],
    ["95 % killed", "one of 5 bootstrap addresses lives: the same in 60 s, %", KILLED_MOST, "the same in 60 s, %"],
    ["halves cut for 60 s", "every part everywhere, s", "halves cut for 60 s", "the last 30 s of parts everywhere, s"],
];
const UNEVEN: &str = "steady, links U(5,50) ms";
const WORLD: &str = "steady, a world of regions";
const KILLED_MOST: &str = "95 % killed, one of 5 bootstrap addresses lives";

/// Writes page and plots; parts that were never measured are left out.
pub(crate) fn write(folder: &Path, records: &[Record]) -> Result<()> {
    let mut page = "# Overlay and broadcast in figures\n\n\
        This page is generated: `cargo run --release -p damson-bench -- report` writes it from the figures in `figures.tsv`.\n\
        The node's own cores run in the simulator (`src/sim/`), in virtual time. The machine changes nothing but the case\n\
        `scale`. Other figures, and how they are made: [bench/README.md](../README.md).\n\n"
        .to_owned();
    made(&mut page, records)?;
    page += "The goals are set for 10,000 nodes. Cases that take long (failures, large bodies, many streams) run with a\n\
             fifth to a hundredth of the nodes.\n\n";
    goals(&mut page, records)?;
    peers(&mut page, records)?;
    let sections: [(&str, &str, &[Plot]); 3] = [
        ("The paper's curves", CYCLES_TEXT, &CYCLES),
        ("Mass failures", KILLED_TEXT, &KILLED),
        ("Plain gossip", GOSSIP_TEXT, &GOSSIP),
    ];
    for (title, text, plots) in sections {
        let drawn: Vec<(&Plot, Vec<Line>)> =
            plots.iter().map(|plot| (plot, curves(plot, records))).filter(|(_, lines)| !lines.is_empty()).collect();
        if drawn.is_empty() {
            continue;
        }
        write!(page, "## {title}\n\n{text}\n\n")?;
        let table = if title == "The paper's curves" { by_curve(&drawn) } else { by_x(&drawn) };
        writeln!(page, "{table}")?;
        for (plot, lines) in drawn {
            plot.write(&lines, folder)?;
            writeln!(page, "{}", plot.markdown())?;
        }
        page.push('\n');
    }
    sampling(&mut page, records)?;
    std::fs::write(folder.join("README.md"), page.trim_end().to_owned() + "\n")?;
    Ok(())
}

const CYCLES_TEXT: &str = "\
    These runs keep the paper's rules (`Config::paper()`): HyParView with a fanout of 4 and a passive view of 30, links\n\
    of 20 ms, a message each cycle of 2 s, 50 nodes killed at cycle 100. The optimisation's threshold is 3 with one\n\
    sender and 7 with more. Eager push, lazy push and unicast to all are counted over the overlay of the same run.\n\
    There is one seed. A point is the mean of 5 cycles.";
const KILLED_TEXT: &str = "\
    A share of all nodes dies at once. Links take U(5,50) ms by damson's rules, 20 ms by the paper's. Dead links are\n\
    noticed after 0.5 to 1.5 s, and dials to dead nodes are refused. One source sends a message a second from the\n\
    moment of the kill. There is one seed.";
const GOSSIP_TEXT: &str = "\
    A node that hears of a message for the first time tells f others (the fanout), chosen among all nodes. Theory says:\n\
    the share r that is reached solves r = 1 - e^(-f r). All nodes are reached with probability e^(-n e^(-f)). RMR is\n\
    f - 1. The message spreads for ln n / ln f rounds, and reaches the last nodes ln n / ln(1 / (f (1 - r))) rounds\n\
    later. Figures are means of 20 runs. Runs that died out at the start count only for \"messages that reach all\".";

fn made(page: &mut String, records: &[Record]) -> Result<()> {
    writeln!(page, "| part | nodes | seeds | took, s | on |\n|---|---|---|---|---|")?;
    for Record { case, nodes, key, value, what, .. } in records.iter().filter(|record| record.part == "made") {
        // The models of gossip have runs of their own, and a curve one seed.
        let seeds = match case.as_str() {
            "gossip" | "sampling" => "20".to_owned(),
            "curves" => "1".to_owned(),
            _ => key.to_string(),
        };
        let took = if value.is_nan() { "-".to_owned() } else { value.to_string() };
        writeln!(page, "| {case} | {nodes} | {seeds} | {took} | {what} |")?;
    }
    page.push('\n');
    Ok(())
}

/// The readings of one figure.
fn values(records: &[Record], part: &str, case: &str, what: &str, who: &str) -> Vec<f64> {
    let is = |r: &&Record| r.part == part && r.case == case && r.what == what && r.who == who;
    records.iter().filter(is).map(|record| record.value).collect()
}

fn mean(values: &[f64]) -> String {
    if values.is_empty() { "-".to_owned() } else { number(values.iter().sum::<f64>() / values.len() as f64) }
}

/// iroh-gossip's mean of the same figure in the same network.
fn iroh(records: &[Record], case: &str, what: &str) -> String {
    let (case, what) =
        SAME.iter().find(|same| same[0] == case && same[1] == what).map_or((case, what), |same| (same[2], same[3]));
    mean(&values(records, "compare", case, what, "iroh-gossip"))
}

fn goals(page: &mut String, records: &[Record]) -> Result<()> {
    let mut rows: Vec<(String, String, Goal, Vec<f64>)> = Vec::new();
    for (case, goal) in [(UNEVEN, 0.9), (WORLD, 0.7)] {
        let last = |who| values(records, "compare", case, "last node, ms", who);
        let ratios: Vec<f64> =
            last("damson").iter().zip(last("iroh-gossip")).map(|(ours, theirs)| ours / theirs).collect();
        if !ratios.is_empty() {
            rows.push((case.to_owned(), "last node over iroh-gossip's".to_owned(), Goal::Most(goal), ratios));
        }
    }
    for record in records.iter().filter(|record| record.part == "paper") {
        match rows.iter_mut().find(|row| row.0 == record.case && row.1 == record.what) {
            Some(row) => row.3.push(record.value),
            None => {
                rows.push((record.case.clone(), record.what.clone(), Goal::parse(&record.goal), vec![record.value]))
            }
        }
    }
    let (with, without): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.2 != Goal::None);
    if with.is_empty() && without.is_empty() {
        return Ok(());
    }
    let met = with.iter().filter(|row| row.2.met(&row.3)).count();
    write!(
        page,
        "## Goals\n\n{met} of {} goals are met by the worst of the seeds. The column iroh-gossip has its mean in the same network, see\n\
         below; its failures run with a fifth of the nodes.\n\n\
         | case | figure | goal | mean | worst | met | iroh-gossip |\n|---|---|---|---|---|---|---|\n",
        with.len()
    )?;
    for (case, what, goal, values) in with {
        let met = if goal.met(values) { "yes" } else { "**no**" };
        let (worst, theirs) = (number(goal.worst(values)), iroh(records, case, what));
        writeln!(page, "| {case} | {what} | {goal} | {} | {worst} | {met} | {theirs} |", mean(values))?;
    }
    write!(
        page,
        "\nFigures without a goal:\n\n| case | figure | mean | least | most | iroh-gossip |\n|---|---|---|---|---|---|\n"
    )?;
    for (case, what, _, values) in without {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let theirs = iroh(records, case, what);
        writeln!(page, "| {case} | {what} | {} | {} | {} | {theirs} |", mean(values), number(least), number(most))?;
    }
    page.push('\n');
    Ok(())
}

/// The table of `damson-bench compare`.
fn peers(page: &mut String, records: &[Record]) -> Result<()> {
    let results =
        crate::compare::Results::of(records.iter().filter(|record| record.part == "compare").map(|record| {
            (record.case.as_str(), record.nodes, record.what.as_str(), record.who.as_str(), record.value)
        }));
    if results.rows.is_empty() {
        return Ok(());
    }
    write!(page, "## Beside other implementations\n\n{PEERS_TEXT}\n\n{}\n", crate::compare::HEAD)?;
    for row in &results.rows {
        writeln!(page, "{}", row.markdown())?;
    }
    page.push('\n');
    Ok(())
}

const PEERS_TEXT: &str = "\
    The crates `iroh-gossip` 0.101 (its `proto`, as it ships) and `plumtree` 0.1 with `hyparview` 0.1 run as nodes of\n\
    the same network: the same seeds, delays, joins, failures, and messages of 100 bytes. The views of the latter are as\n\
    large as the others', and it is driven as often as plumcast drives it. Figures are means; brackets have the worst\n\
    of the seeds.";

/// A plot's curves.
fn curves(plot: &Plot, records: &[Record]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for record in records.iter().filter(|record| record.case == plot.file) {
        let point = (record.key, record.value);
        match lines.iter_mut().find(|line| line.curve == record.who) {
            Some(line) => line.points.push(point),
            None => lines.push(Line { file: plot.file, curve: record.who.clone(), points: vec![point] }),
        }
    }
    lines
}

/// A row for each curve: means of cycles 20 to 95 and 105 to 195.
fn by_curve(plots: &[(&Plot, Vec<Line>)]) -> String {
    let mut head = "| broadcast |".to_owned();
    let mut rows: BTreeMap<usize, String> = BTreeMap::new();
    for (plot, lines) in plots {
        head += &format!(" {} | after 100 |", plot.short);
        for (n, line) in lines.iter().enumerate() {
            let over = |from: f64, to: f64| {
                let values: Vec<f64> = line.points.iter().filter(|p| p.0 >= from && p.0 <= to).map(|p| p.1).collect();
                mean(&values)
            };
            let row = rows.entry(n).or_insert_with(|| format!("| {} |", line.curve));
            *row += &format!(" {} | {} |", over(20.0, 95.0), over(105.0, 195.0));
        }
    }
    table(&head, rows.into_values())
}

/// A row for each x.
fn by_x(plots: &[(&Plot, Vec<Line>)]) -> String {
    let mut head = format!("| {} |", plots[0].0.x);
    let mut rows: BTreeMap<u64, String> = BTreeMap::new();
    for (plot, lines) in plots {
        for line in lines {
            head += &format!(" {}: {} |", plot.short, line.curve);
            for (x, y) in &line.points {
                let row = rows.entry(*x as u64).or_insert_with(|| format!("| {x} |"));
                *row += &format!(" {} |", number(*y));
            }
        }
    }
    table(&head, rows.into_values())
}

fn table(head: &str, rows: impl Iterator<Item = String>) -> String {
    let rule = "|---".repeat(head.matches('|').count() - 1);
    let rows: String = rows.map(|row| row + "\n").collect();
    format!("{head}\n{rule}|\n{rows}")
}

fn sampling(page: &mut String, records: &[Record]) -> Result<()> {
    let mut rows: Vec<(&str, &str)> = Vec::new();
    let mut whats: Vec<&str> = Vec::new();
    for record in records.iter().filter(|record| record.part == "sampling") {
        let row = (record.case.as_str(), record.who.as_str());
        if !rows.contains(&row) {
            rows.push(row);
        }
        if !whats.contains(&record.what.as_str()) {
            whats.push(&record.what);
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    let head = whats.iter().fold("| fanout | told |".to_owned(), |head, what| format!("{head} {what} |"));
    let rows = rows.iter().map(|(case, who)| {
        let cell = |what: &&str| format!(" {} |", mean(&values(records, "sampling", case, what, who)));
        format!("| {case} | {who} |{}", whats.iter().map(cell).collect::<String>())
    });
    write!(page, "## The peer sampling remark\n\n{SAMPLING_TEXT}\n\n{}\n", table(&head, rows))?;
    Ok(())
}

const SAMPLING_TEXT: &str = "\
    Plain gossip in a world of regions. Each node knows 35 others (the paper's two views) and tells each new message to\n\
    some of them. It draws them at random; or draws 6 at a time (the logarithm of 35) and tells the farthest, or the\n\
    nearest. Figures are means of 20 runs.";

#[cfg(test)]
mod tests {
    use super::*;

    fn record(part: &str, case: &str, what: &str, goal: &str, who: &str, key: f64, value: f64) -> Record {
        let text = |text: &str| text.to_owned();
        let (part, case, what, goal, who) = (text(part), text(case), text(what), text(goal), text(who));
        Record { part, case, nodes: 100, what, goal, who, key, value }
    }

    #[test]
    fn a_page_says_what_was_measured() {
        let folder = tempfile::tempdir().expect("a folder");
        let last = "last node, ms";
        let records = [
            record("paper", UNEVEN, "hop rule: LDH", "<= 15", "damson", 1.0, 14.0),
            record("paper", UNEVEN, "hop rule: LDH", "<= 15", "damson", 2.0, 18.0),
            record("compare", UNEVEN, "LDH", "", "iroh-gossip", 1.0, 19.0),
            record("compare", UNEVEN, last, "", "damson", 1.0, 100.0),
            record("compare", UNEVEN, last, "", "iroh-gossip", 1.0, 200.0),
            record("curves", "rmr.svg", "", "", "one sender", 20.0, 0.25),
            record("curves", "rmr.svg", "", "", "one sender", 110.0, 0.5),
        ];
        write(folder.path(), &records).expect("all is there");
        let page = std::fs::read_to_string(folder.path().join("README.md")).expect("a page");
        for expect in [
            "1 of 2 goals are met",
            "| steady, links U(5,50) ms | hop rule: LDH | <= 15 | 16.00 | 18.00 | **no** | 19.00 |",
            "| steady, links U(5,50) ms | last node over iroh-gossip's | <= 0.9 | 0.5000 | 0.5000 | yes | - |",
            "| broadcast | RMR | after 100 |",
            "| one sender | 0.2500 | 0.5000 |",
            "![Relative message redundancy over cycles](rmr.svg)",
        ] {
            assert!(page.contains(expect), "{expect:?} isn't in\n{page}");
        }
        let svg = std::fs::read_to_string(folder.path().join("rmr.svg")).expect("a plot");
        assert!(svg.contains("one sender") && svg.contains("polyline"), "{svg}");
    }
}
