//! The latency of a part, stage by stage, from the encoder's packet to the viewer's screen.
//!
//! ```text
//!  last access unit in --packaging--> made --dwell--> handed to the link --queue--> first byte out
//!     ==transit==> first byte in at the next node --dwell--> ... ==transit==> first byte in at the edge
//!     --tail--> all of it in --listing--> listed --idle--> asked for --answer--> answered --send--> sent
//!     (page) listed --idle--> asked for --arrive--> all of it in --append--> appended --buffer--> shown
//! ```
//!
//! Each stage begins where the one before ends, so that they add up: from `packaging` to `listing` they make the *age*
//! of the part at this edge, without synchronized clocks. Each is measured at one place:
//!
//! | stage | from | to | on whose clock |
//! |---|---|---|---|
//! | `packaging` | the ingest has the part's last access unit | the part is made, and with the hub | the ingest's |
//! | `dwell` | first byte in; at the ingest: made | handed to the link to the next node | that node's |
//! | `queue` | handed to the link | first byte given to QUIC | that node's |
//! | `transit` | first byte given to QUIC | first byte in at the next node | the next node's, offset-corrected |
//! | `tail` | first byte in; at the ingest: made | all of it in, checked and kept | the edge's |
//! | `listing` | all of it in | listed: all before it are, too | the edge's |
//! | `idle` | listed | asked for; 0 if the request came before | the edge's |
//! | `answer` | listed, or asked for if that is later | the answer is handed to the connection | the edge's |
//! | `send` | handed to the connection | its last byte is in the system's hands | the edge's |
//! | `idle` | listed | asked for; 0 if the request came before | the page's, which reads the edge's |
//! | `arrive` | listed, or asked for if that is later | last byte at the player | the page's |
//! | `append` | last byte at the player | in its SourceBuffer | the page's |
//! | `buffer` | in its SourceBuffer | on screen | the page's |
//!
//! `packaging` is measured in `mesh::driver`, as a part is published; `dwell` and `queue` in `mesh::body_sender`, as a body's head
//! goes out; `transit` in `mesh::body_receiver`, as it comes in; `tail` and `listing` in [`crate::window`]; a request's stages in
//! `edge::request_times`; the page's in `player-demo/page/journey.js`. The page knows of its own request: its `arrive` takes in what the
//! edge calls `answer` and `send`, so that either the edge's or the page's go on where the breakdown ends.
//!
//! The stages of a request are measured of playlists, MPDs, init segments and segments, too, where `listed` is when the newest
//! part was that they tell of or hold. Beside them, of any request: `held`, from asked for to listed, where it was asked for
//! before. It lies within the part's other stages, and is in no sum.
//!
//! A body that is forwarded piece by piece (cut-through) reaches the next node before it is complete here: so `dwell` ends at the
//! first byte out, and what the rest takes is counted once, as the edge's `tail`. QUIC's own queue, pacing and repeats
//! are in `transit`.
//!
//! A transit is measured over two clocks. It is negative if the offset is wrong by more than the trip took, and isn't
//! clamped, since that would make the sum wrong. `uncertainty_us` says how wrong it may be:
//! half the shortest round trip, and what the clocks may have drifted since. A direction that is slower than the
//! other can't be seen: half the difference is counted on the wrong side, within that uncertainty (see [`crate::link::clock_offset`]). What
//! one hop has too much of it, the hops behind it don't miss: along a line the errors add up.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::id::{NodeId, NodeName, PartId};
use super::part_header::Trace;
use super::time::{Time, UnixTime};

/// A stage that a node measures, in the order in which a part passes them. The module says what each is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Stage {
    /// Last access unit in to made.
    Packaging,
    /// First byte in, or made, to handed to the link.
    Dwell,
    /// Handed to the link to first byte out.
    Queue,
    /// First byte out to first byte in at the next node.
    Transit,
    /// First byte in to all of it in.
    Tail,
    /// All of it in to listed.
    Listing,
    /// Listed to asked for.
    Idle,
    /// Listed or asked for, whichever is later, to answered.
    Answer,
    /// Answered to sent.
    Send,
    /// Asked for to listed.
    Held,
}

