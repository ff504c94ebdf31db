//! The figures as they were measured: a text file of one a line, beside the report, from which the report is made.
//! So a part can be measured again without the others.

use std::fmt::Write as _;
use std::path::Path;

use crate::Result;

/// The file's name.
pub(crate) const FILE: &str = "figures.tsv";
const HEAD: &str = "part\tcase\tnodes\tfigure\tgoal\twho\tseed or x\tvalue";

/// One reading.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    /// Which part of the report measured it.
    pub(crate) part: String,
    pub(crate) case: String,
    pub(crate) nodes: u32,
    pub(crate) what: String,
    /// `<= 1`, `>= 1`, or nothing.
    pub(crate) goal: String,
    pub(crate) who: String,
    /// The seed; of a curve: x.
    pub(crate) key: f64,
    pub(crate) value: f64,
}

impl Record {
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split('\t').collect();
        let [part, case, nodes, what, goal, who, key, value] = fields[..] else { return None };
        Some(Record {
            part: part.to_owned(),
            case: case.to_owned(),
            nodes: nodes.parse().ok()?,
            what: what.to_owned(),
            goal: goal.to_owned(),
            who: who.to_owned(),
            key: key.parse().ok()?,
            value: value.parse().ok()?,
        })
    }
}

/// Reads a folder's figures; none where there is no file yet.
pub(crate) fn read(folder: &Path) -> Result<Vec<Record>> {
    let path = folder.join(FILE);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(&path)?;
    let parse = |(n, line): (usize, &str)| {
        Record::parse(line).ok_or_else(|| format!("{}:{}: not a figure", path.display(), n + 1).into())
    };
    text.lines().enumerate().skip(1).map(parse).collect()
}

/// Writes them.
pub(crate) fn write(folder: &Path, records: &[Record]) -> Result<()> {
    let mut text = format!("{HEAD}\n");
    for Record { part, case, nodes, what, goal, who, key, value } in records {
        writeln!(text, "{part}\t{case}\t{nodes}\t{what}\t{goal}\t{who}\t{key}\t{value}")?;
    }
    std::fs::write(folder.join(FILE), text)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let record = |value: f64| Record {
            part: "paper".to_owned(),
            case: "halves cut for 60 s".to_owned(),
            nodes: 2_000,
            what: "one overlay again, s".to_owned(),
            goal: "<= 10".to_owned(),
            who: "damson".to_owned(),
            key: 1.0,
            value,
        };
        let records = vec![record(0.1), record(f64::INFINITY)];
        assert_eq!(read(folder.path()).expect("no file is no figures"), []);
        write(folder.path(), &records).expect("the folder is there");
        assert_eq!(read(folder.path()).expect("as written"), records);
    }
}
