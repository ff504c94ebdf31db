//! Scenarios are data. A TOML file (`fixtures/scenario/`) describes the network, the joins, the parts published, the
//! faults, and the bounds on what is measured.
//!
//! ```toml
//! about = "Eight of ten nodes die at once; what is published then reaches all who live."
//! nodes = 500
//! seed = 1
//!
//! [network]
//! latency = { uniform-ms = [5, 50] }
//!
//! [[publish]]
//! name = "after the kill"
//! at-s = 40.1
//! parts = 1
//! bytes = 1000
//! expect = { reached-percent = 100, last-ms = 4000 }
//!
//! [[event]]
//! at-s = 40
//! kill = { percent = 80 }
//! ```
//!
//! - [`Scenario`] and its parts are here. `parse` reads a file, and finds its faults.
//! - `run` plays it, with the nodes that `cast` makes. [`Outcome`] holds the result.
//! - Whatever a file expects, `net::faults` checks every run. While it goes on, each queue and set is within its bound,
//!   and each part is delivered once and whole. Once all faults are over, the overlay heals within [`End::whole_s`],
//!   views are mutual, and no part of the window is missing anywhere.

mod cast;
mod outcome;
mod parse;
mod run;

#[cfg(test)]
mod tests;

use serde::Deserialize;
use toml::Spanned;

use crate::departure::Departure;
use crate::net::Settings;

pub use crate::units::Number;
#[cfg(test)]
pub(crate) use cast::{part, record};
pub use outcome::{Bound, Figure, Outcome};
pub use parse::ScenarioError;

/// A whole scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// The purpose of the scenario, in a sentence.
    pub about: String,
    /// The number of nodes that join at the start.
    pub nodes: u32,
    /// The seed fixes every random choice of the run.
    pub seed: u64,
    /// The core of each node.
    #[serde(default)]
    pub core: Core,
    /// The number of segments of 5 parts that a node holds of each track. Default: all.
    pub held_segments: Option<u32>,
    /// The departures that are switched back to the paper's rule.
    #[serde(default)]
    pub paper: Vec<Departure>,
    /// Links, rates, losses. Each node knows its upload as its budget.
    #[serde(default)]
    pub network: Settings,
    /// The joins at the start.
    #[serde(default)]
    pub join: Join,
    /// The runs of parts that are published.
    #[serde(default)]
    pub publish: Vec<Spanned<Publish>>,
    /// The events.
    #[serde(default)]
    pub event: Vec<Spanned<Event>>,
    /// The bounds once all is over.
    #[serde(default)]
    pub end: End,
}

/// The core of each node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Core {
    /// One swarm's HyParView and Plumtree; a stream is a track in it.
    #[default]
    Member,
    /// The node's whole hub: the directory, and a swarm for each stream.
    Hub,
}

/// The joins at the start.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Join {
    /// The number of joins a second; 0: all at once.
    pub per_second: u32,
    /// The nodes joined at. Default: a random earlier node.
    pub contacts: Vec<u32>,
}

impl Default for Join {
    fn default() -> Self {
        Join { per_second: 100, contacts: Vec::new() }
    }
}

/// A run of parts of one stream.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Publish {
    /// The name of the run in the figures.
    pub name: String,
    /// The time of the first part.
    pub at_s: Number,
    /// The publisher.
    #[serde(default)]
    pub from: u32,
    /// The stream. Each has one publisher.
    #[serde(default)]
    pub stream: u8,
    /// The number of parts.
    pub parts: u32,
    /// The time between two parts.
    #[serde(default = "part_ms")]
    pub every_ms: Number,
    /// The length of a body.
    pub bytes: u32,
    /// The nodes that count, of those that live from the part's publication to the end.
    #[serde(default)]
    pub among: Among,
    /// The bounds of these parts.
    #[serde(default)]
    pub expect: Expect,
}

fn part_ms() -> Number {
    Number(200.0)
}

/// The nodes whose deliveries count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Among {
    /// All nodes.
    #[default]
    All,
    /// The nodes that were never slowed.
    Fast,
}

/// Bounds on the spread of a run of parts.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Expect {
    /// Least share of nodes that the worst part reached.
    pub reached_percent: Option<f64>,
    /// Most RMR, the mean over the parts; what a restarted node fetches again counts, too.
    pub rmr: Option<f64>,
    /// Most body bytes sent over bytes needed, the mean over the parts.
    pub bytes_ratio: Option<f64>,
    /// Most links to the last node, of the worst part.
    pub ldh: Option<f64>,
    /// Most time to the last node, of the worst part.
    pub last_ms: Option<f64>,
    /// Most time to a node, the mean over nodes and parts.
    pub mean_ms: Option<f64>,
    /// Most control frames a node and part, of all that are sent meanwhile.
    pub control: Option<f64>,
}

