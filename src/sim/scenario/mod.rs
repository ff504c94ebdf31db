//! Scenarios are data: a TOML file (`fixtures/scenario/`) says what the network is like, who joins and publishes
//! when, what goes wrong, and what is to be expected.
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
//! - [`Scenario`] and what it consists of are here; `parse` reads a file, and says where it is wrong.
//! - `run` plays it; `cast` makes the nodes that it asks for; [`Outcome`] is what came of it.
//! - Whatever a file expects, the checks of `net::faults` look at every run: while it goes on each queue and set is within its
//!   bound and each part delivered once and whole; and once all faults are over, the overlay heals within
//!   [`End::whole_s`], views are mutual, and no part of the window is missing anywhere.

mod cast;
mod outcome;
mod parse;
mod run;

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::departure::Departure;

#[cfg(test)]
pub(crate) use cast::{part, record};
pub use outcome::{Bound, Figure, Outcome};
pub use parse::ScenarioError;

/// A length of time, in a file a number of seconds or milliseconds as its key says.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Deserialize)]
#[serde(try_from = "f64")]
pub struct Number(f64);

impl TryFrom<f64> for Number {
    type Error = &'static str;

    fn try_from(value: f64) -> Result<Self, Self::Error> {
        // A year of virtual seconds is more than anybody waits for.
        if (0.0..=3e7).contains(&value) { Ok(Number(value)) } else { Err("not between 0 and 30 million") }
    }
}

impl Number {
    fn seconds(self) -> Duration {
        Duration::from_micros((self.0 * 1e6).round() as u64)
    }

    fn millis(self) -> Duration {
        Duration::from_micros((self.0 * 1e3).round() as u64)
    }

    /// Of a number of Mb/s, in bytes/s.
    fn bytes_per_s(self) -> u64 {
        (self.0 * 125_000.0).round() as u64
    }

    fn permille(self) -> u32 {
        (self.0 * 10.0).round() as u32
    }
}

/// A whole scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// What it shows, in a sentence.
    pub about: String,
    /// How many nodes join at the start.
    pub nodes: Spanned<u32>,
    /// Fixes every choice of the run.
    pub seed: u64,
    /// What runs on each node.
    #[serde(default)]
    pub core: Core,
    /// How many segments of 5 parts a node holds of each track; all where it isn't said.
    pub held_segments: Option<u32>,
    /// The departures that are switched back to the paper's rule.
    #[serde(default)]
    pub paper: Vec<Departure>,
    /// Links, rates, losses.
    #[serde(default)]
    pub network: Network,
    /// How the nodes join.
    #[serde(default)]
    pub join: Join,
    /// What is published.
    #[serde(default)]
    pub publish: Vec<Spanned<Publish>>,
    /// What happens.
    #[serde(default)]
    pub event: Vec<Spanned<Event>>,
    /// What is expected once all is over.
    #[serde(default)]
    pub end: End,
}

/// What runs on each node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Core {
    /// One swarm's HyParView and Plumtree; a stream is a track in it.
    #[default]
    Member,
    /// The node's whole hub: the directory, and a swarm for each stream.
    Hub,
}

/// What the network is like.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Network {
    /// Delays of links, one way.
    pub latency: Delays,
    /// Each node's upload, which it knows as its budget, too.
    pub upload_mbps: Option<Number>,
    /// Each node's download.
    pub download_mbps: Option<Number>,
    /// Share of control frames lost.
    pub loss_percent: Number,
    /// Share of bodies torn on their way.
    pub torn_percent: Number,
    /// When a dead or cut link is noticed: between the two.
    pub notice_s: [Number; 2],
    /// What becomes of a dial to a dead node.
    pub dead_dials: Dead,
    /// When a dial into a cut, or to a silent dead node, is given up.
    pub dial_timeout_s: Number,
    /// Clocks are ahead by up to this.
    pub skew_s: Number,
}

impl Default for Network {
    fn default() -> Self {
        Network {
            latency: Delays::UniformMs([Number(5.0), Number(50.0)]),
            upload_mbps: None,
            download_mbps: None,
            loss_percent: Number(0.0),
            torn_percent: Number(0.0),
            notice_s: [Number(0.5), Number(1.5)],
            dead_dials: Dead::Refused,
            dial_timeout_s: Number(5.0),
            skew_s: Number(0.0),
        }
    }
}

/// Delays of links, one way.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delays {
    /// The same everywhere.
    ConstantMs(Number),
    /// A draw between the two for each pair of nodes.
    UniformMs([Number; 2]),
    /// Nodes live around the world's data centres; the great circle, and this at each end.
    WorldLastMileMs(Number),
    /// The same with places of one's own.
    Regions(Regions),
}

