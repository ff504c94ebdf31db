//! The settings of an overlay, with the origin of each default.

use std::time::Duration;

use crate::model::Peer;

/// The nodes that may become neighbours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    /// HyParView's: anybody, chosen by the protocol.
    Gossip,
    /// Only the peers named (here or by a later [`Input::Join`](super::io::Input::Join)), and those that
    /// name us: no FORWARDJOIN and no SHUFFLE; links are kept by dialling again.
    Static {
        /// The peers named.
        peers: Vec<Peer>,
    },
}

/// The settings of an overlay. The paper's figures are those of its evaluation (10,000 nodes).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The nodes that may become neighbours.
    pub topology: Topology,
    /// Size of the active view. Paper: 5 = fanout 4 + 1, "log(n) + c".
    pub active_max: usize,
    /// Size of the passive view. Paper: 30, six times the active view.
    pub passive_max: usize,
    /// Active random walk length: the TTL of a FORWARDJOIN. Paper: 6.
    pub arwl: u8,
    /// Passive random walk length: the TTL at which a FORWARDJOIN leaves the new node in a passive view. Paper: 3.
    pub prwl: u8,
    /// TTL of a SHUFFLE. The paper names none; 6 as iroh-gossip takes it, and as ARWL.
    pub shuffle_ttl: u8,
    /// ka: the number of active peers in a SHUFFLE. Paper: 3.
    pub shuffle_active: usize,
    /// kp: the number of passive peers in a SHUFFLE. Paper: 4.
    pub shuffle_passive: usize,
    /// Departure: the number of nodes that left the passive view and are remembered. They are asked when few others are
    /// left. 0: the paper's rule, they are forgotten. 64: with 90 % of 10,000 nodes dead, none of 99 addresses lives with
    /// probability 0.003 %, where it is 2.5 % for 35. Each takes 40 bytes.
    pub contacts_max: usize,
    /// Time between two SHUFFLEs. Paper: a cycle, with no time given; 60 s as iroh-gossip takes it.
    pub shuffle_interval: Duration,
    /// Departure: the time to the first SHUFFLE of a young node. It doubles up to `shuffle_interval`, since a young
    /// passive view knows only its contact's neighbours. Equal to `shuffle_interval`: the paper's rule. Guess: 1 s, a few
    /// round trips.
    pub shuffle_first: Duration,

    /// The time without an answer to a request (NEIGHBOR, JOIN) after which the peer counts as timed out.
    /// Above a dial's own timeout it never fires for a dead peer. Guess: 5 s.
    pub answer_timeout: Duration,
    /// Departure: the number of passive peers that are asked at once. The paper asks one after the other: 1.
    pub refill_width: usize,
    /// Departure: a request unanswered for this long no longer holds up the next one, so that a dial
    /// into nothing costs no time; `None`: the paper's rule. 150 ms is above the round trip between most
    /// pairs of places on earth.
    pub refill_hedge: Option<Duration>,
    /// Departure: most requests for free slots that are under way and not hedged. Every two requests that failed or went
    /// unanswered in a row allow one more: where most peers are dead, dials cost the time. Guess: 16.
    pub refill_width_max: usize,
    /// Departure: a node that a neighbour dropped, and that has enough others (`active_min`), waits this long before it
    /// asks around. At the other end of an exchange another node is dropped, and the two are being brought together. With
    /// each refusal the node waits a quarter of this longer before the next question, up to a minute: it doesn't need the
    /// link, and each question may cost a dial. Zero: the paper's rule. Guess: 1 s.
    pub refill_calm: Duration,
    /// Departure: a passive peer survives this many failed dials in a row; it is the last to be asked and the first to
    /// be replaced meanwhile, and no shuffle spreads it. 0: the paper's rule, the first failure
    /// purges (which drains the passive view for good in a netsplit). A node that
    /// refuses or leaves is gone sooner, see [`super::io::DownCause`].
    pub fails_max: u8,
    /// A failed peer is asked again after this, doubling up to `fail_max`. Guess: a restart takes about as long.
    pub fail_first: Duration,
    /// See `fail_first`.
    pub fail_max: Duration,

    /// Departure: below this many neighbours the bootstrap addresses are asked again; 0: the paper's rule, only at
    /// the start. Guess: half the active view.
    pub active_min: usize,

    /// Departure: a full node exchanges one link for one to a passive peer after about this time, so that
    /// islands and healed partitions merge. `None`: the paper's rule. 120 s, a guess: a link lasts
    /// some minutes, and costs two dials and a repair of the tree at each end.
    pub rotate_interval: Option<Duration>,
    /// Departure: in a storm, JOINs and walks that would cost a live neighbour its place are admitted only at
    /// this pace (a burst of `active_max`, then one each). The others are referred to the nodes that came before them, and
    /// links younger than a second aren't dropped for a high priority request. `None`: the paper's rule, each JOIN evicts
    /// a neighbour. Guess.
    pub admit_interval: Option<Duration>,

    /// Departure: of the links that may be exchanged or dropped, those that the broadcast tree runs over are the
    /// last ([`HyParView::set_carries`](super::hyparview::HyParView::set_carries)). Off: the paper's rule, any at random.
    pub spare_tree_links: bool,
    /// Departure, after X-BOT (Leitao et al., SRDS 2009): this often a full node measures a passive peer,
    /// and takes it for its farthest neighbour where it is nearer. `None`: the paper's rule. Guess: 30 s.
    pub optimise_interval: Option<Duration>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            topology: Topology::Gossip,
            active_max: 5,
            passive_max: 30,
            arwl: 6,
            prwl: 3,
            shuffle_ttl: 6,
            shuffle_active: 3,
            shuffle_passive: 4,
            contacts_max: 64,
            shuffle_interval: Duration::from_secs(60),
            shuffle_first: Duration::from_secs(1),
            answer_timeout: Duration::from_secs(5),
            refill_width: 3,
            refill_width_max: 16,
            refill_hedge: Some(Duration::from_millis(150)),
            refill_calm: Duration::from_secs(1),
            fails_max: 8,
            fail_first: Duration::from_millis(500),
            fail_max: Duration::from_secs(60),
            active_min: 3,
            rotate_interval: Some(Duration::from_secs(120)),
            admit_interval: Some(Duration::from_secs(1)),
            spare_tree_links: true,
            optimise_interval: Some(Duration::from_secs(30)),
        }
    }
}

