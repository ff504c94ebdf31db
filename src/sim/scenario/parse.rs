//! Reading a scenario. Errors name the file, the line and the key.

use damson_core::model::TrackId;
use damson_core::model::part_header::BODY_LEN_MAX;
use toml::Spanned;

use super::{Choice, Core, Event, Scenario};

/// A fault of a scenario file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {key}: {what}")]
pub struct ScenarioError {
    /// The file's name, as it was given.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The key on it.
    pub key: String,
    /// The fault.
    pub what: String,
}

/// The most nodes of a scenario, joined later ones included.
const NODES_MAX: u64 = 1_000_000;
/// The most parts of a run.
const PARTS_MAX: u32 = 100_000;

impl Scenario {
    /// Reads a scenario; `file` is only its name, for errors.
    pub fn parse(file: &str, text: &str) -> Result<Scenario, ScenarioError> {
        let scenario: Scenario = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let (line, key) = place(text, at);
            ScenarioError { file: file.to_owned(), line, key, what: error.message().to_owned() }
        })?;
        let later = scenario.event.iter().filter_map(|event| event.get_ref().join.as_ref());
        let nodes = u64::from(scenario.nodes) + later.map(|storm| u64::from(storm.count)).sum::<u64>();
        let check = Check { file, text, nodes };
        check.scenario(&scenario)?;
        Ok(scenario)
    }
}

/// Returns the line of a byte, from 1, and the key on it, with its table's name.
fn place(text: &str, at: usize) -> (usize, String) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let this = text.lines().nth(line - 1).unwrap_or("").trim();
    let table = text.lines().take(line).map(str::trim).filter(|line| line.starts_with('[')).last().unwrap_or("");
    let table = table.trim_matches(['[', ']']);
    let key = if this.starts_with('[') { "" } else { this.split('=').next().unwrap_or("").trim() };
    let dot = if table.is_empty() || key.is_empty() { "" } else { "." };
    (line, format!("{table}{dot}{key}"))
}

struct Check<'a> {
    file: &'a str,
    text: &'a str,
    /// The number of nodes, later ones included.
    nodes: u64,
}

impl Check<'_> {
    /// Returns an error at the first `key` from a byte on; at that byte where there is none.
    fn fail(&self, from: usize, key: &str, what: impl Into<String>) -> ScenarioError {
        let rest = self.text.get(from..).unwrap_or("");
        // The key itself stands at the start of a line, or in an inline table.
        let found = rest.match_indices(&format!("{key} =")).map(|(at, _)| at).find(|at| {
            let before = rest[..*at].chars().next_back();
            before.is_none_or(|c| c.is_whitespace() || c == '{' || c == ',')
        });
        let (line, _) = place(self.text, from + found.unwrap_or(0));
        ScenarioError { file: self.file.to_owned(), line, key: key.to_owned(), what: what.into() }
    }

    fn scenario(&self, scenario: &Scenario) -> Result<(), ScenarioError> {
        let nodes = self.nodes;
        if scenario.nodes < 2 || nodes > NODES_MAX {
            return Err(self.fail(0, "nodes", format!("{nodes} nodes, of 2 to {NODES_MAX}")));
        }
        self.known(0, "contacts", &scenario.join.contacts)?;
        let (from, to) = scenario.network.notice;
        if from > to {
            return Err(self.fail(0, "notice-s", "ends before it starts"));
        }
        for publish in &scenario.publish {
            let from = publish.span().start;
            let publish = publish.get_ref();
            self.known(from, "from", &[publish.from])?;
            if publish.parts == 0 || publish.parts > PARTS_MAX {
                return Err(self.fail(from, "parts", format!("{} parts, of 1 to {PARTS_MAX}", publish.parts)));
            }
            if publish.bytes == 0 || publish.bytes > BODY_LEN_MAX {
                return Err(self.fail(from, "bytes", format!("{} bytes, of 1 to {BODY_LEN_MAX}", publish.bytes)));
            }
            if scenario.core == Core::Member && publish.stream >= TrackId::COUNT_MAX {
                return Err(self.fail(from, "stream", format!("of 0 to {}", TrackId::COUNT_MAX - 1)));
            }
            let other = scenario.publish.iter().map(Spanned::get_ref);
            let mut other = other.filter(|other| other.stream == publish.stream && other.from != publish.from);
            if let Some(other) = other.next() {
                let what = format!("{} publishes stream {} already", other.from, publish.stream);
                return Err(self.fail(from, "from", what));
            }
        }
        for event in &scenario.event {
            let knows = event.get_ref().slow.as_ref().is_some_and(|slow| slow.known);
            if scenario.core == Core::Hub && (event.get_ref().contacts.is_some() || knows) {
                let what = "a hub keeps its contacts and its upload budget";
                return Err(self.fail(event.span().start, "event", what));
            }
            self.event(event)?;
        }
        Ok(())
    }

    fn known(&self, from: usize, key: &str, ids: &[u32]) -> Result<(), ScenarioError> {
        match ids.iter().find(|id| u64::from(**id) >= self.nodes) {
            Some(id) => Err(self.fail(from, key, format!("node {id}, of {}", self.nodes))),
            None => Ok(()),
        }
    }

    fn event(&self, event: &Spanned<Event>) -> Result<(), ScenarioError> {
        let from = event.span().start;
        let event = event.get_ref();
        let Event { kill, restart, leave, join, cut, heal, slow, flap, loss, contacts, expect, .. } = event;
        let choices = [
            ("kill", kill.as_ref()),
            ("restart", restart.as_ref()),
            ("leave", leave.as_ref()),
            ("cut", cut.as_ref().map(|cut| &cut.nodes)),
            ("slow", slow.as_ref().map(|slow| &slow.nodes)),
            ("flap", flap.as_ref().map(|flap| &flap.nodes)),
        ];
        let choices: Vec<_> = choices.into_iter().filter_map(|(key, choice)| Some((key, choice?))).collect();
        let others = [join.is_some(), heal.is_some(), loss.is_some(), contacts.is_some(), expect.is_some()];
        let keys = choices.len() + others.into_iter().filter(|there| *there).count();
        if keys != 1 {
            return Err(self.fail(from, "event", format!("{keys} things happen, of 1")));
        }
        for (key, choice) in choices {
            let Choice { percent, count, nodes, range, spare } = choice;
            let said = [percent.is_some(), count.is_some(), nodes.is_some(), range.is_some()];
            if said.iter().filter(|there| **there).count() != 1 {
                return Err(self.fail(from, key, "needs one of percent, count, nodes, range"));
            }
            if percent.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
                return Err(self.fail(from, key, "percent, of 0 to 100"));
            }
            self.known(from, key, spare)?;
            self.known(from, key, nodes.as_deref().unwrap_or(&[]))?;
            if let Some([first, end]) = range {
                self.known(from, key, &[*first, end.saturating_sub(1)])?;
            }
        }
        if flap.as_ref().is_some_and(|flap| flap.times == 0 || flap.times > PARTS_MAX) {
            return Err(self.fail(from, "flap", "times, of 1 on"));
        }
        self.known(from, "join", join.as_ref().map_or(&[], |storm| &storm.contacts))?;
        self.known(from, "contacts", contacts.as_deref().unwrap_or(&[]))
    }
}