impl Stage {
    /// The stages of a request.
    pub const OF_REQUESTS: [Stage; 4] = [Stage::Held, Stage::Idle, Stage::Answer, Stage::Send];

    /// Returns the stage's name in JSON, metrics and text.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// One stage of one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageTime {
    /// The stage.
    pub stage: Stage,
    /// The node's place in the trace: 0 is the ingest's.
    pub hop: usize,
    /// In microseconds.
    pub micros: i64,
    /// The uncertainty of `micros`, either way; zero except for a transit; `None` if a node didn't state it.
    pub uncertainty: Option<Duration>,
}

/// The latency of one part until this edge listed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatencyBreakdown {
    /// The part.
    pub id: PartId,
    /// Its length in bytes.
    pub length: u32,
    /// Its length in ticks of its track.
    pub duration: u32,
    /// Last access unit in, on the ingest's wallclock.
    pub ingested: UnixTime,
    /// Its trace.
    pub trace: Trace,
    /// See [`Stage::Tail`].
    pub tail: Duration,
    /// See [`Stage::Listing`].
    pub listing: Duration,
    /// The time at which this edge listed it, on its own clock.
    pub listed: Time,
}

impl LatencyBreakdown {
    /// Returns the stages, in order.
    pub fn steps(&self) -> impl Iterator<Item = StageTime> {
        let exact = |stage, hop, micros| StageTime { stage, hop, micros, uncertainty: Some(Duration::ZERO) };
        let whole = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
        let last = self.trace.hops.len();
        let packaging = self.trace.packaging_us.map(|us| exact(Stage::Packaging, 0, us));
        let hops = self.trace.hops.iter().enumerate().flat_map(move |(hop, step)| {
            let (micros, uncertainty) = (step.transit_us, step.uncertainty);
            let transit = StageTime { stage: Stage::Transit, hop, micros, uncertainty };
            [exact(Stage::Dwell, hop, whole(step.dwell)), exact(Stage::Queue, hop, whole(step.queue)), transit]
        });
        let here = [exact(Stage::Tail, last, whole(self.tail)), exact(Stage::Listing, last, whole(self.listing))];
        packaging.into_iter().chain(hops).chain(here)
    }

    /// Returns the part's age as this edge listed it, in microseconds: the sum of the stages.
    pub fn age_us(&self) -> i64 {
        self.steps().fold(0, |sum: i64, step| sum.saturating_add(step.micros))
    }

    /// Returns the age without packaging: the share of the relay.
    pub fn relay_us(&self) -> i64 {
        self.age_us().saturating_sub(self.trace.packaging_us.unwrap_or(0))
    }

    /// Returns how wrong these sums may be, either way; `None` if a node didn't say.
    pub fn uncertainty(&self) -> Option<Duration> {
        self.steps().try_fold(Duration::ZERO, |sum, step| Some(sum.saturating_add(step.uncertainty?)))
    }

    /// Returns the node at this place in the trace; `None` for the edge, which comes after the last.
    pub fn node(&self, hop: usize) -> Option<(NodeId, NodeName)> {
        self.trace.hops.get(hop).map(|hop| (hop.node, hop.name))
    }
}

/// The breakdowns of a stream's newest parts, of all its tracks: those of the last [minute](RecentLatencies::SPAN).
#[derive(Debug, Default)]
pub struct RecentLatencies {
    newest: VecDeque<Arc<LatencyBreakdown>>,
}

impl RecentLatencies {
    /// How far back they reach.
    pub const SPAN: Duration = Duration::from_secs(60);

    /// The most that are kept, of some 300 bytes each: a minute of seven tracks with parts of 0.2 s.
    pub const MAX: usize = 2_048;

