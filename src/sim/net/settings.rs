//! What can be set of a [`Net`](super::Net), and what it counts.

use std::borrow::Cow;
use std::time::Duration;

use crate::latency::Latency;

/// What becomes of a dial to a dead node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DeadDials {
    /// Its machine lives, and refuses after a round trip.
    Refused,
    /// Nothing answers for so long.
    TimeOut(Duration),
}

/// What the network is like.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Link delays.
    pub latency: Latency,
    /// Upload of each node in bytes/s; `None`: without limit.
    pub upload: Option<u64>,
    /// Download of each node in bytes/s; `None`: without limit.
    pub download: Option<u64>,
    /// Share of control frames that are lost, in permille.
    pub loss_permille: u32,
    /// Share of bodies that are torn on their way, in permille.
    pub torn_permille: u32,
    /// When a dead or cut link is noticed: uniform between the two.
    pub notice: (Duration, Duration),
    /// Dials to dead nodes.
    pub dead_dials: DeadDials,
    /// Dials into a cut time out after this.
    pub dial_timeout: Duration,
    /// Clocks are ahead by up to this.
    pub skew: Duration,
    /// Count the bytes of control frames, which takes time.
    pub count_frame_bytes: bool,
    /// How to repeat a failing run; `{seed}` stands for its seed.
    pub repeat: Cow<'static, str>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            latency: Latency::Uniform(Duration::from_millis(5), Duration::from_millis(50)),
            upload: None,
            download: None,
            loss_permille: 0,
            torn_permille: 0,
            notice: (Duration::from_millis(500), Duration::from_millis(1_500)),
            dead_dials: DeadDials::Refused,
            dial_timeout: Duration::from_secs(5),
            skew: Duration::ZERO,
            count_frame_bytes: false,
            repeat: "DAMSON_SIM_SEED={seed} cargo nextest run -p damson-sim".into(),
        }
    }
}

/// What went over the links so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Control frames.
    pub frames: u64,
    /// Their bytes, where they are counted.
    pub frame_bytes: u64,
    /// Control frames lost.
    pub lost: u64,
    /// Bodies begun.
    pub heads: u64,
    /// Body bytes.
    pub body_bytes: u64,
    /// Dials.
    pub dials: u64,
}
