//! The settings of a [`Plumtree`](super::plumtree::Plumtree). Each departure from the paper has a switch, and each default
//! names its source.

use std::time::Duration;

/// The rule that improves the tree (paper, 3.8 "Optimization").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Optimise {
    /// The tree stays as it is.
    Off,
    /// The paper's rule: a lazy neighbour whose announcement has passed at least `threshold` links
    /// fewer than the eager copy becomes the parent. The paper uses 3 with one sender, 7 with many.
    Hops {
        /// The number of links.
        threshold: u8,
    },
    /// Departure: the same by measured time. A lazy neighbour that announces a body at least `margin`
    /// before the eager copy begins, `samples` parts in a row, becomes the parent.
    Time {
        /// The lead of the announcement.
        margin: Duration,
        /// The number of parts in a row.
        samples: u8,
    },
}

/// The settings of a [`Plumtree`](super::plumtree::Plumtree).
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Departure: new links start lazy, and missing bodies are grafted at once. Off: the paper's
    /// start, eager to every neighbour. Default on: an eager start floods each body over each new link.
    pub lazy_start: bool,
    /// Departure: a node without a parent that grafts a live part announces it at once, and serves GRAFTs for it as it comes
    /// in. The first message then takes one link delay a hop rather than three.
    pub promise: bool,
    /// Departure: all held bodies are announced to each new neighbour. Without it the first message
    /// after 70 % of the nodes die reaches 0.2 % of the rest (measured on iroh-gossip).
    pub offer_window: bool,
    /// Departure: NOT-HERE answers a GRAFT for a body that isn't here. Off: the timer finds out.
    pub not_here: bool,
    /// Departure: a second copy of a body is refused at its header, so that it costs rate x round trip at most. Off: it is
    /// taken to its last byte, and thrown away.
    pub refuse_duplicates: bool,
    /// Departure: bodies go on piece by piece as they come in. Off: once whole and checked.
    pub cut_through: bool,
    /// Departure: a node that begins to receive a longer body than this, in bytes, tells its other neighbours. `u32::MAX`
    /// turns it off. Default 16 KiB: below it a duplicate is a few packets.
    pub receiving_above: u32,
    /// Departure: a torn transfer is resumed at its offset. Off: it starts again.
    pub resume: bool,
    /// Departure: graft timers grow with the body's length over the link's rate, follow the measured
    /// lag of the tree, and wait while bytes flow. Off: `graft_timeout_1` and `graft_timeout_2` as they are.
    pub size_aware_timers: bool,
    /// The paper's timeout_1: a missing body is grafted this long after its first announcement. Size-aware timers use it
    /// until the lag is measured. Default 500 ms: at 1000/500 the
    /// timers alone cost RMR 0.001, at 400/250 0.009 (measured, links of 10-50 ms).
    pub graft_timeout_1: Duration,
    /// The paper's timeout_2: the next holder is asked after this. "Approximately the round trip".
    pub graft_timeout_2: Duration,
    /// The shortest that a size-aware timer waits for the eager copy. Default 60 ms, a guess: one slow hop.
    pub graft_margin_min: Duration,
    /// The rule that improves the tree. Default: by time.
    pub optimise: Optimise,
    /// Departure: the number of children is capped to what this many bytes/s can feed. `None`: no cap.
    pub upload: Option<u64>,
    /// Announcements wait this long for others to the same peer. Default 10 ms: the tracks of a stream
    /// end their parts together. Only a timer of graft_margin_min waits for them.
    pub ihave_delay: Duration,
    /// Departure: neighbours compare what they hold this often while parts flow, and up to 8 times as rarely otherwise.
    /// `None`: never. Default 1 s.
    pub digest_interval: Option<Duration>,
    /// The most bytes of bodies held; beyond that the oldest segments go. Default 512 MiB: 38 s at 100 Mb/s.
    pub held_bytes_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            lazy_start: true,
            promise: true,
            offer_window: true,
            not_here: true,
            refuse_duplicates: true,
            cut_through: true,
            receiving_above: 16 << 10,
            resume: true,
            size_aware_timers: true,
            graft_timeout_1: Duration::from_millis(500),
            graft_timeout_2: Duration::from_millis(250),
            graft_margin_min: Duration::from_millis(60),
            optimise: Optimise::Time { margin: Duration::from_millis(3), samples: 2 },
            upload: None,
            ihave_delay: Duration::from_millis(10),
            digest_interval: Some(Duration::from_secs(1)),
            held_bytes_max: 512 << 20,
        }
    }
}

impl Config {
    /// Returns the paper's rules, for a comparison: eager start, fixed timers, whole bodies, hop counts.
    pub fn paper() -> Self {
        Config {
            lazy_start: false,
            promise: false,
            offer_window: false,
            not_here: false,
            refuse_duplicates: false,
            cut_through: false,
            receiving_above: u32::MAX,
            resume: false,
            size_aware_timers: false,
            graft_timeout_1: Duration::from_millis(1_000),
            graft_timeout_2: Duration::from_millis(500),
            optimise: Optimise::Hops { threshold: 3 },
            ihave_delay: Duration::ZERO,
            digest_interval: None,
            ..Config::default()
        }
    }
}