    /// Adds a breakdown.
    pub fn push(&mut self, breakdown: Arc<LatencyBreakdown>) {
        let since = breakdown.listed;
        self.newest.push_back(breakdown);
        while self.newest.len() > Self::MAX
            || self.newest.front().is_some_and(|oldest| since.since(oldest.listed) > Self::SPAN)
        {
            self.newest.pop_front();
        }
    }

    /// Returns the breakdowns of parts listed within `span` before `now`, oldest first.
    pub fn within(&self, now: Time, span: Duration) -> impl DoubleEndedIterator<Item = &Arc<LatencyBreakdown>> {
        self.newest.iter().filter(move |breakdown| now.since(breakdown.listed) <= span)
    }

    /// Forgets all breakdowns, for a new presentation.
    pub fn clear(&mut self) {
        self.newest.clear();
    }
}

/// The distribution of some values, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Spread {
    /// The number of values.
    pub count: u64,
    /// The median.
    pub p50_us: i64,
    /// Nine of ten are at most this.
    pub p90_us: i64,
    /// 99 of 100 are at most this.
    pub p99_us: i64,
    /// The largest.
    pub max_us: i64,
}

impl Spread {
    /// Computes it exactly, by nearest rank; `None` without values.
    pub fn of(mut values: Vec<i64>) -> Option<Spread> {
        values.sort_unstable();
        let rank = |percent: usize| values.get((values.len() * percent).div_ceil(100).max(1) - 1).copied();
        Some(Spread {
            count: values.len() as u64,
            p50_us: rank(50)?,
            p90_us: rank(90)?,
            p99_us: rank(99)?,
            max_us: *values.last()?,
        })
    }
}

/// The recent times of one stage of one hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageSummary {
    /// Which stage.
    pub stage: Stage,
    /// The node's place in the trace: 0 is the ingest's.
    pub hop: usize,
    /// That node; `None` for this edge.
    pub node: Option<(NodeId, NodeName)>,
    /// The node that a transit leads to; `None` for this edge.
    pub to: Option<(NodeId, NodeName)>,
    /// In microseconds.
    pub spread: Spread,
    /// The largest uncertainty; `None` if a node didn't say.
    pub uncertainty: Option<Duration>,
}

/// A summary of several parts' latency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// By place in the trace, then by stage. Where the tree has changed meanwhile, a place has several nodes.
    pub stages: Vec<StageSummary>,
    /// The distribution of ages.
    pub age: Option<Spread>,
}

