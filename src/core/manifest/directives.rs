//! What a player may say in the query of a request for a playlist or MPD.

use crate::model::Msn;

/// The query of a request for an updated MPD; the MPD's `Location` has it.
pub const FOLLOW: &str = "follow";

/// Delivery directives of a media playlist request (rfc8216bis 6.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Directives {
    /// `_HLS_msn`: the segment that the playlist must reach.
    pub msn: Option<Msn>,
    /// `_HLS_part`: the part that the playlist must reach.
    pub part: Option<u32>,
    /// `_HLS_skip`: what the playlist may leave out.
    pub skip: Skip,
}

/// What a playlist may leave out, since the player already has it (rfc8216bis 6.3.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Skip {
    /// Nothing.
    #[default]
    Nothing,
    /// Old segments: `YES`.
    Segments,
    /// Old segments and old date ranges: `v2`.
    DateRanges,
}