impl Config {
    /// The paper's rules: every departure switched off.
    pub fn paper() -> Self {
        let ours = Config::default();
        Config {
            shuffle_first: ours.shuffle_interval,
            refill_width: 1,
            refill_width_max: 1,
            contacts_max: 0,
            refill_hedge: None,
            refill_calm: Duration::ZERO,
            fails_max: 0,
            active_min: 0,
            rotate_interval: None,
            admit_interval: None,
            spare_tree_links: false,
            optimise_interval: None,
            ..ours
        }
    }

    /// Only the peers named.
    pub fn fixed(peers: Vec<Peer>) -> Self {
        Config {
            topology: Topology::Static { peers },
            active_max: STATIC_ACTIVE_MAX,
            passive_max: STATIC_ACTIVE_MAX,
            // Two nodes of one cluster start within a second or two of each other.
            fail_first: Duration::from_millis(100),
            fail_max: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(2),
            refill_width: STATIC_ACTIVE_MAX,
            refill_width_max: STATIC_ACTIVE_MAX,
            contacts_max: 0,
            active_min: 0,
            rotate_interval: None,
            admit_interval: None,
            optimise_interval: None,
            ..Config::default()
        }
    }
}

/// Most neighbours of a node in a static topology, named by it or naming it.
pub const STATIC_ACTIVE_MAX: usize = 64;