impl Overview {
    /// Summarizes breakdowns.
    pub fn of<'a>(breakdowns: impl IntoIterator<Item = &'a LatencyBreakdown>) -> Overview {
        type Key = (usize, Stage, Option<NodeId>, Option<NodeId>);
        type Values = (Vec<i64>, Option<Duration>, [Option<NodeName>; 2]);
        let mut by_key: BTreeMap<Key, Values> = BTreeMap::new();
        let mut ages = Vec::new();
        for breakdown in breakdowns {
            ages.push(breakdown.age_us());
            for step in breakdown.steps() {
                let node = breakdown.node(step.hop);
                let to = if step.stage == Stage::Transit { breakdown.node(step.hop + 1) } else { None };
                let key = (step.hop, step.stage, node.map(|n| n.0), to.map(|n| n.0));
                let names = [node.map(|n| n.1), to.map(|n| n.1)];
                let values = by_key.entry(key).or_insert_with(|| (Vec::new(), Some(Duration::ZERO), names));
                values.0.push(step.micros);
                values.1 = values.1.zip(step.uncertainty).map(|(a, b)| a.max(b));
            }
        }
        let stages = by_key.into_iter().filter_map(|((hop, stage, node, to), (values, uncertainty, names))| {
            let spread = Spread::of(values)?;
            Some(StageSummary { stage, hop, node: node.zip(names[0]), to: to.zip(names[1]), spread, uncertainty })
        });
        Overview { stages: stages.collect(), age: Spread::of(ages) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::id::{Epoch, TrackId};
    use super::super::part_header::Hop;
    use super::*;

    fn breakdown(n: u64, transit_us: i64) -> Arc<LatencyBreakdown> {
        let hop = |node: u64, name: &str, transit_us| Hop {
            dwell: Duration::from_micros(100 + n),
            queue: Duration::from_micros(10),
            transit_us,
            uncertainty: Some(Duration::from_micros(50)),
            ..Hop::by(NodeId(node), NodeName::of(name))
        };
        Arc::new(LatencyBreakdown {
            id: PartId { epoch: Epoch { counter: 1, node: NodeId(1) }, track: TrackId(1), msn: 1, part: 0 },
            length: 10,
            duration: 10,
            ingested: UnixTime::default(),
            trace: Trace { packaging_us: Some(33_000), hops: vec![hop(1, "in", transit_us), hop(2, "mid", 400)] },
            tail: Duration::from_micros(70),
            listing: Duration::from_micros(5),
            listed: Time::from_millis(1_000 * n),
        })
    }

    #[test]
    fn stages_add_up_even_below_zero() {
        let breakdown = breakdown(0, -30);
        let steps: Vec<_> = breakdown.steps().map(|step| (step.stage.name(), step.hop, step.micros)).collect();
        assert_eq!(
            steps,
            [
                ("packaging", 0, 33_000),
                ("dwell", 0, 100),
                ("queue", 0, 10),
                ("transit", 0, -30),
                ("dwell", 1, 100),
                ("queue", 1, 10),
                ("transit", 1, 400),
                ("tail", 2, 70),
                ("listing", 2, 5),
            ]
        );
        assert_eq!(breakdown.age_us(), 33_665);
        assert_eq!(breakdown.relay_us(), 665);
        assert_eq!(breakdown.uncertainty(), Some(Duration::from_micros(100)));
    }

    #[test]
    fn a_minute_is_kept_and_no_more() {
        let mut breakdowns = RecentLatencies::default();
        for n in 0..100 {
            breakdowns.push(breakdown(n, 0));
        }
        let now = Time::from_millis(99_000);
        let within = |seconds| breakdowns.within(now, Duration::from_secs(seconds)).count();
        assert_eq!((within(0), within(1), within(10), within(1_000)), (1, 2, 11, 61));
    }

    #[test]
    fn ranks_are_exact() {
        let check = |values: std::ops::RangeInclusive<i64>, expect: [i64; 4]| {
            let spread = Spread::of(values.rev().collect()).expect("values");
            assert_eq!([spread.p50_us, spread.p90_us, spread.p99_us, spread.max_us], expect);
        };
        check(1..=100, [50, 90, 99, 100]);
        check(-3..=-3, [-3, -3, -3, -3]);
        check(1..=10, [5, 9, 10, 10]);
        assert_eq!(Spread::of(vec![]), None);
    }

    #[test]
    fn an_overview_names_each_hop() {
        let breakdowns: Vec<_> = (0..10).map(|n| breakdown(n, n as i64)).collect();
        let overview = Overview::of(breakdowns.iter().map(Arc::as_ref));
        assert_eq!(overview.stages.len(), 9);
        let transit = overview.stages.iter().find(|s| s.stage == Stage::Transit).expect("a transit");
        assert_eq!((transit.node.map(|n| n.0), transit.to.map(|n| n.0)), (Some(NodeId(1)), Some(NodeId(2))));
        assert_eq!((transit.spread.count, transit.spread.p50_us, transit.spread.max_us), (10, 4, 9));
        let tail = overview.stages.iter().find(|s| s.stage == Stage::Tail).expect("a tail");
        assert_eq!((tail.node, tail.hop), (None, 2));
        assert_eq!(overview.age.map(|age| age.count), Some(10));
    }
}
