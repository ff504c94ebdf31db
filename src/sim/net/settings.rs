//! The settings of a [`Net`](super::Net), and its counters.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;

use crate::latency::Latency;
use crate::units::{mbps, percent, seconds, seconds_from_to};

/// The fate of a dial to a dead node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeadDials {
    /// The node's machine lives, and refuses the dial after a round trip.
    Refused,
    /// Nothing answers: the dial ends after [`Settings::dial_timeout`].
    TimeOut,
}

/// The properties of the network, in a scenario file the table `network`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// The delays of links, one way.
    pub latency: Latency,
    /// Upload of each node in bytes/s; `None`: without limit.
    #[serde(rename = "upload-mbps", deserialize_with = "mbps")]
    pub upload: Option<u64>,
    /// Download of each node in bytes/s; `None`: without limit.
    #[serde(rename = "download-mbps", deserialize_with = "mbps")]
    pub download: Option<u64>,
    /// Share of control frames that are lost, in permille.
    #[serde(rename = "loss-percent", deserialize_with = "percent")]
    pub loss_permille: u32,
    /// Share of bodies that are torn on their way, in permille.
    #[serde(rename = "torn-percent", deserialize_with = "percent")]
    pub torn_permille: u32,
    /// The time until a dead or cut link is noticed: uniform between the two.
    #[serde(rename = "notice-s", deserialize_with = "seconds_from_to")]
    pub notice: (Duration, Duration),
    /// The fate of dials to dead nodes.
    pub dead_dials: DeadDials,
    /// The timeout of a dial into a cut, or to a silent dead node.
    #[serde(rename = "dial-timeout-s", deserialize_with = "seconds")]
    pub dial_timeout: Duration,
    /// Clocks are ahead by up to this.
    #[serde(rename = "skew-s", deserialize_with = "seconds")]
    pub skew: Duration,
    /// The command that repeats a failing run; `{seed}` stands for its seed.
    #[serde(skip)]
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
            repeat: "DAMSON_SIM_SEED={seed} cargo nextest run -p damson-sim".into(),
        }
    }
}

/// The traffic over the links so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Control frames.
    pub frames: u64,
    /// Bodies begun.
    pub heads: u64,
}