/// Places where nodes live.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Regions {
    /// Latitude and longitude in degrees, and how many of the nodes live there, as a weight.
    pub places: Vec<(f64, f64, u32)>,
    /// Added at each end of a link.
    pub last_mile_ms: Number,
}

/// What becomes of a dial to a dead node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dead {
    /// Its machine lives, and refuses.
    Refused,
    /// Nothing answers.
    TimeOut,
}

/// How the nodes join.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Join {
    /// How many a second; 0: all at once.
    pub per_second: u32,
    /// At whom; a random earlier node where it isn't said.
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
    /// What it is called in the figures.
    pub name: String,
    /// When the first part is published.
    pub at_s: Number,
    /// By which node.
    #[serde(default)]
    pub from: u32,
    /// Which stream; each has one publisher.
    #[serde(default)]
    pub stream: u8,
    /// How many parts.
    pub parts: u32,
    /// The time between two.
    #[serde(default = "part_ms")]
    pub every_ms: Number,
    /// The length of a body.
    pub bytes: u32,
    /// Whose deliveries count, of those who lived from the part's publication to the end.
    #[serde(default)]
    pub among: Among,
    /// What is expected of these parts.
    #[serde(default)]
    pub expect: Expect,
}

fn part_ms() -> Number {
    Number(200.0)
}

/// Whose deliveries count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Among {
    /// Everybody's.
    #[default]
    All,
    /// Those of nodes that were never slowed.
    Fast,
}

/// Bounds on how a run of parts spreads.
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

/// Something that happens; one of the keys beside `at-s`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Event {
    /// When.
    pub at_s: Option<Number>,
    /// SIGKILL.
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
    /// Nodes are slow from now on, not dead.
    pub slow: Option<Slow>,
    /// Nodes or their links come and go.
    pub flap: Option<Flap>,
    /// Losses change.
    pub loss: Option<Loss>,
    /// Everybody's bootstrap addresses are these from now on.
    pub contacts: Option<Vec<u32>>,
    /// How the overlay should be now.
    pub expect: Option<View>,
}

/// Which nodes: one of the keys beside `spare`. Publishers are chosen only by `nodes` and `range`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Choice {
    /// A share of those who could be chosen, at random.
    pub percent: Option<f64>,
    /// So many, at random.
    pub count: Option<u32>,
    /// These.
    pub nodes: Option<Vec<u32>>,
    /// From the first to before the second.
    pub range: Option<[u32; 2]>,
    /// Never these.
    pub spare: Vec<u32>,
}

/// A storm of joins.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Storm {
    /// How many new nodes.
    pub count: u32,
    /// Evenly over this time.
    #[serde(default = "nothing")]
    pub over_s: Number,
    /// At whom; a random earlier node where it isn't said.
    #[serde(default)]
    pub contacts: Vec<u32>,
}

fn nothing() -> Number {
    Number(0.0)
}

/// A cut of the network.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cut {
    /// One side of it.
    pub nodes: Choice,
    /// What it stops.
    #[serde(default)]
    pub way: Way,
}

/// What a cut stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Everything between the two sides.
    #[default]
    Both,
    /// What the nodes send.
    From,
    /// What is sent to them.
    To,
}

/// Slow nodes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Slow {
    /// Which.
    pub nodes: Choice,
    /// Their upload and download.
    pub mbps: Number,
    /// Whether they know it as their upload budget.
    #[serde(default)]
    pub known: bool,
}

/// Nodes or links that come and go.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Flap {
    /// Which.
    pub nodes: Choice,
    /// How they are away.
    pub how: Away,
    /// For so long.
    pub down_s: Number,
    /// Then there for so long.
    pub up_s: Number,
    /// So often.
    pub times: u32,
}

/// How a node is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Away {
    /// Killed, and restarted.
    Crash,
    /// Cut off from all but those that flap with it.
    Cut,
}

/// Losses from now on.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Loss {
    /// Of control frames.
    pub percent: Number,
    /// Of bodies, torn.
    #[serde(default = "nothing")]
    pub torn_percent: Number,
}

/// Bounds on how the overlay is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct View {
    /// Most components.
    pub islands: Option<f64>,
    /// Least components, where a cut is to be seen.
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

/// What is expected once the timeline is over, all cuts are healed and nothing is lost any more.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct End {
    /// Liveness: one overlay, and every part of the window everywhere, within this time.
    pub whole_s: Number,
    /// Then all is left alone for so long before the checkers look. Default 30 s: a link that a fault left one-sided
    /// is found by an audit, which comes round to each of five neighbours in 25 s.
    pub quiet_s: Number,
    /// How the overlay should be then.
    pub expect: View,
}

impl Default for End {
    fn default() -> Self {
        End { whole_s: Number(10.0), quiet_s: Number(30.0), expect: View::default() }
    }
}