/// An event: one of the keys beside `at-s`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Event {
    /// The time of the event.
    pub at_s: Number,
    /// Nodes die at once.
    pub kill: Option<Choice>,
    /// Dead nodes start again at their addresses, with nothing but their identity.
    pub restart: Option<Choice>,
    /// Nodes leave in order.
    pub leave: Option<Choice>,
    /// New nodes join.
    pub join: Option<Storm>,
    /// Nothing goes between these nodes and the others, until `heal`. One cut at a time.
    pub cut: Option<Cut>,
    /// The cut is over.
    pub heal: Option<bool>,
    /// Nodes become slow.
    pub slow: Option<Slow>,
    /// Nodes or their links come and go.
    pub flap: Option<Flap>,
    /// Losses change.
    pub loss: Option<Loss>,
    /// Every node's bootstrap addresses change to these nodes.
    pub contacts: Option<Vec<u32>>,
    /// The overlay is held against these bounds.
    pub expect: Option<View>,
}

/// A choice of nodes: one of the keys beside `spare`. Only `nodes` and `range` choose publishers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Choice {
    /// A share of the nodes that could be chosen, at random.
    pub percent: Option<f64>,
    /// A number of nodes, at random.
    pub count: Option<u32>,
    /// These nodes.
    pub nodes: Option<Vec<u32>>,
    /// The nodes from the first to before the second.
    pub range: Option<[u32; 2]>,
    /// The nodes that are never chosen.
    pub spare: Vec<u32>,
}

/// A storm of joins.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Storm {
    /// The number of new nodes.
    pub count: u32,
    /// The time over which they join evenly.
    #[serde(default)]
    pub over_s: Number,
    /// The nodes joined at. Default: a random earlier node.
    #[serde(default)]
    pub contacts: Vec<u32>,
}

/// A cut of the network.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cut {
    /// One side of it.
    pub nodes: Choice,
    /// The directions that the cut stops.
    #[serde(default)]
    pub way: Way,
}

/// The directions that a cut stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Everything between the two sides.
    #[default]
    Both,
    /// From the nodes to the others.
    From,
    /// From the others to the nodes.
    To,
}

/// Slow nodes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Slow {
    /// The nodes that become slow.
    pub nodes: Choice,
    /// The upload and download of each.
    pub mbps: Number,
    /// Whether each knows it as its upload budget.
    #[serde(default)]
    pub known: bool,
}

/// Nodes or links that come and go.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Flap {
    /// The nodes that come and go.
    pub nodes: Choice,
    /// The kind of absence.
    pub how: Away,
    /// The time away.
    pub down_s: Number,
    /// The time back.
    pub up_s: Number,
    /// The number of absences.
    pub times: u32,
}

/// The kind of absence of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Away {
    /// Killed, and restarted.
    Crash,
    /// Cut off from all but those that flap with it.
    Cut,
}

/// A change of losses.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Loss {
    /// The share of control frames lost.
    pub percent: Number,
    /// The share of bodies torn.
    #[serde(default)]
    pub torn_percent: Number,
}

/// Bounds on the state of the overlay.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct View {
    /// Most components.
    pub islands: Option<f64>,
    /// Least components, where a cut must show.
    pub islands_least: Option<f64>,
    /// Most nodes without a neighbour.
    pub isolated: Option<f64>,
    /// Least share of filled slots in active views.
    pub full_percent: Option<f64>,
    /// Most links that only one end knows.
    pub one_sided: Option<f64>,
    /// Most mean round trip of a link of the overlay.
    pub rtt_ms: Option<f64>,
}

/// The bounds once the timeline is over, all cuts are healed and nothing is lost any more.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct End {
    /// Liveness: one overlay, and every part of the window everywhere, within this time.
    pub whole_s: Number,
    /// Then nothing happens for this time before the checkers look. Default 30 s: a link that a fault left one-sided is
    /// closed by the end that doesn't need it, after 10 to 13 s.
    pub quiet_s: Number,
    /// The bounds on the overlay then.
    pub expect: View,
}

impl Default for End {
    fn default() -> Self {
        End { whole_s: Number(10.0), quiet_s: Number(30.0), expect: View::default() }
    }
}
