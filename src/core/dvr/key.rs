//! The name of a segment.

use crate::model::{LifeId, Msn, StreamName, TrackId};

/// A segment of a stream's life.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentKey {
    /// The stream.
    pub stream: StreamName,
    /// Its life.
    pub life: LifeId,
    /// The track.
    pub track: TrackId,
    /// The segment.
    pub msn: Msn,
}
