//! The point at which a publisher goes on.

use super::id::{Msn, TrackId};
use super::record::Record;

/// The point at which a publisher goes on, if the swarm already holds a presentation of the stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resume {
    /// The newest record.
    pub record: Record,
    /// The newest segment known of any track, complete or not.
    pub newest_msn: Msn,
    /// The highest discontinuity sequence number seen.
    pub discontinuity: u32,
    /// For each track, where its newest part ends, in ticks.
    pub ends: Vec<(TrackId, u64)>,
}
