//! The settings of publishing.

use damson_core::model::NodeId;
use serde::Deserialize;

/// The rule by which a push takes over a stream that has a publisher.
#[derive(clap::ValueEnum, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Takeover {
    // An encoder may return before its old connection is known to be dead.
    /// A push from the same IP address
    #[default]
    SameAddress,
    /// Any push
    Any,
}

/// The settings of publishing, which all protocols share.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// This node, whose id is part of the epochs that it claims.
    pub node: NodeId,
    /// The rule of takeovers.
    pub takeover: Takeover,
    /// The highest sustained bit rate of a push, in bits per second.
    pub bit_rate_max: u64,
    /// The most pushes at a time. A push that takes over another needs no place of its own.
    pub pushes_max: usize,
}

impl Settings {
    /// The default of [`bit_rate_max`](Settings::bit_rate_max): above what encoders send, and below what parts can hold.
    pub const BIT_RATE_MAX: u64 = 100_000_000;
    /// The default of [`pushes_max`](Settings::pushes_max): more than one machine can package.
    pub const PUSHES_MAX: usize = 1_024;
}
