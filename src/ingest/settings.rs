//! What can be set of publishing.

use damson_core::model::NodeId;
use serde::Deserialize;

/// Who may take over a stream that has a publisher.
#[derive(clap::ValueEnum, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Takeover {
    // An encoder that returns before its old connection is known to be dead.
    /// A push from the same IP address.
    #[default]
    SameAddress,
    /// Any push.
    Any,
}

/// The settings of publishing, for all protocols together.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// This node, for the epochs it claims.
    pub node: NodeId,
    /// Who may take over.
    pub takeover: Takeover,
    /// What a push may send for long, in bits per second.
    pub bit_rate_max: u64,
    /// Pushes at a time, by all protocols together. Who takes a push over needs no place of its own.
    pub pushes_max: usize,
}

impl Settings {
    /// [`bit_rate_max`](Settings::bit_rate_max): above what encoders send, and below what parts can hold.
    pub const BIT_RATE_MAX: u64 = 100_000_000;
    /// [`pushes_max`](Settings::pushes_max): more than a machine packages.
    pub const PUSHES_MAX: usize = 1_024;
}
